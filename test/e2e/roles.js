// The README's own SQL, for the tests that work under the roles it makes.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { root } from './harness.js';

/** The README's one block of SQL that holds the words. */
export function readmeSql(words) {
  const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8');
  const blocks = [...readme.matchAll(/^```sql\n([\s\S]*?)^```$/gm)].map(([, text]) => text).filter((text) => text.includes(words));
  assert.equal(blocks.length, 1, `blocks of SQL with ${words}`);
  return blocks[0];
}

/** Make the roles that the README shows: pev_emitter, pev_orchestrator, pev_approver, pev_reader and pev_streamer. */
export const makeRoles = (db) => db.query(readmeSql('CREATE ROLE pev_streamer'));

/** The connection string of another user. */
export const dsnOf = (db, user) => db.dsn.replace(/user=\S+/, `user=${user}`);
