// B6: what an idle subscriber costs in the server's memory. The kernel's socket
// buffers are not counted; they are the same for all.

import { Subscribers } from './lib/load.js';
import { count, figure, kilobytes, rounds } from './lib/report.js';
import { sleep } from './lib/process.js';
import { startNchan, startRelay, startStreamer } from './lib/servers.js';

const TARGET = 10 * 1024;
const WARM_UP = 10; // subscribers, so that what is allocated once is not counted

const VARIANTS = {
  pev: { start: startStreamer, perStream: 1 },
  'pev, one stream': { start: startStreamer, perStream: 1_000_000 },
  nchan: { start: startNchan, perStream: 1 },
  relay: { start: startRelay, perStream: 1 },
};

/** Resident memory when it no longer moves. */
export async function settled(server) {
  let last = server.residentBytes();
  for (let tries = 0; tries < 20; tries++) {
    await sleep(250);
    const bytes = server.residentBytes();
    if (Math.abs(bytes - last) < 64 * 1024) return bytes;
    last = bytes;
  }
  return last;
}

async function measure(name, { postgres, options }) {
  const { start, perStream } = VARIANTS[name];
  const server = await start(postgres.dsn('b6'));
  const warm = await Subscribers.connect(server, { clients: WARM_UP, first: 1_000_000 });
  const before = await settled(server);
  const subscribers = await Subscribers.connect(server, { clients: options.idle, 'per-stream': perStream });
  const after = await settled(server);
  await subscribers.close();
  await warm.close();
  await server.stop();
  return { bytes: (after - before) / options.idle, before };
}

export async function run(context) {
  const { options, postgres } = context;
  await postgres.database('b6');
  const results = await rounds(options.rounds, Object.keys(VARIANTS), (name) => measure(name, context));
  await postgres.drop('b6');
  const bytes = Object.fromEntries(Object.keys(VARIANTS).map((name) => [name, figure(results[name], 'bytes')]));
  const row = (name, what) => ({
    id: 'B6', what: `${count(options.idle)} idle subscribers, ${what}: memory each`, pev: kilobytes(bytes[name]),
    peers: name === 'pev' ? `nchan ${kilobytes(bytes.nchan)}; Node relay ${kilobytes(bytes.relay)}` : undefined,
    ratio: name === 'pev' ? `${(bytes.pev / bytes.nchan).toFixed(2)} ×; ${(bytes.pev / bytes.relay).toFixed(2)} ×` : undefined,
    target: '≤ 10 kB', met: bytes[name] <= TARGET,
  });
  return [row('pev', 'a stream each'), row('pev, one stream', 'one stream')];
}
