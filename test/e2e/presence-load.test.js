// A thousand users come and half of them go within five seconds, through two streamers,
// some of them too slow to be told of each: in the end every client that is left knows
// exactly who is.

import assert from 'node:assert/strict';
import { DEADLINE, poll, test } from './harness.js';
import { Listener, useStreamers } from './listener.js';
import { metrics } from './prometheus.js';

const USERS = 1_000;
const WITHIN = 5_000; // milliseconds

const stack = useStreamers(['--presence', 'channel', '--presence-grace', '2s', '--send-timeout', '120s']);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const names = new Map();

/** Does it stop reading as soon as it has begun, with history to fill what the kernels take? */
const isSlow = (i) => i % 200 === 1;

function enter(i) {
  const sub = `user-${String(i).padStart(4, '0')}`;
  names.set(i, [sub, `User ${i}`]);
  const { url } = i % 2 === 0 ? stack.streamer : stack.other;
  const token = stack.ring.token({ sub, name: `User ${i}`, exp: Math.floor(Date.now() / 1000) + 3600 });
  const client = new Listener(`${url}/events/channel:lobby`, token, isSlow(i) ? '' : 'after=now');
  if (isSlow(i)) client.request.once('response', () => client.hold());
  return client;
}

test('when a thousand come and half of them go, everybody left knows who is there', async () => {
  const result = { id: 'm', provider: 'p', timestamp: '2026-01-01T00:00:00Z', content: 'x'.repeat(1_000_000) };
  for (let i = 0; i < 24; i++) await stack.db.emit('channel:lobby', 'ai_chat', { result });
  const started = performance.now();
  const clients = new Map();
  for (let i = 0; i < USERS; i++) {
    clients.set(i, enter(i));
    // Who came some time ago leaves again, two of four.
    const leaves = i - USERS / 5;
    if (leaves >= 0 && leaves % 4 > 1) {
      clients.get(leaves).close();
      clients.delete(leaves);
    }
    // Pacing, not waiting: so many a second.
    const ahead = (i / USERS) * 0.8 * WITHIN - (performance.now() - started);
    if (ahead > 0) await pause(ahead);
  }
  for (const [i, client] of clients) {
    if (i % 4 > 1 && !isSlow(i)) {
      client.close();
      clients.delete(i);
    }
  }
  const took = performance.now() - started;
  process.stdout.write(`# ${USERS} came and ${USERS - clients.size} left in ${Math.round(took)} ms\n`);
  const left = JSON.stringify(Object.fromEntries([...clients.keys()].map((i) => names.get(i)).sort(([a], [b]) => (a < b ? -1 : 1))));

  const slow = [...clients].filter(([i]) => isSlow(i)).map(([, client]) => client);
  assert.ok(slow.length === 5 && clients.size >= USERS / 2, `${clients.size} left, ${slow.length} of them slow`);
  const isWrong = (client) => client.users?.size !== clients.size || JSON.stringify(client.present) !== left;
  /** Wait until these know who is there. It takes no longer to look than to be told. */
  const know = async (some, what) => {
    let wrong = some;
    await poll(() => (wrong = wrong.filter(isWrong)).length === 0, what, 3 * DEADLINE).catch((error) => {
      const [{ users, lists }] = wrong;
      throw new Error(`${error.message}: ${wrong.length} do not, such as one who knows ${users?.size} of ${clients.size} users after ${lists} lists`);
    });
  };
  await know([...clients.values()].filter((client) => !slow.includes(client)), 'everybody who reads knowing who is there');
  slow.forEach((client) => client.release());
  await know(slow, 'the slow ones knowing it, too');
  assert.deepEqual([...clients.values()].filter(isWrong), [], 'nor is that changed by anything later');
  for (const { url } of [stack.streamer, stack.other]) {
    assert.equal((await metrics({ url })).get('pev_presence_users'), clients.size);
  }
  const told = slow.slice(0, 3).map((client) => [client.lists, client.changes.length]);
  assert.ok(told.every(([lists, changes]) => lists > 1 && changes < USERS / 2), `the first of them were told by lists: ${told.join(' ')}`);
  assert.ok([...clients.values()].every((client) => !client.ended), 'nobody was cut off');
  [...clients.values()].forEach((client) => client.close());
  await poll(async () => (await metrics(stack.streamer)).get('pev_presence_users') === 0, 'everybody having left');
});
