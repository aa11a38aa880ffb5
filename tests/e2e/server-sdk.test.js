// The official server SDK of Node, unmodified: host and port are all it needs to know.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';

import { closedWithError, connect, signin, stillOpen } from '../lib/client.js';
import { nextOn, subscriber, untilFence } from '../lib/events.js';
import { connected, makePusher, record, subscribed } from '../lib/pusher.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const require = createRequire(import.meta.url);
const Pusher = require('pusher');
const server = await sharedServer();

const sdkFor = (target, { app = APP, ...options } = {}) =>
  new Pusher({
    appId: app.id,
    key: app.key,
    secret: app.secret,
    host: target.host,
    port: target.port,
    useTLS: false,
    ...options,
  });
const sdk = sdkFor(server);

let channels = 0;
const freshName = (prefix = '') => `${prefix}sdk-${++channels}`;

describe('trigger', () => {
  test('to one channel', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    const response = await sdk.trigger(channel, 'e', { text: 'hello "world" é 😀' });
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), {});
    assert.deepEqual(JSON.parse((await nextOn(ws, channel)).data), { text: 'hello "world" é 😀' });
  });

  test('a string stays a string', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    await sdk.trigger(channel, 'e', 'plain');
    assert.equal((await nextOn(ws, channel)).data, 'plain');
  });

  test('to many channels', async (t) => {
    const list = [freshName(), freshName('private-'), freshName('presence-'), freshName('cache-')];
    const ws = await subscriber(server, t, list, { user: { user_id: '1' } });
    await sdk.trigger(list, 'e', { n: 1 });
    for (const channel of list) assert.equal((await ws.next({ event: 'e', channel })).data, '{"n":1}');
  });

  test('with socket_id and info', async (t) => {
    const channel = freshName('presence-');
    const sender = await subscriber(server, t, channel, { user: { user_id: '1' } });
    const other = await subscriber(server, t, channel, { user: { user_id: '2' } });
    await sender.next('pusher_internal:member_added');
    const response = await sdk.trigger(
      channel,
      'e',
      {},
      { socket_id: sender.socketId, info: 'user_count,subscription_count' },
    );
    assert.deepEqual(await response.json(), { channels: { [channel]: { user_count: 2, subscription_count: 2 } } });
    assert.equal((await nextOn(other, channel)).event, 'e');
    assert.deepEqual(await untilFence(server, sender, channel), []);
  });

  test('to an encrypted channel, whose events pusher-js decrypts', async (t) => {
    const channel = freshName('private-encrypted-');
    const encrypting = sdkFor(server, { encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64') });
    const client = makePusher(server, {
      t,
      options: {
        nacl: require('tweetnacl'),
        channelAuthorization: {
          customHandler: ({ socketId, channelName }, callback) =>
            callback(null, encrypting.authorizeChannel(socketId, channelName)),
        },
      },
    });
    const events = record(client.subscribe(channel));
    await events.next('pusher:subscription_succeeded');
    await encrypting.trigger(channel, 'e', { secret: 'text' });
    assert.deepEqual((await events.next('e')).data, { secret: 'text' });
  });

  test('a refusal reaches the caller with status and text', async () => {
    const wrong = sdkFor(server, { app: { ...APP, secret: 'wrong' } });
    await assert.rejects(wrong.trigger('c', 'e', {}), (error) => error.status === 401 && /signature/.test(error.body));
    await assert.rejects(
      sdk.trigger('c', 'n'.repeat(150), {}),
      (error) => error.status === 400 && /max_event_name_length/.test(error.body),
    );
    await assert.rejects(
      sdk.trigger('c', 'e', 'x'.repeat(110_000)),
      (error) => error.status === 413 && /100/.test(error.body),
    );
  });

  test('many at once', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    await Promise.all(Array.from({ length: 100 }, (_, i) => sdk.trigger(channel, `e${i}`, i)));
    const names = (await ws.inbox.take(100)).map((message) => message.event);
    assert.deepEqual(names.sort(), Array.from({ length: 100 }, (_, i) => `e${i}`).sort());
  });
});

test('triggerBatch', async (t) => {
  const [first, second] = [freshName(), freshName()];
  const ws = await subscriber(server, t, [first, second]);
  const response = await sdk.triggerBatch([
    { channel: first, name: 'a', data: { n: 1 }, info: 'subscription_count' },
    { channel: second, name: 'b', data: 'text' },
    { channel: first, name: 'c', data: [1, 2], socket_id: ws.socketId },
  ]);
  assert.deepEqual(await response.json(), { batch: [{ subscription_count: 1 }, {}, {}] });
  assert.equal((await nextOn(ws, first)).data, '{"n":1}');
  assert.equal((await nextOn(ws, second)).data, 'text');
  assert.deepEqual(await untilFence(server, ws, first), []);
});

test('get: channels, one channel, users', async (t) => {
  const own = await serverFor(t);
  const ownSdk = sdkFor(own);
  await subscriber(own, t, ['presence-room', 'news'], { user: { user_id: 'u/1' } });
  await subscriber(own, t, 'presence-room', { user: { user_id: '2' } });
  const ask = async (path, params) => (await ownSdk.get({ path, params })).json();
  assert.deepEqual(await ask('/channels'), { channels: { 'presence-room': {}, news: {} } });
  assert.deepEqual(await ask('/channels', { filter_by_prefix: 'presence-', info: 'user_count' }), {
    channels: { 'presence-room': { user_count: 2 } },
  });
  assert.deepEqual(await ask('/channels/news', { info: 'subscription_count' }), {
    occupied: true,
    subscription_count: 1,
  });
  const { users } = await ask('/channels/presence-room/users');
  assert.deepEqual(users.map((user) => user.id).sort(), ['2', 'u/1']);
  await assert.rejects(ask('/channels', { info: 'user_count' }), (error) => error.status === 400);
});

describe('users', () => {
  test('sendToUser reaches each connection of the user', async (t) => {
    const mine = await connect(server, { t });
    const other = await connect(server, { t });
    await signin(mine, { id: 'me@example.com' });
    await signin(other, { id: 'me@example' });
    await sdk.sendToUser('me@example.com', 'e', { to: 'you' });
    assert.equal((await mine.next('e')).data, '{"to":"you"}');
    assert.deepEqual(await untilFence(server, other, '#server-to-user-me@example'), []);
  });

  test('terminateUserConnections closes them', async (t) => {
    for (const id of ['plain', 'with space', 'a/b', 'jürgen']) {
      const mine = await connect(server, { t });
      const other = await connect(server, { t });
      await signin(mine, { id });
      await signin(other, { id: `${id}2` });
      const response = await sdk.terminateUserConnections(id);
      assert.equal(response.status, 200);
      await closedWithError(mine, 4009);
      assert.deepEqual(await stillOpen(other), []);
    }
  });
});

describe('with pusher-js', () => {
  // What an application's server does: the SDK signs, the client asks.
  function appClient(t, user, info) {
    return makePusher(server, {
      t,
      options: {
        channelAuthorization: {
          customHandler: ({ socketId, channelName }, callback) =>
            callback(
              null,
              sdk.authorizeChannel(
                socketId,
                channelName,
                channelName.startsWith('presence-') ? { user_id: user, user_info: info } : undefined,
              ),
            ),
        },
        userAuthentication: {
          customHandler: ({ socketId }, callback) =>
            callback(null, sdk.authenticateUser(socketId, { id: user, user_info: info })),
        },
      },
    });
  }

  test('authorizeChannel lets clients into private and presence channels', async (t) => {
    const [ann, ben] = [appClient(t, 'ann', { name: 'Ann "é"' }), appClient(t, 'ben', { name: 'Ben' })];
    const channel = freshName('presence-');
    const annRoom = ann.subscribe(channel);
    assert.deepEqual((await subscribed(annRoom)).members, { ann: { name: 'Ann "é"' } });
    const events = record(annRoom);
    const benRoom = ben.subscribe(channel);
    const members = await subscribed(benRoom);
    assert.equal(members.count, 2);
    assert.deepEqual(members.me, { id: 'ben', info: { name: 'Ben' } });
    assert.deepEqual((await events.next('pusher:member_added')).data, { id: 'ben', info: { name: 'Ben' } });
    const privateRoom = ann.subscribe(channel.replace('presence-', 'private-'));
    await subscribed(privateRoom);
    const privateEvents = record(privateRoom);
    await sdk.trigger([channel, privateRoom.name], 'e', { n: 1 });
    assert.deepEqual((await events.next('e')).data, { n: 1 });
    assert.deepEqual((await privateEvents.next('e')).data, { n: 1 });
    ben.disconnect();
    assert.deepEqual((await events.next('pusher:member_removed')).data, { id: 'ben', info: { name: 'Ben' } });
  });

  test('authenticateUser signs a client in, whom sendToUser then reaches', async (t) => {
    const client = appClient(t, 'ann', { name: 'Ann' });
    await connected(client);
    const global = record(client);
    const user = record(client.user);
    client.signin();
    await global.next('pusher:signin_success');
    await sdk.sendToUser('ann', 'e', { n: 1 });
    assert.deepEqual((await user.next('e')).data, { n: 1 });
  });
});
