-- pg_dump and psql bring everything back: events, keys, registered kinds, what users
-- changed in the catalogue, and the numbering goes on.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

SELECT current_user AS regress_superuser \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_pev_source;
DROP DATABASE IF EXISTS regress_pev_copy;
DROP DATABASE IF EXISTS regress_pev_selected;
DROP ROLE IF EXISTS regress_pev_dumper;
RESET client_min_messages;
DROP EXTENSION pev;
CREATE ROLE regress_pev_dumper LOGIN;
CREATE DATABASE regress_pev_source OWNER regress_pev_dumper;
CREATE DATABASE regress_pev_copy OWNER regress_pev_dumper;
SELECT current_database() AS regression \gset

\c regress_pev_source regress_pev_dumper
CREATE SCHEMA "My Schema";
CREATE EXTENSION pev SCHEMA "My Schema";
SET search_path = "My Schema";
SELECT pev_register_stream_kind('order', 'one order', '{execution}'), pev_register_stream_kind('channel', 'rooms of our own', '{channel,agent}');
UPDATE pev_event_type SET max_bytes = 100000 WHERE name = 'Error';
SELECT count(pev_emit(1, 'progress', jsonb_build_object('currentStep', i, 'totalSteps', 9, 'percentage', i, 'message', 'größe "quoted" \\ ' || i))) FROM generate_series(1, 20) i;
DELETE FROM assistant_architect_events WHERE execution_id = 1 AND seq < 5;
SELECT pev_emit('word', 'Result', '{"summary": "s"}'), pev_emit('order:1', 'execution-start', '{"totalPrompts": 1, "toolName": "t"}'),
  pev_emit('channel:1', 'llm_token', '{"message_id": "m", "text": "t"}'), pev_plan('E96B74BC-aba8-4837-bb43-237fd687d18b', '[{"name": "p"}, {"name": "größe \"quoted\"", "label": "{,}", "weight": 0.1}]', '1 hour');
SELECT pev_emit('E96B74BC-aba8-4837-bb43-237fd687d18b', 'PhaseStatus', '{"phase": "p", "progress": 0.5}'), pev_emit('E96B74BC-aba8-4837-bb43-237fd687d18b', 'TokenCount', '{"tokenCount": 7}');
SELECT pev_emit('session:d', 'tier3_approval_required', '{"message_id": "m", "tier3_approval": {"action_id": "waits", "tool_name": "größe \"quoted\"", "reasoning": "r", "timeout_secs": 2147483647}}'),
  pev_emit('session:d', 'tier3_approval_required', '{"message_id": "m", "tier3_approval": {"action_id": "decided", "tool_name": "t", "reasoning": "r", "timeout_secs": 3600}}');
SELECT outcome, won FROM pev_approve('decided', 'denied', 'ann');
SELECT pev_revoke_token('some-token', 'infinity'), pev_ticket('word') ~ '^pevt_' AS ticket;
SELECT pev_register_job_kind('k', 'tested', 'generation', 3, '2 s'), pev_enqueue('k', '{"n": 1}', 'channel:1'), pev_enqueue('k', '{"n": 2}', 'channel:1', 'infinity');
SELECT job_id, attempt FROM pev_claim('{k}', 'w');
CREATE TABLE "My Schema".mine (n int, type assistant_event_type);
INSERT INTO mine VALUES (1, 'Result');
CREATE VIEW mine_too AS SELECT key, status FROM pev_executions;
GRANT INSERT ON assistant_architect_events TO PUBLIC;
-- Everything about the source, to be compared.
CREATE FUNCTION "My Schema".contents() RETURNS TABLE (what text, rows bigint, hash text) LANGUAGE sql SET search_path = "My Schema", pg_catalog AS $$
  SELECT 'events', count(*), md5(string_agg(e::text, E'\n' ORDER BY id)) FROM assistant_architect_events e UNION ALL
  SELECT 'streams', count(*), md5(string_agg(s::text, E'\n' ORDER BY id)) FROM pev_stream s UNION ALL
  SELECT 'kinds', count(*), md5(string_agg(k::text, E'\n' ORDER BY prefix)) FROM pev_stream_kind k UNION ALL
  SELECT 'types', count(*), md5(string_agg(t::text, E'\n' ORDER BY name)) FROM pev_event_type t UNION ALL
  SELECT 'plans', count(*), md5(string_agg(p::text, E'\n' ORDER BY execution_id)) FROM pev_plan p UNION ALL
  SELECT 'approvals', count(*), md5(string_agg(a::text, E'\n' ORDER BY action_id)) FROM pev_approval a UNION ALL
  SELECT 'revoked', count(*), md5(string_agg(r.jti || r.expires || r.revoked_at, E'\n' ORDER BY jti)) FROM pev_revoked_token r UNION ALL
  SELECT 'job kinds', count(*), md5(string_agg(k::text, E'\n' ORDER BY kind)) FROM pev_job_kind k UNION ALL
  SELECT 'jobs', count(*), md5(string_agg(j::text, E'\n' ORDER BY id)) FROM pev_job j UNION ALL
  SELECT 'executions', count(*), md5(string_agg(x::text, E'\n' ORDER BY execution_id)) FROM pev_executions x UNION ALL
  SELECT 'mine', count(*), md5(string_agg(m::text, E'\n' ORDER BY n)) FROM mine m UNION ALL
  SELECT 'privileges', count(*), md5(string_agg(relacl::text, E'\n' ORDER BY relname)) FROM pg_class WHERE relnamespace = '"My Schema"'::regnamespace AND relacl IS NOT NULL
$$;
SELECT what, rows FROM contents();
COPY (SELECT * FROM contents()) TO STDOUT \g results/dump.before
\! pg_dump -U regress_pev_dumper regress_pev_source >results/dump.dump
\! psql -U regress_pev_dumper -Xq -v ON_ERROR_STOP=1 -o /dev/null -f results/dump.dump regress_pev_copy

\c regress_pev_copy regress_pev_dumper
SET search_path = "My Schema";
COPY (SELECT * FROM contents()) TO STDOUT \g results/dump.after
\! diff results/dump.before results/dump.after && echo same
SELECT count(*) AS tickets FROM pev_ticket;
-- Streamers that run meanwhile look for what newer transactions have revoked.
SELECT count(*) AS revoked_here FROM pev_revoked_token r WHERE r.xact = r.xmin::text::xid8;
SELECT * FROM pev_stream_kind ORDER BY prefix;
SELECT name, max_bytes, builtin FROM pev_event_type WHERE name = 'Error';
-- It goes on where it was.
SELECT pev_emit(1, 'Error', '{"message": "m"}') AS twenty_one, pev_emit('order:1', 'execution-complete', '{"totalTokens": 1, "duration": 1, "success": true}') AS two,
  pev_emit('channel:1', 'llm_token', '{"message_id": "m", "text": "t"}') AS three, pev_emit('order:2', 'execution-start', '{"totalPrompts": 1, "toolName": "t"}') AS one,
  pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b', 'PhaseStatus', '{"phase": "p", "progress": 0.6}') AS five;
SELECT event_data - 'timestamp' FROM pev_events('e96b74bc-aba8-4837-bb43-237fd687d18b', 'PipelineStatus');
SELECT outcome, decided_by, won FROM unnest('{waits,decided}'::text[]) a, pev_approve(a, 'approved', 'bob');
SELECT pev_emit('word', 'PhaseStatus', '{"phase": "p", "progress": 0.5}');
SELECT pev_complete(1, 1), pev_enqueue('k', '{}', 'channel:1') AS three;
SELECT id, key, kind FROM pev_stream ORDER BY id DESC;
SELECT count(*), count(DISTINCT id), min(id), max(id) FROM assistant_architect_events;
SELECT evtype.tgname, evtype.tgenabled FROM pg_trigger evtype WHERE tgrelid = 'assistant_architect_events'::regclass AND NOT tgisinternal ORDER BY 1;
UPDATE assistant_architect_events SET seq = 0;
-- Once more, of the copy, by a superuser. (Who creates an extension owns its tables, so a restore by another gives other privileges.)
\c regress_pev_copy :regress_superuser
SET search_path = "My Schema";
SELECT pev_register_stream_kind('user', 'changed as well', NULL);
COPY (SELECT * FROM contents() WHERE what <> 'privileges') TO STDOUT \g results/dump.before
CREATE DATABASE regress_pev_selected;
\! pg_dump -Fc regress_pev_copy >results/dump.dump
\! pg_restore -e -d regress_pev_selected results/dump.dump
\c regress_pev_selected
SET search_path = "My Schema";
COPY (SELECT * FROM contents() WHERE what <> 'privileges') TO STDOUT \g results/dump.after
\! diff results/dump.before results/dump.after && echo same
SELECT pev_emit('order:3', 'execution-start', '{"totalPrompts": 1, "toolName": "t"}');
SELECT min(id) FROM pev_stream;

\c :regression
\! rm -f results/dump.before results/dump.after results/dump.dump
DROP DATABASE regress_pev_source;
DROP DATABASE regress_pev_copy;
DROP DATABASE regress_pev_selected;
DROP ROLE regress_pev_dumper;
