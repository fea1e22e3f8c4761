-- Progress of generations by named arguments: the event, the time that remains, what goes
-- back and what is refused.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- A generation by its last digit.
CREATE FUNCTION test.generation(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT format('e96b74bc-aba8-4837-bb43-237fd687d18%s', n)::uuid $$;
CREATE VIEW test.told AS SELECT right(key, 1) AS generation, seq, event_type AS type, event_data - '{timestamp,generation_id}'::text[] AS data
  FROM assistant_architect_events e JOIN pev_stream s ON s.id = e.execution_id ORDER BY e.id;

-- What is given is told, and nothing else but what is stamped.
SELECT pev_iteration_progress(generation(1), 'initializing', 0, 'Starting');
ANALYZE assistant_architect_events; -- the plans that this session keeps are made for a table of one row
SELECT event_data->>'generation_id' AS id, abs(extract(epoch FROM now())::numeric - (event_data->>'timestamp')::numeric) < 60 AS stamped FROM pev_events(generation(1));
SELECT pev_iteration_progress(generation_id => generation(1), progress => 0.2, stage => 'phase_1_complete', message => 'Phase 1 complete: Generated 5 core infrastructure files',
  generation_mode => 'classic', ab_group => 'b', enhanced_features => '{"cache": true}', estimated_time_remaining => 84.5, current_file => 'main.py',
  partial_output => '{"files": null}', phase_info => '{"phase": 1, "name": "Core Infrastructure", "files_generated": 5, "total_files": 5}',
  extra => '{"warning_type": "data_loss_detection", "parent_file_count": 14, "nothing": null, "timestamp": 17.25}');
SELECT pev_iteration_progress(generation(1), 'x', 1::real, 'float'), pev_iteration_progress(generation(1), 'x', 1, 'integer'), pev_iteration_progress(generation(1), 'x', 1::numeric, 'numeric');
SELECT pev_iteration_progress(generation(1), 'completed', 1, 'Completed', 'completed', extra => '{}');
SELECT seq, type, data FROM told;
SELECT event_data->>'timestamp' AS given FROM pev_events(generation(1), 1) LIMIT 1;
SELECT outcome('SELECT pev_iteration_progress(test.generation(1), ''x'', 1, ''too late'')');

-- The time that remains: that since the first event, times what is left, by what is done. It was told between its event and the one before.
SELECT pev_iteration_progress(generation(2), 'first', 0.5, 'nothing to reckon from');
SELECT pev_emit(generation(2), 'progress', step(1));
DO $$ BEGIN WHILE clock_timestamp() < (SELECT min(created_at) + '5 ms' FROM pev_events(test.generation(2))) LOOP END LOOP; END $$;
SELECT pev_emit(generation(2), 'progress', step(2));
SELECT pev_iteration_progress(generation(2), 'none', 0, 'no progress', extra => '{"estimated_time": 1}'), pev_iteration_progress(generation(2), 'little', 0.00099, 'too little');
SELECT pev_iteration_progress(generation(2), p::text, p, 'reckoned') FROM unnest(ARRAY[0.001, 0.002, 0.25, 0.999]) p;
SELECT pev_iteration_progress(generation(2), 'all', 1, 'reckoned');
SELECT pev_iteration_progress(generation(2), 'given', 1, 'given', estimated_time_remaining => 0.25), pev_iteration_progress(generation(2), 'completed', 1, 'no more', 'completed');
WITH event AS (
  SELECT seq, (event_data->>'progress')::numeric AS progress, (event_data->>'estimated_time_remaining')::numeric AS told, event_data->>'message' AS message,
    extract(epoch FROM created_at - first_value(created_at) OVER w) AS elapsed, extract(epoch FROM lag(created_at) OVER w - first_value(created_at) OVER w) AS before
  FROM pev_events(generation(2)) WINDOW w AS (ORDER BY seq))
SELECT seq, progress, message, told IS NOT NULL AS told, told = round(told) AS whole, told BETWEEN round(before * (1 - progress) / progress) AND round(elapsed * (1 - progress) / progress) AS right
FROM event WHERE progress > 0 ORDER BY seq;
SELECT count(*) FILTER (WHERE data ? 'estimated_time_remaining') AS told, max((data->>'estimated_time_remaining')::numeric) >= 5 AS some FROM told WHERE generation = '2';

-- What goes back is accepted with a warning, unless it failed; the status has the furthest.
\set VERBOSITY sqlstate
SELECT pev_iteration_progress(generation(3), 'code_generation', 0.3, 'm'), pev_iteration_progress(generation(3), 'phased_generation_started', 0.05, 'm');
\set VERBOSITY default
SELECT pev_iteration_progress(generation(3), 'x', 0.1 + 0.2::float8, 'm'), pev_iteration_progress(generation(3), 'x', 0.1 + 0.2::float8, 'the same');
SELECT pev_iteration_progress(generation(3), 'x', 0.3, 'a little');
-- other types between them do not matter, up to a hundred
SELECT count(pev_emit(generation(3), 'progress', step(0))) FROM generate_series(1, 99);
SELECT pev_iteration_progress(generation(3), 'x', 0.2, 'm');
SELECT count(pev_emit(generation(3), 'progress', step(0))) FROM generate_series(1, 100);
SELECT pev_iteration_progress(generation(3), 'x', 0.1, 'm');
SELECT status, progress, events FROM pev_execution(generation(3));
SELECT pev_iteration_progress(generation(3), 'error', 0, 'Generation failed', 'failed', extra => '{"error": "no attribute"}');
SELECT status, progress, events, last_message FROM pev_execution(generation(3));
SELECT pev_iteration_progress(generation(4), 'x', 0.9, 'm'), pev_iteration_progress(generation(4), 'x', 0.8, 'm', 'completed');
-- a progress that is none: the owner may have changed the schema
BEGIN;
UPDATE pev_event_type SET schema = 'true' WHERE name = 'StreamingProgressEvent';
SELECT pev_emit(generation(5), 'StreamingProgressEvent', '{"progress": "half"}');
SELECT pev_iteration_progress(generation(5), 'x', 0.1, 'm');
ROLLBACK;

-- Refused.
SELECT outcome(format('SELECT pev_iteration_progress(%s)', a)) FROM unnest(ARRAY['NULL, ''s'', 0.1, ''m''', 'test.generation(6), NULL, 0.1, ''m''', 'test.generation(6), ''s'', NULL, ''m''',
  'test.generation(6), ''s'', 0.1, NULL', 'test.generation(6), ''s'', 0.1, ''m'', NULL']) a;
SELECT outcome(format('SELECT pev_iteration_progress(test.generation(6), ''s'', 0.1, ''m'', %s)', a)) FROM unnest(ARRAY['''done''', 'generation_mode => ''fast''', 'enhanced_features => ''{"a": 1}''',
  'partial_output => ''[]''', 'phase_info => ''null''', 'estimated_time_remaining => ''Infinity''', 'extra => ''[]''', 'extra => ''null''', 'extra => ''1''']) a;
SELECT outcome(format('SELECT pev_iteration_progress(test.generation(6), ''s'', %L, ''m'')', p)) FROM unnest('{1.01,-0.01,NaN,Infinity}'::float8[]) p;
SELECT outcome(format('SELECT pev_iteration_progress(test.generation(6), ''s'', 0.1, ''m'', extra => %L)', jsonb_build_object('a', 1, n, 2)))
  FROM (SELECT unnest(proargnames) FROM pg_proc WHERE proname = 'pev_iteration_progress') p(n) WHERE n <> 'extra';
SELECT count(*) FROM told WHERE generation = '6';

-- However long the stream, a call looks at a few of its events.
SELECT count(pev_emit(test.generation(8), 'StreamingProgressEvent', '{"status": "processing", "stage": "s", "progress": 0.5, "message": "m"}')) FROM generate_series(1, 3000);
BEGIN;
CREATE VIEW test.looked AS SELECT seq_tup_read + idx_tup_fetch AS rows FROM pg_stat_xact_user_tables WHERE relname = 'assistant_architect_events';
SELECT rows AS before FROM test.looked \gset
SELECT pev_iteration_progress(test.generation(8), 's', 0.5, 'm');
SELECT rows - :before BETWEEN 1 AND 9 AS few FROM test.looked;
COMMIT;

-- Whoever may emit and read may call it, wherever the extension is not in the search_path.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_generator;
RESET client_min_messages;
CREATE ROLE regress_pev_generator;
GRANT INSERT ON assistant_architect_events TO regress_pev_generator;
SET ROLE regress_pev_generator;
SELECT outcome('SELECT pev_iteration_progress(test.generation(7), ''s'', 0.1, ''m'')');
RESET ROLE;
GRANT SELECT ON assistant_architect_events, pev_stream TO regress_pev_generator;
SET ROLE regress_pev_generator;
SET search_path = pg_temp;
SELECT public.pev_iteration_progress(test.generation(7), 's', 0.2, 'm'), public.pev_iteration_progress(test.generation(7), 's', 0.1, 'm');
RESET search_path;
RESET ROLE;
SELECT count(*) FROM pev_events(test.generation(7));

DROP OWNED BY regress_pev_generator;
DROP ROLE regress_pev_generator;
SET client_min_messages = warning;
DROP SCHEMA test CASCADE;
DROP EXTENSION pev CASCADE;
