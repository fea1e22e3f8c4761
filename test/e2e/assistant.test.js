// An assistant of several prompts, as its documentation tells it: the executor emits where it
// stands and is never broken by that, a page follows, and afterwards the events are asked about
// what happened. Each test asserts everything that a subscriber sees.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { documentedClient, expectedCalls, uiFunctions } from './documented-client.js';
import { SseClient, newExecution, poll, request, test, useStack } from './harness.js';

const stack = useStack();

/** The executor's emitter: what cannot be stored is logged, and the execution goes on. */
const emit = async (id, type, data) => stack.db.value('SELECT pev_try_emit($1::bigint, $2, $3)', [id, type, JSON.stringify(data)]);

// The functions of the documentation, over SQL.
const row = ({ event_type, event_data }) => ({ eventType: event_type, eventData: event_data });
const getExecutionEvents = async (id) => (await stack.db.query('SELECT event_type, event_data FROM pev_events($1::bigint)', [id])).map(row);
const getExecutionEventsByType = async (id, type) =>
  (await stack.db.query('SELECT event_type, event_data FROM pev_events($1::bigint, $2)', [id, type])).map(row);

const prompt = (position, name, hasKnowledge, hasTools) => ['prompt-start', {
  promptId: 100 + position, promptName: name, position, totalPrompts: 3, modelId: 'model-a', hasKnowledge, hasTools,
}];
const complete = (position, outputTokens, duration) => ['prompt-complete', { promptId: 100 + position, outputTokens, duration, cached: position === 2 }];

// A lesson planner of three prompts; the second takes what the first wrote, and calls a tool that fails.
const LESSON = [
  ['execution-start', { totalPrompts: 3, toolName: 'Lesson Planner' }],
  prompt(1, 'Outline', true, false),
  ['knowledge-retrieval-start', { promptId: 101, repositories: [7, 12], searchType: 'hybrid' }],
  ['knowledge-retrieved', { promptId: 101, documentsFound: 5, relevanceScore: 0.87, tokens: 2310 }],
  complete(1, 512, 1200),
  prompt(2, 'Worksheet', false, true),
  ['variable-substitution', { promptId: 102, variables: { outline: '1. Größe\n2. "Form"' }, sourcePrompts: [101] }],
  ['tool-execution-start', { promptId: 102, toolName: 'web_search', parameters: { query: 'tides', site: null } }],
  ['tool-execution-complete', { promptId: 102, toolName: 'web_search', success: false, error: 'timed out' }],
  ['execution-error', { error: 'rate limited', promptId: 102, recoverable: true, details: 'Error: 429\n    at run (executor.ts:12)' }],
  ['progress', { currentStep: 2, totalSteps: 3, percentage: 66.7, message: 'Writing the worksheet' }],
  complete(2, 800, 1800),
  prompt(3, 'Polish', false, false),
  complete(3, 100, 3000),
  ['execution-complete', { totalTokens: 1412, duration: 6100, success: true }],
];
const REPEATED = ['execution-start', 'execution-complete', 'execution-error']; // these tell the execution's number, too

/** Events as they were received, [type, data], without what pev supplies, which is looked at here. */
function story(id, events) {
  const ids = new Set();
  const told = events.map(({ id: seq, event, data }, i) => {
    const { timestamp, eventId, ...rest } = JSON.parse(data);
    assert.equal(seq, String(i + 1));
    assert.equal(new Date(timestamp).toISOString(), timestamp, 'ISO 8601 with milliseconds');
    assert.match(eventId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/, 'a UUIDv7');
    ids.add(eventId);
    if (REPEATED.includes(event)) {
      assert.equal(rest.executionId, id);
      delete rest.executionId;
    }
    return [event, rest];
  });
  assert.equal(ids.size, events.length, 'event ids are unique');
  return told;
}

/** The page of the documentation, which follows an execution. */
function openPage(executionId) {
  const calls = [];
  const ui = uiFunctions.map((name) => (...args) => calls.push([name, ...args]));
  const code = documentedClient.replace('/api/assistant-architect/events/', `${stack.streamer.url}/events/`);
  const source = new Function('EventSource', 'executionId', ...uiFunctions, `${code}\nreturn eventSource;`)(EventSource, executionId, ...ui);
  return { calls, source, closed: () => poll(() => source.readyState === EventSource.CLOSED, 'the page being done') };
}

/** What a subscriber gets who comes when all is over, which must be what was seen live. */
async function assertHistory(id, live) {
  const late = await (await SseClient.open(`${stack.streamer.url}/events/${id}`)).toEnd();
  assert.deepEqual(late.events, live.events);
  assert.deepEqual(live.events, await stack.db.expected(id));
  assert.equal((await request(`${stack.streamer.url}/events/${id}`, { headers: { 'Last-Event-ID': live.lastId } })).status, 204);
}

test('a lesson is planned: a page that waits and one that comes later see all of it', async () => {
  const id = newExecution();
  const subscriber = await SseClient.open(`${stack.streamer.url}/events/${id}`);
  const page = openPage(id);
  await poll(() => page.source.readyState === EventSource.OPEN, 'the page being connected');
  for (const event of LESSON.slice(0, 8)) assert.notEqual(await emit(id, ...event), null);
  const late = openPage(id);
  await poll(() => late.calls.length > 0, 'the late page having the history');
  // the page of the documentation leaves at the first error, recoverable or not
  const error = 1 + LESSON.findIndex(([type]) => type === 'execution-error');
  for (const event of LESSON.slice(8, error)) assert.notEqual(await emit(id, ...event), null);
  for (const { calls, closed } of [page, late]) {
    await closed();
    assert.deepEqual(calls, expectedCalls(LESSON.slice(0, error)));
  }
  for (const event of LESSON.slice(error)) assert.notEqual(await emit(id, ...event), null);
  await subscriber.toEnd();
  assert.deepEqual(story(id, subscriber.events), LESSON);
  await assertHistory(id, subscriber);
});

test('afterwards the events tell what happened', async () => {
  const id = newExecution();
  for (const event of LESSON) await emit(id, ...event);
  const all = await getExecutionEvents(id);
  assert.deepEqual(all.map(({ eventType }) => eventType), LESSON.map(([type]) => type));
  const [start] = await getExecutionEventsByType(id, 'execution-start');
  const [end] = await getExecutionEventsByType(id, 'execution-complete');
  assert.equal(start.eventData.totalPrompts, 3);
  const took = new Date(end.eventData.timestamp) - new Date(start.eventData.timestamp);
  assert.ok(took >= 0 && took < 60_000, `${took} ms`);
  const prompts = all.filter(({ eventType }) => /^prompt-(start|complete)$/.test(eventType));
  assert.deepEqual(prompts.map(({ eventType, eventData }) => [eventType, eventData.promptId]), [101, 102, 103].flatMap(
    (promptId) => [['prompt-start', promptId], ['prompt-complete', promptId]]));
  assert.deepEqual(await stack.db.query('SELECT status, progress::float, tokens::int, events::int, last_message FROM pev_execution($1::bigint)', [id]), [
    { status: 'completed', progress: 1, tokens: 1412, events: LESSON.length, last_message: 'Writing the worksheet' },
  ]);
});

test('an execution fails: the page says so, and nothing comes after', async () => {
  const id = newExecution();
  const failed = [...LESSON.slice(0, 5), prompt(2, 'Worksheet', false, true), ['execution-error', { error: 'no such model', promptId: 102, recoverable: false }]];
  const subscriber = await SseClient.open(`${stack.streamer.url}/events/${id}`);
  const page = openPage(id);
  await poll(() => page.source.readyState === EventSource.OPEN, 'the page being connected');
  for (const event of failed) await emit(id, ...event);
  assert.equal(await emit(id, ...complete(2, 1, 1)), null, 'the executor is told that it is over, and goes on');
  await subscriber.toEnd();
  assert.deepEqual(story(id, subscriber.events), failed);
  await page.closed();
  assert.deepEqual(page.calls, expectedCalls(failed));
  assert.deepEqual(await stack.db.query('SELECT status, last_message FROM pev_execution($1::bigint)', [id]), [{ status: 'failed', last_message: 'no such model' }]);
  await assertHistory(id, subscriber);
});

test('an event that is wrong breaks nothing of what the executor does', async () => {
  const id = newExecution();
  const subscriber = await SseClient.open(`${stack.streamer.url}/events/${id}`);
  const pool = stack.db.newPool(1);
  const connection = await pool.connect();
  const notices = [];
  connection.on('notice', ({ message }) => notices.push(message));
  const tell = (type, data) => connection.query('SELECT pev_try_emit($1::bigint, $2, $3) AS seq', [id, type, JSON.stringify(data)]);
  await connection.query('CREATE TABLE answer (text text)');
  await connection.query('BEGIN');
  await connection.query("INSERT INTO answer VALUES ('of the first prompt')");
  await tell(...LESSON[0]);
  assert.equal((await tell('prompt-start', { promptId: 'seven' })).rows[0].seq, null);
  await connection.query('COMMIT');
  // what is rolled back has not happened
  await connection.query('BEGIN');
  await tell(...LESSON[1]);
  await connection.query('ROLLBACK');
  await tell(...LESSON.at(-1));
  connection.release();
  await pool.end();
  await subscriber.toEnd();
  assert.deepEqual(story(id, subscriber.events), [LESSON[0], LESSON.at(-1)]);
  assert.deepEqual(notices, ['event not stored: invalid event data for "prompt-start"']);
  assert.equal(await stack.db.value('SELECT text FROM answer'), 'of the first prompt');
});
