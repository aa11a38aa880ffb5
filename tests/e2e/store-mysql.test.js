// The MySQL driver against a real MariaDB: tables as others left them, users who may little, servers that refuse, break
// and freeze.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test, { after } from 'node:test';

import { api } from '../lib/api.js';
import { EVERY_FIELD, apps, appsDone, migrate, refused, show } from '../lib/apps-command.js';
import { freePorts } from '../lib/backends/daemon.js';
import { backendFor } from '../lib/backends/index.js';
import { MariaDb } from '../lib/backends/mariadb.js';
import { connect } from '../lib/client.js';
import { addressOutside, impostor, lead } from '../lib/middle.js';
import { folderWith } from '../lib/process.js';
import { serverFor } from '../lib/server.js';
import {
  keepsDefaultsThatAreThere,
  makesRoomForEncryptedSecrets,
  missesNothingThatGoesAway,
  refusesWhatHasNoColumn,
  takesRowsByHand,
} from '../lib/sql-cases.js';
import { neverStarts, servesWithout } from '../lib/wrong-settings.js';

const backend = await backendFor({ after }, 'mariadb', { tls: true });
const { address } = backend;

// As a server of the protocol family made it before there were optional fields.
const OLD_TABLE = `CREATE TABLE applications (
  id VARCHAR(255) PRIMARY KEY, \`key\` VARCHAR(255) UNIQUE NOT NULL, secret VARCHAR(255) NOT NULL,
  max_connections INT UNSIGNED NOT NULL, enable_client_messages BOOLEAN NOT NULL DEFAULT FALSE, enabled BOOLEAN NOT NULL DEFAULT TRUE,
  max_client_events_per_second INT UNSIGNED NOT NULL,
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci`;
const OLD_ROW =
  "INSERT INTO applications (id, `key`, secret, max_connections, max_client_events_per_second) VALUES ('old', 'old-key', 's', 7, 8)";

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

/*
 * A database of its own for a test: {name, sql(statement, values), config(members of database.mysql, others)}; config()
 * writes a configuration file and returns its path.
 */
async function place(t, ...statements) {
  const name = `place${++places}`;
  await MariaDb.createPlace(address, name);
  const client = await MariaDb.client(address, name);
  t.after(async () => {
    await client.end();
    await MariaDb.dropPlace(address, name);
  });
  for (const statement of statements) await client.query(statement);
  return {
    name,
    client,
    sql: async (statement, values) => (await client.query(statement, values))[0],
    settings: (mysql = {}, app_manager = {}) => {
      const settings = MariaDb.config({ ...address, ca: undefined }, name);
      Object.assign(settings.database.mysql, mysql);
      Object.assign(settings.app_manager, { lookup_timeout_ms: 20_000, ...app_manager });
      return settings;
    },
    config(...changes) {
      return path.join(folderWith(t, { 'config.json': this.settings(...changes) }), 'config.json');
    },
  };
}

// Runs statements as the administrator; for what is put back after a test, when its own connection may have gone.
async function administer(...statements) {
  const client = await MariaDb.client(address);
  for (const statement of statements) await client.query(statement);
  await client.end();
}

// Makes a user for a test, with these rights on its database; returns {username, password}.
async function user(t, { name, sql }, rights, more = '') {
  const username = `user_of_${name}`;
  await sql(`CREATE USER '${username}'@'%' IDENTIFIED BY 'pw' ${more}`);
  await sql(`GRANT ${rights} ON ${name}.* TO '${username}'@'%'`);
  t.after(() => administer(`DROP USER '${username}'@'%'`));
  return { username, password: 'pw' };
}

async function columns({ name, sql }) {
  const rows = await sql(
    `SELECT column_name AS name, column_type AS type, is_nullable AS nullable FROM information_schema.columns
    WHERE table_schema = ? AND table_name = 'applications' ORDER BY ordinal_position`,
    [name],
  );
  return Object.fromEntries(rows.map((row) => [row.name, `${row.type}${row.nullable === 'YES' ? '' : ' NOT NULL'}`]));
}

async function ids(t, config) {
  return (await appsDone(t, ['list', '-c', config, '--json'])).apps.map((app) => app.id);
}

// A server that has no apps but those of the database.
function bareServer(t, here, mysql = {}, app_manager = {}) {
  return serverFor(t, {
    apps: [],
    config: here.settings(
      { pool_min: 2, pool_max: 4, ...mysql },
      { array: { apps: [] }, cache: { enabled: false }, ...app_manager },
    ),
  });
}

// --- the table ---

test('the_table_is_made_as_documented_and_then_left_alone', async (t) => {
  const here = await place(t);
  const config = here.config();
  const server = await bareServer(t, here);
  await server.waitForLog(/^mysql: created the table applications$/);
  const text = 'varchar(255) NOT NULL';
  const number = 'int(10) unsigned';
  const flag = 'tinyint(1)';
  assert.deepEqual(await columns(here), {
    id: text,
    key: text,
    secret: text,
    previous_secret: 'varchar(255)',
    previous_secret_until: 'bigint(20) unsigned',
    enabled: `${flag} NOT NULL`,
    enable_client_messages: `${flag} NOT NULL`,
    max_connections: `${number} NOT NULL`,
    max_client_events_per_second: `${number} NOT NULL`,
    max_read_requests_per_second: number,
    max_backend_events_per_second: number,
    max_presence_members_per_channel: number,
    max_presence_member_size_in_kb: number,
    max_channel_name_length: number,
    max_event_channels_at_once: number,
    max_event_name_length: number,
    max_event_payload_in_kb: number,
    max_event_batch_size: number,
    enable_user_authentication: flag,
    enable_watchlist_events: flag,
    allowed_origins: 'longtext',
    webhooks: 'longtext',
    channel_delta_compression: 'longtext',
    created_at: 'timestamp',
    updated_at: 'timestamp',
  });
  const [made] = await here.sql('SHOW CREATE TABLE applications');
  assert.match(
    made['Create Table'],
    /PRIMARY KEY \(`id`\),\n +UNIQUE KEY `key` \(`key`\)\n\) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4/,
  );
  const second = await migrate(t, config);
  assert.deepEqual([second.code, second.stderr], [0, '']);
  assert.deepEqual(await here.sql('SHOW CREATE TABLE applications'), [made]);
});

test('a_row_inserted_by_hand_takes_the_defaults_in_a_table_of_ours_and_in_one_made_without', async (t) => {
  const ours = await place(t);
  const theirs = await place(
    t,
    `CREATE TABLE applications (id VARCHAR(64) PRIMARY KEY, \`key\` VARCHAR(64) NOT NULL, secret VARCHAR(64) NOT NULL,
      enabled BOOLEAN NOT NULL, enable_client_messages SMALLINT NOT NULL, max_connections BIGINT NOT NULL,
      max_client_events_per_second INT NOT NULL, created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, plan INT NULL)`,
  );
  await takesRowsByHand(t, Object.assign(ours, { key: '`key`' }), theirs);
});

test('a_default_that_a_column_has_stays', async (t) => {
  const here = await place(
    t,
    `CREATE TABLE applications (id VARCHAR(255) PRIMARY KEY, \`key\` VARCHAR(255) NOT NULL UNIQUE, secret VARCHAR(255) NOT NULL,
      enabled BOOLEAN NOT NULL DEFAULT FALSE, max_connections INTEGER DEFAULT 1000, max_client_events_per_second INTEGER,
      enable_client_messages BOOLEAN DEFAULT FALSE)`,
  );
  await keepsDefaultsThatAreThere(t, here, '`key`');
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
  const server = await bareServer(t, here);
  await server.waitForLog(/^mysql: added the column channel_delta_compression to the table applications$/);
  const added = server.log.all.flatMap((line) => line.message.match(/added the column (\w+)/)?.[1] ?? []);
  assert.deepEqual(
    added,
    Object.keys(EVERY_FIELD).filter((name) => !OLD_TABLE.includes(name)),
  );
  assert.deepEqual(await show(t, 'old', config), OLD_APP);
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

test('columns_that_an_app_must_have_are_added_with_their_defaults', async (t) => {
  const here = await place(
    t,
    'CREATE TABLE applications (id VARCHAR(64) PRIMARY KEY, `key` VARCHAR(64), secret TEXT)',
    "INSERT INTO applications VALUES ('bare', 'bare-key', 's')",
  );
  await migrate(t, here.config());
  assert.equal(Object.keys(await columns(here)).length, 25);
  const app = await show(t, 'bare', here.config());
  assert.deepEqual([app.enabled, app.max_connections, app.max_client_events_per_second], [true, 100, 100]);
});

for (const [what, statements] of [
  ['no_table', []],
  ['an_old_table', [OLD_TABLE, OLD_ROW]],
]) {
  test(`servers_that_start_at_once_with_${what}_do_not_disturb_each_other`, async (t) => {
    const here = await place(t, ...statements);
    const config = here.config();
    const all = await Promise.all(Array.from({ length: 6 }, () => migrate(t, config)));
    for (const { code, stderr } of all) assert.equal(code, 0, stderr);
    assert.deepEqual(
      all.map(({ stderr }) => stderr),
      Array(6).fill(''),
    );
    assert.equal(Object.keys(await columns(here)).length, 25);
  });
}

test('a_table_without_a_column_that_no_app_can_do_without_is_refused_by_the_name_of_the_column', async (t) => {
  const here = await place(t, 'CREATE TABLE applications (id VARCHAR(64) PRIMARY KEY, secret VARCHAR(64))');
  await refused(
    t,
    ['list', '-c', here.config()],
    /database\.mysql\.table_name: the table applications has no column key/,
  );
});

test('a_table_of_another_name_is_used_and_a_dangerous_name_refused', async (t) => {
  const here = await place(t);
  await appsDone(t, ['create', '-c', here.config({ table_name: 'my_Apps' }), '--id', 'a']);
  assert.equal((await here.sql('SELECT id FROM my_Apps')).length, 1);
  await migrate(t, here.config({ table_name: 'x'.repeat(64) }));
  assert.equal((await here.sql('SHOW TABLES')).length, 2);
  for (const table_name of ['x'.repeat(65), 'apps`; DROP TABLE my_Apps; --']) {
    const { code, stderr } = await apps(t, ['list', '-c', here.config({ table_name })]);
    assert.equal(code, 2);
    assert.match(stderr, /database\.mysql\.table_name/);
  }
});

test('tables_whose_names_differ_in_case_are_not_mixed_up', async (t) => {
  const here = await place(
    t,
    OLD_TABLE,
    OLD_ROW,
    'CREATE TABLE Applications (id INT, webhooks TEXT, max_event_batch_size INT)',
  );
  assert.deepEqual(await ids(t, here.config()), ['old']);
  await migrate(t, here.config());
  assert.equal(Object.keys(await columns(here)).includes('webhooks'), true);
});

// --- rows as others leave them ---

test('rows_in_columns_of_other_types_order_and_case_read_as_they_are_meant', async (t) => {
  const here = await place(
    t,
    `CREATE TABLE applications (WEBHOOKS TEXT, extra_before INT NOT NULL DEFAULT 3, max_connections INT NULL,
    Secret TEXT, max_client_events_per_second VARCHAR(20) NULL, \`KEY\` VARCHAR(191), Enabled VARCHAR(5) NULL, allowed_origins LONGTEXT NULL,
    ID VARCHAR(191) CHARACTER SET latin1 PRIMARY KEY, channel_delta_compression TEXT NULL, max_event_batch_size BIGINT, enable_client_messages INT NULL)`,
  );
  await here.sql(
    'INSERT INTO applications SET id = ?, `key` = ?, secret = ?, webhooks = ?, max_connections = -1, ' +
      "max_client_events_per_second = '250', enabled = 'true', allowed_origins = 'null', max_event_batch_size = 4294967295, enable_client_messages = 1",
    [
      'a',
      'a-key',
      's',
      JSON.stringify([
        {
          url: 'https://a.example',
          event_types: ['channel_occupied'],
          headers: { headers: { headers: { 'X-A': '1' } } },
        },
      ]),
    ],
  );
  await here.sql("INSERT INTO applications SET id = 'b', `key` = 'b-key', secret = 's'");
  const config = here.config();
  assert.deepEqual(await show(t, 'a', config), {
    id: 'a',
    key: 'a-key',
    secret: 's',
    enabled: true,
    enable_client_messages: true,
    max_connections: 4294967295,
    max_client_events_per_second: 250,
    max_event_batch_size: 4294967295,
    webhooks: [{ url: 'https://a.example', event_types: ['channel_occupied'], headers: { 'X-A': '1' } }],
  });
  assert.deepEqual(await show(t, 'b', config), { id: 'b', key: 'b-key', secret: 's' });
});

test('an_update_touches_neither_other_columns_nor_rows_of_other_tables', async (t) => {
  const here = await place(
    t,
    OLD_TABLE,
    'ALTER TABLE applications ADD COLUMN owner VARCHAR(20), ADD COLUMN plan VARCHAR(20) NOT NULL DEFAULT "free"',
    OLD_ROW,
    "UPDATE applications SET owner = 'me', plan = 'paid', created_at = '2020-01-01', updated_at = '2020-01-01'",
    'CREATE TABLE bills (app VARCHAR(255) COLLATE utf8mb4_unicode_ci, FOREIGN KEY (app) REFERENCES applications (id) ON DELETE CASCADE) ENGINE=InnoDB',
    "INSERT INTO bills VALUES ('old')",
  );
  const config = here.config();
  await appsDone(t, ['update', 'old', '-c', config, '--set', 'max_connections=9']);
  await appsDone(t, ['update', 'old', '-c', config, '--set', 'key=new-key']);
  const [row] = await here.sql('SELECT *, YEAR(created_at) AS created, YEAR(updated_at) AS updated FROM applications');
  assert.deepEqual(
    [row.owner, row.plan, row.max_connections, row.key, row.created],
    ['me', 'paid', 9, 'new-key', 2020],
  );
  assert.ok(row.updated > 2020);
  assert.equal((await here.sql('SELECT * FROM bills')).length, 1);
});

test('a_field_that_is_not_set_takes_the_value_in_force_where_the_column_must_have_one', async (t) => {
  const here = await place(
    t,
    OLD_TABLE,
    `ALTER TABLE applications ADD COLUMN max_event_batch_size INT UNSIGNED NOT NULL DEFAULT 3,
    ADD COLUMN enable_watchlist_events BOOLEAN NOT NULL, ADD COLUMN webhooks TEXT NOT NULL, ADD COLUMN allowed_origins JSON NOT NULL`,
  );
  const config = here.config();
  await appsDone(t, ['create', '-c', config, '--id', 'a', '--key', 'k', '--secret', 's']);
  const app = await show(t, 'a', config);
  assert.deepEqual(
    [app.max_event_batch_size, app.enable_watchlist_events, app.webhooks, app.allowed_origins],
    [100, false, undefined, undefined],
  );
});

test('a_number_that_a_column_cannot_hold_is_refused_and_never_cut_whatever_the_servers_own_mode', async (t) => {
  const here = await place(
    t,
    OLD_TABLE,
    OLD_ROW,
    'ALTER TABLE applications MODIFY max_connections INT NOT NULL, ADD COLUMN max_event_batch_size TINYINT',
  );
  const config = here.config();
  const [{ mode }] = await here.sql('SELECT @@GLOBAL.sql_mode AS mode');
  await here.sql("SET GLOBAL sql_mode = ''");
  t.after(() => administer(`SET GLOBAL sql_mode = '${mode}'`));
  await refused(
    t,
    ['update', 'old', '-c', config, '--set', 'max_connections=4294967295'],
    /Out of range value for column 'max_connections'/,
  );
  await refused(
    t,
    ['update', 'old', '-c', config, '--set', 'max_event_batch_size=1000'],
    /Out of range value for column 'max_event_batch_size'/,
  );
  assert.equal((await show(t, 'old', config)).max_connections, 7);
});

test('bad_rows_do_not_hide_good_ones', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW, 'ALTER TABLE applications ADD COLUMN webhooks TEXT');
  await here.sql(`INSERT INTO applications (id, \`key\`, secret, max_connections, max_client_events_per_second, webhooks) VALUES
    ('bad1', 'k1', 's', 1, 1, 'no json'), ('bad2', 'k2', 's', 1, 1, '[{"url":"ftp://x"}]'), ('z-good', 'k3', 's', 1, 1, NULL), ('bad 3', 'k4', 's', 1, 1, NULL)`);
  const config = here.config();
  const { code, stdout, stderr } = await apps(t, ['list', '-c', config, '--json']);
  assert.equal(code, 1);
  assert.deepEqual(
    JSON.parse(stdout).apps.map((app) => app.id),
    ['old', 'z-good'],
  );
  for (const id of ['bad1', 'bad2', 'bad 3']) assert.match(stderr, new RegExp(id));
  await refused(t, ['show', 'bad1', '-c', config], /webhooks/);
});

// --- names ---

test('apps_are_looked_up_by_the_indexes_of_a_table_of_any_size_and_character_set', async (t) => {
  for (const set of ['utf8mb4', 'utf8', 'latin1']) {
    const here = await place(t, OLD_TABLE.replace(/CHARSET.*/, `CHARSET=${set}`));
    await migrate(t, here.config());
    await here.sql(`INSERT INTO applications (id, \`key\`, secret, max_connections, max_client_events_per_second)
      SELECT CONCAT('app-', seq), CONCAT('key-', seq), 's', 0, 0 FROM seq_1_to_10000`);
    const rowsRead = async () => Number((await here.sql("SHOW GLOBAL STATUS LIKE 'Handler_read_rnd_next'"))[0].Value);
    const before = await rowsRead();
    const server = await bareServer(t, here);
    await connect(server, { t, app: { id: 'app-1', key: 'key-1', secret: 's' } });
    assert.equal(
      (await api(server, 'GET', '/channels', { app: { id: 'app-2', key: 'key-2', secret: 's' } })).status,
      200,
    );
    await appsDone(t, ['update', 'app-1', '-c', here.config(), '--set', 'max_connections=1']);
    await appsDone(t, ['delete', 'app-2', '-c', here.config()]);
    const read = (await rowsRead()) - before;
    assert.ok(read < 10_000, `${read} rows were read one after the other`);
  }
});

test('a_collation_that_ignores_case_does_not_make_two_names_one', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const config = here.config();
  for (const [args, what] of [
    [['show', 'OLD'], 'show'],
    [['show', '--key', 'Old-Key'], 'key'],
    [['update', 'Old', '--set', 'max_connections=1'], 'update'],
    [['delete', 'OLD', '--yes'], 'delete'],
  ]) {
    const { code, stderr } = await apps(t, [...args.filter((word) => word !== '--yes'), '-c', config]);
    assert.equal(code, 1, `${what}: ${stderr}`);
  }
  assert.deepEqual(
    (await here.sql('SELECT id, max_connections FROM applications')).map((row) => ({ ...row })),
    [{ id: 'old', max_connections: 7 }],
  );
  // Where the column takes them for one, they cannot both be there.
  await refused(t, ['create', '-c', config, '--id', 'OLD', '--key', 'other'], /already an app with the id old/);
  await refused(t, ['create', '-c', config, '--id', 'b', '--key', 'OLD-key'], /key is already that of app old/);
  await appsDone(t, ['create', '-c', config, '--id', 'b', '--key', 'b-key']);
  await refused(t, ['update', 'b', '-c', config, '--set', 'key=OLD-KEY'], /key is already that of app old/);
});

test('names_that_differ_in_case_are_two_in_a_table_of_our_own', async (t) => {
  const config = (await place(t)).config();
  await appsDone(t, ['create', '-c', config, '--id', 'a', '--key', 'k', '--secret', 'small']);
  await appsDone(t, ['create', '-c', config, '--id', 'A', '--key', 'K', '--secret', 'large']);
  assert.equal((await show(t, 'A', config)).secret, 'large');
  assert.equal((await appsDone(t, ['show', '--key', 'k', '-c', config, '--json', '--show-secrets'])).secret, 'small');
});

test('of_two_records_with_one_key_the_earlier_answers_else_the_smaller_id_and_an_error_names_both', async (t) => {
  const here = await place(t, OLD_TABLE, 'ALTER TABLE applications DROP INDEX `key`');
  await here.sql(`INSERT INTO applications (id, \`key\`, secret, max_connections, max_client_events_per_second, created_at) VALUES
    ('a-late', 'one', 's', 1, 1, '2024-01-02'), ('z-early', 'one', 's', 1, 1, '2024-01-01'), ('b-case', 'ONE', 's', 1, 1, '2020-01-01'),
    ('d', 'two', 's', 1, 1, '2024-01-01'), ('c', 'two', 's', 1, 1, '2024-01-01'),
    ('e', 'three', 's', 1, 1, NULL), ('f', 'three', 's', 1, 1, '2024-01-01')`);
  const config = here.config();
  await appsDone(t, ['list', '-c', config]);
  for (const [key, first, second] of [
    ['one', 'z-early', 'a-late'],
    ['two', 'c', 'd'],
    ['three', 'f', 'e'],
  ]) {
    const { stdout, stderr } = await apps(t, ['show', '--key', key, '-c', config, '--json']);
    assert.equal(JSON.parse(stdout).id, first);
    assert.match(stderr, new RegExp(`apps ${first} and ${second} have the same key`));
  }
  assert.equal((await apps(t, ['show', '--key', 'ONE', '-c', config])).stderr, '');
  await refused(t, ['create', '-c', config, '--id', 'g', '--key', 'two'], /key is already that of app [cd]/);
});

// --- users who may little ---

test('a_user_who_may_not_change_the_table_uses_it_as_it_is_and_is_told_the_statement_to_run', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const config = here.config(await user(t, here, 'SELECT, INSERT, UPDATE, DELETE'));
  assert.deepEqual(await ids(t, config), ['old']);
  const { code, stderr } = await apps(t, ['create', '-c', config, '--id', 'new', '--key', 'new-key']);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /ALTER command denied/);
  await here.sql(stderr.match(/an administrator should run: (ALTER TABLE .*)$/m)[1]);
  const again = await migrate(t, config);
  assert.deepEqual([again.code, again.stderr], [0, '']);
});

test('without_a_table_and_the_right_to_make_one_the_statement_to_run_is_named', async (t) => {
  const here = await place(t);
  const config = here.config(await user(t, here, 'SELECT, INSERT, UPDATE, DELETE'));
  const said = await refused(t, ['create', '-c', config], /CREATE command denied/);
  await here.sql(said.match(/an administrator should run: (CREATE TABLE .*)$/m)[1]);
  assert.deepEqual(await ids(t, config), []);
});

test('what_the_table_has_no_column_for_is_refused_and_never_dropped', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await refusesWhatHasNoColumn(t, here, await user(t, here, 'SELECT, INSERT, UPDATE, DELETE'), OLD_APP);
});

async function widthOfSecrets({ sql }) {
  const rows = await sql(
    `SELECT character_maximum_length AS length FROM information_schema.columns WHERE table_schema = DATABASE()
    AND table_name = 'applications' AND column_name IN ('secret', 'previous_secret') ORDER BY ordinal_position`,
  );
  return rows.map(({ length }) => Number(length));
}

test('an_encrypted_secret_gets_the_room_that_it_needs_or_the_statement_is_named', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  await makesRoomForEncryptedSecrets(t, here, await user(t, here, 'SELECT, INSERT, UPDATE, DELETE'), widthOfSecrets);
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
  const config = here.config(await user(t, here, 'SELECT'));
  assert.deepEqual(await ids(t, config), ['old']);
  await refused(t, ['create', '-c', config, '--id', 'a', '--key', 'k'], /INSERT command denied/);
  await refused(t, ['update', 'old', '-c', config, '--set', 'max_connections=1'], /UPDATE command denied/);
  await refused(t, ['delete', 'old', '-c', config], /DELETE command denied/);
});

test('a_server_that_is_read_only_is_read_and_refuses_writes_in_its_own_words', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const config = here.config(await user(t, here, 'ALL'));
  await here.sql('SET GLOBAL read_only = 1');
  t.after(() => administer('SET GLOBAL read_only = 0'));
  assert.deepEqual(await ids(t, config), ['old']);
  await refused(
    t,
    ['create', '-c', config, '--id', 'a', '--key', 'k'],
    /--read-only.*; an administrator should run: ALTER TABLE[^]*app "a" was not created: .*--read-only/,
  );
});

// --- connecting ---

test('what_is_wrong_with_the_settings_is_said_by_the_setting_and_without_the_password', async (t) => {
  const here = await place(t);
  for (const [mysql, pattern] of [
    [{ password: 'not the password' }, /database\.mysql\.username and \.password: .*Access denied for user 'curlew'/],
    [
      { username: 'nobody', password: 'not the password' },
      /database\.mysql\.username and \.password: .*Access denied for user 'nobody'/,
    ],
    [{ database: 'no_such_database' }, /database\.mysql\.database: .*Unknown database 'no_such_database'/],
    [{ host: 'no-such-host.invalid' }, /database\.mysql\.host no-such-host\.invalid: /],
    [{ port: 1 }, /database\.mysql\.host and \.port: MySQL at 127\.0\.0\.1:1: Can't connect/],
    [{ host: '/no/such/socket' }, /database\.mysql\.host and \.port: .*\/no\/such\/socket/],
  ]) {
    const said = await refused(t, ['list', '-c', here.config(mysql)], pattern);
    assert.doesNotMatch(said, /not the password|a mysql password/);
  }
  const barred = await user(t, here, 'SELECT');
  await refused(
    t,
    ['list', '-c', here.config({ ...barred, database: 'mysql' })],
    /database\.mysql\.database: .*Access denied .* to database 'mysql'/,
  );
});

test('a_server_starts_with_wrong_settings_names_them_and_goes_on_when_they_are_right', async (t) => {
  const here = await place(t);
  const wrong = (name, mysql, says, repair) =>
    t.test(name, (t) =>
      servesWithout(t, {
        config: here.settings(mysql, { lookup_timeout_ms: 5000 }),
        says,
        secret: 'not the password',
        repair: repair && (() => repair(t)),
      }),
    );
  const [port] = await freePorts(1);
  const folder = folderWith(t, { 'ca.pem': 'no certificate' });
  await user(t, here, 'ALL');
  const username = `user_of_${here.name}`;
  await wrong('host', { host: 'no-such-host.invalid' }, /database\.mysql\.host no-such-host\.invalid: /);
  await wrong(
    'port',
    { port },
    new RegExp(`database\\.mysql\\.host and \\.port: MySQL at 127\\.0\\.0\\.1:${port}: Can't connect`),
    (t) => lead(t, port, address),
  );
  await wrong(
    'database',
    { database: 'made_later' },
    /database\.mysql\.database: .*Unknown database 'made_later'/,
    async (t) => {
      await MariaDb.createPlace(address, 'made_later');
      t.after(() => MariaDb.dropPlace(address, 'made_later'));
    },
  );
  await wrong(
    'password',
    { username, password: 'not the password' },
    /database\.mysql\.username and \.password: .*Access denied for user/,
    () => here.sql(`ALTER USER '${username}'@'%' IDENTIFIED BY 'not the password'`),
  );
  await wrong(
    'TLS file',
    { tls: { mode: 'verify', ca_path: path.join(folder, 'ca.pem') } },
    /database\.mysql\.tls\.ca_path \S+ca\.pem/,
    () => copyFileSync(address.ca, path.join(folder, 'ca.pem')),
  );
  await neverStarts({ config: here.settings({ table_name: 'apps; --' }), says: /database\.mysql\.table_name/ });
});

test('localhost_is_the_port_and_a_path_the_socket', async (t) => {
  const here = await place(t);
  await appsDone(t, ['create', '-c', here.config({ host: 'localhost' }), '--id', 'a']);
  assert.deepEqual(await ids(t, here.config({ host: backend.file('socket'), port: 1 })), ['a']);
});

test('too_many_connections_is_said', async (t) => {
  const here = await place(t);
  const { username, password } = await user(t, here, 'ALL', 'WITH MAX_USER_CONNECTIONS 1');
  const other = await MariaDb.client({ ...address, user: username, password }, here.name);
  t.after(() => other.end());
  await refused(t, ['list', '-c', here.config({ username, password })], /max_user_connections/);
});

// --- TLS ---

test('an_encrypted_connection_is_made_where_it_is_asked_for_or_offered', async (t) => {
  const here = await place(t);
  const who = await user(t, here, 'ALL', 'REQUIRE SSL');
  await migrate(t, here.config());
  const ca_path = address.ca;
  for (const tls of [
    undefined,
    { mode: 'prefer' },
    { mode: 'require' },
    { mode: 'verify', ca_path },
    { mode: 'prefer', ca_path: '/etc/ssl/certs/ca-certificates.crt' },
  ]) {
    assert.deepEqual(await ids(t, here.config({ ...who, ...(tls && { tls }) })), []);
  }
  for (const host of ['localhost', '127.0.0.1']) {
    assert.deepEqual(await ids(t, here.config({ ...who, host, tls: { mode: 'verify', ca_path } })), []);
  }
  await refused(t, ['list', '-c', here.config({ ...who, tls: { mode: 'disable' } })], /Access denied/);
});

test('verify_wants_a_certificate_by_the_named_authority', async (t) => {
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
    await refused(t, ['list', '-c', here.config({ tls })], /database\.mysql\.tls: .*certificate/i);
  }
});

test('verify_wants_a_certificate_for_the_host_and_the_systems_authorities_count_when_none_is_named', async (t) => {
  const here = await place(t);
  const files = ['server.pem', 'server-key.pem'].map((name) => backend.file(name));
  for (const file of files) copyFileSync(file, `${file}.kept`);
  t.after(async () => {
    for (const file of files) writeFileSync(file, readFileSync(`${file}.kept`));
    await administer('FLUSH SSL');
  });
  const system = { SSL_CERT_FILE: address.ca };
  await migrate(t, here.config());
  const list = (host, env) => apps(t, ['list', '-c', here.config({ host, tls: { mode: 'verify' } })], { env });
  assert.equal((await list('127.0.0.1', system)).code, 0);
  writeFileSync(backend.file('other.ext'), 'subjectAltName=DNS:other.example\n');
  execFileSync(
    'openssl',
    ['req', '-new', '-key', files[1], '-subj', '/CN=other.example', '-out', backend.file('other.csr')],
    { stdio: 'ignore' },
  );
  const certificate = execFileSync(
    'openssl',
    [
      'x509',
      '-req',
      '-in',
      backend.file('other.csr'),
      '-CA',
      address.ca,
      '-CAkey',
      backend.file('ca-key.pem'),
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      backend.file('other.ext'),
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  writeFileSync(files[0], certificate);
  await here.sql('FLUSH SSL');
  for (const host of ['localhost', '127.0.0.1']) {
    const { code, stderr } = await list(host, system);
    assert.equal(code, 1, `${host} was accepted`);
    assert.match(stderr, /database\.mysql\.tls: /);
    await refused(
      t,
      ['list', '-c', here.config({ host, tls: { mode: 'verify', ca_path: address.ca } })],
      /database\.mysql\.tls: /,
    );
    await appsDone(t, ['list', '-c', here.config({ host, tls: { mode: 'require' } })]);
  }
});

test('a_tls_file_that_cannot_be_used_is_named', async (t) => {
  const here = await place(t);
  const folder = folderWith(t, { 'empty.pem': '', 'text.pem': 'no certificate' });
  for (const [tls, setting] of [
    [{ mode: 'verify', ca_path: '/no/such/ca.pem' }, 'ca_path /no/such/ca.pem'],
    [{ mode: 'verify', ca_path: path.join(folder, 'text.pem') }, `ca_path ${folder}/text.pem`],
    [{ mode: 'require', cert_path: path.join(folder, 'empty.pem') }, `cert_path ${folder}/empty.pem`],
    [
      { mode: 'require', cert_path: backend.file('server.pem'), key_path: path.join(folder, 'text.pem') },
      `key_path ${folder}/text.pem`,
    ],
  ]) {
    const said = await refused(t, ['list', '-c', here.config({ tls })], /database\.mysql\.tls/);
    assert.ok(said.includes(`database.mysql.tls.${setting}`), said);
  }
});

test('a_server_without_tls_is_taken_by_prefer_and_by_nothing_stricter', async (t) => {
  const plain = await backendFor(t, 'mariadb');
  await plain.createPlace('plain');
  const config = (tls) => {
    const settings = plain.config('plain');
    return path.join(
      folderWith(t, { 'config.json': { ...settings, database: { mysql: { ...settings.database.mysql, tls } } } }),
      'config.json',
    );
  };
  await migrate(t, config({ mode: 'disable' }));
  for (const mode of ['prefer', 'disable']) assert.deepEqual(await ids(t, config({ mode })), []);
  await refused(t, ['list', '-c', config({ mode: 'require' })], /database\.mysql\.tls.*TLS|SSL/);
  await refused(t, ['list', '-c', config({ mode: 'verify', ca_path: address.ca })], /database\.mysql\.tls.*TLS|SSL/);
});

// MySQL's own way to sign in is in no Debian package, so a few lines stand in for a server without TLS that asks for
// it: its greeting, and the request for the password itself, which may be answered by asking for a key to encrypt it
// with (2). Returns what it was sent.
async function signInBySha2(t, here, mode) {
  const packet = (number, ...parts) => {
    const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
    return Buffer.concat([Buffer.from([body.length & 255, body.length >> 8, 0, number]), body]);
  };
  // Protocol 4.1, a database, transactions, secure connections, plugins; no TLS.
  const greeting = packet(
    0,
    [10],
    '8.4.0\0',
    [1, 0, 0, 0],
    '12345678',
    [0, 0x0b, 0xa2, 45, 2, 0, 0x28, 0, 21],
    Buffer.alloc(10),
    '123456789012\0',
    'caching_sha2_password\0',
  );
  const sent = [];
  const server = net.createServer((client) => {
    client.on('error', () => {});
    client.write(greeting);
    client.on('data', (bytes) => {
      sent.push(bytes);
      if (sent.length === 1) client.write(packet(bytes[3] + 1, [1, 4]));
      else client.destroy();
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  await refused(
    t,
    ['list', '-c', here.config({ port: server.address().port, tls: { mode } })],
    mode === 'require' ? /tls\.mode: .*offers no TLS/ : /127/,
  );
  return sent;
}

test('without_tls_a_password_leaves_encrypted_for_this_machine_or_not_at_all', async (t) => {
  const here = await place(t);
  for (const mode of ['prefer', 'disable']) {
    const sent = await signInBySha2(t, here, mode);
    assert.equal(sent.length, 2);
    assert.deepEqual([...sent[1].subarray(4)], [2], mode);
  }
  assert.deepEqual(await signInBySha2(t, here, 'require'), []);
});

// A server without TLS that asks for the password by this plugin. Returns what it was sent after the first packet.
async function signInByPlugin(t, here, host, plugin, pattern, greeting = {}) {
  const { protocol = 10, version = '8.4.0', offer = 'mysql_native_password' } = greeting;
  const question = plugin === 'mysql_native_password' ? '12345678901234567890\0' : '\x04Password: \0';
  const packet = (number, ...parts) => {
    const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
    return Buffer.concat([Buffer.from([body.length & 255, body.length >> 8, 0, number]), body]);
  };
  const sent = [];
  const server = net.createServer((client) => {
    client.on('error', () => {});
    client.write(
      packet(
        0,
        [protocol],
        `${version}\0`,
        [1, 0, 0, 0],
        '12345678',
        [0, 0x0b, 0xa2, 45, 2, 0, 0x28, 0, 21],
        Buffer.alloc(10),
        '123456789012\0',
        `${offer}\0`,
      ),
    );
    client.on('data', (bytes) => {
      sent.push(bytes);
      if (sent.length === 1) client.write(packet(bytes[3] + 1, [0xfe], `${plugin}\0`, question));
      else client.destroy();
    });
  });
  await once(server.listen(0, host), 'listening');
  t.after(() => server.close());
  for (const mode of ['prefer', 'disable']) {
    sent.length = 0;
    const { port } = server.address();
    await refused(t, ['list', '-c', here.config({ host, port, password: 'TOPSECRET', tls: { mode } })], pattern);
  }
  return Buffer.concat(sent.slice(1)).toString('latin1');
}

test('no_password_leaves_readable_for_another_machine', async (t) => {
  const here = await place(t);
  const pattern =
    /database\.mysql\.tls\.mode: .* asks for the password in clear text, .*not encrypted: set tls\.mode to `require`/;
  // The two with "sha" would encrypt it with a key that the server itself sends.
  for (const plugin of ['mysql_clear_password', 'dialog', 'caching_sha2_password', 'sha256_password'])
    for (const offer of ['mysql_native_password', 'caching_sha2_password'])
      assert.equal(await signInByPlugin(t, here, addressOutside(), plugin, pattern, { offer }), '', plugin);
  for (const greeting of [{ protocol: 11 }, { version: '8'.repeat(600) }])
    assert.equal(await signInByPlugin(t, here, addressOutside(), 'mysql_clear_password', pattern, greeting), '');
  const sent = await signInByPlugin(t, here, '127.0.0.1', 'mysql_clear_password', /MySQL/);
  assert.ok(sent.includes('TOPSECRET\0'), sent);
});

test('another_machine_gets_a_digest_of_the_password_whatever_it_offers_first', async (t) => {
  const here = await place(t);
  for (const offer of ['mysql_native_password', 'caching_sha2_password']) {
    const sent = await signInByPlugin(t, here, addressOutside(), 'mysql_native_password', /MySQL/, { offer });
    assert.equal(sent.length, 4 + 20, offer);
  }
});

test('another_machine_is_signed_in_to_with_and_without_tls', async (t) => {
  const here = await place(t);
  const host = addressOutside();
  const port = await lead(t, 0, address, undefined, host);
  await migrate(t, here.config());
  for (const mode of ['disable', 'prefer', 'require'])
    assert.deepEqual(await ids(t, here.config({ host, port, tls: { mode } })), []);
});

// --- servers that break ---

test('a_server_that_takes_a_statement_for_another_is_not_believed', async (t) => {
  const here = await place(t);
  await migrate(t, here.config());
  const packet = (number, ...body) => Buffer.from([body.length, 0, 0, number & 255, ...body]);
  // As MariaDB describes one, with what it knows of the type beyond the protocol's: nothing.
  const column = ['def', '', '', '', 'c', 'c', ''].flatMap((text) => [text.length, ...Buffer.from(text)]);
  for (const [columns, parameters] of [
    [0, 1000],
    [1000, 1],
  ]) {
    const port = await impostor(t, address, 'SELECT `id`', (client) => {
      const count = (number) => [number & 255, number >> 8];
      let number = 0;
      const end = () => packet(++number, 0xfe, 0, 0, 2, 0);
      const says = [packet(++number, 0, 1, 0, 0, 0, ...count(columns), ...count(parameters), 0, 0, 0)];
      for (const many of [parameters, columns]) {
        for (let i = 0; i < many; i++)
          says.push(packet(++number, ...column, 12, 45, 0, 255, 0, 0, 0, 253, 0, 0, 0, 0, 0));
        if (many) says.push(end());
      }
      client.write(Buffer.concat(says));
    });
    const config = here.config({ port, tls: { mode: 'disable' } }, { lookup_timeout_ms: 3000 });
    await refused(t, ['show', 'x', '-c', config], /the answer is to another statement/);
  }
});

const APP = { id: 'live', key: 'live-key', secret: 'live-secret' };

async function liveServer(t, here, ...changes) {
  await appsDone(t, ['create', '-c', here.config(), '--id', APP.id, '--key', APP.key, '--secret', APP.secret]);
  return bareServer(t, here, ...changes);
}

// Asks the API until it answers with this status.
async function until(server, status) {
  for (;;) {
    const response = await api(server, 'GET', '/channels', { app: APP });
    if (response.status === status) return response;
  }
}

test('an_app_made_in_the_database_is_found_by_a_running_server', async (t) => {
  const here = await place(t);
  const server = await liveServer(t, here);
  await connect(server, { t, app: APP });
  assert.equal((await api(server, 'GET', '/channels', { app: APP })).status, 200);
});

test('killed_connections_are_replaced', async (t) => {
  const here = await place(t);
  const who = await user(t, here, 'ALL');
  const server = await liveServer(t, here, who);
  await until(server, 200);
  for (let round = 0; round < 3; round++) {
    const threads = await here.sql('SELECT id FROM information_schema.processlist WHERE user = ?', [who.username]);
    assert.notEqual(threads.length, 0);
    for (const { id } of threads) await here.sql(`KILL ${id}`).catch(() => {}); // one may have gone by itself
    await until(server, 200);
  }
});

test('an_answer_larger_than_any_apps_is_not_taken_and_the_other_apps_are', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW, 'ALTER TABLE applications ADD COLUMN webhooks LONGTEXT');
  for (let i = 0; i < 10; i++) {
    await here.sql(
      "INSERT INTO applications (id, `key`, secret, max_connections, max_client_events_per_second, webhooks) VALUES (?, ?, 's', 0, 0, REPEAT('x', 10000000))",
      [`huge-${i}`, `huge-key-${i}`],
    );
  }
  await refused(t, ['list', '-c', here.config()], /an answer of more than 64 MB/);
  assert.equal((await show(t, 'old', here.config())).key, 'old-key');
});

test('a_database_that_does_not_answer_holds_nobody_longer_than_the_timeout', async (t) => {
  t.after(() => backend.thaw());
  const here = await place(t);
  const server = await liveServer(t, here, {}, { lookup_timeout_ms: 500 });
  await until(server, 200);
  backend.freeze();
  for (const host of ['127.0.0.1', backend.file('socket')]) {
    await refused(t, ['show', 'live', '-c', here.config({ host }, { lookup_timeout_ms: 300 })], /no answer in time/);
  }
  // A name resolves and the kernel accepts, but nobody says anything.
  await until(server, 503); // its connections are open already
  backend.thaw();
  await until(server, 200);
});

test('a_server_that_falls_silent_while_signing_in_holds_nobody', async (t) => {
  const here = await place(t);
  // Hands on what the server says up to its greeting, or up to its part of the TLS handshake, and then nothing.
  for (const answers of [1, 2, 3]) {
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
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      silent.close();
    });
    const config = here.config({ port: silent.address().port }, { lookup_timeout_ms: 500 });
    await refused(t, ['list', '-c', config], /no answer in time/);
  }
});

test('a_change_that_has_to_wait_for_a_lock_does_not_stay_behind_in_the_server', async (t) => {
  const here = await place(t, OLD_TABLE, OLD_ROW);
  const who = await user(t, here, 'ALL');
  await here.sql('BEGIN');
  await here.sql('SELECT * FROM applications'); // nobody may change the table before this transaction ends
  const { code } = await migrate(t, here.config(who, { lookup_timeout_ms: 500 }));
  assert.equal(code, 1);
  const waiting = async () =>
    (await here.sql('SELECT id FROM information_schema.processlist WHERE user = ?', [who.username])).length;
  while ((await waiting()) !== 0);
  await here.sql('COMMIT');
  assert.deepEqual(await ids(t, here.config(who)), ['old']);
});
