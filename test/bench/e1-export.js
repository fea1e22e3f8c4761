// E1: the events of a long execution as a file, beside COPY of the same rows by psql;
// the memory that takes; and what it does to those who listen meanwhile.

import fs from 'node:fs';
import path from 'node:path';
import { writes } from './lib/events.js';
import { loadOne } from './lib/history.js';
import { Subscribers, emit } from './lib/load.js';
import { run as runProgram, scratchDir } from './lib/process.js';
import { count, figure, megabytes, ms, ratio, rounds, times } from './lib/report.js';
import { startStreamer } from './lib/servers.js';

const LONG = 1_000_000_000; // the execution; those that are listened to are 1, 2, 3, ...
const COLUMNS = 'seq, id, event_type, created_at, event_data';
const LISTENERS = 200;
const RATE = 500; // events/s, for them

/** Export, to nowhere; events and bytes a second. */
async function download({ server, events }, headers, format = 'csv', file = '/dev/null') {
  const output = await runProgram('curl', [
    '-sf', '-o', file, '-w', '%{size_download} %{time_total}', ...headers.flatMap((header) => ['-H', header]),
    `http://127.0.0.1:${server.port}/events/${LONG}/export?format=${format}`,
  ]);
  const [bytes, seconds] = output.split(' ').map(Number);
  return { rate: Math.round(events / seconds), bytes, perSecond: Math.round(bytes / seconds) };
}

/** The same rows, as psql copies them to a file. */
async function copy({ postgres, events }, to) {
  const began = process.hrtime.bigint();
  await runProgram(path.join(postgres.env.BINDIR, 'psql'), ['-Xqc',
    `\\copy (SELECT ${COLUMNS} FROM assistant_architect_events WHERE execution_id = ${LONG} ORDER BY seq) TO ${to} (FORMAT csv, HEADER)`,
    postgres.dsn('export')]);
  return { rate: Math.round(events / (Number(process.hrtime.bigint() - began) / 1e9)) };
}

/** Latency of what is live, while one export follows the other, or none. */
async function listen({ server, postgres, options }, exporting) {
  const subscribers = await Subscribers.connect(server, { clients: LISTENERS });
  const settings = { dsn: postgres.dsn('export'), writers: 8, streams: LISTENERS, rate: RATE, ...writes.pev.one };
  let on = exporting;
  try {
    await subscribers.expect((await emit({ ...settings, seconds: 1 })).events, 10_000);
    await subscribers.reset();
    const exports = (async () => {
      while (on) await download({ server, events: 1 }, []);
    })();
    const written = await emit({ ...settings, seconds: options.seconds });
    const { latency, deliveries, lost, backwards } = await subscribers.expect(written.events, 10_000);
    on = false;
    await exports;
    return { p50: latency.p50, p99: latency.p99, whole: deliveries === written.events && lost + backwards === 0 };
  } finally {
    on = false;
    await subscribers.close();
  }
}

const VARIANTS = {
  csv: (bench) => download(bench, []),
  copy: (bench) => copy(bench, "'/dev/null'"),
  gzip: (bench) => download(bench, ['Accept-Encoding: gzip']),
  copyGzip: (bench) => copy(bench, "PROGRAM 'gzip -1 > /dev/null'"),
  ndjson: (bench) => download(bench, [], 'ndjson'),
  alone: (bench) => listen(bench, false),
  beside: (bench) => listen(bench, true),
};

/** One export must be what it should be; returns the peak of memory after that of a thousand events. */
async function check({ server, events }) {
  const file = path.join(scratchDir(), 'export.csv');
  await runProgram('curl', ['-sf', '-o', file, `http://127.0.0.1:${server.port}/events/${LONG}/export?format=csv&before=1001`]);
  const small = server.peakBytes();
  await download({ server, events }, [], 'csv', file);
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  fs.rmSync(file);
  if (lines.length !== events + 2 || !lines[events].startsWith(`${events},`)) throw new Error(`the export has ${lines.length} lines`);
  return small;
}

export async function run({ postgres, options }) {
  const events = options.exported;
  await loadOne(postgres, 'export', LONG, events);
  const server = await startStreamer(postgres.dsn('export'));
  const bench = { server, postgres, options, events };
  const small = await check(bench);
  const files = await rounds(options.rounds, Object.keys(VARIANTS).slice(0, 5), (name) => VARIANTS[name](bench));
  const peak = server.peakBytes();
  const live = await rounds(options.rounds, ['alone', 'beside'], (name) => VARIANTS[name](bench));
  await server.stop();
  await postgres.drop('export');

  const what = `${count(events)} events of one execution`;
  const speed = (name) => `${count(figure(files[name], 'rate'))} events/s (${megabytes(figure(files[name], 'perSecond'))}/s)`;
  const compared = (name, other) => ({
    pev: speed(name), peers: `psql \\copy ${count(figure(files[other], 'rate'))} events/s`,
    ratio: times(ratio(files[name], files[other], 'rate')), target: '–',
  });
  return [
    { id: 'E1', what: `export of ${what}, as CSV`, ...compared('csv', 'copy') },
    { id: 'E1', what: 'the same with gzip, beside COPY to gzip -1', ...compared('gzip', 'copyGzip') },
    { id: 'E1', what: 'the same as ndjson', pev: speed('ndjson'), target: '–' },
    {
      id: 'E1', what: 'the streamer’s peak memory', pev: megabytes(peak), peers: `after 1,000 events: ${megabytes(small)}`,
      ratio: times(peak / small), target: '≤ 2 MB more', met: peak <= small + (2 << 20),
    },
    {
      id: 'E1', what: `latency of ${count(RATE)} live events/s beside exports, one after the other: p99`,
      pev: `${ms(figure(live.beside, 'p99'))} (p50 ${ms(figure(live.beside, 'p50'))})`,
      peers: `without: ${ms(figure(live.alone, 'p99'))} (p50 ${ms(figure(live.alone, 'p50'))})`,
      ratio: times(ratio(live.beside, live.alone, 'p99')), target: 'all delivered', met: [...live.beside, ...live.alone].every(({ whole }) => whole),
    },
  ];
}
