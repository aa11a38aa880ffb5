// usage: node deltas.mjs [sizes|memory|fan-out]
//
// Benchmark of deltas and filters, run by `make bench BENCH_ARGS="--scenario deltas"`.
//   sizes    bytes of deltas of generated texts, and of the frames that carry them, beside the deltas of fossil-delta
//            (npm) and of the command xdelta3; time of one encoding
//   memory   what a subscription with deltas takes more than one without
//   fan-out  CPU time of the server for a publish to 10,000 subscribers that take deltas, relative to the same ones
//            without; to 500 subscribers with 20 filters, relative to none; server on CPU 0, clients on CPU 1
// CURLEW_BINARY_RELEASE names another build. Exit code: 1 if a goal was missed.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { publish } from '../tests/lib/api.js';
import { createDelta, encodePairs, pairsOf } from '../tests/lib/delta-encoder.js';
import { KINDS, Random } from '../tests/lib/delta-texts.js';
import { APP, RELEASE_BINARY, startServer } from '../tests/lib/server.js';
import { cpuNs, Crowd } from './crowd.mjs';

const SEED = 42;
const PAIRS = 200;
const XDELTA3_PAIRS = 25; // of those: a process each
const ROUNDS = 200;
const GOAL_SAVED = 0.6; // of the bytes of ticks
const GOAL_TICK_NS = 2000;

const SUBSCRIBERS = 10_000;
const FILTERED = 500;
const FILTERS = 20;
const SLICES = 10;
const PUBLISHES = { deltas: 8, filters: 60 }; // in a slice
const GOAL_DELTAS = 1.3;
const GOAL_FILTERS = 1.2;

const CONNECTIONS = 2000;
const CHANNELS_EACH = 20;
const GOAL_MEMORY = 32; // bytes

let missed = false;

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const percent = (part, whole) => `${(100 * (1 - part / whole)).toFixed(0)} %`;

function goal(met, text) {
  console.log(`${met ? 'ok    ' : 'MISSED'} ${text}`);
  missed ||= !met;
}

// --- sizes ---

function xdelta3Lengths(pairs) {
  const folder = mkdtempSync(path.join(tmpdir(), 'curlew-deltas-'));
  const base = path.join(folder, 'base');
  const lengths = pairs.map((pair) => {
    writeFileSync(base, pair.base);
    const args = ['-e', '-c', '-n', '-A', '-S', 'none', '-s', base];
    const { stdout, error } = spawnSync('xdelta3', args, { input: pair.target });
    if (error) throw error;
    return stdout.length;
  });
  rmSync(folder, { recursive: true });
  return lengths;
}

// The frame that carries a delta, as the server makes it (docs/deltas.md).
function frameLength(target, { length }, algorithm) {
  const { event, channel } = JSON.parse(target);
  const data = { event, delta: 'x'.repeat(Math.ceil(length / 3) * 4), seq: 1234, algorithm, base_index: 1233 };
  return Buffer.byteLength(JSON.stringify({ event: 'pusher:delta', channel, data }));
}

function measureSizes() {
  const lines = [];
  for (const [kind, make] of Object.entries(KINDS)) {
    const pairs = pairsOf(make(new Random(SEED), PAIRS + 1));
    const text = mean(pairs.map(({ target }) => target.length));
    const cells = [kind, text.toFixed(0)];
    const theirs = {
      fossil: pairs.map(({ base, target }) => createDelta(base, target).length),
      xdelta3: xdelta3Lengths(pairs.slice(0, XDELTA3_PAIRS)),
    };
    for (const algorithm of ['fossil', 'xdelta3']) {
      const encoded = encodePairs(algorithm, pairs, { rounds: ROUNDS, binary: RELEASE_BINARY });
      const bytes = mean(encoded.map(({ delta }) => delta.length));
      const frames = mean(encoded.map(({ delta }, i) => frameLength(pairs[i].target, delta, algorithm)));
      const ns = median(encoded.map((one) => one.ns));
      const same = mean(encoded.slice(0, theirs[algorithm].length).map(({ delta }) => delta.length));
      const other = (bytes * mean(theirs[algorithm])) / same; // the same share of more, if it was asked for fewer
      const saved = `${percent(bytes, text)}, ${percent(frames, text)}`;
      cells.push(bytes.toFixed(0), other.toFixed(0), saved, `${(ns / 1000).toFixed(1)} µs`);
      if (kind === 'ticks') {
        goal(bytes <= text * (1 - GOAL_SAVED), `${algorithm}: ticks save ${percent(bytes, text)}, goal 60 %`);
        goal(ns <= GOAL_TICK_NS, `${algorithm}: a tick takes ${ns} ns, goal ${GOAL_TICK_NS} ns`);
      }
    }
    lines.push(`| ${cells.join(' | ')} |`);
  }
  console.log(
    '| texts | bytes | fossil | fossil-delta | saved: delta, frame | time ' +
      '| xdelta3 | command xdelta3 | saved: delta, frame | time |',
  );
  console.log(`|${'---|'.repeat(10)}`);
  console.log(lines.join('\n'));
}

// --- fan-out ---

// Publishes one after another, each when the one before has come to all; resolves to what that cost.
async function publishToAll(crowd, server, agent, bodies, subscribers) {
  const before = { cpu: cpuNs(server.pid), bytes: crowd.bytes };
  for (const body of bodies) {
    const came = new Promise((resolve) => (crowd.reached = resolve));
    crowd.wanted = crowd.frames + subscribers;
    await publish(server, body, { agent });
    await came;
    crowd.wanted = Infinity;
  }
  return {
    cpu: (cpuNs(server.pid) - before.cpu) / bodies.length,
    bytes: (crowd.bytes - before.bytes) / bodies.length,
  };
}

// Publishes to two channels in turns, and reports what the second costs relative to the first.
async function compare(crowd, server, agent, { name, publishes, subscribers, channels, texts, limit, members }) {
  const sides = [[], []];
  let at = 0;
  for (let slice = 0; slice <= SLICES; slice++) {
    const bodies = texts.slice(at, (at += publishes));
    for (const [i, channel] of channels.entries()) {
      const own = bodies.map((data) => ({ name: 'tick', channel, data, ...members }));
      const cost = await publishToAll(crowd, server, agent, own, subscribers);
      if (slice !== 0) sides[i].push(cost); // the first one warms up
    }
  }
  const ratio = median(sides[0].map(({ cpu }, i) => sides[1][i].cpu / cpu));
  const cpu = sides.map((side) => median(side.map((one) => one.cpu)) / subscribers / 1000);
  const bytes = sides.map((side) => mean(side.map((one) => one.bytes)) / subscribers);
  goal(
    ratio <= limit,
    `${name}: ${cpu[1].toFixed(2)} µs of CPU a frame and ${bytes[1].toFixed(0)} bytes, without ${cpu[0].toFixed(2)} µs ` +
      `and ${bytes[0].toFixed(0)} bytes; median of the ratios ${ratio.toFixed(2)}, goal ${limit}`,
  );
}

async function measureFanOut() {
  execFileSync('taskset', ['-a', '-p', '-c', '1', String(process.pid)], { stdio: 'ignore' });
  const server = await startServer({
    apps: [{ ...APP, max_connections: 0, max_backend_events_per_second: 0 }],
    config: { workers: 1, tag_filtering: { enabled: true } },
    binary: RELEASE_BINARY,
  });
  execFileSync('taskset', ['-a', '-p', '-c', '0', String(server.pid)], { stdio: 'ignore' });
  const crowd = new Crowd();
  const filter = (i) => ({ key: 'symbol', cmp: 'neq', val: `other-${i % FILTERS}` });
  await crowd.open(server, SUBSCRIBERS, (i) => [
    { channel: 'whole', delta: false },
    { channel: 'deltas', delta: true },
    ...(i < FILTERED ? [{ channel: 'all' }, { channel: 'filtered', filter: filter(i) }] : []),
  ]);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ticks = KINDS.ticks(new Random(SEED), (SLICES + 1) * PUBLISHES.filters).map((text) => JSON.parse(text).data);
  await compare(crowd, server, agent, {
    name: `deltas, ${SUBSCRIBERS} subscribers`,
    publishes: PUBLISHES.deltas,
    subscribers: SUBSCRIBERS,
    channels: ['whole', 'deltas'],
    texts: ticks,
    limit: GOAL_DELTAS,
  });
  await compare(crowd, server, agent, {
    name: `${FILTERS} filters, ${FILTERED} subscribers`,
    publishes: PUBLISHES.filters,
    subscribers: FILTERED,
    channels: ['all', 'filtered'],
    texts: ticks,
    limit: GOAL_FILTERS,
    members: { tags: { symbol: 'ACME', venue: 'XNAS' } },
  });
  agent.destroy();
  crowd.close();
  await server.stop();
}

// --- memory ---

// Memory of the server for connections whose subscriptions take deltas or not.
async function memoryOf(delta) {
  const server = await startServer({
    apps: [{ ...APP, max_connections: 0 }],
    config: { workers: 1 },
    binary: RELEASE_BINARY,
  });
  const crowd = new Crowd();
  const channels = Array.from({ length: CHANNELS_EACH }, (_, i) => ({ channel: `memory-${i}`, delta }));
  await crowd.open(server, CONNECTIONS, () => channels);
  const smaps = readFileSync(`/proc/${server.pid}/smaps_rollup`, 'utf8');
  crowd.close();
  await server.stop();
  return Number(/^Private_Dirty: +(\d+) kB/m.exec(smaps)[1]) * 1024;
}

async function measureMemory() {
  const [without, with_] = [await memoryOf(false), await memoryOf(true)];
  const bytes = (with_ - without) / (CONNECTIONS * CHANNELS_EACH);
  goal(bytes <= GOAL_MEMORY, `${bytes.toFixed(1)} bytes more for a subscription with deltas, goal ${GOAL_MEMORY}`);
}

const [only] = process.argv.slice(2);
if (only === undefined || only === 'sizes') measureSizes();
if (only === undefined || only === 'memory') await measureMemory();
if (only === undefined || only === 'fan-out') await measureFanOut();
process.exit(missed ? 1 : 0);
