// README.md does what it says: every SQL statement, curl command and line of
// JavaScript in it is run, in order, against real servers.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before } from 'node:test';
import fs from 'node:fs';
import path from 'node:path';
import { EventSource } from 'eventsource';
import pg from 'pg';
import { Authority } from './certificates.js';
import { Database, DEADLINE, Streamer, poll, request, root, stopStack, streamerPath, test, within } from './harness.js';

const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language, text]) => ({ language, text }));
const of = (language) => blocks.filter((block) => block.language === language).map((block) => block.text);

const stack = {};
before(async () => {
  stack.db = await Database.start();
  await stack.db.query('CREATE DATABASE readme');
});
after(() => stopStack(stack));

const dsn = () => stack.db.dsn.replace(/dbname=\S+/, 'dbname=readme');

/**
 * Run a program with some input; what it printed, and its exit code. If it prints what
 * `until` says it has done enough.
 */
function run(command, args, { input = '', env = {}, cwd, until } = {}) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
      if (until?.test(output)) child.kill();
    });
  }
  child.stdin.on('error', () => {}).end(input);
  return within(new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  }), command);
}

/** Text of the README with its paths and addresses as they are here. */
const ring = new Authority();
ring.secret();
ring.certificate('tls');
const here = (text) => text.replace(/\/etc\/pev\/([a-z.]+)/g, (_, name) => ring.file(name));

/** A command with curl, to be asked of this streamer. */
const curl = (line, url) => `exec ${line.replace('http://127.0.0.1:8080', url).replace('curl', `curl -sS --max-time ${DEADLINE / 2000}`)}`;

const psql = (input, ...args) => run('psql', ['-X', '-v', 'ON_ERROR_STOP=1', '-d', dsn(), ...args], { input });

test('every SQL statement runs', async () => {
  assert.ok(of('sql').length >= 6, 'the blocks were found');
  for (const text of of('sql')) {
    const { code, output } = await psql(here(text));
    assert.equal(code, 0, `${text}\n${output}`);
    if (text.includes('pg_reload_conf')) {
      await poll(async () => (await psql('SHOW pev.jwt_secret', '-At')).output.startsWith('file:'), 'the setting taking effect');
    }
  }
});

test('the refused statement is refused with the words shown', async () => {
  const [example] = blocks.map(({ text }) => text).filter((text) => text.startsWith('=> '));
  const statement = example.slice(3, example.indexOf('\n'));
  const { output } = await psql(statement.replace('(42,', '(43,'));
  const words = (text) => text.replace(/\s+/g, ' ').trim();
  const shown = words(example.slice(statement.length + 3)).replace(/; …$/, '');
  assert.ok(words(output).includes(shown), `README: ${shown}\npsql: ${words(output)}`);
});

test('the streamer starts as shown, and every curl command gets an answer', async () => {
  const [start] = of('sh').filter((text) => text.startsWith('pev-streamer'));
  assert.equal(start, "pev-streamer --listen 127.0.0.1:8080 --dsn 'dbname=postgres'\n");
  stack.streamer = await Streamer.start({ dsn: dsn() });
  await stack.streamer.ready();
  // a command goes on in lines that are indented
  const commands = of('sh').flatMap((text) => text.split(/\n(?! )/)).filter((line) => line.startsWith('curl') && !/\$T/.test(line));
  assert.ok(commands.length >= 6);
  for (const line of commands) {
    const command = curl(line, stack.streamer.url);
    // the file that it makes is looked at below
    const want = line.includes('OJ') ? undefined : line.includes('readyz') ? /"ready"/ : line.includes('/jobs/') ? /^\{"jobId":"\d+"\}$/m : line.includes('-d ') ? /^\{"seq":\d+\}$/m : line.includes('csv') ? /^2,\d+,prompt-start,/m : /^id: \d+(:|$)/m;
    const { code, output } = await run('bash', ['-c', command], { cwd: ring.dir, until: want });
    assert.ok(code === 0 || (want && code === null), `${line}: curl ended with ${code}\n${output}`);
    if (want) assert.match(output, want, line);
  }
  assert.match(ring.read('events-42.ndjson'), /^\{"seq":1,/);
});

test('with the key shown, the token and the ticket shown open the stream, and nothing else does', async () => {
  const [block] = of('sh').filter((text) => text.includes('openssl'));
  const [openssl, start] = here(block).trim().split('\n');
  assert.equal((await run('bash', ['-c', openssl])).code, 0);
  const [, ...args] = start.split(' ');
  const streamer = await Streamer.start({ dsn: dsn(), listen: '127.0.0.1:0', args: args.filter((word) => !/^(--listen|[\d.]+:\d+)$/.test(word)) });
  try {
    await streamer.ready();
    const [make] = of('sql').filter((text) => text.startsWith('SELECT pev_token'));
    const { output } = await psql(here(make), '-At');
    const [TOKEN, TICKET] = output.trim().split('\n');
    await psql("SELECT pev_emit('user:u_1', 'generation_started', '{}')");
    const commands = of('sh').flatMap((text) => text.split('\n')).filter((line) => /^curl.*\$T/.test(line));
    assert.equal(commands.length, 2);
    for (const line of commands) {
      const answered = async (env, until) => assert.match((await run('bash', ['-c', curl(line, streamer.url)], { env, until })).output, until, line);
      await answered({ TOKEN, TICKET }, /^id: \d+$/m);
      await answered({ TOKEN: 'x', TICKET: 'x' }, /"status":401/);
    }
  } finally {
    await streamer.stop();
  }
});

test('the streamer speaks TLS, and trusts a proxy, as shown', async () => {
  const commands = of('sh').filter((text) => /^pev-streamer.* --(tls|trusted)/.test(text));
  assert.equal(commands.length, 2);
  for (const command of commands) {
    const args = here(command).trim().split(' ').slice(1).filter((word) => !/^(--listen|[\d.]+:\d+)$/.test(word));
    const streamer = await Streamer.start({ dsn: dsn(), args });
    assert.equal(streamer.url.startsWith('https:'), command.includes('--tls-cert'));
    assert.equal((await request(`${streamer.url}/healthz`, { ca: ring.ca })).status, 200);
    await streamer.stop();
  }
});

test('every file that is linked to is there', () => {
  for (const [, file] of readme.matchAll(/\]\(([^)#:]+)\)/g)) assert.ok(fs.existsSync(path.join(root, file)), file);
});

test('the JavaScript follows a stream to its end', async () => {
  const [code] = of('js');
  const id = 4711;
  const source = new Function('EventSource', 'console', `${code.replace('/events/42', `${stack.streamer.url}/events/${id}`)}; return source;`);
  const logged = [];
  const eventSource = source(EventSource, { log: (data) => logged.push(data) });
  const emit = (type, data) => psql(`SELECT pev_emit(${id}, '${type}', '${JSON.stringify(data)}')`);
  await emit('prompt-start', {
    promptId: 1, promptName: 'a', position: 1, totalPrompts: 1, modelId: 'm', hasKnowledge: false, hasTools: false,
  });
  await emit('execution-complete', { totalTokens: 1, duration: 1, success: true });
  await poll(() => eventSource.readyState === EventSource.CLOSED, 'the client closing', DEADLINE);
  assert.equal(logged.length, 1);
  assert.equal(logged[0].promptName, 'a');
});

test('the JavaScript for several streams knows of which each event is', async () => {
  const [code] = of('js').filter((text) => text.includes('/events?'));
  const source = new Function('EventSource', 'console', `${code.replace('/events?', `${stack.streamer.url}/events?`)}; return several;`);
  const logged = [];
  const several = source(EventSource, { log: (...what) => logged.push(what) });
  const step = { currentStep: 1, totalSteps: 2, percentage: 50, message: 'm' };
  const emit = (stream, type, data) => psql(`SELECT pev_emit('${stream}', '${type}', '${JSON.stringify(data)}')`);
  try {
    await emit('4712', 'progress', step);
    await poll(() => logged.length === 1, 'the first event', DEADLINE);
    await emit('4712', 'execution-complete', { totalTokens: 1, duration: 1, success: true });
    await poll(() => logged.length === 2, 'the end of a stream', DEADLINE);
    assert.deepEqual(logged.map(([stream]) => stream), ['4712', '4712']);
    assert.equal(logged[0][1].message, 'm');
    assert.equal(logged[1][1], 'is over');
  } finally {
    several.close();
  }
});

test('the JavaScript follows a generation to its end', async () => {
  const [code] = of('js').filter((text) => text.includes('/generations/'));
  const source = new Function('EventSource', 'console', `${code.replace('/generations/', `${stack.streamer.url}/generations/`)}; return generation;`);
  const logged = [];
  const generation = source(EventSource, { log: (...what) => logged.push(what) });
  const emit = (data) => psql(`SELECT pev_emit('${/[0-9a-f-]{36}/.exec(code)}', 'StreamingProgressEvent', '${JSON.stringify({ stage: 's', ...data })}')`);
  await emit({ status: 'processing', progress: 0.5, message: 'half' });
  await emit({ status: 'failed', progress: 0, message: 'broken' });
  await poll(() => generation.readyState === EventSource.CLOSED, 'the client closing', DEADLINE);
  assert.deepEqual(logged.slice(-2), [['50 %', 'half'], ['0 %', 'broken']]);
});

test('the JavaScript for presence knows who is there', async () => {
  const [command] = of('sh').filter((text) => text.includes('--presence'));
  const args = here(command).trim().split(' ').slice(1).filter((word) => !/^(--listen|[\d.]+:\d+)$/.test(word));
  const streamer = await Streamer.start({ dsn: dsn(), args: [...args, '--presence-grace', '100ms'] });
  const [code] = of('js').filter((text) => text.includes('presence-list'));
  const enter = (sub, name) => {
    const token = ring.token({ sub, name });
    const url = `${streamer.url}/events/channel:general?token=${token}`;
    return new Function('EventSource', `${code.replace('/events/channel:general', url)}; return { room, present };`)(EventSource);
  };
  const [ann, bob] = [enter('u_1', 'Ann'), enter('u_2', 'Bob')];
  try {
    for (const { present } of [ann, bob]) await poll(() => present.get('u_1') === 'Ann' && present.get('u_2') === 'Bob', 'both being there');
    bob.room.close();
    await poll(() => !ann.present.has('u_2'), 'one leaving');
    assert.deepEqual([...ann.present], [['u_1', 'Ann']]);
  } finally {
    ann.room.close();
    bob.room.close();
    await streamer.stop();
  }
});

test('the worker does what is queued, is woken, tries again what failed, and drops what it lost', async () => {
  const [code] = of('js').filter((text) => text.includes('pev_claim'));
  const AsyncFunction = (async () => {}).constructor;
  assert.match(code, /5_000/);
  const worker = new AsyncFunction('pg', 'draw', 'working', code.replace('5_000', '600_000')); // so that it must be woken
  const { env } = stack.db;
  class Client extends pg.Client {
    constructor() {
      super({ host: env.PGHOST, port: Number(env.PGPORT), user: env.PGUSER, database: 'readme' });
    }
  }
  const answer = async (statement) => (await psql(statement, '-At')).output.trim();
  const enqueue = (n) => answer(`SELECT pev_enqueue('generate_image', '{"n": ${n}}', 'user:w_${n}')`);
  let stopped = false;
  const seen = new Set();
  const draw = async ({ n }, tell) => {
    await tell(50, 'half-way');
    const again = seen.has(n);
    seen.add(n);
    if (n === 2 && !again) throw new Error('out of ink');
    if (n === 3 && !again) { // somebody else claims it, and dies
      await answer("UPDATE pev_job SET run_at = now() - interval '1 s' WHERE state = 'running'; SELECT pev_claim('{generate_image}', 'other')");
      await answer("UPDATE pev_job SET run_at = now() WHERE state = 'running'");
    }
    stopped = n === 4;
    return { n };
  };
  await enqueue(1);
  const ended = worker({ Client }, draw, () => !stopped);
  for (const n of [1, 2, 3, 4]) {
    if (n > 1) await enqueue(n);
    await poll(async () => {
      if (n === 2) await answer('NOTIFY pev_job'); // it comes due again without a word
      return await answer(`SELECT state FROM pev_job WHERE channel = 'user:w_${n}'`) === 'completed';
    }, `job ${n}`);
  }
  await within(ended, 'the end of the worker');
  const told = await answer(`SELECT string_agg(substr(event_type::text, 12), ' ' ORDER BY e.id) FROM assistant_architect_events e
    JOIN pev_stream s ON s.id = e.execution_id WHERE key LIKE 'user:w%' GROUP BY key ORDER BY key`);
  const attempt = 'started progress';
  assert.deepEqual(told.split('\n'), [`${attempt} complete`, `${attempt} ${attempt} complete`, `${attempt} started ${attempt} complete`, `${attempt} complete`]);
});

test('the table of options is that of --help', async () => {
  const { output } = await run(streamerPath, ['--help']);
  const described = [...output.matchAll(/^ {2}(--[a-z-]+)(?: (\S+))?$/gm)].map(([, option, value]) => [option, value ?? ''].join(' ').trim());
  const listed = [...readme.matchAll(/^\| `(--[a-z-]+)(?: ([A-Z:]+))?` \| (.*?) \|.*`(PEV_[A-Z_]+)` \|$/gm)];
  assert.deepEqual(listed.map(([, option, value]) => [option, value ?? ''].join(' ').trim()).sort(),
    described.filter((option) => option !== '--help' && option !== '--version').sort());
  for (const [, option, , preset, variable] of listed) {
    const entry = output.slice(output.indexOf(`  ${option}`)).split(/\n {2}--/)[0];
    assert.ok(entry.includes(variable), `${option}: ${variable}`);
    const shown = /`(.*)`/.exec(preset);
    if (shown) assert.ok(entry.includes(`default ${shown[1]}]`), `${option}: default ${shown[1]} is not in\n${entry}`);
  }
});

test('every event type of the catalogue is listed', async () => {
  const { output } = await psql('SELECT name FROM pev_event_type', '-At');
  const table = readme.slice(readme.indexOf('### The catalogue'), readme.indexOf('Its columns:'));
  const names = output.trim().split('\n').filter((name) => /^[A-Za-z]/.test(name));
  assert.equal(names.length, 45);
  for (const name of names) {
    const short = /^(?:generation|upload|sub_agent)(_.*)$/.exec(name)?.[1];
    assert.ok(table.includes(`\`${name}\``) || (short && table.includes(`\`${short}\``)), name);
  }
});
