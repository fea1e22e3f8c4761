// The shipped configurations of nginx and Caddy, each driven by a client that speaks
// HTTP/2: what comes through, at once and in order, and who the streamer takes it from.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { Authority } from './certificates.js';
import { Database, SseClient, Streamer, executionEvents, newExecution, poll, request, test } from './harness.js';
import { KeyRing } from './jwt.js';
import { metrics } from './prometheus.js';
import { Http2Client, Proxy } from './proxies.js';
import { PROXY_NAMES, freePort } from './proxy-command.js';

const authority = new Authority();
const { ca } = authority;
const ring = new KeyRing();
ring.secret();
const stacks = Object.fromEntries(PROXY_NAMES.map((name) => [name, {}]));
let db;

before(async () => {
  db = await Database.start();
  for (const [name, stack] of Object.entries(stacks)) {
    stack.listen = `127.0.0.1:${await freePort()}`;
    stack.streamer = await startStreamer(stack.listen);
    stack.proxy = await Proxy.start(name, { upstream: stack.streamer.port, authority });
    stack.client = await Http2Client.connect(stack.proxy.url, { ca });
  }
});
after(async () => {
  for (const stack of Object.values(stacks)) {
    stack.client?.close();
    await stack.proxy?.stop();
    await stack.streamer?.stop();
  }
  await db.stop();
});

const step = (n = 1, message = 'x') => ({ currentStep: n, totalSteps: 9, percentage: 1, message });
const emit = (stream, n) => db.emit(stream, 'progress', step(n));
const body = (n, message) => JSON.stringify({ type: 'progress', data: step(n, message) });
const clientsAre = (streamer, n) => poll(async () => (await metrics(streamer)).get('pev_clients') === n, `${n} clients`);

async function startStreamer(listen, args = []) {
  const streamer = await Streamer.start({ dsn: db.dsn, listen, args: ['--trusted-proxy', '127.0.0.1', '--heartbeat', '1s', ...args] });
  await streamer.ready();
  return streamer;
}

/** Another streamer behind the same proxy, for as long as the body runs. */
async function withStreamer(stack, args, body) {
  await stack.streamer.stop();
  stack.streamer = await startStreamer(stack.listen, args);
  try {
    await body();
  } finally {
    await stack.streamer.stop();
    stack.streamer = await startStreamer(stack.listen);
  }
}

/** Who may read what a proxy answers in the place of a streamer that is down. */
async function readsOfOrigins(client, stream) {
  for (const accept of ['text/event-stream', '*/*']) {
    for (const origin of ['https://app.example', 'http://app.example', 'https://app.example.org', 'null', undefined]) {
      const { status, headers } = await client.request(`/events/${stream}`, { accept, ...(origin && { origin }) });
      assert.equal(status, accept === '*/*' ? 503 : 200);
      const marks = [headers['access-control-allow-origin'], headers['access-control-allow-credentials'], headers.vary];
      assert.equal(headers['access-control-expose-headers'], status === 503 && marks[0] ? 'Retry-After' : undefined);
      assert.deepEqual(marks, origin === 'https://app.example' ? [origin, 'true', 'Origin'] : [undefined, undefined, 'Origin'], `Origin: ${origin}`);
    }
  }
}

for (const [name, stack] of Object.entries(stacks)) {
  test(`${name}: 100 streams on one connection`, async () => {
    const streams = Array.from({ length: 100 }, newExecution);
    const events = executionEvents(1);
    for (const stream of streams.slice(0, 50)) await db.emit(stream, ...events[0]);
    const records = await Promise.all(streams.map((stream) => stack.client.open(`/events/${stream}`, { 'accept-encoding': 'gzip, br, zstd' })));
    await clientsAre(stack.streamer, 100);
    await Promise.all(streams.map(async (stream, i) => {
      for (const event of events.slice(i < 50 ? 1 : 0)) await db.emit(stream, ...event);
    }));
    for (const [i, record] of records.entries()) {
      await record.toEnd(); // at the event that closes the stream
      assert.equal(record.status, 200);
      assert.match(record.headers['content-type'], /^text\/event-stream\b/);
      assert.equal(record.headers['content-encoding'], undefined);
      assert.equal(record.headers['cache-control'], 'no-cache, no-transform');
      assert.deepEqual(record.events, await db.expected(streams[i]));
    }
  });

  test(`${name}: events come one by one, as they are emitted`, async (context) => {
    const stream = newExecution();
    const record = await stack.client.open(`/events/${stream}`);
    await record.until(() => record.retries.length === 1, 'the first bytes');
    const times = [];
    for (let n = 1; n <= 20; n++) {
      const began = performance.now();
      await emit(stream, n);
      await record.received(n); // the next is not emitted before: a buffer would never fill
      times.push(performance.now() - began);
    }
    times.sort((a, b) => a - b);
    context.diagnostic(`emitted and received: first ${times[0].toFixed(1)} ms, median ${times[10].toFixed(1)} ms, last ${times[19].toFixed(1)} ms`);
    await record.until(() => record.comments.length > 2, 'heartbeats');
    assert.equal(record.ended, false);
    record.close();
    await clientsAre(stack.streamer, 0); // the proxy passes the hang-up on
  });

  test(`${name}: a long history, and resuming in the middle of it`, async () => {
    const stream = newExecution();
    await db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data',
      jsonb_build_object('currentStep', i, 'totalSteps', 2, 'percentage', 1, 'message', repeat('m', i % 300)))) FROM generate_series(1, 5000) i))`, [stream]);
    await db.emit(stream, 'execution-complete', { totalTokens: 1, duration: 1, success: true });
    for (const after of [0, 2500, 5000]) {
      const record = await stack.client.open(`/events/${stream}`, after > 0 ? { 'last-event-id': String(after) } : {});
      await record.toEnd();
      assert.deepEqual(record.events, await db.expected(stream, after));
    }
    assert.equal((await stack.client.request(`/events/${stream}`, { 'last-event-id': '5001' })).status, 204);
    // The same from a client that speaks HTTP/1.1.
    const client = await (await SseClient.open(`${stack.proxy.url}/events/${stream}`, { ca, headers: { 'Last-Event-ID': '4990' } })).toEnd();
    assert.deepEqual(client.events, await db.expected(stream, 4990));
  });

  test(`${name}: events are emitted, and refused with the streamer's words`, async () => {
    const stream = newExecution();
    const post = (text) => stack.client.request(`/events/${stream}`, {}, text);
    for (let n = 1; n <= 20; n++) {
      const answer = await post(body(n));
      assert.equal(answer.status, 201, answer.body);
      assert.deepEqual(JSON.parse(answer.body), { seq: n });
    }
    assert.equal((await post(`[${Array.from({ length: 100 }, (_, i) => body(i + 21, 'm'.repeat(5_000)))}]`)).status, 201);
    assert.equal((await db.expected(stream)).length, 120);
    const refused = await post('{"type": "progress", "data": {}}');
    assert.equal(refused.status, 422);
    assert.ok(JSON.parse(refused.body).errors.length > 0, refused.body);
    const large = await post('x'.repeat(1_200_000));
    assert.equal(large.status, 413);
    assert.match(large.headers['content-type'], /^application\/problem\+json\b/);
    assert.match(JSON.parse(large.body).detail, /1048576/);
  });

  test(`${name}: the metrics stay inside`, async () => {
    assert.equal((await stack.client.request('/metrics')).status, 404);
    assert.equal((await stack.client.request('/healthz')).status, 200);
  });

  test(`${name}: a streamer that restarts is waited for, as EventSource can`, async () => {
    const stream = newExecution();
    await emit(stream, 1);
    const first = await stack.client.open(`/events/${stream}`);
    await first.received(1);
    await stack.streamer.stop();
    await first.until(() => first.ended, 'the end');
    assert.equal(first.ended, 'end', 'the streamer took its leave');
    assert.equal(first.retries.length, 2);
    for (const client of [
      await stack.client.open(`/events/${stream}`, { 'last-event-id': '1' }),
      await SseClient.open(`${stack.proxy.url}/events/${stream}`, { ca, headers: { 'Last-Event-ID': '1' } }),
    ]) {
      await client.toEnd();
      assert.equal(client.status, 200);
      assert.match(client.headers['content-type'], /^text\/event-stream\b/);
      assert.deepEqual([client.retries, client.events], [[5000], []]);
    }
    const refused = await stack.client.request(`/events/${stream}`, {}, body(2));
    assert.deepEqual([refused.status, refused.headers['retry-after']], [503, '5']);
    assert.match(refused.headers['content-type'], /^application\/problem\+json\b/);
    assert.equal(JSON.parse(refused.body).status, 503);
    await readsOfOrigins(stack.client, stream);
    stack.streamer = await startStreamer(stack.listen);
    await emit(stream, 2);
    const next = await stack.client.open(`/events/${stream}`, { 'last-event-id': '1' });
    await next.received(1);
    assert.deepEqual(next.events, await db.expected(stream, 1));
    // And one that is killed: the stream breaks off, and is resumed.
    stack.streamer.mayFail = true;
    await stack.streamer.kill('SIGKILL');
    await next.until(() => next.ended, 'the end');
    stack.streamer = await startStreamer(stack.listen);
    await emit(stream, 3);
    const last = await stack.client.open(`/events/${stream}`, { 'last-event-id': next.lastId });
    await last.received(1);
    assert.deepEqual(last.events, await db.expected(stream, 2));
    last.close();
  });

  test(`${name}: clients are counted by their own addresses, and cannot make up others`, () => withStreamer(stack, ['--max-clients-per-ip', '2', '--emit-rate', '1'], async () => {
    const from = (localAddress) => Http2Client.connect(stack.proxy.url, { ca, localAddress });
    const [here, there] = [await from('127.0.0.2'), await from('127.0.0.3')];
    const target = `/events/${newExecution()}`;
    const records = [];
    for (const client of [here, here, there, there]) records.push(await client.open(target));
    await Promise.all(records.map((record) => record.until(() => record.retries.length === 1, 'the stream')));
    await clientsAre(stack.streamer, 4);
    const fakes = ['10.0.0.1', '127.0.0.1', '127.0.0.3', 'unknown', '', ',', '10.0.0.1, 127.0.0.1', '[::1]:80'];
    for (const client of [here, there]) {
      for (const fake of [undefined, ...fakes]) {
        const headers = { accept: '*/*', ...(fake === undefined ? {} : { 'x-forwarded-for': fake }) };
        assert.equal((await client.request(target, headers)).status, 429, `X-Forwarded-For: ${fake}`);
      }
    }
    // Nor is anybody believed who is no trusted proxy; this one is a client of its own.
    const url = `${stack.streamer.url}${target}`;
    const direct = (fake) => SseClient.open(url, { headers: { 'X-Forwarded-For': fake } });
    const own = [await direct('127.0.0.2')];
    assert.equal(own[0].retries.length || (await own[0].until(() => own[0].ended || own[0].retries.length > 0, 'the answer')).retries.length, 1);
    for (const record of [...records, ...own]) record.close();
    await clientsAre(stack.streamer, 0);

    // At once, so that no other is due before they are there.
    const emits = async (client, fake) => (await client.request(target, { 'x-forwarded-for': fake }, body(1))).status;
    const burst = (client) => Promise.all(Array.from({ length: 6 }, (_, i) => emits(client, `10.0.0.${i + 1}`)));
    for (const statuses of await Promise.all([burst(here), burst(there)])) {
      assert.ok(statuses.includes(201), `a rate of its own: ${statuses}`);
      assert.ok(statuses.includes(429), `whatever it says: ${statuses}`);
      assert.deepEqual(statuses.filter((status) => status !== 201 && status !== 429), []);
    }
    [here, there].forEach((client) => client.close());
  }));

  test(`${name}: no token is logged`, () => withStreamer(stack, ['--jwt-secret-file', ring.file('secret')], async () => {
    const token = ring.token({ sub: name });
    const stream = newExecution();
    await emit(stream, 1);
    const record = await stack.client.open(`/events/${stream}?token=${token}`);
    await record.received(1);
    record.close();
    assert.equal((await stack.client.request(`/events/${stream}?token=${token}x`)).status, 401);
    // Nor one whose query has become a part of the path.
    for (const before of ['%3F', '%3f', '&', '%26', ';', '%3B', '%23', '%253F']) await stack.client.request(`/events/${stream}${before}token=${token}`);
    // What a proxy has to complain of is what it may quote a request for.
    const broken = await stack.client.open(`/events/${stream}?token=${token}`);
    await broken.received(1);
    stack.streamer.mayFail = true;
    await stack.streamer.kill('SIGKILL');
    await broken.until(() => broken.ended, 'the end');
    for (const [accept, status] of [['text/event-stream', 200], ['*/*', 503]]) {
      assert.equal((await stack.client.request(`/events/${stream}?token=${token}`, { accept })).status, status);
    }
    stack.streamer = await startStreamer(stack.listen, ['--jwt-secret-file', ring.file('secret')]);
    await poll(async () => (await stack.client.request('/healthz')).status === 200, 'the streamer being back');
    assert.ok(!stack.proxy.logs().includes(token), stack.proxy.logs());
    const logged = { nginx: `"GET /events/${stream} HTTP/2\\.0" 401 `, caddy: `"uri":"/events/${stream}",.*"status":401` };
    await poll(() => new RegExp(logged[name]).test(stack.proxy.logs()), 'the log of the request that was refused');
  }));
}
