// Presence channels: one member per user, lists and announcements that agree, and user_info that passes through
// untouched.

import assert from 'node:assert/strict';
import test from 'node:test';

import { api } from '../lib/api.js';
import {
  connect,
  join,
  nothingArrived,
  signin,
  stillOpen,
  subscribe,
  subscribeRefused,
  trySubscribe,
  unsubscribe,
} from '../lib/client.js';
import { memberText } from '../lib/json-text.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { channelAuth } from '../lib/sign.js';

const PAIR = { id: 'pair', key: 'pair-key', secret: 'pair-secret', max_presence_members_per_channel: 2 };
const SLIM = { id: 'slim', key: 'slim-key', secret: 'slim-secret', max_presence_member_size_in_kb: 1 };
const FREE = {
  id: 'free',
  key: 'free-key',
  secret: 'free-secret',
  max_connections: 0,
  max_presence_members_per_channel: 0,
  max_presence_member_size_in_kb: 0,
};
const DEFAULT = { ...APP, max_connections: 0 };
const server = await sharedServer({ apps: [DEFAULT, PAIR, SLIM, FREE] });
const UNAUTHORIZED = { type: 'AuthError', status: 401 };
const FULL = { type: 'LimitReached', status: 4004 };
const TOO_BIG = { type: 'LimitReached', status: 4301 };

test('the_newcomer_is_in_its_own_list', async (t) => {
  const ws = await connect(server, { t });
  const answer = await subscribe(ws, 'presence-first', { user: { user_id: '1', user_info: { name: 'A' } } });
  assert.deepEqual(JSON.parse(answer.data), { presence: { count: 1, ids: ['1'], hash: { 1: { name: 'A' } } } });
  await nothingArrived(server, ws);
});

test('the_others_are_told_of_a_user_who_joins_and_leaves', async (t) => {
  const [a, b] = await connections(t, 2);
  await join(a, 'presence-two', { user_id: 'a', user_info: { n: 1 } });
  const list = await join(b, 'presence-two', { user_id: 'b', user_info: { n: 2 } });
  assert.deepEqual(
    { ...list, ids: list.ids.sort() },
    { count: 2, ids: ['a', 'b'], hash: { a: { n: 1 }, b: { n: 2 } } },
  );
  const added = await a.next('pusher_internal:member_added');
  assert.deepEqual(JSON.parse(added.text), { event: added.event, channel: 'presence-two', data: added.data });
  assert.deepEqual(JSON.parse(added.data), { user_id: 'b', user_info: { n: 2 } });
  unsubscribe(b, 'presence-two');
  const removed = await a.next('pusher_internal:member_removed');
  assert.deepEqual(JSON.parse(removed.text), {
    event: removed.event,
    channel: 'presence-two',
    data: '{"user_id":"b"}',
  });
  await nothingArrived(server, a, b);
});

test('a_closed_and_a_cut_connection_leave_at_once', async (t) => {
  const [observer, polite, cut] = await connections(t, 3);
  await join(observer, 'presence-leave', { user_id: 'o' });
  await join(polite, 'presence-leave', { user_id: 'polite' });
  await join(cut, 'presence-leave', { user_id: 'cut' });
  await polite.close();
  assert.equal((await observer.next('pusher_internal:member_removed')).data, '{"user_id":"polite"}');
  cut.destroy();
  assert.equal((await observer.next('pusher_internal:member_removed')).data, '{"user_id":"cut"}');
  assert.deepEqual((await join(await connect(server, { t }), 'presence-leave', { user_id: 'n' })).ids.sort(), [
    'n',
    'o',
  ]);
});

test('a_user_with_several_connections_is_one_member', async (t) => {
  const [observer, first, second, third] = await connections(t, 4);
  const channel = 'presence-several';
  await join(observer, channel, { user_id: 'o' });
  await join(first, channel, { user_id: 'u', user_info: { from: 'first' } });
  assert.deepEqual(JSON.parse((await observer.next('pusher_internal:member_added')).data), {
    user_id: 'u',
    user_info: { from: 'first' },
  });
  const list = await join(second, channel, { user_id: 'u', user_info: { from: 'second' } });
  assert.equal(list.count, 2);
  assert.deepEqual(list.hash.u, { from: 'first' }, 'the first connection speaks for the user');
  await nothingArrived(server, observer, first);

  unsubscribe(first, channel);
  await stillOpen(first);
  assert.deepEqual(
    (await join(third, channel, { user_id: 'w' })).hash.u,
    { from: 'first' },
    'and does so until the last one leaves',
  );
  await observer.next('pusher_internal:member_added');
  await second.close();
  assert.equal((await observer.next('pusher_internal:member_removed')).data, '{"user_id":"u"}');
  await join(first, channel, { user_id: 'u', user_info: { from: 'again' } });
  assert.deepEqual(JSON.parse((await observer.next('pusher_internal:member_added')).data), {
    user_id: 'u',
    user_info: { from: 'again' },
  });
  await nothingArrived(server, observer);
});

test('subscribing_twice_joins_once', async (t) => {
  const [observer, ws] = await connections(t, 2);
  await join(observer, 'presence-twice', { user_id: 'o' });
  await join(ws, 'presence-twice', { user_id: 'u' });
  assert.equal((await join(ws, 'presence-twice', { user_id: 'u' })).count, 2);
  await observer.next('pusher_internal:member_added');
  unsubscribe(ws, 'presence-twice');
  await observer.next('pusher_internal:member_removed');
  await nothingArrived(server, observer, ws);
});

test('a_user_id_may_be_a_number_and_is_the_same_user_as_its_text', async (t) => {
  const [observer, number, text] = await connections(t, 3);
  const channel = 'presence-numbers';
  await join(observer, channel, { user_id: 'o' });
  const list = await join(number, channel, { user_id: 7 });
  assert.deepEqual(list.ids.sort(), ['7', 'o']);
  assert.equal((await observer.next('pusher_internal:member_added')).data, '{"user_id":"7","user_info":{}}');
  assert.equal((await join(text, channel, { user_id: '7' })).count, 2);
  unsubscribe(number, channel);
  unsubscribe(text, channel);
  assert.equal((await observer.next('pusher_internal:member_removed')).data, '{"user_id":"7"}');
  await nothingArrived(server, observer);
});

test('an_integer_is_the_user_of_its_decimal_text', async (t) => {
  for (const [number, text] of [
    ['0', '0'],
    ['-0', '0'],
    ['-7', '-7'],
  ]) {
    const ws = await connect(server, { t });
    const list = await join(ws, `presence-integer-${number}`, undefined, { channelData: `{"user_id":${number}}` });
    assert.deepEqual(list.ids, [text], number);
  }
});

test('a_large_integer_keeps_its_digits', async (t) => {
  const ws = await connect(server, { t });
  const list = await join(ws, 'presence-large', undefined, { channelData: '{"user_id":9007199254740993}' });
  assert.deepEqual(list.ids, ['9007199254740993']);
});

test('user_info_may_be_missing', async (t) => {
  const ws = await connect(server, { t });
  assert.deepEqual((await join(ws, 'presence-bare', { user_id: '1' })).hash, { 1: {} });
});

test('user_info_keeps_its_exact_text', async (t) => {
  const [observer, ws, late] = await connections(t, 3);
  const channel = 'presence-exact';
  await join(observer, channel, { user_id: 'o' });
  const info = '{ "b" : 1.50, "a":1e400,"a":-0.0, "s":"\\u00e9\\/\\ud83d\\ude00 é", "deep":[[{}]] }';
  const answer = await subscribe(ws, channel, { channelData: `{"user_info":${info},"user_id":"u"}` });
  const inHash = (text) => memberText(memberText(memberText(text, 'presence'), 'hash'), 'u');
  assert.equal(inHash(answer.data), info);
  const added = await observer.next('pusher_internal:member_added');
  assert.equal(memberText(added.data, 'user_info'), info);
  assert.equal(inHash((await subscribe(late, channel, { user: { user_id: 'late' } })).data), info);
});

test('user_info_may_be_any_json_value', async (t) => {
  const ws = await connect(server, { t });
  for (const [i, info] of ['"text"', '12.50', 'null', 'true', '[1, 2]'].entries()) {
    const answer = await subscribe(ws, `presence-any-${i}`, { channelData: `{"user_id":"u","user_info":${info}}` });
    assert.equal(memberText(memberText(memberText(answer.data, 'presence'), 'hash'), 'u'), info);
  }
});

test('ids_that_need_escapes_come_back_as_they_were', async (t) => {
  const [observer, ws] = await connections(t, 2);
  const channel = 'presence-escapes';
  const id = 'a"b\\c\n\u00e9\u{1f600}';
  await join(observer, channel, { user_id: 'o' });
  const list = await join(ws, channel, { user_id: id });
  assert.ok(list.ids.includes(id));
  assert.deepEqual(list.hash[id], {});
  assert.equal(JSON.parse((await observer.next('pusher_internal:member_added')).data).user_id, id);
  unsubscribe(ws, channel);
  assert.equal(JSON.parse((await observer.next('pusher_internal:member_removed')).data).user_id, id);
});

test('a_user_id_has_1_to_255_bytes', async (t) => {
  const ws = await connect(server, { t });
  assert.equal((await join(ws, 'presence-id-255', { user_id: 'u'.repeat(255) })).count, 1);
  await subscribeRefused(ws, 'presence-id-256', UNAUTHORIZED, { user: { user_id: 'u'.repeat(256) } });
  await subscribeRefused(ws, 'presence-id-256', UNAUTHORIZED, { user: { user_id: 'é'.repeat(128) } });
  await subscribeRefused(ws, 'presence-id-0', UNAUTHORIZED, { user: { user_id: '' } });
});

test('channel_data_without_a_usable_user_is_refused', async (t) => {
  const ws = await connect(server, { t });
  const bad = [
    '',
    'x',
    '{',
    '[]',
    '"u"',
    'null',
    '{}',
    '{"user_id":null}',
    '{"user_id":true}',
    '{"user_id":1.5}',
    '{"user_id":{}}',
    '{"user_id":["u"]}',
    '{"user_id":"u"} x',
    '{"user_id":"u",}',
  ];
  for (const channelData of bad) await subscribeRefused(ws, 'presence-bad', UNAUTHORIZED, { channelData });
  for (const channel_data of [{ user_id: 'u' }, 5, ['u']]) {
    const answer = await trySubscribe(ws, 'presence-bad', {
      auth: channelAuth(APP, ws.socketId, 'presence-bad'),
      channel_data,
    });
    assert.equal(answer.event, 'pusher:subscription_error', 'channel_data must be a string');
  }
  assert.deepEqual(await stillOpen(ws), []);
  const { json } = await api(server, 'GET', '/channels/presence-bad', { query: { info: 'user_count' } });
  assert.equal(json.occupied, false);
});

test('a_signed_in_connection_joins_without_channel_data_as_its_user', async (t) => {
  const [observer, ws] = await connections(t, 2);
  await join(observer, 'presence-signed', { user_id: 'o' });
  await subscribeRefused(ws, 'presence-signed', UNAUTHORIZED);
  await signin(ws, undefined, { userData: '{"id":"u","user_info":{"n": 1.50}}' });
  const answer = await subscribe(ws, 'presence-signed');
  assert.deepEqual(JSON.parse(answer.data).presence.ids.sort(), ['o', 'u']);
  assert.equal((await observer.next('pusher_internal:member_added')).data, '{"user_id":"u","user_info":{"n": 1.50}}');
  const other = await connect(server, { t });
  assert.equal((await join(other, 'presence-signed', { user_id: 'u' })).count, 2, 'the same user, however it joined');
  await nothingArrived(server, observer);
});

test('a_signed_in_connection_without_user_info_joins_with_an_empty_one', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'u' });
  assert.deepEqual((await join(ws, 'presence-signed-bare')).hash, { u: {} });
});

test('channel_data_comes_before_the_sign_in', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'signed' });
  assert.deepEqual((await join(ws, 'presence-both', { user_id: 'given' })).ids, ['given']);
});

test('a_sign_in_does_not_replace_the_signature_of_the_channel', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'u' });
  await subscribeRefused(ws, 'presence-unsigned', UNAUTHORIZED, { auth: undefined });
  await subscribeRefused(ws, 'presence-unsigned', UNAUTHORIZED, {
    auth: channelAuth(APP, ws.socketId, 'presence-else'),
  });
});

test('the_member_limit_counts_users_and_lets_those_who_are_there_join_again', async (t) => {
  const [a, b, c, again] = await connections(t, 4, PAIR);
  const channel = 'presence-pair';
  await join(a, channel, { user_id: 'a' });
  await join(b, channel, { user_id: 'b' });
  assert.match(await subscribeRefused(c, channel, FULL, { user: { user_id: 'c' } }), /\b2\b/);
  assert.equal((await join(again, channel, { user_id: 'a' })).count, 2);
  await a.next('pusher_internal:member_added');
  await nothingArrived(server, a, b, c, again);
  unsubscribe(b, channel);
  await a.next('pusher_internal:member_removed');
  assert.equal((await join(c, channel, { user_id: 'c' })).count, 2);
});

test('the_member_size_limit_is_of_user_info_as_sent', async (t) => {
  const ws = await connect(server, { t, app: SLIM });
  const info = (bytes) => ({ channelData: `{"user_id":"u","user_info":"${'x'.repeat(bytes - 2)}"}` });
  await subscribe(ws, 'presence-slim', info(1024));
  assert.match(await subscribeRefused(ws, 'presence-slim-2', TOO_BIG, info(1025)), /\b1\b/);
  assert.deepEqual(await stillOpen(ws), []);
});

test('the_limits_count_for_users_that_joined_by_sign_in_too', async (t) => {
  const [ws] = await connections(t, 1, SLIM);
  await signin(ws, { id: 'u', user_info: 'x'.repeat(1023) });
  await subscribeRefused(ws, 'presence-slim-signed', TOO_BIG);
});

test('limits_of_0_are_none', async (t) => {
  const sockets = await connections(t, 101, FREE);
  await Promise.all(
    sockets.map((ws, i) =>
      join(ws, 'presence-free', { user_id: String(i), user_info: 'x'.repeat(i === 0 ? 20_000 : 1) }),
    ),
  );
  const { json } = await api(server, 'GET', '/channels/presence-free', { app: FREE, query: { info: 'user_count' } });
  assert.equal(json.user_count, 101);
});

test('apps_without_their_own_limits_have_those_of_the_configuration', async (t) => {
  const other = await serverFor(t, { config: { presence: { max_members_per_channel: 1, max_member_size_in_kb: 2 } } });
  const [a, b] = [await connect(other), await connect(other)];
  await subscribeRefused(a, 'presence-x', TOO_BIG, { user: { user_id: 'a', user_info: 'x'.repeat(2048) } });
  await join(a, 'presence-x', { user_id: 'a', user_info: 'x'.repeat(2000) });
  await subscribeRefused(b, 'presence-x', FULL, { user: { user_id: 'b' } });
});

test('the_default_limit_of_members_is_100', async (t) => {
  const sockets = await connections(t, 101);
  for (const [i, ws] of sockets.slice(0, 100).entries()) await join(ws, 'presence-hundred', { user_id: String(i) });
  assert.match(await subscribeRefused(sockets[100], 'presence-hundred', FULL, { user: { user_id: '100' } }), /\b100\b/);
});

function connections(t, count, app = APP) {
  return Promise.all(Array.from({ length: count }, () => connect(server, { t, app })));
}
