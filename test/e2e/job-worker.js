// A worker process, to be killed: claims jobs, does what their payload says, and waits to
// be woken. Usage: node job-worker.js NAME KIND…; the database is that of the environment.
//
// A payload: {"steps": reports to give, "fails": attempts that fail, "kills": attempts that
// kill their worker}.

import pg from 'pg';

const LEASE = '1 s';
const IDLE = 200; // ms until it asks again by itself

const [name, ...kinds] = process.argv.slice(2);
const client = new pg.Client();
let ring = () => {};
client.on('notification', () => ring());
await client.connect();
await client.query('LISTEN pev_job');

/** What is to be done for a job; `call` tells the database. */
async function work({ payload, attempt }, call) {
  const { steps = 1, fails = 0, kills = 0 } = payload;
  for (let step = 1; step <= steps; step++) {
    await call('pev_job_progress($1, $2, $3, $4)', Math.floor(100 * step / (steps + 1)), `step ${step} by ${name}`);
  }
  if (attempt <= kills) process.kill(process.pid, 'SIGKILL');
  if (attempt <= fails) throw new Error(`attempt ${attempt} fails`);
  return { by: name };
}

for (;;) {
  const rung = new Promise((resolve) => { ring = resolve; });
  const { rows: [job] } = await client.query('SELECT * FROM pev_claim($1, $2, $3)', [kinds, name, LEASE]);
  if (!job) {
    await Promise.race([rung, new Promise((resolve) => { setTimeout(resolve, IDLE); })]);
    continue;
  }
  const call = (sql, ...more) => client.query(`SELECT ${sql}`, [job.job_id, job.attempt, ...more]);
  try {
    await call('pev_complete($1, $2, $3)', await work(job, call));
  } catch (error) {
    if (error.code === '55000') continue;
    await call('pev_fail($1, $2, $3)', error.message).catch((lost) => { if (lost.code !== '55000') throw lost; });
  }
}
