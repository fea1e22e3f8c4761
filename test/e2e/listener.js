// A client that knows who is present, as a page does: the list, then each change.

import http from 'node:http';
import { poll } from './harness.js';

export class Listener {
  /** Connect; `token` says who it is, `query` what else it asks for. */
  constructor(url, token, query = '') {
    this.reset();
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

  reset() {
    this.lists = 0;
    this.events = []; // [event, data, id] of what tells who is present
    this.users = undefined; // by id; undefined: it has not been told
    this.rest = '';
  }

  receive(text) {
    let start = 0, stop;
    this.rest += text;
    while ((stop = this.rest.indexOf('\n\n', start)) >= 0) {
      this.block(this.rest.slice(start, stop));
      start = stop + 2;
    }
    this.rest = this.rest.slice(start);
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
