-- CREATE EXTENSION and DROP EXTENSION: any schema, no superuser, nothing left behind.
\pset format unaligned
\pset footer off
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pev CASCADE;
DROP DATABASE IF EXISTS regress_pev_owned;
DROP ROLE IF EXISTS regress_pev_owner;
DROP SCHEMA IF EXISTS test, "My Schema" CASCADE;
RESET client_min_messages;

-- Every object that there is.
CREATE TEMP VIEW inventory AS
SELECT 'class' AS kind, count(*), coalesce(sum(hashtext(relname::text)), 0) AS names FROM pg_class WHERE relpersistence <> 't' AND NOT relispartition AND relnamespace::regnamespace::text NOT LIKE 'pg_t%'
UNION ALL SELECT 'proc', count(*), sum(hashtext(proname::text)) FROM pg_proc
UNION ALL SELECT 'type', count(*), sum(hashtext(typname::text)) FROM pg_type WHERE typnamespace::regnamespace::text NOT LIKE 'pg_t%'
UNION ALL SELECT 'trigger', count(*), coalesce(sum(hashtext(tgname::text)), 0) FROM pg_trigger
UNION ALL SELECT 'constraint', count(*), coalesce(sum(hashtext(conname::text)), 0) FROM pg_constraint
UNION ALL SELECT 'enum', count(*), coalesce(sum(hashtext(enumlabel::text)), 0) FROM pg_enum
UNION ALL SELECT 'rewrite', count(*), 0 FROM pg_rewrite
UNION ALL SELECT 'namespace', count(*), sum(hashtext(nspname::text)) FROM pg_namespace WHERE nspname::text NOT LIKE 'pg_t%'
UNION ALL SELECT 'description', count(*), 0 FROM pg_description
UNION ALL SELECT 'init privileges', count(*), 0 FROM pg_init_privs
UNION ALL SELECT 'depend', count(*), 0 FROM pg_depend
UNION ALL SELECT 'extension', count(*), 0 FROM pg_extension;
CREATE TEMP TABLE before (kind text, count bigint, names bigint);
INSERT INTO before SELECT * FROM inventory;

CREATE EXTENSION pev;
SELECT extname, extversion, nspname, extrelocatable FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pev';
SELECT pev_emit(1, 'Result', '{"summary": "s"}');
DROP EXTENSION pev;
SELECT kind, b.count AS before, a.count AS after FROM before b FULL JOIN inventory a USING (kind)
WHERE (a.count, a.names) IS DISTINCT FROM (b.count, b.names);

-- Again, in a schema whose name needs quotes, in the same session, which has cached the first one.
CREATE SCHEMA "My Schema";
CREATE EXTENSION pev SCHEMA "My Schema";
SELECT "My Schema".pev_emit(1, 'Result', '{"summary": "again"}'), "My Schema".pev_emit('user:u', 'upload_started', '{"jobId": "j"}');
SELECT execution_id, seq, event_data->>'summary' AS summary FROM "My Schema".assistant_architect_events ORDER BY id;
SELECT seq FROM "My Schema".pev_events(1, 'Result', 0);
SELECT status FROM "My Schema".pev_execution(1);
SELECT "My Schema".pev_stream_id('user:u'), "My Schema".pev_is_valid('Result', '{"summary": "s"}'), "My Schema".pev_register_stream_kind('x', 'y');
SELECT pev_emit(1, 'Result', '{}');
ALTER EXTENSION pev SET SCHEMA public;
-- Where functions and tables are is never a matter of search_path.
CREATE TABLE assistant_architect_events (execution_id bigint, seq bigint, event_type text, event_data jsonb, created_at timestamptz);
CREATE TABLE pev_event_type (name text);
CREATE TABLE pev_stream (id bigint, key text);
CREATE TABLE pev_plan (execution_id bigint);
CREATE TABLE pev_job (id bigint, kind text);
CREATE TABLE pev_job_kind (kind text);
SELECT "My Schema".pev_emit(2, 'Result', '{"summary": "s"}'), "My Schema".pev_emit('user:v', 'upload_started', '{"jobId": "j"}'),
  "My Schema".pev_plan(3, '[{"name": "p"}]');
SELECT "My Schema".pev_emit_batch(3, '[{"type": "PhaseStatus", "data": {"phase": "p", "progress": 1}}, {"type": "Result", "data": {"summary": "s"}}]');
SELECT seq FROM "My Schema".pev_events('user:v');
SELECT count(*) FROM "My Schema".pev_executions;
SELECT "My Schema".pev_register_job_kind('k', 'd', 'generation'), "My Schema".pev_enqueue('k', '{}', 'user:j'), "My Schema".pev_enqueue('k', '{}', 'user:j');
SELECT job_id, attempt FROM "My Schema".pev_claim('{k}', 'w');
SELECT "My Schema".pev_job_progress(1, 1, 50, 'm') > now() AS leased, "My Schema".pev_fail(1, 1, 'e') > now() AS again;
SELECT job_id, attempt FROM "My Schema".pev_claim('{k}', 'w');
SELECT "My Schema".pev_extend_lease(2, 1) > now() AS leased, "My Schema".pev_complete(2, 1);
SELECT seq, event_type FROM "My Schema".pev_events('user:j');
SELECT count(*) FROM assistant_architect_events;
DROP TABLE assistant_architect_events, pev_event_type, pev_stream, pev_plan, pev_job, pev_job_kind;
DROP EXTENSION pev;
DROP SCHEMA "My Schema";
SELECT kind, b.count AS before, a.count AS after FROM before b FULL JOIN inventory a USING (kind)
WHERE (a.count, a.names) IS DISTINCT FROM (b.count, b.names);
CREATE EXTENSION pev SCHEMA nowhere;
CREATE EXTENSION pev VERSION '9.9';

-- Created and dropped in one transaction, and created in one that is rolled back.
BEGIN;
CREATE EXTENSION pev;
SELECT pev_emit(1, 'Result', '{"summary": "s"}');
DROP EXTENSION pev;
CREATE EXTENSION pev;
SELECT pev_emit(1, 'Result', '{"summary": "s"}'), pev_emit('word', 'Result', '{"summary": "s"}');
ROLLBACK;
BEGIN;
SAVEPOINT s;
CREATE EXTENSION pev;
SELECT pev_emit(1, 'Result', '{"summary": "s"}');
ROLLBACK TO s;
CREATE EXTENSION pev;
SELECT pev_emit(1, 'Result', '{"summary": "s"}');
COMMIT;
SELECT seq FROM pev_events(1);

-- Its parts cannot be dropped one by one, and a table that uses its type holds it.
DROP TABLE assistant_architect_events;
DROP TYPE assistant_event_type;
DROP TABLE pev_event_type;
DROP FUNCTION pev_emit(bigint, text, jsonb);
CREATE TABLE mine (t assistant_event_type);
DROP EXTENSION pev;
DROP EXTENSION pev CASCADE;
SELECT count(*) FROM mine;
DROP TABLE mine;
SELECT kind, b.count AS before, a.count AS after FROM before b FULL JOIN inventory a USING (kind)
WHERE (a.count, a.names) IS DISTINCT FROM (b.count, b.names);

-- The owner of a database, who is no superuser.
CREATE ROLE regress_pev_owner LOGIN;
CREATE DATABASE regress_pev_owned OWNER regress_pev_owner;
SELECT current_database() AS regression \gset
\c regress_pev_owned
SET ROLE regress_pev_owner;
CREATE SCHEMA events;
CREATE EXTENSION pev SCHEMA events;
SELECT relname, relkind, relowner::regrole FROM pg_class WHERE relnamespace = 'events'::regnamespace AND relkind IN ('r', 'v', 'S') ORDER BY 1;
SELECT extowner::regrole FROM pg_extension WHERE extname = 'pev';
SET search_path = events;
SELECT pev_emit(1, 'Result', '{"summary": "s"}'), pev_emit('user:u', 'upload_started', '{"jobId": "j"}');
SELECT pev_register_stream_kind('order', 'one order');
UPDATE pev_event_type SET max_bytes = 100 WHERE name = 'Error';
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (2, 7, 'Error', '{}', '2001-01-01');
SELECT execution_id, status FROM pev_executions ORDER BY 1;
GRANT INSERT ON assistant_architect_events TO PUBLIC;
DROP EXTENSION pev;
SELECT count(*) FROM pg_class WHERE relnamespace = 'events'::regnamespace;
CREATE EXTENSION pev;
SELECT pev_emit(1, 'Result', '{"summary": "s"}');
DROP SCHEMA events CASCADE;
SELECT count(*) FROM pg_extension WHERE extname = 'pev';
RESET ROLE;
\c :regression
DROP DATABASE regress_pev_owned;
DROP ROLE regress_pev_owner;
