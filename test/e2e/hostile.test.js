// Whoever sends nonsense, lies, drips or floods: what each is answered, that others do not
// notice, and that nothing of it is left: no memory, no descriptor, no complaint in the log.
//
// The sanitized suite runs this file again, with a streamer that aborts on the first
// invalid access, undefined operation or leak.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import { after, before } from 'node:test';
import { Database, SseClient, Streamer, newExecution, poll, request, sanitized, stopStack, test, within } from './harness.js';
import { event, good, hostileRequests, options } from './hostile-requests.js';
import { KeyRing } from './jwt.js';
import { metrics } from './prometheus.js';

const CANARY = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
const PATIENCE = 4_000; // --send-timeout and --body-timeout together
const MEMORY = sanitized ? Infinity : 1 << 20; // bytes that may stay: the allocators of sanitizers keep more

const ring = new KeyRing();
const stack = {};
let stream, witness, files, told, seen = 0;

before(async () => {
  ring.secret();
  ring.rsa();
  fs.chmodSync(ring.file('secret'), 0o600);
  stack.db = await Database.start();
  stack.streamer = await Streamer.start({
    dsn: stack.db.dsn, args: ['--jwt-secret-file', ring.file('secret'), '--jwt-key-file', `rsa-1=${ring.file('rsa.pub')}`, ...options],
  });
  await stack.streamer.ready();
  await stack.db.query("SELECT pev_register_job_kind('hostile', 'what the table queues')");
  stream = newExecution();
  witness = await SseClient.open(`${stack.streamer.url}/events/user:witness`, { headers: authorization() });
  let still = 0; // for how long their number has been the same
  await poll(() => { still = descriptors() === files ? still + 1 : 0; files = descriptors(); return still === 50; }, 'quiet');
  told = stack.streamer.log.length;
});
after(() => {
  witness?.close();
  return stopStack(stack);
});

const authorization = () => ({ Authorization: `Bearer ${ring.token(good)}` });

/** Somebody else is served as ever: an event reaches who has listened since the beginning. */
async function othersAreServed() {
  await stack.db.emit('user:witness', 'upload_started', { jobId: `j${++seen}` });
  await witness.received(seen);
  assert.equal((await within(request(`${stack.streamer.url}/healthz`), 'health')).status, 200);
}

const descriptors = () => fs.readdirSync(`/proc/${stack.streamer.process.pid}/fd`).length;
const memory = () => Number(/^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${stack.streamer.process.pid}/status`, 'utf8'))[1]) * 1024;

/** Nobody is there but the witness, and no descriptor that was not there in the beginning. */
async function nothingIsLeft() {
  await poll(async () => (await metrics(stack.streamer)).get('pev_clients') === 1, 'all clients having left');
  await poll(async () => descriptors() === files + (await metrics(stack.streamer)).get('pev_emit_connections'), 'descriptors being closed');
}

/** Nobody had to be told about in the log since. */
function assertQuiet() {
  assert.doesNotMatch(stack.streamer.log.slice(told), /^\S+ (WARNING|ERROR|FATAL) /m);
}

/** The first response in what came, and the rest; undefined: it is not there in full. */
function takeResponse(text) {
  const [, status, fields, rest] = /^HTTP\/1\.[01] (\d{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n(.*)$/s.exec(text) ?? [];
  if (!status) return undefined;
  const type = /^content-type: ([^;\r]*)/im.exec(fields)?.[1];
  if (type === 'text/event-stream') return { said: `${status} stream`, endless: true };
  const length = Number(/^content-length: (\d+)/im.exec(fields)?.[1] ?? 0);
  if (rest.length < length) return undefined;
  const body = rest.slice(0, length);
  const said = type === 'application/problem+json' ? `${status} ${JSON.parse(body).detail}` : status;
  return { said, canary: body.startsWith('{"status":'), rest: rest.slice(length) };
}

/**
 * Send bytes, and say in the words of the table what comes back. After the first answer
 * another request follows, which shows what has been left in the connection.
 */
function converse(bytes) {
  return within(new Promise((resolve) => {
    const said = [];
    let text = '';
    const socket = net.connect(stack.streamer.port, '127.0.0.1', () => socket.write(Buffer.from(bytes, 'latin1')));
    const finish = (...end) => {
      resolve([...(said.length > 0 ? [said.join(' + ')] : []), ...end].join(', '));
      socket.destroy();
    };
    socket.setEncoding('latin1').on('error', () => {}).on('close', () => finish('closed'));
    socket.on('data', (more) => {
      let response;
      text += more;
      while ((response = takeResponse(text))) {
        if (response.canary) return finish();
        if (said.push(response.said) === 1) socket.write(CANARY);
        if (response.endless) return finish();
        text = response.rest;
      }
    });
  }), `an answer to ${bytes.slice(0, 100)}`);
}

/** A connection on which bytes are written as they come; `ended` is all that came back. */
function connect(...pieces) {
  let text = '';
  const socket = net.connect({ port: stack.streamer.port, host: '127.0.0.1', allowHalfOpen: true });
  socket.setEncoding('latin1').on('data', (more) => { text += more; }).on('error', () => {}).on('end', () => socket.destroy());
  const ended = new Promise((resolve) => socket.once('close', () => resolve(text)));
  for (const piece of pieces) socket.write(piece);
  return { socket, ended, text: () => text };
}

const post = (headers, body) =>
  `POST /events/${stream} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization().Authorization}\r\nContent-Type: application/json\r\n${headers}\r\n\r\n${body}`;

/** Send all of them at once; every answer must be the one that is written. */
async function sendAll(rows) {
  const answers = await Promise.all(rows.map(([, bytes]) => converse(bytes)));
  rows.forEach(([what, , answer], i) => assert.equal(answers[i], answer, what));
}

test('hostile requests are answered as the table says, and nothing is left of them', async () => {
  const rows = hostileRequests(ring, stream);
  const stored = rows.filter(([, , answer]) => answer.startsWith('201')).length;
  assert.ok(rows.length >= 90, `${rows.length} rows`);
  for (let i = 0; i < 2; i++) await sendAll(rows); // what is made once and kept is made now
  await nothingIsLeft();
  // Chance decides how many of them are there at the same time, and so how much memory is
  // taken at most: what leaks grows every time.
  let rounds = 2, grown;
  do {
    const bytes = memory();
    for (let i = 0; i < 2; i++, rounds++) {
      await sendAll(hostileRequests(ring, stream));
      await othersAreServed();
    }
    await nothingIsLeft();
    grown = memory() - bytes;
  } while (grown > MEMORY && rounds < 10);
  assert.ok(grown <= MEMORY, `${grown} bytes are left`);
  assertQuiet();
  // One of the table is stored once in 24 hours: it has an Idempotency-Key.
  const events = await stack.db.query("SELECT event_data->>'message' AS message FROM assistant_architect_events WHERE execution_id = $1", [stream]);
  assert.equal(events.length, rounds * stored - (rounds - 1));
  assert.equal(events.filter(({ message }) => message === "'); DROP TABLE assistant_architect_events; --").length, rounds, 'as it was sent');
  assert.equal(await stack.db.value('SELECT count(*) FROM pev_idempotency'), 1);
  const jobs = rows.filter(([, , answer]) => answer === '202').length;
  assert.equal(await stack.db.value("SELECT count(*) FROM pev_job WHERE channel = 'user:u_1'"), rounds * jobs - (rounds - 1), 'one of them has a key');
  console.log(`# ${rows.length} requests; ${grown} bytes more after another ${2 * rows.length}`);
});

test('a hundred requests at once are answered in order', async () => {
  const kinds = [
    [() => CANARY, '200'], [(i) => `GET /nothing/${i} HTTP/1.1\r\nHost: x\r\n\r\n`, '404'],
    [(i) => post(`Content-Length: ${event(i).length}`, event(i)), '201'], [() => `GET /events/%00 HTTP/1.1\r\nHost: x\r\n\r\n`, '400'],
    [(i) => post(`Transfer-Encoding: chunked\r\nX-N: ${i}`, `1\r\n{\r\n${(event(i).length - 1).toString(16)}\r\n${event(i).slice(1)}\r\n0\r\n\r\n`), '201'],
    [() => `GET /events/${stream} HTTP/1.1\r\nHost: x\r\n\r\n`, '401'],
  ];
  const all = Array.from({ length: 100 }, (_, i) => kinds[i % kinds.length]);
  const bytes = all.map(([make], i) => make(i)).join('');
  const { ended } = connect(bytes.replace(/Host: x(?!.*Host: x)/s, 'Host: x\r\nConnection: close'));
  const answers = [...(await within(ended, 'all answers')).matchAll(/^HTTP\/1\.1 (\d+) /gm)].map(([, status]) => status);
  assert.deepEqual(answers, all.map(([, status]) => status));
  const steps = await stack.db.query("SELECT event_data->>'currentStep' AS n FROM assistant_architect_events WHERE execution_id = $1 ORDER BY seq DESC LIMIT 33", [stream]);
  assert.deepEqual(steps.map(({ n }) => Number(n)).reverse(), all.flatMap(([, status], i) => (status === '201' ? [i] : [])));
});

test('who drips is closed in time, however many they are, and delays nobody', async () => {
  const before = await metrics(stack.streamer);
  const began = performance.now();
  const drips = Array.from({ length: 150 }, (_, i) => connect([
    'GET /events/1 HTTP/1.1\r\nX-A: ', `${CANARY}GET /`, post('Content-Length: 5000', '{')][i % 3]));
  const dripping = setInterval(() => drips.forEach(({ socket }) => socket.writable && socket.write('a')), 50);
  let busy = true, served = 0;
  const others = (async () => {
    for (; busy; served++) await othersAreServed();
  })();
  const answers = await within(Promise.all(drips.map(({ ended }) => ended)), 'all of them being closed');
  const took = performance.now() - began;
  busy = false;
  clearInterval(dripping);
  await others;
  assert.deepEqual(new Set(answers.map((answer) => answer.slice(9, 12))), new Set(['', '200']));
  assert.ok(took >= PATIENCE - 100 && took < PATIENCE + 6_000, `${took} ms`);
  assert.ok(served > 0);
  const grown = async (reason) => {
    const name = `pev_evictions_total{reason="${reason}"}`;
    return (await metrics(stack.streamer)).get(name) - before.get(name);
  };
  assert.equal(await grown('header_timeout'), 100);
  assert.equal(await grown('body_timeout'), 50);
  await nothingIsLeft();
  assertQuiet();
});

test('a thousand connections that send nothing are closed, and who listens does not notice', async () => {
  const silent = Array.from({ length: 1_000 }, () => connect());
  await poll(() => descriptors() > 300, 'their being there'); // 64 clients and 256 to spare
  await stack.db.emit('user:witness', 'upload_started', { jobId: `j${++seen}` });
  await witness.received(seen);
  assert.deepEqual(new Set(await within(Promise.all(silent.map(({ ended }) => ended)), 'their being closed')), new Set(['']));
  await othersAreServed();
  await nothingIsLeft();
  assertQuiet();
});

test('whoever resets a connection, wherever, leaves nothing', async () => {
  const client = await stack.db.pool.connect();
  await client.query('BEGIN');
  await client.query("SELECT pev_emit(1, 'progress', $1)", [JSON.parse(event(1)).data]); // holds the turn of stream 1
  const token = authorization().Authorization;
  const pending = async () => (await metrics(stack.streamer)).get('pev_emit_pending');
  for (const [bytes, ready] of [
    ['', () => true],
    ['GET /events/1 HT', () => true],
    [`GET /events/1 HTTP/1.1\r\nHost: x\r\nX-A: `, () => true],
    [post('Content-Length: 5000', '{'), () => true],
    [post('Transfer-Encoding: chunked', '5\r\n{"a'), () => true],
    [post(`Content-Length: ${event(1).length}`, event(1)).replace(`/${stream} `, '/1 '), async () => (await pending()) === 20],
    [`GET /events/${stream} HTTP/1.1\r\nHost: x\r\nAuthorization: ${token}\r\n\r\n`, async () => (await metrics(stack.streamer)).get('pev_clients') === 21],
    [CANARY.repeat(200), () => true],
  ]) {
    const all = Array.from({ length: 20 }, () => connect(bytes));
    await Promise.all(all.map(({ socket }) => within(new Promise((resolve) => socket.once('connect', resolve)), 'connecting')));
    await poll(ready, `20 of ${bytes.slice(0, 20)}`);
    all.forEach(({ socket }) => socket.resetAndDestroy());
    await othersAreServed();
  }
  await client.query('ROLLBACK');
  client.release();
  await poll(async () => (await pending()) === 0, 'nothing being stored');
  await nothingIsLeft();
  assertQuiet();
});

test('who has sent a request and closes its side gets the answer; who only listens is gone', async () => {
  const half = async (bytes) => {
    const { socket, ended } = connect(bytes);
    socket.end();
    return (await within(ended, `an answer to ${bytes.slice(0, 20)}`)).slice(9, 12);
  };
  assert.equal(await half(CANARY), '200');
  assert.equal(await half(post(`Content-Length: ${event(1).length}`, event(1))), '201');
  assert.equal(await half(post('Content-Length: 5000', '{')), '');
  assert.equal(await half('GET /events/1 HT'), '');
  await half(`GET /events/${stream}?after=now HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization().Authorization}\r\n\r\n`);
  await nothingIsLeft();
});

test('more clients than there may be are sent away, and those who listen stay', async () => {
  const bytes = `GET /events/${stream}?after=now HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization().Authorization}\r\n\r\n`;
  const clients = Array.from({ length: 200 }, () => connect(bytes));
  await poll(() => clients.every(({ text }) => text().includes('\r\n\r\n')), 'an answer to each');
  const answers = clients.map(({ text }) => text().slice(9, 12));
  assert.equal(answers.filter((status) => status === '200').length, 63);
  assert.equal(answers.filter((status) => status === '503').length, 137);
  await othersAreServed();
  clients.forEach(({ socket }) => socket.destroy());
  await nothingIsLeft();
  assert.match(stack.streamer.log, /WARNING clients are sent away: too many clients/);
  assert.doesNotMatch(stack.streamer.log, / ERROR /);
});
