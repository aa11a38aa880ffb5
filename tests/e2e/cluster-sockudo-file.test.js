// A whole file in the shape of those that come with Sockudo for nodes on one Redis: adapter, cache, queue and limits.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, subscribe } from '../lib/client.js';
import { RedisClient } from '../lib/redis-client.js';
import { runCurlew, serverFor } from '../lib/server.js';

const APP = { id: 'shop', key: 'shop-key', secret: 'a-secret-of-more-than-16-characters' };

function fileFor({ host, port }) {
  const url = `redis://${host}:${port}`;
  return {
    mode: 'production',
    path_prefix: '/',
    shutdown_grace_period: 10,
    websocket_max_payload_kb: 64,
    user_authentication_timeout: 3600,
    activity_timeout: 120,
    unix_socket: { enabled: false, path: '/var/run/sockudo/sockudo.sock', permission_mode: '660' },
    adapter: {
      driver: 'redis',
      redis: {
        requests_timeout: 5000,
        prefix: 'sockudo_adapter:',
        cluster_mode: false,
        redis_pub_options: { url },
        redis_sub_options: { url },
      },
      cluster: { nodes: [], prefix: 'sockudo_cluster:', request_timeout_ms: 5000, use_connection_manager: true },
      nats: { servers: ['nats://nats:4222'], prefix: 'sockudo_nats:', request_timeout_ms: 5000 },
      cluster_health: {
        enabled: true,
        heartbeat_interval_ms: 10000,
        node_timeout_ms: 30000,
        cleanup_interval_ms: 10000,
      },
    },
    app_manager: {
      driver: 'memory',
      array: { apps: [{ ...APP, max_connections: 10000, enabled: true, allowed_origins: ['*'] }] },
      cache: { enabled: false, ttl: 300 },
    },
    cache: {
      driver: 'redis',
      redis: { prefix: 'sockudo_cache:', cluster_mode: false, url_override: url },
      memory: { ttl: 300, cleanup_interval: 60, max_capacity: 10000 },
    },
    database: {
      redis: { host: 'redis', port: 6379, db: 0, key_prefix: 'sockudo:', sentinels: [], cluster_nodes: [] },
      mysql: { host: 'mysql', port: 3306, username: 'sockudo', password: 'unused', database: 'sockudo', pool_min: 2 },
      dynamodb: { region: 'us-east-1', table_name: 'sockudo-applications' },
    },
    queue: {
      driver: 'redis',
      redis: { concurrency: 5, prefix: 'sockudo_queue:', cluster_mode: false },
      redis_cluster: { concurrency: 5, prefix: 'sockudo_queue:', nodes: [], request_timeout_ms: 5000 },
      sqs: { region: 'us-east-1', visibility_timeout: 30, max_messages: 10, fifo: false },
    },
    rate_limiter: {
      enabled: true,
      driver: 'redis',
      api_rate_limit: { max_requests: 1000, window_seconds: 60, identifier: 'api', trust_hops: 0 },
      websocket_rate_limit: { max_requests: 20, window_seconds: 60, identifier: 'websocket_connect', trust_hops: 0 },
      redis: { prefix: 'sockudo_rl:', cluster_mode: false },
    },
    cors: { credentials: false, origin: ['*'], methods: ['GET', 'POST', 'OPTIONS'], allowed_headers: ['Content-Type'] },
    channel_limits: { max_name_length: 200, cache_ttl: 3600 },
    event_limits: { max_channels_at_once: 1000, max_name_length: 2000, max_payload_in_kb: 1000, max_batch_size: 100 },
    presence: { max_members_per_channel: 100, max_member_size_in_kb: 2 },
    http_api: { request_limit_in_mb: 10, accept_traffic: { memory_threshold: 0.9 } },
    webhooks: { batching: { enabled: false, duration: 50 } },
    instance: { process_id: 'sockudo-docker-1' },
    logging: { colors_enabled: false, include_target: true },
    database_pooling: { enabled: true, min: 2, max: 10 },
    cleanup: { async_enabled: true, batch_size: 25, worker_threads: 'auto' },
  };
}

test('starts nodes on a real Redis without a warning, and everything is in force', async (t) => {
  const redis = await backendFor(t, 'redis');
  const config = fileFor(redis.address);
  const nodes = [await serverFor(t, { config }), await serverFor(t, { config })];
  await nodes[0].waitForLog(/^node sockudo-docker-1 .* is there$/);

  const headers = { Origin: 'https://shop.example' };
  const [here, there] = await Promise.all(nodes.map((node) => connect(node, { app: APP, t, headers })));
  for (const ws of [here, there]) await subscribe(ws, 'cache-news');
  await publish(nodes[0], { name: 'first', channel: 'cache-news', data: '{}' }, { app: APP });
  for (const ws of [here, there]) await ws.next(({ event }) => event === 'first');
  assert.deepEqual((await api(nodes[1], 'GET', '/connections', { app: APP })).json, { connections: 2 });
  const client = await RedisClient.connect(redis.address);
  t.after(() => client.close());
  while ((await client.call('KEYS', 'sockudo_cache:*')).length === 0);

  for (const node of nodes)
    assert.deepEqual(
      node.log.all.filter(({ level }) => level === 'warn' || level === 'error'),
      [],
    );
  const { code, stdout, stderr } = await runCurlew(['check'], { config });
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stdout + stderr, /warning|adapter|cache|queue|redis/i);
});
