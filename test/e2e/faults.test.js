// What may break, breaks: the database, the streamer, the doorbell. Nothing may be
// lost, doubled or reordered, and clients stay connected where that is possible.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import {
  Database, SseClient, Streamer, executionEvents, poll, request, stopStack, test, within, wrapper,
} from './harness.js';

const progress = (i) => ['progress', { currentStep: i, totalSteps: 9, percentage: 50, message: `step ${i}` }];
const end = ['execution-complete', { totalTokens: 1, duration: 1, success: true }];

/** Run a body with servers of its own. */
async function withStack(options, body) {
  const db = await Database.start();
  const stack = { db };
  try {
    if (options.stopped) await db.stopServer('fast');
    stack.streamer = await Streamer.start({ dsn: db.dsn, ...options });
    await body(db, stack.streamer, stack);
  } finally {
    await stopStack(stack);
  }
}

async function emitAll(db, stream, events) {
  for (const [type, data] of events) await db.emit(stream, type, data);
}

const readiness = async (streamer) => (await request(`${streamer.url}/readyz`)).status;

test('the database is down at start: clients wait, and get everything once it is up', () =>
  withStack({ stopped: true }, async (db, streamer) => {
    assert.equal(await readiness(streamer), 503);
    assert.equal((await request(`${streamer.url}/healthz`)).status, 200);
    const client = await SseClient.open(`${streamer.url}/events/7`);
    const waiting = await SseClient.open(`${streamer.url}/events/some-key`);
    await db.startServer();
    await poll(async () => (await readiness(streamer)) === 200, 'readiness');
    await emitAll(db, 7, executionEvents(1));
    await emitAll(db, 'some-key', [progress(1), end]);
    await client.toEnd();
    await waiting.toEnd();
    assert.deepEqual(client.events, await db.expected(7));
    assert.deepEqual(waiting.events, await db.expected('some-key'));
  }));

test('a role that may not read: /readyz says so, the log once, and a GRANT mends it', async () => {
  const db = await Database.start();
  const stack = { db };
  try {
    await db.query('CREATE ROLE streamer LOGIN');
    stack.streamer = await Streamer.start({ dsn: db.dsn.replace(/user=\S+/, 'user=streamer') });
    const ready = async () => request(`${stack.streamer.url}/readyz`);
    await poll(async () => /database refuses/.test((await ready()).body), 'the reason in /readyz');
    assert.equal((await ready()).status, 503);
    const client = await SseClient.open(`${stack.streamer.url}/events/1`);
    await emitAll(db, 1, [progress(1), end]);
    assert.match(stack.streamer.log, /permission denied for table/);
    await db.query('GRANT SELECT ON assistant_architect_events, pev_stream, pev_event_type, pev_revoked_token TO streamer');
    await poll(() => /permission denied for function pev_redeem_ticket/.test(stack.streamer.log), 'the last right that is missing');
    await db.query('GRANT EXECUTE ON FUNCTION pev_redeem_ticket TO streamer');
    await client.toEnd();
    assert.deepEqual(client.events, await db.expected(1));
    assert.equal(stack.streamer.log.match(/permission denied/g).length, 2, 'each said once, not at every try');
  } finally {
    await stopStack(stack);
  }
});

test('a database in another encoding is refused: it has not every key that a client may ask for', async () => {
  const db = await Database.start();
  const stack = { db };
  try {
    await db.query("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
    stack.streamer = await Streamer.start({ dsn: db.dsn.replace(/dbname=.*/, 'dbname=latin') });
    await poll(async () => /encoding not UTF8/.test((await request(`${stack.streamer.url}/readyz`)).body), 'the reason in /readyz');
    assert.match(stack.streamer.log, /WARNING database: the database's encoding is not UTF8/);
  } finally {
    await stopStack(stack);
  }
});

test('the database crashes and comes back: clients stay connected, nothing is lost', () =>
  withStack({}, async (db, streamer) => {
    await emitAll(db, 1, [progress(1), progress(2)]);
    const client = await SseClient.open(`${streamer.url}/events/1`);
    await client.received(2);
    for (let round = 1; round <= 3; round++) {
      await db.stopServer('immediate');
      await poll(async () => (await readiness(streamer)) === 503, 'unreadiness');
      const late = await SseClient.open(`${streamer.url}/events/1`); // while it is down
      await db.startServer();
      // Emitted as soon as the server accepts connections, whether or not the streamer listens.
      await emitAll(db, 1, [progress(10 * round), progress(10 * round + 1)]);
      await client.received(2 + 2 * round);
      await late.received(2 + 2 * round);
      assert.equal(client.ended, false);
      assert.deepEqual(late.events, await db.expected(1));
      late.close();
      await poll(async () => (await readiness(streamer)) === 200, 'readiness');
    }
    assert.ok(client.comments.some((comment) => /database/i.test(comment)), `the client is told: ${client.comments}`);
    await emitAll(db, 1, [end]);
    await client.toEnd();
    assert.deepEqual(client.events, await db.expected(1));
  }));

test('the streamer\'s database session is terminated: it returns', () =>
  withStack({}, async (db, streamer) => {
    const client = await SseClient.open(`${streamer.url}/events/1`);
    await emitAll(db, 1, [progress(1)]);
    await client.received(1);
    await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND query NOT LIKE '%pg_terminate%' AND application_name ~ 'pev'`);
    await emitAll(db, 1, [progress(2), end]);
    await client.toEnd();
    assert.deepEqual(client.events, await db.expected(1));
  }));

test('SIGTERM: clients are told when to return, and the exit code is 0', () =>
  withStack({ args: ['--drain-timeout', '5s'] }, async (db, streamer) => {
    await emitAll(db, 1, [progress(1)]);
    const clients = await Promise.all(Array.from({ length: 20 }, () => SseClient.open(`${streamer.url}/events/1`)));
    await Promise.all(clients.map((client) => client.received(1)));
    const retries = clients.map((client) => client.retries.length);
    const started = Date.now();
    const { code, signal } = await streamer.kill('SIGTERM');
    assert.deepEqual({ code, signal }, { code: 0, signal: null });
    if (wrapper.length === 0) assert.ok(Date.now() - started < 6_000, `it took ${Date.now() - started} ms`);
    for (const [i, client] of clients.entries()) {
      await client.toEnd();
      assert.ok(client.retries.length > retries[i], 'a last retry:');
    }
    const times = clients.map((client) => client.retries.at(-1));
    assert.ok(new Set(times).size > 3, `not all at the same time: ${times}`);
  }));

test('kill -9 under load, started again on the same port: every EventSource gets each event once, in order', async () => {
  const db = await Database.start();
  let streamer = await Streamer.start({ dsn: db.dsn, args: ['--retry', '100ms'] });
  streamer.mayFail = true;
  const STREAMS = 5;
  const clients = Array.from({ length: 3 * STREAMS }, (_, i) => {
    const source = new EventSource(`${streamer.url}/events/${1 + (i % STREAMS)}`);
    const seen = [];
    for (const type of ['progress', 'execution-complete']) {
      source.addEventListener(type, (e) => seen.push({ id: e.lastEventId, event: e.type, data: e.data }));
    }
    return { stream: 1 + (i % STREAMS), source, seen };
  });
  try {
    let emitting = true, emitted = 0;
    const writers = Array.from({ length: STREAMS }, async (_, i) => {
      while (emitting) {
        await db.emit(i + 1, ...progress(emitted));
        emitted++;
      }
      await db.emit(i + 1, ...end);
    });
    const seen = () => Math.min(...clients.map((client) => client.seen.length));
    for (let round = 1; round <= 3; round++) {
      const level = seen() + 20;
      await poll(() => seen() >= level, `every client having ${level} events`);
      const port = streamer.port;
      await streamer.kill('SIGKILL');
      streamer = await Streamer.start({ dsn: db.dsn, listen: `127.0.0.1:${port}`, args: ['--retry', '100ms'] });
    }
    const level = seen() + 20;
    await poll(() => seen() >= level, `every client having ${level} events`);
    emitting = false;
    await within(Promise.all(writers), 'the writers');
    // After the end the server answers 204, which stops each client.
    await poll(() => clients.every(({ source }) => source.readyState === EventSource.CLOSED), 'every client being stopped');
    for (const { stream, seen } of clients) assert.deepEqual(seen, await db.expected(stream));
  } finally {
    clients.forEach(({ source }) => source.close());
    await stopStack({ db, streamer });
  }
});

test('a doorbell that does not ring only delays', () =>
  withStack({ args: ['--poll', '200ms'] }, async (db, streamer) => {
    const client = await SseClient.open(`${streamer.url}/events/3`);
    await emitAll(db, 3, [progress(1)]);
    await client.received(1);
    // Without the triggers rows appear, and nothing says so.
    await db.query('ALTER TABLE assistant_architect_events DISABLE TRIGGER USER');
    const silent = (seq, type, data) => db.query(
      `INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
       VALUES (3, $1, $2, $3, clock_timestamp())`, [seq, type, JSON.stringify(data)]);
    for (let seq = 2; seq <= 4; seq++) await silent(seq, ...progress(seq));
    await client.received(4);
    await silent(5, ...end);
    await client.toEnd();
    assert.deepEqual(client.events, await db.expected(3));
  }));

test('a transaction rolled back is never seen, one committed late is seen whole', () =>
  withStack({}, async (db, streamer) => {
    const client = await SseClient.open(`${streamer.url}/events/4`);
    const connection = await db.pool.connect();
    await connection.query('BEGIN');
    for (let i = 1; i <= 3; i++) await connection.query('SELECT pev_emit(4::bigint, $1, $2::jsonb)', ['progress', JSON.stringify(progress(i)[1])]);
    await connection.query('ROLLBACK');
    await connection.query('BEGIN');
    await connection.query('SELECT pev_emit(4::bigint, $1, $2::jsonb)', ['progress', JSON.stringify(progress(4)[1])]);
    await connection.query('SAVEPOINT s');
    await connection.query('SELECT pev_emit(4::bigint, $1, $2::jsonb)', ['progress', JSON.stringify(progress(5)[1])]);
    await connection.query('ROLLBACK TO s');
    await connection.query('SELECT pev_emit(4::bigint, $1, $2::jsonb)', ['progress', JSON.stringify(progress(6)[1])]);
    assert.deepEqual(client.events, []);
    await connection.query('COMMIT');
    connection.release();
    await emitAll(db, 4, [end]);
    await client.toEnd();
    assert.deepEqual(client.events, await db.expected(4));
    assert.deepEqual(client.events.map((e) => e.id), ['1', '2', '3']);
    assert.equal(JSON.parse(client.events[1].data).currentStep, 6);
  }));

test('clients that leave in the middle leave nothing behind', () =>
  withStack({}, async (db, streamer) => {
    await db.query(`SELECT pev_emit_batch(5::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
      'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', 400)))) FROM generate_series(1, 3000) i))`);
    for (let round = 0; round < 20; round++) {
      const clients = await Promise.all([0, 1, 2, 3].map(() => SseClient.open(`${streamer.url}/events/5`)));
      await clients[0].received(1 + round * 10);
      clients.forEach((client) => client.close());
    }
    await emitAll(db, 5, [end]);
    const client = await (await SseClient.open(`${streamer.url}/events/5`)).toEnd();
    assert.deepEqual(client.events, await db.expected(5));
  }));
