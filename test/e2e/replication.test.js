// A subscriber of logical replication that emits events of its own: what is applied to its
// tables changes where streams stand and what the catalogue says, and passes no statement.
// One session emits throughout, so that it has remembered what is changed under it.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { progress } from './fleet.js';
import { Database, poll, test as anyTest, wrapper } from './harness.js';

// Without a streamer valgrind would watch nothing.
const test = (name, body) => anyTest(name, (context) => (wrapper.length > 0 ? context.skip('under valgrind: it tests the server') : body(context)));

let publisher;
let subscriber;
let session;
before(async () => {
  if (wrapper.length > 0) return;
  const settings = { wal_level: 'logical', max_prepared_transactions: 10 };
  publisher = await Database.start({ settings });
  subscriber = await Database.start({ settings });
  session = await subscriber.pool.connect();
  await publisher.query(`SELECT setval('assistant_architect_events_id_seq', 1000000)`);
  await publisher.query('CREATE PUBLICATION everything FOR ALL TABLES');
  const twoPhase = await subscriber.value(`SELECT current_setting('server_version_num')::int >= 150000`);
  await subscriber.query(`CREATE SUBSCRIPTION mine CONNECTION '${publisher.dsn}' PUBLICATION everything
    WITH (copy_data = false${twoPhase ? ', two_phase = true' : ''})`);
  if (twoPhase) await poll(() => subscriber.value(`SELECT subtwophasestate = 'e' FROM pg_subscription`), 'two-phase replication');
});
after(async () => {
  await session?.query('DROP SUBSCRIPTION mine');
  session?.release();
  await subscriber?.stop();
  await publisher?.stop();
});

const data = JSON.stringify(progress(1)[1]);
const emit = async (stream) => (await session.query(`SELECT pev_emit($1::bigint, 'progress', $2)`, [stream, data])).rows[0].pev_emit;

/** Wait until the subscriber has applied all that the publisher has written. */
async function applied() {
  const end = await publisher.value('SELECT pg_current_wal_lsn()');
  await poll(() => publisher.value(`SELECT coalesce(bool_and(confirmed_flush_lsn >= $1), false) FROM pg_replication_slots`, [end]), 'replication');
}

/** Do something to the publisher's rows as if it came from elsewhere. */
const asReplica = (statement) => publisher.query(`SET session_replication_role = replica; ${statement}; RESET session_replication_role`);
const restore = (stream, seq) => `INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
  VALUES (${stream}, ${seq}, 'progress', '{}', '2001-01-01')`;

test('numbers go on from rows that are inserted, updated or deleted by replication', async () => {
  await publisher.emit(1, 'progress', JSON.parse(data));
  await applied();
  assert.equal(await emit(1), 2);
  await publisher.query(restore(1, 10));
  await applied();
  assert.equal(await emit(1), 11);
  await asReplica('UPDATE assistant_architect_events SET seq = 20 WHERE execution_id = 1 AND seq = 10');
  await applied();
  assert.equal(await emit(1), 21);
  await publisher.query(restore(2, 5));
  await applied();
  assert.equal(await emit(2), 6);
  await publisher.query(restore(2, 30));
  await applied();
  assert.equal(await emit(2), 31);
  assert.equal(await emit(3), 1);
});

test('numbers go on from rows of a prepared transaction that replication commits', async () => {
  if (!(await subscriber.value(`SELECT subtwophasestate = 'e' FROM pg_subscription`))) return;
  await publisher.query(restore(4, 1));
  await applied();
  assert.equal(await emit(4), 2);
  await publisher.query(`BEGIN; ${restore(4, 40)}; PREPARE TRANSACTION 'x'`);
  await applied();
  assert.equal(await emit(4), 3);
  await publisher.query(`COMMIT PREPARED 'x'`);
  await applied();
  assert.equal(await emit(4), 41);
});

test('a change of the catalogue that is replicated holds in sessions that knew the old one', async () => {
  await emit(5);
  await publisher.query(`UPDATE pev_event_type SET max_bytes = 20 WHERE name = 'progress'`);
  await applied();
  await assert.rejects(emit(5), { code: '54000' });
  await publisher.query(`UPDATE pev_event_type SET max_bytes = 65536 WHERE name = 'progress'`);
  await applied();
  assert.equal(await emit(5), 2);
});

test('a plan is replicated with its events, and nothing is computed twice', async () => {
  const local = (type, event) => session.query('SELECT pev_emit(6, $1, $2)', [type, JSON.stringify(event)]);
  const rows = (db) => Promise.all([db.expected(6), db.query('SELECT * FROM pev_plan')]);
  await publisher.query(`SELECT pev_plan(6, '[{"name": "a"}, {"name": "b"}]', '1 hour')`);
  await publisher.emit(6, 'PhaseStatus', { phase: 'a', progress: 0.5 });
  await publisher.emit(6, 'TokenCount', { tokenCount: 7 });
  await applied();
  assert.deepEqual(await rows(subscriber), await rows(publisher));
  // the subscriber takes over: it goes on from there
  await local('PhaseStatus', { phase: 'b', progress: 1 });
  const [, , , status] = await subscriber.expected(6);
  const { progress, tokenCount } = JSON.parse(status.data);
  assert.deepEqual([status.event, progress, tokenCount], ['PipelineStatus', 0.75, 7]);
  await local('Result', { summary: 's' });
  assert.deepEqual(await subscriber.query('SELECT * FROM pev_plan'), []);
});

test('an action and its outcome are replicated with their events, and the subscriber denies nothing', async () => {
  const ask = (action, secs) => ({ message_id: 'm', tier3_approval: { action_id: action, tool_name: 't', reasoning: 'r', timeout_secs: secs } });
  const batches = () => subscriber.value('SELECT batches FROM pev_notifier_status WHERE database = current_database()');
  const rows = (db) => Promise.all([db.expected(7), db.query("SELECT * FROM pev_approval WHERE action_id = 'a'")]);
  await publisher.emit(7, 'tier3_approval_required', { session_id: 's', ...ask('a', 5) });
  await applied();
  await subscriber.query('ALTER SUBSCRIPTION mine DISABLE');
  await poll(() => publisher.value("SELECT decision FROM pev_approval WHERE action_id = 'a'"), 'the denial');
  // an action of its own has the subscriber's notifier look; a second time, for it to be through with the first
  for (const action of ['own', 'own too']) {
    const before = await batches();
    await session.query('SELECT pev_emit(8, $1, $2)', ['tier3_approval_required', JSON.stringify({ session_id: 's', ...ask(action, 3600) })]);
    await poll(async () => await batches() > before, 'the notifier');
  }
  const [, [pending]] = await rows(subscriber);
  assert.deepEqual([pending.decision, (await subscriber.expected(7)).length], [null, 1]);
  await subscriber.query('ALTER SUBSCRIPTION mine ENABLE');
  await applied();
  assert.deepEqual(await rows(subscriber), await rows(publisher));
  assert.equal((await rows(subscriber))[1][0].reason, 'timeout');
});
