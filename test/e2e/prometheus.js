// Prometheus's text format, version 0.0.4, read as strictly as "promtool check metrics"
// would: what that tool refuses or warns about throws.

import assert from 'node:assert/strict';
import { request } from './harness.js';

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABELS = /^(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*$/;
const UNITS = /_(?:milliseconds|minutes|kilobytes|megabytes|percent|ms|kb|mb)(?:_|$)/;

/** A sample's value; what is no number is an error. */
function number(text) {
  if (text === '+Inf') return Infinity;
  assert.match(text, /^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/, `value ${text}`);
  return Number(text);
}

/** The family a sample belongs to: a histogram's have suffixes. */
function familyOf(name, families) {
  const base = name.replace(/_(?:bucket|sum|count)$/, '');
  return families.get(base)?.type === 'histogram' ? base : name;
}

/** Buckets must grow to the count, and end with +Inf. */
function lintHistogram(name, samples) {
  const buckets = samples.filter((sample) => sample.name === `${name}_bucket`);
  const bounds = buckets.map(({ labels }) => number(/^le="([^"]*)"$/.exec(labels)[1]));
  const counts = buckets.map(({ value }) => value);
  const only = (suffix) => {
    const found = samples.filter((sample) => sample.name === name + suffix);
    assert.equal(found.length, 1, `${name}${suffix}`);
    return found[0].value;
  };
  assert.equal(bounds.at(-1), Infinity, `${name}: the last bucket`);
  for (let i = 1; i < buckets.length; i++) {
    assert.ok(bounds[i] > bounds[i - 1], `${name}: bounds grow`);
    assert.ok(counts[i] >= counts[i - 1], `${name}: counts are cumulative`);
  }
  assert.equal(counts.at(-1), only('_count'), `${name}: the last bucket counts all`);
  assert.ok(only('_sum') >= 0, `${name}: the sum`);
}

/** Check a family's name and samples. */
function lintFamily(name, { type, samples }) {
  assert.ok(samples.length > 0, `${name} has samples`);
  assert.doesNotMatch(name, UNITS, `${name}: base units only`);
  assert.doesNotMatch(name, /[A-Z]|_(?:counter|gauge|histogram)$/, `${name}: the name`);
  if (type === 'counter') assert.match(name, /_total$/, `counter ${name}`);
  else assert.doesNotMatch(name, /_(?:total|sum|count|bucket)$/, `${type} ${name}`);
  if (type === 'histogram') lintHistogram(name, samples);
  else for (const sample of samples) assert.equal(sample.name, name);
  if (type !== 'gauge') for (const sample of samples) assert.ok(sample.value >= 0, `${sample.name} is negative`);
}

/** Check the whole text; a Map from "name{labels}" to value. */
export function lint(text) {
  const families = new Map();
  const values = new Map();
  let last; // the family whose lines these are
  assert.ok(text.endsWith('\n') && !text.endsWith('\n\n'), 'the last line ends, once');
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment) {
      const [, word, name, rest] = comment;
      assert.match(name, NAME);
      if (!families.has(name)) families.set(name, { samples: [] });
      const family = families.get(name);
      assert.equal(family.samples.length, 0, `${word} ${name} comes before the samples`);
      assert.equal(family[word.toLowerCase()], undefined, `${word} ${name} comes once`);
      if (word === 'TYPE') assert.ok(['counter', 'gauge', 'histogram'].includes(rest), `type ${rest}`);
      else assert.match(rest, /\S.*[.?]$/, `HELP ${name} is a sentence`);
      family[word.toLowerCase()] = rest;
      last = name;
      continue;
    }
    const sample = SAMPLE.exec(line);
    assert.ok(sample, `not a line of the format: ${line}`);
    const [, name, labels = '', value] = sample;
    const family = familyOf(name, families);
    assert.equal(family, last, `${name}: a family's lines are together`);
    assert.ok(families.get(family)?.help && families.get(family)?.type, `${name} has HELP and TYPE`);
    assert.match(labels, LABELS, line);
    const series = labels === '' ? name : `${name}{${labels}}`;
    assert.ok(!values.has(series), `${series} comes twice`);
    values.set(series, number(value));
    families.get(family).samples.push({ name, labels, value: number(value) });
  }
  for (const [name, family] of families) lintFamily(name, family);
  return values;
}

/** What a streamer shows now, linted. */
export async function metrics(streamer) {
  const { status, headers, body } = await request(`${streamer.url}/metrics`);
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  return lint(body);
}
