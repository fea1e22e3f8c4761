// B4: how long an event takes from the start of its emit to its client, with many
// executions of one subscriber each and a fixed rate of events over all of them.

import { writes } from './lib/events.js';
import { Subscribers, emit } from './lib/load.js';
import { count, figure, ms, rounds, times } from './lib/report.js';
import { startRelay, startStreamer } from './lib/servers.js';

export const START = { pev: startStreamer, relay: startRelay };

async function measure(name, { postgres, options }) {
  const dsn = postgres.dsn(await postgres.database('b4'));
  const server = await START[name](dsn);
  const subscribers = await Subscribers.connect(server, { clients: options.executions });
  const settings = { dsn, writers: options.writers, streams: options.executions, rate: options.rate, ...writes[name].one };
  try {
    const warm = await emit({ ...settings, seconds: 1 });
    await subscribers.expect(warm.events, 10_000);
    await postgres.settle();
    await subscribers.reset();
    const written = await emit({ ...settings, seconds: options.seconds });
    const report = await subscribers.expect(written.events, 10_000);
    return {
      p50: report.latency.p50, p99: report.latency.p99, max: report.latency.max, commit: written.commit.p50,
      missing: written.events - report.deliveries, disorder: report.lost + report.backwards,
    };
  } finally {
    await subscribers.close();
    await server.stop();
    await postgres.drop('b4');
  }
}

export async function run(context) {
  const { options } = context;
  const results = await rounds(options.rounds, Object.keys(START), (name) => measure(name, context));
  const row = (percentile, title) => {
    const pev = figure(results.pev, percentile);
    const relay = figure(results.relay, percentile);
    return {
      id: 'B4', what: `${count(options.executions)} × 1 subscriber, ${count(options.rate)} events/s: latency ${title}`,
      pev: ms(pev), peers: `Node relay ${ms(relay)}`, ratio: times(pev / relay), target: '< 1 ×',
      met: pev < relay && results.pev.every((result) => result.missing === 0 && result.disorder === 0),
    };
  };
  return [row('p50', 'p50'), row('p99', 'p99')];
}
