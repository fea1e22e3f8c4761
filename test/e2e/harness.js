// What every end-to-end test starts with: a private database server, the real
// streamer in front of it, and clients that record exactly what arrives.
//
// Nothing here sleeps and hopes: what is waited for is either announced (a frame,
// a log line, an answer) or polled, always with a deadline. The servers end with
// this process, however it ends: pgtemp sees its standard input close, and the
// streamer asks the kernel for a signal (setpriv --pdeathsig).

import { execFileSync, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import readline from 'node:readline';
import { after, before, test as nodeTest } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { insistOnSecrecy, keepSecret, lookForSecrets } from './secrets.js';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const version = JSON.parse(fs.readFileSync(path.join(root, 'META.json'))).version;

// Another build of the streamer, such as one with sanitizers.
export const sanitized = process.env.PEV_STREAMER !== undefined;
export const streamerPath = path.resolve(root, process.env.PEV_STREAMER ?? 'streamer/pev-streamer');

// A command put before the streamer's, such as "valgrind --error-exitcode=9".
export const wrapper = (process.env.PEV_STREAMER_WRAPPER ?? '').split(' ').filter(Boolean);

// Deadlines in milliseconds: generous, because only a failure waits for them.
export const DEADLINE = wrapper.length > 0 ? 60_000 : 20_000;

// bigint columns as numbers: no test counts beyond 2^53.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

const running = new Set(); // everything to stop, and to print when a test fails
const ending = new Set(); // what is being stopped

// What speaks a URL's protocol.
const speaker = (url) => (String(url).startsWith('https:') ? https : http);

/** Wait for a promise, but not longer than the deadline. */
export function within(promise, what, ms = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Ask again and again until the answer is true, and return it. */
export async function poll(question, what, ms = DEADLINE) {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A test that prints the logs of both servers when it fails. */
export function test(name, body) {
  return nodeTest(name, { timeout: 10 * DEADLINE }, async (context) => {
    try {
      await body(context);
    } catch (error) {
      for (const server of running) process.stderr.write(server.report());
      throw error;
    }
  });
}

/** The last lines of a log, under a title. */
function logReport(title, text) {
  return `--- ${title} (the last 100 lines), during a failed test\n${text.split('\n').slice(-101).join('\n')}\n`;
}

/** Take a server out of those that run, and note that it ends until it has. */
async function stopping(server, body) {
  running.delete(server);
  ending.add(server);
  try {
    await body();
  } finally {
    ending.delete(server);
  }
}

/** A private database server with the extension in its database. */
export class Database {
  /**
   * Start one; `settings` are the server's, as in {wal_level: 'logical'}, `args` pgtemp's,
   * and `prefix` is a command to run pgtemp by.
   */
  static async start({ settings = {}, args = [], prefix = [] } = {}) {
    const db = new Database();
    const options = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
    const [program, ...words] = [...prefix, path.join(root, 'test/bin/pgtemp'), 'serve', ...options, ...args];
    db.process = spawn(program, words, {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    db.answers = readline.createInterface({ input: db.process.stdout })[Symbol.asyncIterator]();
    running.add(db);
    const [word, ...pairs] = (await db.answer('starting PostgreSQL')).split(' ');
    if (word !== 'ready') throw new Error(`pgtemp says ${word}`);
    db.env = Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
    db.dsn = `host=127.0.0.1 port=${db.env.PGPORT} user=${db.env.PGUSER} dbname=${db.env.PGDATABASE}`;
    db.pool = db.newPool();
    await db.query('CREATE EXTENSION pev');
    return db;
  }

  /**
   * Do something while a commit with NOTIFY waits for a standby that there is not, and so
   * all others with NOTIFY wait for that one.
   */
  async whileNotifyWaits(body) {
    const session = await this.pool.connect();
    const alter = async (change) => {
      await this.query(`ALTER SYSTEM ${change}`);
      await this.query('SELECT pg_reload_conf()');
    };
    let committed;
    try {
      await alter("SET synchronous_standby_names = 'nobody'");
      // Commits wait once the checkpointer has read the setting.
      await poll(async () => {
        let over = false;
        committed = session.query("BEGIN; SELECT pg_logical_emit_message(true, '', ''); NOTIFY waits; COMMIT").finally(() => { over = true; });
        await poll(async () => over || await this.value("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), 'a commit, or its waiting');
        return !over;
      }, 'a commit waiting');
      return await body();
    } finally {
      await alter('RESET synchronous_standby_names');
      await committed;
      session.release();
    }
  }

  newPool(max = 10) {
    const pool = new pg.Pool({
      host: '127.0.0.1', port: Number(this.env.PGPORT), user: this.env.PGUSER, database: this.env.PGDATABASE, max,
    });
    pool.on('error', () => {}); // a connection that was idle when a test stopped the server
    return pool;
  }

  async answer(what) {
    const { value, done } = await within(this.answers.next(), what, 60_000);
    if (done) throw new Error(`${what}: pgtemp ended`);
    return value;
  }

  async command(text) {
    this.process.stdin.write(`${text}\n`);
    const answer = await this.answer(`pgtemp: ${text}`);
    if (answer !== 'ok') throw new Error(`pgtemp: ${text}: ${answer}`);
  }

  stopServer(mode = 'immediate') {
    return this.command(`stop ${mode}`);
  }

  startServer() {
    return this.command('start');
  }

  /** Run one of the server's own programs, such as pg_dump; returns what it prints. */
  run(program, ...args) {
    return execFileSync(path.join(this.env.BINDIR, program), args, {
      encoding: 'utf8', maxBuffer: 1 << 28,
      env: { ...process.env, PGHOST: this.env.PGHOST, PGPORT: this.env.PGPORT, PGUSER: this.env.PGUSER, PGDATABASE: this.env.PGDATABASE },
    });
  }

  /** The same server's other database, with the extension in it; it has no process of its own. */
  async other(name, { create = true } = {}) {
    const other = new Database();
    other.env = { ...this.env, PGDATABASE: name };
    other.dsn = this.dsn.replace(/dbname=.*/, `dbname=${name}`);
    if (create) await this.query(`CREATE DATABASE ${name}`);
    other.pool = other.newPool();
    if (create) await other.query('CREATE EXTENSION pev');
    return other;
  }

  /** The rows of a statement; a token or ticket among them is a secret from then on. */
  async query(text, values) {
    const { rows } = await this.pool.query(text, values);
    if (/\bpev_(token|ticket)\(/.test(text)) for (const value of rows.flatMap(Object.values)) keepSecret(String(value));
    return rows;
  }

  /** The first column of a statement's first row. */
  async value(text, values) {
    const [row] = await this.query(text, values);
    return row && Object.values(row)[0];
  }

  /** Emit one event; `stream` in any spelling. Returns its seq. */
  emit(stream, type, data = {}) {
    return this.value('SELECT pev_emit($1::text, $2, $3::jsonb)', [String(stream), type, JSON.stringify(data)]);
  }

  /** What a client of the stream must have received: its rows, data as PostgreSQL prints it. */
  expected(stream, after = 0) {
    return this.query(
      `SELECT seq::text AS id, event_type::text AS event, event_data::text AS data
         FROM assistant_architect_events
        WHERE execution_id = pev_stream_id($1::text) AND seq > $2 ORDER BY seq`, [String(stream), after]);
  }

  log() {
    try {
      return fs.readFileSync(this.env.LOG, 'utf8');
    } catch {
      return ''; // it has not started
    }
  }

  report() {
    return logReport("PostgreSQL's log", this.log());
  }

  /** What its sessions say that they do, unless it is down. */
  async activity() {
    const { rows } = await this.pool.query('SELECT * FROM pg_stat_activity').catch(() => ({ rows: [] }));
    return JSON.stringify(rows);
  }

  stop() {
    return stopping(this, async () => {
      lookForSecrets("PostgreSQL's log", this.log());
      await this.pool?.end();
      this.process.stdin.end();
      if (this.process.exitCode === null) await within(new Promise((done) => this.process.once('exit', done)), 'ending PostgreSQL', 60_000);
      insistOnSecrecy();
    });
  }
}

/** The streamer, as a user starts it. */
export class Streamer {
  /**
   * Start it, and wait until it listens; `listen` fixes the port, `args` and `env` are
   * further options. Unless they say so it never polls: that would hide lost doorbells.
   */
  static async start({ dsn, listen = '127.0.0.1:0', args = [], env = {} }) {
    const streamer = new Streamer();
    const command = [...wrapper, streamerPath, '--listen', listen, '--dsn', dsn, '--poll', '1h', ...args];
    streamer.log = '';
    streamer.process = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
      stdio: ['ignore', 'inherit', 'pipe'], env: { ...process.env, ...env },
    });
    running.add(streamer);
    streamer.exited = new Promise((resolve) => {
      // "close", not "exit": the last log lines must have been read.
      streamer.process.once('close', (code, signal) => {
        lookForSecrets("the streamer's log", streamer.log);
        resolve({ code, signal });
      });
    });
    streamer.url = await within(new Promise((resolve, reject) => {
      streamer.process.stderr.setEncoding('utf8').on('data', (text) => {
        streamer.log += text;
        const match = /listening on (https?:\/\/[0-9.]+:\d+)/.exec(streamer.log);
        if (match) resolve(match[1]);
      });
      streamer.exited.then(({ code }) => reject(new Error(`the streamer ended with ${code}: ${streamer.log}`)));
    }), 'starting the streamer');
    streamer.port = Number(new URL(streamer.url).port);
    return streamer;
  }

  /** Wait until the database answers it. */
  ready(options) {
    return poll(async () => (await request(`${this.url}/readyz`, options)).status === 200, 'the streamer being ready');
  }

  kill(signal) {
    this.process.kill(signal);
    return within(this.exited, `the streamer's end by ${signal}`);
  }

  report() {
    return logReport("the streamer's log", this.log);
  }

  /** Its metrics, unless it has more to do than to answer. */
  async metrics() {
    try {
      return await (await fetch(`${this.url}/metrics`, { signal: AbortSignal.timeout(2_000) })).text();
    } catch {
      return '';
    }
  }

  /** End it as an operator does, and insist on a clean exit. */
  stop() {
    return stopping(this, async () => {
      for (const server of running) if (server instanceof Database) lookForSecrets('pg_stat_activity', await server.activity());
      lookForSecrets('/metrics', await this.metrics());
      const { code, signal } = await this.kill('SIGTERM');
      insistOnSecrecy();
      if (code === 0 || this.mayFail) return;
      process.exitCode = 1; // node:test does not hear what is thrown after the last test
      console.log(`not ok - the streamer ended with code ${code}, signal ${signal}\n${this.report()}`);
      throw new Error(`the streamer ended with code ${code}, signal ${signal}`);
    });
  }
}

/**
 * Both, for the length of a test file: started before its first test, stopped after
 * its last. To be called where the file begins; the servers are there in the tests.
 */
export function useStack({ streamer = {}, ...database } = {}) {
  const stack = {};
  before(async () => {
    stack.db = await Database.start(database);
    stack.streamer = await Streamer.start({ dsn: stack.db.dsn, ...streamer });
  });
  after(() => stopStack(stack));
  return stack;
}

export async function stopStack({ db, streamer }) {
  try {
    if (running.has(streamer)) await streamer.stop();
  } finally {
    if (running.has(db)) await db.stop();
  }
}

// After a failed test a connection may be left that would keep this process alive. This
// comes before what the files do afterwards, so their servers must have ended, or take too long.
after(() => {
  const end = Date.now() + 2 * DEADLINE;
  setInterval(() => {
    if ((running.size === 0 && ending.size === 0) || Date.now() > end) process.exit();
  }, 1_000).unref();
});

process.on('exit', () => {
  for (const server of [...running, ...ending]) server.process.kill('SIGKILL');
});

/**
 * An event stream, recorded: `events` as {id, event, data} with the fields that
 * were there, `comments`, `retries`, and every raw byte. Stricter than EventSource:
 * a line that the standard would ignore is an error.
 */
export class SseRecord extends EventEmitter {
  constructor(target) {
    super();
    this.target = target;
    this.setMaxListeners(0);
    this.events = [];
    this.comments = [];
    this.retries = [];
    this.raw = '';
    this.ended = false;
    this.rest = '';
  }

  receive(text) {
    this.raw += text;
    this.rest += text;
    let end;
    while ((end = this.rest.indexOf('\n\n')) >= 0) {
      this.block(this.rest.slice(0, end));
      this.rest = this.rest.slice(end + 2);
    }
    this.emit('progress');
  }

  /** One block of lines, up to the empty line that ends it. */
  block(text) {
    const fields = {};
    for (const line of text.split('\n')) {
      const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
      if (line.startsWith(':')) this.comments.push(line.slice(1).trim());
      else if (name === 'retry') this.retries.push(Number(value));
      else if (name === 'data') fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
      else if (name === 'id' || name === 'event') fields[name] = value;
      else if (line !== '') this.fault = new Error(`not a line of an event stream: ${JSON.stringify(line)}`);
    }
    if (fields.id) this.lastId = fields.id;
    // An id alone moves the position and is no event: EventSource sees none either.
    if (fields.data !== undefined) this.events.push(fields);
    else if (fields.event !== undefined) this.fault = new Error(`an event without data: ${JSON.stringify(text)}`);
  }

  finish(how, error) {
    if (this.ended) return;
    this.ended = how;
    lookForSecrets(`the answer to ${this.target}`, this.raw);
    this.error = error;
    this.emit('progress');
  }

  /** Wait until the condition holds; it is looked at whenever something arrives. */
  until(condition, what, ms = DEADLINE) {
    return within(new Promise((resolve, reject) => {
      const look = () => {
        if (this.fault) reject(this.fault);
        else if (condition(this)) resolve(this);
        else if (this.ended) reject(new Error(`${what}: the stream ended first (${this.ended}) after ${this.events.length} events`));
        else return;
        this.off('progress', look);
      };
      this.on('progress', look);
      look();
    }), what, ms);
  }

  /** Wait for n events in all. */
  received(n, ms) {
    return this.until(() => this.events.length >= n, `${n} events`, ms);
  }

  /** Wait for the server to end the response, as it should. */
  async toEnd(ms) {
    await this.until(() => this.ended === 'end', 'the end of the response', ms);
    if (this.rest !== '') throw new Error(`the response ends in the middle of an event: ${JSON.stringify(this.rest)}`);
    return this;
  }

}

/** One connection that an event stream is asked for on, and its record. */
export class SseClient extends SseRecord {
  constructor(url, { headers = {}, agent, ca } = {}) {
    super(url);
    this.opened = new Promise((resolve, reject) => {
      this.request = speaker(url).get(url, { headers: { Accept: 'text/event-stream', ...headers }, agent: agent ?? false, ca }, (response) => {
        this.response = response;
        this.status = response.statusCode;
        this.headers = response.headers;
        response.setEncoding('utf8');
        response.on('data', (text) => this.receive(text));
        response.on('end', () => this.finish('end'));
        response.on('error', (error) => this.finish('broken', error));
        resolve(this);
      });
      this.request.on('error', (error) => {
        this.finish('broken', error);
        reject(error);
      });
    });
    this.opened.catch(() => {});
  }

  /** Connect, and wait for the response's head. */
  static open(url, options) {
    return within(new SseClient(url, options).opened, `opening ${url}`);
  }

  close() {
    this.finish('closed');
    this.request.destroy();
  }
}

/** One plain request; returns status, headers and the whole body. */
export function request(url, { method = 'GET', headers = {}, body: sent, agent = false, ca } = {}) {
  return within(new Promise((resolve, reject) => {
    const req = speaker(url).request(url, { method, headers, agent, ca }, (response) => {
      let body = '';
      response.on('error', reject);
      response.setEncoding('utf8').on('data', (text) => (body += text));
      response.on('end', () => {
        lookForSecrets(`the answer to ${method} ${url}`, JSON.stringify(response.headers) + body);
        resolve({ status: response.statusCode, headers: response.headers, body });
      });
    });
    req.on('error', reject);
    req.end(sent);
  }), `${method} ${url}`);
}

/** The events of one execution of an assistant, from start to completion: [type, data]. */
export function executionEvents(prompts = 3) {
  const events = [['execution-start', { totalPrompts: prompts, toolName: 'Contract review' }]];
  for (let position = 1; position <= prompts; position++) {
    const promptId = 100 + position;
    events.push(
      ['prompt-start', {
        promptId, promptName: `Step ${position}`, position, totalPrompts: prompts, modelId: 'model-a',
        hasKnowledge: true, hasTools: false,
      }],
      ['knowledge-retrieval-start', { promptId, repositories: [7, 9], searchType: 'hybrid' }],
      ['knowledge-retrieved', { promptId, documentsFound: 4 + position, relevanceScore: 0.82, tokens: 1830 }],
      ['variable-substitution', { promptId, variables: { clause: 'übernimmt – “alles”\nnicht' }, sourcePrompts: [promptId - 1] }],
      ['prompt-complete', { promptId, outputTokens: 512, duration: 1840, cached: false }],
    );
  }
  events.push(['execution-complete', { totalTokens: 512 * prompts, duration: 1900 * prompts, success: true }]);
  return events;
}

/** A number for an execution that no other test of this file uses. */
let lastExecution = 1000;
export function newExecution() {
  return ++lastExecution;
}
