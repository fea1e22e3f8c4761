// --access-log: a line for each request when it ends, and nothing in it but what is
// told of it, whatever the request says.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { SseClient, newExecution, poll, request, test, useStack, within } from './harness.js';

const stack = useStack({ streamer: { args: ['--access-log'] } });

const LINE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ACCESS (\S+) (\S+) (\S+) (\d{3}|-) (\d+) (\d+\.\d{3}) \(client \d+\)$/;
const NAMES = ['address', 'method', 'path', 'status', 'bytes', 'seconds'];

/** What is logged while the body runs, as soon as there are so many lines. */
async function logged(count, body) {
  const from = stack.streamer.log.length;
  await body();
  const lines = () => stack.streamer.log.slice(from).split('\n').slice(0, -1).filter((line) => line.includes('ACCESS'));
  await poll(() => lines().length >= count, `${count} lines`);
  assert.equal(lines().length, count, lines().join('\n'));
  return lines().map((line) => {
    const [, ...fields] = LINE.exec(line) ?? assert.fail(line);
    return Object.fromEntries(NAMES.map((name, i) => [name, fields[i]]));
  });
}

const brief = ({ method, path, status }) => `${method} ${path} ${status}`;

/** Everything that comes back for bytes as they are. */
function raw(bytes) {
  let answer = '';
  const socket = net.connect(stack.streamer.port, '127.0.0.1');
  socket.setEncoding('latin1').on('data', (more) => { answer += more; }).on('error', () => {});
  socket.write(bytes, 'latin1');
  return within(new Promise((resolve) => { socket.once('close', () => resolve(answer)); }), 'the end of the connection');
}

test('documents, refusals, and what was written for each', async () => {
  const answers = [];
  const lines = await logged(4, async () => {
    for (const [method, path] of [['GET', '/healthz'], ['HEAD', '/metrics'], ['GET', '/nowhere?a=b'], ['PUT', '/events/1']]) {
      answers.push(await raw(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`));
    }
  });
  assert.deepEqual(lines.map(brief), ['GET /healthz 200', 'HEAD /metrics 200', 'GET /nowhere 404', 'PUT /events/1 405']);
  assert.deepEqual(lines.map(({ bytes }) => Number(bytes)), answers.map((answer) => answer.length));
  assert.deepEqual([...new Set(lines.map(({ address }) => address))], ['127.0.0.1']);
});

test('requests that share a connection have their own bytes', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const lines = await logged(3, async () => {
    for (const path of ['/healthz', '/metrics', '/healthz']) await request(`${stack.streamer.url}${path}`, { agent });
  });
  agent.destroy();
  const [first, large, last] = lines.map(({ bytes }) => Number(bytes));
  assert.equal(first, last);
  assert.ok(large > 5_000 && first < 500, `${large}, ${first}`);
});

test('a stream when it ends, and events that are emitted', async () => {
  const id = newExecution();
  let client;
  const lines = await logged(2, async () => {
    client = await SseClient.open(`${stack.streamer.url}/events/${id}?after=0`);
    const body = '{"type": "execution-complete", "data": {"totalTokens": 1, "duration": 1, "success": true}}';
    await request(`${stack.streamer.url}/events/${id}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    await client.toEnd();
  });
  assert.deepEqual(lines.map(brief).sort(), [`GET /events/${id} 200`, `POST /events/${id} 201`]);
  const stream = lines.find(({ method }) => method === 'GET');
  assert.ok(Number(stream.bytes) > client.raw.length, `${stream.bytes} with the header, ${client.raw.length} without`);
  assert.ok(Number(stream.seconds) < 20, stream.seconds);
});

test('a client that leaves', async () => {
  const id = newExecution();
  const [line] = await logged(1, async () => (await SseClient.open(`${stack.streamer.url}/events/${id}`)).close());
  assert.equal(brief(line), `GET /events/${id} 200`);
});

test('whatever a request says, it stays one line that says no more', async () => {
  const hostile = {
    'GET /a\x1b[2Jb HTTP/1.1': 'GET /a\\x1b[2Jb 404',
    'GET /b\xc3\xbc\xff HTTP/1.1': 'GET /b\\xc3\\xbc\\xff 404',
    'GET /\\x0a%0aACCESS%20forged HTTP/1.1': 'GET /\\x5cx0a%0aACCESS%20forged 404',
    'GET /events/1%3Ftoken=x HTTP/1.1': 'GET /events/1 400',
    'GET http://u:password@x/healthz?token=x HTTP/1.1': 'GET /healthz 200',
    'GET https://u:password@x/healthz?token=x HTTP/1.1': 'GET - 404',
    'OPTIONS * HTTP/1.1': 'OPTIONS - 204',
    'A\x07\xff /healthz HTTP/1.1': 'A\\x07\\xff /healthz 405',
  };
  hostile[`GET /${'x'.repeat(3_000)} HTTP/1.1`] = `GET /${'x'.repeat(632)}... 404`;
  for (const [start, expected] of Object.entries(hostile)) {
    const [line] = await logged(1, () => raw(`${start}\r\nHost: localhost\r\nConnection: close\r\n\r\n`));
    assert.equal(brief(line), expected);
  }
});

test('a request whose header is refused', async () => {
  const [line] = await logged(1, () => raw(`GET /healthz?token=x HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(30_000)}\r\n\r\n`));
  assert.equal(brief(line), '- - 431');
});
