-- An event that has changed a plan or an approval is stored, or nothing is: neither another trigger
-- nor ON CONFLICT leaves it out.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

CREATE FUNCTION test.ask(action text) RETURNS jsonb LANGUAGE sql AS
  $$SELECT jsonb_build_object('message_id', 'm_1', 'tier3_approval', jsonb_build_object('action_id', action, 'tool_name', 'shell', 'reasoning', 'r', 'timeout_secs', 3600))$$;
CREATE FUNCTION test.tell(action text, by text) RETURNS jsonb LANGUAGE sql AS
  $$SELECT jsonb_build_object('message_id', 'm_1', 'tier3_approval_resolved', jsonb_build_object('action_id', action, 'decision', 'approved', 'by', by, 'reason', 'decision'))$$;
-- Insert an event under an id that is taken.
CREATE FUNCTION test.slip(stream text, type text, data jsonb, conflict text DEFAULT 'NOTHING') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE
    VALUES (1, $1, $2::assistant_event_type, $3) ON CONFLICT (id) DO ' || conflict USING pev_stream_id(stream), type, data;
END $$;
-- What holds: the actions, the plans, and each stream's events.
CREATE FUNCTION test.holds() RETURNS SETOF text LANGUAGE sql AS $$
  (SELECT format('%s: %s by %s', action_id, coalesce(decision, 'waits'), decided_by) FROM pev_approval ORDER BY action_id)
  UNION ALL (SELECT format('plan of %s: %s, %s tokens', key, reached, tokens) FROM pev_plan JOIN pev_stream ON id = execution_id ORDER BY key)
  UNION ALL (SELECT format('%s: %s', key, string_agg(event_type::text, ' ' ORDER BY seq)) FROM assistant_architect_events JOIN pev_stream s ON s.id = execution_id GROUP BY key ORDER BY key)
$$;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('a'));
SELECT pev_plan('game', '[{"name": "a"}, {"name": "b"}]', '0');
SELECT pev_emit('game', 'PhaseStatus', '{"phase": "a", "progress": 0.5}');

-- By ON CONFLICT, with nothing but INSERT on the events.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_emitter;
RESET client_min_messages;
CREATE ROLE regress_pev_emitter;
GRANT INSERT ON assistant_architect_events TO regress_pev_emitter;
SET ROLE regress_pev_emitter;
INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE
  VALUES (1, -1, 'tier3_approval_resolved', tell('a', 'ghost')) ON CONFLICT DO NOTHING;
\echo :LAST_ERROR_SQLSTATE
INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE
  VALUES (1, -1, 'tier3_approval_required', ask('unseen')) ON CONFLICT DO NOTHING;
RESET ROLE;
SELECT slip('game', 'PhaseStatus', '{"phase": "a", "progress": 1}');
SELECT slip('game', 'TokenCount', '{"tokenCount": 7}');
SELECT slip('game', 'Result', '{"summary": "s"}');
SELECT outcome($$SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'), 'UPDATE SET event_data = EXCLUDED.event_data')$$);
SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'), 'UPDATE SET event_data = EXCLUDED.event_data WHERE false');
SELECT holds();

-- Nothing follows in the stream; in another one something may, but there is no commit.
BEGIN;
SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'));
SELECT outcome($$SELECT pev_emit('session:s', 'llm_token', '{"message_id": "m_1", "text": "t"}')$$);
SELECT outcome($$SELECT pev_try_emit('session:s', 'tier3_approval_resolved', tell('a', 'ann'))$$);
SELECT pev_emit('game', 'PhaseStatus', '{"phase": "a", "progress": 0.6}');
COMMIT;
BEGIN;
SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'));
PREPARE TRANSACTION 'pev';
SELECT outcome($$INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE VALUES
  (1, pev_stream_id('game'), 'PhaseStatus', '{"phase": "a", "progress": 1}'), (1000, pev_stream_id('game'), 'Error', '{"message": "m"}') ON CONFLICT DO NOTHING$$);
SELECT outcome($$INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE VALUES
  (1, -1, 'tier3_approval_required', ask('one')), (1000, -1, 'tier3_approval_resolved', tell('one', 'ghost')) ON CONFLICT DO NOTHING$$);
SELECT holds();

-- A savepoint takes it back, or keeps it; so does a block with an exception.
BEGIN;
SAVEPOINT s;
SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'));
ROLLBACK TO s;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('b'));
SAVEPOINT s;
SELECT slip('session:s', 'tier3_approval_resolved', tell('b', 'ghost'));
SAVEPOINT t;
RELEASE t;
ROLLBACK TO s;
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'));
RELEASE s;
SAVEPOINT s;
SELECT pev_emit('session:s', 'llm_token', '{"message_id": "m_1", "text": "t"}');
ROLLBACK TO s;
COMMIT;
-- what is caught is a statement, not its commit
SELECT outcome($$SELECT slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'))$$);
DO $$
BEGIN
  PERFORM slip('session:s', 'tier3_approval_resolved', tell('a', 'ghost'));
  RAISE EXCEPTION 'away with it';
EXCEPTION WHEN OTHERS THEN
  PERFORM pev_emit('session:s', 'tier3_approval_required', ask('c'));
END $$;
SELECT holds();

-- By a trigger of the owner's: whoever emits is told at once.
CREATE FUNCTION test.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER zz_suppress BEFORE INSERT ON assistant_architect_events FOR EACH ROW
  WHEN (NEW.event_type IN ('tier3_approval_required', 'tier3_approval_resolved', 'PhaseStatus', 'TokenCount', 'Result', 'Error')) EXECUTE FUNCTION test.suppress();
SELECT outcome($$SELECT pev_approve('a', 'approved', 'ann')$$);
SELECT outcome($$SELECT pev_emit('session:s', 'tier3_approval_required', ask('d'))$$);
SELECT pev_try_emit('session:s', 'tier3_approval_resolved', tell('a', 'ann'));
SELECT outcome($$SELECT pev_emit_batch('game', '[{"type": "PhaseStatus", "data": {"phase": "a", "progress": 1}}, {"type": "PipelineStatus", "data": {}}]')$$);
SELECT outcome($$SELECT pev_emit('game', 'Result', '{"summary": "s"}')$$);
SELECT pev_try_emit('game', 'TokenCount', '{"tokenCount": 7}');
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (pev_stream_id('session:s'), 'tier3_approval_resolved', tell('a', 'ann'));
COPY assistant_architect_events (execution_id, event_type, event_data) FROM STDIN;
-1	tier3_approval_required	{"message_id": "m_2", "tier3_approval": {"action_id": "copy", "tool_name": "mail", "reasoning": "sends", "timeout_secs": 5}}
\.
-- what changes nothing else may go
SELECT pev_emit('plain', 'Error', '{"message": "m"}'), pev_emit('plain', 'Result', '{"summary": "s"}');
DROP TRIGGER zz_suppress ON assistant_architect_events;
SELECT holds();

-- A trigger of the owner's that emits meanwhile owes nothing; without the extension's own the row counts.
CREATE FUNCTION test.then_also() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pev_emit('session:s', 'llm_token', '{"message_id": "m_1", "text": "t"}');
  RETURN NULL;
END $$;
CREATE TRIGGER a AFTER INSERT ON assistant_architect_events FOR EACH ROW WHEN (NEW.event_type = 'tier3_approval_resolved') EXECUTE FUNCTION test.then_also();
SELECT pev_emit('session:s', 'tier3_approval_resolved', tell('b', 'ann')) IS NOT NULL AS told;
DROP TRIGGER a ON assistant_architect_events;
ALTER TABLE assistant_architect_events DISABLE TRIGGER pev_after_insert;
SELECT outcome, won FROM pev_approve('a', 'approved', 'ann');
SELECT pev_emit('game', 'PhaseStatus', '{"phase": "b", "progress": 1}') IS NOT NULL AS stored;
SELECT slip('session:s', 'tier3_approval_resolved', tell('c', 'ghost'));
ALTER TABLE assistant_architect_events ENABLE ALWAYS TRIGGER pev_after_insert;
-- A rule leaves out the event before any trigger sees it.
CREATE RULE leave AS ON INSERT TO assistant_architect_events WHERE new.event_type = 'tier3_approval_resolved' DO INSTEAD NOTHING;
SELECT * FROM pev_approve('c', 'approved', 'ann');
DROP RULE leave ON assistant_architect_events;
-- Several in one command, and a table that goes before the commit.
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) SELECT pev_stream_id('game'), 'PhaseStatus', jsonb_build_object('phase', p, 'progress', 1) FROM unnest('{a,b,a}'::text[]) p;
SELECT holds();
SELECT * FROM disorder();
BEGIN;
SELECT slip('session:s', 'tier3_approval_resolved', tell('c', 'ghost'));
DROP EXTENSION pev;
COMMIT;
DROP ROLE regress_pev_emitter;
