// Subscribers as a browser is one, for P1: over HTTP/1.1 a connection each, over
// HTTP/2 streams of one. Each stream is watched twice, directly and the way that is
// measured, so that what the way adds can be told for each event.
//
//   proxy-client.js DIRECT URL CA STREAMS
//
// opens streams 1, 2, … and prints a line of JSON when they are there. Then, for each
// line of its standard input, a line: "expect N MS" waits for so many events since
// "reset", either way, and reports how old they were; "first TIMES" opens that many
// connections, one after the other, and tells how long it took to the first event of
// stream 0; "hold N" opens connections that are kept. It ends with its input.

import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import readline from 'node:readline';

const [direct, url, caFile, streams] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);
const multiplexed = process.env.HTTP2 === '1';
const headers = { accept: 'text/event-stream' };
const microseconds = () => Number(process.hrtime.bigint() / 1000n);

let events = new Map(); // by stream and number: when it was sent, and came
let onEvent = () => {};

/** Read an event stream: each event goes to `take`. */
function read(response, take) {
  let rest = '';
  response.setEncoding('utf8').on('data', (text) => {
    const blocks = (rest + text).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) if (block.includes('\ndata: ')) take(block);
  });
  response.on('error', () => {});
}

const newSession = () => {
  const session = http2.connect(url, { ca });
  session.on('error', (error) => { throw error; });
  return session;
};
/** Open a stream, in a session if there is one; when the answer has begun, returns what closes it. */
function open(base, stream, take, session) {
  return new Promise((resolve, reject) => {
    if (session) {
      const request = session.request({ ':path': `/events/${stream}`, ...headers });
      request.on('response', (head) => (head[':status'] === 200 ? resolve(() => request.close()) : reject(new Error(`status ${head[':status']}`))));
      request.on('error', reject);
      read(request, take);
      return;
    }
    const request = (base === direct ? http : https).get(`${base}/events/${stream}`, { ca, headers, agent: false }, (response) => {
      read(response, take);
      if (response.statusCode === 200) resolve(() => request.destroy());
      else reject(new Error(`status ${response.statusCode}`));
    }).on('error', reject);
  });
}

/** An event of a stream has come, directly or the other way. */
const taker = (stream, way) => (block) => {
  const key = `${stream} ${/^id: (\d+)/m.exec(block)[1]}`;
  if (!events.has(key)) events.set(key, { sent: Number(/"ts": (\d+)/.exec(block)[1]) });
  events.get(key)[way] = microseconds();
  onEvent();
};

function percentiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** How long a new connection takes to its first event. */
async function first(base, session) {
  const began = microseconds();
  let took;
  const close = await new Promise((resolve, reject) => {
    let closer;
    const look = () => { if (closer && took !== undefined) resolve(closer); };
    open(base, 0, () => { took ??= microseconds() - began; look(); }, session?.()).then((value) => { closer = value; look(); }, reject);
  });
  close();
  return took;
}

const COMMANDS = {
  reset() {
    events = new Map();
    return {};
  },
  async expect(count, ms) {
    const complete = () => [...events.values()].filter((event) => event.direct && event.way);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      onEvent = () => {
        if (events.size < count || complete().length < count) return;
        clearTimeout(timer);
        resolve();
      };
      onEvent();
    });
    onEvent = () => {};
    const ages = complete();
    return {
      direct: percentiles(ages.map((event) => event.direct - event.sent)),
      way: percentiles(ages.map((event) => event.way - event.sent)),
      added: percentiles(ages.map((event) => event.way - event.direct)),
    };
  },
  async first(times) {
    const took = { direct: [], way: [] };
    for (let i = 0; i < times; i++) {
      took.direct.push(await first(direct));
      took.way.push(await first(url, multiplexed ? newSession : undefined));
    }
    return { direct: percentiles(took.direct), way: percentiles(took.way) };
  },
  async hold(count) {
    for (let i = 0; i < count; i++) await open(url, 1_000_000 + i, () => {});
    return { held: count };
  },
};

const shared = multiplexed ? newSession() : undefined;
for (let i = 1; i <= Number(streams); i++) {
  await open(direct, i, taker(i, 'direct'));
  await open(url, i, taker(i, 'way'), shared);
}
console.log(JSON.stringify({ ready: Number(streams) }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, ...args] = line.split(' ');
  console.log(JSON.stringify(await COMMANDS[command](...args.map(Number))));
}
process.exit();
