// POST: what an event costs that comes over HTTP, beside pev_emit() over libpq. As
// many connections, kept open, each with one event under way; the same executions.

import { TIMED_EVENT, writes } from './lib/events.js';
import { emit, post } from './lib/load.js';
import { count, figure, ratio, rounds, times } from './lib/report.js';
import { startStreamer } from './lib/servers.js';

const ITEM = `{"type": "prompt-start", "data": ${TIMED_EVENT}}`;

const rateOf = ({ events, started_us: from, stopped_us: to }) => ({ rate: Math.round(events * 1e6 / (to - from)) });

/** Both for one database: the first run fills what a first run fills. */
const VARIANTS = {
  async libpq({ dsn, options }) {
    return rateOf(await emit({ dsn, writers: options.writers, streams: options.executions, ...writes.pev.one, rate: 0, seconds: options.seconds }));
  },
  async post({ dsn, options }) {
    const server = await startStreamer(dsn, ['--emit-connections', String(options.writers)]);
    try {
      const settings = { port: server.port, path: '/events/', item: ITEM, connections: options.writers, streams: options.executions };
      await post({ ...settings, rate: 500, seconds: 1 });
      return rateOf(await post({ ...settings, rate: 0, seconds: options.seconds }));
    } finally {
      await server.stop();
    }
  },
};

export async function run({ postgres, options }) {
  const results = await rounds(options.rounds, Object.keys(VARIANTS), async (name) => {
    const dsn = postgres.dsn(await postgres.database('post'));
    try {
      await postgres.settle();
      return await VARIANTS[name]({ dsn, options });
    } finally {
      await postgres.drop('post');
    }
  });
  const [http, libpq] = [figure(results.post, 'rate'), figure(results.libpq, 'rate')];
  return [{
    id: 'POST', what: `an event a request, ${options.writers} connections kept open`, pev: `${count(http)}/s`,
    peers: `pev_emit over libpq ${count(libpq)}/s`, ratio: times(ratio(results.post, results.libpq, 'rate')), target: '–',
  }];
}
