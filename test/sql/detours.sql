-- pev_emit() does without an INSERT statement where it can; whatever an owner has
-- added to the table, or a session has set, is heeded all the same.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

CREATE TABLE test.seen (what text, seq bigint);
CREATE FUNCTION test.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO test.seen VALUES (TG_ARGV[0], CASE TG_LEVEL WHEN 'ROW' THEN NEW.seq END);
  RETURN NEW;
END $$;
CREATE FUNCTION test.emit_both(stream bigint) RETURNS text LANGUAGE sql AS $$
  SELECT format('%s %s', pev_emit(stream, 'progress', test.step(1)),
    pev_emit_batch(stream, jsonb_build_array(jsonb_build_object('type', 'progress', 'data', test.step(2)),
                                             jsonb_build_object('type', 'progress', 'data', test.step(3)))))
$$;
SELECT test.emit_both(1);

-- Triggers of the owner's.
BEGIN;
CREATE TRIGGER a BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.see('before row');
SELECT test.emit_both(1);
CREATE TRIGGER z AFTER INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.see('after row');
SELECT test.emit_both(1);
DROP TRIGGER a ON assistant_architect_events;
DROP TRIGGER z ON assistant_architect_events;
CREATE TRIGGER s AFTER INSERT ON assistant_architect_events FOR EACH STATEMENT EXECUTE FUNCTION test.see('statement');
SELECT test.emit_both(1);
SELECT what, seq, count(*) FROM test.seen GROUP BY what, seq ORDER BY what, seq;
ROLLBACK;
-- The extension's own, replaced, dropped or disabled.
BEGIN;
SELECT test.emit_both(1);
CREATE OR REPLACE FUNCTION pev_after_insert() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO test.seen VALUES (''replaced'', NEW.seq); RETURN NULL; END';
SELECT test.emit_both(1);
SELECT what, seq FROM test.seen ORDER BY seq;
CREATE OR REPLACE FUNCTION pev_after_insert() RETURNS trigger LANGUAGE c AS '$libdir/pev';
SELECT test.emit_both(1);
SELECT count(*) FROM test.seen;
ROLLBACK;
BEGIN;
DROP TRIGGER pev_after_insert ON assistant_architect_events;
SELECT pev_emit(1, 'progress', step(1));
SELECT pev_emit(1, 'progress', step(1));
ROLLBACK;
BEGIN;
ALTER TABLE assistant_architect_events DISABLE TRIGGER pev_before_insert;
SELECT left(outcome('SELECT pev_emit(1, ''progress'', test.step(1))'), 5);
ROLLBACK;
-- A column, constraints, a rule.
BEGIN;
ALTER TABLE assistant_architect_events ADD tenant text DEFAULT 'somebody' NOT NULL;
SELECT test.emit_both(1);
SELECT DISTINCT tenant FROM assistant_architect_events;
ROLLBACK;
BEGIN;
ALTER TABLE assistant_architect_events ADD CHECK (seq < 5);
SELECT pev_emit(1, 'progress', step(1));
SELECT left(outcome('SELECT pev_emit(1, ''progress'', test.step(1))'), 5);
ROLLBACK;
BEGIN;
CREATE TABLE test.executions (id bigint PRIMARY KEY);
INSERT INTO test.executions VALUES (1);
ALTER TABLE assistant_architect_events ADD FOREIGN KEY (execution_id) REFERENCES test.executions;
SELECT test.emit_both(1);
SELECT left(outcome('SELECT pev_emit(2, ''progress'', test.step(1))'), 5);
ROLLBACK;
BEGIN;
CREATE RULE also AS ON INSERT TO assistant_architect_events DO ALSO INSERT INTO test.seen VALUES ('rule', NEW.execution_id);
SELECT test.emit_both(1);
SELECT * FROM test.seen;
ROLLBACK;
BEGIN;
ALTER TABLE assistant_architect_events DROP CONSTRAINT assistant_architect_events_pkey, ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED;
SELECT test.emit_both(1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
-- Indexes of the owner's get every event.
BEGIN;
CREATE INDEX steps ON assistant_architect_events ((event_data->>'currentStep')) WHERE event_type = 'progress';
CREATE UNIQUE INDEX ON assistant_architect_events (execution_id, (event_data->>'message')) WHERE execution_id = 7;
SELECT test.emit_both(1);
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM assistant_architect_events WHERE event_data->>'currentStep' = '2' AND event_type = 'progress';
SELECT count(*) FROM assistant_architect_events WHERE event_data->>'currentStep' = '2' AND event_type = 'progress';
SELECT pev_emit(7, 'progress', step(1));
SELECT left(outcome('SELECT pev_emit(7, ''progress'', test.step(1))'), 5);
ROLLBACK;
-- An index's function that has the catalogue read anew while the event is on its way.
BEGIN;
CREATE FUNCTION test.stir() RETURNS void LANGUAGE sql AS $$UPDATE pev_event_type SET max_bytes = max_bytes WHERE name = 'chat'$$;
CREATE FUNCTION test.restless(data jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  $$BEGIN PERFORM test.stir(); RETURN pev_is_valid('progress', data); END$$;
CREATE INDEX ON assistant_architect_events (test.restless(event_data));
SELECT test.emit_both(1);
ROLLBACK;
-- A large event is stored apart from its row.
SELECT pev_emit(3, 'Result', jsonb_build_object('summary', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) i)));
SELECT pg_column_size(event_data) > 8192 AS large, length(event_data->>'summary') FROM assistant_architect_events WHERE execution_id = 3;
-- What the session has set.
BEGIN;
SET LOCAL session_replication_role = replica;
SELECT left(outcome('SELECT pev_emit(1, ''progress'', test.step(1))'), 5);
ROLLBACK;
BEGIN READ ONLY;
SELECT pev_emit(1, 'progress', step(1));
ROLLBACK;
-- The row is there for the same transaction's next command, and for the function that emitted it.
DO $$
DECLARE
  n bigint;
BEGIN
  n := pev_emit(9, 'progress', test.step(1));
  ASSERT (SELECT seq = n FROM assistant_architect_events WHERE execution_id = 9);
  n := pev_emit_batch(9, jsonb_build_array(jsonb_build_object('type', 'progress', 'data', test.step(2))));
  ASSERT (SELECT max(seq) = n AND n = 2 FROM assistant_architect_events WHERE execution_id = 9);
END $$;
-- Within an INSERT whose row is in but whose AFTER trigger has not fired yet.
WITH e AS (INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (4, 'progress', step(1)) RETURNING seq)
SELECT seq, pev_emit(4, 'progress', step(2)), pev_emit_batch(4, jsonb_build_array(jsonb_build_object('type', 'progress', 'data', step(3)))) FROM e;
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
VALUES (4, 'progress', step(4)), (4, 'progress', step(6)) RETURNING seq, pev_emit(4, 'progress', step(seq::int + 1));
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
SELECT 4, 'progress', step(pev_emit(4, 'progress', step(0))::int + 1) FROM generate_series(1, 2) RETURNING seq;
SELECT array_agg(seq ORDER BY seq) FROM assistant_architect_events WHERE execution_id = 4;
-- Rights: those of the table, of its columns, or none.
CREATE ROLE pev_test_writer;
CREATE ROLE pev_test_columns;
CREATE ROLE pev_test_nobody;
GRANT USAGE ON SCHEMA test TO pev_test_writer, pev_test_columns, pev_test_nobody;
GRANT INSERT ON assistant_architect_events TO pev_test_writer;
GRANT INSERT (execution_id, event_type, event_data) ON assistant_architect_events TO pev_test_columns;
SET ROLE pev_test_writer;
SELECT test.emit_both(11);
SET ROLE pev_test_columns;
SELECT test.emit_both(11);
RESET ROLE;
-- A trigger made twice: the second finds a number in the row, which only the owner may bring.
BEGIN;
CREATE TRIGGER twice BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION pev_before_insert();
SELECT test.emit_both(11);
SET ROLE pev_test_writer;
SELECT pev_emit(11, 'progress', test.step(1));
ROLLBACK;
SET ROLE pev_test_nobody;
SELECT pev_emit(11, 'progress', test.step(1));
RESET ROLE;
-- Row-level security, as it is switched on and off.
ALTER TABLE assistant_architect_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON assistant_architect_events FOR INSERT TO pev_test_writer WITH CHECK (execution_id = 12);
SET ROLE pev_test_writer;
SELECT test.emit_both(12);
SELECT pev_emit(11, 'progress', test.step(1));
RESET ROLE;
ALTER TABLE assistant_architect_events DISABLE ROW LEVEL SECURITY;
SET ROLE pev_test_writer;
SELECT test.emit_both(11);
RESET ROLE;
DROP POLICY own ON assistant_architect_events;
REVOKE ALL ON SCHEMA test FROM pev_test_writer, pev_test_columns, pev_test_nobody;
REVOKE ALL ON assistant_architect_events FROM pev_test_writer, pev_test_columns;
DROP ROLE pev_test_writer, pev_test_columns, pev_test_nobody;
