// "typing", of which a page sends one at every key: how many a client may send, and that
// a thousand a second from many clients store no row and delay no event that is stored.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before } from 'node:test';
import { Database, SseClient, Streamer, poll, request, stopStack, test, wrapper } from './harness.js';
import { KeyRing } from './jwt.js';
import { metrics } from './prometheus.js';

const SECONDS = 3;
const RATE = wrapper.length > 0 ? 100 : 1_000; // of typing a second; valgrind is some thirty times slower
const STORED_EVERY = 10; // one event that is stored for so many of typing
const ROOMS = Array.from({ length: 10 }, (_, i) => `channel:r${i}`);
const LISTENERS = 3; // of each room
const PEOPLE = RATE * SECONDS / 2 / 10; // so that none of them sends more in all than may come at once
const LATEST = wrapper.length > 0 ? '30' : '5'; // seconds, a bucket of pev_event_age_seconds

const ring = new KeyRing();
const stack = {};
const agent = new http.Agent({ keepAlive: true });

before(async () => {
  ring.secret();
  stack.db = await Database.start();
  stack.streamer = await start();
});
after(async () => {
  agent.destroy();
  await stopStack(stack);
});

async function start(...args) {
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--jwt-secret-file', ring.file('secret'), ...args] });
  await streamer.ready();
  return streamer;
}

const typing = (userId) => ({ type: 'typing', data: { userId, isTyping: true } });
const chat = (id) => ({ type: 'chat', data: { result: { id, content: 'hi', userId: 'u', userName: 'U', timestamp: '2026-01-01T00:00:00Z' } } });
const bearer = (sub) => ({ Authorization: `Bearer ${ring.token({ sub, 'pev.emit': ['channel:*'] })}` });

function post(headers, stream, body, streamer = stack.streamer) {
  return request(`${streamer.url}/events/${stream}`, {
    method: 'POST', agent, headers: { 'Content-Type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

const rows = () => stack.db.value('SELECT count(*) FROM assistant_architect_events');

test('429: who types too often, by subject; other events, and others, go on', async () => {
  const [ann, bob] = [bearer('ann'), bearer('bob')];
  const before = await metrics(stack.streamer);
  const began = performance.now();
  const answers = await Promise.all(Array.from({ length: 120 }, () => post(ann, 'channel:a', typing('ann'))));
  const most = 10 + Math.floor((performance.now() - began) / 100) + 1;
  const refused = answers.filter(({ status }) => status === 429);
  assert.ok(answers.every(({ status }) => status === 202 || status === 429));
  assert.ok(120 - refused.length >= 10 && 120 - refused.length <= most, `${120 - refused.length} taken`);
  assert.equal(JSON.parse(refused[0].body).detail, 'This client sends events of type "typing" too often.');
  assert.match(refused[0].headers['retry-after'], /^\d+$/);
  const limited = (await metrics(stack.streamer)).get('pev_emit_requests_total{result="limited"}') - before.get('pev_emit_requests_total{result="limited"}');
  assert.equal(limited, refused.length);

  // of one a second, so that it takes a while until the next is due
  const strict = await start('--typing-rate', '1');
  const escaped = JSON.stringify(typing('ann')).replace('"typing"', '"t\\u0079ping"');
  for (const body of [typing('ann'), escaped, [chat('1'), typing('ann')]]) {
    await poll(async () => {
      while ((await post(ann, 'channel:a', typing('ann'), strict)).status === 202); // until there is none left
      const stored = await rows();
      const { status } = await post(ann, 'channel:a', body, strict);
      assert.ok(status !== 429 || await rows() === stored, 'all or none');
      return status === 429; // unless the next has become due just then
    }, 'the limit');
  }
  await strict.stop();
  const stored = await rows();
  for (let i = 0; i < 20; i++) assert.equal((await post(ann, 'channel:a', chat('2'))).status, 201, 'other events');
  assert.equal((await post(bob, 'channel:a', typing('bob'))).status, 202, 'another client');
  assert.equal((await post(bob, 'channel:a', Array.from({ length: 11 }, () => typing('bob')))).status, 422, "more than a second's worth at once never can");
  await poll(async () => (await post(ann, 'channel:a', [chat('3'), typing('ann')])).status === 201, 'its being served again');
  assert.equal(await rows() - stored, 21);
});

test('--typing-rate: another rate, or none; without a subject the address counts', async () => {
  for (const [rate, sent, least] of [['0', 50, 50], ['3', 20, 3]]) {
    const streamer = await start('--typing-rate', rate);
    const answers = await Promise.all(Array.from({ length: sent }, () => post(bearer(), 'channel:a', typing('u'), streamer)));
    const taken = answers.filter(({ status }) => status === 202).length;
    assert.ok(taken >= least && (rate === '0' || taken < sent), `${taken} of ${sent} at ${rate}`);
    await streamer.stop();
  }
});

/** Do it `rate` times a second for so long, each time with the number; returns what each returned. */
async function pace(rate, seconds, task) {
  const all = [];
  const began = performance.now();
  while (all.length < rate * seconds) {
    const due = Math.min(rate * seconds, Math.ceil((performance.now() - began) * rate / 1_000));
    while (all.length < due) all.push(task(all.length));
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
  return Promise.all(all);
}

test(`${RATE} of typing a second store no row, and delay no event that is stored`, async () => {
  const { db, streamer } = stack;
  const listeners = await Promise.all(ROOMS.flatMap((room) => Array.from({ length: LISTENERS }, async () => {
    const client = await SseClient.open(`${streamer.url}/events/${room}`, { headers: bearer('u') });
    return client.until(() => client.retries.length > 0, 'the stream being open');
  })));
  const pool = db.newPool(8);
  const people = Array.from({ length: PEOPLE }, (_, i) => bearer(`p${i}`));
  const emit = (room, { type, data }) => pool.query('SELECT pev_emit($1::text, $2, $3::jsonb) AS seq', [room, type, JSON.stringify(data)]);
  const before = await rows();
  const typed = new Map(ROOMS.map((room) => [room, 0]));
  let posts = 0;

  const began = performance.now();
  const answers = await pace(RATE, SECONDS, async (n) => {
    const room = ROOMS[n % ROOMS.length];
    const stored = n % STORED_EVERY === 0 && emit(ROOMS[n / STORED_EVERY % ROOMS.length], chat(`m${n}`));
    typed.set(room, typed.get(room) + 1);
    // half of them in SQL, half over HTTP, where no person types more than is allowed
    if ((n + Math.floor(n / ROOMS.length)) % 2 === 0) assert.equal((await emit(room, typing('sql'))).rows[0].seq, null);
    else assert.equal((await post(people[posts++ % PEOPLE], room, typing('http'))).status, 202);
    return stored && (await stored).rows[0].seq;
  });
  const took = (performance.now() - began) / 1_000;
  process.stdout.write(`# ${RATE * SECONDS} of typing in ${took.toFixed(1)} s\n`);

  const count = answers.filter(Boolean).length;
  assert.equal(count, RATE * SECONDS / STORED_EVERY);
  assert.equal(await rows() - before, count, 'rows');
  for (const [i, client] of listeners.entries()) {
    const room = ROOMS[Math.floor(i / LISTENERS)];
    const want = await db.expected(room);
    await client.received(want.length + typed.get(room));
    assert.deepEqual(client.events.filter(({ event }) => event !== 'typing'), want, room);
    const live = client.events.filter(({ event }) => event === 'typing');
    assert.equal(live.length, typed.get(room), room);
    assert.ok(live.every(({ id }) => id === undefined), 'typing has no id');
    client.close();
  }
  const values = await metrics(streamer);
  assert.equal(values.get('pev_event_age_seconds_count'), LISTENERS * count);
  assert.equal(values.get(`pev_event_age_seconds_bucket{le="${LATEST}"}`), LISTENERS * count, 'none came late');
  await pool.end();

  const late = await SseClient.open(`${streamer.url}/events/${ROOMS[0]}`, { headers: bearer('u') });
  const want = await db.expected(ROOMS[0]);
  await late.received(want.length);
  assert.deepEqual(late.events, want, 'history has no typing');
  late.close();
});

test('typing while all keys are looked up again arrives', async () => {
  const [room] = ROOMS;
  const client = await SseClient.open(`${stack.streamer.url}/events/${room}?after=now`, { headers: bearer('u') });
  await client.until(() => client.retries.length > 0, 'the stream being open');
  await stack.db.emit(room, 'chat', chat('known').data);
  await client.received(1);
  const payload = (n) => `${n} ' || id || ' typing ${JSON.stringify(typing('ann').data)}`;
  await stack.db.query(`SELECT pg_notify('pev', 'new'), pg_notify('pev_live', '${payload(1)}'), pg_notify('pev_live', '${payload(2)}') FROM pev_stream WHERE key = $1`, [room]);
  await client.received(3);
  assert.deepEqual(client.events.slice(1).map(({ event }) => event), ['typing', 'typing']);
  client.close();
});
