// The core of what nodes do together, on each message system: the same cases as on one Redis
// (cluster-events.test.js, cluster-state.test.js).

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { closedWithError, connect, signin, stillOpen, subscribe, trigger } from '../lib/client.js';
import { subscriber, untilFence } from '../lib/events.js';
import { LONG_TIMEOUT_MS, within } from '../lib/inbox.js';
import { nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { APP } from '../lib/server.js';

const AT_ONCE = { rounds: 300, lanes: 10 };

// By name: the options of nodesFor(), and what may die.
const SYSTEMS = {
  Redis: { kind: 'redis' },
  'one NATS server': { kind: 'nats' },
  'three NATS servers': { kind: 'nats', busOptions: { servers: 3 }, lose: killServerInUse },
  'Redis Cluster': { kind: 'redis-cluster' },
  'Redis Cluster, sharded': {
    kind: 'redis-cluster',
    config: { adapter: { cluster: { use_sharded_pubsub: true } } },
  },
};

function nodesOn(t, { kind, busOptions, config }) {
  const app = { ...APP, max_client_events_per_second: 0 };
  return nodesFor(t, { kind, busOptions, server: { apps: [app], config } });
}

// Nodes choose among the servers at random: kills the one that most of them use, and waits until one of them knows.
async function killServerInUse(nodes) {
  const { bus } = nodes;
  const pages = await Promise.all(bus.ports.map((_, i) => bus.monitor(i, 'connz')));
  const used = pages.map(({ connections }) => connections.filter(({ name }) => name === 'curlew').length);
  await bus.kill(used.indexOf(Math.max(...used)));
  const down = async () => {
    while (!nodes.list.some(({ log }) => log.all.some(({ message }) => /^the bus \(.*\) is down/.test(message))))
      await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await within(down(), 'a node to know that its server is gone');
}

const onAll = (nodes, call) => Promise.all(nodes.list.map(call));

// Each gets the nodes.
const CASES = {
  async 'an event comes to all nodes once, with its texts, in the order of its publisher'(t, nodes) {
    const channel = 'prices';
    const all = await onAll(nodes, (node) => subscriber(node, t, channel));
    await publish(nodes.list[1], `{"name":"n\\u00e9","channel":"${channel}","data":"{\\"a\\": 1.50}"}`);
    for (const ws of all) {
      const message = await ws.next((m) => m.channel === channel);
      assert.equal(message.text, `{"event":"n\\u00e9","channel":"${channel}","data":"{\\"a\\": 1.50}"}`);
    }
    for (let i = 0; i < 100; i++) await publish(nodes.list[0], { name: 'e', channel, data: String(i) });
    for (const ws of all)
      for (let i = 0; i < 100; i++) assert.equal((await ws.next((m) => m.channel === channel)).data, String(i));
    await publish(nodes.list[0], { name: 'not for one', channel, data: 'x', socket_id: all[1].socketId });
    for (const ws of [all[0], all[2]]) await ws.next('not for one');
    assert.deepEqual(await untilFence(nodes.list[0], all[1], channel), []);
  },

  async 'users, client events and orders reach all nodes'(t, nodes) {
    const all = await onAll(nodes, (node) => connect(node, { t }));
    for (const ws of all) await signin(ws, { id: 'anna' });
    await publish(nodes.list[2], { name: 'note', channel: '#server-to-user-anna', data: 'x' });
    for (const ws of all) await ws.next('note');
    const channel = 'presence-hall';
    const [sender, other] = await Promise.all(
      ['bob', 'carol'].map((user_id, i) => subscriber(nodes.list[i], t, channel, { user: { user_id } })),
    );
    trigger(sender, channel, 'client-typing', { n: 1 });
    const message = await other.next('client-typing');
    assert.deepEqual([message.data, message.user_id], [{ n: 1 }, 'bob']);
    assert.equal((await api(nodes.list[0], 'POST', '/users/anna/terminate_connections')).status, 200);
    for (const ws of all) await closedWithError(ws, 4009);
    await stillOpen(other);
  },

  async 'the last event of a cache channel is known to all nodes'(t, nodes) {
    const channel = 'cache-news';
    const first = await subscriber(nodes.list[0], t, channel);
    await publish(nodes.list[0], { name: 'kept', channel, data: 'fresh' });
    await first.next('kept');
    for (const node of nodes.list) {
      const ws = await subscriber(node, t, channel);
      assert.equal((await ws.next({ event: 'kept', channel })).data, 'fresh');
    }
  },

  async 'what is published elsewhere the moment a subscription succeeds arrives'(t, nodes) {
    const lane = async (number) => {
      const ws = await connect(nodes.list[number % 3], { t });
      for (let round = number; round < AT_ONCE.rounds; round += AT_ONCE.lanes) {
        const channel = `at-once-${round}`;
        await subscribe(ws, channel);
        await publish(nodes.list[(number + 1 + (round % 2)) % 3], { name: 'now', channel, data: String(round) });
        assert.equal((await ws.next({ channel, event: 'now' })).data, String(round));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE.lanes }, (_, number) => lane(number)));
  },
};

// Members join and leave, a node is killed, and then a server of the system, if it has one to lose.
async function checkPresence(t, nodes, lose) {
  const channels = Array.from({ length: 4 }, (_, i) => `presence-room-${i}`);
  const model = new PresenceModel(randomFrom(31), { channels, users: 20 });
  t.after(() => model.end());
  await model.connect(nodes.list, 20);
  await model.change(400);
  await model.settled(1000 * SLOW);
  if (lose !== undefined) {
    await lose(nodes);
    await model.change(200);
    await nodes.untilAll(3);
    await model.settled(3000 * SLOW);
  }
  const [, , third] = nodes.list;
  model.lose(third);
  await third.kill();
  await model.change(200);
  await nodes.untilAll(2, nodes.list.slice(0, 2));
  await model.settled(1000 * SLOW);
}

describe('nodes act as one', { timeout: LONG_TIMEOUT_MS, concurrency: 2 }, () => {
  for (const [name, system] of Object.entries(SYSTEMS))
    test(`on ${name}`, { concurrency: true }, async (t) => {
      const nodes = await nodesOn(t, system);
      await Promise.all(Object.entries(CASES).map(([what, run]) => t.test(what, (inner) => run(inner, nodes))));
      await t.test('presence', (inner) => checkPresence(inner, nodes, system.lose));
    });
});
