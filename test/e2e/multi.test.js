// Several streams on one connection: what arrives is, for each of them, what would have
// arrived on a connection of its own, and one id resumes them all.

import assert from 'node:assert/strict';
import net from 'node:net';
import { EventSource } from 'eventsource';
import { end, progress, random } from './fleet.js';
import {
  Database, SseClient, Streamer, newExecution, poll, request, stopStack, test, useStack, within,
} from './harness.js';
import { KeyRing, now } from './jwt.js';
import { metrics } from './prometheus.js';

const ring = new KeyRing();
ring.secret();
const stack = useStack({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` }, streamer: { args: ['--retry', '100ms'] } });

const SAFE = 128; // bytes of a Last-Event-ID that a browser sends to another origin without asking

const list = (streams) => streams.map((stream) => `stream=${encodeURIComponent(stream)}`).join('&');
const urlOf = (streamer, streams, query = '') => `${streamer.url}/events?${list(streams)}${query}`;
const open = (streams, { query = '', id } = {}) =>
  SseClient.open(urlOf(stack.streamer, streams, query), { headers: id ? { 'Last-Event-ID': id } : {} });
const ask = (streams, { query = '', id } = {}) =>
  request(urlOf(stack.streamer, streams, query), { headers: { Accept: 'text/event-stream', ...(id ? { 'Last-Event-ID': id } : {}) } });

/** As the README says: the stream that an event is of, and its number there. */
const streamOf = (streams, id) => streams[parseInt(id)];
const numberOf = (id) => id.split(':')[1];

/** The events of one stream among those received, as a connection of its own would have had them. */
function eventsOf(events, streams, stream, also = () => true) {
  return events.filter(({ id, event }) => id && streamOf(streams, id) === stream && event !== 'stream-closed' && also(event))
    .map(({ id, ...rest }) => ({ id: numberOf(id), ...rest }));
}

/** The streams whose end was told, in order. */
const closedOf = (events, streams) => events.filter(({ event }) => event === 'stream-closed').map(({ id }) => streamOf(streams, id));

const started = ['generation_started', { jobId: 'j1', message: 'm' }];

async function emitAll(db, stream, events) {
  for (const [type, data] of events) await db.emit(stream, type, data);
}

const emitMany = (db, stream, n, bytes = 10) => db.query(
  `SELECT pev_emit_batch($1::text, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
     'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', $3::int)))) FROM generate_series(1, $2::int) i))`, [String(stream), n, bytes]);

/** Each stream's events are the table's, once and in order. */
async function assertExact(db, events, streams) {
  for (const stream of new Set(streams)) assert.deepEqual(eventsOf(events, streams, stream), await db.expected(stream), `stream ${stream}`);
}

/** A problem with this status, whose detail says this. */
function assertProblem({ status, headers, body }, wanted, words, what) {
  assert.equal(status, wanted, `${what}: ${body}`);
  assert.match(headers['content-type'], /^application\/problem\+json\b/, what);
  assert.match(JSON.parse(body).detail, words, what);
}

/** An EventSource, and what it has seen: whatever comes to it after a reconnect, too. */
class Listener {
  constructor(base, streams, query = '') {
    this.streams = streams;
    this.events = [];
    this.source = new EventSource(`${base}/events?${list(streams)}${query}`);
    for (const type of ['progress', 'execution-complete', 'stream-gap', 'stream-closed', 'log_entry', 'typing']) {
      this.source.addEventListener(type, (e) => this.events.push({ id: e.lastEventId, event: e.type, data: e.data }));
    }
  }

  get stopped() {
    return this.source.readyState === EventSource.CLOSED;
  }
}

/** A path to a server on which all connections can be cut at once. */
async function wire(port) {
  const sockets = new Set();
  const server = net.createServer((client) => {
    const upstream = net.connect(port, '127.0.0.1');
    for (const [socket, other] of [[client, upstream], [upstream, client]]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => {
        sockets.delete(socket);
        other.destroy();
      }).pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => sockets.forEach((socket) => socket.destroy()),
    close: () => {
      server.close();
      sockets.forEach((socket) => socket.destroy());
    },
  };
}

test('history and live events of three streams, each event with its stream and number', async () => {
  const streams = [newExecution(), 'user:ü', 'e96b74bc-aba8-4837-bb43-237fd687d18b'];
  await emitAll(stack.db, streams[0], [progress(1), progress(2), progress(3)]);
  await stack.db.emit(streams[1], ...started);
  const client = await open(streams);
  assert.equal(client.status, 200);
  assert.match(client.headers['content-type'], /^text\/event-stream\b/);
  await client.received(4);
  await stack.db.emit(streams[2], ...progress(1));
  await client.received(5);
  await stack.db.emit(streams[1], ...started);
  await client.received(6);
  await assertExact(stack.db, client.events, streams);
  for (const { id } of client.events) assert.match(id, /^\d+:\d+:[A-Za-z0-9_-]+$/);
  client.close();
});

test('every id resumes exactly after it', async () => {
  const streams = [newExecution(), newExecution(), newExecution()];
  for (let i = 1; i <= 5; i++) for (const stream of streams) await stack.db.emit(stream, ...progress(i));
  await stack.db.emit(streams[1], ...end);
  const whole = await open(streams);
  await whole.received(17); // 16, and the end of one stream
  for (const [i, { id }] of whole.events.entries()) {
    for (const how of [{ id }, { query: `&lastEventId=${id}` }, { query: `&after=${id}` }, { id, query: '&after=now' }]) {
      const rest = await open(streams, how);
      const seen = whole.events.slice(0, i + 1).filter(({ event }) => event !== 'stream-closed');
      await rest.until(() => closedOf(rest.events, streams).length === 1 && rest.events.length === 17 - seen.length, `the rest after ${id}`);
      await assertExact(stack.db, [...seen, ...rest.events], streams);
      rest.close();
    }
  }
  whole.close();
});

test('after=now, and after with a number for each stream', async () => {
  const streams = [newExecution(), newExecution()];
  for (const stream of streams) await emitAll(stack.db, stream, [progress(1), progress(2), progress(3)]);
  const live = await open(streams, { query: '&after=now' });
  const part = await open(streams, { query: '&after=1,3' });
  await part.received(2);
  await stack.db.emit(streams[1], ...progress(4));
  await part.received(3);
  await live.received(1);
  assert.deepEqual(live.events.map(({ id }) => id.split(':').slice(0, 2)), [['1', '4']]);
  assert.deepEqual(eventsOf(part.events, streams, streams[0]), await stack.db.expected(streams[0], 1));
  assert.deepEqual(eventsOf(part.events, streams, streams[1]), await stack.db.expected(streams[1], 3));
  const back = await open(streams, { query: '&after=now', id: live.lastId });
  await stack.db.emit(streams[0], ...progress(4));
  await back.received(1);
  assert.deepEqual(back.events.map(({ id }) => id.split(':').slice(0, 2)), [['0', '4']]);
  [live, part, back].forEach((client) => client.close());
});

test('32 streams on one connection, with an id that needs no preflight; a 33rd is refused', async () => {
  const streams = Array.from({ length: 32 }, newExecution);
  for (const stream of streams) await emitMany(stack.db, stream, 100);
  const client = await open(streams);
  await client.received(3200);
  await assertExact(stack.db, client.events, streams);
  const longest = Math.max(...client.events.map(({ id }) => Buffer.byteLength(id)));
  assert.ok(longest <= SAFE, `an id of ${longest} bytes`);
  const back = await open(streams, { id: client.lastId });
  await stack.db.emit(streams[31], ...progress(1));
  await back.received(1);
  assert.deepEqual(back.events[0].id.split(':').slice(0, 2), ['31', '101']);
  client.close();
  back.close();
  assertProblem(await ask([...streams, newExecution()]), 400, /may name 32 streams/, 'a stream too many');
  assert.equal((await ask([...streams, newExecution()], { query: '&after=now' })).status, 400);
});

test('a stream that is named twice, in two spellings, is one', async () => {
  const uuid = 'aaaabbbb-aba8-4837-bb43-237fd687d18b';
  const id = newExecution();
  const streams = [uuid, uuid.toUpperCase(), String(id), `00${id}`, 'other-one'];
  await stack.db.emit(uuid, ...progress(1));
  const client = await open(streams);
  await client.received(1);
  await stack.db.emit(id, ...progress(1));
  await stack.db.emit('other-one', ...progress(1));
  await client.received(3);
  assert.deepEqual(client.events.map(({ id: text }) => streamOf(streams, text)), [uuid, String(id), 'other-one']);
  client.close();
});

test('what makes no sense is refused, and says which stream', async () => {
  const streams = ['a', 'b'];
  const ids = await open(streams, { query: '&after=1,2' });
  await stack.db.emit('a', ...progress(1));
  await stack.db.emit('a', ...progress(2));
  await ids.received(1);
  const { id } = ids.events[0];
  ids.close();
  for (const [what, answer, words] of [
    ['no stream', await request(`${stack.streamer.url}/events`), /must name a stream/],
    ['no stream but parameters', await request(`${stack.streamer.url}/events?types=progress`), /must name a stream/],
    ['an empty one', await request(`${stack.streamer.url}/events?stream=`), /number 1: A stream key/],
    ['a bad one', await ask(['a', '-b', 'c']), /number 2: A stream key/],
    ['a slash', await ask(['a', 'b/c']), /number 2: A stream key/],
    ['a number beyond bigint', await ask(['a', '99999999999999999999']), /number 2: A stream number/],
    ['a broken escape', await request(`${stack.streamer.url}/events?stream=%2`), /percent escape/],
    ['an unknown type', await ask(streams, { query: '&types=nonsense' }), /no event type/],
    ['the id of another order', await ask(['b', 'a'], { id }), /in this order/],
    ['the id of fewer', await ask(['a', 'b', 'c'], { id }), /in this order/],
    ['the id of more', await ask(['a'], { id }), /in this order/],
    ['the id of others', await ask(['a', 'c'], { query: `&lastEventId=${id}` }), /in this order/],
    ['the number of one', await ask(streams, { id: '3' }), /in this order/],
    ['a number for too few', await ask(streams, { query: '&after=3' }), /"after" must be/],
  ]) assertProblem(answer, 400, words, what);
  assert.equal((await request(`${stack.streamer.url}/events?stream=a`, { method: 'POST' })).status, 405);
  assert.equal((await request(`${stack.streamer.url}/events?stream=a`, { method: 'OPTIONS' })).headers.allow, 'GET, HEAD, OPTIONS');
  const head = await request(urlOf(stack.streamer, streams), { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.match(head.headers['content-type'], /^text\/event-stream\b/);
});

test('streams close one by one: each is told, the response ends with the last, and 204 follows', async () => {
  const streams = [newExecution(), newExecution(), newExecution()];
  const client = await open(streams);
  for (const stream of [streams[1], streams[2]]) {
    await emitAll(stack.db, stream, [progress(1), end]);
    await client.until(() => closedOf(client.events, streams).includes(stream), 'the end being told');
  }
  assert.equal(client.events.find(({ event }) => event === 'stream-closed').data, '{"last":2}');
  const back = await open(streams, { id: client.lastId });
  await back.received(2);
  assert.deepEqual(closedOf(back.events, streams), [streams[1], streams[2]], 'told again to who returns');
  for (const listener of [client, back]) assert.equal(listener.ended, false);
  await emitAll(stack.db, streams[0], [progress(1), end]);
  await client.toEnd();
  await back.toEnd();
  await assertExact(stack.db, client.events, streams);
  assert.deepEqual(closedOf(client.events, streams), [streams[1], streams[2], streams[0]]);
  assert.equal((await ask(streams, { id: client.lastId })).status, 204);
  assert.equal((await ask(streams, { query: '&after=now' })).status, 204);
  assert.equal((await ask(streams, { id: client.events.at(-2).id })).status, 204, 'everything but the notice has come');
  const again = await (await open(streams)).toEnd();
  await assertExact(stack.db, again.events, streams);
  assert.deepEqual(closedOf(again.events, streams).sort(), [...streams].sort());
});

test('what was over before anybody listened is told, or is 204', async () => {
  const over = [newExecution(), newExecution()];
  for (const stream of over) await emitAll(stack.db, stream, [progress(1), end]);
  assert.equal((await ask(over, { query: '&after=2,2' })).status, 204);
  const others = [newExecution(), newExecution()];
  for (const stream of others) await emitAll(stack.db, stream, [progress(1), end]);
  assert.equal((await ask(others, { query: '&after=now' })).status, 204);
  const mixed = [newExecution(), newExecution()];
  await emitAll(stack.db, mixed[0], [progress(1), end]);
  const client = await open(mixed, { query: '&after=2,0' });
  await client.received(1);
  assert.deepEqual(closedOf(client.events, mixed), [mixed[0]]);
  client.close();
});

test('what retention has removed is told for its stream', async () => {
  const streams = [newExecution(), newExecution()];
  for (const stream of streams) await emitMany(stack.db, stream, 10);
  await stack.db.query('DELETE FROM assistant_architect_events WHERE execution_id = $1 AND seq BETWEEN 3 AND 7', [streams[1]]);
  const client = await open(streams);
  await client.received(16);
  await assertExact(stack.db, client.events.filter(({ event }) => event !== 'stream-gap'), streams);
  const gap = client.events.find(({ event }) => event === 'stream-gap');
  assert.deepEqual([streamOf(streams, gap.id), numberOf(gap.id), gap.data], [streams[1], '7', '{"from":3,"to":7}']);
  const back = await open(streams, { id: gap.id });
  await back.until(() => eventsOf(back.events, streams, streams[1]).length === 3, 'what follows the gap');
  assert.deepEqual(eventsOf(back.events, streams, streams[1]), await stack.db.expected(streams[1], 7), 'which is told once');
  client.close();
  back.close();
});

test('a filter holds for all streams, and an end is told whatever it holds back', async () => {
  const streams = [newExecution(), newExecution()];
  await emitAll(stack.db, streams[0], [progress(1), ['execution-start', { totalPrompts: 1, toolName: 't' }], progress(2), end]);
  const client = await open(streams, { query: '&types=execution-start' });
  await client.until(() => closedOf(client.events, streams).length === 1, 'the end of one');
  await stack.db.emit(streams[1], ...progress(1));
  await stack.db.emit(streams[1], 'execution-start', { totalPrompts: 1, toolName: 't' });
  await client.received(3);
  assert.deepEqual(client.events.map(({ id, event }) => [event, streamOf(streams, id), numberOf(id)]),
    [['execution-start', streams[0], '2'], ['stream-closed', streams[0], '4'], ['execution-start', streams[1], '2']]);
  await stack.db.emit(streams[1], ...end);
  await client.toEnd();
  assert.equal((await ask(streams, { id: client.lastId, query: '&types=execution-start' })).status, 204);
  // Nothing of the rest passes: that is found out, or the client would return for ever.
  assert.equal((await ask(streams, { query: '&types=typing' })).status, 204);
  const open1 = await open([streams[0], newExecution()], { query: '&types=typing' });
  await open1.received(1);
  assert.equal(open1.events[0].event, 'stream-closed');
  open1.close();
});

test('events that are not stored: those of a stream name it, global ones come once', async () => {
  const streams = [newExecution(), 'channel:several', 'session:several'];
  const client = await open(streams);
  const filtered = await open(streams, { query: '&types=progress' });
  await client.until(() => client.retries.length > 0, 'the response');
  await stack.db.emit('channel:several', 'typing', { userId: 'u_1', isTyping: true });
  await client.received(1);
  assert.equal(client.events[0].id.split(':').slice(0, 2).join(':'), '1:0');
  await stack.db.emit('session:elsewhere', 'log_entry', { log_entry: { level: 'info', event: 'e', message: 'm', fields: {} } });
  await client.received(2);
  assert.deepEqual([client.events[1].event, client.events[1].id], ['log_entry', undefined]);
  await stack.db.emit(streams[0], ...progress(1));
  await client.received(3);
  assert.deepEqual(client.events.map(({ event }) => event), ['typing', 'log_entry', 'progress']);
  await filtered.received(1);
  assert.deepEqual(filtered.events.map(({ event }) => event), ['progress']);
  // A live event's id is a position too.
  const back = await open(streams, { id: client.events[0].id });
  await back.received(1);
  await assertExact(stack.db, back.events, [streams[0]]);
  [client, filtered, back].forEach((listener) => listener.close());
});

test('connections are cut at random while writers emit: each EventSource has each event of each stream once', async () => {
  const streams = Array.from({ length: 6 }, newExecution);
  const path = await wire(stack.streamer.port);
  const next = random(7);
  const listeners = [streams, streams.slice(0, 3), [streams[5], streams[1]], [...streams].reverse()].map((some) => new Listener(path.url, some));
  try {
    let emitting = true;
    const writers = streams.map(async (stream) => {
      for (let i = 0; emitting; i++) await stack.db.emit(stream, ...progress(i));
      await stack.db.emit(stream, ...end);
    });
    const fewest = () => Math.min(...listeners.map(({ events }) => events.length));
    for (let round = 0; round < 12; round++) {
      const level = fewest() + 1 + Math.floor(next() * 30);
      await poll(() => fewest() >= level, `every client having ${level} events`);
      path.cut();
    }
    emitting = false;
    await within(Promise.all(writers), 'the writers');
    await poll(() => listeners.every(({ stopped }) => stopped), 'every client being stopped');
    for (const { events, streams: some } of listeners) await assertExact(stack.db, events, some);
  } finally {
    listeners.forEach(({ source }) => source.close());
    path.close();
  }
});

test('a long history of one stream does not hide what happens in another, and a client holds one page', async () => {
  const long = Array.from({ length: 8 }, newExecution);
  const streams = [...long, newExecution()];
  for (const stream of long) await emitMany(stack.db, stream, 1500, 1000);
  const client = await open(streams);
  await client.received(1);
  client.response.pause();
  await stack.db.emit(streams[8], ...progress(1));
  const bytes = async () => (await metrics(stack.streamer)).get('pev_backlog_bytes{part="pages"}');
  let held = -1;
  await poll(async () => {
    const before = held;
    held = await bytes();
    return held === before;
  }, 'the streamer having read what it reads ahead');
  assert.ok(held < 1 << 20, `${held} bytes in pages`);
  client.response.resume();
  await client.received(12001);
  await assertExact(stack.db, client.events, streams);
  const place = client.events.findIndex(({ id }) => streamOf(streams, id) === streams[8]);
  assert.ok(place < 11000, `the event of the quiet stream is number ${place}`);
  client.close();
});

test('a token must allow every stream; a ticket is for one', async () => {
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--jwt-secret-file', ring.file('secret')] });
  try {
    await streamer.ready();
    const get = (streams, token, query = '') => request(urlOf(streamer, streams, query), { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const some = ring.token({ 'pev.read': ['a', 'user:*'] });
    assertProblem(await get(['a', 'user:x']), 401, /token is needed/, 'no token');
    assertProblem(await get(['a', 'user:x'], `${some}x`), 401, /./, 'a bad token');
    assertProblem(await get(['a', 'user:x', 'b'], some), 403, /read the stream "b"/, 'a stream too many');
    assertProblem(await get(['b', 'c'], some), 403, /read the stream "b"/, 'the first is named');
    assertProblem(await get(['a', '-'], some), 400, /number 2/, 'a bad stream and a good token');
    assertProblem(await get(['a', '-']), 401, /token is needed/, 'a bad stream and no token');
    assertProblem(await get(['a', 'user:x'], some, '&after=x'), 400, /"after"/, 'a bad position and a good token');

    const exp = now() + 31;
    const client = await SseClient.open(urlOf(streamer, ['a', 'user:x']), { headers: { Authorization: `Bearer ${ring.token({ 'pev.read': ['a', 'user:*'], exp, jti: 'several' })}` } });
    await stack.db.emit('a', ...progress(1));
    await client.until(() => client.events.some(({ event }) => event === 'token-expiring'), 'the warning');
    await stack.db.query("SELECT pev_revoke_token('several')");
    await client.toEnd();
    assert.deepEqual(client.events.map(({ event }) => event).filter((event) => event.startsWith('token')), ['token-expiring', 'token-revoked'], 'told once each');

    const ticket = await stack.db.value("SELECT pev_ticket('user:x')");
    assertProblem(await get(['user:x', 'a'], undefined, `&token=${ticket}`), 403, /ticket is for one stream/, 'a ticket and two streams');
    const one = await SseClient.open(urlOf(streamer, ['user:x', 'user:x'], `&token=${ticket}`));
    assert.equal(one.status, 200, 'a ticket and its stream');
    one.close();
  } finally {
    await streamer.stop();
  }
});

test('a client of many streams is one client', async () => {
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--max-clients-per-ip', '2', '--max-streams-per-client', '3'] });
  try {
    const streams = [newExecution(), newExecution(), newExecution()];
    const clients = [await SseClient.open(urlOf(streamer, streams)), await SseClient.open(urlOf(streamer, streams))];
    const values = await metrics(streamer);
    assert.deepEqual([values.get('pev_clients'), values.get('pev_streams_watched')], [2, 3]);
    assertProblem(await request(urlOf(streamer, streams)), 429, /too many clients/, 'a third client');
    clients.pop().close();
    await poll(async () => (await metrics(streamer)).get('pev_clients') === 1, 'one having left');
    for (let i = 0; i < 3; i++) assertProblem(await request(urlOf(streamer, [...streams, 1])), 400, /may name 3 streams/, 'a stream too many');
    clients.push(await SseClient.open(urlOf(streamer, streams)));
    assert.equal((await metrics(streamer)).get('pev_clients'), 2, 'who is refused is not counted');
    clients.forEach((client) => client.close());
  } finally {
    await streamer.stop();
  }
});

/** Run a body with servers of its own. */
async function withStack(body) {
  const own = { db: await Database.start() };
  try {
    own.streamer = await Streamer.start({ dsn: own.db.dsn, args: ['--retry', '100ms'] });
    await body(own.db, own);
  } finally {
    await stopStack(own);
  }
}

test('the database is down when a client comes: it gets everything once it is up', () => withStack(async (db, { streamer }) => {
  const streams = [1, 'some-key', 3];
  await emitAll(db, 1, [progress(1), progress(2), end]);
  await emitAll(db, 3, [progress(1)]);
  await emitAll(db, 5, [progress(1), end]);
  await db.stopServer('fast');
  await poll(async () => (await request(`${streamer.url}/readyz`)).status === 503, 'unreadiness');
  const fresh = await SseClient.open(urlOf({ url: streamer.url }, streams));
  const others = [5, 'some-key', 3]; // nobody else reads the first of them
  const live = await SseClient.open(urlOf({ url: streamer.url }, others, '&after=now'));
  const part = await SseClient.open(urlOf({ url: streamer.url }, streams, '&after=1,0,1'));
  await db.startServer();
  await live.until(() => live.events.length === 1, 'the end of a stream');
  await emitAll(db, 3, [progress(2), end]);
  await emitAll(db, 'some-key', [progress(1), end]);
  for (const [client, some, after] of [[fresh, streams, [0, 0, 0]], [live, others, [2, 0, 1]], [part, streams, [1, 0, 1]]]) {
    await client.toEnd();
    assert.deepEqual(closedOf(client.events, some).sort(), [...some].sort());
    for (const [i, stream] of some.entries()) assert.deepEqual(eventsOf(client.events, some, stream), await db.expected(stream, after[i]));
  }
}));

test('the database crashes and the streamer is killed (-9) under load: nothing is lost or doubled', () => withStack(async (db, own) => {
  own.streamer.mayFail = true;
  const streams = Array.from({ length: 8 }, (_, i) => (i < 6 ? i + 1 : `key-${i}`));
  const listeners = Array.from({ length: 8 }, (_, i) => new Listener(own.streamer.url, [...streams.slice(i), ...streams.slice(0, i)].slice(0, 8 - (i % 3))));
  try {
    let emitting = true;
    const writers = streams.map(async (stream) => {
      // What was cut off may have been stored, or not: the table says.
      for (let i = 0; emitting; i++) await db.emit(stream, ...progress(i)).catch(() => new Promise((resolve) => setTimeout(resolve, 50)));
      await poll(() => db.emit(stream, ...end).then(() => true, (error) => error.code === '55000'), 'closing a stream');
    });
    const fewest = () => Math.min(...listeners.map(({ events }) => events.length));
    for (let round = 0; round < 6; round++) {
      const level = fewest() + 40;
      await poll(() => fewest() >= level, `every client having ${level} events`);
      if (round % 2 === 0) {
        const { port } = own.streamer;
        await own.streamer.kill('SIGKILL');
        own.streamer = await Streamer.start({ dsn: db.dsn, listen: `127.0.0.1:${port}`, args: ['--retry', '100ms'] });
        own.streamer.mayFail = true;
      } else {
        await db.stopServer('immediate');
        await db.startServer();
      }
    }
    emitting = false;
    await within(Promise.all(writers), 'the writers');
    await poll(() => listeners.every(({ stopped }) => stopped), 'every client being stopped');
    for (const { events, streams: some } of listeners) await assertExact(db, events, some);
  } finally {
    listeners.forEach(({ source }) => source.close());
  }
}));
