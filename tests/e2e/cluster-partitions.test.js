// A network between a node and Redis that swallows what is sent without closing anything: it is noticed, local work
// goes on, and afterwards all is as it has to be.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { unsubscribe } from '../lib/client.js';
import { range, subscriber, untilFence } from '../lib/events.js';
import { untilRight } from '../lib/inbox.js';
import { redisProxy } from '../lib/lossy-redis.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { APP } from '../lib/server.js';

const NOTICED_MS = 10_000;
// As it is by default: longer than it takes to notice such a network, so that nobody is taken for dead meanwhile.
const PATIENT = { adapter: { cluster_health: { node_timeout_ms: 30_000 } } };
const CHANNEL = 'numbers';

const redis = await backendFor({ after }, 'redis');

/*
 * Three nodes, of which the second has a proxy before Redis; clients in presence channels, and a subscriber on each
 * node. `send(i, times)` publishes so many more numbered events through a node, `got(i, from)` are the numbers that the
 * subscriber of node i has from a node.
 */
async function rigFor(t, prefix, seed, config = {}) {
  const proxy = await redisProxy(t, redis.address);
  const nodes = await nodesFor(t, { bus: redis, prefix, count: 0, server: { config } });
  const away = { config: { database: { redis: { port: proxy.port } } } };
  for (const options of [{}, away, {}]) await nodes.add(options);
  await nodes.untilAll(3);
  const channels = Array.from({ length: 4 }, (_, i) => `presence-room-${i}`);
  const model = new PresenceModel(randomFrom(seed), { channels, users: 20 });
  t.after(() => model.end());
  await model.connect(nodes.list, 15);
  await model.change(150);
  await model.settled(1000 * SLOW);
  const sockets = await Promise.all(nodes.list.map((node) => subscriber(node, t, CHANNEL)));
  const sent = [0, 0, 0];
  return {
    proxy,
    nodes,
    model,
    sockets,
    sent,
    list: nodes.list,
    async send(i, times) {
      for (let k = 0; k < times; k++) {
        sent[i] += 1;
        await publish(nodes.list[i], { name: `node-${i}`, channel: CHANNEL, data: String(sent[i]) });
      }
    },
    got: (i, from) =>
      sockets[i].inbox.all.filter(({ event }) => event === `node-${from}`).map(({ data }) => Number(data)),
    // All that was published before is where it has to be.
    async fences() {
      for (const node of nodes.list) for (const ws of sockets) await untilFence(node, ws, CHANNEL);
    },
  };
}

// None came twice or in the wrong order; those that local subscribers got are all.
function checkNumbers(rig) {
  for (const i of range(0, 2))
    for (const from of range(0, 2)) {
      const numbers = rig.got(i, from);
      for (const [at, number] of numbers.entries())
        if (at > 0) assert.ok(number > numbers[at - 1], `${number} after ${numbers[at - 1]} from ${from} on ${i}`);
      if (i === from || (i !== 1 && from !== 1)) assert.deepEqual(numbers, range(1, rig.sent[from]));
    }
}

describe('a network that swallows what is sent', { concurrency: 4 }, () => {
  for (const [name, held] of Object.entries({
    'both ways': { in: true, out: true },
    'from Redis': { in: true },
    'to Redis': { out: true },
  }))
    test(`${name}: it is noticed, and heals`, async (t) => {
      const rig = await rigFor(t, name.replaceAll(' ', '-'), name.length, PATIENT);
      const { proxy, model, list } = rig;
      await rig.send(1, 10);
      const since = list[1].log.all.length;
      const began = performance.now();
      proxy.hold(held);
      for (const i of [0, 1, 2]) await rig.send(i, 10);
      await model.change(100, { wait: false });
      await list[1].waitForLog(/^the bus \(redis\) is down, .*no answer/, { since });
      const took = performance.now() - began;
      assert.ok(
        took < 2 * NOTICED_MS,
        `${Math.round(took)} ms: it took ten seconds at most, twice as long is let pass`,
      );
      for (const i of [0, 1, 2]) await rig.send(i, 10);
      await model.change(200);
      proxy.hold({ in: false, out: false });
      await list[1].waitForLog(/^the bus \(redis\) is up/, { since });
      await model.settled(3000 * SLOW);
      await rig.nodes.untilAll(3);
      await rig.fences();
      for (const i of [0, 1, 2]) await rig.send(i, 10);
      await rig.fences();
      await model.change(100);
      await model.settled(1000 * SLOW);
      checkNumbers(rig);
      // What waited until Redis was there again, and what came after it.
      for (const i of [0, 2]) assert.deepEqual(rig.got(i, 1).slice(-20), range(rig.sent[1] - 19, rig.sent[1]));
      for (const from of [0, 2])
        assert.deepEqual(rig.got(1, from).slice(-10), range(rig.sent[from] - 9, rig.sent[from]));
    });

  test('a node that hears nothing takes the others for dead, and knows them afterwards, as they know it', async (t) => {
    const { proxy, model, list, nodes } = await rigFor(t, 'deaf', 50);
    proxy.hold({ in: true });
    await list[1].waitForLog(/taken for dead$/);
    await model.change(100);
    await list[1].waitForLog(/^the bus \(redis\) is down, .*no answer/);
    await model.change(100);
    proxy.hold({ in: false });
    await nodes.untilAll(3);
    await model.settled(3000 * SLOW);
    await model.change(100);
    await model.settled(1000 * SLOW);
  });

  test('half a second late: all comes, once and in order', async (t) => {
    const rig = await rigFor(t, 'late', 40);
    const { proxy, model, list } = rig;
    proxy.delayMs = 500;
    for (let round = 0; round < 2; round++) {
      for (const i of [0, 1, 2]) await rig.send(i, 20);
      await model.change(200);
    }
    await model.settled(2000 * SLOW);
    const quick = (metrics) => metrics.sum('horizontal_adapter_resolve_time_bucket', { le: '500' });
    const before = quick(await fetchMetrics(list[1]));
    const answered = (await fetchMetrics(list[1])).sum('horizontal_adapter_resolve_time_count');
    await subscriber(list[1], t, 'presence-late', { user: { user_id: 'late' } });
    await eventually(list[1], (metrics) => {
      assert.ok(metrics.sum('horizontal_adapter_resolve_time_count') >= answered + 2);
      assert.equal(quick(metrics), before, 'no answer comes within 500 ms');
    });
    proxy.delayMs = 0;
    await model.change(100);
    await model.settled(1000 * SLOW);
    await rig.fences();
    for (const i of range(0, 2))
      for (const from of range(0, 2)) assert.deepEqual(rig.got(i, from), range(1, rig.sent[from]));
    for (const { log } of list)
      assert.ok(!log.all.some(({ message }) => /taken for dead|^the bus \(redis\) is down/.test(message)));
  });

  test('counts that change meanwhile are right afterwards', async (t) => {
    // Nobody listens there: an app with such a webhook has counts.
    const webhooks = [{ url: 'http://127.0.0.1:9/', event_types: ['subscription_count'] }];
    const apps = [{ ...APP, max_connections: 0, webhooks }];
    const proxy = await redisProxy(t, redis.address);
    const nodes = await nodesFor(t, { bus: redis, prefix: 'counts', count: 0, server: { apps, config: PATIENT } });
    await nodes.add();
    await nodes.add({ config: { database: { redis: { port: proxy.port } } } });
    await nodes.untilAll(2);
    const [one, other] = nodes.list;
    const rooms = ['both', 'left by one', 'left by the other'].map((name) => name.replaceAll(' ', '-'));
    const guestsOf = (node) => Promise.all([1, 2, 3].map(() => subscriber(node, t, rooms)));
    const guests = [await guestsOf(one), await guestsOf(other)];
    const told = (ws, room) =>
      ws.inbox.all
        .filter(({ event, channel }) => event === 'pusher_internal:subscription_count' && channel === room)
        .map(({ data }) => JSON.parse(data).subscription_count)
        .at(-1);
    const untilTold = (ws, room, count) => {
      const fault = () => (told(ws, room) === count ? null : `it was ${told(ws, room)}`);
      return untilRight(fault, `the count ${count} of ${room}`, 3000 * SLOW);
    };
    const keepers = guests.map((list) => list[0]);
    for (const ws of keepers) for (const room of rooms) await untilTold(ws, room, 6);
    const since = other.log.all.length;
    proxy.refuse(true);
    await other.waitForLog(/^the bus \(redis\) is down/, { since });
    for (const list of guests) for (const ws of list.slice(1)) unsubscribe(ws, 'both');
    for (const ws of guests[0]) unsubscribe(ws, 'left-by-one');
    for (const ws of guests[1]) unsubscribe(ws, 'left-by-the-other');
    // Longer than a node waits until it tells a count once more.
    await new Promise((resolve) => setTimeout(resolve, 7000));
    proxy.refuse(false);
    await other.waitForLog(/^the bus \(redis\) is up/, { since });
    await Promise.all([
      ...keepers.map((ws) => untilTold(ws, 'both', 2)),
      untilTold(keepers[1], 'left-by-one', 3),
      untilTold(keepers[0], 'left-by-the-other', 3),
    ]);
  });
});
