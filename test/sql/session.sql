-- Sessions of agents: their sub-agents, and whether their events came in the order of the flow.
\set ECHO none
\set setup `echo "${PG_ABS_SRCDIR:-test}/fixtures/setup.sql"`
\i :setup
\set ECHO all

-- A session in short: words that are events.  A tool or an agent is named after an equals sign.
CREATE FUNCTION test.say(session text, words text, message text DEFAULT 'm') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  item text;
  name text;
  last bigint;
BEGIN
  FOREACH item IN ARRAY regexp_split_to_array(words, '\s+') LOOP
    name := coalesce(split_part(item, '=', 2), '');
    last := (SELECT pev_emit(session, type, jsonb_build_object('message_id', message, coalesce(key, type), data))
      FROM (VALUES
        ('token', 'llm_token', 'text', '"t"'::jsonb),
        ('start', 'action_started', NULL, jsonb_build_object('tool_name', name, 'summary', 's')),
        ('allow', 'shield_verdict', NULL, jsonb_build_object('tool_name', name, 'decision', 'ALLOW', 'tier', 0, 'confidence', 1, 'reasoning', 'r')),
        ('block', 'shield_verdict', NULL, jsonb_build_object('tool_name', name, 'decision', 'BLOCK', 'tier', 0, 'confidence', 1, 'reasoning', 'r')),
        ('escalate', 'shield_verdict', NULL, jsonb_build_object('tool_name', name, 'decision', 'ESCALATE', 'tier', 2, 'confidence', 1, 'reasoning', 'r')),
        ('ask', 'tier3_approval_required', 'tier3_approval', jsonb_build_object('tool_name', name, 'action_id', session || message || name, 'reasoning', 'r', 'timeout_secs', 900)),
        ('yes', 'tier3_approval_resolved', NULL, jsonb_build_object('action_id', session || message || name, 'decision', 'approved', 'reason', 'decision')),
        ('no', 'tier3_approval_resolved', NULL, jsonb_build_object('action_id', session || message || name, 'decision', 'denied', 'reason', 'decision')),
        ('done', 'action_completed', NULL, jsonb_build_object('tool_name', name, 'success', true, 'summary', 's')),
        ('undone', 'action_completed', NULL, jsonb_build_object('tool_name', name, 'success', false, 'summary', 's')),
        ('end', 'response_complete', NULL, '{"content": "c"}'),
        ('otr', 'otr_blocked', NULL, '{"reason": "r"}'),
        ('error', 'error', NULL, '{"code": "c", "message": "m", "recoverable": true}'),
        ('fatal', 'error', NULL, '{"code": "c", "message": "m", "recoverable": false}'),
        ('spawn', 'sub_agent_spawned', NULL, jsonb_build_object('name', name, 'task', 'task of ' || name)),
        ('groups', 'sub_agent_spawned', NULL, jsonb_build_object('name', name, 'task', 't', 'tool_groups', '["files", "web"]'::jsonb)),
        ('work', 'sub_agent_progress', NULL, jsonb_build_object('name', name, 'llm_calls', 1, 'tool_calls', 2, 'elapsed_ms', 3)),
        ('more', 'sub_agent_progress', NULL, jsonb_build_object('name', name, 'llm_calls', 10, 'tool_calls', 20, 'elapsed_ms', 30.0)),
        ('complete', 'sub_agent_completed', NULL, jsonb_build_object('name', name, 'result', 'r', 'duration_ms', 99)),
        ('fail', 'sub_agent_failed', NULL, jsonb_build_object('name', name, 'error', 'e')),
        ('cancel', 'sub_agent_cancelled', NULL, jsonb_build_object('name', name))) w(word, type, key, data)
      WHERE w.word = split_part(item, '=', 1));
  END LOOP;
  RETURN last;
END
$$;
-- What is found in a session of these words; each is a session of its own.
CREATE SEQUENCE test.n;
CREATE FUNCTION test.faults(words text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  session text := 'session:f' || nextval('test.n');
BEGIN
  PERFORM say(session, words);
  RETURN coalesce((SELECT string_agg(seq || ' ' || rule || ': ' || message, '; ') FROM pev_check_flow(session)), 'in order');
END
$$;

-- In order.
SELECT words, faults(words) FROM unnest(ARRAY[
  'token', 'token token end', 'token start=a allow=a done=a token end', 'start=a block=a undone=a start=b allow=b done=b end',
  'start=a escalate=a allow=a done=a end', 'start=a escalate=a ask=a yes=a done=a end', 'start=a escalate=a ask=a no=a undone=a end', 'start=a escalate=a ask=a',
  -- what is blocked off the record, or fails, may be left
  'start=a otr token end', 'start=a otr undone=a end', 'otr end', 'start=a error start=b allow=b done=b end', 'token error token end', 'token fatal',
  'start=a escalate=a ask=a error token end no=a',
  'start=create_agent allow=create_agent done=create_agent spawn=x work=x work=x complete=x end',
  'start=create_agent allow=create_agent done=create_agent spawn=x end work=x fail=x',
  'start=create_agent allow=create_agent done=create_agent end spawn=x cancel=x',
  'start=create_agent allow=create_agent done=create_agent start=create_agent allow=create_agent done=create_agent spawn=x spawn=y complete=y complete=x end',
  'start=create_agent allow=create_agent done=create_agent spawn=x fail=x start=create_agent allow=create_agent done=create_agent spawn=x complete=x',
  repeat('start=a allow=a done=a ', 25) || 'end']) words;
-- Not in order.
SELECT words, faults(words) FROM unnest(ARRAY[
  'allow=a', 'start=a allow=b', 'start=a allow=a block=a', 'start=a block=a allow=a done=a',
  'done=a', 'start=a allow=a done=b', 'start=a done=a', 'start=a allow=a done=a done=a',
  'start=a start=b', 'start=a allow=a token', 'start=a allow=a end', 'start=a block=a done=a', 'start=a otr done=a', 'start=a otr allow=a done=a',
  'ask=a', 'start=a allow=a ask=a', 'start=a escalate=a ask=b', 'start=a escalate=a ask=a done=a', 'start=a escalate=a ask=a no=a done=a', 'start=a escalate=a done=a',
  'end token', 'end end', 'end end end', 'fatal end', 'fatal error', 'end fatal', 'end start=a allow=a done=a',
  'spawn=x', 'start=create_agent allow=create_agent undone=create_agent spawn=x', 'start=create_agent allow=create_agent done=create_agent spawn=x spawn=y',
  'start=create_agent allow=create_agent done=create_agent start=create_agent allow=create_agent done=create_agent spawn=x spawn=x',
  'work=x', 'fail=x', 'start=create_agent allow=create_agent done=create_agent spawn=x complete=x work=x cancel=x complete=y']) words;
SELECT faults(repeat('start=a allow=a done=a ', 30) || 'end');
-- Messages are told apart, however they interleave; what is found comes by number.
SELECT say('session:two', 'start=a', 'm2'), say('session:two', 'start=b allow=b', 'm1'), say('session:two', 'allow=a done=a', 'm2'), say('session:two', 'token done=b end end', 'm1'), say('session:two', 'end token', 'm2');
SELECT * FROM pev_check_flow('session:two');
SELECT say('session:three', 'start=a escalate=a ask=a', 'm1');
SELECT pev_emit('session:three', 'tier3_approval_resolved', '{"message_id": "m1", "tier3_approval_resolved": {"action_id": "session:threem1a", "decision": "denied", "reason": "decision"}}');
DELETE FROM assistant_architect_events WHERE execution_id = pev_stream_id('session:three') AND event_type = 'tier3_approval_required';
SELECT * FROM pev_check_flow('session:three');
-- Other spellings, and what is no session.
SELECT faults('end') AS in_order, count(*) FROM pev_check_flow(-1::bigint);
SELECT pev_emit(7, 'progress', step(1)), pev_emit('e96b74bc-aba8-4837-bb43-237fd687d18b', 'error', '{"message_id": "m", "error": {"code": "c", "message": "m", "recoverable": false}}'),
  pev_emit('E96B74BC-aba8-4837-bb43-237fd687d18b', 'otr_blocked', '{"message_id": "m", "otr_blocked": {"reason": "r"}}');
SELECT * FROM pev_check_flow(7);
SELECT * FROM pev_check_flow('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid);
SELECT * FROM pev_check_flow('e96b74bc-aba8-4837-bb43-237fd687d18b');
SELECT * FROM pev_check_flow('session:nobody');
SELECT * FROM pev_check_flow('a b');

-- Sub-agents, each time that one was spawned.
SELECT say('session:agents', 'work=early groups=scout spawn=idle spawn=coder work=coder more=coder spawn=gone cancel=gone work=scout complete=scout more=scout fail=scout', 'm1'),
  say('session:agents', 'spawn=scout fail=scout', 'm2'), say('session:agents', 'spawn=scout work=scout', 'm1'), say('session:agents', 'token end', 'm1');
SELECT name, status, task, tool_groups, llm_calls, tool_calls, elapsed_ms, duration_ms, result, error, message_id FROM pev_sub_agents('session:agents');
SELECT a.name, spawned_at = s.created_at AS spawned, finished_at = f.created_at AS finished FROM pev_sub_agents('session:agents') a
  JOIN pev_events('session:agents') s ON s.event_type = 'sub_agent_spawned' AND s.event_data->'sub_agent_spawned'->>'name' = a.name AND s.created_at = spawned_at
  LEFT JOIN pev_events('session:agents') f ON f.created_at = finished_at;
SELECT count(*) FROM pev_sub_agents(pev_stream_id('session:agents'));
SELECT count(*) FROM pev_sub_agents('e96b74bc-aba8-4837-bb43-237fd687d18b'::uuid);
SELECT count(*) FROM pev_sub_agents('session:nobody');

-- With the caller's rights.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_pev_idle;
RESET client_min_messages;
CREATE ROLE regress_pev_idle;
SET ROLE regress_pev_idle;
SELECT outcome('SELECT count(*) FROM pev_check_flow(-1)');
SELECT outcome('SELECT count(*) FROM pev_sub_agents(-1)');
RESET ROLE;
DROP ROLE regress_pev_idle;

-- 100,000 events take no more than seconds, in one message and in many.
SELECT count(pev_emit('session:long', 'llm_token', '{"message_id": "m", "text": "t"}')) FROM generate_series(1, 50000);
SELECT count(pev_emit('session:long', 'sub_agent_progress', jsonb_build_object('message_id', 'm' || n, 'sub_agent_progress', '{"name": "n", "llm_calls": 1, "tool_calls": 1, "elapsed_ms": 1}'::jsonb))) FROM generate_series(1, 50000) n;
SET statement_timeout = '10s';
SELECT rule, count(*) FROM pev_check_flow('session:long') GROUP BY 1;
SELECT count(*) FROM pev_sub_agents('session:long');
RESET statement_timeout;
DROP EXTENSION pev;
