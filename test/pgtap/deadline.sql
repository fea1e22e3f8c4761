-- Actions that nobody decides in time: the notifier denies them, by itself and whatever
-- else happens.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE EXTENSION pev;
SELECT current_setting('shared_preload_libraries') ~ '\mpev\M' AS preloaded, current_setting('max_prepared_transactions')::int > 0 AS two_phase,
  current_database() AS here \gset
CREATE FUNCTION ask(action text, secs int DEFAULT 1) RETURNS jsonb LANGUAGE sql AS
  $$SELECT jsonb_build_object('message_id', 'm', 'tier3_approval', jsonb_build_object('action_id', action, 'tool_name', 't', 'reasoning', 'r', 'timeout_secs', secs))$$;
-- Ask for it, with a tenth of a second to go.
CREATE FUNCTION ask_soon(stream text, action text) RETURNS void LANGUAGE sql AS $$
  SELECT pev_emit(stream, 'tier3_approval_required', ask(action));
  UPDATE pev_approval SET deadline = requested_at + interval '0.1 s' WHERE action_id = action;
$$;
-- Wait until a condition on an action holds, twenty seconds at most.
CREATE FUNCTION comes_true(action text, condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  holds boolean;
BEGIN
  FOR i IN 1..2000 LOOP
    EXECUTE format('SELECT coalesce((SELECT %s FROM pev_approval WHERE action_id = %L), false)', condition, action) INTO holds;
    EXIT WHEN holds;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN holds;
END
$$;
CREATE FUNCTION is_denied(action text, test text) RETURNS text LANGUAGE sql AS $$SELECT ok(comes_true(action, 'decision = ''denied'''), test)$$;
-- Wait until the notifier sleeps.
CREATE FUNCTION comes_idle() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..1000 LOOP
    PERFORM pg_stat_clear_snapshot();
    IF (SELECT state FROM pg_stat_activity WHERE backend_type = 'pev notifier' AND datname = current_database()) = 'idle' THEN
      RETURN true;
    END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN false;
END
$$;
\if :preloaded
SELECT plan(37);

-- The first event of the database starts the notifier, which may look before that event is there.
SELECT pev_emit('session:s', 'tier3_approval_required', ask('first')) \g /dev/null
SELECT is_denied('first', 'an action is denied when its time has run out, with the first event of a database');
SELECT results_eq($$SELECT reason, decided_by, decided_at >= deadline, decided_at < deadline + interval '5 s' FROM pev_approval$$, $$VALUES ('timeout', NULL::text, true, true)$$,
  'by nobody, and not before');
SELECT results_eq($$SELECT event_data - 'type' FROM pev_events('session:s', 'tier3_approval_resolved')$$,
  $$VALUES ('{"message_id": "m", "session_id": "s", "tier3_approval_resolved": {"action_id": "first", "decision": "denied", "reason": "timeout"}}'::jsonb)$$, 'with an event of the same message');
-- An earlier deadline after a later one, two in one stream, and many.
SELECT pev_emit('session:s', 'tier3_approval_required', ask('hour', 3600)), ask_soon('session:s', 'second'), ask_soon('session:s', 'third') \g /dev/null
SELECT count(ask_soon('session:s' || n, 'many' || n)::text) FROM generate_series(1, 100) n \g /dev/null
SELECT is_denied('many100', 'so are many');
SELECT is_denied('third', 'and two of one stream');
SELECT results_eq($$SELECT count(*), count(DISTINCT decided_at), sum((SELECT count(*) FROM assistant_architect_events e WHERE e.event_data->'tier3_approval_resolved'->>'action_id' = action_id))::bigint
  FROM pev_approval WHERE decision = 'denied'$$, 'VALUES (103::bigint, 103::bigint, 103::bigint)', 'each with one event');
SELECT is((SELECT decision FROM pev_approval WHERE action_id = 'hour'), NULL, 'but not what has time yet');

-- A turn that somebody else has, and a table that is locked.
BEGIN;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('held')) \g /dev/null
COMMIT;
BEGIN;
SELECT pev_emit('session:s', 'llm_token', '{"message_id": "m", "text": "t"}') \g /dev/null
SELECT pev_emit('session:t', 'tier3_approval_required', ask('free')) \g /dev/null
SELECT comes_true('held', 'clock_timestamp() > deadline + interval ''0.3 s''') \g /dev/null
SELECT is((SELECT decision FROM pev_approval WHERE action_id = 'held'), NULL, 'nothing comes into a stream whose turn another transaction has');
COMMIT;
SELECT is_denied('held', 'it is denied after that');
SELECT is_denied('free', 'and what a commit brings whose time has run out meanwhile');
BEGIN;
SELECT pev_emit('session:s', 'tier3_approval_required', ask('locked')) \g /dev/null
COMMIT;
BEGIN;
LOCK TABLE pev_approval;
SELECT comes_true('locked', 'clock_timestamp() > deadline + interval ''0.1 s''') \g /dev/null
SELECT ok(comes_idle(), 'it does not wait for long for who has locked the table');
COMMIT;
SELECT is_denied('locked', 'but comes again');
BEGIN;
SELECT ask_soon('session:s', 'renamed') \g /dev/null
ALTER TABLE pev_approval RENAME TO approvals;
COMMIT;
SELECT pg_sleep(0.3) \g /dev/null
ALTER TABLE approvals RENAME TO pev_approval;
SELECT is_denied('renamed', 'it survives a table that is not there');

-- What is refused stops nothing else.
SELECT pev_register_stream_kind('any', 'carries all') \g /dev/null
BEGIN;
SELECT ask_soon('any:x', 'shut'), ask_soon('session:u', 'open') \g /dev/null
SELECT pev_emit('any:x', 'Result', '{"summary": "s"}') \g /dev/null
COMMIT;
SELECT is_denied('open', 'a stream that has been closed stops no other');
SELECT is_denied('shut', 'what waits in it is denied, too');
SELECT is((SELECT count(*)::int FROM pev_events('any:x', 'tier3_approval_resolved')), 0, 'without an event');

-- Triggers that refuse: of the owner, for the time being.
CREATE TABLE refused (how text, action text);
CREATE TABLE found (action text, work_mem text);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  how text := (SELECT how FROM refused WHERE action = new.event_data->'tier3_approval_resolved'->>'action_id');
BEGIN
  INSERT INTO found VALUES (new.event_data->'tier3_approval_resolved'->>'action_id', current_setting('work_mem'));
  SET work_mem = '77MB';
  IF how IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = how, MESSAGE = 'refused';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER refuse AFTER INSERT ON assistant_architect_events FOR EACH ROW WHEN (new.event_type = 'tier3_approval_resolved') EXECUTE FUNCTION refuse();
INSERT INTO refused VALUES ('40001', 'unlucky'), ('P0001', 'poison');
SELECT ask_soon('session:v', 'unlucky'), ask_soon('session:w', 'poison'), ask_soon('session:w', 'other') \g /dev/null
SELECT is_denied('other', 'an action that is refused stops no other of its stream');
DELETE FROM refused;
SELECT is_denied('unlucky', 'what may go well the next time is tried again soon');
SELECT ask_soon('session:v', 'set') \g /dev/null
SELECT is_denied('set', 'what a trigger sets');
SELECT is((SELECT work_mem FROM found WHERE action = 'set'), current_setting('work_mem'), 'does not last');
DROP TRIGGER refuse ON assistant_architect_events;

-- Rows that somebody has locked hold up nothing else.
BEGIN;
SELECT count(pev_emit('session:l' || n, 'tier3_approval_required', ask('row' || n))) FROM generate_series(1, 60) n \g /dev/null
SELECT pev_emit('session:u', 'tier3_approval_required', ask('loose')) \g /dev/null
COMMIT;
BEGIN;
SELECT FROM pev_approval WHERE action_id ~ '^row' FOR UPDATE \g /dev/null
SELECT is_denied('loose', 'of many actions whose rows are locked');
SELECT ok((SELECT decided_at < deadline + interval '2 s' FROM pev_approval WHERE action_id = 'loose'), 'none holds up another');
COMMIT;
SELECT is_denied('row60', 'and they are denied after that');

-- Defaults for transactions that would keep it from writing.
ALTER DATABASE :here SET default_transaction_read_only = on;
ALTER DATABASE :here SET default_transaction_isolation = serializable;
SELECT pg_terminate_backend(pid, 5000) FROM pev_notifier_status WHERE database = :'here' \g /dev/null
SELECT ask_soon('session:s', 'default') \g /dev/null
SELECT is_denied('default', 'the database''s defaults for transactions keep it from nothing');
ALTER DATABASE :here RESET ALL;
SELECT pg_terminate_backend(pid, 5000) FROM pev_notifier_status WHERE database = :'here' \g /dev/null


-- Whose rights: triggers that an owner adds run with the owner's.
CREATE ROLE deadline_owner;
CREATE TABLE seen (who name);
GRANT ALL ON seen, pev_stream TO deadline_owner;
GRANT CREATE ON SCHEMA public TO deadline_owner;
ALTER TABLE assistant_architect_events OWNER TO deadline_owner;
ALTER TABLE pev_approval OWNER TO deadline_owner;
SET ROLE deadline_owner;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END$$;
CREATE TRIGGER see AFTER INSERT ON assistant_architect_events FOR EACH ROW WHEN (new.event_type = 'tier3_approval_resolved') EXECUTE FUNCTION see();
SELECT ask_soon('session:s', 'owned') \g /dev/null
RESET ROLE;
SELECT is_denied('owned', 'a table with triggers of its owner takes a denial');
SELECT results_eq('SELECT who FROM seen', 'VALUES (''deadline_owner''::name)', 'which run as the owner');
DROP TRIGGER see ON assistant_architect_events;
DROP FUNCTION see();
ALTER TABLE assistant_architect_events OWNER TO CURRENT_USER;
ALTER TABLE pev_approval OWNER TO CURRENT_USER;
DROP TABLE seen;
DROP OWNED BY deadline_owner;
DROP ROLE deadline_owner;

-- The notifier dies: the next one looks when it starts.
SELECT pev_emit('session:s', 'tier3_approval_required', ask('orphan')) \g /dev/null
SELECT pg_terminate_backend(pid, 5000) FROM pev_notifier_status WHERE database = :'here' \g /dev/null
SELECT comes_true('orphan', 'clock_timestamp() > deadline') \g /dev/null
SELECT pev_emit('session:s', 'llm_token', '{"message_id": "m", "text": "t"}') \g /dev/null
SELECT is_denied('orphan', 'the next notifier denies what one that ended has left');

-- With a prepared transaction.
\if :two_phase
BEGIN;
SELECT ask_soon('session:p', 'prepared') \g /dev/null
PREPARE TRANSACTION 'pev_deadline';
COMMIT PREPARED 'pev_deadline';
SELECT is_denied('prepared', 'what COMMIT PREPARED brings is denied, too');
\else
SELECT skip('max_prepared_transactions is 0', 1);
\endif

-- Without it, by hand.
SET pev.notifier = off;
SELECT pg_terminate_backend(pid, 5000) FROM pev_notifier_status WHERE database = :'here' \g /dev/null
SELECT ask_soon('session:s', 'by hand') \g /dev/null
SELECT comes_true('by hand', 'clock_timestamp() > deadline') \g /dev/null
SET client_min_messages = error;
SELECT is(pev_deny_expired_approvals(), 1, 'pev.notifier = off: pev_deny_expired_approvals() does it');
SET client_min_messages = warning;
RESET pev.notifier;

-- One that has ended is started for what waits, and for nothing else, by whoever has no right at all.
SELECT pg_terminate_backend(pid, 5000) FROM pev_notifier_status WHERE database = :'here' \g /dev/null
DELETE FROM pev_approval;
CREATE ROLE deadline_watcher;
SET ROLE deadline_watcher;
SELECT is(pev_watch_approvals(), NULL, 'no action waits: no notifier is started');
RESET ROLE;
SET pev.notifier = off;
SELECT ask_soon('session:s', 'watched') \g /dev/null
SELECT is(pev_start_notifier(), false, 'pev.notifier = off: none is started');
RESET pev.notifier;
SET ROLE deadline_watcher;
SELECT is(pev_watch_approvals(), false, 'an action waits: it is started');
RESET ROLE;
SELECT is_denied('watched', 'and denies it');
DROP ROLE deadline_watcher;

-- However many there are to be denied, doorbells are rung in between.
CREATE FUNCTION comes_to_ring() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..20000 LOOP
    IF (SELECT waiting FROM pev_notifier_status WHERE database = current_database()) = 0 THEN
      RETURN true;
    END IF;
    PERFORM pg_sleep(0.001);
  END LOOP;
  RETURN false;
END
$$;
BEGIN;
SELECT count(ask_soon('session:crowd', 'crowd' || n)::text) FROM generate_series(1, 10000) n \g /dev/null
COMMIT;
SELECT comes_true('crowd1', 'decision IS NOT NULL') \g /dev/null
SELECT pev_emit('bell', 'progress', '{"currentStep": 1, "totalSteps": 1, "percentage": 1, "message": "m"}') \g /dev/null
SELECT ok(comes_to_ring(), 'an event of another stream is rung for');
SELECT ok((SELECT count(*) FROM pev_approval WHERE decision IS NULL AND action_id LIKE 'crowd%') > 0, 'before all are denied');

-- The extension goes, with what waits, and comes.
SELECT pev_emit('session:s', 'tier3_approval_required', ask('gone')) \g /dev/null
SET statement_timeout = '10s';
DROP EXTENSION pev CASCADE;
SELECT pass('DROP EXTENSION is not held up by actions that wait');
RESET statement_timeout;
CREATE EXTENSION pev;
SELECT ask_soon('session:s', 'anew') \g /dev/null
SELECT is_denied('anew', 'it goes on in the extension made anew');
\else
SELECT plan(3);
SELECT pev_emit('session:s', 'tier3_approval_required', ask('alone')) \g /dev/null
SELECT comes_true('alone', 'clock_timestamp() > deadline') \g /dev/null
SELECT is(pev_watch_approvals(), false, 'there is no notifier to be started');
SELECT is((SELECT decision FROM pev_approval), NULL, 'without the notifier nobody denies');
SELECT is(pev_deny_expired_approvals(), 1, 'but pev_deny_expired_approvals()');
\endif
SELECT * FROM finish();
