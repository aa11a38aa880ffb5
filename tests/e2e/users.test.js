// Events to a user, and ending a user's connections.

import assert from 'node:assert/strict';
import test from 'node:test';

import { api, publish } from '../lib/api.js';
import {
  closedWithError,
  connect,
  nothingArrived,
  signin,
  stillOpen,
  subscribe,
  subscribeRefused,
  unsubscribe,
} from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';

const OTHER = { id: 'other', key: 'other-key', secret: 'other-secret' };
const server = await sharedServer({ apps: [APP, OTHER] });
const UNAUTHORIZED = { type: 'AuthError', status: 401 };
const channelOf = (id) => `#server-to-user-${id}`;
const EXPLICIT = { auth: '' };

test('an_event_to_a_user_reaches_all_its_connections_once_and_nobody_else', async (t) => {
  const [a, b, other, nobody] = await connections(t, 4);
  for (const ws of [a, b]) await signin(ws, { id: 'alice' });
  await signin(other, { id: 'alice2' });
  await publish(server, { name: 'note', channel: channelOf('alice'), data: '{"n": 1.50}' });
  for (const ws of [a, b]) {
    assert.deepEqual(JSON.parse((await ws.next('note')).text), {
      event: 'note',
      channel: channelOf('alice'),
      data: '{"n": 1.50}',
    });
  }
  await nothingArrived(server, a, b, other, nobody);
});

test('a_user_of_another_app_is_another_user', async (t) => {
  const ours = await connect(server, { t });
  const theirs = await connect(server, { t, app: OTHER });
  for (const ws of [ours, theirs]) await signin(ws, { id: 'bob' });
  await publish(server, { name: 'x', channel: channelOf('bob'), data: 'x' }, { app: OTHER });
  await theirs.next('x');
  await nothingArrived(server, ours);
});

test('signing_in_twice_does_not_double_events', async (t) => {
  const ws = await connect(server, { t });
  for (let i = 0; i < 2; i++) await signin(ws, { id: 'carol' });
  await publish(server, { name: 'x', channel: channelOf('carol'), data: 'x' });
  await ws.next('x');
  await nothingArrived(server, ws);
});

test('the_own_user_channel_may_be_subscribed_and_that_changes_nothing', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'dave' });
  const answer = await subscribe(ws, channelOf('dave'), EXPLICIT);
  assert.equal(answer.data, '{}');
  await publish(server, { name: 'x', channel: channelOf('dave'), data: 'x' });
  await ws.next('x');
  await nothingArrived(server, ws);
  unsubscribe(ws, channelOf('dave'));
  await publish(server, { name: 'y', channel: channelOf('dave'), data: 'y' });
  await ws.next('y');
  await nothingArrived(server, ws);
});

test('nobody_else_may_subscribe_to_a_user_channel', async (t) => {
  const [unsigned, signed] = await connections(t, 2);
  await signin(signed, { id: 'erin' });
  await subscribeRefused(unsigned, channelOf('erin'), UNAUTHORIZED, EXPLICIT);
  await subscribeRefused(signed, channelOf('erin2'), UNAUTHORIZED, EXPLICIT);
  await subscribeRefused(signed, channelOf('eri'), UNAUTHORIZED, EXPLICIT);
  await subscribeRefused(signed, channelOf(''), { type: 'InvalidChannel', status: 400 }, EXPLICIT);
  await publish(server, { name: 'x', channel: channelOf('erin'), data: 'x' });
  await signed.next('x');
  await nothingArrived(server, unsigned, signed);
});

test('user_ids_are_outside_the_rules_of_channel_names', async (t) => {
  for (const id of ['a b/c?d', 'é\u{1f600}', '"\\\n', 'x'.repeat(255)]) {
    const ws = await connect(server, { t });
    await signin(ws, { id });
    await subscribe(ws, channelOf(id), EXPLICIT);
    await publish(server, { name: 'x', channel: channelOf(id), data: 'x' });
    assert.equal((await ws.next('x')).channel, channelOf(id));
  }
});

test('user_channels_are_not_listed', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'frank' });
  await subscribe(ws, channelOf('frank'), EXPLICIT);
  await subscribe(ws, 'listed');
  const { json } = await api(server, 'GET', '/channels');
  assert.ok('listed' in json.channels);
  assert.deepEqual(
    Object.keys(json.channels).filter((name) => name.startsWith('#')),
    [],
  );
});

test('terminating_a_user_closes_its_connections_with_4009_and_no_others', async (t) => {
  const [a, b, other] = await connections(t, 3);
  for (const ws of [a, b]) await signin(ws, { id: 'grace' });
  await signin(other, { id: 'heidi' });
  const answer = await api(server, 'POST', '/users/grace/terminate_connections');
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.json, {});
  for (const ws of [a, b]) await closedWithError(ws, 4009);
  await nothingArrived(server, other);
  const back = await connect(server, { t });
  await signin(back, { id: 'grace' });
  assert.deepEqual(await stillOpen(back), []);
});

test('a_terminated_user_leaves_its_channels', async (t) => {
  const [ws, observer] = await connections(t, 2);
  await signin(ws, { id: 'ivan' });
  await subscribe(observer, 'presence-t', { user: { user_id: 'o' } });
  await subscribe(ws, 'presence-t');
  await observer.next('pusher_internal:member_added');
  await api(server, 'POST', '/users/ivan/terminate_connections');
  assert.equal((await observer.next('pusher_internal:member_removed')).data, '{"user_id":"ivan"}');
});

function connections(t, count) {
  return Promise.all(Array.from({ length: count }, () => connect(server, { t })));
}
