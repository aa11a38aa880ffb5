// Cache channels: the last published event greets those who subscribe later.

import assert from 'node:assert/strict';
import test from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, nothingArrived, settle, stillOpen, subscribe, trigger, unsubscribe } from '../lib/client.js';
import { TIMEOUT_MS } from '../lib/inbox.js';
import { memberText } from '../lib/json-text.js';
import { serverFor, sharedServer } from '../lib/server.js';

const server = await sharedServer();

for (const prefix of ['cache-', 'private-cache-', 'private-encrypted-cache-', 'presence-cache-']) {
  const user = prefix.startsWith('presence-') ? { user: { user_id: '1' } } : {};

  test(`${prefix}channels_tell_of_a_miss_after_the_success`, async (t) => {
    const ws = await connect(server, { t });
    await subscribe(ws, `${prefix}empty`, user);
    const miss = await ws.expect('pusher:cache_miss');
    assert.deepEqual(JSON.parse(miss.text), { event: 'pusher:cache_miss', channel: `${prefix}empty`, data: '{}' });
    await nothingArrived(server, ws);
  });

  test(`${prefix}channels_greet_with_the_last_event`, async (t) => {
    const channel = `${prefix}kept`;
    await publish(server, { name: 'first', channel, data: 'old' });
    await publish(server, { name: 'second', channel, data: '{"a": 1.50}' });
    const ws = await connect(server, { t });
    await subscribe(ws, channel, user);
    assert.deepEqual(JSON.parse((await ws.expect('second')).text), { event: 'second', channel, data: '{"a": 1.50}' });
    await publish(server, { name: 'third', channel, data: 'new' });
    await ws.next('third');
    const late = await connect(server, { t });
    await subscribe(late, channel, user);
    await late.expect('third');
    await nothingArrived(server, ws, late);
  });
}

test('other_channels_keep_nothing', async (t) => {
  for (const channel of ['plain', 'private-my-cache-x', 'my-cache-x']) {
    await publish(server, { name: 'x', channel, data: 'x' });
    const ws = await connect(server, { t });
    await subscribe(ws, channel);
    await nothingArrived(server, ws);
  }
});

test('the_kept_event_has_the_exact_data', async (t) => {
  const data = '"\\u00e9\\/ \\ud83d\\ude00 {\\"n\\":1e400}"';
  const body = `{"name":"exact","channel":"cache-exact","data":${data}}`;
  assert.equal((await api(server, 'POST', '/events', { body })).status, 200);
  const ws = await connect(server, { t });
  await subscribe(ws, 'cache-exact');
  assert.equal(memberText((await ws.next('exact')).text, 'data'), data);
});

test('an_event_that_excluded_a_socket_is_kept_all_the_same', async (t) => {
  const ws = await connect(server, { t });
  await publish(server, { name: 'x', channel: 'cache-excluding', data: 'x', socket_id: ws.socketId });
  await subscribe(ws, 'cache-excluding');
  await ws.expect('x');
});

test('client_events_are_not_kept', async (t) => {
  const [sender, receiver, late] = await Promise.all([1, 2, 3].map(() => connect(server, { t })));
  for (const ws of [sender, receiver]) {
    await subscribe(ws, 'private-cache-client');
    await ws.expect('pusher:cache_miss');
  }
  trigger(sender, 'private-cache-client', 'client-x', {});
  await receiver.next('client-x');
  await subscribe(late, 'private-cache-client');
  await late.expect('pusher:cache_miss');
});

test('the_event_outlives_its_subscribers', async (t) => {
  const ws = await connect(server, { t });
  await subscribe(ws, 'cache-outlives');
  await publish(server, { name: 'x', channel: 'cache-outlives', data: 'x' });
  await ws.next('x');
  unsubscribe(ws, 'cache-outlives');
  await stillOpen(ws);
  await subscribe(ws, 'cache-outlives');
  await ws.expect('x');
});

test('the_event_expires_after_the_cache_ttl', async (t) => {
  const other = await serverFor(t, { config: { channel_limits: { cache_ttl: 1 } } });
  const ws = await connect(other);
  await subscribe(ws, 'cache-short');
  await ws.expect('pusher:cache_miss');
  await publish(other, { name: 'x', channel: 'cache-short', data: 'x' });
  await ws.next('x');
  // Nothing announces the expiry: ask until it has happened. The greeting before it proves nothing about time, only the
  // miss does.
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    unsubscribe(ws, 'cache-short');
    await subscribe(ws, 'cache-short');
    const { event } = await ws.inbox.next();
    if (event === 'pusher:cache_miss') break;
    assert.equal(event, 'x');
    assert.ok(performance.now() < deadline, 'the event expires');
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
});

test('beyond_the_capacity_the_oldest_channel_without_subscribers_is_dropped', async (t) => {
  const other = await serverFor(t, { config: { cache: { memory: { max_capacity: 2 } } } });
  const ws = await connect(other);
  await subscribe(ws, 'cache-held');
  await ws.expect('pusher:cache_miss');
  await publish(other, { name: 'held', channel: 'cache-held', data: 'x' });
  for (const n of [1, 2, 3]) await publish(other, { name: `event-${n}`, channel: `cache-${n}`, data: 'x' });
  const late = await connect(other);
  const greeting = async (channel) => {
    await subscribe(late, channel);
    return (await late.inbox.next()).event;
  };
  assert.equal(await greeting('cache-held'), 'held', 'a channel with subscribers does not count');
  assert.equal(await greeting('cache-1'), 'pusher:cache_miss');
  assert.equal(await greeting('cache-2'), 'event-2');
  assert.equal(await greeting('cache-3'), 'event-3');
});

test('a_greeting_and_live_events_do_not_overlap', async (t) => {
  // Subscribers that come while events are published see a gapless, growing run of numbers, whichever event greets
  // them.
  const publishing = (async () => {
    for (let n = 0; n < 60; n++) await publish(server, { name: 'n', channel: 'cache-run', data: String(n) });
  })();
  const sockets = [];
  for (let i = 0; i < 12; i++) {
    const ws = await connect(server, { t });
    await subscribe(ws, 'cache-run');
    sockets.push(ws);
  }
  await publishing;
  for (const [i, messages] of (await settle(server, ...sockets)).entries()) {
    const numbers = messages.filter(({ event }) => event === 'n').map(({ data }) => Number(data));
    const first = numbers[0];
    assert.deepEqual(
      numbers,
      numbers.map((_, j) => first + j),
      `subscriber ${i}`,
    );
    assert.equal(numbers.at(-1), 59);
  }
});
