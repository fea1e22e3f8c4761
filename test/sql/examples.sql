-- Every example of the documents that the event types come from is accepted and
-- stored field for field.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- A JSON document a line; no character is special.
CREATE TABLE test.example (n serial, family text, document jsonb);
\copy test.example (document) FROM PROGRAM 'cat "${PG_ABS_SRCDIR:-test}/fixtures/execution.jsonl"' (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
UPDATE test.example SET family = 'execution' WHERE family IS NULL;
\copy test.example (document) FROM PROGRAM 'cat "${PG_ABS_SRCDIR:-test}/fixtures/pipeline.jsonl"' (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
UPDATE test.example SET family = 'pipeline' WHERE family IS NULL;
\copy test.example (document) FROM PROGRAM 'cat "${PG_ABS_SRCDIR:-test}/fixtures/channel.jsonl"' (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
UPDATE test.example SET family = 'channel' WHERE family IS NULL;
\copy test.example (document) FROM PROGRAM 'cat "${PG_ABS_SRCDIR:-test}/fixtures/iteration.jsonl"' (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
UPDATE test.example SET family = 'iteration' WHERE family IS NULL;
\copy test.example (document) FROM PROGRAM 'cat "${PG_ABS_SRCDIR:-test}/fixtures/iteration-failed.jsonl"' (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
UPDATE test.example SET family = 'iteration-failed' WHERE family IS NULL;
\copy test.example (document) FROM PROGRAM 'cat "${PG_ABS_SRCDIR:-test}/fixtures/agent.jsonl"' (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
UPDATE test.example SET family = 'agent' WHERE family IS NULL;
SELECT family, count(*) FROM test.example GROUP BY family ORDER BY min(n);

-- Every type has an example.
SELECT name FROM pev_event_type
WHERE name NOT IN (SELECT document->>'type' FROM test.example) ORDER BY name;

-- None has a fault.
SELECT e.n, e.document->>'type' AS type, v.*
FROM test.example e, pev_validate(document->>'type', document->'data') v ORDER BY e.n;

-- Emitted in their order, each family into a stream that carries it; what an orchestrator emits too, which pev is not here.
SET pev.require_plan = off;
ALTER TABLE test.example ADD stream text, ADD seq bigint;
UPDATE test.example SET stream = CASE family
  WHEN 'execution' THEN '42'
  WHEN 'pipeline' THEN 'pipeline-1'
  WHEN 'channel' THEN 'user:u_abc123'
  WHEN 'iteration' THEN 'e96b74bc-aba8-4837-bb43-237fd687d18b'
  WHEN 'iteration-failed' THEN '43'
  WHEN 'agent' THEN 'session:s_1' END;
DO $$
DECLARE e test.example;
BEGIN
  FOR e IN SELECT * FROM test.example ORDER BY n LOOP
    UPDATE test.example SET seq = pev_emit(e.stream, e.document->>'type', e.document->'data') WHERE n = e.n;
  END LOOP;
END
$$;
SELECT family, count(seq) AS stored, min(seq), max(seq) FROM test.example GROUP BY family ORDER BY min(n);

-- What is stored is the example and nothing else, down to the spelling of its numbers.
SELECT e.document->>'type' AS type, e.document->'data' AS given, s.event_data AS stored
FROM test.example e JOIN assistant_architect_events s
  ON s.execution_id = pev_stream_id(e.stream) AND s.seq = e.seq
WHERE s.event_data::text IS DISTINCT FROM (e.document->'data')::text
   OR s.event_type::text IS DISTINCT FROM e.document->>'type';
-- Not stored are these, and these alone.
SELECT document->>'type' AS not_stored FROM test.example WHERE seq IS NULL ORDER BY n;

-- Examples given as people write them at first, without what pev supplies.
SELECT pev_emit(44, 'execution-start', '{"totalPrompts": 3, "toolName": "Lesson Planner"}');
SELECT pev_emit('session:s_2', 'llm_token', '{"message_id": "m_2", "text": "Hel"}');
SELECT pev_emit('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0ff'::uuid, 'StreamingProgressEvent',
  '{"status": "processing", "stage": "initializing", "progress": 0.1, "message": "Starting"}');
SELECT event_data - 'timestamp' - 'eventId' AS stamped, event_data ? 'timestamp' AS timestamp,
  event_data ? 'eventId' AS event_id
FROM pev_events(44) UNION ALL
SELECT event_data - 'timestamp' - 'eventId', event_data ? 'timestamp', event_data ? 'eventId'
FROM pev_events('session:s_2') UNION ALL
SELECT event_data - 'timestamp' - 'eventId', event_data ? 'timestamp', event_data ? 'eventId'
FROM pev_events('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0ff'::uuid);

-- How the runs end.
SELECT pev_stream_id(stream) AS id, status, progress, events, last_message
FROM (SELECT DISTINCT stream, family FROM test.example) s, pev_execution(s.stream) ORDER BY family;
SELECT outcome(format('SELECT pev_emit(%L, %L, %L)', stream, document->>'type', document->'data'))
FROM test.example WHERE n IN (SELECT max(n) FROM test.example GROUP BY family) ORDER BY n;
SELECT * FROM disorder();
DROP EXTENSION pev;
