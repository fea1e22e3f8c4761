// Figures into rows, rows into a table.

import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { root } from './process.js';

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Measure every variant once a round, the order turning, so that none always comes first. */
export async function rounds(count, variants, measure) {
  const results = Object.fromEntries(variants.map((variant) => [variant, []]));
  for (let round = 0; round < count; round++) {
    for (let i = 0; i < variants.length; i++) {
      const variant = variants[(i + round) % variants.length];
      const result = await measure(variant, round);
      results[variant].push(result);
      progress(`  round ${round + 1}/${count}  ${variant}: ${JSON.stringify(result)}`);
    }
  }
  return results;
}

export function progress(text) {
  process.stderr.write(`${text}\n`);
}

/** The median over a variant's rounds of one of its figures, as 'latency.p99'. */
export function figure(results, name) {
  return median(results.map((result) => name.split('.').reduce((value, key) => value[key], result)));
}

/**
 * How one variant's figure compares to another's: the median of the rounds'
 * ratios. What is compared was measured close together, so a slow minute of the
 * machine hits both; the medians of each may come from different minutes.
 */
export function ratio(results, others, name) {
  return median(results.map((result, round) => figure([result], name) / figure([others[round]], name)));
}

export function count(value) {
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return value.toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))/g, value < 1000 ? '' : ',');
}

export const times = (value) => `${value.toFixed(2)} ×`;
export const ms = (us) => `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`;
export const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
export const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} kB`;

const COLUMNS = ['', 'what', 'pev', 'peers, same run', 'ratio', 'target', 'met'];

const cells = (row) => [row.id, row.what, row.pev, row.peers ?? '–', row.ratio ?? '–', row.target,
  row.met === undefined ? '–' : row.met ? 'yes' : 'NO'];

/** The table for a terminal. */
export function textTable(rows) {
  const lines = [COLUMNS, ...rows.map(cells)];
  const widths = COLUMNS.map((_, i) => Math.max(...lines.map((line) => [...line[i]].length)));
  const format = (line) => line.map((cell, i) => cell + ' '.repeat(widths[i] - [...cell].length)).join('  ').trimEnd();
  return [format(lines[0]), widths.map((width) => '─'.repeat(width)).join('  '), ...lines.slice(1).map(format)].join('\n');
}

/** The same for a page. */
export function markdownTable(rows) {
  const line = (texts) => `| ${texts.map((text) => text.replace(/\|/g, '\\|')).join(' | ')} |`;
  return [line(COLUMNS), line(COLUMNS.map(() => '---')), ...rows.map((row) => line(cells(row)))].join('\n');
}

function git(...args) {
  try {
    return execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return '';
  }
}

/** Where and of what the figures are. */
export function provenance(postgresVersion, options) {
  const commit = git('rev-parse', '--short', 'HEAD') || 'unknown';
  const changed = git('status', '--porcelain', '--untracked-files=no', '--', 'extension', 'sql', 'streamer') ? ' with local changes' : '';
  const memory = Math.round(os.totalmem() / 2 ** 30);
  return `commit ${commit}${changed}, ${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} cores (${os.cpus()[0].model.trim()}), `
    + `${memory} GB, PostgreSQL ${postgresVersion}, Node ${process.versions.node}, fsync and synchronous_commit on; `
    + `${options.rounds} rounds of ${options.seconds} s (B1 and B8 thrice as many), medians${options.quick ? '; a QUICK run, not to be quoted' : ''}`;
}
