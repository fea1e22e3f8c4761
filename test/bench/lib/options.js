// What the environment asks of the benchmark. Everything has a default; QUICK=1
// makes a run of a minute or two that shows whether it works, not how fast pev is.

function number(name, full, quick) {
  const text = process.env[name];
  if (text === undefined || text === '') return process.env.QUICK ? quick : full;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name}: not a whole number above zero: ${text}`);
  return value;
}

/** Which of B1 to B8, E1, F4, J1, P1, POST and T1 to run: ONLY='B1 B4', or all. */
function chosen(all) {
  const only = (process.env.ONLY ?? '').toUpperCase().split(/[\s,]+/).filter(Boolean);
  for (const name of only) {
    if (!all.includes(name)) throw new Error(`ONLY: there is no ${name}; there are ${all.join(' ')}`);
  }
  return only.length > 0 ? only : all;
}

export const options = {
  quick: Boolean(process.env.QUICK),
  only: chosen(['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B8', 'E1', 'F4', 'J1', 'P1', 'POST', 'T1']),
  rounds: number('ROUNDS', 3, 1), // each compares everything once, in turn
  seconds: number('DURATION', 10, 2), // of one measurement
  writers: number('WRITERS', 32, 32),
  executions: number('EXECUTIONS', 1000, 1000),
  subscribers: number('SUBSCRIBERS', 1000, 200), // of the one execution of B3 and F4
  rate: number('RATE', 2000, 2000), // events/s of B4
  idle: number('IDLE', 10000, 1000), // subscribers of B6
  jobs: number('JOBS', 10_000, 1_000), // of J1
  streams: number('STREAMS', 100, 100), // through each proxy of P1
  rows: number('ROWS', 10_000_000, 200_000), // of B7 and B8, a tenth of them in one execution
  exported: number('EXPORTED', 1_000_000, 50_000), // events of E1
  resumes: number('RESUMES', 2000, 200),
  out: process.env.OUT ?? '',
};
