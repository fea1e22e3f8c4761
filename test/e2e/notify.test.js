// What systemd is told, by datagrams to a socket like its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { after, before } from 'node:test';
import { Database, Streamer, poll, request, test } from './harness.js';

// Node has no sockets of this kind; Perl is in every Debian.
const RECEIVER = `use Socket; $| = 1; my $name = shift; $name =~ s/^@/\\0/;
  socket(S, AF_UNIX, SOCK_DGRAM, 0) && bind(S, pack_sockaddr_un($name)) or die $!;
  print "bound\\n"; while (defined recv(S, my $text, 4096, 0)) { $text =~ s/\\n/ /g; print "$text\\n" }`;

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pev-notify.'));
let db;
before(async () => { db = await Database.start(); });
after(async () => {
  fs.rmSync(dir, { recursive: true });
  await db.stop();
});

/** Something to notify, at a path or an abstract name: `messages` as they come. */
async function receiver(address) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'perl', '-e', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
  const told = { messages: [], address, stop: () => child.kill() };
  readline.createInterface({ input: child.stdout }).on('line', (line) => told.messages.push(line));
  await poll(() => told.messages.shift() === 'bound', 'the socket');
  told.hears = (pattern, from = 0) => poll(() => told.messages.slice(from).find((message) => pattern.test(message)), `${pattern} among ${told.messages}`);
  return told;
}

async function withNotified(address, env, body) {
  const told = await receiver(address);
  const streamer = await Streamer.start({ dsn: db.dsn, env: { NOTIFY_SOCKET: address, ...env } });
  try {
    await body(told, streamer);
  } finally {
    if (streamer.process.exitCode === null) await streamer.stop();
    told.stop();
  }
}

test('ready, reloading, the state of the database, stopping', () => withNotified(path.join(dir, 'socket'), {}, async (told, streamer) => {
  await told.hears(/^STATUS=serving$/);
  assert.deepEqual(told.messages.filter((message) => !message.startsWith('STATUS')), ['READY=1']);
  assert.equal((await request(`${streamer.url}/healthz`)).status, 200);

  let from = told.messages.length;
  await db.stopServer('fast');
  await told.hears(/^STATUS=serving without the database: [a-z ]+$/, from);
  await db.startServer();
  await told.hears(/^STATUS=serving$/, from);

  from = told.messages.length;
  const before = process.hrtime.bigint() / 1000n;
  streamer.process.kill('SIGHUP');
  const reloading = await told.hears(/^RELOADING=1 /, from);
  await told.hears(/^READY=1$/, from);
  const [, usec] = /^RELOADING=1 MONOTONIC_USEC=(\d+)$/.exec(reloading);
  assert.ok(BigInt(usec) >= before && BigInt(usec) <= process.hrtime.bigint() / 1000n, 'by the monotonic clock');
  assert.ok(!told.messages.some((message) => message.startsWith('WATCHDOG')), 'no watchdog was asked for');

  from = told.messages.length;
  await streamer.stop();
  await told.hears(/^STOPPING=1 STATUS=[a-z ]+ EXTEND_TIMEOUT_USEC=15000000$/, from);
}));

test('an abstract socket, and a watchdog', () => withNotified(`@pev-test-${process.pid}`, { WATCHDOG_USEC: '200000' }, async (told) => {
  await poll(() => told.messages.filter((message) => message === 'WATCHDOG=1').length >= 5, 'the watchdog being fed');
}));

test('a watchdog that waits for another process is not fed', () =>
  withNotified(path.join(dir, 'other'), { WATCHDOG_USEC: '2000', WATCHDOG_PID: '1' }, async (told) => {
    await told.hears(/^STATUS=serving$/);
    assert.ok(!told.messages.includes('WATCHDOG=1'));
  }));

test('a socket that is not there, or cannot be, is told and does not matter', async () => {
  for (const address of [path.join(dir, 'nothing'), `/${'x'.repeat(200)}`]) {
    const streamer = await Streamer.start({ dsn: db.dsn, env: { NOTIFY_SOCKET: address } });
    assert.match(streamer.log, /WARNING NOTIFY_SOCKET: cannot connect: (No such file|File name too long)/);
    assert.equal((await request(`${streamer.url}/healthz`)).status, 200);
    await streamer.stop();
  }
});
