// POST /jobs/:kind: every answer there is, and what is queued after each. The streamer
// queues by a role that has what the README grants its emitters and enqueuers, and nothing else.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before } from 'node:test';
import { Database, Streamer, poll, request, stopStack, test } from './harness.js';
import { KeyRing } from './jwt.js';
import { metrics } from './prometheus.js';
import { dsnOf, makeRoles } from './roles.js';

const LIMIT = 2 << 20;
const HIDDEN = 'not-for-logs';
const ring = new KeyRing();
const stack = {};
let open; // the streamer without a key
let last = 0; // the latest job that a test has looked at

before(async () => {
  ring.secret();
  stack.db = await Database.start();
  await makeRoles(stack.db);
  await stack.db.query('CREATE ROLE pev_service LOGIN IN ROLE pev_emitter, pev_enqueuer');
  await stack.db.query(`SELECT pev_register_job_kind('generate_image', 'an image', 'generation'), pev_register_job_kind('summarise', 'a text')`);
  open = await start(['--max-body-bytes', `${LIMIT}B`]);
  stack.streamer = await start(['--jwt-secret-file', ring.file('secret'), '--token-cookie', 'pev']);
});
after(async () => {
  await open?.stop();
  await stopStack(stack);
});

async function start(args = []) {
  const streamer = await Streamer.start({
    dsn: dsnOf(stack.db, 'pev_streamer'), args: ['--emit-dsn', dsnOf(stack.db, 'pev_service'), '--log-level', 'debug', '--access-log', ...args],
  });
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

const PAYLOAD = { prompt: `a cat, ${HIDDEN}` };

/** POST a job; `target` is what follows /jobs/. The answer with `json`, what it holds. */
async function enqueue(target, body = PAYLOAD, { headers = {}, streamer = open, ...options } = {}) {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const answer = await request(`${streamer.url}/jobs/${target}`, {
    method: 'POST', body: text, headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), ...headers }, ...options,
  });
  return { ...answer, json: JSON.parse(answer.body) };
}

/** The jobs since the last look. */
async function queued() {
  const rows = await stack.db.query('SELECT id::text, kind, channel, payload, state FROM pev_job WHERE id > $1 ORDER BY id', [last]);
  last = rows.at(-1)?.id ?? last;
  return rows;
}

/** An answer must be a problem of this status; its detail. */
function assertProblem(answer, status, what = '') {
  assert.equal(answer.status, status, `${what}: ${answer.body}`);
  assert.match(answer.headers['content-type'], /^application\/problem\+json/, what);
  assert.equal(answer.headers['retry-after'] !== undefined, status === 503 || status === 429, what);
  assert.equal(answer.headers['www-authenticate'] !== undefined, status === 401 || (status === 403 && !/role/.test(answer.json.detail)), what);
  return answer.json.detail;
}

test('a job is queued, and answered with its id', async () => {
  for (const [target, payload, kind, channel] of [
    ['generate_image?channel=user:u_1', { prompt: 'a cat', n: [1, null] }, 'generate_image', 'user:u_1'],
    ['summarise?channel=channel%3Ageneral', 'a text', 'summarise', 'channel:general'],
    ['summar%69se?x=y&channel=user:a&channel=user:b', 7, 'summarise', 'user:b'],
    ['summarise?channel=user:u_1', null, 'summarise', 'user:u_1'],
    ['summarise?channel=user:u_1', [], 'summarise', 'user:u_1'],
  ]) {
    const answer = await enqueue(target, JSON.stringify(payload));
    assert.equal(answer.status, 202, answer.body);
    assert.match(answer.headers['content-type'], /^application\/json/);
    assert.match(answer.json.jobId, /^[1-9]\d*$/);
    assert.deepEqual(await queued(), [{ id: answer.json.jobId, kind, channel, payload, state: 'queued' }]);
  }
});

test('numbers keep their digits, and strings their characters', async () => {
  const answer = await enqueue('summarise?channel=user:u', ' {"n": 12345678901234567890.12345678901234567890, "s": "ü 😀 \\u0041"}\n');
  assert.equal(answer.status, 202);
  assert.equal(await stack.db.value('SELECT payload::text FROM pev_job WHERE id = $1', [answer.json.jobId]), '{"n": 12345678901234567890.12345678901234567890, "s": "ü 😀 A"}');
  await queued();
});

test('400, 404, 413, 415, 422: what is refused, and nothing is queued', async () => {
  const [to, json] = ['summarise?channel=user:u', 'application/json'];
  const kind = 'A kind of job has 1 to 63 letters, digits, "_" and "-", and begins with a letter.';
  const key = /^A stream key has 1 to 200 bytes/;
  const noChannel = /cannot be the channel of a job\. A channel is a stream of a declared kind/;
  for (const [status, target, body, detail, headers] of [
    [400, to, '', 'Line 1, column 1: there is no payload.'],
    [400, to, '{"a":\n tru}', 'Line 2, column 2: a value must follow.'],
    [400, to, '{} {}', 'Line 1, column 4: nothing must follow.'],
    [400, to, Buffer.from('"\xff"', 'latin1'), 'Line 1, column 2: this is not UTF-8.'],
    [400, to, '"\\u0000"', /U\+0000/],
    [400, to, '['.repeat(1_000), /nested more than 128 deep/],
    [400, 'summarise', '{}', '"channel" must name the stream that the job\'s events go to.'],
    [400, 'summarise?channels=user:u', '{}', /^"channel" must name/],
    [400, 'summarise?channel=', '{}', key],
    [400, 'summarise?channel=user:', '{}', key],
    [400, 'summarise?channel=a%20b', '{}', key],
    [400, 'summarise?channel=%zz', '{}', 'The URL holds a malformed percent escape.'],
    [400, 'summarise?channel=%00', '{}', 'The request target holds a NUL character.'],
    [400, 'summarise?channel=42', '{}', noChannel],
    [400, 'summarise?channel=word', '{}', noChannel],
    [400, 'summarise?channel=session:s', '{}', noChannel],
    [400, 'summarise?channel=nokind:1', '{}', noChannel],
    [400, '9a?channel=user:u', '{}', kind],
    [400, 'a%2Fb?channel=user:u', '{}', kind],
    [400, `${'k'.repeat(64)}?channel=user:u`, '{}', kind],
    [400, to, '{}', 'An Idempotency-Key has 1 to 255 visible ASCII characters.', { 'Idempotency-Key': 'a b' }],
    [404, 'unheard_of?channel=user:u', '{}', 'job kind "unheard_of" is not declared.'],
    [404, '?channel=user:u', '{}', /^There is nothing here/],
    [404, 'summarise/x?channel=user:u', '{}', /^There is nothing here/],
    [413, to, JSON.stringify('x'.repeat(LIMIT)), `A body takes at most ${LIMIT} bytes.`],
    [413, to, JSON.stringify('x'.repeat(1 << 20)), /^payload of a job is too large\. It takes \d+ bytes as text; 1048576 are allowed\.$/],
    [415, to, '{}', 'The body must be application/json, in UTF-8.', { 'Content-Type': 'text/plain' }],
    [415, to, '{}', /^The body must be/, { 'Content-Type': `${json}; charset=latin1` }],
    [415, to, '{}', /^The body must be/, { 'Content-Encoding': 'gzip' }],
    [422, to, '1e999999', 'value overflows numeric format.'],
  ]) {
    const said = assertProblem(await enqueue(target, body, { headers }), status, `${target} ${String(body).slice(0, 40)}`);
    if (typeof detail === 'string') assert.equal(said, detail, target);
    else assert.match(said, detail, target);
  }
  assert.deepEqual(await queued(), []);
});

test('405: POST alone, which OPTIONS tells', async () => {
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE']) {
    const answer = await request(`${open.url}/jobs/summarise`, { method });
    assert.equal(answer.status, 405, method);
    assert.equal(answer.headers.allow, 'OPTIONS, POST');
  }
  const options = await request(`${open.url}/jobs/summarise`, { method: 'OPTIONS' });
  assert.deepEqual([options.status, options.headers.allow], [204, 'OPTIONS, POST']);
});

test('pages of other origins may ask, once they are allowed', () =>
  withStreamer(['--cors-origin', 'https://app.example'], async (streamer) => {
    const headers = { Origin: 'https://app.example', 'Access-Control-Request-Method': 'POST' };
    const preflight = await request(`${streamer.url}/jobs/summarise`, { method: 'OPTIONS', headers });
    assert.equal(preflight.headers['access-control-allow-methods'], 'OPTIONS, POST');
    assert.match(preflight.headers['access-control-allow-headers'], /Idempotency-Key/);
    for (const [target, status] of [['summarise?channel=user:u', 202], ['summarise', 400], ['unheard_of?channel=user:u', 404]]) {
      const answer = await enqueue(target, {}, { headers, streamer });
      assert.equal(answer.status, status);
      assert.equal(answer.headers['access-control-allow-origin'], 'https://app.example');
    }
    await queued();
  }));

test('Idempotency-Key: a retry returns the first job, and queues none', async () => {
  const to = 'generate_image?channel=user:k';
  const headers = { 'Idempotency-Key': `${HIDDEN}-1` };
  const { jobId } = (await enqueue(to, { n: 1 }, { headers })).json;
  for (const body of [{ n: 1 }, '{ "n" : 1 }']) assert.deepEqual((await enqueue(to, body, { headers })).json, { jobId });
  await withStreamer([], async (streamer) => {
    assert.deepEqual((await enqueue(to, { n: 1 }, { headers, streamer })).json, { jobId }, 'by another streamer');
  });
  assert.equal(assertProblem(await enqueue(to, { n: 2 }, { headers }), 422), 'idempotency key was used for another job.');
  assert.equal(assertProblem(await enqueue(to.replace('generate_image', 'summarise'), { n: 1 }, { headers }), 422), 'idempotency key was used for another job.');
  assert.equal((await queued()).length, 1);
  assert.equal((await enqueue(to.replace('user:k', 'user:l'), { n: 2 }, { headers })).status, 202, 'in another channel it is another key');
  assert.equal((await queued()).length, 1);
});

test('a storm of 400 retries at once queues one job, and all have its id', async () => {
  const headers = { 'Idempotency-Key': 'storm' };
  await withStreamer(['--emit-timeout', '60s'], async (other) => {
    const answers = await Promise.all(Array.from({ length: 400 }, (_, i) =>
      enqueue('summarise?channel=user:storm', PAYLOAD, { headers, streamer: i % 2 ? open : other })));
    const [{ id }, ...others] = await queued();
    assert.deepEqual(others, []);
    for (const { status, json } of answers) assert.deepEqual([status, json], [202, { jobId: id }]);
  });
});

test('401, 403: with a key, a token is needed that names the kind and lets its bearer read the channel', async () => {
  const { streamer } = stack;
  const token = (claims) => ring.token({ 'pev.enqueue': ['generate_image'], 'pev.read': ['user:{{sub}}'], sub: 'u_1', ...claims });
  const bearer = (claims) => ({ Authorization: `Bearer ${token(claims)}` });
  const ask = (target, headers, body = PAYLOAD) => enqueue(target, body, { streamer, headers });
  const [kind, channel] = ['The token does not allow to queue jobs of this kind.', "The token does not allow to read the job's channel."];
  for (const [what, status, detail, target, headers] of [
    ['no token', 401, /^A token is needed/, 'generate_image', {}],
    ['a bad token', 401, 'The token is malformed.', 'generate_image', { Authorization: 'Bearer x' }],
    ['an expired token', 401, 'The token has expired.', 'generate_image', bearer({ exp: 1 })],
    ['kinds that are no list', 401, /pev\.enqueue must be arrays/, 'generate_image', bearer({ 'pev.enqueue': '*' })],
    ['a ticket', 403, 'A ticket allows to read, and nothing else.', 'generate_image?token=pevt_x', {}],
    ['no kind', 403, kind, 'generate_image', bearer({ 'pev.enqueue': undefined, 'pev.emit': ['*'], 'pev.read': ['*'] })],
    ['another kind', 403, kind, 'summarise', bearer()],
    ['a kind that is not declared', 403, kind, 'unheard_of', bearer()],
    ['a kind that is none', 403, kind, '9a', bearer()],
    ["another's channel", 403, channel, 'generate_image?channel=user:u_2', bearer()],
    ['one that it may emit to alone', 403, channel, 'generate_image?channel=user:u_2', bearer({ 'pev.emit': ['*'] })],
    ["the subject's, which it may not read", 403, channel, 'generate_image', bearer({ 'pev.read': ['channel:*'] })],
    ['no channel and no subject', 400, /^"channel" must name/, 'generate_image', bearer({ sub: undefined })],
    ['a subject that is no part of a key', 400, /^"channel" must name/, 'generate_image', bearer({ sub: 'a:b' })],
    ['a channel that is none', 400, /^A stream key has/, 'generate_image?channel=user:', bearer()],
    ['a kind that is none, told to who may queue all', 400, /^A kind of job/, '9a', bearer({ 'pev.enqueue': ['*'] })],
    ['a kind that is not declared, likewise', 404, 'job kind "unheard_of" is not declared.', 'unheard_of', bearer({ 'pev.enqueue': ['*'] })],
  ]) {
    const said = assertProblem(await ask(target, headers), status, what);
    if (typeof detail === 'string') assert.equal(said, detail, what);
    else assert.match(said, detail, what);
  }
  assert.deepEqual(await queued(), []);
  for (const [target, headers, want] of [
    ['generate_image', bearer(), 'user:u_1'],
    ['generate_image?channel=user%3Au_1', bearer(), 'user:u_1'],
    ['generate_image', { Cookie: `pev=${token()}` }, 'user:u_1'],
    [`generate_image?token=${token()}`, {}, 'user:u_1'],
    ['summarise?channel=channel:general', bearer({ 'pev.enqueue': ['*'], 'pev.read': ['channel:*'] }), 'channel:general'],
    ['summarise?channel=user:u_2', bearer({ 'pev.enqueue': ['a', 'summarise'], 'pev.read': ['*'], sub: undefined }), 'user:u_2'],
  ]) {
    assert.equal((await ask(target, headers)).status, 202, target);
    assert.deepEqual((await queued()).map((job) => job.channel), [want], target);
  }
});

test('a token of pev_token() queues the kinds it names', async () => {
  const db = await Database.start({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` } });
  try {
    const token = await db.value("SELECT pev_token('user:u_1', sub => 'u_1', enqueue => '{summarise}')");
    const ask = (kind) => enqueue(kind, {}, { streamer: stack.streamer, headers: { Authorization: `Bearer ${token}` } });
    assert.equal((await ask('summarise')).status, 202);
    assert.equal((await ask('generate_image')).status, 403);
    await queued();
  } finally {
    await db.stop();
  }
});

test('403: what the database does not let the role do', async () => {
  const db = await stack.db.other('guarded');
  await db.query("SELECT pev_register_job_kind('summarise', 'a text')");
  const streamer = await Streamer.start({ dsn: db.dsn, args: ['--emit-dsn', dsnOf(db, 'pev_service')] });
  try {
    await streamer.ready();
    const { detail } = (await enqueue('summarise?channel=user:u', {}, { streamer })).json;
    assert.equal(detail, "The database does not let the streamer's role do this.");
    assert.match(streamer.log, /WARNING database: what a client sent was not stored: .*SQLSTATE 42501/);
    await db.query('GRANT INSERT (kind, channel, payload, run_at, max_attempts, key_hash, request_hash), SELECT (id, key_hash, request_hash) ON pev_job TO pev_enqueuer');
    assert.equal((await enqueue('summarise?channel=user:u', {}, { streamer })).status, 202);
    assert.equal((await enqueue('summarise?channel=user:u', {}, { streamer, headers: { 'Idempotency-Key': 'k' } })).status, 202);
  } finally {
    await streamer.stop();
    await db.pool.end();
  }
});

test('429: requests count towards --emit-rate', () =>
  withStreamer(['--emit-rate', '3'], async (streamer) => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => enqueue('summarise?channel=user:u', {}, { streamer })));
    const refused = answers.filter(({ status }) => status === 429);
    assert.ok(refused.length > 0 && answers.every(({ status }) => status === 429 || status === 202));
    assertProblem(refused[0], 429);
    assert.equal((await queued()).length, 10 - refused.length);
  }));

test('a turn that is held delays no job in its channel', () =>
  withStreamer(['--emit-connections', '2', '--emit-timeout', '60s'], async (streamer) => {
    const client = await stack.db.pool.connect();
    try {
      await client.query("BEGIN; SELECT pev_emit('channel:held', 'upload_started', '{\"jobId\": \"j\"}')");
      const emitted = request(`${streamer.url}/events/channel:held`, {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"type": "upload_started", "data": {"jobId": "j"}}',
      });
      await poll(async () => (await metrics(streamer)).get('pev_emit_pending') === 1, 'an event waiting');
      for (let i = 0; i < 3; i++) assert.equal((await enqueue('summarise?channel=channel:held', {}, { streamer })).status, 202);
      await client.query('ROLLBACK');
      assert.equal((await emitted).status, 201);
    } finally {
      client.release();
    }
    await queued();
  }));

test('retries of a job that is being queued wait for each other, and nobody for them', () =>
  withStreamer(['--emit-connections', '2', '--emit-timeout', '60s'], async (streamer) => {
    const client = await stack.db.pool.connect();
    const ask = (key) => enqueue('summarise?channel=user:u', {}, { streamer, headers: { 'Idempotency-Key': key } });
    try {
      await client.query("BEGIN; SELECT pev_enqueue('summarise', '{}', 'user:u', idempotency_key => 'held')");
      const retries = Array.from({ length: 4 }, () => ask('held'));
      await poll(async () => (await metrics(streamer)).get('pev_emit_pending') === 4, 'the retries waiting');
      assert.equal((await ask('another')).status, 202);
      await client.query('COMMIT');
      const [first, ...others] = (await Promise.all(retries)).map(({ status, json }) => [status, json.jobId]);
      assert.equal(first[0], 202);
      for (const other of others) assert.deepEqual(other, first);
    } finally {
      client.release();
    }
    assert.equal((await queued()).length, 2);
  }));

test('503: the database away; and back, the job is queued once', async () => {
  const db = await Database.start();
  const streamer = await Streamer.start({ dsn: db.dsn });
  try {
    await streamer.ready();
    await db.query("SELECT pev_register_job_kind('summarise', 'a text')");
    const ask = () => enqueue('summarise?channel=user:u', PAYLOAD, { streamer, headers: { 'Idempotency-Key': 'k' } });
    const { jobId } = (await ask()).json;
    await db.stopServer();
    await poll(async () => (await ask()).status === 503, 'its being missed');
    assertProblem(await ask(), 503);
    await db.startServer();
    await poll(async () => (await ask()).status === 202, 'its being back');
    assert.deepEqual((await ask()).json, { jobId });
    assert.equal(await db.value('SELECT count(*) FROM pev_job'), 1);
  } finally {
    await stopStack({ db, streamer });
  }
});

test('SIGTERM: what is being queued is answered, and a connection that is open hears 503', async () => {
  const streamer = await start(['--emit-connections', '1', '--emit-timeout', '60s', '--drain-timeout', '60s']);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const client = await stack.db.pool.connect();
  assert.equal((await enqueue('summarise?channel=user:u', {}, { streamer, agent })).status, 202);
  await client.query('BEGIN; LOCK TABLE pev_job IN EXCLUSIVE MODE');
  const first = enqueue('summarise?channel=user:u', {}, { streamer });
  await poll(async () => (await metrics(streamer)).get('pev_emit_pending') === 1, 'a job being queued');
  const waiting = enqueue('summarise?channel=user:u', {}, { streamer });
  await poll(async () => (await metrics(streamer)).get('pev_emit_pending') === 2, 'another waiting');
  const stopped = streamer.stop();
  assertProblem(await waiting, 503);
  assert.equal(assertProblem(await enqueue('summarise?channel=user:u', {}, { streamer, agent }), 503), 'The server is stopping.');
  await client.query('ROLLBACK');
  client.release();
  assert.equal((await first).status, 202);
  await stopped;
  agent.destroy();
  assert.equal((await queued()).length, 2);
});

test('metrics count what became of requests', async () => {
  const before = await metrics(open);
  await enqueue('summarise?channel=user:u', {});
  for (const [target, body] of [['summarise?channel=user:u', 'x'], ['unheard_of?channel=user:u', '{}'], ['summarise', '{}']]) await enqueue(target, body);
  const values = await metrics(open);
  const grown = (name) => values.get(name) - before.get(name);
  assert.equal(grown('pev_job_requests_total{result="queued"}'), 1);
  assert.equal(grown('pev_job_requests_total{result="refused"}'), 3);
  assert.equal(grown('pev_job_requests_total{result="limited"}'), 0);
  for (const result of ['stored', 'unstored', 'refused']) assert.equal(grown(`pev_emit_requests_total{result="${result}"}`), 0, result);
  assert.equal(grown('pev_emit_events_total'), 0);
  await queued();
});

test('no log shows a payload, a key or a channel', () => {
  for (const { log } of [open, stack.streamer]) {
    assert.match(log, / ACCESS 127\.0\.0\.1 POST \/jobs\/generate_image 202 /);
    assert.match(log, / DEBUG /);
    for (const word of [HIDDEN, 'user:', 'channel:', '?']) assert.ok(!log.includes(word), `${word} in ${log.split('\n').find((line) => line.includes(word))}`);
  }
  assert.ok(!stack.db.log().includes(HIDDEN));
});
