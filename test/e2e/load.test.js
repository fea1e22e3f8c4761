// Many clients on many executions while many writers emit: each client has exactly
// the rows of its execution, in order.

import assert from 'node:assert/strict';
import { SseClient, DEADLINE, useStack, test, wrapper } from './harness.js';

const stack = useStack();

const CLIENTS = 300;
const EXECUTIONS = 100;
const WRITERS = 8;
const EVENTS = wrapper.length > 0 ? 5_000 : 20_000; // valgrind is some thirty times slower

/** Pseudo-random numbers that are the same in every run. */
function random(seed) {
  return () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
}

test(`${CLIENTS} clients on ${EXECUTIONS} executions, ${WRITERS} writers, ${EVENTS} events`, async () => {
  const first = 50_000;
  const perExecution = EVENTS / EXECUTIONS;
  const clients = [];
  // Two thirds of the clients are there from the beginning, one third comes in the middle.
  const connect = (i) => clients.push({ id: first + (i % EXECUTIONS), sse: new SseClient(`${stack.streamer.url}/events/${first + (i % EXECUTIONS)}`) });
  for (let i = 0; i < (CLIENTS * 2) / 3; i++) connect(i);
  await Promise.all(clients.map(({ sse }) => sse.opened));

  // How many events each execution still has to get, the last one being its end.
  const left = Array(EXECUTIONS).fill(perExecution - 1);
  const open = left.map((_, i) => i);
  let emitted = 0;
  const pool = stack.db.newPool(WRITERS);

  // Single emits, batches, plain INSERTs and a rollback now and then, on any execution.
  async function writer(seed) {
    const next = random(seed);
    const data = (i) => JSON.stringify({ currentStep: i, totalSteps: perExecution, percentage: 1, message: `“${i}” é 漢字 \\ "x"`.repeat(1 + Math.floor(next() * 5)) });
    const connection = await pool.connect();
    while (open.length > 0) {
      const at = Math.floor(next() * open.length);
      const execution = open[at];
      const n = Math.min(left[execution], next() < 0.1 ? 5 : 1);
      left[execution] -= n;
      if (left[execution] === 0) open.splice(at, 1);
      const id = first + execution;
      if (next() < 0.05) {
        await connection.query('BEGIN');
        await connection.query('SELECT pev_emit($1::bigint, $2, $3::jsonb)', [id, 'progress', data(-1)]);
        await connection.query('ROLLBACK');
      }
      if (n > 1) {
        const batch = Array.from({ length: n }, (_, i) => `{"type": "progress", "data": ${data(i)}}`);
        await connection.query('SELECT pev_emit_batch($1::bigint, $2::jsonb)', [id, `[${batch}]`]);
      } else if (next() < 0.2) {
        await connection.query("INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES ($1, 'progress', $2)", [id, data(1)]);
      } else {
        await connection.query('SELECT pev_emit($1::bigint, $2, $3::jsonb)', [id, 'progress', data(1)]);
      }
      emitted += n;
      if (emitted > EVENTS / 2 && clients.length < CLIENTS) for (let i = clients.length; i < CLIENTS; i++) connect(i);
    }
    connection.release();
  }

  await Promise.all(Array.from({ length: WRITERS }, (_, i) => writer(i + 1)));
  await Promise.all(left.map((_, i) => stack.db.emit(first + i, 'execution-complete', { totalTokens: 1, duration: 1, success: true })));
  await pool.end();
  assert.equal(await stack.db.value('SELECT count(*) FROM assistant_architect_events WHERE execution_id >= $1', [first]), EVENTS);

  assert.equal(clients.length, CLIENTS);
  await Promise.all(clients.map(({ sse }) => sse.toEnd(4 * DEADLINE)));
  for (let execution = 0; execution < EXECUTIONS; execution++) {
    const rows = await stack.db.expected(first + execution);
    assert.equal(rows.length, perExecution);
    for (const { sse } of clients.filter(({ id }) => id === first + execution)) {
      assert.deepEqual(sse.events, rows);
    }
  }
});
