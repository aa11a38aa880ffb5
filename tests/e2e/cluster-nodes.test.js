// Nodes that come, leave, die and return: what the others know of them.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { freePorts } from '../lib/backends/daemon.js';
import { backendFor } from '../lib/backends/index.js';
import { BusPeer } from '../lib/bus-peer.js';
import { signin } from '../lib/client.js';
import { KIND, encode } from '../lib/cluster-message.js';
import { subscriber, untilFence } from '../lib/events.js';
import { untilTrue } from '../lib/inbox.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { HEARTBEAT_MS, NODE_TIMEOUT_MS, SLOW, nodesFor, untilUp } from '../lib/nodes.js';
import { RedisClient } from '../lib/redis-client.js';
import { APP, runCurlew } from '../lib/server.js';
import { freeze } from '../lib/stopped.js';

const idOf = (seen) => seen.nodes.find(({ self }) => self).id;
const idsOf = (seen) => seen.nodes.map(({ id }) => id).sort();
const count = (server, pattern) => server.log.all.filter(({ message }) => pattern.test(message)).length;
const thaw = (server) => process.kill(server.pid, 'SIGCONT');
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// They wait for most of the time.
const together = { concurrency: 4 };

describe('coming and leaving', together, () => {
  test('nodes that join see each other, and serve clients only then', async (t) => {
    const nodes = await nodesFor(t, { count: 2 });
    const third = await nodes.add();
    const messages = third.log.all.map(({ message }) => message);
    const listening = messages.findIndex((message) => /^listening on /.test(message));
    assert.equal(messages.slice(0, listening).filter((message) => /^node .* is there$/.test(message)).length, 2);
    await nodes.untilAll(3);
    const seen = await Promise.all(nodes.list.map((server) => nodes.seenBy(server)));
    assert.deepEqual(idsOf(seen[0]), idsOf(seen[1]));
    assert.deepEqual(idsOf(seen[0]), idsOf(seen[2]));
    assert.equal(new Set(seen.map(idOf)).size, 3);
    for (const { adapter, fault, nodes: entries } of seen) {
      assert.equal(adapter, 'redis');
      assert.equal(fault, null);
      assert.equal(entries[0].self, true);
      for (const entry of entries) {
        assert.match(entry.name, /^[0-9a-f-]{36}$/);
        assert.match(entry.address, /^127\.0\.0\.1:/);
        assert.equal(entry.version, 1);
        assert.ok(Math.abs(entry.since - Date.now() / 1000) < 300);
      }
    }
  });

  test('a node that is stopped says bye, and has left at once', async (t) => {
    const nodes = await nodesFor(t);
    const [first, second, third] = nodes.list;
    await third.stop();
    await Promise.all([first, second].map((server) => server.waitForLog(/^node .* has said bye$/)));
    await nodes.untilAll(2, [first, second]);
    assert.equal(count(first, /taken for dead/), 0);
  });

  test('a node that is killed is dead, once, when it has been silent for node_timeout_ms', async (t) => {
    const nodes = await nodesFor(t);
    const [first, second, third] = nodes.list;
    const killed = Date.now();
    await third.kill();
    for (const server of [first, second]) {
      const { time } = await server.waitForLog(/^node .* is silent: it is taken for dead$/);
      const after = Date.parse(time) - killed;
      assert.ok(after > NODE_TIMEOUT_MS / 2, `${after} ms after its end`);
      assert.ok(after < NODE_TIMEOUT_MS + 1000 * SLOW, `${after} ms after its end`);
    }
    await nodes.untilAll(2, [first, second]);
    const again = await nodes.add();
    await nodes.untilAll(3, [first, second, again]);
    for (const server of [first, second]) assert.equal(count(server, /taken for dead/), 1);
  });

  test('health, metrics and the command line show the nodes', async (t) => {
    const nodes = await nodesFor(t, { count: 2 });
    const [first] = nodes.list;
    const answer = await fetch(`${first.url}/up`);
    assert.equal(await answer.text(), 'OK');
    const metrics = await fetchMetrics(first);
    assert.equal(metrics.sum('cluster_nodes_alive'), 2);
    assert.equal(metrics.sum('cluster_bus_up'), 1);
    assert.deepEqual(
      metrics.select('cluster_waiting_subscriptions').map((sample) => sample.value),
      [0],
    );
    assert.equal(metrics.sum('cluster_outages_total'), 0);
    assert.ok(metrics.sum('cluster_messages_received_total', { kind: 'hello' }) > 0);
    const apps = await fetch(`${first.adminUrl}/admin/apps`, { headers: nodes.authorization });
    assert.equal(apps.status, 404); // the memory driver has none that can be changed
    assert.match(await apps.text(), /app_manager\.driver is memory/);
    const { code, stdout } = await runCurlew(['nodes'], { env: nodes.environment(first) });
    assert.equal(code, 0);
    const lines = stdout.trimEnd().split('\n');
    assert.equal(lines.length, 3);
    assert.match(lines[0], /^ID +NAME +ADDRESS +VERSION +SINCE +CONNECTIONS +CHANNELS +LOAD +SILENT$/);
    assert.match(lines[1], /^[0-9a-f]{32} .* this node$/);
    assert.match(lines[2], /^[0-9a-f]{32} .* \d+\.\d s$/);
  });

  test('a node says with its heartbeats what it has', async (t) => {
    const nodes = await nodesFor(t, { count: 2 });
    const [first, second] = nodes.list;
    for (const channel of ['one', 'two']) await subscriber(first, t, channel);
    const id = idOf(await nodes.seenBy(first));
    const saysSo = async (server) => {
      const { connections, channels, load } = (await nodes.seenBy(server)).nodes.find((node) => node.id === id);
      assert.ok(load >= 0 && load <= 1);
      return connections === 2 && channels === 2;
    };
    for (const server of [first, second]) await untilTrue(() => saysSo(server), 'two connections and channels');
  });

  test('two installations on one bus do not hear each other if their prefixes differ', async (t) => {
    const twin = async (kind) => {
      const bus = await backendFor(t, kind);
      const channel = 'news';
      const [one, other] = await Promise.all(
        ['one', 'one:more'].map((prefix) => nodesFor(t, { bus, kind, prefix, count: 2 })),
      );
      const [here, there] = await Promise.all([one, other].map(({ list }) => subscriber(list[1], t, channel)));
      await publish(one.list[0], { name: 'mine', channel, data: '{}' });
      await here.next('mine');
      assert.deepEqual(await untilFence(other.list[0], there, channel), []);
      for (const nodes of [one, other]) assert.equal((await nodes.seenBy(nodes.list[0])).nodes.length, 2);
    };
    await Promise.all(['redis', 'nats'].map(twin));
  });

  test('a subject is given up ten seconds after its last subscriber, user or watcher', async (t) => {
    const nodes = await nodesFor(t, { count: 1, server: { apps: [{ ...APP, enable_watchlist_events: true }] } });
    const [server] = nodes.list;
    const redis = await RedisClient.connect(nodes.bus.address);
    t.after(() => redis.close());
    const subjects = ['c:app-id:brief', 'u:app-id:anna', 'u:app-id:bob'].map((one) => `${nodes.prefix}:curlew1:${one}`);
    const counts = async () => (await redis.call('PUBSUB', 'NUMSUB', ...subjects)).filter((_, i) => i % 2 === 1);
    assert.deepEqual(await counts(), [0, 0, 0]);
    const ws = await subscriber(server, t, 'brief');
    await signin(ws, { id: 'anna', watchlist: ['bob'] });
    assert.deepEqual(await counts(), [1, 1, 1]);
    const left = performance.now();
    ws.destroy();
    await untilTrue(async () => (await counts()).includes(0), 'a subject to be given up');
    assert.ok(performance.now() - left >= 9000, `after ${Math.round(performance.now() - left)} ms`);
    await untilTrue(async () => !(await counts()).includes(1), 'all subjects to be given up');
  });

  test('the command line says why it cannot list the nodes', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [server] = nodes.list;
    const environment = nodes.environment(server);
    const [unused] = await freePorts(1);
    const closed = `http://127.0.0.1:${unused}`;
    const token =
      /^curlew: CURLEW_ADMIN_TOKEN must be the token of the server's admin API, with 32 characters or more$/m;
    for (const [env, code, says] of [
      [{ CURLEW_ADMIN_TOKEN: '' }, 2, token],
      [{ CURLEW_ADMIN_TOKEN: 'short' }, 2, token],
      [{ CURLEW_ADMIN_TOKEN: 'x'.repeat(32) }, 3, /it answered with HTTP 401: look at CURLEW_ADMIN_TOKEN$/m],
      [
        { CURLEW_ADMIN_URL: '127.0.0.1:9602' },
        2,
        /CURLEW_ADMIN_URL must be a URL .* such as http:\/\/127\.0\.0\.1:9602$/m,
      ],
      [{ CURLEW_ADMIN_URL: server.url }, 3, /HTTP 404: the admin API has a port of its own, see CURLEW_ADMIN_LISTEN$/m],
      [{ CURLEW_ADMIN_URL: closed }, 3, /: Failed to connect .* it was started with CURLEW_ADMIN_TOKEN$/m],
    ]) {
      const result = await runCurlew(['nodes'], { env: { ...environment, ...env } });
      assert.equal(result.code, code, result.stderr);
      assert.match(result.stderr, says);
      assert.equal(result.stderr.trimEnd().split('\n').length, 1);
    }
  });
});

describe('silence', together, () => {
  test('a node that is paused for less than node_timeout_ms goes on as if nothing had been', async (t) => {
    const nodes = await nodesFor(t, { count: 2, timeoutMs: 30_000 });
    const [first, second] = nodes.list;
    const before = idsOf(await nodes.seenBy(first));
    freeze(second.pid);
    await pause(3 * HEARTBEAT_MS);
    thaw(second);
    await nodes.untilAll(2);
    await pause(2 * HEARTBEAT_MS);
    for (const server of nodes.list) {
      assert.deepEqual(idsOf(await nodes.seenBy(server)), before);
      assert.equal(count(server, /taken for dead|takes a new id/), 0);
    }
  });

  test('a node that is paused for longer is dead, and comes back with a new id', async (t) => {
    const nodes = await nodesFor(t);
    const [first, second, third] = nodes.list;
    const old = idOf(await nodes.seenBy(third));
    freeze(third.pid);
    await nodes.untilAll(2, [first, second]);
    thaw(third);
    await third.waitForLog(/^this node takes a new id: /);
    await nodes.untilAll(3);
    const seen = await Promise.all(nodes.list.map((server) => nodes.seenBy(server)));
    assert.deepEqual(idsOf(seen[0]), idsOf(seen[2]));
    assert.deepEqual(idsOf(seen[1]), idsOf(seen[2]));
    assert.notEqual(idOf(seen[2]), old);
    for (const server of [first, second]) assert.equal(count(server, /taken for dead/), 1);
    assert.equal(count(third, /taken for dead/), 0); // the others were not silent: it was
  });

  test('a node lives while anything valid comes from it, of whatever kind and version', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    const peer = await BusPeer.connect(t, nodes);
    await peer.join(HEARTBEAT_MS);
    await nodes.untilSeen(first, 2);
    peer.fallSilent();
    for (const until = Date.now() + 2 * NODE_TIMEOUT_MS; Date.now() < until; await pause(HEARTBEAT_MS / 2)) {
      await peer.say('n', 200);
      await peer.say('n', 201, { version: 9 });
      assert.equal((await nodes.seenBy(first)).nodes.length, 2);
    }
    await nodes.untilSeen(first, 1);
  });

  test('nodes see each other again when Redis was restarted, and nobody has died', async (t) => {
    const nodes = await nodesFor(t);
    const before = idsOf(await nodes.seenBy(nodes.list[0]));
    await nodes.bus.stop();
    for (const server of nodes.list) assert.equal(await untilUp(server, 'DEGRADED'), 'bus');
    await pause(NODE_TIMEOUT_MS); // silence does not count now
    const during = await nodes.seenBy(nodes.list[0]);
    assert.equal(during.fault, 'bus');
    assert.deepEqual(idsOf(during), before);
    await nodes.bus.start();
    for (const server of nodes.list) assert.equal(await untilUp(server, 'OK'), null);
    await pause(2 * HEARTBEAT_MS);
    for (const server of nodes.list) {
      assert.deepEqual(idsOf(await nodes.seenBy(server)), before);
      assert.equal(count(server, /taken for dead|takes a new id/), 0);
      assert.equal(count(server, /^the bus \(redis\) is down/), 1);
      const metrics = await fetchMetrics(server);
      assert.equal(metrics.sum('cluster_outages_total'), 1);
      assert.ok(metrics.sum('cluster_outage_seconds_total') > NODE_TIMEOUT_MS / 1000);
    }
  });

  test('a node that starts while the bus is down serves alone, and joins when it is there', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    await nodes.bus.stop();
    const second = await nodes.add();
    await second.waitForLog(/^the bus \(redis\) is down, this node goes on alone: /);
    assert.equal(await untilUp(second, 'DEGRADED'), 'bus');
    await nodes.bus.start();
    await nodes.untilAll(2, [first, second]);
    assert.equal(await untilUp(second, 'OK'), null);
  });
});

describe('what else speaks on the bus', together, () => {
  test('a release that speaks a version more is understood, and kinds that are not known are skipped', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    const peer = await BusPeer.connect(t, nodes, { versions: [1, 2] });
    await peer.join(HEARTBEAT_MS);
    const { nodes: entries } = await nodes.untilSeen(first, 2);
    assert.equal(entries[1].version, 2);
    assert.equal(entries[1].name, 'peer');
    const answer = await peer.heard.next(({ kind }) => kind === KIND.helloAnswer);
    assert.equal(answer.version, 1);
    assert.deepEqual([answer.lowest, answer.highest], [1, 1]);
    await peer.say('n', 60);
    await peer.say('n', 200);
    await peer.say('n', KIND.heartbeat, { version: 2 });
    await eventually(first, (metrics) =>
      assert.equal(metrics.sum('cluster_messages_dropped_total', { reason: 'skipped' }), 3),
    );
    assert.equal(await untilUp(first, 'OK'), null);
    await peer.leave();
    await nodes.untilSeen(first, 1);
  });

  test('a release without a common version is an error in the log, and the health says so', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    const peer = await BusPeer.connect(t, nodes, { versions: [2, 3] });
    await peer.join(HEARTBEAT_MS);
    const { level } = await first.waitForLog(/^node peer \(test\) speaks versions 2 to 3, this one 1 to 1: /);
    assert.equal(level, 'error');
    assert.equal(await untilUp(first, 'DEGRADED'), 'nodes');
    await peer.leave();
    assert.equal(await untilUp(first, 'OK'), null);
  });

  test('a dead node that speaks is told so in its inbox', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    const peer = await BusPeer.connect(t, nodes);
    await peer.join(HEARTBEAT_MS);
    await nodes.untilSeen(first, 2);
    peer.fallSilent();
    const isOwnDeath = ({ kind, subject }) => kind === KIND.dead && subject === `i:${peer.id}`;
    await peer.heard.next(isOwnDeath);
    await nodes.untilSeen(first, 1);
    await pause(200);
    await peer.join(HEARTBEAT_MS);
    await peer.heard.next(isOwnDeath);
    assert.equal((await nodes.seenBy(first)).nodes.length, 1);
  });

  test('what a dead or departed node says is dropped', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    const hall = 'presence-hall';
    const [dies, leaves, stays] = await Promise.all(
      ['dies', 'leaves', 'stays'].map(async (name) => {
        const peer = await BusPeer.connect(t, nodes, { answers: true });
        await peer.join(HEARTBEAT_MS);
        const event = { app: APP.id, name: `"of ${name}"`, data: '"x"' };
        return Object.assign(peer, {
          event: (channel) => peer.say(`c:${APP.id}:${channel}`, KIND.event, { ...event, channel, published: 1 }),
          userEvent: () =>
            peer.say(`u:${APP.id}:anna`, KIND.event, { ...event, channel: '#server-to-user-anna', published: 1 }),
          change: (version, id) => {
            const change = { changed: version, before: version - 1, added: true, id: `${id} on ${name}`, info: '{}' };
            return peer.say(`c:${APP.id}:${hall}`, KIND.change, { app: APP.id, channel: hall, ...change });
          },
        });
      }),
    );
    await nodes.untilSeen(first, 4);
    const ws = await subscriber(first, t, ['prices', hall], { user: { user_id: 'watcher' } });
    await signin(ws, { id: 'anna' });
    const isOf = (event, user) => (said) => said.event === `pusher_internal:${event}` && said.data.includes(user);
    for (const peer of [dies, leaves]) {
      await peer.event('prices');
      await peer.change(1, 'ghost');
    }
    for (const name of ['dies', 'leaves']) {
      await ws.next(`of ${name}`);
      await ws.next(isOf('member_added', `ghost on ${name}`));
    }
    await leaves.leave();
    dies.fallSilent();
    for (const name of ['leaves', 'dies']) await ws.next(isOf('member_removed', `ghost on ${name}`));
    await pause(5000); // what was said before a bye may come so much later
    await nodes.untilSeen(first, 2);

    const taken = ws.inbox.all.length;
    const dropped = (metrics) => metrics.sum('cluster_messages_dropped_total', { reason: 'sender' });
    const before = dropped(await fetchMetrics(first));
    for (const peer of [dies, leaves]) {
      await peer.say('n', KIND.hello, { lowest: 1, highest: 1, name: 'ghost', address: 'test', last: true });
      await peer.say('n', KIND.heartbeat);
      await peer.event('prices');
      await peer.userEvent();
      await peer.change(2, 'another');
      await peer.change(1, 'another');
      await peer.say(`u:${APP.id}:anna`, KIND.terminate, { app: APP.id, userId: 'anna' });
      await peer.say('n', KIND.bye);
    }
    await eventually(first, (metrics) => assert.equal(dropped(metrics), before + 16));
    // Redis delivers in order.
    await stays.event('prices');
    await stays.userEvent();
    await stays.change(1, 'guest');
    await ws.next('of stays');
    await ws.next('of stays');
    await ws.next(isOf('member_added', 'guest on stays'));
    assert.equal(ws.inbox.all.length, taken + 3);
    assert.equal((await nodes.seenBy(first)).nodes.length, 2);
    assert.equal(count(first, /^node ghost/), 0);
    await stays.leave();
  });

  test('what a node had before it took a new id stays until it answers, for two seconds at most', async (t) => {
    const nodes = await nodesFor(t, { count: 1 });
    const [first] = nodes.list;
    // A peer, and a watcher of a channel in which the peer has anna.
    const peerIn = async (channel) => {
      const peer = await BusPeer.connect(t, nodes, { answers: true });
      await peer.join(HEARTBEAT_MS);
      await nodes.untilSeen(first, 2);
      const watcher = await subscriber(first, t, channel, { user: { user_id: 'watcher' } });
      const change = { app: APP.id, channel, changed: 1, added: true, id: 'anna', info: '{}' };
      await peer.say(`c:${APP.id}:${channel}`, KIND.change, change);
      await watcher.next('pusher_internal:member_added');
      return [peer, watcher];
    };
    const [answers, watcher] = await peerIn('presence-hall');
    await answers.rename();
    await watcher.next('pusher_internal:member_removed');
    assert.ok(idsOf(await nodes.seenBy(first)).includes(answers.id));
    await answers.leave();

    const [silent, waiter] = await peerIn('presence-room');
    silent.answers = false;
    const renamed = performance.now();
    await silent.rename();
    await waiter.next('pusher_internal:member_removed');
    assert.ok(performance.now() - renamed > 1900);
    assert.ok(idsOf(await nodes.seenBy(first)).includes(silent.id)); // its silence is not why
    await silent.leave();
  });

  test('more than 63 others are refused, until some of them have left', async (t) => {
    // The crowd says nothing after its hello, and has to live on; a refusal is told of for as long.
    const nodes = await nodesFor(t, { count: 1, timeoutMs: 20_000 });
    const [first] = nodes.list;
    const peer = await BusPeer.connect(t, nodes);
    const hello = { lowest: 1, highest: 1, name: 'crowd', address: 'test', last: 1 };
    const sender = (i) => i.toString(16).padStart(32, '0');
    for (let i = 1; i <= 64; i++) await peer.say('n', KIND.hello, { ...hello, sender: sender(i) });
    const { level } = await first.waitForLog(/^node crowd \(test\) is refused: 63 others are the most$/);
    assert.equal(level, 'error');
    assert.equal(await untilUp(first, 'DEGRADED'), 'nodes');
    assert.equal((await nodes.untilSeen(first, 64)).nodes.length, 64);
    await peer.say('n', KIND.bye, { sender: sender(1) });
    await nodes.untilSeen(first, 63);
    await peer.say('n', KIND.hello, { ...hello, sender: sender(64) });
    await nodes.untilSeen(first, 64);
    for (let i = 2; i <= 64; i++) await peer.say('n', KIND.bye, { sender: sender(i) });
    await nodes.untilSeen(first, 1);
    assert.equal(await untilUp(first, 'OK'), null);
  });

  test('bytes of all kinds on the bus do no harm', async (t) => {
    const nodes = await nodesFor(t, { count: 2 });
    const peer = await BusPeer.connect(t, nodes, { deaf: true });
    const before = idsOf(await nodes.seenBy(nodes.list[0]));
    const texts = {
      name: 'x',
      address: 'y',
      app: 'app-id',
      channel: 'presence-a',
      data: '"{}"',
      userId: '"u"',
      tags: '{"a":"b"}',
      lowest: 1,
      highest: 1,
      last: 1,
      published: 1,
    };
    let seed = 7;
    const random = (below) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const kinds = [...Array(64).keys()];
    let sent = [];
    for (let i = 0; i < 4000; i++) {
      const sender = (1 + random(100)).toString(16).padStart(32, 'f');
      let bytes = encode({ kind: kinds[random(kinds.length)], sender, ...texts });
      // The sender stays, so that no node is spoken for.
      for (let k = random(6); k > 0; k--) bytes[22 + random(bytes.length - 22)] = random(256);
      if (random(4) === 0) bytes = bytes.subarray(0, random(bytes.length));
      if (random(4) === 0) bytes = Buffer.concat([bytes, Buffer.alloc(random(5000), random(256))]);
      if (random(2) === 0 && bytes.length >= 30) bytes.writeUInt32BE(bytes.length - 30, 2);
      sent.push(peer.send(random(2) === 0 ? 'n' : `i:${before[random(2)]}`, bytes));
      if (sent.length === 100) {
        await Promise.all(sent);
        sent = [];
      }
    }
    await Promise.all(sent);
    for (const server of nodes.list) {
      await server.waitForLog(/^a message on test:curlew1:\S+ was dropped: /);
      await eventually(server, (metrics) =>
        assert.ok(metrics.sum('cluster_messages_dropped_total', { reason: 'malformed' }) > 100),
      );
      assert.equal(count(server, /^a message on \S+ was dropped: /), 1); // once a minute
    }
    await nodes.untilAll(2); // what made itself out to be nodes was silent afterwards
    assert.deepEqual(idsOf(await nodes.seenBy(nodes.list[0])), before);
  });
});
