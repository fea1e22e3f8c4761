// The programs that make load: the C ones of this directory, and pgbench.

import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { bench, run, scratchDir, start } from './process.js';

const program = (name) => path.join(bench, 'build', name);

function flags(settings) {
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

/** Subscribers that count and time what they receive. */
export class Subscribers {
  /** Connect them all; `settings` are sse-load's options. */
  static async connect(server, settings) {
    const subscribers = new Subscribers();
    subscribers.child = start(program('sse-load'), flags({ port: server.port, ...settings }));
    subscribers.answers = readline.createInterface({ input: subscribers.child.stdout })[Symbol.asyncIterator]();
    await subscribers.answer();
    return subscribers;
  }

  async answer() {
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`sse-load ended: ${this.child.errors}`);
    return JSON.parse(value);
  }

  command(text) {
    this.child.stdin.write(`${text}\n`);
    return this.answer();
  }

  reset() {
    return this.command('reset');
  }

  report() {
    return this.command('report');
  }

  /** Wait for so many deliveries since the reset, but not longer than `ms`. */
  expect(deliveries, ms) {
    return this.command(`expect ${deliveries} ${ms}`);
  }

  async close() {
    this.child.stdin.end();
    await this.child.ended;
  }
}

/** Writers with emit-load's options. */
export async function emit(settings) {
  return JSON.parse(await run(program('emit-load'), flags(settings)));
}

/** A publisher over HTTP with post-load's options. */
export async function post(settings) {
  return JSON.parse(await run(program('post-load'), flags(settings)));
}

/** A client that resumes, with sse-resume's options. */
export async function resume(settings) {
  return JSON.parse(await run(program('sse-resume'), flags(settings)));
}

/** Transactions per second of a pgbench script. */
export async function pgbench(server, database, script, { clients, seconds, pgoptions = '' }) {
  const file = path.join(scratchDir(), 'pgbench.sql');
  fs.writeFileSync(file, script);
  const output = await run(`${server.env.BINDIR}/pgbench`, [
    '-n', '-M', 'prepared', '-c', clients, '-j', 2, '-T', seconds, '-f', file, database,
  ].map(String), { env: { ...server.env, PGOPTIONS: pgoptions } });
  const failed = /number of failed transactions: (\d+)/.exec(output);
  if (failed && Number(failed[1]) > 0) throw new Error(`pgbench: ${output}`);
  return Number(/^tps = ([0-9.]+)/m.exec(output)[1]);
}
