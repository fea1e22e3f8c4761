// TLS as the streamer speaks it itself: everything that could differ from plain HTTP.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { after, before } from 'node:test';
import tls from 'node:tls';
import { Authority } from './certificates.js';
import {
  DEADLINE, Database, SseClient, Streamer, executionEvents, newExecution, poll, request, stopStack, streamerPath, test, within, wrapper,
} from './harness.js';
import { lint } from './prometheus.js';

const authority = new Authority();
const { ca } = authority;
const stack = {};

// How long who says nothing may stay; and how long the tests look whether nothing happens.
const PATIENCE = wrapper.length > 0 ? 10_000 : 4_000;
const WATCHED = 1_000;
const CLIENTS = wrapper.length > 0 ? 20 : 150; // valgrind is slow at handshakes

before(async () => {
  stack.db = await Database.start();
  stack.streamer = await start(authority.certificate('ec'), ['--send-timeout', `${PATIENCE}ms`, '--heartbeat', '1s', '--body-timeout', `${PATIENCE / 2}ms`]);
});
after(() => stopStack(stack));

async function start(certificate, args = []) {
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: [...certificate, ...args] });
  assert.match(streamer.url, /^https:/);
  await streamer.ready({ ca });
  return streamer;
}

async function withStreamer(certificate, args, body) {
  const streamer = await start(certificate, args);
  try {
    await body(streamer);
  } finally {
    await streamer.stop();
  }
}

const url = (stream, streamer = stack.streamer) => `${streamer.url}/events/${stream}`;
const open = (stream, { streamer, ...options } = {}) => SseClient.open(url(stream, streamer), { ca, ...options });
const step = (n = 1, message = 'x') => ({ type: 'progress', data: { currentStep: n, totalSteps: 9, percentage: 1, message } });
const emit = (stream, n) => stack.db.emit(stream, 'progress', step(n).data);
const metrics = async (streamer = stack.streamer) => lint((await request(`${streamer.url}/metrics`, { ca })).body);
const clientsAre = (n, streamer) => poll(async () => (await metrics(streamer)).get('pev_clients') === n, `${n} clients`);

/** POST events; the status, and what the answer holds. */
async function post(stream, body, options = {}) {
  const text = JSON.stringify(body);
  const answer = await request(url(stream), {
    ca, method: 'POST', body: text, headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }, ...options,
  });
  return [answer.status, JSON.parse(answer.body)];
}

/** A connection of TLS; `text()` is what has come, `ended` when it is over. */
async function connect(options = {}, port = stack.streamer.port) {
  const socket = tls.connect({ host: '127.0.0.1', port, ca, ...options });
  let text = '';
  socket.setEncoding('utf8').on('data', (more) => { text += more; });
  const ended = new Promise((resolve) => socket.once('close', resolve));
  await within(new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject)), 'the handshake');
  socket.on('error', () => {});
  return { socket, ended, text: () => text };
}

/** A connection on which the client is not to speak TLS, or not all of it. */
function connectPlain(port = stack.streamer.port) {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {}).on('data', () => {});
  return { socket, ended: new Promise((resolve) => socket.once('close', resolve)) };
}

/** Which part of a processor the streamer takes while nothing is to be done. */
async function idleCpu() {
  const before = (await metrics()).get('process_cpu_seconds_total');
  const began = Date.now();
  await poll(() => Date.now() - began >= WATCHED, 'a while');
  return ((await metrics()).get('process_cpu_seconds_total') - before) / ((Date.now() - began) / 1000);
}

/** Nothing spins: the request for the metrics itself, with its handshake, is in this. */
async function assertIdle(what) {
  const part = await idleCpu();
  if (wrapper.length === 0) assert.ok(part < 0.1, `${what}: ${(100 * part).toFixed(1)} % of a processor`);
}

test('history, live events and the end of a stream', async () => {
  const stream = newExecution();
  const events = executionEvents(2);
  for (const event of events.slice(0, 3)) await stack.db.emit(stream, ...event);
  const client = await open(stream);
  await client.received(3);
  for (const event of events.slice(3)) await stack.db.emit(stream, ...event);
  await client.toEnd();
  assert.deepEqual(client.events, await stack.db.expected(stream));
  const resumed = await (await open(stream, { headers: { 'Last-Event-ID': '4' } })).toEnd();
  assert.deepEqual(resumed.events, await stack.db.expected(stream, 4));
  assert.equal((await request(url(stream), { ca, headers: { 'Last-Event-ID': String(events.length) } })).status, 204);
});

test('a long history arrives in order', async () => {
  const stream = newExecution();
  await stack.db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data',
    jsonb_build_object('currentStep', i, 'totalSteps', 2, 'percentage', 1, 'message', repeat('m', i % 40000)))) FROM generate_series(1, 5000, 7) i))`, [stream]);
  await stack.db.emit(stream, 'execution-complete', { totalTokens: 1, duration: 1, success: true });
  const client = await (await open(stream)).toEnd();
  assert.deepEqual(client.events, await stack.db.expected(stream));
});

test('TLS 1.2 and 1.3 are spoken, with keys of their own for each connection', async () => {
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const { socket } = await connect({ minVersion: version, maxVersion: version });
    assert.equal(socket.getProtocol(), version);
    assert.ok(socket.getEphemeralKeyInfo().type, 'an ephemeral key');
    socket.destroy();
  }
  await assert.rejects(connect({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }));
});

test('an RSA certificate serves too, but not its key for the exchange', () => withStreamer(authority.certificate('rsa', { rsa: true }), [], async ({ port }) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) (await connect({ maxVersion }, port)).socket.destroy();
  await assert.rejects(connect({ maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' }, port));
}));

test('the certificates of the file are sent, so that who trusts the last trusts the first', () =>
  withStreamer(authority.chain('chained'), [], async ({ port }) => {
    const { socket } = await connect({ servername: 'localhost' }, port);
    assert.equal(socket.getPeerCertificate(true).issuerCertificate.subject.CN, 'chained-ca');
    socket.destroy();
  }));

test('events are emitted, small and large, and many on one connection', async () => {
  const stream = newExecution();
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for (let n = 1; n <= 20; n++) assert.deepEqual(await post(stream, step(n), { agent }), [201, { seq: n }]);
  agent.destroy();
  assert.deepEqual(await post(stream, Array.from({ length: 250 }, (_, i) => step(21 + i, 'm'.repeat(3_000)))), [201, { seq: 270 }]);
  assert.deepEqual((await stack.db.expected(stream)).map(({ data }) => JSON.parse(data).currentStep), Array.from({ length: 270 }, (_, i) => i + 1));
  assert.equal((await post(stream, { type: 'progress', data: {} }))[0], 422);
});

test('requests that came together are answered one by one', async () => {
  // More than libmicrohttpd takes at once: the rest waits decrypted, where no socket tells of it.
  const stream = newExecution();
  const body = JSON.stringify(step(1, 'm'.repeat(700)));
  const one = `POST /events/${stream} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const { socket, text } = await connect();
  socket.write(`${one.repeat(30)}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await poll(() => /^HTTP\/1\.1 200 /m.test(text()), 'the last answer');
  assert.equal(text().match(/^HTTP\/1\.1 201 /mg).length, 30);
  socket.destroy();
});

test('a body is asked for, and one that does not come ends the connection', async () => {
  const { socket, ended, text } = await connect();
  socket.write(`POST /events/${newExecution()} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n`);
  await poll(() => text() === 'HTTP/1.1 100 Continue\r\n\r\n', 'being asked');
  socket.write('{');
  await within(ended, 'the end of the connection');
});

test('a target may be absolute', async () => {
  const { socket, text } = await connect();
  socket.write('GET https://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await poll(() => /^HTTP\/1\.1 200 /.test(text()), 'the answer');
  socket.destroy();
});

test('a first request that is none is told so', async () => {
  for (const [bytes, status] of [['GET /healthz HTTP/1.1\r\n\r\n', 400], [`GET /events/${'k'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 414],
    [`GET /events/1 HTTP/1.1\r\nHost: localhost\r\nX: ${'h'.repeat(40_000)}\r\n\r\n`, 431]]) {
    const { socket, ended, text } = await connect();
    socket.write(bytes);
    await poll(() => text().startsWith(`HTTP/1.1 ${status} `), `status ${status}`);
    await within(ended, 'the end of the connection', PATIENCE / 2);
  }
});

test('a head in pieces is waited for', async () => {
  const { socket, text } = await connect();
  for (const piece of ['GET /hea', 'lthz HT', `TP/1.1\r\nX: ${'h'.repeat(9_000)}`, '\r\n', 'Host: localhost\r\n\r\n']) {
    await new Promise((resolve) => socket.write(piece, resolve));
    await poll(async () => (await request(`${stack.streamer.url}/healthz`, { ca })).status === 200, 'another request between');
  }
  await poll(() => /^HTTP\/1\.1 200 /.test(text()), 'the answer');
  socket.destroy();
});

test(`${CLIENTS} idle clients take no time, hear heartbeats, and each gets its own events`, async () => {
  const streams = Array.from({ length: CLIENTS }, newExecution);
  const clients = [];
  // Handshakes take this process long: not more at once than it can do in time.
  while (clients.length < CLIENTS) clients.push(...await Promise.all(streams.slice(clients.length, clients.length + 10).map((stream) => open(stream))));
  await clientsAre(CLIENTS);
  await assertIdle('idle clients');
  await Promise.all(clients.map((client) => client.until(() => client.comments.length > 1, 'a heartbeat')));
  await Promise.all(streams.map((stream) => emit(stream)));
  for (const [i, client] of clients.entries()) {
    await client.received(1);
    assert.deepEqual(client.events, await stack.db.expected(streams[i]));
    client.close();
  }
  await clientsAre(0); // they are gone without having been written to
});

test('who takes nothing is closed, who takes little is not', async () => {
  const stream = newExecution(), EVENTS = 5_000, BYTES = 2_000;
  const ask = `GET /events/${stream} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`;
  const dead = await connect();
  const slow = await connect();
  dead.socket.pause();
  slow.socket.pause();
  for (const { socket } of [dead, slow]) socket.write(ask);
  const sipping = setInterval(() => {
    slow.socket.resume();
    setTimeout(() => slow.socket.pause(), 2);
  }, 50);
  const fast = await open(stream);
  await stack.db.query(`SELECT pev_emit_batch($1::bigint, (SELECT jsonb_agg(jsonb_build_object('type', 'progress', 'data', jsonb_build_object(
    'currentStep', i, 'totalSteps', 9, 'percentage', 1, 'message', repeat('m', $3::int)))) FROM generate_series(1, $2::int) i))`, [stream, EVENTS, BYTES]);
  await fast.received(EVENTS, 3 * DEADLINE);
  assert.deepEqual(fast.events, await stack.db.expected(stream));
  await assertIdle('two clients that are not ready');
  await poll(async () => (await metrics()).get('pev_evictions_total{reason="send_timeout"}') === 1, 'the dead one being closed', 3 * DEADLINE);
  clearInterval(sipping);
  slow.socket.resume();
  await poll(() => slow.text().includes(`id: ${EVENTS}\n`), 'the slow one having got all', 3 * DEADLINE);
  assert.equal((await metrics()).get('pev_evictions_total{reason="send_timeout"}'), 1);
  [dead, slow].forEach(({ socket }) => socket.destroy());
  fast.close();
  await clientsAre(0);
});

test('who never finishes a handshake holds up nobody and is closed', async () => {
  const hello = Buffer.from('1603010200010001fc0303', 'hex'); // and 501 bytes more
  const silent = connectPlain();
  const partial = connectPlain();
  const dripping = connectPlain();
  const gone = connectPlain();
  const quiet = await connect(); // it has shaken hands and asks for nothing
  for (const { socket } of [partial, dripping, gone]) socket.write(hello);
  gone.socket.destroy();
  const drops = setInterval(() => dripping.socket.write(hello.subarray(0, 1)), PATIENCE / 10);
  await assertIdle('unfinished handshakes');
  assert.equal((await request(`${stack.streamer.url}/healthz`, { ca })).status, 200);
  await within(Promise.all([silent, partial, dripping, quiet].map(({ ended }) => ended)), 'their end', PATIENCE + DEADLINE);
  clearInterval(drops);
});

test('plain HTTP, and what is no TLS at all, is closed at once', async () => {
  for (const bytes of ['GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n', Buffer.alloc(20_000, 0xff), Buffer.alloc(5)]) {
    const { socket, ended } = connectPlain();
    socket.write(bytes);
    await within(ended, 'the end of the connection', PATIENCE / 2);
  }
  assert.equal((await request(`${stack.streamer.url}/healthz`, { ca })).status, 200);
});

/** Connections to a port that pass through here; what clients send is held back, but perhaps for their hello. */
async function passage(port, { hello }) {
  const pairs = [];
  const server = net.createServer((client) => {
    const streamer = net.connect(port, '127.0.0.1', () => hello || pairs.push({ client, streamer })).on('error', () => {});
    client.on('error', () => {}).on('close', () => streamer.destroy());
    streamer.pipe(client);
    if (!hello) return;
    client.once('data', (first) => {
      streamer.write(first);
      client.pause();
      pairs.push({ client, streamer });
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: server.address().port, held: () => pairs.length, release: () => pairs.forEach(({ client, streamer }) => client.pipe(streamer)), close: () => server.close() };
}

test('SIGHUP: connections from then on see the new certificate; one that is unusable changes nothing', async () => {
  const certificate = authority.certificate('reloaded');
  await withStreamer(certificate, [], async (streamer) => {
    const put = (name) => {
      for (const kind of ['crt', 'key']) fs.copyFileSync(authority.file(`${name}.${kind}`), authority.file(`reloaded.${kind}`));
    };
    const shown = async () => {
      const { socket } = await connect({}, streamer.port);
      const { CN } = socket.getPeerCertificate().subject;
      socket.destroy();
      return CN;
    };
    const hup = async (pattern) => {
      const length = streamer.log.length;
      streamer.process.kill('SIGHUP');
      await poll(() => pattern.test(streamer.log.slice(length)), `the log matching ${pattern}`);
    };
    const stream = newExecution();
    const client = await open(stream, { streamer });
    // Those who have come, or said hello too, and go on when that certificate is long gone.
    const ways = await Promise.all([false, true].map((hello) => passage(streamer.port, { hello })));
    const late = ways.flatMap(({ port }) => ['TLSv1.2', 'TLSv1.3'].map((version) => connect({ minVersion: version, maxVersion: version }, port)));
    await poll(() => ways.every((way) => way.held() === 2), 'their coming');
    authority.certificate('second', { rsa: true });
    authority.certificate('third');
    for (const name of ['second', 'third']) {
      put(name);
      await hup(/INFO SIGHUP: the certificate and its key loaded/);
      assert.equal(await shown(), name);
    }
    for (const way of ways) way.release();
    for (const { socket } of await Promise.all(late)) {
      assert.equal(socket.getPeerCertificate().subject.CN, 'reloaded');
      socket.destroy();
    }
    for (const way of ways) way.close();
    fs.copyFileSync(authority.file('second.key'), authority.file('reloaded.key'));
    await hup(/ERROR SIGHUP: the certificate stays as it was: --tls-key: \S+ is not the key of the certificate in /);
    fs.rmSync(authority.file('reloaded.crt'));
    await hup(/ERROR SIGHUP: the certificate stays as it was: --tls-cert: \S+: No such file or directory/);
    assert.equal(await shown(), 'third');
    await emit(stream);
    await client.received(1);
    client.close();
  });
});

test('SIGTERM: everybody is told when to come back, and the connections end as TLS wants it', async () => {
  const streamer = await start(authority.certificate('drained'));
  const clients = await Promise.all(Array.from({ length: 50 }, () => open(newExecution(), { streamer })));
  const silent = connectPlain(streamer.port);
  const quiet = await connect({}, streamer.port);
  await clientsAre(50, streamer);
  await streamer.stop();
  for (const client of clients) {
    await client.toEnd();
    assert.equal(client.retries.length, 2);
    assert.ok(client.comments.includes('draining'));
  }
  await within(Promise.all([silent.ended, quiet.ended]), 'the others being closed');
});

/** Run the streamer with options that it refuses; what it says. */
function refused(args) {
  return new Promise((resolve) => {
    execFile(streamerPath, ['--listen', '127.0.0.1:0', '--dsn', stack.db.dsn, ...args], { timeout: DEADLINE, killSignal: 'SIGKILL' }, (error, stdout, stderr) =>
      resolve({ code: error?.code, stderr }));
  });
}

test('what cannot serve is refused at the start, with the reason', async () => {
  const [, cert, , key] = authority.certificate('good');
  const [, , , other] = authority.certificate('other');
  const file = (name, text) => {
    authority.write(name, text);
    return authority.file(name);
  };
  authority.openssl('pkey', '-in', key, '-aes256', '-passout', 'pass:secret', '-out', authority.file('locked.key'));
  for (const [args, reason] of [
    [['--tls-cert', cert], /--tls-cert and --tls-key go together/],
    [['--tls-key', key], /--tls-cert and --tls-key go together/],
    [['--tls-cert', '/nonexistent', '--tls-key', key], /--tls-cert: \/nonexistent: No such file or directory/],
    [['--tls-cert', cert, '--tls-key', '/nonexistent'], /--tls-key: \/nonexistent: No such file or directory/],
    [['--tls-cert', cert, '--tls-key', '/'], /--tls-key: \/: Is a directory/],
    [['--tls-cert', key, '--tls-key', key], /--tls-cert: \S+: not 1 to 16 certificates in PEM/],
    [['--tls-cert', file('empty', ''), '--tls-key', key], /--tls-cert: \S+: not 1 to 16 certificates in PEM/],
    [['--tls-cert', file('noise', 'x'.repeat(70_000)), '--tls-key', key], /--tls-cert: \S+: the file is too large/],
    [['--tls-cert', cert, '--tls-key', cert], /--tls-key: \S+: no unencrypted private key in PEM/],
    [['--tls-cert', cert, '--tls-key', authority.file('locked.key')], /--tls-key: \S+: no unencrypted private key in PEM/],
    [['--tls-cert', cert, '--tls-key', other], /--tls-key: \S+ is not the key of the certificate in /],
    [['--tls-cert', file('many', authority.read('good.crt').repeat(17)), '--tls-key', key], /--tls-cert: \S+: not 1 to 16 certificates in PEM/],
    [['--listen', '0.0.0.0:0', '--tls-cert', cert, '--tls-key', key], /--insecure-no-auth/],
  ]) {
    const { code, stderr } = await refused(args);
    assert.equal(code, 2, `${args}: ${stderr}`);
    assert.match(stderr, reason);
    assert.ok(!stderr.includes('PRIVATE KEY'), stderr);
  }
});

test('a certificate that has expired, and a key that everybody can read, are warned of', async () => {
  const certificate = authority.certificate('expired', { days: 0 });
  fs.chmodSync(authority.file('expired.key'), 0o644);
  const end = Date.parse(/notAfter=(.*)/.exec(authority.openssl('x509', '-in', authority.file('expired.crt'), '-noout', '-enddate'))[1]);
  await poll(() => Date.now() > end + 1_000, 'its end');
  const streamer = await Streamer.start({ dsn: stack.db.dsn, args: certificate });
  await streamer.stop();
  assert.match(streamer.log, /WARNING --tls-cert: the certificate in \S+expired\.crt has expired/);
  assert.match(streamer.log, /WARNING --tls-key: everybody can read or write \S+expired\.key/);
  assert.doesNotMatch(stack.streamer.log, /WARNING --tls/);
});
