// B5: the same subscribers as B4's, and writers that do not stop to breathe. How
// many events a second are delivered, whether all are, and how long the last ones
// are on their way after the writers have stopped.

import { START } from './b4-latency.js';
import { writes } from './lib/events.js';
import { Subscribers, emit } from './lib/load.js';
import { count, figure, ms, ratio, rounds, times } from './lib/report.js';

async function measure(name, { postgres, options }) {
  const dsn = postgres.dsn(await postgres.database('b5'));
  const server = await START[name](dsn);
  const subscribers = await Subscribers.connect(server, { clients: options.executions });
  const settings = { dsn, writers: options.writers, streams: options.executions, ...writes[name].one };
  try {
    const warm = await emit({ ...settings, rate: 500, seconds: 1 });
    await subscribers.expect(warm.events, 10_000);
    await postgres.settle();
    await subscribers.reset();
    const written = await emit({ ...settings, rate: 0, seconds: options.seconds });
    const report = await subscribers.expect(written.events, 30_000);
    return {
      written: Math.round(written.rate),
      delivered: Math.round(report.deliveries * 1e6 / (report.last_us - written.started_us)),
      p99: report.latency.p99,
      backlog: Math.max(0, report.last_us - written.stopped_us), // µs
      missing: written.events - report.deliveries,
      disorder: report.lost + report.backwards,
    };
  } finally {
    await subscribers.close();
    await server.stop();
    await postgres.drop('b5');
  }
}

export async function run(context) {
  const { options } = context;
  const results = await rounds(options.rounds, Object.keys(START), (name) => measure(name, context));
  const worst = (key) => Math.max(...results.pev.map((result) => result[key]));
  const pev = figure(results.pev, 'delivered');
  const relay = figure(results.relay, 'delivered');
  const than = ratio(results.pev, results.relay, 'delivered');
  const faults = worst('missing') + worst('disorder');
  return [
    {
      id: 'B5', what: `the same, ${options.writers} writers unthrottled: events delivered`, pev: `${count(pev)}/s`,
      peers: `Node relay ${count(relay)}/s`, ratio: times(than), target: '≥ 3 ×', met: than >= 3,
    },
    {
      id: 'B5', what: 'lost, doubled or reordered', pev: String(faults),
      peers: `Node relay ${Math.max(...results.relay.map((result) => result.missing))} lost`, target: '0', met: faults === 0,
    },
    {
      id: 'B5', what: 'backlog gone after the writers stop (worst round)', pev: ms(worst('backlog')),
      peers: `Node relay ${ms(Math.max(...results.relay.map((result) => result.backlog)))}`, target: '≤ 1 s',
      met: worst('backlog') <= 1_000_000 && faults === 0,
    },
  ];
}
