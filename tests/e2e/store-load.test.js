// What lookups cost the store at full size, counted by the databases: the release build, with the load generator as the
// clients.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { countedOptions, counterOf, fillPlace, untilListening } from '../lib/backends/counted.js';
import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { generate, generateOutage } from '../lib/generator.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { RELEASE_BINARY, serverFor } from '../lib/server.js';

const SLOW_SECONDS = 0.2;
const APPS = 1000;
const TTL_SECONDS = 10;

// Starts a database for the tests of a group; returns a function that returns it when they run.
function backendOf(kind, options) {
  const ends = [];
  let backend;
  before(async () => {
    backend = await backendFor({ after: (end) => ends.push(end) }, kind, options);
  });
  after(async () => {
    for (const end of ends) await end();
  });
  return () => backend;
}

function testFrozen(backendNow) {
  test('while the store is frozen for 20 s a known app is served, an unknown one told to come back, and no loop waits for it', async (t) => {
    const backend = backendNow();
    await backend.createPlace('frozen');
    const config = backend.config('frozen');
    const server = await serverFor(t, {
      apps: [{ id: 'app-1', key: 'key-1', secret: 's', max_connections: 0 }],
      binary: RELEASE_BINARY,
      config: { ...config, app_manager: { ...config.app_manager, cache: { ttl: 1 } } },
    });
    await eventually(server, async () => (await connect(server, { app: { key: 'key-1' } })).destroy());
    const { lagSeconds } = await generateOutage(server, 'key-1', backend, {
      async frozen() {
        for (let i = 0; i < 10; i++) {
          const ws = await RawWebSocket.connect(server, { key: `unknown-${i}` });
          assert.equal((await ws.expect('pusher:error')).data.code, 4100);
          ws.destroy();
        }
      },
    });
    // A turn that waited for the store would take app_manager.lookup_timeout_ms, 5 s; a busy machine may stop a thread
    // for a while.
    assert.ok(lagSeconds < 2, `the longest turn took ${lagSeconds} s`);
  });
}

function lookupsOn(kind) {
  const backendNow = backendOf(kind, countedOptions(kind));
  let backend;
  before(() => {
    backend = backendNow();
  });

  // `driver` are settings of the database's own section.
  function serverOn(t, place, { cache = {}, driver = {} } = {}) {
    const config = backend.config(place);
    const [[name, database]] = Object.entries(config.database);
    return serverFor(t, {
      apps: [],
      binary: RELEASE_BINARY,
      config: { app_manager: { ...config.app_manager, cache }, database: { [name]: { ...database, ...driver } } },
    });
  }

  test('ten thousand first connects at the same moment are one query', async (t) => {
    await fillPlace(backend, kind, 'crowd', { apps: 1, slowSeconds: 10 * SLOW_SECONDS });
    const server = await serverOn(t, 'crowd', { cache: { ttl: 300 } });
    await untilListening(backend, kind, 'crowd', server);
    const queries = await counterOf(backend, kind, 'crowd');
    await generate(server, 'first-connects', 'key-1');
    assert.equal(await queries(), 1);
    assert.ok(
      (await fetchMetrics(server)).sum('app_lookups_total', { answer: 'miss' }) > 1000,
      'they were there before the answer',
    );
  });

  test('a thousand unknown keys, asked for twenty times each, are a thousand queries', async (t) => {
    await fillPlace(backend, kind, 'unknown', { apps: 1 });
    const server = await serverOn(t, 'unknown', { cache: { negative_ttl: 3600 } });
    (await connect(server, { app: { id: 'app-1', key: 'key-1', secret: 's' } })).destroy();
    await untilListening(backend, kind, 'unknown', server);
    const queries = await counterOf(backend, kind, 'unknown');
    await generate(server, 'unknown-keys', 'unknown-');
    assert.equal(await queries(), 1000);
  });

  test('nobody waits for a thousand apps in use after the first, for five TTLs', async (t) => {
    await fillPlace(backend, kind, 'steady', { apps: APPS, slowSeconds: SLOW_SECONDS });
    const queries = await counterOf(backend, kind, 'steady');
    const server = await serverOn(t, 'steady', {
      cache: { ttl: TTL_SECONDS },
      driver: { cache_max_capacity: 2 * APPS, pool_max: 80 },
    });
    await untilListening(backend, kind, 'steady', server);
    const before = (await fetchMetrics(server)).sum('app_lookups_total', { answer: 'miss' });
    await generate(server, 'steady', 'key-', { options: ['--keys', APPS, '--seconds', 5 * TTL_SECONDS] });
    const late = (await fetchMetrics(server)).sum('app_lookups_total', { answer: 'miss' }) - before - APPS;
    const again = (await queries()) - APPS;
    assert.ok(again >= 4 * APPS, `${again} times a record was read again`);
    // none, but for a machine that has more to do than it can
    assert.ok(late < again / 10, `${late} lookups waited for that`);
  });

  testFrozen(backendNow);

  test('the start asks the store as little with ten thousand apps as with one', async (t) => {
    for (const apps of [1, 10_000]) {
      const place = `start_${apps}`;
      await fillPlace(backend, kind, place, { apps });
      const lookups = await counterOf(backend, kind, place);
      const server = await serverOn(t, place);
      const own = await untilListening(backend, kind, place, server);
      (await connect(server, { app: { id: 'app-1', key: 'key-1', secret: 's' } })).destroy();
      assert.equal(await lookups(), own + 1);
      assert.equal((await fetchMetrics(server)).sum('app_cache_entries'), 1);
    }
  });
}

describe('lookups at full size', { concurrency: true }, () => {
  for (const kind of ['postgres', 'mariadb']) describe(kind, { concurrency: false }, () => lookupsOn(kind));
  for (const kind of ['dynamodb', 'cassandra'])
    describe(kind, { concurrency: false }, () => testFrozen(backendOf(kind)));
});
