// Filters of subscriptions: which events they let pass, which filters are refused, and how they come and go.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import {
  connect,
  join,
  nextError,
  sendSubscribe,
  signin,
  subscribe,
  trigger,
  trySubscribe,
  unsubscribe,
} from '../lib/client.js';
import { nextOn, subscriber, untilFence } from '../lib/events.js';
import { matching } from '../lib/inbox.js';
import { fetchMetrics } from '../lib/metrics.js';
import { connected, makePusher, record } from '../lib/pusher.js';
import { serverFor, sharedServer, THREADS_BINARY } from '../lib/server.js';

const server = await sharedServer({ config: { tag_filtering: { enabled: true } } });

let channels = 0;
const freshName = (prefix = '') => `${prefix}filters-${++channels}`;

// A connection of its own for each filter, all subscribed to the channel.
async function filtered(t, channel, filters, options) {
  const all = [];
  for (const filter of filters) {
    const ws = await connect(server, { t });
    await subscribe(ws, channel, { ...options, filter });
    all.push(ws);
  }
  return all;
}

/*
 * Publishes an event for each of the maps of tags, and returns which of them each connection gets. The fence after them
 * has the tag `fence`, which every filter here lets pass.
 */
async function passingAll(clients, channel, maps) {
  const fence = `fence-${++channels}`;
  for (const [i, tags] of maps.entries()) await publish(server, { name: `e${i}`, channel, data: 'x', tags });
  await publish(server, { name: fence, channel, data: 'x', tags: { fence: '1' } });
  const all = [];
  for (const ws of clients) {
    const got = await ws.inbox.through(matching({ event: fence, channel }));
    all.push(got.map(({ event }) => event).filter((event) => /^e\d+$/.test(event)));
  }
  return all;
}

const passing = async (ws, channel, maps) => (await passingAll([ws], channel, maps))[0];

const orFence = (node) => ({ op: 'or', nodes: [{ key: 'fence', cmp: 'ex' }, node] });
const leaf = (cmp, val) => ({ key: 'a', cmp, ...(Array.isArray(val) ? { vals: val } : { val }) });

describe('comparisons', () => {
  // The tag matches, has another value, is missing among others; no tags; none at all.
  for (const [filter, matching_, other, missing] of [
    [leaf('eq', 'x'), 'x', 'X', false],
    [leaf('neq', 'x'), 'y', 'x', true],
    [leaf('in', ['x', 'y']), 'y', 'z', false],
    [leaf('nin', ['x', 'y']), 'z', 'y', true],
    [{ key: 'a', cmp: 'ex' }, '', null, false],
    [{ key: 'a', cmp: 'nex' }, null, '', true],
    [leaf('sw', 'ab'), 'abc', 'cab', false],
    [leaf('ew', 'ab'), 'cab', 'abc', false],
    [leaf('ct', 'ab'), 'cabc', 'acb', false],
    [leaf('gt', '10'), '10.5', '1e1', false],
    [leaf('gte', 10), '1e1', '9.99', false],
    [leaf('lt', '10'), '-Infinity', 'nan', false],
    [leaf('lte', 10), '10.0', '0xA', false],
    [leaf('eq', 501), '501', '501.0', false],
    [leaf('eq', true), 'true', '1', false],
  ]) {
    test(JSON.stringify(filter), async (t) => {
      const channel = freshName();
      const [ws] = await filtered(t, channel, [orFence(filter)]);
      const maps = [{ b: 'x' }, {}, undefined];
      if (matching_ !== null) maps.push({ a: matching_ });
      const passed = missing ? ['e0', 'e1', 'e2'] : [];
      if (matching_ !== null) passed.push('e3');
      if (other !== null) maps.push({ a: other });
      assert.deepEqual(await passing(ws, channel, maps), passed);
    });
  }

  test('branches', async (t) => {
    const channel = freshName();
    const [a, b] = ['a', 'b'].map((key) => ({ key, cmp: 'eq', val: 'x' }));
    const maps = [{ a: 'x' }, { b: 'x' }, { a: 'x', b: 'x' }, {}];
    const clients = await filtered(t, channel, [
      orFence({ op: 'and', nodes: [a, b] }),
      orFence({ op: 'or', nodes: [a, b] }),
      orFence({ op: 'not', nodes: [a] }),
      orFence({
        op: 'and',
        nodes: [
          { op: 'not', nodes: [b] },
          { op: 'or', nodes: [a, { key: 'a', cmp: 'nex' }] },
        ],
      }),
    ]);
    assert.deepEqual(await passingAll(clients, channel, maps), [
      ['e2'],
      ['e0', 'e1', 'e2'],
      ['e1', 'e3'],
      ['e0', 'e3'],
    ]);
  });
});

test('subscribers without a filter get everything, also pusher-js, on all workers', async (t) => {
  const channel = freshName();
  const plain = [];
  for (let i = 0; i < 6; i++) plain.push(await subscriber(server, t, channel));
  const some = await filtered(t, channel, Array(6).fill(orFence(leaf('eq', 'x'))));
  const pusher = makePusher(server, { t });
  await connected(pusher);
  const events = record(pusher.subscribe(channel));
  await events.next({ event: 'pusher:subscription_succeeded' });
  const maps = [{ a: 'x' }, { a: 'y' }, undefined];
  assert.deepEqual(await passingAll(some, channel, maps), Array(6).fill(['e0']));
  for (const event of ['e0', 'e1', 'e2']) {
    for (const ws of plain) assert.equal((await ws.next({ event, channel })).data, 'x');
    assert.equal((await events.next({ event })).data, 'x');
  }
});

test('events that wait together reach those that want them', async (t) => {
  const channel = freshName();
  const [even, odd] = await filtered(
    t,
    channel,
    ['0', '1'].map((val) => leaf('eq', val)),
  );
  const plain = await subscriber(server, t, channel);
  const count = 40;
  await Promise.all(
    Array.from({ length: count }, (_, i) =>
      publish(server, { name: `e${i}`, channel, data: 'x', tags: { a: String(i % 2) } }),
    ),
  );
  const order = [];
  for (let i = 0; i < count; i++) order.push((await nextOn(plain, channel)).event);
  for (const [ws, rest] of [
    [even, 0],
    [odd, 1],
  ]) {
    const wanted = order.filter((event) => event.slice(1) % 2 === rest);
    for (const event of wanted) assert.equal((await nextOn(ws, channel)).event, event);
  }
});

describe('how a filter comes and goes', () => {
  test('tags_filter counts if there is no filter, and data may be a string', async (t) => {
    const channel = freshName();
    const ws = await connect(server, { t });
    const maps = [{ a: 'x' }, { a: 'y' }];
    await subscribe(ws, channel, { tags_filter: orFence(leaf('eq', 'x')) });
    assert.deepEqual(await passing(ws, channel, maps), ['e0']);
    await subscribe(ws, channel, { filter: null, tags_filter: orFence(leaf('eq', 'y')) });
    assert.deepEqual(await passing(ws, channel, maps), ['e1']);
    await subscribe(ws, channel, { filter: orFence(leaf('eq', 'x')), tags_filter: leaf('eq', 'y') });
    assert.deepEqual(await passing(ws, channel, maps), ['e0']);
    ws.send({ event: 'pusher:subscribe', data: JSON.stringify({ channel, filter: orFence(leaf('eq', 'y')) }) });
    await ws.next('pusher_internal:subscription_succeeded');
    assert.deepEqual(await passing(ws, channel, maps), ['e1']);
  });

  test('subscribing again replaces it, also by none, and unsubscribing ends it', async (t) => {
    const channel = freshName();
    const [ws] = await filtered(t, channel, [orFence(leaf('eq', 'x'))]);
    const maps = [{ a: 'x' }, { a: 'y' }];
    assert.deepEqual(await passing(ws, channel, maps), ['e0']);
    await subscribe(ws, channel);
    assert.deepEqual(await passing(ws, channel, maps), ['e0', 'e1']);
    await subscribe(ws, channel, { filter: orFence(leaf('eq', 'y')) });
    assert.deepEqual(await passing(ws, channel, maps), ['e1']);
    unsubscribe(ws, channel);
    await subscribe(ws, channel);
    assert.deepEqual(await passing(ws, channel, maps), ['e0', 'e1']);
  });

  test('a subscription that is refused for another reason leaves none behind', async (t) => {
    const channel = freshName('private-');
    const ws = await connect(server, { t });
    sendSubscribe(ws, channel, { filter: leaf('eq', 'x'), auth: 'wrong' });
    await ws.next('pusher:subscription_error');
    await subscribe(ws, channel);
    assert.deepEqual(await passing(ws, channel, [{ a: 'y' }]), ['e0']);
  });
});

describe('what no filter holds back', () => {
  const never = { key: 'never', cmp: 'ex' };

  test('members of a presence channel and events of the protocol', async (t) => {
    const channel = freshName('presence-');
    const ws = await connect(server, { t });
    await subscribe(ws, channel, { user: { user_id: '1' }, filter: never });
    const other = await connect(server, { t });
    await join(other, channel, { user_id: '2' });
    assert.equal((await nextOn(ws, channel)).event, 'pusher_internal:member_added');
    await publish(server, { name: 'e', channel, data: 'x' });
    trigger(other, channel, 'client-e', 'x');
    await publish(server, { name: 'pusher:e', channel, data: 'x' });
    assert.equal((await nextOn(ws, channel)).event, 'pusher:e');
    other.destroy();
    assert.equal((await nextOn(ws, channel)).event, 'pusher_internal:member_removed');
  });

  test('events to a user', async (t) => {
    const ws = await connect(server, { t });
    await signin(ws, { id: 'filters-7' });
    sendSubscribe(ws, '#server-to-user-filters-7', { filter: never });
    await ws.next('pusher_internal:subscription_succeeded');
    await publish(server, { name: 'e', channel: '#server-to-user-filters-7', data: 'x' });
    await ws.next({ event: 'e', channel: '#server-to-user-filters-7' });
  });

  test('the kept event of a cache channel', async (t) => {
    const channel = freshName('cache-');
    await publish(server, { name: 'kept', channel, data: 'x', tags: { a: '1' } });
    const [ws] = await filtered(t, channel, [never]);
    await ws.next({ event: 'kept', channel });
  });

  test('client events have no tags, so a filter may hold them back', async (t) => {
    const channel = freshName('private-');
    const sender = await subscriber(server, t, channel);
    const [wants, excludes] = await filtered(t, channel, [leaf('neq', 'x'), leaf('eq', 'x')]);
    trigger(sender, channel, 'client-e', 'x');
    assert.equal((await nextOn(wants, channel)).event, 'client-e');
    await publish(server, { name: 'e', channel, data: 'x', tags: { a: 'x' } });
    assert.equal((await nextOn(excludes, channel)).event, 'e');
  });
});

test('a delta makes no subscriber receive what its filter excludes', async (t) => {
  const channel = freshName();
  const ws = await connect(server, { t });
  await subscribe(ws, channel, { delta: true, filter: leaf('eq', 'x') });
  await ws.next('pusher:delta_compression_enabled');
  const data = 'a text that stays the same for the most part '.repeat(5);
  const forms = [];
  for (const [i, a] of ['x', 'x', 'y', 'x', 'x'].entries()) {
    await publish(server, { name: 'e', channel, data: `${data}${i}`, tags: { a } });
    if (a === 'x') forms.push((await nextOn(ws, channel)).event);
  }
  assert.deepEqual(forms, ['e', 'pusher:delta', 'e', 'pusher:delta']);
});

describe('what is refused', () => {
  // The text of the error for a filter; the connection and an earlier subscription stay as they are.
  async function refusal(ws, channel, filter, member = 'filter') {
    sendSubscribe(ws, channel, { [member]: filter });
    const text = await nextError(ws, 4300);
    assert.ok(text.startsWith('Invalid message format: Invalid tags filter: '), text);
    return text.slice('Invalid message format: Invalid tags filter: '.length);
  }

  const nested = (depth) => (depth === 1 ? leaf('eq', 'x') : { op: 'not', nodes: [nested(depth - 1)] });
  const wide = (count) => ({ op: 'or', nodes: Array.from({ length: count }, () => leaf('eq', 'x')) });
  const many = (count) => Array.from({ length: count }, (_, i) => `v${i}`);

  for (const [name, filter, reason] of [
    ['an empty key', { key: '', cmp: 'ex' }, /^Leaf node requires a non-empty key$/],
    ['no value', { key: 'a', cmp: 'eq' }, /^eq operation requires a non-empty val$/],
    ['no values', leaf('in', []), /^in operation requires at least one value in vals$/],
    ['no nodes', { op: 'and', nodes: [] }, /^and operation requires at least one child node$/],
    [
      'not with two nodes',
      { op: 'not', nodes: [leaf('eq', 'x'), leaf('eq', 'y')] },
      /^not operation requires exactly one child node, got 2$/,
    ],
    [
      'a fault inside',
      { op: 'or', nodes: [leaf('eq', 'x'), {}] },
      /^Child node 1: Leaf node requires a non-empty key$/,
    ],
    ['an unknown operator', { op: 'xor', nodes: [leaf('eq', 'x')] }, /^op must be /],
    ['an unknown comparison', leaf('like', 'x'), /^cmp must be /],
    ['a string', JSON.stringify(leaf('eq', 'x')), /^a filter must be an object$/],
    ['a number', 7, /^a filter must be an object$/],
    ['an array', [leaf('eq', 'x')], /^a filter must be an object$/],
    ['a leaf with nodes', { ...leaf('eq', 'x'), nodes: [] }, /^nodes belongs to /],
    ['a value that is a list', { key: 'a', cmp: 'eq', val: ['x'] }, /^val must be /],
    ['17 levels', nested(17), /nested in more than 16 levels$/],
    ['500 levels', nested(500), /nested in more than 16 levels$/],
    ['129 nodes', wide(128), /^Child node 127: the filter has more than 128 nodes$/],
    ['129 values', leaf('in', many(129)), /^vals holds more than 128 values$/],
    ['a long key', { key: 'k'.repeat(257), cmp: 'ex' }, /^key is 257 bytes, and at most 256 are allowed$/],
    ['a long value', leaf('eq', 'é'.repeat(513)), /^val is 1026 bytes, and at most 1024 are allowed$/],
    ['filters of events', { events: ['e'], tags: leaf('eq', 'x') }, /^events, expression and tags are not supported/],
  ]) {
    test(name, async (t) => {
      const channel = freshName();
      const ws = await connect(server, { t });
      assert.match(await refusal(ws, channel, filter), reason);
      assert.match(await refusal(ws, channel, filter, 'tags_filter'), reason);
      // It is not subscribed; and what it has stays.
      await publish(server, { name: 'before', channel, data: 'x', tags: { a: 'x' } });
      await subscribe(ws, channel, { filter: orFence(leaf('eq', 'x')) });
      assert.match(await refusal(ws, channel, filter), reason);
      assert.deepEqual(await passing(ws, channel, [{ a: 'y' }, { a: 'x' }]), ['e1']);
    });
  }

  test('the largest filter that is allowed is taken', async (t) => {
    const channel = freshName();
    const [ws] = await filtered(t, channel, [orFence(wide(125))]);
    assert.deepEqual(await passing(ws, channel, [{ a: 'y' }, { a: 'x' }]), ['e1']);
    await subscribe(ws, channel, { filter: orFence(leaf('in', many(128))) });
    assert.deepEqual(await passing(ws, channel, [{ a: 'v128' }, { a: 'v127' }]), ['e1']);
  });
});

// Each is different, and among those whose evaluation takes longest.
const slow = (i) => orFence({ op: 'or', nodes: Array.from({ length: 125 }, (_, j) => leaf('ct', `x${i}-${j}`)) });

test('a subscription whose filter makes the work of a channel too much is refused', async (t) => {
  const own = await serverFor(t, { config: { tag_filtering: { enabled: true }, workers: 1 } });
  const channel = freshName();
  const all = [];
  const join = async (filter) => {
    all.push(await connect(own, { t }));
    return trySubscribe(all.at(-1), channel, { filter });
  };
  let refused;
  for (let i = 0; !refused && i < 100; i++) {
    const answer = await join(slow(i));
    if (answer.event === 'pusher:subscription_error') refused = answer;
  }
  assert.ok(all.length > 20, `${all.length} filters`);
  assert.deepEqual(JSON.parse(refused.text).data, {
    type: 'LimitReached',
    error: "the channel's subscribers have too many different filters",
    status: 4004,
  });
  assert.equal((await fetchMetrics(own)).sum('refusals_total', { reason: 'filters_per_channel' }), 1);
  // It is subscribed to nothing. A filter that others have is no more work, nor is one in place of another.
  const succeeded = 'pusher_internal:subscription_succeeded';
  const [first, second] = all;
  const late = all.at(-1);
  assert.equal((await trySubscribe(late, channel, { filter: slow(0) })).event, succeeded);
  assert.equal((await trySubscribe(first, channel, { filter: slow(200) })).event, 'pusher:subscription_error');
  assert.equal((await trySubscribe(second, channel, { filter: slow(201) })).event, succeeded);
  await publish(own, { name: 'e', channel, data: '1', tags: { a: 'x200-1' } });
  await publish(own, { name: 'e', channel, data: '2', tags: { a: 'x0-124' } });
  assert.equal((await nextOn(first, channel)).data, '2', 'it has the filter that it had');
  assert.equal((await nextOn(late, channel)).data, '2');
});

test('without filtering a filter is checked and ignored', async (t) => {
  const off = await serverFor(t);
  const channel = freshName();
  const ws = await connect(off, { t });
  sendSubscribe(ws, channel, { filter: { key: 'a', cmp: 'eq' } });
  assert.match(await nextError(ws, 4300), /eq operation requires a non-empty val$/);
  await subscribe(ws, channel, { filter: leaf('eq', 'x') });
  await publish(off, { name: 'e', channel, data: 'x', tags: { a: 'y' } });
  assert.deepEqual((await ws.next({ event: 'e', channel })).tags, { a: 'y' });
  assert.deepEqual(await untilFence(off, ws, channel), []);
});

test('what filters hold back is counted', async (t) => {
  const channel = freshName();
  const count = async () => (await fetchMetrics(server)).sum('tag_filtering_filtered_messages_total');
  const before = await count();
  const [ws] = await filtered(t, channel, [leaf('eq', 'x')]);
  for (const a of ['x', 'y', 'z', 'x']) await publish(server, { name: 'e', channel, data: a, tags: { a } });
  for (const data of ['x', 'x']) assert.equal((await nextOn(ws, channel)).data, data);
  assert.equal((await count()) - before, 2);
});

test('filters hold while others come, change and go, on four workers', async (t) => {
  const busy = await serverFor(t, {
    config: { workers: 4, tag_filtering: { enabled: true } },
    binary: THREADS_BINARY,
  });
  const [channel, text] = [
    freshName(),
    'a text that all events have in common, so that a delta of it is short '.repeat(3),
  ];
  const [publishers, each] = [4, 100];
  const clients = [];
  for (let i = 0; i < 24; i++) {
    const ws = await connect(busy, { t });
    await subscribe(ws, channel, { delta: i % 2 === 0, filter: leaf('in', [String(i % 3), 'all']) });
    clients.push(ws);
  }
  let over = false;
  const restless = clients.slice(12).map(async (ws) => {
    for (let i = 0; !over; i++) {
      await subscribe(ws, channel, { filter: leaf('eq', String(i % 3)) });
      if (i % 5 === 0) {
        unsubscribe(ws, channel);
        await subscribe(ws, channel);
      }
    }
  });
  const tag = (i) => (i % 10 === 0 ? 'all' : String(i % 3));
  const publishing = Array.from({ length: publishers }, async () => {
    for (let i = 0; i < each; i++)
      await publish(busy, { name: 'e', channel, data: `${text}${i}`, tags: { a: tag(i) } });
  });
  await Promise.all(publishing);
  over = true;
  await Promise.all(restless);
  await publish(busy, { name: 'end', channel, data: 'x', tags: { a: 'all' } });
  for (const [i, ws] of clients.slice(0, 12).entries()) {
    const got = await ws.inbox.through(matching({ event: 'end', channel }));
    const wanted = Array.from({ length: each }, (_, n) => tag(n)).filter((a) => a === 'all' || a === String(i % 3));
    const events = got.filter(({ event }) => event === 'e' || event === 'pusher:delta');
    assert.equal(events.length, publishers * wanted.length);
  }
});
