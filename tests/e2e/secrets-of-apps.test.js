// Secrets from files of their own, and secrets that are none: known from examples, or short.

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { api } from '../lib/api.js';
import { apps, appsDone, command } from '../lib/apps-command.js';
import { folderWith } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const status = async (server, app) => (await api(server, 'GET', '/channels', { app })).status;
const LONG = '0123456789abcdef';

test('a secret is read from the file that it names, without the line end, and again at SIGHUP', async (t) => {
  const folder = folderWith(t, { secret: 'from a file\n', other: `${LONG}\r\n`, previous: 'the one before' });
  const named = (name) => `file:${path.join(folder, name)}`;
  const list = [
    { id: 'a', key: 'a-key', secret: named('secret') },
    {
      id: 'b',
      key: 'b-key',
      secret: `file://${path.join(folder, 'other')}`,
      previous_secret: named('previous'),
      previous_secret_until: 4102444800,
    },
  ];
  const env = {
    SOCKUDO_DEFAULT_APP_ID: 'env',
    SOCKUDO_DEFAULT_APP_KEY: 'env-key',
    SOCKUDO_DEFAULT_APP_SECRET: named('secret'),
  };
  const server = await serverFor(t, { apps: list, env });
  assert.equal(await status(server, { ...list[0], secret: 'from a file' }), 200);
  assert.equal(await status(server, { ...list[0], secret: 'from a file\n' }), 401);
  assert.equal(await status(server, { ...list[1], secret: LONG }), 200);
  assert.equal(await status(server, { ...list[1], secret: 'the one before' }), 200);
  assert.equal(await status(server, { id: 'env', key: 'env-key', secret: 'from a file' }), 200);

  writeFileSync(path.join(folder, 'secret'), 'another one\n');
  await server.reload({ apps: list });
  assert.equal(await status(server, { ...list[0], secret: 'another one' }), 200);
  assert.equal(await status(server, { ...list[0], secret: 'from a file' }), 401);
  assert.equal(await status(server, { id: 'env', key: 'env-key', secret: 'another one' }), 200);

  // a file that is gone takes nothing away: the last valid record stays, and the log names the file
  rmSync(path.join(folder, 'secret'));
  await server.reload({ apps: list });
  await server.waitForLog(/app "a": secret: the file \S+secret cannot be read: No such file or directory/);
  assert.equal(await status(server, { ...list[1], secret: LONG }), 200);
  for (const { message } of server.log.all) assert.doesNotMatch(message, /from a file|another one|the one before/);
});

test('a file that cannot be used is named, and only its own app is broken', async (t) => {
  const folder = folderWith(t, { empty: '\n', good: LONG });
  writeFileSync(path.join(folder, 'bytes'), Buffer.from([0xff, 0xfe]));
  const file = (name) => `file:${path.join(folder, name)}`;
  const cases = [
    [file('missing'), /app "bad": secret: the file \S+missing cannot be read: No such file or directory/],
    [file('empty'), /app "bad": secret: the file \S+empty is empty/],
    [file('bytes'), /app "bad": secret: the file \S+bytes holds no text/],
    [file(''), /app "bad": secret: the file \S+ cannot be read: Is a directory/],
    ['file:relative', /app "bad": secret: file:relative does not name a file by an absolute path/],
  ];
  for (const [secret, text] of cases) {
    const list = [
      { id: 'bad', key: 'bad-key', secret },
      { id: 'good', key: 'good-key', secret: file('good') },
    ];
    const config = path.join(
      folderWith(t, { 'config.json': { app_manager: { array: { apps: list } } } }),
      'config.json',
    );
    const { code, stdout } = await command(t, ['check', '--config', config]);
    assert.deepEqual([code, text.test(stdout)], [1, true], stdout);
    assert.match(stdout, /app "bad": secret is missing/);
    const shown = await appsDone(t, ['show', 'good', '-c', config, '--json', '--show-secrets']);
    assert.equal(shown.secret, LONG);
  }
});

const STORED = [
  { id: 'known', key: 'k1', secret: 'App_Secret' },
  { id: 'short', key: 'k2', secret: '0123456789abcde' },
  { id: 'good', key: 'k3', secret: LONG },
  { id: 'rotated', key: 'k4', secret: LONG, previous_secret: 'secret', previous_secret_until: 4102444800 },
];

function storeOf(t, list, more = {}) {
  const file = path.join(folderWith(t), 'apps.db');
  // nothing else that a strict check may find
  const quiet = { host: '127.0.0.1', metrics: { host: '127.0.0.1' } };
  const settings = { ...quiet, app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } }, ...more };
  const config = path.join(folderWith(t, { 'config.json': settings }), 'config.json');
  return {
    settings,
    config,
    ready: appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: list }) }),
  };
}

test('check --strict reads the apps of a database, and reports secrets that are known or short', async (t) => {
  const { config, ready } = storeOf(t, STORED);
  await ready;
  const check = (...args) => command(t, ['check', '--config', config, ...args]);
  const strict = await check('--strict');
  assert.equal(strict.code, 1, strict.stdout);
  const warnings = strict.stdout.split('\n').filter((line) => line.startsWith('warning: '));
  assert.equal(warnings.length, 3, strict.stdout);
  assert.match(warnings[0], /app "known": its secret is publicly known from examples/);
  assert.match(warnings[1], /app "rotated": its previous secret is publicly known from examples and still accepted/);
  assert.match(warnings[2], /app "short": its secret has fewer than 16 characters/);
  const plain = await check();
  assert.deepEqual([plain.code, plain.stdout.includes('known')], [0, false], plain.stdout);
  assert.match(plain.stdout, /^ok: .*, 0 apps; those of the sqlite store are read with --strict only$/m);

  for (const id of ['known', 'short']) await appsDone(t, ['rotate-secret', id, '-c', config]);
  await appsDone(t, ['rotate-secret', 'rotated', '--revoke-previous', '-c', config]);
  const good = await check('--strict');
  assert.deepEqual([good.code, good.stdout], [0, `ok: ${config}, 4 apps\n`]);
});

test('check --strict goes through all pages, and tells of broken apps and of a store that cannot be read', async (t) => {
  const list = Array.from({ length: 1203 }, (_, i) => ({
    id: `a${i}`,
    key: `k${i}`,
    secret: i < 150 ? 'secret' : LONG,
  }));
  const { config, settings, ready } = storeOf(t, list);
  await ready;
  const { code, stdout } = await command(t, ['check', '--config', config, '--strict']);
  assert.equal(code, 1);
  assert.equal(stdout.match(/its secret is publicly known/g).length, 100);
  assert.match(stdout, /warning: 50 more apps of the store have a secret that is known or short/);

  const other = storeOf(t, [], { database: { sqlite: { path: `${settings.database.sqlite.path}.missing` } } });
  await other.ready;
  rmSync(`${settings.database.sqlite.path}.missing`);
  const missing = await command(t, ['check', '--config', other.config, '--strict']);
  assert.deepEqual([missing.code, missing.stdout], [0, `ok: ${other.config}, 0 apps\n`]);

  writeFileSync(settings.database.sqlite.path, 'this is no database, and long enough to be none '.repeat(50));
  const broken = await command(t, ['check', '--config', config, '--strict']);
  assert.equal(broken.code, 1);
  assert.match(broken.stdout, /warning: the apps in the store were not checked: /);
});

test('a server in production warns once of an app of the store with a known secret', async (t) => {
  const { settings, ready } = storeOf(t, STORED);
  await ready;
  const known = (server) =>
    server.log.all.filter(({ message }) => /its (previous )?secret is publicly known/.test(message));
  const cache = { enabled: false }; // every lookup reads the store
  const app_manager = { ...settings.app_manager, cache };
  const server = await serverFor(t, { apps: [], config: { ...settings, app_manager, mode: 'production' } });
  for (let i = 0; i < 3; i++) for (const app of STORED) assert.equal(await status(server, app), 200);
  assert.deepEqual(
    known(server).map(({ level, message }) => [level, message.match(/app "(\w+)"/)[1]]),
    [
      ['warn', 'known'],
      ['warn', 'rotated'],
    ],
  );
  const relaxed = await serverFor(t, { apps: [], config: { ...settings, app_manager, mode: 'development' } });
  for (const app of STORED) assert.equal(await status(relaxed, app), 200);
  assert.equal(known(relaxed).length, 0);
  assert.equal((await apps(t, ['show', 'known', '-c', server.configFile])).code, 0);
});
