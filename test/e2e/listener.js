// What the tests of presence have in common: two streamers of one database, and a client
// that knows who is present as a page does, from the list and then each change.

import http from 'node:http';
import { after, before } from 'node:test';
import { Database, Streamer, poll, stopStack } from './harness.js';
import { takeBlocks } from './fleet.js';
import { KeyRing } from './jwt.js';
import { dsnOf, makeRoles } from './roles.js';

/** Database, streamer and another one, for the length of a test file; `presence` are options. */
export function useStreamers(presence) {
  const ring = new KeyRing();
  const keys = ['--jwt-secret-file', ring.secret(), '--log-level', 'debug'];
  const stack = {
    ring,
    async start(args = presence) {
      const streamer = await Streamer.start({ dsn: dsnOf(stack.db, 'pev_streamer'), args: [...keys, ...args] });
      await streamer.ready();
      return streamer;
    },
  };
  before(async () => {
    stack.db = await Database.start({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` } });
    await makeRoles(stack.db); // presence takes no right beyond those
    stack.streamer = await stack.start();
    stack.other = await stack.start();
  });
  after(async () => {
    try {
      await stack.other?.stop();
    } finally {
      await stopStack(stack);
    }
  });
  return stack;
}

export class Listener {
  /** Connect; `token` says who it is, `query` what else it asks for. */
  constructor(url, token, query = '') {
    this.lists = 0;
    this.events = []; // [event, data, id] of what tells who is present
    this.users = undefined; // by id; undefined: it has not been told
    this.rest = '';
    const separator = url.includes('?') ? '&' : '?';
    this.request = http.get(`${url}${separator}${query}`, { headers: { Accept: 'text/event-stream', ...(token && { Authorization: `Bearer ${token}` }) }, agent: false }, (response) => {
      this.response = response;
      this.status = response.statusCode;
      response.on('error', () => {}).on('close', () => (this.ended = true));
      response.setEncoding('utf8').on('data', (text) => this.receive(text));
    });
    this.request.on('error', (error) => {
      this.error = error;
      this.ended = true;
    });
  }

  receive(text) {
    this.rest = takeBlocks(this.rest + text, (block) => this.block(block));
  }

  block(text) {
    const fields = Object.fromEntries(text.split('\n').map((line) => line.split(/: (.*)/s)));
    if (!fields.event?.startsWith('presence')) return;
    const data = JSON.parse(fields.data);
    this.events.push([fields.event, data, fields.id]);
    if (fields.event === 'presence-list') {
      this.lists++;
      this.users = new Map(data.users.map(({ userId, userName }) => [userId, userName]));
    } else if (data.status === 'online') this.users.set(data.userId, data.userName);
    else if (data.status === 'offline') this.users.delete(data.userId);
  }

  /** Who is present, as it knows: {id: name}. */
  get present() {
    return this.users && Object.fromEntries([...this.users].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The changes that it was told: "id status". */
  get changes() {
    return this.events.filter(([event]) => event === 'presence').map(([, data]) => `${data.userId} ${data.status}`);
  }

  /** Wait until it knows exactly these users, {id: name}. */
  async knows(users, what, ms) {
    const wanted = JSON.stringify(users);
    try {
      await poll(() => JSON.stringify(this.present) === wanted, what ?? `knowing ${wanted}`, ms);
    } catch (error) {
      throw new Error(`${error.message}; it knows ${JSON.stringify(this.present)} after ${JSON.stringify(this.changes)}`);
    }
  }

  /** Read nothing more for now. */
  hold() {
    this.response.pause();
  }

  release() {
    this.response.resume();
  }

  close() {
    this.request.destroy();
  }
}
