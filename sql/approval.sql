-- Tier-3 approval: actions that wait for a person, and what became of them.  The events enter and
-- decide the rows, in C code, which knows the columns by their position and wants the table to be
-- there before the catalogue is filled.

CREATE TABLE pev_approval (
  action_id text COLLATE "C" PRIMARY KEY,
  execution_id bigint NOT NULL,
  message_id text NOT NULL,
  tool_name text NOT NULL,
  reasoning text NOT NULL,
  requested_at timestamptz NOT NULL,
  deadline timestamptz NOT NULL,
  decision text CHECK (decision IN ('approved', 'denied')),
  reason text CHECK (reason IN ('decision', 'timeout')),
  decided_by text,
  decided_at timestamptz,
  CHECK ((decision IS NULL) = (reason IS NULL) AND (decision IS NULL) = (decided_at IS NULL)),
  CHECK (decided_by IS NULL OR reason = 'decision')
);
CREATE INDEX pev_approval_waiting ON pev_approval (deadline, action_id) WHERE decision IS NULL;
COMMENT ON TABLE pev_approval IS 'actions for which tier3_approval_required was emitted, and their outcomes; when its time runs out in a stream that is closed, an action is denied without an event';
COMMENT ON COLUMN pev_approval.action_id IS 'the action';
COMMENT ON COLUMN pev_approval.execution_id IS 'the stream: pev_stream.id of the session';
COMMENT ON COLUMN pev_approval.message_id IS 'message that triggered it';
COMMENT ON COLUMN pev_approval.tool_name IS 'tool that awaits approval';
COMMENT ON COLUMN pev_approval.reasoning IS 'why approval is needed';
COMMENT ON COLUMN pev_approval.requested_at IS 'created_at of the request';
COMMENT ON COLUMN pev_approval.deadline IS 'until when it can be decided; then it is denied';
COMMENT ON COLUMN pev_approval.decision IS 'approved or denied; NULL: it waits';
COMMENT ON COLUMN pev_approval.reason IS 'decision: somebody decided; timeout: nobody did in time';
COMMENT ON COLUMN pev_approval.decided_by IS 'who decided; NULL: nobody, or it was not said';
COMMENT ON COLUMN pev_approval.decided_at IS 'created_at of the outcome; in a closed stream, which takes none, when the row was denied';

-- A dump brings the rows; events that are restored enter none.
SELECT pg_extension_config_dump('pev_approval', '');
ALTER TABLE pev_approval OWNER TO @extowner@;

CREATE FUNCTION pev_approve(action_id text, decision text, by text, OUT outcome text,
                            OUT decided_by text, OUT decided_at timestamptz, OUT won boolean)
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_approve(text, text, text) IS
  'decide an action, "approved" or "denied", unless it has an outcome; the outcome that holds, and whether it is this decision; emits tier3_approval_resolved, after the deadline the denial by time-out; needs SELECT on pev_approval; raises 22004, 22023, 42704 for an unknown action, and what pev_emit raises';

CREATE FUNCTION pev_deny_late(action_id text) RETURNS boolean
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_deny_late(text) IS
  'what pev_deny_expired_approvals() does with an action: deny it if its time has run out, in a closed stream without an event; false: nothing was to be done; needs INSERT on the events; raises 22004, 42501, and what pev_emit raises';

-- In the order of the streams, so that two who do it at once do not wait for each other in a circle.
CREATE FUNCTION pev_deny_expired_approvals() RETURNS integer
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      moment CONSTANT timestamptz := clock_timestamp();
      action record;
      denied integer := 0;
    BEGIN
      FOR action IN
        SELECT a.action_id FROM @extschema@.pev_approval a
        WHERE a.decision IS NULL AND a.deadline <= moment ORDER BY a.execution_id, a.deadline
      LOOP
        BEGIN
          IF @extschema@.pev_deny_late(action.action_id) THEN
            denied := denied + 1;
          END IF;
        EXCEPTION WHEN OTHERS THEN
          RAISE WARNING USING ERRCODE = SQLSTATE,
            MESSAGE = format('action "%s" not denied: %s', action.action_id, SQLERRM);
        END;
      END LOOP;
      RETURN denied;
    END
  $$;
COMMENT ON FUNCTION pev_deny_expired_approvals() IS
  'deny the actions whose time has run out, as the notifier does where pev is preloaded; how many; one that is refused is a WARNING; needs SELECT on pev_approval and INSERT on the events';
