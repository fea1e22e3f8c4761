// The streamer's command line, and what META.json promises.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { DEADLINE, root, streamerPath, test, version } from './harness.js';

/** Run the streamer to its end. No test here may make it start serving. */
function run(args, env = {}) {
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PEV_|PG)/.test(name)));
  return new Promise((resolve) => {
    execFile(streamerPath, args, { env: { ...clean, ...env }, timeout: DEADLINE, killSignal: 'SIGKILL' }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, signal: error?.signal ?? null, stdout, stderr }));
  });
}

test('--version is the version of META.json', async () => {
  const { code, stdout } = await run(['--version']);
  assert.equal(code, 0);
  assert.match(stdout, new RegExp(`\\b${version.replaceAll('.', '\\.')}\\b`));
});

test('--help names every option, its variable and its default', async () => {
  const { code, stdout, stderr } = await run(['--help']);
  assert.equal(code, 0);
  assert.equal(stderr, '');
  for (const text of ['--listen', 'PEV_LISTEN', '127.0.0.1:8080', '--dsn', 'PEV_DSN', '--help', '--version', '--heartbeat', 'PEV_HEARTBEAT', '15s']) {
    assert.ok(stdout.includes(text), text);
  }
});

test('unknown options and stray arguments are refused by name', async () => {
  for (const [args, name] of [[['--no-such-thing'], '--no-such-thing'], [['--no-such=1'], '--no-such'], [['-x'], '-x'], [['stray'], 'stray']]) {
    const { code, stderr } = await run(args);
    assert.ok(code > 0, `${args}: code ${code}`);
    assert.ok(stderr.includes(name), stderr);
  }
});

test('malformed values are refused by the option\'s name, as flag and as variable', async () => {
  const bad = [
    ['--listen', 'PEV_LISTEN', ['nonsense', '127.0.0.1', '127.0.0.1:', '127.0.0.1:99999', '127.0.0.1:x', ':::1', '']],
    ['--heartbeat', 'PEV_HEARTBEAT', ['soon', '0', '-1s', '15', '15 parsecs', '99999h', '9999999999999999999999s', '']],
    ['--poll', 'PEV_POLL', ['often', '1ms']],
    ['--max-clients', 'PEV_MAX_CLIENTS', ['many', '0', '-5', '1.5']],
    ['--max-clients-per-ip', 'PEV_MAX_CLIENTS_PER_IP', ['few', '-1']],
    ['--log-level', 'PEV_LOG_LEVEL', ['shouting']],
  ];
  for (const [flag, variable, values] of bad) {
    for (const value of values) {
      for (const args of [[flag, value], [`${flag}=${value}`]]) {
        const byFlag = await run(args);
        assert.ok(byFlag.code > 0, `${args}: code ${byFlag.code}, signal ${byFlag.signal}`);
        assert.ok(byFlag.stderr.includes(flag), byFlag.stderr);
      }
      if (value === '') continue; // an empty variable may count as not set
      const byVariable = await run([], { [variable]: value });
      assert.ok(byVariable.code > 0, `${variable}=${value}: code ${byVariable.code}`);
      assert.ok(byVariable.stderr.includes(variable), byVariable.stderr);
    }
  }
});

test('an option without its value is refused', async () => {
  const { code, stderr } = await run(['--listen']);
  assert.ok(code > 0);
  assert.ok(stderr.includes('--listen'), stderr);
});

test('an address that is not loopback is refused, unless insisted on', async () => {
  for (const address of ['0.0.0.0:0', '192.0.2.1:0', '[::]:0']) {
    const { code, stderr } = await run(['--listen', address]);
    assert.ok(code > 0, `${address}: code ${code}`);
    assert.match(stderr, /--insecure-no-auth/);
  }
});

test('a port that is taken is an error that names the address', async () => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = `127.0.0.1:${server.address().port}`;
  const { code, stderr } = await run(['--listen', address, '--dsn', 'host=127.0.0.1 port=1']);
  server.close();
  assert.ok(code > 0);
  assert.ok(stderr.includes(address), stderr);
});

test('META.json has what the PGXN meta specification 1.0.0 requires', () => {
  const meta = JSON.parse(fs.readFileSync(path.join(root, 'META.json')));
  for (const key of ['name', 'version', 'abstract', 'maintainer', 'license', 'provides', 'meta-spec']) assert.ok(meta[key], key);
  assert.match(meta.version, /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/);
  assert.equal(meta['meta-spec'].version, '1.0.0');
  assert.equal(meta.license, 'postgresql');
  for (const [name, provided] of Object.entries(meta.provides)) {
    assert.equal(provided.version, meta.version, name);
    assert.ok(fs.existsSync(path.join(root, provided.file)), provided.file);
    assert.ok(fs.existsSync(path.join(root, provided.docfile)), provided.docfile);
  }
});
