// Reads the metrics page: the Prometheus text format as samples that a test can look up and add.

import { get } from './api.js';
import { TIMEOUT_MS } from './inbox.js';

// Requests a new page of a server, not one that it keeps; options as get().
export function getMetrics(server, options = {}) {
  return get(server.metricsUrl, { ...options, headers: { 'Cache-Control': 'no-cache', ...options.headers } });
}

// The same, parsed. Names are given without the family's prefix where it applies; further options as get().
export async function fetchMetrics(server, { prefix = 'sockudo_', ...options } = {}) {
  const response = await getMetrics(server, options);
  if (response.status !== 200) throw new Error(`GET ${server.metricsUrl}: ${response.status} ${response.body}`);
  return new Metrics(parseMetrics(response.body), prefix);
}

// Reads the page until the check holds; a value that follows an event may be counted a moment after the event is seen.
export async function eventually(server, check) {
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    const metrics = await fetchMetrics(server);
    try {
      return await check(metrics);
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}

export class Metrics {
  constructor(samples, prefix) {
    this.samples = samples;
    this.prefix = prefix;
  }

  // The samples of a name (with or without prefix) whose labels include the given ones.
  select(name, labels = {}) {
    return this.samples.filter(
      (sample) =>
        (sample.name === name || sample.name === this.prefix + name) &&
        Object.entries(labels).every(([label, value]) => sample.labels[label] === String(value)),
    );
  }

  // Their sum; 0 when there are none.
  sum(name, labels) {
    return this.select(name, labels).reduce((sum, sample) => sum + sample.value, 0);
  }

  // By how much the samples have grown since an earlier page, by the value of one label: {value: growth}, without those
  // that have not.
  since(before, name, label, labels) {
    const grown = this.select(name, labels).map((sample) => [
      sample.labels[label],
      sample.value - before.sum(name, sample.labels),
    ]);
    return Object.fromEntries(grown.filter(([, growth]) => growth !== 0));
  }
}

// Text to [{name, labels, value}]. Throws on a line that is neither a sample, a comment nor empty.
export function parseMetrics(text) {
  const samples = [];
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const match = line.match(/^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$/);
    if (!match) throw new Error(`no sample of the Prometheus text format: ${line}`);
    const labels = {};
    for (const [, name, value] of (match[2] ?? '').matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    }
    samples.push({ name: match[1], labels, value: Number(match[3].replace('Inf', 'Infinity')) });
  }
  return samples;
}
