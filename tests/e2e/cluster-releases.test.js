// Nodes of several releases on one bus: builds of this source that speak other versions of the protocol between nodes
// (tests/releases).

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { BusPeer } from '../lib/bus-peer.js';
import { closedWithError, connect, join, signin, subscribe, tryToConnect, unsubscribe } from '../lib/client.js';
import { KIND } from '../lib/cluster-message.js';
import { subscriber } from '../lib/events.js';
import { within } from '../lib/inbox.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { HEARTBEAT_MS, nodesFor, SLOW, untilUp } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { APP, APART_BINARY, NEXT_BINARY } from '../lib/server.js';
import { eventOf, webhookReceiver } from '../lib/webhook-receiver.js';

const redis = await backendFor({ after }, 'redis');
const receiver = await webhookReceiver({ after }, { [APP.key]: APP.secret });
const LIMITED = { id: 'limited', key: 'limited-key', secret: 'limited-secret', max_connections: 4 };
const APPS = [
  {
    ...APP,
    max_connections: 0,
    webhooks: [
      { url: receiver.url, event_types: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'] },
    ],
  },
  LIMITED,
];

const idOf = (seen) => seen.nodes.find(({ self }) => self).id;

// Nodes of the releases, each after the one before: null is this one.
async function nodesOf(t, prefix, releases) {
  const nodes = await nodesFor(t, { bus: redis, prefix, count: 0, server: { apps: APPS } });
  for (const binary of releases) await nodes.add(binary === null ? {} : { binary });
  return nodes;
}

async function ask(server, path, query) {
  const answer = await api(server, 'GET', path, { query });
  assert.equal(answer.status, 200, answer.body);
  return answer.json;
}

// Connections of the limited app until one is answered with this code; the others are closed again.
function untilConnection(t, server, wanted) {
  const attempts = async () => {
    for (;;) {
      const { ws, code } = await tryToConnect(t, server, LIMITED);
      if (code === wanted) return ws;
      ws.destroy();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return within(attempts(), `a connection that is answered ${wanted}`);
}

describe('nodes of several releases', { concurrency: true }, () => {
  test('of two releases speak the highest version that all live nodes speak', async (t) => {
    const nodes = await nodesOf(t, 'versions', [NEXT_BINARY, NEXT_BINARY]);
    await nodes.untilAll(2);
    const ids = await Promise.all(nodes.list.map(async (node) => idOf(await nodes.seenBy(node))));
    const ear = await BusPeer.connect(t, nodes);
    const heartbeat = (sender, version) =>
      ear.heard.next((said) => said.kind === KIND.heartbeat && said.sender === sender && said.version === version);
    // What they say from now on.
    const heartbeats = async (version) => {
      ear.heard.waiting.splice(0);
      for (const id of ids) await heartbeat(id, version);
    };
    await heartbeats(2);
    const old = await nodes.add();
    await nodes.untilAll(3);
    for (const node of nodes.list) {
      const seen = await nodes.seenBy(node);
      assert.deepEqual(seen.nodes.map(({ version }) => version).sort(), [1, 2, 2]);
    }
    await heartbeats(1);
    const from = ear.heard.all.length;
    await heartbeats(1);
    for (const { version } of ear.heard.all.slice(from)) assert.equal(version, 1);
    await old.stop();
    await heartbeats(2);
  });

  test('of two releases skip kinds that they do not know, and count them', async (t) => {
    const nodes = await nodesOf(t, 'kinds', [null, NEXT_BINARY]);
    await nodes.untilAll(2);
    const peer = await BusPeer.connect(t, nodes, { versions: [1, 3] });
    await peer.join(HEARTBEAT_MS);
    await nodes.untilAll(3);
    const skipped = (metrics) => metrics.sum('cluster_messages_dropped_total', { reason: 'skipped' });
    const before = await Promise.all(nodes.list.map(async (node) => skipped(await fetchMetrics(node))));
    await peer.say('n', 60);
    await peer.say('n', 200);
    await peer.say('n', KIND.heartbeat, { version: 2 }); // the next release knows it
    await peer.say('n', 60, { version: 3 });
    for (const [i, more] of [4, 3].entries())
      await eventually(nodes.list[i], (metrics) => assert.equal(skipped(metrics), before[i] + more));
    for (const node of nodes.list) assert.equal(await untilUp(node, 'OK'), null);
  });

  test('of two releases act as one server', { concurrency: true }, async (t) => {
    const nodes = await nodesOf(t, 'one', [NEXT_BINARY, null, NEXT_BINARY, null]);
    await nodes.untilAll(4);
    const { list } = nodes;
    const everyPair = list.flatMap((from) => list.map((to) => [from, to])).filter(([from, to]) => from !== to);
    const cases = {
      async 'events, client events, users'() {
        const all = await Promise.all(list.map((node) => subscriber(node, t, ['prices', 'private-talk'])));
        for (const ws of all) await signin(ws, { id: 'anna' });
        for (const [i, from] of list.entries()) {
          for (let n = 0; n < 20; n++) await publish(from, { name: `of ${i}`, channel: 'prices', data: String(n) });
          all[i].send({ event: 'client-said', channel: 'private-talk', data: String(i) });
          await publish(from, { name: `note ${i}`, channel: '#server-to-user-anna', data: '' });
        }
        for (const [to, ws] of all.entries())
          for (const [i] of list.entries()) {
            for (let n = 0; n < 20; n++) assert.equal((await ws.next(`of ${i}`)).data, String(n));
            if (i !== to) await ws.next({ event: 'client-said', data: String(i) });
            await ws.next(`note ${i}`);
          }
        assert.equal((await api(list[0], 'POST', '/users/anna/terminate_connections')).status, 200);
        for (const ws of all) await closedWithError(ws, 4009);
      },

      async 'cached events'() {
        for (const [n, [from, to]] of everyPair.entries()) {
          const channel = `cache-${n}`;
          const own = await subscriber(from, t, channel);
          await publish(from, { name: 'kept', channel, data: 'fresh' });
          await own.next('kept');
          const ws = await subscriber(to, t, channel);
          assert.equal((await ws.next({ event: 'kept', channel })).data, 'fresh');
        }
      },

      async presence() {
        const channels = Array.from({ length: 4 }, (_, i) => `presence-hall-${i}`);
        const model = new PresenceModel(randomFrom(5), { channels, users: 12 });
        t.after(() => model.end());
        await model.connect(list, 10);
        await model.change(300);
        await model.settled(1000 * SLOW);
        model.end();
      },

      async 'counts and lists of the API'() {
        for (const node of list) await join(await connect(node, { t }), 'presence-api', { user_id: `at ${node.port}` });
        const sockets = await Promise.all(list.map((node) => connect(node, { t })));
        for (const ws of sockets) await subscribe(ws, 'counted');
        const users = list.map(({ port }) => `at ${port}`).sort();
        for (const node of list) {
          assert.deepEqual(await ask(node, '/channels/counted', { info: 'subscription_count' }), {
            occupied: true,
            subscription_count: 4,
          });
          const answer = await ask(node, '/channels/presence-api/users');
          assert.deepEqual(answer.users.map(({ id }) => id).sort(), users);
          const { channels } = await ask(node, '/channels', { filter_by_prefix: 'presence-api', info: 'user_count' });
          assert.deepEqual(channels, { 'presence-api': { user_count: 4 } });
        }
      },

      async quotas() {
        const open = [];
        for (const node of list) {
          const { ws, code } = await tryToConnect(t, node, LIMITED);
          assert.equal(code, 0);
          open.push(ws);
        }
        for (const node of list) await untilConnection(t, node, 4004);
        for (const [i, ws] of open.entries()) {
          ws.destroy();
          await untilConnection(t, list[(i + 1) % list.length], 0);
          for (const node of list) await untilConnection(t, node, 4004);
        }
      },

      async 'webhooks come once'() {
        const channels = Array.from({ length: 12 }, (_, i) => `presence-room-${i}`);
        const until = (channel, text) => receiver.events.next(eventOf(channel, text));
        await Promise.all(
          channels.map(async (channel, n) => {
            const [first, second] = [list[n % 4], list[(n + 1) % 4]];
            const clients = await Promise.all([first, second].map((node) => connect(node, { t })));
            await join(clients[0], channel, { user_id: 'anna' });
            await until(channel, 'member_added anna');
            await join(clients[1], channel, { user_id: 'anna' });
            unsubscribe(clients[0], channel);
            await join(clients[0], channel, { user_id: 'ben' });
            await until(channel, 'member_added ben');
            await Promise.all(clients.map((ws) => ws.close()));
            await until(channel, 'channel_vacated');
            const events = receiver.of(channel);
            assert.deepEqual(events.slice(0, 3), ['channel_occupied', 'member_added anna', 'member_added ben']);
            assert.deepEqual(events.slice(3).sort(), ['channel_vacated', 'member_removed anna', 'member_removed ben']);
            assert.equal(events.at(-1), 'channel_vacated');
          }),
        );
      },
    };
    await Promise.all(Object.entries(cases).map(([what, run]) => t.test(what, run)));
  });

  test('without a common version say so on both sides, in the log and at /up', async (t) => {
    const nodes = await nodesOf(t, 'apart', [null, APART_BINARY]);
    const [old, apart] = nodes.list;
    for (const [node, theirs, own] of [
      [old, '2 to 2', '1 to 1'],
      [apart, '1 to 1', '2 to 2'],
    ]) {
      const { level } = await node.waitForLog(new RegExp(`^node .* speaks versions ${theirs}, this one ${own}: `));
      assert.equal(level, 'error');
      assert.equal(await untilUp(node, 'DEGRADED'), 'nodes');
    }
    // Each goes on serving its own clients.
    for (const node of nodes.list) {
      const ws = await subscriber(node, t, 'prices');
      await publish(node, { name: 'own', channel: 'prices', data: '' });
      await ws.next('own');
    }
    // With one release less all is well.
    await apart.stop();
    assert.equal(await untilUp(old, 'OK'), null);
  });
});
