-- Streams that are named: keys, their forms, their kinds.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- What a key is taken for: a number, or the form in which it is known.
CREATE FUNCTION test.parsed(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE p record;
BEGIN
  SELECT * INTO p FROM pev_stream_key_parse(key);
  RETURN coalesce('number ' || p.id, 'key ' || p.canonical);
EXCEPTION WHEN OTHERS THEN
  RETURN sqlstate || ': ' || sqlerrm;
END
$$;
SELECT k, parsed(k) FROM unnest(ARRAY['0', '42', '007', '00000000000000000000000000000000000000000000007', '9223372036854775807',
  '9223372036854775808', repeat('9', 200), '١٢']) k;
SELECT k, parsed(k) FROM unnest(ARRAY['e96b74bc-aba8-4837-bb43-237fd687d18b', 'E96B74BC-ABA8-4837-BB43-237FD687D18B',
  'e96b74bc-ABA8-4837-bb43-237fd687d18B', '00000000-0000-0000-0000-000000000000', 'E96B74BCABA84837BB43237FD687D18B',
  'E96B74BC-ABA8-4837-BB43-237FD687D18', 'user:E96B74BC-ABA8-4837-BB43-237FD687D18B', 'G96B74BC-ABA8-4837-BB43-237FD687D18B',
  'E96B74BC-ABA8-4837-BB43-237FD687D18B0']) k;
SELECT k, parsed(k) FROM unnest(ARRAY['a', 'A', '_', 'ä', '日本', '1a', '1-2', '-1', '+1', '.a', 'a.b', 'a-b', 'a_b', 'a@b.c', 'a+b', 'a~b', 'a=b',
  'a:', ':a', ':', 'a:b', 'a:b:c', 'a::b', 'a:-', 'user:u_1', 'word', 'Ann', '1:2', 'ä:b', 'a.b:c']) k;
-- Every byte that ASCII has, as the first and as the second of a key.
SELECT string_agg(chr(i), '' ORDER BY i) FILTER (WHERE parsed(chr(i) || 'a') LIKE 'key %') AS first,
  string_agg(chr(i), '' ORDER BY i) FILTER (WHERE parsed('a' || chr(i) || 'a') LIKE 'key %') AS later,
  count(*) FILTER (WHERE parsed('a' || chr(i) || 'a') LIKE '22023: %') AS refused
FROM generate_series(1, 127) i;
-- Lengths are in bytes.
SELECT n, left(parsed(repeat('a', n)), 60) FROM unnest('{0,1,199,200,201,100000}'::int[]) n;
SELECT n, left(parsed(repeat('ä', n)), 60) FROM unnest('{1,100,101}'::int[]) n;
SELECT left(parsed('user:' || repeat('a', 195)), 40), left(parsed('user:' || repeat('a', 196)), 60);
SELECT parsed(NULL);
SELECT outcome(format('SELECT pev_emit(%L::text, ''progress'', test.step(1))', k)) FROM unnest(ARRAY['', 'a b', 'a/b', ' a', 'a ', E'a\n', '"', 'user:',
  repeat('ä', 101), '9223372036854775808']) k;

-- A key is one stream, whatever its spelling; keyed streams take numbers below zero.
SELECT pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b', 'progress', step(1)), pev_emit('E96B74BC-ABA8-4837-BB43-237FD687D18B', 'progress', step(2)),
  pev_emit('E96B74BC-ABA8-4837-BB43-237FD687D18B'::uuid, 'progress', step(3));
SELECT pev_emit('word', 'progress', step(1)), pev_emit('Word', 'progress', step(1)), pev_emit('wörd', 'progress', step(1)),
  pev_emit('0042', 'progress', step(1)), pev_emit('42', 'progress', step(2)), pev_emit('42a', 'progress', step(1));
SELECT pev_emit('user:u_1', 'upload_started', '{"jobId": "j"}'), pev_emit('user:u_2', 'upload_started', '{"jobId": "j"}'),
  pev_emit('channel:u_1', 'upload_started', '{"jobId": "j"}'), pev_emit('user:u_1', 'upload_started', '{"jobId": "k"}');
SELECT id, key, kind, created_at BETWEEN now() - interval '1 hour' AND now() AS now FROM pev_stream ORDER BY id DESC;
SELECT k, pev_stream_id(k) FROM unnest(ARRAY['word', 'Word', '42', '0', 'user:u_1', 'E96B74BC-ABA8-4837-BB43-237FD687D18B', 'unused', 'user:unused',
  'undeclared:x', NULL]) k;
SELECT pev_stream_id('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid), pev_stream_id('00000000-0000-0000-0000-000000000000'::uuid), pev_stream_id(NULL::uuid);
SELECT outcome(format('SELECT pev_stream_id(%L::text)', k)) FROM unnest(ARRAY['', 'a b', '9223372036854775808', '-1']) k;
SELECT count(*) FROM assistant_architect_events WHERE execution_id = pev_stream_id('user:u_1');
-- A number below zero that no key stands for is refused, one that does is that stream.
SELECT outcome('SELECT pev_emit(-5000, ''progress'', test.step(1))');
SELECT outcome('SELECT pev_emit(-9223372036854775808, ''progress'', test.step(1))');
SELECT pev_emit(pev_stream_id('word'), 'progress', step(2));
SELECT outcome('SELECT pev_emit(pev_stream_id(''user:u_1''), ''progress'', test.step(1))');
SELECT outcome('INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (-5000, ''progress'', test.step(1))');

-- Kinds: declared before use, with the families they carry.
SELECT outcome('SELECT pev_emit(''order:7'', ''progress'', test.step(1))');
SELECT outcome('SELECT pev_emit(''1:2'', ''progress'', test.step(1))');
SELECT pev_register_stream_kind('order', 'one order', '{execution,channel}');
SELECT pev_emit('order:7', 'progress', step(1)), pev_emit('order:7', 'upload_started', '{"jobId": "j"}');
SELECT outcome('SELECT pev_emit(''order:7'', ''Result'', ''{"summary": "s"}'')');
SELECT outcome('SELECT pev_emit(''order:8'', ''Result'', ''{"summary": "s"}'')');
SELECT pev_stream_id('order:8');
SELECT pev_register_stream_kind('any', 'whatever');
SELECT pev_emit('any:1', 'progress', step(1)), pev_emit('any:1', 'upload_started', '{"jobId": "j"}'), pev_emit('any:1', 'Error', '{"message": "m"}');
SELECT pev_register_stream_kind('none', 'nothing', '{}');
SELECT outcome('SELECT pev_emit(''none:1'', ''progress'', test.step(1))');
-- what a kind carries may change
SELECT pev_register_stream_kind('order', 'one order', '{pipeline}');
SELECT outcome('SELECT pev_emit(''order:7'', ''progress'', test.step(2))');
SELECT pev_emit('order:7', 'Error', '{"message": "m"}');
BEGIN;
SELECT pev_register_stream_kind('brief', 'rolled back');
SELECT pev_emit('brief:1', 'progress', step(1));
ROLLBACK;
SELECT outcome('SELECT pev_emit(''brief:1'', ''progress'', test.step(1))');
SELECT outcome(format('SELECT pev_register_stream_kind(%L, ''d'')', p)) FROM unnest(ARRAY['', 'a:b', 'a b', '1a', 'ä', NULL, repeat('a', 64)]) p;
SELECT outcome('SELECT pev_register_stream_kind(''a'', NULL)');
SELECT outcome('DELETE FROM pev_stream_kind WHERE prefix = ''order'' RETURNING 1');
-- Each kind that comes with pev, and each family.
SELECT k.prefix, t.family, split_part(outcome(format('SELECT pev_emit(%L, %L, ''{}'')', k.prefix || ':x', min(t.name))), E'\n', 1)
FROM pev_stream_kind k, pev_event_type t WHERE k.builtin AND t.durable GROUP BY 1, 2 ORDER BY 1, 2;

-- A key whose first event was rolled back is no stream, and may become one later.
BEGIN;
SELECT pev_emit('later', 'progress', step(1));
SELECT pev_emit('later', 'progress', step(2));
ROLLBACK;
SELECT pev_stream_id('later');
BEGIN;
SAVEPOINT s;
SELECT pev_emit('later', 'progress', step(1));
ROLLBACK TO s;
SELECT pev_emit('later', 'progress', step(2));
COMMIT;
SELECT pev_emit('later', 'progress', step(3));
SELECT seq, event_data->'currentStep' AS step FROM pev_events('later');
BEGIN READ ONLY;
SELECT pev_emit('only-read', 'progress', step(1));
ROLLBACK;
BEGIN READ ONLY;
SELECT pev_emit('later', 'progress', step(1));
ROLLBACK;
-- More keys than a session keeps in mind.
DO $$
BEGIN
  FOR i IN 1..10500 LOOP
    PERFORM pev_emit('k' || i % 5000, 'progress', test.step(i));
    IF i % 500 = 0 THEN COMMIT; END IF;
  END LOOP;
END
$$;
SELECT count(*), count(DISTINCT execution_id), max(seq) FROM assistant_architect_events e JOIN pev_stream s ON s.id = e.execution_id WHERE s.key LIKE 'k%';
-- Streams removed by hand are forgotten.
SELECT pev_emit('gone', 'progress', step(1));
SELECT pev_stream_id('gone') AS gone \gset
DELETE FROM pev_stream WHERE key = 'gone';
SELECT outcome(format('SELECT pev_emit(%s, ''progress'', test.step(1))', :gone)) LIKE '22023: stream -% does not exist%' AS refused;
SELECT pev_emit('gone', 'progress', step(1));
SELECT pev_stream_id('gone') <> :gone AS another;
SELECT * FROM disorder();
DROP EXTENSION pev;
