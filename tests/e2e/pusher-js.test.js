// Unmodified pusher-js: everything that its users do with a connection.

import assert from 'node:assert/strict';
import test from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, subscribe } from '../lib/client.js';
import { connected, makePusher, record, subscribed } from '../lib/pusher.js';
import { APP, serverFor, sharedServer, startServer } from '../lib/server.js';

const WATCHING = { ...APP, enable_watchlist_events: true };
const DISABLED = { id: 'disabled', key: 'disabled-key', secret: 'disabled-secret', enabled: false };
const BROKEN = { id: 'broken', key: 'broken-key', secret: 'broken-secret', max_connections: -2 };
const LIMITED = {
  id: 'limited',
  key: 'limited-key',
  secret: 'limited-secret',
  max_connections: 1,
  enable_client_messages: true,
  enable_watchlist_events: true,
  max_channel_name_length: 12,
  max_presence_members_per_channel: 1,
  max_presence_member_size_in_kb: 1,
  max_event_name_length: 10,
  max_event_payload_in_kb: 1,
};
const server = await sharedServer({ apps: [WATCHING, DISABLED, BROKEN, LIMITED] });

test('a_public_channel_hears_events_with_parsed_data', async (t) => {
  const client = makePusher(server, { t });
  const channel = client.subscribe('news');
  const heard = record(channel);
  await subscribed(channel);
  await publish(server, { name: 'greeting', channel: 'news', data: JSON.stringify({ text: 'hello', list: [1, 2.5] }) });
  assert.deepEqual((await heard.next('greeting')).data, { text: 'hello', list: [1, 2.5] });
});

test('a_private_channel_is_authorized_and_a_bad_signature_is_an_error', async (t) => {
  const client = makePusher(server, { t });
  const channel = client.subscribe('private-news');
  const heard = record(channel);
  await subscribed(channel);
  await publish(server, { name: 'secret', channel: 'private-news', data: '"for you"' });
  assert.equal((await heard.next('secret')).data, 'for you');

  const stranger = makePusher(server, { t, app: { ...WATCHING, secret: 'guessed' } });
  const refused = record(stranger.subscribe('private-news'));
  const { data } = await refused.next('pusher:subscription_error');
  assert.deepEqual({ type: data.type, status: data.status }, { type: 'AuthError', status: 401 });
});

test('a_presence_channel_knows_its_members', async (t) => {
  const member = (id) =>
    makePusher(server, { t, members: () => ({ user_id: id, user_info: { name: `name of ${id}` } }) });
  const alice = member('alice');
  const room = alice.subscribe('presence-room');
  const seen = record(room);
  const members = await subscribed(room);
  assert.equal(members.count, 1);
  assert.deepEqual(members.me, { id: 'alice', info: { name: 'name of alice' } });

  const bob = member('bob');
  const bobsRoom = bob.subscribe('presence-room');
  assert.equal((await subscribed(bobsRoom)).count, 2);
  assert.deepEqual(bobsRoom.members.get('alice'), { id: 'alice', info: { name: 'name of alice' } });
  assert.deepEqual((await seen.next('pusher:member_added')).data, { id: 'bob', info: { name: 'name of bob' } });
  bob.unsubscribe('presence-room');
  assert.deepEqual((await seen.next('pusher:member_removed')).data, { id: 'bob', info: { name: 'name of bob' } });
  assert.equal(room.members.count, 1);
});

test('a_cache_channel_tells_of_a_miss_and_greets_with_the_last_event', async (t) => {
  const first = makePusher(server, { t });
  const empty = record(first.subscribe('private-cache-prices'));
  await empty.next('pusher:cache_miss');
  await publish(server, { name: 'price', channel: 'private-cache-prices', data: '{"eur":1.5}' });
  await empty.next('price');
  const second = makePusher(server, { t });
  assert.deepEqual((await record(second.subscribe('private-cache-prices')).next('price')).data, { eur: 1.5 });
});

test('client_events_travel_between_clients', async (t) => {
  const [a, b] = [makePusher(server, { t }), makePusher(server, { t })];
  const [ours, theirs] = [a.subscribe('private-typing'), b.subscribe('private-typing')];
  const heard = record(theirs);
  await Promise.all([subscribed(ours), subscribed(theirs)]);
  assert.equal(ours.trigger('client-typing', { who: 'a', n: 1.5 }), true);
  assert.deepEqual((await heard.next('client-typing')).data, { who: 'a', n: 1.5 });
});

test('client_events_on_presence_channels_name_the_sender', async (t) => {
  const [a, b] = ['a', 'b'].map((id) => makePusher(server, { t, members: () => ({ user_id: id }) }));
  const [ours, theirs] = [a.subscribe('presence-typing'), b.subscribe('presence-typing')];
  const heard = record(theirs, 'client-typing');
  await Promise.all([subscribed(ours), subscribed(theirs)]);
  ours.trigger('client-typing', {});
  assert.equal((await heard.next('client-typing')).metadata.user_id, 'a');
});

test('a_refused_client_event_is_an_error_of_the_connection', async (t) => {
  const client = makePusher(server, { t });
  const errors = record(client.connection, 'error');
  const channel = client.subscribe('public-typing');
  await subscribed(channel);
  client.send_event('client-typing', {}, 'public-typing');
  assert.equal((await errors.next('error')).data.data.code, 4301);
  assert.equal(client.connection.state, 'connected');
});

test('a_signed_in_user_hears_events_to_it', async (t) => {
  const client = makePusher(server, { t, user: { id: 'carol', user_info: { n: 1 } } });
  const toUser = record(client.user);
  client.signin();
  await client.user.signinDonePromise;
  assert.equal(client.user.user_data.id, 'carol');
  // pusher-js subscribes to the user's channel by itself once it is signed in.
  await publish(server, { name: 'note', channel: '#server-to-user-carol', data: '{"x":1}' });
  assert.deepEqual((await toUser.next('note')).data, { x: 1 });
});

test('a_signed_in_user_joins_presence_channels_as_itself', async (t) => {
  const client = makePusher(server, { t, user: { id: 'dave', user_info: { n: 1 } } });
  client.signin();
  await client.user.signinDonePromise;
  const members = await subscribed(client.subscribe('presence-signed'));
  assert.deepEqual(members.me, { id: 'dave', info: { n: 1 } });
});

test('a_watchlist_tells_who_is_online', async (t) => {
  const watcher = makePusher(server, { t, user: { id: 'erin', watchlist: ['frank'] } });
  const watchlist = record(watcher.user.watchlist);
  watcher.signin();
  assert.deepEqual((await watchlist.next('offline')).data.user_ids, ['frank']);
  const frank = makePusher(server, { t, user: { id: 'frank' } });
  frank.signin();
  assert.deepEqual((await watchlist.next('online')).data.user_ids, ['frank']);
  frank.disconnect();
  assert.deepEqual((await watchlist.next('offline')).data.user_ids, ['frank']);
});

test('terminating_a_user_ends_its_clients_for_good', async (t) => {
  const client = makePusher(server, { t, user: { id: 'grace' } });
  const connection = record(client.connection, 'error', 'disconnected');
  client.signin();
  await client.user.signinDonePromise;
  await api(server, 'POST', '/users/grace/terminate_connections');
  assert.equal((await connection.next('error')).data.data.code, 4009);
  await connection.next('disconnected');
});

test('an_unknown_key_stops_the_client', async (t) => {
  const client = makePusher(server, { t, app: { ...APP, key: 'unknown' } });
  const connection = record(client.connection, 'error', 'disconnected');
  // Before a connection is established pusher-js wraps what the server said.
  assert.equal((await connection.next('error')).data.error.data.code, 4001);
  await connection.next('disconnected');
});

test('a_disabled_app_and_a_full_one_stop_the_client', async (t) => {
  await connected(makePusher(server, { t, app: LIMITED }));
  for (const [app, code] of [
    [DISABLED, 4003],
    [LIMITED, 4004],
  ]) {
    const connection = record(makePusher(server, { t, app }).connection, 'error', 'disconnected');
    assert.equal((await connection.next('error')).data.error.data.code, code);
    await connection.next('disconnected');
  }
});

test('an_app_that_cannot_be_served_now_is_tried_again', async (t) => {
  const connection = record(
    makePusher(server, { t, app: BROKEN }).connection,
    'error',
    'connecting_in',
    'disconnected',
  );
  for (let attempt = 0; attempt < 2; attempt++) {
    assert.equal((await connection.next('error')).data.error.data.code, 4100);
    await connection.next('connecting_in');
  }
});

test('every_limit_of_a_channel_is_an_error_of_that_channel_alone', async (t) => {
  const holder = await serverFor(t, { apps: [{ ...LIMITED, max_connections: 0 }] });
  await subscribed(
    makePusher(holder, { t, app: LIMITED, members: () => ({ user_id: 'first' }) }).subscribe('presence-a'),
  );
  const client = makePusher(holder, {
    t,
    app: LIMITED,
    members: (channel) => ({ user_id: 'second', user_info: 'x'.repeat(channel === 'presence-b' ? 1023 : 1) }),
  });
  for (const [name, type, status, text] of [
    ['c'.repeat(13), 'LimitReached', 4009, /`max_channel_name_length` of this app is 12$/],
    ['presence-a', 'LimitReached', 4004, /`max_presence_members_per_channel` of this app is 1$/],
    ['presence-b', 'LimitReached', 4301, /1025 bytes, `max_presence_member_size_in_kb` of this app is 1 KB$/],
    ['a b', 'InvalidChannel', 400, /letters, digits/],
  ]) {
    const { data } = await record(client.subscribe(name)).next('pusher:subscription_error');
    assert.deepEqual({ type: data.type, status: data.status }, { type, status }, name);
    assert.match(data.error, text);
  }
  await subscribed(client.subscribe('presence-c'));
});

test('every_limit_of_a_client_event_and_a_watchlist_is_an_error_of_the_connection_that_stays', async (t) => {
  const own = await serverFor(t, { apps: [{ ...LIMITED, max_connections: 0 }] });
  const client = makePusher(own, {
    t,
    app: LIMITED,
    user: { id: 'w', watchlist: Array.from({ length: 101 }, (_, i) => `u${i}`) },
  });
  const errors = record(client.connection, 'error');
  const channel = client.subscribe('private-a');
  await subscribed(channel);
  channel.trigger('client-long', {});
  channel.trigger('client-x', 'x'.repeat(1025));
  client.signin();
  for (const [code, message] of [
    [4301, 'client event refused: the name has 11 bytes, `max_event_name_length` of this app is 10'],
    [4301, 'client event refused: `data` has 1025 bytes, `max_event_payload_in_kb` of this app is 1 KB'],
    [4302, 'the watchlist has 101 users; only the first 100 are watched'],
  ])
    assert.deepEqual((await errors.next('error')).data.data, { code, message });
  await client.user.signinDonePromise;
  assert.equal(client.connection.state, 'connected');
});

test('pings_of_an_idle_client_are_answered', async (t) => {
  const client = makePusher(server, { t, options: { activityTimeout: 300, pongTimeout: 5000 } });
  const messages = record(client.connection, 'message');
  await connected(client);
  await messages.next(({ data }) => data.event === 'pusher:pong');
  assert.equal(client.connection.state, 'connected');
});

test('when_its_server_shuts_down_the_client_moves_to_the_next_with_its_subscriptions', async (t) => {
  const first = await startServer();
  t.after(() => first.stop());
  const client = makePusher(first, { t });
  const channel = client.subscribe('private-steady');
  const heard = record(channel);
  const connection = record(client.connection, 'error', 'connected');
  await subscribed(channel);
  const socketId = client.connection.socket_id;

  // A restart: the port belongs to one process at a time. A client whose attempt is refused tries again after 15 s.
  first.terminate();
  assert.equal((await connection.next('error')).data.data.code, 4100);
  assert.equal((await first.exited()).code, 0);
  const second = await serverFor(t, { config: { port: first.port } });
  await heard.next('pusher:subscription_succeeded');
  await heard.next('pusher:subscription_succeeded');
  assert.notEqual(client.connection.socket_id, socketId);
  await publish(second, { name: 'again', channel: 'private-steady', data: '1' });
  await heard.next('again');
  client.disconnect();
});

test('raw_clients_and_pusher_js_meet_on_one_channel', async (t) => {
  const ws = await connect(server, { t });
  await subscribe(ws, 'private-meeting');
  const channel = makePusher(server, { t }).subscribe('private-meeting');
  await subscribed(channel);
  channel.trigger('client-hello', { from: 'pusher-js' });
  assert.deepEqual((await ws.next('client-hello')).data, { from: 'pusher-js' });
});
