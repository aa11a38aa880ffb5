// GET /stats: the totals of the app that signs, or of all apps where the operator allows it.

import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';

import { get, publish, request } from '../lib/api.js';
import { assertRefusal, nextOn, subscriber } from '../lib/events.js';
import { folderWith } from '../lib/process.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const OTHER = { id: 'other', key: 'other-key', secret: 'other-secret' };
const DISABLED = { id: 'disabled', key: 'disabled-key', secret: 'disabled-secret', enabled: false };
const TOKEN = 'a token of at least thirty-two characters';
const server = await sharedServer({ apps: [APP, OTHER, DISABLED] });

const signed = (app, options, from = server) => get(from.url + signedPath(app, 'GET', '/stats', options));

// Two connections, three channels of which one is a presence channel, and one event to two subscribers.
async function liveApp(t, from) {
  const first = await subscriber(from, t, ['a', 'b', 'presence-c'], { user: { user_id: '1' } });
  const second = await subscriber(from, t, 'a');
  await publish(from, { name: 'e', channel: 'a', data: 'x' });
  for (const ws of [first, second]) await nextOn(ws, 'a');
  return [first, second];
}

const OCCUPANCY = { channels: 3, subscriptions: 4, presence_channels: 1, presence_subscriptions: 1 };

describe('of one app', () => {
  test('are its totals', async (t) => {
    const own = await serverFor(t, { apps: [APP, OTHER] });
    await liveApp(t, own);
    const { status, json } = await signed(APP, {}, own);
    assert.equal(status, 200);
    const { messages, messages_received, messages_sent, ...rest } = json;
    assert.deepEqual(rest, { app_id: APP.id, connections: 2, channels: 3, publishes: 1, occupancy: OCCUPANCY });
    assert.equal(messages, messages_received + messages_sent);
    assert.equal(messages_received, 4); // the subscriptions
    assert.ok(messages_sent >= 2 + 4 + 2, `sent ${messages_sent}`); // established, subscribed, the event
    const other = (await signed(OTHER, {}, own)).json;
    assert.deepEqual([other.connections, other.channels, other.messages], [0, 0, 0]);
  });

  test('need a signature of the app whose key is given', async () => {
    assertRefusal(await get(`${server.url}/stats`), 401, /auth_key is missing/, /stats_public/);
    assertRefusal(await signed({ ...APP, key: 'nobody' }), 401, /auth_key/);
    assertRefusal(await signed({ ...APP, secret: 'wrong' }), 401, /auth_signature is wrong/);
    assertRefusal(await signed({ ...OTHER, key: APP.key }), 401, /auth_signature is wrong/);
    assertRefusal(await signed(DISABLED), 403, /disabled/);
    assert.equal((await request(server.url + signedPath(APP, 'HEAD', '/stats'), { method: 'HEAD' })).status, 200);
    assert.equal((await request(`${server.url}/stats`, { method: 'POST' })).status, 405);
  });

  test('are found with a path_prefix', async (t) => {
    const prefixed = await serverFor(t, { config: { path_prefix: '/p' } });
    const { status, json } = await get(prefixed.url + signedPath(APP, 'GET', '/p/stats'));
    assert.deepEqual([status, json.app_id], [200, APP.id]);
  });
});

describe('of all apps', () => {
  test('are there without a signature with http_api.stats_public, and of one app with one', async (t) => {
    const open = await serverFor(t, { apps: [APP, OTHER], config: { http_api: { stats_public: true } } });
    await liveApp(t, open);
    const { status, json, headers } = await get(`${open.url}/stats`, { headers: { 'Cache-Control': 'no-cache' } });
    assert.equal(status, 200);
    assert.match(headers['content-type'], /^application\/json/);
    assert.deepEqual(Object.keys(json).sort(), ['apps', 'memory', 'totals']);
    assert.ok(json.memory.total > 0);
    const { messages, messages_received, messages_sent, ...totals } = json.totals;
    assert.equal(messages, messages_received + messages_sent);
    assert.deepEqual(totals, { apps: 2, connections: 2, channels: 3, publishes: 1, occupancy: OCCUPANCY });
    assert.deepEqual(json.apps.map((app) => [app.app_id, app.connections]).sort(), [
      [APP.id, 2],
      [OTHER.id, 0],
    ]);
    assert.equal((await signed(OTHER, {}, open)).json.app_id, OTHER.id);
    assertRefusal(await signed({ ...OTHER, secret: 'wrong' }, {}, open), 401);
  });

  test('are on the admin listener, for those with its token', async (t) => {
    const own = await serverFor(t, {
      apps: [],
      config: {
        app_manager: { driver: 'sqlite' },
        database: { sqlite: { path: path.join(folderWith(t), 'apps.db') } },
      },
      env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
    });
    const { message } = await own.waitForLog(/^admin API on /);
    const origin = new URL(message.match(/http:\/\/\S+/)[0]).origin;
    const headers = { authorization: `Bearer ${TOKEN}` };
    const created = await request(`${origin}/admin/apps`, { method: 'POST', headers, body: JSON.stringify(APP) });
    assert.equal(created.status, 201);
    await liveApp(t, own);
    assertRefusal(await get(`${origin}/admin/stats`), 401);
    const { status, json } = await get(`${origin}/admin/stats`, { headers });
    assert.equal(status, 200);
    assert.deepEqual([json.totals.apps, json.totals.connections, json.apps[0].app_id], [1, 2, APP.id]);
    assertRefusal(await get(`${own.url}/stats`), 401);
  });
});
