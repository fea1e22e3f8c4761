// GET /events/:stream/export: files that hold what the table holds, in every format,
// and what becomes of an export when its client, the database or the streamer fails.
// The streamer reads by a role that has what the README grants it and nothing else.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before } from 'node:test';
import zlib from 'node:zlib';
import { mib, resources } from './fleet.js';
import {
  Database, DEADLINE, SseClient, Streamer, executionEvents, newExecution, poll, request, stopStack, test, within, wrapper,
} from './harness.js';
import { KeyRing } from './jwt.js';
import { metrics } from './prometheus.js';
import { dsnOf, makeRoles } from './roles.js';

const MANY = 8_000; // events, some 2.8 MB: more than sockets hold, compressed, too
const ring = new KeyRing();
const stack = {};
let many; // a stream of so many events

before(async () => {
  ring.secret();
  stack.db = await Database.start({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` } });
  await makeRoles(stack.db);
  stack.streamer = await start();
  many = newExecution();
  await fill(many, MANY);
});
after(() => stopStack(stack));

async function start(args = [], db = stack.db) {
  const streamer = await Streamer.start({ dsn: dsnOf(db, 'pev_streamer'), args });
  await streamer.ready();
  return streamer;
}

async function withStreamer(args, body) {
  const streamer = await start(args);
  try {
    await body(streamer);
  } finally {
    if (streamer.process.exitCode === null) await streamer.stop();
  }
}

/** Many events at once, numbered as they are, as a restore stores them. */
async function fill(stream, count, from = 1) {
  await stack.db.query(`INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
    SELECT $1::bigint, s, CASE s % 100 WHEN 0 THEN 'prompt-complete' ELSE 'progress' END::assistant_event_type,
           CASE s % 100 WHEN 0 THEN jsonb_build_object('promptId', s, 'outputTokens', 1, 'duration', 1, 'cached', false)
           ELSE jsonb_build_object('currentStep', s, 'totalSteps', 9, 'percentage', 1, 'message', repeat(md5(s::text), 6)) END,
           '2025-01-01'::timestamptz + s * interval '1 ms'
      FROM generate_series($3::bigint, $2::bigint) s`, [stream, from + count - 1, from]);
}

const emitProgress = (stream, message = 'm') =>
  stack.db.emit(stream, 'progress', { currentStep: 1, totalSteps: 2, percentage: 50, message });

const urlOf = (stream, query = '', streamer = stack.streamer) => `${streamer.url}/events/${stream}/export${query}`;

/** The rows that a filter lets pass, each as a line of ndjson, as PostgreSQL would write it. */
async function lines(stream, where = 'true') {
  const rows = await stack.db.query(
    `SELECT format('{"seq":%s,"id":%s,"type":"%s","created_at":"%s","data":%s}', seq, id, event_type,
              to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), event_data) AS line
       FROM assistant_architect_events WHERE execution_id = pev_stream_id($1::text) AND ${where} ORDER BY seq`, [String(stream)]);
  return rows.map(({ line }) => `${line}\n`);
}

/** An export as it comes in: `bytes` so far, `ended` when and how it has. */
class Download {
  constructor(url, { headers = {}, agent = false, paused = false } = {}) {
    this.chunks = [];
    this.started = new Promise((resolve, reject) => {
      this.request = http.get(url, { headers, agent }, (response) => {
        this.response = response;
        this.status = response.statusCode;
        this.headers = response.headers;
        this.finished = new Promise((finish) => {
          response.on('end', () => finish(response.complete ? 'whole' : 'broken')).on('error', () => finish('broken')).on('aborted', () => finish('broken'));
        }).then((how) => { this.ended = how; return how; });
        if (!paused) this.read();
        resolve(this);
      }).on('error', reject);
    });
  }

  static open(url, options) {
    return within(new Download(url, options).started, `opening ${url}`);
  }

  read() {
    this.response.on('data', (chunk) => this.chunks.push(chunk));
  }

  get bytes() {
    return Buffer.concat(this.chunks);
  }

  /** Wait for its end, which must be this one. */
  async toEnd(how = 'whole') {
    assert.equal(await within(this.finished, 'the end of the export'), how);
    return this.bytes;
  }
}

/** The whole of an export, as text. */
async function download(url, options) {
  const export_ = await Download.open(url, options);
  const bytes = await export_.toEnd();
  assert.equal(export_.status, 200, bytes.toString());
  return { headers: export_.headers, body: bytes.toString(), bytes };
}

/** An answer must be a problem of this status. */
function assertProblem(answer, status, what = '') {
  assert.equal(answer.status, status, `${what}: ${answer.body}`);
  assert.match(answer.headers['content-type'], /^application\/problem\+json/, what);
  const problem = JSON.parse(answer.body);
  assert.equal(problem.status, status, what);
  assert.ok(problem.detail.endsWith('.'), `${what}: ${answer.body}`);
  assert.equal(answer.headers['retry-after'] !== undefined, [429, 503].includes(status), what);
  return problem.detail;
}

const counted = async (streamer, result) => (await metrics(streamer)).get(`pev_exports_total{result="${result}"}`);
const underWay = async (streamer) => (await metrics(streamer)).get('pev_exports');
const idle = (streamer = stack.streamer) => poll(async () => await underWay(streamer) === 0, 'no export being under way');

/** Hold a lock that lets no query of the events be answered, while the body runs. */
async function whileLocked(body) {
  const client = await stack.db.pool.connect();
  try {
    await client.query('BEGIN; LOCK TABLE assistant_architect_events IN ACCESS EXCLUSIVE MODE');
    await body(() => client.query('ROLLBACK'));
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
}

test('ndjson, the default: a line an event, with its data exactly as it is stored', async () => {
  const stream = newExecution();
  for (const [type, data] of executionEvents()) await stack.db.emit(stream, type, data);
  for (const query of ['', '?', '?format=ndjson', '?other=1&token=x']) {
    const { headers, body } = await download(urlOf(stream, query));
    assert.equal(headers['content-type'], 'application/x-ndjson', query);
    assert.equal(headers['content-disposition'], `attachment; filename="events-${stream}.ndjson"`);
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers.vary, 'Accept-Encoding');
    assert.equal(headers['content-encoding'], undefined);
    assert.equal(body, (await lines(stream)).join(''), query);
  }
});

test('json: one array of the same objects', async () => {
  const { headers, body } = await download(urlOf(many, '?format=json'));
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['content-disposition'], `attachment; filename="events-${many}.json"`);
  assert.equal(JSON.parse(body).length, MANY);
  assert.ok(body === `[\n${(await lines(many)).map((line) => line.slice(0, -1)).join(',\n')}\n]\n`);
});

test('csv: PostgreSQL reads back what the table holds', async () => {
  const stream = newExecution();
  for (const message of ['plain', 'a "quoted", comma', 'lines\r\nand\ttabs', '\\', "it's", 'üñí 😀', '=1+1', '']) await emitProgress(stream, message);
  const file = path.join(os.tmpdir(), `pev-export.${process.pid}.csv`);
  for (const [source, count] of [[stream, 8], [many, MANY]]) {
    const { headers, body } = await download(urlOf(source, '?format=csv'));
    assert.equal(headers['content-type'], 'text/csv; charset=utf-8; header=present');
    assert.equal(headers['content-disposition'], `attachment; filename="events-${source}.csv"`);
    assert.ok(body.startsWith('seq,id,type,created_at,data\r\n') && body.endsWith('\r\n'));
    fs.writeFileSync(file, body);
    await stack.db.query('CREATE TABLE back (seq bigint, id bigint, type text, created_at timestamptz, data text)');
    try {
      stack.db.run('psql', '-Xqc', `\\copy back FROM '${file}' (FORMAT csv, HEADER)`);
      const stored = `SELECT seq, id, event_type::text, created_at, event_data::text FROM assistant_architect_events WHERE execution_id = ${source}`;
      assert.equal(await stack.db.value('SELECT count(*) FROM back'), count);
      assert.deepEqual(await stack.db.query(`(TABLE back EXCEPT ${stored}) UNION ALL (${stored} EXCEPT TABLE back)`), []);
    } finally {
      fs.rmSync(file);
      await stack.db.query('DROP TABLE back');
    }
  }
});

test('gzip, when that is accepted: the same bytes after decompression', async () => {
  const plain = (await download(urlOf(many))).bytes;
  for (const format of ['ndjson', 'json', 'csv']) {
    const want = (await download(urlOf(many, `?format=${format}`))).bytes;
    const { headers, bytes } = await download(urlOf(many, `?format=${format}`), { headers: { 'Accept-Encoding': 'gzip, deflate, br' } });
    assert.equal(headers['content-encoding'], 'gzip');
    assert.equal(headers.vary, 'Accept-Encoding');
    assert.ok(zlib.gunzipSync(bytes).equals(want), format);
    assert.ok(bytes.length < want.length / 3, `${bytes.length} of ${want.length} bytes`);
  }
  for (const [accept, gzip] of [['gzip;q=0.5', true], ['identity;q=0.5, gzip;q=0.4', false], ['gzip;q=0', false], ['br', false], ['*', true], ['identity', false]]) {
    const { headers, bytes } = await download(urlOf(many), { headers: { 'Accept-Encoding': accept } });
    assert.equal(headers['content-encoding'] === 'gzip', gzip, accept);
    assert.ok((gzip ? zlib.gunzipSync(bytes) : bytes).equals(plain), accept);
  }
});

test('after, before and types', async () => {
  for (const [query, where] of [
    ['after=0', 'true'], [`after=${MANY - 10}`, `seq > ${MANY - 10}`], [`after=${MANY}`, 'false'], ['after=9223372036854775807', 'false'],
    ['before=3', 'seq < 3'], [`before=${MANY}`, `seq < ${MANY}`], ['before=0', 'false'], ['before=1', 'false'], ['before=9223372036854775807', 'true'],
    ['after=10&before=12', 'seq = 11'], ['after=12&before=10', 'false'], ['after=11&before=12', 'false'],
    ['types=prompt-complete', "event_type = 'prompt-complete'"],
    ['types=execution-start', 'false'], ['types=typing', 'false'],
    ['types=progress,prompt-complete&types=execution-start', 'true'],
    ['types=prompt-complete&after=500&before=901', "event_type = 'prompt-complete' AND seq > 500 AND seq < 901"],
  ]) {
    const want = await lines(many, where);
    assert.ok((await download(urlOf(many, `?${query}`))).body === want.join(''), query);
    const json = (await download(urlOf(many, `?format=json&${query}`))).body;
    assert.ok(json === (want.length > 0 ? `[\n${want.map((line) => line.slice(0, -1)).join(',\n')}\n]\n` : '[]\n'), query);
  }
});

test('events of every size; large ones do not gather in memory', async () => {
  const stream = newExecution();
  await fill(stream, 2_000);
  await stack.db.query(`INSERT INTO assistant_architect_events (execution_id, seq, event_type, event_data, created_at)
    SELECT $1::bigint, s, 'progress', jsonb_build_object('currentStep', 1, 'totalSteps', 1, 'percentage', 1, 'message', repeat('"ü', CASE WHEN s % 9 = 0 THEN 3 ELSE 100000 END)), now()
      FROM generate_series(2001, 2040) s`, [stream]);
  const want = (await lines(stream)).join('');
  await withStreamer([], async (streamer) => {
    const peak = () => Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${streamer.process.pid}/status`, 'utf8'))[1]) * 1024;
    await download(urlOf(many, '', streamer), { headers: { 'Accept-Encoding': 'gzip' } });
    const before = peak();
    assert.ok((await download(urlOf(stream, '', streamer))).body === want);
    if (wrapper.length === 0) assert.ok(peak() < before + (8 << 20), `${mib(peak())} for ${mib(want.length)}, before ${mib(before)}`);
    const gzip = (await download(urlOf(stream, '?format=json', streamer), { headers: { 'Accept-Encoding': 'gzip' } })).bytes;
    assert.equal(JSON.parse(zlib.gunzipSync(gzip)).length, 2_040);
  });
});

test('a stream may be spelled in every way, and names the file', async () => {
  await stack.db.emit('user:p_1', 'upload_started', { jobId: 'j' });
  for (const key of ['e96b74bc-aba8-4837-bb43-237fd687d18b', 'ü.x', 'export', '7']) await emitProgress(key);
  for (const [spelled, key, file] of [
    ['user:p_1', 'user:p_1', 'filename="events-user_p_1.ndjson"'],
    ['user%3Ap%5f1', 'user:p_1', 'filename="events-user_p_1.ndjson"'],
    ['E96B74BC-ABA8-4837-BB43-237FD687D18B', 'e96b74bc-aba8-4837-bb43-237fd687d18b', 'filename="events-e96b74bc-aba8-4837-bb43-237fd687d18b.ndjson"'],
    ['%C3%BC.x', 'ü.x', 'filename="events-_.x.ndjson"; filename*=UTF-8\'\'events-%C3%BC.x.ndjson'],
    ['export', 'export', 'filename="events-export.ndjson"'],
    ['007', '7', 'filename="events-7.ndjson"'],
  ]) {
    const { headers, body } = await download(urlOf(spelled));
    assert.equal(headers['content-disposition'], `attachment; ${file}`);
    assert.equal(body, (await lines(key)).join(''), spelled);
  }
});

test('what is wrong is told before anything is sent', async () => {
  for (const [query, detail] of [
    ['format=xml', /^"format"/], ['format=', /^"format"/], ['after=now', /^"after"/], ['after=-1', /^"after"/], ['before=x', /^"before"/],
    ['before=9223372036854775808', /^"before"/], ['types=', /^"types"/], ['types=nothing', /no event type "nothing"/],
    ['types=progress,nothing,typing', /no event type "nothing"/], ['after=%0', /percent/], ['after=1%00', /NUL/],
  ]) assert.match(assertProblem(await request(urlOf(many, `?${query}`)), 400, query), detail);
  for (const key of ['a%20b', '-1', '99999999999999999999', 'user:', 'a%2Fb']) assertProblem(await request(urlOf(key)), 400, key);
  for (const key of [newExecution(), 'never-heard-of', 'user:nobody', crypto.randomUUID()]) {
    assert.equal(assertProblem(await request(urlOf(key)), 404, key), 'This stream has no events.');
  }
  for (const target of ['/events//export', '/events/1/exports', '/events/1/export/', '/events/1/2/export', '/events/1//export', '/export']) {
    assertProblem(await request(`${stack.streamer.url}${target}`), 404, target);
  }
  for (const method of ['POST', 'PUT', 'DELETE']) {
    const answer = await request(urlOf(many), { method, body: '{}' });
    assertProblem(answer, 405, method);
    assert.equal(answer.headers.allow, 'GET, HEAD, OPTIONS');
  }
});

test('HEAD has the head that GET has, OPTIONS says what is allowed', async () => {
  for (const headers of [{}, { 'Accept-Encoding': 'gzip' }]) {
    const [get, head] = [await download(urlOf(many, '?format=csv'), { headers }), await request(urlOf(many, '?format=csv'), { method: 'HEAD', headers })];
    assert.equal(head.status, 200);
    assert.equal(head.body, '');
    for (const name of ['content-type', 'content-disposition', 'content-encoding', 'vary', 'cache-control']) assert.equal(head.headers[name], get.headers[name], name);
  }
  assert.equal((await request(urlOf(newExecution()), { method: 'HEAD' })).status, 404);
  assert.equal((await request(urlOf(many, '?format=x'), { method: 'HEAD' })).status, 400);
  const options = await request(urlOf(many), { method: 'OPTIONS' });
  assert.deepEqual([options.status, options.headers.allow], [204, 'GET, HEAD, OPTIONS']);
});

test('a connection takes one export after the other, and other requests', async () => {
  const get = (target, more = '') => `GET ${target} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
  const target = `/events/${many}/export?after=${MANY - 2}`;
  let text = '';
  const socket = net.connect(stack.streamer.port, '127.0.0.1').on('error', () => {});
  socket.setEncoding('utf8').on('data', (more) => { text += more; });
  const ended = new Promise((resolve) => socket.once('end', resolve));
  socket.write(get(target) + get(`/events/${many}/export?format=x`) + get(target) + get('/healthz') + get(target, 'Connection: close\r\n'));
  await within(ended, 'the end of the connection');
  assert.deepEqual(text.match(/^HTTP\/1\.1 \d+/gm), [200, 400, 200, 200, 200].map((status) => `HTTP/1.1 ${status}`));
  assert.equal(text.split((await lines(many, `seq > ${MANY - 2}`)).join('')).length, 4);
  assert.equal(text.match(/^0\r\n\r\n/gm).length, 3, 'the last chunk of each');
});

test('what has been deleted is absent', async () => {
  const stream = newExecution();
  await fill(stream, 3_000);
  await stack.db.query('DELETE FROM assistant_architect_events WHERE execution_id = $1 AND (seq <= 100 OR seq BETWEEN 500 AND 2500)', [stream]);
  const { body } = await download(urlOf(stream));
  assert.ok(body === (await lines(stream)).join(''));
  assert.equal(body.split('\n').length - 1, 3_000 - 100 - 2_001);
});

test('an export ends at the event that was the last when it began', async () => {
  const stream = newExecution();
  await fill(stream, MANY);
  const slow = await Download.open(urlOf(stream), { paused: true });
  for (let i = 0; i < 5; i++) await emitProgress(stream, 'later');
  slow.read();
  assert.ok((await slow.toEnd()).toString() === (await lines(stream, `seq <= ${MANY}`)).join(''));
});

test('clients that do not read hold a page each; others, and what is live, go on', async () => {
  await withStreamer(['--max-exports', '9'], async (streamer) => {
    await download(urlOf(many, '?format=csv', streamer), { headers: { 'Accept-Encoding': 'gzip' } });
    const before = resources(streamer.process.pid);
    const stalled = await Promise.all(Array.from({ length: 8 }, () => Download.open(urlOf(many, '', streamer), { paused: true })));
    const live = newExecution();
    const client = await SseClient.open(`${streamer.url}/events/${live}`);
    for (let i = 1; i <= 20; i++) {
      await emitProgress(live);
      await client.received(i);
    }
    client.close();
    assert.ok((await download(urlOf(many, '', streamer))).body === (await lines(many)).join(''));
    const { rss } = resources(streamer.process.pid);
    console.log(`# memory of the streamer: ${mib(before.rss)} before, ${mib(rss)} with 8 exports that nobody reads`);
    if (wrapper.length === 0) assert.ok(rss < before.rss + (8 << 20), `${mib(rss)}, before ${mib(before.rss)}`);
    const snapshots = () => stack.db.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'pev_streamer' AND backend_xmin IS NOT NULL");
    await poll(async () => await snapshots() === 0, 'no snapshot being held');
    for (const export_ of stalled) {
      export_.read();
      assert.ok((await export_.toEnd()).equals(Buffer.from((await lines(many)).join(''))));
    }
  });
});

test('beyond --max-exports clients are told to come back', async () => {
  await withStreamer(['--max-exports', '2'], async (streamer) => {
    const stalled = [await Download.open(urlOf(many, '', streamer), { paused: true }), await Download.open(urlOf(many, '', streamer), { paused: true })];
    assert.equal(await underWay(streamer), 2);
    assertProblem(await request(urlOf(many, '', streamer)), 503);
    assertProblem(await request(urlOf(many, '?format=x', streamer)), 400, 'what is wrong is told all the same');
    stalled[0].request.destroy();
    await poll(async () => await underWay(streamer) === 1, 'one having left');
    await download(urlOf(many, '', streamer));
    stalled[1].read();
    await stalled[1].toEnd();
    await idle(streamer);
    const values = await metrics(streamer);
    assert.deepEqual(['complete', 'left', 'broken', 'refused', 'unavailable'].map((result) => values.get(`pev_exports_total{result="${result}"}`)), [2, 1, 0, 1, 1]);
    assert.ok(values.get('pev_export_events_total') >= 2 * MANY);
    assert.ok(values.get('pev_export_bytes_total') >= 2 * (await lines(many)).join('').length);
  });
});

test('one address cannot have more than --max-exports-per-ip', async () => {
  await withStreamer(['--max-exports', '3', '--max-exports-per-ip', '1', '--trusted-proxy', '127.0.0.1'], async (streamer) => {
    const from = (address) => ({ headers: { 'X-Forwarded-For': address } });
    const stalled = await Download.open(urlOf(many, '', streamer), { ...from('192.0.2.1'), paused: true });
    assertProblem(await request(urlOf(many, '', streamer), from('192.0.2.1')), 429);
    await download(urlOf(many, '', streamer), from('192.0.2.2'));
    stalled.read();
    await stalled.toEnd();
    await download(urlOf(many, '', streamer), from('192.0.2.1'));
  });
});

test('a client that takes nothing is closed after --send-timeout', async () => {
  await withStreamer(['--send-timeout', '3s'], async (streamer) => {
    const stalled = await Download.open(urlOf(many, '', streamer), { paused: true });
    const slow = await Download.open(urlOf(many, `?after=${MANY - 10}`, streamer), { paused: true });
    await poll(async () => (await metrics(streamer)).get('pev_evictions_total{reason="send_timeout"}') === 1, 'the eviction');
    await idle(streamer);
    assert.equal(await counted(streamer, 'left'), 1);
    stalled.read();
    await stalled.toEnd('broken');
    slow.read();
    await slow.toEnd(); // what fits into the socket has been sent
  });
});

test('a client that hangs up while its query runs leaves nothing behind', async () => {
  await idle();
  await whileLocked(async (unlock) => {
    const asking = http.get(urlOf(many)).on('error', () => {});
    await poll(async () => await underWay(stack.streamer) === 1, 'the export having begun');
    const waiting = download(urlOf(many)); // for its turn at the connection
    await poll(async () => await underWay(stack.streamer) === 2, 'the second, too');
    asking.destroy();
    await poll(async () => await underWay(stack.streamer) === 1, 'the client having left');
    await unlock();
    assert.ok((await waiting).body === (await lines(many)).join(''));
  });
  await idle();
});

test('a query that takes too long breaks off that export alone', async () => {
  const stalled = await Download.open(urlOf(many), { paused: true });
  const broken = await counted(stack.streamer, 'broken');
  await whileLocked(async (unlock) => {
    stalled.read();
    const pid = await poll(() => stack.db.value("SELECT pid FROM pg_stat_activity WHERE usename = 'pev_streamer' AND wait_event_type = 'Lock'"), 'the query waiting');
    await stack.db.query('SELECT pg_cancel_backend($1)', [pid]);
    await stalled.toEnd('broken');
    await unlock();
  });
  assert.equal(await counted(stack.streamer, 'broken'), broken + 1);
  await download(urlOf(many));
});

/** A request of HTTP/1.0: all that comes, and how the connection ends. */
function ancient(streamer, target) {
  const chunks = [];
  const socket = net.connect(streamer.port, '127.0.0.1', () => socket.write(`GET ${target} HTTP/1.0\r\n\r\n`));
  socket.on('data', (chunk) => chunks.push(chunk));
  const ended = new Promise((resolve) => {
    socket.on('end', () => resolve('end')).on('error', (error) => resolve(error.code));
  });
  return { socket, ended: within(ended, 'the end of the connection'), text: () => Buffer.concat(chunks).toString() };
}

test('HTTP/1.0 gets the same file, to the end of the connection', async () => {
  const { ended, text } = ancient(stack.streamer, `/events/${many}/export`);
  assert.equal(await ended, 'end');
  const [head, body] = text().split(/\r\n\r\n(.*)/s);
  assert.doesNotMatch(head, /transfer-encoding/i);
  assert.ok(body === (await lines(many)).join(''));
});

/** Run the body while an export in HTTP/1.0 waits for its next page, its client for more. */
async function withAncientWaiting(streamer, body) {
  const old = ancient(streamer, `/events/${many}/export`);
  await within(new Promise((resolve) => old.socket.once('data', () => resolve(old.socket.pause()))), 'the beginning of the export');
  await whileLocked(async () => {
    old.socket.resume();
    await poll(() => stack.db.value("SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'pev_streamer' AND wait_event_type = 'Lock'"), 'its query waiting');
    await body();
  });
  assert.equal(await old.ended, 'ECONNRESET');
  assert.match(old.text(), /^HTTP\/1\.[01] 200 /);
}

test('when the database goes away, what is not whole does not look so', async () => {
  const plain = await Download.open(urlOf(many), { paused: true });
  const gzip = await Download.open(urlOf(many, '?format=json'), { headers: { 'Accept-Encoding': 'gzip;q=1', Connection: 'close' }, paused: true });
  const whole = await Download.open(urlOf(many, `?after=${MANY - 10}`), { paused: true });
  await poll(async () => await underWay(stack.streamer) === 2, 'the short one being sent');
  await stack.db.stopServer();
  try {
    for (const export_ of [plain, gzip, whole]) export_.read();
    const part = (await plain.toEnd('broken')).toString();
    assert.ok(part.endsWith('\n') && part.split('\n').length > 1, 'complete lines, up to some number');
    const compressed = await gzip.toEnd('broken');
    assert.throws(() => zlib.gunzipSync(compressed));
    assert.equal((await whole.toEnd()).toString().split('\n').length, 11);
    await poll(async () => assertProblem(await request(urlOf(many)), 503), 'the answer while the database is away');
  } finally {
    await stack.db.startServer();
  }
  await poll(async () => (await request(urlOf(many, `?after=${MANY - 1}`))).status === 200, 'exporting again');
  assert.ok((await download(urlOf(many))).body === (await lines(many)).join(''));
  await idle();
});

test('on SIGTERM exports are finished, within --drain-timeout', async () => {
  await withStreamer(['--drain-timeout', '20s'], async (streamer) => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    await request(`${streamer.url}/healthz`, { agent });
    const slow = await Download.open(urlOf(many, '', streamer), { paused: true });
    streamer.process.kill('SIGTERM');
    await poll(() => streamer.log.includes('draining'), 'draining');
    assertProblem(await request(urlOf(many, '', streamer), { agent }), 503);
    slow.read();
    assert.ok((await slow.toEnd()).toString() === (await lines(many)).join(''));
    assert.equal((await within(streamer.exited, 'the end')).code, 0);
    agent.destroy();
  });
  await withStreamer(['--drain-timeout', '200ms'], async (streamer) => {
    const slow = await Download.open(urlOf(many, '', streamer), { paused: true });
    streamer.process.kill('SIGTERM');
    assert.equal((await within(streamer.exited, 'the end')).code, 0);
    slow.read();
    await slow.toEnd('broken');
  });
});

test('in HTTP/1.0 an export that is broken off ends with a reset', async () => {
  await withAncientWaiting(stack.streamer, async () => {
    await stack.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pev_streamer' AND wait_event_type = 'Lock'");
  });
  await withStreamer(['--drain-timeout', '200ms'], (streamer) => withAncientWaiting(streamer, async () => {
    streamer.process.kill('SIGTERM');
    assert.equal((await within(streamer.exited, 'the end')).code, 0);
  }));
});

test('who may read the stream may export it, and nobody else', async () => {
  await withStreamer(['--jwt-secret-file', ring.file('secret'), '--token-cookie', 'pev', '--cors-origin', 'https://app.example'], async (streamer) => {
    const url = (query = '') => urlOf(many, `?after=${MANY - 2}${query}`, streamer);
    const token = ring.token({ 'pev.read': [String(many)] });
    const want = (await lines(many, `seq > ${MANY - 2}`)).join('');
    for (const [query, headers] of [['', { Authorization: `Bearer ${token}` }], ['', { Cookie: `pev=${token}` }], [`&token=${token}`, {}]]) {
      assert.equal((await download(url(query), { headers })).body, want);
    }
    for (const [headers, status] of [
      [{}, 401], [{ Authorization: 'Bearer x' }, 401], [{ Authorization: `Bearer ${ring.token({ 'pev.read': [String(many + 1)] })}` }, 403],
      [{ Authorization: `Bearer ${ring.token({ 'pev.read': [], 'pev.emit': [String(many)] })}` }, 403],
    ]) {
      const answer = await request(url(), { headers });
      assertProblem(answer, status);
      assert.ok(answer.headers['www-authenticate']);
    }
    assertProblem(await request(urlOf(newExecution(), '', streamer)), 401, 'whether there are events is nobody’s business');
    const page = await download(url(), { headers: { Authorization: `Bearer ${token}`, Origin: 'https://app.example' } });
    assert.equal(page.headers['access-control-allow-origin'], 'https://app.example');
    assert.equal(page.headers['access-control-expose-headers'], 'Content-Disposition');
    assert.match(page.headers.vary, /Accept-Encoding/);
    assert.match(page.headers.vary, /Origin/);
  });
});

test('a ticket exports its stream, one download at a time', async () => {
  await withStreamer(['--jwt-secret-file', ring.file('secret')], async (streamer) => {
    const url = urlOf(many, `?token=${await stack.db.value('SELECT pev_ticket($1::text)', [String(many)])}`, streamer);
    const stalled = await Download.open(url, { paused: true });
    assertProblem(await request(url), 401, 'a second use');
    assertProblem(await request(url.replace(many, newExecution())), 401, 'another stream');
    stalled.read();
    for (const bytes of [await stalled.toEnd(), (await download(url)).bytes]) assert.ok(bytes.equals(Buffer.from((await lines(many)).join(''))));
  });
});

test('revoking the token breaks an export off', async () => {
  await withStreamer(['--jwt-secret-file', ring.file('secret')], async (streamer) => {
    const id = crypto.randomUUID();
    const headers = { Authorization: `Bearer ${ring.token({ 'pev.read': [String(many)], jti: id })}` };
    const stalled = await Download.open(urlOf(many, '', streamer), { headers, paused: true });
    await stack.db.query('SELECT pev_revoke_token($1)', [id]);
    await poll(async () => (await request(urlOf(many, '', streamer), { method: 'HEAD', headers })).status === 401, 'the revocation');
    stalled.read();
    await stalled.toEnd('broken');
    assert.equal(await counted(streamer, 'broken'), 1);
  });
});
