// Repeats of a publish that reach another node: with the store of cache.driver they are known there, too.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, subscribe } from '../lib/client.js';
import { RedisClient } from '../lib/redis-client.js';
import { serverFor } from '../lib/server.js';

const EVENT = { name: 'e', channel: 'repeats', data: 'x' };

const post = (server, key, change = {}) =>
  api(server, 'POST', '/events', { body: { ...EVENT, ...change }, headers: { 'X-Idempotency-Key': key } });

async function twoServers(t, backend, cache = { driver: 'redis' }) {
  const config = { ...backend.config('nodes'), cache };
  return Promise.all([serverFor(t, { config }), serverFor(t, { config })]);
}

const replayed = ({ status, headers }) => [status, headers['idempotency-replayed']];

describe('a repeat that another node gets', { concurrency: true }, () => {
  test('publishes nothing', async (t) => {
    const backend = await backendFor(t, 'redis');
    const [one, other] = await twoServers(t, backend);
    const ws = await connect(other, { t });
    await subscribe(ws, 'repeats');
    assert.deepEqual(replayed(await post(one, 'a')), [200, undefined]);
    const again = await post(other, 'a');
    assert.deepEqual([...replayed(again), again.body], [200, 'true', '{}']);
    for (const server of [one, other]) assert.deepEqual(replayed(await post(server, 'a')), [200, 'true']);
    await ws.expect('e');
    await post(one, 'fence', { name: 'fence' }); // behind all that this node has published
    await ws.expect('fence');
    const client = await RedisClient.connect(backend.address);
    t.after(() => client.close());
    const [key] = await client.call('KEYS', '*:a');
    assert.equal(key, 'sockudo_cache:curlew1:k:e:6:app-id:a');
    const left = await client.call('PTTL', key);
    assert.ok(left > 100_000 && left <= 120_000, left);
  });

  test('with another body is refused', async (t) => {
    const [one, other] = await twoServers(t, await backendFor(t, 'redis'));
    assert.equal((await post(one, 'a')).status, 200);
    const answer = await post(other, 'a', { data: 'y' });
    assert.equal(answer.status, 422);
    assert.match(answer.body, /the idempotency key was used for a request with another body in the last 120 s/);
    assert.equal((await post(other, 'a', { data: 'y' })).status, 422);
  });

  test('is a new one if the first was refused', async (t) => {
    const backend = await backendFor(t, 'redis');
    const [one, other] = await twoServers(t, backend);
    assert.equal((await post(one, 'a', { data: 'x'.repeat(200_000) })).status, 413);
    for (let status = 0; status !== 200;) {
      const answer = await post(other, 'a');
      status = answer.status; // until the first node has given the key back
      if (status === 200) assert.equal(answer.headers['idempotency-replayed'], undefined);
      else assert.equal(status, 422);
    }
    const client = await RedisClient.connect(backend.address);
    t.after(() => client.close());
    assert.match(await client.call('INFO', 'commandstats'), /cmdstat_del:calls=1,/);
  });

  test('at once, on both: one of them publishes', async (t) => {
    const servers = await twoServers(t, await backendFor(t, 'redis'));
    for (let i = 0; i < 50; i++) {
      const answers = await Promise.all([...servers, ...servers].map((server) => post(server, `at-once-${i}`)));
      assert.equal(answers.filter(({ status }) => status === 200).length, 4);
      assert.equal(answers.filter(({ headers }) => headers['idempotency-replayed'] === undefined).length, 1);
    }
  });

  test('is unknown while the store is down or stands still', async (t) => {
    const backend = await backendFor(t, 'redis');
    const [one, other] = await twoServers(t, backend);
    assert.deepEqual(replayed(await post(one, 'a')), [200, undefined]);
    backend.freeze();
    assert.deepEqual(replayed(await post(other, 'a')), [200, undefined]);
    backend.thaw();
    await backend.kill();
    await other.waitForLog(/is down/);
    assert.deepEqual(replayed(await post(other, 'b')), [200, undefined]);
    assert.deepEqual(replayed(await post(other, 'b')), [200, 'true']);
  });

  test('is unknown with cache.driver memory', async (t) => {
    const [one, other] = await twoServers(t, await backendFor(t, 'redis'), { driver: 'memory' });
    for (const server of [one, other]) assert.deepEqual(replayed(await post(server, 'a')), [200, undefined]);
  });
});
