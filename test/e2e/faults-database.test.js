// The database crashes, is dumped and restored, loses the extension or the database
// itself, its clock steps back and its disk fills up: clients stay connected where that
// is possible, and hold exactly the rows of their streams, once, in order.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  Follower, Load, allFinished, assertExact, assertReturns, atRest, digest, end, progress,
} from './fleet.js';
import { Database, SseClient, Streamer, poll, request, root, stopStack, test, within, wrapper } from './harness.js';

// Some take the streamer on no way of its own, so that valgrind would see nothing new.
const serverTest = (name, body) => test(name, (context) => (wrapper.length > 0 ? context.skip('under valgrind: it tests the server') : body(context)));

const readiness = async (streamer) => {
  const { status, body } = await request(`${streamer.url}/readyz`);
  return status === 200 ? 'ready' : JSON.parse(body).reason;
};
const ready = (streamer) => poll(async () => (await readiness(streamer)) === 'ready', 'readiness');

/** Run a body with servers of its own. */
async function withStack({ database, streamer }, body) {
  const stack = { db: await Database.start(database) };
  try {
    stack.streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--retry', '100ms', ...(streamer?.args ?? [])] });
    await ready(stack.streamer);
    await body(stack.db, stack.streamer, stack);
  } finally {
    await stopStack(stack);
  }
}

/** Followers of streams, so many on each, connected. */
async function follow(streamer, streams, each, options) {
  const followers = streams.flatMap((stream) => Array.from({ length: each }, () => new Follower(streamer.url, stream, options)));
  await poll(() => followers.every((f) => f.connected), 'every client being connected');
  return followers;
}

const range = (first, n) => Array.from({ length: n }, (_, i) => first + i);

test('the database crashes again and again under load: clients stay connected and get everything', () =>
  withStack({}, async (db, streamer) => {
    const streams = range(1, 20);
    const before = await atRest(streamer);
    const followers = await follow(streamer, streams, 5);
    const load = new Load(db, streams);
    for (let round = 0; round < 4; round++) {
      await load.more(200);
      await db.stopServer('immediate');
      if (round % 2 === 1) await poll(async () => (await readiness(streamer)) === 'database down', 'unreadiness');
      await db.startServer();
    }
    await load.more(200);
    await load.stop();
    assert.ok(load.outages >= 4, `the writers felt it: ${load.outages}`);
    await allFinished(followers);
    assert.deepEqual([...new Set(followers.map((f) => f.connections))], [1], 'connections of each client');
    await assertExact(db, followers);
    await assertReturns(streamer, before);
  }));

test('the database crashes while clients read a long history', () =>
  withStack({}, async (db, streamer) => {
    const HISTORY = 20_000; // 13 MB: more than the kernel's buffers take
    for (let i = 0; i < HISTORY; i += 10_000) {
      await db.query(`SELECT pev_emit_batch(1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
        'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', 550)))) FROM generate_series(1, 10000) i))`);
    }
    const before = await atRest(streamer);
    const followers = range(0, 6).map(() => {
      const follower = new Follower(streamer.url, 1);
      // Held in the middle, so that the crash finds every one of them there.
      follower.on('event', (id) => id === 1_000 && follower.hold());
      return follower;
    });
    await poll(() => followers.every((f) => f.last >= 1_000), 'every client being in the middle');
    const load = new Load(db, [1]);
    await load.more(20);
    await db.stopServer('immediate');
    followers.forEach((f) => f.release());
    await poll(async () => (await readiness(streamer)) === 'database down', 'unreadiness');
    assert.ok(followers.every((f) => f.last < HISTORY), 'the crash was in the middle');
    await db.startServer();
    await load.more(20);
    // And again, without any order in it.
    await db.stopServer('immediate');
    await db.startServer();
    await load.more(20);
    await load.stop();
    await allFinished(followers);
    assert.deepEqual([...new Set(followers.map((f) => f.connections))], [1], 'connections of each client');
    await assertExact(db, followers);
    await assertReturns(streamer, before, { slack: 8 << 20 });
  }));

serverTest('dumped and restored into a new database: served from there, clients resume where they were', () =>
  withStack({}, async (db, streamer) => {
    await db.query(`SELECT pev_register_stream_kind('job', 'progress of jobs')`);
    const streams = [1, 2, 'a-key', 'job:7', 'user:u_1'];
    const event = (stream, i) => (stream === 'user:u_1' ? ['generation_started', { jobId: `j${i}`, message: 'm' }] : progress(i));
    for (let i = 1; i <= 30; i++) for (const stream of streams) await db.emit(stream, ...event(stream, i));
    const rows = 'SELECT * FROM assistant_architect_events ORDER BY execution_id, seq';
    const original = await db.query(rows);

    await db.query('CREATE DATABASE restored');
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'pev-dump.')), 'dump.sql');
    let restored, second;
    try {
      db.run('pg_dump', '-f', file);
      db.run('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', file);
      restored = await db.other('restored', { create: false });
      assert.deepEqual(await restored.query(rows), original);
      second = await Streamer.start({ dsn: restored.dsn, args: ['--retry', '100ms'] });
      const fresh = streams.map((stream) => new Follower(second.url, stream));
      const resumed = streams.map((stream) => new Follower(second.url, stream, { after: 17 }));
      // Registered kinds and the numbering go on, and so does the doorbell.
      const closing = streams.filter((stream) => stream !== 'user:u_1');
      for (const stream of streams) await restored.emit(stream, ...event(stream, 31));
      for (const stream of closing) await restored.emit(stream, ...end);
      const finite = [...fresh, ...resumed].filter((f) => closing.includes(f.stream));
      await allFinished(finite);
      const endless = [...fresh, ...resumed].filter((f) => !finite.includes(f));
      await poll(() => endless.every((f) => f.last === 31), 'the streams without an end');
      await assertExact(restored, [...fresh, ...resumed]);
      endless.forEach((f) => f.close());
    } finally {
      fs.rmSync(path.dirname(file), { recursive: true });
      await second?.stop();
      await restored?.pool.end();
    }
  }));

test('the extension is dropped and created again while notifier and streamer run: /readyz says so, and it recovers', () =>
  withStack({ streamer: { args: ['--poll', '300ms'] } }, async (db, streamer) => {
    const before = await atRest(streamer);
    await db.emit(1, ...progress(1));
    await poll(async () => (await db.query('SELECT * FROM pev_notifier_status')).some((row) => row.state === 'running'), 'the notifier running');
    const client = await SseClient.open(`${streamer.url}/events/1`);
    await client.received(1);
    for (let round = 1; round <= 3; round++) {
      const known = client.events.length;
      await within(db.query('DROP EXTENSION pev'), 'DROP EXTENSION');
      await poll(async () => (await readiness(streamer)) === 'extension missing', '/readyz naming the missing extension');
      await within(db.query(round === 2 ? 'CREATE SCHEMA "Else where"; CREATE EXTENSION pev SCHEMA "Else where"' : 'CREATE EXTENSION pev'), 'CREATE EXTENSION');
      if (round === 2) await db.query('ALTER DATABASE postgres SET search_path = "Else where", public');
      if (round === 2) { await db.pool.end(); db.pool = db.newPool(); }
      await ready(streamer);
      // A new table begins at 1 again, and the client that is there is sent what it holds.
      const fresh = await SseClient.open(`${streamer.url}/events/1`);
      for (let i = 1; i <= 5; i++) await db.emit(1, ...progress(100 * round + i));
      await fresh.received(5);
      await client.received(known + 5);
      assert.deepEqual(fresh.events, await db.expected(1));
      assert.deepEqual(client.events.slice(known), await db.expected(1));
      assert.equal(client.ended, false);
      fresh.close();
    }
    client.close();
    await assertReturns(streamer, before);
  }));

test('keys that have other numbers when the database is back are served what is theirs', () =>
  withStack({ streamer: { args: ['--poll', '1s'] } }, async (db, streamer) => {
    const clients = {};
    for (const key of ['a', 'b', 'c']) {
      await db.emit(key, ...progress(1));
      clients[key] = await SseClient.open(`${streamer.url}/events/${key}`);
      await clients[key].received(1);
    }
    await db.query('DROP EXTENSION pev; CREATE EXTENSION pev');
    await db.emit('b', ...progress(2));
    await db.emit('b', ...progress(3));
    await db.emit('a', ...progress(4));
    await ready(streamer);
    for (const key of ['a', 'c']) await db.emit(key, ...progress(5));
    const steps = (key) => clients[key].events.slice(1).map((e) => JSON.parse(e.data).currentStep);
    await poll(() => steps('a').length === 2 && steps('b').length === 2 && steps('c').length === 1, 'the new events');
    assert.deepEqual(steps('a'), [4, 5]);
    assert.deepEqual(steps('b'), [2, 3]);
    assert.deepEqual(steps('c'), [5]);
    Object.values(clients).forEach((client) => client.close());
  }));

test('keys that are made anew have their numbers again, and as many events: these are others', () =>
  withStack({ streamer: { args: ['--poll', '1s'] } }, async (db, streamer) => {
    const keys = ['a', 'b'];
    const clients = [];
    for (const key of keys) {
      await db.emit(key, ...progress(1));
      clients.push(await SseClient.open(`${streamer.url}/events/${key}`));
      await clients.at(-1).received(1);
    }
    await db.query(`DROP EXTENSION pev; CREATE EXTENSION pev;
      SELECT pev_emit(key, 'progress', '${JSON.stringify(progress(2)[1])}') FROM unnest('{${keys}}'::text[]) WITH ORDINALITY AS k(key, n) ORDER BY n`);
    for (const [i, client] of clients.entries()) {
      await client.received(2);
      assert.deepEqual(client.events.slice(1), await db.expected(keys[i]));
      client.close();
    }
  }));

serverTest('DROP DATABASE is not held up by a notifier, and says who is in the way when a streamer is', () =>
  withStack({}, async (db) => {
    for (let round = 1; round <= 2; round++) {
      const doomed = await db.other('doomed');
      const streamer = await Streamer.start({ dsn: doomed.dsn, args: ['--retry', '100ms'] });
      try {
        const follower = new Follower(streamer.url, 1);
        await doomed.emit(1, ...progress(1));
        await poll(async () => (await doomed.query(`SELECT * FROM pev_notifier_status WHERE state = 'running' AND database = 'doomed'`)).length === 1, 'the notifier running');
        await doomed.emit(1, ...end);
        await allFinished([follower]);
        await assertExact(doomed, [follower]);
        await doomed.pool.end();
        // PostgreSQL itself waits for five seconds before it says so: once is enough.
        if (round === 1) await assert.rejects(within(db.query('DROP DATABASE doomed'), 'DROP DATABASE'), { code: '55006' });
      } finally {
        await streamer.stop();
      }
      const started = Date.now();
      await within(db.query('DROP DATABASE doomed'), 'DROP DATABASE', 10_000);
      assert.ok(Date.now() - started < 9_000, `it took ${Date.now() - started} ms`);
    }
    // The other database's notifier was left alone.
    await db.emit(1, ...progress(1));
    await poll(async () => (await db.query(`SELECT * FROM pev_notifier_status WHERE state = 'running'`)).length >= 1, 'the notifier running');
  }));

// gettimeofday() as PostgreSQL's processes see it, displaced by the seconds that a file
// says. (libfaketime would do, but replaces far more: it would be another thing to test.)
const CLOCK_SHIM = `
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <unistd.h>
int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	FILE *file = fopen(getenv("PEV_TEST_CLOCK"), "r");
	long seconds = 0;
	int code = syscall(SYS_gettimeofday, tv, tz);
	if (file != NULL)
	{
		if (fscanf(file, "%ld", &seconds) == 1)
			tv->tv_sec += seconds;
		fclose(file);
	}
	return code;
}
`;

serverTest('the clock steps back, and forth: created_at sorts as seq does, and delivery goes on', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pev-clock.'));
  fs.chmodSync(dir, 0o755);
  const clock = path.join(dir, 'clock');
  const step = (seconds) => {
    fs.writeFileSync(`${clock}.new`, String(seconds));
    fs.renameSync(`${clock}.new`, clock);
  };
  try {
    fs.writeFileSync(path.join(dir, 'clock.c'), CLOCK_SHIM);
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', path.join(dir, 'clock.so'), path.join(dir, 'clock.c')]);
    step(0);
    const args = ['--env', `LD_PRELOAD=${dir}/clock.so`, '--env', `PEV_TEST_CLOCK=${clock}`];
    await withStack({ database: { args } }, async (db, streamer) => {
      const streams = range(1, 5);
      const before = await atRest(streamer);
      const followers = await follow(streamer, streams, 4);
      const load = new Load(db, streams);
      for (const seconds of [-3600, 7200, -86400, 0]) {
        await load.more(100);
        step(seconds);
        const now = await db.value('SELECT extract(epoch FROM clock_timestamp())::float8');
        assert.ok(Math.abs(now - (Date.now() / 1000 + seconds)) < 60, 'the server lives by the displaced clock');
        // A notifier that ends now is started again at once, whatever the time was when it began.
        await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pev notifier'`);
        await load.more(50);
        await poll(async () => (await db.query(`SELECT * FROM pev_notifier_status WHERE state = 'running'`)).length === 1, `a notifier after the step to ${seconds} s`);
      }
      await load.more(100);
      await load.stop();
      await allFinished(followers);
      await assertExact(db, followers);
      await assertReturns(streamer, before);
    });
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});

/** A directory that is a small file system of its own, seen only by the server; or why there can be none. */
function smallDisk(dir) {
  const probe = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir], { encoding: 'utf8' });
  if (probe.error) return probe.error.message;
  return probe.status === 0 ? undefined : probe.stderr.trim();
}

// Of the disks that can be full this is the one where PostgreSQL promises to go on: the
// tables'. (With WAL's it stops, and then all is as after any other crash, above.)
serverTest('the disk is full: emitting fails clearly, what is committed is delivered, and emitting works again when there is room', async (context) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pev-disk.'));
  try {
    fs.chmodSync(dir, 0o755);
    const trouble = smallDisk(dir);
    if (trouble) return context.skip(`no small file system can be mounted here: ${trouble}`);
    // The mount is in a namespace of the server's: it cannot outlive it.
    const mount = `mount -t tmpfs -o size=6m,mode=755 tmpfs ${dir} && mkdir ${dir}/space && { chown postgres: ${dir}/space 2>/dev/null || true; } && exec "$@"`;
    await withStack({ database: { prefix: ['unshare', '--mount', 'sh', '-c', mount, 'sh'] } }, async (db, streamer) => {
      await db.query(`CREATE TABLESPACE small LOCATION '${dir}/space'`);
      await db.query('ALTER TABLE assistant_architect_events SET TABLESPACE small');
      const before = await atRest(streamer);
      const followers = await follow(streamer, range(1, 5), 2);
      const big = (i) => progress(i, `step ${i} ${'m'.repeat(1_500 + (i % 7))}`);
      let emitted = 0, failure;
      while (!failure && emitted < 10_000) {
        await db.emit(1 + (emitted % 5), ...big(emitted)).then(() => emitted++, (error) => (failure = error));
      }
      assert.equal(failure?.code, '53100', `the failure after ${emitted} events: ${failure}`);
      assert.match(failure.message, /No space left on device/);

      // The polite one says it with a warning and NULL, alone and inside a transaction that goes on.
      const session = await db.pool.connect();
      const warnings = [];
      const listen = (notice) => warnings.push(notice);
      session.on('notice', listen);
      const polite = async () => (await session.query('SELECT pev_try_emit(2::bigint, $1, $2::jsonb) AS seq', big(0).map((v) => (typeof v === 'string' ? v : JSON.stringify(v))))).rows[0].seq;
      // Some page may have a little room left, so it may succeed a few times.
      let seq;
      for (let i = 0; i < 100 && (seq = await polite()) !== null; i++) emitted++;
      assert.equal(seq, null);
      assert.match(warnings.at(-1).message, /No space left|could not extend/);
      await session.query('BEGIN');
      await session.query('CREATE TEMP TABLE t AS SELECT 1 AS a');
      assert.equal(await polite(), null);
      await session.query('COMMIT');
      assert.deepEqual((await session.query('SELECT a FROM t')).rows, [{ a: 1 }]);
      session.off('notice', listen);
      session.release();

      // Who was there has everything, and who comes now gets everything.
      const total = await db.value('SELECT count(*) FROM assistant_architect_events');
      assert.equal(total, emitted);
      const late = await follow(streamer, range(1, 5), 1);
      const all = [...followers, ...late];
      const lasts = new Map();
      for (const stream of range(1, 5)) lasts.set(stream, (await digest(db, stream))[1]);
      await poll(() => all.every((f) => f.last === lasts.get(f.stream)), 'every client having what is committed');
      await assertExact(db, all);
      assert.equal(await readiness(streamer), 'ready');

      execFileSync('nsenter', ['--target', String(db.process.pid), '--mount', 'mount', '-o', 'remount,size=32m', dir]);
      for (let i = 0; i < 50; i++) await db.emit(1 + (i % 5), ...big(i));
      for (const stream of range(1, 5)) await db.emit(stream, ...end);
      await allFinished(all);
      await assertExact(db, all);
      // The windows of streams that were watched linger for a while.
      await assertReturns(streamer, before, { slack: 16 << 20 });
    });
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
});
