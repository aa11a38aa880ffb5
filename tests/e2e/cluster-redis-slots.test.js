// Sharded channels whose slot moves while events flow: the order of each publisher is kept, and none comes twice.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { backendFor } from '../lib/backends/index.js';
import { startBus } from '../lib/bus-shell.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { redisProxy } from '../lib/lossy-redis.js';
import { RedisClient } from '../lib/redis-client.js';

// The channel whose slot moves between the masters 0 and 1, and another one, which moves between 2 and 3.
const subjectOn = async (cluster, master) => {
  for (let i = 0; ; i++)
    if ((await cluster.masterOf(await cluster.slotOf(`test:${master}-${i}`))) === master) return `test:${master}-${i}`;
};

// A Redis Cluster of four masters, each of which clients reach through a proxy; and buses on it.
async function rigFor(t, subscribers) {
  const targets = Array.from({ length: 4 }, () => ({}));
  const proxies = await Promise.all(targets.map((target) => redisProxy(t, target)));
  const announced = proxies.map(({ port }) => port);
  const cluster = await backendFor(t, 'redis-cluster', { masters: 4, announced });
  for (const [node, port] of cluster.ports.entries()) targets[node].port = port;
  const { adapter, ...rest } = cluster.config('test');
  const config = { ...rest, adapter: { ...adapter, cluster: { ...adapter.cluster, use_sharded_pubsub: true } } };
  const start = async () => {
    const bus = startBus(t, config);
    await bus.told('up');
    return bus;
  };
  const publisher = await start();
  const buses = await Promise.all(Array.from({ length: subscribers }, start));
  const subjects = [await subjectOn(cluster, 0), await subjectOn(cluster, 2)];
  for (const bus of buses) for (const subject of subjects) await bus.ask(`subscribe ${subject}`, `in_force ${subject}`);
  return { cluster, proxies, publisher, buses, subjects };
}

// Publishes on both channels again and again until it is ended.
function trafficOf({ publisher, buses, subjects }) {
  const published = [0, 0];
  let ended = false;
  const publish = async (at) => {
    published[at] += 1;
    assert.equal(await publisher.ask(`publish ${subjects[at]} ${published[at]}`, 'published'), 'yes');
  };
  const running = (async () => {
    for (; !ended; await pause(1)) for (const at of subjects.keys()) await publish(at);
  })();
  const linesOf = (bus, at, word) =>
    bus.lines.filter((line) => line.startsWith(`${word} ${subjects[at]}`)).map((line) => line.split(' ')[2]);
  const reach = async (at, number) => {
    for (const bus of buses) while (Number(await bus.told(`message ${subjects[at]}`)) < number);
  };
  return {
    // Resolves when each subscriber has heard something that is published from now on, on these channels.
    async flows(...channels) {
      const next = published.map((number) => number + 1);
      for (const at of channels.length > 0 ? channels : subjects.keys()) await reach(at, next[at]);
    },
    // Resolves when so many more messages are published on a channel.
    async grows(at, count) {
      for (const until = published[at] + count; published[at] < until;) await pause(1);
    },
    // Ends it; returns what each subscriber has heard on each channel.
    async end() {
      ended = true;
      await running;
      for (const at of subjects.keys()) {
        await publish(at);
        await reach(at, published[at]);
      }
      return buses.map((bus) => subjects.map((_, at) => linesOf(bus, at, 'message').map(Number)));
    },
  };
}

// Moves slots as administrators do, {subject, target} each, at the same time: in the end all masters are told.
async function move(cluster, moves, meanwhile = async () => {}) {
  const begun = [];
  for (const { subject, target } of moves) {
    const slot = await cluster.slotOf(subject);
    begun.push({ slot, target, source: await cluster.beginMove(slot, target) });
  }
  await meanwhile();
  const tell = (node) =>
    cluster.on(node, async (client) => {
      for (const { slot, target } of begun) await client.call('CLUSTER', 'SETSLOT', slot, 'NODE', cluster.ids[target]);
    });
  const targets = begun.map(({ target }) => target);
  for (const node of targets) await tell(node);
  await Promise.all([...cluster.ports.keys()].filter((node) => !targets.includes(node)).map(tell));
}

// A client of a master that hears what the master takes of a sharded channel. `last()` resolves to the number of the
// last message when the channel has left the master.
async function witnessOf(t, cluster, master, subject) {
  const client = await RedisClient.connect({ ...cluster.address, port: cluster.ports[master] });
  t.after(() => client.close());
  client.subscribeSharded(subject);
  await client.pushed.next(([kind]) => kind === 'ssubscribe');
  return {
    async last() {
      const heard = await client.pushed.through(([kind]) => kind === 'sunsubscribe');
      return Number(heard.at(-2)[2]);
    },
  };
}

// The numbers came in order, each once at most, and nothing is missing before or behind those that came first after a
// move.
function checkNumbers(numbers, resumed) {
  for (const [i, number] of numbers.entries()) {
    if (i === 0 || number === numbers[i - 1] + 1) continue;
    assert.ok(number > numbers[i - 1], `${number} after ${numbers[i - 1]}`);
    assert.ok(resumed.includes(number), `${number} after ${numbers[i - 1]}, and not one of ${resumed}`);
  }
  for (const number of resumed) assert.ok(numbers.includes(number), `${number} is missing`);
}

describe('slots of a Redis Cluster move while events flow', { timeout: LONG_TIMEOUT_MS }, () => {
  // What the former master says is held up, so that messages are on their way to it when publisher and subscribers
  // learn of the move: from another master, which loses a slot, too. It takes some of these messages, whose subscribers
  // it has lost, and refuses the others, which have to go before what is published afterwards.
  test('what the former master refuses goes before what comes now', async (t) => {
    const rig = await rigFor(t, 2);
    const { cluster, proxies, publisher, buses, subjects } = rig;
    const traffic = trafficOf(rig);
    const resumed = [];
    for (let round = 0; round < 4; round++) {
      const [source, target] = [round % 2, 1 - (round % 2)];
      const moves = [
        { subject: subjects[0], target },
        { subject: subjects[1], target: target + 2 },
      ];
      const witness = await witnessOf(t, cluster, source, subjects[0]);
      await move(cluster, moves, async () => {
        await traffic.flows();
        proxies[source].hold({ in: true });
        await traffic.grows(0, 20);
      });
      await traffic.flows(1);
      for (const bus of buses) await bus.told(`in_force ${subjects[0]}`);
      await traffic.grows(0, 20);
      resumed.push((await witness.last()) + 1);
      proxies[source].hold({ in: false });
      await traffic.flows();
    }
    for (const [numbers] of await traffic.end()) checkNumbers(numbers, resumed);
    for (const bus of [publisher, ...buses]) assert.ok(!bus.lines.some((line) => line.startsWith('down')));
    await Promise.all([publisher, ...buses].map((bus) => bus.stop()));
  });
  // The master says by itself that it has dropped a subject, while a command about it is on its way there.
  test('commands that meet a slot on the move break no connection', async (t) => {
    const rig = await rigFor(t, 2);
    const { cluster, proxies, publisher, buses, subjects } = rig;
    const [subject] = subjects;
    for (let round = 0; round < 4; round++) {
      const [source, target] = [round % 2, 1 - (round % 2)];
      proxies[source].hold({ out: true });
      buses[0].send(`unsubscribe ${subject}`);
      buses[1].send(`unsubscribe ${subject}`);
      buses[1].send(`subscribe ${subject}.${round}`);
      for (const bus of buses) await bus.state();
      await move(cluster, [{ subject, target }]);
      proxies[source].hold({ out: false });
      for (const bus of buses) await bus.ask(`subscribe ${subject}`, `in_force ${subject}`);
      await publisher.ask(`publish ${subject} ${round}`, 'published');
      for (const bus of buses) assert.equal(await bus.told(`message ${subject}`), String(round));
    }
    for (const bus of [publisher, ...buses]) assert.ok(!bus.lines.some((line) => line.startsWith('down')));
    await Promise.all([publisher, ...buses].map((bus) => bus.stop()));
  });
  // What the master said of the loss arrives when the slot is there again, and subscribed to anew.
  test('a slot that comes back before its loss is heard of breaks no connection', async (t) => {
    const rig = await rigFor(t, 2);
    const { cluster, proxies, publisher, buses, subjects } = rig;
    proxies[0].hold({ in: true });
    for (const target of [1, 0]) {
      await move(cluster, [
        { subject: subjects[0], target },
        { subject: subjects[1], target: target + 2 },
      ]);
      for (const bus of buses) await bus.told(`in_force ${subjects[1]}`);
    }
    for (const bus of buses) await bus.told(`in_force ${subjects[0]}`);
    proxies[0].hold({ in: false });
    for (const bus of buses) await bus.told(`in_force ${subjects[0]}`);
    for (let heard = false; !heard;) {
      await publisher.ask(`publish ${subjects[0]} hello`, 'published');
      const told = buses.map((bus) => bus.told(`message ${subjects[0]}`, 1000));
      heard = await Promise.all(told).catch(() => false);
    }
    for (const bus of [publisher, ...buses]) assert.ok(!bus.lines.some((line) => line.startsWith('down')));
    await Promise.all([publisher, ...buses].map((bus) => bus.stop()));
  });
});
