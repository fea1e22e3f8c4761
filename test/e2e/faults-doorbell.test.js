// The doorbell fails in every way it can, and transactions end in every way they can.
// Only committed events are delivered, all of them, in the table's order; and where the
// doorbell works again, it does so without the poll, which these streamers do not have
// unless a test gives it to them (see harness.js).

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before } from 'node:test';
import {
  Follower, Load, StubbornSession, allFinished, assertExact, assertReturns, atRest, end, progress, random,
} from './fleet.js';
import { Database, Streamer, poll, test as anyTest, wrapper } from './harness.js';

// To the streamer all of this is doorbells, so that valgrind would see nothing new.
const test = (name, body) => anyTest(name, (context) => (wrapper.length > 0 ? context.skip('under valgrind: it tests the server') : body(context)));

const range = (first, n) => Array.from({ length: n }, (_, i) => first + i);
const data = (i) => JSON.stringify(progress(i)[1]);

// One server for most of them: what they break is mended by their end.
let db;
before(async () => {
  if (wrapper.length === 0) db = await Database.start({ settings: { max_prepared_transactions: 20, track_commit_timestamp: 'on', deadlock_timeout: '50ms' } });
});
after(() => db?.stop());
let lastStream = 0;
const newStreams = (n) => range((lastStream += n) - n + 1, n);

/** A streamer for the length of a body. */
async function withStreamer({ dsn, args = [] }, body) {
  const streamer = await Streamer.start({ dsn, args: ['--retry', '100ms', ...args] });
  try {
    await streamer.ready();
    await body(streamer);
  } finally {
    await streamer.stop();
  }
}

/** Followers of streams, so many on each, connected. */
async function follow(streamer, streams, each) {
  const followers = streams.flatMap((stream) => Array.from({ length: each }, () => new Follower(streamer.url, stream)));
  await poll(() => followers.every((f) => f.connected), 'every client being connected');
  return followers;
}

const notifier = async (of = db) => (await of.query(`SELECT * FROM pev_notifier_status WHERE database = current_database()`))[0];
const running = (of = db) => poll(async () => (await notifier(of))?.state === 'running', 'a notifier running');

test('the notifier is terminated again and again under load: a new one takes its place', () =>
  withStreamer({ dsn: db.dsn }, async (streamer) => {
    const before = await atRest(streamer);
    const streams = newStreams(10);
    const followers = await follow(streamer, streams, 3);
    const load = new Load(db, streams);
    for (let round = 0; round < 8; round++) {
      await load.more(50);
      await running();
      const { pid } = await notifier();
      await db.query('SELECT pg_terminate_backend($1)', [pid]);
      await poll(async () => (await notifier()).pid !== pid, 'the notifier\'s end');
    }
    await load.more(50);
    await running();
    await load.stop();
    await allFinished(followers);
    await assertExact(db, followers);
    await assertReturns(streamer, before);
  }));

test('a notifier that is terminated while it rings leaves those doorbells to the next', () =>
  withStreamer({ dsn: db.dsn }, async (streamer) => {
    const [stream, other] = newStreams(2);
    const followers = await follow(streamer, [stream], 1);
    await db.emit(stream, ...progress(0));
    await running();
    await poll(() => followers[0].last === 1, 'the first event');
    await db.whileNotifyWaits(async () => {
      const { pid } = await notifier();
      await db.query(`BEGIN; SET LOCAL synchronous_commit = local; SELECT pev_emit(${stream}, 'progress', '${data(1)}'); COMMIT`);
      await poll(() => db.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", [pid]), 'the notifier waiting');
      await db.query('SELECT pg_terminate_backend($1)', [pid]);
      await poll(async () => (await notifier()).pid !== pid, 'its end');
    });
    await db.emit(other, ...progress(1));
    await poll(() => followers[0].last === 2, 'the doorbell');
    await db.emit(stream, ...end);
    await allFinished(followers);
    await assertExact(db, followers);
  }));

test('pev.notifier is turned off and on by reload under load', () =>
  withStreamer({ dsn: db.dsn }, async (streamer) => {
    const streams = newStreams(10);
    const followers = await follow(streamer, streams, 3);
    const load = new Load(db, streams);
    const set = async (value) => {
      await db.query(`ALTER SYSTEM SET pev.notifier = ${value}`);
      await db.query('SELECT pg_reload_conf()');
    };
    try {
      for (let round = 0; round < 3; round++) {
        await load.more(50);
        await running();
        await set('off');
        // Sessions learn it one by one; from some point on the notifier has nothing to do.
        await poll(async () => {
          const { doorbells } = await notifier();
          await load.more(20);
          return (await notifier()).doorbells === doorbells;
        }, 'commits that ring themselves');
        await load.more(50);
        await set('on');
        const { doorbells } = await notifier();
        await poll(async () => (await notifier()).doorbells > doorbells, 'commits that leave it to the notifier');
      }
    } finally {
      await set('on');
    }
    await load.stop();
    await allFinished(followers);
    await assertExact(db, followers);
  }));

test('doorbells are suppressed: the poll delivers; afterwards the doorbell alone does', () =>
  withStreamer({ dsn: db.dsn }, (patient) => withStreamer({ dsn: db.dsn, args: ['--poll', '200ms'] }, async (polling) => {
    const streams = newStreams(5);
    const followers = [...(await follow(polling, streams, 2)), ...(await follow(patient, streams, 2))];
    const quick = followers.slice(0, 10), slow = followers.slice(10);
    // Streams whose only doorbell will find the ring full.
    const unlucky = newStreams(3);
    const unheard = await follow(patient, unlucky, 1);
    for (const stream of streams) await db.emit(stream, ...progress(0));
    await running();
    await poll(() => followers.every((f) => f.last === 1), 'the first events');
    const { pid } = await notifier();
    // Not while it holds a lock that others need.
    await poll(() => db.value("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $1", [pid]), 'the notifier sleeping');
    process.kill(pid, 'SIGSTOP');
    try {
      for (let i = 1; i <= 20; i++) for (const stream of streams) await db.emit(stream, ...progress(i));
      await poll(() => quick.every((f) => f.last === 21), 'the poll delivering');
      assert.ok(slow.every((f) => f.last === 1), 'no doorbell rang');
      // More of them than the ring holds, the last with the unlucky ones: it will ring for everything.
      for (let i = 1; i <= 12; i++) {
        await db.query(`SELECT count(pev_emit(stream, 'progress', $1::jsonb))
          FROM (SELECT unnest($2::bigint[]) UNION ALL SELECT generate_series($3::bigint, $3 + 900)) s(stream)`,
        [data(i), i === 12 ? unlucky : [], 200_000 + 1_000 * i]);
      }
      const { overflows } = await notifier();
      assert.ok(overflows > 0, 'the ring is full');
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await poll(() => slow.every((f) => f.last === 21) && unheard.every((f) => f.last === 1), 'the doorbell delivering');
    for (const stream of [...streams, ...unlucky]) await db.emit(stream, ...end);
    await allFinished([...followers, ...unheard]);
    await assertExact(db, [...followers, ...unheard]);
  })));

test('without preloading: commits ring themselves', async () => {
  const plain = await Database.start({ args: ['--no-preload'] });
  try {
    await withStreamer({ dsn: plain.dsn }, async (streamer) => {
      const before = await atRest(streamer);
      const streams = range(1, 10);
      const followers = await follow(streamer, streams, 3);
      const load = new Load(plain, streams);
      await load.more(300);
      assert.deepEqual(await plain.query('SELECT * FROM pev_notifier_status'), []);
      // A crash is no different.
      await plain.stopServer('immediate');
      await plain.startServer();
      await load.more(200);
      await load.stop();
      await allFinished(followers);
      await assertExact(plain, followers);
      await assertReturns(streamer, before);
    });
  } finally {
    await plain.stop();
  }
});

test('no room for notifiers: of workers, or of databases', async () => {
  const small = await Database.start({ settings: { max_worker_processes: 1, 'pev.max_notifiers': 1 } });
  let other;
  try {
    // The only worker is PostgreSQL's own launcher of logical replication.
    await withStreamer({ dsn: small.dsn }, async (streamer) => {
      const streams = range(1, 5);
      const followers = await follow(streamer, streams, 2);
      const load = new Load(small, streams);
      await load.more(200);
      assert.notEqual((await notifier(small))?.state, 'running');
      assert.match(fs.readFileSync(small.env.LOG, 'utf8'), /no background worker is free for the pev notifier of database \d+/);
      await load.stop();
      await allFinished(followers);
      await assertExact(small, followers);
    });
    await small.query('ALTER SYSTEM SET max_worker_processes = 4');
    await small.stopServer('fast');
    await small.startServer();
    // Now there is room for one database's notifier, and two databases want it.
    other = await small.other('other');
    await withStreamer({ dsn: small.dsn }, (first) => withStreamer({ dsn: other.dsn }, async (second) => {
      const streams = range(11, 5);
      await small.emit(1_000, ...progress(1));
      await running(small);
      const pairs = [[small, await follow(first, streams, 2)], [other, await follow(second, streams, 2)]];
      const loads = pairs.map(([of]) => new Load(of, streams, { writers: 4, rate: 200 }));
      await Promise.all(loads.map((load) => load.more(200)));
      assert.equal((await notifier(small)).state, 'running');
      assert.equal(await notifier(other), undefined);
      // Its end lets the other database have it, and both go on.
      await small.query('SELECT pg_terminate_backend(pid) FROM pev_notifier_status');
      await Promise.all(loads.map((load) => load.more(200)));
      await Promise.all(loads.map((load) => load.stop()));
      for (const [of, followers] of pairs) {
        await allFinished(followers);
        await assertExact(of, followers);
      }
    }));
  } finally {
    await other?.pool.end();
    await small.stop();
  }
});

/**
 * One session that does everything that can be done with a transaction to events of a few
 * streams, and notes which of them it committed: `kept` and `dropped` are marks, by their
 * numbers, `unsure` those of a transaction whose end it was not told.
 */
class Chaos {
  constructor(db, streams, seed, ledger) {
    Object.assign(this, { db, streams, seed, ledger, next: random(seed), marks: 0 });
    this.session = new StubbornSession(db);
  }

  mark(list) {
    const mark = `${this.seed}.${++this.marks}`;
    list.push(mark);
    return mark;
  }

  /** Emit one event, somehow; its mark goes into the list. */
  async emit(list, client) {
    const stream = this.streams[Math.floor(this.next() * this.streams.length)];
    const event = (into = list) => JSON.stringify(progress(1, this.mark(into))[1]);
    const how = this.next();
    if (how < 0.5) await client.query('SELECT pev_emit($1::bigint, $2, $3::jsonb)', [stream, 'progress', event()]);
    else if (how < 0.7) await client.query('SELECT pev_emit_batch($1::bigint, $2::jsonb)', [stream, `[{"type":"progress","data":${event()}},{"type":"progress","data":${event()}}]`]);
    else if (how < 0.85) {
      await client.query(`INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
        VALUES ($1, 'progress', $2), ($1, 'progress', $3)`, [stream, event(), event()]);
    } else {
      const mine = [], warnings = [];
      const listen = (notice) => warnings.push(notice.message);
      client.on('notice', listen);
      const { rows } = await client.query('SELECT pev_try_emit($1::bigint, $2, $3::jsonb) AS seq', [stream, 'progress', event(mine)]);
      client.off('notice', listen);
      // A deadlock is the one thing that may refuse it, and it does not raise that either.
      if (rows[0].seq === null) assert.match(String(warnings), /deadlock/);
      (rows[0].seq === null ? this.ledger.dropped : list).push(...mine);
    }
    if (this.next() < 0.1) assert.equal((await client.query(`SELECT pev_try_emit($1::bigint, 'progress', '{"wrong": true}') AS seq`, [stream])).rows[0].seq, null);
  }

  async emits(list, client) {
    for (let n = 1 + Math.floor(this.next() * 3); n > 0; n--) await this.emit(list, client);
  }

  /** One transaction of some kind. */
  async step() {
    const { kept, dropped, unsure } = this.ledger;
    const client = (this.session.client ??= await this.session.connect());
    const mine = [], undone = [];
    let prepared;
    try {
      const kind = this.next();
      if (kind < 0.3) {
        await this.emit(mine, client);
        kept.push(...mine);
        return;
      }
      await client.query(kind < 0.6 ? 'BEGIN' : 'BEGIN ISOLATION LEVEL REPEATABLE READ');
      await this.emits(mine, client);
      if (this.next() < 0.5) {
        await client.query('SAVEPOINT a');
        await this.emits(undone, client);
        if (this.next() < 0.3) await client.query('SAVEPOINT b');
        await this.emits(undone, client);
        await client.query('ROLLBACK TO a');
        if (this.next() < 0.5) await client.query('RELEASE a');
        if (this.next() < 0.7) await this.emits(mine, client);
      }
      if (kind < 0.7) {
        await client.query('COMMIT');
        kept.push(...mine);
      } else if (kind < 0.8) {
        await client.query('ROLLBACK');
        dropped.push(...mine);
      } else if (kind < 0.9) {
        prepared = `t${this.seed}-${this.marks}`;
        await client.query(`PREPARE TRANSACTION '${prepared}'`);
        const commit = this.next() < 0.6;
        await this.db.query(`${commit ? 'COMMIT' : 'ROLLBACK'} PREPARED '${prepared}'`);
        (commit ? kept : dropped).push(...mine);
      } else if (kind < 0.96) {
        // A statement fails, and takes the transaction with it.
        await assert.rejects(client.query(`SELECT pev_emit($1::bigint, 'progress', '{}')`, [this.streams[0]]), { code: '23514' });
        await client.query('ROLLBACK');
        dropped.push(...mine);
      } else {
        // The session is terminated in the middle.
        await this.db.query('SELECT pg_terminate_backend($1)', [client.processID]);
        await client.query('COMMIT').then(() => unsure.push(...mine), () => dropped.push(...mine));
        this.session.client = undefined;
      }
      dropped.push(...undone);
    } catch (error) {
      if (error.code !== '40P01') throw error; // two streams in opposite orders
      dropped.push(...mine, ...undone);
      this.ledger.deadlocks++;
      await client.query('ROLLBACK');
    }
  }
}

test('transactions end in every way, writers share their streams: only committed events, no gap, one order everywhere', () =>
  withStreamer({ dsn: db.dsn }, async (streamer) => {
    const streams = newStreams(3);
    const followers = await follow(streamer, streams, 5);
    const ledger = { kept: [], dropped: [], unsure: [], deadlocks: 0 };
    const until = Date.now() + 5_000;
    let steps = 0;
    const chaos = range(1, 6).map((seed) => new Chaos(db, streams, seed, ledger));
    await Promise.all(chaos.map(async (one) => {
      for (; Date.now() < until || one.marks < 100; steps++) await one.step();
      await one.session.end();
    }));
    for (const stream of streams) await db.emit(stream, ...end);
    await allFinished(followers);
    await assertExact(db, followers);

    const marks = (await db.query(`SELECT event_data->>'message' AS mark FROM assistant_architect_events WHERE execution_id = ANY ($1) AND event_type = 'progress'`, [streams])).map((row) => row.mark);
    const unsure = new Set(ledger.unsure);
    assert.deepEqual(marks.filter((mark) => !unsure.has(mark)).sort(), ledger.kept.sort(), 'what was committed, and nothing else');
    assert.ok(ledger.dropped.length > 50, `enough was rolled back: ${ledger.dropped.length}`);
    // The numbers are in the order of the commits themselves.
    assert.deepEqual(await db.query(`
      SELECT * FROM (SELECT execution_id, seq, pg_xact_commit_timestamp(xmin) AS t,
        lag(pg_xact_commit_timestamp(xmin)) OVER (PARTITION BY execution_id ORDER BY seq) AS before
        FROM assistant_architect_events WHERE execution_id = ANY ($1)) e WHERE t < before`, [streams]), []);
    console.log(`# ${steps} transactions: ${ledger.kept.length} events kept, ${ledger.dropped.length} rolled back, ${ledger.deadlocks} deadlocks`);
  }));
