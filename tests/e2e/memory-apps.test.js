// One app that makes the server hold all the memory that it can get: what it is refused, and what clients of another
// app notice of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, join, sendSubscribe, signin, subscribe, trySubscribe } from '../lib/client.js';
import { nextOn, subscriber } from '../lib/events.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { serverFor } from '../lib/server.js';

const KB = 1024;
const LIMIT_MB = 24;
const SHARES = { channels: 0.6, presence: 0.4, kept_events: 0.25 };

const app = (id) => ({
  id,
  key: `${id}-key`,
  secret: `${id}-secret`,
  max_connections: 0,
  max_backend_events_per_second: 0,
  max_read_requests_per_second: 0,
  max_channel_name_length: 0,
  max_event_payload_in_kb: 0,
  max_presence_members_per_channel: 0,
  max_presence_member_size_in_kb: 0,
});
const FLOODER = app('flooder');
const OTHER = app('other');

const share = (kind) => SHARES[kind] * LIMIT_MB * KB * KB;
const ofApp = (metrics, { id }) => metrics.sum('app_memory_held_bytes', { app_id: id });
const held = (metrics, kind) => metrics.sum('memory_held_bytes', { kind });

const start = (t) =>
  serverFor(t, {
    apps: [FLOODER, OTHER],
    config: { memory: { limit_mb: LIMIT_MB }, websocket: { max_subscriptions_per_connection: 0 } },
  });

// Returns what clients of the other app do meanwhile: events of a channel, new channels, members, and kept events.
async function otherClients(server, t) {
  const ws = await subscriber(server, t, 'healthy', { app: OTHER });
  let count = 0;
  return async () => {
    count++;
    await publish(server, { name: 'e', channel: 'healthy', data: `${count}` }, { app: OTHER });
    assert.equal((await nextOn(ws, 'healthy')).data, `${count}`);
    for (let i = 0; i < 50; i++) await subscribe(ws, `new-${count}-${i}`);
    await join(ws, `presence-${count}`, { user_id: `${count}`, user_info: { name: 'x'.repeat(1000) } });
    await publish(server, { name: 'e', channel: `cache-${count}`, data: `kept ${count}` }, { app: OTHER });
    for (let i = 1; i <= count; i++) assert.match((await cacheOf(server, OTHER, `cache-${i}`)).data, /^kept \d+$/);
  };
}

async function cacheOf(server, of, channel) {
  const { json } = await api(server, 'GET', `/channels/${channel}`, { app: of, query: { info: 'cache' } });
  return json.cache;
}

// Asks again and again for one of what `attempt` takes, many at a time; returns the first refusal.
async function untilRefused(attempt) {
  for (;;) {
    const answers = await Promise.all(Array.from({ length: 50 }, attempt));
    const refused = answers.find(({ event }) => event === 'pusher:subscription_error');
    if (refused) return refused.data;
  }
}

function assertNoRoom({ type, status, error }) {
  assert.equal(type, 'LimitReached');
  assert.equal(status, 4100);
  assert.match(error, /memory\.limit_mb/);
}

const isGone = (server, kind, before) =>
  eventually(server, (metrics) => {
    assert.equal(ofApp(metrics, FLOODER), 0);
    assert.equal(metrics.select('app_memory_held_bytes', { app_id: FLOODER.id }).length, 0);
    assert.ok(Math.abs(held(metrics, kind) - held(before, kind)) < 200 * KB, `${held(metrics, kind)} of ${kind}`);
  });

test('connections and their rate limits count for the app', async (t) => {
  const server = await serverFor(t, {
    apps: [{ ...FLOODER, policy: { limits: { message_rate_limit: { enabled: true } } } }],
  });
  const clients = await Promise.all(Array.from({ length: 100 }, () => connect(server, { app: FLOODER, t })));
  const connected = ofApp(await fetchMetrics(server), FLOODER);
  assert.ok(connected >= 100 * 300, `${connected}`);
  for (const client of clients) client.send({ event: 'pusher:ping', data: {} });
  await Promise.all(clients.map((client) => client.next('pusher:pong')));
  await eventually(server, (metrics) => {
    const more = ofApp(metrics, FLOODER) - connected;
    assert.ok(more >= 100 * 32 && more < 100 * 100, `${more}`);
  });
  for (const client of clients) client.close();
  await eventually(server, (metrics) => assert.equal(ofApp(metrics, FLOODER), 0));
});

test('channels: the app gets two thirds of the share, and what it has goes on', async (t) => {
  const server = await start(t);
  const exchange = await otherClients(server, t);
  await exchange();
  const before = await fetchMetrics(server);
  const flooder = await connect(server, { app: FLOODER, t });
  await subscribe(flooder, 'first');
  let count = 0;
  assertNoRoom(await untilRefused(() => trySubscribe(flooder, `${'long'.repeat(500)}-${count++}`)));
  await exchange();
  const metrics = await eventually(server, (page) => {
    assert.ok(ofApp(page, FLOODER) < share('channels') * 0.7, `${ofApp(page, FLOODER)}`);
    assert.ok(ofApp(page, FLOODER) > share('channels') * 0.6, `${ofApp(page, FLOODER)}`);
    return page;
  });
  assert.ok(metrics.since(before, 'refusals_total', 'reason', { app_id: FLOODER.id }).memory_limit > 0);
  assert.ok(metrics.sum('memory_refusals_total', { kind: 'channels' }) > 0);

  // A new client of the app still gets the channels that are there.
  const late = await subscriber(server, t, 'first', { app: FLOODER });
  sendSubscribe(late, 'not-there');
  assertNoRoom((await late.inbox.next()).data);
  await publish(server, { name: 'e', channel: 'first', data: 'still here' }, { app: FLOODER });
  assert.equal((await nextOn(flooder, 'first')).data, 'still here');
  assert.equal((await nextOn(late, 'first')).data, 'still here');

  // A smaller set makes room again.
  for (let i = 0; i < 100; i++)
    flooder.send({ event: 'pusher:unsubscribe', data: { channel: `${'long'.repeat(500)}-${i}` } });
  await subscribe(late, 'not-there');
  flooder.destroy();
  late.destroy();
  await isGone(server, 'channels', before);
  await exchange();
});

test('presence: members with much user_info, and sign-ins', async (t) => {
  const server = await start(t);
  const exchange = await otherClients(server, t);
  await exchange();
  const before = await fetchMetrics(server);
  const flooder = await connect(server, { app: FLOODER, t });
  let count = 0;
  const user = () => ({ user_id: '1', user_info: 'x'.repeat(30 * KB) });
  assertNoRoom(await untilRefused(() => trySubscribe(flooder, `presence-${count++}`, { user: user() })));
  await exchange();
  await eventually(server, (metrics) => {
    assert.ok(held(metrics, 'presence') < share('presence') * 0.75, `${held(metrics, 'presence')}`);
    assert.ok(held(metrics, 'presence') > share('presence') * 0.6, `${held(metrics, 'presence')}`);
  });

  // Who is a member may come with another connection; a sign-in that needs much is refused.
  const again = await connect(server, { app: FLOODER, t });
  await join(again, 'presence-0', user());
  signin(again, { id: '2', user_info: { text: 'x'.repeat(40 * KB) } }).catch(() => {});
  const { code, reason } = await again.closing();
  assert.equal(code, 4100);
  assert.match(reason, /memory\.limit_mb/);
  flooder.destroy();
  again.destroy();
  await isGone(server, 'presence', before);
  await exchange();
});

test('kept events: the app throws out its own', async (t) => {
  const server = await start(t);
  const exchange = await otherClients(server, t);
  await exchange();
  const data = 'x'.repeat(100 * KB);
  for (let i = 0; i < 80; i++) {
    const channels = Array.from({ length: 10 }, (_, n) => `cache-${i}-${n}`);
    await publish(server, { name: 'e', channels, data }, { app: FLOODER });
  }
  await exchange();
  assert.equal((await cacheOf(server, FLOODER, 'cache-79-9')).data, data);
  assert.equal(await cacheOf(server, FLOODER, 'cache-0-0'), null);
  const metrics = await eventually(server, (page) => {
    assert.ok(held(page, 'kept_events') <= share('kept_events'), `${held(page, 'kept_events')}`);
    assert.ok(held(page, 'kept_events') > share('kept_events') / 2, `${held(page, 'kept_events')}`);
    return page;
  });
  assert.equal(metrics.sum('memory_refusals_total', { kind: 'kept_events' }), 0);
});

test('an app that is deleted, and users whose connections are terminated, give all back', async (t) => {
  const server = await start(t);
  const exchange = await otherClients(server, t);
  const before = await fetchMetrics(server);
  const hold = async (user) => {
    const ws = await connect(server, { app: FLOODER, t });
    await signin(ws, { id: user });
    for (let i = 0; i < 50; i++) await subscribe(ws, `${user}-${i}`);
    await join(ws, 'presence-room', { user_id: user, user_info: { name: user } });
    return ws;
  };
  const first = await hold('1');
  await eventually(server, (metrics) => assert.ok(ofApp(metrics, FLOODER) > 50 * 500));
  const answer = await api(server, 'POST', '/users/1/terminate_connections', { app: FLOODER, body: {} });
  assert.equal(answer.status, 200);
  await first.closing();
  await isGone(server, 'channels', before);
  const second = await hold('2');
  await server.reload({ apps: [OTHER] });
  assert.equal((await second.closing()).code, 4001);
  await isGone(server, 'presence', before);
  await exchange();
});
