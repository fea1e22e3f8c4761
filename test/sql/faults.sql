-- What is refused, for every type of event: each required field missing, every
-- field of another type, beyond each bound, outside each list of values, in
-- another format, and fields that nobody knows.  The cases are made from the
-- schemas in the catalogue; what comes of each is pinned here.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- What a schema refers to.
CREATE FUNCTION test.resolve(s jsonb, root jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN s ? '$ref' THEN root #> string_to_array(substr(s->>'$ref', 3), '/') ELSE s END
$$;

-- The smallest value that conforms to a schema.
CREATE FUNCTION test.smallest(s jsonb, root jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  result jsonb := '{}';
  name text;
BEGIN
  s := resolve(s, root);
  IF s ? 'const' THEN
    RETURN s->'const';
  ELSIF s ? 'enum' THEN
    RETURN s->'enum'->0;
  END IF;
  CASE coalesce(s->'type'->>0, s->>'type', 'null')
    WHEN 'string' THEN
      RETURN CASE s->>'format'
        WHEN 'date-time' THEN '"2025-06-27T08:00:01Z"'
        WHEN 'uuid' THEN '"e96b74bc-aba8-4837-bb43-237fd687d18b"'
        ELSE '""' END;
    WHEN 'integer', 'number' THEN
      RETURN coalesce(s->'minimum', '0');
    WHEN 'boolean' THEN
      RETURN 'false';
    WHEN 'array' THEN
      RETURN '[]';
    WHEN 'null' THEN
      RETURN 'null';
    WHEN 'object' THEN
      FOR name IN SELECT jsonb_array_elements_text(coalesce(s->'required', s->'anyOf'->0->'required', '[]')) LOOP
        result := result || jsonb_build_object(name, smallest(s->'properties'->name, root));
      END LOOP;
      RETURN result;
  END CASE;
END
$$;

-- Every way to spoil a value at a path: a name for the case, and the whole event.
CREATE FUNCTION test.spoilt(s jsonb, root jsonb, event jsonb, path text[])
RETURNS TABLE (what text, spoilt jsonb) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  here text := '/' || array_to_string(path, '/');
  kind text;
  property record;
  bound numeric;
  step numeric;
BEGIN
  s := resolve(s, root);
  kind := coalesce(s->'type'->>0, s->>'type');
  IF path <> '{}' THEN
    RETURN QUERY SELECT here || ' = ' || v, jsonb_set(event, path, v)
    FROM jsonb_array_elements(CASE
      WHEN s ? 'const' THEN '[null,"other",7]'
      WHEN s ? 'enum' THEN '[null,"other",7,1.5]'
      WHEN jsonb_typeof(s->'type') = 'array' THEN '[null,true,1.5,{}]'
      WHEN s->>'format' = 'date-time' THEN '[null,1760660674,"yesterday","2025-06-27","2025-06-27 08:00:01Z"]'
      WHEN s->>'format' = 'uuid' THEN '[null,1,"e96b74bc","{e96b74bc-aba8-4837-bb43-237fd687d18b}"]'
      WHEN kind = 'string' THEN '[null,1,[]]'
      WHEN kind = 'integer' THEN '[null,1.5,"1"]'
      WHEN kind = 'number' THEN '[null,"1",true]'
      WHEN kind = 'boolean' THEN '[null,0,"true"]'
      WHEN kind = 'array' THEN '[null,{}]'
      WHEN kind = 'object' THEN '[null,[],""]'
      ELSE '[]' END::jsonb) v;
  END IF;
  step := CASE WHEN kind = 'integer' THEN 1 ELSE 0.01 END;
  IF s ? 'minimum' THEN
    bound := s->'minimum';
    RETURN QUERY SELECT here || ' = ' || v, jsonb_set(event, path, to_jsonb(v)) FROM unnest(ARRAY[bound, bound - step]) v;
  END IF;
  IF s ? 'maximum' THEN
    bound := s->'maximum';
    RETURN QUERY SELECT here || ' = ' || v, jsonb_set(event, path, to_jsonb(v)) FROM unnest(ARRAY[bound, bound + step]) v;
  END IF;
  IF kind = 'array' THEN
    event := jsonb_set(event, path, jsonb_build_array(smallest(s->'items', root), smallest(s->'items', root)));
    RETURN QUERY SELECT * FROM spoilt(s->'items', root, event, path || '1'::text);
  ELSIF kind = 'object' THEN
    RETURN QUERY SELECT here || ' has "colour"', jsonb_set(event, path || 'colour'::text, '1');
    FOR property IN SELECT key, value, coalesce(s->'required' ? key, false) AS required
                    FROM jsonb_each(s->'properties') LOOP
      IF property.required THEN
        RETURN QUERY SELECT here || ' lacks ' || property.key, event #- (path || property.key);
      END IF;
      RETURN QUERY SELECT * FROM spoilt(property.value, root,
        jsonb_set(event, path || property.key, smallest(property.value, root)), path || property.key);
    END LOOP;
  END IF;
END
$$;

CREATE TABLE test.outcome AS
SELECT row_number() OVER () AS n, t.family, t.name, c.what, v.path, v.keyword, v.message
FROM pev_event_type t
CROSS JOIN LATERAL (
  SELECT 'smallest' AS what, smallest(t.schema, t.schema) AS event
  UNION ALL
  SELECT * FROM spoilt(t.schema, t.schema, smallest(t.schema, t.schema), '{}')) c
LEFT JOIN LATERAL pev_validate(t.name, c.event) v ON true;

SELECT count(DISTINCT (name, what)) AS cases,
  count(DISTINCT (name, what)) FILTER (WHERE keyword IS NULL) AS accepted FROM test.outcome;

-- The smallest event of every type is valid.
SELECT name, what, path, message FROM test.outcome WHERE what = 'smallest' AND keyword IS NOT NULL;

-- The fault is found where the event was spoilt, or just above for an alternative.
SELECT name, what, path, keyword FROM test.outcome
WHERE keyword <> 'required' AND keyword <> 'additionalProperties' AND keyword <> 'anyOf'
  AND what NOT LIKE '% has "colour"' AND what NOT LIKE replace(path, '_', '\_') || ' = %';

-- What is accepted though a case was meant to spoil it: a value just at a bound, what
-- pev supplies when it is missing, and unknown fields where they are allowed.
SELECT name, what FROM test.outcome WHERE keyword IS NULL AND what <> 'smallest' ORDER BY name, n;

-- Every fault.
SELECT name, what, path, keyword, message FROM test.outcome WHERE keyword IS NOT NULL AND family = 'execution' ORDER BY name, n;
SELECT name, what, path, keyword, message FROM test.outcome WHERE keyword IS NOT NULL AND family = 'pipeline' ORDER BY name, n;
SELECT name, what, path, keyword, message FROM test.outcome WHERE keyword IS NOT NULL AND family = 'channel' ORDER BY name, n;
SELECT name, what, path, keyword, message FROM test.outcome WHERE keyword IS NOT NULL AND family = 'iteration' ORDER BY name, n;
SELECT name, what, path, keyword, message FROM test.outcome WHERE keyword IS NOT NULL AND family = 'agent' ORDER BY name, n;

-- Less what pev supplies, the smallest event is accepted and comes out whole. (An outcome follows its request.)
SET pev.message_id = 'm_1';
SET pev.require_plan = off;
CREATE TABLE test.emitted AS
SELECT t.name, t.family, t.schema, e.event,
  CASE WHEN t.durable THEN pev_emit(CASE t.family
    WHEN 'channel' THEN 'channel:' WHEN 'agent' THEN 'session:'
    ELSE '00000000-0000-4000-8000-' END || CASE WHEN t.name ~ '^tier3' THEN 'approval' ELSE
      lpad(ascii(t.name) || row_number() OVER (ORDER BY t.name)::text, 12, '0') END,
    t.name, e.event) END AS seq
FROM pev_event_type t, LATERAL (
  SELECT coalesce(jsonb_object_agg(key, value) FILTER (WHERE NOT coalesce(t.schema->'properties'->key ? 'x-pev-stamp', false)), '{}') AS event
  FROM jsonb_each(test.smallest(t.schema, t.schema))) e;
RESET pev.message_id;
RESET pev.require_plan;
SELECT count(*), sum(seq) AS stored FROM test.emitted;
SELECT name, k.key AS missing FROM test.emitted m
JOIN assistant_architect_events e ON e.event_type::text = m.name, jsonb_array_elements_text(m.schema->'required') k(key)
WHERE NOT e.event_data ? k.key;
SELECT name, event, event_data FROM test.emitted m JOIN assistant_architect_events e ON e.event_type::text = m.name
WHERE NOT event_data @> event OR (SELECT count(*) FROM jsonb_object_keys(event_data)) <> jsonb_array_length(m.schema->'required');
DROP EXTENSION pev;
