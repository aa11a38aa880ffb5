// POST /apps/{id}/users/{user}/terminate_connections and /force_reconnect close the connections that are signed in as
// that user, and no others.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, request } from '../lib/api.js';
import { closedWithError, connect, join, signin, stillOpen } from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const OTHER = { id: 'other', key: 'other-key', secret: 'other-secret' };
const server = await sharedServer({ apps: [APP, OTHER] });

async function signedIn(t, id, options) {
  const ws = await connect(server, { t, ...options });
  await signin(ws, { id });
  return ws;
}

async function terminate(path, options) {
  const response = await api(server, 'POST', `/users/${path}/terminate_connections`, options);
  assert.equal(response.status, 200, response.body);
  assert.equal(response.body, '{}');
}

describe('terminating a user', () => {
  test("closes all of the user's connections with 4009 and leaves the others", async (t) => {
    const mine = [await signedIn(t, 'u1'), await signedIn(t, 'u1'), await signedIn(t, 'u1')];
    const namesake = await signedIn(t, 'u1', { app: OTHER });
    const bystanders = [await signedIn(t, 'u11'), await signedIn(t, 'U1'), await connect(server, { t })];
    await join(bystanders[2], 'presence-room', { user_id: 'u1' });
    await terminate('u1', { body: {} });
    for (const ws of mine) assert.match(await closedWithError(ws, 4009), /terminat/i);
    for (const ws of [...bystanders, namesake]) assert.deepEqual(await stillOpen(ws), []);
    // The user may come back.
    assert.deepEqual(await stillOpen(await signedIn(t, 'u1')), []);
  });

  test('a user who is not there is no error', async () => {
    await terminate('nobody');
    await terminate('nobody', { body: '' });
    await terminate('nobody', { body: '{}' });
  });

  const ids = {
    'a slash': 'a/b',
    'several slashes': 'a//b/',
    'a space': 'a b',
    'a percent sign': '100%',
    'percent and digits': '%41',
    'letters beyond ASCII': 'jürgen 😀',
    'a question mark': 'who?',
    'a hash': '#1',
    'a plus': 'a+b',
    'the words of the route': 'x/terminate_connections',
  };
  for (const [what, id] of Object.entries(ids)) {
    test(`an id that holds ${what}, percent-encoded`, async (t) => {
      const ws = await signedIn(t, id);
      await terminate(encodeURIComponent(id));
      await closedWithError(ws, 4009);
    });
  }

  test('an id with slashes as they are: {user} is everything between /users/ and /terminate_connections', async (t) => {
    for (const id of ['a/b/c', 'users/x', 'x/terminate_connections', 'channels/y/users']) {
      const ws = await signedIn(t, id);
      await terminate(id);
      await closedWithError(ws, 4009);
    }
  });

  test('an id is decoded once', async (t) => {
    const once = await signedIn(t, 'p%2Fq');
    const twice = await signedIn(t, 'p/q');
    await terminate('p%252Fq');
    await closedWithError(once, 4009);
    assert.deepEqual(await stillOpen(twice), []);
  });

  test('the signature may cover the path as the client meant it, before URL encoding', async (t) => {
    const ws = await signedIn(t, 'm n/o');
    const path = `/apps/${APP.id}/users/m%20n/o/terminate_connections`;
    const target = signedPath(APP, 'POST', path, { signAs: { path: decodeURIComponent(path) } });
    const response = await request(server.url + target, { method: 'POST' });
    assert.equal(response.status, 200, response.body);
    await closedWithError(ws, 4009);
  });
});

describe('making a user reconnect', () => {
  const reconnect = (path, options) => api(server, 'POST', `/users/${path}/force_reconnect`, options);

  test("closes all of the user's connections with 4200 and leaves the others", async (t) => {
    const mine = [await signedIn(t, 'r1'), await signedIn(t, 'r1')];
    const bystanders = [
      await signedIn(t, 'r11'),
      await signedIn(t, 'r1', { app: OTHER }),
      await connect(server, { t }),
    ];
    const { status, body } = await reconnect('r1');
    assert.deepEqual([status, body], [200, '{}']);
    for (const ws of mine) await closedWithError(ws, 4200);
    for (const ws of bystanders) assert.deepEqual(await stillOpen(ws), []);
    assert.deepEqual(await stillOpen(await signedIn(t, 'r1')), []);
  });

  test('takes ids as terminate_connections does, and a user who is not there is no error', async (t) => {
    const ws = await signedIn(t, 'a/force_reconnect');
    assert.equal((await reconnect('a/force_reconnect')).status, 200);
    await closedWithError(ws, 4200);
    assert.equal((await reconnect('nobody', { body: {} })).body, '{}');
    assert.equal((await reconnect('x'.repeat(256))).status, 400);
    assert.equal((await reconnect('a', { signAs: { secret: 'wrong' } })).status, 401);
  });
});
