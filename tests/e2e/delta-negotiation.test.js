// How a client asks for deltas: for the whole connection, for a subscription, what it is answered, and what counts if
// several places say something else.

import assert from 'node:assert/strict';
import test from 'node:test';

import { closedWithError, connect, sendSubscribe, settle, stillOpen, subscribe } from '../lib/client.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const apps = [
  {
    ...APP,
    channel_delta_compression: {
      'off-*': 'disabled',
      'closed-*': { enabled: false, algorithm: 'xdelta3' },
      'vc-*': 'xdelta3',
      'fo-*': { algorithm: 'Fossil' },
      'as-server-*': 'inherit',
    },
  },
];
const server = await sharedServer({ apps });
const byXdelta3 = { delta_compression: { algorithm: 'xdelta3' } };
const withoutDeltas = { delta_compression: { enabled: false } };

const enabled = (algorithm, on = true) =>
  `{"event":"pusher:delta_compression_enabled","data":{"enabled":${on},"algorithm":"${algorithm}"}}`;
const confirmed = (channel, algorithm) =>
  `{"event":"pusher:delta_compression_enabled","channel":"${channel}",` +
  `"data":{"enabled":true,"algorithm":"${algorithm}","channel":"${channel}"}}`;

// Sends pusher:enable_delta_compression and returns the exact answer.
async function enable(ws, ...data) {
  ws.send(
    data.length
      ? { event: 'pusher:enable_delta_compression', data: data[0] }
      : { event: 'pusher:enable_delta_compression' },
  );
  return (await ws.next('pusher:delta_compression_enabled')).text;
}

// Subscribes and returns the texts that arrive behind the success.
async function answersTo(ws, channel, options) {
  await subscribe(ws, channel, options);
  const [behind] = await settle(server, ws);
  return behind.map((message) => message.text);
}

test('the_answer_names_the_algorithm', async (t) => {
  for (const [data, algorithm] of [
    [[], 'fossil'],
    [[{}], 'fossil'],
    [['{}'], 'fossil'],
    [[null], 'fossil'],
    [[{ algorithms: [] }], 'fossil'],
    [[{ algorithms: null }], 'fossil'],
    [[{ algorithms: ['fossil', 'xdelta3'] }], 'fossil'],
    [[{ algorithms: ['xdelta3', 'fossil'] }], 'fossil'],
    [['{"algorithms":["xdelta3"]}'], 'xdelta3'],
    [[{ algorithms: ['XDelta3', 7, 'gzip'] }], 'xdelta3'],
    [[{ algorithms: ['vcdiff'] }], 'xdelta3'],
    [[{ algorithms: ['gzip', 'fossil'] }], 'fossil'],
  ]) {
    const ws = await connect(server, { t });
    assert.equal(await enable(ws, ...data), enabled(algorithm), JSON.stringify(data));
    ws.destroy();
  }
});

test('a_client_without_a_known_algorithm_gets_no_deltas', async (t) => {
  const ws = await connect(server, { t });
  assert.equal(await enable(ws, { algorithms: ['gzip', 1, null] }), enabled('fossil', false));
  assert.deepEqual(await answersTo(ws, 'first', { delta: 'xdelta3' }), [confirmed('first', 'xdelta3')]);
});

test('the_default_algorithm_is_that_of_the_server', async (t) => {
  const other = await serverFor(t, { config: byXdelta3 });
  const [any, both, one] = [await connect(other, { t }), await connect(other, { t }), await connect(other, { t })];
  assert.equal(await enable(any), enabled('xdelta3'));
  assert.equal(await enable(both, { algorithms: ['fossil', 'xdelta3'] }), enabled('xdelta3'));
  assert.equal(await enable(one, { algorithms: ['fossil'] }), enabled('fossil'));
  const ws = await connect(other, { t });
  await subscribe(ws, 'prices', { delta: true });
  assert.equal((await ws.next('pusher:delta_compression_enabled')).text, confirmed('prices', 'xdelta3'));
});

test('a_server_without_deltas_says_so', async (t) => {
  const other = await serverFor(t, { config: withoutDeltas });
  const ws = await connect(other, { t });
  assert.equal(await enable(ws, { algorithms: ['xdelta3'] }), enabled('fossil', false));
  await subscribe(ws, 'prices', { delta: true });
  assert.deepEqual(await settle(other, ws), [[]]);
});

test('a_subscription_says_in_many_ways_that_it_wants_deltas', async (t) => {
  const ws = await connect(server, { t });
  let count = 0;
  for (const [delta, algorithm] of [
    [true, 'fossil'],
    ['fossil', 'fossil'],
    ['Fossil', 'fossil'],
    ['xdelta3', 'xdelta3'],
    ['VCDIFF', 'xdelta3'],
    ['on', 'fossil'],
    ['', 'fossil'],
    [{}, 'fossil'],
    [{ enabled: true }, 'fossil'],
    [{ enabled: 'false' }, 'fossil'],
    [{ enabled: null, algorithm: 'xdelta3', level: 9 }, 'xdelta3'],
    [{ algorithm: 'vcdiff' }, 'xdelta3'],
    [{ algorithm: 'none' }, 'fossil'],
    [{ algorithm: 3 }, 'fossil'],
  ]) {
    const channel = `wants-${++count}`;
    assert.deepEqual(await answersTo(ws, channel, { delta }), [confirmed(channel, algorithm)], JSON.stringify(delta));
  }
});

test('a_subscription_says_in_many_ways_that_it_does_not', async (t) => {
  const ws = await connect(server, { t });
  let count = 0;
  for (const delta of [false, 'disabled', 'FALSE', 'None', { enabled: false }, { enabled: false, algorithm: 'fossil' }])
    assert.deepEqual(await answersTo(ws, `declines-${++count}`, { delta }), [], JSON.stringify(delta));
  for (const delta of [null, 1, 0, [], ['fossil']])
    assert.deepEqual(await answersTo(ws, `says-nothing-${++count}`, { delta }), [], JSON.stringify(delta));
});

test('the_subscription_may_be_a_json_string', async (t) => {
  const ws = await connect(server, { t });
  ws.send({ event: 'pusher:subscribe', data: '{"channel":"in-a-string","delta":{"algorithm":"xdelta3"}}' });
  await ws.next('pusher_internal:subscription_succeeded');
  assert.equal((await ws.next('pusher:delta_compression_enabled')).text, confirmed('in-a-string', 'xdelta3'));
});

test('the_algorithm_is_the_subscriptions_then_the_channels_then_the_servers', async (t) => {
  const ws = await connect(server, { t });
  for (const [channel, delta, algorithm] of [
    ['vc-1', true, 'xdelta3'],
    ['vc-2', 'fossil', 'fossil'],
    ['fo-1', true, 'fossil'],
    ['fo-2', 'xdelta3', 'xdelta3'],
    ['as-server-1', true, 'fossil'],
    ['off-1', true, 'fossil'],
    ['closed-1', true, 'xdelta3'],
    ['other', true, 'fossil'],
  ])
    assert.deepEqual(await answersTo(ws, channel, { delta }), [confirmed(channel, algorithm)]);
});

test('a_confirmation_comes_only_where_the_connection_has_no_deltas_yet', async (t) => {
  const ws = await connect(server, { t });
  assert.equal(await enable(ws), enabled('fossil'));
  assert.deepEqual(await answersTo(ws, 'asks', { delta: true }), []);
  assert.deepEqual(await answersTo(ws, 'asks', { delta: 'xdelta3' }), []);
});

test('channels_whose_clients_cannot_decode_deltas_confirm_none', async (t) => {
  const ws = await connect(server, { t });
  assert.deepEqual(await answersTo(ws, 'private-encrypted-x', { delta: true }), []);
  assert.deepEqual(await answersTo(ws, 'private-x', { delta: true }), [confirmed('private-x', 'fossil')]);
  assert.deepEqual(await answersTo(ws, 'presence-x', { delta: true, user: { user_id: '1' } }), [
    confirmed('presence-x', 'fossil'),
  ]);
});

test('subscribing_again_with_delta_confirms_again', async (t) => {
  const ws = await connect(server, { t });
  assert.deepEqual(await answersTo(ws, 'twice', { delta: true }), [confirmed('twice', 'fossil')]);
  assert.deepEqual(await answersTo(ws, 'twice'), []);
  assert.deepEqual(await answersTo(ws, 'twice', { delta: 'xdelta3' }), [confirmed('twice', 'xdelta3')]);
});

test('a_sync_error_has_no_answer', async (t) => {
  const ws = await connect(server, { t });
  await subscribe(ws, 'known', { delta: true });
  await ws.next('pusher:delta_compression_enabled');
  for (const data of [
    { channel: 'known' },
    '{"channel":"known"}',
    { channel: 'unknown' },
    { channel: 7 },
    'x',
    {},
    null,
    5,
  ])
    ws.send({ event: 'pusher:delta_sync_error', data });
  ws.send({ event: 'pusher:delta_sync_error' });
  assert.deepEqual(await stillOpen(ws), []);
});

test('a_flood_of_requests_closes_the_connection', async (t) => {
  for (const message of [
    { event: 'pusher:enable_delta_compression', data: { algorithms: ['fossil'] } },
    { event: 'pusher:enable_delta_compression', data: { algorithms: ['gzip'] } },
    { event: 'pusher:delta_sync_error', data: { channel: 'flood' } },
  ]) {
    const ws = await connect(server, { t });
    await subscribe(ws, 'flood');
    for (let i = 0; i < 3000; i++) ws.send(message);
    assert.match(await closedWithError(ws, 4009), /more than 1000 messages in a second/);
  }
});
