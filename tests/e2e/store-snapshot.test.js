// app_manager.cache.snapshot_path: a start while the database is down serves the apps of the last run, and no others.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { after } from 'node:test';

import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const SECRET = 'a secret that is in no other place of the file';
const app = (id, more = {}) => ({ id, key: `${id}-key`, secret: SECRET, max_connections: 0, ...more });
const [KNOWN, GONE, DISABLED] = [app('known'), app('gone'), app('disabled', { enabled: false })];
const KEY = randomBytes(32).toString('base64');
const OTHER_KEY = randomBytes(32).toString('base64');

const backend = await backendFor({ after }, 'postgres');
await backend.createPlace('snapshots');
const folder = folderWith({ after });
const plain = path.join(folder, 'plain');
const sealed = path.join(folder, 'sealed');

function start(t, snapshot_path, { apps = [], cache = {}, env = {} } = {}) {
  const config = backend.config('snapshots');
  config.app_manager = { ...config.app_manager, cache: { snapshot_path, negative_ttl: 0, ...cache } };
  return serverFor(t, { apps, config, env: { DATABASE_POOL_MIN: '1', DATABASE_POOL_MAX: '2', ...env } });
}

const health = async (server) => (await fetch(`${server.url}/up`)).text();

async function code(server, { key }) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

// Runs a server until it has seen all apps and has kept them.
async function keep(t, file, env = {}) {
  const server = await start(t, file, { apps: [KNOWN, GONE, DISABLED], env });
  for (const known of [KNOWN, GONE]) (await connect(server, { app: known })).destroy();
  assert.equal(await code(server, DISABLED), 4003);
  assert.equal(await code(server, app('nobody')), 4001);
  await server.stop();
  const { mode, uid } = statSync(file);
  assert.equal(mode & 0o777, 0o600);
  assert.equal(uid, process.getuid());
  return readFileSync(file, 'latin1');
}

// --- while the database is there ---

const kept = await keep({ after: () => {} }, plain);
const keptSealed = await keep({ after: () => {} }, sealed, { CURLEW_SECRETS_KEY: KEY });
const client = await backend.client('snapshots');
await client.query("DELETE FROM applications WHERE id = 'gone'");
await client.end();
await backend.stop();

// --- while it is down ---

test('the file has all apps with their secrets, and with a key it is encrypted as a whole', () => {
  const [magic, digest, place, ...lines] = kept.split('\n');
  assert.equal(magic, 'curlew-apps-1 plain');
  assert.equal(
    digest,
    createHash('sha256')
      .update([place, ...lines].join('\n'), 'latin1')
      .digest('hex'),
  );
  const apps = lines.filter((line) => line !== '').map((line) => JSON.parse(line));
  assert.deepEqual(apps.map((line) => line.app.id).sort(), ['disabled', 'gone', 'known']);
  for (const line of apps) {
    assert.equal(line.app.secret, SECRET);
    assert.ok(Math.abs(Date.now() / 1000 - line.read) < 600);
  }
  assert.match(keptSealed, /^curlew-apps-1 sealed\n/);
  for (const text of [SECRET, 'known', '"app"']) assert.ok(!keptSealed.includes(text), text);
});

for (const [what, file, env] of [
  ['a start serves the apps of the last run as stale', plain, {}],
  ['so it does from an encrypted file', sealed, { CURLEW_SECRETS_KEY: `${OTHER_KEY},${KEY}` }],
])
  test(what, async (t) => {
    const server = await start(t, file, { env });
    const { message } = await server.waitForLog(/of an earlier run are known/);
    assert.match(message, /^3 apps of an earlier run are known from \S+ \(0 were too old, or are not valid\)/);
    for (const known of [KNOWN, GONE]) (await connect(server, { app: known })).destroy();
    assert.equal(await code(server, DISABLED), 4003);
    assert.equal(await code(server, app('nobody')), 4100);
    assert.equal(await health(server), 'DEGRADED');
    const metrics = await fetchMetrics(server);
    assert.ok(metrics.sum('app_lookups_total', { answer: 'stale' }) >= 2);
    await server.stop();
    assert.equal(readFileSync(file, 'latin1'), file === plain ? kept : keptSealed); // nothing new is known
  });

test('a file that is not what it should be is not used, and the server starts', async (t) => {
  const made = path.join(folder, 'made');
  const write = (bytes) => writeFileSync(made, Buffer.from(bytes, 'latin1'), { mode: 0o600 });
  const lines = kept.split('\n').slice(2);
  const signed = (text) => `curlew-apps-1 plain\n${createHash('sha256').update(text, 'latin1').digest('hex')}\n${text}`;
  const changed = (bytes, at) =>
    bytes.slice(0, at) + String.fromCharCode(bytes.charCodeAt(at) ^ 1) + bytes.slice(at + 1);
  const cases = {
    'a file that is cut': [() => write(kept.slice(0, -20)), /checksum is wrong/],
    'a file with a changed byte': [() => write(changed(kept, kept.length - 30)), /checksum is wrong/],
    'a file of something else': [() => write(randomBytes(5000).toString('latin1')), /no snapshot of this version/],
    'an empty file': [() => write(''), /no snapshot of this version/],
    'a file without a place': [() => write(signed('')), /of another store/],
    'a file of another table': [
      () => write(signed(lines.join('\n').replace('/snapshots/', '/others/'))),
      /of another store, postgres \S+\/others\/applications/,
    ],
    'an encrypted file that is cut': [() => write(keptSealed.slice(0, -1)), /no key .* opens it/, KEY],
    'an encrypted file with a changed byte': [() => write(changed(keptSealed, 60)), /no key .* opens it/, KEY],
    'an encrypted file and another key': [() => write(keptSealed), /no key .* opens it/, OTHER_KEY],
    'an encrypted file and no key': [() => write(keptSealed), /is encrypted, and there is no key/],
    'a plain file and a key': [() => write(kept), /not encrypted, and there is a key now/, KEY],
    'a file that others can read': [() => (write(kept), chmodSync(made, 0o640)), /mode 0640: .* mode 0600/],
    'a symbolic link': [() => symlinkSync(plain, made), /symbolic link/],
    ...(process.getuid() === 0 && {
      'a file of another user': [() => (write(kept), chownSync(made, 65534, 65534)), /belongs to user 65534/],
    }),
  };
  for (const [what, [make, says, key]] of Object.entries(cases)) {
    rmSync(made, { force: true });
    make();
    const server = await start(t, made, { env: key ? { CURLEW_SECRETS_KEY: key } : {} });
    const { level, message } = await server.waitForLog(/snapshot_path \S+ is not used/);
    assert.equal(level, 'error');
    assert.match(message, says, what);
    assert.equal(await code(server, KNOWN), 4100, what);
    await server.stop();
  }
});

test('records are served within stale_if_error of the time when the database gave them', async (t) => {
  const [place, ...lines] = kept.trimEnd().split('\n').slice(2);
  const made = path.join(folder, 'old');
  const text = [
    place,
    ...lines.map((line) => {
      const { read, app: record } = JSON.parse(line);
      return JSON.stringify({ read: record.id === 'known' ? read - 3000 : read - 4000, app: record });
    }),
    '{"read":-1,"app":{}}',
    '{"read":1}',
    '',
  ].join('\n');
  writeFileSync(made, `curlew-apps-1 plain\n${createHash('sha256').update(text).digest('hex')}\n${text}`, {
    mode: 0o600,
  });
  const server = await start(t, made, { cache: { stale_if_error: 3600 } });
  await server.waitForLog(/^1 apps of an earlier run are known from \S+ \(2 were too old/);
  (await connect(server, { app: KNOWN })).destroy();
  assert.equal(await code(server, GONE), 4100);
});

test('without the cache, or without a file, nothing is served', async (t) => {
  const server = await start(t, plain, { cache: { enabled: false } });
  await server.waitForLog(/snapshot_path has no effect without the cache/);
  assert.equal(await code(server, KNOWN), 4100);
  const missing = path.join(folder, 'missing');
  const other = await start(t, missing);
  assert.equal(await code(other, KNOWN), 4100);
  assert.equal(await health(other), 'ERROR');
  await other.stop();
  assert.ok(!existsSync(missing));
});

test('the first answer of the database counts: an app that it does not have is gone at once', async (t) => {
  const server = await start(t, plain, { cache: { ttl: 2 } });
  const [known, gone] = [await connect(server, { app: KNOWN }), await connect(server, { app: GONE })];
  await backend.start();
  assert.equal((await gone.expect('pusher:error')).data.code, 4001);
  assert.equal(await code(server, GONE), 4001);
  known.send({ event: 'pusher:ping', data: {} });
  await known.expect('pusher:pong');
  assert.equal(await health(server), 'OK');
  await server.stop();
  const ids = readFileSync(plain, 'utf8').match(/"id":"\w+"/g);
  assert.ok(ids.includes('"id":"known"') && !ids.includes('"id":"gone"'), ids);
});

test('a file that cannot be written is an error, once', async (t) => {
  const server = await start(t, path.join(folder, 'nowhere', 'file'), { apps: [KNOWN] });
  (await connect(server, { app: KNOWN })).destroy();
  const { level, message } = await server.waitForLog(/snapshot_path cannot be written/);
  assert.equal(level, 'error');
  assert.match(message, /nowhere\/file\.\d+: No such file or directory/);
});

test('after an upgrade only the new process writes the file', async (t) => {
  const file = path.join(folder, 'upgraded');
  const server = await start(t, file, { apps: [KNOWN] });
  const client = await connect(server, { app: KNOWN }); // the file is due, and a stop would write it
  const { ended } = await server.upgrade();
  await server.waitForLog(/^shutting down/);
  rmSync(file, { force: true });
  await client.closing();
  await ended();
  assert.ok(!existsSync(file));
});

test('what a process left that was killed while it wrote is removed', async (t) => {
  const file = path.join(folder, 'cleaned');
  const [dead, lives, other] = [4194305, process.pid, '12x'].map((end) => `${file}.${end}`); // no pid is so high
  for (const name of [dead, lives, other]) writeFileSync(name, '');
  await start(t, file);
  assert.deepEqual([dead, lives, other].map(existsSync), [false, true, true]);
});
