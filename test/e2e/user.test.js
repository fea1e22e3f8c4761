// --user: what the daemon is before and after it ceases to be root.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { DEADLINE, SseClient, Streamer, poll, request, streamerPath, test, useStack } from './harness.js';
import { KeyRing } from './jwt.js';

const amRoot = process.getuid() === 0;
const ring = new KeyRing();
const stack = useStack();

/** Run the streamer to its end, by another command if one is given; what it says, and its exit code. */
const ends = (args, [command, ...words] = [streamerPath]) => new Promise((resolve) => {
  execFile(command, [...words, '--listen', '127.0.0.1:0', ...args], { timeout: DEADLINE }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, stderr }));
});

/** Lines of /proc/PID/status, by name. */
const statusOf = ({ pid }) => Object.fromEntries(fs.readFileSync(`/proc/${pid}/status`, 'utf8').split('\n').map((line) => line.split(/:\s*/)));

test('a user that there is not, and one that only root can become', async () => {
  const nobody = amRoot ? ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--', streamerPath] : [streamerPath];
  assert.deepEqual([(await ends(['--user', 'no-such-user'])).code, (await ends(['--user', 'nobody'], nobody)).code], [2, 2]);
  assert.match((await ends(['--user', 'no-such-user'])).stderr, /ERROR --user: there is no user "no-such-user"/);
  assert.match((await ends(['--user', 'nobody'], nobody)).stderr, /ERROR --user: only root can become "nobody"/);
  assert.match((await ends(['--user', 'root'])).stderr, /ERROR --user: "root" is root/);
});

test('root is warned, and nobody else', () => {
  assert.equal(/WARNING running as root/.test(stack.streamer.log), amRoot);
});

// The rest needs root, and then happens in every "make test" as root.
if (amRoot) {
  test('root becomes another user for ever, with what it got before', async () => {
    ring.secret();
    fs.chmodSync(ring.file('secret'), 0o600);
    const streamer = await Streamer.start({ dsn: stack.db.dsn, args: ['--user', 'nobody', '--jwt-secret-file', ring.file('secret'), '--max-clients', '2000'] });
    const { Uid, Gid, Groups, CapPrm, CapEff, CapAmb, NoNewPrivs } = await poll(() => {
      const status = statusOf(streamer.process);
      return !status.Uid.startsWith('0') && status.NoNewPrivs === '1' && status;
    }, 'the change of user');
    assert.deepEqual([Uid, Gid, Groups.trim()], [Array(4).fill('65534').join('\t'), Array(4).fill('65534').join('\t'), '65534']);
    assert.deepEqual([CapPrm, CapEff, CapAmb, NoNewPrivs], [...Array(3).fill('0'.repeat(16)), '1']);
    assert.doesNotMatch(streamer.log, /running as root|limit of open files/);

    await stack.db.emit(1, 'Error', { message: 'm' });
    const headers = { Authorization: `Bearer ${ring.token()}` };
    const client = await SseClient.open(`${streamer.url}/events/1`, { headers });
    await client.received(1);
    client.close();
    assert.match((await request(`${streamer.url}/metrics`)).body, /^process_open_fds [1-9]/m);

    streamer.process.kill('SIGHUP');
    await poll(() => /ERROR SIGHUP: the keys stay as they were: --jwt-secret-file: .*Permission denied/.test(streamer.log), 'the failure to read');
    assert.equal((await request(`${streamer.url}/events/1?after=x`, { headers })).status, 400, 'the old keys hold');
    fs.chownSync(ring.file('secret'), 65534, 65534);
    streamer.process.kill('SIGHUP');
    await poll(() => /INFO SIGHUP: 1 keys loaded/.test(streamer.log), 'the keys');
    await streamer.stop();
  });
}
