// No token, ticket or secret is shown anywhere, whatever goes wrong: not in the
// streamer's logs at their most talkative, not in PostgreSQL's, which logs every
// statement with its parameters, not in an answer, a metric or a session's state.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before } from 'node:test';
import pg from 'pg';
import { Database, SseClient, Streamer, newExecution, poll, request, stopStack, test, within } from './harness.js';
import { KeyRing, now } from './jwt.js';
import { dsnOf, makeRoles } from './roles.js';
import { keepSecret, secretCount, secretIn } from './secrets.js';

const ring = new KeyRing();
const stack = {};
const shown = []; // by pg_stat_activity, which is looked at all the time
let watcher, watching;

before(async () => {
  ring.secret();
  ring.rsa();
  stack.db = await Database.start({
    settings: {
      'pev.jwt_secret': `file:${ring.file('secret')}`, log_statement: 'all', log_min_duration_statement: '0',
      log_parameter_max_length_on_error: '-1', log_error_verbosity: 'verbose', log_min_messages: 'debug1',
    },
  });
  await makeRoles(stack.db);
  stack.streamer = await Streamer.start({
    dsn: dsnOf(stack.db, 'pev_streamer'),
    args: [
      '--emit-dsn', dsnOf(stack.db, 'pev_emitter'), '--log-level', 'debug', '--access-log', '--token-cookie', 'pev_token', '--max-body-bytes', '4kB',
      '--jwt-secret-file', ring.file('secret'), '--jwt-key-file', `rsa=${ring.file('rsa.pub')}`,
    ],
  });
  await stack.streamer.ready();
  watcher = new pg.Client({ host: '127.0.0.1', port: Number(stack.db.env.PGPORT), user: stack.db.env.PGUSER, database: 'postgres' });
  watcher.on('error', () => {}); // the server is stopped
  await watcher.connect();
  watching = watch();
});
after(async () => {
  await watcher?.end();
  await watching;
  await stopStack(stack);
});

/** Look at the sessions again and again until the watcher's own ends. */
async function watch() {
  for (;;) {
    const rows = await watcher.query('SELECT * FROM pg_stat_activity').then((result) => result.rows, () => null);
    if (rows === null) return;
    const secret = secretIn(JSON.stringify(rows));
    if (secret !== undefined) shown.push(secret);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const bearer = (token) => ({ Authorization: `Bearer ${token}` });
const everything = (claims = {}) => ring.token({ 'pev.read': ['*'], 'pev.emit': ['*'], jti: `jti-${Math.random()}`, sub: 'u_1', ...claims });

/** What is answered to bytes as they are: the head, and what of the body comes with it. */
async function answerTo(bytes) {
  let answer = '';
  const socket = net.connect(stack.streamer.port, '127.0.0.1');
  socket.on('error', () => {}).setEncoding('latin1').on('data', (more) => {
    answer += more;
    if (answer.includes('\r\n\r\n')) socket.destroy();
  });
  socket.write(bytes, 'latin1');
  await within(new Promise((resolve) => { socket.once('close', resolve); }), `an answer to ${JSON.stringify(bytes.slice(0, 200))}`);
  assert.equal(secretIn(answer), undefined, answer);
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
}

const tokens = () => [
  everything(), everything({ exp: now() - 9 }), everything({ 'pev.read': ['1'], 'pev.emit': [] }),
  ring.token({}, { name: 'rsa', alg: 'RS256' }), keepSecret(everything().slice(0, -6)), keepSecret(`${everything()}.x`),
  keepSecret(everything().replaceAll('.', '%2e')), keepSecret(`pevt_${'x'.repeat(43)}`), keepSecret('pevt_no-such-ticket'),
];

/** Everything that a token can come with: the request's lines, its header's last ones and the body left out. */
function requestsWith(token) {
  const paths = ['/events/42', '/events/user:u_1', '/events/undeclared:1', '/events/%ff', '/events/', '/jobs/k', '/jobs/9', '/nowhere', '/readyz', '/metrics'];
  const queries = [`token=${token}`, `token=${token}&token=x`, `after=x&token=${token}`, `types=%00&token=${token}`, `token=${token}%00`, `after=${token}`, `types=${token}`];
  const targets = [...paths.map((path) => `${path}?${queries[0]}`), ...queries.slice(1).map((query) => `/events/42?${query}`)];
  return [
    ...targets.flatMap((target) => ['GET', 'HEAD', 'POST', 'BREW'].map((method) => `${method} ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n`)),
    ...paths.flatMap((path) => [`Authorization: Bearer ${token}`, `Authorization: Basic ${token}`, `Cookie: pev_token=${token}`, `Last-Event-ID: ${token}`, `Origin: ${token}`, `${token}: x`]
      .map((header) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${header}\r\n`)),
    `GET http://x/events/42?token=${token} HTTP/1.1\r\nHost: localhost\r\n`,
    `GET //x/events/42?token=${token} HTTP/1.1\r\nHost: localhost\r\n`,
    `GET /events/42?token=${token} HTTP/1.0\r\n`,
    `GET /events/42?token=${token} HTTP/9.9\r\nHost: localhost\r\n`,
    `GET /events/42?token=${token}\0 HTTP/1.1\r\nHost: localhost\r\n`,
    `GET /events/42?token=${token} and more HTTP/1.1\r\nHost: localhost\r\n`,
    `GET /events/42?token=${token} HTTP/1.1\r\n`,
    `GET /events/42?token=${token} HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n`,
    `GET /events/42?token=${token}&x=${'x'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n`,
  ];
}

test('requests of every kind, good and bad, with tokens of every kind, wherever one can stand', async () => {
  const answers = {};
  for (const token of tokens()) {
    await Promise.all(requestsWith(token).map(async (lines) => {
      const status = await answerTo(`${lines}Connection: close\r\n\r\n`);
      answers[status] = (answers[status] ?? 0) + 1;
    }));
  }
  for (const status of [200, 400, 401, 403, 404, 405, 415, 414, 431]) assert.ok(answers[status] > 0, `${status} among ${JSON.stringify(answers)}`);
});

test('events that are stored, and refused for every reason', async () => {
  const token = everything();
  const stream = newExecution();
  const send = (path, body, headers = {}) => request(`${stack.streamer.url}/events/${path}`, {
    method: 'POST', body, headers: { 'Content-Type': 'application/json', ...bearer(token), ...headers },
  });
  const result = '{"type": "Result", "data": {"summary": "s"}}';
  for (const [path, body, headers, status] of [
    [stream, '{"type": "Error", "data": {"message": "m"}}', {}, 201],
    [`${stream}?token=${token}`, '{"type": "Error", "data": {"message": "m"}}', {}, 201],
    [stream, '{"type": "Error", "data": {"message": "m"}}', { 'Idempotency-Key': 'k' }, 201],
    [stream, '{"type": "Error", "data": {"message": "n"}}', { 'Idempotency-Key': 'k' }, 422],
    [stream, '{"type": "Error", "data": {}}', {}, 422],
    [stream, '{"type": "none", "data": {}}', {}, 422],
    [stream, '{', {}, 400],
    [stream, '{}', { 'Content-Type': 'text/plain' }, 415],
    [stream, ' '.repeat(5_000), {}, 413],
    ['none:1', '{"type": "Error", "data": {"message": "m"}}', {}, 404],
    [stream, result, bearer(everything({ 'pev.emit': [] })), 403],
    [stream, result, bearer(everything({ exp: 1 })), 401],
  ]) {
    const answer = await send(path, body, headers);
    assert.equal(answer.status, status, answer.body);
  }
  await stack.db.query('REVOKE INSERT ON assistant_architect_events FROM pev_emitter');
  assert.equal((await send(stream, '{"type": "Error", "data": {"message": "m"}}')).status, 403);
  await stack.db.query('GRANT INSERT ON assistant_architect_events TO pev_emitter');
});

test('streams that begin and end by a token or a ticket', async () => {
  const stream = newExecution();
  const open = (query, headers) => SseClient.open(`${stack.streamer.url}/events/${stream}${query}`, { headers });
  const expiring = await open('', bearer(everything({ exp: now() + 6 })));
  const token = everything();
  const revoked = await open(`?token=${token}`);
  const ticket = await stack.db.value('SELECT pev_ticket($1::bigint)', [stream]);
  const ticketed = await open(`?token=${ticket}`);
  assert.equal((await open(`?token=${ticket}`)).status, 200, 'told to come back');
  assert.equal((await request(`${stack.streamer.url}/events/${stream}?token=${ticket}`)).status, 401);
  const { jti } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  await stack.db.query('SELECT pev_revoke_token($1)', [jti]);
  await revoked.toEnd();
  await expiring.toEnd();
  assert.deepEqual([expiring, revoked].map(({ events }) => events.at(-1).event), ['token-expired', 'token-revoked']);
  ticketed.close();
});

test('errors of the functions that take tokens, their answers and their log', async () => {
  const session = await stack.db.pool.connect();
  const [head, claims, signature] = everything().split('.');
  const json = (text) => Buffer.from(text).toString('base64url');
  const malformed = [
    `${head}.${claims}`, `${head}.!${claims}.${signature}`, `${head}.${claims.slice(0, -3)}.${signature}`, `${head}.${json('{"jti": ')}.${signature}`,
    `${head}.${json('"x"')}.${signature}`, `${head}.${json('{"jti": 7}')}.${signature}`, `${head}.${json('{"jti": "a", "exp": "b"}')}.${signature}`,
    `${head}.${json(Buffer.from('{"jti": "\xff"}', 'latin1'))}.${signature}`, `pevt_${'z'.repeat(5_000)}`, `${head}.${'x'.repeat(9_000)}.${signature}`,
  ].map(keepSecret);
  try {
    // what follows is logged by the statement and its parameters where these settings are on: the README says so
    await session.query("SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_messages = warning; SET log_parameter_max_length_on_error = 0");
    for (const [statement, values] of [
      ...malformed.map((text) => ['SELECT pev_revoke_token($1)', [text]]),
      ['SELECT pev_token($1, sub => $2)', ['1', 'x'.repeat(9_000)]], ['SELECT pev_token($1, $2)', ['1', '1 ms']],
      ['SELECT pev_ticket($1, $2)', ['1', '1 year']],
    ]) {
      const error = await session.query(statement, values).then(() => ({ message: 'none' }), (reason) => reason);
      const text = JSON.stringify(['message', 'detail', 'hint', 'where', 'internalQuery', 'code'].map((field) => error[field]));
      assert.equal(secretIn(text), undefined, `${statement}: ${text}`);
    }
    for (const lost of ['file:/nowhere', `file:${ring.dir}`, 'file:/dev/null']) {
      await session.query(`SET pev.jwt_secret = '${lost}'`);
      await assert.rejects(session.query('SELECT pev_token(1)'), (error) => secretIn(JSON.stringify({ ...error, text: error.message })) === undefined);
    }
  } finally {
    session.release(true);
  }
});

test('keys that cannot be used, and a password that is wrong', async () => {
  const old = ring.read('secret');
  for (const text of ['tooshort', `-----BEGIN PUBLIC KEY-----\n${'a'.repeat(40)}\n`, '\0'.repeat(40), `${'s'.repeat(40)}\0${'s'.repeat(40)}`]) {
    keepSecret(text);
    ring.write('secret', text);
    const from = stack.streamer.log.length;
    stack.streamer.process.kill('SIGHUP');
    await poll(() => /SIGHUP: .*\n/.test(stack.streamer.log.slice(from)), 'the answer to SIGHUP');
  }
  ring.write('secret', old);
  const password = keepSecret('correct-horse-battery');
  const streamer = await Streamer.start({ dsn: `host=127.0.0.1 port=1 password=${password}`, args: ['--emit-dsn', `host=127.0.0.1 port=1 password=${password}`, '--log-level', 'debug'] });
  await poll(() => streamer.log.includes('WARNING database'), 'the warning');
  assert.equal((await request(`${streamer.url}/readyz`)).status, 503);
  assert.equal((await request(`${streamer.url}/events/1`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"type": "Error", "data": {}}' })).status, 503);
  await streamer.stop();
});

test('none of this has been shown', async () => {
  const places = {
    "the streamer's log": stack.streamer.log, "PostgreSQL's log": stack.db.log(), '/metrics': (await request(`${stack.streamer.url}/metrics`)).body, pg_stat_activity: await stack.db.activity(),
  };
  for (const [place, text] of Object.entries(places)) {
    assert.ok(text.length > 1_000, `${place} has been read`);
    assert.equal(secretIn(text), undefined, place);
  }
  assert.match(stack.streamer.log, /DEBUG denied: /);
  assert.match(stack.streamer.log, /ACCESS 127\.0\.0\.1 GET \/events\/42 200 /);
  assert.match(places["PostgreSQL's log"], /LOG: .*execute pev_tickets/);
  assert.ok(secretCount() > 30, `${secretCount()} are looked for`);
  assert.deepEqual(shown, []);
});

test('a log that shows one is found out', () => {
  const token = everything();
  for (const text of [token, token.slice(0, 60), `a ${ring.read('secret').trim()} b`, 'denied: pevt_abcdefghijk']) assert.ok(secretIn(text) !== undefined, text);
  assert.equal(secretIn('denied: a token is needed'), undefined);
});
