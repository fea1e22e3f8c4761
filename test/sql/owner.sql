-- Who owns the extension's tables may alter them, and is no superuser for that:
-- whatever becomes of a table, C code neither crashes nor reads what is not its own.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

SELECT pev_emit('user:u', 'upload_started', '{"jobId": "j"}'), pev_emit(1, 'progress', step(1)), pev_emit('word', 'progress', step(1));

-- Columns that have become something else.
BEGIN;
ALTER TABLE pev_event_type ALTER terminal_when TYPE bigint USING CASE WHEN durable THEN 4096 END;
SELECT outcome('SELECT pev_emit(1, ''progress'', test.step(1))');
SELECT outcome('SELECT pev_is_valid(''progress'', ''{}'')');
SELECT outcome('UPDATE pev_event_type SET max_bytes = max_bytes');
ROLLBACK;
BEGIN;
ALTER TABLE pev_stream_kind ALTER families TYPE bigint USING 4096;
SELECT outcome('SELECT pev_emit(''user:u'', ''upload_started'', ''{"jobId": "j"}'')');
ROLLBACK;
BEGIN;
ALTER TABLE pev_stream ALTER created_at TYPE timestamp;
SELECT outcome('SELECT pev_emit(''other'', ''progress'', test.step(1))');
ROLLBACK;
BEGIN;
ALTER TABLE pev_plan ALTER weights TYPE bigint USING 4096;
SELECT outcome('SELECT pev_plan(1, ''[{"name": "a"}]'')');
SELECT outcome('SELECT pev_emit(1, ''Error'', ''{"message": "m"}'')');
SELECT outcome('SELECT pev_emit(1, ''progress'', test.step(1))');
ROLLBACK;
BEGIN;
ALTER TABLE pev_approval ALTER deadline TYPE timestamp;
SELECT outcome('SELECT pev_emit(''session:s'', ''tier3_approval_required'', ''{"message_id": "m", "tier3_approval": {"action_id": "a", "tool_name": "t", "reasoning": "r", "timeout_secs": 9}}'')');
ROLLBACK;
BEGIN;
ALTER TABLE assistant_architect_events ALTER id TYPE integer;
SELECT outcome('SELECT pev_emit(1, ''progress'', test.step(1))');
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, ''progress'', test.step(1))');
ROLLBACK;
-- Tables that are others.
BEGIN;
ALTER TABLE pev_event_type RENAME TO renamed;
SELECT outcome('SELECT pev_is_valid(''chat'', ''{}'')');
CREATE TABLE pev_event_type (name bigint PRIMARY KEY, a int) PARTITION BY RANGE (name);
SELECT outcome('SELECT pev_is_valid(''chat'', ''{}'')');
ROLLBACK;
-- Indexes that sort otherwise, and none at all.
BEGIN;
CREATE UNIQUE INDEX ON assistant_architect_events (execution_id, seq DESC);
CREATE UNIQUE INDEX ON pev_event_type (name COLLATE "POSIX");
CREATE UNIQUE INDEX ON pev_stream (key text_pattern_ops);
SELECT pev_emit(1, 'progress', step(2)), pev_emit(1, 'progress', step(3)), pev_emit('word', 'progress', step(2)), pev_is_valid('typing', '{}');
ALTER TABLE assistant_architect_events DROP CONSTRAINT assistant_architect_events_execution_id_seq_key;
SELECT outcome('SELECT pev_emit(1, ''progress'', test.step(4))');
ROLLBACK;
-- Values that cannot be.
BEGIN;
ALTER TABLE pev_stream ALTER key DROP NOT NULL, DISABLE TRIGGER USER;
UPDATE pev_stream SET key = NULL;
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (-1, ''progress'', test.step(1))');
ROLLBACK;
BEGIN;
ALTER TABLE assistant_architect_events ALTER event_data DROP NOT NULL;
INSERT INTO assistant_architect_events (execution_id, seq, event_type, created_at) VALUES (2, 1, 'execution-error', '2001-01-01');
SELECT outcome('SELECT pev_emit(2, ''progress'', test.step(1))');
ROLLBACK;
-- A row that a trigger suppresses.
CREATE FUNCTION test.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE INSERT ON pev_stream FOR EACH ROW EXECUTE FUNCTION test.suppress();
SELECT outcome('SELECT pev_emit(''suppressed'', ''progress'', test.step(1))');
DROP TRIGGER suppress ON pev_stream;
-- More columns are welcome.
ALTER TABLE assistant_architect_events ADD COLUMN note text DEFAULT 'n';
ALTER TABLE pev_event_type ADD COLUMN note text;
SELECT pev_emit(1, 'progress', step(2)), pev_emit('word', 'progress', step(2)), note FROM assistant_architect_events LIMIT 1;

-- Without the right to emit not even a key can be made.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_idle;
RESET client_min_messages;
CREATE ROLE regress_pev_idle;
SET ROLE regress_pev_idle;
SELECT pev_emit_batch('evil', '[]');
SELECT outcome('SELECT pev_emit_batch(''evil'', ''[{"type": "Result", "data": {"summary": "s"}}]'')');
SELECT outcome('SELECT pev_emit(''evil'', ''Result'', ''{"summary": "s"}'')');
RESET ROLE;
SELECT key FROM pev_stream;
DROP ROLE regress_pev_idle;

-- A schema that asks for more than a lifetime can be interrupted.
UPDATE pev_event_type SET schema = (SELECT jsonb_build_object('allOf', '[{"$ref": "#/$defs/n1"}]'::jsonb, '$defs', jsonb_object_agg('n' || i,
  CASE WHEN i < 60 THEN jsonb_build_object('allOf', jsonb_build_array(jsonb_build_object('$ref', '#/$defs/n' || i + 1), jsonb_build_object('$ref', '#/$defs/n' || i + 1))) ELSE '{}' END))
  FROM generate_series(1, 60) i) WHERE name = 'chat';
SET statement_timeout = '100ms';
SELECT pev_is_valid('chat', '{}');
RESET statement_timeout;

-- A function that was dropped while it runs.
BEGIN;
DECLARE c1 CURSOR FOR SELECT pev_is_terminal('progress', '{}'), g FROM generate_series(1, 3) g;
DECLARE c2 CURSOR FOR SELECT pev_is_terminal('execution-error', '{}'), g FROM generate_series(1, 3) g;
FETCH c1;
FETCH c2;
SET client_min_messages = warning;
DROP EXTENSION pev CASCADE;
SAVEPOINT s;
FETCH c1;
ROLLBACK TO s;
FETCH c2;
ROLLBACK;
SELECT pev_emit(1, 'progress', step(3));
DROP EXTENSION pev;
