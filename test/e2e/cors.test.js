// Which pages of other origins may read what the streamer answers.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { Database, SseClient, Streamer, newExecution, request, stopStack, test } from './harness.js';
import { KeyRing } from './jwt.js';

const ring = new KeyRing();
ring.secret();
const here = 'https://app.example';
const alsoHere = 'http://localhost:5173';
const elsewhere = 'https://evil.example';
const stack = {};
let open; // without tokens, for every origin
let closed; // without CORS

before(async () => {
  stack.db = await Database.start();
  stack.streamer = await Streamer.start({
    dsn: stack.db.dsn, args: ['--jwt-secret-file', ring.file('secret'), '--cors-origin', here, '--cors-origin', alsoHere],
  });
  open = await Streamer.start({ dsn: stack.db.dsn, args: ['--cors-origin', '*', '--max-clients', '1'] });
  closed = await Streamer.start({ dsn: stack.db.dsn });
  for (const streamer of [stack.streamer, open, closed]) await streamer.ready();
});
after(async () => {
  for (const streamer of [open, closed]) await streamer?.stop();
  await stopStack(stack);
});

const url = (path) => `${stack.streamer.url}${path}`;
const bearer = () => ({ Authorization: `Bearer ${ring.token({ 'pev.emit': ['*'] })}` });
const JSON_TYPE = { 'Content-Type': 'application/json' };
const marks = ({ headers }) => Object.fromEntries(
  Object.entries(headers).filter(([name]) => name === 'vary' || name.startsWith('access-control-')));
const ALLOWED = { 'vary': 'Origin', 'access-control-allow-origin': here, 'access-control-allow-credentials': 'true' };
const PREFLIGHT = {
  'access-control-allow-methods': 'GET, HEAD, OPTIONS, POST',
  'access-control-allow-headers': 'Authorization, Content-Type, Idempotency-Key, Last-Event-ID',
  'access-control-max-age': '7200',
};
const ask = (method) => ({ 'Access-Control-Request-Method': method, 'Access-Control-Request-Headers': 'authorization,last-event-id' });

/** Every kind of answer: [path, request, status]. */
const ANSWERS = [
  ['/healthz', {}, 200],
  ['/readyz', {}, 200],
  ['/metrics', {}, 200],
  ['/nowhere', {}, 404],
  ['/events/1', {}, 401],
  ['/events/1?token=x', {}, 401],
  ['/events/1', { headers: { Authorization: `Bearer ${ring.token({ 'pev.read': ['2'] })}` } }, 403],
  ['/events/%00', { headers: bearer() }, 400],
  ['/events/1?after=x', { headers: bearer() }, 400],
  ['/healthz', { method: 'DELETE' }, 405],
  ['/events/1', { method: 'OPTIONS' }, 204],
  ['/events/1', { method: 'POST', body: 'x' }, 401],
  ['/events/1', { method: 'POST', body: 'x', headers: bearer() }, 415],
  ['/events/1', { method: 'POST', body: 'x', headers: { ...bearer(), ...JSON_TYPE } }, 400],
  ['/events/1', { method: 'POST', body: '{"type":"x","data":{}}', headers: { ...bearer(), ...JSON_TYPE } }, 422],
  ['/jobs/k', {}, 405],
  ['/jobs/k', { method: 'POST', body: 'x' }, 401],
  ['/jobs/k', { method: 'POST', body: '{}', headers: { ...bearer(), ...JSON_TYPE } }, 403],
  ['/events/1', { method: 'POST', body: '{"type":"log_entry","data":{"type":"log_entry"}}', headers: { ...bearer(), ...JSON_TYPE } }, 422],
];

test('an origin that is configured may read every answer, with credentials; others may not', async () => {
  for (const [path, options, status] of ANSWERS) {
    for (const [origin, want] of [[here, ALLOWED], [elsewhere, { vary: 'Origin' }], [undefined, { vary: 'Origin' }],
      [`${here}.evil.example`, { vary: 'Origin' }], [here.toUpperCase(), { vary: 'Origin' }], [`${here}:443`, { vary: 'Origin' }],
      ['http://app.example', { vary: 'Origin' }], ['null', { vary: 'Origin' }], ['*', { vary: 'Origin' }], ['', { vary: 'Origin' }]]) {
      const answer = await request(url(path), { ...options, headers: { ...options.headers, ...(origin !== undefined && { Origin: origin }) } });
      assert.equal(answer.status, status, `${path}: ${answer.body}`);
      assert.deepEqual(marks(answer), want, `${path} for ${origin}`);
      assert.equal(answer.headers['cache-control'], 'no-store', path);
    }
  }
});

test('streams are marked, those that are sent away and those that are over, too', async () => {
  const stream = newExecution();
  const headers = { ...bearer(), Origin: alsoHere };
  const want = { ...ALLOWED, 'access-control-allow-origin': alsoHere };
  const client = await SseClient.open(url(`/events/${stream}`), { headers });
  assert.deepEqual(marks(client), want);
  await stack.db.emit(stream, 'execution-complete', { totalTokens: 1, duration: 1, success: true });
  await client.toEnd();
  const over = await request(url(`/events/${stream}`), { headers: { ...headers, 'Last-Event-ID': '1' } });
  assert.equal(over.status, 204);
  assert.deepEqual(marks(over), want);
  assert.equal(over.headers['cache-control'], 'no-store');
});

test('a preflight is answered, without a token, for the origins that are configured', async () => {
  for (const method of ['GET', 'POST']) {
    const answer = await request(url('/events/1'), { method: 'OPTIONS', headers: { Origin: here, ...ask(method) } });
    assert.equal(answer.status, 204);
    assert.deepEqual(marks(answer), { ...ALLOWED, ...PREFLIGHT });
    const other = await request(url('/events/1'), { method: 'OPTIONS', headers: { Origin: elsewhere, ...ask(method) } });
    assert.equal(other.status, 204);
    assert.deepEqual(marks(other), { vary: 'Origin' });
  }
});

test('* allows every origin, and no credentials', async () => {
  for (const origin of [here, elsewhere, 'null']) {
    const answer = await request(`${open.url}/healthz`, { headers: { Origin: origin } });
    assert.deepEqual(marks(answer), { 'vary': 'Origin', 'access-control-allow-origin': '*' });
    const preflight = await request(`${open.url}/events/1`, { method: 'OPTIONS', headers: { Origin: origin, ...ask('GET') } });
    assert.deepEqual(marks(preflight), { 'vary': 'Origin', 'access-control-allow-origin': '*', ...PREFLIGHT });
  }
});

test('a page may read when to come back', async () => {
  const client = await SseClient.open(`${open.url}/events/1`);
  const answer = await request(`${open.url}/events/1`, { headers: { Origin: elsewhere } });
  assert.equal(answer.status, 503);
  assert.match(answer.headers['retry-after'], /^\d+$/);
  assert.deepEqual(marks(answer), { 'vary': 'Origin', 'access-control-allow-origin': '*', 'access-control-expose-headers': 'Retry-After' });
  client.close();
});

test('without the option no answer says anything about origins', async () => {
  const answer = await request(`${closed.url}/events/1`, { method: 'OPTIONS', headers: { Origin: here, ...ask('GET') } });
  assert.equal(answer.status, 204);
  assert.deepEqual(marks(answer), {});
});
