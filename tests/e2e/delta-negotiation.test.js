// How a client asks for deltas: for the whole connection, for a subscription, what it is answered, and what counts if
// several places say something else.

import assert from 'node:assert/strict';
import test from 'node:test';

import { publish } from '../lib/api.js';
import { closedWithError, connect, join, settle, signin, stillOpen, subscribe, unsubscribe } from '../lib/client.js';
import { nextOn } from '../lib/events.js';
import { LIVE_APPS } from '../lib/live-apps.js';
import { makePusher } from '../lib/pusher.js';
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
  assert.deepEqual(await answersTo(ws, 'first', { delta: 'xdelta3' }), []);
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

test('changing_the_list_counts_more_with_many_subscriptions', async (t) => {
  const lists = (count) => Array.from({ length: count }, (_, i) => ({ algorithms: [i % 2 ? 'fossil' : 'xdelta3'] }));
  const [few, many] = [await connect(server, { t }), await connect(server, { t })];
  for (let i = 0; i < 640; i++) await subscribe(many, `many-${i}`);
  for (const ws of [few, many])
    for (const data of lists(200)) ws.send({ event: 'pusher:enable_delta_compression', data });
  assert.match(await closedWithError(many, 4009), /more than 1000 messages in a second/);
  for (let i = 0; i < 200; i++) await few.next('pusher:delta_compression_enabled');
  await stillOpen(few);
});

// --- what subscribers get ---

// So many events that resemble each other, and what the connection gets of each: P plain, as without deltas; W whole
// with its number; F or X a delta of Fossil or xdelta3.
async function gets(ws, channel, count = 2, { on = server, app = APP } = {}) {
  for (let i = 0; i < count; i++) await publish(on, tick(channel, i), { app });
  let kinds = '';
  for (let i = 0; i < count; i++) kinds += kindOf(await nextTick(ws, channel));
  return kinds;
}

const nextTick = (ws, channel) =>
  ws.next(
    Object.assign((message) => message.channel === channel && ['tick', 'pusher:delta'].includes(message.event), {
      label: `a tick on ${channel}`,
    }),
  );

let ticks = 0;
function tick(channel) {
  const data = JSON.stringify({ symbol: 'ABC', price: 100 + ++ticks, note: 'the same in each message '.repeat(8) });
  return { name: 'tick', channel, data };
}

function kindOf(message) {
  if (message.event === 'pusher:delta') return { fossil: 'F', xdelta3: 'X' }[message.data.algorithm];
  return message.text.includes('__delta_seq') ? 'W' : 'P';
}

test('what_counts_is_the_subscription_then_the_channel_then_the_connection', async (t) => {
  let count = 0;
  for (const [connection, prefix, delta, kinds] of [
    [false, 'free', undefined, 'PP'],
    [false, 'free', true, 'WF'],
    [false, 'free', false, 'PP'],
    [true, 'free', undefined, 'WF'],
    [true, 'free', true, 'WF'],
    [true, 'free', false, 'PP'],
    [true, 'free', 'vcdiff', 'WX'],
    [true, 'free', null, 'WF'],
    [true, 'off', undefined, 'PP'],
    [true, 'off', true, 'WF'],
    [true, 'off', 'none', 'PP'],
    [true, 'closed', undefined, 'PP'],
    [true, 'closed', {}, 'WX'],
    [false, 'off', true, 'WF'],
    [true, 'vc', undefined, 'WX'],
    [true, 'vc', 'fossil', 'WF'],
    [true, 'fo', undefined, 'WF'],
    [true, 'as-server', undefined, 'WF'],
    [true, 'private-encrypted', undefined, 'PP'],
    [true, 'private-encrypted', true, 'PP'],
    [true, 'private', undefined, 'WF'],
  ]) {
    // Before it subscribes, and after, as the JavaScript client does.
    for (const before of connection ? [true, false] : [true]) {
      const channel = `${prefix}-counts-${++count}`;
      const ws = await connect(server, { t });
      if (connection && before) await enable(ws);
      await subscribe(ws, channel, delta === undefined ? {} : { delta });
      if (connection && !before) await enable(ws);
      assert.equal(await gets(ws, channel), kinds, `${connection} ${channel} ${JSON.stringify(delta)} ${before}`);
      ws.destroy();
    }
  }
});

test('a_client_gets_no_algorithm_that_it_did_not_list', async (t) => {
  const [fossil, xdelta3, late] = [
    await connect(server, { t }),
    await connect(server, { t }),
    await connect(server, { t }),
  ];
  await enable(fossil, { algorithms: ['fossil'] });
  await enable(xdelta3, { algorithms: ['xdelta3'] });
  for (const ws of [fossil, xdelta3, late]) {
    await subscribe(ws, 'vc-listed', { delta: true });
    await subscribe(ws, 'fo-listed', { delta: 'xdelta3' });
    await subscribe(ws, 'follows');
  }
  await enable(late, { algorithms: ['fossil', 'gzip'] });
  for (const channel of ['vc-listed', 'fo-listed', 'follows']) {
    for (let i = 0; i < 2; i++) await publish(server, tick(channel));
    for (const [ws, kinds] of [
      [fossil, 'WF'],
      [xdelta3, 'WX'],
      [late, 'WF'],
    ])
      assert.equal(kindOf(await nextTick(ws, channel)) + kindOf(await nextTick(ws, channel)), kinds, channel);
  }
});

test('a_list_without_a_known_algorithm_ends_all_deltas_of_the_connection', async (t) => {
  const ws = await connect(server, { t });
  await enable(ws);
  await subscribe(ws, 'asked', { delta: 'xdelta3' });
  await subscribe(ws, 'not-asked');
  assert.equal(await enable(ws, { algorithms: ['gzip'] }), enabled('fossil', false));
  assert.deepEqual(await answersTo(ws, 'late', { delta: true }), []);
  for (const channel of ['asked', 'not-asked', 'late']) assert.equal(await gets(ws, channel), 'PP', channel);
  await enable(ws);
  assert.equal(await gets(ws, 'asked'), 'WX');
  assert.equal(await gets(ws, 'not-asked'), 'WF');
  assert.equal(await gets(ws, 'late'), 'WF');
});

test('a_later_list_gives_a_subscription_its_own_algorithm_again', async (t) => {
  const ws = await connect(server, { t });
  assert.deepEqual(await answersTo(ws, 'own', { delta: 'xdelta3' }), [confirmed('own', 'xdelta3')]);
  await subscribe(ws, 'never', { delta: false });
  for (const [algorithms, kinds] of [
    [['fossil'], 'WF'],
    [['fossil', 'xdelta3'], 'XX'],
  ]) {
    await enable(ws, { algorithms });
    assert.equal(await gets(ws, 'own'), kinds);
    assert.equal(await gets(ws, 'never'), 'PP');
  }
});

test('enabling_twice_loses_nothing', async (t) => {
  const ws = await connect(server, { t });
  await enable(ws);
  await subscribe(ws, 'twice-enabled');
  await subscribe(ws, 'twice-declined', { delta: false });
  assert.equal(await gets(ws, 'twice-enabled'), 'WF');
  await enable(ws);
  await enable(ws, { algorithms: ['fossil', 'xdelta3'] });
  assert.equal(await gets(ws, 'twice-enabled'), 'FF');
  assert.equal(await gets(ws, 'twice-declined'), 'PP');
});

test('subscribing_again_keeps_deltas_and_unsubscribing_ends_them', async (t) => {
  const ws = await connect(server, { t });
  await subscribe(ws, 'again', { delta: true });
  assert.equal(await gets(ws, 'again'), 'WF');
  await subscribe(ws, 'again');
  assert.equal(await gets(ws, 'again'), 'FF');
  await subscribe(ws, 'again', { delta: 'xdelta3' });
  assert.equal(await gets(ws, 'again'), 'XX');
  await subscribe(ws, 'again', { delta: false });
  assert.equal(await gets(ws, 'again'), 'PP');
  await subscribe(ws, 'again', { delta: true });
  assert.equal(await gets(ws, 'again'), 'WF');
  unsubscribe(ws, 'again');
  await subscribe(ws, 'again');
  assert.equal(await gets(ws, 'again'), 'PP');
  unsubscribe(ws, 'again');
  await subscribe(ws, 'again', { delta: true });
  assert.equal(await gets(ws, 'again'), 'WF');
});

test('subscribing_again_keeps_what_the_subscription_decided_against_its_connection', async (t) => {
  const ws = await connect(server, { t });
  await enable(ws);
  await subscribe(ws, 'declined', { delta: false });
  await subscribe(ws, 'chosen', { delta: 'xdelta3' });
  for (const channel of ['declined', 'chosen']) await subscribe(ws, channel);
  assert.equal(await gets(ws, 'declined'), 'PP');
  assert.equal(await gets(ws, 'chosen'), 'WX');
});

test('after_a_sync_error_the_next_message_is_whole_for_this_client', async (t) => {
  const [ws, other] = [await connect(server, { t }), await connect(server, { t })];
  for (const one of [ws, other]) await subscribe(one, 'vc-sync', { delta: 'fossil' });
  assert.equal(await gets(ws, 'vc-sync', 3), 'WFF');
  ws.send({ event: 'pusher:delta_sync_error', data: { channel: 'vc-sync' } });
  await stillOpen(ws);
  assert.equal(await gets(ws, 'vc-sync', 3), 'WFF');
  ws.send({ event: 'pusher:delta_sync_error', data: '{"channel":"vc-sync"}' });
  ws.send({ event: 'pusher:delta_sync_error', data: { channel: 'other' } });
  await stillOpen(ws);
  assert.equal(await gets(ws, 'vc-sync', 2), 'WF');
  let kinds = '';
  for (let i = 0; i < 8; i++) kinds += kindOf(await nextTick(other, 'vc-sync'));
  assert.equal(kinds, 'WFFFFFFF');
});

test('a_server_without_deltas_sends_none', async (t) => {
  const other = await serverFor(t, { config: withoutDeltas });
  const ws = await connect(other, { t });
  await enable(ws);
  await subscribe(ws, 'follows');
  await subscribe(ws, 'asks', { delta: true });
  for (const channel of ['follows', 'asks']) assert.equal(await gets(ws, channel, 3, { on: other }), 'PPP');
});

test('the_name_of_the_algorithm_is_left_out_until_a_client_was_told_of_another_one', async (t) => {
  const other = await serverFor(t, { config: { delta_compression: { omit_delta_algorithm: true } } });
  const ws = await connect(other, { t });
  await subscribe(ws, 'names', { delta: true });
  const second = async () => {
    for (const event of [tick('names'), tick('names')]) await publish(other, event);
    await nextTick(ws, 'names');
    return (await nextTick(ws, 'names')).data.algorithm;
  };
  assert.equal(await second(), undefined);
  const told = await connect(other, { t });
  assert.equal(await enable(told, { algorithms: ['xdelta3'] }), enabled('xdelta3'));
  assert.equal(await second(), 'fossil');
});

test('clients_that_do_not_ask_get_every_byte_as_without_deltas', async (t) => {
  const plain = await connect(server, { t });
  const asking = await connect(server, { t });
  const pusher = makePusher(server, { t });
  await subscribe(plain, 'beside');
  await subscribe(asking, 'beside', { delta: true });
  const channel = pusher.subscribe('beside');
  const told = [];
  channel.bind_global((event, data) => told.push([event, data]));
  await new Promise((resolve) => channel.bind('pusher:subscription_succeeded', resolve));
  const sent = Array.from({ length: 12 }, () => tick('beside'));
  for (const event of sent) {
    await publish(server, event);
    assert.equal(
      (await nextTick(plain, 'beside')).text,
      JSON.stringify({ event: event.name, channel: 'beside', data: event.data }),
    );
  }
  const ended = new Promise((resolve) => channel.bind('end', resolve));
  await publish(server, { name: 'end', channel: 'beside', data: '{}' });
  await ended;
  assert.deepEqual(told, [
    ['pusher:subscription_succeeded', {}],
    ...sent.map(({ name, data }) => [name, JSON.parse(data)]),
    ['end', {}],
  ]);
  let kinds = '';
  for (let i = 0; i < 12; i++) kinds += kindOf(await nextTick(asking, 'beside'));
  assert.equal(kinds, 'WFFFFFFFFFFW');
});

test('members_and_users_get_no_deltas_of_what_the_server_itself_tells', async (t) => {
  const ws = await connect(server, { t });
  await enable(ws);
  await join(ws, 'presence-told', { user_id: 'a', user_info: 'the same '.repeat(30) });
  for (const user_id of ['b', 'c', 'd']) {
    const other = await connect(server, { t });
    await join(other, 'presence-told', { user_id, user_info: 'the same '.repeat(30) });
    assert.equal(kindOf(await nextOn(ws, 'presence-told')), 'P');
  }
  await signin(ws, { id: 'signed' });
  assert.equal(await gets(ws, '#server-to-user-signed', 3), 'PPP');
});

for (const [kind, start] of Object.entries(LIVE_APPS))
  test(`a_change_of_the_record_is_in_force_at_once: ${kind}`, async (t) => {
    const app = { ...APP, channel_delta_compression: { 'live-*': 'fossil' } };
    const live = await start(t, app);
    const [follows, asks] = [await connect(live.server, { t }), await connect(live.server, { t })];
    await enable(follows);
    await subscribe(follows, 'live-1');
    await subscribe(asks, 'live-1', { delta: true });
    const both = async (count) => {
      const first = await gets(follows, 'live-1', count, { on: live.server });
      let second = '';
      for (let i = 0; i < count; i++) second += kindOf(await nextTick(asks, 'live-1'));
      return [first, second];
    };
    await asks.next('pusher:delta_compression_enabled');
    assert.deepEqual(await both(2), ['WF', 'WF']);
    await live.change({ channel_delta_compression: { 'live-*': 'xdelta3' } });
    assert.deepEqual(await both(2), ['XX', 'XX']);
    await live.change({ channel_delta_compression: { 'live-*': 'disabled' } });
    assert.deepEqual(await both(2), ['PP', 'FF']);
    await live.change({ channel_delta_compression: { 'live-1': { conflation_key: 'symbol' } } });
    assert.deepEqual(await both(3), ['WFF', 'WFF']);
  });
