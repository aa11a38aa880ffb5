// Encrypted secrets in a store: the commands that make them so, the servers that read them, and keys that change.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createDecipheriv } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { api } from '../lib/api.js';
import { apps, appsDone, exported, manyApps, startApps } from '../lib/apps-command.js';
import { connect, subscribe } from '../lib/client.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const KEY = Buffer.alloc(32, 1).toString('base64');
const OTHER = Buffer.alloc(32, 2).toString('base64');
const APP = { id: '7', key: 'app-7', secret: 'a secret' };

// A folder with keys, an SQLite store and a configuration: {folder, settings, config, sql(text), keys(...)}.
function placeFor(t, keys = [KEY]) {
  const folder = folderWith(t);
  const file = path.join(folder, 'apps.db');
  const keyFile = path.join(folder, 'keys');
  const settings = {
    app_manager: { driver: 'sqlite', secrets: { key_file: keyFile }, cache: { enabled: false } },
    database: { sqlite: { path: file } },
  };
  const config = path.join(folder, 'config.json');
  const setKeys = (...list) => writeFileSync(keyFile, `${list.join('\n')}\n`, { mode: 0o600 });
  setKeys(...keys);
  writeFileSync(config, JSON.stringify(settings));
  return {
    folder,
    settings,
    config,
    keyFile,
    keys: setKeys,
    sql: (text) => execFileSync('sqlite3', ['-json', '-cmd', '.timeout 60000', file, text]).toString(),
    secrets: () =>
      Object.fromEntries(
        JSON.parse(execFileSync('sqlite3', ['-json', file, 'SELECT id, secret FROM applications']).toString()).map(
          ({ id, secret }) => [id, secret],
        ),
      ),
  };
}

const withoutKey = (t, { settings }) => {
  const { secrets, ...app_manager } = settings.app_manager;
  assert.ok(secrets);
  return path.join(folderWith(t, { 'config.json': { ...settings, app_manager } }), 'config.json');
};

const input = (...list) => ({ input: JSON.stringify({ apps: list }) });

test('a stored secret is what docs/secrets.md says: AES-256-GCM of this app and field', async (t) => {
  const here = placeFor(t);
  await appsDone(t, ['import', '-', '-c', here.config], input(APP));
  const stored = here.secrets()['7'];
  const bytes = Buffer.from(stored.match(/^enc:1:(.*)$/)[1], 'base64');
  const cipher = createDecipheriv('aes-256-gcm', Buffer.from(KEY, 'base64'), bytes.subarray(0, 12));
  cipher.setAAD(Buffer.from('7\0secret'));
  cipher.setAuthTag(bytes.subarray(-16));
  assert.equal(cipher.update(bytes.subarray(12, -16), undefined, 'utf8') + cipher.final('utf8'), APP.secret);
});

test('servers with the key serve the app, others call its record invalid; the old record stays in force', async (t) => {
  const here = placeFor(t);
  await appsDone(t, ['import', '-', '-c', withoutKey(t, here)], input(APP));
  const options = { apps: [], config: here.settings };
  const server = await serverFor(t, options);
  const { secrets, ...app_manager } = here.settings.app_manager;
  assert.ok(secrets);
  const keyless = await serverFor(t, { apps: [], config: { ...here.settings, app_manager } });
  const late = await serverFor(t, { apps: [], config: { ...here.settings, app_manager } });
  const status = async (which, app = APP) => (await api(which, 'GET', '/channels', { app })).status;
  const held = await connect(keyless, { app: APP, t });
  for (const which of [server, keyless]) assert.equal(await status(which), 200);

  const text = await appsDone(t, ['encrypt-secrets', '-c', here.config]);
  assert.equal(text, '1 encrypted, 0 left as they are, 0 failed\n');
  assert.equal(await status(server), 200);
  await keyless.waitForLog(/app "7": secret is encrypted, and there is no key: set app_manager\.secrets\.key_file/);
  await subscribe(held, 'private-a'); // by the last valid record
  assert.equal(await status(keyless), 200);
  assert.equal(await status(late), 500);
  const ws = await RawWebSocket.connect(late, { key: APP.key });
  assert.equal((await ws.expect('pusher:error')).data.code, 4100);
  ws.destroy();
});

test('a value that was changed, or is from another app, is a broken record and no secret', async (t) => {
  const here = placeFor(t);
  await appsDone(t, ['import', '-', '-c', here.config], input(APP, { id: '8', key: 'app-8', secret: 'x' }));
  const stored = here.secrets()['7'];
  const last = stored.at(-3) === 'A' ? 'B' : 'A';
  for (const [value, why] of [
    [here.secrets()['8'], /no key opens it/],
    [stored.slice(0, -3) + last + stored.slice(-2), /no key opens it|no base64/],
    [stored.slice(0, -4), /no key opens it/],
    ['enc:1:', /is not complete/],
    ['enc:2:AAAA', /this version does not know/],
  ]) {
    here.sql(`UPDATE applications SET secret = '${value}' WHERE id = '7'`);
    const { code, stderr } = await apps(t, ['show', '7', '-c', here.config]);
    assert.deepEqual([code, why.test(stderr)], [1, true], stderr);
    assert.match(stderr, /app "7": secret is encrypted/);
  }
  here.sql(`UPDATE applications SET secret = '${stored}' WHERE id = '7'`);
  assert.equal((await apps(t, ['show', '7', '-c', here.config])).code, 0);
});

test('encrypt-secrets goes on where it was killed, follows a new first key, and --decrypt undoes it', async (t) => {
  const here = placeFor(t);
  const list = manyApps(450);
  await appsDone(t, ['import', '-', '-c', withoutKey(t, here)], input(...list));
  const { child, ended } = startApps(t, ['encrypt-secrets', '-c', here.config]);
  child.stderr.once('data', () => child.kill('SIGKILL')); // a line for the first hundred
  await ended;
  const first = Object.values(here.secrets()).filter((secret) => secret.startsWith('enc:1:')).length;
  assert.ok(first >= 100 && first < 450, first);

  const run = (...args) => appsDone(t, ['encrypt-secrets', '--json', '-c', here.config, ...args]);
  assert.deepEqual(await run(), { rewritten: 450 - first, unchanged: first, failed: 0, finished: true });
  assert.deepEqual(await run(), { rewritten: 0, unchanged: 450, failed: 0, finished: true });
  const sealed = here.secrets();
  for (const secret of Object.values(sealed)) assert.match(secret, /^enc:1:/);
  assert.deepEqual(
    new Map((await exported(t, here.config)).map((app) => [app.id, app.secret])),
    new Map(list.map((app) => [app.id, app.secret])),
  );
  const previous = JSON.parse(
    here.sql('SELECT previous_secret AS s FROM applications WHERE previous_secret IS NOT NULL'),
  );
  assert.equal(previous.length, list.filter((app) => app.previous_secret).length);
  for (const { s } of previous) assert.match(s, /^enc:1:/);

  here.keys(OTHER, KEY);
  assert.deepEqual(await run(), { rewritten: 450, unchanged: 0, failed: 0, finished: true });
  here.keys(OTHER);
  assert.deepEqual(await run(), { rewritten: 0, unchanged: 450, failed: 0, finished: true });
  here.keys(KEY);
  const lost = await apps(t, ['encrypt-secrets', '-c', here.config]);
  assert.equal(lost.code, 1);
  assert.match(lost.stdout, /0 encrypted, 0 left as they are, 450 failed/);

  here.keys(KEY, OTHER);
  assert.deepEqual(await run('--decrypt'), { rewritten: 450, unchanged: 0, failed: 0, finished: true });
  assert.deepEqual(here.secrets(), Object.fromEntries(list.map((app) => [app.id, app.secret])));
});

test('a copy encrypts for its target, and an export is plain in a file for its owner only', async (t) => {
  const from = placeFor(t);
  const to = placeFor(t, [OTHER]);
  const app = { ...APP, previous_secret: 'old', previous_secret_until: 4102444800 };
  await appsDone(t, ['import', '-', '-c', from.config], input(app));
  await appsDone(t, ['copy', '--from', from.config, '--to', to.config]);
  assert.notEqual(to.secrets()['7'], from.secrets()['7']);
  const [{ secret, previous_secret, previous_secret_until }] = await exported(t, to.config);
  assert.deepEqual([secret, previous_secret, previous_secret_until], ['a secret', 'old', 4102444800]);
  const again = await appsDone(t, ['copy', '--from', from.config, '--to', to.config, '--json']);
  assert.equal(again.equal, 1);
});

test('without a key, with one that is none, or with one that all can read, the command says so', async (t) => {
  const here = placeFor(t);
  const none = await apps(t, ['encrypt-secrets', '-c', withoutKey(t, here)]);
  assert.deepEqual([none.code, none.stdout], [2, '']);
  assert.match(none.stderr, /there is no key: set app_manager\.secrets\.key_file or CURLEW_SECRETS_KEY/);

  here.keys(`${KEY.slice(0, -4)}`);
  const bad = await apps(t, ['list', '-c', here.config]);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /app_manager\.secrets\.key_file \S+keys: key number 1 is not 32 bytes in base64/);
  assert.doesNotMatch(bad.stderr, new RegExp(KEY.slice(0, 10)));
  // the variable takes precedence, so the file is not read
  const env = { CURLEW_SECRETS_KEY: KEY };
  assert.equal((await apps(t, ['encrypt-secrets', '-c', here.config], { env })).code, 0);

  here.keys(KEY);
  chmodSync(here.keyFile, 0o644);
  const open = await apps(t, ['encrypt-secrets', '-c', here.config]);
  assert.equal(open.code, 0);
  assert.match(open.stderr, /key_file \S+keys opens the secrets of all apps, and every user of this machine can read/);
});

test('plain secrets are read, and a server and `apps list` say how many there are', async (t) => {
  const here = placeFor(t);
  const list = manyApps(11);
  await appsDone(t, ['import', '-', '-c', withoutKey(t, here)], input(...list));
  const server = await serverFor(t, { apps: [], config: here.settings });
  for (const app of list)
    assert.equal((await api(server, 'GET', '/channels', { app })).status, app.enabled ? 200 : 403);
  await server.waitForLog(/so far 10 such records have/); // it may come after the answers
  const said = () => server.log.all.filter(({ message }) => / plain text in the store/.test(message));
  assert.deepEqual(
    said().map(({ level, message }) => [level, message.match(/so far (\d+) such records? ha/)[1]]),
    [
      ['warn', '1'],
      ['warn', '10'],
    ],
  );
  const { code, stderr } = await apps(t, ['list', '-c', here.config]);
  assert.equal(code, 0);
  assert.match(stderr, /warning: 11 of 11 apps have a secret that is plain text in the store/);
  await appsDone(t, ['encrypt-secrets', '-c', here.config]);
  assert.equal((await apps(t, ['list', '-c', here.config])).stderr, '');
});
