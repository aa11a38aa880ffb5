// Cassandra: the default settings on one node, and three nodes of which one and then two are killed.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { apps, appsDone } from './lib/apps-command.js';
import { backendFor } from './lib/backends/index.js';
import { folderWith } from './lib/process.js';
import { RawWebSocket } from './lib/raw-websocket.js';
import { serverFor } from './lib/server.js';

const APP = { id: 'one', key: 'one-key', secret: 's' };

function fileFor(t, config) {
  return path.join(folderWith(t, { 'config.json': config }), 'config.json');
}

async function refusal(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error', 15_000);
  ws.destroy();
  return data.code;
}

async function until(what, act) {
  const end = performance.now() + 60_000;
  for (;;) {
    const said = await act();
    if (said === what) return;
    assert.ok(performance.now() < end, `${said} in place of ${what}`);
    await pause(100);
  }
}

describe('one node', () => {
  const ends = [];
  let backend;
  before(async () => { backend = await backendFor({ after: (end) => ends.push(end) }, 'cassandra'); });
  after(async () => { for (const end of ends) await end(); });

  test('works with the replication factor of 3 that is the default, and says what that means', async (t) => {
    const config = backend.config('Alone'); // names are read as unquoted ones are
    delete config.app_manager.scylladb.replication_factor;
    const file = fileFor(t, config);
    const { code, stderr } = await apps(t, ['create', '-c', file, '--id', 'one', '--key', 'one-key', '--secret', 's']);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /keyspace alone wants 3 replicas and 1 node is known: reading and writing at LOCAL_ONE/);
    assert.equal((await appsDone(t, ['show', 'one', '-c', file, '--json'])).key, 'one-key');
    const again = await apps(t, ['create', '-c', file, '--id', 'one', '--key', 'other', '--secret', 's']);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /already an app with the id one/);
  });

  test('a table of an older server gets its columns, and keeps those that nobody here knows', async (t) => {
    const client = await backend.client();
    await client.execute("CREATE KEYSPACE older WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
    await client.execute('CREATE TABLE older.applications (id text PRIMARY KEY, key text, secret text, max_connections int, ' +
      'max_client_events_per_second int, enable_client_messages boolean, enabled boolean, plan text)');
    await client.execute("INSERT INTO older.applications (id, key, secret, max_connections, enabled, plan) VALUES ('old', 'old-key', 's', -1, true, 'gold')");
    await client.execute("INSERT INTO older.applications (id, key, max_connections) VALUES ('broken', 'broken-key', 1)");
    const file = fileFor(t, backend.config('older'));
    const shown = await appsDone(t, ['show', 'old', '-c', file, '--json']);
    assert.equal(shown.max_connections, 4294967295);
    await appsDone(t, ['update', 'old', '-c', file, '--set', 'allowed_origins=["a.example"]', '--set', 'max_event_batch_size=4294967295']);
    const { rows: [row] } = await client.execute("SELECT * FROM older.applications WHERE id = 'old'");
    assert.equal(row.plan, 'gold');
    assert.equal(row.allowed_origins, '["a.example"]');
    assert.equal(row.max_event_batch_size, -1);
    const list = await apps(t, ['list', '-c', file, '--json']);
    assert.match(list.stderr, /broken.*secret/);
    await client.shutdown();
  });

  test('a wrong password and a name that is none are told by their settings', async (t) => {
    const wrong = backend.config('curlew');
    wrong.app_manager.scylladb.password = 'not-the-password';
    const refused = await apps(t, ['list', '-c', fileFor(t, wrong)]);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /database\.scylladb\.username and \.password/);
    assert.doesNotMatch(refused.stderr, /not-the-password/);
    const named = await apps(t, ['list', '-c', fileFor(t, backend.config('no-name'))]);
    assert.equal(named.code, 2);
    assert.match(named.stderr, /scylladb\.keyspace/);
  });
});

test('three nodes: one may be killed; with two the store is unavailable, and an app never "not found"', { timeout: 600_000 }, async (t) => {
  const cluster = await backendFor(t, 'cassandra-cluster');
  const config = cluster.config('quorum');
  config.app_manager.cache = { enabled: false };
  const server = await serverFor(t, { apps: [APP], config });
  // "Come back" is what a question may get that is put to a node which is gone and not yet known to be; "not found" never.
  const known = async () => {
    const ws = await RawWebSocket.connect(server, { key: APP.key });
    const first = await ws.next(() => true, 15_000);
    ws.destroy();
    if (first.event === 'pusher:connection_established') return 'found';
    assert.equal(first.data.code, 4100);
    return 4100;
  };
  await until('found', known);
  await until(4001, () => refusal(server, 'unknown'));

  await cluster.kill(1);
  for (let i = 0; i < 20; i++) {
    await until('found', known);
    await until(4001, () => refusal(server, `unknown-${i}`));
  }

  await cluster.kill(2);
  for (let i = 0; i < 10; i++) {
    assert.equal(await refusal(server, APP.key), 4100);
    assert.equal(await refusal(server, 'unknown'), 4100);
  }

  await cluster.start(1);
  await until(4001, () => refusal(server, 'unknown'));
  await until('found', known);
});
