// Many apps that vanish at once stay in force for a while: it may be a mistake.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { backendFor } from '../lib/backends/index.js';
import { closedWithError, connect, stillOpen } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith, start } from '../lib/process.js';
import { APP, BINARY, runCurlew, serverFor } from '../lib/server.js';

const TOKEN = 'a token of at least thirty-two characters';
const ids = ['one', 'two', 'three', 'four', 'five'];
const appOf = (id) => ({ id, key: `${id}-key`, secret: 's' });
const apps = ids.map(appOf);

const grace = (seconds) => ({ app_manager: { vanished_grace: seconds } });
const clientsOf = (server, t, list = apps) => Promise.all(list.map((app) => connect(server, { t, app })));
const heldNow = async (server) => (await fetchMetrics(server)).sum('apps_held');

async function allClosed(clients) {
  for (const ws of clients) await closedWithError(ws, 4001);
}

// Everybody is still there, and more are let in.
async function allServed(server, t, clients) {
  for (const ws of clients) assert.deepEqual(await stillOpen(ws), []);
  for (const ws of await clientsOf(server, t)) ws.destroy();
}

// The warnings about apps that were deleted, in the order of the apps.
const deletions = (server, by) =>
  server.log.all
    .filter(({ level, message }) => level === 'warn' && message.includes(` was deleted ${by}`))
    .map(({ message }) => message)
    .sort();

const deletion = (by, connections) => (id) =>
  `app ${id} was deleted ${by}; it had ${connections} connection${connections === 1 ? '' : 's'} here`;

describe('a reload of the configuration', () => {
  const BY = 'by a reload of the configuration';

  test('without most of the apps waits for a second SIGHUP with the same file', async (t) => {
    const server = await serverFor(t, { apps });
    const clients = await clientsOf(server, t);
    const [stays, ...go] = [clients[4], ...clients.slice(0, 4)];
    const { message } = await server.reload({ apps: [apps[4], APP] });
    assert.equal(message, 'apps reloaded: 1 added, 0 changed, 0 removed; the removal of the others is held');
    const { level } = await server.waitForLog(
      /^4 of 5 apps are not in the configuration any more \(four, one, three, two\)\. .* for 60 s .*SIGHUP once more/,
    );
    assert.equal(level, 'error');
    (await connect(server, { t })).destroy(); // what else the file says is in force
    await allServed(server, t, clients);
    assert.equal(await heldNow(server), 4);
    await eventually(server, (metrics) => assert.equal(metrics.sum('connected'), 5));

    assert.match((await server.hup()).message, / 0 added, 0 changed, 4 removed$/);
    await allClosed(go);
    assert.deepEqual(await stillOpen(stays), []);
    await eventually(server, () =>
      assert.deepEqual(deletions(server, BY), ids.slice(0, 4).map(deletion(BY, 1)).sort()),
    );
    const metrics = await fetchMetrics(server);
    assert.equal(metrics.sum('apps_held'), 0);
    assert.equal(metrics.sum('app_removals_held_total'), 1);
  });

  test('that brings them back ends it, and another file is looked at anew', async (t) => {
    const server = await serverFor(t, { apps });
    const clients = await clientsOf(server, t);
    await server.reload({ apps: apps.slice(0, 1) });
    assert.equal(await heldNow(server), 4);
    await server.reload({ apps: apps.slice(0, 2) }); // not the same file
    assert.equal(await heldNow(server), 3);
    assert.match((await server.reload({ apps })).message, / 0 added, 0 changed, 0 removed$/);
    assert.equal(await heldNow(server), 0);
    await allServed(server, t, clients);
    assert.match((await server.reload({ apps: apps.slice(0, 3) })).message, / 2 removed$/); // fewer go at once
    await allClosed(clients.slice(3));
  });

  test('without any app waits, be it only one; after the grace period it happens by itself', async (t) => {
    const server = await serverFor(t, { config: grace(1) });
    const ws = await connect(server, { t });
    assert.match((await server.reload({ apps: [] })).message, / 0 removed; the removal of the others is held$/);
    await closedWithError(ws, 4001);
    await eventually(server, () => assert.deepEqual(deletions(server, BY), [deletion(BY, 1)(APP.id)]));
    assert.equal(await heldNow(server), 0);
  });

  test('removes them at once with a grace period of 0', async (t) => {
    const server = await serverFor(t, { apps, config: grace(0) });
    const clients = await clientsOf(server, t);
    assert.match((await server.reload({ apps: [] })).message, / 5 removed$/);
    await allClosed(clients);
  });

  test('that does not find the file of the start changes nothing', async (t) => {
    const server = await serverFor(t, { apps });
    const clients = await clientsOf(server, t);
    fs.renameSync(server.configFile, `${server.configFile}.moved`);
    assert.match((await server.hup()).message, /^nothing was changed/);
    fs.renameSync(`${server.configFile}.moved`, server.configFile);
    await allServed(server, t, clients);

    // The file of the default place may be missing at a start, but not at a SIGHUP.
    const config = { port: 0, host: '127.0.0.1', metrics: { enabled: false }, app_manager: { array: { apps: [APP] } } };
    const folder = folderWith(t);
    const file = path.join(folder, 'config/config.json');
    fs.mkdirSync(path.dirname(file));
    fs.writeFileSync(file, JSON.stringify(config));
    const program = start(t, BINARY, ['serve'], { cwd: folder });
    const line = (pattern) => program.err.next((text) => pattern.test(text));
    const [, port] = (await line(/listening on/)).match(/:(\d+)$/);
    await line(/ready/);
    const ws = await connect({ host: '127.0.0.1', port: Number(port), own() {} }, { t });
    fs.unlinkSync(file);
    program.child.kill('SIGHUP');
    await line(/ERROR .*nothing was changed: the configuration file config\/config\.json is not there any more/);
    assert.deepEqual(await stillOpen(ws), []);
    ws.destroy();
    program.child.kill('SIGTERM');
    assert.deepEqual(await program.exited(), { code: 0, signal: null });
  });
});

const INSERT = (id) =>
  `INSERT INTO applications (id, key, secret, max_connections, max_client_events_per_second, enable_client_messages, ` +
  `enabled) VALUES ('${id}', '${id}-key', 's', 1000, 100, true, true);`;

const kinds = {
  async postgres(t) {
    const backend = await backendFor(t, 'postgres');
    await backend.createPlace('removal');
    const client = await backend.client('removal');
    t.after(() => client.end());
    return { config: backend.config('removal'), sql: (text) => client.query(text) };
  },
  async sqlite(t) {
    const file = path.join(folderWith(t), 'apps.db');
    const config = { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } };
    return { config, sql: (text) => execFileSync('sqlite3', ['-cmd', '.timeout 10000', file, text]) };
  },
};

for (const kind of Object.keys(kinds)) {
  describe(`rows that are deleted by hand, ${kind}`, () => {
    const BY = 'in the store';

    async function storeServer(t, seconds) {
      const { config, sql } = await kinds[kind](t);
      config.app_manager = { ...config.app_manager, ...grace(seconds).app_manager };
      const server = await serverFor(t, {
        apps,
        config,
        env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
      });
      await eventually(server, async () => (await connect(server, { app: apps[0] })).destroy());
      const { message } = await server.waitForLog(/^admin API on /);
      const url = message.match(/http:\/\/[^/]+/)[0];
      const command = (...words) =>
        runCurlew(['apps', ...words], { config, env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_URL: url } });
      const ask = (method, where) =>
        fetch(url + where, { method, headers: { authorization: `Bearer ${TOKEN}` } }).then((answer) => answer.json());
      return { server, sql, command, ask };
    }

    test('are held with their clients until they are back, or their removal is confirmed', async (t) => {
      const { server, sql, command, ask } = await storeServer(t, 3600);
      assert.equal((await command('confirm-removal')).stdout, 'the server holds no removal of apps\n');
      const clients = await clientsOf(server, t);
      await sql('DELETE FROM applications');
      const { level } = await server.waitForLog(
        /^5 of 5 apps have vanished from the store within 10 s \((\w+, ){4}\w+\)\. .* for 3600 s .*`curlew apps confirm-removal`/,
      );
      assert.equal(level, 'error');
      await eventually(server, (metrics) => assert.equal(metrics.sum('apps_held'), 5));
      await allServed(server, t, clients);

      await sql(ids.map(INSERT).join('\n'));
      await server.waitForLog(/^no removal is held any more: 0 of the apps were removed, 5 are in the store again$/);
      await allServed(server, t, clients);
      assert.deepEqual(deletions(server, BY), []);

      await sql('DELETE FROM applications');
      await eventually(server, (metrics) => assert.equal(metrics.sum('apps_held'), 5));
      await allServed(server, t, clients);
      await eventually(server, (metrics) => assert.equal(metrics.sum('connected'), 5));
      assert.equal((await command('confirm-removal')).stdout, 'confirmed the removal of 5 apps\n');
      await allClosed(clients);
      await eventually(server, () => assert.deepEqual(deletions(server, BY), ids.map(deletion(BY, 1)).sort()));
      await server.waitForLog(/^no removal is held any more: 5 of the apps were removed, 0 are in the store again$/);
      assert.equal((await fetchMetrics(server)).sum('app_removals_held_total'), 2);
      assert.deepEqual(await ask('POST', '/admin/confirm-removal'), { confirmed: 0 });
    });

    test('are removed after the grace period, and at once if a command or the admin API did it', async (t) => {
      const { server, sql, command, ask } = await storeServer(t, 1);
      let clients = await clientsOf(server, t);
      await sql('DELETE FROM applications');
      await server.waitForLog(/^5 of 5 apps have vanished/);
      await allClosed(clients);
      await eventually(server, (metrics) => assert.equal(metrics.sum('apps_held'), 0));

      await sql(ids.map(INSERT).join('\n'));
      await eventually(server, async () => {
        for (const ws of await Promise.all(apps.map((app) => connect(server, { app })))) ws.destroy();
      });
      clients = await clientsOf(server, t);
      assert.equal((await command('delete', 'one', 'two', 'three')).code, 0);
      await allClosed(clients.slice(0, 3));
      for (const id of ids.slice(3)) await ask('DELETE', `/admin/apps/${id}`);
      await allClosed(clients.slice(3));
      assert.equal((await fetchMetrics(server)).sum('app_removals_held_total'), 1);
    });
  });
}
