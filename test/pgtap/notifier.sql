-- The background worker that rings the doorbell: it starts when it is needed,
-- comes back when it was ended, and is in nobody's way.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE EXTENSION pev;
SELECT current_setting('shared_preload_libraries') ~ '\mpev\M' AS preloaded, current_setting('max_prepared_transactions')::int > 0 AS two_phase,
  current_database() AS here, current_database() || '_other' AS other \gset
\if :preloaded
SELECT plan(26);

CREATE FUNCTION step() RETURNS jsonb LANGUAGE sql AS $$SELECT '{"currentStep": 1, "totalSteps": 2, "percentage": 3, "message": "m"}'::jsonb$$;
-- This database's row.
CREATE VIEW notifier AS SELECT * FROM pev_notifier_status WHERE database = current_database();
-- Wait until a condition on it holds, ten seconds at most.
CREATE FUNCTION comes_true(condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  holds boolean;
BEGIN
  FOR i IN 1..1000 LOOP
    EXECUTE format('SELECT coalesce((SELECT %s FROM notifier), false)', condition) INTO holds;
    EXIT WHEN holds;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN holds;
END
$$;
-- What this session hears goes to a file.
\set file `mktemp`
LISTEN pev;
LISTEN pev_live;

SELECT is_empty('SELECT * FROM notifier WHERE state <> ''stopped''', 'no notifier before the first event');
SELECT pev_emit(1, 'progress', step()) \g /dev/null
SELECT ok(comes_true('state = ''running'''), 'the first event starts one');
SELECT pid AS first_pid, doorbells AS doorbells, notifications AS notifications FROM notifier \gset
SELECT is((SELECT backend_type FROM pg_stat_activity WHERE pid = :first_pid), 'pev notifier', 'which is a process of its own');

\o :file
SELECT pev_emit(1, 'progress', step()) \g /dev/null
SELECT comes_true('notifications > ' || :notifications) \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'notification "pev" with payload "1:2" received' :file`
SELECT is(:heard, 1, 'it rings for the next');
SELECT ok(comes_true('doorbells > ' || :doorbells), 'and counts it');

BEGIN;
SELECT pev_emit(1, 'progress', step()) \g /dev/null
SELECT doorbells AS doorbells FROM notifier \gset
ROLLBACK;
SELECT is((SELECT doorbells FROM notifier), :doorbells::bigint, 'not for what is rolled back');

-- More of what is not stored than the notifier has room for: the commit sends it itself.
SELECT live AS live, live_dropped AS live_dropped FROM notifier \gset
\o :file
SELECT count(pev_emit('channel:crowd', 'typing', jsonb_build_object('userId', repeat('u', 2000) || g, 'isTyping', true))) FROM generate_series(1, 300) g \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'notification "pev_live"' :file`
SELECT is(:heard, 300, 'no unstored event of a large commit is lost');
SELECT results_eq('SELECT live, live_dropped FROM notifier', format('VALUES (%s::bigint, %s::bigint)', :live, :live_dropped), 'nor went to the notifier');

-- Events that are not stored, equal ones too.
SELECT notifications AS notifications FROM notifier \gset
\o :file
BEGIN;
SELECT pev_emit(NULL, 'log_entry', '{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}') \g /dev/null
SELECT pev_emit(NULL, 'log_entry', '{"log_entry": {"level": "info", "event": "e", "message": "m", "fields": {}}}') \g /dev/null
COMMIT;
SELECT comes_true('notifications >= 2 + ' || :notifications) \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'notification "pev_live" with payload "[0-9]* [*] log_entry {"type": "log_entry"' :file`
SELECT is(:heard, 2, 'two equal events that are not stored are two');

-- News of jobs: one of many, and none of what is rolled back.
SELECT pev_register_job_kind('k', 'd'), pev_register_job_kind('l', 'd') \g /dev/null
LISTEN pev_job;
SELECT live AS live, notifications AS notifications FROM notifier \gset
\o :file
BEGIN;
SELECT count(pev_enqueue('k', '{}', 'user:u')) FROM generate_series(1, 100) \g /dev/null
SAVEPOINT s;
SELECT pev_enqueue('l', '{}', 'user:u') \g /dev/null
ROLLBACK TO s;
COMMIT;
SELECT comes_true('notifications > ' || :notifications) \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'notification "pev_job" with payload "k"' :file`
SELECT is(:heard, 1, 'jobs of a kind that a transaction queues wake its workers once');
\set heard `grep -c 'notification "pev_job" with payload "l"' :file`
SELECT is(:heard, 0, 'one that is rolled back wakes nobody');
SELECT is((SELECT live FROM notifier), :live + 1::bigint, 'by the notifier, so that who queues does not wait for the lock of NOTIFY');

-- Without it a commit rings by itself.
SET pev.notifier = off;
SELECT doorbells AS doorbells FROM notifier \gset
\o :file
SELECT pev_emit(3, 'progress', step()) \g /dev/null
\o
\set heard `grep -c 'notification "pev" with payload "3:1" received' :file`
SELECT is(:heard, 1, 'pev.notifier = off: the commit rings');
SELECT is((SELECT doorbells FROM notifier), :doorbells::bigint, 'and the notifier knows nothing of it');
RESET pev.notifier;

-- Ended, it comes back.
SELECT pg_terminate_backend(pid, 5000) FROM notifier \g /dev/null
SELECT ok(comes_true('state = ''stopped'''), 'a notifier can be terminated');
\o :file
SELECT pev_emit(4, 'progress', step()) \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'notification "pev" with payload "4:1" received' :file`
SELECT is(:heard, 1, 'the next event rings by itself');
SELECT ok(comes_true('state = ''running'' AND pid <> ' || :first_pid), 'and starts another');

-- The extension goes and comes.
DROP EXTENSION pev CASCADE;
CREATE EXTENSION pev;
CREATE VIEW notifier AS SELECT * FROM pev_notifier_status WHERE database = current_database();
SELECT pass('DROP EXTENSION is not held up by a running notifier');
SELECT notifications AS notifications FROM notifier \gset
\o :file
SELECT pev_emit(5, 'progress', step()) \g /dev/null
SELECT comes_true('notifications > ' || :notifications) \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'notification "pev" with payload "5:1" received' :file`
SELECT is(:heard, 1, 'the notifier serves the extension made anew');

-- Prepared transactions.
\if :two_phase
SELECT notifications AS notifications FROM notifier \gset
\o :file
BEGIN;
SELECT pev_emit(6, 'progress', step()) \g /dev/null
PREPARE TRANSACTION 'pev_notifier';
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'payload "[*]"' :file`
SELECT is(:heard, 0, 'PREPARE TRANSACTION does not ring');
\o :file
COMMIT PREPARED 'pev_notifier';
SELECT comes_true('notifications > ' || :notifications) \g /dev/null
SELECT 1 \g /dev/null
\o
\set heard `grep -c 'payload "[*]"' :file`
SELECT cmp_ok(:heard, '>=', 1, 'COMMIT PREPARED rings for everything');
\else
SELECT skip('max_prepared_transactions is 0', 2);
\endif

-- Who wants the database alone ends the notifier first.
DROP DATABASE IF EXISTS :"other";
DROP DATABASE IF EXISTS copy_of_other;
DROP DATABASE IF EXISTS renamed_other;
CREATE DATABASE :"other";
\setenv OTHER :other
\! psql -Xq -d "$OTHER" -o /dev/null -c 'CREATE EXTENSION pev' -c "SELECT pev_emit(1, 'Result', '{\"summary\": \"s\"}')"
DROP VIEW notifier;
CREATE VIEW notifier AS SELECT * FROM pev_notifier_status WHERE database = current_database() || '_other';
SELECT ok(comes_true('state = ''running'''), 'another database has another notifier');
SELECT is((SELECT count(DISTINCT pid) FROM pev_notifier_status WHERE state = 'running' AND database IN (current_database(), current_database() || '_other')),
  2::bigint, 'with a process of its own');
SET statement_timeout = '10s';
CREATE DATABASE copy_of_other TEMPLATE :"other";
SELECT pass('CREATE DATABASE … TEMPLATE does not fail because of it');
DROP DATABASE copy_of_other;
ALTER DATABASE :"other" RENAME TO renamed_other;
SELECT pass('nor ALTER DATABASE … RENAME');
DROP DATABASE renamed_other;
SELECT pass('nor DROP DATABASE');
\set gone `rm -f :file`
\else
SELECT plan(1);
SELECT is_empty('SELECT * FROM pev_notifier_status', 'no notifier without shared_preload_libraries');
\endif
SELECT * FROM finish();
