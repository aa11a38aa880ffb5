// Subscribing: the kinds of channels, their names, their signatures, and what an unsubscribe leaves behind.

import assert from 'node:assert/strict';
import test from 'node:test';

import { api, publish } from '../lib/api.js';
import {
  connect,
  nextError,
  nothingArrived,
  settle,
  stillOpen,
  subscribe,
  subscribeRefused,
  trySubscribe,
  unsubscribe,
} from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';
import { channelAuth } from '../lib/sign.js';

const OTHER = { id: 'other', key: 'other-key', secret: 'other-secret' };
const SHORT = { id: 'short', key: 'short-key', secret: 'short-secret', max_channel_name_length: 20 };
const LONG = { id: 'long', key: 'long-key', secret: 'long-secret', max_channel_name_length: 0 };
const server = await sharedServer({ apps: [APP, OTHER, SHORT, LONG] });
const UNAUTHORIZED = { type: 'AuthError', status: 401 };
const INVALID = { type: 'InvalidChannel', status: 400 };
const TOO_LONG = { type: 'LimitReached', status: 4009 };

test('a_subscription_is_answered_with_the_channel_and_an_empty_object_as_a_string', async (t) => {
  const ws = await connect(server, { t });
  const answer = await subscribe(ws, 'plain');
  assert.deepEqual(JSON.parse(answer.text), {
    event: 'pusher_internal:subscription_succeeded',
    channel: 'plain',
    data: '{}',
  });
});

test('a_published_event_reaches_subscribers_with_its_name_channel_and_data', async (t) => {
  const [a, b, c] = await connections(t, 3);
  await subscribe(a, 'plain-1');
  await subscribe(b, 'plain-1');
  await subscribe(c, 'plain-2');
  await publish(server, { name: 'greeting', channel: 'plain-1', data: '{"x":1}' });
  for (const ws of [a, b]) {
    assert.deepEqual(JSON.parse((await ws.next('greeting')).text), {
      event: 'greeting',
      channel: 'plain-1',
      data: '{"x":1}',
    });
  }
  await nothingArrived(server, a, b, c);
});

test('apps_do_not_hear_each_other', async (t) => {
  const ours = await connect(server, { t });
  const theirs = await connect(server, { t, app: OTHER });
  await subscribe(ours, 'shared-name');
  await subscribe(theirs, 'shared-name');
  await publish(server, { name: 'for-other', channel: 'shared-name', data: 'x' }, { app: OTHER });
  assert.equal((await theirs.next('for-other')).data, 'x');
  await nothingArrived(server, ours);
});

test('the_excluded_socket_does_not_hear_the_event', async (t) => {
  const [a, b] = await connections(t, 2);
  await subscribe(a, 'excluding');
  await subscribe(b, 'excluding');
  await publish(server, { name: 'x', channel: 'excluding', data: 'x', socket_id: a.socketId });
  await b.next('x');
  await nothingArrived(server, a);
});

for (const channel of [
  'public-x',
  'cache-x',
  'Private-x',
  'xprivate-x',
  'my-private-x',
  'my-cache-x',
  'private',
  'presence',
  'a:b',
  'a#b',
  '#a',
]) {
  test(`${channel}_is_public`, async (t) => {
    await subscribe(await connect(server, { t }), channel);
  });
}

for (const channel of [
  'private-x',
  'private-encrypted-x',
  'private-cache-x',
  'private-encrypted-cache-x',
  'private-my-cache-x',
]) {
  test(`${channel}_needs_its_signature`, async (t) => {
    const ws = await connect(server, { t });
    await subscribeRefused(ws, channel, UNAUTHORIZED, { auth: undefined });
    await subscribeRefused(ws, channel, UNAUTHORIZED, { auth: `${APP.key}:${'0'.repeat(64)}` });
    await subscribe(ws, channel);
    assert.equal(
      (await stillOpen(ws)).every(({ event }) => event === 'pusher:cache_miss'),
      true,
    );
  });
}

for (const channel of ['presence-x', 'presence-cache-x']) {
  test(`${channel}_needs_its_signature_and_a_user`, async (t) => {
    const ws = await connect(server, { t });
    const user = { user_id: '1' };
    await subscribeRefused(ws, channel, UNAUTHORIZED, { user, auth: undefined });
    await subscribeRefused(ws, channel, UNAUTHORIZED, { user, auth: channelAuth(APP, ws.socketId, channel) });
    await subscribeRefused(ws, channel, UNAUTHORIZED);
    await subscribe(ws, channel, { user });
  });
}

test('signatures_for_something_else_are_refused', async (t) => {
  const [ws, other] = await connections(t, 2);
  const channel = 'private-signed';
  const good = channelAuth(APP, ws.socketId, channel);
  const wrong = {
    'of another channel': channelAuth(APP, ws.socketId, 'private-other'),
    'of another socket': channelAuth(APP, other.socketId, channel),
    'of another app': channelAuth(OTHER, ws.socketId, channel),
    'with our key and another secret': channelAuth({ key: APP.key, secret: OTHER.secret }, ws.socketId, channel),
    'with another key and our secret': channelAuth({ key: OTHER.key, secret: APP.secret }, ws.socketId, channel),
    'that covers channel_data that is not sent': channelAuth(APP, ws.socketId, channel, '{}'),
    'without the key': good.slice(APP.key.length + 1),
    'cut short': good.slice(0, -1),
    'with more behind it': `${good}0`,
    'that is no hexadecimal': `${APP.key}:${'z'.repeat(64)}`,
    'that is empty': '',
  };
  for (const [what, auth] of Object.entries(wrong)) {
    const text = await subscribeRefused(ws, channel, UNAUTHORIZED, { auth });
    assert.ok(
      !text.includes(good.slice(APP.key.length + 1)),
      `the answer to a signature ${what} does not tell the right one`,
    );
  }
  await subscribe(ws, channel, { auth: good });
});

test('the_signature_of_a_private_channel_covers_channel_data_that_is_sent_along', async (t) => {
  const ws = await connect(server, { t });
  const channelData = '{"any":"thing"}';
  await subscribeRefused(ws, 'private-data', UNAUTHORIZED, {
    channelData,
    auth: channelAuth(APP, ws.socketId, 'private-data'),
  });
  await subscribe(ws, 'private-data', { channelData });
});

test('a_signature_for_a_longer_name_opens_no_channel_with_a_shorter_one', async (t) => {
  const ws = await connect(server, { t });
  for (const [channel, channelData] of [
    ['private-team', '42'],
    ['private-team', '"42"'],
    ['private-team', '[]'],
    ['private-team', ''],
    ['private-encrypted-team', '42'],
    ['private-cache-team', '42'],
  ]) {
    const auth = channelAuth(APP, ws.socketId, `${channel}:${channelData}`);
    const text = await subscribeRefused(ws, channel, UNAUTHORIZED, { auth, channelData });
    assert.match(text, /`channel_data` must be a JSON object/);
  }
  await subscribe(ws, 'private-team:42', { auth: channelAuth(APP, ws.socketId, 'private-team:42') });
});

test('a_refused_subscription_hears_nothing', async (t) => {
  const ws = await connect(server, { t });
  await subscribeRefused(ws, 'private-closed', UNAUTHORIZED, { auth: 'x:y' });
  await publish(server, { name: 'secret', channel: 'private-closed', data: 'x' });
  await nothingArrived(server, ws);
});

test('every_permitted_character_is_accepted_in_a_name', async (t) => {
  const ws = await connect(server, { t });
  const all = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=@,.;:#';
  await subscribe(ws, all);
  await publish(server, { name: 'x', channel: all, data: 'x' });
  assert.equal((await ws.next('x')).channel, all);
});

test('every_other_ascii_character_is_refused_in_a_name_and_the_connection_stays', async (t) => {
  const ws = await connect(server, { t });
  for (let code = 0; code < 128; code++) {
    const channel = `a${String.fromCharCode(code)}b`;
    if (/^[A-Za-z0-9_\-=@,.;:#]+$/.test(channel)) continue;
    await subscribeRefused(ws, channel, INVALID);
  }
  assert.deepEqual(await stillOpen(ws), []);
});

test('other_bad_names_are_refused', async (t) => {
  const ws = await connect(server, { t });
  for (const channel of ['', 'é', 'a\u{1f600}', 'private-é', 'presence-a b'])
    await subscribeRefused(ws, channel, INVALID);
});

test('a_channel_that_is_missing_or_no_string_is_answered_4300', async (t) => {
  const ws = await connect(server, { t });
  for (const data of [
    {},
    { channel: null },
    { channel: 5 },
    { channel: ['a'] },
    { channel: { a: 1 } },
    null,
    undefined,
    7,
    [],
  ]) {
    ws.send({ event: 'pusher:subscribe', data });
    await nextError(ws, 4300);
  }
  assert.deepEqual(await stillOpen(ws), []);
});

test('a_name_of_the_longest_length_is_accepted_and_one_more_is_refused', async (t) => {
  const ws = await connect(server, { t });
  await subscribe(ws, 'n'.repeat(100));
  assert.match(await subscribeRefused(ws, 'n'.repeat(101), TOO_LONG), /\b100\b/);
  const short = await connect(server, { t, app: SHORT });
  await subscribe(short, `private-${'n'.repeat(12)}`);
  assert.match(await subscribeRefused(short, `private-${'n'.repeat(13)}`, TOO_LONG), /\b20\b/);
  const long = await connect(server, { t, app: LONG });
  await subscribe(long, 'n'.repeat(5000));
  assert.deepEqual(await stillOpen(ws), []);
});

test('subscribing_twice_is_answered_twice_and_counts_once', async (t) => {
  const ws = await connect(server, { t });
  await subscribe(ws, 'private-twice');
  await subscribe(ws, 'private-twice');
  assert.equal(await count('private-twice'), 1);
  await publish(server, { name: 'x', channel: 'private-twice', data: 'x' });
  await ws.next('x');
  await nothingArrived(server, ws);
  unsubscribe(ws, 'private-twice');
  await stillOpen(ws);
  assert.equal(await count('private-twice'), 0);
});

test('an_unsubscribe_is_silent_and_ends_delivery', async (t) => {
  const [ws, other] = await connections(t, 2);
  for (const each of [ws, other]) await subscribe(each, 'leaving');
  unsubscribe(ws, 'leaving');
  assert.deepEqual(await stillOpen(ws), []);
  await publish(server, { name: 'x', channel: 'leaving', data: 'x' });
  await other.next('x');
  await nothingArrived(server, ws);
  await subscribe(ws, 'leaving');
  await publish(server, { name: 'y', channel: 'leaving', data: 'y' });
  await ws.next('y');
});

test('an_unsubscribe_from_nowhere_is_silent', async (t) => {
  const ws = await connect(server, { t });
  for (const channel of ['never-joined', 'presence-never', '', 'a b']) unsubscribe(ws, channel);
  assert.deepEqual(await stillOpen(ws), []);
});

test('a_connection_that_ends_leaves_its_channels', async (t) => {
  const [polite, cut, observer] = await connections(t, 3);
  for (const ws of [polite, cut]) await subscribe(ws, 'ending');
  assert.equal(await count('ending'), 2);
  await polite.close();
  assert.equal(await count('ending'), 1);
  await subscribe(observer, 'presence-ending', { user: { user_id: 'observer' } });
  await subscribe(cut, 'presence-ending', { user: { user_id: 'cut' } });
  cut.destroy();
  await observer.next('pusher_internal:member_removed');
  assert.equal(await count('ending'), 0);
});

test('a_connection_holds_10000_subscriptions_and_no_more', async (t) => {
  const ws = await connect(server, { t });
  const names = Array.from({ length: 10_000 }, (_, i) => `many-${i}`);
  for (let from = 0; from < names.length; from += 250) {
    const batch = names.slice(from, from + 250);
    for (const channel of batch) ws.send({ event: 'pusher:subscribe', data: { channel } });
    for (const answer of await ws.inbox.take(batch.length))
      assert.equal(answer.event, 'pusher_internal:subscription_succeeded');
  }
  const refusal = await trySubscribe(ws, 'one-more');
  assert.equal(refusal.event, 'pusher:subscription_error');
  assert.equal(refusal.data.type, 'LimitReached');
  assert.match(refusal.data.error, /10,?000/);
  await subscribe(ws, 'many-17');
  unsubscribe(ws, 'many-0');
  await subscribe(ws, 'one-more');
  await publish(server, { name: 'x', channel: 'many-9999', data: 'x' });
  await ws.next('x');
  assert.deepEqual(await stillOpen(ws), []);
});

test('events_of_a_channel_are_settled_before_the_marker', async (t) => {
  const [a, b] = await connections(t, 2);
  for (const ws of [a, b]) await subscribe(ws, 'busy');
  for (let i = 0; i < 20; i++) await publish(server, { name: `n${i}`, channel: 'busy', data: 'x' });
  for (const messages of await settle(server, a, b)) {
    assert.deepEqual(
      messages.map(({ event }) => event),
      Array.from({ length: 20 }, (_, i) => `n${i}`),
    );
  }
});

function connections(t, count) {
  return Promise.all(Array.from({ length: count }, () => connect(server, { t })));
}

async function count(channel) {
  const { json } = await api(server, 'GET', `/channels/${channel}`, { query: { info: 'subscription_count' } });
  return json.subscription_count;
}
