// The documented EventSource client in a real browser.
//
// Its URL is a path of the page's own origin, as in the application it was written
// for: there, the web server in front passes that path on to the streamer. So does
// the small server here, byte by byte, and the browser keeps all its rules.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before } from 'node:test';
import { documentedClient, expectedCalls, uiFunctions } from '../e2e/documented-client.js';
import { executionEvents, newExecution, poll, Streamer, useStack, test } from '../e2e/harness.js';
import { useBrowser } from './chromium.js';

const PREFIX = '/api/assistant-architect/events/';

const stack = useStack({ streamer: { args: ['--retry', '200ms'] } });
const browser = useBrowser();
let site;
let requests = []; // what the browser asked the streamer for

/** The application's page: the documented code to the letter, and a record of all it does. */
function page(executionId, types) {
  return `<!doctype html><meta charset="utf-8"><title>execution</title><script>
    const executionId = ${executionId}, calls = [], seen = [];
    for (const name of ${JSON.stringify(uiFunctions)}) window[name] = (...args) => calls.push([name, ...args]);
    </script><script>${documentedClient}</script><script>
    for (const type of ${JSON.stringify(types)}) eventSource.addEventListener(type, (e) => seen.push({ id: e.lastEventId, event: e.type, data: e.data }));
    </script>`;
}

/** Serve the page, and pass the events' path on to the streamer. */
function serve(req, res) {
  const url = new URL(req.url, 'http://site');
  if (url.pathname === '/') {
    res.setHeader('Content-Type', 'text/html');
    return res.end(page(Number(url.searchParams.get('id')), url.searchParams.get('types').split(',')));
  }
  if (!url.pathname.startsWith(PREFIX)) return res.writeHead(404).end();
  requests.push({ path: url.pathname, last: req.headers['last-event-id'] });
  const upstream = http.get(`${stack.streamer.url}/events/${url.pathname.slice(PREFIX.length)}`, { headers: req.headers, agent: false }, (answer) => {
    res.writeHead(answer.statusCode, answer.headers);
    answer.pipe(res);
    answer.on('error', () => res.destroy());
  });
  upstream.on('error', () => res.destroy());
  res.on('close', () => upstream.destroy());
}

before(() => {
  site = http.createServer(serve).listen(0, '127.0.0.1');
});

after(() => {
  site?.close();
  site?.closeAllConnections?.();
});

async function open(id, events) {
  requests = [];
  const types = [...new Set(events.map(([type]) => type))];
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${site.address().port}/?id=${id}&types=${types}`);
  return {
    tab,
    seen: () => tab.evaluate('seen'),
    calls: () => tab.evaluate('calls'),
    closed: () => poll(() => tab.evaluate('eventSource.readyState === EventSource.CLOSED'), 'the client closing'),
  };
}

async function emitAll(id, events) {
  for (const [type, data] of events) await stack.db.emit(id, type, data);
}

test('the documented client in Chromium sees every event once and in order', async () => {
  const id = newExecution();
  const events = executionEvents(3);
  await emitAll(id, events.slice(0, 4));
  const client = await open(id, events);
  await poll(async () => (await client.seen()).length === 4, 'the history');
  await emitAll(id, events.slice(4));
  await client.closed();
  assert.deepEqual(await client.calls(), expectedCalls(events));
  assert.deepEqual(await client.seen(), await stack.db.expected(id));
  assert.equal(requests.length, 1);
  await client.tab.close();
});

test('the documented client in Chromium shows an error and stops', async () => {
  const id = newExecution();
  const events = [...executionEvents(1).slice(0, 3), ['execution-error', { error: 'model unavailable', recoverable: false }]];
  const client = await open(id, events);
  await emitAll(id, events);
  await client.closed();
  assert.deepEqual(await client.calls(), expectedCalls(events));
  await client.tab.close();
});

test('Chromium returns after a broken connection with the last id it saw, and misses nothing', async () => {
  const id = newExecution();
  const events = executionEvents(2);
  const client = await open(id, events);
  for (let i = 0; i < events.length; i++) {
    await emitAll(id, [events[i]]);
    await poll(async () => (await client.seen()).length === i + 1, `event ${i + 1}`);
    if (i % 4 === 1) site.closeAllConnections();
  }
  await client.closed();
  assert.deepEqual(await client.seen(), await stack.db.expected(id));
  assert.deepEqual(await client.calls(), expectedCalls(events));
  assert.deepEqual(requests.map((request) => request.last), [undefined, '2', '6', '10']);
  await client.tab.close();
});

test('Chromium stops when the server says that a stream is over', async () => {
  const id = newExecution();
  const events = executionEvents(1);
  await emitAll(id, events);
  // The same page, but its own code does not close: only the server's 204 can.
  requests = [];
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${site.address().port}/?id=${newExecution()}&types=x`);
  await tab.evaluate(`void (window.other = new EventSource('${PREFIX}${id}'))`);
  await poll(() => tab.evaluate('other.readyState === EventSource.CLOSED'), 'the server stopping the client');
  assert.deepEqual(requests.filter(({ path }) => path === `${PREFIX}${id}`).map(({ last }) => last), [undefined, String(events.length)]);
  await tab.close();
});

test('a page whose name was made to lead here, so that it is of one origin with the streamer, gets nothing', async () => {
  const id = newExecution();
  await emitAll(id, executionEvents(1));
  const tab = await browser.newPage();
  for (const [host, status] of [['localhost', 200], ['evil.example', 421]]) {
    const answer = await tab.goto(`http://${host}:${stack.streamer.port}/healthz`);
    assert.equal(answer.status(), status, host);
    await tab.evaluate(`window.seen = 0;
      window.source = new EventSource('/events/${id}');
      for (const type of ['progress', 'execution-complete']) source.addEventListener(type, () => seen++);`);
    await poll(() => tab.evaluate('source.readyState === EventSource.CLOSED'), 'the end');
    assert.equal(await tab.evaluate('seen > 0'), status === 200, host);
  }
  await tab.close();
});

/** A way to a server, of an origin of its own: notes what is asked for, and can be cut. */
function relay(target, asked) {
  return http.createServer((req, res) => {
    asked.push({ method: req.method, last: req.headers['last-event-id'] });
    const upstream = http.request(target + req.url, { method: req.method, headers: req.headers, agent: false }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
      answer.on('error', () => res.destroy());
    });
    upstream.on('error', () => res.destroy());
    res.on('close', () => upstream.destroy());
    upstream.end();
  }).listen(0, '127.0.0.1');
}

test('Chromium resumes 32 streams of another origin by one id, and asks no permission first', async () => {
  const origin = `http://127.0.0.1:${site.address().port}`;
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--retry', '200ms', '--cors-origin', origin] });
  const asked = [];
  const other = relay(streamer.url, asked);
  const tab = await browser.newPage();
  try {
    const streams = Array.from({ length: 32 }, newExecution);
    const emitOne = () => Promise.all(streams.map((id) => stack.db.emit(id, 'progress', { currentStep: 1, totalSteps: 2, percentage: 50, message: 'm' })));
    for (let i = 0; i < 40; i++) await emitOne();
    await tab.goto(`${origin}/?id=${newExecution()}&types=x`);
    await tab.evaluate(`void (() => {
      window.several = new EventSource('http://127.0.0.1:${other.address().port}/events?${streams.map((id) => `stream=${id}`).join('&')}');
      window.got = [];
      several.addEventListener('progress', (e) => got.push(e.lastEventId));
    })()`);
    for (let round = 1; round <= 3; round++) {
      await poll(() => tab.evaluate(`got.length === ${32 * (39 + round)}`), 'every event');
      other.closeAllConnections();
      await emitOne();
    }
    await poll(() => tab.evaluate(`got.length === ${32 * 43}`), 'every event after the last cut');
    const ids = await tab.evaluate('got');
    for (const [i] of streams.entries()) {
      assert.deepEqual(ids.filter((id) => parseInt(id) === i).map((id) => Number(id.split(':')[1])), Array.from({ length: 43 }, (_, k) => k + 1));
    }
    assert.deepEqual(asked.map(({ method }) => method), ['GET', 'GET', 'GET', 'GET']);
    for (const [i, { last }] of asked.entries()) assert.equal(last, i === 0 ? undefined : ids[32 * (39 + i) - 1]);
  } finally {
    await tab.close();
    other.close();
    other.closeAllConnections();
    await streamer.stop();
  }
});
