// Signing in: every answer to pusher:signin.

import assert from 'node:assert/strict';
import test from 'node:test';

import { publish } from '../lib/api.js';
import { closedWithError, connect, nextError, sendSignin, signin, stillOpen } from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';
import { channelAuth, signinAuth } from '../lib/sign.js';

const WATCHING = { id: 'watching', key: 'watching-key', secret: 'watching-secret', enable_watchlist_events: true };
const server = await sharedServer({ apps: [APP, WATCHING] });

test('a_sign_in_is_answered_with_the_user_data_exactly_as_sent', async (t) => {
  const ws = await connect(server, { t });
  const userData = '{ "user_info":{"n":1.50,"é":"\\u00e9\\/"}, "id":"u" }';
  const answer = await signin(ws, undefined, { userData });
  assert.deepEqual(JSON.parse(answer.text), { event: 'pusher:signin_success', data: { user_data: userData } });
  assert.deepEqual(await stillOpen(ws), []);
});

test('bad_signatures_close_with_4009', async (t) => {
  const userData = '{"id":"u"}';
  const wrong = {
    'of another user': (ws) => signinAuth(APP, ws.socketId, '{"id":"v"}'),
    'of another socket': () => signinAuth(APP, '1.1', userData),
    'of another app': (ws) => signinAuth(WATCHING, ws.socketId, userData),
    'of a channel': (ws) => channelAuth(APP, ws.socketId, 'private-x'),
    'with another key': (ws) => signinAuth({ ...APP, key: 'other' }, ws.socketId, userData),
    'without the key': (ws) => signinAuth(APP, ws.socketId, userData).split(':')[1],
    'that is empty': () => '',
  };
  for (const [what, auth] of Object.entries(wrong)) {
    const ws = await connect(server, { t });
    sendSignin(ws, undefined, { userData, auth: auth(ws) });
    const text = await closedWithError(ws, 4009);
    assert.ok(
      !text.includes(signinAuth(APP, ws.socketId, userData).split(':')[1]),
      `the answer to a signature ${what} does not tell the right one`,
    );
    await ws.closed();
    assert.equal(
      ws.inbox.all.some(({ event }) => event === 'pusher:signin_success'),
      false,
    );
  }
});

test('bad_user_data_closes_with_4009', async (t) => {
  const bad = [
    '',
    'x',
    '{',
    '[]',
    '"u"',
    'null',
    '{}',
    '{"id":null}',
    '{"id":7.0}',
    '{"id":1e3}',
    '{"id":true}',
    `{"id":"${'x'.repeat(256)}"}`,
    '{"id":""}',
    '{"id":{}}',
    '{"id":["u"]}',
    '{"user_id":"u"}',
    '{"id":"u"} x',
  ];
  for (const userData of bad) {
    const ws = await connect(server, { t });
    sendSignin(ws, undefined, { userData });
    await closedWithError(ws, 4009);
  }
});

test('a_sign_in_without_auth_or_user_data_closes_with_4009', async (t) => {
  for (const data of [{ user_data: '{"id":"u"}' }, { auth: 'x:y' }, { auth: 'x:y', user_data: { id: 'u' } }, {}]) {
    const ws = await connect(server, { t });
    ws.send({ event: 'pusher:signin', data });
    await closedWithError(ws, 4009);
  }
});

test('signing_in_again_as_the_same_user_is_answered_again', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'u' });
  const again = '{"id":"u","user_info":{"more":1}}';
  assert.deepEqual((await signin(ws, undefined, { userData: again })).data, { user_data: again });
  assert.deepEqual(await stillOpen(ws), []);
});

test('signing_in_again_as_another_user_closes_with_4009', async (t) => {
  const ws = await connect(server, { t });
  await signin(ws, { id: 'u' });
  sendSignin(ws, { id: 'v' });
  await closedWithError(ws, 4009);
});

test('100_watched_users_are_accepted', async (t) => {
  const ws = await connect(server, { t, app: WATCHING });
  await signin(ws, { id: 'watcher', watchlist: Array.from({ length: 100 }, (_, i) => `w${i}`) });
  const { data } = await ws.next('pusher_internal:watchlist_events');
  assert.equal(JSON.parse(data).events[0].user_ids.length, 100);
});

test('of_more_than_100_watched_users_the_first_100_are_watched_and_4302_says_so', async (t) => {
  const ws = await connect(server, { t, app: WATCHING });
  const watchlist = Array.from({ length: 150 }, (_, i) => `g${i}`);
  sendSignin(ws, { id: 'greedy', watchlist });
  await ws.next('pusher:signin_success');
  const text = await nextError(ws, 4302);
  assert.match(text, /\b150\b/);
  assert.match(text, /\b100\b/);
  const { data } = await ws.next('pusher_internal:watchlist_events');
  assert.deepEqual(JSON.parse(data), { events: [{ name: 'offline', user_ids: watchlist.slice(0, 100) }] });
  const [last, first] = [await connect(server, { t, app: WATCHING }), await connect(server, { t, app: WATCHING })];
  await signin(last, { id: 'g100' });
  await signin(first, { id: 'g99' });
  const online = await ws.next('pusher_internal:watchlist_events');
  assert.deepEqual(JSON.parse(online.data), { events: [{ name: 'online', user_ids: ['g99'] }] });
});

test('an_integer_is_the_same_user_as_its_decimal_string', async (t) => {
  const ws = await connect(server, { t });
  const userData = '{"id":5}';
  assert.deepEqual((await signin(ws, undefined, { userData })).data, { user_data: userData });
  assert.deepEqual((await signin(ws, { id: '5' })).data, { user_data: '{"id":"5"}' });
  await publish(server, { name: 'hello', channel: '#server-to-user-5', data: 'x' });
  assert.equal((await ws.next('hello')).channel, '#server-to-user-5');
  ws.send({ event: 'pusher:subscribe', data: { channel: '#server-to-user-5', auth: '' } });
  await ws.next('pusher_internal:subscription_succeeded');
  ws.send({
    event: 'pusher:subscribe',
    data: { channel: 'presence-x', auth: channelAuth(APP, ws.socketId, 'presence-x') },
  });
  const { data } = await ws.next('pusher_internal:subscription_succeeded');
  assert.deepEqual(JSON.parse(data).presence, { count: 1, ids: ['5'], hash: { 5: {} } });
});

test('a_watchlist_of_integers_is_watched', async (t) => {
  const ws = await connect(server, { t, app: WATCHING });
  await signin(ws, { id: 1, watchlist: [2, '3', 2] });
  const { data } = await ws.next('pusher_internal:watchlist_events');
  assert.deepEqual(JSON.parse(data), { events: [{ name: 'offline', user_ids: ['2', '3'] }] });
});

test('a_wrong_watchlist_is_answered_4302_and_the_user_is_signed_in', async (t) => {
  const wrong = [{ 1: '2' }, 'a', 7, true, ['a', null], ['a', 1.5], [['a']], ['a', ''], ['x'.repeat(256)]];
  for (const watchlist of wrong) {
    const ws = await connect(server, { t, app: WATCHING });
    sendSignin(ws, { id: 'u', watchlist });
    await ws.next('pusher:signin_success');
    assert.match(await nextError(ws, 4302), /`watchlist` must be an array/);
    assert.deepEqual(await stillOpen(ws), []);
  }
});

test('with_watchlist_events_off_the_watchlist_is_not_looked_at', async (t) => {
  for (const watchlist of [{ 1: '2' }, Array.from({ length: 150 }, (_, i) => i), null]) {
    const ws = await connect(server, { t });
    await signin(ws, { id: 'u', watchlist });
    assert.deepEqual(await stillOpen(ws), []);
  }
});

test('user_ids_of_any_text_sign_in', async (t) => {
  for (const id of ['a b', 'é\u{1f600}', '"\\', '#', '7', 'x'.repeat(255)]) {
    const ws = await connect(server, { t });
    await signin(ws, { id });
  }
});
