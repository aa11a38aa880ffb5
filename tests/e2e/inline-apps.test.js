// The apps of the configuration when apps are kept in a store: created there if missing; if they differ, the store's
// count.

import assert from 'node:assert/strict';
import { mkdirSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { appsDone } from '../lib/apps-command.js';
import { connect } from '../lib/client.js';
import { operationOf, sharedDynamoDb } from '../lib/dynamodb.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const database = await sharedDynamoDb();
const ONE = { id: 'one', key: 'one-key', secret: 'one-secret' };
const ORIGIN = { Origin: 'https://a.example' };
const TWO = {
  id: 'two',
  key: 'two-key',
  secret: 'two-secret',
  max_event_batch_size: 7,
  allowed_origins: ['a.example'],
};

// A place for a store that is not there yet: {file, show(id), create(app), server(apps, env)}.
function place(t) {
  const folder = folderWith(t, {});
  const file = path.join(folder, 'apps.db');
  const settings = { app_manager: { driver: 'sqlite', lookup_timeout_ms: 500 }, database: { sqlite: { path: file } } };
  const command = path.join(folderWith(t, { 'config.json': settings }), 'config.json');
  return {
    file,
    show: (id) => appsDone(t, ['show', id, '-c', command, '--json', '--show-secrets']),
    create: ({ id, key, secret, ...rest }) =>
      appsDone(t, [
        'create',
        '-c',
        command,
        '--id',
        id,
        '--key',
        key,
        '--secret',
        secret,
        ...Object.entries(rest).flatMap(([name, value]) => ['--set', `${name}=${JSON.stringify(value)}`]),
      ]),
    server: (apps, env = {}) => serverFor(t, { apps, config: settings, env }),
  };
}

test('those that are missing are created as they are given, and that of the environment with them', async (t) => {
  const here = place(t);
  const env = {
    SOCKUDO_DEFAULT_APP_ID: 'env',
    SOCKUDO_DEFAULT_APP_KEY: 'env-key',
    SOCKUDO_DEFAULT_APP_SECRET: 'env-secret',
    SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS: '0',
  };
  const server = await here.server([ONE, TWO], env);
  for (const app of [ONE, TWO, { key: 'env-key' }]) await connect(server, { t, app, headers: ORIGIN });
  assert.deepEqual(await here.show('two'), {
    enabled: true,
    enable_client_messages: false,
    max_connections: 100,
    max_client_events_per_second: 100,
    ...TWO,
  });
  const { secret, max_connections } = await here.show('env');
  assert.deepEqual([secret, max_connections], ['env-secret', 0]);
  await server.waitForLog(/^app env of the configuration was created in the sqlite store$/);
});

test('one that is there and differs stays as it is in the store, and a warning names it and the fields', async (t) => {
  const here = place(t);
  const theirs = { ...TWO, secret: 'their-secret', max_event_batch_size: 8 };
  await here.create(theirs);
  await here.create(ONE);
  const before = await here.show('two');
  const server = await here.server([ONE, TWO]);
  await connect(server, { t, app: theirs, headers: ORIGIN });
  const { level, message } = await server.waitForLog(/^app two of the configuration differs/);
  assert.match(level, /warn/i);
  assert.match(message, /the sqlite store, which counts, in: secret, max_event_batch_size$/);
  assert.deepEqual(await here.show('two'), before);
  assert.equal(
    server.log.all.some((line) => /^app one of the configuration/.test(line.message)),
    false,
  );
});

test('one that cannot be created is said, and the others are', async (t) => {
  const here = place(t);
  await here.create({ ...ONE, id: 'first' });
  const server = await here.server([ONE, { ...ONE, id: 'broken', key: 'broken-key', max_connections: -2 }, TWO]);
  await connect(server, { t, app: TWO, headers: ORIGIN });
  await server.waitForLog(/^app one of the configuration could not be created in the sqlite store: .*key.*first/);
  await server.waitForLog(/^app "broken": max_connections must be/);
});

test('a store that comes later gets them then', async (t) => {
  const here = place(t);
  mkdirSync(here.file);
  const server = await here.server([ONE]);
  const ws = await RawWebSocket.connect(server, { key: ONE.key });
  assert.equal((await ws.expect('pusher:error')).data.code, 4100);
  ws.destroy();
  rmdirSync(here.file);
  await server.waitForLog(/^app one of the configuration was created/);
  await server.waitForLog(/^the sqlite store answers$/);
  await connect(server, { t, app: ONE });
});

test('a store that fails while they are created gets them when it answers again', async (t) => {
  let failing = true;
  const { config, stub } = await database.placeBehind(t, (request) =>
    failing && operationOf(request) === 'PutItem' ? null : undefined,
  );
  config.app_manager.lookup_timeout_ms = 500;
  const server = await serverFor(t, {
    config: { ...config, app_manager: { ...config.app_manager, array: { apps: [ONE] } } },
  });
  await stub.requests.next((request) => operationOf(request) === 'PutItem');
  await server.waitForLog(/^app one of the configuration could not be created in the dynamodb store: /);
  failing = false;
  await server.waitForLog(/^app one of the configuration was created/);
  await connect(server, { t, app: ONE });
});
