// What every driver has to do, against a real database of each kind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { appsDone } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { closedWithError, connect } from '../lib/client.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { eventually } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { BINARY, serverFor } from '../lib/server.js';

const SUITE = path.join(path.dirname(BINARY), 'tests/stores/store_suite');
const TOKEN = 'a token of at least thirty-two characters';
const TTL_MS = 2000;
// a busy machine takes its time; nothing else but reading again would reach the server for an hour
const SLACK_MS = 20_000;

async function runSuite(t, config) {
  const folder = folderWith(t, { 'config.json': config });
  const { PATH, ASAN_OPTIONS = '', UBSAN_OPTIONS = '' } = process.env;
  const child = spawn(SUITE, [path.join(folder, 'config.json')], { env: { PATH, ASAN_OPTIONS, UBSAN_OPTIONS } });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk) => {
      said += chunk;
    });
  const [code] = await once(child, 'close');
  return { code, said };
}

// The settings of a kind as variables of the environment, as the requirement has them.
const sql =
  (prefix) =>
  ({ host, port, user, password }, name) => ({
    [`${prefix}_HOST`]: host,
    [`${prefix}_PORT`]: String(port),
    [`${prefix}_USERNAME`]: user,
    [`${prefix}_PASSWORD`]: password,
    [`${prefix}_DATABASE`]: name,
    [`${prefix}_TABLE_NAME`]: 'other_apps',
    [`${prefix}_POOL_MIN`]: '3',
    [`${prefix}_POOL_MAX`]: '3',
  });
const pool = { DATABASE_POOL_MIN: '3', DATABASE_POOL_MAX: '3' };
const VARIABLES = {
  mariadb: (...place) => ({ APP_MANAGER_DRIVER: 'MySQL', ...sql('DATABASE_MYSQL')(...place) }),
  postgres: (...place) => ({ APP_MANAGER_DRIVER: 'postgresql', ...sql('DATABASE_POSTGRES')(...place) }),
  dynamodb: ({ host, port, user, password, region }, name) => ({
    APP_MANAGER_DRIVER: 'DynamoDB',
    DATABASE_DYNAMODB_ENDPOINT_URL: `http://${host}:${port}`,
    DATABASE_DYNAMODB_REGION: region,
    DATABASE_DYNAMODB_TABLE_NAME: name,
    AWS_ACCESS_KEY_ID: user,
    AWS_SECRET_ACCESS_KEY: password,
    ...pool,
  }),
  cassandra: ({ hosts, port, user, password }, name) => ({
    APP_MANAGER_DRIVER: 'cassandra',
    DATABASE_SCYLLADB_NODES: hosts.map((host) => `${host}:${port}`).join(','),
    DATABASE_SCYLLADB_KEYSPACE: name,
    DATABASE_SCYLLADB_TABLE_NAME: 'other_apps',
    DATABASE_SCYLLADB_USERNAME: user,
    DATABASE_SCYLLADB_PASSWORD: password,
    DATABASE_SCYLLADB_REPLICATION_CLASS: 'SimpleStrategy',
    DATABASE_SCYLLADB_REPLICATION_FACTOR: '1',
    ...pool,
  }),
};

async function adminOf(server) {
  const base = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
  return async (method, where, body) => {
    const answer = await fetch(base + where, {
      method,
      headers: { authorization: `Bearer ${TOKEN}` },
      body: body && JSON.stringify(body),
    });
    assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
  };
}

// What a connect with the key comes to: an error's code, or the name of the first event.
async function greeting(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { event, data } = await ws.next(() => true);
  ws.destroy();
  return data.code ?? event;
}

// Asks again and again until the check holds.
async function until(check, mostMs) {
  const end = performance.now() + mostMs + SLACK_MS;
  while (!(await check())) assert.ok(performance.now() < end, `not within ${mostMs} ms`);
}

for (const kind of ['mariadb', 'postgres', 'dynamodb', 'cassandra']) {
  describe(kind, { timeout: 2 * LONG_TIMEOUT_MS, concurrency: false }, () => {
    const ends = [];
    let backend;
    before(async () => {
      backend = await backendFor({ after: (end) => ends.push(end) }, kind);
    });
    after(async () => {
      for (const end of ends) await end();
    });

    test('the driver does what every driver does', async (t) => {
      assert.ok(existsSync(SUITE), `${SUITE} is not built`);
      await backend.createPlace('suite');
      const { code, said } = await runSuite(t, backend.config('suite'));
      assert.equal(code, 0, said);
      assert.match(said, /\[ {2}PASSED {2}\]/);
    });

    test('the environment alone is enough to use it', async (t) => {
      await backend.createPlace('by_variables');
      const variables = VARIABLES[kind](backend.address, 'by_variables');
      const app = { id: 'env', key: 'env-key', secret: 'env-secret' };
      const server = await serverFor(t, {
        apps: [],
        env: {
          ...variables,
          SOCKUDO_DEFAULT_APP_ID: app.id,
          SOCKUDO_DEFAULT_APP_KEY: app.key,
          SOCKUDO_DEFAULT_APP_SECRET: app.secret,
        },
      });
      await connect(server, { app, t });
      await eventually(server, (metrics) => assert.equal(metrics.sum('app_store_connections'), 3));
      // The log has the whole statement, however long it is.
      if (kind === 'postgres' || kind === 'cassandra')
        assert.match((await server.waitForLog(/CREATE TABLE/)).message, /CREATE TABLE .*"secret".*updated_at.*\)/s);
      assert.equal(
        (await appsDone(t, ['show', 'env', '--json', '--show-secrets'], { env: variables })).secret,
        app.secret,
      );
    });

    test('what one server changes reaches who is connected to another, at the latest when that reads the app again', async (t) => {
      await backend.createPlace('live');
      const config = backend.config('live');
      const section = config.database?.mysql ?? config.database?.postgres;
      if (section) section.cache_ttl = TTL_MS / 1000; // goes before the cache's own
      config.app_manager.cache = { ttl: section ? 3600 : TTL_MS / 1000, negative_ttl: 0 };
      const settings = {
        apps: [],
        config,
        env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
      };
      const one = await serverFor(t, settings);
      const change = await adminOf(one);
      const app = { id: 'live', key: 'live-key', secret: 's' };
      await change('POST', '', app);
      const two = await serverFor(t, settings);
      const [held, other] = [await connect(two, { app, t }), await connect(two, { app, t })];

      await change('PATCH', '/live', { max_channel_name_length: 3 });
      await until(async () => {
        held.send({ event: 'pusher:subscribe', data: { channel: 'channel' } });
        const { event, data } = await held.next((message) => message.channel === 'channel');
        held.send({ event: 'pusher:unsubscribe', data: { channel: 'channel' } });
        return event === 'pusher:subscription_error' && data.status === 4009;
      }, TTL_MS);

      await change('PATCH', '/live', { key: 'new-key' });
      await until(async () => (await greeting(two, 'live-key')) === 4001, TTL_MS);
      await until(async () => (await greeting(two, 'new-key')) === 'pusher:connection_established', TTL_MS);
      held.send({ event: 'pusher:ping', data: {} });
      await held.expect('pusher:pong');

      await change('PATCH', '/live', { enabled: false });
      const disabled = performance.now();
      for (const ws of [held, other]) {
        await closedWithError(ws, 4003);
        assert.ok((await ws.closing()).at - disabled <= TTL_MS + SLACK_MS);
      }
      await change('PATCH', '/live', { enabled: true });
      await until(async () => (await greeting(two, 'new-key')) === 'pusher:connection_established', TTL_MS);

      const last = await connect(two, { app: { ...app, key: 'new-key' }, t });
      await change('DELETE', '/live');
      const deleted = performance.now();
      await closedWithError(last, 4001);
      // it is looked for twice, a second apart
      assert.ok((await last.closing()).at - deleted <= TTL_MS + 1000 + SLACK_MS);
      assert.equal(await greeting(two, 'new-key'), 4001);
    });
  });
}
