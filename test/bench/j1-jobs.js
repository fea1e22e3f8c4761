// J1: a queue of jobs that do nothing, emptied by many workers: jobs with their events,
// jobs without any, and graphile-worker's. Then once more while workers are killed, after
// which every job must have one outcome, told once.
//
// A worker is a connection that has one job at a time; all are in this process, as
// graphile-worker has them. To kill one is to destroy its socket, whatever it is doing.

import { Logger, makeWorkerUtils, run as runGraphile } from 'graphile-worker';
import pg from 'pg';
import { sleep } from './lib/process.js';
import { count, figure, ratio, rounds, times } from './lib/report.js';

const WORKERS = 16;
const CHANNELS = 100;
const DATABASE = 'j1';
const LEASE = '1 s';
const KILL_EVERY = 20; // ms
const IDLE = 50; // ms until a worker that found nothing asks again
const PATIENCE = 120_000; // ms

/** Do jobs until it is over; those whose payload says so fail. */
async function work(client, tally) {
  while (!tally.over) {
    const { rows: [job] } = await client.query({ name: 'claim', text: `SELECT * FROM pev_claim('{job}', 'bench', '${LEASE}')` });
    if (!job) {
      await sleep(IDLE);
    } else if (job.payload.fails) {
      await client.query({ name: 'fail', text: "SELECT pev_fail($1, $2, 'fails')", values: [job.job_id, job.attempt] });
    } else {
      await client.query({ name: 'complete', text: "SELECT pev_complete($1, $2, '{}')", values: [job.job_id, job.attempt] });
      if (++tally.done === tally.goal) tally.over = true;
    }
  }
}

/** A queue of jobs in a new database; every 100th fails whenever it is tried, if `failing`. */
async function queue(postgres, options, { events, failing = false }) {
  await postgres.database(DATABASE);
  await postgres.query(DATABASE, "SELECT pev_register_job_kind('job', 'nothing', $1, 5, '0')", [events]);
  await postgres.query(DATABASE, `SELECT count(pev_enqueue('job', jsonb_build_object('fails', $2 AND i % 100 = 0), 'channel:' || i % ${CHANNELS}))
    FROM generate_series(1, $1::int) i`, [options.jobs, failing]);
  await postgres.settle();
}

/** How many a second, of all jobs, from the start of `empty()` to its end. */
async function timed({ jobs }, empty) {
  const began = process.hrtime.bigint();
  await empty();
  return { rate: Math.round(jobs / (Number(process.hrtime.bigint() - began) / 1e9)) };
}

async function pev(events, { postgres, options }) {
  await queue(postgres, options, { events });
  const clients = await Promise.all(Array.from({ length: WORKERS }, () => postgres.client(DATABASE)));
  const tally = { done: 0, goal: options.jobs };
  const result = await timed(options, () => Promise.all(clients.map((client) => work(client, tally))));
  await Promise.all(clients.map((client) => client.end()));
  return result;
}

async function graphile({ postgres, options }) {
  await postgres.database(DATABASE);
  const { PGUSER: user, PGPORT: port } = postgres.env;
  const pgPool = new pg.Pool({ host: '127.0.0.1', port: Number(port), user, database: DATABASE, max: WORKERS + 4 });
  pgPool.on('error', () => {}).on('connect', (client) => client.on('error', () => {})); // it insists on both
  const settings = { pgPool, logger: new Logger(() => () => {}) }; // it would log every job
  const utils = await makeWorkerUtils(settings);
  await utils.migrate();
  await utils.release();
  await postgres.query(DATABASE, "SELECT count(graphile_worker.add_job('nothing', json_build_object('fails', false))) FROM generate_series(1, $1::int)", [options.jobs]);
  await postgres.settle();
  let done = 0;
  let finish;
  const all = new Promise((resolve) => { finish = resolve; });
  const nothing = () => { if (++done === options.jobs) finish(); };
  let runner;
  const result = await timed(options, async () => {
    runner = await runGraphile({ ...settings, concurrency: WORKERS, noHandleSignals: true, taskList: { nothing } });
    await all;
  });
  await runner.stop();
  await pgPool.end();
  return result;
}

// How many jobs took another attempt, and how many did not end as they should or are
// told otherwise than the table has them.
const ACCOUNT = `
  SELECT count(*) FILTER (WHERE state = 'completed' AND attempts > 1) AS again,
    count(*) FILTER (WHERE started <> attempts OR NOT CASE state
      WHEN 'completed' THEN complete = 1 AND failed = 0 AND NOT fails
      WHEN 'failed' THEN complete = 0 AND failed = 1 AND attempts = max_attempts
      ELSE false END) AS faults
  FROM (
    SELECT j.state, j.attempts, j.max_attempts, (j.payload->>'fails')::boolean AS fails,
      count(*) FILTER (WHERE event_type = 'generation_started') AS started,
      count(*) FILTER (WHERE event_type = 'generation_complete') AS complete,
      count(*) FILTER (WHERE event_type = 'generation_failed') AS failed
    FROM pev_job j LEFT JOIN assistant_architect_events e ON event_data->>'jobId' = j.id::text GROUP BY j.id) j`;

/** A worker's life: whenever it is killed, another takes its place. */
async function liveAndDie(postgres, alive, tally) {
  while (!tally.over) {
    const client = await postgres.client(DATABASE);
    client.on('error', () => {}); // its socket was destroyed
    alive.add(client);
    try {
      await work(client, tally);
      await client.end();
    } catch (error) {
      // Killed, or too slow for its lease.
      if (!client.killed && error.code !== '55000') throw error;
      client.connection.stream.destroy();
    }
    alive.delete(client);
  }
}

async function killed({ postgres, options }) {
  await queue(postgres, options, { events: 'generation', failing: true });
  const alive = new Set();
  const tally = { done: 0, over: false };
  let kills = 0;
  const killer = setInterval(() => {
    const victim = [...alive][Math.floor(Math.random() * alive.size)];
    if (!victim || victim.killed) return;
    victim.killed = true;
    victim.connection.stream.destroy();
    kills++;
  }, KILL_EVERY);
  const workers = Promise.all(Array.from({ length: WORKERS }, () => liveAndDie(postgres, alive, tally)));
  try {
    const left = () => postgres.query(DATABASE, 'SELECT FROM pev_job WHERE finished_at IS NULL LIMIT 1');
    for (const end = Date.now() + PATIENCE; (await left()).length > 0; await Promise.race([sleep(100), workers])) {
      if (Date.now() > end) throw new Error(`jobs are left after ${PATIENCE / 1000} s`);
    }
  } finally {
    clearInterval(killer);
    tally.over = true;
  }
  await workers;
  const [{ faults, again }] = await postgres.query(DATABASE, ACCOUNT);
  return { kills, again, faults };
}

const VARIANTS = {
  events: (context) => pev('generation', context),
  silent: (context) => pev(null, context),
  graphile,
  killed,
};

export async function run(context) {
  const { options, postgres } = context;
  const results = await rounds(options.rounds, Object.keys(VARIANTS), (name) => VARIANTS[name](context));
  await postgres.drop(DATABASE);
  const rate = (name) => `${count(figure(results[name], 'rate'))}/s`;
  const row = (name, what) => ({
    id: 'J1', what: `${count(options.jobs)} jobs, ${WORKERS} workers, ${what}`, pev: rate(name), peers: `graphile-worker ${rate('graphile')}`,
    ratio: times(ratio(results[name], results.graphile, 'rate')), target: '–',
  });
  const faults = results.killed.reduce((sum, result) => sum + result.faults, 0);
  return [
    row('events', 'two events each'),
    row('silent', 'without events'),
    {
      id: 'J1', what: `the same with events, ${count(figure(results.killed, 'kills'))} workers killed: jobs without one outcome, told once`,
      pev: `${faults} (${count(figure(results.killed, 'again'))} done in another attempt)`, target: '0', met: faults === 0,
    },
  ];
}
