// Cassandra: tables as others left them and users who may little on one node, and a cluster that grows, shrinks and
// spans data centres.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { EVERY_FIELD, apps, appsDone, migrate, refused, show } from '../lib/apps-command.js';
import { freePorts } from '../lib/backends/daemon.js';
import { backendFor } from '../lib/backends/index.js';
import { Cassandra } from '../lib/backends/cassandra.js';
import { makeCertificates } from '../lib/backends/certificates.js';
import { connect } from '../lib/client.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { lead } from '../lib/middle.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';
import { neverStarts, servesWithout } from '../lib/wrong-settings.js';

const APP = { id: 'one', key: 'one-key', secret: 's' };

function fileFor(t, config) {
  return path.join(folderWith(t, { 'config.json': config }), 'config.json');
}

// The fields as `apps` takes them.
function sets(fields) {
  return Object.entries(fields).flatMap(([name, value]) => [
    '--set',
    `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
  ]);
}

// What a connect is told first.
async function answer(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const first = await ws.next(() => true);
  ws.destroy();
  return first;
}

// The code of the error, or undefined.
async function refusal(server, key) {
  return (await answer(server, key)).data.code;
}

// A server with its admin API: {server, admin(method, where, body, the status that is due)}, which resolves to the
// answer's text.
async function administered(t, config, cache = {}) {
  config.app_manager.cache = cache;
  const token = 'a token of at least thirty-two characters';
  const server = await serverFor(t, {
    apps: [],
    config,
    env: { CURLEW_ADMIN_TOKEN: token, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  const base = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
  const admin = async (method, where, body, status) => {
    const answer = await fetch(base + where, {
      method,
      headers: { authorization: `Bearer ${token}` },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    if (status) assert.equal(answer.status, status, text);
    return text;
  };
  return { server, admin };
}

async function until(what, act) {
  const end = performance.now() + LONG_TIMEOUT_MS;
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
  let client;
  let places = 0;
  before(async () => {
    backend = await backendFor({ after: (end) => ends.push(end) }, 'cassandra', { rights: true, mostMib: 16 });
    client = await backend.client();
  });
  after(async () => {
    await client?.shutdown();
    for (const end of ends) await end();
  });

  const sql = async (...statement) => (await client.execute(...statement)).rows;

  // A keyspace of its own for a test: {name, config(members of the section)}.
  async function place(t, ...statements) {
    const name = `place${++places}`;
    if (statements.length > 0) {
      await sql(`CREATE KEYSPACE ${name} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`);
    }
    for (const statement of statements)
      await sql(
        statement
          .replace('TABLE apps', `TABLE ${name}.applications`)
          .replace(/(INTO|ON) apps/, `$1 ${name}.applications`),
      );
    const settings = (section = {}) => {
      const config = backend.config(name);
      Object.assign(config.app_manager.scylladb, section);
      return config;
    };
    return { name, settings, config: (section) => fileFor(t, settings(section)) };
  }

  test('works with the replication factor of 3 that is the default, and says what that means', async (t) => {
    const config = backend.config('Alone'); // names are read as unquoted ones are
    delete config.app_manager.scylladb.replication_factor;
    const file = fileFor(t, config);
    const { code, stderr } = await apps(t, ['create', '-c', file, '--id', 'one', '--key', 'one-key', '--secret', 's']);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /keyspace alone needs 3 replicas, and 1 node is known: reading and writing at LOCAL_ONE/);
    assert.equal((await appsDone(t, ['show', 'one', '-c', file, '--json'])).key, 'one-key');
    await refused(
      t,
      ['create', '-c', file, '--id', 'one', '--key', 'other', '--secret', 's'],
      /already an app with the id one/,
    );
  });

  test('a table of an older server gets its columns, and keeps those that nobody here knows', async (t) => {
    const here = await place(
      t,
      'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, max_connections int, max_client_events_per_second int, ' +
        'enable_client_messages boolean, enabled boolean, plan text)',
      "INSERT INTO apps (id, key, secret, max_connections, enabled, plan) VALUES ('old', 'old-key', 's', -1, true, 'gold')",
      "INSERT INTO apps (id, key, max_connections) VALUES ('broken', 'broken-key', 1)",
    );
    const file = here.config();
    assert.equal((await show(t, 'old', file)).max_connections, 4294967295);
    await appsDone(t, [
      'update',
      'old',
      '-c',
      file,
      '--set',
      'allowed_origins=["a.example"]',
      '--set',
      'max_event_batch_size=4294967295',
    ]);
    const [row] = await sql(`SELECT * FROM ${here.name}.applications WHERE id = 'old'`);
    assert.equal(row.plan, 'gold');
    assert.equal(row.allowed_origins, '["a.example"]');
    assert.equal(row.max_event_batch_size, -1);
    const list = await apps(t, ['list', '-c', file, '--json']);
    assert.match(list.stderr, /broken.*secret/);
  });

  test('a value is written as the type of its column has it, and comes back', async (t) => {
    const { id, ...rest } = EVERY_FIELD;
    const tables = [
      'id ascii PRIMARY KEY, key ascii, secret blob, enabled int, enable_client_messages text, max_connections varint, ' +
        'max_client_events_per_second bigint, max_read_requests_per_second smallint, max_backend_events_per_second tinyint, ' +
        'max_presence_members_per_channel float, max_presence_member_size_in_kb double, max_channel_name_length text, ' +
        'max_event_batch_size varint, allowed_origins list<text>, webhooks blob',
      'id blob PRIMARY KEY, key text, secret text, max_connections double, max_event_batch_size bigint, allowed_origins set<ascii>, webhooks ascii',
      'id text PRIMARY KEY, key text, secret text, max_connections text, max_event_batch_size varint, allowed_origins frozen<list<text>>',
    ];
    for (const columns of tables) {
      const here = await place(t, `CREATE TABLE apps (${columns})`);
      const file = here.config();
      const app = { ...EVERY_FIELD, allowed_origins: [...EVERY_FIELD.allowed_origins].sort() }; // a set's order
      await appsDone(t, ['create', '-c', file, '--id', id, '--key', 'first-key', '--secret', 's']);
      await appsDone(t, ['update', id, '-c', file, ...sets({ ...rest, allowed_origins: app.allowed_origins })]);
      assert.deepEqual(await show(t, id, file), app);
      // As the database itself reads them.
      const [row] = await sql(`SELECT * FROM ${here.name}.applications`);
      assert.equal(Number(row.max_connections), 4294967295);
      assert.equal(Number(row.max_event_batch_size), 2147483648);
      assert.deepEqual(row.allowed_origins, app.allowed_origins);
      await appsDone(t, ['update', id, '-c', file, '--unset', 'allowed_origins']);
      assert.equal((await sql(`SELECT allowed_origins FROM ${here.name}.applications`))[0].allowed_origins, null);
    }
  });

  test('a value that its column cannot hold is refused by the name of both, and nothing is written', async (t) => {
    const here = await place(
      t,
      'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, max_connections smallint, max_client_events_per_second float, ' +
        'max_event_batch_size date, webhooks list<text>, allowed_origins map<text, text>)',
    );
    const file = here.config();
    await appsDone(t, [
      'create',
      '-c',
      file,
      '--id',
      'one',
      '--key',
      'one-key',
      '--secret',
      's',
      '--set',
      'max_connections=32767',
      '--set',
      'max_client_events_per_second=16777216',
    ]);
    const cases = {
      'max_connections=32768': /max_connections .*smallint.*32768/,
      'max_client_events_per_second=16777217': /max_client_events_per_second .*float.*16777217/,
      'max_event_batch_size=5': /max_event_batch_size .*date/,
      'webhooks=[{"url":"https://a.example","event_types":["member_added"]}]': /webhooks .*list<text>/,
      'allowed_origins=["a.example"]': /allowed_origins .*map<text, text>/,
    };
    for (const [change, pattern] of Object.entries(cases)) {
      await refused(t, ['update', 'one', '-c', file, '--set', change, '--set', 'key=other-key'], pattern);
    }
    const { key, max_connections, max_client_events_per_second } = await show(t, 'one', file);
    assert.deepEqual([key, max_connections, max_client_events_per_second], ['one-key', 32767, 16777216]);
    const bad = await place(t, 'CREATE TABLE apps (id text PRIMARY KEY, key int, secret text)');
    await refused(
      t,
      ['list', '-c', bad.config()],
      /the column key of \w+\.applications has the type int, which holds no text/,
    );
  });

  test('an index on another column is not taken for the one on the key', async (t) => {
    const here = await place(
      t,
      'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, api_key text)',
      'CREATE INDEX by_api_key ON apps (api_key)',
      "INSERT INTO apps (id, key, secret) VALUES ('one', 'one-key', 's')",
    );
    const server = await serverFor(t, { apps: [], config: here.settings() });
    (await connect(server, { app: { key: 'one-key' } })).destroy();
    const targets = (await sql('SELECT options FROM system_schema.indexes WHERE keyspace_name = ?', [here.name])).map(
      ({ options }) => options.target,
    );
    assert.deepEqual(targets.sort(), ['api_key', 'key']);
  });

  test('a table that changes under a running server is looked at again', async (t) => {
    const here = await place(t);
    const config = here.settings();
    config.app_manager.cache = { enabled: false };
    const server = await serverFor(t, { apps: [APP], config });
    const works = async () => (await connect(server, { app: APP })).destroy();
    await works();
    await sql(`ALTER TABLE ${here.name}.applications DROP max_event_batch_size`);
    for (let i = 0; i < 4; i++) await works(); // by every connection of the pool
    await sql(`DROP INDEX ${here.name}.applications_key_idx`);
    for (let i = 0; i < 4; i++) await works();
    await sql(`ALTER TABLE ${here.name}.applications ADD max_event_batch_size int`);
    await works();
    assert.equal(await refusal(server, 'unknown'), 4001);
  });

  test('a statement that the node has forgotten is prepared again, on the same connection', async (t) => {
    const here = await place(t);
    const { admin } = await administered(t, here.settings());
    await admin('POST', '', APP, 201);
    const write = async () => {
      for (let i = 0; i < 4; i++) await admin('PATCH', '/one', { max_connections: i }, 200); // by every connection
      // As the node sees them; the driver of the tests gives a name.
      return (await sql('SELECT port, driver_name FROM system_views.clients'))
        .filter((row) => !row.driver_name)
        .map((row) => row.port);
    };
    const ports = await write();
    assert.ok(ports.length > 0);
    // the node forgets what was prepared for the table
    await sql(`ALTER TABLE ${here.name}.applications ADD plan text`);
    const after = await write();
    assert.deepEqual(
      ports.filter((port) => !after.includes(port)),
      [],
    );
  });

  test('apps of 60 KB each are listed, however many', async (t) => {
    const here = await place(t, 'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, webhooks text)');
    const hook = { url: 'https://a.example', event_types: ['member_added'], headers: { 'X-Long': 'x'.repeat(1000) } };
    const webhooks = JSON.stringify(Array(55).fill(hook));
    const insert = (i) =>
      client.execute(
        `INSERT INTO ${here.name}.applications (id, key, secret, webhooks) VALUES (?, ?, 's', ?)`,
        [`id-${i}`, `key-${i}`, webhooks],
        { prepare: true },
      );
    for (let i = 0; i < 300; i += 20) await Promise.all(Array.from({ length: 20 }, (_, k) => insert(i + k)));
    const { admin } = await administered(t, here.settings());
    assert.equal(JSON.parse(await admin('GET', '?limit=1000', undefined, 200)).apps.length, 300);
  });

  test('what there is no column for is refused, until there is one', async (t) => {
    const here = await place(t);
    const { admin } = await administered(t, here.settings());
    const { admin: other } = await administered(t, here.settings());
    await admin('POST', '', APP, 201);
    await sql(`ALTER TABLE ${here.name}.applications DROP allowed_origins`);
    const allowed_origins = ['a.example'];
    for (let i = 0; i < 4; i++)
      assert.match(
        await admin('PATCH', '/one', { allowed_origins, key: 'other-key' }, 507),
        /the table has no column allowed_origins/,
      );
    assert.equal((await sql(`SELECT key FROM ${here.name}.applications`))[0].key, APP.key);
    await sql(`ALTER TABLE ${here.name}.applications ADD allowed_origins text`);
    for (const ask of [admin, other]) await ask('PATCH', '/one', { allowed_origins }, 200);
    assert.equal(
      (await sql(`SELECT allowed_origins FROM ${here.name}.applications`))[0].allowed_origins,
      '["a.example"]',
    );
  });

  test('a table that goes away is "come back", never "not found", and is used when there is one again', async (t) => {
    const here = await place(t);
    const config = here.settings();
    config.app_manager.cache = { enabled: false };
    const server = await serverFor(t, { apps: [APP], config });
    (await connect(server, { app: APP })).destroy();
    await sql(`DROP TABLE ${here.name}.applications`);
    for (let i = 0; i < 4; i++) assert.equal(await refusal(server, APP.key), 4100);
    await appsDone(t, ['create', '-c', here.config(), '--id', 'one', '--key', APP.key, '--secret', 's']);
    await until('pusher:connection_established', async () => (await answer(server, APP.key)).event);
  });

  test('of two apps with one key the one made first answers, and the log names both', async (t) => {
    const here = await place(
      t,
      'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, enabled boolean, created_at timestamp)',
      "INSERT INTO apps (id, key, secret, enabled, created_at) VALUES ('a', 'twice', 's', false, 2000)",
      "INSERT INTO apps (id, key, secret, enabled, created_at) VALUES ('b', 'twice', 's', true, 1000)",
      "INSERT INTO apps (id, key, secret, enabled) VALUES ('c', 'undated', 's', false)",
      "INSERT INTO apps (id, key, secret, enabled, created_at) VALUES ('d', 'undated', 's', true, 3000)",
    );
    const server = await serverFor(t, { apps: [], config: here.settings() });
    for (const [key, pattern] of [
      ['twice', /apps b and a have the same key/],
      ['undated', /apps d and c have the same key/],
    ]) {
      (await connect(server, { app: { key } })).destroy();
      await server.waitForLog(pattern);
    }
  });

  test('servers that start at once make one table, and add its columns once', async (t) => {
    for (const statements of [[], ['CREATE TABLE apps (id text PRIMARY KEY, key text, secret text)']]) {
      const here = await place(t, ...statements);
      const file = here.config();
      const all = await Promise.all(
        Array.from({ length: 4 }, (_, i) =>
          apps(t, ['create', '-c', file, '--id', `app-${i}`, '--key', `key-${i}`, '--secret', 's']),
        ),
      );
      for (const { code, stderr } of all) assert.deepEqual([code, stderr], [0, '']);
      assert.equal((await appsDone(t, ['list', '-c', file, '--json'])).apps.length, 4);
      const names = await sql(
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = 'applications'",
        [here.name],
      );
      for (const field of Object.keys(EVERY_FIELD))
        assert.ok(
          names.some((row) => row.column_name === field),
          field,
        );
      assert.equal((await sql('SELECT * FROM system_schema.indexes WHERE keyspace_name = ?', [here.name])).length, 1);
    }
  });

  test('a user who may only read and write goes on without what is missing, and the log has the statements', async (t) => {
    const here = await place(
      t,
      'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text, enabled boolean)',
      "INSERT INTO apps (id, key, secret, enabled) VALUES ('one', 'one-key', 's', true)",
    );
    await sql(`CREATE ROLE modest WITH PASSWORD = 'pw' AND LOGIN = true`);
    await sql(`GRANT SELECT ON ${here.name}.applications TO modest`);
    await sql(`GRANT MODIFY ON ${here.name}.applications TO modest`);
    const modest = { username: 'modest', password: 'pw' };
    assert.deepEqual(
      (await appsDone(t, ['list', '-c', here.config(modest), '--json'])).apps.map((app) => app.id),
      ['one'],
    );
    const { code, stderr } = await apps(t, ['update', 'one', '-c', here.config(modest), '--set', 'key=new-key']);
    assert.equal(code, 0, stderr);
    assert.equal((await sql(`SELECT key FROM ${here.name}.applications`))[0].key, 'new-key');
    assert.match(
      stderr,
      /modest.*an administrator should run: ALTER TABLE "place\d+"\."applications" ADD \(.*"allowed_origins" text/,
    );
    assert.match(
      stderr,
      /modest.*an administrator should run: CREATE INDEX IF NOT EXISTS ON "place\d+"\."applications" \("key"\)/,
    );
    const server = await serverFor(t, { apps: [], config: here.settings(modest) });
    (await connect(server, { app: { key: 'new-key' } })).destroy();
    // What the log says is what is missing.
    for (const [, statement] of stderr.matchAll(/an administrator should run: (.*)$/gm)) await sql(statement);
    const quiet = await apps(t, ['update', 'one', '-c', here.config(modest), '--set', 'enabled=true']);
    assert.deepEqual([quiet.code, quiet.stderr], [0, '']);
    await sql(`REVOKE MODIFY ON ${here.name}.applications FROM modest`);
    await refused(t, ['update', 'one', '-c', here.config(modest), '--set', 'key=third-key'], /modest.*MODIFY/);
    const nothing = await place(t);
    await refused(
      t,
      ['create', '-c', nothing.config(modest), '--id', 'one', '--key', 'one-key', '--secret', 's'],
      /an administrator should run: CREATE KEYSPACE.*there is no table place\d+\.applications/s,
    );
  });

  test('a wrong password and a name that is none are told by their settings', async (t) => {
    const here = await place(t);
    const said = await refused(
      t,
      ['list', '-c', here.config({ password: 'not-the-password' })],
      /app_manager\.scylladb\.username and \.password/,
    );
    assert.doesNotMatch(said, /not-the-password/);
    const unsaid = here.settings();
    delete unsaid.app_manager.scylladb.username;
    await refused(t, ['list', '-c', fileFor(t, unsaid)], /requires a password: set app_manager\.scylladb\.username/);
    const named = await apps(t, ['list', '-c', here.config({ keyspace: 'no-name' })]);
    assert.equal(named.code, 2);
    assert.match(named.stderr, /scylladb\.keyspace/);
  });

  test('a server starts with wrong settings, names them, and goes on when they are right', async (t) => {
    const here = await place(t, 'CREATE TABLE apps (id text PRIMARY KEY, key text, secret text)');
    const wrong = (name, section, says, repair) =>
      t.test(name, (t) =>
        servesWithout(t, {
          config: here.settings(section),
          says,
          secret: 'not-the-password',
          repair: repair && (() => repair(t)),
        }),
      );
    const [port] = await freePorts(1);
    const folder = folderWith(t);
    await sql("CREATE ROLE late WITH LOGIN = true AND PASSWORD = 'pw'");
    await sql(`GRANT ALL ON KEYSPACE ${here.name} TO late`);
    await sql("CREATE ROLE narrow WITH LOGIN = true AND PASSWORD = 'pw'");
    await wrong(
      'node',
      { nodes: ['no-such-host.invalid:9042'] },
      /app_manager\.scylladb\.nodes.*no-such-host\.invalid/,
    );
    await wrong(
      'port',
      { nodes: [`127.0.0.1:${port}`] },
      new RegExp(`app_manager\\.scylladb\\.nodes.*127\\.0\\.0\\.1:${port}: .*refused`),
      (t) => lead(t, port, backend.address),
    );
    await wrong(
      'password',
      { username: 'late', password: 'not-the-password' },
      /app_manager\.scylladb\.username and \.password/,
      () => sql("ALTER ROLE late WITH PASSWORD = 'not-the-password'"),
    );
    await wrong(
      'keyspace',
      { username: 'narrow', password: 'pw', keyspace: 'made_later' },
      /app_manager\.scylladb\.keyspace/,
      async (t) => {
        await sql("CREATE KEYSPACE made_later WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
        t.after(() => sql('DROP KEYSPACE made_later'));
        await sql('GRANT ALL ON KEYSPACE made_later TO narrow');
      },
    );
    await wrong(
      'TLS file',
      { tls: { mode: 'prefer', ca_path: path.join(folder, 'ca.pem') } },
      /app_manager\.scylladb\.tls\.ca_path \S+ca\.pem: No such file/,
      () => makeCertificates(folder),
    );
    for (const name of ['keyspace', 'table_name'])
      await neverStarts({ config: here.settings({ [name]: 'no-name' }), says: new RegExp(`scylladb\\.${name}`) });
  });

  test('a user who may not write, and a disk that is full from then on, are said by a create, which changes nothing', async (t) => {
    const here = await place(t);
    const plainly = { replication_factor: 3 };
    await migrate(t, here.config(plainly));
    await sql(`CREATE ROLE writer WITH PASSWORD = 'pw' AND LOGIN = true`);
    await sql(`GRANT SELECT ON ${here.name}.applications TO writer`);
    const { server, admin } = await administered(t, here.settings({ ...plainly, username: 'writer', password: 'pw' }), {
      negative_ttl: 0,
    });
    assert.match(await admin('POST', '', APP, 507), /User writer has no MODIFY permission/);
    assert.equal(await refusal(server, APP.key), 4001);
    await sql(`GRANT MODIFY ON ${here.name}.applications TO writer`);
    const filler = `${here.name}.filler`;
    await sql(`CREATE TABLE ${filler} (id int PRIMARY KEY, rest blob)`);
    for (let id = 0; id < 64; id++)
      await sql(`INSERT INTO ${filler} (id, rest) VALUES (?, ?)`, [id, randomBytes(1 << 20)], { prepare: true });
    await until('full', async () =>
      /disk usage exceeds/.test(await admin('POST', '', APP)) ? 'full' : admin('DELETE', '/one'),
    );
    assert.match(await admin('POST', '', APP, 507), /disk usage exceeds/);
    assert.equal(await refusal(server, APP.key), 4001);
  });
});

// Three nodes "here", of which the configuration names the first, and one "there".
test(
  'a cluster that grows gets its quorum; of three nodes one may be killed; with two the store is unavailable, and an app never "not found"',
  { timeout: 2 * LONG_TIMEOUT_MS },
  async (t) => {
    const cluster = await backendFor(t, 'cassandra', {
      nodes: 4,
      centres: ['here', 'here', 'here', 'there'],
      first: 0,
    });
    await cluster.start(3);
    const asFirst = async (act) => {
      const client = await Cassandra.client({ ...cluster.address, hosts: ['127.0.0.1'] });
      await act(client).finally(() => client.shutdown());
    };
    const keyspace =
      "CREATE KEYSPACE quorum WITH replication = {'class': 'NetworkTopologyStrategy', 'here': 3, 'there': 9}";
    await asFirst((client) =>
      until(true, () =>
        client.execute(keyspace).then(
          () => true,
          (error) => error.message,
        ),
      ),
    ); // as soon as "there" is known

    const config = cluster.config('quorum');
    config.app_manager.scylladb.nodes = config.app_manager.scylladb.nodes.slice(0, 1);
    Object.assign(config.app_manager, { lookup_timeout_ms: 2000, cache: { enabled: false } });
    const server = await serverFor(t, { apps: [APP], config });
    // "Come back" is what a question may get that is put to a node which is gone and not yet known to be; "not found"
    // never.
    const known = async () => {
      const first = await answer(server, APP.key);
      if (first.event === 'pusher:connection_established') return 'found';
      assert.equal(first.data.code, 4100);
      return 4100;
    };
    const health = async () => (await fetch(`${server.url}/up`)).text();
    const isLogged = (pattern) => async () => {
      await known(); // whoever asks looks around
      return server.log.all.some((line) => pattern.test(line.message));
    };
    await server.waitForLog(/keyspace quorum needs 3 replicas, and 1 node is known: reading and writing at LOCAL_ONE/);
    await until('found', known);

    await Promise.all([cluster.start(1), cluster.start(2)]);
    for (const host of ['127\\.0\\.0\\.2', '127\\.0\\.0\\.3']) {
      await until(true, isLogged(new RegExp(`node ${host}:\\d+ of data centre here is used as well`)));
    }
    await until(true, isLogged(/[23] nodes are known now: reading and writing at LOCAL_QUORUM/));

    await cluster.kill(0); // those that were found go on without the one that was named
    for (let i = 0; i < 10; i++) {
      await until('found', known);
      await until(4001, () => refusal(server, `unknown-${i}`));
    }

    await until('OK', health);

    await cluster.kill(1);
    for (let i = 0; i < 4; i++) {
      assert.equal(await refusal(server, APP.key), 4100);
      assert.equal(await refusal(server, 'unknown'), 4100);
    }
    assert.equal(await health(), 'DEGRADED');

    await cluster.start(0);
    await until(4001, () => refusal(server, 'unknown'));
    await until('found', known);
    await until('OK', health);

    // Two that are down for good are taken out of the cluster: the one that is left is enough again.
    await cluster.kill(2);
    await asFirst(async (client) => {
      for (const table of ['peers', 'peers_v2']) {
        for (const host of ['127.0.0.2', '127.0.0.3'])
          await client.execute(`DELETE FROM system.${table} WHERE peer = '${host}'`);
      }
    });
    for (const host of ['127\\.0\\.0\\.2', '127\\.0\\.0\\.3'])
      await until(true, isLogged(new RegExp(`node ${host}:\\d+ has left data centre here`)));
    await until('found', known);

    // The node there has the app, too, but is another data centre's.
    await cluster.kill(0);
    for (let i = 0; i < 4; i++) assert.equal(await refusal(server, APP.key), 4100);
    for (const { message } of server.log.all) assert.doesNotMatch(message, /127\.0\.0\.4/);
  },
);
