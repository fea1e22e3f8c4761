// A client that leaves after any event k of n and returns with Last-Event-ID: k
// receives exactly k+1 … n, while two writers keep emitting.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { SseClient, newExecution, poll, request, useStack, test, within } from './harness.js';

const stack = useStack({ settings: { log_min_duration_statement: 0 } }); // what the streamer asks for is in the log

const N = 60;
const AHEAD = 10; // how far the writers may be ahead of the clients that have returned

test(`leaving after event k of ${N} and returning, for every k, while two writers emit`, async () => {
  const id = newExecution();
  const url = `${stack.streamer.url}/events/${id}`;
  const returned = new Set();
  const progress = new EventEmitter().setMaxListeners(0);

  // Reads up to event k, breaks the connection, returns with what it has seen.
  async function leaveAfter(k) {
    const before = new SseClient(url);
    if (k > 0) await before.received(k);
    else await within(before.opened, 'the response');
    before.close();
    const after = await SseClient.open(url, { headers: { 'Last-Event-ID': String(k) } });
    returned.add(k);
    progress.emit('returned');
    await after.toEnd();
    return [...before.events.slice(0, k), ...after.events];
  }

  // Event j+AHEAD is not emitted before the client of event j is back: every client
  // but the last few returns to a stream that is being written to.
  let next = 1;
  async function writer() {
    while (next < N) {
      const j = next++;
      await within(new Promise((resolve) => {
        const look = () => {
          if (j > AHEAD && !returned.has(j - AHEAD)) return;
          progress.off('returned', look);
          resolve();
        };
        progress.on('returned', look);
        look();
      }), `the return of client ${j - AHEAD}`);
      await stack.db.emit(id, 'progress', { currentStep: j, totalSteps: N, percentage: 50, message: `step ${j}` });
    }
  }

  const clients = Array.from({ length: N }, (_, k) => leaveAfter(k));
  await Promise.all([writer(), writer()]);
  await stack.db.emit(id, 'execution-complete', { totalTokens: 1, duration: 1, success: true });
  const all = await Promise.all(clients);
  const rows = await stack.db.expected(id);
  assert.deepEqual(rows.map((row) => row.id), Array.from({ length: N }, (_, i) => String(i + 1)));
  all.forEach((events, k) => assert.deepEqual(events, rows, `the client that left after event ${k}`));

  const last = await request(url, { headers: { 'Last-Event-ID': String(N) } });
  assert.equal(last.status, 204, 'returning after the last event');
});

test('a position beyond the end of a stream waits for what comes after it', async () => {
  const id = newExecution();
  for (let i = 0; i < 3; i++) await stack.db.emit(id, 'execution-start', { totalPrompts: 1, toolName: 't' });
  const client = await SseClient.open(`${stack.streamer.url}/events/${id}`, { headers: { 'Last-Event-ID': '5' } });
  const other = await SseClient.open(`${stack.streamer.url}/events/${id}?after=3`);
  for (let i = 4; i <= 6; i++) await stack.db.emit(id, 'execution-start', { totalPrompts: 1, toolName: 't' });
  await other.received(3);
  await client.received(1);
  await poll(() => client.events.length >= 1, 'event 6');
  assert.deepEqual(client.events.map((e) => e.id), ['6']);
  assert.deepEqual(other.events.map((e) => e.id), ['4', '5', '6']);
  client.close();
  other.close();
});

test('who comes back into a long history gets few rows first, and then more and more', async () => {
  const id = newExecution(), N = 3_000; // of some 600 bytes: more than a window holds
  await stack.db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
    'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', 400)))) FROM generate_series(1, $2::int) i))`, [id, N]);
  /** What a client that resumes there lets the streamer ask for: [after, rows], in order. */
  async function reads(first) {
    const client = await SseClient.open(`${stack.streamer.url}/events/${id}?after=${first}`);
    await client.received(N - first);
    client.close();
    const log = fs.readFileSync(stack.db.env.LOG, 'utf8');
    const all = [...log.matchAll(/ execute pev_read: .*\n.*parameters: \$1 = '\{(\d+)\}', \$2 = '\{(\d+)\}', \$3 = '\{(\d+)\}'/g)]
      .filter(([, stream]) => Number(stream) === id).map(([, , after, rows]) => [Number(after), Number(rows)]);
    return all.slice(all.findIndex(([after]) => after === first));
  }
  for (const [first, where] of [[7, 'where the window begins'], [6, 'before the window']]) {
    const asked = await reads(first);
    assert.deepEqual(asked.slice(0, 3), [[first, 64], [first + 64, 128], [first + 192, 256]], where);
    assert.ok(asked[3][1] > 256 && asked.length < 12, `then as much as is good: ${asked}`);
  }
});
