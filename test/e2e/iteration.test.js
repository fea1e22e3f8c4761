// Iterations: a generator tells its progress by named arguments, pages follow it by
// onmessage alone with a token in the query. Each test asserts everything that a page
// sees.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before } from 'node:test';
import { EventSource } from 'eventsource';
import { Database, SseClient, Streamer, poll, request, root, stopStack, test, wrapper } from './harness.js';
import { KeyRing, now } from './jwt.js';

const IDLE = 4_000; // longer than a heartbeat

const ring = new KeyRing();
const stack = {};
let hasty; // a second streamer, whose generations may not be idle for long

before(async () => {
  const args = ['--jwt-secret-file', ring.secret(), '--heartbeat', '1s'];
  stack.db = await Database.start({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` } });
  stack.streamer = await Streamer.start({ dsn: stack.db.dsn, args: [...args, '--access-log'] });
  hasty = await Streamer.start({ dsn: stack.db.dsn, args: [...args, '--idle-timeout', `${IDLE}ms`, '--retry', '100ms'] });
  await Promise.all([stack.streamer, hasty].map((streamer) => streamer.ready()));
});
after(async () => {
  try {
    await hasty?.stop();
  } finally {
    await stopStack(stack);
  }
});

/** The data of a recorded run, in which the generation and the time are those of that day. */
const recorded = (file) => fs.readFileSync(path.join(root, file), 'utf8').trim().split('\n').map((line) => {
  const { generation_id: generation, timestamp, ...data } = JSON.parse(line).data;
  assert.ok(generation && timestamp);
  return data;
});
const complete = recorded('test/demo/iteration.jsonl');
const broken = recorded('test/fixtures/iteration-failed.jsonl');

const PARAMETERS = new Set(['status', 'stage', 'progress', 'message', 'generation_mode', 'ab_group', 'enhanced_features',
  'estimated_time_remaining', 'current_file', 'partial_output', 'phase_info']);

/** What a generator does: a call for each step; resolves to the warnings. */
async function generate(id, steps, tell = async () => {}) {
  const connection = await stack.db.pool.connect();
  const warnings = [];
  const warn = ({ severity, code, message }) => warnings.push(`${severity} ${code} ${message}`);
  connection.on('notice', warn);
  try {
    for (const step of steps) {
      const args = { generation_id: id };
      for (const [name, value] of Object.entries(step)) {
        if (PARAMETERS.has(name)) args[name] = value;
        else args.extra = { ...args.extra, [name]: value };
      }
      const names = Object.keys(args).map((name, i) => `${name} => $${i + 1}`);
      const { rows: [row] } = await connection.query(`SELECT pev_iteration_progress(${names}) AS seq`, Object.values(args));
      await tell(row.seq);
    }
  } finally {
    connection.off('notice', warn);
    connection.release();
  }
  return warnings;
}

const url = (id, query = '', streamer = stack.streamer) => `${streamer.url}/generations/${id}/stream${query}`;
const tokenFor = (id, claims) => ring.token({ 'pev.read': [id], ...claims });
const bearer = (id) => ({ Authorization: `Bearer ${tokenFor(id)}` });
const listen = (id, { query = '', headers = {}, streamer } = {}) =>
  SseClient.open(url(id, query, streamer), { headers: { ...bearer(id), ...headers } });

/** A page, as the guide to this API would have it written: onmessage, and a close at the end. */
function open(target) {
  const page = { seen: [], named: [], source: new EventSource(target) };
  page.source.onmessage = (event) => {
    const data = JSON.parse(event.data);
    page.seen.push({ id: event.lastEventId, data: event.data });
    if (data.status === 'completed' || data.status === 'failed') page.source.close();
  };
  for (const name of ['StreamingProgressEvent', 'progress', 'idle-timeout']) {
    page.source.addEventListener(name, (event) => page.named.push(event.type));
  }
  page.closed = () => poll(() => page.source.readyState === EventSource.CLOSED, 'the page being done');
  return page;
}

/** What a page saw must be the steps, told once each, in order, with what pev adds. */
async function assertSteps(page, id, steps) {
  assert.deepEqual(page.seen, (await stack.db.expected(id)).map((row) => ({ id: row.id, data: row.data })));
  assert.deepEqual(page.seen.map((event) => event.id), steps.map((_, i) => String(i + 1)));
  const told = page.seen.map((event) => JSON.parse(event.data));
  assert.deepEqual(told.map(({ generation_id: generation, timestamp, estimated_time_remaining: remaining, ...data }) => data), steps);
  let before = now() - 60;
  told.forEach((data, i) => {
    assert.equal(data.generation_id, id);
    assert.ok(data.timestamp >= before && data.timestamp < now() + 60, `${data.timestamp} after ${before}`);
    before = data.timestamp;
    if (i > 0 && data.status === 'processing') assert.ok(Number.isInteger(data.estimated_time_remaining) && data.estimated_time_remaining >= 0, JSON.stringify(data));
    else assert.ok(!('estimated_time_remaining' in data), JSON.stringify(data));
  });
}

const event = (data, id, type) => ({ ...(id && { id: String(id) }), ...(type && { event: type }), data });
const status = (id) => stack.db.query('SELECT status, progress::float8, events, last_message FROM pev_execution($1::uuid)', [id]).then(([row]) => row);

test('the recorded run, seen by a page that was there before its first event', async () => {
  const id = crypto.randomUUID();
  const raw = await listen(id);
  const named = await SseClient.open(`${stack.streamer.url}/events/${id}`, { headers: bearer(id) });
  const page = open(url(id, `?token=${tokenFor(id)}`));
  await poll(() => page.source.readyState === EventSource.OPEN, 'the page being connected');
  const warnings = await generate(id, complete, (seq) => poll(() => page.seen.length === seq, `event ${seq} in the page`));
  await page.closed();
  await assertSteps(page, id, complete);
  assert.deepEqual(page.named, []);
  assert.deepEqual(warnings, [
    `WARNING 01000 progress of generation ${id} goes back from 0.3 to 0.05`,
    `WARNING 01000 progress of generation ${id} goes back from 0.99 to 0.97`,
  ]);
  assert.deepEqual(await status(id), { status: 'completed', progress: 1, events: complete.length, last_message: complete.at(-1).message });
  // byte for byte: what has a name elsewhere has none here
  await raw.toEnd();
  const rows = await stack.db.expected(id);
  assert.deepEqual(raw.events, rows.map((row) => event(row.data, row.id)));
  assert.deepEqual((await named.toEnd()).events, rows);
  assert.equal(raw.raw.replace(/^retry: \d+\n: pev\n\n/, '').replaceAll(': \n\n', ''), rows.map((row) => `id: ${row.id}\ndata: ${row.data}\n\n`).join(''));
  // there is nothing to come back for
  for (const headers of [{ 'Last-Event-ID': raw.lastId }, { 'Last-Event-ID': raw.lastId, Accept: 'text/event-stream' }]) {
    assert.equal((await request(url(id), { headers: { ...bearer(id), ...headers } })).status, 204);
  }
  assert.equal((await request(url(id, `?lastEventId=${raw.lastId}`), { headers: bearer(id) })).status, 204);
  await poll(() => stack.streamer.log.includes(`ACCESS 127.0.0.1 GET /generations/${id}/stream 204`), 'the access log, without the query');
});

test('a page that comes late gets the history, from where it says', async () => {
  const id = crypto.randomUUID();
  await generate(id, complete.slice(0, 5));
  const page = open(url(id, `?token=${tokenFor(id)}`));
  const live = await listen(id, { query: '?after=now' });
  const later = await listen(id, { query: '?after=1', headers: { 'Last-Event-ID': '4' } });
  await poll(() => page.seen.length === 5, 'the history');
  await generate(id, complete.slice(5));
  await page.closed();
  await assertSteps(page, id, complete);
  assert.deepEqual((await live.toEnd()).events.map((e) => e.id), ['6', '7', '8', '9', '10', '11']);
  assert.deepEqual((await later.toEnd()).events.map((e) => e.id), ['5', '6', '7', '8', '9', '10', '11']);
});

test('the run that fails: a failure ends it, and the status has how far it was', async () => {
  const id = crypto.randomUUID();
  const page = open(url(id, `?token=${tokenFor(id)}`));
  assert.deepEqual(await generate(id, broken), []);
  await page.closed();
  await assertSteps(page, id, broken);
  assert.deepEqual(await status(id), { status: 'failed', progress: 0.97, events: broken.length, last_message: broken.at(-1).message });
  await assert.rejects(generate(id, broken.slice(0, 1)), { code: '55000' });
});

test('what is not progress keeps its name, whether it is stored or not', async () => {
  const id = crypto.randomUUID();
  const upper = id.toUpperCase();
  const step = { currentStep: 1, totalSteps: 2, percentage: 50, message: 'm' };
  const entry = { level: 'info', event: 'e', message: 'm', fields: {} };
  await generate(id, [...complete.slice(0, 3)]);
  await stack.db.emit(id, 'progress', step);
  await stack.db.query('DELETE FROM assistant_architect_events WHERE execution_id = pev_stream_id($1::uuid) AND seq < 3', [id]);
  const dying = await SseClient.open(url(id, `?token=${tokenFor(id, { exp: now() + 31 })}`));
  const client = await listen(id, { query: '?after=0' });
  const filtered = await SseClient.open(url(upper, '?types=progress'), { headers: bearer(id) });
  await client.received(3);
  await stack.db.query(`SELECT pev_emit(NULL::text, 'log_entry', $1)`, [JSON.stringify({ log_entry: entry })]);
  await client.received(4);
  await dying.until(() => dying.events.some((e) => e.event === 'token-expiring'), 'word of the token');
  dying.close();
  await generate(upper, complete.slice(-1));
  await client.toEnd();
  const [third, fourth, last] = await stack.db.expected(id);
  const [gap, , , log] = client.events;
  assert.deepEqual(gap, event('{"from":1,"to":2}', undefined, 'stream-gap'));
  assert.equal(log.event, 'log_entry');
  assert.equal(log.id, undefined);
  assert.deepEqual(client.events, [gap, event(third.data, 3), event(fourth.data, 4, 'progress'), log, event(last.data, 5)]);
  assert.deepEqual((await filtered.toEnd()).events.filter((e) => e.event !== 'stream-gap'), [event(fourth.data, 4, 'progress')]);
  assert.equal(filtered.lastId, '5');
});

test('a generation that nothing happens to: its pages are told so, and come back where they were', async () => {
  const id = crypto.randomUUID();
  const elsewhere = await SseClient.open(`${hasty.url}/events/${id}`, { headers: bearer(id) });
  const empty = await listen(id, { streamer: hasty });
  await empty.toEnd();
  const notice = event(`{"seconds": ${IDLE / 1000}}`, undefined, 'idle-timeout');
  assert.deepEqual(empty.events, [notice]);
  assert.ok(empty.comments.length >= 2, 'heartbeats are no events');
  const page = open(url(id, `?token=${tokenFor(id)}`, hasty));
  await poll(() => page.source.readyState === page.source.OPEN, 'the page being connected');
  const client = await listen(id, { streamer: hasty });
  const began = Date.now();
  await generate(id, complete.slice(0, 2));
  await client.toEnd();
  assert.ok(Date.now() - began >= IDLE, `it ended after ${Date.now() - began} ms`);
  await poll(() => page.named.length > 0, 'the page being told, too');
  assert.deepEqual(client.events.at(-1), notice);
  assert.equal(client.lastId, '2');
  await generate(id, complete.slice(2, 4));
  await poll(() => page.seen.length === 4, 'the page coming back');
  const again = await listen(id, { streamer: hasty, headers: { 'Last-Event-ID': client.lastId } });
  await again.received(2);
  await generate(id, complete.slice(4));
  await page.closed();
  await assertSteps(page, id, complete);
  assert.deepEqual([...new Set(page.named)], ['idle-timeout']);
  const rows = await stack.db.expected(id);
  assert.deepEqual([...client.events.slice(0, -1), ...(await again.toEnd()).events], rows.map((row) => event(row.data, row.id)));
  // the same stream has waited all the while under its other name
  assert.deepEqual((await elsewhere.toEnd()).events, rows);
});

test('while the database is away no generation is idle', async () => {
  const id = crypto.randomUUID();
  const client = await listen(id, { streamer: hasty });
  await generate(id, complete.slice(0, 3));
  await client.received(3);
  await stack.db.stopServer('immediate');
  const late = await listen(id, { streamer: hasty });
  const end = Date.now() + 1.5 * IDLE;
  await poll(() => Date.now() > end, 'more than the time-out');
  await stack.db.startServer();
  await hasty.ready();
  await generate(id, complete.slice(3, 5));
  const rows = await stack.db.expected(id);
  for (const page of [client, late]) {
    await page.received(5);
    assert.deepEqual(page.events, rows.map((row) => event(row.data, row.id)));
    page.close();
  }
});

test('many idle pages, each with a generation of its own, end in time, but for one that has events', async () => {
  const ids = Array.from({ length: wrapper.length > 0 ? 20 : 200 }, () => crypto.randomUUID());
  const headers = { Authorization: `Bearer ${ring.token()}` };
  const clients = await Promise.all(ids.map((id) => SseClient.open(url(id, '', hasty), { headers })));
  const [busy, ...idle] = clients;
  const began = Date.now();
  let ended = false;
  const all = Promise.all(idle.map((client) => client.toEnd())).finally(() => { ended = true; });
  for (let n = 0; !ended; n++) {
    await generate(ids[0], [{ ...complete[0], progress: Math.min(n / 1000, 1) }]);
    await busy.received(n + 1);
  }
  await all;
  assert.ok(Date.now() - began < 3 * IDLE, `they ended after ${Date.now() - began} ms`);
  for (const client of idle) assert.deepEqual(client.events.map((e) => e.event), ['idle-timeout']);
  assert.equal(busy.ended, false);
  assert.ok(busy.events.every((e) => e.event === undefined));
  await busy.toEnd();
  assert.equal(busy.events.at(-1).event, 'idle-timeout');
});

test('who may listen: the token or ticket of this generation', async () => {
  const id = crypto.randomUUID();
  const other = crypto.randomUUID();
  const answer = async (target, headers = {}) => {
    const { status: code, headers: { 'content-type': type }, body } = await request(target, { headers });
    assert.equal(type, 'application/problem+json', body);
    return [code, JSON.parse(body).detail];
  };
  assert.equal((await answer(url(id)))[0], 401);
  assert.deepEqual(await answer(url(id, `?token=${tokenFor(other)}`)), [403, 'The token does not allow to read this stream.']);
  await generate(id, complete.slice(0, 1));
  const ticket = await stack.db.value('SELECT pev_ticket($1::uuid)', [id]);
  assert.equal((await answer(url(other, `?token=${ticket}`)))[0], 401);
  const client = await SseClient.open(url(id, `?token=${ticket}`));
  await client.received(1);
  assert.equal((await answer(url(id, `?token=${ticket}`)))[0], 401);
  client.close();
  const minted = await stack.db.value('SELECT pev_token($1::uuid)', [id]);
  const page = open(url(id.toUpperCase(), `?token=${minted}`));
  await generate(id, complete.slice(1));
  await page.closed();
  await assertSteps(page, id, complete);
});

test('a generation is named by a UUID, and by nothing else', async () => {
  const id = crypto.randomUUID();
  const headers = { Authorization: `Bearer ${ring.token()}` };
  for (const bad of ['42', 'user:u_1', 'nightly', id.slice(1), `${id}0`, `{${id}}`, id.replaceAll('-', ''), '%00', '%zz', `${id}%20`]) {
    const { status: code, headers: { 'content-type': type }, body } = await request(url(encodeURI(bad).replaceAll('%25', '%')), { headers });
    assert.deepEqual([code, type], [400, 'application/problem+json'], `${bad}: ${body}`);
    assert.equal(JSON.parse(body).detail, bad === '%00' ? 'The request target holds a NUL character.' : 'A generation is named by a UUID.');
  }
  for (const nowhere of ['/generations', '/generations/', '/generations//stream', `/generations/${id}`, `/generations/${id}/`, `/generations/${id}/streams`]) {
    assert.equal((await request(`${stack.streamer.url}${nowhere}`, { headers })).status, 404, nowhere);
  }
  const allowed = await request(url(id), { method: 'OPTIONS' });
  assert.deepEqual([allowed.status, allowed.headers.allow], [204, 'GET, HEAD, OPTIONS']);
  assert.equal((await request(url(id), { method: 'POST', headers, body: '{}' })).status, 405);
  const head = await request(url(id), { method: 'HEAD', headers });
  assert.deepEqual([head.status, head.headers['content-type']], [200, 'text/event-stream; charset=utf-8']);
  assert.equal((await request(url(id, '?types=nonsense'), { headers })).status, 400);
});

test('when the streamer stops, pages are told when to come back', async () => {
  const id = crypto.randomUUID();
  const client = await listen(id, { streamer: hasty });
  await hasty.stop();
  await client.toEnd();
  assert.deepEqual([client.events, client.comments.at(-1), client.retries.length], [[], 'draining', 2]);
  hasty = undefined;
});
