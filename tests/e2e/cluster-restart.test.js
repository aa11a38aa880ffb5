// Restarts of nodes while clients come back, join, leave and are sent events, and webhooks tell of them: of three nodes
// behind the HAProxy of examples/cluster, one after the other, of one whose socket is systemd's, and by an upgrade.

import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { api } from '../lib/api.js';
import { freePorts, program } from '../lib/backends/daemon.js';
import { subscriber } from '../lib/events.js';
import { TIMEOUT_MS, within } from '../lib/inbox.js';
import { nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { folderWith, start } from '../lib/process.js';
import { APP, BINARY } from '../lib/server.js';
import { WebhookModel } from '../lib/webhook-model.js';
import { webhookReceiver } from '../lib/webhook-receiver.js';

const LAUNCHER = fileURLToPath(new URL('../lib/passed-socket.py', import.meta.url));
const HAPROXY = fileURLToPath(new URL('../../examples/cluster/haproxy.cfg', import.meta.url));
const EVENTS = 'events';
const BALANCED = 'balanced'; // events that go through any node
const PAUSE_MS = 10; // of a publisher: the clients of this test share two processors with the nodes

// HAProxy in front of three ports; resolves to how clients reach it.
async function balancerFor(t, ports) {
  const [port] = await freePorts(1);
  const at = (one) => `127.0.0.1:${one}`;
  const env = { LISTEN: at(port), NODE1: at(ports[0]), NODE2: at(ports[1]), NODE3: at(ports[2]) };
  const { err } = start(t, program('haproxy', 'haproxy'), ['-db', '-f', HAPROXY], { env });
  const balancer = { host: '127.0.0.1', port, url: `http://${at(port)}`, log: err };
  const answers = async () => {
    for (;;) {
      const answer = await fetch(`${balancer.url}/ready`).catch(() => null);
      if (answer?.status === 200) return;
      await pause(20);
    }
  };
  await within(answers(), 'HAProxy to reach a node', TIMEOUT_MS);
  return balancer;
}

// Publishes numbered events through one node, each after the answer to the one before, until the node takes no more:
// `failure` is what came then in place of a success.
class Publisher {
  count = 0;
  failure = null;
  #ended = false;

  constructor(server, name, channel = EVENTS) {
    this.name = name;
    this.done = this.#run(server, channel);
  }

  async #run(server, channel) {
    while (!this.#ended) {
      const body = { name: this.name, channel, data: String(this.count + 1) };
      const answer = await api(server, 'POST', '/events', { body }).catch(({ message }) => ({
        status: 0,
        body: message,
      }));
      if (answer.status !== 200) {
        this.failure = `event ${this.count + 1}: ${answer.status} ${answer.body}`;
        return;
      }
      this.count++;
      await pause(PAUSE_MS);
    }
  }

  end() {
    this.#ended = true;
    return this.done;
  }
}

// A connection to a node that stays, and what it has to get.
async function stayerOn(t, node, publishers, balanced) {
  const ws = await subscriber(node, t, [EVENTS, BALANCED]);
  const before = publishers.map(({ count }) => count);
  const balancedBefore = balanced.count;
  return {
    // Every event of each of these publishers has come once, in order.
    async check() {
      for (const [i, { name, count }] of publishers.entries()) {
        // The one that was under way when the subscription succeeded may have come too early for it.
        if (count > before[i] + 1) await ws.next({ event: name, data: String(count) });
        const numbers = ws.inbox.all.filter(({ event }) => event === name).map(({ data }) => Number(data));
        const [first = 0] = numbers;
        assert.ok(first <= before[i] + 2, `the first event of ${name} is ${first}, after ${before[i]}`);
        assert.deepEqual(
          numbers,
          numbers.map((_, at) => first + at),
        );
      }
      // What goes through any node has come once, in any order.
      for (let number = balancedBefore + 2; number <= balanced.count; number++)
        await ws.next({ channel: BALANCED, data: String(number) });
      const all = ws.inbox.all.filter(({ channel, data }) => channel === BALANCED && data !== undefined);
      assert.equal(new Set(all.map(({ data }) => data)).size, all.length);
      ws.destroy();
    },
  };
}

const WEBHOOKS = { event_types: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'] };
const appWith = ({ url }) => ({ ...APP, webhooks: [{ url, ...WEBHOOKS }] });

// Clients that come back, with models of what they and webhooks are told.
function modelsOf(t, receiver, seed) {
  const channels = Array.from({ length: 3 }, (_, i) => `presence-room-${i}`);
  const model = new PresenceModel(randomFrom(seed), { channels, users: 15 });
  const journal = new WebhookModel(receiver.events);
  t.after(() => model.end());
  const connect = (servers, count) => model.connect(servers, count, { returns: true, watches: EVENTS, journal });
  return { model, journal, connect };
}

// Starts a node with a socket as from systemd: {server, restart}.
async function nodeOfSocket(t, config) {
  const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
  const { child, out, err } = start(t, 'python3', [LAUNCHER, 'tcp', BINARY, 'serve', '--config', file], {
    input: true,
  });
  const line = (inbox, pattern) =>
    inbox.next(Object.assign((text) => pattern.test(text), { label: `a line ${pattern}` }));
  const started = async () => Number((await line(out, /^started/)).split(' ')[1]);
  let pid = await started();
  const [, port] = (await line(err, /listening on/)).match(/:(\d+)$/);
  await line(err, /ready$/);
  const server = { host: '127.0.0.1', port: Number(port), url: `http://127.0.0.1:${port}`, own: () => {} };
  const restart = async () => {
    process.kill(pid, 'SIGTERM');
    assert.equal(await line(out, /^ended/), 'ended 0');
    child.stdin.write('\n');
    pid = await started();
    await line(err, /ready$/);
  };
  return { server, restart };
}

// At the same time, since they wait for most of it.
describe('restarts', { concurrency: true }, () => {
  test('clients, members, events and webhooks come through a rolling restart', async (t) => {
    const receiver = await webhookReceiver(t, { [APP.key]: APP.secret });
    const ports = await freePorts(3);
    const nodes = await nodesFor(t, {
      count: 0,
      server: { apps: [appWith(receiver)], config: { shutdown_grace_period: 3 } },
    });
    const at = (i) => ({ config: { port: ports[i] } });
    let servers = await Promise.all(ports.map((_, i) => nodes.add(at(i))));
    await nodes.untilAll(3);
    const balancer = await balancerFor(t, ports);

    const { model, journal, connect } = modelsOf(t, receiver, 11);
    await connect([balancer], 45);
    await model.change(200);
    await model.settled(1000 * SLOW);

    const balanced = new Publisher(balancer, 'balancer', BALANCED);
    let publishers = servers.map((server, i) => new Publisher(server, `node${i + 1}`));
    for (const [i, leaving] of servers.entries()) {
      const staying = servers.filter((server) => server !== leaving);
      const stayers = await Promise.all(staying.map((server) => stayerOn(t, server, publishers, balanced)));
      const before = publishers.map(({ count }) => count);
      const churn = model.change(300);
      await leaving.stop();
      await publishers[i].done;
      assert.match(publishers[i].failure, /: (0|503) /);
      await balancer.log.next((line) => line.includes(`nodes/node${i + 1} is DOWN`));
      await churn;
      await model.settled(2000 * SLOW);
      await journal.settled();
      await nodes.untilAll(2, staying);

      const coming = nodes.add(at(i));
      await model.change(100);
      servers = servers.with(i, await coming);
      await balancer.log.next((line) => line.includes(`nodes/node${i + 1} is UP`));
      await nodes.untilAll(3, servers);
      await model.change(100);
      await model.settled(1000 * SLOW);
      for (const stayer of stayers) await stayer.check();
      for (const [other, { name, count }] of publishers.entries())
        if (other !== i) assert.ok(count > before[other], `${name} went on`);
      publishers = publishers.with(i, new Publisher(servers[i], `node${i + 1} again`));
    }
    // Through the balancer no publish fails, and none through a node that stays.
    for (const publisher of [balanced, ...publishers]) {
      await publisher.end();
      assert.equal(publisher.failure, null, publisher.name);
    }
    model.fault();
    await journal.settled();

    // Whoever lost a connection was told to come back; who came to a node that ends, too.
    const closes = model.connections.flatMap((connection) => connection.closes);
    assert.ok(closes.length >= 45, `${closes.length} connections were closed`);
    assert.deepEqual(
      closes.filter((why) => !(why >= 4100 && why < 4300) && !String(why).includes('"code":4100')),
      [],
    );
    for (const connection of model.connections) assert.ok(connection.events > 0);
    t.diagnostic(`${receiver.events.all.length} webhooks, ${journal.shortAbsences} absences within the grace`);
  });

  test('clients of a socket of systemd wait for the next process, and no node takes them for gone', async (t) => {
    const receiver = await webhookReceiver(t, { [APP.key]: APP.secret });
    const apps = [appWith(receiver)];
    const nodes = await nodesFor(t, { count: 1, server: { apps } });
    const [other] = nodes.list;
    const config = { workers: 2, metrics: { enabled: false }, app_manager: { driver: 'memory', array: { apps } } };
    const { server, restart } = await nodeOfSocket(t, { ...nodes.config(), ...config });
    await nodes.untilSeen(other, 2);
    const { model, journal, connect } = modelsOf(t, receiver, 12);
    await connect([server, other], 20);
    await model.change(200);
    await model.settled(1000 * SLOW);
    const publisher = new Publisher(other, 'other');
    for (let round = 0; round < 2; round++) {
      const churn = model.change(200);
      await restart();
      await churn;
      await nodes.untilSeen(other, 2);
      await model.settled(2000 * SLOW);
    }
    await publisher.end();
    assert.equal(publisher.failure, null);
    await journal.settled();
    // Each of its clients was told to come back at once, and has.
    const closes = (at) => model.connections.filter((one) => one.server === at).flatMap((one) => one.closes);
    assert.deepEqual(closes(server), Array(40).fill(4200));
    assert.deepEqual(closes(other), []);
    t.diagnostic(`${receiver.events.all.length} webhooks, ${journal.shortAbsences} absences within the grace`);
  });

  test('an upgrade of a node loses nobody and nothing', async (t) => {
    const receiver = await webhookReceiver(t, { [APP.key]: APP.secret });
    const server = { apps: [appWith(receiver)], config: { shutdown_grace_period: 3 } };
    const nodes = await nodesFor(t, { count: 2, server });
    const [upgraded, other] = nodes.list;
    const { model, journal, connect } = modelsOf(t, receiver, 13);
    // Who begins to send webhooks waits a second for the sender before. If it is replaced then, reports may be lost.
    await pause(1000 * SLOW);
    await connect(nodes.list, 20);
    await model.change(200);
    await model.settled(1000 * SLOW);
    const publishers = [new Publisher(other, 'other'), new Publisher(upgraded, 'upgraded', BALANCED)];
    for (let round = 0; round < 2; round++) {
      const churn = model.change(200);
      const { ended } = await upgraded.upgrade();
      await churn;
      let over = false;
      const end = ended().finally(() => (over = true));
      while (!over) {
        await model.change(25);
        await pause(50);
      }
      await end;
      await nodes.untilAll(2);
      await model.settled(2000 * SLOW);
    }
    for (const publisher of publishers) {
      await publisher.end();
      assert.equal(publisher.failure, null, publisher.name);
    }
    await journal.settled();
    const closes = (at) => model.connections.filter((one) => one.server === at).flatMap((one) => one.closes);
    assert.deepEqual(new Set(closes(upgraded)), new Set([4200]));
    assert.deepEqual(closes(other), []);
    t.diagnostic(`${receiver.events.all.length} webhooks, ${journal.shortAbsences} absences within the grace`);
  });
});
