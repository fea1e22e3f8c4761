// The unit that "make install" brings: systemd takes it, and judges it as the
// README says.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before } from 'node:test';
import { root, streamerPath, test } from './harness.js';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pev-unit.'));
const unit = path.join(dir, 'system/pev-streamer.service');
const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8');

before(() => {
  execFileSync('make', ['-s', '-C', path.join(root, 'streamer'), 'install', `BINDIR=${dir}/bin`, `UNITDIR=${dir}/system`], { stdio: ['ignore', 'inherit', 'inherit'] });
});
after(() => fs.rmSync(dir, { recursive: true }));

const analyze = (...args) => {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, unit], { encoding: 'utf8', env: { ...process.env, SYSTEMD_COLORS: '0', SYSTEMD_PAGER: 'cat' } });
  return { status, output: stdout + stderr };
};

test('the unit starts what has been installed', () => {
  const text = fs.readFileSync(unit, 'utf8');
  assert.match(text, new RegExp(`^ExecStart=${dir}/bin/pev-streamer$`, 'm'));
  assert.ok(fs.readFileSync(`${dir}/bin/pev-streamer`).equals(fs.readFileSync(streamerPath)));
});

test('systemd finds nothing wrong with it', () => {
  assert.deepEqual(analyze('verify', '--man=no'), { status: 0, output: '' });
});

test('the exposure is what the README says', () => {
  const [, score, word] = /`systemd-analyze security`: ([\d.]+), "(\w+)"/.exec(readme);
  const { output } = analyze('security', '--offline=true');
  assert.match(output, new RegExp(`Overall exposure level for pev-streamer.service: ${score.replace('.', '\\.')} ${word}`));
});

test('variables that it names are options, and its time to stop is longer than theirs', () => {
  const text = fs.readFileSync(unit, 'utf8');
  const help = execFileSync(streamerPath, ['--help'], { encoding: 'utf8' });
  for (const [name] of text.matchAll(/\bPEV_\w+/g)) assert.ok(help.includes(name), name);
  const [, drain] = /PEV_DRAIN_TIMEOUT, default (\d+)s/.exec(help);
  assert.ok(Number(/^TimeoutStopSec=(\d+)s$/m.exec(text)[1]) > Number(drain));
});
