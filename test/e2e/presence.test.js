// Who is present: told by one streamer and by several, through their ends and the
// database's.

import assert from 'node:assert/strict';
import { SseClient, poll, request, test } from './harness.js';
import { Listener, useStreamers } from './listener.js';
import { metrics } from './prometheus.js';

const GRACE = 1_500;

const presence = ['--presence', 'channel', '--presence', 'team', '--presence-grace', `${GRACE}ms`];
const stack = useStreamers(presence);
const { ring } = stack;

let rooms = 0;
const newRoom = () => `channel:room${++rooms}`;
const token = (sub, name) => ring.token({ sub, name, exp: Math.floor(Date.now() / 1000) + 3600 });

/** A user's client in a room, at a streamer. */
function enter(room, sub, { name, at = stack.streamer, query } = {}) {
  return new Listener(`${at.url}/events/${encodeURIComponent(room)}`, token(sub, name), query);
}

const closeAll = (...clients) => clients.forEach((client) => client.close());

test('a client is told who is present, then who comes, and who has left', async () => {
  const room = newRoom();
  const ann = enter(room, 'u_ann', { name: 'Ann "A" Ünal\n🙂' });
  await ann.knows({ u_ann: 'Ann "A" Ünal\n🙂' });
  const bob = enter(room, 'u_bob', { name: 'Bob' });
  const all = { u_ann: 'Ann "A" Ünal\n🙂', u_bob: 'Bob' };
  await bob.knows(all);
  await ann.knows(all);
  assert.deepEqual(bob.events.map(([event]) => event), ['presence-list'], 'the list holds itself');
  const left = performance.now();
  bob.close();
  await ann.knows({ u_ann: all.u_ann });
  assert.ok(performance.now() - left >= GRACE, 'not before the grace is over');
  assert.deepEqual(ann.changes, ['u_bob online', 'u_bob offline']);
  for (const [event, data, id] of ann.events) {
    assert.equal(id, undefined);
    if (event !== 'presence') continue;
    assert.deepEqual(Object.keys(data), ['type', 'timestamp', 'status', 'userId', 'userName']);
    assert.ok(Math.abs(Date.parse(data.timestamp) - Date.now()) < 60_000, data.timestamp);
    assert.deepEqual(await stack.db.query(`SELECT * FROM pev_validate('presence', $1)`, [data]), []);
  }
  ann.close();
});

test('the list is sorted by id', async () => {
  const room = newRoom();
  const clients = ['b', 'a', 'c', 'B', 'é', 'aa'].map((sub) => enter(room, sub));
  const watcher = enter(room, '0');
  await watcher.knows({ 0: '0', B: 'B', a: 'a', aa: 'aa', b: 'b', c: 'c', é: 'é' });
  const late = enter(room, 'b');
  await poll(() => late.lists === 1, 'the list');
  assert.deepEqual(late.events[0][1].users.map(({ userId }) => userId), ['0', 'B', 'a', 'aa', 'b', 'c', 'é']);
  closeAll(watcher, late, ...clients);
});

test('a user who comes back within the grace has not left, and several tabs are one user', async () => {
  const room = newRoom();
  const watcher = enter(room, 'watcher');
  await watcher.knows({ watcher: 'watcher' });
  const tab = enter(room, 'u');
  await watcher.knows({ u: 'u', watcher: 'watcher' });
  const second = enter(room, 'u', { at: stack.other });
  await second.knows({ u: 'u', watcher: 'watcher' });
  tab.close();
  await poll(() => /closed stream/.test(stack.streamer.log.slice(-200)), 'the first tab being closed');
  // Long enough for the first tab's end to have been told, if it were.
  const marker = enter(room, 'marker');
  await poll(() => watcher.users.has('marker'), 'the marker coming');
  marker.close();
  await poll(() => !watcher.users.has('marker'), 'the marker leaving');
  second.close();
  const back = enter(room, 'u');
  await back.knows({ u: 'u', watcher: 'watcher' });
  const again = enter(room, 'marker');
  await poll(() => watcher.users.has('marker'), 'the marker coming');
  again.close();
  await poll(() => !watcher.users.has('marker'), 'the marker leaving');
  assert.deepEqual(watcher.changes.filter((change) => change.startsWith('u ')), ['u online']);
  closeAll(watcher, back);
});

test('who takes another name is told of anew, everywhere', async () => {
  const room = newRoom();
  const here = enter(room, 'watcher');
  const there = enter(room, 'watcher', { at: stack.other });
  await here.knows({ watcher: 'watcher' });
  const tabs = [enter(room, 'u', { name: 'Old' })];
  await there.knows({ u: 'Old', watcher: 'watcher' });
  tabs.push(enter(room, 'u', { name: 'New', at: stack.other }));
  await here.knows({ u: 'New', watcher: 'watcher' });
  await there.knows({ u: 'New', watcher: 'watcher' });
  assert.deepEqual(here.changes.filter((change) => change.startsWith('u ')), ['u online', 'u online']);
  tabs[1].close();
  await here.knows({ u: 'Old', watcher: 'watcher' }, 'the name of the tab that stays');
  closeAll(here, there, ...tabs);
});

test('who is not named by a token sees, and is not seen', async () => {
  const room = newRoom();
  const nobody = new Listener(`${stack.streamer.url}/events/${room}`, ring.token());
  const ticket = await stack.db.value('SELECT pev_ticket($1)', [room]);
  const guest = new Listener(`${stack.streamer.url}/events/${room}`, undefined, `token=${ticket}`);
  const long = enter(room, 'x'.repeat(129));
  const empty = enter(room, '');
  for (const client of [nobody, guest, long, empty]) await client.knows({});
  const names = { a: 7, b: '', c: 'n'.repeat(201), d: 'n'.repeat(200), ['e'.repeat(128)]: undefined };
  const users = Object.entries(names).map(([sub, name]) => enter(room, sub, { name }));
  for (const client of [nobody, guest]) {
    await client.knows({ a: 'a', b: 'b', c: 'c', d: 'n'.repeat(200), ['e'.repeat(128)]: 'e'.repeat(128) });
  }
  closeAll(nobody, guest, long, empty, ...users);
});

test('who asks for types is told if presence is one of them, and is present all the same', async () => {
  const room = newRoom();
  const wants = enter(room, 'wants', { query: 'types=presence,chat' });
  const not = await SseClient.open(`${stack.streamer.url}/events/${room}?types=chat`, { headers: { Authorization: `Bearer ${token('not')}` } });
  await wants.knows({ not: 'not', wants: 'wants' });
  await stack.db.emit(room, 'chat', { result: { id: 'm', content: 'hi', userId: 'not', userName: 'not', timestamp: '2026-01-01T00:00:00Z' } });
  await not.received(1);
  assert.deepEqual(not.events.map(({ event }) => event), ['chat']);
  const refused = await request(`${stack.streamer.url}/events/${room}?types=presence-list`, { headers: { Authorization: `Bearer ${token('u')}` } });
  assert.equal(refused.status, 400);
  closeAll(wants, not);
});

test('streams of other kinds have no presence, nor has a streamer that is not told to', async () => {
  await stack.db.query(`SELECT pev_register_stream_kind('team', 'a team')`);
  const plain = await stack.start([]);
  const before = await metrics(stack.streamer);
  assert.equal(before.get('pev_presence_streamers'), 1);
  const room = newRoom();
  const streams = ['user:u', '42', 'channels:x', 'word', 'e96b74bc-aba8-4837-bb43-237fd687d18b'].map((stream) => enter(stream, 'u'));
  streams.push(enter(room, 'u', { at: plain }));
  const watcher = enter(room, 'w');
  await watcher.knows({ w: 'w' });
  const typing = { userId: 'u', isTyping: true };
  const team = enter('team:t', 'u');
  await team.knows({ u: 'u' });
  const open = await SseClient.open(`${plain.url}/events/${room}`, { headers: { Authorization: `Bearer ${token('u')}` } });
  await stack.db.emit(room, 'typing', typing);
  await open.received(1);
  assert.equal(open.events[0].event, 'typing');
  assert.deepEqual(streams.map((client) => client.events.length), streams.map(() => 0));
  assert.equal((await metrics(stack.streamer)).get('pev_presence_streamers'), 1);
  await watcher.knows({ w: 'w' });
  closeAll(watcher, open, team, ...streams);
  await plain.stop();
});

test('what applications emit as presence passes as it is', async () => {
  const room = newRoom();
  const client = await SseClient.open(`${stack.streamer.url}/events/${room}`, { headers: { Authorization: `Bearer ${token('u')}` } });
  await client.received(1);
  await stack.db.emit(room, 'presence', { status: 'busy', userId: 'app', userName: 'App' });
  await client.received(2);
  assert.equal(JSON.parse(client.events[1].data).status, 'busy');
  client.close();
});

test('who listens to several streams is told which one it is about', async () => {
  const [first, second] = [newRoom(), newRoom()];
  await stack.db.emit(first, 'chat', { result: { id: 'm', content: 'hi', userId: 'u', userName: 'u', timestamp: '2026-01-01T00:00:00Z' } });
  const query = [first, 'user:u', second, '42'].map((stream) => `stream=${stream}`).join('&');
  const both = new Listener(`${stack.streamer.url}/events?${query}`, token('both'));
  await poll(() => both.lists === 2, 'both lists');
  const b = enter(second, 'b', { at: stack.other });
  const a = enter(first, 'a');
  await poll(() => both.changes.length === 2, 'both changes');
  const seen = both.events.map(([event, data, id]) => `${parseInt(id)} ${event} ${data.userId ?? data.users.map(({ userId }) => userId)}`).sort();
  assert.deepEqual(seen, ['0 presence a', '0 presence-list both', '2 presence b', '2 presence-list both']);
  await a.knows({ a: 'a', both: 'both' });
  await b.knows({ b: 'b', both: 'both' });
  const [, , id] = both.events.at(-1);
  closeAll(both);
  const again = new Listener(`${stack.streamer.url}/events?${query}`, token('both'), `after=${id}`);
  await poll(() => again.lists === 2, 'both lists, after an id that came with presence');
  closeAll(again, a, b);
});

test('streamers tell each other', async () => {
  const room = newRoom();
  const here = enter(room, 'here');
  const there = enter(room, 'there', { at: stack.other });
  await here.knows({ here: 'here', there: 'there' });
  await there.knows({ here: 'here', there: 'there' });
  const third = await stack.start();
  const late = enter(room, 'late', { at: third });
  await late.knows({ here: 'here', late: 'late', there: 'there' }, 'a streamer that comes later being told');
  await here.knows({ here: 'here', late: 'late', there: 'there' });
  assert.equal((await metrics(third)).get('pev_presence_streamers'), 2);
  assert.ok((await metrics(third)).get('pev_presence_users') >= 3);
  there.close();
  await late.knows({ here: 'here', late: 'late' });
  await here.knows({ here: 'here', late: 'late' });
  closeAll(here, late);
  await third.stop();
  await poll(async () => (await metrics(stack.other)).get('pev_presence_streamers') === 1, 'its being forgotten');
});

test('the users of a streamer that is killed leave, and those who have gone elsewhere stay', async () => {
  const room = newRoom();
  const third = await stack.start();
  const watcher = enter(room, 'watcher');
  await watcher.knows({ watcher: 'watcher' });
  const stays = enter(room, 'stays', { at: third });
  const goes = enter(room, 'goes', { at: third });
  await watcher.knows({ goes: 'goes', stays: 'stays', watcher: 'watcher' });
  third.mayFail = true;
  const killed = performance.now();
  await third.kill('SIGKILL');
  const back = enter(room, 'stays', { at: stack.other });
  await third.stop();
  await watcher.knows({ stays: 'stays', watcher: 'watcher' }, 'the others leaving');
  assert.ok(performance.now() - killed >= 2 * GRACE, 'silence is given time');
  assert.deepEqual(watcher.changes.filter((change) => change.startsWith('stays')), ['stays online']);
  closeAll(watcher, back, stays, goes);
});

test('while a streamer is drained its users do not leave before they can be elsewhere', async () => {
  const room = newRoom();
  const third = await stack.start([...presence, '--retry', '1s']); // its clients come back within 7.5 s
  const watcher = enter(room, 'watcher');
  await watcher.knows({ watcher: 'watcher' });
  const moves = enter(room, 'moves', { at: third });
  await watcher.knows({ moves: 'moves', watcher: 'watcher' });
  const gone = enter(room, 'gone', { at: third });
  await watcher.knows({ gone: 'gone', moves: 'moves', watcher: 'watcher' });
  const stopped = performance.now();
  await third.stop();
  await poll(async () => (await metrics(stack.streamer)).get('pev_presence_streamers') === 1, 'its having said so');
  await poll(() => performance.now() - stopped > 1.5 * GRACE, 'the grace being over');
  assert.deepEqual(watcher.changes, ['moves online', 'gone online']);
  const back = enter(room, 'moves', { at: stack.other });
  await watcher.knows({ moves: 'moves', watcher: 'watcher' }, 'who does not come back leaving');
  assert.ok(performance.now() - stopped >= 7_500 + GRACE, 'not before it could have come back');
  assert.deepEqual(watcher.changes, ['moves online', 'gone online', 'gone offline']);
  closeAll(watcher, back, moves, gone);
});

// Malformed in every part; and well-formed, but of no stream that has presence, or too large.
const from = 'f'.repeat(32);
const HOSTILE = [
  '', '{', '[]', 'null', '7', '{}', '{"from":"x","n":1,"every":1}', `{"from":"${from}"}`, `{"from":"${from}","n":-1,"every":1000}`,
  `{"from":"${from.toUpperCase()}","n":1,"every":1000}`, `{"from":"${from}","n":1,"every":99999999999}`, `{"from":"${from}","n":1e99,"every":1000}`,
  `{"from":"${from}","n":1,"every":1000,"users":{}}`, `{"from":"${from}","n":1,"every":1000,"users":[[]]}`,
  `{"from":"${from}","n":1,"every":1000,"users":[["channel:x"]]}`, `{"from":"${from}","n":1,"every":1000,"users":[["channel:x","u","n"]]}`,
  `{"from":"${from}","n":1,"every":1000,"users":[["channel:x","u","n",-1]]}`, `{"from":"${from}","n":1,"every":1000,"users":[["channel:x",7,"n",1]]}`,
  `{"from":"${from}","n":1,"every":1000,"users":[["channel:*","u","n",1]]}`, `{"from":"${from}","n":1,"every":1000,"users":[["channel:x","","n",1]]}`,
  `{"from":"${from}","n":1,"every":1000,"users":[["channel:x","${'u'.repeat(129)}","n",1]]}`, `{"from":"${from}","n":1,"every":1000,"bye":-1}`,
  '['.repeat(7_900), `{"from":"${from}","n":1,"every":1000,"users":[["user:x","u","n",1]]}`, `{"from":"${from}","n":9,"every":0,"bye":0}`,
];

test('whatever is said on the channel, streamers go on, and forget who is not heard again', async () => {
  const room = newRoom();
  const watcher = enter(room, 'watcher');
  await watcher.knows({ watcher: 'watcher' });
  for (const payload of HOSTILE) await stack.db.query('SELECT pg_notify($1, $2)', ['pev_presence', payload]);
  for (let i = 0; i < 300; i++) {
    const id = i.toString(16).padStart(32, '0');
    await stack.db.query('SELECT pg_notify($1, $2)', ['pev_presence', JSON.stringify({ from: id, n: i, every: 0, hello: true, users: [[room, `forged${i % 3}`, 'x', 1]] })]);
  }
  const there = enter(room, 'there', { at: stack.other });
  await poll(() => watcher.users.has('there'), 'a change being told');
  await watcher.knows({ there: 'there', watcher: 'watcher' }, 'the forged users leaving');
  await there.knows({ there: 'there', watcher: 'watcher' });
  assert.match(stack.streamer.log, /malformed notification on channel pev_presence dropped/);
  await poll(async () => (await metrics(stack.streamer)).get('pev_presence_streamers') === 1, 'the forged streamers being forgotten');
  closeAll(watcher, there);
});

/** A whole listening client of one stream, of any events. */
const follow = (room, sub, query = '', at = stack.streamer) => SseClient.open(`${at.url}/events/${room}${query}`, { headers: { Authorization: `Bearer ${token(sub)}` } });

const chat = (content) => ({ result: { id: 'm', content, userId: 'u', userName: 'u', timestamp: '2026-01-01T00:00:00Z' } });
const refusals = (streamer) => streamer.log.split('permission denied for function pg_notify').length - 1;
const isReady = async (streamer) => (await request(`${streamer.url}/readyz`)).status === 200;

test('nobody can say by emitting that a user has come or gone', async () => {
  const room = newRoom();
  const watcher = enter(room, 'watcher');
  await watcher.knows({ watcher: 'watcher' });
  const forge = (status) => stack.db.emit(room, 'presence', { status, userId: 'watcher', userName: 'Forged' });
  await forge('offline');
  await forge('online');
  await stack.db.emit(room, 'chat', chat('so that the stream has an id'));
  await stack.db.query(`INSERT INTO assistant_architect_events (execution_id, event_type, event_data)
    SELECT id, 'presence', $2 FROM pev_stream WHERE key = $1`, [room, { status: 'offline', userId: 'watcher', userName: 'Forged' }]);
  await forge('away');
  await poll(() => watcher.changes.includes('watcher away'), 'what is emitted last');
  assert.deepEqual(watcher.changes, ['watcher away']);
  assert.deepEqual(watcher.present, { watcher: 'watcher' });
  assert.match(stack.streamer.log, /event of type presence dropped/);
  watcher.close();
});

test('one user in many invented rooms leaves room for others, and is shown in the next when it leaves some', async () => {
  const invented = Array.from({ length: 9 }, () => Array.from({ length: 32 }, newRoom));
  const before = await metrics(stack.streamer);
  const clients = [];
  for (const many of invented) {
    clients.push(new Listener(`${stack.streamer.url}/events?${many.map((stream) => `stream=${stream}`).join('&')}`, token('greedy')));
    await poll(() => clients.at(-1).lists === many.length, 'all lists');
  }
  const after = await metrics(stack.streamer);
  const shown = clients.flatMap(({ events }) => events).filter(([event, { users }]) => event === 'presence-list' && users.length === 1);
  assert.equal(shown.length, 256);
  assert.equal(after.get('pev_presence_overflows_total') - before.get('pev_presence_overflows_total'), 32);
  assert.match(stack.streamer.log, /not all are shown who are present/);
  const modest = enter(invented[8][0], 'modest');
  await modest.knows({ modest: 'modest' });
  clients[0].close();
  await modest.knows({ greedy: 'greedy', modest: 'modest' }, 'being shown when there is room');
  closeAll(modest, ...clients);
});

test('when notifications are refused events go on, and presence returns when they are not', async () => {
  const room = newRoom();
  const before = refusals(stack.streamer);
  const here = enter(room, 'here');
  const there = enter(room, 'there', { at: stack.other });
  await here.knows({ here: 'here', there: 'there' });
  await stack.db.query('REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC');
  try {
    const reconnects = (await metrics(stack.streamer)).get('pev_database_reconnects_total');
    const events = await follow(room, 'x', '?types=chat');
    await poll(() => refusals(stack.streamer) > before, 'the refusal');
    await here.knows({ here: 'here', there: 'there', x: 'x' });
    for (let i = 0; i < 3; i++) {
      await stack.db.emit(room, 'chat', chat(`${i}`));
      await events.received(i + 1);
    }
    assert.ok(await isReady(stack.streamer));
    assert.equal((await metrics(stack.streamer)).get('pev_database_reconnects_total'), reconnects);
    assert.equal(refusals(stack.streamer) - before, 1, 'it is logged once');
    await stack.db.query('GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC');
    await there.knows({ here: 'here', there: 'there', x: 'x' }, 'presence being back');
    closeAll(here, there, events);
  } finally {
    await stack.db.query('GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC');
  }
});

test('when a notification waits for another that waits for a standby, events go on', async () => {
  const room = newRoom();
  const unread = newRoom();
  await stack.db.emit(unread, 'chat', chat('stored'));
  const waiting = () => stack.db.value("SELECT count(*) > 1 FROM pg_stat_activity WHERE usename = 'pev_streamer' AND wait_event_type = 'Lock'");
  const here = enter(room, 'here');
  await here.knows({ here: 'here' });
  const [comes, reader] = await stack.db.whileNotifyWaits(async () => {
    const clients = [enter(room, 'comes')];
    await poll(waiting, 'both streamers waiting');
    clients.push(await follow(unread, 'reader', '?types=chat'));
    await clients[1].received(1);
    assert.ok(await isReady(stack.streamer));
    await here.knows({ comes: 'comes', here: 'here' });
    return clients;
  });
  const there = enter(room, 'there', { at: stack.other });
  await here.knows({ comes: 'comes', here: 'here', there: 'there' }, 'presence going on');
  await there.knows({ comes: 'comes', here: 'here', there: 'there' });
  closeAll(here, there, comes, reader);
});

test('while the database is away presence goes on here, and later nobody has left who is there', async () => {
  const room = newRoom();
  const here = enter(room, 'here');
  const there = enter(room, 'there', { at: stack.other });
  await here.knows({ here: 'here', there: 'there' });
  await stack.db.stopServer();
  const comes = enter(room, 'comes', { query: 'after=now' });
  const leaves = enter(room, 'leaves', { query: 'after=0' });
  await here.knows({ comes: 'comes', here: 'here', leaves: 'leaves', there: 'there' });
  leaves.close();
  await here.knows({ comes: 'comes', here: 'here', there: 'there' });
  assert.deepEqual(there.changes.filter((change) => !change.startsWith('here')), []);
  await stack.db.startServer();
  await there.knows({ comes: 'comes', here: 'here', there: 'there' }, 'being told when it is back');
  const last = enter(room, 'last', { at: stack.other });
  await here.knows({ comes: 'comes', here: 'here', last: 'last', there: 'there' });
  assert.deepEqual(here.changes.filter((change) => change.endsWith('offline')), ['leaves offline']);
  assert.deepEqual(there.changes.filter((change) => change.endsWith('offline')), []);
  closeAll(here, there, comes, last);
});
