-- The JSON Schema keywords, one by one, through a scratch type of event.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- Check values against a schema: which conform, and what is wrong with the others.
-- The schema is that of property "v"; "#" is the schema of the event.
CREATE FUNCTION test.try(schema jsonb, VARIADIC instances jsonb[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  instance jsonb;
  faults text;
BEGIN
  UPDATE pev_event_type t SET schema = jsonb_build_object('properties', jsonb_build_object('v', try.schema),
    '$defs', coalesce(try.schema->'$defs', '{}')) WHERE name = 'progress';
  FOREACH instance IN ARRAY instances LOOP
    SELECT string_agg(substr(path, 3) || ' ' || message, '; ') INTO faults
    FROM pev_validate('progress', jsonb_build_object('v', instance));
    IF pev_is_valid('progress', jsonb_build_object('v', instance)) <> (faults IS NULL) THEN
      RAISE EXCEPTION 'pev_is_valid() and pev_validate() differ for %', instance;
    END IF;
    RETURN NEXT left(instance::text, 60) || ' ' || coalesce(':' || faults, 'ok');
  END LOOP;
END
$$;
-- How a schema is refused.
CREATE FUNCTION test.refused(schema jsonb) RETURNS text LANGUAGE sql AS $$
  SELECT outcome(format('UPDATE pev_event_type SET schema = %L WHERE name = ''progress'' RETURNING ''compiles''', schema))
$$;

-- type
SELECT t, try(jsonb_build_object('type', t), 'null', 'true', '"a"', '1', '1.0', '1.5', '-0.0', '1e3', '[]', '{}')
FROM unnest('{"null",boolean,string,integer,number,array,object}'::text[]) t;
SELECT try('{"type": ["string", "null"]}', '"a"', 'null', '1', '[]');
SELECT try('{"type": ["integer", "boolean", "array"]}', '1', '1.5', 'false', '[1]', '{}');
SELECT try('{"type": ["integer", "number"]}', '1', '1.5', '"1"');
SELECT try('{"type": "integer"}', '1.000000000000000000001', '100000000000000000000000', '1e-3');

-- const and enum
SELECT try('{"const": 1}', '1', '1.0', '1.00', '2', '"1"', 'true', 'null', '[1]');
SELECT try('{"const": null}', 'null', '0', 'false', '""', '{}');
SELECT try('{"const": {"a": 1, "b": [1, {"c": null}]}}', '{"b": [1.0, {"c": null}], "a": 1.00}',
  '{"a": 1, "b": [1, {"c": 0}]}', '{"a": 1}', '{"a": 1, "b": [1, {"c": null}], "d": 1}', '[]');
SELECT try('{"const": "é"}', '"é"', '"e"', '"\u00e9"', '"É"');
SELECT try('{"const": []}', '[]', '{}', '[null]', 'null');
SELECT try('{"const": {}}', '[]', '{}', '{"a": 1}');
SELECT try('{"enum": ["a", 1, null, true, [1, 2], {"k": 1}, 0.50]}', '"a"', '1.0', 'null', 'true', '[1, 2.0]',
  '{"k": 1.0}', '0.5', '"b"', '2', 'false', '[2, 1]', '[1]', '{"k": 2}', '{}');

-- numbers
SELECT try('{"minimum": 1.5}', '1.5', '1.50', '1.49999999999999999999', '-2', '"a"', 'null');
SELECT try('{"maximum": 1.5}', '1.5', '1.50', '1.50000000000000000001', '-2', '"a"');
SELECT try('{"exclusiveMinimum": 0}', '0', '0.0', '0.000000000000000000001', '-1', '"a"');
SELECT try('{"exclusiveMaximum": 0}', '0', '-0.0', '-0.000000000000000000001', '1', '"a"');
SELECT try('{"minimum": -1e300, "maximum": 1e300}', '1e300', '-1e300', '1.1e300', '-1e301');
SELECT try('{"multipleOf": 0.1}', '0.3', '1', '0', '-0.7', '0.35', '"a"');
SELECT try('{"multipleOf": 3}', '9', '9.0', '-9', '10', '9.5', '300000000000000000000000000000');

-- strings: lengths are in characters
SELECT try('{"minLength": 2, "maxLength": 3}', '"a"', '"ab"', '"abc"', '"abcd"', '"é"', '"éé"', '"ééé"', '"éééé"',
  '"😀😀😀"', '"😀😀😀😀"', '""', '1', '["a"]');
SELECT try('{"maxLength": 0}', '""', '"a"');
SELECT try('{"minLength": 1}', '""', '"a"');
SELECT try('{"maxLength": 1.0}', '"a"', '"ab"');
SELECT try('{"pattern": "^[a-z]+$"}', '"abc"', '"Abc"', '""', '5');
SELECT try('{"pattern": "b"}', '"abc"', '"ac"', '"a\nb"');
SELECT try('{"pattern": "^\\d{3}$"}', '"123"', '"1234"', '"abc"');
SELECT try('{"pattern": "^é+$"}', '"ééé"', '"e"', to_jsonb(repeat('é', 1000)), to_jsonb(repeat('é', 999) || 'e'));
SELECT try('{"pattern": "^.{255}.$"}', to_jsonb(repeat('a', 256)), to_jsonb(repeat('a', 257)), to_jsonb(repeat('é', 256)));

-- format
SELECT try('{"format": "date-time"}', '"2025-06-27T08:00:01Z"', '"2025-06-27T08:00:01.000Z"', '"2025-06-27t08:00:01z"',
  '"2025-06-27T08:00:01+02:00"', '"2025-06-27T08:00:01.123456789-23:59"', '"0000-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', '1');
SELECT try('{"format": "date-time"}', '"2024-02-29T00:00:00Z"', '"2023-02-29T00:00:00Z"', '"2000-02-29T00:00:00Z"',
  '"1900-02-29T00:00:00Z"', '"2025-04-31T00:00:00Z"', '"2025-00-01T00:00:00Z"', '"2025-13-01T00:00:00Z"', '"2025-01-00T00:00:00Z"');
SELECT try('{"format": "date-time"}', '"2016-12-31T23:59:60Z"', '"2017-01-01T00:59:60+01:00"', '"2016-12-31T18:59:60.5-05:00"',
  '"2016-12-31T22:59:60Z"', '"2016-12-31T23:58:60Z"', '"2016-12-31T23:59:61Z"', '"2016-12-31T23:59:60+01:00"');
SELECT try('{"format": "date-time"}', '""', '"2025-06-27"', '"2025-06-27T08:00:01"', '"2025-06-27 08:00:01Z"', '"2025-06-27T24:00:00Z"',
  '"2025-06-27T08:60:00Z"', '"2025-06-27T08:00Z"', '"2025-06-27T08:00:01.Z"', '"2025-06-27T08:00:01,5Z"', '"2025-06-27T08:00:01+2:00"',
  '"2025-06-27T08:00:01+02"', '"2025-06-27T08:00:01+0200"', '"2025-06-27T08:00:01+24:00"', '"2025-06-27T08:00:01+02:60"',
  '"2025-06-27T08:00:01ZZ"', '"2025-06-27T08:00:01Z\n"', '" 2025-06-27T08:00:01Z"', '"12025-06-27T08:00:01Z"', '"-025-06-27T08:00:01Z"',
  '"2025-6-27T08:00:001Z"', '"２025-06-27T08:00:01Z"');
SELECT try('{"format": "uuid"}', '"e96b74bc-aba8-4837-bb43-237fd687d18b"', '"E96B74BC-ABA8-4837-BB43-237FD687D18B"',
  '"00000000-0000-0000-0000-000000000000"', '"e96b74bcaba84837bb43237fd687d18b"', '"{e96b74bc-aba8-4837-bb43-237fd687d18b}"',
  '"e96b74bc-aba8-4837-bb43-237fd687d18"', '"e96b74bc-aba8-4837-bb43-237fd687d18bb"', '"g96b74bc-aba8-4837-bb43-237fd687d18b"',
  '"e96b74bca-ba8-4837-bb43-237fd687d18b"', '""', 'null');

-- arrays
SELECT try('{"minItems": 1, "maxItems": 2}', '[]', '[1]', '[1, 2]', '[1, 2, 3]', '{}', '"abc"');
SELECT try('{"items": {"type": "integer"}}', '[]', '[1, 2]', '[1, "2", 3.5]', '{"a": "b"}', '[[1]]');
SELECT try('{"items": {"items": {"minimum": 0}}}', '[[1], [], [-1, 2, -3]]');
SELECT try('{"items": false}', '[]', '[1]');
SELECT try('{"items": true}', '[1, "a"]');
SELECT try('{"items": {"const": 1}}', jsonb_agg(CASE WHEN i = 199 THEN 2 ELSE 1 END)) FROM generate_series(0, 200) i;

-- objects
SELECT try('{"minProperties": 1, "maxProperties": 2}', '{}', '{"a": 1}', '{"a": 1, "b": 2}', '{"a": 1, "b": 2, "c": 3}', '[]');
SELECT try('{"properties": {"a": {"type": "string"}, "bb": {"type": "integer"}}, "required": ["bb", "ccc"]}',
  '{"bb": 1, "ccc": null}', '{"a": "x", "bb": 1, "ccc": 1, "dddd": 1}', '{}', '{"a": 1, "bb": "x"}', '{"aa": 1}', '[]');
SELECT try('{"properties": {"a": {}, "b": false}, "additionalProperties": false}', '{}', '{"a": 1}', '{"b": 1}', '{"c": 1, "a": 2}',
  '{"": 1, "aa": 2}');
SELECT try('{"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}', '{"a": "x"}', '{"b": "x", "c": 1, "dd": null}');
SELECT try('{"required": ["b"], "additionalProperties": false}', '{"b": 1}');
SELECT try('{"additionalProperties": true}', '{"b": 1}');
SELECT try('{"additionalProperties": {"additionalProperties": {"type": "boolean"}}}', '{"a": {"b": true}, "c": {"d": 1}, "e": 1}');
SELECT try('{"required": []}', '{}');

-- JSON Pointers name what is wrong, with ~ and / written as ~0 and ~1
SELECT try('{"properties": {"a/b": {"type": "null"}, "m~n": {"type": "null"}, "": {"type": "null"}, " é": {"type": "null"}}}',
  '{"a/b": 1, "m~n": 1, "": 1, " é": 1}');
SELECT try('{"items": {"additionalProperties": {"items": {"type": "null"}}}}', '[0, {"x": [null, 1]}]');

-- alternatives
SELECT try('{"anyOf": [{"type": "string"}, {"minimum": 5}]}', '"a"', '5', '4', 'true');
SELECT try('{"oneOf": [{"type": "integer"}, {"minimum": 5}, {"const": 7.5}]}', '1', '5.5', '6', '7.5', '"a"', '1.5');
SELECT try('{"allOf": [{"minimum": 1}, {"maximum": 3}, {"type": "integer"}]}', '2', '0', '4.5');
SELECT try('{"not": {"type": "string"}}', '1', '"a"');
SELECT try('{"not": {}}', '1');
SELECT try('{"not": {"required": ["a"]}, "anyOf": [true]}', '{}', '{"a": 1}');
SELECT try('{"if": {"properties": {"k": {"const": "a"}}, "required": ["k"]}, "then": {"required": ["x"]}, "else": {"required": ["y"]}}',
  '{"k": "a", "x": 1}', '{"k": "a", "y": 1}', '{"k": "b", "y": 1}', '{"k": "b"}', '{}');
SELECT try('{"if": {"minimum": 5}, "then": {"multipleOf": 5}}', '3', '5', '6');
SELECT try('{"if": {"minimum": 5}, "else": false}', '3', '5');
SELECT try('{"then": false, "else": false}', '1');

-- true and false
SELECT try('true', '1', '{}');
SELECT try('false', '1');
SELECT try('{}', '1');
SELECT try('{"properties": {"a": true, "b": false}}', '{"a": 1}', '{"a": 1, "b": 1}');

-- $ref
SELECT try('{"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}', '1', '"a"');
SELECT try('{"$ref": "#/$defs/n", "maximum": 3, "$defs": {"n": {"type": "integer"}}}', '4', '1.5');
SELECT try('{"items": {"$ref": "#/$defs/a~1b~0c"}, "$defs": {"a/b~c": {"type": "null"}}}', '[null]', '[1]');
SELECT try('{"$ref": "#/$defs/l/anyOf/1", "$defs": {"l": {"anyOf": [{"type": "null"}, {"type": "string"}]}}}', '"a"', 'null');
SELECT try('{"definitions": {"n": {"type": "null"}}, "$ref": "#/properties/v/definitions/n"}', 'null', '1');
-- one that contains itself: a tree, and two that contain each other
SELECT try('{"$ref": "#/$defs/tree", "$defs": {"tree": {"properties": {"value": {"type": "integer"},
  "children": {"items": {"$ref": "#/$defs/tree"}}}, "required": ["value"]}}}',
  '{"value": 1, "children": [{"value": 2, "children": []}, {"value": 3}]}',
  '{"value": 1, "children": [{"value": "2", "children": [{"value": 5}, {}]}]}');
SELECT try('{"$ref": "#/$defs/even", "$defs": {"even": {"items": {"$ref": "#/$defs/odd"}, "maxItems": 2},
  "odd": {"items": {"$ref": "#/$defs/even"}, "minItems": 1}}}', '[]', '[[1]]', '[[], [[]]]', '[[[], []], [[[]]]]');
SELECT try('{"properties": {"w": {"$ref": "#"}}}', '{"w": {"v": {"w": {}}}}');

-- Deeper than the stack allows is an error, not a crash.
CREATE TABLE test.deep (v jsonb);
DO $$
DECLARE v jsonb := '1';
BEGIN
  FOR i IN 1..600 LOOP
    v := jsonb_build_array(v);
  END LOOP;
  INSERT INTO test.deep SELECT jsonb_build_object('v', v);
END
$$;
UPDATE pev_event_type SET schema = '{"properties": {"v": {"$ref": "#/$defs/d"}}, "$defs": {"d": {"items": {"$ref": "#/$defs/d"}}}}'
WHERE name = 'progress';
SELECT pev_is_valid('progress', v) FROM test.deep;
SET max_stack_depth = '100kB';
SELECT pev_is_valid('progress', v) FROM test.deep;
SELECT path FROM test.deep, pev_validate('progress', v);
RESET max_stack_depth;
-- So is a schema that is.
DO $$
DECLARE s jsonb := '{"minimum": 1}';
BEGIN
  FOR i IN 1..600 LOOP
    s := jsonb_build_object('not', s);
  END LOOP;
  SET LOCAL max_stack_depth = '100kB';
  UPDATE pev_event_type SET schema = s WHERE name = 'progress';
EXCEPTION WHEN statement_too_complex THEN
  RAISE NOTICE 'refused: %', SQLERRM;
END
$$;

-- Schemas that are refused, and where
SELECT k, refused(jsonb_build_object(k, 1)) FROM unnest('{patternProperties,dependentRequired,contains,uniqueItems,prefixItems,
  unevaluatedProperties,propertyNames,dependencies,additionalItems,$anchor,$dynamicRef,contentEncoding,Type,minimun,""}'::text[]) k;
SELECT refused('{"properties": {"a": {"items": {"anyOf": [true, {"minLenght": 1}]}}}}');
SELECT refused('{"properties": {"a/b": {"m~n": 1}}}');
SELECT refused('{"properties": {"a/b": {"properties": {"m~n": {"foo": 1}}}}}');
SELECT refused('{"$defs": {"unused": {"foo": 1}}}');
SELECT refused('{"additionalProperties": {"foo": 1}}');
SELECT refused('{"if": {"foo": 1}}');
SELECT refused('{"if": true, "then": {"foo": 1}}');
SELECT refused('{"then": {"foo": 1}}');
SELECT refused('{"not": {"foo": 1}}');
SELECT refused('{"type": "object", "x-note": {"foo": 1}, "x-y": null}');
SELECT refused('{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "$comment": "c", "title": "t",
  "description": "d", "default": {"foo": 1}, "deprecated": true, "readOnly": true, "writeOnly": false, "examples": [{"foo": 1}]}');
SELECT refused('{"type": "text"}');
SELECT refused('{"type": 1}');
SELECT refused('{"type": ["string", "text"]}');
SELECT refused('{"type": []}');
SELECT refused('{"enum": []}');
SELECT refused('{"enum": {"a": 1}}');
SELECT k, refused(jsonb_build_object(k, v)) FROM unnest('{minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf}'::text[]) k,
  unnest('{"\"1\"",null,true}'::jsonb[]) v;
SELECT refused('{"multipleOf": 0}'), refused('{"multipleOf": -1}');
SELECT k, v, refused(jsonb_build_object(k, v)) FROM unnest('{minLength,maxLength,minItems,maxItems,minProperties,maxProperties}'::text[]) k,
  unnest('{"\"1\"",-1,1.5,1e10}'::jsonb[]) v;
SELECT refused('{"pattern": 1}');
SELECT refused('{"properties": {"a": {"pattern": "(a"}}}');
SELECT refused('{"format": 1}'), refused('{"format": "email"}');
SELECT refused('{"items": [true]}'), refused('{"items": 1}');
SELECT refused('{"properties": []}'), refused('{"properties": {"a": 1}}');
SELECT refused('{"required": "a"}'), refused('{"required": [1]}'), refused('{"required": {"a": 1}}');
SELECT refused('{"additionalProperties": 1}');
SELECT k, refused(jsonb_build_object(k, v)) FROM unnest('{anyOf,oneOf,allOf}'::text[]) k, unnest(ARRAY['[]', '{}', '[1]']::jsonb[]) v;
SELECT refused('{"not": 1}'), refused('{"if": 1}');
SELECT refused('{"$defs": []}'), refused('{"definitions": {"a": "b"}}');
SELECT refused('{"$ref": 1}'), refused('{"$ref": "#/$defs/no"}'), refused('{"$ref": "other.json"}'), refused('{"$ref": ""}');
SELECT refused('{"$ref": "#"}');
SELECT refused('{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [true, {"$ref": "#/$defs/a"}]}}}');
SELECT refused('{"anyOf": [{"$ref": "#"}, true]}');
SELECT refused('{"if": {"$ref": "#"}}');
SELECT refused('[]'), refused('1'), refused('"a"'), refused('null');
SELECT refused('true'), refused('{}');
SELECT refused(jsonb_build_object('enum', (SELECT jsonb_agg(i) FROM generate_series(1, 10000) i)));
SELECT refused(jsonb_build_object('enum', (SELECT jsonb_agg(i) FROM generate_series(1, 10001) i)));
-- what pev supplies and rounds
SELECT refused('{"properties": {"a": {"x-pev-stamp": "now"}}}'), refused('{"properties": {"a": {"x-pev-stamp": 1}}}');
SELECT r, refused(jsonb_build_object('properties', jsonb_build_object('a', jsonb_build_object('x-pev-round', r))))
FROM unnest('{-1,0,9,10,0.5,"\"1\"",1e100}'::jsonb[]) r;
SELECT refused('{"x-pev-stamp": "timestamp"}');
SELECT refused('{"properties": {"a": {"properties": {"b": {"x-pev-stamp": "timestamp"}}}}}');
SELECT refused('{"properties": {"a": {"items": {"x-pev-round": 1}}}}');
SELECT refused(jsonb_build_object('properties', (SELECT jsonb_object_agg('p' || i, '{"x-pev-round": 1}'::jsonb) FROM generate_series(1, 64) i)));
SELECT refused(jsonb_build_object('properties', (SELECT jsonb_object_agg('p' || i, '{"x-pev-round": 1}'::jsonb) FROM generate_series(1, 65) i)));

-- An error names ten faults and counts the rest; pev_validate() gives them all.
UPDATE pev_event_type SET schema = '{"additionalProperties": {"type": "integer"}}' WHERE name = 'progress';
SELECT n, outcome(format('SELECT pev_emit(1, ''progress'', %L)', (SELECT jsonb_object_agg('p' || i, 'x') FROM generate_series(1, n) i)))
FROM unnest('{1,2,10,11,12,100}'::int[]) n;
SELECT count(*), min(path), max(path) FROM pev_validate('progress', (SELECT jsonb_object_agg('p' || i, 'x') FROM generate_series(1, 100) i));
SELECT count(*) FROM pev_validate('progress', (SELECT jsonb_object_agg('p' || i, 'x') FROM generate_series(1, 1500) i));
-- No message quotes the event.
SELECT outcome($$SELECT pev_emit(1, 'progress', '{"secret": "hunter2"}')$$);
DROP EXTENSION pev;
