// Who may listen: tokens of every kind, hostile ones, tickets, revocation, expiry.
//
// The streamer's role has what the README grants it and nothing else; PostgreSQL
// logs every statement with its parameters, and at the end neither log holds a
// token, a ticket or the secret.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import { execFile } from 'node:child_process';
import { after, before } from 'node:test';
import { EventSource } from 'eventsource';
import {
  DEADLINE, Database, SseClient, Streamer, newExecution, poll, request, stopStack, streamerPath, test,
} from './harness.js';
import { KeyRing, base64url, now } from './jwt.js';
import { dsnOf, makeRoles } from './roles.js';
import { keepSecret, secretCount, secretIn } from './secrets.js';

const AT_ONCE = 4_000; // milliseconds: less than --poll, more than a busy machine makes of it
const ring = new KeyRing();
const stack = {};
let guarded; // a second streamer, which looks at audience and issuer, and polls

before(async () => {
  ring.secret();
  ring.rsa();
  ring.ec();
  stack.db = await Database.start({
    settings: { 'pev.jwt_secret': `file:${ring.file('secret')}`, log_statement: 'all', log_min_duration_statement: '0' },
  });
  await makeRoles(stack.db);
  const dsn = dsnOf(stack.db, 'pev_streamer');
  const keys = ['--jwt-secret-file', ring.file('secret'), '--jwt-key-file', `rsa-1=${ring.file('rsa.pub')}`, '--jwt-key-file', ring.file('ec.pub')];
  stack.streamer = await Streamer.start({ dsn, args: [...keys, '--token-cookie', 'pev_token', '--log-level', 'debug'] });
  guarded = await Streamer.start({
    dsn, listen: '0.0.0.0:0',
    args: ['--jwt-secret-file', ring.file('secret'), '--jwt-audience', 'pev', '--jwt-issuer', 'https://issuer.example', '--poll', '300ms'],
  });
  for (const { url } of [stack.streamer, guarded]) {
    await poll(async () => (await request(`${url}/readyz`)).status === 200, 'the streamer being ready');
  }
});
after(async () => {
  try {
    await guarded?.stop();
  } finally {
    await stopStack(stack);
  }
});

const token = (claims, options) => ring.token(claims, options);
const url = (stream, query = '') => `${stack.streamer.url}/events/${stream}${query}`;
const bearer = (text) => ({ Authorization: `Bearer ${text}` });
const step = (n) => ({ currentStep: n, totalSteps: 9, percentage: n, message: `step ${n}` });
const emit = (stream, n = 1) => stack.db.emit(stream, 'progress', step(n));

/** An answer that denies must say so in every way, and repeat nothing. */
function assertDenied(answer, status, what, given = '') {
  assert.equal(answer.status, status, `${what}: ${answer.body}`);
  assert.match(answer.headers['content-type'], /^application\/problem\+json/, what);
  const problem = JSON.parse(answer.body);
  // Who has sent no token has made no error (RFC 6750, section 3.1).
  const challenge = problem.detail.startsWith('A token is needed') ? 'realm="pev"' : `error="${status === 403 ? 'insufficient_scope' : 'invalid_token'}"`;
  assert.equal(answer.headers['www-authenticate'], `Bearer ${challenge}`, what);
  assert.equal(answer.headers['cache-control'], 'no-store', what);
  assert.equal(problem.status, status, what);
  assert.ok(problem.detail.length > 0, what);
  if (given.length > 8) assert.ok(!answer.body.includes(given), what);
}

const denied = async (target, status, what, headers = {}, given = '') =>
  assertDenied(await request(target, { headers }), status, what, given);

/** The one event of a stream must arrive. */
async function listens(target, headers, what) {
  const client = await SseClient.open(target, { headers });
  assert.equal(client.status, 200, what);
  await client.received(1);
  client.close();
}

test('a token may stand in the header, in the cookie or in the query', async () => {
  const stream = newExecution();
  const good = token({ 'pev.read': [String(stream)] });
  const other = token({ 'pev.read': [String(stream)], jti: 'other' });
  await emit(stream);
  await listens(url(stream), bearer(good), 'header');
  await listens(url(stream), { authorization: `bearer ${good}` }, 'header, in lower case');
  await listens(url(stream), { Cookie: `a=b; pev_token=${good}; c=d` }, 'cookie');
  await listens(url(stream, `?token=${good}`), {}, 'query');
  await listens(url(stream, `?after=0&token=${good}`), { ...bearer(good), Cookie: `pev_token=${good}` }, 'everywhere');
  for (const [target, headers] of [
    [url(stream, `?token=${other}`), bearer(good)],
    [url(stream), { ...bearer(good), Cookie: `pev_token=${other}` }],
    [url(stream, `?token=${good}`), { Cookie: `pev_token=${other}` }],
    [url(stream, `?token=${good}&token=${other}`), {}],
  ]) {
    const answer = await request(target, { headers });
    assert.equal(answer.status, 400);
    assert.match(answer.body, /two tokens that differ/);
  }
});

test('keys made by openssl verify tokens of their own algorithm', async () => {
  const stream = newExecution();
  await emit(stream);
  await listens(url(stream), bearer(token({}, { name: 'rsa', alg: 'RS256' })), 'RS256');
  await listens(url(stream), bearer(token({}, { name: 'rsa', alg: 'RS256', header: { kid: 'rsa-1' } })), 'RS256 by name');
  await listens(url(stream), bearer(token({}, { name: 'ec', alg: 'ES256' })), 'ES256');
  await listens(url(stream), bearer(token({}, { name: 'ec', alg: 'ES256', header: { kid: 'any' } })), 'a key without a name');
  await denied(url(stream), 401, 'another name', bearer(token({}, { name: 'rsa', alg: 'RS256', header: { kid: 'rsa-2' } })));
});

test('a token allows the streams that it names', async () => {
  await stack.db.emit('user:u_1', 'upload_started', { jobId: 'j' });
  const read = (...patterns) => token({ 'pev.read': patterns, sub: 'u_1' });
  for (const patterns of [['user:u_1'], ['42', 'user:*'], ['*'], ['user:{{sub}}']]) {
    await listens(url('user:u_1'), bearer(read(...patterns)), patterns.join());
    await listens(url('user%3Au_1'), bearer(read(...patterns)), patterns.join());
  }
  for (const patterns of [[], ['user:u_2'], ['users:*'], ['user*'], ['user:u_1*'], ['{{sub}}']]) {
    const text = read(...patterns);
    await denied(url('user:u_1'), 403, patterns.join(), bearer(text), text);
  }
  await denied(url('user:u_1'), 403, 'no claim at all', bearer(token({ 'pev.read': undefined })));
  await denied(url('user:u_1'), 403, 'the right to emit', bearer(token({ 'pev.read': [], 'pev.emit': ['*'] })));
  await denied(url('user:u_2'), 403, 'another user', bearer(read('user:{{sub}}')));
  await denied(url('user:*'), 403, 'a pattern as a key', bearer(read('user:u_1')));
  assert.equal((await request(url('%00'), { headers: bearer(token()) })).status, 400, 'who may everything is told that this is no key');
});

// Everything that must be answered with 401. Most are signed with the right key.
const HOSTILE = {
  'nothing': () => '',
  'a word': () => 'secret',
  'dots': () => '..',
  'alg none': () => `${base64url('{"alg":"none"}')}.${base64url(JSON.stringify({ exp: now() + 60, 'pev.read': ['*'] }))}.`,
  'alg None': () => `${base64url('{"alg":"None"}')}.${base64url(JSON.stringify({ exp: now() + 60, 'pev.read': ['*'] }))}.`,
  'alg none, signed': () => ring.sign('{"alg":"none"}', '{"exp":9999999999,"pev.read":["*"]}'),
  'no signature': () => ring.token().replace(/[^.]*$/, ''),
  'a signature cut short': () => ring.token().slice(0, -4),
  'a signature of zeros': () => ring.token().replace(/[^.]*$/, 'A'.repeat(43)),
  'another secret': () => { ring.secret('stranger'); return ring.token({}, { name: 'stranger' }); },
  'the public RSA key as a secret': () => rawHmac(ring.read('rsa.pub')),
  'the public RSA key as a secret, without the last newline': () => rawHmac(ring.read('rsa.pub').trimEnd()),
  'the public EC key as a secret': () => rawHmac(ring.read('ec.pub')),
  'RS256 signed with the EC key': () => ring.sign('{"alg":"RS256"}', claims(), { name: 'ec', alg: 'ES256' }),
  'ES256 signed with the RSA key': () => ring.sign('{"alg":"ES256"}', claims(), { name: 'rsa', alg: 'RS256' }),
  'RS256 signed with another RSA key': () => { ring.rsa('stranger-rsa'); return ring.token({}, { name: 'stranger-rsa', alg: 'RS256' }); },
  'ES256 with a signature of zeros': () => ring.token({}, { name: 'ec', alg: 'ES256' }).replace(/[^.]*$/, base64url(Buffer.alloc(64))),
  'ES256 with a signature in DER': () => {
    const text = `${base64url('{"alg":"ES256"}')}.${base64url(claims())}`;
    return `${text}.${base64url(crypto.sign('sha256', Buffer.from(text), ring.read('ec.pem')))}`;
  },
  'HS384': () => ring.sign('{"alg":"HS384"}', claims()),
  'a key of its own in the header': () => ring.sign(JSON.stringify({ alg: 'HS256', jwk: { kty: 'oct', k: base64url('x'.repeat(32)) } }), claims(), { name: 'stranger' }),
  'a kid that is a path': () => ring.sign('{"alg":"HS256","kid":"/dev/null"}', claims(), { name: 'stranger' }),
  'a kid that climbs': () => ring.sign('{"alg":"RS256","kid":"../../../dev/null"}', claims(), { name: 'rsa', alg: 'RS256' }),
  'a kid that is SQL': () => ring.sign(`{"alg":"RS256","kid":"' OR 1=1 --"}`, claims(), { name: 'rsa', alg: 'RS256' }),
  'a kid that is a number': () => ring.sign('{"alg":"HS256","kid":7}', claims()),
  'critical extensions': () => ring.sign('{"alg":"HS256","crit":["b64"],"b64":false}', claims()),
  'expired': () => ring.token({ exp: now() - 1 }),
  'expired long ago': () => ring.token({ exp: 1 }),
  'no exp': () => ring.token({ exp: undefined }),
  'an exp that is a string': () => ring.token({ exp: String(now() + 60) }),
  'an exp that is negative': () => ring.token({ exp: -1 }),
  'an exp beyond numbers': () => ring.sign('{"alg":"HS256"}', '{"exp":1e999,"pev.read":["*"]}'),
  'not valid yet': () => ring.token({ nbf: now() + 120 }),
  'issued in the future': () => ring.token({ iat: now() + 120 }),
  'an nbf that is an object': () => ring.token({ nbf: {} }),
  'rights that are a string': () => ring.token({ 'pev.read': '*' }),
  'rights that are objects': () => ring.token({ 'pev.read': [{}] }),
  'too many rights': () => ring.token({ 'pev.read': Array(65).fill('1') }),
  'too long a right': () => ring.token({ 'pev.read': ['x'.repeat(257)] }),
  'a jti that is a number': () => ring.token({ jti: 7 }),
  'a jti that is long': () => ring.token({ jti: 'x'.repeat(129) }),
  'huge': () => ring.token({ x: 'x'.repeat(7000) }),
  'deep': () => ring.sign('{"alg":"HS256"}', `{"exp":9999999999,"pev.read":["*"],"x":${'['.repeat(2500)}${']'.repeat(2500)}}`),
  'duplicate claims': () => ring.sign('{"alg":"HS256"}', `{"exp":1,"exp":${now() + 60},"pev.read":["*"]}`),
  'duplicate rights': () => ring.sign('{"alg":"HS256"}', `{"exp":${now() + 60},"pev.read":["1"],"pev.read":["*"]}`),
  'a duplicate alg': () => ring.sign('{"alg":"none","alg":"HS256"}', claims()),
  'a NUL after the claims': () => ring.sign('{"alg":"HS256"}', Buffer.concat([Buffer.from(claims()), Buffer.from([0])])),
  'a NUL after the header': () => ring.sign(Buffer.from('{"alg":"HS256"}\0'), claims()),
  'a NUL within a claim': () => ring.sign('{"alg":"HS256"}', `{"exp":${now() + 60},"sub":"a\\u0000b","pev.read":["*"]}`),
  'claims that are an array': () => ring.sign('{"alg":"HS256"}', '[]'),
  'claims that are not JSON': () => ring.sign('{"alg":"HS256"}', '{exp:1}'),
  'claims that are not UTF-8': () => ring.sign('{"alg":"HS256"}', Buffer.from(`{"exp":${now() + 60},"pev.read":["*"],"x":"\xff"}`, 'latin1')),
  'a header that is not JSON': () => ring.sign('alg', claims()),
  'base64 instead of base64url': () => ring.token({ x: '>>>???' }).replaceAll('-', '+').replaceAll('_', '/'),
  'padding': () => `${ring.token()}=`,
  'a byte that is no base64': () => ring.token().replace('.', '!.'),
  'base64url with bits to spare': () => spare(ring.token()),
  'four parts': () => `${ring.token()}.AAAA`,
  'five parts, as if encrypted': () => 'a.b.c.d.e',
  'a typ that is another': () => ring.token({}, { header: { typ: 'secevent+jwt' } }),
  'a ticket that nobody made': () => `pevt_${base64url(crypto.randomBytes(32))}`,
  'a ticket that is SQL': () => "pevt_'; DROP TABLE pev_ticket; --",
  'a ticket without an end': () => `pevt_${'x'.repeat(5000)}`,
};

const claims = () => JSON.stringify({ exp: now() + 60, 'pev.read': ['*'] });

/** A token signed as HS256 with some bytes as the secret. */
function rawHmac(secret) {
  const text = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(claims())}`;
  return `${text}.${base64url(crypto.createHmac('sha256', secret).update(text).digest())}`;
}

/** The same signature, spelled with its last bits set: 43 digits are 258 bits, and two are to spare. */
function spare(text) {
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  return text.slice(0, -1) + digits[digits.indexOf(text.at(-1)) | 1];
}

test(`${Object.keys(HOSTILE).length} hostile tokens are refused with 401, wherever they stand`, async () => {
  const stream = newExecution();
  await emit(stream);
  await denied(url(stream), 401, 'no token at all');
  assert.match((await request(url(stream))).body, /A token is needed/);
  await denied(url(stream), 401, 'another scheme', { Authorization: 'Basic dTpw' });
  for (const [what, make] of Object.entries(HOSTILE)) {
    const text = make();
    keepSecret(text);
    await denied(url(stream, `?token=${encodeURIComponent(text)}`), 401, `${what}, in the query`, {}, text);
    await denied(url(stream), 401, `${what}, in the header`, bearer(text), text);
    // no browser keeps a larger cookie
    if (!text.includes(';') && text.length <= 4096) await denied(url(stream), 401, `${what}, in the cookie`, { Cookie: `pev_token=${text}` }, text);
  }
  const long = 'x'.repeat(8300);
  await denied(url(stream), 401, 'too long for anything', bearer(long));
  assert.match((await request(url(stream), { headers: bearer(long) })).body, /longer than 8192 bytes/);
  await denied(url(stream, `?token=${long}`), 401, 'too long for anything');
  assert.equal((await request(url(stream, '?token=%00'))).status, 400, 'a NUL in the URL');
  assert.equal((await request(`${stack.streamer.url}/readyz`)).status, 200, 'the database has not been disturbed');
});

test('EventSource gives up when its token is refused', async () => {
  const source = new EventSource(url(newExecution(), '?token=x'));
  const error = await new Promise((resolve) => source.addEventListener('error', resolve));
  assert.equal(error.code, 401);
  assert.equal(source.readyState, EventSource.CLOSED);
});

test('audience and issuer are looked at where they are configured; metrics of a public address need a token', async () => {
  const stream = newExecution();
  const [target, metrics] = [`${guarded.url}/events/${stream}`, `${guarded.url}/metrics`];
  const good = { aud: ['other', 'pev'], iss: 'https://issuer.example' };
  await emit(stream);
  await listens(target, bearer(token(good)), 'both right');
  await denied(target, 401, 'another audience', bearer(token({ ...good, aud: 'other' })));
  await denied(target, 401, 'no audience', bearer(token({ ...good, aud: undefined })));
  await denied(target, 401, 'another issuer', bearer(token({ ...good, iss: 'https://issuer.example.org' })));
  await denied(metrics, 401, 'metrics without a token');
  await denied(metrics, 403, 'metrics with a token for a stream', bearer(token({ ...good, 'pev.read': [String(stream)] })));
  assert.match((await request(metrics, { headers: bearer(token(good)) })).body, /^pev_clients /m);
  assert.equal((await request(`${guarded.url}/healthz`)).status, 200);
  assert.equal((await request(`${stack.streamer.url}/metrics`)).status, 200, 'on loopback they do not');
});

test('a token of pev_token() is announced to expire, and expires', async () => {
  const stream = newExecution();
  await emit(stream);
  const text = await stack.db.value(`SELECT pev_token($1::bigint, '8 s')`, [stream]);
  const { exp } = JSON.parse(Buffer.from(text.split('.')[1], 'base64url'));
  const client = await SseClient.open(url(stream, `?types=execution-start&token=${text}`));
  await client.until(() => client.events.length >= 1, 'the announcement');
  const at = JSON.stringify({ expiresAt: new Date(exp * 1000).toISOString().replace('.000', '') }).replace(':', ': ');
  assert.deepEqual(client.events.slice(0, 1), [{ event: 'token-expiring', data: at }], 'whatever the filter, and without an id');
  await client.toEnd();
  assert.ok(Date.now() >= exp * 1000, 'not before');
  assert.ok(Date.now() < exp * 1000 + AT_ONCE, 'at once');
  assert.deepEqual(client.events.slice(1), [{ event: 'token-expired', data: at }]);
  await denied(url(stream, `?token=${text}`), 401, 'the reconnect');
});

test('a token that is good for longer is not announced yet', async () => {
  const stream = newExecution();
  const client = await SseClient.open(url(stream), { headers: bearer(token({ exp: now() + 3600 })) });
  await emit(stream);
  await client.received(1);
  assert.equal(client.events[0].event, 'progress');
  client.close();
});

test('revoking a token ends its streams at once, and no others', async () => {
  const [stream, jti] = [newExecution(), crypto.randomUUID()];
  const [bad, good] = [token({ jti }), token({ jti: 'good' })];
  const clients = await Promise.all([bad, bad, good].map((text) => SseClient.open(url(stream), { headers: bearer(text) })));
  await emit(stream);
  await Promise.all(clients.map((client) => client.received(1)));
  await stack.db.query("SELECT pg_notify('pev_revoked', 'good')"); // a forgery
  const started = Date.now();
  await stack.db.query('SELECT pev_revoke_token($1)', [jti]);
  await Promise.all(clients.slice(0, 2).map((client) => client.toEnd()));
  assert.ok(Date.now() - started < AT_ONCE, `it took ${Date.now() - started} ms`);
  assert.equal(clients[0].events.at(-1).event, 'token-revoked');
  await denied(url(stream), 401, 'the reconnect', bearer(bad));
  await emit(stream, 2);
  await clients[2].received(2);
  assert.equal(clients[2].ended, false);
  clients[2].close();
});

test('a revocation that was not announced is found by the poll', async () => {
  const jti = crypto.randomUUID();
  const headers = bearer(token({ jti, aud: 'pev', iss: 'https://issuer.example' }));
  const client = await SseClient.open(`${guarded.url}/events/${newExecution()}`, { headers });
  await stack.db.query("INSERT INTO pev_revoked_token (jti, expires) VALUES ($1, 'infinity')", [jti]);
  await client.toEnd();
  assert.equal(client.events.at(-1).event, 'token-revoked');
});

test('all revocations are read when the database is connected again, for it may have been set back', async () => {
  const jti = crypto.randomUUID();
  const client = await SseClient.open(url(newExecution()), { headers: bearer(token({ jti })) });
  await stack.db.query(`ALTER TABLE pev_revoked_token DISABLE TRIGGER pev_revoked_stamp;
    INSERT INTO pev_revoked_token (jti, expires, xact) VALUES ('${jti}', 'infinity', '3');
    ALTER TABLE pev_revoked_token ENABLE ALWAYS TRIGGER pev_revoked_stamp`);
  await stack.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pev_streamer'");
  await client.toEnd();
  assert.equal(client.events.at(-1).event, 'token-revoked');
});

test('revocations that commit out of order are all found', async () => {
  const ids = [1, 2].map(() => crypto.randomUUID());
  const streams = [newExecution(), newExecution()];
  const clients = await Promise.all(streams.map((stream, i) => SseClient.open(url(stream), { headers: bearer(token({ jti: ids[i] })) })));
  const first = await stack.db.pool.connect();
  try {
    await first.query('BEGIN');
    await first.query('SELECT pev_revoke_token($1)', [ids[0]]);
    await stack.db.query('SELECT pev_revoke_token($1)', [ids[1]]);
    await clients[1].toEnd();
    await first.query('COMMIT');
  } finally {
    first.release();
  }
  await clients[0].toEnd();
});

const makeTicket = (stream, ...rest) =>
  stack.db.value(`SELECT pev_ticket(${['$1::text', ...rest.map((value) => `'${value}'`)].join()})`, [String(stream)]);

test('a ticket is redeemed once, then good for reconnecting, never twice at a time', async () => {
  const stream = newExecution();
  await emit(stream);
  const ticket = await makeTicket(stream);
  const target = url(stream, `?token=${ticket}`);
  await denied(url(newExecution(), `?token=${ticket}`), 401, 'another stream');
  const client = await SseClient.open(target);
  await client.received(1);
  await denied(target, 401, 'a second use');
  for (const headers of [{}, { 'Last-Event-ID': '0' }]) {
    const waiting = await SseClient.open(target, { headers: { ...headers, Accept: 'text/event-stream' } });
    await waiting.toEnd();
    assert.deepEqual(waiting.events, [], 'who may be the same client sees nothing');
    assert.equal(waiting.retries.length, 1, 'but is told to come back');
  }
  const plain = await request(target, { headers: { 'Last-Event-ID': '0' } });
  assert.equal(plain.status, 503);
  assert.ok(plain.headers['retry-after']);
  assert.equal(client.ended, false);

  client.close();
  await emit(stream, 2);
  const again = await SseClient.open(target, { headers: { 'Last-Event-ID': '1' } });
  await again.received(1);
  assert.equal(again.events[0].id, '2');
  again.close();
  const [row] = await stack.db.query('SELECT * FROM pev_ticket WHERE stream = $1', [String(stream)]);
  assert.equal(row.hash.toString('hex'), crypto.createHash('sha256').update(ticket).digest('hex'));
  assert.ok(!JSON.stringify(row).includes(ticket));
});

test('EventSource comes back with the ticket it began with', async () => {
  const stream = newExecution();
  await emit(stream);
  const source = new EventSource(url(stream, `?token=${await makeTicket(stream)}`));
  const seen = [];
  let opened = 0;
  source.addEventListener('open', () => opened++);
  source.addEventListener('progress', (event) => seen.push(event.lastEventId));
  await poll(() => seen.length === 1, 'the first event');
  await stack.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pev_streamer'");
  await emit(stream, 2);
  await poll(() => seen.length === 2, 'the second event');
  assert.deepEqual(seen, ['1', '2']);
  source.close();
});

test('a ticket is worth nothing too late, after its lifetime, or revoked', async () => {
  const stream = newExecution();
  await emit(stream);
  const late = await makeTicket(stream, '1 s', '1 h');
  const short = await makeTicket(stream, '1 min', '6 s');
  const revoked = await makeTicket(stream);
  const used = await SseClient.open(url(stream, `?token=${short}`));
  const open = await SseClient.open(url(stream, `?token=${revoked}`));
  await Promise.all([used.toEnd(), (async () => {
    await open.received(1);
    // by its hash, so that PostgreSQL's log does not get to see the ticket
    await stack.db.query('SELECT pev_revoke_token($1)', [crypto.createHash('sha256').update(revoked).digest('hex')]);
    await open.toEnd();
  })()]);
  assert.equal(open.events.at(-1).event, 'token-revoked');
  assert.deepEqual(used.events.map(({ event }) => event).sort(), ['progress', 'token-expired', 'token-expiring']);
  await denied(url(stream, `?token=${short}`), 401, 'after its lifetime');
  await denied(url(stream, `?token=${late}`), 401, 'not redeemed in time');
  await denied(url(stream, `?token=${revoked}`), 401, 'revoked');
});

test('while the database is away no ticket is believed', async () => {
  const stream = newExecution();
  const ticket = await makeTicket(stream);
  await stack.db.stopServer('fast');
  await poll(async () => (await request(`${stack.streamer.url}/readyz`)).status === 503, 'the streamer noticing');
  const client = await SseClient.open(url(stream, `?token=${ticket}`));
  await client.toEnd();
  assert.equal(client.status, 200);
  assert.equal(client.retries.length, 1);
  assert.equal((await request(url(stream, `?token=${ticket}`))).status, 503);
  await listensLater(stream);
  await stack.db.startServer();
  await stack.streamer.ready();
  await emit(stream);
  await listens(url(stream, `?token=${ticket}`), {}, 'afterwards it is');
});

/** While `body` runs nobody can use the table; it is called when the streamer waits for it. */
async function withLocked(table, begin, body) {
  const session = await stack.db.pool.connect();
  try {
    await session.query(`BEGIN; LOCK TABLE ${table}`);
    const begun = begin();
    await poll(() => stack.db.value("SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'pev_streamer' AND wait_event_type = 'Lock'"), 'the streamer waiting');
    await body(session);
    await session.query('COMMIT');
    return await begun;
  } finally {
    session.release();
  }
}

test('a ticket that the database was asked about in vain is not believed', async () => {
  const stream = newExecution();
  const ticket = await makeTicket(stream);
  const answer = await withLocked('pev_ticket', () => request(url(stream, `?token=${ticket}`)), () =>
    stack.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pev_streamer' AND wait_event_type = 'Lock'"));
  assert.equal(answer.status, 503);
  await stack.streamer.ready();
});

/** A token needs no database: its client waits there for the events. */
async function listensLater(stream) {
  const client = await SseClient.open(url(stream), { headers: bearer(token()) });
  assert.equal(client.status, 200);
  client.close();
}

test('neither log, nor the metrics, nor the database shows a token, a ticket or the secret', async () => {
  const metrics = (await request(`${stack.streamer.url}/metrics`)).body;
  assert.match(metrics, /^pev_requests_denied_total\{status="401"\} [1-9]/m);
  assert.match(metrics, /^pev_requests_denied_total\{status="403"\} [1-9]/m);
  const tables = JSON.stringify([await stack.db.query('SELECT * FROM pev_ticket'), await stack.db.query('SELECT * FROM pev_revoked_token')]);
  const places = {
    "the streamer's log": stack.streamer.log + guarded.log, "PostgreSQL's log": stack.db.log(), metrics, activity: await stack.db.activity(), tables,
  };
  assert.ok(secretCount() > 80, `${secretCount()} are looked for`);
  for (const [place, text] of Object.entries(places)) assert.equal(secretIn(text), undefined, place);
});

test('SIGHUP reads the keys again, and keeps them if one is unusable', async () => {
  const [stream, old] = [newExecution(), ring.read('secret')];
  const former = token();
  const client = await SseClient.open(url(stream), { headers: bearer(former) });
  const other = await SseClient.open(url(stream), { headers: bearer(token({}, { name: 'rsa', alg: 'RS256' })) });
  const reload = async (pattern) => {
    const from = stack.streamer.log.length;
    stack.streamer.process.kill('SIGHUP');
    await poll(() => pattern.test(stack.streamer.log.slice(from)), `${pattern} in the log`);
    return stack.streamer.log.slice(from);
  };
  ring.write('secret', 'short\n');
  await reload(/ERROR SIGHUP: the keys stay as they were: --jwt-secret-file: .*at least 32 bytes/);
  fs.rmSync(ring.file('secret'));
  await reload(/ERROR SIGHUP: the keys stay as they were: --jwt-secret-file: .*No such file/);
  assert.equal(client.ended, false);
  ring.secret();
  const open = /WARNING --jwt-secret-file: everybody can read or write/;
  const late = await withLocked('assistant_architect_events', () => request(url(stream, '?after=1'), { headers: bearer(former) }), async () =>
    assert.match(await reload(/INFO SIGHUP: 3 keys loaded/), open));
  assertDenied(late, 401, 'a request that was not answered yet');
  await client.toEnd();
  assert.equal(client.events.at(-1).event, 'token-revoked');
  await denied(url(stream), 401, 'a token of the old secret', bearer(former));
  await emit(stream);
  await listens(url(stream), bearer(token()), 'a token of the new one');
  await other.received(1);
  other.close();
  ring.write('secret', old);
  fs.chmodSync(ring.file('secret'), 0o640);
  assert.doesNotMatch(await reload(/INFO SIGHUP: 3 keys loaded/), open);
});

test('a key file that is unusable is refused at start, by the name of its option', async () => {
  ring.pair('ed', '-algorithm', 'ed25519');
  ring.ec('p384', 'P-384');
  ring.write('short', 'x'.repeat(31));
  for (const [option, file, reason] of [
    ['--jwt-secret-file', ring.file('none'), /No such file/],
    ['--jwt-secret-file', ring.dir, /Is a directory/],
    ['--jwt-secret-file', `kid=${ring.file('short')}`, /at least 32 bytes/],
    ['--jwt-secret-file', ring.file('rsa.pub'), /a key in PEM is not a secret/],
    ['--jwt-key-file', ring.file('secret'), /not a public key in PEM/],
    ['--jwt-key-file', ring.file('rsa.pem'), /not a public key in PEM/],
    ['--jwt-key-file', ring.file('ed.pub'), /neither RSA nor P-256/],
    ['--jwt-key-file', ring.file('p384.pub'), /an elliptic curve is P-256/],
  ]) {
    const { code, stderr } = await new Promise((resolve) => {
      execFile(streamerPath, ['--listen', '127.0.0.1:0', option, file], { timeout: DEADLINE }, (error, stdout, text) =>
        resolve({ code: error ? error.code : 0, stderr: text }));
    });
    assert.equal(code, 2, `${option} ${file}: ${stderr}`);
    assert.ok(stderr.includes(option), stderr);
    assert.match(stderr, reason);
  }
});

test('a secret in the configuration itself is used only where pev is preloaded, and never shown', async () => {
  const secret = crypto.randomBytes(32).toString('hex');
  const settings = { 'pev.jwt_secret': secret };
  for (const args of [[], ['--no-preload']]) {
    const db = await Database.start({ settings, args });
    const session = await db.pool.connect();
    try {
      await session.query('CREATE ROLE stranger');
      if (args.length === 0) {
        assert.match((await session.query('SELECT pev_token(1)')).rows[0].pev_token, /^eyJ/);
        await session.query('SET ROLE stranger');
        await assert.rejects(session.query('SHOW pev.jwt_secret'), { code: '42501' });
      } else {
        // here any session that has not loaded the library may see it: a mistake that must not go unnoticed
        await assert.rejects(session.query('SELECT pev_token(1)'), { code: '55000', message: /no secret/ });
        await assert.rejects(session.query(`ALTER SYSTEM SET pev.jwt_secret = '${'x'.repeat(32)}'`), { code: '22023' });
        const log = fs.readFileSync(db.env.LOG, 'utf8');
        assert.match(log, /WARNING: {2}pev.jwt_secret must not be set for the server unless pev is preloaded/);
        assert.ok(!log.includes(secret));
      }
    } finally {
      session.release();
      await db.stop();
    }
  }
});
