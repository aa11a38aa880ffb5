// Nodes that stand still or die while clients join and leave: who is there is right afterwards, whoever is on which
// node, and nobody is told twice.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { BusPeer } from '../lib/bus-peer.js';
import { connect, join, sendSubscribe, signin, stillOpen } from '../lib/client.js';
import { KIND } from '../lib/cluster-message.js';
import { range, subscriber, untilFence } from '../lib/events.js';
import { untilRight, untilTrue } from '../lib/inbox.js';
import { HEARTBEAT_MS, NODE_TIMEOUT_MS, nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { RedisClient } from '../lib/redis-client.js';
import { APP } from '../lib/server.js';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const count = (server, pattern) => server.log.all.filter(({ message }) => pattern.test(message)).length;
const ADDED = 'pusher_internal:member_added';
const REMOVED = 'pusher_internal:member_removed';
const WATCHLIST = 'pusher_internal:watchlist_events';
const DEATH = /taken for dead|takes a new id/;

// Few users, so that most are on several nodes.
async function modelOf(t, nodes, seed) {
  const channels = Array.from({ length: 4 }, (_, i) => `presence-room-${i}`);
  const model = new PresenceModel(randomFrom(seed), { channels, users: 12 });
  t.after(() => model.end());
  await model.connect(nodes.list, 20);
  await model.change(300);
  await model.settled(1000 * SLOW);
  return model;
}

// The numbers of events on a channel, as they came.
const numbersOf = (ws, channel) =>
  ws.inbox.all
    .filter((message) => message.channel === channel && message.event === 'number')
    .map(({ data }) => Number(data));

// The next change of those that a connection watches.
async function changeTo(watcher) {
  const { data } = await watcher.next(WATCHLIST);
  return JSON.parse(data).events.map(({ name, user_ids }) => ({ name, user_ids: user_ids.sort() }));
}

// Calls the function while the node stands still.
async function whilePaused(node, call) {
  node.signal('SIGSTOP');
  try {
    await call();
  } finally {
    node.signal('SIGCONT');
  }
}

// Watches presence channels from each node, after these users have joined them on a node: `changes()` are what the
// watchers of the nodes were told since then, as [node, channel, '+user' or '-user'].
async function watchersOf(t, nodes, channels, node, users) {
  for (const user_id of users) {
    const ws = await connect(node, { t });
    for (const channel of channels) await join(ws, channel, { user_id });
  }
  const watchers = await Promise.all(nodes.list.map((server) => connect(server, { t })));
  for (const [i, ws] of watchers.entries())
    for (const channel of channels) {
      const { ids } = await join(ws, channel, { user_id: `watcher-${i}` });
      assert.deepEqual(ids.filter((id) => !id.startsWith('watcher')).sort(), [...users].sort());
    }
  const changesOf = (ws, i) =>
    ws.inbox.all
      .filter(({ event }) => event === ADDED || event === REMOVED)
      .map(({ event, channel, data }) => [i, channel, `${event === ADDED ? '+' : '-'}${JSON.parse(data).user_id}`])
      .filter(([, , text]) => !/^.watcher/.test(text));
  return { watchers, changes: () => watchers.flatMap(changesOf) };
}

// Resolves when the watchers have been told of these changes.
function untilTold(changes, expected) {
  const missing = () => {
    const told = new Set(changes().map(String));
    const others = expected.map(String).filter((change) => !told.has(change));
    return others.length === 0 ? null : `not of ${others.join(' ')}`;
  };
  return untilRight(missing, 'watchers to be told of changes');
}

describe('nodes that stand still or die', { concurrency: 4 }, () => {
  test('a pause that is shorter than node_timeout_ms loses and doubles nothing', async (t) => {
    const nodes = await nodesFor(t, { timeoutMs: 30_000 });
    const [first, second, third] = nodes.list;
    const model = await modelOf(t, nodes, 21);
    const subscribers = await Promise.all(nodes.list.map((node) => subscriber(node, t, 'numbers')));
    const send = async (from, to) => {
      for (const i of range(from, to)) await publish(first, { name: 'number', channel: 'numbers', data: String(i) });
    };
    await send(1, 20);
    for (let round = 0; round < 3; round++) {
      await whilePaused(third, async () => {
        await model.change(150, { wait: false });
        await send(21 + 40 * round, 40 + 40 * round);
        await pause(2 * HEARTBEAT_MS);
      });
      await send(41 + 40 * round, 60 + 40 * round);
      await model.change(100);
      await model.settled(1000 * SLOW);
    }
    await pause(2 * HEARTBEAT_MS);
    for (const ws of subscribers) {
      await untilFence(second, ws, 'numbers');
      assert.deepEqual(numbersOf(ws, 'numbers'), range(1, 140));
    }
    for (const node of nodes.list) assert.equal(count(node, DEATH), 0);
  });

  test('after a longer one the members of the node are there again, once', async (t) => {
    const nodes = await nodesFor(t);
    const [first, second, third] = nodes.list;
    const model = await modelOf(t, nodes, 22);
    for (let round = 0; round < 2; round++) {
      await whilePaused(third, async () => {
        await model.change(100, { wait: false });
        await nodes.untilAll(2, [first, second]);
        model.miss(third);
        await model.change(200);
        await model.settled(1000 * SLOW);
      });
      model.found(third);
      await nodes.untilAll(3);
      await model.change(200);
      await model.settled(3000 * SLOW);
    }
    for (const node of [first, second]) assert.equal(count(node, /taken for dead/), 2);
    assert.equal(count(third, /taken for dead/), 0);
  });

  test('of a node that takes a new id only what changes meanwhile is told, and that once', async (t) => {
    const nodes = await nodesFor(t);
    const [first, second, third] = nodes.list;
    const peer = await BusPeer.connect(t, nodes);
    await peer.join(HEARTBEAT_MS);
    await nodes.untilAll(4);
    const model = await modelOf(t, nodes, 24);
    const channels = Array.from({ length: 6 }, (_, i) => `presence-hall-${i}`);
    const stays = ['anna', 'bob', 'carol'];
    const { watchers, changes } = await watchersOf(t, nodes, channels, third, stays);
    const expected = [];
    const expect = (text) => {
      for (const i of watchers.keys()) for (const channel of channels) expected.push([i, channel, text]);
    };
    for (let round = 0; round < 3; round++) {
      const { id } = (await nodes.seenBy(third)).nodes.find(({ self }) => self);
      const [idHigh, idLow] = [id.slice(0, 16), id.slice(16)].map((digits) => BigInt(`0x${digits}`));
      const [leaves, comes] = [await connect(third, { t }), await connect(third, { t })];
      for (const channel of channels) await join(leaves, channel, { user_id: `leaves-${round}` });
      expect(`+leaves-${round}`);
      await untilTold(changes, expected);
      expect(`-leaves-${round}`);
      expect(`+comes-${round}`);
      const churn = model.change(100);
      // Somebody tells the node that it was taken for dead; nobody else has heard of it.
      await peer.say(`i:${id}`, KIND.dead, { idHigh, idLow });
      leaves.destroy();
      for (const channel of channels) sendSubscribe(comes, channel, { user: { user_id: `comes-${round}` } });
      await peer.heard.next(
        ({ kind, sender, replacesHigh, replacesLow }) =>
          kind === KIND.hello && sender !== id && replacesHigh === Number(idHigh) && replacesLow === Number(idLow),
      );
      await churn;
      await model.settled(3000 * SLOW);
    }
    await nodes.untilAll(4);
    await third.waitForLog(/^this node takes a new id: another node took it for dead$/);
    // Sets of the old id are kept for two seconds at most: whoever was only in them would be removed then.
    await pause(2500);
    await untilTold(changes, expected);
    assert.deepEqual(changes().map(String).sort(), expected.map(String).sort());
    await model.settled(1000 * SLOW);
    for (const node of [first, second]) assert.equal(count(node, /taken for dead/), 0);
  });

  test('nodes that were all silent for too long take new ids, and tell nobody of those that stay', async (t) => {
    const nodes = await nodesFor(t);
    const channels = ['presence-hall'];
    const { watchers, changes } = await watchersOf(t, nodes, channels, nodes.list[0], ['anna', 'bob']);
    for (const node of nodes.list) node.signal('SIGSTOP');
    await pause(NODE_TIMEOUT_MS + 2 * HEARTBEAT_MS);
    for (const node of nodes.list) node.signal('SIGCONT');
    for (const node of nodes.list) await node.waitForLog(/^this node takes a new id: it was silent /);
    await nodes.untilAll(3);
    await pause(2500); // see above
    for (const ws of watchers) await stillOpen(ws);
    assert.deepEqual(changes(), []);
    for (const node of nodes.list) assert.equal(count(node, /taken for dead/), 0);
  });

  test('a node that stands still while the others go on is sent no event twice', async (t) => {
    const nodes = await nodesFor(t);
    const [first, second, third] = nodes.list;
    const subscribers = await Promise.all(nodes.list.map((node) => subscriber(node, t, 'numbers')));
    let number = 0;
    const send = async (node, times) => {
      for (let i = 0; i < times; i++)
        await publish(node, { name: 'number', channel: 'numbers', data: String(++number) });
    };
    await send(third, 10);
    for (const ws of subscribers) await untilFence(third, ws, 'numbers'); // two publishers have no order of their own
    await whilePaused(third, async () => {
      await send(first, 20);
      await nodes.untilAll(2, [first, second]);
      await send(first, 20);
    });
    await nodes.untilAll(3);
    await send(first, 20);
    await untilFence(first, subscribers[2], 'numbers');
    await send(third, 10);
    for (const [i, ws] of subscribers.entries()) {
      await untilFence(third, ws, 'numbers');
      const numbers = numbersOf(ws, 'numbers');
      assert.deepEqual(
        numbers,
        numbers.toSorted((a, b) => a - b).filter((one, at, all) => one !== all[at - 1]),
      );
      if (i < 2) assert.deepEqual(numbers, range(1, 80));
      assert.deepEqual(numbers.slice(-30), range(51, 80));
    }
  });

  test('whoever was only on a node that is killed is gone once, others stay', async (t) => {
    const nodes = await nodesFor(t, { server: { apps: [{ ...APP, enable_watchlist_events: true }] } });
    const [first, second, third] = nodes.list;
    const model = await modelOf(t, nodes, 23);
    const signedIn = async (node, user) => {
      const ws = await connect(node, { t });
      await signin(ws, user);
      return ws;
    };
    const watcher = await signedIn(first, { id: 'carol', watchlist: ['anna', 'bob'] });
    assert.deepEqual(await changeTo(watcher), [{ name: 'offline', user_ids: ['anna', 'bob'] }]);
    await signedIn(second, { id: 'anna' });
    assert.deepEqual(await changeTo(watcher), [{ name: 'online', user_ids: ['anna'] }]);
    for (const id of ['anna', 'bob']) await signedIn(third, { id });
    assert.deepEqual(await changeTo(watcher), [{ name: 'online', user_ids: ['bob'] }]);
    await model.change(100);
    model.lose(third);
    await third.kill();
    await model.change(100);
    await model.settled((NODE_TIMEOUT_MS + 1000) * SLOW);
    const fourth = await nodes.add();
    await model.connect([fourth], 20);
    await model.change(200);
    await model.settled(1000 * SLOW);
    for (const node of [first, second]) assert.equal(count(node, /taken for dead/), 1);
    assert.deepEqual(await changeTo(watcher), [{ name: 'offline', user_ids: ['bob'] }]);
    model.lose(second);
    await second.stop();
    await model.settled(1000 * SLOW);
    assert.deepEqual(await changeTo(watcher), [{ name: 'offline', user_ids: ['anna'] }]);
    const later = (await stillOpen(watcher)).filter(({ event }) => event === WATCHLIST);
    assert.deepEqual(later, []);
  });

  test('one that Redis gives up, since too much waits for it, catches up, and asks for less at once', async (t) => {
    // Redis gives it up before the others do.
    const config = { adapter: { cluster_health: { node_timeout_ms: 30_000 } } };
    const nodes = await nodesFor(t, { busOptions: { outputLimit: 300_000 }, server: { config } });
    const [first, second, third] = nodes.list;
    const model = await modelOf(t, nodes, 24);
    const subscribers = await Promise.all(nodes.list.map((node) => subscriber(node, t, 'numbers')));
    const redis = await RedisClient.connect(nodes.bus.address);
    t.after(() => redis.close());
    const peer = await BusPeer.connect(t, nodes);
    let last = 0;
    const send = async (times) => {
      for (let i = 0; i < times; i++)
        await publish(first, { name: 'number', channel: 'numbers', data: String(++last) });
    };
    // What the third node grants others for an answer.
    const creditOf = async (channel) => {
      const ws = await connect(third, { t });
      await join(ws, channel, { user_id: 'anna' });
      const { credit } = await peer.heard.next(
        ({ kind, places }) => kind === KIND.stateRequest && places.includes(channel),
      );
      return credit;
    };
    const listeners = async () => (await redis.call('CLIENT', 'LIST')).split('name=curlew-subscriber ').length - 1;
    // Only the third node listens there. What it reads of that is no message.
    await subscriber(third, t, 'flood');
    const flood = `${nodes.prefix}:curlew1:c:app-id:flood`;
    const closeBySize = async () => {
      const isHeard = async () => (await redis.call('PUBSUB', 'NUMSUB', flood))[1] === 1;
      await untilTrue(isHeard, 'the third node to listen');
      await whilePaused(third, async () => {
        await model.change(60, { wait: false });
        await send(5);
        for (let sent = 0; (await listeners()) === 3; sent++) {
          assert.ok(sent < 200, 'Redis closes what does not read');
          await Promise.all(Array.from({ length: 10 }, () => redis.call('PUBLISH', flood, Buffer.alloc(60_000))));
        }
        await send(5);
      });
    };
    const credit = await creditOf('presence-before');
    await send(10);
    // Twice within ten seconds: a busy machine may need another time.
    const halved = () => count(third, /answers of other nodes get half the room$/);
    for (let round = 0; halved() === 0; round++) {
      assert.ok(round < 10, 'two closes soon after each other are noticed');
      const since = third.log.all.length;
      await closeBySize();
      await third.waitForLog(/^the bus \(redis\) is down, .*(it closed the connection|reset by peer)/, { since });
      await third.waitForLog(/^the bus \(redis\) is up/, { since });
    }
    await model.settled(3000 * SLOW);
    assert.equal(halved(), 1);
    assert.equal(await creditOf('presence-after'), credit / 2);
    await send(20);
    for (const [i, ws] of subscribers.entries()) {
      await untilFence(first, ws, 'numbers');
      const numbers = numbersOf(ws, 'numbers');
      if (i < 2) assert.deepEqual(numbers, range(1, last));
      assert.ok(
        numbers.every((number, at) => at === 0 || number > numbers[at - 1]),
        `${numbers}`,
      );
      assert.deepEqual(numbers.slice(-20), range(last - 19, last));
    }
    await model.change(100);
    await model.settled(1000 * SLOW);
    for (const node of [first, second]) assert.equal(count(node, DEATH), 0);
  });
});
