// P1: what nginx and Caddy, in the configurations that are shipped, and the streamer's
// own TLS add to an event's way, to a client that is as a browser; and what an idle
// subscriber over TLS costs in memory.

import path from 'node:path';
import readline from 'node:readline';
import { Authority } from '../e2e/certificates.js';
import { EVENT, writes } from './lib/events.js';
import { emit } from './lib/load.js';
import { bench, start } from './lib/process.js';
import { count, figure, kilobytes, ms, rounds, times } from './lib/report.js';
import { startProxy, startStreamer } from './lib/servers.js';
import { settled } from './b6-idle.js';

const RATE = 200; // events a second, over all streams
const CONNECTIONS = 50; // made one after the other, for the first event
const WARM_UP = 10;
const IDLE_SHARE = 10; // of B6's subscribers, for this client is no match for that one

const VARIANTS = { tls: 'TLS', nginx: 'nginx', caddy: 'Caddy' };

/** A client of P1's servers. */
class Client {
  static async connect(direct, url, { ca, http2, streams }) {
    const client = new Client();
    client.child = start(process.execPath, [path.join(bench, 'proxy-client.js'), direct, url, ca, String(streams)], { env: { HTTP2: http2 ? '1' : '0' } });
    client.answers = readline.createInterface({ input: client.child.stdout })[Symbol.asyncIterator]();
    await client.answer();
    return client;
  }

  async answer() {
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`proxy-client ended: ${this.child.errors}`);
    return JSON.parse(value);
  }

  command(text) {
    this.child.stdin.write(`${text}\n`);
    return this.answer();
  }

  async close() {
    this.child.stdin.end();
    await this.child.ended;
  }
}

/** Memory of an idle subscriber over TLS. */
async function idle(server, client, subscribers) {
  await client.command(`hold ${WARM_UP}`);
  const before = await settled(server);
  await client.command(`hold ${subscribers}`);
  return ((await settled(server)) - before) / subscribers;
}

async function measure(name, { postgres, options, authority, files }) {
  const database = await postgres.database('p1');
  const dsn = postgres.dsn(database);
  const plain = await startStreamer(dsn);
  const other = name === 'tls' ? await startStreamer(dsn, ['--tls-cert', files.cert, '--tls-key', files.key]) : await startProxy(name, plain.port, files);
  await postgres.query(database, `SELECT pev_emit(0, 'prompt-start', '${EVENT}')`);
  const client = await Client.connect(`http://127.0.0.1:${plain.port}`, `https://localhost:${other.port}`, {
    ca: authority.file('ca.crt'), http2: name !== 'tls', streams: options.streams,
  });
  try {
    const settings = { dsn, writers: 8, streams: options.streams, rate: RATE, ...writes.pev.one };
    const warm = await emit({ ...settings, seconds: 1 });
    await client.command(`expect ${warm.events} 10000`);
    await client.command('reset');
    const written = await emit({ ...settings, seconds: options.seconds });
    const latency = await client.command(`expect ${written.events} 10000`);
    await client.command(`first ${WARM_UP}`);
    const first = await client.command(`first ${CONNECTIONS}`);
    const bytes = name === 'tls' ? await idle(other, client, Math.round(options.idle / IDLE_SHARE)) : undefined;
    return { latency, first, bytes, missing: written.events - latency.added.count };
  } finally {
    await client.close();
    await other.stop();
    await plain.stop();
    await postgres.drop('p1');
  }
}

const added = (us) => `${us < 0 ? '' : '+'}${ms(us)}`;

/** A figure of each variant, as text. */
const each = (text) => Object.entries(VARIANTS).map(([variant, title]) => `${title} ${text(variant)}`).join('; ');

export async function run(context) {
  const { options } = context;
  const authority = new Authority();
  const [, cert, , key] = authority.certificate('bench');
  const names = Object.keys(VARIANTS);
  const results = await rounds(options.rounds, names, (name) => measure(name, { ...context, authority, files: { cert, key } }));
  const complete = names.every((name) => results[name].every(({ missing }) => missing === 0));
  const all = names.flatMap((name) => results[name]);
  const over = (name, part, percentile) => figure(results[name].map((result) => ({ ratio: result[part].way[percentile] / result[part].direct[percentile] })), 'ratio');
  const row = (what, part, percentile, text, target) => ({
    id: 'P1', what: `${what}, ${percentile}`, pev: ms(figure(all, `${part}.direct.${percentile}`)), peers: each(text),
    ratio: each((name) => times(over(name, part, percentile))), target: target ? `≤ ${target} ms` : '–',
    met: target ? complete && names.every((name) => figure(results[name], `${part}.way.${percentile}`) <= target * 1000) : undefined,
  });
  const latency = (percentile, target) => row(
    `${options.streams} streams, ${RATE} events/s: latency, and what TLS and proxies with HTTP/2 add`, 'latency', percentile,
    (name) => added(figure(results[name], `latency.added.${percentile}`)), target);
  const first = (percentile, target) => row('from connecting, handshake included, to the first event', 'first', percentile,
    (name) => ms(figure(results[name], `first.way.${percentile}`)), target);
  return [
    latency('p50'), latency('p99', 50), first('p50'), first('p99', 50),
    {
      id: 'P1', what: `${count(Math.round(options.idle / IDLE_SHARE))} idle subscribers over TLS: memory each`,
      pev: kilobytes(figure(results.tls, 'bytes')), target: '–',
    },
  ];
}
