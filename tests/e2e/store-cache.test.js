// What the cache in front of a store keeps and for how long, and what it says of records that are broken. Others write
// the store: a file.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

import { api } from '../lib/api.js';
import { closedWithError, connect } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawHttp } from '../lib/raw-http.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const ONE = { id: 'one', key: 'one-key', secret: 's' };

// A file with the table of an older server and the app ONE; returns {sql, server}: run a statement, start a server on
// it.
function store(t) {
  const file = path.join(folderWith(t), 'apps.db');
  const sql = (text) => execFileSync('sqlite3', ['-cmd', '.timeout 60000', file, text], { encoding: 'utf8' });
  sql(
    'CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT UNIQUE, secret TEXT, enabled BOOLEAN DEFAULT 1, ' +
      'enable_client_messages BOOLEAN DEFAULT 0, max_connections INTEGER DEFAULT 0, max_client_events_per_second INTEGER DEFAULT 0); ' +
      "INSERT INTO applications (id, key, secret) VALUES ('one', 'one-key', 's')",
  );
  return {
    sql,
    async server(cache, env = {}) {
      const server = await serverFor(t, {
        apps: [],
        config: { app_manager: { driver: 'sqlite', cache }, database: { sqlite: { path: file } } },
        env,
      });
      await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_connections') >= 1));
      return server;
    },
  };
}

async function refusal(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

const absentNames = async (server) => (await fetchMetrics(server)).sum('app_cache_absent_entries');

/*
 * Returns when the server has seen the last change of the file. It looks once a second, and whatever changed, its own
 * additions to the table at the start too, makes it ask anew for every name that was not found. The server's
 * `negative_ttl` has to be long.
 */
async function untilSeen(server, sql) {
  for (;;) {
    assert.equal(await refusal(server, 'nobody'), 4001);
    sql('UPDATE applications SET max_connections = max_connections');
    if ((await absentNames(server)) === 0) continue; // forgotten for an earlier change, perhaps
    await eventually(server, (metrics) => assert.equal(metrics.sum('app_cache_absent_entries'), 0));
    return;
  }
}

test('a record that is broken is told once for each change of it, asked for by key and by id', async (t) => {
  const here = store(t);
  const server = await here.server({ ttl: 1, stale_if_error: 1, negative_ttl: 0, cleanup_interval: 1 });
  const told = () =>
    server.log.all.flatMap(({ level, message }) =>
      level === 'error' ? (message.match(/^app "one": (\w+) must/)?.[1] ?? []) : [],
    );
  const askById = async () => (await api(server, 'GET', '/channels', { app: ONE })).body;
  const breaks = { max_connections: 'max_client_events_per_second', max_client_events_per_second: 'max_connections' };
  const expected = [];
  // The same break again counts when another one, or none, was between. Which name is asked for first changes, too.
  for (const [field, repaired] of [
    ['max_connections'],
    ['max_client_events_per_second'],
    ['max_connections', true],
    ['max_connections'],
  ]) {
    here.sql(`UPDATE applications SET ${field} = 'many', ${breaks[field]} = 0`);
    expected.push(field);
    if (expected.length % 2 === 0)
      await eventually(server, async () => assert.match(await askById(), new RegExp(`${field} must`)));
    await eventually(server, async () => {
      assert.equal(await refusal(server, 'one-key'), 4100);
      assert.equal(told().at(-1), field);
    });
    for (let i = 0; i < 3; i++) {
      assert.match(await askById(), new RegExp(`${field} must`));
      assert.equal(await refusal(server, 'one-key'), 4100);
    }
    assert.deepEqual(told(), expected);
    if (!repaired) continue;
    here.sql(`UPDATE applications SET ${field} = 0`);
    await eventually(server, async () => (await connect(server, { app: ONE })).destroy());
    // or the valid record would be served
    await eventually(server, (metrics) => assert.equal(metrics.sum('app_cache_entries'), 0));
  }
  // Others change other records, and clean-ups pass: it is still the same.
  const writes = (await fetchMetrics(server)).sum('app_store_seconds_count');
  here.sql("INSERT INTO applications (id, key, secret) VALUES ('two', 'two-key', 's')");
  await eventually(server, async (metrics) => {
    assert.equal(await refusal(server, 'one-key'), 4100);
    assert.ok(metrics.sum('app_store_seconds_count') > writes + 30);
  });
  assert.deepEqual(told(), expected);
});

test('a broken record stays known while others ask for names that are not there', async (t) => {
  const here = store(t);
  here.sql("UPDATE applications SET max_connections = 'many'");
  const server = await here.server({ negative_ttl: 3600 });
  const told = () => server.log.all.filter(({ message }) => /max_connections must/.test(message)).length;
  const asked = async () => (await fetchMetrics(server)).sum('app_store_seconds_count');
  await untilSeen(server, here.sql); // a change makes the server ask for the broken record anew, too
  assert.equal(await refusal(server, 'one-key'), 4100);
  const http = await RawHttp.connect(server);
  for (let i = 0; i < 1500; i++) http.send('GET', `/apps/nobody-${i}/channels`);
  for (let i = 0; i < 1500; i++) assert.equal((await http.next()).status, 404);
  assert.equal(await absentNames(server), 1501);
  const before = await asked();
  assert.equal(await refusal(server, 'one-key'), 4100);
  assert.equal(await asked(), before);
  assert.equal(told(), 1);
});

test('what is known not to be there is forgotten by the clean-up, once its time is over', async (t) => {
  const { server: start } = store(t);
  const [soon, late] = await Promise.all(
    ['1', '3600'].map((seconds) => start({ negative_ttl: 1 }, { CACHE_CLEANUP_INTERVAL: seconds })),
  );
  const kept = []; // by the one whose clean-up is far away
  for (const round of [1, 2]) {
    // when a server begins to watch the file it forgets what is not there, too, but only once
    for (const server of [late, soon]) for (let i = 0; i < 20; i++) await refusal(server, `nobody-${round}-${i}`);
    await eventually(soon, (metrics) => assert.equal(metrics.sum('app_cache_absent_entries'), 0));
    kept.push(await absentNames(late));
  }
  assert.ok(
    kept.some((count) => count >= 20),
    `kept ${kept}`,
  );
});

test('a record that nobody uses is kept beyond its time, for as long as it would be served without the store, and then goes', async (t) => {
  const { server: start } = store(t);
  const [short, long] = await Promise.all([
    start({ ttl: 1, stale_if_error: 1 }),
    start({ ttl: 1, stale_if_error: 86400 }),
  ]);
  for (const server of [long, short]) {
    (await connect(server, { app: ONE })).destroy();
    assert.equal((await fetchMetrics(server)).sum('app_cache_entries'), 1);
  }
  await eventually(short, (metrics) => assert.equal(metrics.sum('app_cache_entries'), 0));
  assert.equal((await fetchMetrics(long)).sum('app_cache_entries'), 1);
});

test('without the cache an app with connections is held and read again all the same, each ttl', async (t) => {
  const here = store(t);
  const server = await here.server({ enabled: false, ttl: 1 });
  const ws = await connect(server, { app: ONE, t });
  const before = await fetchMetrics(server);
  await eventually(server, (metrics) =>
    assert.ok(metrics.sum('app_store_seconds_count') >= before.sum('app_store_seconds_count') + 2),
  );
  assert.equal((await fetchMetrics(server)).sum('app_cache_entries'), 1);
  here.sql('UPDATE applications SET enabled = 0');
  await closedWithError(ws, 4003);
  assert.equal(await refusal(server, 'one-key'), 4003);
  await eventually(server, (metrics) => assert.equal(metrics.sum('app_cache_entries'), 0));
});
