// What the metrics page says of the app store and the cache in front of it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { renameSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const ONE = { id: 'one', key: 'one-key', secret: 's' };
const TWO = { id: 'two', key: 'two-key', secret: 's' };

const INSERT =
  'INSERT INTO applications (id, `key`, secret, enabled, enable_client_messages, max_connections, max_client_events_per_second) ' +
  "VALUES ('one', 'one-key', 's', 1, 0, 0, 1)";

// A server whose store, a file, has the app ONE.
async function serverWithOne(t, cache = {}) {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await serverFor(t, {
    apps: [],
    config: { app_manager: { driver: 'sqlite', cache }, database: { sqlite: { path: file } } },
  });
  await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_connections') >= 1));
  const sql = (text) => execFileSync('sqlite3', ['-cmd', '.timeout 10000', file, text]);
  sql(INSERT);
  return { server, file, sql };
}

async function codeFor(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

async function grown(server, before, expected) {
  await eventually(server, (metrics) =>
    assert.deepEqual(metrics.since(before, 'app_lookups_total', 'answer'), expected),
  );
}

// With a store that tells nobody of changes, so that only these lookups ask it.
test(
  'lookups are counted by their answer, and what is in the cache is known',
  { timeout: LONG_TIMEOUT_MS },
  async (t) => {
    const backend = await backendFor(t, 'mariadb');
    await backend.createPlace('lookups');
    const server = await serverFor(t, { apps: [], config: backend.config('lookups') });
    await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_connections') >= 1));
    const client = await backend.client('lookups');
    await client.query(INSERT);
    await client.end();
    let before = await fetchMetrics(server);
    assert.deepEqual([before.sum('app_cache_entries'), before.sum('app_cache_absent_entries')], [0, 0]);
    const seconds = before.sum('app_store_seconds_count');
    await connect(server, { app: ONE, t });
    await grown(server, before, { miss: 1 });
    before = await fetchMetrics(server);
    await connect(server, { app: ONE, t });
    await connect(server, { app: ONE, t });
    await grown(server, before, { hit: 2 });
    before = await fetchMetrics(server);
    assert.equal(await codeFor(server, 'nobody'), 4001);
    await grown(server, before, { miss: 1 });
    before = await fetchMetrics(server);
    assert.equal(await codeFor(server, 'nobody'), 4001);
    await grown(server, before, { negative: 1 });
    const now = await fetchMetrics(server);
    assert.deepEqual([now.sum('app_cache_entries'), now.sum('app_cache_absent_entries')], [1, 1]);
    assert.ok(now.sum('app_store_seconds_count') >= seconds + 2); // both of the misses
    assert.ok(now.sum('app_store_seconds_sum') > 0);
    assert.equal(now.sum('app_store_seconds_bucket', { le: '+Inf' }), now.sum('app_store_seconds_count'));
  },
);

test('an outage is seen: what is stale, what has no answer, failures, and the store down and up', async (t) => {
  const { server, file } = await serverWithOne(t, { ttl: 1 });
  await connect(server, { app: ONE, t });
  const before = await fetchMetrics(server);
  assert.deepEqual(
    [before.sum('app_store_up'), before.sum('app_store_outages_total'), before.sum('app_store_failures_total')],
    [1, 0, 0],
  );
  renameSync(file, `${file}.away`);
  assert.equal(await codeFor(server, 'nobody'), 4100);
  await eventually(server, (metrics) => {
    assert.equal(metrics.since(before, 'app_lookups_total', 'answer').error, 1);
    assert.equal(metrics.sum('app_store_up'), 0);
    assert.equal(metrics.sum('app_store_outages_total'), 1);
    assert.ok(metrics.sum('app_store_failures_total') >= 1);
  });
  do {
    // until its second has passed
    const ws = await connect(server, { app: ONE, t });
    ws.destroy();
  } while ((await fetchMetrics(server)).sum('app_lookups_total', { answer: 'stale' }) === 0);
  renameSync(`${file}.away`, file);
  await eventually(server, (metrics) => {
    assert.equal(metrics.sum('app_store_up'), 1);
    assert.equal(metrics.sum('app_store_outages_total'), 1);
  });
});

test('a record that has become invalid is counted until it is good again', async (t) => {
  const { server, sql } = await serverWithOne(t);
  await connect(server, { app: ONE, t });
  assert.equal((await fetchMetrics(server)).sum('app_cache_invalid_entries'), 0);
  sql("UPDATE applications SET enabled = 'maybe'");
  await eventually(server, (metrics) => assert.equal(metrics.sum('app_cache_invalid_entries'), 1));
  sql('UPDATE applications SET enabled = 1');
  await eventually(server, (metrics) => assert.equal(metrics.sum('app_cache_invalid_entries'), 0));
});

test(
  'the pool: connections in use, who waits at which priority, who is turned away, and how long it took',
  { timeout: LONG_TIMEOUT_MS },
  async (t) => {
    const token = 'a token of at least thirty-two characters';
    const backend = await backendFor(t, 'postgres');
    await backend.createPlace('pool');
    const {
      app_manager,
      database: { postgres },
    } = backend.config('pool');
    const server = await serverFor(t, {
      apps: [],
      config: {
        app_manager: { ...app_manager, lookup_timeout_ms: 3_600_000 },
        database: { postgres: { ...postgres, pool_min: 1, pool_max: 1 } },
      },
      env: { CURLEW_ADMIN_TOKEN: token, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
    });
    const admin = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
    const headers = { authorization: `Bearer ${token}` };
    for (const app of [ONE, TWO]) {
      assert.equal(
        (await fetch(admin, { method: 'POST', headers, body: JSON.stringify({ ...app, max_connections: 0 }) })).status,
        201,
      );
      await connect(server, { app, t });
    }

    const client = await backend.client('pool');
    const { channel } = (await client.query("SELECT 'curlew_' || md5('public.applications') AS channel")).rows[0];
    const locker = await backend.client('pool');
    await locker.query('BEGIN; LOCK TABLE applications IN ACCESS EXCLUSIVE MODE');
    const unknown = [];
    const ask = async (count) => {
      unknown.push(
        ...(await Promise.all(
          Array.from({ length: count }, (_, i) =>
            RawWebSocket.connect(server, { key: `nobody-${unknown.length + i}` }),
          ),
        )),
      );
    };
    await ask(2);
    const waiting = (metrics, priority) => metrics.sum('app_store_waiting', { priority });
    await eventually(server, (metrics) => {
      assert.deepEqual([metrics.sum('app_store_connections'), metrics.sum('app_store_connections_busy')], [1, 1]);
      assert.ok(waiting(metrics, 'unknown') >= 1);
      assert.equal(waiting(metrics, 'urgent'), 0);
      assert.equal(metrics.sum('app_store_turned_away_total'), 0);
    });
    const write = fetch(`${admin}/one`, { method: 'PATCH', headers, body: '{"max_event_batch_size":3}' });
    await eventually(server, (metrics) => assert.ok(waiting(metrics, 'urgent') >= 1));
    // What the table's trigger says of changed apps: they are in use, and read again. One of them may be what is under
    // way.
    for (const { id, key } of [ONE, TWO])
      await client.query(`NOTIFY ${channel}, '{"id":"${id}","old_key":"${key}","new_key":"${key}"}'`);
    await eventually(server, (metrics) => assert.ok(waiting(metrics, 'known') >= 1));
    while (unknown.length < 1020) await ask(102);
    await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_turned_away_total') >= 10));
    assert.equal(waiting(await fetchMetrics(server), 'unknown'), 1000);

    await locker.query('COMMIT');
    await Promise.all([client.end(), locker.end()]);
    assert.equal((await write).status, 200);
    const codes = await Promise.all(unknown.map(async (ws) => (await ws.expect('pusher:error')).data.code));
    const turnedAway = codes.filter((code) => code === 4100).length;
    await eventually(server, (metrics) => {
      assert.equal(metrics.sum('app_store_turned_away_total'), turnedAway);
      for (const priority of ['urgent', 'known', 'unknown']) assert.equal(waiting(metrics, priority), 0);
      assert.ok(
        metrics.sum('app_store_seconds_count') - metrics.sum('app_store_seconds_bucket', { le: '0.1' }) >= 1000,
      );
    });
    assert.ok(codes.every((code) => code === 4001 || code === 4100));
    for (const ws of unknown) ws.destroy();
  },
);
