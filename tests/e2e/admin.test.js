// The admin API: /admin/apps on a listener of its own. Every write is in force before it is answered.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { refusesBadAfter } from '../lib/admin-list.js';
import { request } from '../lib/api.js';
import { appsDone } from '../lib/apps-command.js';
import { connect } from '../lib/client.js';
import { eventually } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { encodeFrame, OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { runCurlew, serverFor, startServer } from '../lib/server.js';

const TOKEN = 'a token of at least thirty-two characters';
const AN_APP = { id: 'one', key: 'one-key', secret: 'one-secret' };

function settings(file) {
  return {
    apps: [],
    config: { app_manager: { driver: 'sqlite', cache: { negative_ttl: 3600 } }, database: { sqlite: { path: file } } },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  };
}

async function adminUrl(server) {
  const { message } = await server.waitForLog(/^admin API on /);
  return message.match(/http:\/\/\S+/)[0];
}

function callerOf(base) {
  return async (method, where = '', body, headers = { authorization: `Bearer ${TOKEN}` }) => {
    const sent = typeof body === 'object' ? JSON.stringify(body) : body;
    const { status, json = null, headers: received } = await request(base + where, { method, headers, body: sent });
    return { status, json, headers: received };
  };
}

async function adminServerFor(t) {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await serverFor(t, settings(file));
  const base = await adminUrl(server);
  return { server, call: callerOf(base), file, origin: new URL(base).origin };
}

async function refusedWith(server, key, code) {
  const ws = await RawWebSocket.connect(server, { key });
  assert.equal((await ws.expect('pusher:error')).data.code, code);
  ws.destroy();
}

describe('apps', () => {
  test('are created, shown, changed and deleted, each at once in force', async (t) => {
    const { server, call } = await adminServerFor(t);
    await refusedWith(server, 'one-key', 4001); // and now known not to be there
    const created = await call('POST', '', AN_APP);
    assert.equal(created.status, 201);
    assert.equal(created.json.id, 'one');
    assert.equal('secret' in created.json, false);
    const ws = await connect(server, { app: AN_APP, t });

    const patched = await call('PATCH', '/one', { key: 'new-key', max_connections: 1 });
    assert.equal(patched.status, 200);
    assert.equal(patched.json.max_connections, 1);
    await refusedWith(server, 'one-key', 4001);
    await refusedWith(server, 'new-key', 4004); // the connection that is open counts

    const disabled = await call('PATCH', '/one', { enabled: false });
    assert.equal(disabled.status, 200);
    assert.equal((await ws.expect('pusher:error')).data.code, 4003);

    const deleted = await call('DELETE', '/one');
    assert.deepEqual([deleted.status, deleted.json], [200, {}]);
    assert.equal((await call('GET', '/one')).status, 404);
    await refusedWith(server, 'new-key', 4001);
  });

  test('that are deleted may be forgotten before their clients have answered the close', async (t) => {
    const { server, call } = await adminServerFor(t);
    await call('POST', '', AN_APP);
    const clients = await Promise.all(
      Array.from({ length: 4 }, () => connect(server, { app: AN_APP, t, answerClose: false })),
    );
    await call('DELETE', '/one');
    for (const ws of clients) assert.equal((await ws.closing()).code, 4001);
    await eventually(server, (metrics) => assert.equal(metrics.select('connected', { app_id: 'one' }).length, 0));
    for (const ws of clients) ws.write(encodeFrame({ opcode: OPCODE.ping, payload: 'still here' }));
    for (const ws of clients) await ws.closed();
    assert.equal((await call('GET', '/one')).status, 404);
  });

  test('are answered as the store has them, by every method', async (t) => {
    const { call } = await adminServerFor(t);
    const shown = async () => (await call('GET', '/one')).json;
    const created = await call('POST', '', AN_APP);
    assert.equal(created.json.enabled, true);
    assert.equal(created.json.max_connections, 100);
    assert.deepEqual(created.json, await shown());
    const replaced = await call('PUT', '/one?secrets=1', { key: 'k2', secret: 's2' });
    assert.deepEqual(replaced.json, (await call('GET', '/one?secrets=1')).json);
    assert.equal(replaced.json.secret, 's2');
    assert.deepEqual((await call('PATCH', '/one', { enabled: false })).json, await shown());
  });

  test('each change is a line of the log, with the address and the names of the fields, without their values', async (t) => {
    const { server, call } = await adminServerFor(t);
    await call('POST', '', { ...AN_APP, max_connections: 5 });
    await call('POST', '', AN_APP); // 409
    await call('PATCH', '/one', { secret: 'another-secret', max_connections: 6, allowed_origins: ['a.example'] });
    await call('PATCH', '/one', { max_connections: 6 });
    await call('PUT', '/one', { key: 'k2', secret: 's2' });
    await call('DELETE', '/one');
    await call('DELETE', '/one'); // 404
    await server.waitForLog(/^app one was deleted through the admin API/);
    const lines = server.log.all.filter((line) => /through the admin API/.test(line.message));
    assert.deepEqual(
      lines.map((line) => line.level),
      ['info', 'info', 'info', 'info', 'warn'],
    );
    const [created, patched, again, replaced, deleted, ...more] = lines.map((line) => line.message);
    assert.match(
      created,
      /^app one was created through the admin API by 127\.0\.0\.1: .*\bid, key, secret\b.*\bmax_connections\b/,
    );
    assert.equal(
      patched,
      'app one was changed through the admin API by 127.0.0.1: secret, max_connections, allowed_origins',
    );
    assert.equal(again, 'app one was changed through the admin API by 127.0.0.1: no field differs');
    assert.match(
      replaced,
      /^app one was changed through the admin API by 127\.0\.0\.1: key, secret\b.*\ballowed_origins\b/,
    );
    assert.equal(deleted, 'app one was deleted through the admin API by 127.0.0.1; it had 0 connections here');
    assert.deepEqual(more, []);
    for (const line of server.log.all) assert.doesNotMatch(line.message, /one-secret|another-secret|a\.example/);
  });

  test('are replaced as a whole by PUT, and field by field by PATCH, where null unsets', async (t) => {
    const { call } = await adminServerFor(t);
    await call('POST', '', { ...AN_APP, max_event_batch_size: 7, allowed_origins: ['a.example'] });
    assert.equal((await call('PATCH', '/one', { max_event_batch_size: null })).status, 200);
    let { json } = await call('GET', '/one?secrets=1');
    assert.equal('max_event_batch_size' in json, false);
    assert.deepEqual(json.allowed_origins, ['a.example']);
    assert.equal(json.secret, 'one-secret');
    assert.equal((await call('PUT', '/one', { key: 'k2', secret: 's2' })).status, 200);
    ({ json } = await call('GET', '/one?secrets=1'));
    assert.equal(json.secret, 's2');
    assert.equal('allowed_origins' in json, false);
  });

  test('are listed in pages, secrets only when asked for', async (t) => {
    const { call } = await adminServerFor(t);
    for (let i = 0; i < 5; i++) await call('POST', '', { id: `app-${i}`, key: `key-${i}`, secret: 'hidden-secret' });
    const first = await call('GET', '?limit=2');
    assert.deepEqual(
      first.json.apps.map((app) => app.id),
      ['app-0', 'app-1'],
    );
    assert.equal(first.json.next, 'app-1');
    assert.equal(JSON.stringify(first.json).includes('hidden-secret'), false);
    assert.equal(first.headers['cache-control'], 'no-store');
    const rest = await call('GET', '?limit=10&after=app-1&secrets=1');
    assert.deepEqual(
      rest.json.apps.map((app) => app.id),
      ['app-2', 'app-3', 'app-4'],
    );
    assert.equal(rest.json.apps[0].secret, 'hidden-secret');
    assert.equal('next' in rest.json, false);
  });

  test('are not listed with an invalid limit: 400 names the parameter', async (t) => {
    const { call } = await adminServerFor(t);
    await call('POST', '', AN_APP);
    for (const limit of ['', '0', '1001', '-1', '1x', '99999999999999999999999']) {
      const { status, json } = await call('GET', `?limit=${limit}`);
      assert.deepEqual([status, json.field], [400, 'limit'], limit);
    }
  });

  test('are not listed after what cannot be an id', async (t) => {
    await refusesBadAfter(t, settings(path.join(folderWith(t), 'apps.db')).config);
  });

  test('that the command line wrote are in force when it told the server', async (t) => {
    const { server, call, file, origin } = await adminServerFor(t);
    const config = path.join(
      folderWith(t, {
        'config.json': { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } },
      }),
      'config.json',
    );
    const env = { CURLEW_ADMIN_URL: origin, CURLEW_ADMIN_TOKEN: TOKEN };
    await call('POST', '', AN_APP);
    const ws = await connect(server, { app: AN_APP, t });
    await appsDone(t, ['disable', 'one', '-c', config], { env });
    assert.equal((await ws.expect('pusher:error')).data.code, 4003);
    await refusedWith(server, 'two-key', 4001);
    await appsDone(t, ['create', '-c', config, '--id', 'two', '--key', 'two-key', '--secret', 's'], { env });
    await connect(server, { app: { id: 'two', key: 'two-key', secret: 's' }, t });
  });
});

test('the log level is shown and set', async (t) => {
  const { server, origin } = await adminServerFor(t);
  const call = callerOf(`${origin}/admin/log-level`);
  assert.deepEqual((await call('GET')).json, { level: 'info' });
  assert.deepEqual((await call('PUT', '', { level: 'debug' })).json, { level: 'debug' });
  await server.waitForLog(/^the log level is debug now, through the admin API by 127\.0\.0\.1$/);
  await refusedWith(server, 'one-key', 4001);
  await server.waitForLog(({ level, message }) => level === 'debug' && /refused with 4001/.test(message));
  assert.deepEqual((await call('PUT', '', { level: 'warn' })).json, { level: 'warn' });
  assert.deepEqual((await call('GET')).json, { level: 'warn' });
  for (const body of [{ level: 'loud' }, { level: 3 }, {}, '[]', '{', '']) {
    const { status, json } = await call('PUT', '', body);
    assert.deepEqual([status, json.field], [422, 'level'], JSON.stringify(body));
  }
  assert.equal((await call('PUT', '', { level: 'debug' }, {})).status, 401);
  assert.deepEqual((await call('GET')).json, { level: 'warn' });
});

describe('bad input', () => {
  let call;
  let server;
  let folder;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'curlew-admin-'));
    server = await startServer(settings(path.join(folder, 'apps.db')));
    call = callerOf(await adminUrl(server));
    await call('POST', '', AN_APP);
    await call('POST', '', { id: 'two', key: 'two-key', secret: 's' });
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  test('an error says what is wrong even where it cuts a character in two', async () => {
    const webhooks = [
      { url: 'https://a.example/', event_types: ['channel_occupied'], headers: { [`${'a'.repeat(59)}\u00e9 `]: 'x' } },
    ];
    const { status, json } = await call('POST', '', { id: 'three', key: 'three-key', secret: 's', webhooks });
    assert.equal(status, 422);
    assert.deepEqual(json, {
      error: `app "three": webhooks[0].headers: "${'a'.repeat(59)}?" cannot be the name of an HTTP header`,
      field: 'webhooks',
    });
  });

  test('a webhook cannot have a header that belongs to the server', async () => {
    const webhooks = [{ url: 'https://a.example/', event_types: [], headers: { 'x-pusher-key': 'x' } }];
    const { status, json } = await call('POST', '', { id: 'three', key: 'three-key', secret: 's', webhooks });
    assert.equal(status, 422);
    assert.match(json.error, /webhooks\[0\]\.headers: x-pusher-key is set by the server/);
  });

  test('without the token there is nothing but 401', async () => {
    for (const headers of [
      {},
      { authorization: 'Bearer ' },
      { authorization: `Bearer ${TOKEN}x` },
      { authorization: `Basic ${TOKEN}` },
    ]) {
      const answer = await call('GET', '', undefined, headers);
      assert.equal(answer.status, 401);
      assert.equal(answer.headers['www-authenticate'], 'Bearer');
      assert.equal(JSON.stringify(answer.json).includes(TOKEN), false);
    }
    assert.equal((await call('POST', '', AN_APP, {})).status, 401);
  });

  test('unknown apps are 404', async () => {
    for (const [method, body] of [['GET'], ['PUT', { key: 'k', secret: 's' }], ['PATCH', {}], ['DELETE']]) {
      const answer = await call(method, '/nobody', body);
      assert.equal(answer.status, 404, method);
      assert.match(answer.json.error, /nobody/);
    }
    assert.equal((await call('POST', '/nobody/refresh')).status, 200); // it may just have been deleted
    await server.waitForLog(
      /^app nobody is read again: 127\.0\.0\.1 asked for it, as `curlew apps` does after a change$/,
    );
  });

  test('names that are taken are 409 and say which', async () => {
    const id = await call('POST', '', { ...AN_APP, key: 'other' });
    assert.deepEqual([id.status, id.json.field], [409, 'id']);
    const key = await call('POST', '', { id: 'three', key: 'one-key', secret: 's' });
    assert.deepEqual([key.status, key.json.field], [409, 'key']);
    const change = await call('PATCH', '/two', { key: 'one-key' });
    assert.deepEqual([change.status, change.json.field], [409, 'key']);
  });

  test('integers are taken for names, and -1 for no limit', async () => {
    const made = await call('POST', '', { id: 40000, key: 40001, secret: 40002, max_connections: -1 });
    assert.equal(made.status, 201, JSON.stringify(made.json));
    const { id, key, secret, max_connections } = (await call('GET', '/40000?secrets=1')).json;
    assert.deepEqual(
      { id, key, secret, max_connections },
      { id: '40000', key: '40001', secret: '40002', max_connections: 0 },
    );
    assert.equal((await call('DELETE', '/40000')).status, 200);
    const long = '123456789012345678901234567890';
    const { status } = await call('POST', '', `{"id":${long},"key":${long},"secret":${long}1}`);
    assert.equal(status, 201);
    assert.equal((await call('GET', `/${long}?secrets=1`)).json.secret, `${long}1`);
    assert.equal((await call('DELETE', `/${long}`)).status, 200);
    const zero = await call('POST', '', '{"id":-0,"key":"k","secret":"s"}');
    assert.match(zero.json.error, /an app with an invalid id/);
  });

  test('a field that breaks a rule is 422 with its name', async () => {
    const cases = [
      [{ max_connections: -2 }, 'max_connections'],
      [{ enabled: 'maybe' }, 'enabled'],
      [{ id: 'a/b' }, 'id'],
      [{ key: '' }, 'key'],
      [{ secret: 5.5 }, 'secret'],
      [{ allowed_origins: ['*.*'] }, 'allowed_origins'],
      [{ webhooks: {} }, 'webhooks'],
      [{ channel_delta_compression: [] }, 'channel_delta_compression'],
      [{ max_event_batch_size: 4294967296 }, 'max_event_batch_size'],
    ];
    for (const [change, field] of cases) {
      const answer = await call('POST', '', { id: 'x', key: 'x-key', secret: 's', ...change });
      assert.deepEqual([answer.status, answer.json.field], [422, field], JSON.stringify(answer.json));
      assert.match(answer.json.error, new RegExp(field));
    }
    const missing = await call('POST', '', { id: 'x', key: 'x-key' });
    assert.deepEqual([missing.status, missing.json.field], [422, 'secret']);
    const renamed = await call('PATCH', '/one', { id: 'other' });
    assert.deepEqual([renamed.status, renamed.json.field], [422, 'id']);
    for (const [method, path, record] of [
      ['POST', '', { id: 'x', key: 'x-key', secret: 's' }],
      ['PATCH', '/one', {}],
      ['PUT', '/one', { key: 'one-key', secret: 's' }],
    ]) {
      const slip = await call(method, path, { ...record, maxConnections: 5 });
      assert.deepEqual(
        [slip.status, slip.json],
        [
          422,
          { error: 'maxConnections is not a field of an app; did you mean max_connections?', field: 'maxConnections' },
        ],
      );
    }
    assert.equal((await call('GET', '/x')).status, 404);
  });

  test('what is no JSON object, no good limit, path or method says so', async () => {
    for (const body of ['', '[]', '{"id":', '"x"', '{"id":"a","id":"b"}'])
      assert.equal((await call('POST', '', body)).status, 400, body);
    for (const limit of ['0', '1001', '-1', 'x', ''])
      assert.equal((await call('GET', `?limit=${limit}`)).status, 400, limit);
    assert.equal((await call('GET', '/one/refresh')).status, 405);
    assert.equal((await call('DELETE', '')).status, 405);
    assert.equal((await call('POST', '', ' '.repeat(1024 * 1024 + 1))).status, 413);
  });

  test('the main port knows nothing of it', async () => {
    const answer = await fetch(`http://127.0.0.1:${server.port}/admin/apps`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    assert.equal(answer.status, 404);
  });

  for (const address of ['nowhere', '9602', ':9602', '127.0.0.1:', '127.0.0.1:65536', '127.0.0.1:9602x']) {
    test(`${address} is no address, and like any variable it is ignored with a warning`, async () => {
      const { stdout } = await runCurlew(['check'], {
        config: {},
        env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: address },
      });
      assert.match(stdout, /^warning: the environment variable CURLEW_ADMIN_LISTEN must be HOST:PORT/m);
    });
  }

  test('an address that is not to be had ends the start with its setting', async () => {
    const ended = await runCurlew(['serve'], {
      config: {
        port: 0,
        metrics: { enabled: false },
        app_manager: { driver: 'sqlite' },
        database: { sqlite: { path: ':memory:' } },
      },
      env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: `127.0.0.1:${server.port}` },
    });
    assert.equal(ended.code, 1);
    assert.match(ended.stderr, /CURLEW_ADMIN_LISTEN: cannot listen on 127\.0\.0\.1 port \d+: Address already in use/);
  });
});

test('with the memory driver there is no admin API, and the log says so', async (t) => {
  const memory = await serverFor(t, { env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' } });
  await memory.waitForLog(/the memory driver has nothing to administer/);
});

test('with a token of fewer than 32 characters there is no admin API, and the log says why', async (t) => {
  const { env, ...rest } = settings(path.join(folderWith(t), 'apps.db'));
  const server = await serverFor(t, { ...rest, env: { ...env, CURLEW_ADMIN_TOKEN: 'x'.repeat(31) } });
  await server.waitForLog(/CURLEW_ADMIN_TOKEN must have 32 characters/);
  assert.equal(
    server.log.all.some(({ message }) => /^admin API on/.test(message)),
    false,
  );
});
