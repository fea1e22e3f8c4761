// B8: what an event costs its writer when the table is large already.

import { EMIT } from './b1-emit.js';
import { OTHERS } from './lib/history.js';
import { pgbench } from './lib/load.js';
import { count, figure, ratio, rounds, times } from './lib/report.js';

export async function run({ postgres, options, history }) {
  const { database, rows } = await history();
  const results = await rounds(3 * options.rounds, ['large', 'empty'], async (name) => {
    if (name === 'empty') await postgres.database('b8_empty');
    await postgres.settle();
    // Executions 2, 3, …: of the large table those that have events already.
    const script = EMIT(OTHERS).replace('random(1, ', 'random(2, 1 + ');
    const emit = (seconds) => pgbench(postgres, name === 'empty' ? 'b8_empty' : database, script,
      { clients: options.writers, seconds });
    // The first change of a page after a checkpoint writes the whole page to the
    // log, and the large table has more pages: that is a matter of checkpoints.
    await emit(Math.max(2, Math.ceil(options.seconds / 3)));
    return { rate: await emit(options.seconds) };
  });
  await postgres.drop('b8_empty');

  const large = figure(results.large, 'rate');
  const empty = figure(results.empty, 'rate');
  const than = ratio(results.large, results.empty, 'rate');
  return [{
    id: 'B8', what: `pev_emit with ${count(rows)} rows there, against an empty table`, pev: `${count(large)}/s`,
    peers: `empty ${count(empty)}/s`, ratio: times(than), target: '≥ 0.9 ×', met: than >= 0.9,
  }];
}
