-- Where streams stand is remembered between transactions: who emits to a stream
-- that is known does not ask the table, and who may not rely on it does.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE EXTENSION pev;
SELECT current_setting('shared_preload_libraries') ~ '\mpev\M' AS preloaded \gset
\if :preloaded
SELECT plan(10);

CREATE FUNCTION step() RETURNS jsonb LANGUAGE sql AS $$SELECT '{"currentStep": 1, "totalSteps": 2, "percentage": 3, "message": "m"}'::jsonb$$;
-- How often an event's number is sought in the table, by this session so far.
CREATE FUNCTION probes() RETURNS bigint LANGUAGE sql AS
  $$SELECT pg_stat_get_xact_numscans(to_regclass('assistant_architect_events_execution_id_seq_key'))$$;
-- Emit an event to each of these streams and say how many of them were sought.
CREATE FUNCTION sought(VARIADIC streams bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  before bigint := probes();
BEGIN
  PERFORM pev_emit(s, 'progress', step()) FROM unnest(streams) s;
  RETURN probes() - before;
END
$$;

SELECT is(sought(1, 2), 2::bigint, 'streams that nobody knows are sought in the table');
SELECT is(sought(1, 2), 0::bigint, 'and then known, to later transactions too');
SELECT is(sought(1, 1, 2, 3), 1::bigint, 'each of them');
INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (4, 'progress', step());
SELECT is(sought(4), 0::bigint, 'a plain INSERT leaves the same');
BEGIN;
SELECT pev_emit(1, 'progress', step()) \g /dev/null
ROLLBACK;
SELECT is(sought(1), 0::bigint, 'a rollback takes nothing away');
BEGIN;
SAVEPOINT a;
SELECT pev_emit(1, 'progress', step()) \g /dev/null
SELECT pev_emit(2, 'progress', step()) \g /dev/null
ROLLBACK TO a;
SELECT is(sought(1), 0::bigint, 'nor does a rollback to a savepoint before the turn');
COMMIT;
INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at) VALUES (9, 7, 'progress', '{}', now());
SELECT is(sought(1, 2, 9), 3::bigint, 'a restored row makes all forgotten');
VACUUM FULL assistant_architect_events;
SELECT is(sought(1, 2), 2::bigint, 'so does another file of the table');
\setenv PGDATABASE :DBNAME
\set sought_by_another `psql -XqAtc 'SELECT sought(1, 2)'`
SELECT is(:sought_by_another, 2, 'and a new session relies on nothing that was learned before it came');
SELECT is(sought(1, 2), 0::bigint, 'while others rely on what it has left');
SELECT * FROM finish();
\else
SELECT plan(1);
SELECT pass('without preloading there is nothing that remembers');
\endif
