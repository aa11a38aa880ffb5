// Presence of several nodes: whatever fails, every connection is told a list and changes that fit it, and in the end
// who is there on all nodes together.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, join, subscribe, subscribeRefused, unsubscribe } from '../lib/client.js';
import { decode, KIND } from '../lib/cluster-message.js';
import { redisProxy } from '../lib/lossy-redis.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { RedisClient } from '../lib/redis-client.js';
import { APP, RELEASE_BINARY, serverFor } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';
import { freeze } from '../lib/stopped.js';

// A promise of the docs, for builds with sanitizers on a busy machine.
const SLOW = 5;
const NODE_TIMEOUT_MS = 3000;

const redis = await backendFor({ after }, 'redis');

// Starts nodes that see each other; with `proxies` each one has a proxy to Redis.
async function startNodes(
  t,
  name,
  { count = 3, proxies = false, nodeTimeoutMs = NODE_TIMEOUT_MS, binary, apps, config = {} } = {},
) {
  const nodes = await Promise.all(
    Array.from({ length: count }, async () => {
      const proxy = proxies ? await redisProxy(t, redis.address) : null;
      const { adapter, database } = redis.config(name);
      if (proxy) database.redis.port = proxy.port;
      const cluster_health = { heartbeat_interval_ms: 500, node_timeout_ms: nodeTimeoutMs };
      const server = await serverFor(t, {
        ...(binary && { binary }),
        apps: apps ?? [{ ...APP, max_connections: 100_000 }],
        config: {
          ...config,
          database,
          adapter: { ...adapter, redis: { ...adapter.redis, ...config.adapter?.redis }, cluster_health },
        },
      });
      return Object.assign(server, { proxy });
    }),
  );
  for (const node of nodes) for (let others = 1; others < count; others++) await node.waitForLog(untaken(/ is there$/));
  return nodes;
}

// Each line of the log once.
function untaken(pattern) {
  const taken = new WeakSet();
  return (line) => {
    if (taken.has(line) || line.seen || !pattern.test(line.message)) return false;
    line.seen = true;
    taken.add(line);
    return true;
  };
}

async function ask(server, path, query) {
  const answer = await api(server, 'GET', `/channels${path && `/${path}`}`, { query });
  assert.equal(answer.status, 200, answer.body);
  return answer.json;
}

// Resolves when each node says that the channel has so many members.
async function membersOn(nodes, channel, count) {
  for (const node of nodes) while ((await ask(node, `${channel}/users`)).users.length !== count);
}

async function modelOf(nodes, seed, count, { channels = 6, users = 40 } = {}) {
  const names = Array.from({ length: channels }, (_, i) => `presence-room-${i}`);
  const model = new PresenceModel(randomFrom(seed), { channels: names, users });
  await model.connect(nodes, count);
  return model;
}

test('users on several nodes join and leave, and everybody knows it a second later', async (t) => {
  const nodes = await startNodes(t, 'spread');
  const model = await modelOf(nodes, 1, 150);
  for (let round = 0; round < 4; round++) {
    await model.change(1500);
    await model.settled(1000 * SLOW);
  }
});

test('every node answers for all about the members of a channel and its cached event', async (t) => {
  const nodes = await startNodes(t, 'answers');
  const [one, two, three] = nodes;
  await Promise.all(
    [one, two, two].map(async (node, i) => join(await connect(node), 'presence-hall', { user_id: `u${i}` })),
  );
  const users = await ask(three, 'presence-hall/users');
  assert.deepEqual(users.users.map(({ id }) => id).sort(), ['u0', 'u1', 'u2']);
  for (const node of nodes)
    assert.deepEqual(await ask(node, 'presence-hall', { info: 'user_count' }), { occupied: true, user_count: 3 });
  await subscribe(await connect(one), 'cache-news');
  await publish(one, { name: 'news', channel: 'cache-news', data: 'fresh' });
  const cached = await ask(three, 'cache-news', { info: 'cache' });
  assert.equal(cached.cache.data, 'fresh');
  assert.deepEqual(await ask(three, 'presence-empty/users'), { users: [] });
});

test('a user on two nodes has the user_info with which it came first, and nodes that come later agree', async (t) => {
  const nodes = await startNodes(t, 'user-info', { count: 4 });
  const [one, two, three, four] = nodes;
  const joinOn = async (node, user, hall = 'presence-hall') => {
    const ws = await connect(node, { t });
    return { ws, ...(await join(ws, hall, { user_id: user, user_info: { of: node.port } })) };
  };
  const first = await joinOn(one, 'anna');
  for (const node of [two, three]) assert.deepEqual((await joinOn(node, 'anna')).hash.anna, { of: one.port });
  first.ws.destroy();
  assert.deepEqual((await joinOn(four, 'ben')).hash.anna, { of: one.port });

  // Either node may be the first, and does not know of the other one's.
  const users = Array.from({ length: 10 }, (_, i) => `twin-${i}`);
  for (let i = 0; i < 10; i++) {
    const hall = `presence-twins-${i}`;
    await Promise.all(users.flatMap((user) => [joinOn(one, user, hall), joinOn(two, user, hall)]));
    await membersOn([one, two], hall, users.length);
    const [told, toldElsewhere] = await Promise.all([joinOn(three, 'ben', hall), joinOn(four, 'ben', hall)]);
    for (const user of users) assert.deepEqual(told.hash[user], toldElsewhere.hash[user], `${user} in ${hall}`);
  }
});

test('a subscriber waits half a second for a node that stands still, and learns its members later', async (t) => {
  const nodeTimeoutMs = 60_000;
  const nodes = await startNodes(t, 'still', { count: 2, nodeTimeoutMs });
  const held = await connect(nodes[1], { t });
  await join(held, 'presence-still', { user_id: 'held' });
  const ws = await connect(nodes[0], { t });
  freeze(nodes[1].pid);
  const began = Date.now();
  const { ids } = await join(ws, 'presence-still', { user_id: 'here' });
  const waited = Date.now() - began;
  process.kill(nodes[1].pid, 'SIGCONT');
  assert.deepEqual(ids, ['here']);
  assert.ok(waited >= 450 && waited < nodeTimeoutMs / 2, `it waited ${waited} ms`);
  assert.equal(JSON.parse((await ws.next('pusher_internal:member_added')).data).user_id, 'held');
});

test('lists and counts of channels are those of all nodes, and say so if one does not answer', async (t) => {
  const nodes = await startNodes(t, 'lists', { config: { adapter: { redis: { requests_timeout: 1000 } } } });
  const [one, two, three] = nodes;
  const info = { info: 'subscription_count' };
  await Promise.all([one, one, two].map(async (node) => subscribe(await connect(node), 'room')));
  await join(await connect(two), 'presence-hall', { user_id: 'u' });
  await join(await connect(three), 'presence-hall', { user_id: 'v' });
  for (const node of nodes) {
    assert.deepEqual(await ask(node, 'room', info), { occupied: true, subscription_count: 3 });
    assert.deepEqual(await ask(node, 'presence-hall', info), { occupied: true, subscription_count: 2 });
    assert.deepEqual(await ask(node, 'elsewhere'), { occupied: false });
    assert.deepEqual(await ask(node, '', info), {
      channels: { 'presence-hall': { subscription_count: 2 }, room: { subscription_count: 3 } },
    });
    assert.deepEqual(await ask(node, '', { filter_by_prefix: 'presence-', info: 'user_count' }), {
      channels: { 'presence-hall': { user_count: 2 } },
    });
  }
  for (const node of [one, two]) {
    const ws = await connect(node);
    await Promise.all(Array.from({ length: 400 }, (_, i) => subscribe(ws, `many-${node === one ? i : i + 200}`)));
  }
  const { channels } = await ask(three, '', { filter_by_prefix: 'many-', ...info });
  assert.equal(Object.keys(channels).length, 600);
  for (let i = 0; i < 600; i++)
    assert.equal(channels[`many-${i}`].subscription_count, i >= 200 && i < 400 ? 2 : 1, `many-${i}`);
  freeze(two.pid);
  const partial = await ask(three, 'room', info).finally(() => two.signal('SIGCONT'));
  assert.deepEqual(partial, { occupied: true, subscription_count: 2, subscription_count_complete: false });
});

test('connections are those of all nodes, with a limit and without, and the answer says if one is missing', async (t) => {
  const apps = [
    { ...APP, max_connections: 0 },
    { id: 'unused', key: 'unused-key', secret: 'unused-secret' },
  ];
  const config = { adapter: { redis: { requests_timeout: 1000 } } };
  const nodes = await startNodes(t, 'connections', { apps, config });
  const connections = async (node, app) => (await api(node, 'GET', '/connections', app && { app })).json;
  for (const node of [nodes[0], nodes[1], nodes[1]]) await connect(node);
  for (const node of nodes) {
    assert.deepEqual(await connections(node), { connections: 3 });
    assert.deepEqual(await connections(node, apps[1]), { connections: 0 });
  }
  freeze(nodes[1].pid);
  const partial = await connections(nodes[2]).finally(() => nodes[1].signal('SIGCONT'));
  assert.deepEqual(partial, { connections: 1, connections_complete: false });
});

test('a publish is answered with the counts of all nodes', async (t) => {
  const nodes = await startNodes(t, 'publish-info', { config: { adapter: { redis: { requests_timeout: 1000 } } } });
  const [one, two, three] = nodes;
  const hall = 'presence-hall';
  const info = 'subscription_count,user_count';
  const ws = [await connect(one), await connect(one), await connect(two)];
  await Promise.all(ws.map((client) => subscribe(client, 'room')));
  await Promise.all(ws.map((client, i) => join(client, hall, { user_id: `u${i % 2}` })));
  const room = { subscription_count: 3 };
  for (const node of nodes) {
    const channels = { room, [hall]: { subscription_count: 3, user_count: 2 }, nobody: { subscription_count: 0 } };
    const event = { name: 'e', channels: Object.keys(channels), data: '', info };
    assert.deepEqual(await publish(node, event), { channels });
    const batch = [{ channel: 'room' }, { channel: 'room', info }, { channel: hall, info: 'user_count' }].concat(
      { channel: 'room', info },
      { channel: hall },
    );
    const { json } = await api(node, 'POST', '/batch_events', {
      body: { batch: batch.map((item) => ({ name: 'e', data: '', ...item })) },
    });
    assert.deepEqual(json, { batch: [{}, room, { user_count: 2 }, room, {}] });
  }
  const event = { name: 'last', channel: 'room', data: '', info };
  const options = { headers: { 'X-Idempotency-Key': 'once' } };
  freeze(two.pid);
  const partial = await publish(three, event, options).finally(() => two.signal('SIGCONT'));
  assert.deepEqual(partial, { channels: { room: { subscription_count: 2 } }, subscription_count_complete: false });
  assert.deepEqual(await publish(three, event, options), partial); // a repeat
  await ws[0].next(({ event: name }) => name === 'last');
});

test('a publish whose client goes away before the counts are there is not repeated', async (t) => {
  const nodes = await startNodes(t, 'publish-gone', {
    count: 2,
    config: { adapter: { redis: { requests_timeout: 1000 } } },
  });
  const ws = await connect(nodes[0]);
  await subscribe(ws, 'room');
  const body = JSON.stringify({ name: 'once', channel: 'room', data: '', info: 'subscription_count' });
  const headers = { 'X-Idempotency-Key': 'gone' };
  freeze(nodes[1].pid);
  const path = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body });
  const sent = http.request(nodes[0].url + path, { method: 'POST', headers }).on('error', () => {});
  sent.end(body);
  await ws.next(({ event }) => event === 'once');
  sent.socket.resetAndDestroy();
  const repeat = await api(nodes[0], 'POST', '/events', { body, headers }).finally(() => nodes[1].signal('SIGCONT'));
  assert.equal(repeat.headers['idempotency-replayed'], 'true', repeat.body);
  assert.deepEqual(repeat.json.channels, { room: { subscription_count: 1 } });
  await publish(nodes[0], { name: 'end', channel: 'room', data: '' });
  assert.equal((await ws.next()).event, 'end');
});

test('a presence channel that is full on all nodes together takes nobody more', async (t) => {
  const nodes = await startNodes(t, 'full', { apps: [{ ...APP, max_presence_members_per_channel: 3 }] });
  const members = [];
  for (let i = 0; i < 3; i++) {
    const ws = await connect(nodes[i % 2]);
    await join(ws, 'presence-full', { user_id: `u${i}` });
    members.push(ws);
    // What has joined is known everywhere before the next one comes.
    await membersOn(nodes, 'presence-full', i + 1);
  }
  for (const node of nodes) {
    const user = { user_id: 'more' };
    await subscribeRefused(await connect(node), 'presence-full', { type: 'LimitReached', status: 4004 }, { user });
    // A user who is a member already comes in again.
    await join(await connect(node), 'presence-full', { user_id: 'u0' });
  }
  members[1].destroy();
  await membersOn(nodes, 'presence-full', 2);
  await join(await connect(nodes[2]), 'presence-full', { user_id: 'more' });
});

const isCount = (count) =>
  Object.assign(
    ({ event, data }) => /subscription_count$/.test(event) && JSON.parse(data).subscription_count === count,
    {
      label: `the count ${count}`,
    },
  );

test('subscription counts are those of all nodes, also for a node that comes to a channel later', async (t) => {
  // Nobody listens there: an app with such a webhook has counts.
  const apps = [{ ...APP, webhooks: [{ url: 'http://127.0.0.1:9/', event_types: ['subscription_count'] }] }];
  const [one, two] = await startNodes(t, 'counts', { count: 2, apps });
  const first = await connect(one);
  await subscribe(first, 'room');
  await first.next(isCount(1));
  const second = await connect(two);
  await subscribe(second, 'room');
  await Promise.all([first, second].map((ws) => ws.next(isCount(2))));
  first.destroy();
  await second.next(isCount(1));
});

test('a count that changes all the time is told to other nodes once a second', async (t) => {
  const apps = [{ ...APP, webhooks: [{ url: 'http://127.0.0.1:9/', event_types: ['subscription_count'] }] }];
  const [one, two] = await startNodes(t, 'rate', { count: 2, apps });
  const listener = await RedisClient.connect({ ...redis.address, encoding: 'latin1' });
  t.after(() => listener.close());
  listener.subscribe(`${redis.config('rate').adapter.redis.prefix}curlew1:c:${APP.id}:busy`);
  await listener.pushed.next(([kind]) => kind === 'subscribe');
  const other = await connect(two, { t });
  await subscribe(other, 'busy');
  const began = Date.now();
  for (let i = 0; i < 30; i++) await subscribe(await connect(one, { t }), 'busy');
  await other.next(isCount(31));
  const seconds = (Date.now() - began) / 1000;
  const counts = listener.pushed.waiting
    .map(([, , text]) => decode(Buffer.from(text, 'latin1')))
    .filter(({ kind }) => kind === KIND.count);
  assert.ok(counts.length > 0 && counts.length < 3 + seconds, `${counts.length} messages in ${seconds} s`);
});

test('a node that dies takes its members with it, once', async (t) => {
  const nodes = await startNodes(t, 'crash');
  const model = await modelOf(nodes, 2, 60);
  await model.change(400);
  await model.settled(1000 * SLOW);
  model.lose(nodes[2]);
  await nodes[2].kill();
  await model.settled((NODE_TIMEOUT_MS + 1000) * SLOW);
});

test('a partition that is noticed is healed without ghosts and doubles', async (t) => {
  const nodes = await startNodes(t, 'partition', { proxies: true });
  const model = await modelOf(nodes, 6, 60);
  await model.change(400);
  const since = nodes[1].log.all.length;
  nodes[1].proxy.hold({ in: true, out: true });
  await nodes[1].waitForLog(/ is down, /, { since });
  await model.change(400);
  nodes[1].proxy.hold({ in: false, out: false });
  await model.settled(3000 * SLOW);
});

test('partitions, delays and a killed subscriber leave no ghosts and no doubles', async (t) => {
  const nodes = await startNodes(t, 'network', { proxies: true });
  const model = await modelOf(nodes, 4, 60);
  const client = await RedisClient.connect(redis.address);
  t.after(() => client.close());
  const repaired = 3000 * SLOW;
  for (const held of [{ in: true, out: true }, { in: true }, { out: true }]) {
    nodes[1].proxy.hold(held);
    await model.change(300, { wait: false });
    await new Promise((resolve) => setTimeout(resolve, 500)); // a partition has a length
    nodes[1].proxy.hold({ in: false, out: false });
    await model.change(100);
    await model.settled(repaired);
  }
  nodes[2].proxy.delayMs = 500;
  await model.change(500);
  await model.settled(repaired);
  nodes[2].proxy.delayMs = 0;
  await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
  await model.change(500);
  await model.settled(repaired);
});

test('the message system goes and comes back: clients are told the difference', async (t) => {
  const nodes = await startNodes(t, 'outage', { proxies: true });
  const model = await modelOf(nodes, 5, 60);
  await model.change(400);
  await model.settled(1000 * SLOW);
  const since = nodes.map((node) => node.log.all.length);
  for (const { proxy } of nodes) proxy.refuse(true);
  await Promise.all(nodes.map((node, i) => node.waitForLog(/ is down, /, { since: since[i] })));
  await model.change(400);
  for (const { proxy } of nodes) proxy.refuse(false);
  await model.settled(3000 * SLOW);
});

test('no event is missed that is published when a subscription has succeeded', async (t) => {
  const nodes = await startNodes(t, 'at-once', { count: 2, binary: RELEASE_BINARY });
  const rounds = 10_000;
  const lanes = 40;
  const lane = async (number) => {
    const ws = await connect(nodes[number % 2]);
    for (let round = number; round < rounds; round += lanes) {
      const channel = `at-once-${round}`;
      await subscribe(ws, channel);
      await publish(nodes[(number + 1) % 2], { name: 'now', channel, data: String(round) });
      const event = await ws.next({ channel, event: 'now' });
      assert.equal(event.data, String(round));
      ws.inbox.all.length = ws.frames.all.length = ws.frames.waiting.length = 0;
      if (round >= 10 * lanes) unsubscribe(ws, `at-once-${round - 10 * lanes}`);
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
});
