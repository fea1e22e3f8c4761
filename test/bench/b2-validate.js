// B2: what validating one prompt-start costs. A loop in SQL, less the same loop
// with a function that does nothing with the same argument.

import { STAMPED_EVENT } from './lib/events.js';
import { figure, rounds } from './lib/report.js';

const LOOPS = 1_000_000;
// What is_jsonb_valid takes for the same schema and event. Debian has no package
// of it, so it is not measured in this run.
const IS_JSONB_VALID_US = 4.0;

const EXPRESSIONS = { empty: 'pg_typeof(data)', valid: "pev_is_valid('prompt-start', data)" };

export async function run({ postgres, options }) {
  await postgres.database('b2');
  const client = await postgres.client('b2');
  await client.query('SET jit = off');
  await client.query('SET max_parallel_workers_per_gather = 0');
  const loop = (expression) => `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)
    SELECT count(${expression}) FROM (SELECT '${STAMPED_EVENT}'::jsonb AS data OFFSET 0) AS event,
           generate_series(1, ${LOOPS})`;
  for (const expression of Object.values(EXPRESSIONS)) await client.query(loop(expression)); // warm
  const results = await rounds(5 * options.rounds, Object.keys(EXPRESSIONS), async (name) => {
    const { rows } = await client.query(loop(EXPRESSIONS[name]));
    return { us: rows[0]['QUERY PLAN'][0]['Execution Time'] * 1000 / LOOPS };
  });
  await client.end();
  await postgres.drop('b2');

  const us = figure(results.valid, 'us') - figure(results.empty, 'us');
  return [{
    id: 'B2', what: 'validating one prompt-start', pev: `${us.toFixed(3)} µs`,
    peers: `is_jsonb_valid ${IS_JSONB_VALID_US.toFixed(1)} µs (measured elsewhere); the loop without it ${figure(results.empty, 'us').toFixed(2)} µs`,
    ratio: `${(IS_JSONB_VALID_US / us).toFixed(1)} ×`, target: '≤ 0.4 µs', met: us <= 0.4,
  }];
}
