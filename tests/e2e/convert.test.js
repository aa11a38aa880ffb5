// `curlew convert`: files and variables as users of soketi, Reverb, laravel-websockets and Pusher have them become
// configurations that `curlew check` accepts and a server serves.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { exported } from '../lib/apps-command.js';
import { closedWithError, connect } from '../lib/client.js';
import { within } from '../lib/inbox.js';
import { folderWith } from '../lib/process.js';
import { connected, makePusher, record, subscribed } from '../lib/pusher.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { BINARY, runCurlew, serverFor } from '../lib/server.js';
import { snippets } from '../readme/snippets.mjs';

// Runs `curlew convert ARGS` in a folder with these files; resolves to {code, stdout, stderr, output}.
async function convert(t, args, files = {}, { input = '' } = {}) {
  const folder = folderWith(t, files);
  const kept = Object.entries(process.env).filter(([name]) => /^(PATH|HOME|LANG|TZ|\w+SAN_OPTIONS)$/.test(name));
  const child = spawn(BINARY, ['convert', ...args], { cwd: folder, env: Object.fromEntries(kept) });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].setEncoding('utf8').on('data', (chunk) => {
      texts[name] += chunk;
    });
  }
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
  const code = await within(ended, `curlew convert ${args.join(' ')}`);
  return { code, ...texts, output: texts.stdout === '' ? undefined : JSON.parse(texts.stdout) };
}

// The conversion has to succeed, and its result has to be valid without a warning, but for soketi's public secret.
async function converted(t, args, files, options) {
  const result = await convert(t, args, files, options);
  assert.equal(result.code, 0, result.stderr);
  const check = await runCurlew(['check'], { configText: result.stdout });
  assert.equal(check.code, 0, check.stdout + check.stderr);
  assert.doesNotMatch(check.stderr + check.stdout, /^warning: (?!app ".*": its secret is publicly known)/m);
  return result;
}

// The conversion has to fail with this code, say this and write nothing.
async function refused(t, code, args, files, ...patterns) {
  const result = await convert(t, args, files);
  assert.equal(result.code, code, result.stderr);
  assert.equal(result.stdout, '');
  for (const pattern of patterns) assert.match(result.stderr, pattern);
  assert.doesNotMatch(result.stderr, /hidden/, 'values of texts are not shown');
  return result;
}

const soketi = (t, file, options) => converted(t, ['soketi', 'soketi.json'], { 'soketi.json': file }, options);
const at = (object, dotted) => dotted.split('.').reduce((value, name) => value?.[name], object);
const lines = (stderr, word) => stderr.split('\n').filter((line) => line.startsWith(`${word}: `));

const APP_A = { id: 'a', key: 'a-key', secret: 'a-secret' };
const NO_LIMITS = {
  max_connections: 0,
  max_client_events_per_second: 0,
  max_read_requests_per_second: 0,
  max_backend_events_per_second: 0,
};

const SOKETI_DEFAULTS = {
  activity_timeout: 30,
  shutdown_grace_period: 3,
  user_authentication_timeout: 30,
  cors: {
    methods: ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS'],
    allowed_headers: [
      'Origin',
      'Content-Type',
      'X-Auth-Token',
      'X-Requested-With',
      'Accept',
      'Authorization',
      'X-CSRF-TOKEN',
      'XSRF-TOKEN',
      'X-Socket-Id',
    ],
  },
  http_api: { request_limit_in_mb: 100 },
  channel_limits: { max_name_length: 200 },
  event_limits: { max_name_length: 200, max_payload_in_kb: 100, max_batch_size: 10 },
  presence: { max_member_size_in_kb: 2 },
  metrics: { enabled: false, prometheus: { prefix: 'soketi_' } },
  webhooks: { batching: { enabled: false } },
  rate_limits: { max_read_requests_per_second: 0, max_backend_events_per_second: 0 },
  websocket_max_payload_kb: 164,
};

// One row a key of soketi: key, variable without SOKETI_, value, key here, value here.
const SOKETI_ROWS = [
  ['host', 'HOST', '127.0.0.1', 'host', '127.0.0.1'],
  ['port', 'PORT', 6011, 'port', 6011],
  ['debug', 'DEBUG', true, 'debug', true],
  ['pathPrefix', 'PATH_PREFIX', '/ws', 'path_prefix', '/ws'],
  ['shutdownGracePeriod', 'SHUTDOWN_GRACE_PERIOD', 5000, 'shutdown_grace_period', 5],
  ['userAuthenticationTimeout', 'USER_AUTHENTICATION_TIMEOUT', 45000, 'user_authentication_timeout', 45],
  ['cors.credentials', null, false, 'cors.credentials', false],
  ['cors.origin', null, ['https://a.example'], 'cors.origin', ['https://a.example']],
  ['cors.methods', null, ['GET'], 'cors.methods', ['GET']],
  ['cors.allowedHeaders', null, ['X-A'], 'cors.allowed_headers', ['X-A']],
  ['httpApi.requestLimitInMb', null, 20, 'http_api.request_limit_in_mb', 20],
  [
    'httpApi.acceptTraffic.memoryThreshold',
    'HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD',
    85,
    'http_api.accept_traffic.memory_threshold',
    0.85,
  ],
  ['channelLimits.maxNameLength', 'CHANNEL_LIMITS_MAX_NAME_LENGTH', 150, 'channel_limits.max_name_length', 150],
  ['channelLimits.cacheTtl', 'CHANNEL_CACHE_TTL', 1800, 'channel_limits.cache_ttl', 1800],
  ['eventLimits.maxChannelsAtOnce', 'EVENT_MAX_CHANNELS_AT_ONCE', 11, 'event_limits.max_channels_at_once', 11],
  ['eventLimits.maxNameLength', 'EVENT_MAX_NAME_LENGTH', 12, 'event_limits.max_name_length', 12],
  ['eventLimits.maxPayloadInKb', 'EVENT_MAX_SIZE_IN_KB', 12.5, 'event_limits.max_payload_in_kb', 13],
  ['eventLimits.maxBatchSize', 'EVENT_MAX_BATCH_SIZE', 14, 'event_limits.max_batch_size', 14],
  ['presence.maxMembersPerChannel', 'PRESENCE_MAX_MEMBERS', 15, 'presence.max_members_per_channel', 15],
  ['presence.maxMemberSizeInKb', 'PRESENCE_MAX_MEMBER_SIZE', 16, 'presence.max_member_size_in_kb', 16],
  ['metrics.enabled', 'METRICS_ENABLED', true, 'metrics.enabled', true],
  ['metrics.host', 'METRICS_HOST', '127.0.0.1', 'metrics.host', '127.0.0.1'],
  ['metrics.port', 'METRICS_SERVER_PORT', 9611, 'metrics.port', 9611],
  ['metrics.prometheus.prefix', 'METRICS_PROMETHEUS_PREFIX', 'shop_', 'metrics.prometheus.prefix', 'shop_'],
  ['appManager.driver', 'APP_MANAGER_DRIVER', 'array', 'app_manager.driver', 'memory'],
  ['appManager.cache.enabled', 'APP_MANAGER_CACHE_ENABLED', true, 'app_manager.cache.enabled', true],
  ['appManager.cache.ttl', 'APP_MANAGER_CACHE_TTL', 60, 'app_manager.cache.ttl', 60],
  ['appManager.dynamodb.region', 'APP_MANAGER_DYNAMODB_REGION', 'eu-west-1', 'database.dynamodb.region', 'eu-west-1'],
  [
    'appManager.dynamodb.endpoint',
    'APP_MANAGER_DYNAMODB_ENDPOINT',
    'http://db:8000',
    'database.dynamodb.endpoint_url',
    'http://db:8000',
  ],
  ...['mysql', 'postgres'].flatMap((kind) => [
    [`database.${kind}.host`, `DB_${kind.toUpperCase()}_HOST`, 'db', `database.${kind}.host`, 'db'],
    [`database.${kind}.port`, `DB_${kind.toUpperCase()}_PORT`, 3316, `database.${kind}.port`, 3316],
    [`database.${kind}.user`, `DB_${kind.toUpperCase()}_USERNAME`, 'u', `database.${kind}.username`, 'u'],
    [`database.${kind}.password`, `DB_${kind.toUpperCase()}_PASSWORD`, 'hidden', `database.${kind}.password`, 'hidden'],
    [`database.${kind}.database`, `DB_${kind.toUpperCase()}_DATABASE`, 'd', `database.${kind}.database`, 'd'],
  ]),
  ['databasePooling.enabled', 'DB_POOLING_ENABLED', true, 'database_pooling.enabled', true],
  ['databasePooling.min', 'DB_POOLING_MIN', 1, 'database_pooling.min', 1],
  ['databasePooling.max', 'DB_POOLING_MAX', 5, 'database_pooling.max', 5],
  ['database.redis.host', 'DB_REDIS_HOST', 'cache', 'database.redis.host', 'cache'],
  ['database.redis.port', 'DB_REDIS_PORT', 6380, 'database.redis.port', 6380],
  ['database.redis.db', 'DB_REDIS_DB', 3, 'database.redis.db', 3],
  ['database.redis.username', 'DB_REDIS_USERNAME', 'r', 'database.redis.username', 'r'],
  ['database.redis.password', 'DB_REDIS_PASSWORD', 'hidden', 'database.redis.password', 'hidden'],
  ['database.redis.keyPrefix', 'DB_REDIS_KEY_PREFIX', 'k:', 'database.redis.key_prefix', 'k:'],
  [
    'database.redis.sentinels',
    'DB_REDIS_SENTINELS',
    [{ host: 's', port: 26379 }],
    'database.redis.sentinels',
    [{ host: 's', port: 26379 }],
  ],
  [
    'database.redis.sentinelPassword',
    'DB_REDIS_SENTINEL_PASSWORD',
    'hidden',
    'database.redis.sentinel_password',
    'hidden',
  ],
  ['database.redis.name', 'DB_REDIS_INSTANCE_NAME', 'main', 'database.redis.name', 'main'],
  [
    'database.redis.clusterNodes',
    'DB_REDIS_CLUSTER_NODES',
    [{ host: 'n', port: 7000 }],
    'database.redis.cluster.nodes',
    [{ host: 'n', port: 7000 }],
  ],
  ['adapter.driver', 'ADAPTER_DRIVER', 'local', 'adapter.driver', 'local'],
  ['adapter.redis.prefix', 'ADAPTER_REDIS_PREFIX', 'p', 'adapter.redis.prefix', 'p'],
  ['adapter.redis.requestsTimeout', 'ADAPTER_REDIS_REQUESTS_TIMEOUT', 4000, 'adapter.redis.requests_timeout', 4000],
  ['adapter.nats.servers', 'ADAPTER_NATS_SERVERS', ['n:4222'], 'adapter.nats.servers', ['n:4222']],
  ['adapter.nats.user', 'ADAPTER_NATS_USER', 'n', 'adapter.nats.username', 'n'],
  ['adapter.nats.pass', 'ADAPTER_NATS_PASSWORD', 'hidden', 'adapter.nats.password', 'hidden'],
  ['adapter.nats.token', 'ADAPTER_NATS_TOKEN', 'hidden', 'adapter.nats.token', 'hidden'],
  ['adapter.nats.timeout', 'ADAPTER_NATS_TIMEOUT', 9000, 'adapter.nats.connection_timeout_ms', 9000],
  ['adapter.nats.prefix', 'ADAPTER_NATS_PREFIX', 'np', 'adapter.nats.prefix', 'np'],
  ['adapter.nats.requestsTimeout', 'ADAPTER_NATS_REQUESTS_TIMEOUT', 3000, 'adapter.nats.request_timeout_ms', 3000],
  ['adapter.nats.nodesNumber', 'ADAPTER_NATS_NODES_NUMBER', 2, 'adapter.nats.nodes_number', 2],
  ['queue.driver', 'QUEUE_DRIVER', 'sync', 'queue.driver', 'memory'],
  ['webhooks.batching.enabled', 'WEBHOOKS_BATCHING', true, 'webhooks.batching.enabled', true],
  ['webhooks.batching.duration', 'WEBHOOKS_BATCHING_DURATION', 70, 'webhooks.batching.duration', 70],
  ['instance.process_id', null, 'one', 'instance.process_id', 'one'],
];

// Keys without a counterpart, and their variables.
const SOKETI_DROPPED = [
  ['mode', 'MODE', 'full'],
  ['metrics.driver', 'METRICS_DRIVER', 'prometheus'],
  ['appManager.mysql.table', 'APP_MANAGER_MYSQL_TABLE', 'apps'],
  ['appManager.mysql.version', 'APP_MANAGER_MYSQL_VERSION', '8.0'],
  ['appManager.mysql.useMysql2', 'APP_MANAGER_MYSQL_USE_V2', true],
  ['appManager.postgres.table', 'APP_MANAGER_POSTGRES_TABLE', 'apps'],
  ['appManager.postgres.version', 'APP_MANAGER_POSTGRES_VERSION', '13.3'],
  ['appManager.dynamodb.table', 'APP_MANAGER_DYNAMODB_TABLE', 'apps'],
  ['adapter.cluster.requestsTimeout', 'ADAPTER_CLUSTER_REQUESTS_TIMEOUT', 5000],
  ['cluster.checkInterval', 'CLUSTER_CHECK_INTERVAL', 500],
  ['cluster.hostname', 'CLUSTER_HOST', '0.0.0.0'],
  ['cluster.ignoreProcess', 'CLUSTER_IGNORE_PROCESS', true],
  ['cluster.broadcast', 'CLUSTER_BROADCAST_ADDRESS', '255.255.255.255'],
  ['cluster.helloInterval', 'CLUSTER_KEEPALIVE_INTERVAL', 500],
  ['cluster.masterTimeout', 'CLUSTER_MASTER_TIMEOUT', 2000],
  ['cluster.multicast', 'CLUSTER_MULTICAST_ADDRESS', '239.0.0.1'],
  ['cluster.nodeTimeout', 'CLUSTER_NODE_TIMEOUT', 2000],
  ['cluster.port', 'CLUSTER_PORT', 11002],
  ['cluster.prefix', 'CLUSTER_PREFIX', 'c'],
  ['cluster.unicast', 'CLUSTER_UNICAST_ADDRESSES', '10.0.0.1'],
  ['queue.redis.concurrency', 'QUEUE_REDIS_CONCURRENCY', 2],
  ['queue.redis.redisOptions.family', 'QUEUE_REDIS_OPTIONS', 4],
  ['queue.redis.clusterMode', 'QUEUE_REDIS_CLUSTER_MODE', true],
  ['queue.sqs.region', 'QUEUE_SQS_REGION', 'eu-west-1'],
  ['queue.sqs.clientOptions.a', 'QUEUE_SQS_CLIENT_OPTIONS', 'b'],
  ['queue.sqs.queueUrl', 'QUEUE_SQS_URL', 'https://q.example'],
  ['queue.sqs.endpoint', 'QUEUE_SQS_ENDPOINT', 'https://q.example'],
  ['queue.sqs.processBatch', 'QUEUE_SQS_PROCESS_BATCH', true],
  ['queue.sqs.batchSize', 'QUEUE_SQS_BATCH_SIZE', 3],
  ['queue.sqs.pollingWaitTimeMs', 'QUEUE_SQS_POLLING_WAIT_TIME_MS', 4],
  ['cache.driver', 'CACHE_DRIVER', 'redis'],
  ['cache.redis.clusterMode', 'CACHE_REDIS_CLUSTER_MODE', true],
  ['cache.redis.redisOptions.a', 'CACHE_REDIS_OPTIONS', 1],
  ['rateLimiter.driver', 'RATE_LIMITER_DRIVER', 'redis'],
  ['rateLimiter.redis.redisOptions.a', 'RATE_LIMITER_REDIS_OPTIONS', 1],
  ['rateLimiter.redis.clusterMode', 'RATE_LIMITER_REDIS_CLUSTER_MODE', true],
  ['adapter.redis.redisPubOptions.tls', 'ADAPTER_REDIS_PUB_OPTIONS', true],
  ['adapter.redis.redisSubOptions.tls', 'ADAPTER_REDIS_SUB_OPTIONS', true],
];

const asVariable = (value) => (typeof value === 'string' ? value : `'${JSON.stringify(value)}'`);

describe('soketi', () => {
  test('defaults_that_differ_are_written_out', async (t) => {
    const { output } = await soketi(t, { 'appManager.array.apps': [APP_A] });
    assert.deepEqual(output, {
      ...SOKETI_DEFAULTS,
      app_manager: { driver: 'memory', array: { apps: [{ ...APP_A, ...NO_LIMITS }] } },
    });
  });

  test('each_key_of_the_file_becomes_ours_with_its_units', async (t) => {
    const file = Object.fromEntries(SOKETI_ROWS.map(([key, , value]) => [key, value]));
    const { output, stderr } = await soketi(t, { ...file, 'appManager.array.apps': [APP_A] });
    for (const [key, , , path_, value] of SOKETI_ROWS) assert.deepEqual(at(output, path_), value, key);
    assert.deepEqual(lines(stderr, 'dropped'), []);
    assert.match(stderr, /^changed: soketi\.json: eventLimits\.maxPayloadInKb: rounded up to 13/m);
    assert.doesNotMatch(stderr, /hidden/);
  });

  test('each_variable_goes_before_the_file', async (t) => {
    const rows = SOKETI_ROWS.filter(([, variable]) => variable !== null);
    const env = rows.map(([, variable, value]) => `SOKETI_${variable}=${asVariable(value)}\n`).join('');
    const files = { '.env': env, 'soketi.json': { port: 1, 'metrics.port': 2, 'appManager.array.apps': [APP_A] } };
    const { output, stderr } = await converted(t, ['soketi', 'soketi.json', '--env', '.env'], files);
    for (const [, variable, , path_, value] of rows) assert.deepEqual(at(output, path_), value, variable);
    assert.deepEqual(lines(stderr, 'dropped'), []);
  });

  test('each_key_without_a_counterpart_is_named_with_a_reason', async (t) => {
    const file = Object.fromEntries(SOKETI_DROPPED.map(([key, , value]) => [key, value]));
    const { stderr } = await soketi(t, { ...file, 'a.b': 1, c: [2], 'appManager.array.apps': [APP_A] });
    for (const [key] of [...SOKETI_DROPPED, ['a.b'], ['c']]) {
      assert.ok(
        lines(stderr, 'dropped').some((line) => line.startsWith(`dropped: soketi.json: ${key}: `)),
        `${key} in\n${stderr}`,
      );
    }
    assert.equal(lines(stderr, 'dropped').length, SOKETI_DROPPED.length + 2);
  });

  test('each_variable_without_a_counterpart_is_named_with_a_reason', async (t) => {
    const env = SOKETI_DROPPED.map(([, variable, value]) => `SOKETI_${variable}=${asVariable(value)}\n`).join('');
    const { stderr } = await converted(t, ['soketi', '.env'], { '.env': `${env}SOKETI_DEFUALT=1\nAPP_NAME=x\n` });
    for (const [, variable] of SOKETI_DROPPED)
      assert.match(stderr, new RegExp(`^dropped: .*\\(SOKETI_${variable}\\)`, 'm'));
    assert.match(stderr, /^dropped: SOKETI_DEFUALT: /m);
    assert.doesNotMatch(stderr, /APP_NAME/);
  });

  test('the_page_lists_each_key_with_its_name_here', () => {
    const page = readFileSync(new URL('../../docs/coming-from-soketi.md', import.meta.url), 'utf8');
    const rows = page.split('\n').filter((line) => line.startsWith('| `'));
    const named = (cell, key) => {
      const parts = key.split('.');
      return (
        cell.includes(`\`${key}\``) ||
        parts.slice(1).some((_, i) => cell.includes(`.${parts.slice(i + 1).join('.')}\``))
      );
    };
    for (const [key, , , path_] of SOKETI_ROWS)
      assert.ok(
        rows.some((row) => named(row.split('|')[1], key) && named(row.split('|')[3], path_)),
        `${key} and ${path_} in a row of the page`,
      );
  });

  test('an_object_replaces_all_below_its_key_and_a_limit_that_it_lacks_is_none', async (t) => {
    const { output, stderr } = await soketi(t, {
      'eventLimits.maxBatchSize': 3,
      eventLimits: { maxNameLength: 50 },
      'presence.maxMemberSizeInKb': 7,
      appManager: { driver: 'array', array: { apps: [APP_A] } },
    });
    assert.deepEqual(output.event_limits, {
      max_channels_at_once: 0,
      max_name_length: 50,
      max_payload_in_kb: 0,
      max_batch_size: 0,
    });
    assert.deepEqual(output.presence, { max_member_size_in_kb: 7 });
    assert.deepEqual(output.app_manager.array.apps, [{ ...APP_A, ...NO_LIMITS }]);
    for (const name of ['maxChannelsAtOnce', 'maxPayloadInKb', 'maxBatchSize'])
      assert.match(stderr, new RegExp(`^note: .*eventLimits\\.${name} is missing`, 'm'));
  });

  test('all_fields_of_an_app_in_all_spellings', async (t) => {
    const fields = [
      ['enabled', 'Enabled', 'enabled', true, 'enabled', true],
      ['enableClientMessages', 'EnableClientMessages', 'enable_client_messages', 1, 'enable_client_messages', true],
      [
        'enableUserAuthentication',
        'EnableUserAuthentication',
        'enable_user_authentication',
        true,
        'enable_user_authentication',
        true,
      ],
      ['maxConnections', 'MaxConnections', 'max_connections', 1, 'max_connections', 1],
      [
        'maxBackendEventsPerSecond',
        'MaxBackendEventsPerSecond',
        'max_backend_events_per_sec',
        '2',
        'max_backend_events_per_second',
        2,
      ],
      [
        'maxClientEventsPerSecond',
        'MaxClientEventsPerSecond',
        'max_client_events_per_sec',
        3,
        'max_client_events_per_second',
        3,
      ],
      [
        'maxReadRequestsPerSecond',
        'MaxReadRequestsPerSecond',
        'max_read_req_per_sec',
        4,
        'max_read_requests_per_second',
        4,
      ],
      [
        'maxPresenceMembersPerChannel',
        'MaxPresenceMembersPerChannel',
        'max_presence_members_per_channel',
        5,
        'max_presence_members_per_channel',
        5,
      ],
      [
        'maxPresenceMemberSizeInKb',
        'MaxPresenceMemberSizeInKb',
        'max_presence_member_size_in_kb',
        0.5,
        'max_presence_member_size_in_kb',
        1,
      ],
      ['maxChannelNameLength', 'MaxChannelNameLength', 'max_channel_name_length', 7, 'max_channel_name_length', 7],
      [
        'maxEventChannelsAtOnce',
        'MaxEventChannelsAtOnce',
        'max_event_channels_at_once',
        8,
        'max_event_channels_at_once',
        8,
      ],
      ['maxEventNameLength', 'MaxEventNameLength', 'max_event_name_length', 9, 'max_event_name_length', 9],
      ['maxEventPayloadInKb', 'MaxEventPayloadInKb', 'max_event_payload_in_kb', 10, 'max_event_payload_in_kb', 10],
      ['maxEventBatchSize', 'MaxEventBatchSize', 'max_event_batch_size', 11, 'max_event_batch_size', 11],
    ];
    const spelled = (i) => Object.fromEntries(fields.map((field) => [field[i], field[3]]));
    const { output, stderr } = await soketi(t, {
      'appManager.array.apps': [
        { id: 1, key: 'k1', secret: 's1', ...spelled(0), colour: 'red' },
        { AppId: 'two', AppKey: 'k2', AppSecret: 's2', ...spelled(1) },
        { id: 'three', key: 'k3', secret: 's3', ...spelled(2) },
      ],
    });
    const ours = Object.fromEntries(fields.map(([, , , , name, value]) => [name, value]));
    assert.deepEqual(output.app_manager.array.apps, [
      { id: '1', key: 'k1', secret: 's1', ...ours },
      { id: 'two', key: 'k2', secret: 's2', ...ours },
      { id: 'three', key: 'k3', secret: 's3', ...ours },
    ]);
    assert.deepEqual(lines(stderr, 'dropped'), [
      'dropped: soketi.json: appManager.array.apps[0].colour: soketi has no such field of an app',
    ]);
  });

  test('minus_one_and_absent_are_no_limit', async (t) => {
    const limits = [
      'maxConnections',
      'maxBackendEventsPerSecond',
      'maxClientEventsPerSecond',
      'maxReadRequestsPerSecond',
    ];
    const { output } = await soketi(t, {
      'channelLimits.maxNameLength': -1,
      'channelLimits.cacheTtl': -1,
      'appManager.cache.ttl': -1,
      'appManager.array.apps': [
        { ...APP_A, ...Object.fromEntries(limits.map((name) => [name, -1])), maxEventNameLength: -1 },
        { id: 'b', key: 'b-key', secret: 'b-secret', maxConnections: null, maxEventNameLength: '' },
      ],
    });
    assert.equal(output.channel_limits.max_name_length, 0);
    assert.equal(output.channel_limits.cache_ttl, 0);
    assert.equal(output.app_manager.cache, undefined);
    assert.deepEqual(output.app_manager.array.apps, [
      { ...APP_A, ...NO_LIMITS, max_event_name_length: 0 },
      { id: 'b', key: 'b-key', secret: 'b-secret', ...NO_LIMITS },
    ]);
  });

  test('zero_lets_nothing_through_and_is_said_in_another_way_or_refused', async (t) => {
    const app = { ...APP_A, enabled: true, enableClientMessages: true };
    const { output, stderr } = await soketi(t, {
      'appManager.array.apps': [{ ...app, maxConnections: 0, maxClientEventsPerSecond: 0 }],
    });
    assert.deepEqual(output.app_manager.array.apps, [
      { ...APP_A, ...NO_LIMITS, enabled: false, enable_client_messages: false },
    ]);
    assert.match(stderr, /^changed: .*apps\[0\]\.maxConnections: .*enabled is false/m);
    assert.match(stderr, /^changed: .*apps\[0\]\.maxClientEventsPerSecond: .*enable_client_messages is false/m);
    for (const field of [
      'maxBackendEventsPerSecond',
      'maxReadRequestsPerSecond',
      'maxPresenceMembersPerChannel',
      'maxPresenceMemberSizeInKb',
      'maxChannelNameLength',
      'maxEventChannelsAtOnce',
      'maxEventNameLength',
      'maxEventPayloadInKb',
      'maxEventBatchSize',
    ]) {
      const file = { 'appManager.array.apps': [{ ...app, [field]: 0 }] };
      const place = new RegExp(
        `^error: soketi\\.json: appManager\\.array\\.apps\\[0\\]\\.${field}: 0 lets nothing`,
        'm',
      );
      await refused(t, 1, ['soketi', 'soketi.json'], { 'soketi.json': file }, place);
    }
    for (const key of ['eventLimits.maxNameLength', 'presence.maxMembersPerChannel', 'httpApi.requestLimitInMb']) {
      const file = { 'appManager.array.apps': [app], [key]: 0 };
      await refused(
        t,
        1,
        ['soketi', 'soketi.json'],
        { 'soketi.json': file },
        new RegExp(`^error: .*${key}: 0 lets`, 'm'),
      );
    }
  });

  test('webhooks_keep_their_meaning_under_other_names', async (t) => {
    const webhooks = [
      {
        url: 'https://a.example/hook',
        event_types: ['channel_occupied'],
        headers: { 'X-Token': 'hidden' },
        filter: { channel_name_starts_with: 'beta-', channel_name_ends_with: '-app', other: 1 },
      },
      {
        lambda_function: 'f',
        lambda: { async: true, region: 'eu-west-1', client_options: { endpoint: 'x' } },
        event_types: ['member_added'],
      },
    ];
    const moved = [
      { ...webhooks[0], filter: { channel_prefix: 'beta-', channel_suffix: '-app' } },
      { ...webhooks[1], lambda: { region: 'eu-west-1' } },
    ];
    const { output, stderr } = await soketi(t, {
      'appManager.array.apps': [
        { ...APP_A, webhooks },
        { id: 'b', key: 'b-key', secret: 'b-secret', webhooks: JSON.stringify(webhooks) },
      ],
    });
    for (const app of output.app_manager.array.apps) assert.deepEqual(app.webhooks, moved);
    for (const i of [0, 1])
      for (const member of ['[0].filter.other', '[1].lambda.async', '[1].lambda.client_options.endpoint'])
        assert.ok(
          lines(stderr, 'dropped').some((line) => line.includes(`apps[${i}].webhooks${member}: `)),
          `${member} in\n${stderr}`,
        );
    assert.doesNotMatch(stderr, /hidden/);
  });

  test('of_an_address_and_a_function_the_address_is_used_as_there', async (t) => {
    const event_types = ['member_added'];
    const lambda = { async: true, region: 'eu-west-1' };
    const webhooks = [
      { url: 'https://a.example/', lambda_function: 'f', lambda, event_types },
      { url: '', lambda_function: 'f', lambda: {}, event_types },
      { url: 'https://b.example/', lambda, event_types },
    ];
    const { output, stderr } = await soketi(t, { 'appManager.array.apps': [{ ...APP_A, webhooks }] });
    assert.deepEqual(output.app_manager.array.apps[0].webhooks, [
      { url: 'https://a.example/', event_types },
      { lambda_function: 'f', event_types },
      { url: 'https://b.example/', event_types },
    ]);
    for (const member of ['[0].lambda_function', '[0].lambda.region', '[2].lambda.region', '[2].lambda.async'])
      assert.ok(
        lines(stderr, 'dropped').some((line) => line.includes(`webhooks${member}: soketi does not use it`)),
        `${member} in\n${stderr}`,
      );
  });

  test('a_limit_that_cannot_be_off_here_becomes_the_largest', async (t) => {
    for (const httpApi of [{ httpApi: { acceptTraffic: {} } }, { 'httpApi.requestLimitInMb': -1 }]) {
      const { output, stderr } = await soketi(t, { ...httpApi, 'appManager.array.apps': [APP_A] });
      assert.equal(output.http_api.request_limit_in_mb, 1024);
      assert.match(stderr, /^(note|changed): .*no limit there.* 1024 here/m);
    }
  });

  test('variables_alone_are_a_configuration', async (t) => {
    const env = `# Docker
SOKETI_DEFAULT_APP_ID=4711
SOKETI_DEFAULT_APP_KEY="shop-key"
export SOKETI_DEFAULT_APP_SECRET='shop # secret'
SOKETI_DEFAULT_APP_ENABLED=true
SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES=true
SOKETI_DEFAULT_APP_USER_AUTHENTICATION=true
SOKETI_DEFAULT_APP_MAX_CONNS=500
SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC=-1
SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC=20
SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC=30
SOKETI_DEFAULT_APP_WEBHOOKS='[{"url":"https://a.example/","event_types":["cache_miss"]}]'
SOKETI_METRICS_ENABLED=
`;
    for (const args of [['.env'], ['--env', '.env'], ['--env=.env']]) {
      const { output, stderr } = await converted(t, ['soketi', ...args], { '.env': env });
      assert.deepEqual(output, {
        ...SOKETI_DEFAULTS,
        app_manager: {
          driver: 'memory',
          array: {
            apps: [
              {
                id: '4711',
                key: 'shop-key',
                secret: 'shop # secret',
                enabled: true,
                enable_client_messages: true,
                enable_user_authentication: true,
                max_connections: 500,
                max_client_events_per_second: 20,
                max_read_requests_per_second: 30,
                max_backend_events_per_second: 0,
                webhooks: [{ url: 'https://a.example/', event_types: ['cache_miss'] }],
              },
            ],
          },
        },
      });
      assert.deepEqual(lines(stderr, 'dropped'), []);
    }
  });

  test('a_variable_changes_the_first_app_of_the_file', async (t) => {
    const files = { 'soketi.json': { 'appManager.array.apps': [APP_A] }, 'my.env': 'SOKETI_DEFAULT_APP_KEY=other\n' };
    const { output } = await converted(t, ['soketi', 'soketi.json', '--env', 'my.env'], files);
    assert.deepEqual(output.app_manager.array.apps, [{ ...APP_A, key: 'other', ...NO_LIMITS }]);
    const alone = await soketi(t, { 'appManager.array.apps.0.key': 'k', 'appManager.array.apps.0.secret': 's' });
    assert.deepEqual(alone.output.app_manager.array.apps, [{ id: 'app-id', key: 'k', secret: 's', ...NO_LIMITS }]);
  });

  test('the_app_that_soketi_has_by_itself_is_written_and_its_public_secret_named', async (t) => {
    const { output, stderr } = await converted(t, ['soketi', '-'], {}, { input: '{"port":6001}' });
    assert.deepEqual(output.app_manager.array.apps, [
      { id: 'app-id', key: 'app-key', secret: 'app-secret', ...NO_LIMITS },
    ]);
    assert.match(stderr, /^note: .*secret is missing; soketi's own, which everyone knows, is written/m);
  });

  test('a_database_gets_the_defaults_of_soketi_and_apps_of_the_file_are_not_used', async (t) => {
    for (const kind of ['mysql', 'postgres']) {
      const { output, stderr } = await soketi(t, { 'appManager.driver': kind, 'appManager.array.apps': [APP_A] });
      assert.deepEqual(output.app_manager, { driver: kind, cache: { enabled: false } });
      assert.deepEqual(output.database, { [kind]: { host: '127.0.0.1', password: 'password', database: 'main' } });
      assert.deepEqual(output.database_pooling, { enabled: false });
      assert.match(stderr, /^dropped: .*appManager\.array\.apps: soketi does not use them/m);
      assert.match(stderr, /^note: .*appManager\.driver: .*table of its own/m);
    }
    const { output } = await soketi(t, { 'appManager.driver': 'dynamodb', 'appManager.dynamodb.region': 'eu-west-1' });
    assert.equal(output.app_manager.driver, 'dynamodb');
    assert.deepEqual(output.database, { dynamodb: { region: 'eu-west-1' } });
  });

  test('a_database_that_is_given_as_a_whole_object_gets_no_password_of_soketi', async (t) => {
    const { output } = await soketi(t, {
      'appManager.driver': 'mysql',
      database: { mysql: { host: 'db', user: 'u', database: 'd' } },
    });
    assert.deepEqual(output.database.mysql, { host: 'db', username: 'u', database: 'd' });
  });

  test('tls_is_on_when_a_certificate_or_a_key_is_named', async (t) => {
    const files = { 'soketi.json': { 'appManager.array.apps': [APP_A] } };
    const env = 'SOKETI_SSL_CERT=/c.pem\nSOKETI_SSL_KEY=/k.pem\nSOKETI_SSL_PASS=hidden\nSOKETI_SSL_CA=/ca.pem\n';
    const { code, output, stderr } = await convert(t, ['soketi', 'soketi.json', '--env', '.env'], {
      ...files,
      '.env': env,
    });
    assert.equal(code, 0, stderr);
    assert.deepEqual(output.ssl, {
      enabled: true,
      cert_path: '/c.pem',
      key_path: '/k.pem',
      passphrase: 'hidden',
      ca_path: '/ca.pem',
    });
    const off = await soketi(t, {
      'appManager.array.apps': [APP_A],
      ssl: { certPath: '', keyPath: '', passphrase: '' },
    });
    assert.equal(off.output.ssl, undefined);
  });

  test('nodes_stay_connected_by_the_adapter_that_soketi_has', async (t) => {
    for (const [file, driver] of [
      [{ 'adapter.driver': 'redis' }, 'redis'],
      [{ 'adapter.driver': 'redis', 'adapter.redis.clusterMode': true }, 'redis-cluster'],
      [{ 'adapter.driver': 'nats' }, 'nats'],
    ]) {
      const { code, output, stderr, stdout } = await convert(t, ['soketi', '-'], {}, { input: JSON.stringify(file) });
      assert.equal(code, 0, stderr);
      assert.equal(output.adapter.driver, driver);
      assert.match(stderr, /^note: -: adapter\.driver: nodes of soketi and of Curlew do not hear each other/m);
      assert.notEqual((await runCurlew(['check'], { configText: stdout })).code, 2);
    }
    const file = { 'soketi.json': { 'adapter.driver': 'cluster' } };
    await refused(t, 1, ['soketi', 'soketi.json'], file, /^error: soketi\.json: adapter\.driver: .*Redis or NATS/m);
  });

  test('a_worker_and_a_queue_in_redis_are_named', async (t) => {
    const { output, stderr } = await soketi(t, {
      mode: 'worker',
      'queue.driver': 'redis',
      'appManager.array.apps': [APP_A],
    });
    assert.equal(output.mode, undefined);
    assert.equal(output.queue.driver, 'memory');
    assert.match(stderr, /^dropped: .*mode: a worker/m);
    assert.match(stderr, /^changed: .*queue\.driver: .*not read/m);
  });

  test('large_client_events_stay_possible', async (t) => {
    const kb = async (file) => (await soketi(t, file)).output.websocket_max_payload_kb;
    assert.equal(await kb({ 'eventLimits.maxPayloadInKb': 500 }), 564);
    assert.equal(await kb({ 'appManager.array.apps': [{ ...APP_A, maxEventPayloadInKb: 300 }] }), 364);
    assert.equal(await kb({ 'eventLimits.maxPayloadInKb': -1 }), 102400);
  });

  test('what_is_wrong_is_named_by_its_key_and_never_shown', async (t) => {
    const file = (content) => ({ 'soketi.json': content });
    const args = ['soketi', 'soketi.json'];
    await refused(t, 2, args, {}, /cannot read soketi\.json: No such file/);
    await refused(t, 2, args, file('{"a": "hidden'), /^error: soketi\.json: line 1, column \d+: this is not JSON: \S/m);
    await refused(
      t,
      2,
      args,
      file('{"a": "hidden",\n}'),
      /^error: soketi\.json: line \d, column \d+: this is not JSON: .*comma/m,
    );
    await refused(t, 2, args, file("<?php return ['hidden'];"), /this is PHP, not JSON/);
    await refused(t, 2, args, file('[]'), /must contain one JSON object/);
    await refused(t, 2, args, file({ name: 'hidden', version: '1' }), /there is nothing of soketi in it/);
    await refused(t, 2, args, file(''), /this is not JSON/);
    await refused(t, 2, args, file(`{"a": "${'x'.repeat(1 << 20)}"}`), /larger than 1048576 bytes/);
    await refused(t, 1, args, file({ port: 'hidden' }), /^error: soketi\.json: port: this must be a number$/m);
    await refused(
      t,
      1,
      args,
      file({ port: 70000 }),
      /^error: soketi\.json: port: port must be a whole number from 0 to 65535/m,
    );
    await refused(t, 1, args, file({ debug: 'hidden' }), /debug: this must be true or false/);
    await refused(t, 1, args, file({ host: ['hidden'] }), /host: this must be a text/);
    await refused(t, 1, args, file({ 'appManager.driver': 'hidden' }), /must be array, mysql, postgres or dynamodb/);
    await refused(t, 1, args, file({ 'appManager.array.apps': 'hidden' }), /must be a list of apps/);
    await refused(t, 1, args, file({ 'appManager.array.apps': ['hidden'] }), /apps\[0\]: an app must be an object/);
    await refused(
      t,
      1,
      args,
      file({ 'appManager.array.apps.3.key': 'hidden' }),
      /apps\.3\.key: there is no such element/,
    );
    await refused(
      t,
      1,
      args,
      file({ 'appManager.array.apps': [APP_A, APP_A] }),
      /apps\[1\]: an earlier app has the same/,
    );
    await refused(t, 1, args, file({ 'appManager.array.apps': [{ ...APP_A, id: 'a b' }] }), /id must have/);
    await refused(t, 1, args, file({ 'appManager.array.apps.*.key': 'hidden' }), /a name with \* is not understood/);
    await refused(t, 2, [...args, '--env', 'no.env'], file({}), /cannot read no\.env/);
    const env = { ...file({}), '.env': 'A=1\n\nB hidden\n' };
    await refused(t, 2, [...args, '--env', '.env'], env, /^error: \.env: line 3: this is not NAME=value$/m);
  });

  test('names_of_the_file_cannot_write_to_the_terminal', async (t) => {
    const { stderr } = await soketi(t, { 'a\u001b[31m\n': 1, 'appManager.array.apps': [APP_A] });
    assert.match(stderr, /^dropped: soketi\.json: a\?\[31m\?: /m);
  });

  test('a_byte_order_mark_is_not_part_of_the_file', async (t) => {
    const { output } = await soketi(t, `\ufeff${JSON.stringify({ port: 6002, 'appManager.array.apps': [APP_A] })}`);
    assert.equal(output.port, 6002);
  });

  test('a_text_that_looks_like_a_variable_stays_a_text', async (t) => {
    const secret = `a\${HOME}$\${b}$c`;
    const { stdout, output } = await soketi(t, { 'appManager.array.apps': [{ ...APP_A, secret }] });
    assert.equal(output.app_manager.array.apps[0].secret, `a$\${HOME}$$\${b}$c`);
    const file = path.join(folderWith(t, { 'config.json': stdout }), 'config.json');
    assert.equal((await exported(t, file))[0].secret, secret);
  });

  test('the_result_is_served_as_soketi_served_it', async (t) => {
    const { output } = await soketi(t, {
      'appManager.array.apps': [
        { ...APP_A, enableClientMessages: true },
        { id: 'b', key: 'b-key', secret: 'b-secret', maxConnections: 0 },
      ],
    });
    await isServed(t, output, APP_A, [['b-key', 4003]]);
  });
});

// A client connects with the key of the app and gets what is published; others are closed with their codes.
async function isServed(t, output, app, closed = []) {
  const server = await serverFor(t, { apps: [], config: { ...output, host: undefined, port: 0 } });
  const ws = await connect(server, { app, t });
  assert.equal(ws.activityTimeout, 30);
  const pusher = makePusher(server, { t, app });
  const channel = pusher.subscribe('moved');
  const events = record(channel);
  await connected(pusher);
  await subscribed(channel);
  await publish(server, { name: 'e', channel: 'moved', data: '{"by":"sdk"}' }, { app });
  assert.deepEqual((await events.next('e')).data, { by: 'sdk' });
  for (const [key, code] of closed) {
    const refusedClient = await RawWebSocket.connect(server, { key });
    t.after(() => refusedClient.destroy());
    await closedWithError(refusedClient, code);
  }
  return server;
}

const LARAVEL_LIMITS = {
  event_limits: { max_channels_at_once: 0, max_name_length: 0, max_payload_in_kb: 0, max_batch_size: 0 },
  channel_limits: { max_name_length: 0 },
  presence: { max_members_per_channel: 0, max_member_size_in_kb: 0 },
  rate_limits: { max_read_requests_per_second: 0, max_backend_events_per_second: 0 },
};

// config/reverb.php as an application has it; `app` and `server` replace values of the first app and of the server.
function reverbFile({ app = {}, server = {}, apps = '', provider = "'config'", before = '' } = {}) {
  const appValues = {
    key: "env('REVERB_APP_KEY')",
    secret: "env('REVERB_APP_SECRET')",
    app_id: "env('REVERB_APP_ID')",
    options: "['host' => env('REVERB_HOST'), 'useTLS' => env('REVERB_SCHEME', 'https') === 'https']",
    allowed_origins: "['*']",
    ping_interval: "env('REVERB_APP_PING_INTERVAL', 60)",
    activity_timeout: "env('REVERB_APP_ACTIVITY_TIMEOUT', 30)",
    max_connections: "env('REVERB_APP_MAX_CONNECTIONS')",
    max_message_size: "env('REVERB_APP_MAX_MESSAGE_SIZE', 10_000)",
    accept_client_events_from: "env('REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM', 'members')",
    rate_limiting: `[
      'enabled' => env('REVERB_APP_RATE_LIMITING_ENABLED', false),
      'max_attempts' => env('REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS', 60),
      'decay_seconds' => env('REVERB_APP_RATE_LIMIT_DECAY_SECONDS', 60),
      'terminate_on_limit' => env('REVERB_APP_RATE_LIMIT_TERMINATE', false),
    ]`,
    ...app,
  };
  const serverValues = {
    host: "env('REVERB_SERVER_HOST', '0.0.0.0')",
    port: "env('REVERB_SERVER_PORT', 8080)",
    path: "env('REVERB_SERVER_PATH', '')",
    hostname: "env('REVERB_HOST')",
    options: "['tls' => []]",
    max_request_size: "env('REVERB_MAX_REQUEST_SIZE', 10_000)",
    scaling: `[
      'enabled' => env('REVERB_SCALING_ENABLED', false),
      'channel' => env('REVERB_SCALING_CHANNEL', 'reverb'),
      'server' => [
        'url' => env('REDIS_URL'),
        'host' => env('REDIS_HOST', '127.0.0.1'),
        'port' => env('REDIS_PORT', '6379'),
        'username' => env('REDIS_USERNAME'),
        'password' => env('REDIS_PASSWORD'),
        'database' => env('REDIS_DB', '0'),
      ],
    ]`,
    pulse_ingest_interval: "env('REVERB_PULSE_INGEST_INTERVAL', 15)",
    telescope_ingest_interval: "env('REVERB_TELESCOPE_INGEST_INTERVAL', 15)",
    ...server,
  };
  const php = (values) =>
    Object.entries(values)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `'${name}' => ${value},\n`)
      .join('');
  return `<?php
${before}
return [
    /* the server */
    'default' => env('REVERB_SERVER', 'reverb'),
    'servers' => ['reverb' => [ // only one
${php(serverValues)}]],
    'apps' => ['provider' => ${provider}, 'apps' => [[
${php(appValues)}],${apps}]],
];
`;
}

const REVERB_ENV = `APP_NAME=Shop
REVERB_APP_ID=314159
REVERB_APP_KEY=reverb-key
REVERB_APP_SECRET="reverb-secret"
REVERB_HOST="ws.shop.example"
REVERB_PORT=443
REVERB_SCHEME=https
REDIS_HOST=127.0.0.1
VITE_REVERB_APP_KEY="\${REVERB_APP_KEY}"
VITE_REVERB_HOST="\${REVERB_HOST}"
`;
const REVERB_APP = { id: '314159', key: 'reverb-key', secret: 'reverb-secret' };
const reverb = (t, file = {}, env = '') =>
  converted(t, ['reverb', 'reverb.php', '--env', '.env'], { 'reverb.php': reverbFile(file), '.env': REVERB_ENV + env });
const firstApp = ({ output }) => output.app_manager.array.apps[0];

describe('Reverb', () => {
  test('the_file_as_it_ships_with_its_variables', async (t) => {
    const { output, stderr } = await reverb(t);
    assert.deepEqual(output, {
      ...LARAVEL_LIMITS,
      host: '0.0.0.0',
      port: 8080,
      activity_timeout: 30,
      websocket: { max_message_size: 10000 },
      app_manager: {
        array: {
          apps: [{ ...REVERB_APP, enable_client_messages: true, max_connections: 0, max_client_events_per_second: 0 }],
        },
      },
    });
    for (const key of [
      'servers.reverb.hostname',
      'servers.reverb.max_request_size',
      'servers.reverb.scaling',
      'servers.reverb.pulse_ingest_interval',
      'servers.reverb.telescope_ingest_interval',
      'apps.apps[0].options.host',
      'apps.apps[0].options.useTLS',
      'apps.apps[0].ping_interval',
      'apps.apps[0].rate_limiting',
    ])
      assert.ok(
        lines(stderr, 'dropped').some((line) => /^dropped: reverb\.php:\d+: /.test(line) && line.includes(` ${key}`)),
        `${key} in\n${stderr}`,
      );
    assert.equal(lines(stderr, 'dropped').length, 9);
    assert.match(stderr, /^note: the output holds 1 secret/m);
    assert.doesNotMatch(stderr, /reverb-secret/);
  });

  test('variables_alone_mean_the_file_as_it_ships', async (t) => {
    const alone = await converted(t, ['reverb', '.env'], { '.env': REVERB_ENV });
    const { host, ...others } = (await reverb(t)).output;
    assert.equal(host, '0.0.0.0');
    assert.deepEqual(alone.output, others);
    for (const name of ['REVERB_HOST', 'REVERB_PORT', 'REVERB_SCHEME', 'VITE_REVERB_HOST', 'VITE_REVERB_APP_KEY'])
      assert.match(alone.stderr, new RegExp(`^dropped: ${name}: `, 'm'));
    assert.doesNotMatch(alone.stderr, /APP_NAME|REDIS/);
  });

  test('each_variable_has_its_effect_with_and_without_the_file', async (t) => {
    const env = `
REVERB_SERVER_HOST=127.0.0.1
REVERB_SERVER_PORT=9000
REVERB_SERVER_PATH=/reverb
REVERB_MAX_REQUEST_SIZE=20000000
REVERB_APP_MAX_CONNECTIONS=50
REVERB_APP_ACTIVITY_TIMEOUT=45
REVERB_APP_PING_INTERVAL=20
REVERB_APP_MAX_MESSAGE_SIZE=200000
REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=none
REVERB_PULSE_INGEST_INTERVAL=5
REVERB_TELESCOPE_INGEST_INTERVAL=5
REVERB_UNKNOWN=1
`;
    const alone = await converted(t, ['reverb', '.env'], { '.env': REVERB_ENV + env });
    for (const result of [await reverb(t, {}, env), alone]) {
      const { output, stderr } = result;
      assert.equal(output.host, '127.0.0.1');
      assert.equal(output.port, 9000);
      assert.equal(output.path_prefix, '/reverb');
      assert.equal(output.http_api.request_limit_in_mb, 20);
      assert.equal(output.activity_timeout, 45);
      assert.equal(output.websocket.max_message_size, 200000);
      assert.equal(output.websocket_max_payload_kb, 196);
      assert.equal(firstApp(result).max_connections, 50);
      assert.equal(firstApp(result).enable_client_messages, false);
      for (const name of ['PING', 'PULSE_INGEST', 'TELESCOPE_INGEST'])
        assert.match(stderr, new RegExp(`^dropped: .*REVERB_(APP_)?${name}_INTERVAL`, 'm'));
    }
    assert.match(alone.stderr, /^dropped: REVERB_UNKNOWN: /m);
  });

  test('hosts_become_origins_with_any_port', async (t) => {
    const origins = async (list) => (await reverb(t, { app: { allowed_origins: list } })).output;
    const of = async (list) => (await origins(list)).app_manager.array.apps[0].allowed_origins;
    assert.deepEqual(await of("['shop.example', 'localhost']"), [
      'shop.example',
      'shop.example:*',
      'localhost',
      'localhost:*',
    ]);
    assert.equal(await of("['shop.example', '*']"), undefined);
    assert.equal(await of(undefined), undefined);
    const { output, stderr } = await reverb(t, {
      app: {
        allowed_origins: "explode(',', env('ORIGINS', '*.shop.example,https://a.example,b.example:80,c.example'))",
      },
    });
    assert.deepEqual(output.app_manager.array.apps[0].allowed_origins, ['*.shop.example', 'c.example', 'c.example:*']);
    assert.match(stderr, /^changed: reverb\.php:\d+: apps\.apps\[0\]\.allowed_origins \(ORIGINS\): .*default ports/m);
    assert.equal(stderr.match(/left out: only the host/g).length, 2);
    const unset = await reverb(t, { app: { allowed_origins: "env('ORIGINS')" } });
    assert.equal(unset.output.app_manager.array.apps[0].allowed_origins, undefined);
    assert.match(
      unset.stderr,
      /^changed: .*allowed_origins \(ORIGINS\): null lets nobody in there, and every origin here/m,
    );
    for (const list of ['[]', "['https://a.example']", "['']"]) {
      const files = { 'reverb.php': reverbFile({ app: { allowed_origins: list } }), '.env': REVERB_ENV };
      const args = ['reverb', 'reverb.php', '--env', '.env'];
      await refused(t, 1, args, files, /allowed_origins: this list lets nobody in there/);
    }
  });

  test('a_limit_of_messages_becomes_a_policy_with_every_value_of_the_app', async (t) => {
    const env = 'REVERB_APP_RATE_LIMITING_ENABLED=true\nREVERB_APP_RATE_LIMIT_TERMINATE=true\n';
    for (const args of [
      ['reverb', '.env'],
      ['reverb', 'reverb.php', '--env', '.env'],
    ]) {
      const app = { allowed_origins: "['shop.example']", max_connections: '7' };
      const { code, output, stderr } = await convert(t, args, {
        'reverb.php': reverbFile({ app }),
        '.env': `${REVERB_ENV}${env}REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=30\nREVERB_APP_MAX_CONNECTIONS=7\n`,
      });
      assert.equal(code, 0, stderr);
      assert.deepEqual(output.app_manager.array.apps, [
        {
          ...REVERB_APP,
          policy: {
            limits: {
              max_connections: 7,
              max_client_events_per_second: 0,
              max_read_requests_per_second: 0,
              max_backend_events_per_second: 0,
              max_presence_members_per_channel: 0,
              max_presence_member_size_in_kb: 0,
              max_channel_name_length: 0,
              max_event_channels_at_once: 0,
              max_event_name_length: 0,
              max_event_payload_in_kb: 0,
              max_event_batch_size: 0,
              message_rate_limit: { enabled: true, max_attempts: 30, decay_seconds: 60, terminate_on_limit: true },
            },
            features: { enable_client_messages: true },
            ...(args.length === 2 ? {} : { channels: { allowed_origins: ['shop.example', 'shop.example:*'] } }),
          },
        },
      ]);
      assert.doesNotMatch(stderr, /rate_limiting/);
    }
  });

  test('zero_connections_lets_nobody_in', async (t) => {
    const result = await reverb(t, { app: { max_connections: '0' } });
    assert.equal(firstApp(result).enabled, false);
    assert.match(result.stderr, /^changed: .*max_connections: 0 lets nobody in there/m);
  });

  test('client_events_are_off_unless_the_word_is_all_or_members', async (t) => {
    for (const [value, on] of [
      ["'all'", true],
      ["'members'", true],
      [undefined, true],
      ["'none'", false],
      ['false', false],
    ]) {
      const result = await reverb(t, { app: { accept_client_events_from: value } });
      assert.equal(firstApp(result).enable_client_messages, on, value);
      assert.equal(/^note: .*public channels/m.test(result.stderr), on);
    }
  });

  test('several_apps_share_what_curlew_has_once', async (t) => {
    const apps =
      "['app_id' => 2, 'key' => 'two-key', 'secret' => 'two', 'activity_timeout' => 20, 'max_message_size' => 5_000],";
    const { output, stderr } = await reverb(t, { apps });
    assert.deepEqual(
      output.app_manager.array.apps.map(({ id }) => id),
      ['314159', '2'],
    );
    assert.equal(output.activity_timeout, 20);
    assert.equal(output.websocket.max_message_size, 10000);
    assert.match(stderr, /^changed: .*apps\[1\]\.activity_timeout: .*smallest/m);
    assert.match(stderr, /^changed: .*apps\[1\]\.max_message_size: .*largest/m);
  });

  test('scaling_becomes_redis', async (t) => {
    const files = {
      'reverb.php': reverbFile(),
      '.env': `${REVERB_ENV}REVERB_SCALING_ENABLED=true\nREDIS_URL=redis://hidden@r\nREDIS_PASSWORD=hidden\nREDIS_PORT=6380\n`,
    };
    for (const args of [
      ['reverb', '.env'],
      ['reverb', 'reverb.php', '--env', '.env'],
    ]) {
      const { code, output, stderr, stdout } = await convert(t, args, files);
      assert.equal(code, 0, stderr);
      assert.deepEqual(output.adapter, {
        driver: 'redis',
        redis: {
          prefix: 'reverb',
          redis_pub_options: { url: 'redis://hidden@r' },
          redis_sub_options: { url: 'redis://hidden@r' },
        },
      });
      const { db, ...redis } = output.database.redis;
      assert.deepEqual(redis, { host: '127.0.0.1', port: 6380, password: 'hidden' });
      assert.equal(db ?? 0, 0);
      assert.match(stderr, /^note: .*scaling\.enabled.*do not hear each other/m);
      assert.doesNotMatch(stderr, /hidden/);
      assert.notEqual((await runCurlew(['check'], { configText: stdout })).code, 2);
    }
  });

  test('tls_of_php_becomes_ssl', async (t) => {
    const tls =
      "['tls' => ['local_cert' => '/c.pem', 'local_pk' => '/k.pem', 'passphrase' => 'p', 'verify_peer' => false]]";
    const files = { 'reverb.php': reverbFile({ server: { options: tls } }), '.env': REVERB_ENV };
    const { code, output, stderr } = await convert(t, ['reverb', 'reverb.php', '--env', '.env'], files);
    assert.equal(code, 0, stderr);
    assert.deepEqual(output.ssl, { enabled: true, cert_path: '/c.pem', key_path: '/k.pem', passphrase: 'p' });
    assert.match(stderr, /^dropped: .*options\.tls\.verify_peer: /m);
    files['reverb.php'] = reverbFile({ server: { options: "['tls' => ['local_cert' => '/both.pem']]" } });
    const both = await convert(t, ['reverb', 'reverb.php', '--env', '.env'], files);
    assert.deepEqual(both.output.ssl, { enabled: true, cert_path: '/both.pem', key_path: '/both.pem' });
  });

  test('an_expression_is_an_error_only_where_its_value_is_needed', async (t) => {
    const unneeded = await reverb(t, { server: { hostname: "config('app.url')" }, before: '$x = fn () => [1];' });
    assert.match(unneeded.stderr, /^dropped: reverb\.php:\d+: servers\.reverb\.hostname: /m);
    const files = { '.env': REVERB_ENV };
    const args = ['reverb', 'reverb.php', '--env', '.env'];
    for (const [value, pattern] of [
      [
        "config('hidden')",
        /^error: reverb\.php:7: servers\.reverb\.host: the call of config\(\) is not understood here/m,
      ],
      ["'hidden' . env('A')", /servers\.reverb\.host: the operator \. is not understood/],
      ['$hidden_', /servers\.reverb\.host: the variable /],
    ]) {
      files['reverb.php'] = reverbFile({ server: { host: value } });
      const { code, stderr, stdout } = await convert(t, args, files);
      assert.equal(code, 1);
      assert.equal(stdout, '');
      assert.match(stderr, pattern);
    }
    files['reverb.php'] = reverbFile({ app: { allowed_origins: "['a', $b]" } });
    await refused(t, 1, args, files, /allowed_origins\[1\]: the variable \$b is not understood here/);
    for (const [key, value] of [
      ['options', 'tls()'],
      ['options.tls', "['tls' => tls()]"],
      ['scaling', 'scaling()'],
    ]) {
      files['reverb.php'] = reverbFile({ server: { [key.split('.')[0]]: value } });
      const place = new RegExp(
        `^error: reverb\\.php:\\d+: servers\\.reverb\\.${key}: the call of \\w+\\(\\) is not understood`,
        'm',
      );
      await refused(t, 1, args, files, place);
    }
    files['reverb.php'] = "<?php return ['servers' => servers(), 'apps' => apps()];";
    await refused(t, 1, args, files, /servers: the call of servers\(\)/, /apps: the call of apps\(\)/);
    files['reverb.php'] = reverbFile({ apps: '...App::all()' });
    await refused(t, 1, args, files, /apps\.apps\[1\]: the operator \.\.\. is not understood/);
  });

  test('keys_of_other_packages_are_named', async (t) => {
    const { stderr } = await reverb(t, { app: { webhooks: "['url' => 'https://a.example']" }, server: { tcp: '[1]' } });
    assert.match(stderr, /^dropped: reverb\.php:\d+: apps\.apps\[0\]\.webhooks\.url: Curlew has no counterpart/m);
    assert.match(stderr, /^dropped: reverb\.php:\d+: servers\.reverb\.tcp: Curlew has no counterpart/m);
  });

  test('what_is_wrong_is_named_by_line_and_key', async (t) => {
    const php = { 'reverb.php': reverbFile() };
    await refused(
      t,
      1,
      ['reverb', 'reverb.php'],
      php,
      /^error: reverb\.php:\d+: apps\.apps\[0\]\.key \(REVERB_APP_KEY\): it has no value; set it in the \.env file/m,
    );
    await refused(
      t,
      1,
      ['reverb', '.env'],
      { '.env': 'REVERB_APP_ID=1' },
      /apps\.apps\.0\.secret \(REVERB_APP_SECRET\): it has no value/,
    );
    await refused(
      t,
      1,
      ['reverb', 'reverb.php'],
      { 'reverb.php': "<?php return ['servers' => ['reverb' => []]];" },
      /^error: .*apps\.apps has no app/m,
    );
    await refused(
      t,
      1,
      ['reverb', 'reverb.php'],
      { 'reverb.php': '<?php return [];' },
      /servers has no server named as/,
    );
    await refused(
      t,
      2,
      ['reverb', 'reverb.php'],
      { 'reverb.php': "<?php\nreturn ['hidden];" },
      /^error: reverb\.php: line 2: the closing quote is missing/m,
    );
    await refused(t, 2, ['reverb', 'reverb.php'], { 'reverb.php': '{}' }, /a PHP file begins with <\?php/);
    const database = { 'reverb.php': reverbFile({ provider: "'database'" }), '.env': REVERB_ENV };
    await refused(t, 1, ['reverb', 'reverb.php', '--env', '.env'], database, /provider: the apps are not in this file/);
  });

  test('the_result_is_served', async (t) => {
    const { output } = await reverb(t);
    await isServed(t, output, REVERB_APP);
  });
});

const WEBSOCKETS = `<?php
use BeyondCode\\LaravelWebSockets\\Dashboard\\Http\\Middleware\\Authorize;

return [
    'dashboard' => ['port' => env('LARAVEL_WEBSOCKETS_PORT', 6001), 'path' => 'ws'],
    'apps' => [
        [
            'id' => env('PUSHER_APP_ID'),
            'name' => env('APP_NAME'),
            'key' => env('PUSHER_APP_KEY'),
            'secret' => env('PUSHER_APP_SECRET'),
            'path' => env('PUSHER_APP_PATH'),
            'capacity' => null,
            'enable_client_messages' => true,
            'enable_statistics' => true,
        ],
        ['id' => 'b', 'key' => 'b-key', 'secret' => 'b-secret', 'capacity' => 20, 'enable_client_messages' => false,
         'allowed_origins' => ['b.example']],
        ['id' => 'c', 'key' => 'c-key', 'secret' => 'c-secret', 'capacity' => 0],
    ],
    'app_provider' => A\\ConfigAppProvider::class,
    'allowed_origins' => ['shop.example'],
    'max_request_size_in_kb' => 250,
    'path' => 'laravel-websockets',
    'middleware' => ['web', Authorize::class],
    'statistics' => ['model' => \\A\\Entry::class, 'interval_in_seconds' => 60],
    'ssl' => [
        'local_cert' => env('LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT', null),
        'local_pk' => env('LARAVEL_WEBSOCKETS_SSL_LOCAL_PK', null),
        'passphrase' => env('LARAVEL_WEBSOCKETS_SSL_PASSPHRASE', null),
    ],
    'channel_manager' => \\A\\ArrayChannelManager::class,
];
`;
const WEBSOCKETS_ENV = `APP_NAME="Shop"
PUSHER_APP_ID=12345
PUSHER_APP_KEY=pusher-key
PUSHER_APP_SECRET=pusher-secret
PUSHER_APP_CLUSTER=mt1
LARAVEL_WEBSOCKETS_PORT=6002
`;
const PUSHER_APP = { id: '12345', key: 'pusher-key', secret: 'pusher-secret' };

describe('laravel-websockets', () => {
  const args = ['laravel-websockets', 'websockets.php', '--env', '.env'];

  test('its_file_with_its_variables', async (t) => {
    const files = { 'websockets.php': WEBSOCKETS, '.env': WEBSOCKETS_ENV };
    const { output, stderr } = await converted(t, args, files);
    const unlimited = { max_connections: 0, max_client_events_per_second: 0 };
    const origins = { allowed_origins: ['shop.example', 'shop.example:*'] };
    assert.deepEqual(output, {
      ...LARAVEL_LIMITS,
      port: 6002,
      activity_timeout: 30,
      app_manager: {
        array: {
          apps: [
            { ...PUSHER_APP, enable_client_messages: true, ...unlimited, ...origins },
            {
              id: 'b',
              key: 'b-key',
              secret: 'b-secret',
              enable_client_messages: false,
              max_connections: 20,
              max_client_events_per_second: 0,
              allowed_origins: ['b.example', 'b.example:*'],
            },
            { id: 'c', key: 'c-key', secret: 'c-secret', enabled: false, ...unlimited, ...origins },
          ],
        },
      },
    });
    for (const key of [
      'dashboard.path',
      'apps[0].name',
      'apps[0].enable_statistics',
      'app_provider',
      'max_request_size_in_kb',
      'path',
      'middleware',
      'statistics.model',
      'statistics.interval_in_seconds',
      'channel_manager',
    ])
      assert.ok(
        lines(stderr, 'dropped').some(
          (line) => /^dropped: websockets\.php:\d+: /.test(line) && line.includes(` ${key}`),
        ),
        `${key} in\n${stderr}`,
      );
    assert.equal(lines(stderr, 'dropped').length, 10);
    // A page of the host, with any port; other clients send no Origin.
    const served = await serverFor(t, { apps: [], config: { ...output, host: undefined, port: 0 } });
    await connect(served, { app: PUSHER_APP, t, headers: { Origin: 'http://shop.example:8080' } });
    delete output.app_manager.array.apps[0].allowed_origins;
    await isServed(t, output, PUSHER_APP, [['c-key', 4003]]);
  });

  test('variables_alone_tls_and_redis', async (t) => {
    const env = `${WEBSOCKETS_ENV}LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT=/c.pem\nLARAVEL_WEBSOCKETS_SSL_LOCAL_PK=/k.pem
WEBSOCKETS_REPLICATION_MODE=redis\nLARAVEL_WEBSOCKETS_OTHER=1\n`;
    const { code, output, stderr } = await convert(t, ['laravel-websockets', '.env'], { '.env': env });
    assert.equal(code, 0, stderr);
    assert.equal(output.port, 6002);
    assert.deepEqual(output.ssl, { enabled: true, cert_path: '/c.pem', key_path: '/k.pem' });
    assert.equal(output.adapter.driver, 'redis');
    assert.deepEqual(output.app_manager.array.apps, [
      { ...PUSHER_APP, max_connections: 0, max_client_events_per_second: 0 },
    ]);
    assert.match(stderr, /^dropped: LARAVEL_WEBSOCKETS_OTHER: /m);
  });

  test('a_section_that_is_not_understood_is_an_error', async (t) => {
    for (const section of ['ssl', 'dashboard', 'replication', 'apps', 'allowed_origins']) {
      const files = { '.env': WEBSOCKETS_ENV, 'websockets.php': `<?php return ['${section}' => f(), ];` };
      await refused(t, 1, args, files, new RegExp(`^error: websockets\\.php:1: ${section}: the call of f\\(\\)`, 'm'));
    }
  });

  test('missing_values_are_named', async (t) => {
    await refused(
      t,
      1,
      args.slice(0, 2),
      { 'websockets.php': WEBSOCKETS },
      /apps\[0\]\.id \(PUSHER_APP_ID\): it has no value/,
    );
    await refused(
      t,
      1,
      args.slice(0, 2),
      { 'websockets.php': "<?php return ['apps' => []];" },
      /apps: apps has no app/,
    );
  });
});

test('an_application_of_pusher_gets_its_limits', async (t) => {
  const { output, stderr } = await converted(t, ['pusher', '--env', '.env'], { '.env': WEBSOCKETS_ENV });
  assert.deepEqual(output, {
    app_manager: {
      array: {
        apps: [
          {
            ...PUSHER_APP,
            max_connections: 0,
            max_client_events_per_second: 10,
            max_read_requests_per_second: 0,
            max_backend_events_per_second: 0,
            max_presence_members_per_channel: 100,
            max_channel_name_length: 200,
            max_event_name_length: 200,
            max_event_payload_in_kb: 10,
            max_event_batch_size: 10,
          },
        ],
      },
    },
  });
  assert.match(stderr, /^dropped: PUSHER_APP_CLUSTER: /m);
  assert.match(stderr, /^note: in the application set PUSHER_HOST/m);
  await refused(t, 2, ['pusher', 'x.json'], {}, /Pusher has no configuration file/);
});

test('a_wrong_command_line_is_explained', async (t) => {
  for (const [args, pattern] of [
    [[], /name a server: soketi, reverb, laravel-websockets or pusher/],
    [['sokety', 'x'], /unknown server: sokety; did you mean soketi\?/],
    [['ably', 'x'], /unknown server \(soketi, reverb, laravel-websockets or pusher\): ably/],
    [['sockudo', 'x'], /Sockudo's files need no conversion/],
    [['soketi'], /name the configuration file, or a \.env file/],
    [['soketi', 'a', 'b'], /unexpected argument: b/],
    [['soketi', '--envi', 'b'], /unknown option: --envi/],
    [['soketi', 'a', '--env'], /a file name must follow: --env/],
    [['soketi', 'a', '--env', 'b', '--env=c'], /--env is given twice: c/],
    [['reverb', '.env', '--env', 'b.env'], /two \.env files are given: b\.env/],
  ])
    await refused(t, 2, args, {}, pattern, /try `curlew convert --help`/);
  const help = await runCurlew(['convert', '--help']);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /usage: curlew convert soketi\|reverb\|laravel-websockets \[FILE\] \[--env FILE\]/);
  assert.match((await runCurlew(['--help'])).stdout, /^ {2}convert +\S/m);
});

test('the_documented_commands_write_a_configuration_that_is_checked', async (t) => {
  const page = readFileSync(new URL('../../docs/moving-in.md', import.meta.url), 'utf8');
  const folder = folderWith(t, { '.env': REVERB_ENV });
  mkdirSync(path.join(folder, 'config'));
  writeFileSync(path.join(folder, 'config/reverb.php'), reverbFile());
  const commands = `curlew() { "${BINARY}" "$@"; }\n${snippets(page).run.get('convert')}`;
  const stdout = execFileSync('sh', ['-ec', commands], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  assert.match(stdout.toString(), /^ok: curlew\.json, 1 app$/m);
  assert.equal(statSync(path.join(folder, 'curlew.json')).mode & 0o777, 0o600);
});

test('a_result_that_cannot_be_written_is_an_error', async (t) => {
  const folder = folderWith(t, { '.env': WEBSOCKETS_ENV });
  const child = spawn('sh', ['-c', `exec "${BINARY}" convert pusher "${path.join(folder, '.env')}" >/dev/full`]);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk;
  });
  const code = await within(new Promise((resolve) => child.once('close', resolve)), 'convert to end');
  assert.equal(code, 1);
  assert.match(stderr, /^error: cannot write the configuration: No space left on device/m);
});
