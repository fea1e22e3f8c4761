-- Emitting: pev_emit(), pev_emit_batch(), pev_try_emit().
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- Three spellings of a stream, and what the literals resolve to.
SELECT pev_emit(42, 'progress', step(1)), pev_emit(42::bigint, 'progress', step(2)), pev_emit('42', 'progress', step(3)),
  pev_emit('00042'::text, 'progress', step(4)), pev_emit(42::smallint, 'progress', step(5));
SELECT pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b', 'progress', step(1)),
  pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, 'progress', step(2)),
  pev_emit('E96B74BC-ABA8-4837-BB43-237FD687D18B', 'progress', step(3));
SELECT pev_emit('word', 'progress', step(1)), pev_emit('channel:general', 'chat',
  '{"result": {"id": "1", "content": "c", "userId": "u", "userName": "n", "timestamp": "2025-06-27T08:00:01Z"}}');
SELECT pev_emit(stream => 42, type => 'progress', data => step(6));
SELECT execution_id, seq, event_type, event_data->'currentStep' AS step FROM assistant_architect_events ORDER BY id;
SELECT id, key, kind FROM pev_stream ORDER BY id DESC;

-- Many in one statement, in the order in which they are made.
SELECT array_agg(pev_emit(43, 'progress', step(i)) ORDER BY i) FROM generate_series(1, 10) i;
SELECT pev_emit(44 + i % 3, 'progress', step(i)) FROM generate_series(1, 9) i;
SELECT execution_id, array_agg(seq ORDER BY id), array_agg(event_data->'currentStep' ORDER BY seq)
FROM assistant_architect_events WHERE execution_id BETWEEN 43 AND 46 GROUP BY 1 ORDER BY 1;

-- NULLs: each argument, each function.
SELECT outcome(s) FROM unnest(ARRAY[
  'SELECT pev_emit(NULL::bigint, ''progress'', test.step(1))', 'SELECT pev_emit(NULL::uuid, ''progress'', test.step(1))',
  'SELECT pev_emit(NULL::text, ''progress'', test.step(1))', 'SELECT pev_emit(NULL, NULL, NULL)',
  'SELECT pev_emit(1, NULL, test.step(1))', 'SELECT pev_emit(1, ''progress'', NULL)', 'SELECT pev_emit(NULL, ''no-such'', NULL)',
  'SELECT pev_emit_batch(NULL::bigint, ''[]'')', 'SELECT pev_emit_batch(NULL::uuid, ''[]'')',
  'SELECT pev_emit_batch(NULL::text, ''[]'')', 'SELECT pev_emit_batch(1, NULL)',
  'SELECT pev_validate(NULL, ''{}'')', 'SELECT pev_validate(''progress'', NULL)',
  'SELECT pev_is_valid(NULL, ''{}'')', 'SELECT pev_is_valid(''progress'', NULL)', 'SELECT pev_is_terminal(NULL, ''{}'')']) s;
SELECT pev_try_emit(NULL::bigint, 'progress', step(1));
SELECT pev_try_emit(1, NULL, step(1));
SELECT pev_try_emit(NULL::text, 'progress', NULL);

-- Types that are not stored have no number and leave no row.
SELECT pev_emit('channel:general', 'typing', '{"userId": "u", "isTyping": true}');
SELECT pev_emit(NULL, 'log_entry', '{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}');
SELECT pev_emit('nobody declared:this', 'log_entry', '{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}');
SELECT pev_try_emit('channel:new', 'presence', '{"status": "joined", "userId": "u", "userName": "n"}');
SELECT seq, event_type FROM pev_events('channel:general');
SELECT outcome($$SELECT pev_emit(NULL, 'log_entry', '{}')$$);
-- and their text must fit into a notification
SELECT outcome(format('SELECT pev_emit(1, ''typing'', %L)', jsonb_build_object('userId', repeat(E'\x01', 1000), 'isTyping', true)));
SELECT outcome(format('SELECT pev_emit(1, ''typing'', %L)', jsonb_build_object('userId', repeat(E'\x01', 2000), 'isTyping', true)));

-- Batches.
SELECT pev_emit_batch(50, '[{"type": "progress", "data": {"currentStep": 1, "totalSteps": 2, "percentage": 1, "message": "a"}},
  {"type": "prompt-complete", "data": {"promptId": 1, "outputTokens": 5, "duration": 1.5, "cached": true}},
  {"data": {"currentStep": 2, "totalSteps": 2, "percentage": 100, "message": "b"}, "type": "progress"}]');
SELECT seq, event_type, event_data - 'timestamp' - 'eventId' AS data FROM pev_events(50);
SELECT pev_emit_batch(50, '[]'), pev_emit_batch('50', '[]'), pev_emit_batch('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, '[]');
SELECT pev_emit_batch('word', jsonb_agg(jsonb_build_object('type', 'progress', 'data', step(i)))) FROM generate_series(1, 500) i;
SELECT pev_emit_batch('channel:general', '[{"type": "typing", "data": {"userId": "u", "isTyping": true}}]');
SELECT pev_emit_batch('channel:general', '[{"type": "upload_started", "data": {"jobId": "j"}},
  {"type": "typing", "data": {"userId": "u", "isTyping": false}}]');
SELECT pev_emit_batch('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, jsonb_build_array(jsonb_build_object('type', 'progress', 'data', step(1))));
-- All or nothing, and the error says which.
CREATE FUNCTION test.batch(events jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  context text;
  said text := outcome(format('SELECT pev_emit_batch(51, %L)', events));
BEGIN
  PERFORM pev_emit_batch(51, events);
  RETURN said;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
  RETURN said || E'\n  context: ' || coalesce(substring(context FROM 'event \d+ of the batch'), 'none');
END
$$;
SELECT batch('[{"type": "progress", "data": {"currentStep": 1, "totalSteps": 2, "percentage": 1, "message": "a"}}, {"type": "progress", "data": {}}]');
SELECT batch('[{"type": "progress", "data": {"currentStep": 1, "totalSteps": 2, "percentage": 1, "message": "a"}}, {"type": "no-such", "data": {}}]');
SELECT batch(v) FROM unnest(ARRAY['{}', '"a"', '1', 'null', '[1]', '[[]]', '[null]', '[{}]', '[{"type": "progress"}]',
  '[{"data": {}}]', '[{"type": 1, "data": {}}]', '[{"type": "progress", "data": {}, "seq": 4}]', '[{"type": "progress", "data": 1}]',
  '[{"type": "progress", "data": null}]', '[{"type": "Result", "data": {"summary": "s"}}, {"type": "Result", "data": {"summary": "s"}}]']::jsonb[]) v;
SELECT count(*) FROM pev_events(51);
SELECT outcome($$SELECT pev_emit_batch('user:u', '[{"type": "upload_started", "data": {"jobId": "j"}}, {"type": "Result", "data": {"summary": "s"}}]')$$);
SELECT pev_stream_id('user:u');

-- pev_try_emit(): as pev_emit(), but a refusal is a warning.
SELECT pev_try_emit(60, 'progress', step(1)), pev_try_emit('60', 'progress', step(2)),
  pev_try_emit('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, 'progress', step(2));
BEGIN;
SELECT pev_try_emit(60, 'progress', '{"currentStep": "x"}');
SELECT pev_try_emit(60, 'progress', step(3));
SELECT pev_try_emit(60, 'no-such', '{}');
SELECT pev_try_emit('ftp:x', 'progress', step(3));
SELECT pev_try_emit('a b', 'progress', step(3));
SELECT pev_try_emit(-5, 'progress', step(3));
SELECT pev_try_emit(60, 'Result', '{"summary": "done"}');
SELECT pev_try_emit(60, 'progress', step(4));
COMMIT;
SELECT seq, event_type FROM pev_events(60);
-- a key that is not used in the end is not made
SELECT pev_try_emit('never-made', 'progress', '{}');
SELECT pev_stream_id('never-made');
-- inside functions and blocks
DO $$
DECLARE n bigint;
BEGIN
  FOR i IN 1..4 LOOP
    n := pev_try_emit(61, 'progress', CASE WHEN i % 2 = 0 THEN '{}' ELSE test.step(i) END);
    RAISE NOTICE 'event %: %', i, n;
  END LOOP;
  BEGIN
    PERFORM pev_emit(61, 'progress', test.step(5));
    RAISE NOTICE 'inner: %', pev_try_emit(61, 'progress', '{}');
    RAISE division_by_zero;
  EXCEPTION WHEN division_by_zero THEN
    RAISE NOTICE 'after the rollback: %', pev_try_emit(61, 'progress', test.step(6));
  END;
END
$$;
SELECT seq, event_data->'currentStep' AS step FROM pev_events(61);
-- A cancelled statement is not an event's fault; a lock that does not come is.
CREATE FUNCTION test.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN new; END';
CREATE TRIGGER slow BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.slow();
SET statement_timeout = '100ms';
SELECT pev_try_emit(62, 'progress', step(1));
RESET statement_timeout;
DROP TRIGGER slow ON assistant_architect_events;
SELECT pev_try_emit(62, 'progress', step(1));

-- Closed streams.
SELECT pev_emit(70, 'execution-error', '{"error": "e", "recoverable": true}');
SELECT pev_emit(70, 'execution-error', '{"error": "e", "recoverable": false}');
SELECT outcome('SELECT pev_emit(70, ''progress'', test.step(1))');
SELECT outcome('SELECT pev_emit_batch(70, ''[{"type": "Result", "data": {"summary": "s"}}]'')');
SELECT outcome('SELECT pev_emit(70, ''typing'', ''{"userId": "u", "isTyping": true}'')');
SELECT outcome('SELECT pev_emit(70, ''log_entry'', ''{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}'')');
BEGIN;
SELECT pev_emit(71, 'Result', '{"summary": "s"}');
SELECT outcome('SELECT pev_emit(71, ''typing'', ''{"userId": "u", "isTyping": true}'')');
SAVEPOINT s;
SELECT pev_emit(71, 'progress', step(1));
ROLLBACK TO s;
ROLLBACK;
-- the rollback took the end back
SELECT pev_emit(71, 'progress', step(1));
BEGIN;
SAVEPOINT s;
SELECT pev_emit(71, 'Result', '{"summary": "s"}');
ROLLBACK TO s;
SELECT pev_emit(71, 'progress', step(2));
COMMIT;
SELECT seq, event_type FROM pev_events(71);

-- The largest event, and one byte more.
CREATE FUNCTION test.sized(bytes int) RETURNS jsonb LANGUAGE sql AS $$
  SELECT d || jsonb_build_object('summary', repeat('x', bytes - pg_column_size(d || '{"summary": ""}')))
  FROM (SELECT '{"type": "Error", "timestamp": "2025-06-27T08:00:00.000Z"}'::jsonb) v(d)
$$;
UPDATE pev_event_type SET max_bytes = 300, schema = '{}' WHERE name = 'Error';
SELECT outcome(format('SELECT pev_emit(72, ''Error'', %L)', sized(n))), n FROM unnest('{299,300,301}'::int[]) n;
SELECT pg_column_size(event_data) FROM pev_events(72);
SELECT pev_emit(73, 'Result', jsonb_build_object('summary', repeat('größe', 1000000)));
SELECT length(event_data->>'summary'), event_data->>'summary' = repeat('größe', 1000000) AS whole FROM pev_events(73);
SELECT outcome(format('SELECT pev_emit(74, ''Result'', jsonb_build_object(''summary'', repeat(''x'', 16777216)))'));

-- Any schema in the path, hostile ones included.
CREATE SCHEMA hostile;
CREATE TABLE hostile.assistant_architect_events (execution_id bigint, event_type text, event_data jsonb);
CREATE TABLE hostile.pev_stream (key text, kind text);
CREATE FUNCTION hostile.jsonb_build_object() RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SET search_path = hostile, pg_temp;
SELECT public.pev_emit('hostile-1', 'progress', test.step(1)), public.pev_emit(80, 'progress', test.step(1)),
  public.pev_emit_batch('hostile-1', '[]'), public.pev_is_valid('progress', '{}'),
  public.pev_stream_id('hostile-1') < 0 AS keyed;
SELECT seq FROM public.pev_events('hostile-1');
SELECT status FROM public.pev_execution('hostile-1');
SELECT count(*) FROM hostile.assistant_architect_events;
SELECT count(*) FROM hostile.pev_stream;
SET search_path = '';
SELECT public.pev_emit('hostile-1', 'progress', test.step(2)), public.pev_emit('user:hostile', 'upload_started', '{"jobId": "j"}');
SELECT seq FROM public.pev_events('hostile-1', 'progress', 1);
RESET search_path;
SET search_path = public, test;
DROP SCHEMA hostile CASCADE;
SELECT * FROM disorder();
DROP EXTENSION pev;
