// The limits hold, and are told in a way that clients survive: an EventSource gives up
// for good on 503 and 429, so above a limit it is answered 200 with a long retry:.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before } from 'node:test';
import { Database, SseClient, Streamer, newExecution, poll, request, test, wrapper } from './harness.js';
import { metrics } from './prometheus.js';

let db;
before(async () => { db = await Database.start(); });
after(() => db.stop());

/** Run a body with a streamer of its own. */
async function withStreamer(args, body) {
  const streamer = await Streamer.start({ dsn: db.dsn, args });
  try {
    await body(streamer, (stream, query = '') => `${streamer.url}/events/${stream}${query}`);
  } finally {
    await streamer.stop();
  }
}

/** Emit events 1 … n with a message of so many bytes. */
const emitMany = (stream, n, bytes) => db.query(
  `SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
     'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', $3::int)))) FROM generate_series(1, $2::int) i))`, [stream, n, bytes]);

/** A client that is sent away must be told to come back much later, and not all at once. */
async function isSentAway(url) {
  const client = await (await SseClient.open(url)).toEnd();
  assert.equal(client.status, 200);
  assert.match(client.headers['content-type'], /^text\/event-stream\b/);
  assert.deepEqual(client.events, []);
  assert.equal(client.retries.length, 1);
  assert.ok(client.retries[0] >= 15_000 && client.retries[0] <= 45_000, `retry: ${client.retries[0]}`);
  return client.retries[0];
}

/** Clients that are let in receive; one more is not let in until one has left. */
async function checkLimit({ url, streamer, most, status, reason }) {
  const id = newExecution();
  const clients = await Promise.all(Array.from({ length: most }, () => SseClient.open(url(id))));
  await Promise.all(clients.map((client) => client.until(() => client.retries.length > 0, 'the stream')));
  const times = await Promise.all(Array.from({ length: 10 }, () => isSentAway(url(id))));
  assert.ok(new Set(times).size > 5, `retry: ${times}`);

  for (const headers of [{}, { Accept: '*/*' }]) {
    const plain = await request(url(id), { headers });
    assert.equal(plain.status, status);
    assert.match(plain.headers['content-type'], /^application\/problem\+json\b/);
    assert.ok(Number(plain.headers['retry-after']) >= 15 && Number(plain.headers['retry-after']) <= 46, plain.headers['retry-after']);
    assert.equal(JSON.parse(plain.body).status, status);
  }
  assert.equal((await request(`${streamer.url}/healthz`)).status, 200, 'what is no stream is served all the same');
  const values = await metrics(streamer);
  assert.equal(values.get(`pev_clients_refused_total{reason="${reason}"}`), 12);
  assert.equal(values.get('pev_clients'), most);

  await db.emit(id, 'progress', { currentStep: 1, totalSteps: 2, percentage: 50, message: 'x' });
  await Promise.all(clients.map((client) => client.received(1)));
  clients.pop().close();
  await poll(async () => (await metrics(streamer)).get('pev_clients') === most - 1, 'its having left');
  const next = await SseClient.open(url(id));
  await next.received(1);
  await isSentAway(url(id));
  [next, ...clients].forEach((client) => client.close());
}

test('--max-clients', () => withStreamer(['--max-clients', '3'], (streamer, url) =>
  checkLimit({ url, streamer, most: 3, status: 503, reason: 'max_clients' })));

test('--max-clients-per-ip', () => withStreamer(['--max-clients-per-ip', '2'], async (streamer, url) => {
  await checkLimit({ url, streamer, most: 2, status: 429, reason: 'max_clients_per_ip' });
  await poll(async () => (await metrics(streamer)).get('pev_clients') === 0, 'everybody having left');
  // What is wrong, or ended, takes no place for longer than it is answered.
  const ended = newExecution();
  await db.emit(ended, 'execution-complete', { totalTokens: 1, duration: 1, success: true });
  for (let i = 0; i < 3; i++) {
    assert.equal((await request(url('a%20b'))).status, 400);
    assert.equal((await request(url(1, '?types=no-such'))).status, 400);
    assert.equal((await request(url(ended), { headers: { 'Last-Event-ID': '1' } })).status, 204);
  }
  // Another address has a limit of its own.
  const here = await Promise.all([1, 2].map(() => SseClient.open(url(1))));
  const there = await connectFrom('127.0.0.2', streamer, '/events/1');
  await poll(async () => (await metrics(streamer)).get('pev_clients') === 3, 'three clients');
  there.destroy();
  here.forEach((client) => client.close());
}));

/** A connection from a certain address of this machine, with a request on its way. */
async function connectFrom(localAddress, streamer, path) {
  const socket = net.connect({ host: '127.0.0.1', port: streamer.port, localAddress });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`);
  return socket;
}

test('--trusted-proxy: who is believed about whose client it is', () =>
  withStreamer(['--max-clients-per-ip', '1', '--trusted-proxy', '127.0.0.2', '--trusted-proxy', '10.0.0.0/8', '--access-log'], async (streamer, url) => {
    const taken = [];
    // The status of a request from an address; a stream that it gets is kept.
    const ask = (localAddress, forwarded) => new Promise((resolve, reject) => {
      const headers = forwarded === undefined ? {} : { 'X-Forwarded-For': forwarded };
      const sent = http.get(url(1), { localAddress, headers, agent: false }, (response) => {
        if (response.statusCode === 200) taken.push(sent);
        resolve(response.statusCode);
        response.on('error', () => {}).resume();
      });
      sent.on('error', reject);
    });
    for (const [from, forwarded, status, what] of [
      ['127.0.0.2', '192.0.2.1', 200, 'a client of the proxy'],
      ['127.0.0.2', '192.0.2.1', 429, 'the same again'],
      ['127.0.0.2', '192.0.2.2', 200, 'another'],
      ['127.0.0.2', '198.51.100.1, 192.0.2.1', 429, 'what a client makes up'],
      ['127.0.0.2', ['198.51.100.1', '192.0.2.1'], 429, 'in a header of its own'],
      ['127.0.0.2', ['192.0.2.1', '10.0.0.1'], 429, 'by another proxy'],
      ['127.0.0.2', '2001:db8::1', 200, 'an IPv6 client'],
      ['127.0.0.2', '[2001:db8::2]:80', 429, 'of the same network'],
      ['127.0.0.2', undefined, 200, 'the proxy itself'],
      ['127.0.0.2', 'unknown', 429, 'nobody, so the proxy'],
      ['127.0.0.2', '192.0.2.7,', 429, 'nobody either'],
      ['127.0.0.3', '192.0.2.3', 200, 'one who is no proxy'],
      ['127.0.0.3', '192.0.2.4', 429, 'the same, whatever it says'],
      ['127.0.0.1', '127.0.0.2, 10.0.0.1', 200, 'another of that kind'],
    ]) assert.equal(await ask(from, forwarded), status, `${what}: ${from}, ${forwarded}`);
    taken.forEach((sent) => sent.destroy());
    for (const address of ['192.0.2.1', '2001:db8::1', '127.0.0.2', '127.0.0.3', '127.0.0.1']) {
      await poll(() => streamer.log.includes(` ${address} GET /events/1 200 `), `${address} in the log of requests`);
    }
  }));

test('--backlog-bytes and --stream-backlog-bytes bound memory, not what is delivered', () =>
  withStreamer(['--backlog-bytes', '64KiB', '--stream-backlog-bytes', '8KiB'], async (streamer, url) => {
    const FRAME = 1_200, WINDOWS = 48 * 1024, PAGES = 16 * 1024, EVENTS = 400;
    const ids = Array.from({ length: 12 }, () => newExecution());
    const clients = [];
    for (const id of ids) for (let i = 0; i < 2; i++) clients.push({ id, client: await SseClient.open(url(id)) });
    let most = 0, mostPages = 0, busy = true;
    const watching = (async () => {
      while (busy) {
        const values = await metrics(streamer);
        most = Math.max(most, values.get('pev_backlog_bytes{part="windows"}'));
        mostPages = Math.max(mostPages, values.get('pev_backlog_bytes{part="pages"}'));
      }
    })();
    // One stream alone meets its own bound; many together may meet only the other one.
    await emitMany(ids[0], EVENTS, 1_000);
    await clients[0].client.received(EVENTS);
    await Promise.all(ids.slice(1).map((id) => emitMany(id, EVENTS, 1_000)));
    // And some who come when most is long out of memory.
    for (const id of ids) clients.push({ id, client: await SseClient.open(url(id)) });
    await Promise.all(clients.map(({ client }) => client.received(EVENTS)));
    busy = false;
    await watching;
    for (const { id, client } of clients) {
      assert.deepEqual(client.events, await db.expected(id));
      client.close();
    }
    assert.ok(most > WINDOWS / 2 && most <= WINDOWS + FRAME, `windows: ${most} bytes`);
    assert.ok(mostPages <= PAGES + FRAME, `pages: ${mostPages} bytes`);
    const values = await metrics(streamer);
    assert.ok(values.get('pev_backlog_dropped_total{reason="stream_bytes"}') > 0);
    assert.ok(values.get('pev_backlog_dropped_total{reason="total_bytes"}') > 0);
  }));

// Under valgrind even what is sent steadily comes in fits and starts.
test('--send-timeout: who takes nothing is closed, who takes little is not', () =>
  withStreamer(['--send-timeout', wrapper.length > 0 ? '10s' : '4s'], async (streamer, url) => {
    const id = newExecution(), EVENTS = 8_000;
    const dead = await connectFrom('127.0.0.1', streamer, `/events/${id}`);
    const slow = await connectFrom('127.0.0.1', streamer, `/events/${id}`);
    dead.pause();
    let taken = 0;
    slow.on('data', (data) => { taken += data.length; });
    slow.pause();
    // It takes a little, often.
    const sipping = setInterval(() => {
      slow.resume();
      setTimeout(() => slow.pause(), 2);
    }, 50);
    const fast = await SseClient.open(url(id));
    await emitMany(id, EVENTS, 2_000); // more than the kernel takes for a client
    await fast.received(EVENTS);
    await poll(async () => (await metrics(streamer)).get('pev_evictions_total{reason="send_timeout"}') > 0, 'the dead one being closed');
    await poll(() => /took nothing for the send time-out/.test(streamer.log), 'the log saying so');
    clearInterval(sipping);
    slow.resume();
    await poll(() => taken > EVENTS * 2_000, 'the slow one having got all', wrapper.length > 0 ? 120_000 : 20_000);
    assert.equal((await metrics(streamer)).get('pev_evictions_total{reason="send_timeout"}'), 1);
    assert.equal(fast.ended, false, 'an idle client is not a dead one');
    [dead, slow].forEach((socket) => socket.destroy());
    fast.close();
  }));
