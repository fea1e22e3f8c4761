// nginx and Caddy before a streamer, and a client that speaks HTTP/2.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http2 from 'node:http2';
import os from 'node:os';
import path from 'node:path';
import { DEADLINE, SseRecord, poll, within } from './harness.js';
import { freePort, listens, proxyCommand, proxyEnvironment } from './proxy-command.js';

/** A proxy before the streamer on a port. */
export class Proxy {
  /** Start one of PROXY_NAMES; `authority` makes its certificate. */
  static async start(name, { upstream, authority }) {
    const proxy = new Proxy();
    proxy.dir = fs.mkdtempSync(path.join(os.tmpdir(), `pev-${name}.`));
    proxy.port = await freePort();
    proxy.url = `https://localhost:${proxy.port}`;
    proxy.log = '';
    const [, cert, , key] = authority.certificate(name);
    // DEBUG, for newer versions quote requests in their errors, and this one only there.
    const command = proxyCommand(name, { dir: proxy.dir, port: proxy.port, upstream, cert, key, level: 'DEBUG' });
    proxy.process = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
      stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...proxyEnvironment(proxy.dir) },
    });
    for (const stream of [proxy.process.stdout, proxy.process.stderr]) stream.setEncoding('utf8').on('data', (text) => { proxy.log += text; });
    proxy.exited = new Promise((resolve) => proxy.process.once('close', resolve));
    process.once('exit', () => proxy.process.kill('SIGKILL'));
    await poll(() => proxy.listens(), `${name} listening`).catch((error) => { throw new Error(`${error.message}\n${proxy.log}`); });
    return proxy;
  }

  /** Does it? If it has ended it never will. */
  listens() {
    if (this.process.exitCode !== null) throw new Error(`it ended with ${this.process.exitCode}`);
    return listens(this.port);
  }

  /** Everything that it has written: its output, and its log files. */
  logs() {
    const files = fs.readdirSync(this.dir).filter((name) => name.endsWith('.log'));
    return this.log + files.map((name) => fs.readFileSync(path.join(this.dir, name), 'utf8')).join('');
  }

  async stop() {
    this.process.kill('SIGTERM');
    await within(this.exited, 'the end of the proxy');
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

/** One request on an HTTP/2 session: its response, recorded as an event stream. */
export class Http2Stream extends SseRecord {
  constructor(session, target, headers = {}, body) {
    super(target);
    this.stream = session.request({ ':path': target, accept: 'text/event-stream', ...headers }, { endStream: body === undefined });
    this.opened = new Promise((resolve, reject) => {
      this.stream.once('response', (head) => {
        this.status = head[':status'];
        this.headers = head;
        resolve(this);
      });
      this.stream.on('error', (error) => {
        this.finish('broken', error);
        reject(error);
      });
    });
    this.opened.catch(() => {});
    this.stream.setEncoding('utf8').on('data', (text) => this.receive(text));
    this.stream.on('end', () => this.finish('end'));
    this.stream.on('close', () => this.finish('broken'));
    if (body !== undefined) this.stream.end(body);
  }

  close() {
    this.finish('closed');
    this.stream.close(http2.constants.NGHTTP2_CANCEL);
  }
}

/** One HTTP/2 connection. */
export class Http2Client {
  static async connect(url, { ca, localAddress } = {}) {
    const client = new Http2Client();
    client.session = http2.connect(url, { ca, localAddress, family: 4 });
    client.session.on('error', () => {});
    await within(new Promise((resolve, reject) => client.session.once('connect', resolve).once('error', reject)), `connecting to ${url}`);
    return client;
  }

  open(target, headers) {
    return within(new Http2Stream(this.session, target, headers).opened, `opening ${target}`);
  }

  /** A whole request and its answer; a body is sent by POST, as JSON. */
  async request(target, headers = {}, body = undefined) {
    const posting = body === undefined ? {} : { ':method': 'POST', 'content-type': 'application/json' };
    const stream = new Http2Stream(this.session, target, { accept: '*/*', ...posting, ...headers }, body);
    await stream.opened;
    await stream.until(() => stream.ended, 'the end of the answer', DEADLINE);
    return { status: stream.status, headers: stream.headers, body: stream.raw };
  }

  close() {
    this.session.destroy();
  }
}
