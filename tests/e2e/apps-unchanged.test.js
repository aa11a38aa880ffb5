// `curlew apps`: commands that only read, and dry runs, change nothing in a store, not even its shape.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { apps, appsDone, sqliteConfig } from '../lib/apps-command.js';

function fileOf(config) {
  return JSON.parse(readFileSync(config, 'utf8')).database.sqlite.path;
}

// A file as an older server left it: few columns, no times, no write-ahead log.
function olderFile(t) {
  const config = sqliteConfig(t);
  execFileSync('sqlite3', [
    fileOf(config),
    'CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT, secret TEXT, enabled INTEGER, max_connections TEXT); ' +
      "INSERT INTO applications VALUES ('old', 'old-key', 'old-secret', 1, '7'), ('bad', 'bad-key', 's', 'perhaps', '7')",
  ]);
  return config;
}

const READING = {
  list: (config) => ['list', '-c', config],
  'show by id': (config) => ['show', 'old', '-c', config],
  'show by key': (config) => ['show', '--key', 'old-key', '-c', config],
  export: (config) => ['export', '-c', config],
};

describe('a file of an older server is read as it stands, and stays that byte for byte', () => {
  for (const [name, args] of Object.entries(READING)) {
    test(name, async (t) => {
      const config = olderFile(t);
      const before = readFileSync(fileOf(config));
      const { code, stdout, stderr } = await apps(t, args(config));
      assert.match(stdout, /\bold-key\b/);
      if (name.startsWith('show')) assert.equal(code, 0, stderr);
      else assert.match(stderr, /app "bad": enabled must be true or false/);
      assert.deepEqual(readFileSync(fileOf(config)), before);
    });
  }

  test('copy --from', async (t) => {
    const from = olderFile(t);
    const to = sqliteConfig(t);
    const before = readFileSync(fileOf(from));
    const { code, stdout, stderr } = await apps(t, ['copy', '--from', from, '--to', to]);
    assert.deepEqual([code, stdout], [1, '1 created, 0 updated, 0 equal, 0 in conflict, 1 failed\n'], stderr);
    assert.match(stderr, /broken record, "bad"/);
    assert.deepEqual(readFileSync(fileOf(from)), before);
    assert.equal((await appsDone(t, ['show', 'old', '-c', to, '--json', '--show-secrets'])).max_connections, 7);
  });

  test('import --dry-run', async (t) => {
    const config = olderFile(t);
    const before = readFileSync(fileOf(config));
    const list = [
      { id: 'old', key: 'old-key', secret: 'old-secret', max_connections: 7 },
      { id: 'x', key: 'old-key', secret: 's' },
      { id: 'new', key: 'new', secret: 's' },
    ];
    const { stdout, stderr } = await apps(t, ['import', '-', '--dry-run', '-c', config], {
      input: JSON.stringify({ apps: list }),
    });
    assert.equal(
      stdout,
      'dry run, nothing was written: 1 created, 0 updated, 1 equal, 0 in conflict, 1 failed\n',
      stderr,
    );
    assert.match(stderr, /app "x": the key is already that of app old/);
    assert.deepEqual(readFileSync(fileOf(config)), before);
  });

  test('while a command that writes brings it to the current shape', async (t) => {
    const config = olderFile(t);
    await appsDone(t, ['update', 'old', '--set', 'max_event_batch_size=3', '-c', config]);
    const columns = execFileSync(
      'sqlite3',
      [fileOf(config), "SELECT count(*) FROM pragma_table_info('applications')"],
      { encoding: 'utf8' },
    );
    assert.equal(columns, '25\n');
  });
});

describe('a file that is not there', () => {
  for (const [name, args] of Object.entries(READING)) {
    test(`is an error of ${name}, and is not made`, async (t) => {
      const config = sqliteConfig(t);
      const { code, stdout, stderr } = await apps(t, args(config));
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, /no apps are kept there yet: database\.sqlite\.path .*apps\.db: there is no such file/);
      assert.deepEqual(readdirSync(path.dirname(fileOf(config))), []);
    });
  }

  test('is empty for a dry run, which does not make it, and an error of copy --from', async (t) => {
    const from = olderFile(t);
    const to = sqliteConfig(t);
    const { stdout } = await apps(t, ['copy', '--from', from, '--to', to, '--dry-run']);
    assert.equal(stdout, 'dry run, nothing was written: 1 created, 0 updated, 0 equal, 0 in conflict, 1 failed\n');
    assert.equal(existsSync(fileOf(to)), false);
    const nothing = sqliteConfig(t);
    const { code, stderr } = await apps(t, ['copy', '--from', nothing, '--to', to]);
    assert.equal(code, 1);
    assert.match(stderr, /--from .*: no apps are kept there yet/);
    assert.deepEqual([existsSync(fileOf(nothing)), existsSync(fileOf(to))], [false, false]);
  });

  test('nor is a table in a file that has others', async (t) => {
    const config = sqliteConfig(t);
    execFileSync('sqlite3', [fileOf(config), 'CREATE TABLE mine (id)']);
    const before = readFileSync(fileOf(config));
    const { code, stderr } = await apps(t, ['list', '-c', config]);
    assert.equal(code, 1);
    assert.match(stderr, /no apps are kept there yet: .*has no table `applications`/);
    const foretold = await apps(t, ['import', '-', '--dry-run', '-c', config], {
      input: '{"apps":[{"id":"a","key":"a","secret":"a"}]}',
    });
    assert.match(foretold.stdout, /: 1 created/);
    assert.deepEqual(readFileSync(fileOf(config)), before);
  });
});
