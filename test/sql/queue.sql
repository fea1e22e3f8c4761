-- Jobs: queued, claimed, reported on, completed, failed and given up; the events that
-- tell of each; what is refused, and who may do what.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

CREATE VIEW test.jobs AS SELECT id, kind, channel, state, attempts, max_attempts AS max, worker, error FROM pev_job ORDER BY id;
CREATE VIEW test.told AS SELECT key, seq, event_type AS event, event_data - '{type,timestamp}'::text[] AS data
  FROM assistant_architect_events e JOIN pev_stream s ON s.id = e.execution_id ORDER BY e.id;
CREATE FUNCTION test.claimed(VARIADIC kinds text[]) RETURNS text LANGUAGE sql AS $$
  SELECT format('%s attempt %s: %s %s for %s', job_id, attempt, kind, payload, channel) FROM pev_claim(kinds, 'w1') $$;
-- All leases expire at once.
CREATE PROCEDURE test.expire() LANGUAGE sql AS $$ UPDATE pev_job SET run_at = now() - interval '1 ms' WHERE state = 'running' $$;

-- From the queue to the result.
SELECT pev_register_job_kind('generate_image', 'an image from a prompt', 'generation'),
  pev_register_job_kind('thumbnails', 'smaller copies of an upload', 'upload', 2, '0'),
  pev_register_job_kind('ai_chat_response', 'an answer in a room', max_attempts => 1);
SELECT * FROM pev_job_kind ORDER BY kind;
SELECT pev_enqueue('generate_image', '{"prompt": "a cat"}', 'user:u_1');
SELECT state, attempts, run_at = created_at AS due, lease, finished_at FROM pev_job;
SELECT * FROM told;
SELECT * FROM pev_claim('{generate_image}', 'w1', '30 s');
SELECT state, attempts, worker, lease, run_at - now() BETWEEN '25 s' AND '35 s' AS leased FROM pev_job;
SELECT pev_job_progress(1, 1, 40, 'sketched') > now() AS leased, pev_job_progress(1, 1, 80.5, 'coloured') > now() AS leased;
SELECT pev_complete(1, 1, '{"url": "/1.png"}');
SELECT state, lease, finished_at > created_at AS finished FROM pev_job;
SELECT * FROM told;
SELECT claimed('generate_image') AS nothing;

-- An upload; its result has a form.
SELECT pev_enqueue('thumbnails', '{"file": 7}', 'channel:general');
SELECT claimed('thumbnails');
SELECT outcome('SELECT pev_job_progress(2, 1, 50)');
SELECT pev_job_progress(2, 1, 50, bytes_uploaded => 2048) > now() AS leased;
SELECT outcome('SELECT pev_complete(2, 1, ''{"original": "o"}'')');
SELECT pev_complete(2, 1, '{"original": "o", "optimized": "p", "thumbnail": null}');
SELECT * FROM told WHERE key = 'channel:general';

-- A kind without events: its worker emits.
SELECT pev_enqueue('ai_chat_response', '{}', 'channel:general');
SELECT claimed('ai_chat_response');
SELECT pev_emit('channel:general', 'ai_chat_chunk', '{"jobId": "3", "result": {"streamId": "s", "text": "", "done": true}}');
SELECT pev_job_progress(3, 1, 50) > now() AS leased;
SELECT pev_complete(3, 1);
SELECT count(*) FROM told WHERE data->>'jobId' = '3';
-- No result is a result.
SELECT pev_enqueue('generate_image', '{}', 'user:u_2');
SELECT claimed('generate_image');
SELECT pev_complete(4, 1, NULL);
SELECT * FROM told WHERE key = 'user:u_2';
SELECT * FROM jobs;

-- In the order in which they are due, whatever their kind; those of other kinds and later ones are left.
TRUNCATE pev_job RESTART IDENTITY;
SELECT pev_enqueue('generate_image', '{"n": 1}', 'user:a', now() + interval '1 hour'), pev_enqueue('generate_image', '{"n": 2}', 'user:a', now() - interval '1 s'),
  pev_enqueue('thumbnails', '{"n": 3}', 'user:b', now() - interval '2 s'), pev_enqueue('generate_image', '{"n": 4}', 'user:b', now() - interval '3 s'),
  pev_enqueue('generate_image', '{"n": 5}', 'user:a', now() - interval '1 s'), pev_enqueue('ai_chat_response', '{"n": 6}', 'user:a', '-infinity');
SELECT claimed('thumbnails', 'generate_image') FROM generate_series(1, 5);
SELECT claimed('ai_chat_response', 'ai_chat_response') FROM generate_series(1, 2);
SELECT claimed('thumbnails');

-- A failed attempt is repeated later and later, and only the last one is told.
TRUNCATE pev_job RESTART IDENTITY;
SELECT pev_register_job_kind('flaky', 'fails', 'generation', 4, '10 s');
SELECT pev_enqueue('flaky', '{}', 'user:f');
CREATE FUNCTION test.fail_once() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  n integer := (SELECT attempt FROM pev_claim('{flaky}', 'w1'));
  again timestamptz := pev_fail(1, n, 'because ' || n);
BEGIN
  IF EXISTS (SELECT FROM pev_claim('{flaky}', 'w2')) THEN
    RAISE 'claimed too early';
  END IF;
  RETURN format('attempt %s: %s', n, CASE WHEN again IS NULL THEN 'given up'
    WHEN again = (SELECT run_at FROM pev_job) AND again - clock_timestamp() BETWEEN interval '5 s' * 2 ^ (n - 1) - interval '1 s' AND interval '10 s' * 2 ^ (n - 1)
    THEN 'again' ELSE 'wrong' END);
END
$$;
CREATE PROCEDURE test.wait() LANGUAGE sql AS $$ UPDATE pev_job SET run_at = now() $$;
SELECT fail_once();
SELECT state, lease, error FROM pev_job;
CALL wait();
SELECT fail_once();
CALL wait();
SELECT fail_once();
CALL wait();
SELECT fail_once();
SELECT * FROM jobs;
SELECT * FROM told WHERE key = 'user:f';
-- Half of the wait is by chance; an hour at most; none where there is nothing to double.
SELECT pev_register_job_kind('flaky', 'fails', NULL, 100, '1 hour'), pev_register_job_kind('quick', 'fails', NULL, 100, '0');
INSERT INTO pev_job (kind, channel, payload, state, attempts, max_attempts, lease)
SELECT kind, 'user:f', '{}', 'running', n, 100, '1 s' FROM unnest('{flaky,quick}'::text[]) kind, generate_series(1, 99) n;
SELECT kind, max(wait) - min(wait) > '5 min' AS differ, bool_and(wait BETWEEN '29 min' AND '61 min') AS an_hour, bool_and(wait < '1 min') AS at_once
FROM (SELECT kind, pev_fail(id, attempts, 'e') - now() AS wait FROM pev_job WHERE state = 'running') w GROUP BY kind ORDER BY 1;
-- What cannot be mended; and no more of the reason than fits.
TRUNCATE pev_job RESTART IDENTITY;
SELECT pev_enqueue('generate_image', '{}', 'user:g');
SELECT claimed('generate_image');
SELECT pev_fail(1, 1, repeat('ä', 20000), retry => false);
SELECT state, attempts, length(error), finished_at > created_at AS finished FROM pev_job;
SELECT event, length(data->>'error') FROM told WHERE key = 'user:g';

-- A lease that expires returns the job, and whose it was can do nothing more to it.
TRUNCATE pev_job RESTART IDENTITY;
SELECT pev_enqueue('thumbnails', '{}', 'user:l');
SELECT claimed('thumbnails');
SELECT claimed('thumbnails') AS nothing;
CALL expire();
SELECT claimed('thumbnails');
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_job_progress(1, 1, 50, ''half'', 1)', 'SELECT pev_extend_lease(1, 1)', 'SELECT pev_complete(1, 1)', 'SELECT pev_fail(1, 1, ''e'')',
  'SELECT pev_fail(1, 1, ''e'', false)', 'SELECT pev_complete(1, 3)', 'SELECT pev_complete(1, 0)']) s;
-- While nobody has taken it, it is not lost.
CALL expire();
SELECT pev_extend_lease(1, 2) > now() + interval '50 s' AS leased;
CALL expire();
SELECT pev_complete(1, 2, '{"original": 1, "optimized": 2, "thumbnail": 3}');
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_complete(1, 2)', 'SELECT pev_fail(1, 2, ''e'')', 'SELECT pev_job_progress(1, 2, 50, ''half'', 1)', 'SELECT pev_extend_lease(1, 2)']) s;
SELECT * FROM jobs;
SELECT * FROM told WHERE key = 'user:l';
-- The attempts are used up by workers that died: a claim gives the job up, and takes the next one.
SELECT pev_enqueue('thumbnails', '{"n": 1}', 'user:m'), pev_enqueue('thumbnails', '{"n": 2}', 'user:k');
SELECT claimed('thumbnails'), claimed('thumbnails');
CALL expire();
SELECT claimed('thumbnails');
SELECT claimed('thumbnails');
CALL expire();
SELECT pev_enqueue('thumbnails', '{"n": 3}', 'user:l');
SELECT claimed('generate_image') AS nothing;
SELECT claimed('thumbnails');
SELECT claimed('thumbnails') AS nothing;
SELECT outcome('SELECT pev_complete(2, 2)');
SELECT * FROM jobs;
SELECT * FROM told WHERE key IN ('user:k', 'user:m') OR key = 'user:l' AND seq > 3;

-- At least half of the lease is left after each report, and the row is left alone until then.
TRUNCATE pev_job RESTART IDENTITY;
SELECT pev_enqueue('generate_image', '{}', 'user:u_1');
SELECT count(*) FROM pev_claim('{generate_image}', 'w1', '100 s');
SELECT ctid AS first_ctid, run_at AS first_run_at FROM pev_job \gset
SELECT pev_extend_lease(1, 1) = :'first_run_at' AS same, pev_job_progress(1, 1, 1, 'm') = :'first_run_at' AS same;
SELECT ctid = :'first_ctid' AS same FROM pev_job;
UPDATE pev_job SET run_at = now() + interval '49 s';
SELECT pev_job_progress(1, 1, 1, 'm') - now() BETWEEN '99 s' AND '101 s' AS anew;
SELECT run_at - now() BETWEEN '99 s' AND '101 s' AS anew FROM pev_job;

-- All or nothing: an event that is refused leaves the job as it was.
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_job_progress(1, 1, 101, ''m'')', 'SELECT pev_job_progress(1, 1, 50)', 'SELECT pev_complete(1, 1, to_jsonb(repeat(''x'', 2000000)))']) s;
SELECT * FROM jobs;
BEGIN;
SELECT pev_complete(1, 1);
ROLLBACK;
SELECT state FROM pev_job;
SELECT count(*) FROM told WHERE key = 'user:u_1' AND data->>'result' IS NULL AND event = 'generation_complete';

-- What is refused.
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_enqueue(NULL, ''{}'', ''user:u'')', 'SELECT pev_enqueue(''flaky'', NULL, ''user:u'')', 'SELECT pev_enqueue(''flaky'', ''{}'', NULL)',
  'SELECT pev_enqueue(''unheard_of'', ''{}'', ''user:u'')', 'SELECT pev_enqueue(''flaky'', ''{}'', ''nobody:u'')', 'SELECT pev_enqueue(''flaky'', ''{}'', ''session:s'')',
  'SELECT pev_enqueue(''flaky'', ''{}'', ''42'')', 'SELECT pev_enqueue(''flaky'', ''{}'', ''user'')', 'SELECT pev_enqueue(''flaky'', ''{}'', ''user:'')',
  'SELECT pev_enqueue(''flaky'', ''{}'', ''E96B74BC-aba8-4837-bb43-237fd687d18b'')', 'SELECT pev_enqueue(''flaky'', to_jsonb(repeat(''x'', 1048576)), ''user:u'')',
  'SELECT pev_enqueue(''flaky'', ''{}'', ''user:u'', max_attempts => 0)', 'SELECT pev_enqueue(''flaky'', ''{}'', ''user:u'', max_attempts => 101)']) s;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_claim(NULL, ''w'')', 'SELECT pev_claim(''{flaky,NULL}'', ''w'')', 'SELECT pev_claim(''{flaky}'', NULL)', 'SELECT pev_claim(''{flaky,unheard_of}'', ''w'')', 'SELECT pev_claim(''{{flaky},{flaky}}'', ''w'')',
  'SELECT pev_claim(''{flaky}'', ''w'', NULL)', 'SELECT pev_claim(''{flaky}'', ''w'', ''999 ms'')', 'SELECT pev_claim(''{flaky}'', ''w'', ''31 days'')', 'SELECT pev_claim(''{}'', ''w'')']) s;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_complete(NULL, 1)', 'SELECT pev_complete(1, NULL)', 'SELECT pev_complete(99, 1)', 'SELECT pev_fail(99, 1, ''e'')', 'SELECT pev_fail(1, 1, NULL)',
  'SELECT pev_fail(1, 1, ''e'', NULL)', 'SELECT pev_job_progress(99, 1, 1)', 'SELECT pev_job_progress(1, 1, NULL, ''m'')', 'SELECT pev_extend_lease(NULL, 1)']) s;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_register_job_kind(''a b'', ''d'')', 'SELECT pev_register_job_kind(''a'', NULL)', 'SELECT pev_register_job_kind(''a'', ''d'', ''chat'')',
  'SELECT pev_register_job_kind(''a'', ''d'', NULL, 0)', 'SELECT pev_register_job_kind(''a'', ''d'', backoff => ''2 hours'')', 'SELECT pev_register_job_kind(''a'', ''d'', backoff => ''-1 s'')',
  'DELETE FROM pev_job_kind WHERE kind = ''generate_image''']) s;
-- A payload counts as text, however small it is where it was stored.
CREATE TABLE test.compressed AS SELECT to_jsonb(repeat('x', 1048576)) AS payload;
SELECT outcome($$SELECT pev_enqueue('flaky', payload, 'user:u') FROM test.compressed$$);
-- A kind of stream that carries everything, and one that carries what jobs emit among others.
SELECT pev_register_stream_kind('all', 'everything'), pev_register_stream_kind('room', 'rooms', '{agent,channel}');
SELECT pev_enqueue('generate_image', '{}', 'all:1'), pev_enqueue('generate_image', '{}', 'room:1:a');

-- However many there are, and whatever the planner believes, an index finds the next one.
TRUNCATE pev_job RESTART IDENTITY;
VACUUM ANALYZE pev_job;
SELECT count(claimed('quick', 'flaky')) FROM generate_series(1, 10);
BEGIN;
SELECT pg_stat_get_xact_numscans('pev_job'::regclass) AS before \gset
INSERT INTO pev_job (kind, channel, payload) SELECT CASE i % 2 WHEN 0 THEN 'quick' ELSE 'flaky' END, 'user:u', '{}' FROM generate_series(1, 20000) i;
SELECT count(claimed('quick', 'flaky')) FROM generate_series(1, 10);
SELECT pg_stat_get_xact_numscans('pev_job'::regclass) - :before AS sequential_scans;
ROLLBACK;
TRUNCATE pev_job RESTART IDENTITY;

-- The same job under the same key is queued once, for as long as it is there.
CREATE FUNCTION under(key text, payload jsonb DEFAULT '{"n": 1}', channel text DEFAULT 'user:k', kind text DEFAULT 'flaky') RETURNS bigint
  LANGUAGE sql AS $$SELECT pev_enqueue(kind, payload, channel, idempotency_key => key)$$;
SELECT under('k') AS first, under('k') AS again, under('k', jsonb_pretty('{"n":1}')::jsonb, kind => 'flaky') AS spelled, under('K') AS another, under('k', channel => 'user:l') AS elsewhere, under(NULL) AS none, under(NULL) AS nor_then;
SELECT outcome(s) FROM unnest(ARRAY['SELECT under(''k'', ''{"n": 2}'')', 'SELECT under(''k'', kind => ''generate_image'')', 'SELECT under(''k'', kind => ''unheard_of'')',
  'SELECT under('''')', 'SELECT under(''a b'')', 'SELECT under(repeat(''k'', 256))', 'SELECT under(repeat(''k'', 255)) > 0', 'SELECT under(''ü'')']) s;
SELECT claimed('flaky');
SELECT pev_complete(1, 1);
SELECT under('k') AS when_done, pev_enqueue('flaky', '{"n": 1}', 'user:k', now() + interval '1 hour', 3, 'k') AS whenever;
DELETE FROM pev_job WHERE id = 1;
SELECT under('k') > 1 AS when_deleted;
SELECT count(*), count(key_hash) AS keys FROM pev_job;
TRUNCATE pev_job RESTART IDENTITY;

-- Least privilege.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_service, regress_pev_worker, regress_pev_nobody;
RESET client_min_messages;
CREATE ROLE regress_pev_service;
CREATE ROLE regress_pev_worker;
CREATE ROLE regress_pev_nobody;
GRANT INSERT (kind, channel, payload, run_at, max_attempts, key_hash, request_hash), SELECT (id, key_hash, request_hash) ON pev_job TO regress_pev_service;
GRANT SELECT, UPDATE (state, attempts, run_at, lease, worker, error, finished_at) ON pev_job TO regress_pev_worker;
GRANT INSERT ON assistant_architect_events TO regress_pev_worker;
SET ROLE regress_pev_nobody;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_enqueue(''generate_image'', ''{}'', ''user:u'')', 'SELECT pev_claim(''{generate_image}'', ''w'')', 'SELECT pev_complete(1, 1)',
  'SELECT pev_register_job_kind(''a'', ''d'')', 'SELECT count(*) > 0 FROM pev_job_kind']) s;
SET ROLE regress_pev_service;
SELECT pev_enqueue('generate_image', '{"n": 1}', 'user:p') AS a, pev_enqueue('generate_image', '{"n": 2}', 'user:p', now(), 1) AS b;
SELECT pev_enqueue('generate_image', '{"n": 1}', 'user:q', idempotency_key => 'k') = pev_enqueue('generate_image', '{"n": 1}', 'user:q', idempotency_key => 'k') AS same;
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_claim(''{generate_image}'', ''w'')', 'SELECT payload FROM pev_job', 'SELECT channel FROM pev_job', 'UPDATE pev_job SET run_at = now()',
  'INSERT INTO pev_job (kind, channel, payload, state, finished_at) VALUES (''generate_image'', ''user:u'', ''{}'', ''completed'', now())']) s;
SET ROLE regress_pev_worker;
SELECT claimed('generate_image');
SELECT pev_job_progress(1, 1, 1, 'm') > now() AS leased, pev_fail(1, 1, 'e') > now() AS again;
SELECT claimed('generate_image');
SELECT pev_complete(2, 1);
SELECT outcome(s) FROM unnest(ARRAY['SELECT pev_enqueue(''generate_image'', ''{}'', ''user:u'')', 'UPDATE pev_job SET payload = ''{}''', 'DELETE FROM pev_job']) s;
RESET ROLE;
-- Row-level security: a worker for some channels.
ALTER TABLE pev_job ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON pev_job TO regress_pev_worker USING (channel LIKE 'user:a%');
SELECT pev_enqueue('generate_image', '{}', 'user:b1') AS b, pev_enqueue('generate_image', '{}', 'user:a1') AS a;
SET ROLE regress_pev_worker;
SELECT claimed('generate_image') FROM generate_series(1, 2);
SELECT outcome('SELECT pev_complete(3, 0)');
RESET ROLE;
SELECT * FROM jobs;
SELECT * FROM disorder();
DROP OWNED BY regress_pev_service, regress_pev_worker, regress_pev_nobody;
DROP ROLE regress_pev_service, regress_pev_worker, regress_pev_nobody;
SET client_min_messages = warning;
DROP SCHEMA test CASCADE;
DROP EXTENSION pev CASCADE;
