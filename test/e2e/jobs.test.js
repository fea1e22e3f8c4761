// Jobs whose workers are killed: every job must still have one outcome, told once. The
// service and the workers have the rights that the README gives their roles. (The way of a
// job from a page and back is in channels.test.js.)

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before } from 'node:test';
import path from 'node:path';
import pg from 'pg';
import { Database, SseClient, Streamer, poll, root, stopStack, test } from './harness.js';
import { makeRoles } from './roles.js';

const WORKERS = 4;
const JOBS = 200;
const KILLS = 8;
const ROOMS = ['channel:general', 'channel:random', 'user:u_1', 'user:u_2'];

const stack = {};
const workers = new Set(); // their processes
let started = 0;
let service; // connections of the service that queues

before(async () => {
  stack.db = await Database.start();
  stack.streamer = await Streamer.start({ dsn: stack.db.dsn });
  await makeRoles(stack.db);
  await stack.db.query(`SELECT pev_register_job_kind('generate_image', 'an image', 'generation', 3, '0'),
    pev_register_job_kind('process_upload', 'copies of an upload', 'upload', 3, '0')`);
  service = poolOf('pev_enqueuer');
});
after(async () => {
  await retireWorkers();
  await service.end();
  await stopStack(stack);
});

function poolOf(user) {
  const { PGPORT, PGDATABASE } = stack.db.env;
  const pool = new pg.Pool({ host: '127.0.0.1', port: Number(PGPORT), user, database: PGDATABASE, max: 2 });
  return pool.on('error', () => {}); // its connections end with the server
}

/** Start a worker process for these kinds; it is replaced whenever it dies. */
function startWorker(kinds, deaths = []) {
  const name = `worker-${++started}`;
  const { PGHOST, PGPORT, PGDATABASE } = stack.db.env;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'node', path.join(root, 'test/e2e/job-worker.js'), name, ...kinds], {
    stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, PGHOST, PGPORT, PGUSER: 'pev_worker', PGDATABASE },
  });
  child.workerName = name;
  workers.add(child);
  child.on('close', (code, signal) => {
    workers.delete(child);
    if (child.retired) return;
    deaths.push(signal ?? code);
    startWorker(kinds, deaths);
  });
  return deaths;
}

async function retireWorkers() {
  for (const child of workers) {
    child.retired = true;
    child.kill('SIGKILL');
  }
  await poll(() => workers.size === 0, 'the end of the workers');
}

const open = (stream) => SseClient.open(`${stack.streamer.url}/events/${stream}`);

test('who waits is woken by a job that is due, once a transaction, and by no other', async () => {
  const { db } = stack;
  const client = new pg.Client({ host: db.env.PGHOST, port: Number(db.env.PGPORT), user: db.env.PGUSER, database: db.env.PGDATABASE });
  const heard = [];
  client.on('notification', ({ channel, payload }) => heard.push([channel, payload]));
  await client.connect();
  await client.query('LISTEN pev_job');
  await service.query(`SELECT pev_enqueue('generate_image', '{}', 'user:n', now() + interval '1 hour')`);
  await service.query(`SELECT pev_enqueue('generate_image', '{}', 'user:n') FROM generate_series(1, 3)`);
  await service.query(`SELECT pev_enqueue('process_upload', '{}', 'user:n', now() - interval '1 hour')`);
  await poll(() => heard.length >= 2, 'notifications');
  assert.deepEqual(heard, [['pev_job', 'generate_image'], ['pev_job', 'process_upload']]);
  await client.end();
  await db.query("DELETE FROM pev_job WHERE channel = 'user:n'");
});

/** What the jobs must have become: by what their payload asks of each attempt. */
function fate({ fails = 0, kills = 0 }, maxAttempts) {
  const bad = Math.max(fails, kills);
  return bad < maxAttempts ? { state: 'completed', least: bad + 1 } : { state: 'failed', least: maxAttempts };
}

test(`${JOBS} jobs, ${WORKERS} workers that are killed: each job has one outcome, told once`, async () => {
  const { db } = stack;
  const maxAttempts = 20; // more than those who are killed can use up
  const last = await db.value('SELECT coalesce(max(id), 0) FROM pev_job');
  const clients = await Promise.all(ROOMS.map(open));
  const payloads = Array.from({ length: JOBS }, (_, i) => {
    if (i % 40 === 7) return { steps: 1, fails: 2 };
    if (i === 11 || i === 12) return { steps: 1, fails: 99 };
    if (i === 20) return { steps: 0, kills: 99 };
    if (i % 50 === 3) return { steps: 1, kills: 1 };
    return { steps: i % 3 };
  });
  const limit = (payload) => (Math.max(payload.fails ?? 0, payload.kills ?? 0) > 50 ? 3 : maxAttempts);
  await service.query(`SELECT pev_enqueue('generate_image', p->'payload', p->>'room', max_attempts => (p->>'limit')::int) FROM unnest($1::jsonb[]) p`,
    [payloads.map((payload, i) => ({ payload, room: ROOMS[i % ROOMS.length], limit: limit(payload) }))]);
  const jobs = `pev_job WHERE id > ${last}`;
  const finished = () => db.value(`SELECT count(*) FROM ${jobs} AND finished_at IS NOT NULL`);
  const deaths = [];
  for (let i = 0; i < WORKERS; i++) startWorker(['generate_image'], deaths);
  for (let kill = 1; kill <= KILLS; kill++) { // always one that holds a job
    await poll(async () => await finished() >= Math.min(kill * JOBS / KILLS / 2, JOBS - WORKERS), 'some jobs being done');
    await poll(async () => {
      const holding = (await db.query(`SELECT worker FROM ${jobs} AND state = 'running'`)).map(({ worker }) => worker);
      const victim = [...workers].find(({ workerName }) => holding.includes(workerName));
      return victim?.kill('SIGKILL') || await finished() === JOBS;
    }, 'a worker that holds a job');
  }
  await poll(async () => await finished() === JOBS, 'the end of all jobs');
  await retireWorkers();
  assert.ok(deaths.length > KILLS && deaths.every((how) => how === 'SIGKILL'), `deaths: ${deaths}`);

  const rows = await db.query(`SELECT id, channel, payload, state, attempts, max_attempts, error FROM ${jobs} ORDER BY id`);
  const told = await db.query(`SELECT event_data->>'jobId' AS id, array_agg(substr(event_type::text, 12) ORDER BY seq) AS steps,
      array_agg(DISTINCT key) AS keys, max(event_data->>'error') AS error
    FROM assistant_architect_events e JOIN pev_stream s ON s.id = e.execution_id
    WHERE event_type::text LIKE 'generation%' GROUP BY 1`);
  const events = new Map(told.map(({ id, ...rest }) => [Number(id), rest]));
  for (const { id, channel, payload, state, attempts, max_attempts: max, error } of rows) {
    const { steps, keys, error: toldError } = events.get(id);
    const { state: expected, least } = fate(payload, max);
    assert.equal(state, expected, `job ${id} ${JSON.stringify(payload)}`);
    assert.ok(attempts >= least && attempts <= max, `job ${id}: ${attempts} attempts`);
    assert.deepEqual(keys, [channel]);
    assert.match(steps.join(' '), /^(started (progress )*)+(complete|failed)$/, `job ${id}`);
    assert.equal(steps.filter((step) => step === 'started').length, attempts, `job ${id}: ${steps}`);
    assert.equal(steps.at(-1), state === 'completed' ? 'complete' : 'failed');
    assert.equal(toldError, state === 'failed' ? error : null);
  }
  assert.equal(rows.find(({ payload }) => payload.kills === 99).error, 'the worker was not heard of again');

  for (const [i, client] of clients.entries()) {
    const expected = await db.expected(ROOMS[i]);
    await client.received(expected.length);
    assert.deepEqual(client.events, expected);
    client.close();
  }
});
