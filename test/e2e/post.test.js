// POST /events/:stream: every answer there is, and what is stored after each. The
// streamer emits by a role that has what the README grants it and nothing else.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before } from 'node:test';
import {
  DEADLINE, Database, SseClient, Streamer, newExecution, poll, request, stopStack, test, within, wrapper,
} from './harness.js';
import { KeyRing } from './jwt.js';
import { metrics } from './prometheus.js';
import { dsnOf, makeRoles } from './roles.js';

const LIMIT = 64 * 1024;
const stack = {};

before(async () => {
  stack.db = await Database.start();
  await makeRoles(stack.db);
  stack.streamer = await start(['--max-body-bytes', `${LIMIT}B`, '--bodies-bytes', '16MiB', '--body-timeout', '8s', '--emit-timeout', `${DEADLINE}ms`]);
});
after(() => stopStack(stack));

const emitterOf = (db) => dsnOf(db, 'pev_emitter');

async function start(args = [], db = stack.db) {
  const streamer = await Streamer.start({ dsn: db.dsn, args: ['--emit-dsn', emitterOf(db), ...args] });
  await streamer.ready();
  return streamer;
}

async function withStreamer(args, body) {
  const streamer = await start(args);
  try {
    await body(streamer);
  } finally {
    await streamer.stop();
  }
}

const step = (n = 1, more = {}) => ({ type: 'progress', data: { currentStep: n, totalSteps: 9, percentage: n, message: `step ${n}`, ...more } });
const stored = async (stream) => (await stack.db.expected(stream)).map(({ data }) => JSON.parse(data).currentStep);

/** POST a body (text, or what is made JSON); the answer with `json`, what it holds. */
async function post(stream, body, { headers = {}, streamer = stack.streamer, ...options } = {}) {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const answer = await request(`${streamer.url}/events/${stream}`, {
    method: 'POST', body: text, headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), ...headers }, ...options,
  });
  return { ...answer, json: JSON.parse(answer.body) };
}

/** An answer must be a problem of this status; returns it. */
function assertProblem(answer, status, what = '') {
  assert.equal(answer.status, status, `${what}: ${answer.body}`);
  assert.match(answer.headers['content-type'], /^application\/problem\+json/, what);
  assert.equal(answer.json.status, status, what);
  assert.ok(answer.json.title.length > 0 && answer.json.detail.endsWith('.'), `${what}: ${answer.body}`);
  assert.equal(answer.headers['retry-after'] !== undefined, status === 503 || status === 429, what);
  return answer.json;
}

/** Bytes as they are written, in pieces; what comes back until the connection ends. */
function raw(streamer, ...pieces) {
  let answer = '';
  const socket = net.connect(streamer.port, '127.0.0.1');
  socket.setEncoding('utf8').on('data', (more) => { answer += more; }).on('error', () => {});
  const ended = new Promise((resolve) => socket.once('close', () => resolve(answer)));
  for (const piece of pieces) socket.write(piece);
  return { socket, ended: within(ended, 'the end of the connection'), text: () => answer };
}

const head = (...headers) => `POST /events/${newExecution()} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n${headers.map((h) => `${h}\r\n`).join('')}\r\n`;
const chunk = (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

test('an event is stored, answered with its number, and delivered', async () => {
  const stream = newExecution();
  const client = await SseClient.open(`${stack.streamer.url}/events/${stream}`);
  const answer = await post(stream, step(1));
  assert.equal(answer.status, 201);
  assert.match(answer.headers['content-type'], /^application\/json/);
  assert.deepEqual(answer.json, { seq: 1 });
  assert.deepEqual((await post(stream, [step(2), step(3)])).json, { seq: 3 });
  assert.deepEqual((await post(stream, [step(4)])).json, { seq: 4 });
  await client.received(4);
  assert.deepEqual(client.events, await stack.db.expected(stream));
  assert.deepEqual(await stored(stream), [1, 2, 3, 4]);
  client.close();
});

test('numbers keep their digits, and strings their characters', async () => {
  const stream = newExecution();
  const message = 'ü “x” 😀 \\u0041 \u007f \\ / \b';
  const text = `{"data": {"currentStep": 1, "totalSteps": 9, "percentage": 1, "message": ${JSON.stringify(message)}, "n": 12345678901234567890.123456789012345678900}, "type": "progress"}`;
  assert.equal((await post(stream, ` \r\n\t${text}\n`)).status, 201);
  const [{ data }] = await stack.db.expected(stream);
  assert.match(data, /"n": 12345678901234567890\.123456789012345678900\b/);
  assert.equal(JSON.parse(data).message, message);
});

test('a stream may be spelled in every way', async () => {
  for (const [stream, key] of [['user:p_1', 'user:p_1'], ['user%3Ap_1', 'user:p_1'],
    ['E96B74BC-ABA8-4837-BB43-237FD687D18B', 'e96b74bc-aba8-4837-bb43-237fd687d18b'], ['007', '7'], ['%C3%BC', 'ü']]) {
    const n = (await stack.db.expected(key)).length;
    const event = key.startsWith('user') ? { type: 'upload_started', data: { jobId: 'j' } } : step();
    assert.deepEqual((await post(stream, event)).json, { seq: n + 1 }, stream);
    assert.equal((await stack.db.expected(key)).length, n + 1, stream);
  }
});

test('an event that is not stored is delivered, and answered 202', async () => {
  const client = await SseClient.open(`${stack.streamer.url}/events/channel:p`);
  await client.until(() => client.retries.length > 0, 'the stream being open');
  const answer = await post('channel:p', { type: 'typing', data: { userId: 'u', isTyping: true } });
  assert.equal(answer.status, 202);
  assert.deepEqual(answer.json, { seq: null });
  await client.received(1);
  assert.deepEqual(client.events.map(({ id, event }) => [id, event]), [[undefined, 'typing']]);
  client.close();
});

test('400: what is no event is told where, and nothing is stored', async () => {
  const stream = newExecution();
  for (const [body, detail] of [
    ['', 'Line 1, column 1: there is no event.'],
    ['x', 'Line 1, column 1: an event must be an object.'],
    ['[]', 'Line 1, column 2: an event must follow.'],
    ['{"type": "progress",\n "data": {"a": tru}}', 'Line 2, column 16: a value must follow.'],
    [JSON.stringify(step()).slice(0, -1), /a comma or } must follow/],
    [`${JSON.stringify(step())},`, /nothing must follow/],
    [Buffer.from('{"type":"progress","data":"\xff"}', 'latin1'), /not UTF-8/],
    ['{"type":"progress","data":"\\u0000"}', /U\+0000/],
    ['{"type":"progress","data":{}}\0', /nothing must follow/],
    [`{"type":"progress","data":${'['.repeat(30_000)}`, /nested more than 128 deep/],
    [{ ...step(), seq: 1 }, /the members "type" and "data", each once/],
  ]) {
    const problem = assertProblem(await post(stream, body), 400, String(body).slice(0, 80));
    if (typeof detail === 'string') assert.equal(problem.detail, detail);
    else assert.match(problem.detail, detail);
  }
  for (const key of ['a%20b', '%00', '%ff', '-1', '99999999999999999999', 'user:', 'a'.repeat(201)]) {
    assertProblem(await post(key, step()), 400, key);
  }
  for (const key of ['', ' ', 'a b', 'x'.repeat(256), 'schlüssel']) {
    assertProblem(await post(stream, step(), { headers: { 'Idempotency-Key': Buffer.from(key).toString('latin1') } }), 400, key);
  }
  assert.deepEqual(await stored(stream), []);
});

test('404: a stream whose kind is not declared', async () => {
  assert.match(assertProblem(await post('nokind:1', step()), 404).detail, /stream kind "nokind" is not declared/);
});

test('405: only streams take events', async () => {
  for (const path of ['/healthz', '/metrics', '/readyz']) {
    const answer = await request(`${stack.streamer.url}${path}`, { method: 'POST', body: '{}' });
    assert.equal(answer.status, 405, path);
  }
});

test('409: a stream that is closed', async () => {
  const stream = newExecution();
  const end = { type: 'execution-complete', data: { totalTokens: 1, duration: 1, success: true } };
  assert.equal((await post(stream, [step(1), end])).status, 201);
  const { detail } = assertProblem(await post(stream, step(2)), 409);
  assert.equal(detail, `stream ${stream} is closed. Its event 2 ("execution-complete") ended it.`);
  const other = newExecution();
  assertProblem(await post(other, [end, step(1)]), 409, 'closed by the same request');
  assert.deepEqual(await stored(other), []);
});

test('413: a body just at the limit is taken, and one byte more is not', async () => {
  const stream = newExecution();
  const text = JSON.stringify(step());
  const padded = (size) => text + ' '.repeat(size - text.length);
  assert.equal((await post(stream, padded(LIMIT))).status, 201);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  assert.equal(assertProblem(await post(stream, padded(LIMIT + 1), { agent }), 413).detail, `A body takes at most ${LIMIT} bytes.`);
  // what comes next on the same connection is not mistaken for the rest of the body
  assert.equal((await post(stream, step(2), { agent })).status, 201);
  agent.destroy();
  assertProblem(await post(stream, padded(8 << 20)), 413, 'much too large');
  for (const [size, status] of [[LIMIT, 201], [LIMIT + 1, 413], [8 << 20, 413]]) {
    const headers = { 'Transfer-Encoding': 'chunked', 'Content-Type': 'application/json' };
    const answer = await request(`${stack.streamer.url}/events/${stream}`, { method: 'POST', headers, body: padded(size) });
    assert.equal(answer.status, status, `${size} in chunks`);
  }
  assert.deepEqual(await stored(stream), [1, 2, 1]);
});

test('413 comes before the body, where the client waits for it or it would never end', async () => {
  const expecting = raw(stack.streamer, head('Expect: 100-continue', `Content-Length: ${LIMIT + 1}`));
  assert.match(await expecting.ended, /^HTTP\/1\.1 413 /);
  const endless = raw(stack.streamer, head('Content-Length: 100000000000'));
  assert.match(await endless.ended, /^HTTP\/1\.1 413 /);
  const body = JSON.stringify(step());
  const welcome = raw(stack.streamer, head('Expect: 100-continue', `Content-Length: ${body.length}`));
  await poll(() => welcome.text().includes('100 Continue'), 'the word to go on');
  welcome.socket.write(body);
  assert.match(await welcome.ended, /HTTP\/1\.1 201 /);
});

test('a chunked body without an end is cut off', async () => {
  const { socket, ended } = raw(stack.streamer, head('Transfer-Encoding: chunked'));
  const piece = chunk(' '.repeat(1 << 20));
  const more = () => { while (!socket.destroyed && socket.write(piece)); };
  socket.on('drain', more);
  more();
  assert.ok(!/ 201 /.test(await ended));
});

test('bodies that lie about their length are refused, and nothing is stored', async () => {
  const text = JSON.stringify(step());
  for (const [what, ...pieces] of [
    ['a length too small', head(`Content-Length: ${text.length - 1}`), text],
    ['two lengths', head('Content-Length: 5', 'Content-Length: 6'), text],
    ['a length and chunks', head(`Content-Length: ${text.length}`, 'Transfer-Encoding: chunked'), chunk(text), '0\r\n\r\n'],
    ['a length that is no number', head('Content-Length: ten'), text],
    ['a negative length', head('Content-Length: -1'), text],
    ['a chunk of no length', head('Transfer-Encoding: chunked'), `zz\r\n${text}\r\n`],
    ['a chunk too long for its length', head('Transfer-Encoding: chunked'), `5\r\n${text}\r\n0\r\n\r\n`],
    ['a chunk of endless length', head('Transfer-Encoding: chunked'), `ffffffffffffffffff\r\n${text}`],
    ['chunks that break off', head('Transfer-Encoding: chunked'), chunk(text.slice(0, 20)), 'END'],
    ['a length too large', head(`Content-Length: ${text.length + 1}`), text, 'END'],
  ]) {
    const before = await stack.db.value('SELECT count(*) FROM assistant_architect_events');
    const { socket, ended } = raw(stack.streamer, ...pieces.filter((piece) => piece !== 'END'));
    if (pieces.at(-1) === 'END') socket.end();
    const answer = await within(ended, what);
    const status = /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 'closed';
    assert.ok(['400', 'closed', '413'].includes(status), `${what}: ${answer}`);
    assert.equal(await stack.db.value('SELECT count(*) FROM assistant_architect_events'), before, what);
  }
});

test('415: only JSON in UTF-8 is taken', async () => {
  const stream = newExecution();
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonp',
    'application/json-seq', 'application/json; charset=latin1', 'application/json, text/plain', 'text/json', '']) {
    assertProblem(await post(stream, step(), { headers: { 'Content-Type': type } }), 415, type);
  }
  assertProblem(await post(stream, step(), { headers: { 'Content-Encoding': 'gzip' } }), 415, 'gzip');
  const answer = await request(`${stack.streamer.url}/events/${stream}`, { method: 'POST', body: JSON.stringify(step()) });
  assert.equal(answer.status, 415, 'no type at all');
  assert.deepEqual(await stored(stream), []);
  for (const type of ['application/json', 'Application/JSON', 'application/json;charset=utf-8', 'application/json; charset="UTF-8"', 'application/json ;']) {
    assert.equal((await post(stream, step(), { headers: { 'Content-Type': type } })).status, 201, type);
  }
});

test('422: every fault is named by its pointer, and nothing is stored', async () => {
  const stream = newExecution();
  const wrong = { type: 'prompt-start', data: { promptId: 'seven', position: 0 } };
  const faults = await stack.db.query('SELECT path, message FROM pev_validate($1, $2)', [wrong.type, JSON.stringify(wrong.data)]);
  const want = (event) => faults.map(({ path, message }) => ({ pointer: `${event}/data${path}`, detail: message }));
  assert.ok(faults.length >= 5);
  assert.deepEqual(assertProblem(await post(stream, wrong), 422).errors, want(''));
  assert.deepEqual(assertProblem(await post(stream, [step(), step(), wrong]), 422).errors, want('/2'));
  assert.deepEqual(assertProblem(await post(stream, [step(), wrong], { headers: { 'Idempotency-Key': 'k' } }), 422).errors, want('/1'));
  const pointers = async (...body) => assertProblem(await post(...body), 422).errors?.map(({ pointer }) => pointer);
  assert.deepEqual(await pointers(stream, { type: 'nonsense', data: {} }), ['/type']);
  assert.deepEqual(await pointers(stream, [step(), { type: 'nonsense "\\\n', data: {} }]), ['/1/type']);
  assert.deepEqual(await pointers(stream, { type: 'progress', data: 7 }), ['/data']);
  assert.deepEqual(await pointers(stream, { type: 'progress', data: null }), ['/data']);
  assert.deepEqual(await pointers(stream, [step(1, { x: 'x'.repeat(65_000 - 200) }), step(1, { message: 7 })]), ['/1/data/message']);
  assert.deepEqual(await pointers('user:p_2', step()), ['/type'], 'a family that the kind does not carry');
  assert.deepEqual(await pointers(stream, '{"type": "progress", "data": 1e999999}'), undefined);
  assert.deepEqual(await stored(stream), []);
});

test('422: an event that is larger than its type may be', async () => {
  await withStreamer([], async (streamer) => {
    const stream = newExecution();
    const { errors } = assertProblem(await post(stream, [step(), step(2, { x: 'x'.repeat(70_000) })], { streamer }), 422);
    assert.equal(errors[0].pointer, '/1/data');
    assert.match(errors[0].detail, /the limit of this type is 65536 bytes/);
    assert.deepEqual(await stored(stream), []);
  });
});

test('Idempotency-Key: a retry returns the first answer and stores nothing', async () => {
  const stream = newExecution();
  const headers = { 'Idempotency-Key': '"8e03978e-40d5-43dd-bc93-6894a57f9324"' };
  assert.deepEqual((await post(stream, [step(1), step(2)], { headers })).json, { seq: 2 });
  assert.equal((await post(stream, step(3))).status, 201);
  const again = await post(stream, [step(1), step(2)], { headers });
  assert.equal(again.status, 201);
  assert.deepEqual(again.json, { seq: 2 });
  await withStreamer([], async (streamer) => {
    assert.deepEqual((await post(stream, [step(1), step(2)], { headers, streamer })).json, { seq: 2 }, 'by another streamer');
  });
  assert.match(assertProblem(await post(stream, step(4), { headers }), 422).detail, /used for other events/);
  assert.equal((await post(newExecution(), step(4), { headers })).status, 201, 'in another stream it is another key');
  assert.deepEqual(await stored(stream), [1, 2, 3]);
});

test('a storm of 1,000 retries at once stores one event, and all have its number', async () => {
  const stream = newExecution();
  const headers = { 'Idempotency-Key': 'storm' };
  await withStreamer(['--emit-timeout', `${DEADLINE}ms`], async (other) => {
    const answers = await Promise.all(Array.from({ length: 1_000 }, (_, i) =>
      post(stream, step(1), { headers, streamer: i % 4 === 0 ? other : stack.streamer })));
    for (const { status, json } of answers) assert.deepEqual([status, json], [201, { seq: 1 }]);
  });
  assert.deepEqual(await stored(stream), [1]);
});

test('events of one connection are stored in the order in which they come', async () => {
  const stream = newExecution();
  const pipelined = Array.from({ length: 50 }, (_, i) => {
    const body = JSON.stringify(step(i));
    return `POST /events/${stream} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n${i === 49 ? 'Connection: close\r\n' : ''}\r\n${body}`;
  });
  const answer = await raw(stack.streamer, pipelined.join('')).ended;
  assert.equal([...answer.matchAll(/^HTTP\/1\.1 201 /gm)].length, 50);
  assert.deepEqual(await stored(stream), Array.from({ length: 50 }, (_, i) => i));
});

test('401, 403: with a key, a token that allows to emit is needed', async () => {
  const ring = new KeyRing();
  ring.secret();
  const entry = { level: 'info', event: 'engine.started', message: 'Engine started', fields: {} };
  const log = { type: 'log_entry', data: { type: 'log_entry', log_entry: entry } };
  await withStreamer(['--jwt-secret-file', ring.file('secret'), '--token-cookie', 'pev'], async (streamer) => {
    const stream = newExecution();
    const token = (claims) => ring.token(claims);
    const bearer = (claims) => ({ Authorization: `Bearer ${token(claims)}` });
    const status = async (headers, to = stream, event = step()) => (await post(to, event, { streamer, headers })).status;
    assertProblem(await post(stream, step(), { streamer }), 401, 'no token');
    assertProblem(await post(stream, step(), { streamer, headers: { Authorization: 'Bearer x' } }), 401, 'a bad token');
    assertProblem(await post(stream, step(), { streamer, headers: bearer() }), 403, 'a token to read');
    assertProblem(await post(stream, step(), { streamer, headers: bearer({ 'pev.emit': ['1'] }) }), 403, 'another stream');
    assertProblem(await post(`${stream}?token=pevt_x`, step(), { streamer }), 403, 'a ticket');
    assert.equal(await status(bearer({ 'pev.emit': ['1'] }), 'a%20b'), 403, 'no stream at all');
    assert.equal(await status(bearer({ 'pev.emit': ['*'] }), 'a%20b'), 400, 'which is told to who may emit to all');
    assert.deepEqual(await stored(stream), []);
    const good = { 'pev.emit': [String(stream), 'user:{{sub}}'], 'pev.read': [], sub: 'p_3' };
    assert.equal(await status(bearer(good)), 201);
    assert.equal(await status({ Cookie: `pev=${token(good)}` }), 201);
    assert.equal(await status({}, `${stream}?token=${token(good)}`), 201);
    assert.equal(await status(bearer(good), 'user:p_3', { type: 'upload_started', data: { jobId: 'j' } }), 201);
    assert.equal(await status(bearer(good), 'user:p_4', { type: 'upload_started', data: { jobId: 'j' } }), 403);
    // A global event goes to everybody.
    assertProblem(await post(stream, log, { streamer, headers: bearer(good) }), 403, 'a global event');
    assertProblem(await post(stream, [step(), log], { streamer, headers: bearer(good) }), 403, 'a global event among others');
    assertProblem(await post(stream, [log, step()], { streamer, headers: { ...bearer(good), 'Idempotency-Key': 'k' } }), 403, 'under a key');
    assert.equal(await status(bearer({ 'pev.emit': ['*'] }), stream, log), 202);
    assert.deepEqual(await stored(stream), [1, 1, 1]);
  });
});

test('403: what the database does not let the role do, row-level security included', async () => {
  const db = await stack.db.other('guarded');
  const streamer = await Streamer.start({ dsn: db.dsn, args: ['--emit-dsn', emitterOf(db)] });
  const send = (stream, event = step(), headers = {}) => post(stream, event, { streamer, headers });
  try {
    assertProblem(await send(1), 403, 'no right at all');
    await db.query('GRANT INSERT ON assistant_architect_events TO pev_emitter');
    assert.equal((await send(1)).status, 201);
    assertProblem(await send(1, step(), { 'Idempotency-Key': 'k' }), 403, 'no right to keys');
    await db.query('GRANT SELECT, INSERT, UPDATE, DELETE ON pev_idempotency TO pev_emitter');
    assert.equal((await send(1, step(2), { 'Idempotency-Key': 'k' })).status, 201);
    await db.query('ALTER TABLE assistant_architect_events ENABLE ROW LEVEL SECURITY');
    await db.query('CREATE POLICY own ON assistant_architect_events FOR INSERT TO pev_emitter WITH CHECK (execution_id < 100)');
    assert.deepEqual((await send(1)).json, { seq: 3 });
    const { body } = await send(200);
    assert.equal(JSON.parse(body).status, 403);
    assert.ok(!/policy|assistant_architect/.test(body), 'and not why');
    assertProblem(await send(200, [step(), step()], { 'Idempotency-Key': 'k' }), 403);
    assert.equal(await db.value('SELECT count(*) FROM assistant_architect_events'), 3);
    assert.equal(await db.value('SELECT count(*) FROM pev_idempotency'), 1);
    assert.match(streamer.log, /WARNING database: what a client sent was not stored: .*SQLSTATE 42501/);
    await db.query("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not on Sundays' USING DETAIL = 'secret'; END $$");
    await db.query('CREATE TRIGGER refuse BEFORE INSERT ON assistant_architect_events FOR EACH ROW EXECUTE FUNCTION refuse()');
    assert.deepEqual(assertProblem(await send(1), 422, "an owner's own trigger").detail, 'not on Sundays.');
  } finally {
    await streamer.stop();
    await db.pool.end();
  }
});

test('429: a client that emits too often, by its subject or its address', async () => {
  const ring = new KeyRing();
  ring.secret();
  const ofOne = (answers) => answers.reduce((counts, { status }) => ({ ...counts, [status]: (counts[status] ?? 0) + 1 }), {});
  const MANY = 60; // more than become due while a busy machine answers
  const many = (streamer, headers) => Promise.all(Array.from({ length: MANY }, () => post(newExecution(), step(), { streamer, headers })));
  await withStreamer(['--emit-rate', '5'], async (streamer) => {
    const began = performance.now();
    const answers = await many(streamer);
    const most = 5 + Math.floor((performance.now() - began) / 200) + 1;
    const { 201: taken, 429: refused, ...others } = ofOne(answers);
    assert.deepEqual(others, {});
    assert.ok(taken >= 5 && taken <= most && refused === MANY - taken, `${taken} taken`);
    assertProblem(answers.find(({ status }) => status === 429), 429);
    await poll(async () => (await post(newExecution(), step(), { streamer })).status === 201, 'its being served again');
  });
  await withStreamer(['--emit-rate', '2', '--jwt-secret-file', ring.file('secret')], async (streamer) => {
    const as = (sub) => ({ Authorization: `Bearer ${ring.token({ 'pev.emit': ['*'], sub })}` });
    assert.ok(ofOne(await many(streamer, as('a')))[429] > 0);
    assert.equal((await post(newExecution(), step(), { streamer, headers: as('b') })).status, 201, 'another subject is another client');
    assert.ok(ofOne(await many(streamer, as(undefined)))[429] > 0, 'without a subject the address counts');
  });
});

/** Hold a stream's turn, as a transaction does that has emitted; returns how to let go. */
async function hold(stream) {
  const client = await stack.db.pool.connect();
  await client.query('BEGIN');
  await client.query('SELECT pev_emit($1::bigint, $2, $3)', [stream, 'progress', JSON.stringify(step(0).data)]);
  return async () => {
    await client.query('ROLLBACK');
    client.release();
  };
}

/** Let the streamer make a connection to emit by; until then all wait. */
async function connect(streamer) {
  assert.equal((await post(newExecution(), step(), { streamer })).status, 201);
}

const pending = async (streamer) => (await metrics(streamer)).get('pev_emit_pending');

test('503: a stream whose turn is held delays no other, and not for ever', () =>
  withStreamer(['--emit-connections', '2', '--emit-timeout', wrapper.length > 0 ? '8s' : '4s'], async (streamer) => {
    await connect(streamer);
    const [held, free] = [newExecution(), newExecution()];
    const release = await hold(held);
    const waiting = Array.from({ length: 10 }, (_, i) => post(held, step(i), { streamer }));
    await poll(async () => (await pending(streamer)) === 10, 'ten waiting');
    for (let i = 0; i < 5; i++) assert.equal((await post(free, step(i), { streamer })).status, 201);
    for (const answer of await Promise.all(waiting)) assertProblem(answer, 503);
    await release();
    assert.deepEqual(await stored(held), [], 'who is told 503 has stored nothing');
    assert.equal((await post(held, step(7), { streamer })).status, 201);
    assert.deepEqual(await stored(held), [7]);
  }));

test('503: a queue that is full', () =>
  withStreamer(['--emit-connections', '1', '--emit-queue', '2'], async (streamer) => {
    const held = newExecution();
    await connect(streamer);
    const release = await hold(held);
    const taken = [];
    for (let i = 1; i <= 3; i++) {
      taken.push(post(held, step(i), { streamer }));
      await poll(async () => (await pending(streamer)) === i, `${i} waiting`);
    }
    const answer = await post(held, step(4), { streamer });
    assert.match(assertProblem(answer, 503).detail, /Too much waits/);
    await release();
    for (const { status } of await Promise.all(taken)) assert.equal(status, 201);
    assert.deepEqual(await stored(held), [1, 2, 3]);
  }));

test('503: bodies that together take too much memory', () =>
  withStreamer(['--max-body-bytes', '64kB', '--bodies-bytes', '160kB'], async (streamer) => {
    const value = async () => (await metrics(streamer)).get('pev_body_bytes');
    const text = JSON.stringify(step());
    const slow = Array.from({ length: 3 }, () => raw(streamer, head(`Content-Length: ${60_000}`), text, ' '.repeat(50_000)));
    await poll(async () => (await value()) >= 128 * 1024, 'two of them having come');
    assert.ok((await value()) <= 160 * 1024);
    assertProblem(await post(newExecution(), text + ' '.repeat(60_000), { streamer }), 503);
    for (const { socket } of slow) socket.write(' '.repeat(10_000 - text.length));
    const answers = (await Promise.all(slow.map(({ ended }) => ended))).map((answer) => answer.slice(9, 12)).sort();
    assert.ok(answers.includes('201') && answers.includes('503'), answers.join());
    await poll(async () => (await value()) === 0, 'the memory being given back');
  }));

test('a body that drips is cut off in time, however busily', () =>
  withStreamer(['--body-timeout', '1s'], async (streamer) => {
    const text = JSON.stringify(step());
    const drip = raw(streamer, head(`Content-Length: ${text.length}`));
    const chunks = raw(streamer, head('Transfer-Encoding: chunked'));
    const silent = raw(streamer, head(`Content-Length: ${text.length}`), text.slice(0, 5));
    const unasked = raw(streamer, 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n');
    const began = performance.now();
    const dripping = setInterval(() => {
      drip.socket.write(' ');
      chunks.socket.write(chunk(' '));
    }, 100);
    const answers = await Promise.all([drip, chunks, silent, unasked].map(({ ended }) => ended));
    clearInterval(dripping);
    assert.deepEqual(answers, ['', '', '', '']);
    assert.ok(performance.now() - began >= 900, 'not too early');
    const values = (await metrics(streamer));
    assert.equal(values.get('pev_evictions_total{reason="body_timeout"}'), 4);
    assert.equal((await post(newExecution(), step(), { streamer })).status, 201);
  }));

test('what came while the streamer was halted has come in time', () =>
  withStreamer(['--body-timeout', '1s', '--send-timeout', '60s'], async (streamer) => {
    const texts = ['', ' '.repeat(500_000)].map((padding) => JSON.stringify(step()) + padding);
    const halves = texts.map((text) => raw(streamer, head(`Content-Length: ${text.length}`), text.slice(0, 5)));
    await poll(async () => (await metrics(streamer)).get('pev_body_bytes') >= 2_000, 'both beginnings');
    streamer.process.kill('SIGSTOP');
    const halted = performance.now();
    halves.forEach(({ socket }, i) => socket.write(texts[i].slice(5)));
    await poll(() => performance.now() - halted > 1_500, 'the time being over');
    streamer.process.kill('SIGCONT');
    for (const { ended } of halves) assert.equal((await ended).slice(9, 12), '201');
  }));

test('SIGTERM: what is being stored is answered, what waits is sent back', async () => {
  const streamer = await start(['--emit-connections', '1']);
  const held = newExecution();
  await connect(streamer);
  const release = await hold(held);
  const sent = post(held, step(1), { streamer });
  await poll(async () => (await pending(streamer)) === 1, 'one being stored');
  const queued = post(held, step(2), { streamer });
  await poll(async () => (await pending(streamer)) === 2, 'one waiting');
  const stopped = streamer.stop();
  assertProblem(await queued, 503);
  await release();
  assert.equal((await sent).status, 201);
  await stopped;
  assert.deepEqual(await stored(held), [1]);
});

test('metrics count what became of requests', async () => {
  const read = () => metrics(stack.streamer);
  const before = await read();
  await post(newExecution(), [step(), step()]);
  await post('channel:p', { type: 'typing', data: { userId: 'u', isTyping: true } });
  await post(newExecution(), '');
  await post(newExecution(), { type: 'x', data: {} });
  const values = await read();
  const grown = (name) => values.get(name) - before.get(name);
  assert.equal(grown('pev_emit_requests_total{result="stored"}'), 1);
  assert.equal(grown('pev_emit_requests_total{result="unstored"}'), 1);
  assert.equal(grown('pev_emit_requests_total{result="refused"}'), 2);
  assert.equal(grown('pev_emit_events_total'), 4);
  assert.equal(values.get('pev_emit_pending'), 0);
  assert.equal(values.get('pev_body_bytes'), 0);
  assert.ok(values.get('pev_emit_connections') >= 1 && values.get('pev_emit_connections') <= 8);
});

test('the extension is created again elsewhere: emitting goes on', async () => {
  const db = await stack.db.other('moving');
  const streamer = await Streamer.start({ dsn: db.dsn });
  try {
    assert.equal((await post(1, step(), { streamer })).status, 201);
    await db.query('DROP EXTENSION pev CASCADE');
    await poll(async () => (await post(1, step(), { streamer })).status === 503, 'its being missed');
    await db.query('CREATE SCHEMA "Else where"');
    await db.query('CREATE EXTENSION pev SCHEMA "Else where"');
    await poll(async () => (await post(1, step(), { streamer })).status === 201, 'its being found');
    assert.equal(await db.value('SELECT count(*) FROM "Else where".assistant_architect_events'), 1);
  } finally {
    await streamer.stop();
    await db.pool.end();
  }
});

test('the database restarts in the middle: each event is stored once, or its client is told 503', async () => {
  const WRITERS = 16;
  const [streams, blind] = [Array.from({ length: WRITERS }, newExecution), Array.from({ length: WRITERS }, newExecution)];
  let crashed = false;
  let unavailable = 0;
  const counts = streams.map(() => 0);
  const maybe = blind.map(() => 0);
  const write = async (i) => {
    for (let n = 1, after = 0; after < 5; n++) {
      const headers = { 'Idempotency-Key': `${i}-${n}` };
      await poll(async () => {
        const { status } = await post(streams[i], step(n), { headers });
        assert.ok(status === 201 || status === 503, `${status}`);
        unavailable += status === 503;
        return status === 201;
      }, 'an event being stored', 60_000);
      counts[i] = n;
      const { status } = await post(blind[i], step(n));
      assert.ok(status === 201 || status === 503, `${status}`);
      maybe[i] += status === 503;
      after += crashed;
    }
  };
  const writing = Promise.all(streams.map((_, i) => write(i)));
  await poll(() => counts.every((n) => n >= 3), 'all of them having written');
  await stack.db.stopServer();
  await poll(() => unavailable >= WRITERS, 'all of them having been told so');
  assert.equal((await request(`${stack.streamer.url}/healthz`)).status, 200);
  await stack.db.startServer();
  crashed = true;
  await writing;
  for (let i = 0; i < WRITERS; i++) {
    assert.deepEqual(await stored(streams[i]), Array.from({ length: counts[i] }, (_, n) => n + 1));
    const there = await stored(blind[i]);
    assert.equal(new Set(there).size, there.length, 'none is stored twice');
    assert.ok(there.length >= counts[i] - maybe[i] && there.length <= counts[i], 'none is lost that was answered 201');
  }
});
