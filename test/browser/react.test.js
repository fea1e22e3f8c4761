// A React application in a real browser, whose pages come from another host and
// port than its events: a hook opens an EventSource with a token in the query and
// with credentials, and the browser's rules about origins are in the way.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before } from 'node:test';
import { KeyRing } from '../e2e/jwt.js';
import { Database, Streamer, poll, root, stopStack, test } from '../e2e/harness.js';
import { useBrowser } from './chromium.js';

const run = (name) => fs.readFileSync(path.join(root, `test/fixtures/${name}.jsonl`), 'utf8').trim().split('\n')
  .map((line) => JSON.parse(line).data).map(({ generation_id: ignored, ...data }) => data);
const recorded = run('iteration');
const failed = run('iteration-failed');
const libraries = Object.fromEntries(['react', 'react-dom'].map((name) =>
  [`/${name}.js`, fs.readFileSync(path.join(root, `test/node_modules/${name}/umd/${name}.development.js`))]));

/** The application. Strict mode mounts every component twice, as development builds do. */
function application() {
  const { StrictMode, createElement, useEffect, useState } = React;

  function useGeneration(streamer, id, token) {
    const [events, setEvents] = useState([]);
    const [connection, setConnection] = useState('connecting');

    useEffect(() => {
      const source = new EventSource(`${streamer}/events/${id}${token ? `?token=${token}` : ''}`, { withCredentials: true });
      source.onopen = () => setConnection('open');
      source.onerror = () => setConnection(source.readyState === EventSource.CLOSED ? 'refused' : 'connecting');
      source.addEventListener('StreamingProgressEvent', (message) => {
        const event = JSON.parse(message.data);
        setEvents((former) => [...former, { id: message.lastEventId, ...event }]);
        if (event.status === 'completed' || event.status === 'failed') {
          source.close();
          setConnection('closed');
        }
      });
      return () => source.close();
    }, [streamer, id, token]);
    return { events, connection };
  }

  function Generation({ streamer, id, token }) {
    const { events, connection } = useGeneration(streamer, id, token);
    const last = events.at(-1);

    window.events = events;
    return createElement('div', null,
      createElement('output', { id: 'connection' }, connection),
      createElement('output', { id: 'progress' }, last ? `${Math.round(last.progress * 100)} % ${last.message}` : ''));
  }

  // The form of iterations: onmessage alone, the token in the query, and a close when it is done.
  function useIteration(streamer, id, token) {
    const [shown, setShown] = useState({ progress: 0, status: 'pending', message: '', phase: null });

    useEffect(() => {
      if (!id || !token) return undefined;
      const source = new EventSource(`${streamer}/generations/${id}/stream?token=${token}`);
      window.source = source;
      source.onmessage = ({ data, lastEventId }) => {
        const { progress, status, message, phase_info: phase } = JSON.parse(data);
        window.events.push({ id: lastEventId, ...JSON.parse(data) });
        setShown((former) => ({ progress: progress * 100, status, message, phase: phase ?? former.phase }));
        if (status === 'completed' || status === 'failed') source.close();
      };
      source.onerror = () => setShown((former) => ({ ...former, status: 'error', message: 'Connection lost' }));
      return () => source.close();
    }, [streamer, id, token]);
    return shown;
  }

  function Iteration({ streamer, id, token }) {
    const { progress, status, message, phase } = useIteration(streamer, id, token);

    return createElement('div', null,
      createElement('output', { id: 'connection' }, status),
      createElement('output', { id: 'progress' }, `${Math.round(progress)} % ${message}`),
      createElement('output', { id: 'phase' }, phase ? `${phase.name}: ${phase.total_files} files` : ''));
  }

  window.events = [];
  const { strict, hook, ...props } = Object.fromEntries(new URLSearchParams(location.search));
  const element = createElement(hook === 'iteration' ? Iteration : Generation, props);
  ReactDOM.createRoot(document.getElementById('root')).render(strict ? createElement(StrictMode, null, element) : element);
}

const page = `<!doctype html><meta charset="utf-8"><title>generation</title><div id="root"></div>
<script src="/react.js"></script><script src="/react-dom.js"></script><script>(${application})()</script>`;

const ring = new KeyRing();
const stack = {};
const browser = useBrowser();
let site, keys;

before(async () => {
  site = http.createServer((req, res) => {
    const library = libraries[req.url];
    res.setHeader('Content-Type', library ? 'text/javascript' : 'text/html');
    res.end(library ?? page);
  }).listen(0, '127.0.0.1');
  ring.secret();
  stack.db = await Database.start({ settings: { 'pev.jwt_secret': `file:${ring.file('secret')}` } });
  keys = ['--jwt-secret-file', ring.file('secret'), '--token-cookie', 'pev_token', '--retry', '200ms'];
  keys.push('--cors-origin', origin('localhost'), '--cors-origin', origin('127.0.0.1'));
  stack.streamer = await Streamer.start({ dsn: stack.db.dsn, args: keys });
  await poll(async () => (await fetch(`${stack.streamer.url}/readyz`)).status === 200, 'the streamer being ready');
});
after(async () => {
  site.close();
  site.closeAllConnections();
  await stopStack(stack);
});

const origin = (host) => `http://${host}:${site.address().port}`;

async function emit(id, events) {
  for (const data of events) await stack.db.emit(id, 'StreamingProgressEvent', data);
}

/** Open the application's page; `asked` is what the browser asks the streamer for. */
async function open(id, { host = 'localhost', token = '', strict = '', hook = '' }) {
  const tab = await browser.newPage();
  const asked = [];
  tab.on('request', (request) => {
    // what cannot be told any more, for the tab has been closed, nobody asks for
    if (request.url().startsWith(stack.streamer.url)) request.allHeaders().then((headers) => asked.push(headers), () => {});
  });
  const query = new URLSearchParams({ streamer: stack.streamer.url, id, token, strict, hook });
  await tab.goto(`${origin(host)}/?${query}`);
  const text = (name) => tab.evaluate((element) => document.getElementById(element)?.textContent, name);
  return {
    tab,
    asked,
    text,
    shows: (name, words) => poll(async () => (await text(name))?.includes(words), `${words} in the page`),
    events: () => tab.evaluate('events'),
  };
}

/** What the page must hold in the end: every event once, in order. */
async function assertComplete(client, id) {
  await client.shows('connection', 'closed');
  const rows = await stack.db.expected(id);
  assert.deepEqual(await client.events(), rows.map((row) => ({ id: row.id, ...JSON.parse(row.data) })));
  assert.equal(await client.text('progress'), `100 % ${recorded.at(-1).message}`);
}

test('a token in the query, from another origin: history, progress as it happens, and the end', async () => {
  const id = crypto.randomUUID();
  await emit(id, recorded.slice(0, 3));
  const client = await open(id, { token: ring.token({ 'pev.read': [id] }) });
  await client.shows('progress', recorded[2].message);
  assert.equal(await client.text('connection'), 'open');
  for (const event of recorded.slice(3)) {
    await emit(id, [event]);
    await client.shows('progress', event.message);
  }
  await assertComplete(client, id);
  await poll(() => client.asked.length > 0, 'its having asked');
  assert.deepEqual(client.asked.map((headers) => [headers.origin, headers['last-event-id']]), [[origin('localhost'), undefined]]);
  await client.tab.close();
});

test('the streamer is started again in between: the browser returns with the last id it saw', async () => {
  const id = crypto.randomUUID();
  const client = await open(id, { token: ring.token({ 'pev.read': [id] }) });
  await emit(id, recorded.slice(0, 4));
  await client.shows('progress', recorded[3].message);
  await stack.streamer.stop();
  await emit(id, recorded.slice(4, 6));
  await client.shows('connection', 'connecting');
  stack.streamer = await Streamer.start({ dsn: stack.db.dsn, listen: `127.0.0.1:${stack.streamer.port}`, args: keys });
  await client.shows('progress', recorded[5].message);
  await poll(() => client.asked.at(-1)?.['last-event-id'] === '4', 'its having asked for what comes after the fourth');
  await emit(id, recorded.slice(6));
  await assertComplete(client, id);
  await client.tab.close();
});

test('a ticket in strict mode, which mounts twice, and when the page is loaded anew', async () => {
  const id = crypto.randomUUID();
  await emit(id, recorded.slice(0, 2));
  const client = await open(id, { token: await stack.db.value('SELECT pev_ticket($1::uuid)', [id]), strict: 'yes' });
  await client.shows('progress', recorded[1].message);
  await client.tab.reload();
  await client.shows('progress', recorded[1].message);
  await emit(id, recorded.slice(2));
  await assertComplete(client, id);
  await client.tab.close();
});

test('an iteration, followed by onmessage alone until it is completed', async () => {
  const id = crypto.randomUUID();
  const client = await open(id, { token: ring.token({ 'pev.read': [id] }), hook: 'iteration', strict: 'yes' });
  for (const event of recorded) {
    await emit(id, [event]);
    await client.shows('progress', `${Math.round(event.progress * 100)} % ${event.message}`);
    if (event.stage === 'code_generation') { // it is not progress, so it does not come to onmessage
      await stack.db.emit(id, 'progress', { currentStep: 1, totalSteps: 1, percentage: 1, message: 'm' });
    }
  }
  assert.equal(await client.text('connection'), 'completed');
  assert.equal(await client.text('phase'), 'Main Application: 16 files');
  assert.equal(await client.tab.evaluate('source.readyState'), 2);
  const rows = (await stack.db.expected(id)).filter((row) => row.event === 'StreamingProgressEvent');
  assert.equal(rows.length, recorded.length);
  assert.deepEqual(await client.events(), rows.map((row) => ({ id: row.id, ...JSON.parse(row.data) })));
  await client.tab.close();
});

test('an iteration that fails, and one that is lost on the way and found again', async () => {
  const [failing, losing] = [crypto.randomUUID(), crypto.randomUUID()];
  await emit(failing, failed);
  const client = await open(failing, { token: ring.token({ 'pev.read': [failing] }), hook: 'iteration' });
  await client.shows('progress', `0 % ${failed.at(-1).message}`);
  assert.equal(await client.text('connection'), 'failed');
  await client.tab.close();
  await emit(losing, recorded.slice(0, 4));
  const other = await open(losing, { token: ring.token({ 'pev.read': [losing] }), hook: 'iteration' });
  await other.shows('progress', recorded[3].message);
  await stack.streamer.stop();
  await other.shows('progress', 'Connection lost');
  await emit(losing, recorded.slice(4));
  stack.streamer = await Streamer.start({ dsn: stack.db.dsn, listen: `127.0.0.1:${stack.streamer.port}`, args: keys });
  await other.shows('connection', 'completed');
  assert.deepEqual((await other.events()).map((event) => event.id), recorded.map((_, i) => String(i + 1)));
  await other.tab.close();
});

test('a token in the cookie, which goes with credentials', async () => {
  const id = crypto.randomUUID();
  await emit(id, recorded);
  // cookies are a host's, whatever the port
  const other = await open(id, { host: '127.0.0.1' });
  await other.shows('connection', 'refused');
  await other.tab.evaluate((token) => { document.cookie = `pev_token=${token}`; }, ring.token({ 'pev.read': [id] }));
  await other.tab.close();
  const client = await open(id, { host: '127.0.0.1' });
  await assertComplete(client, id);
  await client.tab.close();
  await browser.clearCookies();
});

test('an origin that is not allowed gets nothing, with the best of tokens, and is told nothing', async () => {
  const id = crypto.randomUUID();
  await emit(id, recorded);
  const token = ring.token({ 'pev.read': [id] });
  const client = await open(id, { host: 'stranger.localhost', token });
  await client.shows('connection', 'refused');
  assert.deepEqual(await client.events(), []);
  await poll(() => client.asked.length > 0, 'its having asked');
  assert.equal(client.asked.length, 1);
  const outcome = (path) => client.tab.evaluate((url) => fetch(url).then((answer) => answer.status, (error) => error.name), `${stack.streamer.url}${path}`);
  assert.equal(await outcome('/healthz'), 'TypeError');
  assert.equal(await outcome(`/events/${id}?token=x`), 'TypeError');
  await client.tab.close();
});

test('a token that is refused is told to an origin that is allowed', async () => {
  const id = crypto.randomUUID();
  const client = await open(id, { token: ring.token({ exp: 1 }) });
  await client.shows('connection', 'refused');
  const answer = await client.tab.evaluate((url) => fetch(url).then((response) => response.json()), `${stack.streamer.url}/events/${id}`);
  assert.equal(answer.status, 401);
  await client.tab.close();
});
