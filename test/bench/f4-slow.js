// F4: one execution with many fast subscribers, alone, and beside clients that read a
// long history slowly or not at all: the latency of the fast ones, and the most memory
// that the streamer ever took. The slow ones must get everything in the end, and those
// who take nothing must be closed.

import { STAMPED_EVENT, writes } from './lib/events.js';
import { Subscribers, emit } from './lib/load.js';
import { sleep } from './lib/process.js';
import { count, figure, megabytes, ms, rounds, times } from './lib/report.js';
import { startStreamer } from './lib/servers.js';
import { SlowReader, deadReader } from './lib/slow.js';

const LIVE = 1;
const LONG = 2;
const HISTORY = 60_000; // rows, 17 MB: more than what the kernel takes off a slow reader's hands
const RATE = 200; // events/s
const OTHERS = 10; // slow ones, and as many dead ones
const SETTLE = 2; // seconds for the kernel to take what it takes: so far they are like anyone who resumes (B7)
const PATIENCE = 60_000;
const TARGET_RATIO = 1.5; // of the latencies; less is noise
const TARGET_BYTES = 64 * 2 ** 20; // --backlog-bytes

const BESIDE = { alone: 0, beside: OTHERS };

/** Wait until a question is answered with yes. */
async function until(question, what) {
  for (const end = Date.now() + PATIENCE; !await question(); await sleep(50)) {
    if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE / 1000} s`);
  }
}

/** How many clients has the streamer closed because they took nothing? */
async function evictions(server) {
  const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  return Number(/^pev_evictions_total\{reason="send_timeout"\} (\d+)/m.exec(text)[1]);
}

/** The slow ones get the rest at once, and the dead ones are closed. */
async function finish(server, slow, dead) {
  const late = slow.filter((reader) => reader.last === HISTORY).length;
  if (late > 0) throw new Error(`${late} slow readers had everything before the measurement was over`);
  slow.forEach((reader) => reader.hurry());
  await until(() => slow.every((reader) => reader.last === HISTORY || reader.closed), 'the slow readers');
  await until(async () => await evictions(server) >= dead.length, 'the dead ones being closed');
  slow.forEach((reader) => reader.close());
  dead.forEach((socket) => socket.destroy());
  return slow.filter((reader) => reader.last !== HISTORY || reader.disorder > 0).length + await evictions(server) - dead.length;
}

async function measure(name, { postgres, options }) {
  const dsn = postgres.dsn(await postgres.database('f4'));
  await postgres.query('f4', `INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
    SELECT ${LONG}, s, 'prompt-start', '${STAMPED_EVENT}', '2025-01-01'::timestamptz + s * interval '1 ms' FROM generate_series(1, ${HISTORY}) s`);
  const server = await startStreamer(dsn, ['--send-timeout', `${SETTLE + options.seconds + 3}s`]);
  const subscribers = await Subscribers.connect(server, { clients: options.subscribers, 'per-stream': options.subscribers, first: LIVE });
  const settings = { dsn, first: LIVE, rate: RATE, ...writes.pev.one };
  try {
    const warm = await emit({ ...settings, seconds: 1 });
    await subscribers.expect(warm.events * options.subscribers, 10_000);
    await postgres.settle();
    const slow = Array.from({ length: BESIDE[name] }, () => new SlowReader(server.port, LONG));
    const dead = Array.from({ length: BESIDE[name] }, () => deadReader(server.port, LONG));
    await sleep(SETTLE * 1000);
    await subscribers.reset();
    const written = await emit({ ...settings, seconds: options.seconds });
    const report = await subscribers.expect(written.events * options.subscribers, 10_000);
    const faults = await finish(server, slow, dead);
    return {
      p50: report.latency.p50, p99: report.latency.p99, peak: server.peakBytes(),
      missing: written.events * options.subscribers - report.deliveries,
      faults: faults + report.lost + report.backwards + report.closed,
    };
  } finally {
    await subscribers.close();
    await server.stop();
    await postgres.drop('f4');
  }
}

export async function run(context) {
  const { options } = context;
  const results = await rounds(options.rounds, Object.keys(BESIDE), (name) => measure(name, context));
  const p99 = { alone: figure(results.alone, 'p99'), beside: figure(results.beside, 'p99') };
  const peak = { alone: figure(results.alone, 'peak'), beside: figure(results.beside, 'peak') };
  const whole = Object.values(results).flat().every((result) => result.missing === 0 && result.faults === 0);
  return [
    {
      id: 'F4', what: `${count(options.subscribers)} fast clients beside ${OTHERS} slow and ${OTHERS} dead ones: their latency p99`,
      pev: `${ms(p99.beside)} (p50 ${ms(figure(results.beside, 'p50'))})`,
      peers: `without those: ${ms(p99.alone)} (p50 ${ms(figure(results.alone, 'p50'))})`,
      ratio: times(p99.beside / p99.alone), target: `≤ ${TARGET_RATIO} ×, all complete, the dead closed`,
      met: p99.beside <= TARGET_RATIO * p99.alone && whole,
    },
    {
      id: 'F4', what: 'the streamer’s peak memory', pev: megabytes(peak.beside), peers: `without those: ${megabytes(peak.alone)}`,
      ratio: times(peak.beside / peak.alone), target: '≤ 64 MB more', met: peak.beside - peak.alone <= TARGET_BYTES,
    },
  ];
}
