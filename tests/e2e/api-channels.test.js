// GET /apps/{id}/channels, /channels/{name} and /channels/{name}/users: what the server tells about its channels.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, join, signin, trySubscribe, unsubscribe } from '../lib/client.js';
import { assertRefusal, subscriber } from '../lib/events.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const server = await sharedServer();

const get = (path, query, options) => api(server, 'GET', path, { query, ...options });

async function assertAnswer(response, expected) {
  const { status, body, json, headers } = await response;
  assert.equal(status, 200, body);
  assert.match(headers['content-type'], /^application\/json/);
  assert.deepEqual(json, expected);
}

describe('the list of channels', () => {
  test('is empty when no channel is occupied', async (t) => {
    await assertAnswer(api(await serverFor(t), 'GET', '/channels'), { channels: {} });
  });

  test('holds the occupied channels of the app, of every kind', async (t) => {
    const other = { id: 'other', key: 'other-key', secret: 'other-secret' };
    const own = await serverFor(t, { apps: [APP, other] });
    const names = ['a', 'private-b', 'presence-c', 'cache-d', 'private-encrypted-e', 'presence-cache-f', 'g@,.;:#=_'];
    await subscriber(own, t, names, { user: { user_id: '1' } });
    const leaver = await subscriber(own, t, ['left', 'a']);
    unsubscribe(leaver, 'left');
    await leaver.fence();
    await publish(own, { name: 'e', channel: 'cache-unoccupied', data: 'x' });
    await signin(leaver, { id: '7' });
    await trySubscribe(leaver, '#server-to-user-7', { auth: '' });
    await subscriber(own, t, 'elsewhere', { app: other });
    await assertAnswer(api(own, 'GET', '/channels'), { channels: Object.fromEntries(names.map((name) => [name, {}])) });
    await assertAnswer(api(own, 'GET', '/channels', { app: other }), { channels: { elsewhere: {} } });
  });

  test('a channel whose last subscriber is gone is no longer there', async (t) => {
    const own = await serverFor(t);
    const ws = await subscriber(own, t, 'a');
    const watcher = await subscriber(own, t, 'presence-w', { user: { user_id: 'watcher' } });
    const both = await subscriber(own, t, ['b', 'presence-w'], { user: { user_id: 'leaver' } });
    // The watcher hears when the other connection is gone.
    await both.close();
    await watcher.next('pusher_internal:member_removed');
    await assertAnswer(api(own, 'GET', '/channels'), { channels: { a: {}, 'presence-w': {} } });
    unsubscribe(ws, 'a');
    await ws.fence();
    await assertAnswer(api(own, 'GET', '/channels'), { channels: { 'presence-w': {} } });
  });

  test('filter_by_prefix leaves out the others; info adds the counts', async (t) => {
    await subscriber(server, t, ['list-a', 'list-b', 'presence-list', 'lis'], { user: { user_id: '1' } });
    await subscriber(server, t, ['list-a', 'presence-list'], { user: { user_id: '1' } });
    await assertAnswer(get('/channels', { filter_by_prefix: 'list-' }), { channels: { 'list-a': {}, 'list-b': {} } });
    await assertAnswer(get('/channels', { filter_by_prefix: 'nothing' }), { channels: {} });
    await assertAnswer(get('/channels', { filter_by_prefix: 'list-', info: 'subscription_count' }), {
      channels: { 'list-a': { subscription_count: 2 }, 'list-b': { subscription_count: 1 } },
    });
    await assertAnswer(get('/channels', { filter_by_prefix: 'presence-list', info: 'user_count' }), {
      channels: { 'presence-list': { user_count: 1 } },
    });
    await assertAnswer(get('/channels', { filter_by_prefix: 'presence-list', info: 'user_count,subscription_count' }), {
      channels: { 'presence-list': { user_count: 1, subscription_count: 2 } },
    });
  });

  test('unknown names in info are ignored', async (t) => {
    await subscriber(server, t, 'ignored-a');
    await assertAnswer(get('/channels', { filter_by_prefix: 'ignored-', info: 'colour,subscription_count,' }), {
      channels: { 'ignored-a': { subscription_count: 1 } },
    });
    await assertAnswer(get('/channels', { filter_by_prefix: 'ignored-', info: 'colour' }), {
      channels: { 'ignored-a': {} },
    });
  });

  test('user_count without a prefix that begins with presence- is refused', async () => {
    assertRefusal(await get('/channels', { info: 'user_count' }), 400, /user_count/, /presence-/);
    assertRefusal(await get('/channels', { info: 'subscription_count,user_count' }), 400, /user_count/);
    for (const prefix of ['', 'presence', 'private-', 'x-presence-']) {
      assertRefusal(await get('/channels', { filter_by_prefix: prefix, info: 'user_count' }), 400, /presence-/);
    }
    await assertAnswer(get('/channels', { filter_by_prefix: 'presence-nobody', info: 'user_count' }), { channels: {} });
  });
});

describe('one channel', () => {
  test('tells whether it is occupied, and the counts that were asked for', async (t) => {
    await subscriber(server, t, ['one', 'presence-one'], { user: { user_id: '1' } });
    await subscriber(server, t, ['one', 'presence-one'], { user: { user_id: '2' } });
    await subscriber(server, t, ['presence-one'], { user: { user_id: '2' } });
    await assertAnswer(get('/channels/one'), { occupied: true });
    await assertAnswer(get('/channels/one', { info: 'subscription_count' }), { occupied: true, subscription_count: 2 });
    await assertAnswer(get('/channels/presence-one', { info: 'user_count' }), { occupied: true, user_count: 2 });
    await assertAnswer(get('/channels/presence-one', { info: 'user_count,subscription_count,colour' }), {
      occupied: true,
      user_count: 2,
      subscription_count: 3,
    });
  });

  test('an unoccupied one is no error, and its counts are 0', async () => {
    await assertAnswer(get('/channels/nobody'), { occupied: false });
    await assertAnswer(get('/channels/nobody', { info: 'subscription_count' }), {
      occupied: false,
      subscription_count: 0,
    });
    await assertAnswer(get('/channels/presence-nobody', { info: 'user_count,subscription_count' }), {
      occupied: false,
      user_count: 0,
      subscription_count: 0,
    });
  });

  test('user_count of one that is no presence channel is refused', async (t) => {
    await subscriber(server, t, 'one');
    for (const name of ['one', 'private-one', 'cache-one', 'nobody']) {
      assertRefusal(await get(`/channels/${name}`, { info: 'user_count' }), 400, /user_count/, /presence/);
    }
  });

  test('its name is percent-decoded', async (t) => {
    const name = 'a:b#c@d;e,f=g.h';
    await subscriber(server, t, name);
    await assertAnswer(get(`/channels/${encodeURIComponent(name)}`), { occupied: true });
    await assertAnswer(get('/channels/a:b%23c@d;e,f=g.h'), { occupied: true });
  });

  test('cache tells the last event and how long it stays, with and without subscribers', async (t) => {
    await publish(server, { name: 'e', channel: 'cache-one', data: 'first' });
    const data = '{"price": 1.50, "name": "\\u00e9"}';
    await publish(server, { name: 'e', channel: 'cache-one', data });
    const check = async (occupied) => {
      const { json } = await get('/channels/cache-one', { info: 'cache,subscription_count' });
      assert.equal(json.occupied, occupied);
      assert.equal(json.subscription_count, occupied ? 1 : 0);
      assert.equal(json.cache.data, data);
      assert.ok(
        Number.isInteger(json.cache.ttl) && json.cache.ttl > 3500 && json.cache.ttl <= 3600,
        `ttl ${json.cache.ttl}`,
      );
    };
    await check(false);
    await subscriber(server, t, 'cache-one');
    await check(true);
    await assertAnswer(get('/channels/cache-one'), { occupied: true });
  });

  test('the time that a cached event stays follows channel_limits.cache_ttl', async (t) => {
    const own = await serverFor(t, { config: { channel_limits: { cache_ttl: 60 } } });
    await publish(own, { name: 'e', channel: 'private-cache-x', data: { a: 1 } });
    const { json } = await api(own, 'GET', '/channels/private-cache-x', { query: { info: 'cache' } });
    assert.equal(json.cache.data, '{"a":1}');
    assert.ok(json.cache.ttl > 30 && json.cache.ttl <= 60, `ttl ${json.cache.ttl}`);
  });

  test('cache is null where nothing is kept, and absent where it was not asked for', async (t) => {
    await subscriber(server, t, ['cache-empty', 'not-cache']);
    await publish(server, { name: 'e', channel: 'not-cache', data: 'x' });
    for (const name of ['cache-empty', 'private-cache-empty', 'not-cache']) {
      const occupied = !name.startsWith('private');
      await assertAnswer(get(`/channels/${name}`, { info: 'cache' }), { occupied, cache: null });
      await assertAnswer(get(`/channels/${name}`, { info: 'nothing,we,know' }), { occupied });
    }
    await assertAnswer(get('/channels/cache-empty', { info: 'cache,subscription_count' }), {
      occupied: true,
      subscription_count: 1,
      cache: null,
    });
  });
});

describe('the users of a presence channel', () => {
  test('are told once each, whatever the number of their connections', async (t) => {
    await subscriber(server, t, 'presence-users', { user: { user_id: 'a' } });
    await subscriber(server, t, 'presence-users', { user: { user_id: 'a', user_info: { n: 1 } } });
    await join(await connect(server, { t }), 'presence-users', { user_id: 7 });
    await join(await connect(server, { t }), 'presence-users', { user_id: 'quote " ü' });
    const { status, json } = await get('/channels/presence-users/users');
    assert.equal(status, 200);
    assert.deepEqual(Object.keys(json), ['users']);
    assert.deepEqual(json.users.map((user) => JSON.stringify(user)).sort(), [
      '{"id":"7"}',
      '{"id":"a"}',
      '{"id":"quote \\" ü"}',
    ]);
  });

  test('of an unoccupied presence channel are none', async () => {
    await assertAnswer(get('/channels/presence-nobody/users'), { users: [] });
  });

  test('of another channel are refused', async (t) => {
    await subscriber(server, t, 'plain');
    for (const name of ['plain', 'private-plain', 'cache-plain', 'nobody']) {
      assertRefusal(await get(`/channels/${name}/users`), 400, /presence/);
    }
  });
});

test('connections tells the number of open connections of the app', async (t) => {
  const other = { id: 'other', key: 'other-key', secret: 'other-secret' };
  const own = await serverFor(t, { apps: [APP, other] });
  const count = async (app) => (await api(own, 'GET', '/connections', { app })).json;
  assert.deepEqual(await count(APP), { connections: 0 });
  const connections = [await connect(own, { t }), await connect(own, { t }), await connect(own, { t, app: other })];
  assert.deepEqual(await count(APP), { connections: 2 });
  assert.deepEqual(await count(other), { connections: 1 });
  await connections[0].close();
  while ((await count(APP)).connections !== 1);
  assert.equal((await api(own, 'GET', '/connections', { signAs: { secret: 'wrong' } })).status, 401);
});
