// B3: one execution, many subscribers. Events are published at a rate that grows
// until the subscribers no longer have them all in time; what counts is the most
// that was delivered with the 99th percentile of the latency within the bound.

import { TIMED_STAMPED_EVENT, writes } from './lib/events.js';
import { Subscribers, emit, post } from './lib/load.js';
import { count, figure, ms, progress, rounds, times } from './lib/report.js';
import { startNchan, startRelay, startStreamer } from './lib/servers.js';

const P99_US = 100_000;
const TARGET = 1_000_000; // deliveries/s, with 1,000 subscribers
const RATES = [10, 25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200,
  1350, 1500, 1750, 2000, 2500, 3000, 4000, 5000];
const COMMITS_PER_SECOND = 200; // at a higher rate an INSERT carries several events

const SYSTEMS = {
  pev: { start: (dsn) => startStreamer(dsn), first: 500 },
  nchan: { start: startNchan, first: 100 },
  relay: { start: startRelay, first: 75 },
};

function publish(name, server, { dsn, rate, seconds, stream }) {
  if (name === 'nchan') return post({ port: server.port, path: `/pub/${stream}`, item: TIMED_STAMPED_EVENT, rate, seconds });
  const batch = Math.round(rate / COMMITS_PER_SECOND);
  const settings = { dsn, rate, seconds, first: stream };
  return batch > 1 ? emit({ ...settings, ...writes[name].batch, batch }) : emit({ ...settings, ...writes[name].one });
}

/** Publish at one rate; what was delivered, how fast, and whether that is in time. */
async function step(name, server, subscribers, settings, clients) {
  await subscribers.reset();
  const cpu = server.cpuSeconds();
  const published = await publish(name, server, settings);
  const report = await subscribers.expect(published.events * clients, 30_000);
  const whole = report.deliveries === published.events * clients && report.lost + report.backwards === 0;
  const seconds = (report.last_us - report.first_us) / 1e6;
  const result = {
    rate: settings.rate,
    deliveries: Math.round(report.deliveries / Math.max(seconds, 0.001)),
    p50: report.latency.p50, p99: report.latency.p99, whole,
    // of one core each: tells who is at its limit
    serverCpu: Number(((server.cpuSeconds() - cpu) / Math.max(seconds, 0.001)).toFixed(2)),
    clientCpu: Number((report.cpu_us / 1e6 / Math.max(seconds, 0.001)).toFixed(2)),
    inTime: whole && report.latency.p99 <= P99_US && published.seconds <= settings.seconds + 0.25,
  };
  progress(`    ${name}: ${JSON.stringify(result)}`);
  return result;
}

/** Find the highest rate at which everything is in time, from a guess upwards or downwards. */
async function saturate(name, server, subscribers, settings, clients) {
  let at = RATES.indexOf(SYSTEMS[name].first);
  let best;
  let most = 0; // deliveries/s, in time or not
  for (let direction = 0; at >= 0 && at < RATES.length; at += direction) {
    let result;
    for (let tries = 0; tries < 2 && !result?.inTime; tries++) { // one bad moment is no limit
      result = await step(name, server, subscribers, { ...settings, rate: RATES[at] }, clients);
      if (!result.whole) break;
      most = Math.max(most, result.deliveries);
    }
    if (result.inTime) best = result;
    if (!result.whole) break; // events are still on their way: nothing more can be measured
    if (direction === 0) direction = result.inTime ? 1 : -1;
    else if (result.inTime !== (direction > 0)) break;
  }
  return { ...(best ?? { rate: 0, deliveries: 0, p50: 0, p99: 0 }), most };
}

async function measure(name, { postgres, options }) {
  const dsn = postgres.dsn(await postgres.database('b3'));
  const server = await SYSTEMS[name].start(dsn);
  const seconds = Math.max(1, Math.round(options.seconds / 3));
  const stream = 1;
  const subscribers = await Subscribers.connect(server, { clients: options.subscribers, 'per-stream': options.subscribers, first: stream });
  await publish(name, server, { dsn, rate: 10, seconds: 1, stream }); // warm
  await subscribers.expect(10 * options.subscribers, 5_000);
  try {
    await postgres.settle();
    return await saturate(name, server, subscribers, { dsn, seconds, stream }, options.subscribers);
  } finally {
    await subscribers.close();
    await server.stop();
    await postgres.drop('b3');
  }
}

export async function run(context) {
  const { options } = context;
  const results = await rounds(options.rounds, Object.keys(SYSTEMS), (name) => measure(name, context));
  const best = Object.fromEntries(Object.keys(SYSTEMS).map((name) => [name, figure(results[name], 'deliveries')]));
  const p99 = figure(results.pev, 'p99');
  const cell = (name) => `${count(best[name])}/s (p99 ${ms(figure(results[name], 'p99'))}, at most ${count(figure(results[name], 'most'))}/s)`;
  return [{
    id: 'B3', what: `one execution, ${count(options.subscribers)} subscribers: deliveries`, pev: cell('pev'),
    peers: `nchan ${cell('nchan')}; Node relay ${cell('relay')}`,
    ratio: `${times(best.pev / best.nchan)}; ${times(best.pev / best.relay)}`,
    target: `≥ ${count(TARGET)}/s, p99 ≤ 100 ms`, met: best.pev >= TARGET * 0.99 && p99 <= P99_US,
  }];
}
