-- Reading: pev_events(), pev_execution() and pev_executions.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

SELECT count(pev_emit(1, CASE WHEN i % 3 = 0 THEN 'prompt-complete' ELSE 'progress' END,
  CASE WHEN i % 3 = 0 THEN '{"promptId": 1, "outputTokens": 10, "duration": 5, "cached": false}' ELSE step(i) END)) FROM generate_series(1, 10) i;
SELECT pev_emit('channel:general', 'upload_started', '{"jobId": "j"}'), pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b', 'progress', step(1)),
  pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b', 'prompt-complete', '{"promptId": 1, "outputTokens": 10, "duration": 5, "cached": false}');

-- Every spelling of a stream, with a type, a number, both, neither.
CREATE FUNCTION test.seqs(call text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE result bigint[];
BEGIN
  EXECUTE format('SELECT array_agg(seq) FROM %s', call) INTO result;
  RETURN result;
END
$$;
SELECT c, seqs(c) FROM unnest(ARRAY[
  'pev_events(1)', 'pev_events(1::bigint)', 'pev_events(''1'')', 'pev_events(''0001''::text)', 'pev_events(2)', 'pev_events(NULL::bigint)',
  'pev_events(1, ''progress'')', 'pev_events(''1'', ''progress'')', 'pev_events(1, ''Result'')', 'pev_events(1, 7)', 'pev_events(''1'', 7)',
  'pev_events(1, 10)', 'pev_events(1, 0)', 'pev_events(1, -1)', 'pev_events(1, ''progress'', 4)', 'pev_events(''1'', ''prompt-complete'', 4)',
  'pev_events(1, type => ''progress'')', 'pev_events(1, after_seq => 8)', 'pev_events(1, after_seq => 4, type => ''progress'')',
  'pev_events(''channel:general'')', 'pev_events(''channel:nobody'')', 'pev_events(''undeclared:x'')',
  'pev_events(''e96b74bc-aba8-4837-bb43-237fd687d18b'')', 'pev_events(''E96B74BC-aba8-4837-bb43-237fd687d18b''::uuid)',
  'pev_events(''e96b74bc-aba8-4837-bb43-237fd687d18b''::uuid, ''progress'')', 'pev_events(''e96b74bc-aba8-4837-bb43-237fd687d18b''::uuid, 1)',
  'pev_events(''e96b74bc-aba8-4837-bb43-237fd687d18b''::uuid, ''progress'', 1)', 'pev_events(''00000000-0000-0000-0000-000000000000''::uuid)',
  'pev_events(''channel:general'', ''upload_started'')', 'pev_events(''channel:general'', 1)']) c;
SELECT outcome('SELECT seq FROM ' || c) FROM unnest(ARRAY['pev_events(1, ''no-such'')', 'pev_events(''a b'')', 'pev_events(''9223372036854775808'')',
  'pev_events('''')', 'pev_execution(''a b'')']) c;
-- in order, by the index
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM pev_events(1, 3);
RESET enable_seqscan;
RESET enable_bitmapscan;

-- Executions of every family, as far as they have come.
SELECT pev_emit(10, 'execution-start', '{"totalPrompts": 4, "toolName": "t"}');
SELECT status, progress, tokens, events, finished_at IS NULL AS open, duration, last_message FROM pev_execution(10);
SELECT pev_emit(10, 'prompt-complete', '{"promptId": 1, "outputTokens": 100, "duration": 5, "cached": false}');
SELECT status, progress, tokens, events, duration FROM pev_execution(10);
SELECT pev_emit(10, 'prompt-complete', '{"promptId": 2, "outputTokens": 50, "duration": 5, "cached": false}'),
  pev_emit(10, 'execution-error', '{"error": "try again", "recoverable": true}');
SELECT status, progress, tokens, events, duration, last_message FROM pev_execution(10);
SELECT pev_emit(10, 'execution-complete', '{"totalTokens": 170, "duration": 9, "success": true}');
SELECT status, progress, tokens, events, finished_at > started_at AS finished, duration = finished_at - started_at AS duration, last_message FROM pev_execution(10);
SELECT pev_emit(11, 'execution-start', '{"totalPrompts": 2, "toolName": "t"}'), pev_emit(11, 'prompt-complete', '{"promptId": 1, "outputTokens": 7, "duration": 5, "cached": false}'),
  pev_emit(11, 'execution-error', '{"error": "broken", "recoverable": false}');
SELECT pev_emit('pipe', 'PipelineStatus', '{"phase": {"name": "n", "label": "l", "description": "Adding an orb"}, "progress": 0.42, "tokenCount": 374}');
SELECT status, progress, tokens, last_message FROM pev_execution('pipe');
SELECT pev_emit('pipe', 'Error', '{"message": "oops"}'),
  pev_emit('pipe', 'PipelineStatus', '{"phase": {"name": "n", "label": "l", "description": "Back a bit"}, "progress": 0.2, "tokenCount": 400}');
SELECT status, progress, tokens, last_message FROM pev_execution('pipe');
SELECT pev_emit('pipe', 'Result', '{"summary": "Game generated"}');
SELECT pev_plan('counted', '[{"name": "p"}]', '1 hour');
SELECT pev_emit('counted', 'TokenCount', '{"tokenCount": 5}'), pev_emit('counted', 'TokenCount', '{"tokenCount": 6}');
SELECT pev_emit('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0ff', 'StreamingProgressEvent', '{"status": "processing", "stage": "s", "progress": 0.25, "message": "a quarter"}');
SELECT status, progress, tokens, last_message FROM pev_execution('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0ff'::uuid);
SELECT pev_emit('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0ff', 'StreamingProgressEvent', '{"status": "failed", "stage": "s", "progress": 0, "message": "no good"}');
SELECT pev_emit('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0fe', 'StreamingProgressEvent', '{"status": "completed", "stage": "s", "progress": 1.0, "message": "good"}');
SELECT pev_emit('job', 'generation_progress', '{"jobId": "j", "progress": 30, "message": "30 %"}');
SELECT pev_emit('up', 'upload_progress', '{"jobId": "j", "progress": 12.5, "bytesUploaded": 1}');
SELECT pev_emit(12, 'progress', '{"currentStep": 1, "totalSteps": 3, "percentage": 33.333333, "message": "one of three"}');
SELECT pev_emit('agent', 'error', '{"message_id": "m", "error": {"code": "c", "message": "m", "recoverable": true}}');
-- nothing reported yet is NULL, not 0 and not 1
SELECT pev_emit(13, 'tool-execution-start', '{"promptId": 1, "toolName": "t"}');
SELECT pev_emit(14, 'execution-error', '{"error": "broken", "recoverable": false}');
SELECT pev_emit(15, 'execution-start', '{"totalPrompts": 0, "toolName": "t"}');
-- streams of a kind never end and are no executions
SELECT pev_emit('session:s', 'error', '{"message_id": "m", "error": {"code": "c", "message": "m", "recoverable": false}}');
SELECT coalesce(key, execution_id::text) AS execution, status, progress, tokens, events, finished_at IS NOT NULL AS finished, duration IS NOT NULL AS timed, last_message
FROM pev_executions ORDER BY execution_id >= 0, abs(execution_id);
SELECT count(*) FROM pev_execution('session:s');
SELECT execution_id FROM pev_execution(999) UNION ALL SELECT execution_id FROM pev_execution('unused')
UNION ALL SELECT execution_id FROM pev_execution('00000000-0000-0000-0000-000000000000'::uuid);
-- No event that is accepted may break the view for everyone.
SELECT pev_emit(16, 'execution-complete', '{"totalTokens": 1e30, "duration": 1, "success": true}');
SELECT outcome('SELECT count(*) FROM (SELECT * FROM pev_executions OFFSET 0) x WHERE tokens IS NULL OR tokens > 0');
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
VALUES (17, 1, 'progress', '{"percentage": "half"}', '2001-01-01'), (17, 2, 'prompt-complete', '{"outputTokens": null}', '2001-01-02');
SELECT outcome('SELECT count(*) FROM (SELECT * FROM pev_executions OFFSET 0) x WHERE progress IS NULL OR progress >= 0');
DROP EXTENSION pev;
