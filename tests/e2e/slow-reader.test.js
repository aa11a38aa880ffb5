// Readers that do not keep up: bounded, closed with a reason, and never in anybody's way.
//
// The kernel takes some megabytes for a socket that nobody reads, so these tests publish more than that. One worker
// serves them all: when one of its readers has an event, the worker has dealt with the others as well.

import assert from 'node:assert/strict';
import test from 'node:test';

import { publish } from '../lib/api.js';
import { closedWithError, connect, join, stillOpen, subscribe, trySubscribe } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { APP, serverFor } from '../lib/server.js';

const BULKY = { ...APP, max_event_payload_in_kb: 0 };
const EVENTS = 60;
const DATA = 'x'.repeat(500_000);

test('a_slow_reader_is_closed_with_4100_and_the_others_get_everything', async (t) => {
  const server = await slowServer(t);
  const [slow, quick] = [await connect(server), await connect(server)];
  await flood(server, slow, quick);
  slow.resume();
  const text = await closedWithError(slow, 4100);
  assert.equal(
    text,
    'not read fast enough: `websocket.max_messages` is 1000, `websocket.max_backpressure` 1048576 bytes',
  );
  await slow.closed();
  const received = slow.inbox.all.filter(({ event }) => event === 'bulk').map(({ data }) => Number(data.split(':')[0]));
  assert.ok(received.length < EVENTS, 'it did not get everything');
  assert.deepEqual(
    received,
    received.map((_, i) => i),
    'what it got is the beginning, without gaps',
  );
  assert.deepEqual(await stillOpen(quick), []);
});

test('a_slow_reader_that_never_reads_again_is_reset_and_leaves_its_channels', async (t) => {
  const server = await slowServer(t);
  const [slow, quick, observer] = [await connect(server), await connect(server), await connect(server)];
  await join(slow, 'presence-slow', { user_id: 'slow' });
  await join(observer, 'presence-slow', { user_id: 'observer' });
  const openFiles = (await fetchMetrics(server)).sum('process_open_fds');
  await flood(server, slow, quick);
  assert.equal((await observer.next('pusher_internal:member_removed')).data, '{"user_id":"slow"}');
  await eventually(server, (metrics) =>
    assert.ok(metrics.sum('process_open_fds') < openFiles, 'the server drops the connection'),
  );
  slow.resume();
  assert.equal((await slow.closed()).code, undefined, 'what was unsent is gone, the close frame too');
});

test('the_number_of_unsent_messages_is_bounded', async (t) => {
  const server = await slowServer(t, { max_messages: 5, max_backpressure: 1_000_000_000 });
  const [slow, quick] = [await connect(server), await connect(server)];
  await flood(server, slow, quick);
  slow.resume();
  assert.match(await closedWithError(slow, 4100), /`websocket.max_messages` is 5,/, 'the text names the limit');
});

test('max_bytes_bounds_what_is_unsent_where_it_is_the_smaller_one', async (t) => {
  const server = await slowServer(t, { max_bytes: 600_000 });
  const [slow, quick] = [await connect(server), await connect(server)];
  await flood(server, slow, quick);
  slow.resume();
  assert.equal(
    await closedWithError(slow, 4100),
    'not read fast enough: `websocket.max_messages` is 1000, `websocket.max_bytes` 600000 bytes',
  );
});

test('without_bounds_a_slow_reader_gets_everything_when_it_reads_again', async (t) => {
  const server = await slowServer(t, { max_messages: 0, max_backpressure: 1_000_000_000 });
  const [slow, quick] = [await connect(server), await connect(server)];
  await flood(server, slow, quick);
  slow.resume();
  for (let i = 0; i < EVENTS; i++)
    await slow.expect((message) => message.event === 'bulk' && message.data.startsWith(`${i}:`));
  assert.deepEqual(await stillOpen(slow), []);
});

test('an_empty_queue_takes_one_message_of_any_size', async (t) => {
  const server = await slowServer(t, { max_backpressure: 1024, max_messages: 1 });
  const ws = await connect(server);
  await subscribe(ws, 'bulk');
  for (let i = 0; i < 5; i++) {
    await publish(server, { name: 'big', channel: 'bulk', data: 'y'.repeat(8_000_000) }, { app: BULKY });
    assert.equal((await ws.expect('big')).data.length, 8_000_000);
  }
  assert.deepEqual(await stillOpen(ws), []);
});

test('a_reader_that_keeps_up_is_never_slow_however_much_comes_at_once', async (t) => {
  const server = await slowServer(t, { max_messages: 3, max_backpressure: 2000 });
  const ws = await connect(server);
  await subscribe(ws, 'burst');
  await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      publish(server, { name: `n${i}`, channel: 'burst', data: 'x'.repeat(1000) }, { app: BULKY }),
    ),
  );
  await ws.inbox.take(40);
  for (let i = 0; i < 40; i++) ws.send({ event: 'pusher:ping', data: {} });
  await ws.inbox.take(40);
  assert.deepEqual(await stillOpen(ws), []);
});

test('with_disconnect_on_buffer_full_false_channel_events_are_dropped_and_the_connection_stays', async (t) => {
  const server = await slowServer(t, { disconnect_on_buffer_full: false });
  const [slow, quick] = [await connect(server), await connect(server)];
  await flood(server, slow, quick);
  slow.resume();
  await subscribe(slow, 'after');
  await publish(server, { name: 'marker', channel: 'after', data: 'x' }, { app: BULKY });
  const before = (await slow.inbox.through((message) => message.event === 'marker')).slice(0, -1);
  const numbers = before.map(({ data }) => Number(data.split(':')[0]));
  assert.ok(numbers.length < EVENTS, 'some were dropped');
  assert.deepEqual(
    numbers,
    [...numbers].sort((a, b) => a - b),
    'the others are in order',
  );
  assert.deepEqual(await stillOpen(slow), []);
});

test('with_disconnect_on_buffer_full_false_answers_and_presence_events_close_all_the_same', async (t) => {
  const server = await slowServer(t, { disconnect_on_buffer_full: false });
  const [asking, present, quick, newcomer] = [
    await connect(server),
    await connect(server),
    await connect(server),
    await connect(server),
  ];
  await join(present, 'presence-room', { user_id: 'present' });
  await flood(server, asking, quick);
  await flood(server, present, quick);
  // One byte of an answer must not fit: ask for more than the bound.
  for (let i = 0; i < 3000; i++)
    asking.send({ event: 'pusher:subscribe', data: { channel: `${i}-${'n'.repeat(90)}` } });
  const members = 300;
  for (let i = 0; i < members; i++) {
    await trySubscribe(newcomer, 'presence-room', { user: { user_id: `u${i}`, user_info: 'x'.repeat(8_000) } });
    newcomer.send({ event: 'pusher:unsubscribe', data: { channel: 'presence-room' } });
  }
  await stillOpen(newcomer);
  asking.resume();
  present.resume();
  await closedWithError(asking, 4100);
  await closedWithError(present, 4100);
});

function slowServer(t, websocket = {}) {
  return serverFor(t, { apps: [BULKY], config: { workers: 1, websocket } });
}

// Subscribes both to one channel, stops reading on the first and publishes more than its socket takes; the second has
// all of it when this returns.
async function flood(server, slow, quick) {
  for (const ws of [slow, quick]) await subscribe(ws, 'bulk');
  await slow.fence();
  slow.pause();
  for (let i = 0; i < EVENTS; i++) {
    await publish(server, { name: 'bulk', channel: 'bulk', data: `${i}:${DATA}` }, { app: BULKY });
    await quick.expect((message) => message.event === 'bulk' && message.data.startsWith(`${i}:`));
  }
}
