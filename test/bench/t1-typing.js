// T1: what events of type typing, which are not stored, do to those that are: the latency
// of stored events without any, and with a thousand a second beside them, which clients
// emit in SQL or post to the streamer.

import { writes } from './lib/events.js';
import { Subscribers, emit, post } from './lib/load.js';
import { count, figure, ms, ratio, rounds, times } from './lib/report.js';
import { startStreamer } from './lib/servers.js';

const LISTENERS = 200; // a stream each
const RATE = 500; // stored events/s
const TYPING = 1_000; // a second
const TYPISTS = 50; // connections
const DATABASE = 't1';
const DATA = '{"userId": "u_@", "isTyping": true}';

/** How typing is sent while the others are measured; how many were. */
const VARIANTS = {
  alone: async () => ({ events: 0 }),
  emitted: ({ dsn, seconds }) => emit({
    dsn, seconds, writers: TYPISTS, streams: LISTENERS, rate: TYPING, sql: "SELECT pev_emit($1::bigint, 'typing', $2::jsonb)", item: DATA,
  }),
  posted: ({ server, seconds }) => post({
    port: server.port, path: '/events/', seconds, connections: TYPISTS, streams: LISTENERS, rate: TYPING, item: `{"type": "typing", "data": ${DATA}}`,
  }),
};

async function measure(name, { postgres, options }) {
  const rows = async () => Number((await postgres.query(DATABASE, 'SELECT count(*) FROM assistant_architect_events'))[0].count);
  const dsn = postgres.dsn(await postgres.database(DATABASE));
  const server = await startStreamer(dsn, ['--typing-rate', '0']);
  const subscribers = await Subscribers.connect(server, { clients: LISTENERS });
  const settings = { dsn, writers: 8, streams: LISTENERS, rate: RATE, ...writes.pev.one };
  try {
    await subscribers.expect((await emit({ ...settings, seconds: 1 })).events, 10_000);
    await postgres.settle();
    await subscribers.reset();
    const before = await rows();
    const [written, typed] = await Promise.all([
      emit({ ...settings, seconds: options.seconds }), VARIANTS[name]({ server, dsn, seconds: options.seconds }),
    ]);
    const report = await subscribers.expect(written.events + typed.events, 10_000);
    const { latency, deliveries, unstamped, lost, backwards } = report;
    return {
      p50: latency.p50, p99: latency.p99, stored: written.events, typed: typed.events,
      missing: written.events + typed.events - deliveries, astray: unstamped - typed.events + lost + backwards,
      surplus: await rows() - before - written.events,
    };
  } finally {
    await subscribers.close();
    await server.stop();
    await postgres.drop(DATABASE);
  }
}

export async function run(context) {
  const results = await rounds(context.options.rounds, Object.keys(VARIANTS), (name) => measure(name, context));
  const faultless = Object.values(results).flat().every(({ missing, astray, surplus }) => missing === 0 && astray === 0 && surplus === 0);
  const latencies = (name) => `${ms(figure(results[name], 'p99'))} (p50 ${ms(figure(results[name], 'p50'))})`;
  const row = (name, how) => ({
    id: 'T1', what: `latency of ${count(RATE)} stored events/s beside ${count(TYPING)} typing/s, ${how}: p99`, pev: latencies(name),
    peers: `without: ${latencies('alone')}`, ratio: times(ratio(results[name], results.alone, 'p99')), target: 'no row more, all delivered', met: faultless,
  });
  return [row('emitted', 'emitted in SQL'), row('posted', 'posted')];
}
