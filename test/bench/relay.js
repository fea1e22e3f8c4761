// The relay that people write: LISTEN with pg, and better-sse to whoever subscribed.
//
//   node relay.js CONNINFO      prints "listening on PORT"
//
// A peer in the benchmark, as its libraries' documentation shows it. It has no
// history and no numbers: what happens while a client or it is away is lost.

import http from 'node:http';
import betterSse from 'better-sse';
import pg from 'pg';

const { createChannel, createSession } = betterSse;
const settings = Object.fromEntries(process.argv[2].split(' ').map((pair) => pair.split('=')));
const client = new pg.Client({
  host: settings.host, port: Number(settings.port), user: settings.user, database: settings.dbname,
});
const channels = new Map(); // by execution

function channelOf(execution) {
  let channel = channels.get(execution);
  if (!channel) {
    channel = createChannel();
    channels.set(execution, channel);
  }
  return channel;
}

client.on('notification', ({ payload }) => {
  const row = JSON.parse(payload);
  channels.get(String(row.execution_id))?.broadcast(row.event_data, row.event_type);
});
await client.connect();
await client.query('LISTEN events');

const server = http.createServer(async (request, response) => {
  const execution = /^\/events\/(\d+)$/.exec(request.url)?.[1];
  if (!execution) {
    response.writeHead(404).end();
    return;
  }
  channelOf(execution).register(await createSession(request, response));
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  process.stdout.write(`listening on ${server.address().port}\n`);
});
process.on('SIGTERM', () => process.exit(0));
