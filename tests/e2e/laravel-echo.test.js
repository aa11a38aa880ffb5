// Unmodified Laravel Echo over pusher-js.

import assert from 'node:assert/strict';
import test from 'node:test';

import Echo from 'laravel-echo';

import { publish } from '../lib/api.js';
import { Inbox, within } from '../lib/inbox.js';
import { makePusher } from '../lib/pusher.js';
import { APP, sharedServer } from '../lib/server.js';

const server = await sharedServer();

test('a_channel_hears_broadcast_events_under_their_namespace', async (t) => {
  const echo = makeEcho(t);
  const heard = new Inbox('events of Echo');
  await subscription(
    echo
      .channel('orders')
      .listen('OrderShipped', (data) => heard.push(data))
      .listen('.custom.name', (data) => heard.push(data)),
  );
  await publish(server, { name: 'App\\Events\\OrderShipped', channel: 'orders', data: '{"id":1}' });
  assert.deepEqual(await heard.next(), { id: 1 });
  await publish(server, { name: 'custom.name', channel: 'orders', data: '{"id":2}' });
  assert.deepEqual(await heard.next(), { id: 2 });
});

test('a_private_channel_whispers', async (t) => {
  const [one, two] = [makeEcho(t), makeEcho(t)];
  const heard = new Inbox('whispers');
  const sender = one.private('chat');
  await Promise.all([
    subscription(sender),
    subscription(two.private('chat').listenForWhisper('typing', (data) => heard.push(data))),
  ]);
  sender.whisper('typing', { who: 'one' });
  assert.deepEqual(await heard.next(), { who: 'one' });
});

test('an_encrypted_channel_is_authorized_and_carries_opaque_events', async (t) => {
  const sharedSecret = Buffer.alloc(32, 7).toString('base64');
  const echo = makeEcho(t, { sharedSecret });
  await subscription(echo.encryptedPrivate('vault'));
});

test('a_presence_channel_tells_who_is_here_who_joins_and_who_leaves', async (t) => {
  const [one, two] = [makeEcho(t, { user: 'one' }), makeEcho(t, { user: 'two' })];
  const here = new Inbox('here');
  const joining = new Inbox('joining');
  const leaving = new Inbox('leaving');
  one
    .join('room')
    .here((users) => here.push(users))
    .joining((user) => joining.push(user))
    .leaving((user) => leaving.push(user));
  assert.deepEqual(await here.next(), [{ name: 'user one' }]);
  const seen = new Inbox('here of the second');
  two.join('room').here((users) => seen.push(users));
  assert.deepEqual((await seen.next()).map(({ name }) => name).sort(), ['user one', 'user two']);
  assert.deepEqual(await joining.next(), { name: 'user two' });
  two.leave('room');
  assert.deepEqual(await leaving.next(), { name: 'user two' });
});

test('the_socket_id_excludes_the_own_client', async (t) => {
  const [one, two] = [makeEcho(t), makeEcho(t)];
  const [ours, theirs] = [new Inbox('ours'), new Inbox('theirs')];
  await Promise.all([
    subscription(one.channel('shared').listenToAll((name, data) => ours.push({ name, data }))),
    subscription(two.channel('shared').listenToAll((name, data) => theirs.push({ name, data }))),
  ]);
  await publish(server, { name: 'first', channel: 'shared', data: '1', socket_id: one.socketId() });
  await publish(server, { name: 'second', channel: 'shared', data: '2' });
  assert.equal((await theirs.next()).data, 1);
  assert.equal((await theirs.next()).data, 2);
  assert.equal((await ours.next()).data, 2, 'the first event did not come back to its own client');
});

function makeEcho(t, { user, sharedSecret } = {}) {
  const members = () => ({ user_id: user, user_info: { name: `user ${user}` } });
  const client = makePusher(server, { t, app: APP, members, sharedSecret });
  return new Echo({ broadcaster: 'pusher', key: APP.key, client });
}

function subscription(channel) {
  return within(
    new Promise((resolve, reject) => {
      channel.subscribed(resolve).error(reject);
    }),
    'the subscription of Echo',
  );
}
