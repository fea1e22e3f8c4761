// What the fault tests and the soak have in common: clients that return by
// Last-Event-ID as EventSource does, writers that survive the database's crashes,
// and the comparison of what arrived with what the table holds.
//
// A follower keeps no events. It counts them by their numbers (a number left out is
// lost, one that comes again is doubled, one that comes after a later one is out of
// order) and hashes what they say; the table's rows are hashed in the same way, in
// the database. So the comparison is exact however much is delivered.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import pg from 'pg';
import { DEADLINE, poll, within, wrapper } from './harness.js';

export const progress = (i, message = `step ${i}`) => ['progress', { currentStep: i, totalSteps: 9, percentage: 50, message }];
export const end = ['execution-complete', { totalTokens: 1, duration: 1, success: true }];

/** Pseudo-random numbers that are the same in every run. */
export function random(seed) {
  return () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Give each whole block of an event stream's text to `take`; returns the rest. */
export function takeBlocks(text, take) {
  let start = 0, stop;
  while ((stop = text.indexOf('\n\n', start)) >= 0) {
    take(text.slice(start, stop));
    start = stop + 2;
  }
  return text.slice(start);
}

/**
 * A client that follows a stream to its end through any number of connections. Emits
 * "event" (id, type, data) for each event and "finished" when it was told that nothing
 * follows (204), as EventSource understands it.
 */
export class Follower extends EventEmitter {
  /** `base` may be a function, for a server that moves; `after` is where it starts. */
  constructor(base, stream, { after = 0, retry } = {}) {
    super();
    this.setMaxListeners(0);
    Object.assign(this, { base, stream, from: after, last: after, fixedRetry: retry });
    this.retry = 1_000;
    this.count = 0; // events that arrived for the first time
    this.doubled = 0;
    this.disordered = 0;
    this.missing = new Set();
    this.connections = 0;
    this.hash = createHash('md5');
    this.finished = false;
    this.connect();
  }

  get lost() {
    return this.missing.size;
  }

  connect() {
    const base = typeof this.base === 'function' ? this.base() : this.base;
    const headers = { Accept: 'text/event-stream' };
    if (this.last > 0) headers['Last-Event-ID'] = String(this.last);
    let over = false;
    const again = () => {
      if (over || this.finished) return;
      over = true;
      this.connected = false;
      this.emit('disconnected');
      this.timer = setTimeout(() => this.connect(), this.fixedRetry ?? this.retry);
    };
    this.rest = '';
    this.request = http.get(`${base}/events/${encodeURIComponent(this.stream)}`, { headers, agent: false }, (response) => {
      response.on('error', again).on('close', again);
      if (response.statusCode === 204) {
        response.resume();
        this.finish();
        return;
      }
      this.response = response;
      if (response.statusCode !== 200) this.fault ??= new Error(`stream ${this.stream}: status ${response.statusCode}`);
      this.connected = true;
      this.connections++;
      this.emit('connected');
      response.setEncoding('utf8').on('data', (text) => over || this.receive(text));
    });
    this.request.on('error', again);
  }

  finish() {
    this.finished = true;
    this.connected = false;
    this.emit('finished');
  }

  receive(text) {
    this.rest = takeBlocks(this.rest + text, (block) => this.block(block));
  }

  block(text) {
    let id, type, data;
    for (const line of text.split('\n')) {
      if (line.startsWith('data: ')) data = data === undefined ? line.slice(6) : `${data}\n${line.slice(6)}`;
      else if (line.startsWith('id: ')) id = Number(line.slice(4));
      else if (line.startsWith('event: ')) type = line.slice(7);
      else if (line.startsWith('retry: ')) this.retry = Number(line.slice(7));
      else if (!line.startsWith(':') && line !== '') this.fault ??= new Error(`stream ${this.stream}: not a line of an event stream: ${JSON.stringify(line)}`);
    }
    if (data === undefined) return;
    if (id === undefined) {
      this.fault ??= new Error(`stream ${this.stream}: an event without a number: ${text}`);
      return;
    }
    if (id > this.last) {
      for (let lost = this.last + 1; lost < id; lost++) this.missing.add(lost);
      this.last = id;
      this.count++;
    } else if (this.missing.delete(id)) {
      this.disordered++;
      this.count++;
    } else this.doubled++;
    this.hash.update(`${id}\n${type}\n${data}\n`);
    this.emit('event', id, type, data);
  }

  /** Read nothing more for now; what the kernels' buffers take, they take. */
  hold() {
    this.response.pause();
  }

  release() {
    this.response.resume();
  }

  /** Forget the connection, as if the network had; it returns by itself. */
  cut() {
    this.request.destroy();
  }

  close() {
    this.finished = true;
    clearTimeout(this.timer);
    this.request.destroy();
  }

  /** What is wrong with what it holds, given the table's [count, last, hash]; or nothing. */
  compare([count, last, hash]) {
    const faults = [];
    if (this.fault) faults.push(this.fault.message);
    if (this.lost || this.last < last) faults.push(`${this.lost + Math.max(0, last - this.last)} lost`);
    if (this.doubled) faults.push(`${this.doubled} doubled`);
    if (this.disordered) faults.push(`${this.disordered} out of order`);
    if (faults.length === 0 && (this.count !== count || this.hash.copy().digest('hex') !== hash)) faults.push(`not the table's events: ${this.count} of ${count}`);
    return faults.length === 0 ? undefined : `stream ${this.stream}: ${faults.join(', ')}`;
  }
}

/** Wait until every follower has been told that nothing follows. */
export function allFinished(followers, ms = 3 * DEADLINE) {
  return poll(() => followers.every((f) => f.finished), 'every client being told that nothing follows', ms).catch((error) => {
    const open = followers.filter((f) => !f.finished);
    throw new Error(`${error.message}; open: ${open.length}, such as stream ${open[0].stream} after ${open[0].last}, ${open[0].connected ? 'connected' : 'not connected'}`);
  });
}

/** What the table holds of a stream after a number: [count, last number, hash]. */
export async function digest(db, stream, after = 0) {
  const [row] = await db.query(
    `SELECT count(*) AS count, coalesce(max(seq), $2) AS last,
            md5(coalesce(string_agg(seq || E'\\n' || event_type || E'\\n' || event_data || E'\\n', '' ORDER BY seq), '')) AS hash
       FROM assistant_architect_events WHERE execution_id = pev_stream_id($1::text) AND seq > $2`, [String(stream), after]);
  return [row.count, row.last, row.hash];
}

/** Every follower holds exactly the rows of its stream, once, in order; and the streams have no gaps. */
export async function assertExact(db, followers) {
  const digests = new Map();
  const faults = [];
  for (const follower of followers) {
    const key = `${follower.stream} ${follower.from}`;
    if (!digests.has(key)) digests.set(key, await digest(db, follower.stream, follower.from));
    const fault = follower.compare(digests.get(key));
    if (fault) faults.push(fault);
  }
  assert.deepEqual(faults, []);
  assert.ok(followers.some((f) => f.count > 0), 'nothing was delivered at all');
  await assertGapless(db);
}

/** In the table itself: 1, 2, 3 … in every stream, in the order of time. */
export async function assertGapless(db) {
  const wrong = await db.query(
    `SELECT execution_id, count(*), min(seq), max(seq) FROM assistant_architect_events
      GROUP BY execution_id HAVING min(seq) <> 1 OR max(seq) <> count(*)
      UNION ALL
     SELECT execution_id, NULL, seq, NULL FROM
       (SELECT execution_id, seq, created_at, lag(created_at) OVER (PARTITION BY execution_id ORDER BY seq) AS before
          FROM assistant_architect_events) e WHERE created_at <= before`);
  assert.deepEqual(wrong, [], 'streams with gaps, or not in the order of time');
}

/** Is it an error that says only that the server is away, or that the session is? */
function isOutage(error) {
  return !/^[0-9A-Z]{5}$/.test(error.code ?? '') || /^(57P0[123]|08...)$/.test(error.code);
}

/** A session that connects again, and repeats its statement, until the server answers. */
export class StubbornSession {
  constructor(db) {
    this.db = db;
    this.outages = 0;
  }

  /** A statement that was cut off may have been committed: it is repeated all the same. */
  async query(text, values) {
    for (;;) {
      try {
        this.client ??= await this.connect();
        return (await this.client.query(text, values)).rows;
      } catch (error) {
        if (!isOutage(error) || this.closed) throw error;
        this.outages++;
        this.client?.end().catch(() => {});
        this.client = undefined;
        await pause(20);
      }
    }
  }

  async connect() {
    const { PGPORT, PGUSER, PGDATABASE } = this.db.env;
    const client = new pg.Client({ host: '127.0.0.1', port: Number(PGPORT), user: PGUSER, database: PGDATABASE, connectionTimeoutMillis: 5_000 });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  emit(stream, type, data) {
    return this.query('SELECT pev_emit($1::text, $2, $3::jsonb)', [String(stream), type, JSON.stringify(data)]);
  }

  /** Close a stream; that it is closed already is what a repetition finds. */
  async close(stream) {
    try {
      await this.emit(stream, ...end);
    } catch (error) {
      if (error.code !== '55000') throw error;
    }
  }

  async end() {
    this.closed = true;
    await this.client?.end().catch(() => {});
  }
}

/** Writers that emit into streams, at most `rate` events a second in all, until they are stopped. */
export class Load {
  constructor(db, streams, { writers = 8, rate = 400, message = (i) => `step ${i}` } = {}) {
    Object.assign(this, { db, streams, writers, rate, message });
    this.emitted = 0;
    this.running = true;
    this.started = performance.now();
    this.sessions = Array.from({ length: writers }, () => new StubbornSession(db));
    this.done = Promise.all(this.sessions.map((session, i) => this.run(session, random(i + 1))));
    this.done.catch(() => (this.running = false));
  }

  async run(session, next) {
    for (let i = 0; this.running; i++) {
      await session.emit(this.streams[Math.floor(next() * this.streams.length)], ...progress(i, this.message(i)));
      this.emitted++;
      // Pacing, not waiting: nobody depends on when exactly an event is emitted.
      const ahead = (this.emitted / this.rate) * 1000 - (performance.now() - this.started);
      if (ahead > 0) await pause(ahead);
      else if (ahead < -1000) this.started = performance.now() - (this.emitted / this.rate) * 1000;
    }
  }

  /** Wait until so many more events have been emitted: the load is on. */
  more(n, ms) {
    const level = this.emitted + n;
    return poll(() => {
      assert.ok(this.running, 'the writers are running');
      return this.emitted >= level;
    }, `${n} more events being emitted`, ms);
  }

  get outages() {
    return this.sessions.reduce((sum, session) => sum + session.outages, 0);
  }

  /** End the writers and close every stream. */
  async stop() {
    this.running = false;
    await within(this.done, 'the writers');
    for (const stream of this.streams) await this.sessions[0].close(stream);
    await Promise.all(this.sessions.map((session) => session.end()));
  }
}

/** What a process holds: resident bytes and descriptors. */
export function resources(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return {
    rss: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024,
    fds: fs.readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** What the streamer holds while nobody asks it anything: the last answer's connection must be closed. */
export async function atRest(streamer) {
  let held, same = 0;
  await poll(() => {
    const now = resources(streamer.process.pid);
    same = now.fds === held?.fds ? same + 1 : 0;
    held = now;
    return same >= 50;
  }, 'the streamer being at rest');
  return held;
}

export const mib = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`;

/**
 * The streamer's descriptors return to where they were before, and its memory to within
 * `slack` bytes: what malloc keeps of a burst, which a second burst finds again.
 */
export async function assertReturns(streamer, before, { slack = 4 << 20 } = {}) {
  let now;
  await poll(() => (now = resources(streamer.process.pid)).fds === before.fds, 'the streamer closing its descriptors').catch((error) => {
    const open = fs.readdirSync(`/proc/${streamer.process.pid}/fd`).map((fd) => fs.readlinkSync(`/proc/${streamer.process.pid}/fd/${fd}`));
    throw new Error(`${error.message}: ${now.fds} of ${before.fds} before: ${open}`);
  });
  // Valgrind never gives back what was freed, but then it looks for leaks itself.
  if (wrapper.length === 0) assert.ok(now.rss <= before.rss + slack, `memory: ${mib(now.rss)}, before ${mib(before.rss)}`);
  return now;
}

/** The value below which so many per cent of the samples are. */
export function percentile(samples, percent) {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}
