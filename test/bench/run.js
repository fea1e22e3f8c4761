// The benchmark: B1 to B8, pev beside what people use instead, in one run; E1, exports
// beside COPY; F4, pev beside itself when clients misbehave; J1, jobs beside
// graphile-worker; P1, behind proxies; POST, emitting over HTTP beside libpq; and T1, what
// typing does to stored events.
//
// Everything that is compared runs in turn, round after round, and medians count,
// so that a slow minute of the machine is everybody's. Servers are private, on
// free ports of 127.0.0.1, and gone at the end. What may be set is in
// lib/options.js.

import fs from 'node:fs';
import * as b1 from './b1-emit.js';
import * as b2 from './b2-validate.js';
import * as b3 from './b3-fanout.js';
import * as b4 from './b4-latency.js';
import * as b5 from './b5-firehose.js';
import * as b6 from './b6-idle.js';
import * as b7 from './b7-resume.js';
import * as b8 from './b8-large.js';
import * as e1 from './e1-export.js';
import * as f4 from './f4-slow.js';
import * as j1 from './j1-jobs.js';
import * as p1 from './p1-proxies.js';
import * as postBench from './post.js';
import * as t1 from './t1-typing.js';
import { load } from './lib/history.js';
import { options } from './lib/options.js';
import { Postgres } from './lib/postgres.js';
import { interrupt, isInterrupted, stopAll } from './lib/process.js';
import { markdownTable, progress, provenance, textTable } from './lib/report.js';

const BENCHES = {
  B1: b1, B2: b2, B3: b3, B4: b4, B5: b5, B6: b6, B7: b7, B8: b8, E1: e1, F4: f4, J1: j1, P1: p1,
  POST: postBench, T1: t1,
};

/** Loads the large database when it is first needed. */
function historyOf(postgres) {
  let loaded;
  return () => {
    loaded ??= load(postgres, 'history', options.rows).then((history) => ({ database: 'history', ...history }));
    return loaded;
  };
}

async function runAll() {
  const rows = [];
  const failures = [];
  const postgres = await Postgres.start();
  const context = { postgres, options, history: historyOf(postgres) };
  for (const name of options.only) {
    const began = Date.now();
    progress(`${name} …`);
    try {
      rows.push(...await BENCHES[name].run(context));
    } catch (error) {
      if (isInterrupted()) throw error;
      failures.push(name);
      rows.push({ id: name, what: 'could not be measured', pev: '–', target: '–', met: false });
      progress(`${name} failed: ${error.stack}`);
    }
    progress(`${name} took ${((Date.now() - began) / 1000).toFixed(0)} s`);
  }
  const where = provenance(postgres.version, options);
  await postgres.stop();

  console.log(`\n${textTable(rows)}\n\n${where}\n`);
  const page = `${markdownTable(rows)}\n\nMeasured by \`make bench\`: ${where}.\n`;
  if (options.out) fs.writeFileSync(options.out, page);
  else console.log(`The same for a page (OUT=file writes it there):\n\n${page}`);
  return failures.length === 0 ? 0 : 1;
}

for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) {
  process.once(signal, () => interrupt(code));
}
// When whoever reads the output goes away, there is nobody to measure for.
for (const output of [process.stdout, process.stderr]) {
  output.on('error', () => interrupt(1));
}
let code = 1;
try {
  code = await runAll();
} catch (error) {
  if (!isInterrupted()) progress(error.stack);
}
if (!isInterrupted()) { // else interrupt() ends this process
  await stopAll();
  process.exit(code);
}
