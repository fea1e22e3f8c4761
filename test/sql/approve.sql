-- Actions that wait for a person: requested and decided by events, however they are emitted,
-- and decided once.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- What asks for approval, and what tells an outcome.
CREATE FUNCTION test.ask(action text, secs numeric DEFAULT 3600) RETURNS jsonb LANGUAGE sql AS
  $$SELECT jsonb_build_object('message_id', 'm_1', 'tier3_approval', jsonb_build_object('action_id', action, 'tool_name', 'shell', 'reasoning', 'deletes files', 'timeout_secs', secs))$$;
CREATE FUNCTION test.tell(action text, decision text, by text DEFAULT NULL, reason text DEFAULT 'decision') RETURNS jsonb LANGUAGE sql AS
  $$SELECT jsonb_build_object('message_id', 'm_1', 'tier3_approval_resolved', jsonb_strip_nulls(jsonb_build_object('action_id', action, 'decision', decision, 'by', by, 'reason', reason)))$$;
-- A refusal without its times.
CREATE FUNCTION test.timeless(statement text) RETURNS text LANGUAGE sql AS
  $$SELECT regexp_replace(outcome(statement), '\d{4}-\d\d-\d\d [0-9:.]+(\+|-)\d\d', 'TIME', 'g')$$;
-- Let the time of an action run out.
CREATE FUNCTION test.run_out(action text) RETURNS void LANGUAGE sql AS
  $$UPDATE pev_approval SET requested_at = requested_at - interval '1 day', deadline = deadline - interval '1 day' WHERE action_id = action$$;

-- Each way of emitting asks and decides.
SELECT pev_emit('session:s', 'tier3_approval_required', ask('emit'));
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (-1, 'tier3_approval_required', ask('insert'));
SELECT pev_emit_batch('session:s', jsonb_build_array(jsonb_build_object('type', 'tier3_approval_required', 'data', ask('batch')), jsonb_build_object('type', 'tier3_approval_resolved', 'data', tell('batch', 'denied', 'ann'))));
COPY assistant_architect_events (execution_id, event_type, event_data) FROM STDIN;
-1	tier3_approval_required	{"message_id": "m_2", "tier3_approval": {"action_id": "copy", "tool_name": "mail", "reasoning": "sends", "timeout_secs": 5}}
-1	tier3_approval_resolved	{"message_id": "m_2", "tier3_approval_resolved": {"action_id": "copy", "decision": "approved", "by": "bob", "reason": "decision"}}
\.
SELECT pev_emit_once('session:s', 'key', jsonb_build_array(jsonb_build_object('type', 'tier3_approval_resolved', 'data', tell('emit', 'approved'))));
SELECT pev_try_emit('session:s', 'tier3_approval_resolved', tell('insert', 'denied', 'eve'));
SELECT action_id, execution_id, message_id, tool_name, reasoning, deadline - requested_at AS secs, decision, reason, decided_by FROM pev_approval ORDER BY requested_at;
SELECT count(*) AS times FROM pev_approval a JOIN assistant_architect_events q ON q.event_data->'tier3_approval'->>'action_id' = action_id AND q.created_at = requested_at
  JOIN assistant_architect_events r ON r.event_data->'tier3_approval_resolved'->>'action_id' = action_id AND r.created_at = decided_at;
-- Both in one command, and more columns are welcome.
ALTER TABLE pev_approval ADD note text;
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) SELECT -1, type::assistant_event_type, data
  FROM (VALUES ('tier3_approval_required', ask('one')), ('tier3_approval_required', ask('two')), ('tier3_approval_resolved', tell('one', 'approved', 'ann')),
    ('tier3_approval_resolved', tell('two', 'denied', 'ann'))) v(type, data);
SELECT action_id, decision, note FROM pev_approval WHERE action_id IN ('one', 'two') ORDER BY 1;
ALTER TABLE pev_approval DROP note;

-- Refused: an outcome of what was not asked for, was asked for elsewhere or by another message, or has one; a second request.
SELECT pev_emit('session:s', 'tier3_approval_required', ask('waits'));
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''nobody'', ''approved''))');
SELECT outcome('SELECT pev_emit(''session:other'', ''tier3_approval_resolved'', tell(''waits'', ''approved''))');
SELECT outcome('SELECT pev_emit(7, ''tier3_approval_resolved'', tell(''waits'', ''approved''))');
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''waits'', ''approved'') || ''{"message_id": "m_2"}'')');
SELECT timeless('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''insert'', ''approved'', ''ann''))');
SELECT timeless('INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (-1, ''tier3_approval_resolved'', tell(''emit'', ''denied'', ''ann''))');
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_required'', ask(''insert''))');
SELECT outcome('SELECT pev_emit(''session:other'', ''tier3_approval_required'', ask(''waits''))');
SELECT timeless('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''waits'', ''denied'', NULL, ''timeout''))');
-- And what is malformed.
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''waits'', ''maybe'', ''ann''))');
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''waits'', ''approved'', ''ann'', ''timeout''))');
SELECT outcome(format('SELECT pev_emit(''session:s'', ''tier3_approval_required'', ask(''n'', %s))', secs)) FROM unnest('{0,-1,2147483648,1e30,1.5}'::numeric[]) secs;
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_required'', ask(repeat(''x'', 201)))');
SELECT pev_emit('session:s', 'tier3_approval_required', ask('longest', 2147483647)), pev_emit('session:s', 'tier3_approval_required', ask(repeat('€', 200)));
SELECT left(action_id, 9), deadline - requested_at FROM pev_approval WHERE action_id ~ '^(longest|€)' ORDER BY action_id;
-- Whatever the owner makes of the schema.
BEGIN;
UPDATE pev_event_type SET schema = '{}' WHERE name LIKE 'tier3%';
SELECT outcome(format('SELECT pev_emit(''session:s'', ''tier3_approval_required'', %L)', data)) FROM unnest(ARRAY['{}', '{"tier3_approval": 1}', '{"tier3_approval": {"action_id": 1}}',
  '{"tier3_approval": {"action_id": "x"}}', ask('x', 0), ask('x', 1e30), ask('x') #- '{tier3_approval,reasoning}']::jsonb[]) data;
SELECT outcome(format('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', %L)', data)) FROM unnest(ARRAY['{}', '{"tier3_approval_resolved": {"action_id": "waits"}}', tell('waits', 'maybe'), tell('waits', 'denied', NULL, 'why')]::jsonb[]) data;
ROLLBACK;

-- A savepoint and a rollback take a request or an outcome back.
BEGIN;
SAVEPOINT s;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('back'));
ROLLBACK TO s;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('back'));
SAVEPOINT t;
SELECT pev_emit('session:s', 'tier3_approval_resolved', tell('back', 'approved', 'ann'));
ROLLBACK TO t;
SELECT pev_emit('session:s', 'tier3_approval_resolved', tell('back', 'denied', 'bob'));
COMMIT;
BEGIN;
SELECT outcome, won FROM pev_approve('waits', 'denied', 'bob');
ROLLBACK;
SELECT action_id, decision, decided_by FROM pev_approval WHERE action_id IN ('back', 'waits') ORDER BY 1;

-- pev_approve: who comes second learns what holds.
SELECT outcome, decided_by, won FROM pev_approve('waits', 'approved', 'ann');
SELECT outcome, decided_by, decided_at = (SELECT decided_at FROM pev_approval WHERE action_id = 'waits') AS at, won FROM pev_approve('waits', 'denied', by => 'bob');
SELECT outcome, decided_by, won FROM pev_approve('emit', 'denied', 'bob');
SELECT event_data FROM pev_events('session:s') ORDER BY seq DESC LIMIT 1;
SELECT outcome(format('SELECT pev_approve(%s)', arguments)) FROM unnest(ARRAY['NULL, ''denied'', ''ann''', '''waits'', NULL, ''ann''', '''waits'', ''denied'', NULL',
  '''waits'', ''APPROVED'', ''ann''', '''waits'', '''', ''ann''', '''nobody'', ''approved'', ''ann''']) arguments;

-- The deadline: then there is nothing but the denial, whoever tells it.  (Before the commit, for then the notifier does.)
BEGIN;
SELECT pev_emit('session:s', 'tier3_approval_required', ask(a)) IS NOT NULL AS asked, run_out(a) FROM unnest('{late1,late2,late3,late4}'::text[]) a;
SELECT timeless('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''late1'', ''approved'', ''ann''))');
SELECT timeless('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''late1'', ''denied'', ''ann''))');
SELECT outcome, decided_by, won FROM pev_approve('late1', 'approved', 'ann');
SELECT outcome, decided_by, won FROM pev_approve('late1', 'denied', 'bob');
SELECT pev_emit('session:s', 'tier3_approval_resolved', tell('late2', 'denied', NULL, 'timeout')) IS NOT NULL AS told;
SELECT timeless('SELECT pev_emit(''session:s'', ''tier3_approval_resolved'', tell(''late1'', ''denied'', NULL, ''timeout''))');
-- A stream that has been closed holds up nobody else.
SELECT FROM pev_register_stream_kind('any', 'carries all');
SELECT pev_emit('any:x', 'tier3_approval_required', ask('shut')) AS one, run_out('shut');
SELECT pev_emit('any:x', 'Result', '{"summary": "s"}');
SELECT outcome('SELECT pev_approve(''shut'', ''approved'', ''ann'')');
SELECT pev_deny_expired_approvals();
SELECT pev_deny_expired_approvals();
COMMIT;
SELECT action_id, decision, reason, decided_by FROM pev_approval WHERE action_id IN ('shut', 'late1', 'late2', 'late3', 'late4') ORDER BY 1;

SELECT * FROM disorder();

-- Without its events the row stays; events that come with their numbers enter nothing.
DELETE FROM assistant_architect_events WHERE execution_id = -1 AND seq < 5;
SELECT count(*) FROM pev_approval WHERE action_id IN ('emit', 'insert', 'batch');
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (-9, 1, 'tier3_approval_required', ask('imported'), now());
SELECT count(*) FROM pev_approval WHERE action_id = 'imported';
SET session_replication_role = replica;
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (-9, 2, 'tier3_approval_required', ask('replicated'), now());
RESET session_replication_role;
SELECT count(*) FROM pev_approval WHERE action_id = 'replicated';

-- Rights: emitters need none on pev_approval; who approves needs SELECT on it and INSERT on the events.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_agent, regress_pev_approver;
RESET client_min_messages;
CREATE ROLE regress_pev_agent;
CREATE ROLE regress_pev_approver;
GRANT INSERT ON assistant_architect_events TO regress_pev_agent;
SET ROLE regress_pev_agent;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('granted')) IS NOT NULL AS asked, pev_emit('session:s', 'tier3_approval_required', ask('granted2')) IS NOT NULL AS too;
SELECT pev_emit('session:s', 'tier3_approval_resolved', tell('granted', 'approved', 'agent')) IS NOT NULL AS told;
SELECT outcome('SELECT pev_approve(''granted'', ''approved'', ''ann'')');
SELECT outcome('SELECT pev_deny_expired_approvals()');
RESET ROLE;
GRANT SELECT ON pev_approval TO regress_pev_approver;
SET ROLE regress_pev_approver;
SELECT outcome('SELECT pev_approve(''granted2'', ''approved'', ''ann'')');
RESET ROLE;
GRANT INSERT ON assistant_architect_events TO regress_pev_approver;
-- Row-level security hides actions, and refuses events.
ALTER TABLE pev_approval ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON pev_approval USING (tool_name = 'mail');
SET ROLE regress_pev_approver;
SELECT outcome('SELECT pev_approve(''granted2'', ''approved'', ''ann'')');
SELECT outcome, decided_by, won FROM pev_approve('copy', 'denied', 'ann');
RESET ROLE;
ALTER TABLE pev_approval DISABLE ROW LEVEL SECURITY;
ALTER TABLE assistant_architect_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY others ON assistant_architect_events FOR INSERT WITH CHECK (event_data->'tier3_approval_resolved'->>'by' IS DISTINCT FROM 'ann');
SET ROLE regress_pev_approver;
SELECT outcome('SELECT pev_approve(''granted2'', ''approved'', ''ann'')');
SELECT outcome, decided_by, won FROM pev_approve('granted2', 'approved', 'bob');
RESET ROLE;
DROP EXTENSION pev;
DROP ROLE regress_pev_agent;
DROP ROLE regress_pev_approver;
