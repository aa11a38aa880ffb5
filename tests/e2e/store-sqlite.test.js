// A SQLite file that cannot be used, or not for a while.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { sqliteConfig } from '../lib/apps-command.js';
import { connect } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { BINARY, RELEASE_BINARY, runCurlew, serverFor } from '../lib/server.js';
import { takesRowsByHand } from '../lib/sql-cases.js';

const TOKEN = 'a token of at least thirty-two characters';
const KNOWN = { id: 'known', key: 'known-key', secret: 's' };

const sql = (file, text) => execFileSync('sqlite3', [file, text], { encoding: 'utf8' });
const insert = (id, limit = 0) =>
  `INSERT INTO applications (id, key, secret, max_connections, max_client_events_per_second, ` +
  `enable_client_messages, enabled) VALUES ('${id}', '${id}-key', 's', ${limit}, 10, 1, 1);`;

function settings(file, { apps = [KNOWN], binary, cache = {}, ...manager } = {}) {
  return {
    apps,
    binary,
    config: {
      app_manager: {
        driver: 'sqlite',
        lookup_timeout_ms: 1000,
        cache: { ttl: 1, negative_ttl: 0, ...cache },
        ...manager,
      },
      database: { sqlite: { path: file } },
    },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  };
}

// The server with `command` in front of it.
function wrapped(t, command) {
  const file = path.join(folderWith(t), 'curlew');
  fs.writeFileSync(file, `#!/bin/sh\nexec ${command} ${BINARY} "$@"\n`, { mode: 0o755 });
  return file;
}

// Root may write whatever the modes say; without two capabilities it is as bound by them as anybody.
const boundByModes = (t) =>
  process.getuid() === 0
    ? wrapped(t, 'setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search')
    : BINARY;

const health = async (server) => (await fetch(`${server.url}/up`)).text();

async function isOk(server) {
  await eventually(server, async () => assert.equal(await health(server), 'OK'));
}

async function serves(server, app = KNOWN) {
  (await connect(server, { app })).destroy();
}

async function refusal(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  try {
    return (await ws.expect('pusher:error')).data.code;
  } finally {
    ws.destroy(); // one that is accepted would count against the app's limit
  }
}

async function admin(server, method, where = '', body) {
  const { message } = await server.waitForLog(/^admin API on /);
  const answer = await fetch(message.match(/http:\/\/\S+/)[0] + where, {
    method,
    headers: { authorization: `Bearer ${TOKEN}` },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, text, json: () => JSON.parse(text) };
}

const create = (server, id, more) => admin(server, 'POST', '', { id, key: `${id}-key`, secret: 's', ...more });

async function readyServer(t, file, options) {
  const server = await serverFor(t, settings(file, options));
  await eventually(server, () => serves(server));
  return server;
}

// Another process that says when it holds a lock and does so until the function that this returns is called.
async function lockBy(t, command, args, input, last = '') {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  t.after(() => child.kill('SIGKILL'));
  child.stdin.write(input);
  await Promise.race([
    once(child.stdout, 'data'),
    ended.then(([code]) => assert.fail(`${command} ended with ${code}`)),
  ]);
  return () => {
    child.stdin.end(last);
    return ended;
  };
}

const lock = (t, file) => lockBy(t, 'sqlite3', [file], "BEGIN EXCLUSIVE;\nSELECT 'locked';\n", 'COMMIT;\n');

// In WAL mode a writer keeps only writers out. Readers, too, are kept out by who holds the locks of the file's shared
// memory.
const lockOutReaders = (t, file) =>
  lockBy(
    t,
    'perl',
    [
      '-e',
      `
  use Fcntl;
  open my $file, '+<', $ARGV[0] or die "$ARGV[0]: $!";
  my $lock = pack 's s x![q] q q i x4', F_WRLCK, 0, 120, 8, 0;
  fcntl $file, F_SETLKW, $lock or die "$ARGV[0]: $!";
  syswrite STDOUT, "locked\n";
  <STDIN>;`,
      `${file}-shm`,
    ],
    '',
  );

test('a_store_that_is_not_there_at_the_start_is_logged_once_unasked_and_so_is_its_return', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  fs.mkdirSync(file);
  const server = await serverFor(t, settings(file, { apps: [] }));
  const { message } = await server.waitForLog(/store cannot be reached/);
  assert.match(message, /the sqlite store cannot be reached: .*apps\.db/);
  fs.rmdirSync(file);
  await server.waitForLog(/the sqlite store answers/);
  assert.equal(server.log.all.filter((line) => /store cannot be reached/.test(line.message)).length, 1);
});

test('while_another_process_holds_the_lock_apps_are_found_servers_start_and_a_create_says_so_in_time', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await readyServer(t, file);
  const unlock = await lock(t, file);
  const { status, text } = await create(server, 'new'); // lookup_timeout_ms is 1 s
  assert.equal(status, 503, text);
  assert.match(text, /database\.sqlite\.path .*apps\.db is locked by another process/);
  await serves(server);
  assert.equal(await refusal(server, 'new-key'), 4001); // readers do not wait for a writer
  await readyServer(t, file); // nor does a start: the table lacks nothing
  await unlock();
  await isOk(server);
  assert.equal((await create(server, 'new')).status, 201);
  await serves(server, { id: 'new', key: 'new-key', secret: 's' });
});

test('while_readers_are_kept_out_known_apps_are_served_unknown_ones_told_to_come_back_and_no_loop_waits', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await readyServer(t, file, { binary: RELEASE_BINARY });
  const unlock = await lockOutReaders(t, file);
  const began = performance.now();
  assert.equal(await refusal(server, 'nobody'), 4100);
  await eventually(server, async () => assert.equal(await health(server), 'DEGRADED'));
  while (performance.now() < began + 3000) await serves(server); // ttl is 1 s
  assert.equal(await refusal(server, 'nobody'), 4100);
  const { status, text } = await create(server, 'new');
  assert.equal(status, 503, text);
  assert.match(text, /apps\.db is locked by another process/);
  await unlock();
  await isOk(server);
  assert.equal(await refusal(server, 'nobody'), 4001);
  // A turn that waited for the store would take lookup_timeout_ms, 1 s, each time; a busy machine may stop a thread for
  // a while.
  const turns = (await fetchMetrics(server)).select('loop_lag_max_seconds').map(({ value }) => value);
  assert.ok(Math.max(...turns) < 0.9, `the longest turns took ${turns} s`);
});

test('a_file_that_is_locked_at_the_start_is_used_when_it_is_free', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  sql(file, 'CREATE TABLE other (x)'); // with a rollback journal: the lock keeps readers out, too
  const unlock = await lock(t, file);
  const server = await serverFor(t, settings(file));
  assert.match((await server.waitForLog(/store cannot be reached/)).message, /apps\.db is locked by another process/);
  assert.equal(await refusal(server, 'known-key'), 4100);
  assert.equal(await health(server), 'ERROR');
  await unlock();
  await isOk(server);
  await eventually(server, () => serves(server)); // the configuration's apps are created then
});

test('a_file_that_was_removed_is_missed_and_another_in_its_place_is_read', async (t) => {
  const folder = folderWith(t);
  const file = path.join(folder, 'apps.db');
  const server = await readyServer(t, file);
  for (const name of fs.readdirSync(folder)) fs.renameSync(path.join(folder, name), path.join(folder, `away-${name}`));
  await eventually(server, async () => assert.equal(await health(server), 'DEGRADED'));
  assert.match(
    (await server.waitForLog(/the sqlite store cannot be reached/)).message,
    /apps\.db was removed or replaced|unable to open/,
  );
  await serves(server);
  assert.equal(await refusal(server, 'nobody'), 4100);
  const failed = await create(server, 'new');
  assert.equal(failed.status, 503, failed.text);
  assert.equal(await refusal(server, 'new-key'), 4100);
  sql(
    path.join(folder, 'away-apps.db'),
    `DELETE FROM applications; ${insert('other')} PRAGMA wal_checkpoint(TRUNCATE);`,
  );
  fs.renameSync(path.join(folder, 'away-apps.db'), file);
  await isOk(server);
  await eventually(server, () => serves(server, { id: 'other', key: 'other-key', secret: 's' }));
  await eventually(server, async () => assert.equal(await refusal(server, 'known-key'), 4001));
});

test('a_folder_that_may_only_be_read_is_said_to_be_what_has_to_be_written', async (t) => {
  const folder = folderWith(t);
  const file = path.join(folder, 'apps.db');
  await (await readyServer(t, file)).stop();
  // Connections that close at the same moment may leave the files of the write-ahead log; one that is the last does
  // not.
  sql(file, 'SELECT count(*) FROM applications');
  assert.deepEqual(fs.readdirSync(folder), ['apps.db']);
  fs.chmodSync(folder, 0o555);
  try {
    const server = await serverFor(t, settings(file, { apps: [], binary: boundByModes(t) }));
    assert.match(
      (await server.waitForLog(/store cannot be reached/)).message,
      /apps\.db: .*; its folder has to exist, and this user to be able to write there/,
    );
    fs.chmodSync(folder, 0o755);
    await eventually(server, () => serves(server));
  } finally {
    fs.chmodSync(folder, 0o755);
  }
});

test('a_file_that_may_only_be_read_serves_its_apps_and_a_create_is_refused_with_the_reason', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  await (await readyServer(t, file)).stop();
  fs.chmodSync(file, 0o444);
  const server = await readyServer(t, file, { apps: [], binary: boundByModes(t) });
  const { status, text } = await create(server, 'new');
  assert.equal(status, 507, text);
  assert.match(text, /database\.sqlite\.path .*apps\.db: attempt to write a readonly database/);
  assert.equal(await refusal(server, 'new-key'), 4001);
  await serves(server);
  assert.equal(await health(server), 'OK');
});

test('a_disk_that_is_full_refuses_the_create_goes_on_reading_and_takes_it_when_there_is_room', async (t) => {
  const folder = folderWith(t);
  const disk = `unshare --user --map-current-user --mount --keep-caps sh -c 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"' ${folder}`;
  const server = await readyServer(t, path.join(folder, 'apps.db'), { binary: wrapped(t, disk) });
  const filler = path.join(`/proc/${server.pid}/root`, folder, 'filler');
  assert.throws(
    () => {
      for (;;) fs.appendFileSync(filler, Buffer.alloc(4096));
    },
    { code: 'ENOSPC' },
  );
  const { status, text } = await create(server, 'new');
  assert.equal(status, 507, text);
  assert.match(text, /database\.sqlite\.path .*apps\.db: database or disk is full/);
  assert.equal(await refusal(server, 'new-key'), 4001);
  await serves(server);
  assert.equal(await health(server), 'OK');
  fs.rmSync(filler);
  assert.equal((await create(server, 'new')).status, 201);
  await serves(server, { id: 'new', key: 'new-key', secret: 's' });
});

test('a_file_that_is_no_database_is_named_and_left_as_it_is', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const text = 'these are my notes, and no database\n'.repeat(200);
  fs.writeFileSync(file, text);
  const server = await serverFor(t, settings(file));
  assert.match(
    (await server.waitForLog(/store cannot be reached/)).message,
    /database\.sqlite\.path .*apps\.db: file is not a database/,
  );
  assert.equal(await refusal(server, 'known-key'), 4100);
  assert.equal(await health(server), 'ERROR');
  assert.equal(fs.readFileSync(file, 'utf8'), text);
  fs.rmSync(file);
  await isOk(server);
});

test('a_file_that_is_damaged_answers_nothing_wrong', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  await (await readyServer(t, file)).stop();
  sql(file, Array.from({ length: 500 }, (_, i) => insert(`app-${i}`)).join('') + 'PRAGMA wal_checkpoint(TRUNCATE);');
  const bytes = fs.readFileSync(file);
  fs.writeFileSync(file, bytes.fill(0xa5, 4096)); // all but the page with the schema
  const server = await serverFor(t, settings(file, { apps: [] }));
  assert.equal(await refusal(server, 'app-7-key'), 4100);
  assert.match(
    (await server.waitForLog(/store cannot be reached/)).message,
    /apps\.db: database disk image is malformed/,
  );
  for (const answer of [
    await create(server, 'new'),
    await admin(server, 'PATCH', '/app-7', { max_connections: 5 }),
    await admin(server, 'DELETE', '/app-7'),
  ])
    assert.equal(answer.status, 503, answer.text);
});

test('a_server_killed_while_it_writes_leaves_every_record_whole', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  for (let round = 0; round < 3; round++) {
    const server = await readyServer(t, file);
    const acknowledged = [];
    const writing = (async () => {
      for (let i = 0; ; i++) {
        const id = `r${round}-${i}`;
        if (
          (
            await create(server, id, {
              webhooks: [{ url: `http://127.0.0.1/${id}`, event_types: ['channel_occupied'] }],
            })
          ).status === 201
        )
          acknowledged.push(id);
        if (acknowledged.length === 20) server.kill();
      }
    })();
    await assert.rejects(writing); // the connection broke
    await server.kill();
    assert.equal(sql(file, 'PRAGMA integrity_check').trim(), 'ok');
    const rows = JSON.parse(
      execFileSync('sqlite3', ['-json', file, `SELECT * FROM applications WHERE id LIKE 'r${round}-%'`], {
        encoding: 'utf8',
      }),
    );
    for (const id of acknowledged)
      assert.ok(
        rows.some((row) => row.id === id),
        id,
      );
    for (const { id, key, secret, webhooks } of rows) {
      assert.deepEqual({ key, secret }, { key: `${id}-key`, secret: 's' });
      assert.equal(JSON.parse(webhooks)[0].url, `http://127.0.0.1/${id}`);
    }
  }
});

test('a_table_of_an_older_version_gets_the_missing_columns_and_keeps_its_rows', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  sql(
    file,
    `CREATE TABLE applications (mine TEXT, secret TEXT NOT NULL, "key" TEXT UNIQUE NOT NULL, id TEXT PRIMARY KEY,
    max_connections INTEGER NOT NULL, max_client_events_per_second INTEGER NOT NULL, enable_client_messages BOOLEAN NOT NULL, enabled BOOLEAN NOT NULL);
    INSERT INTO applications VALUES ('stays', 's', 'known-key', 'known', 3, 10, 1, 1)`,
  );
  const server = await readyServer(t, file, { apps: [] });
  assert.equal((await admin(server, 'PATCH', '/known', { max_event_name_length: 17 })).status, 200);
  assert.equal(
    sql(file, 'SELECT mine, max_connections, max_event_name_length, webhooks IS NULL FROM applications').trim(),
    'stays|3|17|1',
  );
});

test('a_row_inserted_by_hand_takes_the_defaults_in_a_new_table', async (t) => {
  const config = sqliteConfig(t);
  const file = JSON.parse(fs.readFileSync(config)).database.sqlite.path;
  const rows = (text) => JSON.parse(execFileSync('sqlite3', ['-json', file, text], { encoding: 'utf8' }) || '[]');
  await takesRowsByHand(t, { config: () => config, sql: rows });
});

test('of_two_apps_with_one_key_the_one_made_first_answers_and_the_log_names_both', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  sql(
    file,
    `CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT, secret TEXT, created_at TIMESTAMP);
    INSERT INTO applications VALUES ('a', 'one', 's', '2024-01-02'), ('b', 'one', 's', '2024-01-01'), ('c', 'one', 's', '2024-01-02')`,
  );
  const { code, stdout, stderr } = await runCurlew(['apps', 'show', '--key', 'one', '--json'], {
    config: settings(file).config,
  });
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout).id, 'b');
  assert.match(stderr, /apps b and a have the same key/);
});

test('two_servers_on_one_file_hear_of_each_others_changes', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const cache = { ttl: 3600, negative_ttl: 3600 }; // no change is noticed by time
  const one = await readyServer(t, file, { cache });
  const two = await readyServer(t, file, { cache });
  assert.equal(await refusal(two, 'new-key'), 4001); // and now known not to be there
  const app = { id: 'new', key: 'new-key', secret: 's' };
  assert.equal((await create(one, 'new')).status, 201);
  await eventually(two, () => serves(two, app));
  const ws = await connect(two, { app, t });
  assert.equal((await admin(one, 'PATCH', '/new', { max_connections: 1 })).status, 200);
  await eventually(two, async () => assert.equal(await refusal(two, 'new-key'), 4004));
  assert.equal((await admin(one, 'PATCH', '/new', { enabled: false })).status, 200);
  assert.equal((await ws.expect('pusher:error')).data.code, 4003);
  assert.equal((await admin(two, 'DELETE', '/new')).status, 200);
  await eventually(one, async () => assert.equal(await refusal(one, 'new-key'), 4001));
  // Each change is one line on both: who made it on the one, and that it was made on the other.
  const changes = ({ log }) =>
    log.all.flatMap(({ message }) => (/^app new was (changed|deleted) /.test(message) ? [message] : []));
  await two.waitForLog(/^app new was deleted /);
  assert.deepEqual(changes(two), [
    'app new was changed in the store: max_connections',
    'app new was changed in the store: enabled',
    'app new was deleted through the admin API by 127.0.0.1; it had 0 connections here',
  ]);
  assert.deepEqual(changes(one).slice(0, 2), [
    'app new was changed through the admin API by 127.0.0.1: max_connections',
    'app new was changed through the admin API by 127.0.0.1: enabled',
  ]);
});

test('a_folder_that_is_missing_is_an_error_at_the_start_that_names_it_and_the_setting', async (t) => {
  const folder = path.join(folderWith(t), 'nowhere');
  const config = { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: path.join(folder, 'apps.db') } } };
  for (const args of [['serve'], ['check'], ['apps', 'list']]) {
    const { code, stdout, stderr } = await runCurlew(args, { config });
    assert.equal(code, 2, `${args}: ${stderr}`);
    assert.match(
      stdout + stderr,
      new RegExp(`database\\.sqlite\\.path ${folder}/apps\\.db: the folder ${folder} does not exist`),
    );
  }
});

test('the_files_are_for_their_user_only_and_one_that_everybody_can_read_is_a_warning', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await readyServer(t, file);
  for (const suffix of ['', '-wal', '-shm']) assert.equal(fs.statSync(file + suffix).mode & 0o777, 0o600, suffix);
  assert.ok(!server.log.all.some(({ message }) => /can read it/.test(message)));
  assert.match((await server.waitForLog(/CREATE TABLE/)).message, /"secret" TEXT.*, updated_at TIMESTAMP.*\)$/);
  await server.stop();
  fs.chmodSync(file, 0o644);
  const again = await readyServer(t, file);
  const { level, message } = await again.waitForLog(/every user of this machine can read it/);
  assert.equal(level, 'warn');
  assert.match(message, /database\.sqlite\.path .*apps\.db holds the secrets of all apps.*chmod 600/);
});

test('a_file_of_another_user_is_named_with_its_owner_and_what_to_do', async (t) => {
  const folder = folderWith(t);
  const file = path.join(folder, 'apps.db');
  await (await readyServer(t, file)).stop();
  const binary = boundByModes(t);
  fs.chmodSync(file, 0o444);
  const reading = await readyServer(t, file, { apps: [], binary });
  assert.match(
    (await reading.waitForLog(/may not write it/)).message,
    /apps\.db belongs to \w+, and \w+ may not write it, so changes of apps will be refused: .*sudo -u \w+ curlew apps/,
  );
  await reading.stop();
  const check = () => runCurlew(['check'], settings(file, { apps: [], binary }));
  const readable = await check();
  assert.equal(readable.code, 0, readable.stderr + readable.stdout);
  assert.match(readable.stdout + readable.stderr, /^warning: database\.sqlite\.path .* may not write it/m);
  fs.chmodSync(file, 0);
  const unreadable = await check();
  assert.equal(unreadable.code, 1);
  assert.match(unreadable.stdout + unreadable.stderr, /^error: database\.sqlite\.path .* may not read it: run/m);
  const shut = await serverFor(t, settings(file, { apps: [], binary }));
  assert.match(
    (await shut.waitForLog(/store cannot be reached/)).message,
    /apps\.db belongs to \w+, and \w+ may not read it: run `curlew apps` as the server's user \(sudo -u USER/,
  );
  await shut.stop(); // which would make the file anew while its folder is removed
});
