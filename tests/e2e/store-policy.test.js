// Apps whose limits are in `policy`, as newer servers of the protocol family write them, in every store: read, changed,
// created beside others, and brought into a table of Curlew's own.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { appsDone, exported, migrate, show } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { MariaDb } from '../lib/backends/mariadb.js';
import { Postgres } from '../lib/backends/postgres.js';
import { connect } from '../lib/client.js';
import { sharedDynamoDb } from '../lib/dynamodb.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { eventually } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const TOKEN = 'a token of at least thirty-two characters';

// The policy of an app with limits far from every default. That server writes what is not set as null.
// A client from an origin that the policy allows.
const PAGE = { headers: { Origin: 'https://app.example.com' } };
const POLICY = {
  limits: {
    max_connections: 100000,
    max_backend_events_per_second: null,
    max_client_events_per_second: 25,
    max_read_requests_per_second: 50,
    max_presence_members_per_channel: null,
    max_presence_member_size_in_kb: 2,
    max_channel_name_length: 20,
    max_event_channels_at_once: null,
    max_event_name_length: null,
    max_event_payload_in_kb: 512,
    max_event_batch_size: null,
    decay_seconds: 1,
    terminate_on_limit: false,
  },
  features: { enable_client_messages: true, enable_user_authentication: null, enable_watchlist_events: true },
  channels: {
    allowed_origins: ['https://app.example.com'],
    channel_delta_compression: null,
    channel_namespaces: [{ name: 'chat', channel_name_pattern: null }],
  },
  webhooks: [{ url: 'https://example.com/hook', event_types: ['channel_occupied'] }],
  idempotency: { enabled: true, ttl_seconds: 60 },
  connection_recovery: null,
};
const NAMES = { id: 'theirs', key: 'theirs-key', secret: 's' };
const IN_FORCE = {
  ...NAMES,
  enabled: true,
  enable_client_messages: true,
  max_connections: 100000,
  max_client_events_per_second: 25,
  max_read_requests_per_second: 50,
  max_presence_member_size_in_kb: 2,
  max_channel_name_length: 20,
  max_event_payload_in_kb: 512,
  enable_watchlist_events: true,
  allowed_origins: ['https://app.example.com'],
  webhooks: [{ url: 'https://example.com/hook', event_types: ['channel_occupied'] }],
  policy: POLICY,
};
const OWN = { id: 'own', key: 'own-key', secret: 's', max_connections: 7 };

// The columns of a SQL table of that server, with the type of its JSON columns, and whether a boolean is a number.
const sqlTable = (json) =>
  'CREATE TABLE applications (id VARCHAR(255) PRIMARY KEY, "key" VARCHAR(255) UNIQUE NOT NULL, ' +
  'secret VARCHAR(255) NOT NULL, max_connections INTEGER NOT NULL, enable_client_messages BOOLEAN NOT NULL DEFAULT FALSE, ' +
  'enabled BOOLEAN NOT NULL DEFAULT TRUE, max_client_events_per_second INTEGER NOT NULL, ' +
  `allowed_origins ${json} NULL, webhooks ${json} NULL, policy ${json} NULL, ` +
  'created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP)';
// Side by side: what an older version of that server had in the flat columns, which do not count any more.
const sqlRow = () =>
  'INSERT INTO applications (id, "key", secret, max_connections, max_client_events_per_second, policy) VALUES ' +
  `('theirs', 'theirs-key', 's', 100, 100, '${JSON.stringify(POLICY)}')`;

/*
 * The stores. Each makes a place for a test: {config, theirTable(), theirRow(), policyOf(id), flatOf(id),
 * hasPolicy(id)}: the settings, a table as that server makes it, an app in it, and what the store holds of an app: its
 * policy, or null, its max_connections, and whether there is a place for a policy.
 */
const STORES = {
  sqlite: () => (t) => {
    const file = path.join(folderWith(t), 'apps.db');
    const sql = (text) => execFileSync('sqlite3', [file, text], { encoding: 'utf8' }).trim();
    const value = (id, column) => sql(`SELECT ${column} FROM applications WHERE id = '${id}'`);
    return {
      config: { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } },
      theirTable: () => sql(sqlTable('TEXT')),
      theirRow: () => sql(sqlRow()),
      policyOf: (id) => JSON.parse(value(id, 'policy') || 'null'),
      flatOf: (id) => Number(value(id, 'max_connections')),
      hasPolicy: () => sql("SELECT name FROM pragma_table_info('applications')").includes('policy'),
    };
  },
  mariadb: (backend) => sqlStore(backend, MariaDb, 'JSON'),
  postgres: (backend) => sqlStore(backend, Postgres, 'JSONB'),
  cassandra: (backend) => async (t) => {
    const name = `policy${++places}`;
    const client = await backend.client();
    t.after(() => client.shutdown());
    const cql = async (text, values) =>
      (await client.execute(text.replace('apps', `${name}.applications`), values)).rows;
    const row = async (id) => (await cql('SELECT * FROM apps WHERE id = ?', [id]))[0];
    return {
      config: backend.config(name),
      async theirTable() {
        await cql(`CREATE KEYSPACE ${name} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`);
        await cql('CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, enabled boolean, policy text)');
      },
      theirRow: () =>
        cql('INSERT INTO apps (id, key, secret, enabled, policy) VALUES (?, ?, ?, ?, ?)', [
          'theirs',
          'theirs-key',
          's',
          true,
          JSON.stringify(POLICY),
        ]),
      policyOf: async (id) => JSON.parse((await row(id)).policy ?? 'null'),
      flatOf: async (id) => (await row(id)).max_connections,
      hasPolicy: async (id) => 'policy' in (await row(id)),
    };
  },
  dynamodb: () => async (t) => {
    const database = await shared;
    const { table, config } = database.place(t);
    const item = (id) => database.get(table, id);
    return {
      config,
      theirTable: () => database.createTable(table),
      theirRow: () =>
        database.put(table, {
          id: { S: 'theirs' },
          key: { S: 'theirs-key' },
          secret: { S: 's' },
          enabled: { BOOL: true },
          policy: { S: JSON.stringify(POLICY) },
        }),
      policyOf: async (id) => JSON.parse((await item(id)).policy?.S ?? 'null'),
      flatOf: async (id) => Number((await item(id)).max_connections.N),
      hasPolicy: async (id) => 'policy' in (await item(id)),
    };
  },
};
const shared = sharedDynamoDb();
let places = 0;

function sqlStore(backend, Kind, json) {
  return async (t) => {
    const name = `policy${++places}`;
    await backend.createPlace(name);
    const client = await backend.client(name);
    t.after(() => client.end());
    const sql = async (text) => {
      const answer = await client.query(Kind === MariaDb ? text.replaceAll('"key"', '`key`') : text);
      return Array.isArray(answer) ? answer[0] : answer.rows;
    };
    const row = async (id) => (await sql(`SELECT * FROM applications WHERE id = '${id}'`))[0];
    const value = (of) => (typeof of === 'string' ? JSON.parse(of) : (of ?? null));
    return {
      config: backend.config(name),
      theirTable: () => sql(sqlTable(json)),
      theirRow: () => sql(sqlRow()),
      policyOf: async (id) => value((await row(id)).policy),
      flatOf: async (id) => (await row(id)).max_connections,
      hasPolicy: async (id) => 'policy' in (await row(id)),
    };
  };
}

async function adminOf(server) {
  const base = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
  return async (method, where, body) => {
    const answer = await fetch(base + where, {
      method,
      headers: { authorization: `Bearer ${TOKEN}` },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    assert.ok(answer.ok, `${answer.status} ${text}`);
    return JSON.parse(text);
  };
}

for (const [kind, makeStore] of Object.entries(STORES)) {
  describe(kind, { timeout: 2 * LONG_TIMEOUT_MS, concurrency: false }, () => {
    const ends = [];
    let store;
    before(async () => {
      const started = !['sqlite', 'dynamodb'].includes(kind);
      store = makeStore(started ? await backendFor({ after: (end) => ends.push(end) }, kind) : undefined);
    });
    after(async () => {
      for (const end of ends) await end();
    });

    // A place with the configuration's file.
    async function placeFor(t) {
      const place = await store(t);
      return { ...place, file: path.join(folderWith(t, { 'config.json': place.config }), 'config.json') };
    }

    const started = (t, config) =>
      serverFor(t, { apps: [], config, env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' } });

    test('a_row_with_a_policy_has_the_limits_of_the_policy_and_its_other_members_are_named_once', async (t) => {
      const place = await placeFor(t);
      await place.theirTable();
      await place.theirRow();
      assert.deepEqual(await show(t, 'theirs', place.file), IN_FORCE);
      assert.deepEqual(await exported(t, place.file), [IN_FORCE]);

      const server = await started(t, place.config);
      const ws = await connect(server, { app: NAMES, t, ...PAGE });
      ws.send({ event: 'pusher:subscribe', data: { channel: 'a-name-of-21-characte' } });
      const { data } = await ws.expect('pusher:subscription_error');
      assert.match(data.error, /20/);
      for (const member of ['idempotency', 'channels.channel_namespaces'])
        assert.match(
          (await server.waitForLog(new RegExp(`policy\\.${member} `))).message,
          /^app "theirs": .*kept, and not used/,
        );
      assert.equal(server.log.all.filter(({ message }) => /policy\.idempotency/.test(message)).length, 1);
    });

    test('a_change_is_written_to_both_places_and_members_that_mean_nothing_here_survive', async (t) => {
      const place = await placeFor(t);
      await place.theirTable();
      await place.theirRow();
      await appsDone(t, ['update', 'theirs', '-c', place.file, '--set', 'max_connections=12', '--unset', 'webhooks']);
      const kept = structuredClone(POLICY);
      kept.limits.max_connections = 12;
      delete kept.webhooks;
      assert.deepEqual(await place.policyOf('theirs'), kept);
      assert.equal(await place.flatOf('theirs'), 12);

      const change = await adminOf(await started(t, place.config));
      await change('PATCH', '/theirs', { allowed_origins: ['*'] });
      kept.channels.allowed_origins = ['*'];
      assert.deepEqual(await place.policyOf('theirs'), kept);
      await change('PUT', '/theirs', { ...NAMES, max_connections: 13 });
      assert.deepEqual((await place.policyOf('theirs')).idempotency, POLICY.idempotency);
      assert.deepEqual((await show(t, 'theirs', place.file)).max_connections, 13);
      assert.equal((await place.policyOf('theirs')).limits.max_connections, 13);
      assert.equal((await place.policyOf('theirs')).channels.allowed_origins, undefined);
      await change('PATCH', '/theirs', { policy: POLICY });
      assert.deepEqual(await show(t, 'theirs', place.file), IN_FORCE);
      assert.equal(await place.flatOf('theirs'), 100000);
    });

    test('a_new_app_gets_a_policy_beside_apps_that_have_one_and_none_beside_others', async (t) => {
      const theirs = await placeFor(t);
      await theirs.theirTable();
      await theirs.theirRow();
      const input = JSON.stringify({ apps: [OWN] });
      const imported = ['import', '-', '--json', '-c', theirs.file];
      assert.equal((await appsDone(t, imported, { input })).created, 1);
      assert.deepEqual(await theirs.policyOf('own'), {
        limits: { max_connections: 7, max_client_events_per_second: 100 },
      });
      assert.equal((await appsDone(t, imported, { input })).equal, 1);
      const changed = JSON.stringify({ apps: [{ ...OWN, max_connections: 8 }] });
      assert.equal((await appsDone(t, [...imported, '--update'], { input: changed })).updated, 1);
      assert.equal((await theirs.policyOf('own')).limits.max_connections, 8);

      const change = await adminOf(await started(t, theirs.config));
      await change('POST', '', { ...OWN, id: 'posted', key: 'posted-key' });
      assert.equal((await theirs.policyOf('posted')).limits.max_connections, 7);

      const ours = await placeFor(t);
      await migrate(t, ours.file);
      await appsDone(t, ['create', '-c', ours.file, '--id', 'own', '--key', 'own-key', '--secret', 's']);
      assert.equal(await ours.hasPolicy('own'), false);
      assert.equal((await show(t, 'own', ours.file)).policy, undefined);
    });

    test('an_app_brings_its_policy_into_a_table_of_ours_and_a_running_server_sees_it', async (t) => {
      const place = await placeFor(t);
      await migrate(t, place.file);
      const server = await started(t, place.config);
      const change = await adminOf(server);
      await change('POST', '', OWN);
      // over every connection to the database, which have read the columns before there was one for `policy`
      await Promise.all(Array.from({ length: 20 }, () => change('GET', '/own')));
      await change('POST', '', { ...NAMES, policy: POLICY });
      const seen = await Promise.all(Array.from({ length: 20 }, () => change('GET', '/theirs?secrets=1')));
      for (const app of seen) assert.deepEqual(app, IN_FORCE);
      assert.deepEqual(await place.policyOf('theirs'), POLICY);
      assert.equal(await place.flatOf('theirs'), 100000);
      assert.equal(await place.policyOf('own'), null);
      await eventually(server, async () => (await connect(server, { app: NAMES, ...PAGE })).destroy());
    });
  });
}

test('a_file_with_policies_has_their_limits_and_is_carried_into_a_store_with_them', async (t) => {
  const flat = { max_connections: 100, max_client_events_per_second: 100, enable_client_messages: false };
  const apps = [{ ...NAMES, enabled: true, ...flat, policy: POLICY }, OWN];
  const from = path.join(
    folderWith(t, { 'config.json': { app_manager: { driver: 'memory', array: { apps } } } }),
    'config.json',
  );
  assert.deepEqual(await show(t, 'theirs', from), IN_FORCE);
  const server = await serverFor(t, { apps });
  const ws = await connect(server, { app: NAMES, t, ...PAGE });
  ws.send({ event: 'pusher:subscribe', data: { channel: 'a-name-of-21-characte' } });
  await ws.expect('pusher:subscription_error');

  const file = path.join(folderWith(t), 'apps.db');
  const to = path.join(
    folderWith(t, {
      'config.json': { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } },
    }),
    'config.json',
  );
  const copied = ['copy', '--from', from, '--to', to, '--json'];
  assert.equal((await appsDone(t, copied)).created, 2);
  assert.equal((await appsDone(t, copied)).equal, 2);
  assert.deepEqual(await show(t, 'theirs', to), IN_FORCE);
});
