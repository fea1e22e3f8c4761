-- The statements that the documentation of the execution events prints, run as
-- they are printed, over executions whose results were worked out by hand.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE EXTENSION pev;
SELECT plan(20);

-- Imported, since the analytics go by created_at.
CREATE FUNCTION put(execution bigint, at interval, type assistant_event_type, data jsonb) RETURNS void LANGUAGE sql AS $$
  INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
  SELECT execution, 1 + count(*), type,
    data || jsonb_build_object('timestamp', to_char('2025-10-16 10:00'::timestamp + at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'eventId', gen_random_uuid()),
    '2025-10-16 10:00:00+00'::timestamptz + at
  FROM assistant_architect_events WHERE execution_id = execution
$$;

-- 101: Lesson Planner, 10 s, three prompts of 1200, 1800 and 3000 ms, two of them with knowledge
SELECT put(101, '0', 'execution-start', '{"executionId": 101, "totalPrompts": 3, "toolName": "Lesson Planner"}');
SELECT put(101, '0.1 s', 'prompt-start', '{"promptId": 1, "promptName": "Outline", "position": 1, "totalPrompts": 3, "modelId": "m", "hasKnowledge": true, "hasTools": false}');
SELECT put(101, '0.2 s', 'knowledge-retrieval-start', '{"promptId": 1, "repositories": [7, 12], "searchType": "hybrid"}');
SELECT put(101, '0.5 s', 'knowledge-retrieved', '{"promptId": 1, "documentsFound": 5, "relevanceScore": 0.87, "tokens": 2310}');
SELECT put(101, '2 s', 'prompt-complete', '{"promptId": 1, "outputTokens": 512, "duration": 1200, "cached": false}');
SELECT put(101, '2.1 s', 'prompt-start', '{"promptId": 2, "promptName": "Draft", "position": 2, "totalPrompts": 3, "modelId": "m", "hasKnowledge": true, "hasTools": false}');
SELECT put(101, '2.2 s', 'variable-substitution', '{"promptId": 2, "variables": {"outline": "…"}, "sourcePrompts": [1]}');
SELECT put(101, '2.3 s', 'knowledge-retrieval-start', '{"promptId": 2, "repositories": [7], "searchType": "vector"}');
SELECT put(101, '2.4 s', 'knowledge-retrieved', '{"promptId": 2, "documentsFound": 0, "relevanceScore": 0, "tokens": 0}');
SELECT put(101, '4 s', 'prompt-complete', '{"promptId": 2, "outputTokens": 800, "duration": 1800, "cached": true}');
SELECT put(101, '4.1 s', 'prompt-start', '{"promptId": 3, "promptName": "Polish", "position": 3, "totalPrompts": 3, "modelId": "m", "hasKnowledge": false, "hasTools": false}');
SELECT put(101, '9.9 s', 'prompt-complete', '{"promptId": 3, "outputTokens": 100, "duration": 3000, "cached": false}');
SELECT put(101, '10 s', 'execution-complete', '{"executionId": 101, "totalTokens": 3722, "duration": 10000, "success": true}');
-- 102: Lesson Planner, 20 s, an error that was recovered from
SELECT put(102, '1 min', 'execution-start', '{"executionId": 102, "totalPrompts": 1, "toolName": "Lesson Planner"}');
SELECT put(102, '1 min 1 s', 'knowledge-retrieval-start', '{"promptId": 4, "repositories": [12, 7], "searchType": "keyword"}');
SELECT put(102, '1 min 2 s', 'execution-error', '{"executionId": 102, "error": "rate limited", "promptId": 4, "recoverable": true}');
SELECT put(102, '1 min 19 s', 'prompt-complete', '{"promptId": 4, "outputTokens": 9, "duration": 17001, "cached": false}');
SELECT put(102, '1 min 20 s', 'execution-complete', '{"executionId": 102, "totalTokens": 9, "duration": 20000, "success": true}');
-- 103: Essay Coach, failed
SELECT put(103, '2 min', 'execution-start', '{"executionId": 103, "totalPrompts": 1, "toolName": "Essay Coach"}');
SELECT put(103, '2 min 1 s', 'knowledge-retrieval-start', '{"promptId": 5, "repositories": [30], "searchType": "vector"}');
SELECT put(103, '2 min 2 s', 'execution-error', '{"executionId": 103, "error": "no such model", "recoverable": false}');
-- 104: Essay Coach, 5.5 s; 105: Essay Coach, running
SELECT put(104, '3 min', 'execution-start', '{"executionId": 104, "totalPrompts": 1, "toolName": "Essay Coach"}');
SELECT put(104, '3 min 5.5 s', 'execution-complete', '{"executionId": 104, "totalTokens": 1, "duration": 5500, "success": true}');
SELECT put(105, '4 min', 'execution-start', '{"executionId": 105, "totalPrompts": 1, "toolName": "Essay Coach"}');
-- 106: Quiz Maker, 1.25 s, two errors
SELECT put(106, '5 min', 'execution-start', '{"executionId": 106, "totalPrompts": 1, "toolName": "Quiz Maker"}');
SELECT put(106, '5 min 0.5 s', 'execution-error', '{"executionId": 106, "error": "e", "recoverable": true}');
SELECT put(106, '5 min 1 s', 'execution-error', '{"executionId": 106, "error": "e", "recoverable": true}');
SELECT put(106, '5 min 1.25 s', 'execution-complete', '{"executionId": 106, "totalTokens": 1, "duration": 1250, "success": true}');
-- a keyed stream is in nobody's way
SELECT pev_emit('channel:general', 'upload_started', '{"jobId": "j"}') \g /dev/null
SELECT is_empty($$SELECT event_type, v.* FROM assistant_architect_events, pev_validate(event_type::text, event_data) v$$,
  'the events are such as would be emitted');

\set executionId 101

PREPARE timeline AS
SELECT
  id,
  execution_id,
  event_type,
  event_data,
  created_at
FROM assistant_architect_events
WHERE execution_id = :executionId
ORDER BY created_at ASC;

PREPARE retrieval AS
-- Find all prompts that used knowledge retrieval
SELECT event_data->>'promptId' as prompt_id,
       event_data->>'documentsFound' as docs_found
FROM assistant_architect_events
WHERE event_type = 'knowledge-retrieved'::assistant_event_type
  AND execution_id = :executionId;

PREPARE prompt_duration AS
-- Calculate average prompt duration
SELECT AVG((event_data->>'duration')::integer) as avg_duration_ms
FROM assistant_architect_events
WHERE event_type = 'prompt-complete'::assistant_event_type
  AND execution_id = :executionId;

PREPARE execution_time AS
-- Average execution time by tool
SELECT
  start_event.event_data->>'toolName' as tool_name,
  AVG(
    EXTRACT(EPOCH FROM (complete_event.created_at - start_event.created_at)) * 1000
  ) as avg_duration_ms
FROM assistant_architect_events start_event
JOIN assistant_architect_events complete_event
  ON start_event.execution_id = complete_event.execution_id
WHERE start_event.event_type = 'execution-start'::assistant_event_type
  AND complete_event.event_type = 'execution-complete'::assistant_event_type
GROUP BY tool_name;

PREPARE repositories AS
-- Most used repositories
SELECT
  jsonb_array_elements_text(event_data->'repositories') as repository_id,
  COUNT(*) as usage_count
FROM assistant_architect_events
WHERE event_type = 'knowledge-retrieval-start'::assistant_event_type
GROUP BY repository_id
ORDER BY usage_count DESC;

PREPARE error_rate AS
-- Error rate by tool
SELECT
  start_event.event_data->>'toolName' as tool_name,
  COUNT(error_event.id)::float / COUNT(start_event.id) as error_rate
FROM assistant_architect_events start_event
LEFT JOIN assistant_architect_events error_event
  ON start_event.execution_id = error_event.execution_id
  AND error_event.event_type = 'execution-error'::assistant_event_type
WHERE start_event.event_type = 'execution-start'::assistant_event_type
GROUP BY tool_name;

-- The timeline, in the order of the events.
CREATE TEMP TABLE told (n serial, id bigint, execution_id bigint, event_type assistant_event_type, event_data jsonb, created_at timestamptz);
INSERT INTO told (id, execution_id, event_type, event_data, created_at) SELECT id, execution_id, event_type, event_data, created_at FROM pev_events(101);
SELECT results_eq('timeline', 'SELECT id, execution_id, event_type, event_data, created_at FROM told ORDER BY n', 'the timeline is what pev_events() gives');
SELECT results_eq('SELECT event_type::text FROM told ORDER BY created_at',
  ARRAY['execution-start', 'prompt-start', 'knowledge-retrieval-start', 'knowledge-retrieved', 'prompt-complete', 'prompt-start',
    'variable-substitution', 'knowledge-retrieval-start', 'knowledge-retrieved', 'prompt-complete', 'prompt-start', 'prompt-complete',
    'execution-complete'], 'thirteen events, in order');
SELECT set_eq('retrieval', $$VALUES ('1', '5'), ('2', '0')$$, 'prompts that used knowledge retrieval');
SELECT results_eq('prompt_duration', 'SELECT 2000::numeric', 'average prompt duration: (1200 + 1800 + 3000) / 3');
SELECT set_eq('execution_time', $$VALUES ('Lesson Planner', 15000::numeric), ('Essay Coach', 5500), ('Quiz Maker', 1250)$$,
  'average execution time: (10 s + 20 s) / 2; 5.5 s, leaving out what failed or runs; 1.25 s');
SELECT results_eq('repositories', $$VALUES ('7', 3::bigint), ('12', 2), ('30', 1)$$, 'most used repositories');
SELECT set_eq('error_rate', $$VALUES ('Lesson Planner', 1 / 2.0::float), ('Essay Coach', 1 / 3.0::float), ('Quiz Maker', 1.0::float)$$,
  'error rate: 1 in 2, 1 in 3, 2 in 2');

-- The same executions as the view sees them.
SELECT results_eq('SELECT execution_id, status, tokens::int, progress, duration FROM pev_executions WHERE execution_id > 0 ORDER BY 1',
  $$VALUES (101::bigint, 'completed', 3722, 1.0, '10 s'::interval), (102, 'completed', 9, 1, '20 s'), (103, 'failed', NULL, 0, '2 s'),
    (104, 'completed', 1, 1, '5.5 s'), (105, 'running', NULL, 0, NULL), (106, 'completed', 1, 1, '1.25 s')$$, 'pev_executions agrees');

-- What an execution emits by itself answers to the same statements.
\set executionId 200
SELECT pev_emit(200, 'execution-start', '{"totalPrompts": 2, "toolName": "Live"}') \g /dev/null
SELECT pev_emit(200, 'prompt-complete', '{"promptId": 1, "outputTokens": 1, "duration": 10.4, "cached": false}') \g /dev/null
SELECT pev_emit(200, 'prompt-complete', '{"promptId": 2, "outputTokens": 1, "duration": 19.6, "cached": false}') \g /dev/null
SELECT pev_emit(200, 'execution-complete', '{"totalTokens": 2, "duration": 30.25, "success": true}') \g /dev/null
PREPARE live_duration AS
SELECT AVG((event_data->>'duration')::integer) as avg_duration_ms
FROM assistant_architect_events
WHERE event_type = 'prompt-complete'::assistant_event_type
  AND execution_id = :executionId;
SELECT results_eq('live_duration', 'SELECT 15::numeric', 'durations with a fraction do not break the cast to integer');
SELECT results_eq('SELECT event_type::text FROM assistant_architect_events WHERE execution_id = 200 ORDER BY created_at ASC',
  ARRAY['execution-start', 'prompt-complete', 'prompt-complete', 'execution-complete'], 'created_at sorts as the events came');
SELECT ok((SELECT avg_ms >= 0 FROM (SELECT AVG(EXTRACT(EPOCH FROM (c.created_at - s.created_at)) * 1000) AS avg_ms
  FROM assistant_architect_events s JOIN assistant_architect_events c USING (execution_id)
  WHERE execution_id = 200 AND s.event_type = 'execution-start' AND c.event_type = 'execution-complete') x), 'and tells the time taken');

-- The client code of the documentation: a column is eventData there, an array of rows by type here.
SELECT is((SELECT count(*) FROM pev_events(101, 'prompt-start')), 3::bigint, 'events by type');
SELECT is((SELECT (e.event_data->>'timestamp')::timestamptz - (s.event_data->>'timestamp')::timestamptz
  FROM pev_events(101, 'execution-start') s, pev_events(101, 'execution-complete') e), '10 s'::interval, 'the timeline by the stamps in the data');

-- The indexes that it names.
SELECT has_index('public', 'assistant_architect_events', 'assistant_architect_events_event_type_idx', 'event_type', 'an index on event_type');
SELECT has_index('public', 'assistant_architect_events', 'assistant_architect_events_execution_id_seq_key', ARRAY['execution_id', 'seq'], 'an index that begins with execution_id');

-- The rollback that it prints: the extension says what to do instead, and afterwards the statements have nothing left to do.
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  hint text;
BEGIN
  EXECUTE statement;
  RETURN 'ran';
EXCEPTION WHEN dependent_objects_still_exist THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN hint;
END
$$;
SELECT is(refused('DROP TABLE IF EXISTS assistant_architect_events;'), 'You can drop extension pev instead.', 'the table is the extension''s');
SELECT is(refused('DROP TYPE IF EXISTS assistant_event_type;'), 'You can drop extension pev instead.', 'and so is the type');
DROP FUNCTION put;
DEALLOCATE ALL;
DROP TABLE told;
DROP EXTENSION pev;
DROP TABLE IF EXISTS assistant_architect_events;
DROP TYPE IF EXISTS assistant_event_type;
SELECT hasnt_table('assistant_architect_events');
SELECT hasnt_type('assistant_event_type');
SELECT * FROM finish();
