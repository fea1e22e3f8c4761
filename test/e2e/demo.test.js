// "make demo" without a terminal: both executions arrive complete and the exit code is 0.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { root, test } from './harness.js';

function demo(env) {
  return new Promise((resolve) => {
    const child = execFile('make', ['-s', 'demo'], { cwd: root, env: { ...process.env, ...env }, timeout: 120_000 },
      (error, stdout, stderr) => resolve({ code: error ? error.code : 0, output: stdout + stderr }));
    child.stdin.end();
  });
}

/** How many events a file of the demo holds. */
const count = (name) => fs.readFileSync(path.join(root, 'test/demo', name), 'utf8').trim().split('\n').length;

test('the demo shows both executions arriving complete, on another port when its own is taken', async () => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const taken = String(server.address().port);
  const { code, output } = await demo({ PEV_DEMO_PORT: taken, PEV_DEMO_PAUSE: '0.05' });
  server.close();
  assert.equal(code, 0, output);
  assert.ok(output.includes(`port ${taken} is taken`), output);
  for (const [label, file, last] of [['iteration', 'iteration.jsonl', 'StreamingProgressEvent'], ['execution', 'execution.jsonl', 'execution-complete']]) {
    const lines = output.split('\n').filter((line) => line.startsWith(label)).map((line) => line.split('│ ')[1] ?? '');
    const ids = lines.filter((line) => line.startsWith('id: ')).map((line) => Number(line.slice(4)));
    assert.deepEqual(ids, Array.from({ length: count(file) }, (_, i) => i + 1));
    assert.equal(lines.filter((line) => line.startsWith('event: ')).at(-1), `event: ${last}`);
    assert.equal(lines.filter(Boolean).at(-1), 'stream ended by the server');
    assert.equal(lines.filter((line) => line.startsWith('data: ')).length, ids.length);
    assert.ok(new RegExp(`✓ ${label}: all ${count(file)} events`).test(output), output);
  }
});
