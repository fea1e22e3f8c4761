-- What pev supplies when the caller left it out, and what it rounds.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- Each source.  What it supplies is checked by its form, since it differs each time.
CREATE FUNCTION test.last_event(stream bigint) RETURNS jsonb LANGUAGE sql AS
  'SELECT event_data FROM assistant_architect_events WHERE execution_id = stream ORDER BY seq DESC LIMIT 1';
BEGIN;
SELECT clock_timestamp() AS before \gset
SELECT pev_emit(1, 'execution-start', '{"totalPrompts": 1, "toolName": "t"}');
SELECT d - '{timestamp,eventId}'::text[] AS rest,
  d->>'timestamp' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$' AS iso,
  (d->>'timestamp')::timestamptz BETWEEN date_trunc('milliseconds', :'before'::timestamptz) AND clock_timestamp() AS now,
  d->>'eventId' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' AS version_7,
  to_timestamp(('x' || translate(left(d->>'eventId', 13), '-', ''))::bit(48)::bigint / 1000.0)
    BETWEEN date_trunc('milliseconds', :'before'::timestamptz) AND clock_timestamp() AS id_now
FROM last_event(1) d;
COMMIT;
SELECT pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, 'StreamingProgressEvent',
  '{"status": "processing", "stage": "s", "progress": 0.1, "message": "m"}');
SELECT d - 'timestamp' AS rest, jsonb_typeof(d->'timestamp'), scale((d->'timestamp')::numeric),
  (d->'timestamp')::numeric BETWEEN extract(epoch FROM :'before'::timestamptz) - 0.001
    AND extract(epoch FROM clock_timestamp()) AS now
FROM last_event(pev_stream_id('e96b74bc-aba8-4837-bb43-237fd687d18b')) d;
-- a time zone has no effect
SET TimeZone = 'Asia/Kathmandu';
SELECT pev_emit(2, 'execution-start', '{"totalPrompts": 1, "toolName": "t"}');
SELECT abs(extract(epoch FROM (d->>'timestamp')::timestamptz - clock_timestamp())) < 60 AS utc FROM last_event(2) d;
RESET TimeZone;

-- The stream: its number, its key, its key less the prefix.
SELECT pev_emit('session:a:b', 'llm_token', '{"message_id": "m", "text": "t"}');
SELECT last_event(pev_stream_id('session:a:b'));
SELECT pev_emit('some-word', 'llm_token', '{"message_id": "m", "text": "t"}');
SELECT last_event(pev_stream_id('some-word'));
SELECT pev_emit(9223372036854775807, 'llm_token', '{"message_id": "m", "text": "t"}');
SELECT last_event(9223372036854775807);
SELECT pev_emit(0, 'execution-start', '{"totalPrompts": 1, "toolName": "t"}');
SELECT last_event(0)->'executionId';
SELECT pev_emit('some-word', 'execution-start', '{"totalPrompts": 1, "toolName": "t"}');
SELECT last_event(pev_stream_id('some-word'))->'executionId' = to_jsonb(pev_stream_id('some-word')) AS number_of_key;
-- a key that is no UUID cannot stand for one
SELECT outcome($$SELECT pev_emit('some-word', 'StreamingProgressEvent', '{"status": "processing", "stage": "s", "progress": 0.1, "message": "m"}')$$);

-- pev.message_id is supplied while it is set.
SELECT outcome($$SELECT pev_emit('session:m', 'llm_token', '{"text": "t"}')$$);
SET pev.message_id = 'msg_é"1';
SELECT pev_emit('session:m', 'llm_token', '{"text": "t"}');
SELECT last_event(pev_stream_id('session:m'));
SELECT pev_emit('session:m', 'llm_token', '{"text": "t", "message_id": "own"}');
SELECT last_event(pev_stream_id('session:m'))->'message_id';
BEGIN;
SET LOCAL pev.message_id = 'msg_2';
SELECT pev_emit('session:m', 'otr_blocked', '{"otr_blocked": {"reason": "r"}}');
COMMIT;
SELECT pev_emit('session:m', 'otr_blocked', '{"otr_blocked": {"reason": "r"}}');
SELECT seq, event_data->>'message_id' FROM pev_events('session:m');
SET pev.message_id = '';
SELECT outcome($$SELECT pev_emit('session:m', 'llm_token', '{"text": "t"}')$$);
RESET pev.message_id;

-- What the caller gives is never replaced, right or wrong.
SELECT pev_emit(3, 'execution-start',
  '{"executionId": 77, "totalPrompts": 1, "toolName": "t", "timestamp": "2001-01-01T00:00:00+05:45", "eventId": "mine"}');
SELECT last_event(3);
SELECT outcome(format('SELECT pev_emit(3, ''PipelineStatus'', %L)', d)) FROM (VALUES
  ('{"type": "Result", "phase": {"name": "n", "label": "l", "description": "d"}, "progress": 0, "tokenCount": 0}'),
  ('{"timestamp": null, "phase": {"name": "n", "label": "l", "description": "d"}, "progress": 0, "tokenCount": 0}')) AS v(d);

-- Rounding: to two decimals, half away from zero; what has no more decimals is left as it is spelt.
CREATE FUNCTION test.rounded(given text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pev_emit(4, 'PipelineStatus', jsonb_build_object('phase',
    '{"name": "n", "label": "l", "description": "d"}'::jsonb, 'progress', given::jsonb, 'tokenCount', 0));
  RETURN (SELECT last_event(4)->>'progress');
EXCEPTION WHEN check_violation THEN
  RETURN 'refused';
END
$$;
SELECT given, rounded(given) FROM unnest('{0,1,1.0,0.4,0.42,0.420,0.424,0.425,0.4249999999,0.435,0.995,0.004,0.005,1e-9,
  0.123456789012345678901234567890,1.00,1.004,1.005,1.01,-0.004,-0.005,-0.01,"\"0.425\"","null"}'::text[]) given;
CREATE FUNCTION test.whole(given text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pev_emit(5, 'prompt-complete', jsonb_build_object('promptId', 1, 'outputTokens', 1, 'cached', false, 'duration', given::jsonb));
  RETURN (SELECT last_event(5)->>'duration');
EXCEPTION WHEN check_violation THEN
  RETURN 'refused';
END
$$;
SELECT given, whole(given) FROM unnest('{0,12,12.0,12.3,12.5,12.7,13.5,-0.4,-0.5,-12.5,0.49999999999999999,1e3,
  12345678901234567890.5,"\"12\""}'::text[]) given;
-- A number elsewhere keeps every digit.
SELECT pev_emit(6, 'progress', '{"currentStep": 1, "totalSteps": 2, "percentage": 33.333333333333333333333, "message": "m",
  "extra": [1.10, {"n": 1.2345678901234567890123456789e30}, -0.0001]}');
SELECT d->'percentage' AS percentage, d->'extra' AS extra FROM last_event(6) d;

-- Identifiers sort as they were made: by the millisecond at least.
SELECT pev_emit(7, 'progress', test.step(i)) FROM generate_series(1, 300) i OFFSET 299;
SELECT count(DISTINCT event_data->>'eventId') AS ids,
  count(*) FILTER (WHERE left(event_data->>'eventId', 13) COLLATE "C" < left(before, 13)) AS out_of_order
FROM (SELECT event_data, lag(event_data->>'eventId') OVER (ORDER BY seq) COLLATE "C" AS before FROM pev_events(7)) e;

-- What is stored is what || and a full parse would make of it, byte for byte,
-- whatever the number, the length and the type of the keys around those supplied.
CREATE FUNCTION test.member(i int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT ('["t", "größe 😀", "", 1, -2.50, 1e40, true, false, null, {}, [], {"a": {"b": [1, 2, {"c": "d"}]}},
    [[[["x"]]], 1.5, null], "a\"b\\c/d\u0001\n", 0, {"k1": 1, "k2": "v", "k3": [true]}]'::jsonb)->(i % 16)
$$;
CREATE FUNCTION test.key(i int, form int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE form WHEN 0 THEN 'k' || i WHEN 1 THEN repeat(chr(97 + i % 26), 1 + i % 17) || i
    WHEN 2 THEN 'zzzzzzzzzzzz' || i ELSE repeat('é', i % 5) || i END
$$;
CREATE TABLE test.wide AS
SELECT row_number() OVER () + 1000 AS stream, form, n,
  '{"currentStep": 1, "totalSteps": 2, "percentage": 1.5, "message": "m"}'::jsonb ||
  coalesce((SELECT jsonb_object_agg(key(i, form), member(i + n)) FROM generate_series(1, n) i), '{}') AS given
FROM generate_series(0, 3) form, unnest('{0,1,2,3,5,8,9,10,11,12,13,14,24,25,26,27,28,29,30,31,32,33,34,55,58,59,60,61,62,63,64,65,66,
  90,100,124,125,126,127,128,129,200}'::int[]) n;
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) SELECT stream, 'progress', given FROM test.wide;
SELECT count(*) AS documents, max(n) AS keys,
  bool_and(record_image_eq(ROW(e.event_data), ROW(e.event_data::text::jsonb))) AS same_bytes,
  bool_and(e.event_data = w.given || jsonb_build_object('timestamp', e.event_data->'timestamp', 'eventId', e.event_data->'eventId')) AS same,
  bool_and(e.event_data - 'timestamp' - 'eventId' = w.given) AS nothing_else,
  bool_and(e.event_data->>'message' = 'm' AND e.event_data ? 'eventId') AS readable
FROM test.wide w JOIN assistant_architect_events e ON e.execution_id = w.stream;
-- The same with five numbers replaced and seven members added, at all places.
UPDATE pev_event_type SET schema = '{"properties": {
  "a": {"x-pev-stamp": "uuid-v7"}, "k5": {"x-pev-round": 0}, "k4": {"x-pev-round": 1}, "k20": {"x-pev-round": 0},
  "k36": {"x-pev-round": 1}, "k52": {"x-pev-round": 1}, "k1000": {"x-pev-stamp": "type"}, "k0": {"x-pev-stamp": "stream-id"},
  "middle": {"x-pev-stamp": "timestamp"}, "zz": {"x-pev-stamp": "unix-time"}, "": {"x-pev-stamp": "stream-name"},
  "the longest of all keys": {"x-pev-stamp": "timestamp"}}}' WHERE name = 'progress';
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) SELECT stream + 1000, 'progress', given FROM test.wide;
SELECT count(*),
  bool_and(record_image_eq(ROW(e.event_data), ROW(e.event_data::text::jsonb))) AS same_bytes,
  bool_and(e.event_data @> '{"k1000": "progress"}' AND e.event_data->'k0' = to_jsonb(e.execution_id)
    AND e.event_data->>'' = e.execution_id::text) AS supplied,
  bool_and((SELECT count(*) FROM jsonb_object_keys(e.event_data)) = (SELECT count(*) FROM jsonb_object_keys(w.given)) + 7) AS seven_more,
  count(*) FILTER (WHERE NOT e.event_data @> w.given) AS rounded,
  bool_and(w.given = (SELECT jsonb_object_agg(g.key, CASE WHEN g.key IN ('k5', 'k4', 'k20', 'k36', 'k52') THEN g.value
    ELSE e.event_data->g.key END) FROM jsonb_each(w.given) g)) AS others_untouched
FROM test.wide w JOIN assistant_architect_events e ON e.execution_id = w.stream + 1000;

-- Little or nothing given.
UPDATE pev_event_type SET schema = '{"properties": {"a": {"x-pev-stamp": "type"}}}' WHERE name = 'progress';
SELECT pev_emit(8, 'progress', '{}');
SELECT last_event(8);
SELECT pev_emit(8, 'progress', '{"b": {}}');
SELECT last_event(8);
SELECT pev_emit(8, 'progress', '{"a": {}}');
SELECT last_event(8);
SELECT outcome(format('SELECT pev_emit(8, ''progress'', %L)', d)) FROM unnest('{[],"\"a\"",1,"null","[{}]"}'::text[]) d;
SELECT * FROM disorder();
DROP EXTENSION pev;
