// The PostgreSQL driver against a real server: tables as others left them, users who may little, TLS, servers that
// refuse and freeze.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test, { after } from 'node:test';
import tls from 'node:tls';

import { refusesBadAfter } from '../lib/admin-list.js';
import { api } from '../lib/api.js';
import { EVERY_FIELD, apps, appsDone, migrate, refused, show } from '../lib/apps-command.js';
import { freePorts } from '../lib/backends/daemon.js';
import { backendFor } from '../lib/backends/index.js';
import { Postgres } from '../lib/backends/postgres.js';
import { connect } from '../lib/client.js';
import { TIMEOUT_MS, within } from '../lib/inbox.js';
import { eventually } from '../lib/metrics.js';
import { addressOutside, impostor, lead } from '../lib/middle.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';
import {
  keepsDefaultsThatAreThere,
  makesRoomForEncryptedSecrets,
  missesNothingThatGoesAway,
  refusesWhatHasNoColumn,
  takesRowsByHand,
} from '../lib/sql-cases.js';
import { neverStarts, servesWithout } from '../lib/wrong-settings.js';

const backend = await backendFor({ after }, 'postgres', { tls: true });
const { address } = backend;

// As a server of the protocol family made it before there were optional fields.
const OLD_TABLE = `CREATE TABLE applications (
  id VARCHAR(255) PRIMARY KEY, key VARCHAR(255) UNIQUE NOT NULL, secret VARCHAR(255) NOT NULL,
  max_connections INTEGER NOT NULL, enable_client_messages BOOLEAN NOT NULL DEFAULT FALSE, enabled BOOLEAN NOT NULL DEFAULT TRUE,
  max_client_events_per_second INTEGER NOT NULL,
  created_at TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP)`;
const OLD_ROW =
  "INSERT INTO applications (id, key, secret, max_connections, max_client_events_per_second) VALUES ('old', 'old-key', 's', 7, 8)";
const OLD_APP = {
  id: 'old',
  key: 'old-key',
  secret: 's',
  enabled: true,
  enable_client_messages: false,
  max_connections: 7,
  max_client_events_per_second: 8,
};

let places = 0;

// A database of its own for a test: {name, client, roles, sql(statement, values), settings(...), config(members of
// database.postgres, of app_manager)}.
async function place(t, ...statements) {
  return placeIn(t, (name) => Postgres.createPlace(address, name), ...statements);
}

async function placeIn(t, create, ...statements) {
  const name = `place${++places}`;
  await create(name);
  const client = await Postgres.client(address, name);
  const roles = [];
  t.after(async () => {
    await client.end();
    await Postgres.dropPlace(address, name);
    // What they own went with the database.
    for (const role of roles) await administer(`DROP ROLE ${role}`);
  });
  for (const statement of statements) await client.query(statement);
  return {
    name,
    client,
    roles,
    sql: async (statement, values) => (await client.query(statement, values)).rows,
    settings: (postgres = {}, app_manager = {}) => {
      const settings = Postgres.config({ ...address, ca: undefined }, name);
      Object.assign(settings.database.postgres, postgres);
      Object.assign(settings.app_manager, { lookup_timeout_ms: 20_000, ...app_manager });
      return settings;
    },
    config(...changes) {
      return path.join(folderWith(t, { 'config.json': this.settings(...changes) }), 'config.json');
    },
  };
}

async function administer(...statements) {
  const client = await Postgres.client(address);
  for (const statement of statements) await client.query(statement);
  await client.end();
}

// Makes a role for a test, with these rights on its tables; returns {username, password}.
async function user({ name, roles, sql }, rights) {
  const username = `user_of_${name}`;
  await sql(`CREATE ROLE ${username} LOGIN PASSWORD 'pw'`);
  if (rights) await sql(`GRANT ${rights} ON ALL TABLES IN SCHEMA public TO ${username}`);
  roles.push(username);
  return { username, password: 'pw' };
}

async function columns({ sql }) {
  const rows =
    await sql(`SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS filled FROM pg_attribute
    WHERE attrelid = 'applications'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`);
  return Object.fromEntries(rows.map((row) => [row.name, `${row.type}${row.filled ? ' NOT NULL' : ''}`]));
}

async function ids(t, config) {
  return (await appsDone(t, ['list', '-c', config, '--json'])).apps.map((app) => app.id);
}

function triggers({ sql }) {
  return sql("SELECT oid, tgname FROM pg_trigger WHERE tgrelid = 'applications'::regclass ORDER BY tgname");
}

// --- the table ---

test('the_table_and_its_triggers_are_made_once_and_then_left_alone', async (t) => {
  const here = await place(t);
  await migrate(t, here.config());
  const text = 'character varying(255) NOT NULL';
  assert.deepEqual(await columns(here), {
    id: text,
    key: text,
    secret: text,
    previous_secret: 'character varying(255)',
    previous_secret_until: 'bigint',
    enabled: 'boolean NOT NULL',
    enable_client_messages: 'boolean NOT NULL',
    max_connections: 'integer NOT NULL',
    max_client_events_per_second: 'integer NOT NULL',
    max_read_requests_per_second: 'integer',
    max_backend_events_per_second: 'integer',
    max_presence_members_per_channel: 'integer',
    max_presence_member_size_in_kb: 'integer',
    max_channel_name_length: 'integer',
    max_event_channels_at_once: 'integer',
    max_event_name_length: 'integer',
    max_event_payload_in_kb: 'integer',
    max_event_batch_size: 'integer',
    enable_user_authentication: 'boolean',
    enable_watchlist_events: 'boolean',
    allowed_origins: 'jsonb',
    webhooks: 'jsonb',
    channel_delta_compression: 'jsonb',
    created_at: 'timestamp without time zone',
    updated_at: 'timestamp without time zone',
  });
  const made = await triggers(here);
  assert.deepEqual(
    made.map((row) => row.tgname),
    ['curlew_notify', 'curlew_notify_truncate'],
  );
  const second = await migrate(t, here.config());
  assert.deepEqual([second.code, second.stderr], [0, '']);
  assert.deepEqual(await triggers(here), made);
});

test('a_row_inserted_by_hand_takes_the_defaults_in_a_table_of_ours_and_in_one_made_without', async (t) => {
  const ours = await place(t);
  const theirs = await place(
    t,
    `CREATE TABLE applications (id VARCHAR(64) PRIMARY KEY, key VARCHAR(64) NOT NULL, secret VARCHAR(64) NOT NULL,
      enabled BOOLEAN NOT NULL, enable_client_messages SMALLINT NOT NULL, max_connections BIGINT NOT NULL,
      max_client_events_per_second INT NOT NULL, created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL, plan INT NULL)`,
  );
  await takesRowsByHand(t, Object.assign(ours, { key: '"key"' }), theirs);
});

test('a_default_that_a_column_has_stays', async (t) => {
  const here = await place(
    t,
    `CREATE TABLE applications (id VARCHAR(255) PRIMARY KEY, key VARCHAR(255) NOT NULL UNIQUE, secret VARCHAR(255) NOT NULL,
      enabled BOOLEAN NOT NULL DEFAULT FALSE, max_connections INTEGER DEFAULT 1000, max_client_events_per_second INTEGER,
      enable_client_messages BOOLEAN DEFAULT FALSE)`,
  );
  await keepsDefaultsThatAreThere(t, here, '"key"');
});

test('every_field_comes_back', async (t) => {
  const config = (await place(t)).config();
  const { id, key, secret, ...rest } = EVERY_FIELD;
  const sets = Object.entries(rest).flatMap(([name, value]) => [
    '--set',
    `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
  ]);
  await appsDone(t, ['create', '-c', config, '--id', id, '--key', key, '--secret', secret, ...sets]);
  assert.deepEqual(await show(t, id, config), EVERY_FIELD);
});

test('an_old_table_gets_what_it_lacks_and_keeps_its_rows', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const config = here.config();
  assert.deepEqual(await show(t, 'old', config), OLD_APP);
  await migrate(t, config);
  assert.deepEqual(await show(t, 'old', config), OLD_APP);
  assert.deepEqual(
    Object.keys(await columns(here)).sort(),
    [...Object.keys(EVERY_FIELD), 'created_at', 'updated_at'].sort(),
  );
  await appsDone(t, [
    'update',
    'old',
    '-c',
    config,
    '--set',
    'allowed_origins=["https://a.example"]',
    '--set',
    'max_event_batch_size=0',
  ]);
  assert.deepEqual(await show(t, 'old', config), {
    ...OLD_APP,
    allowed_origins: ['https://a.example'],
    max_event_batch_size: 0,
  });
});

for (const [what, statements] of [
  ['no_table', []],
  ['an_old_table', [OLD_TABLE, OLD_ROW]],
]) {
  test(`servers_that_start_at_once_with_${what}_do_not_disturb_each_other`, async (t) => {
    for (let round = 0; round < 3; round++) {
      const here = await place(t, ...statements);
      const config = here.config();
      const all = await Promise.all(Array.from({ length: 4 }, () => migrate(t, config)));
      for (const { code, stderr } of all) assert.deepEqual([code, stderr], [0, '']);
      assert.equal(Object.keys(await columns(here)).length, 25);
      assert.equal((await triggers(here)).length, 2);
    }
  });
}

test('a_table_without_a_column_that_no_app_can_do_without_is_refused_by_the_setting', async (t) => {
  const here = await place(t, 'CREATE VIEW applications AS SELECT 1 AS id');
  await refused(
    t,
    ['list', '-c', here.config()],
    /database\.postgres\.table_name: there is no table applications with the columns id, key and secret/,
  );
});

test('a_reserved_or_mixed_name_is_used_and_a_dangerous_one_refused', async (t) => {
  const here = await place(t);
  for (const table_name of ['order', 'My_Apps', 'x'.repeat(63)]) {
    const config = here.config({ table_name });
    await appsDone(t, ['create', '-c', config, '--id', 'a', '--key', 'a-key', '--secret', 's']);
    assert.equal((await here.sql(`SELECT id FROM "${table_name}"`)).length, 1);
    await appsDone(t, ['update', 'a', '-c', config, '--set', 'max_connections=1']);
    await appsDone(t, ['delete', 'a', '-c', config]);
  }
  for (const table_name of ['x'.repeat(64), 'apps"; DROP TABLE "order"; --']) {
    const { code, stderr } = await apps(t, ['list', '-c', here.config({ table_name })]);
    assert.equal(code, 2);
    assert.match(stderr, /database\.postgres\.table_name/);
  }
});

test('of_two_apps_with_one_key_the_one_made_first_answers_and_the_log_names_both', async (t) => {
  const here = await place(
    t,
    'CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT, secret TEXT, created_at TIMESTAMPTZ)',
    "INSERT INTO applications VALUES ('a', 'one', 's', '2024-01-02'), ('b', 'one', 's', '2024-01-01'), ('c', 'one', 's', '2024-01-02')",
  );
  const { code, stdout, stderr } = await apps(t, ['show', '--key', 'one', '-c', here.config(), '--json']);
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout).id, 'b');
  assert.match(stderr, /apps b and a have the same key/);
});

test('the_table_is_the_one_that_the_search_path_of_the_user_finds', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW, 'CREATE SCHEMA mine');
  const who = await user(here);
  await here.sql(`GRANT ALL ON SCHEMA mine TO ${who.username}`);
  await here.sql(`ALTER ROLE ${who.username} SET search_path = mine`);
  await appsDone(t, ['create', '-c', here.config(who), '--id', 'a', '--key', 'old-key', '--secret', 's']);
  assert.deepEqual(
    (await here.sql('SELECT id FROM mine.applications')).map((row) => row.id),
    ['a'],
  );
  assert.deepEqual(
    (await here.sql('SELECT id FROM public.applications')).map((row) => row.id),
    ['old'],
  );
});

// --- rows as others leave them ---

test('rows_in_columns_of_other_types_and_order_read_as_they_are_meant', async (t) => {
  const here = await place(
    t,
    `CREATE TABLE applications (webhooks TEXT, extra_before INT NOT NULL DEFAULT 3, max_connections INT NULL,
    secret TEXT, max_client_events_per_second VARCHAR(20) NULL, key TEXT, enabled VARCHAR(5) NULL, allowed_origins JSONB NULL,
    id TEXT PRIMARY KEY, channel_delta_compression JSON NULL, max_event_batch_size BIGINT, enable_client_messages INT NULL)`,
  );
  await here.sql(
    `INSERT INTO applications (id, key, secret, webhooks, max_connections, max_client_events_per_second, enabled, allowed_origins,
    max_event_batch_size, enable_client_messages, channel_delta_compression) VALUES ('a', 'a-key', 's', $1, -1, '250', 'true', 'null', 4294967295, 1, $2)`,
    [
      JSON.stringify([
        {
          url: 'https://a.example',
          event_types: ['channel_occupied'],
          headers: { headers: { headers: { 'X-A': '1' } } },
        },
      ]),
      '{"a": "fossil"}',
    ],
  );
  await here.sql("INSERT INTO applications (id, key, secret) VALUES ('b', 'b-key', 's')");
  const config = here.config();
  const a = {
    id: 'a',
    key: 'a-key',
    secret: 's',
    enabled: true,
    enable_client_messages: true,
    max_connections: 4294967295,
    max_client_events_per_second: 250,
    max_event_batch_size: 4294967295,
    channel_delta_compression: { a: 'fossil' },
    webhooks: [{ url: 'https://a.example', event_types: ['channel_occupied'], headers: { 'X-A': '1' } }],
  };
  assert.deepEqual(await show(t, 'a', config), a);
  assert.deepEqual(await show(t, 'b', config), { id: 'b', key: 'b-key', secret: 's' });
  await appsDone(t, [
    'update',
    'a',
    '-c',
    config,
    '--set',
    'max_client_events_per_second=251',
    '--set',
    'enable_client_messages=false',
  ]);
  assert.deepEqual(await show(t, 'a', config), {
    ...a,
    max_client_events_per_second: 251,
    enable_client_messages: false,
  });
});

test('an_update_touches_neither_other_columns_nor_rows_of_other_tables', async (t) => {
  const here = await place(
    t,
    OLD_TABLE,
    "ALTER TABLE applications ADD COLUMN owner TEXT, ADD COLUMN plan TEXT NOT NULL DEFAULT 'free'",
    OLD_ROW,
    "UPDATE applications SET owner = 'me', plan = 'paid', created_at = '2020-01-01', updated_at = '2020-01-01'",
    'CREATE TABLE bills (app TEXT REFERENCES applications (id) ON DELETE CASCADE)',
    "INSERT INTO bills VALUES ('old')",
  );
  const config = here.config();
  await appsDone(t, ['update', 'old', '-c', config, '--set', 'max_connections=9', '--set', 'key=new-key']);
  const [row] = await here.sql('SELECT * FROM applications');
  assert.deepEqual(
    [row.owner, row.plan, row.max_connections, row.key, row.created_at.getFullYear()],
    ['me', 'paid', 9, 'new-key', 2020],
  );
  assert.ok(row.updated_at.getFullYear() > 2020);
  assert.equal((await here.sql('SELECT * FROM bills')).length, 1);
});

test('a_number_that_a_column_cannot_hold_is_refused_and_never_cut', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW, 'ALTER TABLE applications ADD COLUMN max_event_batch_size SMALLINT');
  const config = here.config();
  await refused(
    t,
    ['update', 'old', '-c', config, '--set', 'max_event_batch_size=100000'],
    /out of range for type smallint/,
  );
  assert.deepEqual(await show(t, 'old', config), OLD_APP);
});

for (const encoding of ['LATIN1', 'SQL_ASCII']) {
  test(`a_database_in_${encoding}_keeps_names_that_it_can_hold`, async (t) => {
    const here = await placeIn(t, (name) =>
      administer(`CREATE DATABASE ${name} ENCODING ${encoding} LOCALE 'C' TEMPLATE template0`),
    );
    const config = here.config();
    const pattern = (text) => `channel_delta_compression=${JSON.stringify({ [`${text}-*`]: 'fossil' })}`;
    await appsDone(t, [
      'create',
      '-c',
      config,
      '--id',
      'a',
      '--key',
      'k',
      '--secret',
      's',
      '--set',
      pattern('gr\u00fcn'),
    ]);
    assert.deepEqual((await show(t, 'a', config)).channel_delta_compression, { 'gr\u00fcn-*': 'fossil' });
    if (encoding === 'LATIN1')
      await refused(
        t,
        ['create', '-c', config, '--id', 'b', '--set', pattern('\u65e5')],
        /no equivalent in encoding "LATIN1"/,
      );
  });
}

test('backslashes_are_texts_like_others_whatever_the_servers_setting', async (t) => {
  const here = await place(t);
  await here.sql(`ALTER DATABASE ${here.name} SET standard_conforming_strings = off`);
  const config = here.config();
  const secret = "\\'; DROP TABLE applications; --\\\\";
  await appsDone(t, ['create', '-c', config, '--id', 'a', '--key', 'k', '--secret', secret]);
  assert.equal((await show(t, 'a', config)).secret, secret);
});

// --- names ---

test('apps_are_looked_up_by_the_indexes_of_a_table_of_any_size', async (t) => {
  const here = await place(t);
  await migrate(t, here.config());
  await here.sql(`INSERT INTO applications (id, key, secret, enabled, enable_client_messages, max_connections, max_client_events_per_second)
    SELECT 'app-' || i, 'key-' || i, 's', true, true, 0, 0 FROM generate_series(1, 10000) i`);
  await here.sql('ANALYZE applications');
  const server = await serverFor(t, { apps: [], config: here.settings() });
  for (let i = 1; i <= 10; i++) {
    await connect(server, { t, app: { id: `app-${i}`, key: `key-${i}`, secret: 's' } });
    assert.equal(
      (await api(server, 'GET', '/channels', { app: { id: `app-${i + 100}`, key: `key-${i + 100}`, secret: 's' } }))
        .status,
      200,
    );
  }
  await appsDone(t, ['update', 'app-1', '-c', here.config(), '--set', 'max_connections=1']);
  await appsDone(t, ['delete', 'app-2', '-c', here.config()]);
  await server.stop(); // what a connection has counted is there when it has ended
  const counted = async () =>
    (
      await here.sql(
        "SELECT (idx_scan + seq_scan)::int AS scans, seq_tup_read::int AS read FROM pg_stat_user_tables WHERE relname = 'applications'",
      )
    )[0];
  let now;
  do now = await counted();
  while (now.scans < 22);
  assert.ok(now.read < 10_000, `${now.read} rows were read one after the other`);
});

test('a_collation_that_ignores_case_does_not_make_two_names_one', async (t) => {
  const here = await place(
    t,
    "CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    OLD_TABLE.replace('id VARCHAR(255)', '$& COLLATE ignoring_case').replace(
      'key VARCHAR(255)',
      '$& COLLATE ignoring_case',
    ),
    OLD_ROW,
  );
  const config = here.config();
  assert.deepEqual(await show(t, 'old', config), OLD_APP);
  for (const command of [
    ['show', 'OLD'],
    ['update', 'OLD', '--set', 'max_connections=1'],
    ['delete', 'OLD'],
  ]) {
    await refused(t, [...command, '-c', config], /no app with the id OLD/);
  }
  await refused(t, ['create', '--id', 'OLD', '--key', 'k', '-c', config], /Key \(id\)=\(OLD\) already exists/);
  await refused(t, ['create', '--id', 'new', '--key', 'OLD-key', '-c', config], /the key is already that of app old/);
  const server = await serverFor(t, { apps: [], config: here.settings() });
  const ws = await RawWebSocket.connect(server, { key: 'OLD-key' });
  assert.equal((await ws.expect('pusher:error')).data.code, 4001);
  ws.destroy();
});

// --- users who may little ---

test('a_user_who_may_not_change_the_table_uses_it_as_it_is_and_is_told_the_statement_to_run', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const config = here.config(await user(here, 'SELECT, INSERT, UPDATE, DELETE'));
  assert.deepEqual(await ids(t, config), ['old']);
  const { code, stderr } = await apps(t, ['create', '-c', config, '--id', 'new', '--key', 'new-key']);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /must be owner of table applications/);
  const statements = stderr.split('\n').flatMap((line) => line.match(/an administrator should run: (.*)$/)?.[1] ?? []);
  assert.match(statements.join('\n'), /^ALTER TABLE .*\nDO .*CREATE OR REPLACE FUNCTION /);
  for (const statement of statements) await here.sql(statement);
  assert.deepEqual(Object.keys(await columns(here)).length, 25);
  assert.equal((await triggers(here)).length, 2);
});

test('what_the_table_has_no_column_for_is_refused_and_never_dropped', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await refusesWhatHasNoColumn(t, here, await user(here, 'SELECT, INSERT, UPDATE, DELETE'), OLD_APP);
});

async function widthOfSecrets({ sql }) {
  const rows = await sql(
    `SELECT character_maximum_length AS length FROM information_schema.columns WHERE table_schema = current_schema()
    AND table_name = 'applications' AND column_name IN ('secret', 'previous_secret') ORDER BY ordinal_position`,
  );
  return rows.map(({ length }) => Number(length));
}

test('an_encrypted_secret_gets_the_room_that_it_needs_or_the_statement_is_named', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await makesRoomForEncryptedSecrets(t, here, await user(here, 'SELECT, INSERT, UPDATE, DELETE'), widthOfSecrets);
});

test('columns_of_secrets_are_widened_where_there_is_a_key', async (t) => {
  const env = { CURLEW_SECRETS_KEY: Buffer.alloc(32, 1).toString('base64') };
  for (const statements of [[], [OLD_TABLE, OLD_ROW]]) {
    const here = await place(t, ...statements);
    const config = here.config();
    for (let round = 0; round < 2; round++) {
      await appsDone(t, ['encrypt-secrets', '-c', config], { env });
      assert.deepEqual((await widthOfSecrets(here)).sort(), [512, 512]);
    }
    for (const { secret } of await here.sql('SELECT secret FROM applications')) assert.match(secret, /^enc:1:/);
  }
});

test('a_column_or_table_that_goes_away_under_a_running_server_is_not_missed', async (t) =>
  missesNothingThatGoesAway(t, await place(t, OLD_TABLE, OLD_ROW)));

test('what_a_user_may_not_write_is_refused_in_the_servers_words', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await migrate(t, here.config());
  const config = here.config(await user(here, 'SELECT'));
  assert.deepEqual(await ids(t, config), ['old']);
  for (const command of [
    ['create', '--id', 'a', '--key', 'k'],
    ['update', 'old', '--set', 'max_connections=1'],
    ['delete', 'old'],
  ]) {
    await refused(t, [...command, '-c', config], /permission denied for table applications/);
  }
});

test('a_list_after_what_cannot_be_an_id_is_refused_by_the_admin_api', async (t) =>
  refusesBadAfter(t, (await place(t)).settings()));

test('a_database_that_is_read_only_is_read_and_refuses_writes_in_its_own_words', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await here.sql(`ALTER DATABASE ${here.name} SET default_transaction_read_only = on`);
  const config = here.config();
  assert.deepEqual(await ids(t, config), ['old']);
  await refused(
    t,
    ['create', '-c', config, '--id', 'a', '--key', 'k'],
    /read-only transaction; an administrator should run: ALTER TABLE[^]*app "a" was not created: .*read-only transaction/,
  );
});

// --- telling of changes ---

// Begins to listen; returns a function that answers with the notices that came since it was last called.
async function listen(here) {
  const heard = [];
  here.client.on('notification', ({ payload }) => heard.push(JSON.parse(payload)));
  await here.sql(`LISTEN curlew_${createHash('md5').update('public.applications').digest('hex')}`);
  return async () => {
    await here.sql('SELECT 1'); // notices come before its answer
    return heard.splice(0);
  };
}

test('a_notice_has_the_id_and_the_keys_and_nothing_else', async (t) => {
  const here = await place(t);
  await appsDone(t, ['create', '-c', here.config(), '--id', 'a', '--key', 'one', '--secret', 'the secret']);
  const heard = await listen(here);
  await here.sql("UPDATE applications SET key = 'two', secret = 'another' WHERE id = 'a'");
  await here.sql('DELETE FROM applications');
  await here.sql('TRUNCATE applications');
  assert.deepEqual(await heard(), [
    { id: 'a', old_key: 'one', new_key: 'two' },
    { id: 'a', old_key: 'two', new_key: null },
    {},
  ]);
});

test('names_too_long_for_a_notice_are_written_all_the_same_and_say_that_anything_changed', async (t) => {
  const here = await place(t, 'CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT, secret TEXT)');
  await migrate(t, here.config());
  const heard = await listen(here);
  const [{ around }] = await here.sql(
    "SELECT length(json_build_object('id', 'a', 'old_key', null, 'new_key', '')::text) AS around",
  );
  await here.sql("INSERT INTO applications (id, key, secret) VALUES ('a', $1, 's')", ['x'.repeat(7999 - around)]);
  await here.sql("INSERT INTO applications (id, key, secret) VALUES ('b', $1, 's')", ['x'.repeat(8000 - around)]);
  await here.sql("UPDATE applications SET id = repeat('\u65e5', 3000) WHERE id = 'b'");
  assert.deepEqual(
    (await heard()).map(({ id, new_key }) => [id, new_key?.length]),
    [
      ['a', 7999 - around],
      [undefined, undefined],
      [undefined, undefined],
    ],
  );
});

test('what_an_older_version_installed_for_its_notices_is_replaced', async (t) => {
  const here = await place(t);
  const config = here.config();
  await appsDone(t, ['create', '-c', config, '--id', 'a', '--key', 'one', '--secret', 's']);
  const made = await triggers(here);
  await here.sql(`CREATE OR REPLACE FUNCTION applications_curlew_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE 'an older version'; END $$`);
  await migrate(t, config);
  const heard = await listen(here);
  await here.sql("UPDATE applications SET key = 'two'");
  assert.deepEqual(await heard(), [{ id: 'a', old_key: 'one', new_key: 'two' }]);
  assert.deepEqual(
    (await triggers(here)).map((row) => row.tgname),
    made.map((row) => row.tgname),
  );
});

test('a_table_of_another_name_tells_of_its_changes_by_its_new_name', async (t) => {
  const here = await place(t);
  await appsDone(t, [
    'create',
    '-c',
    here.config({ table_name: 'first' }),
    '--id',
    'a',
    '--key',
    'one',
    '--secret',
    's',
  ]);
  await here.sql('ALTER TABLE first RENAME TO applications');
  await migrate(t, here.config());
  const heard = await listen(here);
  await here.sql("UPDATE applications SET key = 'two'");
  assert.deepEqual(await heard(), [{ id: 'a', old_key: 'one', new_key: 'two' }]);
});

// --- connecting ---

test('what_is_wrong_with_the_settings_is_said_by_the_setting_and_without_the_password', async (t) => {
  const here = await place(t);
  await administer(
    'CREATE DATABASE closed',
    'REVOKE CONNECT ON DATABASE closed FROM PUBLIC',
    "CREATE ROLE sleeper PASSWORD 'pw'",
  );
  t.after(() => administer('DROP DATABASE closed', 'DROP ROLE sleeper'));
  for (const [postgres, pattern] of [
    [
      { password: 'not the password' },
      /database\.postgres\.username and \.password: .*password authentication failed for user "curlew"/,
    ],
    [
      { username: 'nobody', password: 'not the password' },
      /database\.postgres\.username and \.password: .*user "nobody"/,
    ],
    [{ database: 'no_such_database' }, /database\.postgres\.database: .*database "no_such_database" does not exist/],
    [{ database: 'role' }, /database\.postgres\.database: .*database "role" does not exist/],
    [
      { database: 'password certificate' },
      /database\.postgres\.database: .*database "password certificate" does not exist/,
    ],
    [{ username: 'database', password: 'not the password' }, /database\.postgres\.username and \.password: /],
    [
      { ...(await user(here)), database: 'closed' },
      /database\.postgres\.database: .*permission denied for database "closed"/,
    ],
    [
      { username: 'sleeper', password: 'pw' },
      /database\.postgres\.username, \.database and \.tls: .*role "sleeper" is not permitted to log in$/m,
    ],
    [{ host: 'no-such-host.invalid' }, /database\.postgres\.host no-such-host\.invalid: /],
    [
      { port: 1 },
      /database\.postgres\.host and \.port: PostgreSQL at 127\.0\.0\.1:1 says: .*refused Is the server running/,
    ],
  ]) {
    const said = await refused(t, ['list', '-c', here.config(postgres)], pattern);
    assert.doesNotMatch(said, /not the password|a postgres password/);
  }
});

test('a_server_starts_with_wrong_settings_names_them_and_goes_on_when_they_are_right', async (t) => {
  const here = await place(t, OLD_TABLE);
  const wrong = (name, postgres, says, repair) =>
    t.test(name, (t) =>
      servesWithout(t, {
        config: here.settings(postgres, { lookup_timeout_ms: 5000 }),
        says,
        secret: 'not the password',
        repair: repair && (() => repair(t)),
      }),
    );
  const [port] = await freePorts(1);
  const folder = folderWith(t, { 'ca.pem': 'no certificate' });
  const { username } = await user(here, 'ALL');
  await wrong('host', { host: 'no-such-host.invalid' }, /database\.postgres\.host no-such-host\.invalid: /);
  await wrong(
    'port',
    { port },
    new RegExp(`database\\.postgres\\.host and \\.port: PostgreSQL at 127\\.0\\.0\\.1:${port} says: .*refused`),
    (t) => lead(t, port, address),
  );
  await wrong(
    'database',
    { database: 'made_later' },
    /database\.postgres\.database: .*database "made_later" does not exist/,
    async (t) => {
      await Postgres.createPlace(address, 'made_later');
      t.after(() => Postgres.dropPlace(address, 'made_later'));
    },
  );
  await wrong(
    'password',
    { username, password: 'not the password' },
    /database\.postgres\.username and \.password: .*password authentication failed/,
    () => here.sql(`ALTER ROLE ${username} PASSWORD 'not the password'`),
  );
  await wrong(
    'TLS file',
    { tls: { mode: 'verify', ca_path: path.join(folder, 'ca.pem') } },
    /database\.postgres\.tls: .*ca\.pem/,
    () => copyFileSync(address.ca, path.join(folder, 'ca.pem')),
  );
  await neverStarts({ config: here.settings({ table_name: 'apps; --' }), says: /database\.postgres\.table_name/ });
});

// --- TLS ---

test('an_encrypted_connection_is_made_where_it_is_asked_for_or_offered', async (t) => {
  const here = await place(
    t,
    `CREATE VIEW applications AS SELECT CASE WHEN ssl THEN 'encrypted' ELSE 'plain' END AS id, 'k' AS key, 's' AS secret
    FROM pg_stat_ssl WHERE pid = pg_backend_pid()`,
  );
  const ca_path = address.ca;
  for (const tls of [{ mode: 'disable' }, { mode: 'prefer' }, { mode: 'require' }, { mode: 'verify', ca_path }]) {
    for (const host of ['localhost', '127.0.0.1']) {
      assert.deepEqual(await ids(t, here.config({ host, tls })), [tls.mode === 'disable' ? 'plain' : 'encrypted']);
    }
  }
  const system = await apps(t, ['list', '-c', here.config({ tls: { mode: 'verify' } })], {
    env: { SSL_CERT_FILE: ca_path },
  });
  assert.equal(system.code, 0, system.stderr);
});

test('verify_wants_a_certificate_by_the_named_authority_and_a_file_that_can_be_read', async (t) => {
  const here = await place(t);
  const strangers = folderWith(t);
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      path.join(strangers, 'key.pem'),
      '-out',
      path.join(strangers, 'ca.pem'),
      '-days',
      '2',
      '-subj',
      '/CN=Another authority',
    ],
    { stdio: 'ignore' },
  );
  for (const tls of [{ mode: 'verify', ca_path: path.join(strangers, 'ca.pem') }, { mode: 'verify' }]) {
    await refused(t, ['list', '-c', here.config({ tls })], /database\.postgres\.tls: .*certificate/i);
  }
  await refused(
    t,
    ['list', '-c', here.config({ tls: { mode: 'verify', ca_path: '/no/such/ca.pem' } })],
    /database\.postgres\.tls: .*\/no\/such\/ca\.pem/,
  );
});

test('a_server_without_tls_is_taken_by_prefer_and_by_nothing_stricter', async (t) => {
  const plain = await backendFor(t, 'postgres');
  await plain.createPlace('plain');
  const config = (tls) => {
    const settings = plain.config('plain');
    return path.join(
      folderWith(t, { 'config.json': { ...settings, database: { postgres: { ...settings.database.postgres, tls } } } }),
      'config.json',
    );
  };
  await migrate(t, config({ mode: 'disable' }));
  for (const mode of ['prefer', 'disable']) assert.deepEqual(await ids(t, config({ mode })), []);
  for (const tls of [{ mode: 'require' }, { mode: 'verify', ca_path: address.ca }]) {
    await refused(t, ['list', '-c', config(tls)], /database\.postgres\.tls: .*server does not support SSL/);
  }
});

// --- the password ---

const SALT = Buffer.from('salt');
const asksFor = (number, body = Buffer.alloc(0)) => {
  const head = Buffer.from([82, 0, 0, 0, 8 + body.length, 0, 0, 0, number]);
  return Buffer.concat([head, body]);
};
const CLEAR = asksFor(3);
const MD5 = asksFor(5, SALT);

// A server that answers each message of libpq with the next of `answers`, and a request to encrypt with `encrypts`.
// Resolves to {port, sent()}: the bytes that it was sent.
async function asking(t, host, answers, { encrypts = 'N', secure = (socket) => socket } = {}) {
  const sent = [];
  const server = net.createServer((client) => {
    const left = [...answers];
    const hear = (socket) =>
      socket
        .on('error', () => {})
        .on('data', (bytes) => {
          sent.push(bytes);
          if (bytes.length === 8 && bytes[6] === 0x16) {
            socket.write(encrypts);
            if (encrypts === 'S') hear(secure(socket.removeAllListeners('data')));
          } else if (left.length) {
            const answer = left.shift();
            if (Array.isArray(answer)) for (const byte of answer) socket.write(Buffer.from([byte]));
            else socket.write(answer);
          } else {
            socket.destroy();
          }
        });
    hear(client);
    if (encrypts === '') client.write(left.shift());
  });
  await once(server.listen(0, host), 'listening');
  t.after(() => server.close());
  return { port: server.address().port, sent: () => Buffer.concat(sent).toString('latin1') };
}

test('no_password_leaves_in_clear_text_for_another_machine', async (t) => {
  const host = addressOutside();
  const password = 'TOPSECRET';
  const here = await place(t);
  for (const [mode, answers, options] of [
    ['prefer', [CLEAR]],
    ['disable', [CLEAR]],
    ['prefer', [[...CLEAR]]],
    ['prefer', [Buffer.concat([Buffer.from('N'), CLEAR])], { encrypts: '' }],
    ['disable', [MD5, CLEAR]],
    ['disable', [Buffer.concat([MD5, CLEAR])]],
    ['disable', [asksFor(5, Buffer.concat([SALT, CLEAR]))]],
    ['disable', [asksFor(3, Buffer.from('more'))]],
    ['disable', [asksFor(10, Buffer.concat([Buffer.from('SCRAM-SHA-256\0\0'), CLEAR]))]],
  ]) {
    const { port, sent } = await asking(t, host, answers, options);
    await refused(
      t,
      ['list', '-c', here.config({ host, port, password, tls: { mode } })],
      /asks for the password in clear text, .*not encrypted: set database\.postgres\.tls\.mode to `require`/,
    );
    assert.ok(!sent().includes(password), `${mode}: ${sent()}`);
  }
});

test('a_password_leaves_as_a_digest_within_tls_or_on_this_machine', async (t) => {
  const password = 'TOPSECRET';
  const here = await place(t);
  const md5 = (text) => createHash('md5').update(text).digest('hex');
  const digest = md5(Buffer.concat([Buffer.from(md5(`${password}${address.user}`)), SALT]));
  const secure = (socket) =>
    new tls.TLSSocket(socket, {
      isServer: true,
      cert: readFileSync(address.certificate),
      key: readFileSync(address.key),
    });
  const listing = async (host, mode, answers, options) => {
    const { port, sent } = await asking(t, host, answers, options);
    await refused(
      t,
      ['list', '-c', here.config({ host, port, password, tls: { mode } })],
      /closed the connection|EOF detected/,
    );
    return sent();
  };
  assert.ok((await listing(addressOutside(), 'disable', [MD5])).includes(`md5${digest}\0`));
  assert.ok((await listing('127.0.0.1', 'prefer', [CLEAR])).includes(`${password}\0`));
  assert.ok((await listing(addressOutside(), 'prefer', [CLEAR], { encrypts: 'S', secure })).includes(`${password}\0`));
});

test('another_machine_is_signed_in_to_with_and_without_tls', async (t) => {
  const here = await place(
    t,
    `CREATE VIEW applications AS SELECT CASE WHEN ssl THEN 'encrypted' ELSE 'plain' END AS id, 'k' AS key, 's' AS secret
    FROM pg_stat_ssl WHERE pid = pg_backend_pid()`,
  );
  const host = addressOutside();
  const port = await lead(t, 0, address, undefined, host);
  for (const [mode, how] of [
    ['disable', 'plain'],
    ['prefer', 'encrypted'],
    ['require', 'encrypted'],
  ])
    assert.deepEqual(await ids(t, here.config({ host, port, tls: { mode } })), [how]);
  await refused(
    t,
    ['list', '-c', here.config({ host, port, password: 'wrong', tls: { mode: 'disable' } })],
    /database\.postgres\.username and \.password: .*password authentication failed/,
  );
});

// --- servers that break ---

test('an_answer_larger_than_any_apps_is_not_taken_and_the_other_apps_are', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW, 'ALTER TABLE applications ADD COLUMN webhooks TEXT');
  await here.sql(
    "INSERT INTO applications SELECT 'huge', 'huge-key', 's', 0, true, true, 0, now(), now(), repeat('x', 70000000)",
  );
  await refused(t, ['show', 'huge', '-c', here.config()], /an answer of more than 64 MB/);
  await refused(t, ['list', '-c', here.config()], /an answer of more than 64 MB/);
  assert.deepEqual(await show(t, 'old', here.config()), OLD_APP);
});

function message(type, body) {
  const head = Buffer.from(`${type}....`);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, Buffer.from(body)]);
}

// An answer of rows without columns.
const begin = Buffer.concat([message('1', ''), message('2', ''), message('T', [0, 0])]);
const row = message('D', [0, 0]);

test('more_rows_than_were_asked_for_are_not_taken', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await appsDone(t, ['list', '-c', here.config()]);
  const port = await impostor(t, address, 'SELECT "id"', (client) =>
    client.write(Buffer.concat([begin, ...Array(1000).fill(row), message('C', 'SELECT 1000\0'), message('Z', 'I')])),
  );
  await refused(t, ['list', '-c', here.config({ port, tls: { mode: 'disable' } })], /has no id that can be read/);
});

test('a_server_that_never_comes_to_an_end_holds_nobody_and_fills_no_memory', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await appsDone(t, ['list', '-c', here.config()]);
  const without_end = (client, piece) => {
    const more = () => {
      while (client.writable && client.write(piece));
    };
    client.on('drain', more);
    more();
  };
  for (const [talk, pattern, lookup_timeout_ms = 60_000] of [
    [
      (client) => without_end(client.write(begin) && client, Buffer.concat(Array(10_000).fill(row))),
      /an answer of more than 64 MB/,
    ],
    [
      (client) =>
        without_end(
          client.write(Buffer.concat([begin, Buffer.from('D\x08\0\0\0\0\x01\x07\xff\xff\xf0', 'latin1')])) && client,
          Buffer.alloc(1 << 16),
        ),
      /an answer of more than 64 MB/,
    ],
    [
      (client) => {
        let at = 0;
        const drip = setInterval(() => client.writable && client.write(begin.subarray(at, ++at)), 100);
        client.on('close', () => clearInterval(drip));
      },
      /no answer in time/,
      2000,
    ],
    // The library says of a copy, once for each time that it is asked, that it is there.
    ...['G', 'H', 'W'].map((type) => [
      (client) => client.write(message(type, Buffer.from([0, 0, 0]))),
      /an answer to another statement/,
    ]),
  ]) {
    const port = await impostor(t, address, 'SELECT "id"', talk);
    await refused(t, ['list', '-c', here.config({ port, tls: { mode: 'disable' } }, { lookup_timeout_ms })], pattern);
  }
});

test('a_server_that_falls_silent_while_signing_in_holds_nobody', async (t) => {
  const here = await place(t);
  // Hands on the first answers of the server, and then nothing.
  for (const answers of [0, 1, 2]) {
    const sockets = [];
    const silent = net.createServer((client) => {
      const server = net.connect(address.port, address.host);
      let left = answers;
      sockets.push(client, server);
      for (const socket of [client, server]) socket.on('error', () => {});
      server.on('data', (bytes) => left-- > 0 && client.write(bytes));
      client.on('data', (bytes) => server.write(bytes));
    });
    await once(silent.listen(0, '127.0.0.1'), 'listening');
    const config = here.config({ port: silent.address().port, tls: { mode: 'disable' } }, { lookup_timeout_ms: 500 });
    try {
      await refused(t, ['list', '-c', config], /no answer in time/);
    } finally {
      for (const socket of sockets) socket.destroy(); // PostgreSQL does not drop a database that somebody signs in to
      silent.close();
    }
  }
});

test('a_statement_that_the_server_cancels_is_said_in_its_words_and_leaves_nothing_open', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await here.sql(`ALTER DATABASE ${here.name} SET statement_timeout = 300`);
  await here.sql('BEGIN');
  await here.sql('LOCK TABLE applications');
  const said = await refused(t, ['list', '-c', here.config()], /canceling statement due to statement timeout/);
  assert.doesNotMatch(said, /an administrator should run/);
  await here.sql('COMMIT');
  // nothing else is to be cut off on a slow machine
  await here.sql(`ALTER DATABASE ${here.name} RESET statement_timeout`);
  assert.deepEqual(await ids(t, here.config()), ['old']);
});

// The settings of a server on the place, whose lookups wait for a second.
const hasty = (here) => ({
  apps: [],
  config: here.settings({}, { lookup_timeout_ms: 1000, cache: { negative_ttl: 0 } }),
});

// The processes that wait for a lock in the place's database; not to be asked for in a transaction, which sees the
// first answer only.
async function waiting(t, here) {
  const client = await Postgres.client(address, here.name);
  t.after(() => client.end());
  const sql =
    "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
  return { client, count: async () => (await client.query(sql)).rows[0].count };
}

async function up(server) {
  const response = await fetch(`http://127.0.0.1:${server.port}/up`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  return response.text();
}

test('while_the_table_is_locked_few_processes_of_the_server_wait_and_it_is_one_outage', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const server = await serverFor(t, hasty(here));
  await eventually(server, async () => (await connect(server, { app: OLD_APP })).destroy());
  await here.sql('BEGIN');
  await here.sql('LOCK TABLE applications');
  const { count } = await waiting(t, here);
  for (let round = 0; round < 6; round++) {
    const refusals = Array.from({ length: 10 }, async (_, i) => {
      const ws = await RawWebSocket.connect(server, { key: `unknown-${round}-${i}` });
      assert.equal((await ws.expect('pusher:error')).data.code, 4100);
      ws.destroy();
    });
    await Promise.all(refusals);
  }
  const processes = await count();
  assert.ok(processes <= 30, `${processes} processes`); // of 60 that were given up
  assert.equal(await up(server), 'DEGRADED');
  await here.sql('COMMIT');
  await eventually(server, async () => assert.equal(await up(server), 'OK'));
  assert.equal(server.log.all.filter(({ message }) => / store cannot be reached: /.test(message)).length, 1);
});

test('a_column_that_cannot_be_added_yet_holds_up_neither_the_others_at_the_table_nor_who_asks_the_server', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const others = await waiting(t, here);
  await here.sql('BEGIN');
  await here.sql('SELECT * FROM applications'); // as a backup does, for hours
  const server = await serverFor(t, hasty(here));
  await eventually(server, async () => assert.notEqual(await others.count(), 0));
  const read = others.client.query('SELECT * FROM applications'); // behind it
  assert.equal(await up(server), 'ERROR');
  await within(read, 'a reader to go on');
  await here.sql('COMMIT');
  await eventually(server, async () => (await connect(server, { app: OLD_APP })).destroy());
  assert.equal((await columns(here)).webhooks, 'jsonb');
});
