// The orchestrator: pipelines emit only local events, pev makes one status of them, and a page
// shows it. Each test asserts everything that a subscriber sees.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { DEADLINE, SseClient, newExecution, poll, request, test, useStack, wrapper } from './harness.js';

const stack = useStack();

const PHASES = [
  { name: 'PlanBuilder', label: 'Planning', weight: 1 },
  { name: 'ContextStepBuilder', label: 'Coding', weight: 3 },
  { name: 'Tester', label: 'Testing', weight: 1 },
];
const UNIFIED = 'PipelineStatus,Error,Result';

const plan = (stream, phases = PHASES, every = '1 hour') =>
  stack.db.query('SELECT pev_plan($1::text, $2::jsonb, $3)', [String(stream), JSON.stringify(phases), every]);

/** Events as they were received, without what the clock supplies: ['PhaseStatus', {phase, progress}]. */
function story(events) {
  return events.map(({ event, data }) => {
    const { type, timestamp, ...rest } = JSON.parse(data);
    assert.equal(type, event);
    assert.equal(new Date(timestamp).toISOString(), timestamp, 'ISO 8601 with milliseconds');
    return [event, rest];
  });
}

const status = (index, description, progress, tokenCount) => ['PipelineStatus', {
  phase: { name: PHASES[index].name, label: PHASES[index].label, description }, progress, tokenCount,
}];
const phase = (index, progress, description) => ['PhaseStatus', {
  phase: PHASES[index].name, progress, ...(description && { description }),
}];
const tokens = (tokenCount, index) => ['TokenCount', { tokenCount, ...(index !== undefined && { phase: PHASES[index].name }) }];

// What the pipelines emit, each with the status that pev computes from it, if any.
const RUN = [
  [phase(0, 0, 'Reading the wish'), status(0, 'Reading the wish', 0, 0)],
  [tokens(120, 0)],
  [tokens(54)],
  [phase(0, 1), status(0, 'Reading the wish', 0.2, 174)],
  [phase(1, 0.1, 'Add player orb'), status(1, 'Add player orb', 0.26, 174)],
  [tokens(200, 1)],
  [phase(1, 0.37), status(1, 'Add player orb', 0.42, 374)],
  [['Error', { message: 'Failed to generate code.', details: { attempt: 1 } }]],
  [phase(1, 0.2, 'Add player orb, again'), status(1, 'Add player orb, again', 0.42, 374)],
  [phase(1, 1, 'Add enemies'), status(1, 'Add enemies', 0.8, 374)],
  [phase(2, 1, 'All green'), status(2, 'All green', 1, 374)],
  [tokens(5, 2)],
  [['Result', { summary: 'Game generated successfully.' }], status(2, 'All green', 1, 379)],
];
// The status goes before what caused it. An Error that names no phase gets the current one.
const complete = RUN.flatMap(([[type, data], computed]) => [
  ...(computed ? [computed] : []), [type, type === 'Error' ? { ...data, phase: 'ContextStepBuilder' } : data],
]);

test('a game is generated: what is emitted locally arrives as one status', async () => {
  const id = newExecution();
  await plan(id);
  const all = await SseClient.open(`${stack.streamer.url}/events/${id}`);
  const page = { seen: [], source: new EventSource(`${stack.streamer.url}/events/${id}?types=${UNIFIED}`) };
  for (const type of UNIFIED.split(',')) {
    page.source.addEventListener(type, (e) => {
      page.seen.push({ event: type, data: e.data });
      if (type === 'Result') page.source.close();
    });
  }
  for (const [[type, data]] of RUN) await stack.db.emit(id, type, data);
  await all.toEnd();
  assert.deepEqual(story(all.events), complete);
  assert.deepEqual(all.events, await stack.db.expected(id));
  await poll(() => page.source.readyState === EventSource.CLOSED, 'the page being done');
  const unified = complete.filter(([type]) => UNIFIED.split(',').includes(type));
  assert.deepEqual(story(page.seen), unified);
  // who comes late sees the same, and there is nothing to come back for
  const late = await SseClient.open(`${stack.streamer.url}/events/${id}?types=${UNIFIED}`);
  assert.deepEqual(story((await late.toEnd()).events), unified);
  assert.equal((await request(`${stack.streamer.url}/events/${id}`, { headers: { 'Last-Event-ID': all.lastId } })).status, 204);
});

test('the same over HTTP, in batches', async () => {
  const id = newExecution();
  const post = async (body) => request(`${stack.streamer.url}/events/${id}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  const refused = async (type, data) => {
    const { status: code, body } = await post({ type, data });
    return [code, JSON.parse(body).detail];
  };
  assert.deepEqual(await refused(...RUN[0][0]), [409,
    `stream ${id} has no plan. From "PhaseStatus" pev computes the PipelineStatus of a stream whose phases are declared.`]);
  await plan(id);
  const all = await SseClient.open(`${stack.streamer.url}/events/${id}`);
  assert.deepEqual(await refused('PhaseStatus', { phase: 'Painter', progress: 0.5 }), [422, `phase "Painter" is not in the plan of stream ${id}.`]);
  assert.deepEqual(await refused('PhaseStatus', { phase: 'Tester', progress: 1.1 }), [422, 'invalid event data for "PhaseStatus".']);
  assert.deepEqual(await refused(...RUN[0][1]), [409,
    `stream ${id} has a plan. Its PipelineStatus events are computed from PhaseStatus and TokenCount.`]);
  for (let i = 0; i < RUN.length; i += 3) {
    const { status: code, body } = await post(RUN.slice(i, i + 3).map(([[type, data]]) => ({ type, data })));
    assert.equal(code, 201, body);
  }
  await all.toEnd();
  assert.deepEqual(story(all.events), complete);
});

// Eight pipelines, a phase each, all of them in every stream; now and then one takes back what it did.
const PIPELINES = 8;
const STREAMS = 4;
const EVENTS = wrapper.length > 0 ? 4_000 : 100_000;

test(`${PIPELINES} pipelines emit ${EVENTS} local events: progress is monotonic and no token is lost`, async () => {
  const phases = Array.from({ length: PIPELINES }, (_, i) => ({ name: `pipeline-${i}`, weight: 1 + i }));
  const runs = [];
  for (let i = 0; i < STREAMS; i++) {
    const id = newExecution();
    await plan(id, phases, '250 ms');
    runs.push({ id, sum: 0, statuses: 0, client: await SseClient.open(`${stack.streamer.url}/events/${id}?types=${UNIFIED}`) });
  }
  const pool = stack.db.newPool(PIPELINES);
  const began = Date.now();
  const perPipeline = EVENTS / PIPELINES;

  async function pipeline(index) {
    const connection = await pool.connect();
    const { name } = phases[index];
    for (let done = 0, call = index; done < perPipeline; call++) {
      const run = runs[call % STREAMS];
      const n = Math.min(perPipeline - done, 1 + (call * 7) % 25);
      const events = Array.from({ length: n }, (_, i) => (i === 0
        ? { type: 'PhaseStatus', data: { phase: name, progress: (done % 997) / 1000 } }
        : { type: 'TokenCount', data: { tokenCount: (done + i) % 50, phase: name } }));
      const emit = () => connection.query('SELECT pev_emit_batch($1::bigint, $2::jsonb)', [run.id, JSON.stringify(events)]);
      if (call % 50 === 0) {
        await connection.query('BEGIN');
        await emit();
        await connection.query('ROLLBACK');
      }
      await emit();
      for (const { data } of events) run.sum += data.tokenCount ?? 0;
      run.statuses++;
      done += n;
    }
    for (const { id } of runs) {
      await connection.query(`SELECT pev_emit($1::bigint, 'PhaseStatus', $2)`, [id, JSON.stringify({ phase: name, progress: 1 })]);
    }
    connection.release();
  }
  await Promise.all(phases.map((_, index) => pipeline(index)));
  const elapsed = Date.now() - began;
  await pool.end();
  for (const { id } of runs) await stack.db.emit(id, 'Result', { summary: 'done' });

  for (const { id, sum, statuses, client } of runs) {
    await client.toEnd(10 * DEADLINE);
    const received = story(client.events);
    assert.deepEqual(received.pop(), ['Result', { summary: 'done' }]);
    let before = { progress: 0, tokenCount: 0 };
    for (const [type, { progress, tokenCount }] of received) {
      assert.equal(type, 'PipelineStatus');
      assert.ok(progress >= before.progress && tokenCount >= before.tokenCount, `${progress} after ${before.progress}, ${tokenCount} after ${before.tokenCount}`);
      before = { progress, tokenCount };
    }
    assert.deepEqual(before, { progress: 1, tokenCount: sum });
    // one for each PhaseStatus, and one an interval for tokens alone
    const most = statuses + PIPELINES + 1 + Math.ceil(elapsed / 250) + 1;
    assert.ok(received.length <= most, `${received.length} statuses where ${most} suffice`);
    const [stored] = await stack.db.query(`SELECT count(*) = max(seq) AS no_gap, sum((event_data->>'tokenCount')::int) FILTER (WHERE event_type = 'TokenCount') AS sum
      FROM pev_events($1::bigint)`, [id]);
    assert.deepEqual(stored, { no_gap: true, sum });
  }
  process.stdout.write(`# ${EVENTS} local events in ${elapsed} ms\n`);
});
