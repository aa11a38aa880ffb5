// usage: node stores.mjs [NAME...]
//
// Benchmark of apps in a store, run by `make bench BENCH_ARGS="--scenario stores"`: connection latency of the clients
// and queries to the store. Starts the databases, build/curlew on each, and build/bench/curlew-bench as the clients;
// the databases count their queries. NAME is a scenario of the table below; the default is all. CURLEW_BINARY_RELEASE
// names another build. Exit code: 1 if a goal was missed.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { counterOf, countedOptions, fillPlace } from '../tests/lib/backends/counted.js';
import { backendFor } from '../tests/lib/backends/index.js';
import { connect } from '../tests/lib/client.js';
import { generate, generateOutage } from '../tests/lib/generator.js';
import { fetchMetrics } from '../tests/lib/metrics.js';
import { RELEASE_BINARY, runCurlew, startServer } from '../tests/lib/server.js';

const SLOW_SECONDS = 0.2;
const APPS = 1000;
const TTL_SECONDS = 30;
const STARTS = 7;
const MANY = 10_000;
const FREEZE_SECONDS = 20;

const scratch = path.join(tmpdir(), `curlew-bench-${process.pid}`);
const ends = [() => rmSync(scratch, { recursive: true, force: true })];
const backends = new Map();
let missed = false;

function say(name, where, figures, goal, reached) {
  missed ||= !reached;
  console.log(`${name.padEnd(15)} ${where.padEnd(9)} ${figures}  (goal: ${goal})${reached ? '' : '  MISSED'}`);
}

async function backendOf(kind) {
  if (!backends.has(kind))
    backends.set(kind, await backendFor({ after: (end) => ends.unshift(end) }, kind, countedOptions(kind)));
  return backends.get(kind);
}

// Runs a server with `config` until `use(server)` has ended; returns the result of `use`.
async function withServer(config, use) {
  const server = await startServer({ apps: [], config, binary: RELEASE_BINARY });
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

// Configuration of a server on `place`. `driver` adds settings to the section of the database.
function configOf(backend, place, cache, driver = {}) {
  const config = backend.config(place);
  const [[name, database]] = Object.entries(config.database);
  return { ...config, app_manager: { ...config.app_manager, cache }, database: { [name]: { ...database, ...driver } } };
}

const milliseconds = (us) => (us / 1000).toFixed(us < 10_000 ? 1 : 0);
const latencies = ({ latency_us: us }) =>
  `p50 ${milliseconds(us.p50)}, p99 ${milliseconds(us.p99)}, max ${milliseconds(us.max)} ms`;
const misses = async (server) => (await fetchMetrics(server)).sum('app_lookups_total', { answer: 'miss' });

async function firstConnects(kind) {
  const backend = await backendOf(kind);
  await fillPlace(backend, kind, 'first', { apps: 1, slowSeconds: SLOW_SECONDS });
  const queries = await counterOf(backend, kind, 'first');
  await withServer(configOf(backend, 'first', { ttl: 300 }), async (server) => {
    const row = await generate(server, 'first-connects', 'key-1');
    const waited = await misses(server);
    say(
      'first-connects',
      kind,
      `10,000 at once, of which ${waited} waited for the store: ${await queries()} query; ${latencies(row)}`,
      '1 query',
      (await queries()) === 1,
    );
  });
}

async function unknownKeys(kind) {
  const backend = await backendOf(kind);
  await fillPlace(backend, kind, 'unknown', { apps: 1 });
  const queries = await counterOf(backend, kind, 'unknown');
  await withServer(configOf(backend, 'unknown', { negative_ttl: 300 }), async (server) => {
    const row = await generate(server, 'unknown-keys', 'unknown-');
    say(
      'unknown-keys',
      kind,
      `1,000 keys, 20 times each: ${await queries()} queries; ${latencies(row)}`,
      'at most 1,000',
      (await queries()) <= 1000,
    );
  });
}

async function steady(kind) {
  const backend = await backendOf(kind);
  await fillPlace(backend, kind, 'steady', { apps: APPS, slowSeconds: SLOW_SECONDS });
  await withServer(
    configOf(backend, 'steady', { ttl: TTL_SECONDS }, { cache_max_capacity: 2 * APPS }),
    async (server) => {
      const queries = await counterOf(backend, kind, 'steady');
      const row = await generate(server, 'steady', 'key-', { options: ['--keys', APPS, '--seconds', 5 * TTL_SECONDS] });
      const blocked = (await misses(server)) - APPS;
      say(
        'steady',
        kind,
        `${APPS} apps, TTL ${TTL_SECONDS} s, five of them: ${blocked} lookups waited after the first of each app; ` +
          `${await queries()} queries; ${Math.round(row.per_second)} connects a second: ${latencies(row)}`,
        '0, p99 under 20 ms',
        blocked === 0 && row.latency_us.p99 < 20_000,
      );
    },
  );
}

async function outage(kind) {
  const backend = await backendOf(kind);
  await fillPlace(backend, kind, 'frozen', { apps: 1 });
  await withServer(configOf(backend, 'frozen', { ttl: 1 }), async (server) => {
    const { row, lagSeconds } = await generateOutage(server, 'key-1', backend, { seconds: FREEZE_SECONDS });
    say(
      'outage',
      kind,
      `frozen for ${FREEZE_SECONDS} s, 200 clients, 50 connects a second: longest turn of a loop ${milliseconds(lagSeconds * 1e6)} ms; ${latencies(row)}`,
      'under 50 ms',
      lagSeconds < 0.05,
    );
  });
}

// Creates a store with `apps` apps. Returns its configuration and its query counter; the server counts for SQLite,
// which
// has no counter of its own.
async function storeOf(kind, apps) {
  const place = `start_${apps}`;
  if (kind !== 'sqlite') {
    const backend = await backendOf(kind);
    await fillPlace(backend, kind, place, { apps });
    return { config: backend.config(place), counter: () => counterOf(backend, kind, place, 'statements') };
  }
  const config = {
    app_manager: { driver: 'sqlite' },
    database: { sqlite: { path: path.join(scratch, `${place}.db`) } },
  };
  const file = path.join(scratch, 'apps.json');
  writeFileSync(
    file,
    JSON.stringify({
      apps: Array.from({ length: apps }, (_, i) => ({ id: `app-${i + 1}`, key: `key-${i + 1}`, secret: 's' })),
    }),
  );
  const { code, stderr } = await runCurlew(['apps', 'import', file], {
    config,
    binary: RELEASE_BINARY,
    timeoutMs: 120_000,
  });
  assert.equal(code, 0, stderr);
  return { config, counter: async () => async (server) => (await fetchMetrics(server)).sum('app_store_seconds_count') };
}

// Measures the time until the server is ready and until it has served an app, in ms, and its queries until then.
async function timeStart({ config, counter }) {
  const queries = await counter();
  const start = performance.now();
  return withServer(config, async (server) => {
    const ready = performance.now() - start;
    (await connect(server, { app: { id: 'app-1', key: 'key-1', secret: 's' } })).destroy();
    const served = performance.now() - start;
    return { ready, served, asked: await queries(server) };
  });
}

async function startUp(kind) {
  const stores = [await storeOf(kind, 1), await storeOf(kind, MANY)];
  const runs = [[], []];
  for (let round = 0; round < STARTS; round++) {
    for (const at of [0, 1]) runs[at].push(await timeStart(stores[at]));
  }
  const [few, many] = runs.map((starts) =>
    Object.fromEntries(['ready', 'served', 'asked'].map((what) => [what, median(starts.map((one) => one[what]))])),
  );
  say(
    'start-up',
    kind,
    `1 app: ready after ${few.ready.toFixed(0)} ms, an app served after ${few.served.toFixed(0)} ms, ${few.asked} queries; ` +
      `10,000 apps: ${many.ready.toFixed(0)} ms, ${many.served.toFixed(0)} ms, ${many.asked} queries`,
    'the same',
    many.asked <= few.asked + 5,
  );
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

const SCENARIOS = {
  'start-up': [startUp, ['sqlite', 'postgres', 'mariadb']],
  'first-connects': [firstConnects, ['postgres', 'mariadb']],
  'unknown-keys': [unknownKeys, ['postgres', 'mariadb']],
  outage: [outage, ['postgres', 'mariadb']],
  steady: [steady, ['postgres']],
};

const chosen = process.argv.slice(2);
for (const name of chosen) {
  if (!Object.hasOwn(SCENARIOS, name)) {
    console.error(`usage: node stores.mjs [NAME...]; a name is one of ${Object.keys(SCENARIOS).join(', ')}`);
    process.exit(2);
  }
}
mkdirSync(scratch);
try {
  for (const [name, [run, kinds]] of Object.entries(SCENARIOS)) {
    if (chosen.length === 0 || chosen.includes(name)) for (const kind of kinds) await run(kind);
  }
} catch (error) {
  console.error(`bench: ${error.message}`);
  missed = true;
} finally {
  for (const end of ends) await end();
}
process.exit(missed ? 1 : 0);
