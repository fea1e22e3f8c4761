// The README's roles: each can do what it is for, and nothing else; and under its
// row-level security a tenant's role writes and reads its own streams alone, by
// whichever way, and so does a streamer.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import pg from 'pg';
import { Database, SseClient, Streamer, request, test } from './harness.js';
import { KeyRing } from './jwt.js';
import { dsnOf, makeRoles, readmeSql } from './roles.js';

const ROLES = ['pev_emitter', 'pev_orchestrator', 'pev_approver', 'pev_reader', 'pev_streamer'];
const EMITTERS = ['pev_emitter', 'pev_orchestrator', 'pev_approver'];
const ring = new KeyRing();
const started = { type: 'upload_started', data: { jobId: 'j' } };
let db;
const users = {}; // a pool for each role
const streamers = [];

before(async () => {
  ring.secret();
  db = await Database.start({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` } });
  await makeRoles(db);
  for (const role of ROLES) users[role] = poolOf(role);
});
after(async () => {
  try {
    for (const streamer of streamers) await streamer.stop();
  } finally {
    for (const pool of Object.values(users)) await pool.end();
    await db.stop();
  }
});

const addressOf = (user) => ({ host: '127.0.0.1', port: Number(db.env.PGPORT), user, database: db.env.PGDATABASE });

function poolOf(user) {
  const pool = new pg.Pool({ ...addressOf(user), max: 2 });
  return pool.on('error', () => {}); // its connections end with the server
}

async function startStreamer(role, ...args) {
  const streamer = await Streamer.start({ dsn: dsnOf(db, role), args });
  streamers.push(streamer);
  await streamer.ready();
  return streamer;
}

/** Run a statement as a role: its rows, or the SQLSTATE that refuses it. */
async function as(role, statement, values) {
  try {
    return (await users[role].query(statement, values)).rows;
  } catch (error) {
    return error.code;
  }
}

const post = (streamer, stream, body, headers = {}) => request(`${streamer.url}/events/${stream}`, {
  method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body),
});

test("each role has the rights that the README grants it, on pev's own, and no others", async () => {
  const held = async (role) => (await db.query(`
    SELECT p || ' ' || c.relname AS held FROM pg_class c,
      unnest(CASE WHEN c.relkind = 'S' THEN '{USAGE,SELECT,UPDATE}'
        ELSE '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}' END::text[]) p
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')
      AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege($1, c.oid, p) ELSE has_table_privilege($1, c.oid, p) END
      AND NOT (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('nobody', c.oid, p) ELSE has_table_privilege('nobody', c.oid, p) END)
    UNION ALL
    SELECT 'EXECUTE ' || f.proname FROM pg_proc f
    WHERE f.pronamespace = 'public'::regnamespace AND has_function_privilege($1, f.oid, 'EXECUTE')
      AND NOT has_function_privilege('nobody', f.oid, 'EXECUTE')
    ORDER BY 1`, [role])).map((row) => row.held);
  await db.query('CREATE ROLE nobody');
  assert.deepEqual(await held('pev_emitter'), [
    'DELETE pev_idempotency', 'INSERT assistant_architect_events', 'INSERT pev_idempotency', 'SELECT pev_idempotency', 'UPDATE pev_idempotency',
  ]);
  assert.deepEqual(await held('pev_orchestrator'), [
    'DELETE pev_idempotency', 'INSERT assistant_architect_events', 'INSERT pev_idempotency', 'INSERT pev_plan', 'SELECT pev_idempotency', 'UPDATE pev_idempotency',
  ]);
  assert.deepEqual(await held('pev_approver'), [
    'DELETE pev_idempotency', 'INSERT assistant_architect_events', 'INSERT pev_idempotency', 'SELECT pev_approval', 'SELECT pev_idempotency', 'UPDATE pev_idempotency',
  ]);
  assert.deepEqual(await held('pev_reader'), ['SELECT assistant_architect_events', 'SELECT pev_executions', 'SELECT pev_stream']);
  assert.deepEqual(await held('pev_streamer'), [
    'EXECUTE pev_redeem_ticket', 'SELECT assistant_architect_events', 'SELECT pev_revoked_token', 'SELECT pev_stream',
  ]);
  assert.deepEqual(await held('pev_worker'), ['INSERT assistant_architect_events', 'SELECT pev_job']); // and columns to update
  assert.deepEqual(await held('pev_enqueuer'), []); // columns alone
  assert.equal(await db.value("SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication) FROM pg_roles WHERE rolname LIKE 'pev\\_%'"), false);
});

// What is tried as every role, and which of them may. The rest is refused with 42501.
const TRIED = [
  ["SELECT pev_emit(1, 'Error', '{\"message\": \"m\"}')", ...EMITTERS],
  ["SELECT pev_emit('user:new', 'upload_started', '{\"jobId\": \"j\"}')", ...EMITTERS],
  ["SELECT pev_emit(1, 'typing', '{\"userId\": \"u\", \"isTyping\": true}')", ...EMITTERS],
  ['SELECT pev_emit_batch(1, \'[{"type": "Error", "data": {"message": "m"}}]\')', ...EMITTERS],
  ['SELECT pev_emit_once(1, \'key\', \'[{"type": "Error", "data": {"message": "m"}}]\')', ...EMITTERS],
  ["INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES (1, 'Error', '{\"message\": \"m\"}')", ...EMITTERS],
  [`SELECT pev_plan(2, '[{"name": "a"}]')`, 'pev_orchestrator'],
  ['SELECT * FROM pev_plan'],
  ['UPDATE pev_plan SET tokens = 0'],
  ['SELECT * FROM pev_approval', 'pev_approver'],
  ["SELECT * FROM pev_approve('a', 'approved', 'ann')", 'pev_approver'],
  ['SELECT pev_deny_expired_approvals()', 'pev_approver'],
  ['DELETE FROM pev_approval'],
  ["UPDATE pev_approval SET decision = 'approved'"],
  ["SELECT * FROM pev_sub_agents('session:s')", 'pev_reader', 'pev_streamer'],
  ['SELECT * FROM pev_check_flow(1)', 'pev_reader', 'pev_streamer'],
  ['SELECT * FROM pev_events(1)', 'pev_reader', 'pev_streamer'],
  ["SELECT * FROM pev_execution('user:new')", 'pev_reader'],
  ['SELECT * FROM assistant_architect_events', 'pev_reader', 'pev_streamer'],
  ['SELECT * FROM pev_executions', 'pev_reader'],
  ['SELECT * FROM pev_revoked_token', 'pev_streamer'],
  ["SELECT pev_redeem_ticket('\\x00', '1')", 'pev_streamer'],
  ['SELECT * FROM pev_event_type', ...ROLES],
  ["SELECT pev_is_valid('Error', '{}')", ...ROLES],
  ["UPDATE assistant_architect_events SET event_data = '{}'"],
  ['DELETE FROM assistant_architect_events'],
  ['TRUNCATE assistant_architect_events'],
  ["SELECT setval('assistant_architect_events_id_seq', 1)"],
  ["INSERT INTO pev_stream (key) VALUES ('x')"],
  ['UPDATE pev_event_type SET max_bytes = 2'],
  ["INSERT INTO pev_stream_kind VALUES ('x', 'y')"],
  ["SELECT pev_register_stream_kind('x', 'y')"],
  ['SELECT * FROM pev_ticket'],
  ["INSERT INTO pev_ticket VALUES ('\\x00', '1', now(), '1 h')"],
  ["SELECT pev_token('*')"],
  ["SELECT pev_ticket('1')"],
  ["SELECT pev_revoke_token('x')"],
  ["INSERT INTO pev_revoked_token (jti, expires) VALUES ('x', now())"],
  ['SHOW pev.jwt_secret'],
  ["SET pev.jwt_secret = 'file:/dev/null'"],
  ['SET pev.notifier = off'],
  ["SELECT pg_read_file('postgresql.conf')"],
];

test('each role can do what it is for, and nothing else', async () => {
  await db.emit('session:s', 'tier3_approval_required', { message_id: 'm', tier3_approval: { action_id: 'a', tool_name: 't', reasoning: 'r', timeout_secs: 3600 } });
  for (const [statement, ...may] of TRIED) {
    for (const role of ROLES) {
      const outcome = await as(role, statement);
      if (may.includes(role)) assert.ok(Array.isArray(outcome), `${role}: ${statement}: ${outcome}`);
      else assert.equal(outcome, '42501', `${role}: ${statement}`);
    }
  }
  assert.equal(await db.value('SELECT count(*) FROM assistant_architect_events'), 15);
});

test('the streamer serves, redeems tickets and emits by these roles', async () => {
  const streamer = await startStreamer('pev_streamer', '--emit-dsn', dsnOf(db, 'pev_emitter'), '--jwt-secret-file', ring.file('secret'));
  const bearer = { Authorization: `Bearer ${ring.token({ 'pev.emit': ['*'] })}` };
  const ticket = await db.value("SELECT pev_ticket('channel:r')");
  const listeners = [
    await SseClient.open(`${streamer.url}/events/channel:r?token=${ticket}`),
    await SseClient.open(`${streamer.url}/events/channel:r`, { headers: bearer }),
  ];
  for (const headers of [{}, { 'Idempotency-Key': 'k' }, { 'Idempotency-Key': 'k' }]) {
    assert.equal((await post(streamer, 'channel:r', started, { ...bearer, ...headers })).status, 201);
  }
  const rows = await db.expected('channel:r');
  assert.equal(rows.length, 2);
  for (const client of listeners) {
    await client.received(2);
    assert.deepEqual(client.events, rows);
  }
  const revoked = listeners[0].until(() => listeners[0].ended === 'end', 'the end by revocation');
  await db.query('SELECT pev_revoke_token($1)', [ticket]);
  await revoked;
  listeners[1].close();
});

test('the role that reads for the streamer cannot emit', async () => {
  const streamer = await startStreamer('pev_streamer');
  assert.equal((await post(streamer, 'channel:r', started)).status, 403);
});

test("under the README's policies a tenant emits to its own streams alone, by every function", async () => {
  await db.query(readmeSql('CREATE ROLE acme'));
  await db.query(readmeSql('CREATE ROLE acme').split(';').slice(0, 2).join(';').replaceAll('acme', 'globex'));
  for (const tenant of ['acme', 'globex']) users[tenant] = poolOf(tenant);
  const ways = [
    'SELECT pev_emit($1, $2, $3)',
    "SELECT pev_emit_batch($1, jsonb_build_array(jsonb_build_object('type', $2::text, 'data', $3::jsonb)))",
    "SELECT pev_emit_once($1, $1 || $2, jsonb_build_array(jsonb_build_object('type', $2::text, 'data', $3::jsonb)))",
  ];
  const { type, data } = started;
  const typing = { userId: 'u', isTyping: true };
  for (const [index, statement] of ways.entries()) {
    for (const [own, other] of [['acme', 'globex'], ['globex', 'acme']]) {
      assert.ok(Array.isArray(await as(own, statement, [`${own}:${index}`, type, data])), `${own}: ${statement}`);
      assert.deepEqual(Object.values((await as(own, statement, [`${own}:${index}`, 'typing', typing]))[0]), [null], `${own}: ${statement}`);
      for (const foreign of [`${other}:${index}`, `${other}:new${index}`, 'user:u_1', '7']) {
        assert.equal(await as(own, statement, [foreign, type, data]), '42501', `${own} to ${foreign}: ${statement}`);
        assert.equal(await as(own, statement, [foreign, 'typing', typing]), '42501', `${own}, unstored, to ${foreign}: ${statement}`);
      }
    }
  }
  const acme = await db.value("SELECT pev_stream_id('acme:0')");
  const insert = 'INSERT INTO assistant_architect_events (execution_id, event_type, event_data) VALUES ($1, $2, $3)';
  assert.deepEqual(await as('acme', insert, [acme, type, data]), []);
  assert.equal(await as('globex', insert, [acme, type, data]), '42501');
  assert.deepEqual(await as('globex', 'SELECT pev_try_emit($1::bigint, $2, $3) AS seq', [acme, type, data]), [{ seq: null }]);
  assert.deepEqual(await db.query("SELECT s.key, count(*) FROM assistant_architect_events JOIN pev_stream s ON s.id = execution_id WHERE s.kind IN ('acme', 'globex') GROUP BY 1 ORDER BY 1"),
    [['acme:0', 2], ['acme:1', 1], ['acme:2', 1], ['globex:0', 1], ['globex:1', 1], ['globex:2', 1]].map(([key, count]) => ({ key, count })));
});

test("under the README's policies a tenant plans its own streams alone, and moves no other's plan", async () => {
  await db.query('GRANT pev_orchestrator TO acme, globex');
  const plan = `SELECT pev_plan($1::text, '[{"name": "a"}]', '0')`;
  const local = `SELECT pev_emit($1::text, 'PhaseStatus', '{"phase": "a", "progress": 0.5}') AS seq`;
  for (const [own, other] of [['acme', 'globex'], ['globex', 'acme']]) {
    assert.ok(Array.isArray(await as(own, plan, [`${own}:planned`])));
    assert.deepEqual(await as(own, local, [`${own}:planned`]), [{ seq: 2 }]);
    for (const foreign of [`${other}:0`, `${other}:new`, 'user:u_1', '7']) {
      assert.equal(await as(own, plan, [foreign]), foreign === 'user:u_1' ? '22023' : '42501', foreign);
    }
  }
  assert.equal(await as('acme', local, ['globex:planned']), '42501');
  assert.deepEqual(await db.query('SELECT DISTINCT reached, tokens FROM pev_plan WHERE execution_id < 0'), [{ reached: [50], tokens: 0 }]);
});

const keysOf = async (role, statement) => (await as(role, statement)).map((row) => Object.values(row)[0]);

test('and reads its own streams alone, by every function', async () => {
  await db.query('CREATE TABLE execution_tenant (execution_id bigint PRIMARY KEY, tenant name NOT NULL)');
  await db.query('GRANT SELECT ON execution_tenant TO acme, globex');
  await db.query(`CREATE POLICY execution ON assistant_architect_events TO acme, globex USING (EXISTS (SELECT FROM execution_tenant t
    WHERE t.execution_id = assistant_architect_events.execution_id AND t.tenant = current_user))`);
  await db.query("INSERT INTO execution_tenant VALUES (501, 'acme'), (502, 'globex')");
  for (const [own, execution, other, foreign] of [['acme', 501, 'globex', 502], ['globex', 502, 'acme', 501]]) {
    const emit = 'SELECT pev_emit($1::bigint, $2, $3) AS seq';
    assert.deepEqual(await as(own, emit, [execution, 'Error', { message: 'm' }]), [{ seq: 1 }]);
    assert.equal(await as(own, emit, [foreign, 'Error', { message: 'm' }]), '42501');
    assert.deepEqual(await keysOf(own, 'SELECT DISTINCT kind FROM pev_stream'), [own]);
    assert.deepEqual(await keysOf(own, "SELECT DISTINCT split_part(stream, ':', 1) FROM pev_idempotency"), [own]);
    assert.deepEqual(await keysOf(own, `SELECT count(*) FROM pev_events('${own}:1')`), [1]);
    assert.deepEqual(await keysOf(own, `SELECT count(*) FROM pev_events('${other}:1')`), [0]);
    assert.deepEqual(await keysOf(own, `SELECT count(*) FROM pev_events(${execution})`), [1]);
  }
  assert.deepEqual(await keysOf('acme', 'SELECT execution_id FROM pev_executions'), [501]);
  assert.deepEqual(await keysOf('globex', 'SELECT execution_id FROM pev_executions'), [502]);
  assert.deepEqual(await keysOf('acme', 'SELECT events FROM pev_execution(502)'), []);
  assert.deepEqual(await keysOf('pev_reader', 'SELECT count(*) FROM pev_executions'), [0], 'whom no policy names');
});

test('and no more by becoming one of the roles that it is a member of', async () => {
  for (const role of ['pev_emitter', 'pev_reader', 'pev_streamer']) {
    const client = new pg.Client({ ...addressOf('acme'), options: `-c role=${role}` });
    await client.connect();
    const rows = async (sql) => (await client.query(sql)).rows;
    assert.deepEqual(await rows('SELECT current_user, session_user'), [{ current_user: role, session_user: 'acme' }]);
    assert.deepEqual(await rows('SELECT kind FROM pev_stream'), [], role);
    if (role !== 'pev_emitter') assert.deepEqual(await rows('SELECT execution_id FROM assistant_architect_events'), [], role);
    await client.end();
  }
});

test("a streamer serves what its role may see: all of it, or a tenant's; the rest are streams without events", async () => {
  const own = ['acme:1', 'acme:live', '501'];
  const foreign = ['globex:1', 'globex:live', '502'];
  const all = await startStreamer('pev_streamer');
  const acme = await startStreamer('acme');
  const listen = (streamer, stream, headers) => SseClient.open(`${streamer.url}/events/${stream}`, { headers });
  const everything = await Promise.all([...own, ...foreign].filter((stream) => /^[a-z]/.test(stream)).map((stream) => listen(all, stream)));
  const visible = await Promise.all(own.map((stream) => listen(acme, stream)));
  const hidden = await Promise.all(foreign.map((stream) => listen(acme, stream)));
  hidden.push(await listen(acme, 'globex:1', { 'Last-Event-ID': '2' }));
  for (const stream of [...foreign, ...own]) {
    if (/^[a-z]/.test(stream)) await db.emit(stream, 'upload_started', { jobId: 'live' });
    else await db.emit(stream, 'Error', { message: 'live' });
  }
  const complete = async (client, stream) => {
    await client.until(() => client.events.at(-1)?.data.includes('live'), stream);
    assert.deepEqual(client.events, await db.expected(stream), stream);
  };
  for (const [i, client] of visible.entries()) await complete(client, own[i]);
  for (const [i, client] of everything.entries()) await complete(client, [...own, ...foreign].filter((stream) => /^[a-z]/.test(stream))[i]);
  // its doorbells were rung before those of what has arrived
  for (const client of hidden) assert.deepEqual([client.status, client.ended, client.events], [200, false, []]);
  assert.equal((await post(acme, 'acme:live', started)).status, 201);
  assert.equal((await post(acme, 'globex:live', started)).status, 403);
  for (const client of [...everything, ...visible, ...hidden]) client.close();
});

test('rows that are hidden within a stream look deleted', async () => {
  await db.query("CREATE POLICY part ON assistant_architect_events AS RESTRICTIVE FOR SELECT TO acme USING (event_type <> 'upload_failed')");
  const types = ['upload_started', 'upload_failed', 'upload_failed', 'upload_started'];
  for (const type of types) await db.emit('acme:part', type, { jobId: 'j', ...(type === 'upload_failed' && { error: 'e' }) });
  const client = await SseClient.open(`${streamers.at(-1).url}/events/acme:part`);
  await client.received(3);
  assert.deepEqual(client.events.map(({ id, event, data }) => [id, event, data.includes('from') ? JSON.parse(data) : null]),
    [['1', 'upload_started', null], [undefined, 'stream-gap', { from: 2, to: 3 }], ['4', 'upload_started', null]]);
  client.close();
});
