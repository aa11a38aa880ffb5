// What every driver of the bus has to do, against a real message system of each kind.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { backendFor } from '../lib/backends/index.js';
import { LONG_TIMEOUT_MS, TIMEOUT_MS } from '../lib/inbox.js';
import { folderWith, start } from '../lib/process.js';
import { BINARY, THREADS_BINARY } from '../lib/server.js';

// Runs the suite, and does to the message system what it asks for: `requests` has a function for each word.
async function runSuite(t, config, { binary = BINARY, args = [], requests = {} }) {
  const suite = path.join(path.dirname(binary), 'tests/bus/bus_suite');
  assert.ok(existsSync(suite), `${suite} is not built`);
  const folder = folderWith(t, { 'config.json': config });
  const program = start(t, suite, [path.join(folder, 'config.json'), ...args], { input: true });
  const ended = program.exited(LONG_TIMEOUT_MS);
  const serve = async () => {
    for (;;) {
      const line = await program.out.next((text) => text.startsWith('@ '), LONG_TIMEOUT_MS);
      const [, request, argument] = line.match(/^@ (\S+) ?(.*)$/);
      await requests[request]?.(argument);
      program.child.stdin.write(requests[request] ? 'ok\n' : 'no\n');
    }
  };
  const failed = await Promise.race([serve().catch((error) => error), ended.then(() => null)]);
  // The end of the program ends its output, too.
  if (failed && !/has ended/.test(failed.message)) throw failed;
  const { code, signal } = await ended;
  const said = [...program.out.all, ...program.err.all].join('\n');
  assert.equal(code, 0, `${signal} ${said}`);
  assert.match(said, /\[ {2}PASSED {2}\]/);
}

// What can be done to any back end.
const requestsFor = (backend) => ({
  stop: () => backend.kill(),
  start: () => backend.start(),
  freeze: () => backend.freeze(),
  thaw: () => backend.thaw(),
});

async function cutRedis(backend) {
  const client = await backend.client();
  for (const type of ['pubsub', 'normal']) await client.call('CLIENT', 'KILL', 'TYPE', type);
  client.close();
}

// A subscriber for which much waits is not closed: another test is about that.
const PATIENT_REDIS = { settings: ['client-output-buffer-limit pubsub 0 0 0'] };

for (const [name, binary] of [
  ['does what every driver does', BINARY],
  ['does it with its threads', THREADS_BINARY],
]) {
  describe(name, { timeout: 2 * LONG_TIMEOUT_MS, concurrency: true }, () => {
    test('redis', async (t) => {
      const backend = await backendFor(t, 'redis', PATIENT_REDIS);
      const requests = { ...requestsFor(backend), cut: () => cutRedis(backend) };
      await runSuite(t, backend.config('suite'), { binary, requests });
    });

    test('nats', async (t) => {
      const backend = await backendFor(t, 'nats');
      await runSuite(t, backend.config('suite'), { binary, requests: requestsFor(backend) });
    });
  });
}

const sharded = (config) => ({
  ...config,
  adapter: { ...config.adapter, cluster: { ...config.adapter.cluster, use_sharded_pubsub: true } },
});

// It has the threads of `redis`.
// Two nodes ask any servers of the cluster.
function topologyRequests(backend) {
  let noted;
  const asked = async () => {
    let sum = 0;
    for (const node of backend.ports.keys()) {
      const text = await backend.on(node, (client) => client.call('INFO', 'commandstats'));
      sum += Number(text.match(/cmdstat_cluster\|slots:calls=(\d+)/)?.[1] ?? 0);
    }
    return sum;
  };
  return {
    'note-topology': async () => {
      noted = await asked();
    },
    'await-topology': async () => {
      const deadline = Date.now() + TIMEOUT_MS / 2; // far from another minute
      while ((await asked()) < noted + 2) assert.ok(Date.now() < deadline, 'the nodes do not ask for the topology');
    },
  };
}

describe('a cluster does what every driver does', { timeout: 2 * LONG_TIMEOUT_MS, concurrency: true }, () => {
  const requestsOf = (backend) => ({
    ...requestsFor(backend),
    cut: () => backend.cutClients(),
    lose: () => backend.loseMaster(),
    ...topologyRequests(backend),
  });

  // Links between the nodes of Redis are not renewed on a busy machine: what is on its way then is lost.
  test('plain', async (t) => {
    const backend = await backendFor(t, 'redis-cluster', { ...PATIENT_REDIS, nodeTimeoutMs: 30_000 });
    await runSuite(t, backend.config('suite'), { requests: requestsOf(backend) });
  });

  // A replica takes over; the password and TLS are for all connections.
  test('sharded', async (t) => {
    const options = { ...PATIENT_REDIS, replicas: 1, nodeTimeoutMs: 1000, password: 'pw', tls: true };
    const backend = await backendFor(t, 'redis-cluster', options);
    const move = async (subject) => {
      const slot = await backend.slotOf(subject);
      const masters = new Set();
      for (let at = 0; at < 16384; at += 1024) masters.add(await backend.masterOf(at));
      const owner = await backend.masterOf(slot);
      await backend.moveSlot(
        slot,
        [...masters].find((master) => master !== owner),
      );
    };
    await runSuite(t, sharded(backend.config('suite')), { requests: { ...requestsOf(backend), move } });
  });
});

describe('says why it is down', { timeout: LONG_TIMEOUT_MS, concurrency: true }, () => {
  test('redis', async (t) => {
    const backend = await backendFor(t, 'redis', { password: 'right' });
    const config = backend.config('suite');
    const { redis } = config.database;
    for (const [wrong, ...words] of [
      [{ password: 'wrong' }, 'database.redis', 'password'],
      [{ password: undefined }, 'database.redis', 'password'],
      [{ port: 1 }, '127.0.0.1:1', 'database.redis', 'refused'],
    ])
      await runSuite(t, { ...config, database: { redis: { ...redis, ...wrong } } }, { args: ['refused', ...words] });
  });

  test('redis-cluster', async (t) => {
    const backend = await backendFor(t, 'redis-cluster', { password: 'right' });
    const config = backend.config('suite');
    const refused = (adapter, redis, words) =>
      runSuite(
        t,
        {
          adapter: { ...config.adapter, cluster: { ...config.adapter.cluster, ...adapter } },
          database: { redis: { ...config.database.redis, ...redis } },
        },
        { args: ['refused', ...words] },
      );
    await refused({}, { cluster: { password: 'wrong' } }, ['adapter.cluster.nodes', 'password']);
    await refused({}, { cluster: {} }, ['adapter.cluster.nodes', 'password']);
    await refused({ nodes: ['127.0.0.1:1'] }, {}, ['127.0.0.1:1', 'adapter.cluster.nodes', 'refused']);
  });

  test('a_redis_without_sharded_channels', async (t) => {
    const backend = await backendFor(t, 'redis-cluster', { settings: ['rename-command SPUBLISH ""'] });
    const words = ['Redis 7', 'adapter.cluster.use_sharded_pubsub'];
    await runSuite(t, sharded(backend.config('suite')), { args: ['refused', ...words] });
  });

  test('a_redis_that_is_no_cluster', async (t) => {
    const { address } = await backendFor(t, 'redis');
    const config = { adapter: { driver: 'redis-cluster', cluster: { nodes: [`${address.host}:${address.port}`] } } };
    await runSuite(t, config, { args: ['refused', 'adapter.driver', 'no Redis Cluster'] });
  });

  test('nats', async (t) => {
    const backend = await backendFor(t, 'nats', { auth: 'password' });
    const { adapter } = backend.config('suite');
    for (const [wrong, ...words] of [
      [{ password: 'wrong' }, 'adapter.nats', 'password'],
      [{ username: undefined, password: undefined }, 'adapter.nats'],
      [{ servers: ['nats://127.0.0.1:1'] }, '127.0.0.1:1', 'refused'],
    ])
      await runSuite(
        t,
        { adapter: { ...adapter, nats: { ...adapter.nats, ...wrong } } },
        { args: ['refused', ...words] },
      );
  });
});
