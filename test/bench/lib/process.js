// The processes that the benchmark starts. Each ends with this one, however it
// ends: the kernel sends it a signal (setpriv --pdeathsig), and an orderly end
// stops each by its process id.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const bench = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
export const root = path.resolve(bench, '../..');

const running = new Set();
let scratch;
let interrupted = false;

/** A directory for this run's files, gone at its end. */
export function scratchDir() {
  scratch ??= fs.mkdtempSync(path.join(os.tmpdir(), 'pev-bench.'));
  return scratch;
}

/** Start a program; what it says on stderr is kept, to be shown if it fails. */
export function start(command, args, { env = {}, signal = 'KILL', wrap = true } = {}) {
  if (interrupted) throw new Error('interrupted');
  const full = wrap ? ['setpriv', '--pdeathsig', signal, '--', command, ...args] : [command, ...args];
  const child = spawn(full[0], full.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  child.errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { child.errors = (child.errors + text).slice(-20_000); });
  child.stdin.on('error', () => {}); // it ended before it read everything
  child.title = path.basename(command);
  running.add(child);
  child.ended = new Promise((resolve) => {
    child.once('error', (error) => { child.errors += error.message; });
    child.once('close', (code, by) => {
      running.delete(child);
      resolve({ code, by });
    });
  });
  return child;
}

/** Run a program to its end and return what it printed. */
export async function run(command, args, settings = {}) {
  const child = start(command, args, settings);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => { output += text; });
  child.stdin.end();
  const { code, by } = await child.ended;
  if (code !== 0 && !settings.mayFail) {
    throw new Error(`${child.title} ended with ${by ?? `code ${code}`}: ${child.errors}${output.slice(-2000)}`);
  }
  return output;
}

/** Wait until text that a program prints matches, and return the match. */
export function said(child, stream, pattern, ms = 60_000) {
  return new Promise((resolve, reject) => {
    let text = '';
    const timer = setTimeout(() => reject(new Error(`${child.title}: not ready within ${ms} ms: ${child.errors}`)), ms);
    stream.setEncoding('utf8').on('data', (more) => {
      text = (text + more).slice(-20_000);
      const match = pattern.exec(text);
      if (match) {
        clearTimeout(timer);
        resolve(match);
      }
    });
    child.ended.then(() => {
      clearTimeout(timer);
      reject(new Error(`${child.title} ended: ${child.errors}`));
    });
  });
}

/** Ask a program to end, and insist after a while. */
export async function stop(child, signal = 'SIGTERM', ms = 20_000) {
  if (!running.has(child)) return;
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), ms);
  await child.ended;
  clearTimeout(timer);
}

/** End whatever still runs, and remove the files. */
export async function stopAll() {
  for (const child of running) child.stdin.end(); // pgtemp ends, and cleans up, by this
  await Promise.all([...running].map((child) => (child.gentle ? child.ended : stop(child))));
  if (scratch) fs.rmSync(scratch, { recursive: true, force: true });
  scratch = undefined;
}

/** End everything because of a signal: from here on nothing starts, and errors are its consequence. */
export async function interrupt(code) {
  interrupted = true;
  await stopAll();
  process.exit(code);
}

export const isInterrupted = () => interrupted;

/** A process and its descendants. */
function family(pid) {
  let children = [];
  try {
    children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {}
  return [pid, ...children.flatMap(family)];
}

/** Resident memory of a process and its descendants, in bytes; what they share counts once. */
export function residentBytes(pid) {
  let sum = 0;
  for (const member of family(pid)) {
    const pss = /^Pss:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${member}/smaps_rollup`, 'utf8'));
    sum += Number(pss[1]) * 1024;
  }
  return sum;
}

/** The most resident memory that a process ever had, in bytes. */
export function peakBytes(pid) {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
}

/** What a process and its descendants have used of a processor, in seconds. */
export function cpuSeconds(pid) {
  const TICKS = 100; // a second, on every Linux that Debian ships
  let ticks = 0;
  for (const member of family(pid)) {
    // After the name, which is in parentheses and may hold anything: state is the
    // third field, user and system time the 14th and 15th.
    const fields = fs.readFileSync(`/proc/${member}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS;
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
