-- The catalogue: every event type, how it is handled and what fields it has.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

SELECT count(*) FROM pev_event_type;
SELECT name, family, terminal_when, durable, global, priority, max_bytes FROM pev_event_type
ORDER BY array_position('{execution,pipeline,channel,iteration,agent}', family), name;

-- The enum and the catalogue name the same types.
SELECT label, name FROM unnest(enum_range(NULL::assistant_event_type)) label
FULL JOIN pev_event_type ON name = label::text WHERE label IS NULL OR name IS NULL;
SELECT count(*) FROM pev_event_type WHERE builtin;
SELECT name FROM pev_event_type WHERE description = '' OR description IS NULL;

-- Every field: its type, "?" if it may be missing, bounds, and what pev supplies (=) or rounds (~).
CREATE FUNCTION test.kind(s jsonb) RETURNS text LANGUAGE sql AS $$
  SELECT concat_ws(' ',
    coalesce(s->>'$ref', 'const ' || (s->'const')::text, 'enum ' || (s->'enum')::text,
             CASE jsonb_typeof(s->'type') WHEN 'string' THEN s->>'type' ELSE (s->'type')::text END, 'any'),
    CASE WHEN s ? 'items' THEN 'of ' || test.kind(s->'items') END,
    CASE WHEN s->'additionalProperties' = 'false' THEN 'strict'
         WHEN s ? 'additionalProperties' THEN 'others ' || test.kind(s->'additionalProperties') END,
    'format ' || (s->>'format'), '>= ' || (s->>'minimum'), '<= ' || (s->>'maximum'),
    '= ' || (s->>'x-pev-stamp'), '~ ' || (s->>'x-pev-round'), 'anyOf ' || (s->'anyOf')::text)
$$;
WITH RECURSIVE field AS (
  SELECT name AS type, family, '' AS path, schema AS s, false AS required FROM pev_event_type
  UNION ALL
  SELECT f.type, f.family, f.path || sub.segment, sub.s, sub.required
  FROM field f CROSS JOIN LATERAL (
    SELECT '.' || p.key AS segment, p.value AS s, coalesce(f.s->'required' ? p.key, false) AS required
    FROM jsonb_each(f.s->'properties') p
    UNION ALL
    SELECT '#' || d.key, d.value, true FROM jsonb_each(f.s->'$defs') d) sub
)
SELECT type || path || CASE WHEN required OR path = '' THEN '' ELSE '?' END || ': ' || kind(s)
FROM field
ORDER BY array_position('{execution,pipeline,channel,iteration,agent}', family), type COLLATE "C",
  path COLLATE "C";

-- The kinds of keyed streams.
SELECT * FROM pev_stream_kind ORDER BY prefix;

-- Which events close their stream.
SELECT t.type, d.data, pev_is_terminal(t.type::assistant_event_type, d.data)
FROM (VALUES ('execution-complete', '{}'), ('Result', '{}'),
  ('execution-error', '{"recoverable": true}'), ('execution-error', '{"recoverable": false}'),
  ('execution-error', '{}'), ('StreamingProgressEvent', '{"status": "processing"}'),
  ('StreamingProgressEvent', '{"status": "completed"}'), ('StreamingProgressEvent', '{"status": "failed"}'),
  ('Error', '{}'), ('error', '{"error": {"recoverable": false}}'), ('response_complete', '{}'),
  ('generation_complete', '{}'), ('execution-start', '{}')) AS t(type, json),
  LATERAL (SELECT json::jsonb AS data) d;
SELECT name FROM pev_event_type WHERE terminal_when IS NOT NULL ORDER BY name;

-- A row of the catalogue must make sense.
SELECT outcome($$INSERT INTO pev_event_type (name, family, description, schema) VALUES ('no-such', 'x', 'x', '{}')$$);
SELECT outcome($$UPDATE pev_event_type SET name = 'a b' WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET family = 'A b' WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET schema = NULL WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET priority = 'urgent' WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET max_bytes = 1 WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET max_bytes = 268435456 WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET global = true WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET durable = false WHERE name = 'Result'$$);
SELECT outcome($$UPDATE pev_event_type SET max_bytes = 7001 WHERE name = 'typing'$$);
SELECT outcome($$UPDATE pev_event_type SET schema = '{"type": "object", "maxage": 3}' WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_event_type SET terminal_when = '{"konst": 1}' WHERE name = 'progress'$$);
SELECT outcome($$UPDATE pev_stream_kind SET prefix = 'a:b' WHERE prefix = 'user'$$);

-- A change of the catalogue holds from the next statement on, and not after a rollback.
BEGIN;
UPDATE pev_event_type SET schema = '{"required": ["colour"]}' WHERE name = 'progress';
SELECT * FROM pev_validate('progress', '{}');
SAVEPOINT s;
UPDATE pev_event_type SET schema = 'true' WHERE name = 'progress';
SELECT * FROM pev_validate('progress', '{}');
ROLLBACK TO s;
SELECT * FROM pev_validate('progress', '{}');
ROLLBACK;
SELECT * FROM pev_validate('progress', '{}');
UPDATE pev_event_type SET max_bytes = 60 WHERE name = 'progress';
SELECT * FROM pev_validate('progress', step(1));
SELECT pev_is_valid('progress', step(1));
-- Types are neither removed nor renamed: events of them may be stored.
SELECT outcome('DELETE FROM pev_event_type WHERE name = ''progress'' RETURNING 1');
SELECT outcome('UPDATE pev_event_type SET name = ''Result'' WHERE name = ''progress'' RETURNING 1');
SELECT outcome('TRUNCATE pev_event_type');
-- Nor added, as their events could not be restored from a dump.
BEGIN;
ALTER TYPE assistant_event_type ADD VALUE 'mine';
SELECT outcome('INSERT INTO pev_event_type (name, family, description, schema) VALUES (''mine'', ''own'', ''d'', ''{}'')');
ROLLBACK;
SELECT count(*) FROM pev_event_type;
DROP EXTENSION pev;
