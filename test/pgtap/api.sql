-- What users may rely on: every function with its signature and properties, every
-- column with its type, who may call what, and a comment on everything public.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE SCHEMA pev;
CREATE EXTENSION pev SCHEMA pev;
SET search_path = pev, public;
SELECT plan(28);

-- The extension's own objects.
CREATE TEMP VIEW member AS
SELECT classid, objid, i.type, i.identity FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) i
WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pev');

-- Functions: volatile or stable, parallel safety, strictness, set, result.
CREATE TEMP VIEW function AS
SELECT format('%s(%s)', proname, pg_get_function_arguments(p.oid)) AS signature, pg_get_function_result(p.oid) AS result,
  provolatile::text || proparallel::text || CASE WHEN proisstrict THEN ' strict' ELSE '' END AS properties, p.*
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid;

SELECT results_eq($$SELECT signature COLLATE "default", result COLLATE "default", properties COLLATE "default" FROM function WHERE prorettype <> 'trigger'::regtype
  AND proname <> 'pev_notifier_status' ORDER BY signature COLLATE "C"$$, $$VALUES
  ('pev_approve(action_id text, decision text, by text, OUT outcome text, OUT decided_by text, OUT decided_at timestamp with time zone, OUT won boolean)', 'record', 'vu'),
  ('pev_check_flow(stream bigint)', 'TABLE(seq bigint, rule text, message text)', 'ss'),
  ('pev_check_flow(stream text)', 'TABLE(seq bigint, rule text, message text)', 'ss'),
  ('pev_check_flow(stream uuid)', 'TABLE(seq bigint, rule text, message text)', 'ss'),
  ('pev_check_idempotency_key(key text)', 'void', 'is'),
  ('pev_claim(kinds text[], worker text, lease interval DEFAULT ''00:01:00''::interval, OUT job_id bigint, OUT attempt integer, OUT kind text, OUT payload jsonb, OUT channel text)', 'SETOF record', 'vu'),
  ('pev_complete(job_id bigint, attempt integer, result jsonb DEFAULT ''null''::jsonb)', 'void', 'vu'),
  ('pev_deny_expired_approvals()', 'integer', 'vu'),
  ('pev_deny_late(action_id text)', 'boolean', 'vu'),
  ('pev_emit(stream bigint, type text, data jsonb)', 'bigint', 'vu'),
  ('pev_emit(stream text, type text, data jsonb)', 'bigint', 'vu'),
  ('pev_emit(stream uuid, type text, data jsonb)', 'bigint', 'vu'),
  ('pev_emit_batch(stream bigint, events jsonb)', 'bigint', 'vu'),
  ('pev_emit_batch(stream text, events jsonb)', 'bigint', 'vu'),
  ('pev_emit_batch(stream uuid, events jsonb)', 'bigint', 'vu'),
  ('pev_emit_once(stream bigint, key text, events jsonb)', 'bigint', 'vu'),
  ('pev_emit_once(stream text, key text, events jsonb)', 'bigint', 'vu'),
  ('pev_emit_once(stream uuid, key text, events jsonb)', 'bigint', 'vu'),
  ('pev_enqueue(kind text, payload jsonb, channel text, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, max_attempts integer DEFAULT NULL::integer, idempotency_key text DEFAULT NULL::text)', 'bigint', 'vu'),
  ('pev_events(stream bigint)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream bigint, after_seq bigint)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream bigint, type text, after_seq bigint DEFAULT 0)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream text)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream text, after_seq bigint)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream text, type text, after_seq bigint DEFAULT 0)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream uuid)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream uuid, after_seq bigint)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_events(stream uuid, type text, after_seq bigint DEFAULT 0)', 'SETOF assistant_architect_events', 'ss'),
  ('pev_execution(stream bigint)', 'SETOF pev_executions', 'ss'),
  ('pev_execution(stream text)', 'SETOF pev_executions', 'ss'),
  ('pev_execution(stream uuid)', 'SETOF pev_executions', 'ss'),
  ('pev_extend_lease(job_id bigint, attempt integer)', 'timestamp with time zone', 'vu'),
  ('pev_fail(job_id bigint, attempt integer, error text, retry boolean DEFAULT true)', 'timestamp with time zone', 'vu'),
  ('pev_flow_faults(stream bigint)', 'TABLE(seq bigint, rule text, message text)', 'ss'),
  ('pev_is_terminal(type assistant_event_type, data jsonb)', 'boolean', 'ss strict'),
  ('pev_is_valid(type text, data jsonb)', 'boolean', 'ss strict'),
  ('pev_iteration_progress(generation_id uuid, stage text, progress double precision, message text, status text DEFAULT ''processing''::text, generation_mode text DEFAULT NULL::text, ab_group text DEFAULT NULL::text, enhanced_features jsonb DEFAULT NULL::jsonb, estimated_time_remaining double precision DEFAULT NULL::double precision, current_file text DEFAULT NULL::text, partial_output jsonb DEFAULT NULL::jsonb, phase_info jsonb DEFAULT NULL::jsonb, extra jsonb DEFAULT NULL::jsonb)', 'bigint', 'vu'),
  ('pev_job_give_up(job pev_job, error text)', 'void', 'vu'),
  ('pev_job_held(job_id bigint, attempt integer)', 'pev_job', 'vu'),
  ('pev_job_progress(job_id bigint, attempt integer, progress numeric, message text DEFAULT NULL::text, bytes_uploaded bigint DEFAULT NULL::bigint)', 'timestamp with time zone', 'vu'),
  ('pev_lifetime(lifetime interval, name text)', 'interval', 'ss'),
  ('pev_plan(stream bigint, phases jsonb, tokens_every interval DEFAULT ''00:00:00.25''::interval)', 'void', 'vu'),
  ('pev_plan(stream text, phases jsonb, tokens_every interval DEFAULT ''00:00:00.25''::interval)', 'void', 'vu'),
  ('pev_plan(stream uuid, phases jsonb, tokens_every interval DEFAULT ''00:00:00.25''::interval)', 'void', 'vu'),
  ('pev_redeem_ticket(hash bytea, stream text)', 'timestamp with time zone', 'vu strict'),
  ('pev_register_job_kind(kind text, description text, events text DEFAULT NULL::text, max_attempts integer DEFAULT 5, backoff interval DEFAULT ''00:00:01''::interval)', 'void', 'vu'),
  ('pev_register_stream_kind(prefix text, description text, families text[] DEFAULT NULL::text[])', 'void', 'vu'),
  ('pev_revoke_token(token text, expires timestamp with time zone DEFAULT NULL::timestamp with time zone)', 'void', 'vu'),
  ('pev_ring_job(kind text)', 'void', 'vr strict'),
  ('pev_start_notifier()', 'boolean', 'vr'),
  ('pev_stream_id(key text)', 'bigint', 'ss strict'),
  ('pev_stream_id(key uuid)', 'bigint', 'ss strict'),
  ('pev_stream_key_parse(key text, OUT id bigint, OUT canonical text)', 'record', 'is strict'),
  ('pev_sub_agents(session bigint)', 'TABLE(name text, status text, task text, tool_groups text[], llm_calls numeric, tool_calls numeric, elapsed_ms numeric, duration_ms numeric, result text, error text, spawned_at timestamp with time zone, finished_at timestamp with time zone, message_id text)', 'ss'),
  ('pev_sub_agents(session text)', 'TABLE(name text, status text, task text, tool_groups text[], llm_calls numeric, tool_calls numeric, elapsed_ms numeric, duration_ms numeric, result text, error text, spawned_at timestamp with time zone, finished_at timestamp with time zone, message_id text)', 'ss'),
  ('pev_sub_agents(session uuid)', 'TABLE(name text, status text, task text, tool_groups text[], llm_calls numeric, tool_calls numeric, elapsed_ms numeric, duration_ms numeric, result text, error text, spawned_at timestamp with time zone, finished_at timestamp with time zone, message_id text)', 'ss'),
  ('pev_ticket(stream bigint, ttl interval DEFAULT ''00:01:00''::interval, lifetime interval DEFAULT ''01:00:00''::interval)', 'text', 'vu'),
  ('pev_ticket(stream text, ttl interval DEFAULT ''00:01:00''::interval, lifetime interval DEFAULT ''01:00:00''::interval)', 'text', 'vu'),
  ('pev_ticket(stream uuid, ttl interval DEFAULT ''00:01:00''::interval, lifetime interval DEFAULT ''01:00:00''::interval)', 'text', 'vu'),
  ('pev_ticket_stream(stream text)', 'text', 'is'),
  ('pev_token(stream bigint, ttl interval DEFAULT ''00:15:00''::interval, emit boolean DEFAULT false, sub text DEFAULT NULL::text, enqueue text[] DEFAULT NULL::text[], name text DEFAULT NULL::text)', 'text', 'vs'),
  ('pev_token(stream text, ttl interval DEFAULT ''00:15:00''::interval, emit boolean DEFAULT false, sub text DEFAULT NULL::text, enqueue text[] DEFAULT NULL::text[], name text DEFAULT NULL::text)', 'text', 'vs'),
  ('pev_token(stream uuid, ttl interval DEFAULT ''00:15:00''::interval, emit boolean DEFAULT false, sub text DEFAULT NULL::text, enqueue text[] DEFAULT NULL::text[], name text DEFAULT NULL::text)', 'text', 'vs'),
  ('pev_token_id(token text, OUT jti text, OUT expires timestamp with time zone)', 'record', 'is'),
  ('pev_try_emit(stream bigint, type text, data jsonb)', 'bigint', 'vu'),
  ('pev_try_emit(stream text, type text, data jsonb)', 'bigint', 'vu'),
  ('pev_try_emit(stream uuid, type text, data jsonb)', 'bigint', 'vu'),
  ('pev_validate(type text, data jsonb, OUT path text, OUT keyword text, OUT message text)', 'SETOF record', 'ss'),
  ('pev_watch_approvals()', 'boolean', 'vr')$$,
  'functions, their results and properties');
SELECT set_eq($$SELECT format('%s: %s %s', pg_get_userbyid(proowner), oid::regprocedure, proconfig) FROM function WHERE prosecdef$$,
  ARRAY(SELECT format('%s: %s {"search_path=pg_catalog, pg_temp"}', current_user, f)
        FROM unnest(ARRAY['pev_redeem_ticket(bytea,text)', 'pev_revoke_token(text,timestamp with time zone)', 'pev_ticket(text,interval,interval)', 'pev_watch_approvals()']) f),
  'these run with the extension owner''s rights, whatever the search_path, and no others');
SELECT is_empty('SELECT signature FROM function WHERE proname NOT LIKE ''pev\_%''', 'all begin with pev_');
SELECT is_empty($$SELECT signature FROM function WHERE prorettype <> 'trigger'::regtype AND NOT has_function_privilege('public', oid, 'EXECUTE')
  AND proname NOT IN ('pev_token', 'pev_ticket', 'pev_redeem_ticket', 'pev_revoke_token')$$, 'everybody may call them');
SELECT is_empty($$SELECT signature FROM function WHERE proname IN ('pev_token', 'pev_ticket', 'pev_redeem_ticket', 'pev_revoke_token')
  AND has_function_privilege('public', oid, 'EXECUTE')$$, 'except what admits to streams, which nobody may call until it is granted');
SELECT is_empty($$SELECT signature FROM function WHERE prorettype = 'trigger'::regtype AND has_function_privilege('public', oid, 'EXECUTE')$$,
  'but not make triggers of the extension''s');

-- Tables and views.
SELECT set_eq($$SELECT relname::text, relkind::text FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
  WHERE relkind IN ('r', 'v')$$, $$VALUES ('assistant_architect_events', 'r'), ('pev_event_type', 'r'), ('pev_stream', 'r'), ('pev_stream_kind', 'r'),
  ('pev_ticket', 'r'), ('pev_revoked_token', 'r'), ('pev_idempotency', 'r'), ('pev_plan', 'r'), ('pev_approval', 'r'), ('pev_job_kind', 'r'), ('pev_job', 'r'),
  ('pev_executions', 'v'), ('pev_notifier_status', 'v')$$, 'tables and views');
CREATE FUNCTION columns(relation regclass) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE '' END || CASE attidentity WHEN 'a' THEN ' identity' ELSE '' END
  FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped ORDER BY attnum
$$;
SELECT results_eq('SELECT columns(''assistant_architect_events'')', ARRAY['id bigint not null identity', 'execution_id bigint not null', 'seq bigint not null',
  'event_type assistant_event_type not null', 'event_data jsonb not null', 'created_at timestamp with time zone not null'], 'assistant_architect_events');
SELECT results_eq('SELECT columns(''pev_event_type'')', ARRAY['name text not null', 'family text not null', 'description text not null', 'schema jsonb not null',
  'terminal_when jsonb', 'durable boolean not null', 'global boolean not null', 'priority text not null', 'max_bytes integer not null', 'builtin boolean not null'], 'pev_event_type');
SELECT results_eq('SELECT columns(''pev_stream'')', ARRAY['id bigint not null identity', 'key text not null', 'kind text', 'created_at timestamp with time zone not null'], 'pev_stream');
SELECT results_eq('SELECT columns(''pev_stream_kind'')', ARRAY['prefix text not null', 'description text not null', 'families text[]', 'builtin boolean not null'], 'pev_stream_kind');
SELECT results_eq('SELECT columns(''pev_ticket'')', ARRAY['hash bytea not null', 'stream text not null', 'redeem_before timestamp with time zone not null', 'lifetime interval not null',
  'redeemed_at timestamp with time zone', 'expires timestamp with time zone', 'created_at timestamp with time zone not null'], 'pev_ticket');
SELECT results_eq('SELECT columns(''pev_revoked_token'')', ARRAY['jti text not null', 'expires timestamp with time zone not null', 'xact xid8 not null',
  'revoked_at timestamp with time zone not null'], 'pev_revoked_token');
SELECT results_eq('SELECT columns(''pev_plan'')', ARRAY['execution_id bigint not null', 'names text[] not null', 'labels text[] not null', 'weights double precision[] not null',
  'tokens_every interval not null', 'reached smallint[] not null', 'phase integer not null', 'description text not null', 'tokens bigint not null', 'told_tokens bigint not null',
  'told_at timestamp with time zone'], 'pev_plan');
SELECT results_eq('SELECT columns(''pev_approval'')', ARRAY['action_id text not null', 'execution_id bigint not null', 'message_id text not null', 'tool_name text not null',
  'reasoning text not null', 'requested_at timestamp with time zone not null', 'deadline timestamp with time zone not null', 'decision text', 'reason text', 'decided_by text',
  'decided_at timestamp with time zone'], 'pev_approval');
SELECT results_eq('SELECT columns(''pev_job_kind'')', ARRAY['kind text not null', 'description text not null', 'events text', 'max_attempts integer not null', 'backoff interval not null'], 'pev_job_kind');
SELECT results_eq('SELECT columns(''pev_job'')', ARRAY['id bigint not null identity', 'kind text not null', 'channel text not null', 'payload jsonb not null', 'state text not null',
  'attempts integer not null', 'max_attempts integer not null', 'run_at timestamp with time zone not null', 'lease interval', 'worker text', 'error text', 'key_hash bytea', 'request_hash bytea',
  'created_at timestamp with time zone not null', 'finished_at timestamp with time zone'], 'pev_job');
SELECT results_eq('SELECT columns(''pev_executions'')', ARRAY['execution_id bigint', 'key text', 'status text', 'progress numeric', 'tokens numeric', 'events bigint',
  'started_at timestamp with time zone', 'finished_at timestamp with time zone', 'duration interval', 'last_message text'], 'pev_executions');
SELECT col_is_pk('pev', 'assistant_architect_events', 'id', 'id is the primary key');
SELECT col_is_unique('pev', 'assistant_architect_events', ARRAY['execution_id', 'seq'], 'a number is given once in a stream');
SELECT fk_ok('pev', 'pev_stream', 'kind', 'pev', 'pev_stream_kind', 'prefix');
SELECT is((SELECT reloptions FROM pg_class WHERE oid = 'pev_executions'::regclass), CASE WHEN current_setting('server_version_num')::int >= 150000
  THEN ARRAY['security_invoker=true'] END, 'the view acts with its reader''s rights where it can');
SELECT is((SELECT count(*) FROM pg_enum WHERE enumtypid = 'assistant_event_type'::regtype), 45::bigint, '45 types of event');

-- Who may read what.
SELECT set_eq($$SELECT relname::text FROM pg_class WHERE relnamespace = 'pev'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('public', oid, 'SELECT')$$,
  ARRAY['pev_event_type', 'pev_stream_kind', 'pev_job_kind', 'pev_notifier_status'], 'the catalogue is for everybody to read, events are not');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'pev'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('public', oid, 'INSERT, UPDATE, DELETE, TRUNCATE')$$,
  'and nothing for everybody to write');

-- A comment on everything public.
SELECT is_empty($$SELECT type, identity FROM member WHERE type NOT IN ('trigger', 'index', 'sequence') AND type NOT LIKE '%constraint%'
  AND identity NOT LIKE '%[]' AND obj_description(objid, classid::regclass::name) IS NULL
  AND NOT (type = 'type' AND EXISTS (SELECT FROM pg_type WHERE oid = objid AND typtype = 'c'))$$, 'every object has a comment');
SELECT is_empty($$SELECT attrelid::regclass, attname FROM pg_attribute JOIN member ON classid = 'pg_class'::regclass AND objid = attrelid
  JOIN pg_class c ON c.oid = attrelid WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'v') AND col_description(attrelid, attnum) IS NULL$$,
  'and every column');
SELECT is((SELECT description FROM pg_description WHERE objoid = (SELECT oid FROM pg_extension WHERE extname = 'pev') AND classoid = 'pg_extension'::regclass),
  'typed, ordered, live progress events for AI pipelines', 'and the extension');
SELECT * FROM finish();
