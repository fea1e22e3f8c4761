// B1: what an event costs its writer. pgbench, many writers, each transaction one
// event of one of many executions.

import { EVENT, STAMPED_EVENT } from './lib/events.js';
import { pgbench } from './lib/load.js';
import { count, figure, ratio, rounds, times } from './lib/report.js';

export const EMIT = (executions) => `\\set e random(1, ${executions})
SELECT pev_emit(:e::bigint, 'prompt-start', '${EVENT}');`;

// pgbench draws the peers' numbers: the server has no work with them.
const insertInto = (table) => (executions) => `\\set e random(1, ${executions})
\\set s random(1, 1000000000000000)
INSERT INTO ${table} (execution_id, seq, event_type, event_data)
VALUES (:e, :s, 'prompt-start', '${STAMPED_EVENT}');`;

const VARIANTS = {
  bare: { script: insertInto('bare_events') },
  notify: { script: insertInto('notify_events') },
  emit: { script: EMIT },
  insert: {
    script: (executions) => `\\set e random(1, ${executions})
INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
VALUES (:e, 'prompt-start', '${EVENT}');`,
  },
  off: { script: EMIT, pgoptions: '-c pev.notifier=off' },
};

export async function run({ postgres, options }) {
  const names = Object.keys(VARIANTS);
  for (const name of names) await postgres.database(`b1_${name}`);
  const results = await rounds(3 * options.rounds, names, async (name) => {
    const { script, pgoptions } = VARIANTS[name];
    await postgres.settle();
    const rate = await pgbench(postgres, `b1_${name}`, script(options.executions),
      { clients: options.writers, seconds: options.seconds, pgoptions });
    return { rate };
  });
  for (const name of names) await postgres.drop(`b1_${name}`);

  const rate = Object.fromEntries(names.map((name) => [name, figure(results[name], 'rate')]));
  const than = (name, other) => ratio(results[name], results[other], 'rate');
  const what = `${options.writers} writers, ${count(options.executions)} executions`;
  return [
    {
      id: 'B1', what: `pev_emit, ${what}`, pev: `${count(rate.emit)}/s`,
      peers: `bare INSERT ${count(rate.bare)}/s`, ratio: times(than('emit', 'bare')),
      target: '≥ 0.85 ×', met: than('emit', 'bare') >= 0.85,
    },
    {
      id: 'B1', what: 'the same', pev: `${count(rate.emit)}/s`,
      peers: `trigger with pg_notify ${count(rate.notify)}/s (${times(than('notify', 'bare'))} of bare)`,
      ratio: times(than('emit', 'notify')), target: '≥ 3.5 ×', met: than('emit', 'notify') >= 3.5,
    },
    {
      id: 'B1', what: 'plain INSERT into the events table', pev: `${count(rate.insert)}/s`,
      peers: `bare INSERT ${count(rate.bare)}/s`, ratio: times(than('insert', 'bare')), target: '–',
    },
    {
      id: 'B1', what: 'pev_emit with pev.notifier = off', pev: `${count(rate.off)}/s`,
      peers: `bare INSERT ${count(rate.bare)}/s`, ratio: times(than('off', 'bare')), target: '–',
    },
  ];
}
