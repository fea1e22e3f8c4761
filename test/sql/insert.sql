-- A plain INSERT and COPY do what pev_emit() does; rows are never changed; imports.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, 'progress', step(1)) RETURNING id, execution_id, seq, event_type;
-- several rows, several streams
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
SELECT 1 + i % 3, 'progress', step(i) FROM generate_series(1, 9) i
RETURNING execution_id, seq, event_data->'currentStep' AS step;
COPY assistant_architect_events (execution_id, event_type, event_data) FROM stdin;
1	progress	{"currentStep": 1, "totalSteps": 2, "percentage": 1, "message": "a\\tb"}
2	prompt-complete	{"promptId": 1, "outputTokens": 5, "duration": 1.5, "cached": true}
1	Result	{"summary": "done"}
\.
SELECT execution_id, seq, event_type, event_data - 'timestamp' - 'eventId' AS data FROM assistant_architect_events
WHERE execution_id < 3 AND seq > 3 ORDER BY 1, 2;
-- one bad row refuses all
COPY assistant_architect_events (execution_id, event_type, event_data) FROM stdin;
2	progress	{"currentStep": 1, "totalSteps": 2, "percentage": 1, "message": "a"}
1	progress	{"currentStep": 1, "totalSteps": 2, "percentage": 1, "message": "a"}
\.
COPY assistant_architect_events (execution_id, event_type, event_data) FROM stdin;
2	progress	{"currentStep": 1, "totalSteps": 2, "percentage": 101, "message": "a"}
\.
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (2, 'progress', step(1)), (2, 'progress', '{}');
SELECT max(seq) FROM pev_events(2);
-- the columns that pev fills in are filled in whatever is said
INSERT INTO assistant_architect_events (execution_id, event_type, event_data, created_at) VALUES (2, 'progress', step(1), '2001-01-01')
RETURNING seq, created_at > '2020-01-01' AS now;
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (2, DEFAULT, 'progress', step(1), NULL)
RETURNING seq, created_at > '2020-01-01' AS now;
SELECT outcome(s) FROM unnest(ARRAY[
  'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (NULL, ''progress'', test.step(1))',
  'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, NULL, test.step(1))',
  'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, ''progress'', NULL)',
  'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, ''no-such'', test.step(1))',
  'INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) VALUES (1, 9, ''progress'', test.step(1))']) s;
-- not stored: no row
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
VALUES (3, 'typing', '{"userId": "u", "isTyping": true}'), (NULL, 'log_entry', '{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}'),
  (3, 'progress', step(1)) RETURNING seq, event_type;
-- a keyed stream's number
SELECT pev_emit('user:u', 'upload_started', '{"jobId": "j"}');
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
VALUES (pev_stream_id('user:u'), 'upload_failed', '{"jobId": "j", "error": "e"}') RETURNING seq;
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (pev_stream_id(''user:u''), ''progress'', test.step(1))');

-- Rows are never changed.
SELECT outcome(s) FROM unnest(ARRAY[
  'UPDATE assistant_architect_events SET event_data = ''{}'' WHERE execution_id = 2 AND seq = 1',
  'UPDATE assistant_architect_events SET seq = seq',
  'INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (2, 1, ''progress'', ''{}'', now())
     ON CONFLICT (execution_id, seq) DO UPDATE SET event_data = EXCLUDED.event_data RETURNING 1',
  'MERGE INTO assistant_architect_events e USING (VALUES (2, 1)) v(x, s) ON e.execution_id = v.x AND e.seq = v.s WHEN MATCHED THEN UPDATE SET event_data = ''{}''']) s;
UPDATE assistant_architect_events SET event_data = '{}' WHERE execution_id = -999;
-- The last of a stream is never deleted, since the numbers go on from it.
SELECT seq FROM pev_events(2);
SELECT outcome('DELETE FROM assistant_architect_events WHERE execution_id = 2 AND seq = 6');
SELECT outcome('DELETE FROM assistant_architect_events WHERE execution_id = 2');
SELECT outcome('DELETE FROM assistant_architect_events WHERE execution_id = pev_stream_id(''user:u'')');
SELECT outcome('DELETE FROM assistant_architect_events');
DELETE FROM assistant_architect_events WHERE execution_id = 2 AND seq < 6 RETURNING seq;
SELECT pev_emit(2, 'progress', step(1));
BEGIN;
SELECT pev_emit(2, 'progress', step(1));
DELETE FROM assistant_architect_events WHERE execution_id = 2 AND seq < 8;
SELECT outcome('DELETE FROM assistant_architect_events WHERE execution_id = 2');
SELECT pev_emit(2, 'progress', step(1));
COMMIT;
SELECT seq FROM pev_events(2);
-- TRUNCATE begins anew, in the middle of a transaction too.
BEGIN;
SELECT pev_emit(2, 'progress', step(1));
TRUNCATE assistant_architect_events;
SELECT pev_emit(2, 'progress', step(1)), pev_emit(2, 'progress', step(1)), pev_emit('user:u', 'upload_started', '{"jobId": "j"}');
COMMIT;
SELECT execution_id < 0 AS keyed, seq FROM assistant_architect_events ORDER BY id;

-- A number that comes with the row is an import, stored as it is, for the owner alone.
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
VALUES (10, 1, 'execution-start', '{"any": "thing"}', '2001-01-01 00:00:00+00'), (10, 2, 'progress', '{}', '2001-01-01 00:00:01+00')
RETURNING seq, event_data, created_at AT TIME ZONE 'UTC';
SELECT pev_emit(10, 'progress', step(1));
-- the numbers and the times go on from what was imported
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
VALUES (11, 40, 'progress', '{}', '2101-01-01 00:00:00+00');
SELECT pev_emit(11, 'progress', step(1)), pev_emit(11, 'progress', step(2));
SELECT seq, created_at AT TIME ZONE 'UTC' FROM pev_events(11);
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
VALUES (12, 1, 'Result', '{}', '2001-01-01');
SELECT outcome('SELECT pev_emit(12, ''progress'', test.step(1))');
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (10, 2, ''progress'', ''{}'', now())');
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data) VALUES (10, 9, ''progress'', ''{}'')');
-- impossible ones, from which the numbering could not go on
SELECT outcome(format('INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (14, %s, ''progress'', ''{}'', %L)', n, t))
FROM (VALUES ('0', '2001-01-01'), ('-1', '2001-01-01'), ('9223372036854775807', '2001-01-01'), ('1', 'infinity'), ('1', '-infinity')) AS v(n, t);
-- between events of the same transaction
BEGIN;
SELECT pev_emit(15, 'progress', step(1));
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (15, 10, 'progress', '{}', now());
SELECT pev_emit(15, 'progress', step(2));
SAVEPOINT s;
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (15, 20, 'Result', '{}', now());
SELECT outcome('SELECT pev_emit(15, ''progress'', test.step(3))');
ROLLBACK TO s;
SELECT pev_emit(15, 'progress', step(4));
COMMIT;
SELECT array_agg(seq) FROM pev_events(15);
CREATE ROLE regress_pev_writer;
GRANT INSERT, SELECT ON assistant_architect_events TO regress_pev_writer;
SET ROLE regress_pev_writer;
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data) VALUES (13, 1, ''progress'', ''{}'')');
COPY assistant_architect_events (execution_id, seq, event_type, event_data, created_at) FROM stdin;
13	1	progress	{}	2001-01-01
\.
RESET ROLE;
DROP OWNED BY regress_pev_writer;
DROP ROLE regress_pev_writer;
SELECT count(*) FROM pev_events(13);

-- Other triggers on the table.
-- One that suppresses a row leaves no gap, from one command to the next …
CREATE FUNCTION test.suppress() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN IF new.event_data->>''message'' = ''no'' THEN RETURN NULL; END IF; RETURN new; END';
CREATE TRIGGER zz_suppress BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.suppress();
BEGIN;
SELECT pev_emit(20, 'progress', step(1));
SELECT pev_emit(20, 'progress', step(2) || '{"message": "no"}');
SELECT pev_emit(20, 'progress', step(3));
COMMIT;
SELECT pev_emit(20, 'progress', step(2) || '{"message": "no"}'), pev_emit(20, 'progress', step(4));
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
VALUES (20, 'progress', step(5)), (20, 'progress', step(6) || '{"message": "no"}');
SELECT pev_emit(20, 'progress', step(7));
SELECT pev_emit_batch(20, jsonb_build_array(jsonb_build_object('type', 'progress', 'data', step(8) || '{"message": "no"}'),
  jsonb_build_object('type', 'progress', 'data', step(9))));
-- … and within one is refused.
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
  VALUES (20, ''progress'', test.step(10)), (20, ''progress'', test.step(11) || ''{"message": "no"}''), (20, ''progress'', test.step(12)) RETURNING 1');
-- a suppressed end does not close
SELECT pev_emit(20, 'StreamingProgressEvent', '{"generation_id": "e96b74bc-aba8-4837-bb43-237fd687d18b", "status": "failed", "stage": "s", "progress": 0, "message": "no"}');
SELECT pev_emit(20, 'progress', step(13));
DROP TRIGGER zz_suppress ON assistant_architect_events;
CREATE TRIGGER aa_suppress BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.suppress();
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
VALUES (20, 'progress', step(14)), (20, 'progress', step(15) || '{"message": "no"}'), (20, 'progress', step(16)) RETURNING seq;
DROP TRIGGER aa_suppress ON assistant_architect_events;
SELECT seq, event_data->'currentStep' AS step FROM pev_events(20);
-- So does ON CONFLICT DO NOTHING.
BEGIN;
INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE VALUES (1000000, 21, 'progress', step(1));
INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE VALUES (1000000, 21, 'progress', step(2)) ON CONFLICT DO NOTHING;
SELECT pev_emit(21, 'progress', step(3));
COMMIT;
SELECT outcome('INSERT INTO assistant_architect_events (id, execution_id, event_type, event_data) OVERRIDING SYSTEM VALUE
  VALUES (1000000, 21, ''progress'', test.step(4)), (1000001, 21, ''progress'', test.step(5)) ON CONFLICT DO NOTHING RETURNING 1');
SELECT seq, event_data->'currentStep' AS step FROM pev_events(21);
-- One that emits as well, before the row or after it, into the same stream or another.
CREATE FUNCTION test.echo() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN IF new.event_type = ''prompt-complete'' THEN PERFORM pev_emit(new.execution_id + tg_argv[0]::int, ''progress'', test.step(99)); END IF; RETURN new; END';
CREATE FUNCTION test.prompt() RETURNS jsonb LANGUAGE sql AS
  $$SELECT '{"promptId": 1, "outputTokens": 5, "duration": 1, "cached": true}'::jsonb$$;
CREATE TRIGGER aa_echo AFTER INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.echo(0);
SELECT pev_emit(30, 'prompt-complete', prompt()) AS one, pev_emit(30, 'prompt-complete', prompt()) AS three;
CREATE TRIGGER zz_echo AFTER INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.echo(0);
SELECT pev_emit(31, 'prompt-complete', prompt()) AS one, pev_emit(31, 'prompt-complete', prompt()) AS four;
CREATE TRIGGER aa_echo_before BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.echo(100);
SELECT pev_emit(32, 'prompt-complete', prompt()) AS one, pev_emit(32, 'prompt-complete', prompt()) AS four;
DROP TRIGGER zz_echo ON assistant_architect_events;
DROP TRIGGER aa_echo ON assistant_architect_events;
SELECT pev_emit(33, 'prompt-complete', prompt()) AS one, pev_emit(33, 'prompt-complete', prompt()) AS two;
CREATE TRIGGER zz_suppress BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.suppress();
BEGIN;
SELECT pev_emit(33, 'prompt-complete', prompt() || '{"message": "no"}') AS none;
SELECT pev_emit(33, 'prompt-complete', prompt()) AS three;
COMMIT;
DROP TRIGGER zz_suppress ON assistant_architect_events;
DROP TRIGGER aa_echo_before ON assistant_architect_events;
-- one that inserts for itself does not confuse pev_emit() about its own number
CREATE FUNCTION test.insert_too() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF new.execution_id = 34 THEN
  INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (30, ''progress'', test.step(1)); END IF; RETURN new; END';
CREATE TRIGGER aa_insert BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.insert_too();
SELECT pev_emit(34, 'progress', step(1)) AS one;
DROP TRIGGER aa_insert ON assistant_architect_events;
SELECT execution_id, array_agg(seq || ' ' || event_type ORDER BY seq) FROM assistant_architect_events
WHERE execution_id BETWEEN 30 AND 199 GROUP BY 1 ORDER BY 1;

-- Subtransactions, every way: what is rolled back leaves no trace in the numbers.
BEGIN;
SELECT pev_emit(40, 'progress', step(1));
SAVEPOINT a;
SELECT pev_emit(40, 'progress', step(2)), pev_emit(41, 'progress', step(1));
SAVEPOINT b;
SELECT pev_emit(40, 'progress', step(3)), pev_emit(41, 'progress', step(2)), pev_emit('fresh', 'progress', step(1));
ROLLBACK TO b;
SELECT pev_emit(40, 'progress', step(4)), pev_emit(41, 'progress', step(3));
RELEASE b;
SAVEPOINT c;
SELECT pev_emit(40, 'progress', step(5)), pev_emit('fresh', 'progress', step(2));
RELEASE c;
ROLLBACK TO a;
SELECT pev_emit(40, 'progress', step(6)), pev_emit(41, 'progress', step(4)), pev_emit('fresh', 'progress', step(3));
SAVEPOINT d;
SELECT pev_emit(40, 'Result', '{"summary": "s"}');
RELEASE d;
SAVEPOINT e;
SELECT pev_emit(40, 'progress', step(7));
ROLLBACK TO e;
COMMIT;
SELECT execution_id < 0 AS keyed, seq, event_type, event_data->'currentStep' AS step FROM assistant_architect_events
WHERE execution_id IN (40, 41, pev_stream_id('fresh')) ORDER BY execution_id DESC, seq;
DO $$
BEGIN
  FOR i IN 1..60 LOOP
    BEGIN
      PERFORM pev_emit(42, 'progress', test.step(i));
      BEGIN
        PERFORM pev_emit(42, 'progress', test.step(i + 100));
        PERFORM pev_emit(43, 'progress', test.step(i + 100));
        IF i % 3 <> 0 THEN RAISE assert_failure; END IF;
      EXCEPTION WHEN assert_failure THEN NULL;
      END;
      IF i % 2 = 0 THEN RAISE assert_failure; END IF;
    EXCEPTION WHEN assert_failure THEN NULL;
    END;
  END LOOP;
END
$$;
SELECT execution_id, count(*), max(seq) FROM assistant_architect_events WHERE execution_id IN (42, 43) GROUP BY 1 ORDER BY 1;

-- Replicated rows come with everything, and no trigger but the doorbell fires.
SET session_replication_role = replica;
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (44, 1, 'progress', '{}', '2001-01-01');
RESET session_replication_role;
SELECT pev_emit(44, 'progress', step(1));
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'assistant_architect_events'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT * FROM disorder() WHERE execution_id NOT IN (2, 11, 15);
DROP EXTENSION pev;
