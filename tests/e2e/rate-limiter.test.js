// rate_limiter.*: how many API requests and connects one client address may make, whatever worker takes them. The
// loopback network has many addresses, so the clients of these tests have different ones.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connect, closedWithError } from '../lib/client.js';
import { fetchMetrics } from '../lib/metrics.js';
import { connected, makePusher, record } from '../lib/pusher.js';
import { RawHttp } from '../lib/raw-http.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor, THREADS_BINARY } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

// A window so long that no token comes back while a test runs.
const HOUR = 3600;

function limited(t, { api = {}, websocket = {}, workers = 4, enabled = true }) {
  return serverFor(t, {
    binary: THREADS_BINARY,
    config: {
      workers,
      rate_limiter: {
        enabled,
        api_rate_limit: { max_requests: 0, window_seconds: HOUR, ...api },
        websocket_rate_limit: { max_requests: 0, window_seconds: HOUR, ...websocket },
      },
    },
  });
}

// One request on a connection of its own, so that the kernel chooses a worker anew.
async function ask(
  server,
  { localAddress, headers, target = signedPath(APP, 'GET', `/apps/${APP.id}/channels`) } = {},
) {
  const http = await RawHttp.connect(server, { localAddress });
  http.send('GET', target, { headers });
  const response = await http.next();
  http.destroy();
  return response;
}

async function statuses(server, count, options) {
  const answers = [];
  for (let i = 0; i < count; i++) answers.push((await ask(server, options)).status);
  return answers;
}

const of = (count, status) => Array(count).fill(status);

test('one address gets max_requests from all workers together, and is told when there is more', async (t) => {
  const server = await limited(t, { api: { max_requests: 12 } });
  assert.deepEqual(await statuses(server, 14, { localAddress: '127.0.0.2' }), [...of(12, 200), 429, 429]);
  const refused = await ask(server, { localAddress: '127.0.0.2' });
  assert.deepEqual(refused.json, {
    error: `too many requests from this address: rate_limiter.api_rate_limit.max_requests is 12 in ${HOUR} s`,
  });
  const wait = Number(refused.headers['retry-after']);
  assert.ok(Number.isInteger(wait) && wait > 0 && wait <= HOUR / 12, refused.headers['retry-after']);
  assert.equal(refused.headers['access-control-allow-origin'], '*');
  assert.deepEqual(await statuses(server, 2, { localAddress: '127.0.0.3' }), [200, 200]);
});

test('requests that name an app outside of /apps count, and health checks of the server do not', async (t) => {
  const server = await limited(t, { api: { max_requests: 3 } });
  const statusOf = async (target) => (await ask(server, { target })).status;
  assert.equal(await statusOf(`/up/${APP.id}`), 200);
  assert.equal(await statusOf('/up/nobody'), 404);
  assert.equal(await statusOf('/stats?auth_key=nobody'), 401);
  assert.equal(await statusOf('/up/nobody'), 429);
  assert.equal(await statusOf('/stats?auth_key=nobody'), 429);
  for (const path of ['/up', '/live', '/ready']) assert.equal(await statusOf(path), 200, path);
});

test('requests at the same time get no more than one after another', async (t) => {
  const server = await limited(t, { api: { max_requests: 10 } });
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask(server)));
  assert.equal(answers.filter(({ status }) => status === 200).length, 10);
  assert.equal(answers.filter(({ status }) => status === 429).length, 30);
});

test('a refused request leaves its connection open, and its token comes back with time', async (t) => {
  const server = await limited(t, { api: { max_requests: 1, window_seconds: 1 } });
  const http = await RawHttp.connect(server);
  t.after(() => http.destroy());
  const target = signedPath(APP, 'GET', `/apps/${APP.id}/channels`);
  const answers = [];
  do {
    http.send('GET', target);
    answers.push((await http.next()).status);
  } while (answers.filter((status) => status === 200).length < 2 || !answers.includes(429));
});

test('unsigned and unknown requests to /apps count, health pages do not', async (t) => {
  const server = await limited(t, { api: { max_requests: 3 } });
  assert.deepEqual(await statuses(server, 2, { target: '/apps/none/channels' }), of(2, 404));
  assert.deepEqual(await statuses(server, 2, { target: `/apps/${APP.id}/channels` }), [401, 429]);
  assert.deepEqual(await statuses(server, 5, { target: '/up' }), of(5, 200));
});

test('X-Forwarded-For counts only as far as proxies are trusted', async (t) => {
  const server = await limited(t, { api: { max_requests: 2, trust_hops: 1 }, websocket: { max_requests: 2 } });
  const from = (list) => ({ headers: { 'X-Forwarded-For': list } });
  assert.deepEqual(await statuses(server, 3, from('198.51.100.1')), [200, 200, 429]);
  assert.deepEqual(await statuses(server, 3, from('198.51.100.1, 198.51.100.2')), [200, 200, 429]);
  assert.deepEqual(await statuses(server, 3, from('2001:db8::1')), [200, 200, 429]);
  assert.equal((await ask(server, from('[2001:db8::2]:80'))).status, 429, 'the same network of 64 bits');
  assert.equal((await ask(server, from('::ffff:198.51.100.1'))).status, 429, 'an IPv4 address in IPv6');
  assert.deepEqual(await statuses(server, 3, from('198.51.100.9, nonsense')), [200, 200, 429]);
  assert.equal((await ask(server)).status, 429, 'an unreadable address was counted as the peer');
  for (let i = 0; i < 2; i++) await connect(server, { t, headers: { 'X-Forwarded-For': `198.51.100.${i}` } });
  const refused = await RawWebSocket.connect(server, { headers: { 'X-Forwarded-For': '198.51.100.77' } });
  t.after(() => refused.destroy());
  await closedWithError(refused, 4100);
});

test('a connect over the limit is told 4100 and how long to wait, another address is not', async (t) => {
  const server = await limited(t, { websocket: { max_requests: 5 } });
  for (let i = 0; i < 5; i++) await connect(server, { t, localAddress: '127.0.0.4' });
  const refused = await RawWebSocket.connect(server, { localAddress: '127.0.0.4' });
  t.after(() => refused.destroy());
  assert.match(
    await closedWithError(refused, 4100),
    new RegExp(
      `^too many connections from this address: rate_limiter\\.websocket_rate_limit\\.max_requests is 5 in ${HOUR} s; try again in \\d+ s$`,
    ),
  );
  await connect(server, { t, localAddress: '127.0.0.5' });
  const metrics = await fetchMetrics(server);
  assert.equal(metrics.sum('connected'), 6);
});

test('pusher-js that is refused comes again by itself until it is taken', async (t) => {
  const server = await limited(t, { websocket: { max_requests: 1, window_seconds: 3 } });
  let errors;
  do {
    // the second within the three seconds of the first
    await connected(makePusher(server, { t }));
    const late = makePusher(server, { t });
    errors = record(late.connection, 'error');
    await connected(late);
  } while (errors.inbox.all.length === 0);
  const { data } = await errors.next();
  assert.equal(data.error.data.code, 4100, JSON.stringify(data));
  assert.ok(errors.inbox.all.length <= 4, `it waits between its attempts: ${errors.inbox.all.length}`);
});

test('checks and refusals are counted on the metrics page', async (t) => {
  const server = await limited(t, { api: { max_requests: 2 }, websocket: { max_requests: 1 } });
  const labels = {
    api: { limiter_type: 'api', request_context: 'http' },
    websocket: { limiter_type: 'websocket', request_context: 'connect' },
  };
  await statuses(server, 5);
  await connect(server, { t });
  for (let i = 0; i < 2; i++) await closedWithError(await RawWebSocket.connect(server), 4100);
  const metrics = await fetchMetrics(server);
  assert.equal(metrics.sum('rate_limit_checks_total', labels.api), 5);
  assert.equal(metrics.sum('rate_limit_triggered_total', labels.api), 3);
  assert.equal(metrics.sum('rate_limit_checks_total', labels.websocket), 3);
  assert.equal(metrics.sum('rate_limit_triggered_total', labels.websocket), 2);
});

test('nothing is limited unless the limiter is enabled, nor with max_requests 0', async (t) => {
  const off = await limited(t, { enabled: false, api: { max_requests: 1 }, websocket: { max_requests: 1 } });
  assert.deepEqual(await statuses(off, 3), of(3, 200));
  for (let i = 0; i < 3; i++) await connect(off, { t });
  const unlimited = await limited(t, {});
  assert.deepEqual(await statuses(unlimited, 3), of(3, 200));
  for (let i = 0; i < 3; i++) await connect(unlimited, { t });
  assert.equal((await fetchMetrics(unlimited)).sum('rate_limit_checks_total'), 0);
});
