// Events of cache channels, and keys of publishes that may be repeated, in a Redis Cluster.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, subscribe } from '../lib/client.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { serverFor } from '../lib/server.js';

const PREFIX = 'kept:';
const keyOf = (channel) => `${PREFIX}curlew1:c:app-id:${channel}`;

const configFor = (backend) => ({
  ...backend.config('nodes'),
  cache: { driver: 'redis-cluster', redis: { prefix: PREFIX } },
});

async function serverOn(t, backend) {
  const server = await serverFor(t, { config: configFor(backend) });
  await server.waitForLog(/the store of cache\.driver is up/);
  return server;
}

// The number of keys with this name on the master of its slot.
async function countOf(backend, key) {
  return backend.on(await backend.masterOf(await backend.slotOf(key)), (client) => client.call('EXISTS', key));
}

// The node that is asked may not know yet that another one is the master.
async function untilStored(backend, channel) {
  const count = () => countOf(backend, keyOf(channel)).catch(() => 0);
  for (const deadline = performance.now() + LONG_TIMEOUT_MS; (await count()) !== 1;)
    assert.ok(performance.now() < deadline, `${channel} is not stored`);
}

// What greets a subscriber who is the first on this server.
async function greeting(t, server, channel) {
  const ws = await connect(server, { t });
  await subscribe(ws, channel);
  return JSON.parse((await ws.next(({ event }) => !event.startsWith('pusher_internal:'))).text).event;
}

const post = (server, key, data = 'x') =>
  api(server, 'POST', '/events', {
    body: { name: 'e', channel: 'repeats', data },
    headers: { 'X-Idempotency-Key': key },
  });
const replayed = ({ status, headers }) => [status, headers['idempotency-replayed']];

describe('a store in a Redis Cluster', { timeout: LONG_TIMEOUT_MS, concurrency: true }, () => {
  test('keeps events of all slots beyond the last node', async (t) => {
    const backend = await backendFor(t, 'redis-cluster', { password: 'pw', tls: true });
    const first = await serverOn(t, backend);
    const channels = Array.from({ length: 30 }, (_, i) => `cache-${i}`);
    for (const channel of channels) await publish(first, { name: channel, channel, data: 'x' });
    for (const channel of channels) await untilStored(backend, channel);
    await first.stop();
    const second = await serverOn(t, backend);
    for (const channel of channels) assert.equal(await greeting(t, second, channel), channel);
    assert.equal(await greeting(t, second, 'cache-other'), 'pusher:cache_miss');
  });

  test('knows repeats on all nodes', async (t) => {
    const backend = await backendFor(t, 'redis-cluster');
    const [one, other] = await Promise.all([serverOn(t, backend), serverOn(t, backend)]);
    for (let i = 0; i < 20; i++) {
      assert.deepEqual(replayed(await post(one, `key-${i}`)), [200, undefined]);
      assert.deepEqual(replayed(await post(other, `key-${i}`)), [200, 'true']);
      assert.equal((await post(other, `key-${i}`, 'y')).status, 422);
    }
  });

  test('follows a slot with its keys, and keeps the order', async (t) => {
    const backend = await backendFor(t, 'redis-cluster');
    const server = await serverOn(t, backend);
    const channel = 'cache-a';
    const slot = await backend.slotOf(keyOf(channel));
    let published = 0;
    let ended = false;
    const publisher = async () => {
      while (!ended) await publish(server, { name: `n${++published}`, channel, data: 'x' });
    };
    const publishers = [publisher(), publisher()];
    for (let round = 0; round < 4; round++) {
      const target = ((await backend.masterOf(slot)) + 1) % 3;
      const source = await backend.beginMove(slot, target);
      await backend.moveKeys(slot, source, target);
      // Through the node that is asked, while the slot is not its own.
      assert.deepEqual(replayed(await post(server, `{${keyOf(channel)}}${round}`)), [200, undefined]);
      await backend.endMove(slot, source, target);
    }
    ended = true;
    await Promise.all(publishers);
    await publish(server, { name: 'newest', channel, data: 'x' });
    await server.stop();
    assert.equal(await countOf(backend, keyOf(channel)), 1);
    const next = await serverOn(t, backend);
    assert.equal(await greeting(t, next, channel), 'newest');
    for (const { log } of [server, next])
      assert.ok(!log.all.some(({ message }) => /does not take an event|cache\.driver is down/.test(message)));
  });

  // The store does not answer, so all that is promised is waited for. The bus is another Redis.
  test('is waited for before an event goes to the other nodes', async (t) => {
    const backend = await backendFor(t, 'redis-cluster');
    const bus = (await backendFor(t, 'redis')).config('nodes');
    const { nodes } = backend.config('nodes').adapter.cluster;
    const config = {
      adapter: bus.adapter,
      database: { redis: { ...bus.database.redis, cluster: { nodes } } },
      cache: { driver: 'redis-cluster' },
    };
    const [one, other] = await Promise.all([serverFor(t, { config }), serverFor(t, { config })]);
    for (const server of [one, other]) await server.waitForLog(/the store of cache\.driver is up/);
    const ws = await connect(other, { t });
    await subscribe(ws, 'cache-a');
    backend.freeze();
    const began = performance.now();
    for (const name of ['first', 'second']) await publish(one, { name, channel: 'cache-a', data: 'x' });
    const next = () => ws.next(({ event }) => !event.startsWith('pusher'));
    assert.equal((await next()).event, 'first');
    assert.ok(performance.now() - began > 90, performance.now() - began);
    assert.equal((await next()).event, 'second');
    backend.thaw();
  });

  test('takes what waits when a replica has taken over', async (t) => {
    const backend = await backendFor(t, 'redis-cluster', { replicas: 1, nodeTimeoutMs: 1000 });
    const server = await serverOn(t, backend);
    const channel = 'cache-a';
    await backend.kill(await backend.masterOf(await backend.slotOf(keyOf(channel))));
    await server.waitForLog(/the store of cache\.driver is down/);
    await publish(server, { name: 'late', channel, data: 'x' });
    await untilStored(backend, channel);
    await server.stop();
    assert.equal(await greeting(t, await serverOn(t, backend), channel), 'late');
  });
});
