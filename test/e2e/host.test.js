// Where everybody is served on loopback, a page whose name was made to lead there
// is not: its requests are for a host that is not the streamer's.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { Streamer, request, streamerPath, test, useStack } from './harness.js';
import { KeyRing } from './jwt.js';

const stack = useStack();
const event = '{"type": "Error", "data": {"message": "m"}}';

async function statuses(streamer, host) {
  const ask = async (path, options = {}) => {
    const answer = await request(`${streamer.url}${path}`, { ...options, headers: { Host: host, 'Content-Type': 'application/json' } });
    if (answer.status === 421) {
      assert.match(answer.headers['content-type'], /^application\/problem\+json/);
      assert.match(answer.body, /Misdirected Request.*allowed host/);
    }
    return answer.status;
  };
  return [await ask('/healthz'), await ask('/events/1?after=x'), await ask('/events/1', { method: 'POST', body: event }), await ask('/events/1', { method: 'OPTIONS' })];
}

const SERVED = [200, 400, 201, 204];
const REFUSED = [421, 421, 421, 421];

async function withStreamer(args, body) {
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args });
  try {
    await body(streamer);
  } finally {
    await streamer.stop();
  }
}

test('localhost and addresses are served, other names are not, and nothing is stored for them', async () => {
  for (const host of ['evil.example', 'evil.example:8080', 'localhost.evil.example', '127.0.0.1.evil.example']) {
    assert.deepEqual(await statuses(stack.streamer, host), REFUSED, host);
  }
  assert.equal(await stack.db.value('SELECT count(*) FROM assistant_architect_events'), 0);
  for (const host of ['localhost', `localhost:${stack.streamer.port}`, '127.0.0.1', '[::1]:1', 'app.localhost']) {
    assert.deepEqual(await statuses(stack.streamer, host), SERVED, host);
  }
});

test('--allowed-host', () => withStreamer(['--allowed-host', 'pev.example', '--allowed-host', 'other.example'], async (streamer) => {
  for (const host of ['pev.example', 'pev.example:443', 'OTHER.example', 'localhost']) assert.deepEqual(await statuses(streamer, host), SERVED, host);
  for (const host of ['x.pev.example', 'evil.example']) assert.deepEqual(await statuses(streamer, host), REFUSED, host);
}));

test('with a key, or without any on purpose, the host does not matter', async () => {
  const ring = new KeyRing();
  ring.secret();
  await withStreamer(['--insecure-no-auth'], async (streamer) => assert.deepEqual(await statuses(streamer, 'evil.example'), SERVED));
  await withStreamer(['--jwt-secret-file', ring.file('secret')], async (streamer) => assert.deepEqual(await statuses(streamer, 'evil.example'), [200, 401, 401, 204]));
  for (const args of [['--insecure-no-auth'], ['--jwt-secret-file', ring.file('secret')]]) {
    assert.throws(() => execFileSync(streamerPath, ['--allowed-host', 'pev.example', ...args], { stdio: 'pipe' }), ({ stderr }) => /--allowed-host: with keys/.test(stderr));
  }
});
