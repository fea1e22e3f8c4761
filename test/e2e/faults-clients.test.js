// Clients and the network between misbehave: slow readers, dead ones, cut connections,
// hostile requests, floods; and the streamer itself is killed, halted and ended under
// them. Whoever follows the rules is not affected, or returns and holds everything.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import net from 'node:net';
import { after, before } from 'node:test';
import {
  Follower, Load, allFinished, assertExact, assertReturns, atRest, end, mib, percentile, progress, random, resources,
} from './fleet.js';
import { Database, DEADLINE, SseClient, Streamer, newExecution, poll, request, test, within, wrapper } from './harness.js';

const valgrind = wrapper.length > 0; // everything in the streamer some thirty times slower
const few = (n) => (valgrind ? Math.ceil(n / 10) : n);
const range = (first, n) => Array.from({ length: n }, (_, i) => first + i);
const newStreams = (n) => Array.from({ length: n }, newExecution);

let db;
before(async () => (db = await Database.start()));
after(() => db.stop());

/** A streamer for the length of a body, which may replace it. */
async function withStreamer(args, body) {
  const stack = { streamer: await Streamer.start({ dsn: db.dsn, args: ['--retry', '100ms', ...args] }) };
  try {
    await stack.streamer.ready();
    await body(stack.streamer, stack);
  } finally {
    await stack.streamer.stop();
  }
}

/** Followers of streams, so many on each, connected. */
async function follow(base, streams, each, options) {
  const followers = streams.flatMap((stream) => Array.from({ length: each }, () => new Follower(base, stream, options)));
  await poll(() => followers.every((f) => f.connected), 'every client being connected');
  return followers;
}

/** A history of so many events of about so many bytes. */
async function history(stream, count, bytes) {
  for (let i = 0; i < count; i += 1_000) {
    await db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
      'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', $2)))) FROM generate_series(1, $3::int) i))`,
    [stream, bytes, Math.min(1_000, count - i)]);
  }
}

/** A connection that sends text and reads nothing, ever. */
function deaf(port, text) {
  const socket = new net.Socket();
  socket.pause();
  socket.on('error', () => {}).connect(port, '127.0.0.1', () => socket.write(text));
  return socket;
}

test(`kill -9 under load: ${few(100)} clients return by Last-Event-ID`, () =>
  withStreamer([], async (streamer, stack) => {
    const streams = newStreams(20);
    const followers = await follow(() => stack.streamer.url, streams, few(100) / 20 >= 1 ? few(100) / 20 : 1);
    const load = new Load(db, streams, { rate: valgrind ? 40 : 400 });
    const { port } = streamer;
    for (let round = 0; round < 4; round++) {
      await load.more(few(200));
      stack.streamer.mayFail = true;
      await stack.streamer.kill('SIGKILL');
      stack.streamer = await Streamer.start({ dsn: db.dsn, listen: `127.0.0.1:${port}`, args: ['--retry', '100ms'] });
      await poll(() => followers.every((f) => f.connected), 'every client being back');
    }
    const reference = resources(stack.streamer.process.pid);
    await load.more(few(200));
    await load.stop();
    await allFinished(followers);
    await assertExact(db, followers);
    assert.ok(followers.every((f) => f.connections >= 5), 'every client lost its connection four times');
    await poll(() => resources(stack.streamer.process.pid).fds <= reference.fds - followers.length, 'their descriptors being closed');
  }));

test('slow readers and dead ones: the others do not notice, memory is bounded, the dead are closed', async (context) => {
  if (valgrind) return context.skip('it measures time and memory, which under valgrind mean nothing');
  const HISTORY = 10_000; // of 1 kB: more than the kernel's buffers and --backlog-bytes take
  const live = newExecution(), long = newExecution();
  await history(long, HISTORY, 900);
  await withStreamer(['--send-timeout', '5s', '--backlog-bytes', '4MiB', '--stream-backlog-bytes', '1MiB'], async (streamer) => {
    const { pid } = streamer.process;
    const before = await atRest(streamer);
    const fast = await follow(streamer.url, [live], 200);
    let latencies = [], peak = 0, emitted = 0;
    for (const f of fast) f.on('event', (id, type, data) => latencies.push(performance.now() - Number(/"message": "([0-9.]+)"/.exec(data)?.[1])));
    const stamp = () => String(performance.now());
    const watch = () => (peak = Math.max(peak, resources(pid).rss));
    const pace = async (n) => {
      for (let i = 0; i < n; i++) {
        const due = performance.now() + 20;
        await db.emit(live, ...progress(i, stamp()));
        watch();
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
      }
      emitted += n;
      await poll(() => fast.every((f) => f.last === emitted), 'the fast clients having everything');
    };
    await pace(50); // warm
    latencies = [];
    await pace(150);
    const without = latencies.filter(Number.isFinite);
    const peakWithout = peak;

    const dead = range(0, 5).map(() => deaf(streamer.port, `GET /events/${long} HTTP/1.1\r\nHost: localhost\r\n\r\n`));
    let lazy = true;
    const slow = range(0, 5).map(() => {
      const f = new Follower(streamer.url, long);
      // Takes what is there, then nothing for a while: some 100 kB a second.
      f.on('connected', () => f.response.on('data', () => {
        f.hold();
        setTimeout(() => f.release(), lazy ? 200 : 0);
      }));
      return f;
    });
    const began = Date.now();
    latencies = [];
    await pace(200);
    const beside = latencies.filter(Number.isFinite);
    await poll(() => /(closed: it took nothing for the send time-out[^]*){5}/.test(streamer.log), 'the dead being closed', 30_000);
    const closed = Date.now() - began;
    assert.ok(slow.every((f) => f.last > 0 && f.last < HISTORY), 'the slow ones were there all the time');
    assert.deepEqual([...new Set(slow.map((f) => f.connections))], [1], 'a slow client is not a dead one');
    lazy = false;
    await db.emit(long, ...end);
    await poll(() => (watch(), slow.every((f) => f.finished)), 'the slow ones being complete', 60_000);
    await db.emit(live, ...end);
    await allFinished(fast);
    await assertExact(db, [...fast, ...slow]);
    dead.forEach((socket) => socket.destroy());

    const figures = (samples) => `p50 ${percentile(samples, 50).toFixed(1)} ms, p99 ${percentile(samples, 99).toFixed(1)} ms`;
    console.log(`# 200 fast clients alone: ${figures(without)}; beside 5 slow and 5 dead ones: ${figures(beside)}`);
    console.log(`# memory of the streamer: ${mib(before.rss)} idle, ${mib(peakWithout)} with the fast, ${mib(peak)} at most; the dead were closed within ${closed} ms`);
    assert.equal(without.length, 150 * 200);
    assert.equal(beside.length, 200 * 200);
    const [alone, together] = [percentile(without, 90), percentile(beside, 90)];
    assert.ok(together < Math.max(3 * alone, 200), `p90 of the fast clients: ${together} ms beside the others, ${alone} ms alone`);
    // The backlog's bound, a page and buffers for each that reads history, and room for malloc.
    assert.ok(peak < before.rss + (16 << 20), `memory: ${mib(peak)} at most, ${mib(before.rss)} idle`);
    await assertReturns(streamer, before, { slack: 8 << 20 });
  });
});

/** Between clients and the streamer: delays what it passes on, and cuts it short anywhere. */
class BadNetwork {
  static async start(port, seed) {
    const proxy = new BadNetwork();
    proxy.cuts = 0;
    proxy.peaceful = false;
    const next = random(seed);
    proxy.sockets = new Set();
    proxy.server = net.createServer((client) => {
      const server = net.connect(port, '127.0.0.1');
      const both = [client, server];
      const close = () => both.forEach((socket) => (socket.destroy(), proxy.sockets.delete(socket)));
      for (const socket of both) proxy.sockets.add(socket.on('error', close).on('close', close));
      client.pipe(server);
      let left = proxy.peaceful ? Infinity : Math.floor(200 + next() * 6_000);
      server.on('data', async (bytes) => {
        server.pause();
        // Pieces of any size, in the middle of headers, chunks, frames, characters.
        for (let at = 0; at < bytes.length && !client.destroyed;) {
          const n = Math.min(left, bytes.length - at, 1 + Math.floor(next() * 700));
          client.write(bytes.subarray(at, at + n));
          at += n;
          left -= n;
          if (left === 0) {
            proxy.cuts++;
            if (next() < 0.5) return client.resetAndDestroy(), close();
            return client.end(), server.destroy();
          }
          if (!proxy.peaceful && next() < 0.2) await new Promise((resolve) => setTimeout(resolve, next() * 20));
        }
        if (!client.destroyed) server.resume();
      });
      server.on('end', () => client.end());
    });
    await new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  stop() {
    this.sockets.forEach((socket) => socket.destroy());
    return new Promise((resolve) => this.server.close(resolve));
  }
}

test('a network that delays, and cuts connections in the middle of frames: clients resume', () =>
  withStreamer([], async (streamer) => {
    const before = await atRest(streamer);
    const proxy = await BadNetwork.start(streamer.port, 7);
    const streams = newStreams(5);
    const followers = streams.flatMap((stream) => range(0, 6).map(() => new Follower(proxy.url, stream)));
    const sources = streams.map((stream) => {
      const source = new EventSource(`${proxy.url}/events/${stream}`);
      const seen = [];
      for (const type of ['progress', 'execution-complete']) {
        source.addEventListener(type, (e) => seen.push({ id: e.lastEventId, event: e.type, data: e.data }));
      }
      return { stream, source, seen };
    });
    try {
      const load = new Load(db, streams, { rate: 300, message: (i) => `“${i}” é 漢字 \\ "x"`.repeat(1 + (i % 9)) });
      await load.more(300);
      await poll(() => proxy.cuts > few(150), 'enough cuts', 2 * DEADLINE);
      // Without an end to the cuts a long history might never get through.
      proxy.peaceful = true;
      await load.stop();
      await allFinished(followers);
      await poll(() => sources.every(({ source }) => source.readyState === EventSource.CLOSED), 'every EventSource being stopped', 2 * DEADLINE);
      await assertExact(db, followers);
      for (const { stream, seen } of sources) assert.deepEqual(seen, await db.expected(stream));
    } finally {
      sources.forEach(({ source }) => source.close());
      followers.forEach((f) => f.close());
      await proxy.stop();
    }
    await assertReturns(streamer, before);
  }));

test('the streamer is halted for longer than the heartbeat and the send time-out, and goes on', () =>
  withStreamer(['--heartbeat', '1s', '--send-timeout', '2s'], async (streamer) => {
    const before = await atRest(streamer);
    const streams = newStreams(10);
    const followers = await follow(streamer.url, streams, 3);
    const idle = await SseClient.open(`${streamer.url}/events/${newExecution()}`);
    const load = new Load(db, streams, { rate: valgrind ? 40 : 400 });
    await load.more(few(200));
    for (let round = 0; round < 2; round++) {
      const leaving = await follow(streamer.url, streams, 1);
      streamer.process.kill('SIGSTOP');
      const halted = Date.now();
      // Some leave meanwhile, some come; and all the while events are emitted.
      leaving.forEach((f) => f.close());
      followers.push(...streams.map((stream) => new Follower(streamer.url, stream)));
      await poll(() => Date.now() - halted > 3_000, 'the halt');
      streamer.process.kill('SIGCONT');
      const beats = idle.comments.length;
      await idle.until((client) => client.comments.length > beats, 'a heartbeat after the halt');
      await load.more(few(100));
    }
    await load.stop();
    await allFinished(followers);
    await assertExact(db, followers);
    assert.deepEqual([...new Set(followers.map((f) => f.connections))], [1], 'nobody lost the connection by it');
    assert.equal(idle.ended, false);
    idle.close();
    await assertReturns(streamer, before);
  }));

test(`the streamer is halted for long while it writes to ${few(1_000)} clients: none of them is taken for dead`, () =>
  withStreamer(['--send-timeout', '3s'], async (streamer) => {
    const stream = newExecution();
    let closed = 0, hear = () => {};
    const crowd = range(0, few(1_000)).map(() => {
      const socket = net.connect(streamer.port, '127.0.0.1', () => socket.write(`GET /events/${stream} HTTP/1.1\r\nHost: localhost\r\n\r\n`));
      socket.text = '';
      return socket.setEncoding('latin1').on('error', () => {}).on('close', () => closed++).on('data', (text) => {
        socket.text = (socket.text + text).slice(-400);
        hear();
      });
    });
    await poll(() => crowd.every((socket) => socket.text.includes('retry: ')), 'every client being connected');
    for (let round = 1; round <= 4; round++) {
      const heard = new Promise((resolve) => (hear = () => resolve(streamer.process.kill('SIGSTOP'))));
      await db.emit(stream, ...progress(round));
      await within(heard, 'the first client hearing of it');
      hear = () => {};
      const halted = Date.now();
      await poll(() => Date.now() - halted > 2_200, 'the halt');
      streamer.process.kill('SIGCONT');
      await poll(() => closed > 0 || crowd.every((socket) => socket.text.includes(`id: ${round}\n`)), `event ${round} at every client`);
      assert.equal(closed, 0);
    }
    crowd.forEach((socket) => socket.destroy());
  }));

/** Send bytes, as they are, and return what the server says until it closes, or until it has said `until`. */
function hostile(port, pieces, { until, ms = DEADLINE } = {}) {
  let answer = '';
  return within(new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      for (const piece of [pieces].flat()) socket.write(piece);
    });
    const finish = () => (socket.destroy(), resolve(answer));
    socket.setEncoding('latin1').on('data', (text) => ((answer += text), until?.test(answer) && finish()));
    socket.on('error', finish).on('close', finish);
  }), `the end of ${JSON.stringify(String(pieces).slice(0, 60))}`, ms).catch((error) => {
    throw new Error(`${error.message}; it said ${JSON.stringify(answer.slice(0, 200))}`);
  });
}

const get = (target, ...headers) => `GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers.map((h) => `${h}\r\n`).join('')}\r\n`;
const long = (n) => 'a'.repeat(n);

// What is sent, and the first line that may answer: a refusal in so many words, or the end of
// the connection where the standard allows no better.
const NOTHING = '(closed)';
const HOSTILE = [
  ['a URL of 60 kB', get(`/events/${long(60_000)}`), [414, 431, 400]],
  ['a key of 201 bytes', get(`/events/${long(201)}`), [400]],
  ['a query of 12 kB', get(`/events/1?types=${long(12_000)}`), [400, 414, 431]],
  ['three thousand parameters', get(`/events/1?${'&a=1'.repeat(3_000)}`), [400, 414, 431, 200, NOTHING]],
  ['a header of 60 kB', get('/healthz', `X: ${long(60_000)}`), [431, 413, 400]],
  ['a thousand headers', get('/healthz', ...range(0, 1_000).map((i) => `X-${i}: ${i}`)), [431, 413, 400]],
  ['headers without an end', `GET /healthz HTTP/1.1\r\nHost: localhost\r\n${'X: y\r\n'.repeat(50_000)}`, [431, 413, 400]],
  ['invalid UTF-8', get('/events/%ff%fe'), [400]],
  ['overlong UTF-8', get('/events/%c0%af'), [400]],
  ['a surrogate', get('/events/%ed%a0%80'), [400]],
  ['raw bytes above 127', Buffer.from(get('/events/\xff\xfe'), 'latin1'), [400]],
  ['half an escape', get('/events/%4'), [400]],
  ['no escape', get('/events/%zz'), [400]],
  ['an escaped NUL', get('/events/a%00b'), [400]],
  ['a NUL in the path', get('/events/a\0b'), [400]],
  ['a NUL in the query', get('/events/a?after=1\0'), [400]],
  ['escaped line ends', get('/events/a%0d%0aX:%20y'), [400]],
  ['an escaped slash', get('/events/a%2fb'), [400, 404]],
  ['dots', get('/events/../healthz'), [400, 404]],
  ['an empty key', get('/events/'), [400, 404]],
  ['a number beyond bigint', get('/events/99999999999999999999'), [400]],
  ['a negative number', get('/events/-1'), [400]],
  ['SQL', get("/events/1'%3bDROP%20TABLE%20pev_stream--"), [400]],
  ['a cursor that is no number', get('/events/1?after=x'), [400]],
  ['a cursor beyond bigint', get('/events/1?after=99999999999999999999'), [400]],
  ['a negative cursor', get('/events/1?after=-1'), [400]],
  ['a type that does not exist', get('/events/1?types=nonsense'), [400]],
  ['an unknown path', get('/etc/passwd'), [404]],
  ['DELETE', get('/events/1').replace('GET', 'DELETE'), [405]],
  ['a method of its own', get('/events/1').replace('GET', long(2_000)), [405, 400, 501, 431, 414]],
  ['no version', 'GET /healthz\r\n\r\n', [400, 505, NOTHING]],
  ['version 9', get('/healthz').replace('HTTP/1.1', 'HTTP/9.9'), [505, 400, NOTHING]],
  ['no Host', 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', [400]],
  ['not HTTP at all', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n', [400, NOTHING]],
  ['only line ends', `${'\r\n'.repeat(20_000)}${get('/healthz')}`, [200, 400, 414, 431, NOTHING]],
  ['only blanks', `${' '.repeat(60_000)}\r\n\r\n`, [400, 414, 431, NOTHING]],
  ['a header without a colon', get('/healthz', 'nonsense'), [400, 200]],
  ['a folded header', get('/healthz', 'A: b\r\n c'), [400, 200]],
  ['two lengths', get('/healthz', 'Content-Length: 5', 'Content-Length: 6'), [400, NOTHING]],
  ['a negative length', get('/healthz', 'Content-Length: -5'), [400]],
  ['a length beyond 64 bits', get('/healthz', 'Content-Length: 99999999999999999999999'), [400, 413]],
  ['length and chunks', `${get('/healthz', 'Content-Length: 3', 'Transfer-Encoding: chunked')}0\r\n\r\n`, [400, 200]],
  ['a chunk of nonsense length', `${get('/healthz', 'Transfer-Encoding: chunked')}zz\r\n\r\n`, [400, NOTHING]],
  ['a chunk of endless length', `${get('/healthz', 'Transfer-Encoding: chunked')}ffffffffffffffffff\r\n\r\n`, [400, 413, NOTHING]],
  ['a last id that is no number', get('/events/1', 'Last-Event-ID: x'), [200]],
  ['a last id beyond bigint', get('/events/1', 'Last-Event-ID: 99999999999999999999'), [200]],
  ['a last id of 10 kB', get('/events/1', `Last-Event-ID: ${'9'.repeat(10_000)}`), [200, 400, 431]],
];

test(`${HOSTILE.length} hostile requests: each is refused clearly, and nobody else notices`, () =>
  withStreamer(['--send-timeout', '10s'], async (streamer) => {
    const stream = newExecution();
    await db.emit(stream, ...progress(1));
    const bystanders = await follow(streamer.url, [stream], 3);
    let before;
    for (let round = 0; round < (valgrind ? 1 : 3); round++) {
      // What the first round leaves behind for good (malloc's own) no later one may add to.
      if (round < 2) before = await atRest(streamer);
      const wrong = [];
      await Promise.all(HOSTILE.map(async ([name, bytes, allowed]) => {
        const answer = await hostile(streamer.port, bytes, { until: /^HTTP\/1\.[01] 200 [^]*\r\n\r\n/ });
        const status = answer === '' ? NOTHING : Number(/^HTTP\/1\.[01] (\d{3}) /.exec(answer)?.[1]);
        if (!allowed.includes(status)) wrong.push(`${name}: ${status} ${JSON.stringify(answer.slice(0, 100))}`);
      }));
      assert.deepEqual(wrong, []);
      // Several requests in one piece are answered in their order; one that is broken ends it.
      const piped = await hostile(streamer.port, `${get('/healthz').replace('Connection: close\r\n', '').repeat(20)}${get('/nowhere')}`);
      assert.deepEqual(piped.match(/^HTTP\/1\.1 \d+/gm).map((line) => line.slice(9)), [...Array(20).fill('200'), '404']);
      // A request that comes byte by byte is a request.
      assert.match(await hostile(streamer.port, [...get('/healthz')]), /^HTTP\/1\.1 200 /);
    }
    await poll(() => resources(streamer.process.pid).fds === before.fds, 'descriptors being closed');
    if (!valgrind) assert.ok(resources(streamer.process.pid).rss < before.rss + (1 << 20), `memory: ${mib(resources(streamer.process.pid).rss)}, before ${mib(before.rss)}`);
    // Many requests show what few would not: under valgrind every byte is looked at anyway.
    const plain = (n) => Promise.all(range(0, 20).map(async () => {
      for (let i = 0; i < n / 20; i++) await hostile(streamer.port, get(['/events/%zz', '/healthz', '/nowhere', '/events/1?after=x'][i % 4]));
    }));
    if (!valgrind) {
      await plain(500);
      const then = resources(streamer.process.pid);
      await plain(2_000);
      await poll(() => resources(streamer.process.pid).fds === before.fds, 'descriptors being closed');
      const grown = resources(streamer.process.pid).rss - then.rss;
      assert.ok(grown < 256 << 10, `2,000 requests left ${grown} bytes behind`);
    }
    await db.emit(stream, ...end);
    await allFinished(bystanders);
    await assertExact(db, bystanders);
    assert.deepEqual([...new Set(bystanders.map((f) => f.connections))], [1]);
  }));

test('floods: half requests, and more subscribers than allowed', () =>
  withStreamer(['--max-clients', '20', '--send-timeout', '3s'], async (streamer) => {
    const stream = newExecution();
    await db.emit(stream, ...progress(1));
    const followers = await follow(streamer.url, [stream], 5);
    await poll(() => followers.every((f) => f.last === 1), 'the first event');
    const before = await atRest(streamer);
    // A connection whose stream has ended, and that asks for nothing more, is closed as any other.
    const ended = newExecution();
    await db.emit(ended, ...end);
    assert.match(await hostile(streamer.port, get(`/events/${ended}`).replace('Connection: close\r\n', '')), /^HTTP\/1\.1 200 [^]*\r\n0\r\n\r\n$/);
    // More connections than the streamer accepts, each with a request that never ends.
    const halves = range(0, 600).map(() => deaf(streamer.port, 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: '));
    await db.emit(stream, ...progress(2));
    await poll(() => followers.every((f) => f.last === 2), 'those who are connected being served all the same');
    // They are given up one after the other, and then there is room.
    assert.equal((await request(`${streamer.url}/healthz`)).status, 200);
    halves.forEach((socket) => socket.destroy());
    await poll(() => resources(streamer.process.pid).fds === before.fds, 'descriptors being closed');

    // Subscribers beyond the limit are told to come back, in words that EventSource survives.
    const many = await Promise.all(range(0, 60).map(() => SseClient.open(`${streamer.url}/events/${stream}`)));
    await poll(() => many.filter((client) => client.ended === 'end').length === 45, 'those beyond the limit being sent away');
    for (const client of many.filter((client) => client.ended)) {
      assert.equal(client.status, 200);
      assert.ok(client.retries[0] > 500, `told to come back late: ${client.retries}`);
      assert.deepEqual(client.events, []);
    }
    many.forEach((client) => client.close());
    await poll(() => resources(streamer.process.pid).fds === before.fds, 'descriptors being closed');
    await db.emit(stream, ...end);
    await allFinished(followers);
    await assertExact(db, followers);
  }));

test(`SIGTERM with ${few(500)} clients, some of which do not read: every one that does is told when to return`, async () => {
  const stream = newExecution(), long = newExecution();
  await db.emit(stream, ...progress(1));
  await history(long, 9_000, 900);
  const streamer = await Streamer.start({ dsn: db.dsn, args: ['--drain-timeout', '3s'] });
  const clients = await Promise.all(range(0, few(500)).map(() => SseClient.open(`${streamer.url}/events/${stream}`)));
  await Promise.all(clients.map((client) => client.received(1)));
  const dead = range(0, 5).map(() => deaf(streamer.port, `GET /events/${long} HTTP/1.1\r\nHost: localhost\r\n\r\n`));
  const halves = range(0, 5).map(() => deaf(streamer.port, 'GET /healthz HTTP/1.1\r\n'));
  await poll(() => dead.every((socket) => socket.bytesWritten > 0), 'the dead being connected');
  // They hold their first pages: nothing more can be said to them.
  await SseClient.open(`${streamer.url}/events/${long}`).then((client) => client.received(100)).then((client) => client.close());
  const started = Date.now();
  const { code, signal } = await streamer.kill('SIGTERM');
  const took = Date.now() - started;
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
  if (!valgrind) assert.ok(took < 10_000, `it took ${took} ms`);
  await Promise.all(clients.map((client) => client.toEnd()));
  const times = clients.map((client) => client.retries.at(-1));
  assert.ok(clients.every((client) => client.retries.length === 2), 'every client has a last retry:');
  assert.ok(Math.min(...times) >= 5_000 && new Set(times).size > times.length / 4, `late, and not all at once: ${times.slice(0, 20)}`);
  [...dead, ...halves].forEach((socket) => socket.destroy());
  if (!valgrind) console.log(`# draining ${clients.length} clients took ${took} ms, with 5 that do not read and 5 that never asked`);
});
