// Signing in: every answer to pusher:signin.

import assert from 'node:assert/strict';
import test from 'node:test';

import { closedWithError, connect, nextError, nothingArrived, sendSignin, signin, stillOpen } from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';
import { channelAuth, signinAuth } from '../lib/sign.js';

const WATCHING = { id: 'watching', key: 'watching-key', secret: 'watching-secret', enable_watchlist_events: true };
const server = await sharedServer({ apps: [APP, WATCHING] });

test('a_sign_in_is_answered_with_the_user_data_exactly_as_sent', async (t) => {
  const ws = await connect(server, { t });
  const userData = '{ "user_info":{"n":1.50,"é":"\\u00e9\\/"}, "id":"u" }';
  const answer = await signin(ws, undefined, { userData });
  assert.deepEqual(JSON.parse(answer.text), { event: 'pusher:signin_success', data: answer.data });
  assert.deepEqual(JSON.parse(answer.data), { user_data: userData });
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
    '{"id":7}',
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
  assert.deepEqual(JSON.parse((await signin(ws, undefined, { userData: again })).data), { user_data: again });
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

test('more_than_100_watched_users_are_answered_4302_and_the_user_is_signed_in_without_watchlist', async (t) => {
  const ws = await connect(server, { t, app: WATCHING });
  sendSignin(ws, { id: 'greedy', watchlist: Array.from({ length: 101 }, (_, i) => `w${i}`) });
  assert.match(await nextError(ws, 4302), /\b100\b/);
  await ws.next('pusher:signin_success');
  const other = await connect(server, { t, app: WATCHING });
  await signin(other, { id: 'w0' });
  await nothingArrived(server, ws);
});

test('user_ids_of_any_text_sign_in', async (t) => {
  for (const id of ['a b', 'é\u{1f600}', '"\\', '#', '7', 'x'.repeat(255)]) {
    const ws = await connect(server, { t });
    await signin(ws, { id });
  }
});
