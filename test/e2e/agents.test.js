// Agent sessions: messages that go through the whole pipeline, interleaved in one session; their
// sub-agents; actions that a person approves, or nobody does in time; and what all clients hear.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { EventSource } from 'eventsource';
import pg from 'pg';
import { DEADLINE, Database, SseClient, Streamer, poll, request, stopStack, test } from './harness.js';
import { makeRoles } from './roles.js';

const stack = {};
let approvers; // connections of those who approve

before(async () => {
  stack.db = await Database.start();
  stack.streamer = await Streamer.start({ dsn: stack.db.dsn });
  await makeRoles(stack.db);
  const { PGPORT, PGDATABASE } = stack.db.env;
  approvers = new pg.Pool({ host: '127.0.0.1', port: Number(PGPORT), user: 'pev_approver', database: PGDATABASE, max: 60 });
  approvers.on('error', () => {}); // its connections end with the server
});
after(async () => {
  await approvers.end();
  await stopStack(stack);
});

const TYPES = ['llm_token', 'action_started', 'shield_verdict', 'action_completed', 'response_complete', 'otr_blocked', 'error',
  'tier3_approval_required', 'tier3_approval_resolved', 'log_entry', 'sub_agent_spawned', 'sub_agent_progress', 'sub_agent_completed',
  'sub_agent_failed', 'sub_agent_cancelled'];
const KEYS = { llm_token: 'text', tier3_approval_required: 'tier3_approval' };
const keyOf = (type) => KEYS[type] ?? type;

/** What an event must be for clients, envelope and all. */
const envelope = (session, message, type, payload) => ({ session_id: session, message_id: message, type, [keyOf(type)]: payload });

/** A page as the web UI has it: everything that an EventSource hears of a stream, in order. */
function openPage(stream) {
  const page = { seen: [], source: new EventSource(`${stack.streamer.url}/events/${stream}`) };
  for (const type of TYPES) page.source.addEventListener(type, (e) => page.seen.push([type, JSON.parse(e.data)]));
  page.sees = (count) => poll(() => page.seen.length >= count, `${count} events, after ${JSON.stringify(page.seen.at(-1))}`);
  page.opened = new Promise((resolve) => { page.source.onopen = resolve; });
  return page.opened.then(() => page);
}

/** The engine's side of one message: a connection that stamps what it emits with it. */
async function openMessage(session, message) {
  const connection = await stack.pool.connect();
  await connection.query("SELECT set_config('pev.message_id', $1, false)", [message]);
  return {
    say: async (type, payload) => {
      await connection.query('SELECT pev_emit($1::text, $2, $3::jsonb)', [`session:${session}`, type, JSON.stringify({ [keyOf(type)]: payload })]);
      return envelope(session, message, type, payload);
    },
    end: () => connection.release(true),
  };
}

const verdict = (tool_name, decision, tier = 0) => ({ tool_name, decision, tier, confidence: 0.97, reasoning: 'by the rules' });
const approve = async (action, decision, by) => (await approvers.query('SELECT *, decided_at::text FROM pev_approve($1, $2, $3)', [action, decision, by])).rows[0];
const checkFlow = (session) => stack.db.query('SELECT seq, rule, message FROM pev_check_flow($1::text)', [`session:${session}`]);

test('a session with two messages at once, a sub-agent, and two approvals', async () => {
  stack.pool = stack.db.newPool(4);
  const session = 'web-1';
  const page = await openPage(`session:${session}`);
  const other = await openPage('session:web-2');
  const execution = await openPage('4711');
  const raw = await SseClient.open(`${stack.streamer.url}/events/session:${session}`);
  const one = await openMessage(session, 'msg_1');
  const two = await openMessage(session, 'msg_2');
  const told = [];
  const say = async (message, type, payload) => told.push(await message.say(type, payload));

  await say(one, 'llm_token', 'Let me ');
  await say(two, 'llm_token', 'I will ');
  await say(one, 'action_started', { tool_name: 'read_file', summary: 'Read notes.txt' });
  await say(two, 'action_started', { tool_name: 'send_mail', summary: 'Mail the notes to Bob' });
  await say(one, 'shield_verdict', verdict('read_file', 'ALLOW'));
  await say(two, 'shield_verdict', verdict('send_mail', 'ESCALATE', 2));
  await say(two, 'tier3_approval_required', { action_id: 'act_mail', tool_name: 'send_mail', reasoning: 'It leaves the house.', timeout_secs: 1 });
  await say(one, 'action_completed', { tool_name: 'read_file', success: true, summary: '12 lines' });
  await say(one, 'action_started', { tool_name: 'shell', summary: 'rm old.txt' });
  await say(one, 'shield_verdict', verdict('shell', 'ESCALATE', 2));
  await say(one, 'tier3_approval_required', { action_id: 'act_rm', tool_name: 'shell', reasoning: 'It deletes a file.', timeout_secs: 300 });

  // A person sees what waits, and approves the one; nobody decides about the other.
  const waiting = await stack.db.query('SELECT action_id, tool_name, reasoning FROM pev_approval WHERE decision IS NULL ORDER BY deadline');
  assert.deepEqual(waiting.at(-1), { action_id: 'act_rm', tool_name: 'shell', reasoning: 'It deletes a file.' });
  const approved = await approve('act_rm', 'approved', 'ann');
  assert.deepEqual([approved.outcome, approved.decided_by, approved.won], ['approved', 'ann', true]);
  told.push(envelope(session, 'msg_1', 'tier3_approval_resolved', { action_id: 'act_rm', decision: 'approved', by: 'ann', reason: 'decision' }));
  // When its time-out is over depends on how busy the machine is; it is after the request.
  await page.sees(told.length + 1);
  const denied = page.seen.findIndex(([type, { message_id: message }]) => type === 'tier3_approval_resolved' && message === 'msg_2');
  assert.ok(denied > told.findIndex((event) => event.tier3_approval?.action_id === 'act_mail'));
  told.splice(denied, 0, envelope(session, 'msg_2', 'tier3_approval_resolved', { action_id: 'act_mail', decision: 'denied', reason: 'timeout' }));
  const late = await approve('act_mail', 'approved', 'ann');
  assert.deepEqual([late.outcome, late.decided_by, late.won], ['denied', null, false]);

  await say(one, 'action_completed', { tool_name: 'shell', success: true, summary: 'gone' });
  await say(two, 'action_completed', { tool_name: 'send_mail', success: false, summary: 'denied' });
  await say(two, 'action_started', { tool_name: 'remember', summary: 'Note that Bob is away' });
  await say(two, 'otr_blocked', { reason: 'This session is off the record.' });
  await say(one, 'action_started', { tool_name: 'create_agent', summary: 'Have a scout look' });
  await say(one, 'shield_verdict', verdict('create_agent', 'ALLOW', 1));
  await say(one, 'action_completed', { tool_name: 'create_agent', success: true, summary: 'scout' });
  await say(one, 'sub_agent_spawned', { name: 'scout', task: 'find the docs', tool_groups: ['files', 'web'] });
  await say(two, 'error', { code: 'LLM_TIMEOUT', message: 'no answer, once more', recoverable: true });
  await say(one, 'sub_agent_progress', { name: 'scout', llm_calls: 1, tool_calls: 2, elapsed_ms: 900 });
  await page.sees(told.length);

  // A line of the log is for everybody, of no session, with no number and no row.
  const entry = { level: 'info', event: 'engine.scout', message: 'The scout is at work', fields: { port: 3100 } };
  const events = (await stack.db.expected(`session:${session}`)).length;
  await stack.db.query("SELECT pev_emit(NULL::text, 'log_entry', $1::jsonb)", [JSON.stringify({ log_entry: entry })]);
  const line = { type: 'log_entry', log_entry: entry };
  for (const { seen } of [page, other, execution]) await poll(() => seen.at(-1)?.[0] === 'log_entry', 'the line of the log');
  assert.deepEqual([other.seen, execution.seen], [[['log_entry', line]], [['log_entry', line]]]);
  assert.equal((await stack.db.expected(`session:${session}`)).length, events);
  told.push(line);

  await say(two, 'llm_token', 'I could not.');
  await say(two, 'response_complete', { content: 'I will I could not.' });
  await say(one, 'llm_token', 'see.');
  await say(one, 'response_complete', { content: 'Let me see.', thoughts: [{ stage: 'plan', summary: 'look, then tidy' }] });
  await say(one, 'sub_agent_progress', { name: 'scout', llm_calls: 2, tool_calls: 5, elapsed_ms: 4200 });
  await say(one, 'sub_agent_completed', { name: 'scout', result: 'found 3', duration_ms: 9100 });
  const three = await openMessage(session, 'msg_3');
  await say(three, 'error', { code: 'LLM_GONE', message: 'no answer', recoverable: false });
  for (const message of [one, two, three]) message.end();
  await stack.db.emit('session:web-2', 'llm_token', { message_id: 'msg_9', text: 'elsewhere' });

  await page.sees(told.length);
  assert.deepEqual(page.seen, told.map((data) => [data.type, data]));
  // the numbers have no gap; the line of the log has none
  await raw.received(told.length);
  let number = 0;
  assert.deepEqual(raw.events.map(({ id }) => id), told.map(({ type }) => (type === 'log_entry' ? undefined : String(++number))));
  assert.deepEqual(raw.events.filter(({ id }) => id !== undefined), await stack.db.expected(`session:${session}`));
  // who comes late sees the same, but for the line
  const late2 = await openPage(`session:${session}`);
  await late2.sees(told.length - 1);
  assert.deepEqual(late2.seen, page.seen.filter(([type]) => type !== 'log_entry'));
  // the other session has its own event alone
  await poll(() => other.seen.length === 2, "the other session's event");
  assert.deepEqual(other.seen[1], ['llm_token', envelope('web-2', 'msg_9', 'llm_token', 'elsewhere')]);
  assert.equal(execution.seen.length, 1);

  assert.deepEqual(await checkFlow(session), []);
  const [scout, ...rest] = await stack.db.query('SELECT * FROM pev_sub_agents($1::text)', [`session:${session}`]);
  assert.equal(rest.length, 0);
  assert.ok(scout.finished_at > scout.spawned_at);
  assert.deepEqual({ ...scout, spawned_at: 0, finished_at: 0 }, {
    name: 'scout', status: 'completed', task: 'find the docs', tool_groups: ['files', 'web'], llm_calls: '2', tool_calls: '5', elapsed_ms: '4200',
    duration_ms: '9100', result: 'found 3', error: null, spawned_at: 0, finished_at: 0, message_id: 'msg_1',
  });
  for (const { source } of [page, other, execution, late2]) source.close();
  raw.close();
  await stack.pool.end();
});

test('an action waits across a restart of the server, and is denied though nobody emits anything', async () => {
  const client = await SseClient.open(`${stack.streamer.url}/events/session:restart`);
  await stack.db.emit('session:restart', 'tier3_approval_required', {
    message_id: 'm_1', tier3_approval: { action_id: 'restart', tool_name: 'shell', reasoning: 'deletes', timeout_secs: 2 },
  });
  await stack.db.stopServer('immediate');
  await stack.db.startServer();
  await client.received(2);
  assert.deepEqual(JSON.parse(client.events[1].data), envelope('restart', 'm_1', 'tier3_approval_resolved', {
    action_id: 'restart', decision: 'denied', reason: 'timeout',
  }));
  client.close();
});

test('a session in disorder is stored as it is, and reported', async () => {
  const session = 'disorder';
  const events = [
    ['llm_token', 'a'], ['shield_verdict', verdict('shell', 'ALLOW')], ['action_started', { tool_name: 'shell', summary: '' }], ['llm_token', 'b'],
    ['shield_verdict', verdict('shell', 'BLOCK')], ['action_completed', { tool_name: 'shell', success: true, summary: '' }],
    ['tier3_approval_required', { action_id: 'act_1', tool_name: 'shell', reasoning: '', timeout_secs: 300 }],
    ['sub_agent_progress', { name: 'ghost', llm_calls: 0, tool_calls: 0, elapsed_ms: 0 }], ['response_complete', { content: '' }], ['llm_token', 'c'],
    ['response_complete', { content: '' }],
  ].map(([type, payload]) => ({ type, data: { message_id: 'msg_1', [keyOf(type)]: payload } }));
  const answer = await request(`${stack.streamer.url}/events/session:${session}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(events),
  });
  assert.deepEqual([answer.status, JSON.parse(answer.body)], [201, { seq: events.length }]);
  assert.deepEqual((await checkFlow(session)).map(({ seq, rule }) => [seq, rule]), [
    [2, 'verdict_without_action'], [4, 'token_during_action'], [6, 'success_after_block'], [7, 'approval_without_escalation'],
    [8, 'agent_not_spawned'], [10, 'event_after_end'], [11, 'second_response'],
  ]);
  // over HTTP an outcome is refused like anywhere else
  const resolve = async (action_id, decision = 'approved') => {
    const { status, body } = await request(`${stack.streamer.url}/events/session:${session}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ type: 'tier3_approval_resolved', data: { message_id: 'msg_1', tier3_approval_resolved: { action_id, decision, by: 'ann', reason: 'decision' } } }),
    });
    return [status, JSON.parse(body).detail?.replace(/ at .*/, '')];
  };
  assert.deepEqual(await resolve('act_1'), [201, undefined]);
  assert.deepEqual(await resolve('act_1', 'denied'), [409, 'action "act_1" has been decided. It was approved by "ann"']);
  assert.deepEqual(await resolve('act_2'), [422, 'action "act_2" is not known. No "tier3_approval_required" has asked for its approval.']);
});

const ACTIONS = 200;
const SESSIONS = 20;

test(`${ACTIONS} actions, two approvers each, racing their time-outs: one outcome each, everywhere`, async () => {
  const pool = stack.db.newPool(10);
  const clients = [];
  for (let i = 0; i < SESSIONS; i++) clients.push(await SseClient.open(`${stack.streamer.url}/events/session:race-${i}?types=tier3_approval_resolved`));
  const actions = Array.from({ length: ACTIONS }, (_, i) => ({ id: `race-${i}`, session: i % SESSIONS, timeout: 1 + (i % 2) }));
  const ask = ({ id, session, timeout }) => pool.query("SELECT pev_emit($1::text, 'tier3_approval_required', $2::jsonb)", [`session:race-${session}`,
    JSON.stringify({ message_id: `of ${id}`, tier3_approval: { action_id: id, tool_name: 'shell', reasoning: 'why not', timeout_secs: timeout } })]);
  await Promise.all(actions.map(ask));
  const { rows } = await pool.query("SELECT action_id, extract(epoch FROM deadline) * 1000 AS deadline FROM pev_approval WHERE action_id LIKE 'race-%'");
  const deadlines = new Map(rows.map(({ action_id: id, deadline }) => [id, Number(deadline)]));
  assert.equal(deadlines.size, ACTIONS);

  // Both call within a few moments of the deadline, before and after; but about some early, about some late.
  const moment = (index) => [-600, 100][Math.floor(index / 2) % 10] ?? ((index * 37) % 120) - 60;
  const call = async ({ id }, by, index) => {
    await new Promise((resolve) => setTimeout(resolve, deadlines.get(id) + moment(index) - Date.now()));
    const decision = index % 3 === 0 ? 'denied' : 'approved';
    return { id, by, decision, ...await approve(id, decision, by) };
  };
  let racing = true; // and so does somebody's cron job
  const cron = (async () => {
    let denied = 0;
    for (; racing; await new Promise((resolve) => setTimeout(resolve, 50))) {
      denied += (await approvers.query('SELECT pev_deny_expired_approvals() AS n')).rows[0].n;
    }
    return denied;
  })();
  const answers = await Promise.all(actions.flatMap((action, i) => [call(action, 'ann', 2 * i), call(action, 'bob', 2 * i + 1)]));
  racing = false;
  const byCron = await cron;

  const stored = await stack.db.query("SELECT *, decided_at::text FROM pev_approval WHERE action_id LIKE 'race-%'");
  const outcomes = new Map(stored.map((row) => [row.action_id, row]));
  const events = await stack.db.query(`SELECT e.created_at::text AS at, e.event_data->'message_id' AS message, e.event_data->'tier3_approval_resolved' AS payload
    FROM assistant_architect_events e WHERE event_type = 'tier3_approval_resolved' AND event_data->'tier3_approval_resolved'->>'action_id' LIKE 'race-%'`);
  assert.equal(events.length, ACTIONS, 'one event each');
  for (const { at, message, payload } of events) {
    const { decision, reason, decided_by, decided_at } = outcomes.get(payload.action_id);
    assert.deepEqual({ at, message, ...payload }, {
      at: decided_at, message: `of ${payload.action_id}`, action_id: payload.action_id, decision, reason, ...(decided_by && { by: decided_by }),
    });
  }
  for (const { id, by, decision, outcome, decided_by, decided_at, won } of answers) {
    const row = outcomes.get(id);
    assert.deepEqual([outcome, decided_by, decided_at], [row.decision, row.decided_by, row.decided_at]);
    assert.equal(won, row.decided_by === by, `${by} on ${id}`);
    if (won) assert.equal(outcome, decision);
  }
  const received = [];
  for (const [i, client] of clients.entries()) {
    await client.received(ACTIONS / SESSIONS, DEADLINE);
    received.push(...client.events.map(({ data }) => JSON.parse(data).tier3_approval_resolved));
    assert.deepEqual(client.events, (await stack.db.expected(`session:race-${i}`)).filter(({ event }) => event === 'tier3_approval_resolved'));
    client.close();
  }
  const sorted = (payloads) => payloads.map((payload) => JSON.stringify(Object.entries(payload).sort())).sort();
  assert.deepEqual(sorted(received), sorted(events.map(({ payload }) => payload)), 'clients saw exactly those');

  const count = (test) => stored.filter(test).length;
  const decided = count(({ reason }) => reason === 'decision');
  assert.ok(decided > 0 && decided < ACTIONS, `${decided} decided in time`);
  assert.ok(count(({ decision }) => decision === 'approved') > 0);
  process.stdout.write(`# ${decided} of ${ACTIONS} decided in time; ${ACTIONS - decided} timed out, ${byCron} of those by cron\n`);
  await pool.end();
});

// A scan that sees the winner's version of the row before it commits, and the one before after, has seen
// none. Versions that nobody may clear away, a page each, make it long enough for that
// to happen more often than not.
test('who asks while the winner commits is told what holds, not that there is no such action', async () => {
  const pool = stack.db.newPool(9);
  const holder = await pool.connect();
  const ids = Array.from({ length: 30 }, (_, i) => `long-${i}`);
  await pool.query('ALTER TABLE pev_approval ALTER reasoning SET STORAGE PLAIN, SET (autovacuum_enabled = off)');
  await pool.query(`INSERT INTO pev_approval (action_id, execution_id, message_id, tool_name, reasoning, requested_at, deadline)
    SELECT 'space ' || i, 1, 'm', 't', repeat('x', 5000), now(), now() + interval '1 day' FROM generate_series(1, 80) i`);
  await pool.query("SELECT pev_emit('session:long', 'tier3_approval_required', data) FROM unnest($1::jsonb[]) data", [ids.map((action_id) =>
    JSON.stringify({ message_id: 'm', tier3_approval: { action_id, tool_name: 't', reasoning: 'r', timeout_secs: 3600 } }))]);
  await pool.query("DELETE FROM pev_approval WHERE action_id LIKE 'space %'");
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await holder.query('SELECT');
  await pool.query(`DO $$BEGIN FOR i IN 1..300 LOOP
    UPDATE pev_approval SET reasoning = repeat('x', 5000), deadline = deadline + interval '1 s' WHERE action_id LIKE 'long-%';
  END LOOP; END$$`);
  await pool.query('VACUUM pev_approval'); // and so the winner's version comes before them
  for (const id of ids) {
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => pool.query("SELECT * FROM pev_approve($1, 'approved', $2)", [id, `p${i}`])));
    assert.equal(answers.filter(({ rows }) => rows[0].won).length, 1);
    assert.equal(new Set(answers.map(({ rows }) => rows[0].decided_by)).size, 1);
  }
  await holder.query('COMMIT');
  holder.release();
  await pool.end();
});
