// The databases of B7 and B8, millions of events, a tenth of them in one execution;
// and of E1, one long execution alone.

import { STAMPED_EVENT } from './events.js';
import { progress } from './report.js';

export const LONG = 1; // the long execution; the others follow, ids 2, 3, …
const LOADERS = 2;
const AT_ONCE = 100_000; // rows in one transaction
export const OTHERS = 1000; // executions that share the rest, as B1 has them

/** The statements that make a long execution: [first execution, last, first seq, last] in each. */
function longPieces(execution, events) {
  const list = [];
  for (let seq = 1; seq <= events; seq += AT_ONCE) list.push([execution, execution, seq, Math.min(events, seq + AT_ONCE - 1)]);
  return list;
}

/** The same for all rows. */
function pieces(rows) {
  const long = Math.floor(rows / 10);
  const each = Math.floor((rows - long) / OTHERS);
  const list = longPieces(LONG, long);
  const together = Math.max(1, Math.floor(AT_ONCE / each));
  for (let i = 0; i < OTHERS; i += together) {
    list.push([LONG + 1 + i, LONG + Math.min(OTHERS, i + together), 1, each]);
  }
  return { list, long };
}

/** Load pieces, by several connections; rows with numbers are stored as they are, as a restore does. */
async function loadPieces(postgres, database, list) {
  await postgres.database(database);
  const began = Date.now();
  let done = 0;
  await Promise.all(Array.from({ length: LOADERS }, async () => {
    const client = await postgres.client(database);
    await client.query('SET synchronous_commit = off');
    for (let piece = list.shift(); piece; piece = list.shift()) {
      const { rowCount } = await client.query(
        `INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
         SELECT e, s, 'prompt-start', '${STAMPED_EVENT}'::jsonb, '2025-01-01'::timestamptz + s * interval '1 ms'
           FROM generate_series($1::bigint, $2::bigint) AS e, generate_series($3::bigint, $4::bigint) AS s`, piece);
      done += rowCount;
    }
    await client.end();
  }));
  await postgres.query(database, 'VACUUM ANALYZE assistant_architect_events');
  await postgres.settle();
  progress(`  loaded ${done} rows in ${((Date.now() - began) / 1000).toFixed(0)} s`);
  return done;
}

export async function load(postgres, database, rows) {
  const { list, long } = pieces(rows);
  return { rows: await loadPieces(postgres, database, list), long };
}

/** One execution of so many events. */
export async function loadOne(postgres, database, execution, events) {
  await loadPieces(postgres, database, longPieces(execution, events));
}
