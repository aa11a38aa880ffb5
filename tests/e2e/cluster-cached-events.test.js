// Events of cache channels in Redis: they outlive the nodes.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, subscribe } from '../lib/client.js';
import { decode, encode } from '../lib/cluster-message.js';
import { subscriber } from '../lib/events.js';
import { TIMEOUT_MS } from '../lib/inbox.js';
import { fetchMetrics } from '../lib/metrics.js';
import { RedisClient } from '../lib/redis-client.js';
import { serverFor } from '../lib/server.js';

const PREFIX = 'kept:';
const keyOf = (channel) => `${PREFIX}curlew1:c:app-id:${channel}`;

// Two servers may be one after the other: what one keeps is not in the memory of the next.
function configFor(backend, { cache = {}, ...more } = {}) {
  const config = backend.config('nodes');
  return { ...config, cache: { driver: 'redis', redis: { prefix: PREFIX, ...cache } }, ...more };
}

async function clientOf(t, backend) {
  const client = await RedisClient.connect(backend.address);
  t.after(() => client.close());
  return client;
}

async function untilStored(client, channel) {
  for (const deadline = performance.now() + TIMEOUT_MS; ;) {
    if ((await client.call('EXISTS', keyOf(channel))) === 1) return;
    assert.ok(performance.now() < deadline, `${channel} is not stored`);
  }
}

// What greets a subscriber who is the first on this server.
async function greeting(t, server, channel) {
  const ws = await connect(server, { t });
  await subscribe(ws, channel);
  return JSON.parse((await ws.next(({ event }) => !event.startsWith('pusher_internal:'))).text);
}

describe('events of cache channels', { concurrency: true }, () => {
  test('outlive the last node, with the time that they have left', async (t) => {
    const backend = await backendFor(t, 'redis');
    const config = configFor(backend, { channel_limits: { cache_ttl: 1000 } });
    const client = await clientOf(t, backend);
    const first = await serverFor(t, { config });
    for (const name of ['older', 'newest']) await publish(first, { name, channel: 'cache-a', data: `{"n": 1.50}` });
    await publish(first, { name: 'plain', channel: 'other', data: 'x' });
    await untilStored(client, 'cache-a');
    await first.stop();
    assert.deepEqual(await client.call('KEYS', '*'), [keyOf('cache-a')]);
    const left = await client.call('PTTL', keyOf('cache-a'));
    assert.ok(left > 0 && left <= 1_000_000, left);

    const second = await serverFor(t, { config });
    assert.deepEqual(await greeting(t, second, 'cache-a'), {
      event: 'newest',
      channel: 'cache-a',
      data: '{"n": 1.50}',
    });
    assert.equal((await greeting(t, second, 'cache-b')).event, 'pusher:cache_miss');
    await client.call('SET', keyOf('cache-c'), 'not a message');
    assert.equal((await greeting(t, second, 'cache-c')).event, 'pusher:cache_miss');
    await client.call('COPY', keyOf('cache-a'), keyOf('cache-d'));
    assert.equal((await greeting(t, second, 'cache-d')).event, 'pusher:cache_miss', 'of another channel');
  });

  // As when the write of another node, which published a moment before, came last.
  test('are those of the nodes if Redis has an older one', async (t) => {
    const backend = await backendFor(t, 'redis');
    const config = configFor(backend);
    const client = await RedisClient.connect({ ...backend.address, encoding: 'latin1' });
    t.after(() => client.close());
    const first = await serverFor(t, { config });
    await subscriber(first, t, 'cache-a');
    await publish(first, { name: 'newest', channel: 'cache-a', data: '1' });
    await untilStored(client, 'cache-a');
    const stored = decode(Buffer.from(await client.call('GET', keyOf('cache-a')), 'latin1'));
    const older = encode({ ...stored, name: '"older"', published: stored.published - 1 });
    await client.call('SET', keyOf('cache-a'), older);
    const second = await serverFor(t, { config });
    assert.equal((await greeting(t, second, 'cache-a')).event, 'newest');
    await first.stop();
    assert.equal((await greeting(t, second, 'cache-a')).event, 'newest');
    await second.stop();
    const third = await serverFor(t, { config });
    assert.equal((await greeting(t, third, 'cache-a')).event, 'older');
  });

  test('never expire where none does', async (t) => {
    const backend = await backendFor(t, 'redis');
    const config = configFor(backend, { channel_limits: { cache_ttl: 0 } });
    const client = await clientOf(t, backend);
    const first = await serverFor(t, { config });
    await publish(first, { name: 'x', channel: 'cache-a', data: 'x' });
    await untilStored(client, 'cache-a');
    assert.equal(await client.call('PTTL', keyOf('cache-a')), -1);
    await first.stop();
    assert.equal((await greeting(t, await serverFor(t, { config }), 'cache-a')).event, 'x');
  });

  test('may be in another Redis than the one between the nodes', async (t) => {
    const backend = await backendFor(t, 'redis');
    const other = await backendFor(t, 'redis', { password: 'p' });
    const { port } = other.address;
    const config = configFor(backend, { cache: { url_override: `redis://:p@127.0.0.1:${port}/3` } });
    const client = await clientOf(t, other);
    await client.call('SELECT', '3');
    const first = await serverFor(t, { config });
    await publish(first, { name: 'x', channel: 'cache-a', data: 'x' });
    await untilStored(client, 'cache-a');
    await first.stop();
    assert.equal((await greeting(t, await serverFor(t, { config }), 'cache-a')).event, 'x');
  });

  test('are stored when Redis is back', async (t) => {
    const backend = await backendFor(t, 'redis');
    const server = await serverFor(t, { config: configFor(backend) });
    await backend.kill();
    await server.waitForLog(/is down/);
    for (let i = 0; i < 100; i++) await publish(server, { name: `n${i}`, channel: 'cache-a', data: 'x' });
    await backend.start();
    const client = await clientOf(t, backend);
    await untilStored(client, 'cache-a');
    await server.stop();
    const second = await serverFor(t, { config: configFor(backend) });
    assert.equal((await greeting(t, second, 'cache-a')).event, 'n99');
  });

  test('are refused by a user without the right, which is logged', async (t) => {
    const users = ['user default on nopass resetchannels &* ~* +@all -set'];
    const backend = await backendFor(t, 'redis', { users });
    const server = await serverFor(t, { config: configFor(backend) });
    await publish(server, { name: 'x', channel: 'cache-a', data: 'x' });
    await server.waitForLog(/the store of cache\.driver does not take an event of a cache channel: NOPERM/);
    assert.equal((await greeting(t, server, 'cache-a')).event, 'x');
    const metrics = await fetchMetrics(server);
    assert.equal(metrics.sum('cluster_cached_events_lost_total', { reason: 'refused' }), 1);
    assert.equal(metrics.sum('cluster_cached_events_waiting'), 0);
  });

  test('are told to the API by a node that has no subscriber', async (t) => {
    const backend = await backendFor(t, 'redis');
    const config = configFor(backend, { channel_limits: { cache_ttl: 1000 } });
    const [one, other] = await Promise.all([serverFor(t, { config }), serverFor(t, { config })]);
    const cacheOn = async (server, channel) =>
      (await api(server, 'GET', `/channels/${channel}`, { query: { info: 'cache' } })).json;
    await publish(other, { name: 'old', channel: 'cache-a', data: 'old' });
    await publish(one, { name: 'x', channel: 'cache-a', data: '{"n": 1.50}' });
    await untilStored(await clientOf(t, backend), 'cache-a');
    for (const server of [one, other]) {
      const { occupied, cache } = await cacheOn(server, 'cache-a');
      assert.deepEqual([occupied, cache.data], [false, '{"n": 1.50}']);
      assert.ok(cache.ttl > 900 && cache.ttl <= 1000, cache.ttl);
    }
    assert.deepEqual(await cacheOn(one, 'cache-b'), { occupied: false, cache: null });
    await Promise.all([one.stop(), other.stop()]);
    const alone = await serverFor(t, { config });
    assert.equal((await cacheOn(alone, 'cache-a')).cache.data, '{"n": 1.50}');
  });
});
