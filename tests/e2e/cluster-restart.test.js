// A rolling restart: three nodes behind the HAProxy of examples/cluster end and start one after the other, while
// clients come back, join, leave and are sent events, and webhooks tell of them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { api } from '../lib/api.js';
import { freePorts, program } from '../lib/backends/daemon.js';
import { subscriber } from '../lib/events.js';
import { TIMEOUT_MS, within } from '../lib/inbox.js';
import { nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { start } from '../lib/process.js';
import { APP } from '../lib/server.js';
import { WebhookModel } from '../lib/webhook-model.js';
import { webhookReceiver } from '../lib/webhook-receiver.js';

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
        if (count > before[i]) await ws.next({ event: name, data: String(count) });
        const numbers = ws.inbox.all.filter(({ event }) => event === name).map(({ data }) => Number(data));
        const [first = 0] = numbers;
        // The one that was under way when the subscription succeeded may have come too early for it.
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

test('clients, members, events and webhooks come through a rolling restart', async (t) => {
  const receiver = await webhookReceiver(t, { [APP.key]: APP.secret });
  const webhook = { event_types: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'] };
  const apps = [{ ...APP, webhooks: [{ url: receiver.url, ...webhook }] }];
  const ports = await freePorts(3);
  const nodes = await nodesFor(t, { count: 0, server: { apps, config: { shutdown_grace_period: 3 } } });
  const at = (i) => ({ config: { port: ports[i] } });
  let servers = await Promise.all(ports.map((_, i) => nodes.add(at(i))));
  await nodes.untilAll(3);
  const balancer = await balancerFor(t, ports);

  const channels = Array.from({ length: 3 }, (_, i) => `presence-room-${i}`);
  const model = new PresenceModel(randomFrom(11), { channels, users: 15 });
  const journal = new WebhookModel(receiver.events);
  t.after(() => model.end());
  await model.connect([balancer], 45, { returns: true, watches: EVENTS, journal });
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
