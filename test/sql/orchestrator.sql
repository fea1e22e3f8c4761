-- The orchestrator: phases are declared, pipelines emit local events, and the status of the whole is computed.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
-- A stream as its subscribers see it; the clock's share is left out.
CREATE FUNCTION test.story(stream text, after_seq bigint DEFAULT 0) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT concat_ws(' ', seq, event_type, CASE event_type
    WHEN 'PipelineStatus' THEN format('%s%% %s tokens, %s (%s): %s', (event_data->>'progress')::numeric * 100, event_data->>'tokenCount',
      event_data->'phase'->>'name', event_data->'phase'->>'label', event_data->'phase'->>'description')
    ELSE (event_data - 'timestamp' - 'type' - 'eventId')::text END)
  FROM pev_events(stream, after_seq) $$;
\set ECHO all

-- A run.
SELECT pev_plan('game', '[{"name": "Plan", "label": "Planning", "weight": 1}, {"name": "ContextStepBuilder", "label": "Coding", "weight": 3}, {"name": "Test", "label": "Testing", "weight": 1}]', '1 hour');
SELECT pev_emit('game', 'PhaseStatus', '{"phase": "Plan", "progress": 0, "description": "Reading the wish"}') AS two, pev_emit('game', 'TokenCount', '{"tokenCount": 100, "phase": "Plan"}') AS three,
  pev_emit('game', 'TokenCount', '{"tokenCount": 74}') AS four, pev_emit('game', 'PhaseStatus', '{"phase": "Plan", "progress": 1}') AS six;
SELECT pev_emit('game', 'PhaseStatus', '{"phase": "ContextStepBuilder", "progress": 0.1, "description": "Add player orb"}'), pev_emit('game', 'PhaseStatus', '{"phase": "ContextStepBuilder", "progress": 0.37}'),
  pev_emit('game', 'PhaseStatus', '{"phase": "ContextStepBuilder", "progress": 0.6, "description": "Add enemies"}'), pev_emit('game', 'TokenCount', '{"tokenCount": 200}'),
  pev_emit('game', 'Error', '{"message": "Failed to generate code."}'), pev_emit('game', 'Error', '{"message": "from the controller", "phase": "HTTP", "details": {"status": 500}}'),
  pev_emit('game', 'PhaseStatus', '{"phase": "ContextStepBuilder", "progress": 1}'), pev_emit('game', 'PhaseStatus', '{"phase": "Test", "progress": 1, "description": "All green"}'),
  pev_emit('game', 'TokenCount', '{"tokenCount": 1}'), pev_emit('game', 'Result', '{"summary": "Game generated successfully."}');
SELECT story('game');
SELECT count(*) AS plans FROM pev_plan;
SELECT status, progress, tokens, last_message FROM pev_execution('game');
-- Each status is as the catalogue wants it, and bears the time at which it was computed.
SELECT pev_is_valid('PipelineStatus', event_data) AND event_data ?& '{type,phase,progress,tokenCount,timestamp}' AS valid, event_data->>'progress' ~ '^[01]\.\d\d$' AS two_decimals,
  abs(extract(epoch FROM (event_data->>'timestamp')::timestamptz - created_at)) < 1 AS now, count(*) FROM pev_events('game', 'PipelineStatus') GROUP BY 1, 2, 3;

-- A plan.
SELECT outcome(format('SELECT pev_plan(''bad'', %L)', p)) FROM unnest(ARRAY['{}', '1', '[]', '[1]', '[[]]', '[{}]', '[{"name": ""}]', '[{"name": 1}]', '[{"name": null}]', '[{"name": "a"}, {"label": "b"}]',
  '[{"name": "a", "label": ""}]', '[{"name": "a", "weight": -1}]', '[{"name": "a", "weight": "1"}]', '[{"name": "a", "weight": null}]', '[{"name": "a", "weight": 1000000001}]', '[{"name": "a", "weight": 1e400}]',
  '[{"name": "a", "weight": 0}, {"name": "b", "weight": 0}]', '[{"name": "a"}, {"name": "b"}, {"name": "a"}]', '[{"name": "a", "colour": "red"}]']) p;
SELECT left(outcome(format('SELECT pev_plan(''bad'', %L)', p)), 120) FROM unnest(ARRAY[(SELECT jsonb_agg(jsonb_build_object('name', i::text)) FROM generate_series(1, 101) i),
  jsonb_build_array(jsonb_build_object('name', repeat('é', 101))), jsonb_build_array(jsonb_build_object('name', 'n', 'label', repeat('l', 201)))]) p;
SELECT outcome(format('SELECT pev_plan(%s)', a)) FROM unnest(ARRAY['NULL::text, ''[{"name": "a"}]''', 'NULL::bigint, ''[{"name": "a"}]''', '''bad'', NULL', '''bad'', ''[{"name": "a"}]'', NULL', '''bad'', ''[{"name": "a"}]'', ''-1 ms''',
  '''bad'', ''[{"name": "a"}]'', ''1 hour 1 us''', '''bad'', ''[{"name": "a"}]'', ''1 day''', '''bad'', ''[{"name": "a"}]'', ''1 month''', '''a b'', ''[{"name": "a"}]''', '-5, ''[{"name": "a"}]''', '''foo:1'', ''[{"name": "a"}]''',
  '''session:s'', ''[{"name": "a"}]''', '99999999999999999999, ''[{"name": "a"}]''']) a;
SELECT key FROM pev_stream WHERE key = 'bad';
SELECT outcome('SELECT pev_plan(''game'', ''[{"name": "a"}]'')');
SELECT pev_plan(1, '[{"name": "a"}, {"name": "b", "label": "B", "weight": 2.5}]'), pev_plan('E96B74BC-aba8-4837-bb43-237fd687d18b'::uuid, '[{"name": "a"}]', '0'),
  pev_plan('most', (SELECT jsonb_agg(jsonb_build_object('name', 'phase ' || i, 'label', repeat('l', 200), 'weight', i)) FROM generate_series(1, 100) i), '1 hour');
SELECT execution_id, names, labels, weights, tokens_every, reached, phase, description, tokens, told_tokens, told_at FROM pev_plan WHERE execution_id <> pev_stream_id('most') ORDER BY 1;
SELECT outcome('SELECT pev_plan(1, ''[{"name": "a"}, {"name": "b", "label": "B", "weight": 2.5}]'')');
SELECT outcome('SELECT pev_plan(''e96b74bc-aba8-4837-bb43-237fd687d18b'', ''[{"name": "b"}]'')');
SELECT pev_emit('most', 'PhaseStatus', '{"phase": "phase 100", "progress": 1}');
SELECT story('most');
-- It is made before what it computes from and computes, and after anything else.
SELECT pev_emit(2, 'execution-start', '{"totalPrompts": 1, "toolName": "t"}'), pev_emit(2, 'Error', '{"message": "early"}');
SELECT pev_plan(2, '[{"name": "a"}]');
SELECT pev_emit(3, 'PipelineStatus', '{"phase": {"name": "n", "label": "l", "description": ""}, "progress": 0.42, "tokenCount": 374}');
SELECT outcome('SELECT pev_plan(3, ''[{"name": "a"}]'')');

-- Refusals.
SELECT outcome(format('SELECT pev_emit(1, %L, %L)', t, d)) FROM (VALUES ('PhaseStatus', '{"phase": "c", "progress": 0.5}'), ('PhaseStatus', '{"phase": "A", "progress": 0.5}'), ('PhaseStatus', '{"phase": "", "progress": 0.5}'),
  ('PhaseStatus', '{"phase": "a", "progress": 1.01}'), ('PhaseStatus', '{"phase": "a", "progress": -0.01}'), ('PhaseStatus', '{"progress": 0.5}'), ('TokenCount', '{"tokenCount": 1, "phase": "c"}'), ('TokenCount', '{"tokenCount": -1}'),
  ('TokenCount', '{"tokenCount": 9223372036854775808}'), ('PipelineStatus', '{"phase": {"name": "a", "label": "a", "description": ""}, "progress": 0.5, "tokenCount": 1}')) v(t, d);
SELECT outcome(format('SELECT pev_emit(4, %L, %L)', t, d)) FROM (VALUES ('PhaseStatus', '{"phase": "a", "progress": 0.5}'), ('TokenCount', '{"tokenCount": 1}')) v(t, d);
SELECT outcome('SELECT pev_emit_batch(1, ''[{"type": "PhaseStatus", "data": {"phase": "a", "progress": 0.5}}, {"type": "PhaseStatus", "data": {"phase": "c", "progress": 0.5}}]'')');
SELECT outcome('SELECT pev_emit(''game'', ''TokenCount'', ''{"tokenCount": 1}'')');
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, ''PhaseStatus'', ''{"phase": "c", "progress": 0.5}'')');
SELECT pev_try_emit(1, 'PhaseStatus', '{"phase": "c", "progress": 0.5}');
SELECT count(*) FROM pev_events(1);
SELECT tokens, reached FROM pev_plan WHERE execution_id = 1;
SELECT pev_emit(1, 'TokenCount', '{"tokenCount": 9223372036854775807}');
SELECT outcome('SELECT pev_emit(1, ''TokenCount'', ''{"tokenCount": 1}'')');
-- An application that has an orchestrator of its own says so.
SET pev.require_plan = off;
SELECT pev_emit(4, 'PhaseStatus', '{"phase": "a", "progress": 0.5}'), pev_emit(4, 'TokenCount', '{"tokenCount": 1}'),
  pev_emit(4, 'PipelineStatus', '{"phase": {"name": "a", "label": "a", "description": ""}, "progress": 0.5, "tokenCount": 1}');
SELECT outcome('SELECT pev_plan(4, ''[{"name": "a"}]'')');
SELECT pev_emit(1, 'PhaseStatus', '{"phase": "a", "progress": 0.07}');
RESET pev.require_plan;
SELECT story('4');
SELECT story('1');

-- Progress: by the weights, rounded, never back, and complete only when all phases are.
CREATE FUNCTION test.run(stream text, weights text, VARIADIC steps text[]) RETURNS TABLE (phase text, said text, progress text) LANGUAGE plpgsql AS $$
DECLARE step text;
BEGIN
  PERFORM pev_plan(stream, (SELECT jsonb_agg(jsonb_build_object('name', chr(96 + n::int)) || CASE w WHEN '-' THEN '{}' ELSE jsonb_build_object('weight', w::numeric) END ORDER BY n)
    FROM unnest(string_to_array(weights, ' ')) WITH ORDINALITY u(w, n)));
  FOREACH step IN ARRAY steps LOOP
    PERFORM pev_emit(stream, 'PhaseStatus', jsonb_build_object('phase', left(step, 1), 'progress', substr(step, 2)::numeric));
  END LOOP;
  RETURN QUERY SELECT s.event_data->'phase'->>'name', e.event_data->>'progress', s.event_data->>'progress'
    FROM pev_events(stream, 'PipelineStatus') s JOIN pev_events(stream, 'PhaseStatus') e ON e.seq = s.seq + 1;
END
$$;
SELECT * FROM run('r1', '- - -', 'a0', 'a0.5', 'a1', 'b0.01', 'b1', 'c0.99', 'c1');
SELECT * FROM run('r2', '1 0 1', 'a1', 'c1', 'b0.5', 'b1');
SELECT * FROM run('r3', '1 3', 'b0.5', 'a1', 'b0.2', 'a0', 'b0.6', 'b1', 'a0.5');
SELECT * FROM run('r4', '0.1 0.2 0.7', 'a1', 'b1', 'c0.995', 'c0.994');
SELECT * FROM run('r5', '1000000000 0.000001', 'a0.994', 'a0.9951', 'b0.99', 'b1');
SELECT * FROM run('r6', '1 7', 'a1', 'b0.29', 'b0.30', 'b0.994');
SELECT * FROM run('r7', '1e-300 1e-300', 'a1', 'b1');
-- Whatever comes in whatever order, it is monotonic.
SELECT setseed(0.5);
DO $$
DECLARE i int;
BEGIN
  PERFORM pev_plan('random', (SELECT jsonb_agg(jsonb_build_object('name', 'p' || n, 'weight', (random() * 10)::numeric(4, 2))) FROM generate_series(1, 7) n), '0');
  FOR i IN 1..1000 LOOP
    PERFORM CASE WHEN random() < 0.5 THEN pev_emit('random', 'TokenCount', jsonb_build_object('tokenCount', (random() * 100)::int))
      ELSE pev_emit('random', 'PhaseStatus', jsonb_build_object('phase', 'p' || 1 + (random() * 6)::int, 'progress', round(least(1, random() * i / 600)::numeric, 3))) END;
  END LOOP;
  PERFORM pev_emit('random', 'Result', '{"summary": "s"}');
END
$$;
SELECT count(*) FILTER (WHERE p < before OR t < t_before) AS back, min(p) >= 0 AND max(p) <= 1 AS bounded, count(DISTINCT p) > 20 AS moves, max(t) = (SELECT sum((event_data->>'tokenCount')::int) FROM pev_events('random', 'TokenCount')) AS all_tokens
FROM (SELECT p, t, lag(p) OVER w AS before, lag(t) OVER w AS t_before FROM (SELECT seq, (event_data->>'progress')::numeric AS p, (event_data->>'tokenCount')::int AS t FROM pev_events('random', 'PipelineStatus')) s WINDOW w AS (ORDER BY seq)) x;

-- Tokens wait for each other, and none is lost: the next PhaseStatus, an Error and the end tell them.
SELECT pev_plan('t1', '[{"name": "a"}]', '1 hour'), pev_plan('t2', '[{"name": "a"}]', '0'), pev_plan('t3', '[{"name": "a"}]', '1 hour');
SELECT count(pev_emit(s, 'TokenCount', jsonb_build_object('tokenCount', i))) FROM generate_series(1, 100) i, unnest('{t1,t2}'::text[]) s;
SELECT s, count(*), max((event_data->>'tokenCount')::int) FROM unnest('{t1,t2}'::text[]) s, pev_events(s, 'PipelineStatus') GROUP BY s ORDER BY s;
SELECT tokens, told_tokens FROM pev_plan WHERE execution_id = pev_stream_id('t1');
SELECT tokens FROM pev_execution('t1');
SELECT pev_emit('t1', 'Error', '{"message": "m"}'), pev_emit('t1', 'Error', '{"message": "m"}'), pev_emit('t1', 'TokenCount', '{"tokenCount": 0}'), pev_emit('t1', 'TokenCount', '{"tokenCount": 1}'), pev_emit('t1', 'Result', '{"summary": "s"}'),
  pev_emit('t2', 'Result', '{"summary": "s"}'), pev_emit('t3', 'Result', '{"summary": "s"}');
SELECT story('t1', 101);
SELECT story('t2', 199);
SELECT story('t3');
-- When the interval is over, the next one tells the sum.
SELECT pev_plan('t4', '[{"name": "a"}]', '10 min');
SELECT pev_emit('t4', 'TokenCount', '{"tokenCount": 1}'), pev_emit('t4', 'TokenCount', '{"tokenCount": 1}');
UPDATE pev_plan SET told_at = told_at - interval '9 min' WHERE execution_id = pev_stream_id('t4');
SELECT pev_emit('t4', 'TokenCount', '{"tokenCount": 1}');
UPDATE pev_plan SET told_at = told_at - interval '1 min' WHERE execution_id = pev_stream_id('t4');
SELECT pev_emit('t4', 'TokenCount', '{"tokenCount": 1}'), pev_emit('t4', 'TokenCount', '{"tokenCount": 1}');
-- A clock that steps back keeps nobody waiting.
UPDATE pev_plan SET told_at = told_at + interval '1 day' WHERE execution_id = pev_stream_id('t4');
SELECT pev_emit('t4', 'TokenCount', '{"tokenCount": 1}');
SELECT story('t4');
-- Any event that closes the stream tells them, and ends the plan.
SELECT pev_plan(5, '[{"name": "a"}]', '1 hour');
SELECT pev_emit(5, 'TokenCount', '{"tokenCount": 1}'), pev_emit(5, 'TokenCount', '{"tokenCount": 1}'), pev_emit(5, 'execution-complete', '{"totalTokens": 2, "duration": 1, "success": true}');
SELECT story('5');
SELECT count(*) FROM pev_plan WHERE execution_id IN (5, pev_stream_id('t1'));

-- INSERT, COPY, a batch and single events are the same.
SELECT pev_plan(s, '[{"name": "a", "label": "A"}, {"name": "b", "weight": 2}]', '1 hour') FROM unnest('{10,11,12,13}'::bigint[]) s;
CREATE TEMP TABLE given (n int, type assistant_event_type, data jsonb);
INSERT INTO given VALUES (1, 'TokenCount', '{"tokenCount": 1}'), (2, 'TokenCount', '{"tokenCount": 2}'), (3, 'PhaseStatus', '{"phase": "a", "progress": 0.5, "description": "d"}'), (4, 'TokenCount', '{"tokenCount": 3}'),
  (5, 'PhaseStatus', '{"phase": "b", "progress": 0.25}'), (6, 'Error', '{"message": "m"}'), (7, 'TokenCount', '{"tokenCount": 4}'), (8, 'Error', '{"message": "m"}'), (9, 'TokenCount', '{"tokenCount": 5}'), (10, 'Result', '{"summary": "s"}');
SELECT max(pev_emit(10, type::text, data)) FROM (SELECT * FROM given ORDER BY n) g;
SELECT pev_emit_batch(11, jsonb_agg(jsonb_build_object('type', type, 'data', data) ORDER BY n)) FROM given;
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) SELECT 12, type, data FROM given ORDER BY n RETURNING seq;
COPY assistant_architect_events (execution_id, event_type, event_data) FROM stdin;
13	TokenCount	{"tokenCount": 1}
13	TokenCount	{"tokenCount": 2}
13	PhaseStatus	{"phase": "a", "progress": 0.5, "description": "d"}
13	TokenCount	{"tokenCount": 3}
13	PhaseStatus	{"phase": "b", "progress": 0.25}
13	Error	{"message": "m"}
13	TokenCount	{"tokenCount": 4}
13	Error	{"message": "m"}
13	TokenCount	{"tokenCount": 5}
13	Result	{"summary": "s"}
\.
SELECT story('10');
SELECT s, (SELECT array_agg(x) FROM story(s::text) x) = (SELECT array_agg(x) FROM story('10') x) AS same FROM generate_series(11, 13) s;
-- So is a table to which the owner has added something.
BEGIN;
ALTER TABLE assistant_architect_events ADD CHECK (seq > 0);
CREATE FUNCTION test.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER a BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER z BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT pev_plan(s, '[{"name": "a", "label": "A"}, {"name": "b", "weight": 2}]', '1 hour') FROM unnest('{14,15,16}'::bigint[]) s;
SELECT max(pev_emit(14, type::text, data)) FROM (SELECT * FROM given ORDER BY n) g;
SELECT pev_emit_batch(15, jsonb_agg(jsonb_build_object('type', type, 'data', data) ORDER BY n)) FROM given;
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) SELECT 16, type, data FROM given ORDER BY n;
SELECT s, (SELECT array_agg(x) FROM story(s::text) x) = (SELECT array_agg(x) FROM story('10') x) AS same FROM generate_series(14, 16) s;
SELECT * FROM disorder();
ROLLBACK;
-- Local events need not be stored.
BEGIN;
UPDATE pev_event_type SET durable = false, max_bytes = least(max_bytes, 7000) WHERE name IN ('PhaseStatus', 'TokenCount');
SELECT pev_plan(17, '[{"name": "a", "label": "A"}, {"name": "b", "weight": 2}]', '1 hour');
SELECT max(pev_emit(17, type::text, data)) FROM (SELECT * FROM given ORDER BY n) g;
SELECT story('17');
ROLLBACK;

-- What is rolled back has not happened.
SELECT pev_plan(20, '[{"name": "a"}, {"name": "b"}]', '0');
BEGIN;
SELECT pev_emit(20, 'TokenCount', '{"tokenCount": 1}');
SAVEPOINT s;
SELECT pev_emit(20, 'TokenCount', '{"tokenCount": 10}'), pev_emit(20, 'PhaseStatus', '{"phase": "b", "progress": 1}');
ROLLBACK TO s;
SELECT pev_try_emit(20, 'PhaseStatus', '{"phase": "c", "progress": 1}');
SELECT pev_emit(20, 'TokenCount', '{"tokenCount": 100}');
SAVEPOINT s;
SELECT pev_emit(20, 'TokenCount', '{"tokenCount": 1000}');
RELEASE s;
SAVEPOINT s;
SELECT pev_emit(20, 'Result', '{"summary": "too early"}');
ROLLBACK TO s;
SELECT pev_try_emit(20, 'TokenCount', '{"tokenCount": 10000}');
COMMIT;
BEGIN;
SELECT pev_emit(20, 'TokenCount', '{"tokenCount": 100000}'), pev_emit(20, 'Result', '{"summary": "s"}');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pev_emit(20, 'PhaseStatus', '{"phase": "a", "progress": 1}'), pev_emit(20, 'TokenCount', '{"tokenCount": 0}');
COMMIT;
SELECT story('20');
BEGIN;
SELECT pev_plan('gone', '[{"name": "a"}]');
SELECT pev_emit('gone', 'TokenCount', '{"tokenCount": 1}');
ROLLBACK;
SELECT outcome('SELECT pev_emit(''gone'', ''TokenCount'', ''{"tokenCount": 1}'')');

-- Who emits needs INSERT on the events, who plans needs INSERT on the plans, and neither reads.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_pipeline, regress_pev_orchestrator;
RESET client_min_messages;
CREATE ROLE regress_pev_pipeline;
CREATE ROLE regress_pev_orchestrator;
GRANT INSERT ON assistant_architect_events TO regress_pev_pipeline, regress_pev_orchestrator;
GRANT INSERT ON pev_plan TO regress_pev_orchestrator;
SET ROLE regress_pev_pipeline;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_plan(30, ''[{"name": "a"}]'')', 'SELECT pev_plan(''new'', ''[{"name": "a"}]'')', 'SELECT pev_plan(''game'', ''[{"name": "a"}]'')', 'SELECT count(*) FROM pev_plan', 'UPDATE pev_plan SET tokens = 0', 'DELETE FROM pev_plan']) s;
SET ROLE regress_pev_orchestrator;
SELECT pev_plan(30, '[{"name": "a"}]', '0'), pev_plan('planned', '[{"name": "a"}]');
SELECT outcome('SELECT count(*) FROM pev_plan');
SET ROLE regress_pev_pipeline;
SELECT pev_emit(30, 'PhaseStatus', '{"phase": "a", "progress": 0.5}'), pev_emit('planned', 'TokenCount', '{"tokenCount": 1}');
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (30, 'TokenCount', '{"tokenCount": 3}');
RESET ROLE;
-- A pipeline may be held to its own streams and to local events: the status is pev's.
ALTER TABLE assistant_architect_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE pev_plan ENABLE ROW LEVEL SECURITY;
CREATE POLICY local ON assistant_architect_events FOR INSERT TO regress_pev_pipeline WITH CHECK (execution_id = 30 AND event_type IN ('PhaseStatus', 'TokenCount'));
CREATE POLICY mine ON pev_plan FOR INSERT TO regress_pev_orchestrator WITH CHECK (execution_id BETWEEN 30 AND 39);
SET ROLE regress_pev_pipeline;
SELECT pev_emit(30, 'PhaseStatus', '{"phase": "a", "progress": 0.75}'), pev_emit_batch(30, '[{"type": "TokenCount", "data": {"tokenCount": 4}}]');
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (30, 'TokenCount', '{"tokenCount": 5}');
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_emit(''planned'', ''PhaseStatus'', ''{"phase": "a", "progress": 0.75}'')', 'SELECT pev_emit(30, ''Result'', ''{"summary": "s"}'')', 'SELECT pev_emit(31, ''PipelineStatus'', ''{"phase": {"name": "a", "label": "a", "description": ""}, "progress": 0.5, "tokenCount": 1}'')']) s;
SET ROLE regress_pev_orchestrator;
SELECT pev_plan(31, '[{"name": "a"}]');
SELECT outcome('SELECT pev_plan(40, ''[{"name": "a"}]'')');
RESET ROLE;
SELECT story('30');
-- What the owner has added runs with the rights of who emits, for the status, too.
CREATE FUNCTION test.who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% by %', NEW.event_type, current_user; RETURN NEW; END $$;
CREATE TRIGGER who BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION test.who();
SET ROLE regress_pev_pipeline;
SELECT outcome('SELECT pev_emit(30, ''TokenCount'', ''{"tokenCount": 6}'')');
RESET ROLE;
ALTER POLICY local ON assistant_architect_events WITH CHECK (execution_id = 30 AND event_type IN ('PhaseStatus', 'TokenCount', 'PipelineStatus'));
SET ROLE regress_pev_pipeline;
SELECT pev_emit(30, 'TokenCount', '{"tokenCount": 6}');
RESET ROLE;
DROP TRIGGER who ON assistant_architect_events;
SELECT current_user = session_user AS myself;
ALTER TABLE assistant_architect_events DISABLE ROW LEVEL SECURITY;
DROP OWNED BY regress_pev_pipeline, regress_pev_orchestrator;
DROP ROLE regress_pev_pipeline, regress_pev_orchestrator;

-- Shared state and code stay out of everything but the Result.
SELECT name, max_bytes FROM pev_event_type WHERE family = 'pipeline' ORDER BY max_bytes, name;
SELECT pev_plan(50, '[{"name": "a"}]');
CREATE FUNCTION test.sized(type text, field text, bytes int) RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT pev_emit(50, %L, %L)', type, CASE type WHEN 'PhaseStatus' THEN '{"phase": "a", "progress": 0.5}' WHEN 'TokenCount' THEN '{"tokenCount": 1}' ELSE '{}' END::jsonb
    || jsonb_build_object(field, repeat('x', bytes))) $$;
SELECT outcome(sized(t, f, n)) FROM (VALUES ('PhaseStatus', 'description', 7000), ('PhaseStatus', 'description', 8050), ('PhaseStatus', 'description', 9000), ('TokenCount', 'phase', 1000), ('Error', 'message', 65455),
  ('PhaseStatus', 'sharedState', 10), ('TokenCount', 'code', 10), ('Result', 'summary', 16000000)) v(t, f, n);
-- what the plan adds counts
SELECT pev_emit(51, 'Error', jsonb_build_object('message', repeat('x', 65455)));
SELECT event_type, length(event_data::text) / 1000 AS kb FROM pev_events(50);

-- Whatever an owner does to the rows, it is an error and no more.
SELECT pev_plan(60, '[{"name": "a"}, {"name": "b"}]');
CREATE FUNCTION test.tamper(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
  EXECUTE 'UPDATE pev_plan SET ' || change || ' WHERE execution_id = 60';
  said := outcome('SELECT pev_emit(60, ''PhaseStatus'', ''{"phase": "a", "progress": 0.5}'')');
  RAISE EXCEPTION USING MESSAGE = change || ': ' || split_part(said, E'\n', 1);
EXCEPTION WHEN raise_exception THEN RETURN sqlerrm;
END
$$;
SELECT tamper(c) FROM unnest(ARRAY['names = ''{}''', 'names = ''{a}''', 'names = ''{a,NULL}''', 'names = ''{{a,b}}''', 'labels = ''{a,b,c}''', 'weights = ''{1}''', 'weights = ''{0,0}''', 'weights = ''{1,NaN}''', 'weights = ''{1,-1}''', 'weights = ''{1,Infinity}''',
  'reached = ''{0}''', 'reached = ''{0,101}''', 'reached = ''{-1,0}''', 'phase = 3', 'phase = -1', 'tokens_every = ''1 month''', 'told_at = ''infinity''', 'told_at = ''-infinity''', 'description = repeat(''x'', 100000)', 'tokens = -1', 'told_tokens = 7']) c;
-- A plan may be removed, and another one made as long as nothing has come.
DELETE FROM pev_plan WHERE execution_id = 60;
SELECT outcome('SELECT pev_emit(60, ''PhaseStatus'', ''{"phase": "a", "progress": 0.5}'')');
BEGIN;
SELECT pev_plan(60, '[{"name": "c"}]');
SELECT pev_emit(60, 'TokenCount', '{"tokenCount": 1}');
DELETE FROM pev_plan WHERE execution_id = 60;
SELECT outcome('SELECT pev_emit(60, ''TokenCount'', ''{"tokenCount": 1}'')');
ROLLBACK;
-- Schemas that lack what a plan needs.
BEGIN;
UPDATE pev_event_type SET schema = '{}' WHERE name IN ('PhaseStatus', 'TokenCount');
SELECT pev_plan(60, '[{"name": "c"}]');
SELECT outcome(format('SELECT pev_emit(60, %L, %L)', t, d)) FROM (VALUES ('PhaseStatus', '{}'), ('PhaseStatus', '{"phase": 1, "progress": 0}'), ('PhaseStatus', '{"phase": "c", "progress": "half"}'), ('PhaseStatus', '{"phase": "c", "progress": 17}'), ('TokenCount', '{}'),
  ('TokenCount', '{"tokenCount": "many"}'), ('TokenCount', '{"tokenCount": 1.4, "phase": 7}')) v(t, d);
SELECT story('60');
ROLLBACK;
-- Where its row was written may be another's place by now.
TRUNCATE pev_plan;
SELECT pev_plan(80, '[{"name": "a"}]');
SELECT pev_emit(80, 'TokenCount', '{"tokenCount": 1}');
DELETE FROM pev_plan;
VACUUM pev_plan;
SELECT count(pev_plan(s, '[{"name": "a"}]')) FROM generate_series(81, 83) s;
SELECT outcome('SELECT pev_emit(80, ''TokenCount'', ''{"tokenCount": 1}'')');
-- An index that the owner adds is kept up.
CREATE INDEX tokens ON pev_plan (tokens);
CREATE INDEX lengths ON pev_plan (length(description));
SELECT pev_plan(70, '[{"name": "a"}]', '1 hour');
SELECT count(pev_emit(70, 'TokenCount', '{"tokenCount": 1}')) FROM generate_series(1, 300);
SET enable_seqscan = off;
SELECT count(*) FROM pev_plan WHERE tokens = 300;
SELECT execution_id FROM pev_plan WHERE tokens = 300 AND length(description) = 0;
RESET enable_seqscan;
SELECT * FROM disorder();
DROP TABLE given;
DROP EXTENSION pev;
