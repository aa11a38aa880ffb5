// Which paths and methods there are: health, usage, HEAD, trailing slashes, 404 and 405.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, get, publish, request } from '../lib/api.js';
import { assertRefusal, subscriber } from '../lib/events.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const DISABLED = { id: 'disabled', key: 'disabled-key', secret: 'disabled-secret', enabled: false };
const INVALID = { id: 'invalid', key: 'invalid-key', secret: 'invalid-secret', max_connections: 1.5 };
const server = await sharedServer({ apps: [APP, DISABLED, INVALID] });

const ROUTES = {
  [`/apps/${APP.id}/events`]: ['POST'],
  [`/apps/${APP.id}/batch_events`]: ['POST'],
  [`/apps/${APP.id}/users/1/terminate_connections`]: ['POST'],
  [`/apps/${APP.id}/channels`]: ['GET', 'HEAD'],
  [`/apps/${APP.id}/channels/c`]: ['GET', 'HEAD'],
  [`/apps/${APP.id}/channels/presence-c/users`]: ['GET', 'HEAD'],
  '/up': ['GET', 'HEAD'],
  [`/up/${APP.id}`]: ['GET', 'HEAD'],
  '/usage': ['GET', 'HEAD'],
  '/live': ['GET', 'HEAD'],
  '/ready': ['GET', 'HEAD'],
  '/accept-traffic': ['GET', 'HEAD'],
  [`/apps/${APP.id}/connections`]: ['GET', 'HEAD'],
  [`/apps/${APP.id}/users/1/force_reconnect`]: ['POST'],
};

function assertHealth(response, status, text) {
  assert.equal(response.status, status, response.body);
  assert.equal(response.body, text);
  assert.equal(response.headers['x-health-check'], text);
}

describe('health', () => {
  test('a server with an app is OK', async () => {
    assertHealth(await get(`${server.url}/up`), 200, 'OK');
    assertHealth(await get(`${server.url}/up/${APP.id}`), 200, 'OK');
  });

  test('an app that is not there is NOT_FOUND', async () => {
    assertHealth(await get(`${server.url}/up/nobody`), 404, 'NOT_FOUND');
    assertHealth(await get(`${server.url}/up/${APP.key}`), 404, 'NOT_FOUND');
  });

  test('a disabled app is an ERROR', async () => {
    assertHealth(await get(`${server.url}/up/${DISABLED.id}`), 503, 'ERROR');
  });

  test('a server without any app is an ERROR, until it gets one', async (t) => {
    const empty = await serverFor(t, { apps: [] });
    assertHealth(await get(`${empty.url}/up`), 503, 'ERROR');
    assertHealth(await get(`${empty.url}/up/${APP.id}`), 404, 'NOT_FOUND');
    await empty.reload({ apps: [APP] });
    assertHealth(await get(`${empty.url}/up`), 200, 'OK');
    assertHealth(await get(`${empty.url}/up/${APP.id}`), 200, 'OK');
  });

  test('HEAD tells it in the header alone', async () => {
    for (const [path, status, text] of [
      ['/up', 200, 'OK'],
      ['/up/nobody', 404, 'NOT_FOUND'],
      [`/up/${DISABLED.id}`, 503, 'ERROR'],
    ]) {
      const response = await request(server.url + path, { method: 'HEAD' });
      assert.equal(response.status, status);
      assert.equal(response.headers['x-health-check'], text);
      assert.equal(response.body, '');
    }
  });
});

describe('live and ready', () => {
  const answers = async (other) => {
    const found = {};
    for (const path of ['live', 'ready', 'accept-traffic']) {
      const { status, body, headers } = await get(`${other.url}/${path}`);
      assert.equal(headers['x-health-check'], body);
      found[path] = `${status} ${body}`;
    }
    return found;
  };
  const all = (ready) => ({ live: '200 OK', ready, 'accept-traffic': ready });

  test('a server that takes clients is both, even without an app', async (t) => {
    assert.deepEqual(await answers(server), all('200 OK'));
    assert.deepEqual(await answers(await serverFor(t, { apps: [] })), all('200 OK'));
  });

  test('over the memory threshold it is live but not ready', async (t) => {
    const full = await serverFor(t, { config: { http_api: { accept_traffic: { memory_threshold: 0.001 } } } });
    assert.deepEqual(await answers(full), all('503 MEMORY'));
  });

  test('started without its store it is live but not ready', async (t) => {
    const config = { app_manager: { driver: 'postgres' }, database: { postgres: { host: '127.0.0.1', port: 1 } } };
    assert.deepEqual(await answers(await serverFor(t, { config })), all('503 NO_STORE'));
  });
});

test('usage can be turned off, but not on the metrics port', async (t) => {
  const off = await serverFor(t, { config: { http_api: { usage_enabled: false } } });
  assertRefusal(await get(`${off.url}/usage`), 404, /http_api\.usage_enabled/);
  const byVariable = await serverFor(t, { env: { HTTP_API_USAGE_ENABLED: 'false' } });
  assert.equal((await get(`${byVariable.url}/usage`)).status, 404);
  for (const other of [off, server]) {
    const { status, json } = await get(other.metricsUrl.replace('/metrics', '/usage'));
    assert.equal(status, 200);
    assert.ok(json.memory.total > 0);
  }
});

test('usage tells the memory of the machine in bytes', async () => {
  const { status, json, headers } = await get(`${server.url}/usage`);
  assert.equal(status, 200);
  assert.match(headers['content-type'], /^application\/json/);
  assert.deepEqual(Object.keys(json), ['memory']);
  const { free, used, total, percent } = json.memory;
  assert.deepEqual(Object.keys(json.memory).sort(), ['free', 'percent', 'total', 'used']);
  assert.ok(total > 16 * 1024 * 1024, `total ${total}`);
  assert.ok(used > 0 && used <= total && free >= 0 && free <= total, JSON.stringify(json));
  assert.ok(Math.abs(percent - (100 * used) / total) < 1, JSON.stringify(json));
});

describe('paths and methods', () => {
  test('a path that leads nowhere is 404', async () => {
    for (const path of [
      '/',
      '/apps',
      `/apps/${APP.id}`,
      `/apps/${APP.id}/event`,
      `/apps/${APP.id}/events/x`,
      `/apps/${APP.id}/users`,
      `/apps/${APP.id}/users/1`,
      '/usage/x',
      '/upx',
      '//up',
      '/metrics',
      '/APPS/app-id/events',
    ]) {
      for (const method of ['GET', 'POST']) {
        assertRefusal(await request(server.url + path, { method }), 404);
      }
    }
  });

  for (const [path, allowed] of Object.entries(ROUTES)) {
    test(`${path} allows ${allowed.join(' and ')}; other methods are 405 with Allow`, async () => {
      for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'].filter(
        (name) => !allowed.includes(name),
      )) {
        const response = await request(server.url + path, { method });
        assert.equal(response.status, 405, `${method} ${response.body}`);
        const allow = response.headers.allow.split(/\s*,\s*/);
        for (const name of allowed) assert.ok(allow.includes(name), `${name} in Allow: ${allow}`);
        assert.ok(!allow.includes(method), `${method} in Allow: ${allow}`);
      }
    });
  }

  test('HEAD works where GET does, with the headers of GET and no body', async (t) => {
    await subscriber(server, t, 'head');
    for (const path of ['/channels', '/channels/head', '/channels/presence-head/users']) {
      const gotten = await api(server, 'GET', path);
      const headed = await api(server, 'HEAD', path);
      assert.equal(headed.status, 200);
      assert.equal(headed.body, '');
      assert.equal(headed.headers['content-type'], gotten.headers['content-type']);
      assert.equal(headed.headers['content-length'], gotten.headers['content-length']);
    }
    // A body would be taken for the next answer here.
    const http = await RawHttp.connect(server);
    t.after(() => http.destroy());
    const paths = [
      '/up',
      '/usage',
      '/nowhere',
      signedPath(APP, 'HEAD', `/apps/${APP.id}/channels`),
      `/apps/${APP.id}/channels`,
    ];
    for (const path of paths) http.send('HEAD', path);
    http.send('GET', '/up');
    const statuses = [];
    for (let i = 0; i <= paths.length; i++) statuses.push((await http.next()).status);
    assert.deepEqual(statuses, [200, 200, 404, 200, 401, 200]);
  });

  test('one trailing slash is dropped, two are not', async () => {
    assertHealth(await get(`${server.url}/up/`), 200, 'OK');
    assertHealth(await get(`${server.url}/up/${APP.id}/`), 200, 'OK');
    assert.equal((await get(`${server.url}/usage/`)).status, 200);
    assert.equal((await api(server, 'GET', '/channels/')).status, 200);
    assert.equal((await api(server, 'GET', '/channels/c/')).status, 200);
    const event = { name: 'e', channel: 'c', data: 'x' };
    assert.equal((await api(server, 'POST', '/events/', { body: event })).status, 200);
    assert.equal((await api(server, 'POST', '/users/1/terminate_connections/', { body: {} })).status, 200);
    assert.equal((await get(`${server.url}/usage//`)).status, 404);
  });

  test('with a path_prefix every path begins with it', async (t) => {
    const prefixed = await serverFor(t, { config: { path_prefix: '/a/b/' } });
    assertHealth(await get(`${prefixed.url}/a/b/up`), 200, 'OK');
    assertHealth(await get(`${prefixed.url}/a/b/up/`), 200, 'OK');
    assert.equal((await get(`${prefixed.url}/a/b/usage`)).status, 200);
    const channels = (path) => get(prefixed.url + signedPath(APP, 'GET', path));
    assert.equal((await channels(`/a/b/apps/${APP.id}/channels`)).status, 200);
    for (const path of ['/up', '/a/up', '/a/bup', '/a/b', '/a/b/', '/a/b/a/b/up'])
      assertRefusal(await get(prefixed.url + path), 404);
    assertRefusal(await channels(`/apps/${APP.id}/channels`), 404);
  });

  test('a Content-Type is not required, nor believed', async () => {
    const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x' });
    const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body });
    for (const headers of [
      {},
      { 'Content-Type': 'text/plain' },
      { 'Content-Type': 'application/x-www-form-urlencoded' },
    ]) {
      const response = await request(server.url + target, { method: 'POST', body, headers });
      assert.equal(response.status, 200, response.body);
    }
  });

  test('a query is no part of the path, and an absolute target names the same route', async (t) => {
    assertHealth(await get(`${server.url}/up?now=1&x`), 200, 'OK');
    const http = await RawHttp.connect(server);
    t.after(() => http.destroy());
    http.send('GET', `${server.url}/up`);
    assert.equal((await http.next()).text, 'OK');
  });
});

// 404, 500, 401, 403, 413, 400: each request below breaks the rule of its own step and of all later ones.
describe('the order of the checks', () => {
  const events = (app, body, options) => api(server, 'POST', '/events', { app, body, ...options });
  const noJson = 'this is no JSON';
  const oversized = { name: '', channel: 'no good!', data: 'x'.repeat(110_000) };

  test('an unknown app comes before everything', async () => {
    assertRefusal(await request(`${server.url}/apps/nobody/events`, { method: 'POST', body: noJson }), 404, /app/i);
    assertRefusal(await events({ ...APP, id: 'nobody' }, oversized), 404);
  });

  test('an invalid record comes before the signature, and the text names its field', async () => {
    assertRefusal(
      await request(`${server.url}/apps/${INVALID.id}/events`, { method: 'POST', body: noJson }),
      500,
      /max_connections/,
    );
    assertRefusal(await events(INVALID, oversized), 500, /max_connections/);
  });

  test('the signature comes before a disabled app, the size and the body', async () => {
    assertRefusal(await events(DISABLED, noJson, { signAs: { secret: 'wrong' } }), 401);
    assertRefusal(await events(APP, oversized, { signAs: { secret: 'wrong' } }), 401);
    assertRefusal(await events(APP, noJson, { signAs: { secret: 'wrong' } }), 401);
  });

  test('a disabled app comes before the size and the body', async () => {
    assertRefusal(await events(DISABLED, oversized), 403, /disabled/);
    assertRefusal(await events(DISABLED, noJson), 403, /disabled/);
    for (const path of ['/channels', '/channels/c', '/channels/presence-c/users']) {
      assertRefusal(await api(server, 'GET', path, { app: DISABLED }), 403, /disabled/);
    }
    assertRefusal(await api(server, 'POST', '/users/1/terminate_connections', { app: DISABLED }), 403, /disabled/);
    assertRefusal(await api(server, 'POST', '/batch_events', { app: DISABLED, body: {} }), 403, /disabled/);
  });

  test('the size of the payload comes before the rest of the body', async () => {
    assertRefusal(await events(APP, oversized), 413, /max_event_payload_in_kb/);
    const batch = [{ name: 'e', channel: 'no good!', data: 'x' }, oversized];
    assertRefusal(await api(server, 'POST', '/batch_events', { body: { batch } }), 413, /max_event_payload_in_kb/);
  });

  test('a good request still gets through', async () => {
    assert.deepEqual(await publish(server, { name: 'e', channel: 'c', data: 'x' }), {});
  });
});
