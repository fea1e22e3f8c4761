// Clients that do not read as they should: slow ones, that take a piece and then
// nothing for a while, and dead ones, that never take anything.

import net from 'node:net';

const PAUSE = 200; // ms after a piece, which has at most 64 kB
const BLOCK = /(?:^|\n)id: (\d+)\n/g;

/** A slow reader of a stream from its start, that checks the numbering of what it gets. */
export class SlowReader {
  constructor(port, stream) {
    Object.assign(this, { last: 0, disorder: 0, rest: '', closed: false, hurried: false });
    this.socket = net.connect(port, '127.0.0.1', () => this.socket.write(`GET /events/${stream} HTTP/1.0\r\n\r\n`));
    this.socket.setEncoding('latin1').on('error', () => {}).on('close', () => { this.closed = true; });
    this.socket.on('data', (text) => {
      this.receive(text);
      if (this.hurried) return;
      this.socket.pause();
      setTimeout(() => this.socket.resume(), PAUSE);
    });
  }

  receive(text) {
    this.rest += text;
    const end = this.rest.lastIndexOf('\n\n') + 1;
    for (const [, id] of this.rest.slice(0, end).matchAll(BLOCK)) {
      if (Number(id) !== this.last + 1) this.disorder++;
      this.last = Number(id);
    }
    this.rest = this.rest.slice(end);
  }

  /** From now on, take everything as it comes. */
  hurry() {
    this.hurried = true;
    this.socket.resume();
  }

  close() {
    this.socket.destroy();
  }
}

/** A connection that asks for a stream and reads nothing, ever. */
export function deadReader(port, stream) {
  const socket = new net.Socket();
  socket.pause();
  return socket.on('error', () => {}).connect(port, '127.0.0.1', () => socket.write(`GET /events/${stream} HTTP/1.0\r\n\r\n`));
}
