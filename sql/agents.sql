-- Sessions of agents: what became of their sub-agents, and whether their events came in order.
--
-- Events of a session are correlated by message_id, for several messages may be answered at once, and
-- those of a sub-agent by message_id and name.

CREATE FUNCTION pev_sub_agents(session bigint)
  RETURNS TABLE (name text, status text, task text, tool_groups text[], llm_calls numeric,
                 tool_calls numeric, elapsed_ms numeric, duration_ms numeric, result text, error text,
                 spawned_at timestamptz, finished_at timestamptz, message_id text)
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$
    WITH event AS (
      SELECT e.seq, e.event_type::text AS type, e.created_at, e.event_data->>'message_id' AS message,
        e.event_data->e.event_type::text AS payload
      FROM @extschema@.assistant_architect_events e
      WHERE e.execution_id = session AND e.event_type IN ('sub_agent_spawned', 'sub_agent_progress',
        'sub_agent_completed', 'sub_agent_failed', 'sub_agent_cancelled')
    ), of_run AS (
      SELECT v.*, v.payload->>'name' AS agent,
        count(*) FILTER (WHERE v.type = 'sub_agent_spawned') OVER w AS run,
        v.type NOT IN ('sub_agent_spawned', 'sub_agent_progress') AS ends
      FROM event v WINDOW w AS (PARTITION BY v.message, v.payload->>'name' ORDER BY v.seq)
    ), until_end AS ( -- what comes after the end of a run is none of it
      SELECT r.*, count(*) FILTER (WHERE r.ends) OVER w AS ended
      FROM of_run r
      WINDOW w AS (PARTITION BY r.message, r.agent, r.run ORDER BY r.seq
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), run AS (
      SELECT u.message, u.agent, min(u.seq) AS seq,
        (array_agg(u.payload ORDER BY u.seq) FILTER (WHERE u.type = 'sub_agent_spawned'))[1] AS spawned,
        (array_agg(u.payload ORDER BY u.seq DESC) FILTER (WHERE u.type = 'sub_agent_progress'))[1] AS progress,
        max(u.type) FILTER (WHERE u.ends) AS end_type,
        (array_agg(u.payload) FILTER (WHERE u.ends))[1] AS finished,
        min(u.created_at) AS spawned_at,
        max(u.created_at) FILTER (WHERE u.ends) AS finished_at
      FROM until_end u WHERE u.run > 0 AND u.ended = 0
      GROUP BY u.message, u.agent, u.run
    )
    SELECT r.agent,
      coalesce(replace(r.end_type, 'sub_agent_', ''),
               CASE WHEN r.progress IS NULL THEN 'spawned' ELSE 'running' END),
      r.spawned->>'task',
      CASE WHEN jsonb_typeof(r.spawned->'tool_groups') = 'array'
           THEN ARRAY(SELECT jsonb_array_elements_text(r.spawned->'tool_groups')) END,
      (r.progress->'llm_calls')::numeric, (r.progress->'tool_calls')::numeric,
      (r.progress->'elapsed_ms')::numeric, (r.finished->'duration_ms')::numeric,
      r.finished->>'result', r.finished->>'error', r.spawned_at, r.finished_at, r.message
    FROM run r ORDER BY r.seq
  $$;
CREATE FUNCTION pev_sub_agents(session uuid)
  RETURNS TABLE (name text, status text, task text, tool_groups text[], llm_calls numeric,
                 tool_calls numeric, elapsed_ms numeric, duration_ms numeric, result text, error text,
                 spawned_at timestamptz, finished_at timestamptz, message_id text)
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_sub_agents(@extschema@.pev_stream_id(session)) $$;
CREATE FUNCTION pev_sub_agents(session text)
  RETURNS TABLE (name text, status text, task text, tool_groups text[], llm_calls numeric,
                 tool_calls numeric, elapsed_ms numeric, duration_ms numeric, result text, error text,
                 spawned_at timestamptz, finished_at timestamptz, message_id text)
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_sub_agents(@extschema@.pev_stream_id(session)) $$;
COMMENT ON FUNCTION pev_sub_agents(bigint) IS
  'the sub-agents of a session, a row each time that one was spawned, in that order; status is spawned, running, completed, failed or cancelled';
COMMENT ON FUNCTION pev_sub_agents(uuid) IS 'the sub-agents of the session named by a UUID';
COMMENT ON FUNCTION pev_sub_agents(text) IS
  'the sub-agents of the session named by a key; raises 22003, 22023';

-- Messages one after the other, so that what is known of one fits into variables.  Of a sub-agent and
-- of an approval, which may outlive the action that they began with, the query knows what came before.
CREATE FUNCTION pev_flow_faults(stream bigint)
  RETURNS TABLE (seq bigint, rule text, message text)
  LANGUAGE plpgsql STABLE PARALLEL SAFE
  AS $$
    DECLARE
      max_rounds CONSTANT integer := 25;
      event record;
      this_message text;
      ended text;      -- the type of the event that ended the message
      tool text;       -- of the action that is open
      let_go boolean;  -- none is, or it may be left without an action_completed
      verdict text;    -- on it; OTR: otr_blocked
      asked text;      -- the action_id that it awaits approval under
      approval text;   -- pending, approved or denied
      rounds integer;
      creations integer; -- completed create_agent actions whose sub-agent was not spawned yet
    BEGIN
      FOR event IN
        SELECT e.seq, e.type, e.message, e.payload,
          max(e.seq) FILTER (WHERE e.type = 'sub_agent_spawned') OVER before_agent AS agent_spawned,
          max(e.seq) FILTER (WHERE e.type IN ('sub_agent_completed', 'sub_agent_failed',
            'sub_agent_cancelled')) OVER before_agent AS agent_ended,
          count(*) FILTER (WHERE e.type = 'tier3_approval_required') OVER before_action AS requested
        FROM (
          SELECT v.seq, v.event_type::text AS type, v.event_data->>'message_id' AS message,
            v.event_data->CASE v.event_type WHEN 'tier3_approval_required' THEN 'tier3_approval'
                                            ELSE v.event_type::text END AS payload
          FROM @extschema@.assistant_architect_events v
          WHERE v.execution_id = stream AND v.event_type IN (
            'llm_token', 'action_started', 'shield_verdict', 'action_completed', 'response_complete',
            'otr_blocked', 'error', 'tier3_approval_required', 'tier3_approval_resolved',
            'sub_agent_spawned', 'sub_agent_progress', 'sub_agent_completed', 'sub_agent_failed',
            'sub_agent_cancelled')) e
        WINDOW before_agent AS (PARTITION BY e.message, e.payload->>'name' ORDER BY e.seq
                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
          before_action AS (PARTITION BY e.message, e.payload->>'action_id' ORDER BY e.seq
                            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ORDER BY e.message, e.seq
      LOOP
        IF event.message IS DISTINCT FROM this_message OR rounds IS NULL THEN
          this_message := event.message;
          ended := NULL;
          tool := NULL;
          let_go := true;
          rounds := 0;
          creations := 0;
        END IF;
        seq := event.seq;
        rule := NULL;
        -- Sub-agents and time-outs go on by themselves; nothing else follows the end.
        IF ended IS NOT NULL AND event.type NOT LIKE 'sub\_agent\_%'
           AND event.type <> 'tier3_approval_resolved' THEN
          rule := CASE WHEN event.type = 'response_complete' AND ended = 'response_complete'
                       THEN 'second_response' ELSE 'event_after_end' END;
          message := format('%s after %s', event.type, ended);
        ELSE
          CASE event.type
            WHEN 'llm_token' THEN
              IF NOT let_go THEN
                rule := 'token_during_action';
                message := format('llm_token while %s is open', tool);
              END IF;
            WHEN 'action_started' THEN
              rounds := rounds + 1;
              IF NOT let_go THEN
                rule := 'action_during_action';
                message := format('%s started while %s is open', event.payload->>'tool_name', tool);
              ELSIF rounds = max_rounds + 1 THEN
                rule := 'too_many_rounds';
                message := format('more than %s actions', max_rounds);
              END IF;
              tool := event.payload->>'tool_name';
              let_go := false;
              verdict := NULL;
              asked := NULL;
              approval := NULL;
            WHEN 'shield_verdict' THEN
              IF tool IS DISTINCT FROM event.payload->>'tool_name' THEN
                rule := 'verdict_without_action';
                message := format('verdict on %s, which is not open', event.payload->>'tool_name');
              ELSIF verdict IN ('ALLOW', 'BLOCK') THEN
                rule := 'second_verdict';
                message := format('%s after %s', event.payload->>'decision', verdict);
              ELSIF verdict IS DISTINCT FROM 'OTR' THEN
                verdict := event.payload->>'decision';
              END IF;
            WHEN 'action_completed' THEN
              IF tool IS DISTINCT FROM event.payload->>'tool_name' THEN
                rule := 'completed_without_action';
                message := format('%s completed, which is not open', event.payload->>'tool_name');
              ELSE
                IF verdict IS NULL AND NOT let_go THEN
                  rule := 'completed_without_verdict';
                  message := format('%s completed without a verdict', tool);
                ELSIF event.payload->'success' = 'true' AND verdict IN ('BLOCK', 'OTR') THEN
                  rule := 'success_after_block';
                  message := format('%s succeeded, although it was blocked', tool);
                ELSIF event.payload->'success' = 'true' AND approval <> 'approved' THEN
                  rule := 'success_without_approval';
                  message := format('%s succeeded, although its approval is %s', tool, approval);
                ELSIF event.payload->'success' = 'true' AND verdict = 'ESCALATE' AND approval IS NULL THEN
                  rule := 'success_without_approval';
                  message := format('%s succeeded, although its approval was not asked for', tool);
                ELSIF event.payload->'success' = 'true' AND tool = 'create_agent' THEN
                  creations := creations + 1;
                END IF;
                tool := NULL;
                let_go := true;
              END IF;
            WHEN 'tier3_approval_required' THEN
              IF verdict IS DISTINCT FROM 'ESCALATE'
                 OR tool IS DISTINCT FROM event.payload->>'tool_name' THEN
                rule := 'approval_without_escalation';
                message := format('approval of %s, on which there is no ESCALATE',
                                  event.payload->>'tool_name');
              END IF;
              asked := event.payload->>'action_id';
              approval := 'pending';
            WHEN 'tier3_approval_resolved' THEN
              IF event.requested = 0 THEN
                rule := 'outcome_without_request';
                message := format('%s was not asked for', event.payload->>'action_id');
              ELSIF asked = event.payload->>'action_id' THEN
                approval := event.payload->>'decision';
              END IF;
            WHEN 'otr_blocked' THEN
              verdict := 'OTR';
              let_go := true;
            WHEN 'error' THEN
              let_go := true;
              IF event.payload->'recoverable' = 'false' THEN
                ended := 'an unrecoverable error';
              END IF;
            WHEN 'response_complete' THEN
              IF NOT let_go THEN
                rule := 'response_during_action';
                message := format('response_complete while %s is open', tool);
              END IF;
              ended := event.type;
            WHEN 'sub_agent_spawned' THEN
              IF creations = 0 THEN
                rule := 'spawned_without_action';
                message := format('%s spawned without a completed create_agent', event.payload->>'name');
              ELSIF event.agent_spawned > coalesce(event.agent_ended, 0) THEN
                rule := 'spawned_while_running';
                message := format('%s spawned while it is running', event.payload->>'name');
              END IF;
              creations := greatest(creations - 1, 0);
            ELSE -- the sub-agent's progress or end
              IF event.agent_spawned IS NULL THEN
                rule := 'agent_not_spawned';
                message := format('%s of %s, which was not spawned', event.type, event.payload->>'name');
              ELSIF event.agent_ended > event.agent_spawned THEN
                rule := 'agent_has_ended';
                message := format('%s of %s, which has ended', event.type, event.payload->>'name');
              END IF;
          END CASE;
        END IF;
        IF rule IS NOT NULL THEN
          RETURN NEXT;
        END IF;
      END LOOP;
    END
  $$;
COMMENT ON FUNCTION pev_flow_faults(bigint) IS 'what pev_check_flow() reports, message by message';

CREATE FUNCTION pev_check_flow(stream bigint) RETURNS TABLE (seq bigint, rule text, message text)
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT f.* FROM @extschema@.pev_flow_faults(stream) f ORDER BY f.seq, f.rule $$;
CREATE FUNCTION pev_check_flow(stream uuid) RETURNS TABLE (seq bigint, rule text, message text)
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_check_flow(@extschema@.pev_stream_id(stream)) $$;
CREATE FUNCTION pev_check_flow(stream text) RETURNS TABLE (seq bigint, rule text, message text)
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_check_flow(@extschema@.pev_stream_id(stream)) $$;
COMMENT ON FUNCTION pev_check_flow(bigint) IS
  'where the events of an agent''s session are not in the order that its flow has, a row a fault; what is unfinished is none';
COMMENT ON FUNCTION pev_check_flow(uuid) IS
  'where the events of the session named by a UUID are not in order';
COMMENT ON FUNCTION pev_check_flow(text) IS
  'where the events of the session named by a key are not in order; raises 22003, 22023';
