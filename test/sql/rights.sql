-- The extension adds no power: who may INSERT may emit, who may SELECT may read.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_emitter, regress_pev_reader, regress_pev_nobody;
RESET client_min_messages;
CREATE ROLE regress_pev_emitter;
CREATE ROLE regress_pev_reader;
CREATE ROLE regress_pev_nobody;
GRANT INSERT ON assistant_architect_events TO regress_pev_emitter;
GRANT SELECT ON assistant_architect_events, pev_stream, pev_executions TO regress_pev_reader;

-- INSERT alone: by number, by a new key and an old one, in batches, never reading.
SET ROLE regress_pev_emitter;
SELECT pev_emit(1, 'progress', step(1)), pev_emit('user:new', 'upload_started', '{"jobId": "j"}'), pev_emit('user:new', 'upload_failed', '{"jobId": "j", "error": "e"}'),
  pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, 'progress', step(1));
SELECT pev_emit_batch(1, jsonb_build_array(jsonb_build_object('type', 'progress', 'data', step(2)))), pev_try_emit(1, 'progress', step(3));
SELECT pev_emit(NULL, 'log_entry', '{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}'), pev_emit(1, 'typing', '{"userId": "u", "isTyping": true}');
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, 'progress', step(4));
SELECT pev_is_valid('progress', step(1)), pev_is_valid('progress', '{}');
SELECT count(*) > 0 AS catalogue FROM pev_event_type;
SELECT outcome(s) FROM unnest(ARRAY['SELECT count(*) FROM assistant_architect_events', 'SELECT count(*) FROM pev_events(1)', 'SELECT count(*) FROM pev_execution(1)',
  'SELECT count(*) FROM pev_executions', 'SELECT pev_stream_id(''user:new'')', 'SELECT count(*) FROM pev_stream', 'INSERT INTO pev_stream (key) VALUES (''x'')',
  'UPDATE pev_event_type SET schema = ''true''', 'SELECT pev_register_stream_kind(''x'', ''y'')', 'DELETE FROM assistant_architect_events', 'TRUNCATE assistant_architect_events',
  'UPDATE assistant_architect_events SET event_data = ''{}''', 'INSERT INTO assistant_architect_events VALUES (DEFAULT, 1, 99, ''progress'', ''{}'', now())']) s;
RESET ROLE;

-- SELECT alone.
SET ROLE regress_pev_reader;
SELECT seq, event_data->'currentStep' AS step FROM pev_events(1);
SELECT seq FROM pev_events('user:new');
SELECT status, events FROM pev_execution(1);
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_emit(1, ''progress'', test.step(1))', 'SELECT pev_emit(''user:other'', ''upload_started'', ''{"jobId": "j"}'')',
  'SELECT pev_emit(1, ''typing'', ''{"userId": "u", "isTyping": true}'')', 'SELECT pev_emit(NULL, ''log_entry'', ''{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}'')',
  'SELECT pev_emit_batch(1, ''[{"type": "Result", "data": {"summary": "s"}}]'')']) s;
SELECT pev_try_emit('user:other', 'upload_started', '{"jobId": "j"}');
RESET ROLE;
SELECT key FROM pev_stream ORDER BY id DESC;

-- Nothing: the catalogue may be asked.
SET ROLE regress_pev_nobody;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_emit(1, ''progress'', test.step(1))', 'SELECT count(*) FROM pev_events(1)', 'SELECT count(*) FROM pev_executions',
  'SELECT count(*) > 0 FROM pev_event_type', 'SELECT count(*) > 0 FROM pev_stream_kind', 'SELECT pev_is_terminal(''Result'', ''{}'')']) s;
RESET ROLE;

-- The plan that a session keeps is checked for whoever uses it.
SELECT pev_emit(1, 'progress', step(5));
SET ROLE regress_pev_reader;
SELECT outcome('SELECT pev_emit(1, ''progress'', test.step(1))');
SET ROLE regress_pev_emitter;
SELECT pev_emit(1, 'progress', step(6));
RESET ROLE;
REVOKE INSERT ON assistant_architect_events FROM regress_pev_emitter;
SET ROLE regress_pev_emitter;
SELECT outcome('SELECT pev_emit(1, ''progress'', test.step(1))');
RESET ROLE;
GRANT INSERT ON assistant_architect_events TO regress_pev_emitter;
-- and through a function that runs with its owner's rights
CREATE FUNCTION test.emit_for_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT public.pev_emit(1, ''progress'', test.step(7))';
SET ROLE regress_pev_nobody;
SELECT emit_for_all();
RESET ROLE;

-- Row-level security: on what is emitted, by whichever function, stored or not …
ALTER TABLE assistant_architect_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY emit ON assistant_architect_events FOR INSERT TO regress_pev_emitter WITH CHECK (execution_id BETWEEN 1 AND 9 AND event_type <> 'Error');
CREATE POLICY reads ON assistant_architect_events FOR SELECT TO regress_pev_reader USING (execution_id < 0);
SET ROLE regress_pev_emitter;
SELECT pev_emit(1, 'progress', step(8)), pev_emit(9, 'progress', step(1));
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_emit(10, ''progress'', test.step(1))', 'SELECT pev_emit(9, ''Error'', ''{"message": "m"}'')',
  'SELECT pev_emit(''user:new'', ''upload_started'', ''{"jobId": "j"}'')', 'SELECT pev_emit_batch(10, ''[{"type": "Result", "data": {"summary": "s"}}]'')',
  'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (10, ''progress'', test.step(1)) RETURNING 1',
  'SELECT pev_emit(10, ''typing'', ''{"userId": "u", "isTyping": true}'')', 'SELECT pev_emit(9, ''typing'', ''{"userId": "u", "isTyping": true}'')',
  'SELECT pev_emit(''user:new'', ''presence'', ''{"status": "s", "userId": "u", "userName": "n"}'')',
  'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (10, ''typing'', ''{"userId": "u", "isTyping": true}'') RETURNING 1']) s;
SELECT pev_try_emit(10, 'progress', step(1));
SELECT pev_emit(9, 'progress', step(2));
RESET ROLE;
-- … and on what is read, through the functions and the view.
SET ROLE regress_pev_reader;
SELECT count(*) FROM pev_events(1);
SELECT count(*) FROM pev_events('user:new');
SELECT status, events FROM pev_execution(1);
SELECT key, events FROM pev_executions ORDER BY execution_id;
RESET ROLE;
SELECT count(*) FROM pev_events(1);
SELECT count(*) AS left_over FROM assistant_architect_events WHERE event_type IN ('typing', 'presence', 'log_entry');
SELECT * FROM disorder();

-- The trigger functions serve the extension's own tables and no others.
CREATE SCHEMA mine AUTHORIZATION regress_pev_nobody;
GRANT CREATE ON SCHEMA public TO regress_pev_nobody;
SET ROLE regress_pev_nobody;
CREATE TABLE mine.short (a bigint);
CREATE TABLE public.regress_pev_long (id bigint, a bigint, b bigint, c bigint, d bigint, e bigint);
CREATE FUNCTION mine.attach(function text, relation text, timing text, level text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text := concat_ws(' ', function, relation, timing, level) || ': ';
BEGIN
  EXECUTE format('INSERT INTO %s VALUES (%s)', relation, CASE relation WHEN 'mine.short' THEN '1' ELSE '1, 2, 3, 4, 5, 6' END);
  EXECUTE format('CREATE TRIGGER t %s ON %s FOR EACH %s EXECUTE FUNCTION public.%s()', timing, relation, level, function);
  CASE split_part(timing, ' ', 2)
    WHEN 'INSERT' THEN
      EXECUTE format('INSERT INTO %s VALUES (%s)', relation, CASE relation WHEN 'mine.short' THEN '1'
        ELSE format('1, 1, NULL, %s, 12345, 6', (SELECT oid FROM pg_enum WHERE enumlabel = 'prompt-start')) END);
    WHEN 'UPDATE' THEN EXECUTE format('UPDATE %s SET a = 2', relation);
    WHEN 'DELETE' THEN EXECUTE format('DELETE FROM %s', relation);
  END CASE;
  RETURN result || 'ran';
EXCEPTION WHEN OTHERS THEN
  RETURN result || sqlstate || ' ' || sqlerrm;
END
$$;
SELECT mine.attach(f, t, w, l)
FROM (VALUES ('pev_before_insert', 'BEFORE INSERT'), ('pev_after_insert', 'AFTER INSERT'), ('pev_before_update', 'BEFORE UPDATE'),
  ('pev_before_delete', 'BEFORE DELETE'), ('pev_catalog_check', 'BEFORE INSERT'), ('pev_catalog_changed', 'AFTER INSERT')) v(f, w),
  unnest('{mine.short,public.regress_pev_long}'::text[]) t, unnest('{ROW,STATEMENT}'::text[]) l ORDER BY 1;
RESET ROLE;
-- whoever may execute them
SELECT mine.attach(f, t, w, l)
FROM (VALUES ('pev_before_insert', 'BEFORE INSERT'), ('pev_after_insert', 'AFTER INSERT'), ('pev_before_update', 'BEFORE UPDATE'),
  ('pev_before_delete', 'BEFORE DELETE'), ('pev_catalog_check', 'BEFORE INSERT'), ('pev_catalog_changed', 'AFTER INSERT')) v(f, w),
  unnest('{mine.short,public.regress_pev_long}'::text[]) t, unnest('{ROW,STATEMENT}'::text[]) l ORDER BY 1;
SELECT outcome(format('SELECT %s()', f)) FROM unnest('{pev_before_insert,pev_catalog_changed}'::text[]) f;
DROP TABLE regress_pev_long;
DROP SCHEMA mine CASCADE;
DROP OWNED BY regress_pev_emitter, regress_pev_reader, regress_pev_nobody;
DROP ROLE regress_pev_emitter, regress_pev_reader, regress_pev_nobody;
DROP EXTENSION pev;
