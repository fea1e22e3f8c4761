// The HTTP surface: what each request is answered, header by header and byte by byte.

import assert from 'node:assert/strict';
import net from 'node:net';
import { SseClient, executionEvents, newExecution, poll, request, useStack, test, within } from './harness.js';

const stack = useStack({ streamer: { args: ['--heartbeat', '1s', '--retry', '2s'] } });

const url = (stream, query = '') => `${stack.streamer.url}/events/${stream}${query}`;
const progress = (message = 'x', more = {}) => ['progress', { currentStep: 1, totalSteps: 2, percentage: 50, message, ...more }];
const chat = ['chat', { result: { id: 'm_1', content: 'hi', userId: 'u_1', userName: 'Ada', timestamp: '2025-10-17T00:00:00Z' } }];
const end = ['execution-complete', { totalTokens: 1, duration: 1, success: true }];

/** A request as it is written, and what comes back. */
function rawRequest(head) {
  let answer = '';
  const socket = net.connect(stack.streamer.port, '127.0.0.1', () => socket.write(head));
  socket.setEncoding('utf8').on('data', (more) => (answer += more)).on('error', () => {});
  return { socket, text: () => answer };
}

async function emitAll(stream, events) {
  for (const [type, data] of events) await stack.db.emit(stream, type, data);
}

/** An execution with events emitted, by default ended. */
async function execution(events = executionEvents(1)) {
  const id = newExecution();
  await emitAll(id, events);
  return id;
}

test('the head of the response', async () => {
  const client = await SseClient.open(url(newExecution()));
  assert.equal(client.status, 200);
  assert.match(client.headers['content-type'], /^text\/event-stream\b/);
  assert.equal(client.headers['cache-control'], 'no-cache, no-transform');
  assert.equal(client.headers['x-accel-buffering'], 'no');
  assert.equal(client.headers['content-length'], undefined);
  client.close();
});

test('the first byte comes at once, before any event, with the time to wait before reconnecting', async () => {
  const client = await SseClient.open(url(newExecution()));
  await client.until(() => client.retries.length === 1, 'retry:');
  assert.deepEqual(client.events, []);
  client.close();
});

test('retry: differs from client to client, a quarter up and down', async () => {
  const id = newExecution();
  const clients = await Promise.all(Array.from({ length: 20 }, () => SseClient.open(url(id))));
  await Promise.all(clients.map((client) => client.until(() => client.retries.length > 0, 'retry:')));
  const times = clients.map((client) => client.retries[0]);
  for (const ms of times) assert.ok(ms >= 1500 && ms <= 2500, `retry: ${ms}`);
  assert.ok(new Set(times).size > 5, `retry: ${times}`);
  clients.forEach((client) => client.close());
});

test('a silent stream sends comments', async () => {
  const client = await SseClient.open(url(newExecution()));
  const already = client.comments.length;
  await client.until(() => client.comments.length >= already + 2, 'two heartbeats');
  assert.deepEqual(client.events, []);
  client.close();
});

test('every event has id, event and data, in this order, each on a line', async () => {
  const id = await execution();
  const client = await (await SseClient.open(url(id))).toEnd();
  const frames = (await stack.db.expected(id)).map((row) => `id: ${row.id}\nevent: ${row.event}\ndata: ${row.data}\n\n`);
  assert.ok(client.raw.endsWith(frames.join('')), client.raw);
});

test('data is event_data, byte for byte as PostgreSQL prints it', async () => {
  const id = newExecution();
  const awkward = [
    'plain', 'ünï¢ödé 漢字 🙂 \u{1F469}\u200D\u{1F4BB}', 'line\nfeed', 'carriage\rreturn', 'both\r\nof them', 'tab\tand "quotes" and \\',
    '\u0001\u001f\u007f\u0085\u2028\u2029', 'data: not a field\n\nid: 99\nevent: trick', ': not a comment', '</script><!--', '',
  ];
  await emitAll(id, awkward.map((text) => progress(text, { extra: { text, nested: [1.50, 1e3, null, true, text] } })));
  await stack.db.query(`SELECT pev_emit($1::bigint, 'progress', '{"percentage": 12.340, "currentStep": 1, "totalSteps": 2, "message": "m", "big": 12345678901234567890.1234567890}')`, [id]);
  await emitAll(id, [end]);
  const client = await (await SseClient.open(url(id))).toEnd();
  const rows = await stack.db.expected(id);
  assert.equal(rows.length, awkward.length + 2);
  assert.deepEqual(client.events, rows);
  assert.ok(rows.at(-2).data.includes('12.340'));
  awkward.forEach((text, i) => assert.equal(JSON.parse(client.events[i].data).message, text));
});

test('events that come while the client listens are the same bytes as history', async () => {
  const id = newExecution();
  const live = await SseClient.open(url(id));
  await emitAll(id, executionEvents(2));
  await live.toEnd();
  const history = await (await SseClient.open(url(id))).toEnd();
  const frames = (client) => client.raw.slice(client.raw.indexOf('id: 1\n')).replace(/^:.*\n\n?/gm, '');
  assert.equal(frames(live), frames(history));
  assert.deepEqual(live.events, await stack.db.expected(id));
});

test('a large event arrives whole', async () => {
  const id = newExecution();
  await emitAll(id, [progress('é'.repeat(15_000)), end]);
  const client = await (await SseClient.open(url(id))).toEnd();
  assert.deepEqual(client.events, await stack.db.expected(id));
});

test('Last-Event-ID, lastEventId and after: what comes after them', async () => {
  const id = await execution();
  const rows = await stack.db.expected(id, 3);
  for (const [query, headers] of [['', { 'Last-Event-ID': '3' }], ['?lastEventId=3', {}], ['?after=3', {}]]) {
    const client = await (await SseClient.open(url(id, query), { headers })).toEnd();
    assert.deepEqual(client.events, rows, `${query} ${JSON.stringify(headers)}`);
  }
});

test('the header wins over the query', async () => {
  const id = await execution();
  for (const query of ['?after=1', '?lastEventId=1', '?after=now']) {
    const client = await (await SseClient.open(url(id, query), { headers: { 'Last-Event-ID': '4' } })).toEnd();
    assert.deepEqual(client.events, await stack.db.expected(id, 4), query);
  }
});

test('after=0 and no position at all: everything', async () => {
  const id = await execution();
  for (const query of ['', '?after=0', '?lastEventId=0']) {
    const client = await (await SseClient.open(url(id, query))).toEnd();
    assert.deepEqual(client.events, await stack.db.expected(id), query);
  }
});

test('after=now: only what comes from now on', async () => {
  const id = await execution([progress('one'), progress('two')]);
  const client = await SseClient.open(url(id, '?after=now'));
  await client.until(() => client.retries.length > 0, 'the stream');
  // Emitted once the response has begun, so it must arrive; those before must not.
  await emitAll(id, [progress('three'), end]);
  await client.toEnd();
  assert.deepEqual(client.events, await stack.db.expected(id, 2));
});

test('types=a,b: only these, with their own ids', async () => {
  const id = newExecution();
  const live = await SseClient.open(url(id, '?types=prompt-start,execution-complete'));
  await emitAll(id, executionEvents(3));
  await live.toEnd();
  const history = await (await SseClient.open(url(id, '?types=prompt-start,execution-complete'))).toEnd();
  const rows = (await stack.db.expected(id)).filter((row) => ['prompt-start', 'execution-complete'].includes(row.event));
  assert.equal(rows.length, 4);
  assert.deepEqual(history.events, rows);
  assert.deepEqual(live.events, rows);
});

test('types that leave out the terminal event: the response ends all the same, and then comes 204', async () => {
  const id = await execution();
  const client = await (await SseClient.open(url(id, '?types=prompt-start'))).toEnd();
  assert.deepEqual(client.events.map((e) => e.event), ['prompt-start']);
  assert.equal(client.lastId, String((await stack.db.expected(id)).length), 'the client is moved to the end');
  assert.equal((await request(url(id, '?types=prompt-start'), { headers: { 'Last-Event-ID': client.lastId } })).status, 204);
});

test('the response ends after the terminal event; returning from there is answered 204', async () => {
  const id = await execution();
  const client = await (await SseClient.open(url(id))).toEnd();
  assert.equal(client.events.at(-1).event, 'execution-complete');
  const again = await request(url(id), { headers: { 'Last-Event-ID': client.lastId } });
  assert.equal(again.status, 204);
  assert.equal(again.body, '');
});

test('a recoverable error does not end a stream, another does', async () => {
  const id = newExecution();
  const client = await SseClient.open(url(id));
  await emitAll(id, [['execution-error', { error: 'again', recoverable: true }], progress(), ['execution-error', { error: 'over', recoverable: false }]]);
  await client.toEnd();
  assert.deepEqual(client.events, await stack.db.expected(id));
  assert.equal(client.events.length, 3);
});

test('a stream by number, by UUID and by key', async () => {
  const uuid = 'E96B74BC-aba8-4837-bb43-237fd687d18b';
  await emitAll(uuid, [progress(), end]);
  for (const spelling of [uuid, uuid.toLowerCase(), uuid.toUpperCase()]) {
    const client = await (await SseClient.open(url(spelling))).toEnd();
    assert.deepEqual(client.events, await stack.db.expected(uuid), spelling);
    assert.equal(client.events.length, 2);
  }
  for (const key of ['run_1', '_a.b@c+d~e=f-g', 'übersicht-9']) {
    await emitAll(key, [progress(), end]);
    const encoded = encodeURIComponent(key);
    for (const spelling of [encoded, encoded.replace(/%[0-9A-F]{2}/g, (x) => x.toLowerCase()), encoded.replaceAll('%2B', '+')]) {
      const client = await (await SseClient.open(url(spelling))).toEnd();
      assert.deepEqual(client.events, await stack.db.expected(key), spelling);
      assert.equal(client.events.length, 2);
    }
  }
  // Digits are a number however they are written: 007 is 7.
  const id = await execution([progress(), end]);
  const client = await (await SseClient.open(url(`00${id}`))).toEnd();
  assert.equal(client.events.length, 2);
});

test('clients may wait for a key that no event has used yet', async () => {
  for (const key of ['waited-for', 'channel:c_7', '0b51c5a6-0000-4000-8000-000000000001']) {
    const clients = await Promise.all([1, 2, 3].map(() => SseClient.open(url(key))));
    await stack.db.emit(key, ...(key.startsWith('channel:') ? chat : progress()));
    for (const client of clients) {
      await client.received(1);
      assert.deepEqual(client.events, await stack.db.expected(key), key);
      client.close();
    }
  }
});

/** Two clients of a stream receive a typing event, which is not stored; those of another do not. */
async function showTyping(key) {
  const clients = await Promise.all([1, 2].map(() => SseClient.open(url(key, '?after=now'))));
  const elsewhere = await SseClient.open(url('channel:elsewhere'));
  await Promise.all(clients.map((client) => client.until(() => client.retries.length > 0, 'the stream')));
  const rows = await stack.db.value('SELECT count(*) FROM assistant_architect_events');
  assert.equal(await stack.db.emit(key, 'typing', { userId: 'u_1', isTyping: true }), null);
  for (const client of clients) {
    await client.received(1);
    assert.equal(client.events[0].event, 'typing');
    assert.equal(client.events[0].id, undefined);
    const data = JSON.parse(client.events[0].data);
    assert.deepEqual([data.type, data.userId, data.isTyping], ['typing', 'u_1', true]);
    client.close();
  }
  assert.equal(await stack.db.value('SELECT count(*) FROM assistant_architect_events'), rows);
  assert.deepEqual(elsewhere.events, []);
  elsewhere.close();
}

test('an event that is not stored reaches those who listen, without an id', async () => {
  await stack.db.emit('channel:typing', ...chat);
  await showTyping('channel:typing');
});

test('an event that is not stored reaches those who wait for a stream that has none', () => showTyping('channel:silent'));

test('a global event reaches every client, whatever it watches', async () => {
  const clients = await Promise.all([newExecution(), 'nobody-yet', 'user:u_9'].map((stream) => SseClient.open(url(stream))));
  const entry = { level: 'info', event: 'started', message: 'engine started', fields: { pid: 1 } };
  assert.equal(await stack.db.emit('session:s_1', 'log_entry', { log_entry: entry }), null);
  for (const client of clients) {
    await client.received(1);
    assert.equal(client.events[0].event, 'log_entry');
    assert.equal(client.events[0].id, undefined);
    assert.deepEqual(JSON.parse(client.events[0].data).log_entry, entry);
    client.close();
  }
});

test('rows that are no longer there are told as a gap', async () => {
  const id = await execution(executionEvents(2));
  const rows = await stack.db.expected(id);
  await stack.db.query('DELETE FROM assistant_architect_events WHERE execution_id = $1 AND seq <= 5', [id]);
  for (const [from, headers] of [[1, {}], [3, { 'Last-Event-ID': '2' }]]) {
    const client = await (await SseClient.open(url(id), { headers })).toEnd();
    const [gap, ...others] = client.events;
    assert.equal(gap.event, 'stream-gap');
    const told = JSON.parse(gap.data);
    assert.ok(Object.values(told).includes(from) && Object.values(told).includes(5), gap.data);
    assert.deepEqual(others, rows.slice(5));
  }
  const unaffected = await (await SseClient.open(url(id), { headers: { 'Last-Event-ID': '5' } })).toEnd();
  assert.deepEqual(unaffected.events, rows.slice(5));
});

test('HTTP/1.0, as proxies speak it, gets the same bytes, unchunked, to the end of the connection', async () => {
  const id = newExecution();
  await emitAll(id, Array.from({ length: 40 }, (_, i) => progress('m'.repeat(500 * (i % 5)))));
  const { socket, text } = rawRequest(`GET /events/${id} HTTP/1.0\r\n\r\n`);
  const ended = new Promise((resolve) => socket.once('end', resolve));
  await poll(() => text().includes('id: 40\n'), 'history');
  await emitAll(id, [progress('live'), end]);
  await within(ended, 'the end of the connection');
  const [head, body] = text().split(/\r\n\r\n(.*)/s);
  assert.match(head, /^HTTP\/1\.[01] 200 /);
  assert.doesNotMatch(head, /transfer-encoding/i);
  const frames = (await stack.db.expected(id)).map((row) => `id: ${row.id}\nevent: ${row.event}\ndata: ${row.data}\n\n`);
  assert.ok(body.replace(/^:.*\n\n?/gm, '').endsWith(frames.join('')), 'between comments');
});

test('a request header may be long; one that is too long is told so', async () => {
  const id = await execution();
  const long = await (await SseClient.open(url(id), { headers: { 'X-Long': 'c'.repeat(12_000), Cookie: 'c'.repeat(1_000) } })).toEnd();
  assert.deepEqual(long.events, await stack.db.expected(id));
  for (const [target, header, status] of [['/events/1', 'h'.repeat(20_000), 431], [`/events/${'k'.repeat(20_000)}`, 'h', 414]]) {
    const { text } = rawRequest(`GET ${target} HTTP/1.1\r\nHost: localhost\r\nX-Long: ${header}\r\n\r\n`);
    await poll(() => text().startsWith(`HTTP/1.1 ${status} `), `status ${status}`);
  }
});

test('a NUL, escaped or not, never cuts a target short', async () => {
  const id = await execution();
  for (const target of [`/events/${id}\0`, `/events/${id}\0HTTP/1.1`, `/events/${id}?after=1\0`, `/events/${id}?after=1\0&types=x`, '/healthz\0x', '/\0',
    `/events/${id}%00`, `/events/${id}%00x`, `/events/${id}?after=1%00`, `/events/${id}?other=%00`, '/healthz?%00']) {
    for (const more of ['', `X-Long: ${'h'.repeat(10_000)}\r\n`]) {
      const { text } = rawRequest(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`);
      await poll(() => /\r\n\r\n[^]*}/.test(text()), `the answer to ${JSON.stringify(target)}`);
      assert.match(text(), /^HTTP\/1\.1 400 [^]*application\/problem\+json[^]*"The request target holds a NUL character\."/, JSON.stringify(target));
    }
  }
  // An escaped percent sign is none, and the next request on a connection is not suspected for the last.
  assert.equal((await request(`${stack.streamer.url}/healthz?%2500`)).status, 200);
  const { text } = rawRequest('GET /healthz\0 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await poll(() => /^HTTP\/1\.1 400 [^]*HTTP\/1\.1 200 /.test(text()), 'both answers');
});

test('HEAD: the head that GET has, and no body', async () => {
  const id = await execution();
  for (const path of [`/events/${id}`, `/events/${newExecution()}`]) {
    const { status, headers, body } = await request(stack.streamer.url + path, { method: 'HEAD' });
    assert.equal(status, 200, path);
    assert.match(headers['content-type'], /^text\/event-stream\b/);
    assert.equal(body, '');
  }
  assert.equal((await request(`${stack.streamer.url}/healthz`, { method: 'HEAD' })).status, 200);
});

test('OPTIONS says what is allowed', async () => {
  for (const path of ['/events/1', '/healthz', '/readyz']) {
    const { status, headers } = await request(stack.streamer.url + path, { method: 'OPTIONS' });
    assert.ok(status === 200 || status === 204, `${path}: ${status}`);
    for (const method of ['GET', 'HEAD', 'OPTIONS']) assert.ok(headers.allow.split(/, */).includes(method), `${path}: ${headers.allow}`);
  }
});

test('other methods are answered 405 with what is allowed', async () => {
  for (const path of ['/events/1', '/healthz']) {
    const allow = `GET, HEAD, OPTIONS${path === '/healthz' ? '' : ', POST'}`;
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      if (allow.includes(method)) continue;
      const { status, headers } = await request(stack.streamer.url + path, { method });
      assert.equal(status, 405, `${method} ${path}`);
      assert.equal(headers.allow, allow);
    }
  }
});

test('other paths are answered 404', async () => {
  for (const path of ['/', '/nothing', '/events/', '/events/1/2', '/event/1', '/healthz/x']) {
    const { status, headers } = await request(stack.streamer.url + path);
    assert.equal(status, 404, path);
    assert.match(headers['content-type'], /^application\/problem\+json\b/, path);
  }
});

test('what makes no sense is answered 400, as problem+json', async () => {
  const bad = [
    '/events/a%20b', '/events/-x', '/events/:x', '/events/a%00b', '/events/a%0Ab', '/events/%', '/events/%zz', '/events/99999999999999999999',
    `/events/${'k'.repeat(201)}`, '/events/1?after=x', '/events/1?after=-1', '/events/1?after=1.5', '/events/1?lastEventId=abc',
    '/events/1?after=99999999999999999999', '/events/1?types=', '/events/1?types=no%20such', '/events/%ff%fe',
  ];
  for (const path of bad) {
    const { status, headers, body } = await request(stack.streamer.url + path);
    assert.equal(status, 400, `${path}: ${status} ${body}`);
    assert.match(headers['content-type'], /^application\/problem\+json\b/, path);
    const problem = JSON.parse(body);
    assert.equal(problem.status, 400);
    assert.ok(problem.title || problem.detail, body);
  }
});

test('/healthz and /readyz', async () => {
  assert.equal((await request(`${stack.streamer.url}/healthz`)).status, 200);
  await stack.streamer.ready();
});

test('many events of history arrive in order', async () => {
  const id = newExecution();
  await stack.db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data',
      jsonb_build_object('currentStep', i, 'totalSteps', 2, 'percentage', 1, 'message', repeat('m', i % 300)))) FROM generate_series(1, 5000) i))`, [id]);
  await emitAll(id, [end]);
  const client = await (await SseClient.open(url(id))).toEnd();
  assert.deepEqual(client.events, await stack.db.expected(id));
  assert.equal(client.events.length, 5001);
});
