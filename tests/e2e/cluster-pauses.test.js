// Nodes that stand still or die while clients join and leave: who is there is right afterwards, whoever is on which
// node, and nobody is told twice.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { connect, signin, stillOpen } from '../lib/client.js';
import { subscriber, untilFence } from '../lib/events.js';
import { HEARTBEAT_MS, NODE_TIMEOUT_MS, nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { APP } from '../lib/server.js';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const count = (server, pattern) => server.log.all.filter(({ message }) => pattern.test(message)).length;
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

const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

// Calls the function while the node stands still.
async function whilePaused(node, call) {
  node.signal('SIGSTOP');
  try {
    await call();
  } finally {
    node.signal('SIGCONT');
  }
}

describe('nodes that stand still or die', { concurrency: 4 }, () => {
  test('a pause that is shorter than node_timeout_ms loses and doubles nothing', async (t) => {
    const nodes = await nodesFor(t);
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
        await pause(NODE_TIMEOUT_MS / 4);
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
});
