// The private PostgreSQL server of the run, and databases in it. It is set as a
// production server would be: fsync and synchronous_commit on. Only checkpoints
// are made rare, because one in the middle of a measurement would be charged to
// whoever happens to be measured; they are made between measurements.

import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { root, said, start } from './process.js';

pg.types.setTypeParser(pg.types.builtins.INT8, Number); // nothing here counts beyond 2^53

// What those write who have no pev: the same columns and indexes, and the row as
// the notification. Their rows hold the same data as pev's do after stamping.
const PEERS = `
  CREATE TABLE bare_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL,
    seq bigint NOT NULL DEFAULT (random() * 1e15)::bigint,
    event_type assistant_event_type NOT NULL,
    event_data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (execution_id, seq)
  );
  CREATE INDEX ON bare_events (event_type);
  CREATE TABLE notify_events (LIKE bare_events INCLUDING ALL);
  CREATE FUNCTION notify_event() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('events', row_to_json(NEW)::text);
    RETURN NULL;
  END $$;
  CREATE TRIGGER notify_event AFTER INSERT ON notify_events
    FOR EACH ROW EXECUTE FUNCTION notify_event();`;

export class Postgres {
  static async start() {
    const server = new Postgres();
    const megabytes = Math.floor(os.totalmem() / 2 ** 20 / 8);
    const settings = {
      shared_buffers: `${Math.min(2048, megabytes)}MB`,
      max_wal_size: '16GB', checkpoint_timeout: '1h', max_connections: 150,
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
    server.process = start(path.join(root, 'test/bin/pgtemp'), ['serve', '--fsync', ...args], { wrap: false });
    server.process.gentle = true;
    const [, pairs] = await said(server.process, server.process.stdout, /^ready (.*)\n/, 120_000);
    server.env = Object.fromEntries(pairs.split(' ').map((pair) => pair.split('=')));
    server.version = (await server.query('postgres', 'SHOW server_version'))[0].server_version;
    return server;
  }

  /** What libpq programs need to connect to one of its databases. */
  dsn(database) {
    return `host=127.0.0.1 port=${this.env.PGPORT} user=${this.env.PGUSER} dbname=${database}`;
  }

  async client(database) {
    const client = new pg.Client({
      host: '127.0.0.1', port: Number(this.env.PGPORT), user: this.env.PGUSER, database,
    });
    await client.connect();
    return client;
  }

  async query(database, text, values) {
    const client = await this.client(database);
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** A new database with pev and the peers' tables; an old one of that name is dropped. */
  async database(name) {
    await this.drop(name);
    await this.query('postgres', `CREATE DATABASE ${name}`);
    await this.query(name, 'CREATE EXTENSION pev');
    await this.query(name, PEERS);
    return name;
  }

  async drop(name) {
    await this.query('postgres', `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  }

  /** Leave nothing to be written behind for the next measurement. */
  async settle() {
    await this.query('postgres', 'CHECKPOINT');
  }

  async stop() {
    this.process.stdin.end();
    await this.process.ended;
  }
}
