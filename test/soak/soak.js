// The soak: many clients follow many executions while writers emit, the streamer is
// killed (-9) every 20 seconds and PostgreSQL crashes every minute. Executions end and
// new ones begin, so it can run for any time. At the end every delivery is accounted for.
//
// A client holds a number and a hash, and is compared with the table when its execution
// has ended. A tenth as many clients again follow the same executions at a second
// streamer that is never killed: there memory would show whatever leaks slowly.
//
// The load is what two cores carry besides the reconnecting of all clients at once: some
// 400 events a second, some 1,800 deliveries.

import { setTimeout as pause } from 'node:timers/promises';
import { Follower, StubbornSession, digest, mib, percentile, progress, random, resources } from '../e2e/fleet.js';
import { Database, Streamer, poll, wrapper } from '../e2e/harness.js';
import fs from 'node:fs';

const MINUTES = Number(process.env.MINUTES ?? 10);
const valgrind = wrapper.length > 0;
const size = valgrind
  ? { clients: 100, steady: 10, executions: 25, writers: 4, rate: 40, events: 40 }
  : { clients: 2_000, steady: 200, executions: 500, writers: 8, rate: 400, events: 120 };
const KILL_EVERY = 20_000;
const CRASH_EVERY = 60_000;
const CRASH_FIRST = 30_000;
const FLAT = 0.02; // memory may differ by so much
const SPARE = 8 << 20; // what malloc may keep when all clients have gone
const FLAT_FROM = 8; // minutes, below which the windows are still filling in the second half

const started = Date.now();
const age = () => Date.now() - started;
const over = () => age() >= MINUTES * 60_000;
const totals = { deliveries: 0, lost: 0, doubled: 0, disordered: 0, ended: 0, followed: 0, connections: 0 };
const faults = [];
const fault = (text) => {
  faults.push(text);
  console.log(`FAULT after ${Math.round(age() / 1000)} s: ${text}`);
};

const db = await Database.start();
// A crash must be one, but the disk's own speed is not what is tested.
const start = (listen) => Streamer.start({ dsn: db.dsn, listen, args: ['--retry', '1s', '--max-clients', '4000'] });
let streamer = await start();
const { port, url } = streamer;
const steady = await start();
await pause(500); // their connections to the database belong to what they hold at rest
const rest = resources(steady.process.pid);

// --- executions and their writers -------------------------------------------

let lastExecution = 0, emitted = 0;
const begun = () => ({ stream: ++lastExecution, left: size.events });
const slots = Array.from({ length: size.executions }, (_, i) => ({ ...begun(), left: 1 + (i % size.events) }));

async function writer(seed) {
  const session = new StubbornSession(db);
  const next = random(seed);
  while (!over()) {
    const slot = slots[Math.floor(next() * slots.length)];
    if (slot.left === 0) continue; // another writer is ending it
    const { stream } = slot;
    const last = --slot.left === 0;
    try {
      await session.emit(stream, ...progress(emitted, `step ${emitted} ${'m'.repeat(next() * 200)}`));
    } catch (error) {
      if (error.code !== '55000') throw error; // it has been ended meanwhile
    }
    emitted++;
    if (last) {
      await session.close(stream);
      Object.assign(slot, begun());
    }
    const ahead = (emitted / size.rate) * 1000 - age();
    if (ahead > 0) await pause(ahead);
  }
  return session;
}

// --- clients ------------------------------------------------------------------

const following = new Set();
const finished = [];

/** Follow whatever execution the slot has, and the next one when that has ended. */
function follow(base, slot) {
  if (over()) return;
  const follower = new Follower(base, slot.stream);
  following.add(follower);
  follower.once('finished', () => {
    following.delete(follower);
    finished.push(follower);
    follow(base, slot);
  });
}

const checker = new StubbornSession(db);
checker.digests = new Map();

/** Compare those that have finished with the table. */
async function verify() {
  for (let follower; (follower = finished.pop()) !== undefined;) {
    if (!checker.digests.has(follower.stream)) checker.digests.set(follower.stream, await digest(checker, follower.stream));
    const table = checker.digests.get(follower.stream);
    const wrong = follower.compare(table);
    if (wrong) fault(wrong);
    totals.followed++;
    totals.deliveries += follower.count + follower.doubled;
    totals.lost += follower.lost + Math.max(0, table[1] - follower.last);
    totals.doubled += follower.doubled;
    totals.disordered += follower.disordered;
    totals.connections += follower.connections;
  }
}

// --- what befalls the servers ---------------------------------------------------

const disturbed = { kills: 0, crashes: 0 };
const atKill = []; // [seconds, resources] of the streamer, always at the same age
const atRest = []; // [seconds, resources] of the one that is not killed
const outlines = []; // logs of the streamers that are gone

async function killStreamer() {
  atKill.push([age() / 1000, resources(streamer.process.pid)]);
  streamer.mayFail = !valgrind;
  const { code } = await streamer.kill(valgrind ? 'SIGTERM' : 'SIGKILL');
  if (valgrind && code !== 0) fault(`the streamer ended with ${code}`);
  outlines.push(streamer.log);
  streamer = await start(`127.0.0.1:${port}`);
  disturbed.kills++;
}

async function crashDatabase() {
  await db.stopServer('immediate');
  await db.startServer();
  disturbed.crashes++;
}

async function disturb() {
  let kill = KILL_EVERY, crash = CRASH_FIRST, report = 0;
  while (!over()) {
    if (age() >= kill) {
      await killStreamer();
      kill = age() + KILL_EVERY;
    }
    if (age() >= crash) {
      await crashDatabase();
      crash += CRASH_EVERY;
    }
    atRest.push([age() / 1000, resources(steady.process.pid)]);
    if (age() >= report) {
      const connected = [...following].filter((f) => f.connected).length;
      console.log(`${String(Math.round(age() / 1000)).padStart(5)} s: ${emitted} events, ${totals.deliveries} deliveries checked, ${connected} of ${following.size} clients connected, `
        + `${disturbed.kills} kills, ${disturbed.crashes} crashes, memory ${mib(atRest.at(-1)[1].rss)} (never killed), ${mib(resources(streamer.process.pid).rss)}`);
      report += 10_000;
    }
    await verify();
    await pause(500);
  }
}

// --- the end ----------------------------------------------------------------------

/** How the medians of the third and the fourth quarter differ. */
function drift(samples) {
  const quarter = (from, to) => samples.filter(([t]) => t >= from * MINUTES * 60 && t < to * MINUTES * 60).map(([, held]) => held.rss);
  const [third, fourth] = [quarter(0.5, 0.75), quarter(0.75, 1.01)];
  if (third.length === 0 || fourth.length === 0) return undefined;
  const [a, b] = [percentile(third, 50), percentile(fourth, 50)];
  return { change: (b - a) / a, text: `${mib(a)} in the third quarter, ${mib(b)} in the fourth: ${(((b - a) / a) * 100).toFixed(2)} %` };
}

for (let i = 0; i < size.clients; i++) follow(url, slots[i % slots.length]);
for (let i = 0; i < size.steady; i++) follow(steady.url, slots[(i * 7) % slots.length]);
const disturbance = disturb();
const sessions = await Promise.all(Array.from({ length: size.writers }, (_, i) => writer(i + 1)));
await disturbance;

for (const { stream } of slots) await sessions[0].close(stream);
try {
  await poll(() => following.size === 0, 'every client being told that nothing follows', 120_000);
} catch (error) {
  fault(error.message);
  for (const f of [...following].slice(0, 5)) fault(`stream ${f.stream}: at ${f.last}, ${f.connected ? 'connected' : 'not connected'}, ${f.connections} connections`);
}
await verify();
const stored = await db.value('SELECT count(*) FROM assistant_architect_events');
const gaps = await db.query('SELECT execution_id FROM assistant_architect_events GROUP BY 1 HAVING max(seq) <> count(*) OR min(seq) <> 1');
if (gaps.length > 0) fault(`gaps in the table: ${gaps.length} executions`);

const empty = [['the streamer', streamer], ['the streamer that was not killed', steady]];
const left = [];
for (const [name, { process: { pid } }] of empty) {
  await poll(() => resources(pid).fds <= rest.fds, 'descriptors being closed').catch(() => fault(`${name} holds ${resources(pid).fds} descriptors, ${rest.fds} at rest`));
  // What streams leave behind lingers for those who may come back, half a minute.
  await poll(() => resources(pid).rss < rest.rss + SPARE, 'memory being given back', 60_000).catch(() => {
    if (!valgrind) fault(`${name} holds ${mib(resources(pid).rss)} without clients, ${mib(rest.rss)} when it started`);
  });
  left.push(resources(pid));
}

console.log(`
${MINUTES} min; ${size.clients} clients at a streamer killed ${disturbed.kills} times${valgrind ? ' (by SIGTERM, under valgrind)' : ' (-9)'}, ${size.steady} at one that was not;
${size.executions} executions at a time, ${lastExecution} in all; ${size.writers} writers, interrupted ${sessions.reduce((sum, s) => sum + s.outages, 0)} times; PostgreSQL crashed ${disturbed.crashes} times
events stored        ${stored}
clients followed     ${totals.followed} executions over ${totals.connections} connections
deliveries counted   ${totals.deliveries}
lost                 ${totals.lost}
doubled              ${totals.doubled}
out of order         ${totals.disordered}`);
const series = (samples, n) => samples.filter((_, i) => i % Math.ceil(samples.length / n) === 0).map(([, held]) => (held.rss / 1048576).toFixed(1)).join(' ');
console.log(`memory, never killed  ${series(atRest, 20)} MiB; ${drift(atRest)?.text}`);
console.log(`memory, at each kill  ${series(atKill, 30)} MiB; ${drift(atKill)?.text}`);
console.log(`without clients again ${left.map(({ rss, fds }) => `${mib(rss)}, ${fds} descriptors`).join('; ')} (${mib(rest.rss)}, ${rest.fds} when it started)`);

if (totals.deliveries === 0) fault('nothing was delivered');
if (valgrind || MINUTES < FLAT_FROM) console.log(`whether memory is flat is judged from ${FLAT_FROM} minutes on, without valgrind`);
else for (const [name, samples] of [['never killed', atRest], ['at each kill', atKill]]) {
  const { change } = drift(samples);
  if (Math.abs(change) > FLAT) fault(`memory, ${name}: changed by ${(change * 100).toFixed(2)} % over the second half`);
}
const serverLog = fs.readFileSync(db.env.LOG, 'utf8');
for (const line of serverLog.match(/^.*(PANIC|TRAP:|terminated by signal).*$/gm) ?? []) fault(`PostgreSQL: ${line}`);
for (const line of [...outlines, streamer.log, steady.log].join('').match(/^.* (ERROR|FATAL|WARNING) .*$/gm) ?? []) {
  if (!/ database: /.test(line)) fault(`a streamer: ${line}`);
}

await Promise.all([...sessions, checker].map((session) => session.end()));
for (const server of [streamer, steady, db]) await server.stop().catch((error) => fault(error.message));
process.exit(faults.length === 0 ? 0 : 1);
