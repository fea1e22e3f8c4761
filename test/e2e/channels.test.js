// Channels and jobs as a community application has them: a browser asks the thin service,
// which is the streamer, and gets 202 with a job's id; a worker does the work in SQL; all that
// happens comes back over EventSource, on user:<id> for one and channel:<id> for everybody.
// Each subscriber must see the whole sequence of events, and nothing else.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { EventSource } from 'eventsource';
import pg from 'pg';
import { Database, SseClient, Streamer, poll, request, stopStack, test } from './harness.js';
import { KeyRing } from './jwt.js';
import { dsnOf, makeRoles } from './roles.js';

const TYPES = [
  ...['started', 'progress', 'complete', 'failed'].flatMap((step) => [`generation_${step}`, `upload_${step}`]),
  'ai_chat_chunk', 'chat', 'ai_chat', 'presence', 'typing',
];
const AT = '2026-01-01T00:00:00.000Z';

const ring = new KeyRing();
const stack = {};
const pages = new Set();
let worker;

before(async () => {
  ring.secret();
  stack.db = await Database.start();
  await makeRoles(stack.db);
  await stack.db.query(`CREATE ROLE pev_service LOGIN IN ROLE pev_emitter, pev_enqueuer;
    SELECT pev_register_job_kind('generate_image', 'an image from a prompt', 'generation', 3, '0'),
      pev_register_job_kind('process_upload', 'copies of an upload', 'upload', 3, '0'),
      pev_register_job_kind('ai_chat_response', 'an answer in a room', NULL, 3, '0')`);
  const { PGPORT, PGDATABASE } = stack.db.env;
  worker = new pg.Pool({ host: '127.0.0.1', port: Number(PGPORT), user: 'pev_worker', database: PGDATABASE, max: 4 });
  worker.on('error', () => {}); // its connections end with the server
  await startService('127.0.0.1:0');
});
after(async () => {
  for (const page of pages) page.source.close();
  await worker.end();
  await stopStack(stack);
});

async function startService(listen) {
  const { db } = stack;
  stack.streamer = await Streamer.start({
    dsn: dsnOf(db, 'pev_streamer'), listen, args: ['--emit-dsn', dsnOf(db, 'pev_service'), '--jwt-secret-file', ring.file('secret'), '--retry', '100ms'],
  });
  await stack.streamer.ready();
}

/** What the application gives a user who has logged in. */
const tokenOf = (userId) => ring.token({
  sub: userId, 'pev.read': ['user:{{sub}}', 'channel:*'], 'pev.emit': ['channel:*'], 'pev.enqueue': ['generate_image', 'process_upload', 'ai_chat_response'],
});

/** A page of a user that listens to a channel; `events` is all it has seen. */
function open(userId, channel, query = '') {
  const page = { events: [], ids: [], errors: [] };
  page.source = new EventSource(`${stack.streamer.url}/events/${channel}?token=${tokenOf(userId)}${query}`);
  for (const type of TYPES) {
    page.source.addEventListener(type, ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      assert.equal(Object.keys(event)[0], 'type', 'the first field');
      assert.equal(event.type, type);
      assert.match(event.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
      page.events.push(event);
      page.ids.push(Number(lastEventId));
    });
  }
  page.source.addEventListener('error', ({ code }) => page.errors.push(code));
  page.received = (n) => poll(() => page.events.length >= n, `${n} events on ${channel}`).then(() => page);
  page.close = () => page.source.close();
  pages.add(page);
  return page;
}

/** A page that is there before anything happens. */
async function opened(userId, channel) {
  const page = open(userId, channel);
  await poll(() => page.source.readyState === EventSource.OPEN, `${channel} being open`);
  return page;
}

async function post(userId, path, body) {
  const answer = await request(`${stack.streamer.url}${path}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${tokenOf(userId)}` }, body: JSON.stringify(body),
  });
  return { ...answer, json: JSON.parse(answer.body) };
}

/** Ask the service for a job; its id. */
async function ask(userId, kind, payload, channel) {
  const { status, json } = await post(userId, `/jobs/${kind}${channel ? `?channel=${channel}` : ''}`, payload);
  assert.equal(status, 202);
  assert.deepEqual(Object.keys(json), ['jobId']);
  assert.equal(typeof json.jobId, 'string');
  return json.jobId;
}

const say = (userId, id, content) => post(userId, '/events/channel:general', { type: 'chat', data: { result: { id, content, userId, userName: userId, timestamp: AT } } });

const run = async (sql, ...values) => (await worker.query(`SELECT ${sql}`, values)).rows[0];
const claim = async (kind, lease = '30 s') => (await worker.query('SELECT * FROM pev_claim($1, $2, $3)', [[kind], 'w', lease])).rows[0];

/** Without what is not the same in each run. */
const brief = ({ events }) => events.map(({ timestamp, ...event }) => event);

/** A page must have seen exactly what the channel's history is, by its numbers. */
async function assertWhole(page, channel, after = 0) {
  const rows = await stack.db.expected(channel, after);
  assert.deepEqual(page.ids, rows.map(({ id }) => Number(id)));
  assert.deepEqual(page.events, rows.map(({ data }) => JSON.parse(data)));
}

test('media generation: 202, then started, progress and the result, on the channel of who asked', async () => {
  const [mine, other] = [await opened('u_1', 'user:u_1'), await opened('u_2', 'user:u_2')];
  const jobId = await ask('u_1', 'generate_image', { prompt: 'a cat' });
  const job = await claim('generate_image');
  assert.deepEqual(job, { job_id: Number(jobId), attempt: 1, kind: 'generate_image', payload: { prompt: 'a cat' }, channel: 'user:u_1' });
  await run("pev_job_progress($1, 1, 40, 'sketching')", jobId);
  await run("pev_job_progress($1, 1, 80.5, 'colouring')", jobId);
  await run('pev_complete($1, 1, $2)', jobId, { url: '/cat.png' });
  await mine.received(4);

  const bad = await ask('u_1', 'generate_image', { prompt: '' }); // fails at every attempt
  for (let attempt = 1; attempt <= 3; attempt++) {
    assert.equal((await claim('generate_image')).attempt, attempt);
    await run("pev_fail($1, $2, 'the provider refused')", bad, attempt);
  }
  await mine.received(8);
  assert.deepEqual(brief(mine), [
    { type: 'generation_started', jobId, message: 'Attempt 1 of 3' },
    { type: 'generation_progress', jobId, progress: 40, message: 'sketching' },
    { type: 'generation_progress', jobId, progress: 80.5, message: 'colouring' },
    { type: 'generation_complete', jobId, progress: 100, result: { url: '/cat.png' } },
    { type: 'generation_started', jobId: bad, message: 'Attempt 1 of 3' },
    { type: 'generation_started', jobId: bad, message: 'Attempt 2 of 3' },
    { type: 'generation_started', jobId: bad, message: 'Attempt 3 of 3' },
    { type: 'generation_failed', jobId: bad, error: 'the provider refused' },
  ]);
  await assertWhole(mine, 'user:u_1');

  // What is another's stays with them.
  await ask('u_2', 'generate_image', { prompt: 'a dog' });
  await run('pev_complete($1, 1)', (await claim('generate_image')).job_id);
  await other.received(2);
  assert.deepEqual(brief(other).map(({ type }) => type), ['generation_started', 'generation_complete']);
  assert.equal(mine.events.length, 8);
  const spy = open('u_2', 'user:u_1');
  await poll(() => spy.source.readyState === EventSource.CLOSED, 'its being refused');
  assert.deepEqual([spy.errors, spy.events], [[403], []]);
  for (const page of [mine, other]) page.close();
});

test('media upload: its bytes, its copies, and one that is no image', async () => {
  const page = await opened('u_3', 'user:u_3');
  const jobId = await ask('u_3', 'process_upload', { file: 'cat.jpg' });
  await claim('process_upload');
  await run('pev_job_progress($1, 1, 50, bytes_uploaded => 2048)', jobId);
  await run('pev_job_progress($1, 1, 100, bytes_uploaded => 4096)', jobId);
  const result = { original: '/o.jpg', optimized: '/c.webp', thumbnail: '/t.webp' };
  await run('pev_complete($1, 1, $2)', jobId, result);
  const bad = await ask('u_3', 'process_upload', { file: 'cat.exe' });
  await claim('process_upload');
  await run("pev_fail($1, 1, 'not an image', retry => false)", bad);
  await page.received(6);
  assert.deepEqual(brief(page), [
    { type: 'upload_started', jobId, message: 'Attempt 1 of 3' },
    { type: 'upload_progress', jobId, progress: 50, bytesUploaded: 2048 },
    { type: 'upload_progress', jobId, progress: 100, bytesUploaded: 4096 },
    { type: 'upload_complete', jobId, progress: 100, result },
    { type: 'upload_started', jobId: bad, message: 'Attempt 1 of 3' },
    { type: 'upload_failed', jobId: bad, error: 'not an image' },
  ]);
  await assertWhole(page, 'user:u_3');
  page.close();
});

/** One token of an answer, which only the attempt that holds the job can tell. */
const tell = ({ job_id: id, attempt, channel }, text, done = false) => run("pev_extend_lease($1, $2), pev_emit($3::text, 'ai_chat_chunk', $4)",
  id, attempt, channel, { jobId: String(id), result: { streamId: `${id}.${attempt}`, text, done } });

/** The end of an answer: the last chunk, the message, and the job, in one transaction. */
const finish = ({ job_id: id, attempt, channel }, content) => run(
  "pev_complete($1, $2), pev_emit($3::text, 'ai_chat_chunk', $4), pev_emit($3::text, 'ai_chat', $5)", id, attempt, channel,
  { jobId: String(id), result: { streamId: `${id}.${attempt}`, text: '', done: true } }, { result: { id: `a${id}`, content, provider: 'p', timestamp: AT } });

/** What a page makes of a room: its messages, the answers, and those that are being streamed. */
function fold({ events }) {
  const room = { messages: [], aiMessages: [], streaming: new Map() };
  for (const { type, result } of events) {
    if (type === 'chat') room.messages.push(result.content);
    if (type === 'ai_chat') room.aiMessages.push(result.content);
    if (type === 'ai_chat_chunk') {
      const stream = room.streaming.get(result.streamId) ?? { text: '', done: false };
      assert.ok(!stream.done, `a chunk of ${result.streamId} after its last`);
      room.streaming.set(result.streamId, { text: stream.text + result.text, done: result.done });
    }
  }
  return room;
}

test('chat: a message at once, then answers token by token, two at a time; whoever comes late or again misses nothing', async () => {
  const room = 'channel:general';
  const early = [await opened('ann', room), await opened('bob', room)];
  assert.equal((await say('ann', 'm1', 'hi')).status, 201);
  assert.equal((await say('bob', 'm2', 'hello')).status, 201);
  const asked = [await ask('ann', 'ai_chat_response', { to: 'm1' }, room), await ask('bob', 'ai_chat_response', { to: 'm2' }, room)];
  const jobs = [await claim('ai_chat_response'), await claim('ai_chat_response')];
  assert.deepEqual(jobs.map(({ job_id: id, payload, channel }) => [String(id), payload, channel]),
    [[asked[0], { to: 'm1' }, room], [asked[1], { to: 'm2' }, room]]);

  // Both answers at once, the streamer being restarted in the middle of them.
  const texts = jobs.map((_, n) => Array.from({ length: 40 }, (_, i) => ` ${n}:${i}`));
  const answer = async (job, tokens, from, to) => {
    for (const token of tokens.slice(from, to)) await tell(job, token);
  };
  const both = (from, to) => Promise.all(jobs.map((job, n) => answer(job, texts[n], from, to)));
  await both(0, 15);
  const again = open('cat', room); // joins in the middle of it
  await again.received(2 + 2 * 15);
  for (const page of early) await page.received(2 + 2 * 15);
  const { port } = stack.streamer;
  await stack.streamer.stop();
  await both(15, 25);
  await startService(`127.0.0.1:${port}`); // they come back by themselves, with Last-Event-ID
  await both(25, 40);
  await Promise.all(jobs.map((job, n) => finish(job, texts[n].join(''))));
  const late = open('dan', room);
  const count = 2 + 2 * 42;
  const resumed = open('eve', room, '&lastEventId=30');
  for (const page of [...early, again, late]) {
    await page.received(count);
    await assertWhole(page, room);
  }
  await resumed.received(count - 30);
  await assertWhole(resumed, room, 30);

  // Each stream's chunks in order, the last one done, and then the message; in what order the two were is chance.
  for (const [n, id] of asked.entries()) {
    const own = brief(late).filter(({ jobId, result }) => jobId === id || result.id === `a${id}`);
    assert.deepEqual(own, [
      ...texts[n].map((text) => ({ type: 'ai_chat_chunk', jobId: id, result: { streamId: `${id}.1`, text, done: false } })),
      { type: 'ai_chat_chunk', jobId: id, result: { streamId: `${id}.1`, text: '', done: true } },
      { type: 'ai_chat', result: { id: `a${id}`, content: texts[n].join(''), provider: 'p', timestamp: AT } },
    ]);
  }
  const seen = fold(late);
  assert.deepEqual(seen.messages, ['hi', 'hello']);
  assert.deepEqual(seen.aiMessages.toSorted(), texts.map((text) => text.join('')).toSorted());
  assert.deepEqual(Object.fromEntries(seen.streaming), Object.fromEntries(asked.map((id, n) => [`${id}.1`, { text: texts[n].join(''), done: true }])));
  const order = late.events.slice(2).map(({ jobId }) => jobId);
  assert.ok(order.indexOf(asked[1]) < order.lastIndexOf(asked[0]) && order.indexOf(asked[0]) < order.lastIndexOf(asked[1]), 'they overlap');
  for (const page of [...early, again, late, resumed]) page.close();
});

test('chat: a worker that lost its lease tells no more, and the next attempt is a stream of its own', async () => {
  const room = 'channel:quiet';
  const page = await opened('ann', room);
  const jobId = await ask('ann', 'ai_chat_response', {}, room);
  const slow = await claim('ai_chat_response', '1 s');
  await tell(slow, 'Hel');
  let next;
  await poll(async () => (next = await claim('ai_chat_response')), 'the end of the lease');
  assert.equal(next.attempt, 2);
  await assert.rejects(tell(slow, 'lo'), { code: '55000' });
  await assert.rejects(finish(slow, 'Hello'), { code: '55000' });
  await tell(next, 'Hi');
  await finish(next, 'Hi');
  await page.received(4);
  const chunk = (attempt, text, done) => ({ type: 'ai_chat_chunk', jobId, result: { streamId: `${jobId}.${attempt}`, text, done } });
  assert.deepEqual(brief(page), [
    chunk(1, 'Hel', false), chunk(2, 'Hi', false), chunk(2, '', true),
    { type: 'ai_chat', result: { id: `a${jobId}`, content: 'Hi', provider: 'p', timestamp: AT } },
  ]);
  await assertWhole(page, room);
  page.close();
});

test('an answer to one user alone streams on their own channel', async () => {
  const page = await opened('u_4', 'user:u_4');
  const jobId = await ask('u_4', 'ai_chat_response', { prompt: 'poem' });
  const job = await claim('ai_chat_response');
  for (const text of ['Roses', ' are']) await tell(job, text);
  await finish(job, 'Roses are');
  await page.received(4);
  assert.deepEqual(brief(page).map(({ type, result }) => [type, result.text ?? result.content]),
    [['ai_chat_chunk', 'Roses'], ['ai_chat_chunk', ' are'], ['ai_chat_chunk', ''], ['ai_chat', 'Roses are']]);
  assert.ok(page.events.slice(0, 3).every((event) => event.jobId === jobId));
  await assertWhole(page, 'user:u_4');
  page.close();
});

test('typing: to who is there, without an id, and to nobody later', async () => {
  const room = 'channel:live';
  const headers = { Authorization: `Bearer ${tokenOf('ann')}` };
  const raw = await SseClient.open(`${stack.streamer.url}/events/${room}`, { headers });
  const page = await opened('bob', room);
  const type = (isTyping) => post('ann', `/events/${room}`, { type: 'typing', data: { userId: 'ann', isTyping } });
  const chat = (id) => post('ann', `/events/${room}`, { type: 'chat', data: { result: { id, content: 'c', userId: 'ann', userName: 'Ann', timestamp: AT } } });
  // Rows and what is not stored travel by different ways: each is awaited.
  for (const [n, [tell, status]] of [[() => type(true), 202], [() => chat('m1'), 201], [() => type(false), 202], [() => chat('m2'), 201]].entries()) {
    assert.equal((await tell()).status, status);
    await raw.received(n + 1);
    await page.received(n + 1);
  }
  assert.deepEqual(raw.events.map(({ event, id }) => [event, id]), [['typing', undefined], ['chat', '1'], ['typing', undefined], ['chat', '2']]);
  assert.deepEqual(brief(page).map(({ type, isTyping, userId }) => [type, isTyping, userId]),
    [['typing', true, 'ann'], ['chat', undefined, undefined], ['typing', false, 'ann'], ['chat', undefined, undefined]]);
  const late = open('cat', room);
  await late.received(2);
  await assertWhole(late, room);
  for (const client of [raw, page, late]) client.close();
});

test('every job has ended, and no event is of a job that is not there', async () => {
  const { db } = stack;
  assert.equal(await db.value("SELECT count(*) FROM pev_job WHERE finished_at IS NULL"), 0);
  assert.equal(await db.value("SELECT count(*) FROM assistant_architect_events WHERE event_data ? 'jobId' AND NOT EXISTS (SELECT FROM pev_job WHERE id::text = event_data->>'jobId')"), 0);
});
