// B7: resuming at a random place of a very long execution, in a very large table:
// how long until the first event, and how fast the whole is replayed.

import { LONG } from './lib/history.js';
import { resume } from './lib/load.js';
import { count, figure, ms, rounds } from './lib/report.js';
import { startStreamer } from './lib/servers.js';

export async function run({ postgres, options, history }) {
  const { database, rows, long } = await history();
  const server = await startStreamer(postgres.dsn(database));
  const target = { port: server.port, path: `/events/${LONG}` };
  await resume({ ...target, count: 20, max: long }); // warm
  const results = await rounds(options.rounds, ['resume', 'replay'], async (name) => (name === 'resume'
    ? resume({ ...target, count: options.resumes, max: long })
    : resume({ ...target, events: long })));
  await server.stop();

  const faults = [...results.resume, ...results.replay].reduce((sum, result) => sum + result.lost + result.backwards, 0);
  const p99 = figure(results.resume, 'first_event.p99');
  const rate = figure(results.replay, 'rate');
  const what = `${count(long)} events of one execution, ${count(rows)} rows`;
  return [
    {
      id: 'B7', what: `resume into ${what}: first event p99`,
      pev: `${ms(p99)} (p50 ${ms(figure(results.resume, 'first_event.p50'))})`, target: '≤ 5 ms',
      met: p99 <= 5000 && faults === 0,
    },
    {
      id: 'B7', what: 'replaying all of them', pev: `${count(rate)} events/s`, target: '≥ 200,000/s',
      met: rate >= 200_000 && faults === 0,
    },
  ];
}
