// The documented EventSource client against the streamer: it sees every event
// once and in order, history and live alike, and stops at the end.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { documentedClient, expectedCalls, uiFunctions } from './documented-client.js';
import { executionEvents, newExecution, poll, useStack, test } from './harness.js';

const stack = useStack();

/** Run the documented code, unchanged but for the URL. Returns its EventSource and the calls it makes. */
function runClient(executionId, types) {
  const calls = [];
  const ui = uiFunctions.map((name) => (...args) => calls.push([name, ...args]));
  const code = documentedClient.replace('/api/assistant-architect/events/', `${stack.streamer.url}/events/`);
  const eventSource = new Function('EventSource', 'executionId', ...uiFunctions, `${code}\nreturn eventSource;`)(
    EventSource, executionId, ...ui);
  // Beside it, every event of every type, to see that nothing came twice.
  const seen = [];
  for (const type of new Set(types)) eventSource.addEventListener(type, (e) => seen.push({ id: e.lastEventId, event: e.type, data: e.data }));
  return { eventSource, calls, seen };
}

async function emitAll(id, events) {
  for (const [type, data] of events) await stack.db.emit(id, type, data);
}

test('the documented client follows an execution that begins before and ends after it connects', async () => {
  const id = newExecution();
  const events = executionEvents(3);
  await emitAll(id, events.slice(0, 6));
  const { eventSource, calls, seen } = runClient(id, events.map(([type]) => type));
  await poll(() => seen.length === 6, 'the history');
  await emitAll(id, events.slice(6));
  await poll(() => eventSource.readyState === EventSource.CLOSED, 'the client closing');
  assert.deepEqual(calls, expectedCalls(events));
  assert.deepEqual(seen, await stack.db.expected(id));
  assert.equal(seen.length, events.length);
});

test('the documented client waits for an execution that does not exist yet', async () => {
  const id = newExecution();
  const events = executionEvents(1);
  const { eventSource, calls, seen } = runClient(id, events.map(([type]) => type));
  await poll(() => eventSource.readyState === EventSource.OPEN, 'the connection');
  assert.deepEqual(calls, []);
  await emitAll(id, events);
  await poll(() => eventSource.readyState === EventSource.CLOSED, 'the client closing');
  assert.deepEqual(calls, expectedCalls(events));
  assert.deepEqual(seen, await stack.db.expected(id));
});

test('the documented client shows an error and stops', async () => {
  const id = newExecution();
  const events = [...executionEvents(2).slice(0, 7), ['execution-error', { error: 'model unavailable', promptId: 102, recoverable: false }]];
  const { eventSource, calls } = runClient(id, events.map(([type]) => type));
  await emitAll(id, events);
  await poll(() => eventSource.readyState === EventSource.CLOSED, 'the client closing');
  assert.deepEqual(calls, expectedCalls(events));
});

test('an EventSource that does not close itself is stopped by the server after the end', async () => {
  const id = newExecution();
  const events = executionEvents(1);
  await emitAll(id, events);
  const eventSource = new EventSource(`${stack.streamer.url}/events/${id}`);
  const seen = [];
  for (const [type] of events) eventSource.addEventListener(type, (e) => seen.push(e.lastEventId));
  // It reconnects with Last-Event-ID at the end and is answered 204, which ends it.
  await poll(() => eventSource.readyState === EventSource.CLOSED, 'the server stopping the client');
  assert.deepEqual(seen, events.map((_, i) => String(i + 1)));
});
