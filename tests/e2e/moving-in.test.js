// Moving from Sockudo and soketi: tables and files as those make them, and what docs/coming-from-soketi.md tells to do,
// word for word.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import test from 'node:test';

import { appsDone, exported, migrate, sqliteConfig } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { closedWithError, connect } from '../lib/client.js';
import { folderWith } from '../lib/process.js';
import { connected, makePusher, record, subscribed } from '../lib/pusher.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { BINARY, serverFor } from '../lib/server.js';
import { snippets } from '../readme/snippets.mjs';

const require = createRequire(import.meta.url);
const Pusher = require('pusher');
const page = readFileSync(new URL('../../docs/coming-from-soketi.md', import.meta.url), 'utf8');

const SOCKUDO = {
  mariadb: `CREATE TABLE applications (
    id VARCHAR(255) PRIMARY KEY, \`key\` VARCHAR(255) UNIQUE NOT NULL, secret VARCHAR(255) NOT NULL,
    max_connections INT UNSIGNED NOT NULL, enable_client_messages BOOLEAN NOT NULL DEFAULT FALSE, enabled BOOLEAN NOT NULL DEFAULT TRUE,
    max_backend_events_per_second INT UNSIGNED NULL, max_client_events_per_second INT UNSIGNED NOT NULL,
    max_read_requests_per_second INT UNSIGNED NULL, max_presence_members_per_channel INT UNSIGNED NULL,
    max_presence_member_size_in_kb INT UNSIGNED NULL, max_channel_name_length INT UNSIGNED NULL,
    max_event_channels_at_once INT UNSIGNED NULL, max_event_name_length INT UNSIGNED NULL, max_event_payload_in_kb INT UNSIGNED NULL,
    max_event_batch_size INT UNSIGNED NULL, enable_user_authentication BOOLEAN NULL, enable_watchlist_events BOOLEAN NULL,
    policy JSON NULL, webhooks JSON NULL, allowed_origins JSON NULL, channel_delta_compression JSON NULL, idempotency JSON NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci`,
  postgres: `CREATE TABLE applications (
    id VARCHAR(255) PRIMARY KEY, key VARCHAR(255) UNIQUE NOT NULL, secret VARCHAR(255) NOT NULL,
    max_connections INTEGER NOT NULL, enable_client_messages BOOLEAN NOT NULL DEFAULT FALSE, enabled BOOLEAN NOT NULL DEFAULT TRUE,
    max_backend_events_per_second INTEGER, max_client_events_per_second INTEGER NOT NULL, max_read_requests_per_second INTEGER,
    max_presence_members_per_channel INTEGER, max_presence_member_size_in_kb INTEGER, max_channel_name_length INTEGER,
    max_event_channels_at_once INTEGER, max_event_name_length INTEGER, max_event_payload_in_kb INTEGER, max_event_batch_size INTEGER,
    enable_user_authentication BOOLEAN, enable_watchlist_events BOOLEAN, policy JSONB, webhooks JSONB, allowed_origins JSONB,
    channel_delta_compression JSONB, idempotency JSONB,
    created_at TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP)`,
};

const KINDS = {
  mariadb: {
    copy: 'soketi-mysql',
    table: `CREATE TABLE apps (
      id varchar(255) NOT NULL, \`key\` varchar(255) NOT NULL, secret varchar(255) NOT NULL,
      max_connections integer(10) NOT NULL, enable_client_messages tinyint(1) NOT NULL, enabled tinyint(1) NOT NULL,
      max_backend_events_per_sec integer(10) NOT NULL, max_client_events_per_sec integer(10) NOT NULL,
      max_read_req_per_sec integer(10) NOT NULL, webhooks json,
      max_presence_members_per_channel tinyint(1) NULL, max_presence_member_size_in_kb tinyint(1) NULL,
      max_channel_name_length tinyint(1) NULL, max_event_channels_at_once tinyint(1) NULL, max_event_name_length tinyint(1) NULL,
      max_event_payload_in_kb tinyint(1) NULL, max_event_batch_size tinyint(1) NULL,
      enable_user_authentication tinyint(1) NOT NULL, PRIMARY KEY (id))`,
    key: '`key`',
  },
  postgres: {
    copy: 'soketi-postgres',
    table: `CREATE TABLE apps (
      id varchar(255) PRIMARY KEY, "key" varchar(255) NOT NULL, secret varchar(255) NOT NULL,
      max_connections integer NOT NULL, enable_client_messages smallint NOT NULL, "enabled" smallint NOT NULL,
      max_backend_events_per_sec integer NOT NULL, max_client_events_per_sec integer NOT NULL,
      max_read_req_per_sec integer NOT NULL, webhooks json,
      max_presence_members_per_channel smallint NULL, max_presence_member_size_in_kb smallint NULL,
      max_channel_name_length smallint NULL, max_event_channels_at_once smallint NULL, max_event_name_length smallint NULL,
      max_event_payload_in_kb smallint NULL, max_event_batch_size smallint NULL, enable_user_authentication smallint NOT NULL)`,
    key: '"key"',
  },
};

const HOOKS = [
  {
    url: 'https://a.example/hook',
    event_types: ['channel_occupied'],
    headers: { 'X-Token': 't' },
    filter: { channel_name_starts_with: 'beta-', channel_name_ends_with: '-app' },
  },
  {
    lambda_function: 'told',
    lambda: { async: true, region: 'eu-west-1' },
    event_types: ['member_added', 'cache_miss'],
  },
];
const MOVED_HOOKS = [{ ...HOOKS[0], filter: { channel_prefix: 'beta-', channel_suffix: '-app' } }, HOOKS[1]];

const rows = (key) => `INSERT INTO apps (id, ${key}, secret, max_connections, enable_client_messages, enabled,
    max_backend_events_per_sec, max_client_events_per_sec, max_read_req_per_sec, webhooks, max_presence_members_per_channel,
    max_presence_member_size_in_kb, max_channel_name_length, max_event_channels_at_once, max_event_name_length,
    max_event_payload_in_kb, max_event_batch_size, enable_user_authentication) VALUES
  ('free', 'free-key', 'free-secret', -1, 1, 1, -1, -1, -1, '[]', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0),
  ('bound', 'bound-key', 'bound-secret', 1, 0, 1, 10, 20, 30, '${JSON.stringify(HOOKS)}', 40, 50, 60, 70, 80, 90, 100, 1),
  ('off', 'off-key', 'off-secret', 200, 0, 0, 1, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0)`;

const MOVED = [
  {
    id: 'bound',
    key: 'bound-key',
    secret: 'bound-secret',
    enabled: true,
    enable_client_messages: false,
    max_connections: 1,
    max_client_events_per_second: 20,
    max_read_requests_per_second: 30,
    max_backend_events_per_second: 10,
    max_presence_members_per_channel: 40,
    max_presence_member_size_in_kb: 50,
    max_channel_name_length: 60,
    max_event_channels_at_once: 70,
    max_event_name_length: 80,
    max_event_payload_in_kb: 90,
    max_event_batch_size: 100,
    enable_user_authentication: true,
    webhooks: MOVED_HOOKS,
  },
  {
    id: 'free',
    key: 'free-key',
    secret: 'free-secret',
    enabled: true,
    enable_client_messages: true,
    max_connections: 0,
    max_client_events_per_second: 0,
    max_read_requests_per_second: 0,
    max_backend_events_per_second: 0,
    enable_user_authentication: false,
    webhooks: [],
  },
  {
    id: 'off',
    key: 'off-key',
    secret: 'off-secret',
    enabled: false,
    enable_client_messages: false,
    max_connections: 200,
    max_client_events_per_second: 1,
    max_read_requests_per_second: 1,
    max_backend_events_per_second: 1,
    enable_user_authentication: false,
  },
];

// Both ends as users have them: pusher-js gets what the SDK publishes.
async function isServed(t, server, app) {
  const pusher = makePusher(server, { t, app });
  const channel = pusher.subscribe('moved');
  const events = record(channel);
  await connected(pusher);
  await subscribed(channel);
  const sdk = new Pusher({
    appId: app.id,
    key: app.key,
    secret: app.secret,
    host: server.host,
    port: server.port,
    useTLS: false,
  });
  await sdk.trigger('moved', 'e', { by: 'sdk' });
  assert.deepEqual((await events.next('e')).data, { by: 'sdk' });
}

for (const [kind, table] of Object.entries(SOCKUDO)) {
  test(`a_table_of_sockudo_in_${kind}_is_served_as_it_stands_and_keeps_what_is_not_ours`, async (t) => {
    const backend = await backendFor(t, kind);
    await backend.createPlace('sockudo');
    const client = await backend.client('sockudo');
    t.after(() => client.end());
    const theirs = async () => {
      const answer = await client.query('SELECT idempotency FROM applications');
      return JSON.stringify(answer.rows ?? answer[0]);
    };
    const policy = {
      limits: { max_connections: 10, max_client_events_per_second: 20 },
      features: { enable_client_messages: true },
      webhooks: [{ url: 'https://a.example/', event_types: ['member_added'] }],
      history: { days: 1 },
    };
    await client.query(table);
    await client.query(`INSERT INTO applications (id, ${KINDS[kind].key}, secret, max_connections, enable_client_messages, enabled,
      max_client_events_per_second, policy, webhooks, idempotency) VALUES ('app', 'app-key', 'app-secret', 10, TRUE, TRUE, 20,
      '${JSON.stringify(policy)}', '[{"url":"https://a.example/","event_types":["member_added"]}]', '{"enabled":true}')`);
    const before = await theirs();
    const config = backend.config('sockudo');
    const server = await serverFor(t, { apps: [], config });
    const app = {
      id: 'app',
      key: 'app-key',
      secret: 'app-secret',
      enabled: true,
      enable_client_messages: true,
      max_connections: 10,
      max_client_events_per_second: 20,
      webhooks: policy.webhooks,
      policy,
    };
    await isServed(t, server, app);

    const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
    assert.deepEqual(await exported(t, file), [app]);
    await appsDone(t, ['update', 'app', '--set', 'max_connections=11', '-c', file]);
    policy.limits.max_connections = 11;
    assert.deepEqual(await exported(t, file), [{ ...app, max_connections: 11, policy }]);
    assert.equal(await theirs(), before);
  });
}

for (const [kind, { copy, table, key }] of Object.entries(KINDS)) {
  test(`the_apps_of_a_table_of_soketi_in_${kind}_are_copied_by_the_documented_statement_and_served`, async (t) => {
    const backend = await backendFor(t, kind);
    await backend.createPlace('soketi');
    const client = await backend.client('soketi');
    t.after(() => client.end());
    await client.query(table);
    await client.query(rows(key));
    const config = backend.config('soketi');
    const server = await serverFor(t, { apps: [], config });
    const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
    await migrate(t, file); // when it is done so has the server

    await client.query(snippets(page).sql.get(copy));

    assert.deepEqual(await exported(t, file), MOVED);
    await isServed(t, server, MOVED[1]);
    await connect(server, { app: MOVED[0], t });
    for (const [{ key: refused }, code] of [
      [MOVED[0], 4004],
      [MOVED[2], 4003],
    ]) {
      const ws = await RawWebSocket.connect(server, { key: refused });
      t.after(() => ws.destroy());
      await closedWithError(ws, code);
    }
  });
}

const FILTERED = {
  url: 'https://shop.example/hook',
  event_types: ['channel_occupied'],
  headers: { 'X-Token': 'abc' },
  filter: { channel_name_starts_with: 'private-' },
};

test('the_apps_of_a_file_of_soketi_are_copied_by_the_documented_commands', async (t) => {
  const folder = folderWith(t, {
    'soketi.json': {
      port: 6001,
      'appManager.array.apps': [
        {
          id: 'a',
          key: 'a-key',
          secret: 'a-secret',
          maxConnections: -1,
          enableClientMessages: true,
          enabled: true,
          maxBackendEventsPerSecond: -1,
          maxClientEventsPerSecond: 5,
          maxReadRequestsPerSecond: -1,
          maxPresenceMembersPerChannel: 7,
          maxPresenceMemberSizeInKb: 8,
          maxEventPayloadInKb: 9,
          enableUserAuthentication: true,
          webhooks: [HOOKS[1], FILTERED],
        },
      ],
    },
  });
  const config = sqliteConfig(t);
  copyFileSync(config, path.join(folder, 'curlew.json'));
  const commands = `curlew() { "${BINARY}" "$@"; }\n${snippets(page).run.get('soketi-file')}`;
  execFileSync('sh', ['-ec', commands], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  assert.deepEqual(await exported(t, config), [
    {
      id: 'a',
      key: 'a-key',
      secret: 'a-secret',
      enabled: true,
      enable_client_messages: true,
      max_connections: 0,
      max_client_events_per_second: 5,
      max_read_requests_per_second: 0,
      max_backend_events_per_second: 0,
      max_presence_members_per_channel: 7,
      max_presence_member_size_in_kb: 8,
      max_event_payload_in_kb: 9,
      enable_user_authentication: true,
      webhooks: [
        { ...HOOKS[1], lambda: { region: 'eu-west-1' } },
        { ...FILTERED, filter: { channel_prefix: 'private-' } },
      ],
    },
  ]);
});
