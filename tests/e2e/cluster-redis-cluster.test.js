// Nodes on a Redis Cluster: a Redis that dies, and slots that move, while events flow.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { subscriber } from '../lib/events.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { nodesFor } from '../lib/nodes.js';

const channel = 'prices';

// Of docs/configuration.md, for a user on a Redis Cluster.
const RIGHTS =
  '+publish +subscribe +unsubscribe +ping +role +client|setname +set +get +pttl +del +cluster|slots +cluster|nodes ' +
  '+spublish +ssubscribe +sunsubscribe +asking';

// A subscriber of each node, and a publisher through each node that goes on until it is ended.
async function trafficOf(t, nodes) {
  const sockets = await Promise.all(nodes.list.map((node) => subscriber(node, t, channel)));
  let ended = false;
  const published = nodes.list.map(() => 0);
  const publishers = nodes.list.map(async (node, i) => {
    while (!ended) {
      published[i] += 1;
      await publish(node, { name: String(i), channel, data: String(published[i]) });
    }
  });
  // The numbers that a subscriber has got through a node.
  const numbers = (at, through) =>
    sockets[at].inbox.all
      .filter((message) => message.channel === channel && message.event === String(through))
      .map(({ data }) => Number(data));
  return {
    // Resolves when each subscriber has got, through each node, something that is published from now on.
    async flows() {
      const from = [...published];
      for (const socket of sockets)
        for (const [i, number] of from.entries())
          await socket.inbox.next((message) => message.event === String(i) && Number(message.data) > number);
    },
    // None came twice or in the wrong order, and on its own node none is missing.
    async end() {
      ended = true;
      await Promise.all(publishers);
      await this.settled();
      for (const at of sockets.keys())
        for (const through of sockets.keys()) {
          const found = numbers(at, through);
          for (const [i, number] of found.entries())
            if (i > 0) assert.ok(number > found[i - 1], `${number} after ${found[i - 1]} from ${through} to ${at}`);
          if (at === through) assert.equal(found.length, published[at]);
        }
    },
    // What is published when all is well again arrives everywhere.
    async settled() {
      for (const [i, node] of nodes.list.entries()) {
        published[i] += 1;
        await publish(node, { name: String(i), channel, data: String(published[i]) });
        for (const socket of sockets)
          await socket.inbox.next((message) => message.event === String(i) && message.data === String(published[i]));
      }
    },
  };
}

describe('on a Redis Cluster', { timeout: LONG_TIMEOUT_MS, concurrency: true }, () => {
  for (const use_sharded_pubsub of [false, true])
    test(`a user needs the rights of the docs only, ${use_sharded_pubsub ? 'sharded' : 'plain'}`, async (t) => {
      const bus = await backendFor(t, 'redis-cluster');
      const rights = `on >secret resetchannels &test:curlew1:* ~mine:* -@all ${RIGHTS}`.split(' ');
      for (const node of bus.ports.keys())
        await bus.on(node, async (client) => {
          await client.call('ACL', 'SETUSER', 'curlew', ...rights);
          await client.call('ACL', 'SETUSER', 'default', 'off');
        });
      const cluster = { username: 'curlew', password: 'secret' };
      const config = {
        adapter: { cluster: { use_sharded_pubsub } },
        cache: { driver: 'redis-cluster', redis: { prefix: 'mine:' } },
        database: { redis: { cluster } },
      };
      const { list } = await nodesFor(t, { bus, count: 2, server: { config } });
      const kept = 'cache-news';
      const [here, there] = await Promise.all(list.map((node) => subscriber(node, t, kept)));
      await publish(list[0], { name: 'e', channel: kept, data: '{}' });
      for (const ws of [here, there]) await ws.next({ event: 'e', channel: kept });
      for (const { log } of list)
        assert.deepEqual(
          log.all.filter(({ level, target }) => level !== 'info' && target === 'cluster'),
          [],
        );
    });

  test('nodes go on over another Redis when theirs dies', async (t) => {
    const nodes = await nodesFor(t, { kind: 'redis-cluster' });
    const traffic = await trafficOf(t, nodes);
    await traffic.flows();
    await nodes.bus.loseMaster();
    await Promise.any(nodes.list.map((node) => node.waitForLog(/the bus \(redis-cluster\) is down/)));
    await nodes.untilAll(3);
    await traffic.flows();
    await traffic.end();
  });

  // Only one Redis runs, so it finds that the others fail. It is left, and taken again as the only one there is.
  test('nodes look for another Redis when theirs is cut off from most', async (t) => {
    const bus = await backendFor(t, 'redis-cluster', { nodeTimeoutMs: 1000 });
    const config = { adapter: { cluster: { nodes: [bus.address.nodes[0]] } } };
    const nodes = await nodesFor(t, { bus, server: { config } });
    const traffic = await trafficOf(t, nodes);
    await traffic.flows();
    for (const redis of [1, 2]) bus.freeze(redis);
    const isCutOff = /it is cut off from most masters/;
    await Promise.all(nodes.list.map((node) => node.waitForLog(isCutOff, { timeoutMs: LONG_TIMEOUT_MS })));
    await traffic.flows();
    for (const redis of [1, 2]) bus.thaw(redis);
    await nodes.untilAll(3);
    await traffic.flows();
    await traffic.end();
  });

  test('a slot without a master holds up no other one, and nobody who subscribes', async (t) => {
    const config = { adapter: { cluster: { use_sharded_pubsub: true } } };
    const nodes = await nodesFor(t, { kind: 'redis-cluster', count: 2, server: { config } });
    const [one, two] = nodes.list;
    const slot = await nodes.bus.slotOf(`${nodes.prefix}:curlew1:c:app-id:${channel}`);
    const master = await nodes.bus.masterOf(slot);
    const there = await subscriber(two, t, channel);
    const other = await subscriber(two, t, 'other');
    await nodes.bus.dropSlot(slot);
    await subscriber(one, t, channel); // resolves when it is subscribed
    const data = 'x'.repeat(9000);
    for (let i = 0; i < 200; i++) await publish(one, { name: 'lost', channel, data });
    await publish(one, { name: 'e', channel: 'other', data: '1' });
    await other.next({ event: 'e', channel: 'other' });
    await nodes.bus.takeSlot(slot, master);
    const found = there.next({ event: 'found', channel });
    let arrived = false;
    const looked = found.then(() => (arrived = true));
    while (!arrived) {
      await publish(one, { name: 'found', channel, data: '2' });
      await Promise.race([looked, publish(one, { name: 'e', channel: 'other', data: '3' })]);
    }
    for (const node of nodes.list)
      assert.ok(!node.log.all.some(({ message }) => /the bus \(redis-cluster\) is down/.test(message)));
  });

  test('a slot that moves takes its channel along', async (t) => {
    const config = { adapter: { cluster: { use_sharded_pubsub: true } } };
    const nodes = await nodesFor(t, { kind: 'redis-cluster', server: { config } });
    const { bus } = nodes;
    const traffic = await trafficOf(t, nodes);
    const slot = await bus.slotOf(`${nodes.prefix}:curlew1:c:app-id:${channel}`);
    for (let round = 0; round < 4; round++) {
      await traffic.flows();
      await bus.moveSlot(slot, ((await bus.masterOf(slot)) + 1) % 3);
    }
    await traffic.flows();
    await traffic.end();
    for (const node of nodes.list)
      assert.ok(!node.log.all.some(({ message }) => /the bus \(redis-cluster\) is down/.test(message)));
  });
});
