// Events from node to node.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { closedWithError, connect, signin, stillOpen, subscribe, trigger } from '../lib/client.js';
import { decode, encode, KIND } from '../lib/cluster-message.js';
import { DeltaReader } from '../lib/delta-reader.js';
import { subscriber, untilFence } from '../lib/events.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { nodesFor } from '../lib/nodes.js';
import { RedisClient } from '../lib/redis-client.js';
import { APP, serverFor } from '../lib/server.js';

const app = { ...APP, channel_delta_compression: { 'delta-*': 'fossil' }, max_client_events_per_second: 0 };
const config = { tag_filtering: { enabled: true }, delta_compression: { min_message_size: 0 } };
const redis = await backendFor({ after }, 'redis');
const nodes = await nodesFor({ after }, { bus: redis, prefix: 'shared', server: { apps: [app], config } });
const [one, two, three] = nodes.list;

let channels = 0;
const freshName = (prefix = '') => `${prefix}c-${++channels}`;
const userChannel = (id) => `#server-to-user-${id}`;

// One connection to each node, subscribed to the channel.
const subscribers = (t, channel, options) =>
  Promise.all(nodes.list.map((node) => subscriber(node, t, channel, options)));

// Hears what goes over some subjects of these nodes, as messages with their subject.
async function listenerFor(t, name, ...subjects) {
  const client = await RedisClient.connect({ ...redis.address, encoding: 'latin1' });
  t.after(() => client.close());
  client.subscribe(...subjects.map((subject) => `${name}:curlew1:${subject}`));
  for (const subject of subjects)
    await client.pushed.next(([kind, channel]) => kind === 'subscribe' && channel.endsWith(subject));
  return {
    async next(kind) {
      for (;;) {
        const [, subject, bytes] = await client.pushed.next(([what]) => what === 'message');
        const message = decode(Buffer.from(bytes, 'latin1'));
        if (message.kind === kind) return { ...message, subject: subject.slice(`${name}:curlew1:`.length) };
      }
    },
    // What has come so far, as it came.
    get bytes() {
      return client.pushed.all
        .filter(([what]) => what === 'message')
        .map(([, , bytes]) => Buffer.from(bytes, 'latin1'));
    },
  };
}

test('a node alone publishes no events, and with another one each in its order', async (t) => {
  const listener = await listenerFor(t, 'alone', 'n', 'c:app-id:prices', 'u:app-id:anna');
  const one = await serverFor(t, { config: redis.config('alone') });
  await publish(one, { name: 'early', channel: 'prices', data: '1' });
  const two = await serverFor(t, { config: redis.config('alone') });
  await one.waitForLog(/ is there/);
  const before = Date.now();
  await publish(one, {
    name: 'tick "é"',
    channels: ['prices', '#server-to-user-anna'],
    data: '{"n":1.50}',
    socket_id: '7.9',
    tags: { region: 'eu', kind: 'a' },
  });
  const event = await listener.next(KIND.event);
  assert.equal(event.subject, 'c:app-id:prices');
  assert.deepEqual(
    { ...event, sender: null, number: null, published: null, left: null, subject: null },
    {
      version: 1,
      kind: KIND.event,
      sender: null,
      number: null,
      subject: null,
      app: APP.id,
      channel: 'prices',
      name: '"tick \\"é\\""',
      data: '"{\\"n\\":1.50}"',
      userId: '',
      tags: '{"kind":"a","region":"eu"}',
      keep: true,
      whole: false,
      hasExcept: true,
      exceptFirst: 7,
      exceptSecond: 9,
      published: null,
      left: null,
    },
  );
  assert.ok(event.published >= before && event.published <= Date.now());
  const other = await listener.next(KIND.event);
  assert.equal(other.subject, 'u:app-id:anna');
  assert.equal(other.sender, event.sender);
  assert.ok(other.number > event.number);
  // Each request has a connection of its own: both workers publish.
  for (let i = 0; i < 200; i++) await publish(two, { name: 'e', channel: 'prices', data: String(i) });
  for (let i = 0; i < 200; i++) assert.equal((await listener.next(KIND.event)).data, `"${i}"`);
});

test('a node waits for all that Redis sends its hello to, 2 seconds at most', async (t) => {
  await listenerFor(t, 'counted', 'n'); // it does not answer
  const begun = performance.now();
  await serverFor(t, { config: redis.config('counted') });
  assert.ok(performance.now() - begun >= 2000);
});

test('an event reaches the subscribers of all nodes once, with its exact texts', async (t) => {
  const channel = freshName();
  const all = await subscribers(t, channel);
  await publish(two, '{"name":"n\\u00e9 \\"x\\"","channel":"' + channel + '","data":"{\\"a\\": 1.50}"}');
  for (const [i, ws] of all.entries()) {
    const message = await ws.next((m) => m.channel === channel);
    assert.equal(message.text, `{"event":"n\\u00e9 \\"x\\"","channel":"${channel}","data":"{\\"a\\": 1.50}"}`);
    assert.deepEqual(await untilFence(nodes.list[i], ws, channel), []);
  }
});

test('events of one publisher keep their order on every node', async (t) => {
  const channel = freshName();
  const all = await subscribers(t, channel);
  // Each request has a connection of its own, so both workers of the node publish.
  for (let i = 0; i < 300; i++) await publish(one, { name: 'e', channel, data: String(i) });
  for (const ws of all)
    for (let i = 0; i < 300; i++) assert.equal((await ws.next((m) => m.channel === channel)).data, String(i));
});

test('what is published the moment a subscription succeeds on another node arrives', async (t) => {
  const ws = await connect(two, { t });
  for (let i = 0; i < 200; i++) {
    const channel = freshName();
    await subscribe(ws, channel);
    await publish(i % 2 ? one : three, { name: 'first', channel, data: String(i) });
    assert.equal((await ws.next({ event: 'first', channel })).data, String(i));
  }
});

test('the excluded connection of another node does not get the event', async (t) => {
  const channel = freshName();
  const [a, b, c] = await subscribers(t, channel);
  await publish(one, { name: 'e', channel, data: 'x', socket_id: b.socketId });
  for (const ws of [a, c]) await ws.next({ event: 'e', channel });
  assert.deepEqual(await untilFence(one, b, channel), []);
});

test('tags arrive, and filters of subscriptions look at them', async (t) => {
  const channel = freshName();
  const plain = await subscriber(two, t, channel);
  const choosy = await connect(three, { t });
  await subscribe(choosy, channel, { filter: { key: 'region', cmp: 'eq', val: 'eu' } });
  await publish(one, { name: 'us', channel, data: 'x', tags: { region: 'us', z: 'é' } });
  await publish(one, { name: 'eu', channel, data: 'x', tags: { region: 'eu' } });
  assert.deepEqual((await plain.next('us')).tags, { region: 'us', z: 'é' });
  await plain.next('eu');
  assert.deepEqual((await choosy.next((m) => m.channel === channel)).event, 'eu');
});

test('each node makes deltas of its own, and an event without one stays whole', async (t) => {
  const channel = freshName('delta-');
  const ws = await connect(two, { t });
  await subscribe(ws, channel, { delta: 'fossil' });
  const reader = new DeltaReader();
  const kinds = [];
  const data = (i) => JSON.stringify({ text: 'a long text that stays the same for all events '.repeat(4), i });
  for (let i = 0; i < 4; i++) await publish(one, { name: 'e', channel, data: data(i), delta: i !== 3 });
  while (kinds.length < 4) {
    const read = reader.read((await ws.next()).text);
    if (read === null) continue;
    assert.equal(read.data, data(kinds.length));
    kinds.push(read.kind);
  }
  assert.deepEqual(kinds, ['W', 'F', 'F', 'P']);
  assert.deepEqual(reader.errors, []);
});

test('events to a user reach its connections on all nodes', async (t) => {
  const all = await Promise.all(nodes.list.map((node) => connect(node, { t })));
  for (const ws of all) await signin(ws, { id: 'anna' });
  await publish(three, { name: 'note', channel: userChannel('anna'), data: 'x' });
  for (const ws of all) await ws.next({ event: 'note', channel: userChannel('anna') });
});

test('client events reach the other nodes, and a sender on a presence channel is named', async (t) => {
  const channel = freshName('presence-');
  const sender = await subscriber(one, t, channel, { user: { user_id: 'anna', user_info: {} } });
  const other = await subscriber(two, t, channel, { user: { user_id: 'bob' } });
  trigger(sender, channel, 'client-typing', { n: 1 });
  const message = await other.next('client-typing');
  assert.deepEqual([message.data, message.user_id, message.channel], [{ n: 1 }, 'anna', channel]);
  assert.ok((await stillOpen(sender)).every((m) => m.event !== 'client-typing'));
});

test('connections of a user are closed on all nodes', async (t) => {
  for (const [order, code] of [
    ['terminate_connections', 4009],
    ['force_reconnect', 4200],
  ]) {
    const all = await Promise.all(nodes.list.map((node) => connect(node, { t })));
    const other = await connect(two, { t });
    for (const ws of all) await signin(ws, { id: 'carol' });
    await signin(other, { id: 'dave' });
    assert.equal((await api(one, 'POST', `/users/carol/${order}`)).status, 200);
    for (const ws of all) await closedWithError(ws, code);
    await stillOpen(other);
  }
});

test('of events of the same time the one of the highest node id is kept, known or not', async (t) => {
  const channel = freshName('cache-');
  const ws = await subscriber(two, t, channel);
  const client = await RedisClient.connect(redis.address);
  t.after(() => client.close());
  const published = Date.now() + 1000;
  for (const id of ['20', 'f0', '30']) {
    const event = { kind: KIND.event, sender: id.repeat(16), app: APP.id, channel, name: `"${id}"`, data: '"x"' };
    await client.call('PUBLISH', `shared:curlew1:c:app-id:${channel}`, encode({ ...event, keep: true, published }));
  }
  for (const id of ['20', 'f0', '30']) await ws.next(id);
  const late = await connect(two, { t });
  await subscribe(late, channel);
  assert.equal((await late.next((m) => m.channel === channel && m.data === 'x')).event, 'f0');
});

test('what others write to a subject is checked, and is heard under its own subject only', async (t) => {
  const channel = freshName();
  const ws = await subscriber(two, t, channel);
  const client = await RedisClient.connect(redis.address);
  t.after(() => client.close());
  const listener = await listenerFor(t, 'shared', `c:app-id:${channel}`);
  await publish(one, { name: 'good', channel, data: '1' });
  const { sender } = await listener.next(KIND.event);
  const event = { kind: KIND.event, sender, app: APP.id, channel, name: '"e"', data: '"x"' };
  const subject = `shared:curlew1:c:app-id:${channel}`;
  const send = (message) => client.call('PUBLISH', subject, Buffer.isBuffer(message) ? message : encode(message));
  await send({ ...event, channel: 'another' });
  await send({ ...event, app: 'another' });
  await send({ ...event, data: '"x' });
  await send({ ...event, name: 'e' });
  await send({ ...event, data: Buffer.from('"\xff"', 'latin1') });
  await send({ ...event, sender: 'ff'.repeat(16), name: '"stranger"' }); // its hello may come later
  await send({ ...event, version: 99 });
  await send(Buffer.concat([encode(event), Buffer.from('x')]));
  await send(Buffer.from('garbage'));
  await send({ kind: 63, sender });
  await send({ ...event, name: '"last"' });
  assert.equal((await ws.next((m) => m.channel === channel)).event, 'good');
  assert.equal((await ws.next((m) => m.channel === channel)).event, 'stranger');
  assert.equal((await ws.next((m) => m.channel === channel)).event, 'last');
});

test('the metrics count what went over the bus and what was dropped', async (t) => {
  const channel = freshName();
  const ws = await subscriber(two, t, channel);
  const count = async (node, name, labels) => (await fetchMetrics(node)).sum(name, labels);
  const [sent, received, dropped] = [
    await count(one, 'cluster_messages_sent_total', { kind: 'event' }),
    await count(two, 'cluster_messages_received_total', { kind: 'event' }),
    await count(two, 'cluster_messages_dropped_total', { reason: 'subject' }),
  ];
  await publish(one, { name: 'e', channel, data: 'x' });
  await ws.next({ event: 'e', channel });
  await eventually(one, (metrics) =>
    assert.equal(metrics.sum('cluster_messages_sent_total', { kind: 'event' }), sent + 1),
  );
  await eventually(two, (metrics) => {
    assert.equal(metrics.sum('cluster_messages_received_total', { kind: 'event' }), received + 1);
    assert.ok(metrics.sum('horizontal_adapter_received_requests') > 0);
    assert.ok(metrics.sum('horizontal_adapter_sent_requests') > 0);
    assert.ok(metrics.sum('horizontal_adapter_resolved_promises') > 0);
    const buckets = metrics.select('horizontal_adapter_resolve_time_bucket');
    const bounds = [1, 5, 10, 50, 100, 500, 1000, 5000, Infinity];
    assert.deepEqual(
      buckets.map(({ labels }) => Number(labels.le.replace('+Inf', 'Infinity'))),
      bounds,
    );
    assert.equal(buckets.at(-1).value, metrics.sum('horizontal_adapter_resolved_promises'));
    assert.equal(metrics.sum('cluster_messages_dropped_total', { reason: 'subject' }), dropped);
    assert.equal(metrics.sum('cluster_waiting_messages'), 0);
  });
});

test('all nodes keep the same event of a cache channel, the one that was published last', async (t) => {
  const channel = freshName('cache-');
  const all = await subscribers(t, channel);
  // Each node publishes when it has the event before: else the clock decides.
  for (let i = 0; i < 9; i++) {
    await publish(nodes.list[i % 3], { name: 'kept', channel, data: String(i) });
    for (const ws of all) await ws.next({ event: 'kept', data: String(i) });
  }
  for (const node of nodes.list) {
    const ws = await subscriber(node, t, channel);
    assert.equal((await ws.next({ event: 'kept', channel })).data, '8');
  }
});

test('a fuzzer on the bus does no harm', async (t) => {
  const pair = await nodesFor(t, { bus: redis, prefix: 'fuzzed', count: 2, server: { apps: [app], config } });
  const [target] = pair.list;
  const channel = 'presence-fuzzed';
  const ws = await subscriber(target, t, channel, { user: { user_id: 'anna' } });
  const listener = await listenerFor(t, 'fuzzed', 'n', `c:app-id:${channel}`);
  for (let i = 0; i < 3; i++) await publish(target, { name: 'e', channel, data: 'x' });
  const client = await RedisClient.connect(redis.address);
  t.after(() => client.close());
  const sender = 'ab'.repeat(16);
  const inbox = `i:${(await listener.next(KIND.event)).sender}`;
  await client.call('PUBLISH', 'fuzzed:curlew1:n', encode({ kind: KIND.hello, sender, lowest: 1, highest: 1 }));
  let seed = 1;
  const random = (below) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const own = encode({ kind: KIND.event, sender, app: APP.id, channel, name: '"e"', data: '"x"' });
  const seeds = [own, ...listener.bytes];
  const sent = [];
  for (let i = 0; i < 3000; i++) {
    const bytes = Buffer.from(seeds[random(seeds.length)]);
    Buffer.from(sender, 'hex').copy(bytes, 6);
    for (let changes = random(6); changes > 0; changes--) bytes[random(bytes.length)] = random(256);
    if (random(3) === 0) bytes[1] = random(64);
    bytes.writeUInt32BE(bytes.length - 30, 2);
    const subject = ['n', inbox, `c:app-id:${channel}`][random(3)];
    sent.push(client.call('PUBLISH', `fuzzed:curlew1:${subject}`, random(10) ? bytes : bytes.subarray(random(30))));
  }
  await Promise.all(sent);
  await publish(target, { name: 'last', channel, data: 'x' });
  await ws.next({ event: 'last', channel });
});
