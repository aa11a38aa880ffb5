// Two secrets during a rotation: the Node SDK of the protocol with either, everywhere a signature counts.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';

import { apps, appsDone } from '../lib/apps-command.js';
import { connect, signin, subscribe, subscribeRefused } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const SdkForNode = createRequire(import.meta.url)('pusher');

const NEW = { id: '7', key: 'app-7', secret: 'the-new-one' };
const OLD = { ...NEW, secret: 'the-old-one' };
const TOKEN = 'a token of at least thirty-two characters';
const nowS = () => Math.floor(Date.now() / 1000);

const sdk = (server, { id: appId, key, secret }) =>
  new SdkForNode({ appId, key, secret, host: server.host, port: String(server.port), useTLS: false });

// Publishes with the SDK; resolves to the status.
const publishes = (server, app) =>
  sdk(server, app)
    .trigger('private-a', 'e', 'x')
    .then(({ status }) => status)
    .catch(({ status }) => status);

test('until its time the previous secret signs requests, channels and sign-ins, and a metric counts them', async (t) => {
  const apps = [{ ...NEW, previous_secret: OLD.secret, previous_secret_until: nowS() + 3600 }];
  const server = await serverFor(t, { apps });
  const used = async () => (await fetchMetrics(server)).sum('previous_secret_signatures_total', { app_id: NEW.id });

  for (const app of [NEW, OLD]) {
    assert.equal(await publishes(server, app), 200);
    const ws = await connect(server, { app, t });
    await subscribe(ws, 'private-a');
    await subscribe(ws, 'presence-a', { user: { user_id: 'u' } });
    await signin(ws, { id: 'u' });
    await eventually(server, (metrics) =>
      assert.equal(metrics.sum('previous_secret_signatures_total', { app_id: NEW.id }), app === NEW ? 0 : 4),
    );
  }
  const other = { ...NEW, secret: 'another' };
  assert.equal(await publishes(server, other), 401);
  const ws = await connect(server, { app: other, t });
  await subscribeRefused(ws, 'private-a', { type: 'AuthError', status: 401 });
  assert.equal(await used(), 4);

  await server.reload({ apps: [{ ...NEW, previous_secret: OLD.secret }] });
  assert.equal(await publishes(server, OLD), 401); // without a time it is not accepted
  assert.equal(await publishes(server, NEW), 200);
});

test('the previous secret ends by the clock, without a change of the record', async (t) => {
  const until = nowS() + 4;
  const apps = [{ ...NEW, previous_secret: OLD.secret, previous_secret_until: until }];
  const server = await serverFor(t, { apps });
  const ws = await connect(server, { app: OLD, t });
  let status = 200;
  let at = 0;
  while (status === 200) {
    at = nowS();
    status = await publishes(server, OLD);
  }
  assert.equal(status, 401);
  assert.ok(nowS() >= until, 'refused before its time');
  assert.ok(at <= until + 1, 'accepted after its time');
  await subscribeRefused(ws, 'private-a', { type: 'AuthError', status: 401 });
  assert.equal(await publishes(server, NEW), 200);
});

// A server with an SQLite store and the admin API: {server, admin(method, where, body), file}.
async function storeFor(t, config = {}) {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await serverFor(t, {
    apps: [],
    config: {
      ...config,
      app_manager: { driver: 'sqlite', ...config.app_manager },
      database: { sqlite: { path: file } },
    },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  const base = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
  const admin = async (method, where = '', body) => {
    const answer = await fetch(base + where, {
      method,
      headers: { authorization: `Bearer ${TOKEN}` },
      body: body && JSON.stringify(body),
    });
    return { status: answer.status, json: await answer.json() };
  };
  return { server, admin, file, base };
}

test('a write that changes the secret ends the previous one; one that does not leaves a rotation as it is', async (t) => {
  const { server, admin } = await storeFor(t);
  const until = nowS() + 3600;
  const rotation = { previous_secret: OLD.secret, previous_secret_until: until };
  const secrets = async () => {
    const { id, secret, previous_secret, previous_secret_until } = (await admin('GET', '/7?secrets=1')).json;
    assert.equal(id, NEW.id);
    return [secret, previous_secret, previous_secret_until];
  };
  assert.equal((await admin('POST', '', { ...NEW, ...rotation })).status, 201);
  assert.deepEqual(await secrets(), [NEW.secret, OLD.secret, until]);
  assert.equal(await publishes(server, OLD), 200);

  const shown = (await admin('GET', '/7')).json;
  const listed = (await admin('GET')).json.apps[0];
  for (const app of [shown, listed])
    assert.deepEqual(
      Object.keys(app).filter((name) => name.includes('secret')),
      [],
    );
  for (const [method, body] of [
    ['PUT', { ...shown, secret: NEW.secret }], // what it showed, and the secret that it asks for
    ['PATCH', { max_connections: 7 }],
    ['PATCH', { secret: NEW.secret }],
  ]) {
    assert.equal((await admin(method, '/7', body)).status, 200);
    assert.deepEqual(await secrets(), [NEW.secret, OLD.secret, until], JSON.stringify(body));
  }

  assert.equal(
    (await admin('PATCH', '/7', { previous_secret: 'x', secret: 'y', previous_secret_until: 9 })).status,
    200,
  );
  assert.deepEqual(await secrets(), ['y', 'x', 9]);
  assert.equal((await admin('PATCH', '/7', { ...rotation, secret: NEW.secret })).status, 200);
  assert.deepEqual(await secrets(), [NEW.secret, OLD.secret, until]);
  for (const method of ['PATCH', 'PUT']) {
    assert.equal((await admin('PATCH', '/7', rotation)).status, 200);
    assert.equal((await admin(method, '/7', { ...shown, secret: `by-${method}` })).status, 200);
    assert.deepEqual(await secrets(), [`by-${method}`, undefined, undefined]);
    assert.equal(await publishes(server, OLD), 401);
    assert.equal(await publishes(server, { ...NEW, secret: `by-${method}` }), 200);
  }
  const changes = server.log.all.filter(({ message }) => /^app 7 was changed/.test(message));
  assert.match(changes.at(-1).message, /secret, previous_secret, previous_secret_until/);
  for (const { message } of server.log.all) assert.doesNotMatch(message, /the-old-one|the-new-one|by-PUT/);
});

test('a secret is rotated without a gap, and the command tells when the old one was last seen', async (t) => {
  const { server, admin, base } = await storeFor(t);
  const env = { CURLEW_ADMIN_URL: new URL(base).origin, CURLEW_ADMIN_TOKEN: TOKEN };
  const run = (...args) => appsDone(t, [...args, '-c', server.configFile], { env });
  const show = () => run('show', '7', '--json', '--show-secrets');
  assert.equal((await admin('POST', '', OLD)).status, 201);
  assert.equal(await publishes(server, OLD), 200);

  const before = nowS();
  const lines = (await run('rotate-secret', '7', '--overlap', '24h')).split('\n');
  const after = nowS();
  assert.equal(lines[0], 'the new secret of app 7:');
  const rotated = { ...NEW, secret: lines[1] };
  assert.match(lines[1], /^[0-9a-f]{64}$/);
  const until = Date.parse(lines[2].match(/^the old one is valid until (\S+)$/)[1]) / 1000;
  assert.ok(until >= before + 86400 && until <= after + 86400, lines[2]);
  const { previous_secret, previous_secret_until, previous_secret_last_seen } = await show();
  assert.deepEqual([previous_secret, previous_secret_until], [OLD.secret, until]);
  assert.equal(previous_secret_last_seen, null);

  const shown = await run('show', '7');
  assert.match(shown, /^previous_secret +\*{8}$/m);
  assert.match(shown, /^previous_secret_until +\*{8}$/m);
  assert.match(shown, /^previous_secret last seen +never since the server started$/m);
  assert.doesNotMatch(shown, new RegExp(OLD.secret));

  assert.equal(await publishes(server, rotated), 200);
  assert.equal((await show()).previous_secret_last_seen, null);
  const used = nowS();
  assert.equal(await publishes(server, OLD), 200);
  const seen = (await show()).previous_secret_last_seen;
  assert.ok(seen >= used && seen <= nowS(), seen);
  assert.match(await run('show', '7'), /^previous_secret last seen +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/m);

  assert.match(await run('rotate-secret', '7', '--revoke-previous'), /^app 7 has no previous secret any more$/m);
  assert.equal(await publishes(server, OLD), 401);
  assert.equal(await publishes(server, rotated), 200);
  assert.deepEqual(
    Object.keys(await show()).filter((name) => name.includes('previous')),
    [],
  );

  // a second rotation before the first has ended; then one without an overlap, which ends all old ones
  await run('rotate-secret', '7', '--overlap', '1h');
  const again = await apps(t, ['rotate-secret', '7', '--overlap', '90m', '-c', server.configFile], { env });
  assert.match(again.stderr, /the secret of the rotation before, valid until \S+, ends now/);
  assert.equal(await publishes(server, rotated), 401);
  assert.equal((await show()).previous_secret_last_seen, null); // nobody has used this one
  const { secret: last } = await run('rotate-secret', '7', '--json');
  assert.deepEqual(await show(), { ...(await show()), secret: last });
  assert.equal((await show()).previous_secret, undefined);
  assert.equal(await publishes(server, { ...NEW, secret: last }), 200);
});

test('an overlap that is no duration is refused, and a server that cannot be asked is a warning', async (t) => {
  const { server, admin } = await storeFor(t);
  await admin('POST', '', { ...NEW, previous_secret: OLD.secret, previous_secret_until: nowS() + 3600 });
  for (const overlap of ['24', 'h', '-1h', '1.5h', '24hours', '367d', '99999999999999999999d', '1w']) {
    const { code, stderr } = await apps(t, ['rotate-secret', '7', `--overlap=${overlap}`, '-c', server.configFile]);
    assert.deepEqual([code, stderr.includes('--overlap must be a duration')], [2, true], stderr);
  }
  const both = await apps(t, ['rotate-secret', '7', '--overlap', '1h', '--revoke-previous', '-c', server.configFile]);
  assert.equal(both.code, 2);
  assert.equal((await admin('GET', '/7?secrets=1')).json.secret, NEW.secret);
  const env = { CURLEW_ADMIN_URL: server.url, CURLEW_ADMIN_TOKEN: TOKEN };
  const { code, stdout, stderr } = await apps(t, ['show', '7', '-c', server.configFile], { env });
  assert.equal(code, 0);
  assert.match(stderr, /does not say when the previous secret of app 7 was last used: it answered with HTTP 404/);
  assert.doesNotMatch(stdout, /last seen/);
});
