// A network that leaves out every hundredth message between nodes: members, signed-in users, counts and webhooks are
// right within a minute, and nothing is told twice or in the wrong order.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, signin, subscribe, unsubscribe } from '../lib/client.js';
import { untilRight } from '../lib/inbox.js';
import { redisProxy } from '../lib/lossy-redis.js';
import { nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { APP } from '../lib/server.js';
import { webhookReceiver } from '../lib/webhook-receiver.js';

const ROUNDS = 60; // at least
const MOST_ROUNDS = 2000;
// What nodes must have lost: kinds of tests/lib/lossy-redis.js.
const LOSSES = ['change c', 'change u', 'count c', 'event c', 'roster i', 'statePart i'];
const REPAIRED_MS = 60_000 + 5000 * SLOW;
const USERS = Array.from({ length: 20 }, (_, i) => `anna-${i}`);
const ROOMS = Array.from({ length: 6 }, (_, i) => `room-${i}`);
const HALLS = Array.from({ length: 6 }, (_, i) => `presence-hall-${i}`);
const NUMBERS = 'numbers';
const OPPOSITES = { channel_vacated: 'channel_occupied', member_removed: 'member_added' };

const redis = await backendFor({ after }, 'redis');
const receiver = await webhookReceiver({ after }, { [APP.key]: APP.secret });
const random = randomFrom(61);
const some = (list) => list[random(list.length)];

async function nodesBehindProxies(t) {
  const apps = [
    {
      ...APP,
      max_connections: 0,
      enable_watchlist_events: true,
      webhooks: [
        {
          url: receiver.url,
          event_types: [...Object.keys(OPPOSITES), ...Object.values(OPPOSITES), 'subscription_count'],
        },
      ],
    },
  ];
  const nodes = await nodesFor(t, { bus: redis, prefix: 'losses', count: 0, server: { apps } });
  const proxies = await Promise.all([0, 1, 2].map(() => redisProxy(t, redis.address)));
  await Promise.all(proxies.map(({ port }) => nodes.add({ config: { database: { redis: { port } } } })));
  await nodes.untilAll(3);
  return { nodes, proxies };
}

// Clients that sign in as one of a few users, and close their connections.
class Users {
  #here = [];

  async change(t, list) {
    if (this.#here.length < 3 || (random(2) === 0 && this.#here.length < 30)) {
      const user = some(USERS);
      const ws = await connect(some(list), { t });
      await signin(ws, { id: user });
      this.#here.push({ ws, user });
    } else {
      const [{ ws }] = this.#here.splice(random(this.#here.length), 1);
      await ws.close();
    }
  }

  get online() {
    return new Set(this.#here.map(({ user }) => user));
  }
}

// What a connection is told of the users on its watchlist: online and offline follow each other.
class Watcher {
  #told = new Map();

  constructor(ws) {
    this.ws = ws;
  }

  fault(online) {
    this.#take();
    const wrong = USERS.filter((user) => this.#told.get(user) !== (online.has(user) ? 'online' : 'offline'));
    return wrong.length === 0 ? null : `a watcher is wrong about ${wrong}, where ${[...online]} are online`;
  }

  #take() {
    for (const { event, data } of this.ws.inbox.all.splice(0)) {
      if (event !== 'pusher_internal:watchlist_events') continue;
      for (const { name, user_ids } of JSON.parse(data).events)
        for (const user of user_ids) {
          assert.notEqual(this.#told.get(user), name, `${user} is ${name} twice`);
          this.#told.set(user, name);
        }
    }
  }
}

// A client that is subscribed to some rooms, and what it was told of their counts.
class Guest {
  rooms = new Set();
  #told = new Map();

  constructor(ws) {
    this.ws = ws;
  }

  async change() {
    const room = some(ROOMS);
    if (this.rooms.delete(room)) return unsubscribe(this.ws, room);
    await subscribe(this.ws, room);
    return this.rooms.add(room);
  }

  fault(counts) {
    for (const { event, channel, data } of this.ws.inbox.all.splice(0))
      if (event === 'pusher_internal:subscription_count') this.#told.set(channel, JSON.parse(data).subscription_count);
    for (const room of this.rooms)
      if (this.#told.get(room) !== counts.get(room))
        return `a guest of ${room} was told ${this.#told.get(room)} subscriptions of ${counts.get(room)}`;
    return null;
  }
}

// What webhooks were told: of each channel and member that it came and went by turns, of each count a new one.
class Webhooks {
  #there = new Map(); // channel: the users there, and '' while it is occupied
  #counts = new Map();

  // `truth`: channel: users there, of those that are occupied.
  fault(truth, counts) {
    for (const event of receiver.events.all.splice(0)) this.#take(event);
    for (const channel of [...HALLS, ...ROOMS]) {
      const there = [...(this.#there.get(channel) ?? [])].sort();
      const right = truth.has(channel) ? ['', ...truth.get(channel)].sort() : [];
      if (there.join() !== right.join()) return `webhooks were told ${there} in ${channel}, where there are ${right}`;
    }
    const wrong = ROOMS.find((room) => (this.#counts.get(room) ?? 0) !== counts.get(room));
    return wrong && `webhooks were told ${this.#counts.get(wrong)} of ${wrong}, where there are ${counts.get(wrong)}`;
  }

  #take({ name, channel, user_id: user = '', subscription_count: count }) {
    if (name === 'subscription_count') {
      assert.notEqual(this.#counts.get(channel), count, `the count ${count} of ${channel} twice`);
      this.#counts.set(channel, count);
      return;
    }
    if (!this.#there.has(channel)) this.#there.set(channel, new Set());
    const there = this.#there.get(channel);
    const comes = !(name in OPPOSITES);
    assert.equal(there.has(user), !comes, `${name} of ${channel} ${user} twice`);
    if (user !== '') assert.ok(there.has(''), `${name} of ${channel}, which is not occupied`);
    else if (!comes) assert.deepEqual([...there], [''], `${name} of ${channel}, where there are members`);
    if (comes) there.add(user);
    else there.delete(user);
  }
}

// Of each publisher the numbers become higher; those of the own node are all there. Resolves to how many are missing.
async function checkNumbers(nodes, subscribers, sent) {
  let missing = 0;
  for (const [i, ws] of subscribers.entries()) {
    for (const from of [0, 1, 2]) {
      const numbers = ws.numbers.filter(([name]) => name === `node-${from}`).map(([, number]) => number);
      for (const [at, number] of numbers.entries()) assert.ok(at === 0 || number > numbers[at - 1], `${numbers}`);
      if (from === i) assert.equal(numbers.length, sent);
      missing += sent - numbers.length;
    }
  }
  return missing;
}

test('what a lossy network leaves out is repaired within a minute', async (t) => {
  const { nodes, proxies } = await nodesBehindProxies(t);
  const { list } = nodes;
  const model = new PresenceModel(random, { channels: HALLS, users: 40 });
  t.after(() => model.end());
  await model.connect(list, 60);
  const users = new Users();
  const watchers = await Promise.all(
    list.map(async (node, i) => {
      const ws = await connect(node, { t });
      await signin(ws, { id: `watcher-${i}`, watchlist: USERS });
      return new Watcher(ws);
    }),
  );
  const guests = await Promise.all(
    [...list, ...list, ...list].map(async (node) => new Guest(await connect(node, { t }))),
  );
  const subscribers = await Promise.all(
    list.map(async (node) => {
      const ws = await connect(node, { t });
      await subscribe(ws, NUMBERS);
      const numbers = [];
      ws.inbox.push = ({ event, data }) => event.startsWith('node-') && numbers.push([event, Number(data)]);
      return Object.assign(ws, { numbers });
    }),
  );

  for (const proxy of proxies) proxy.dropEvery = 100;
  const wasLost = (kind) => proxies.some(({ dropped }) => dropped[kind] > 0);
  let rounds = 0;
  while (rounds < ROUNDS || !LOSSES.every(wasLost)) {
    assert.ok(rounds++ < MOST_ROUNDS, `of ${LOSSES} some are not lost`);
    await Promise.all([
      model.change(75),
      ...[1, 2, 3].map(() => users.change(t, list)),
      ...[0, 1, 2].map((i) => some(guests.filter((_, k) => k % 3 === i)).change()),
      ...list.map(async (node, i) => {
        for (let k = 2; k >= 0; k--)
          await publish(node, { name: `node-${i}`, channel: NUMBERS, data: `${rounds * 3 - k}` });
      }),
    ]);
  }

  const counts = new Map(ROOMS.map((room) => [room, guests.filter(({ rooms }) => rooms.has(room)).length]));
  const truth = new Map();
  for (const [room, count] of counts) if (count !== 0) truth.set(room, new Set());
  for (const { channel, user } of model.members)
    if (channel !== null) truth.set(channel, (truth.get(channel) ?? new Set()).add(user));
  const webhooks = new Webhooks();
  const checks = {
    presence: () => model.fault(),
    users: () => watchers.map((watcher) => watcher.fault(users.online)).find((fault) => fault !== null) ?? null,
    counts: () => guests.map((guest) => guest.fault(counts)).find((fault) => fault !== null) ?? null,
    webhooks: () => webhooks.fault(truth, counts) ?? null,
  };
  const begin = performance.now();
  await Promise.all(
    Object.entries(checks).map(async ([what, check]) => {
      await untilRight(check, `${what} to be right`, REPAIRED_MS);
      t.diagnostic(`${what}: right after ${Math.round(performance.now() - begin)} ms`);
    }),
  );
  for (const proxy of proxies) proxy.dropEvery = 0;

  for (const node of list)
    for (const room of ROOMS) {
      const { json } = await api(node, 'GET', `/channels/${room}`, { query: { info: 'subscription_count' } });
      assert.equal(json.subscription_count ?? 0, counts.get(room));
    }
  const missing = await checkNumbers(nodes, subscribers, 3 * rounds);
  const dropped = {};
  for (const proxy of proxies)
    for (const [kind, count] of Object.entries(proxy.dropped)) dropped[kind] = (dropped[kind] ?? 0) + count;
  t.diagnostic(`left out: ${JSON.stringify(dropped)}; ${missing} events are missing`);
});
