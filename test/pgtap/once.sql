-- pev_emit_once(): the same events under the same key are stored once.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE SCHEMA pev;
CREATE EXTENSION pev SCHEMA pev;
SET search_path = pev, public;
SELECT plan(55);

CREATE FUNCTION steps(VARIADIC n int[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object('currentStep', i, 'totalSteps', 9, 'percentage', i, 'message', 'm')))
  FROM unnest(n) i $$;
CREATE FUNCTION stored(stream text) RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM pev_events(stream) $$;

-- Once.
SELECT is(pev_emit_once('1', 'k', steps(1, 2)), 2::bigint, 'the last number');
SELECT is(pev_emit_once('1', 'k', steps(1, 2)), 2::bigint, 'the same again');
SELECT is(pev_emit_once('0001', 'k', jsonb_pretty(steps(1, 2))::jsonb), 2::bigint, 'however the stream and the events are spelled');
SELECT is(pev_emit_once(1, 'k', steps(1, 2)), 2::bigint, 'by number');
SELECT is(stored('1'), 2::bigint, 'two events');
SELECT is(pev_emit_once('1', 'K', steps(1, 2)), 4::bigint, 'another key is another request');
SELECT is(pev_emit_once('2', 'k', steps(1, 2)), 2::bigint, 'the same key in another stream is');
SELECT is(pev_emit(1, 'progress', steps(3)->0->'data'), 5::bigint, 'something else happens');
SELECT is(pev_emit_once('1', 'k', steps(1, 2)), 2::bigint, 'the first answer stays');
SELECT is(pev_emit_once('E96B74BC-ABA8-4837-BB43-237FD687D18B', 'k', steps(1)), 1::bigint, 'a UUID');
SELECT is(pev_emit_once('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid, 'k', steps(1)), 1::bigint, 'in another spelling');
SELECT is(stored('e96b74bc-aba8-4837-bb43-237fd687d18b'), 1::bigint, 'one event');
SELECT is(pev_emit_once('user:u', 'k', '[{"type": "typing", "data": {"userId": "u", "isTyping": true}}]'), NULL, 'nothing is stored');
SELECT is(pev_emit_once('user:u', 'k', '[{"type": "typing", "data": {"userId": "u", "isTyping": true}}]'), NULL, 'which is the answer again');
SELECT results_eq($$SELECT seq FROM pev_idempotency WHERE stream = 'user:u'$$, ARRAY[NULL::bigint], 'and is remembered');
SELECT is(pev_emit_once('3', 'e', '[]'), NULL, 'no events');

-- Within one transaction.
BEGIN;
SELECT is(pev_emit_once('4', 'k', steps(1)), 1::bigint, 'first');
SELECT is(pev_emit_once('4', 'k', steps(1)), 1::bigint, 'again, before the commit');
ROLLBACK;
SELECT is(pev_emit_once('4', 'k', steps(1, 2)), 2::bigint, 'what is rolled back is forgotten with its events');

-- Other events under the same key.
SELECT throws_ok(format('SELECT pev_emit_once(''1'', ''k'', %L)', e), '22023', 'idempotency key was used for other events', 'other events: ' || left(e::text, 30))
  FROM unnest(ARRAY[steps(1), steps(2, 1), steps(1, 2, 3), '[]', '{}']) e;
SELECT is(stored('1'), 5::bigint, 'nothing was stored');

-- What pev_emit_batch refuses is refused, and the key stays free.
SELECT throws_ok(format('SELECT pev_emit_once(%L, ''r'', %L)', stream, e), state, NULL, state || ' by pev_emit_batch')
  FROM (VALUES ('5', '[{"type": "progress", "data": {}}]'::jsonb, '23514'), ('5', '[{"type": "nothing", "data": {}}]', '22023'), ('5', '{}', '22023'), ('foo:1', steps(1), '42704'),
    ('5', jsonb_build_array(jsonb_build_object('type', 'Error', 'data', jsonb_build_object('message', repeat('x', 300000)))), '54000'), ('a b', steps(1), '22023'), ('99999999999999999999', steps(1), '22003'), ('-5', steps(1), '22023')) v(stream, e, state);
SELECT is_empty($$SELECT FROM pev_idempotency WHERE stream IN ('5', 'foo:1')$$, 'nothing is remembered');
SELECT is(pev_emit_once('5', 'r', '[{"type": "Result", "data": {"summary": "s"}}]'), 1::bigint, 'the key is free, and the stream now closed');
SELECT throws_ok('SELECT pev_emit_once(''5'', ''s'', steps(1))', '55000', 'stream 5 is closed', 'which refuses what is new');
SELECT is(pev_emit_once('5', 'r', '[{"type": "Result", "data": {"summary": "s"}}]'), 1::bigint, 'but not what closed it');

-- Arguments.
SELECT throws_ok(format('SELECT pev_emit_once(''6'', %L, steps(1))', k), '22023', 'invalid idempotency key', 'key: ' || left(k, 10))
  FROM unnest(ARRAY['', ' ', 'a b', E'a\n', E'\n', 'ü', repeat('x', 256)]) k;
SELECT is(pev_emit_once('6', repeat('~', 255), steps(1)), 1::bigint, 'a key of 255 characters');
SELECT throws_ok('SELECT pev_emit_once(NULL::text, ''k'', ''[]'')', '22004', 'stream must not be null', 'stream');
SELECT throws_ok('SELECT pev_emit_once(NULL::uuid, ''k'', ''[]'')', '22004', 'stream must not be null', 'stream');
SELECT throws_ok('SELECT pev_emit_once(1, NULL, ''[]'')', '22004', 'key must not be null', 'key');
SELECT throws_ok('SELECT pev_emit_once(1, ''k'', NULL)', '22004', 'events must not be null', 'events');

-- A day later.
UPDATE pev_idempotency SET created_at = now() - interval '24 hours' WHERE stream = '2';
SELECT is(pev_emit_once('2', 'k', steps(7)), 3::bigint, 'an old key is new, whatever it was used for');
INSERT INTO pev_idempotency (stream, key_hash, request_hash, created_at)
SELECT 'old', sha256(i::text::bytea), '', now() - interval '25 hours' + i * interval '1 s' FROM generate_series(1, 25) i;
DO $$ BEGIN FOR i IN 1..2 LOOP PERFORM pev_emit_once('7', 'new' || i, steps(i)); END LOOP; END $$;
SELECT is((SELECT count(*) FROM pev_idempotency WHERE stream = 'old'), 5::bigint, 'old keys go when new ones come, ten at a time');
DO $$ BEGIN PERFORM pev_emit_once('7', 'new1', steps(1)); END $$;
SELECT is((SELECT count(*) FROM pev_idempotency WHERE stream = 'old'), 5::bigint, 'and not when an answer is asked for again');

-- The caller's rights.
CREATE ROLE pev_test_once;
GRANT USAGE ON SCHEMA pev TO pev_test_once;
SET ROLE pev_test_once;
SELECT throws_ok('SELECT pev_emit_once(8, ''k'', steps(1))', '42501', 'permission denied for table pev_idempotency', 'no right');
RESET ROLE;
GRANT SELECT, INSERT, UPDATE, DELETE ON pev_idempotency TO pev_test_once;
SET ROLE pev_test_once;
SELECT throws_ok('SELECT pev_emit_once(8, ''k'', steps(1))', '42501', 'permission denied for table assistant_architect_events', 'to the keys alone');
RESET ROLE;
GRANT INSERT ON assistant_architect_events TO pev_test_once;
SET ROLE pev_test_once;
SELECT is(pev_emit_once(8, 'k', steps(1)), 1::bigint, 'and to emit');
RESET ROLE;
DROP OWNED BY pev_test_once;
DROP ROLE pev_test_once;
SELECT * FROM finish();
