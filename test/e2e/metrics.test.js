// /metrics: text that Prometheus takes, and values that move as what they count does.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { Database, SseClient, Streamer, newExecution, poll, request, stopStack, test, useStack, version } from './harness.js';
import { lint, metrics } from './prometheus.js';

const stack = useStack();

const progress = (i) => ['progress', { currentStep: i, totalSteps: 9, percentage: 50, message: `step ${i}` }];
const url = (stream, query = '') => `${stack.streamer.url}/events/${stream}${query}`;

/** What happened between two readings: the differences that are not zero. */
function moved(before, now) {
  return Object.fromEntries([...now].map(([name, value]) => [name, value - before.get(name)]).filter(([, value]) => value !== 0));
}

/** Rows that nothing rings for. */
async function silently(db, stream, seqs) {
  await db.query('ALTER TABLE assistant_architect_events DISABLE TRIGGER USER');
  for (const seq of seqs) {
    await db.query(
      `INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
       VALUES ($1, $2, 'progress', $3, clock_timestamp())`, [stream, seq, JSON.stringify(progress(seq)[1])]);
  }
  await db.query('ALTER TABLE assistant_architect_events ENABLE TRIGGER USER');
}

test('the text is what promtool would pass', async () => {
  const values = await metrics(stack.streamer);
  assert.ok(values.size > 30, `${values.size} series`);
  for (const name of ['process_resident_memory_bytes', 'process_open_fds', 'process_cpu_seconds_total', 'process_start_time_seconds', `pev_build_info{version="${version}"}`]) {
    assert.ok(values.get(name) > 0, name);
  }
  assert.ok(Math.abs(values.get('process_start_time_seconds') - Date.now() / 1000) < 600);
});

test('the linter finds what is wrong', () => {
  const head = '# HELP a_total A.\n# TYPE a_total counter\n';
  lint(`${head}a_total 1\n`);
  for (const text of [
    `${head}a_total 1`, `${head}a_total 1\n\n`, 'a_total 1\n', `${head}a_total 1\na_total 2\n`, `a_total 1\n${head}`, `${head}a_total x\n`,
    `${head}${head}a_total 1\n`, `${head}a_total{b=c} 1\n`, '# HELP a A.\n# TYPE a counter\na 1\n', head, '# HELP a_ms A.\n# TYPE a_ms gauge\na_ms 1\n',
    '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
    '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 1\nh_count 1\n',
  ]) assert.throws(() => lint(text), `not found:\n${text}`);
});

test('HEAD, OPTIONS and other methods', async () => {
  assert.equal((await request(`${stack.streamer.url}/metrics`, { method: 'HEAD' })).body, '');
  assert.match((await request(`${stack.streamer.url}/metrics`, { method: 'OPTIONS' })).headers.allow, /\bGET\b/);
  assert.equal((await request(`${stack.streamer.url}/metrics`, { method: 'POST' })).status, 405);
});

test('events, deliveries, bytes and ages are counted, and gauges return', async () => {
  const id = newExecution();
  for (let i = 1; i <= 3; i++) await stack.db.emit(id, ...progress(i));
  await stack.db.query('SELECT pg_sleep(2)'); // events younger than their way to the streamer count as live
  const before = await metrics(stack.streamer);
  const clients = await Promise.all([1, 2].map(() => SseClient.open(url(id))));
  await Promise.all(clients.map((client) => client.received(3)));
  const history = moved(before, await metrics(stack.streamer));
  assert.equal(history.pev_clients, 2);
  assert.equal(history.pev_streams_watched, 1);
  assert.equal(history.pev_subscriptions_total, 2);
  assert.equal(history['pev_events_read_total{read="tail"}'], 3);
  assert.equal(history.pev_deliveries_total, 6);
  assert.ok(history['pev_backlog_bytes{part="windows"}'] > 300);
  assert.equal(history.pev_event_age_seconds_count, undefined, 'history has no age');

  for (let i = 4; i <= 5; i++) await stack.db.emit(id, ...progress(i));
  await Promise.all(clients.map((client) => client.received(5)));
  const live = moved(before, await metrics(stack.streamer));
  assert.equal(live['pev_events_read_total{read="tail"}'], 5);
  assert.equal(live.pev_deliveries_total, 10);
  assert.equal(live.pev_event_age_seconds_count, 4);
  assert.ok(live.pev_event_age_seconds_sum > 0 && live.pev_event_age_seconds_sum < 20, `${live.pev_event_age_seconds_sum} s`);
  assert.ok(live.pev_doorbells_total >= 1);
  assert.ok(live.pev_database_queries_total >= 2);
  assert.equal(live.pev_sent_bytes_total, clients.reduce((sum, client) => sum + Buffer.byteLength(client.raw), 0));
  assert.equal(live.pev_poll_hits_total, undefined);
  assert.equal(live['pev_reads_total{read="catch_up"}'], undefined, 'who comes first draws the window along');

  clients.forEach((client) => client.close());
  await poll(async () => (await metrics(stack.streamer)).get('pev_clients') === before.get('pev_clients'), 'the clients having left');
  assert.equal((await metrics(stack.streamer)).get('pev_streams_watched'), before.get('pev_streams_watched'));
});

test('events that are not stored are counted as they come and as they go', async () => {
  const before = await metrics(stack.streamer);
  const clients = await Promise.all([1, 2].map(() => SseClient.open(url('channel:metrics'))));
  await stack.db.emit('channel:metrics', 'typing', { userId: 'u_1', isTyping: true });
  await Promise.all(clients.map((client) => client.received(1)));
  const change = moved(before, await metrics(stack.streamer));
  assert.equal(change.pev_events_unstored_total, 1);
  assert.equal(change.pev_deliveries_total, 2);
  clients.forEach((client) => client.close());
});

test('a crowd that comes back at once, each client where it was, does not read the table for each', async () => {
  const CLIENTS = 60, EVENTS = 200;
  const id = newExecution();
  const first = await Promise.all(Array.from({ length: CLIENTS }, () => SseClient.open(url(id))));
  for (let i = 1; i <= EVENTS; i++) await stack.db.emit(id, ...progress(i));
  await Promise.all(first.map((client) => client.received(EVENTS)));
  // Their proxy is killed, say.
  first.forEach((client) => client.close());
  await poll(async () => (await metrics(stack.streamer)).get('pev_clients') === 0, 'everybody having left');
  await stack.db.emit(id, ...progress(EVENTS + 1));
  const before = await metrics(stack.streamer);
  const again = [];
  for (let i = 0; i < CLIENTS; i++) {
    again.push(await SseClient.open(url(id), { headers: { 'Last-Event-ID': String(EVENTS - i) } }));
    if (i % 20 === 0) await again.at(-1).received(i + 1); // not all in the same instant
  }
  await Promise.all(again.map((client, i) => client.received(i + 1)));
  const change = moved(before, await metrics(stack.streamer));
  assert.equal(change['pev_reads_total{read="catch_up"}'], undefined);
  assert.ok(change['pev_reads_total{read="tail"}'] <= 2, `${change['pev_reads_total{read="tail"}']} tail reads`);
  assert.ok(change.pev_database_queries_total <= 3, `${change.pev_database_queries_total} queries`);
  assert.equal(change['pev_events_read_total{read="tail"}'], 1);
  const rows = await stack.db.expected(id);
  again.forEach((client, i) => assert.deepEqual(client.events, rows.slice(EVENTS - i)));

  // The same when the execution has ended: all are told that nothing follows, by nobody's asking.
  await stack.db.emit(id, 'execution-complete', { totalTokens: 1, duration: 1, success: true });
  await Promise.all(again.map((client) => client.toEnd()));
  const ended = await metrics(stack.streamer);
  for (let i = 0; i < 10; i++) {
    assert.equal((await request(url(id), { headers: { 'Last-Event-ID': String(EVENTS + 2) } })).status, 204);
  }
  assert.equal(moved(ended, await metrics(stack.streamer)).pev_database_queries_total, undefined);
});

test('who catches up together reads the table together', async () => {
  const CLIENTS = 20, EVENTS = 3000;
  const id = newExecution();
  await stack.db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
    'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', 500)))) FROM generate_series(1, $2::int) i))`, [id, EVENTS]);
  const live = await SseClient.open(url(id, '?after=now')); // the window is at the end
  await live.until(() => live.retries.length > 0, 'the stream');
  const before = await metrics(stack.streamer);
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => SseClient.open(url(id))));
  await Promise.all(clients.map((client) => client.received(EVENTS)));
  const change = moved(before, await metrics(stack.streamer));
  const rows = await stack.db.expected(id);
  for (const client of clients) assert.deepEqual(client.events, rows);
  assert.ok(change['pev_events_read_total{read="catch_up"}'] < 0.9 * CLIENTS * EVENTS,
    `${change['pev_events_read_total{read="catch_up"}']} events read for ${CLIENTS} clients with ${EVENTS} each`);
  [live, ...clients].forEach((client) => client.close());
});

test('no stream key is a label', async () => {
  const client = await SseClient.open(url('user:somebody'));
  const { body } = await request(`${stack.streamer.url}/metrics`);
  assert.doesNotMatch(body, /somebody/);
  client.close();
});

test('what only the poll found is counted', async () => {
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--poll', '300ms'] });
  after(() => streamer.stop());
  const id = newExecution();
  const client = await SseClient.open(`${streamer.url}/events/${id}`);
  let seq = 0;
  /** How often the poll is said to have found one event, which is emitted so. */
  const found = async (emit) => {
    const hits = async () => (await metrics(streamer)).get('pev_poll_hits_total');
    const before = await hits();
    await emit(++seq);
    await client.received(seq);
    return await hits() - before;
  };
  // The poll may overtake a doorbell that is late, and a row that is found within
  // milliseconds might yet ring and does not count: so neither is tried only once.
  await poll(async () => await found((n) => stack.db.emit(id, ...progress(n))) === 0, 'a doorbell that rang');
  await poll(async () => await found((n) => silently(stack.db, id, [n])) === 1, 'what has no doorbell');
  client.close();
});

test('the database goes and comes', async () => {
  const db = await Database.start();
  const streamer = await Streamer.start({ dsn: db.dsn });
  try {
    await poll(async () => (await metrics(streamer)).get('pev_database_up') === 1, 'the database being up');
    assert.equal((await metrics(streamer)).get('pev_database_reconnects_total'), 0);
    await db.stopServer('immediate');
    await poll(async () => (await metrics(streamer)).get('pev_database_up') === 0, 'the database being down');
    await db.startServer();
    await poll(async () => (await metrics(streamer)).get('pev_database_up') === 1, 'the database being up again');
    assert.equal((await metrics(streamer)).get('pev_database_reconnects_total'), 1);
  } finally {
    await stopStack({ db, streamer });
  }
});
