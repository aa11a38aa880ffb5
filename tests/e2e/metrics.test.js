// The metrics page: Prometheus text on a port of its own, with the names that the family's dashboards know, and values
// that move as they should.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, get, publish, request } from '../lib/api.js';
import { closedWithError, connect, sendSignin, subscribeRefused, trigger, unsubscribe } from '../lib/client.js';
import { nextOn, subscriber } from '../lib/events.js';
import { eventually, fetchMetrics, getMetrics } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor } from '../lib/server.js';

const LIMITED = {
  id: 'limited',
  key: 'limited-key',
  secret: 'limited-secret',
  enable_client_messages: false,
  max_connections: 1,
  max_event_name_length: 5,
  max_event_payload_in_kb: 1,
  max_event_batch_size: 1,
  max_channel_name_length: 20,
  max_presence_members_per_channel: 1,
};
const DISABLED = { id: 'disabled', key: 'disabled-key', secret: 'disabled-secret', enabled: false };
const appLabels = { app_id: APP.id };

function values(metrics, name, label, labels) {
  return Object.fromEntries(metrics.select(name, labels).map((sample) => [sample.labels[label], sample.value]));
}

describe('the page', () => {
  test('is Prometheus text: each family has HELP and TYPE before its samples, and is there once', async (t) => {
    const server = await serverFor(t);
    const ws = await subscriber(server, t, 'c');
    await publish(server, { name: 'e', channel: 'c', data: 'x' });
    await nextOn(ws, 'c');
    const response = await getMetrics(server);
    assert.equal(response.status, 200);
    assert.match(response.headers['content-type'], /^text\/plain; version=0\.0\.4/);
    assert.ok(response.body.endsWith('\n'));
    const types = new Map();
    const helps = new Set();
    const seen = new Set();
    let current;
    for (const line of response.body.trimEnd().split('\n')) {
      const [, comment, name, rest] = line.match(/^# (HELP|TYPE) (\S+) (.+)$/) ?? [];
      if (comment === 'HELP') {
        assert.ok(!helps.has(name), `${name} twice`);
        helps.add(name);
      } else if (comment === 'TYPE') {
        assert.ok(helps.has(name) && !types.has(name), line);
        assert.match(rest, /^(counter|gauge|histogram)$/);
        types.set(name, rest);
        current = name;
      } else {
        assert.doesNotMatch(line, /^#/);
        const [, sample, labels, value] = line.match(/^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$/);
        assert.match(
          sample,
          types.get(current) === 'histogram'
            ? new RegExp(`^${current}_(bucket|sum|count)$`)
            : new RegExp(`^${current}$`),
        );
        assert.ok(Number.isFinite(Number(value)), line);
        assert.ok(!seen.has(sample + labels), `twice: ${line}`);
        seen.add(sample + labels);
      }
    }
    assert.ok(types.size > 15);
  });

  test('has the names and types of the family, with app_id and port on what belongs to an app', async (t) => {
    const server = await serverFor(t);
    const ws = await subscriber(server, t, ['c', 'private-c']);
    unsubscribe(ws, 'private-c');
    await ws.fence();
    await publish(server, { name: 'e', channel: 'c', data: 'x' });
    await nextOn(ws, 'c');
    const { body } = await getMetrics(server);
    const type = (name) => body.match(new RegExp(`^# TYPE ${name} (\\w+)$`, 'm'))?.[1];
    for (const name of ['connected', 'active_channels']) assert.equal(type(`sockudo_${name}`), 'gauge', name);
    for (const name of [
      'new_connections_total',
      'new_disconnections_total',
      'connection_errors_total',
      'socket_received_bytes',
      'socket_transmitted_bytes',
      'ws_messages_received_total',
      'ws_messages_sent_total',
      'http_received_bytes',
      'http_transmitted_bytes',
      'http_calls_received_total',
      'rate_limit_checks_total',
      'rate_limit_triggered_total',
      'channel_subscriptions_total',
      'channel_unsubscriptions_total',
      'horizontal_adapter_resolved_promises',
      'horizontal_adapter_uncomplete_promises',
      'horizontal_adapter_sent_requests',
      'horizontal_adapter_received_requests',
      'horizontal_adapter_received_responses',
    ]) {
      assert.equal(type(`sockudo_${name}`), 'counter', name);
    }
    for (const name of ['horizontal_adapter_resolve_time', 'broadcast_latency_ms', 'loop_lag_seconds']) {
      assert.equal(type(`sockudo_${name}`), 'histogram', name);
    }
    const metrics = await fetchMetrics(server);
    for (const name of [
      'connected',
      'new_connections_total',
      'http_calls_received_total',
      'socket_transmitted_bytes',
    ]) {
      const samples = metrics.select(name, { ...appLabels, port: server.metricsPort });
      assert.equal(samples.length, 1, `${name} of the app on its port`);
    }
    for (const sample of metrics.samples.filter(({ name }) => name.startsWith('sockudo_'))) {
      assert.equal(sample.labels.port, String(server.metricsPort), JSON.stringify(sample));
    }
    for (const name of [
      'resident_memory_bytes',
      'virtual_memory_bytes',
      'cpu_seconds_total',
      'start_time_seconds',
      'open_fds',
      'max_fds',
    ]) {
      assert.ok(metrics.sum(`process_${name}`) > 0, name);
    }
    const age = Date.now() / 1000 - metrics.sum('process_start_time_seconds');
    assert.ok(age > -2 && age < 600, `started ${age} s ago`);
  });

  test("a histogram's buckets add up", async (t) => {
    const server = await serverFor(t);
    const ws = await subscriber(server, t, 'c');
    for (let i = 0; i < 5; i++) await publish(server, { name: 'e', channel: 'c', data: 'x' });
    await ws.inbox.take(5);
    const metrics = await fetchMetrics(server);
    const series = new Map();
    for (const {
      name,
      labels: { le, ...labels },
      value,
    } of metrics.samples.filter((sample) => 'le' in sample.labels)) {
      const key = name.replace(/_bucket$/, '') + JSON.stringify(labels);
      series.set(key, [
        ...(series.get(key) ?? []),
        { le: Number(le.replace('+Inf', 'Infinity')), value, name: name.replace(/_bucket$/, ''), labels },
      ]);
    }
    assert.ok(series.size > 0, 'there is a histogram');
    for (const buckets of series.values()) {
      const { name, labels } = buckets[0];
      const count = metrics.samples.find(
        (sample) => sample.name === `${name}_count` && JSON.stringify(sample.labels) === JSON.stringify(labels),
      );
      assert.equal(buckets.at(-1).le, Infinity, name);
      assert.equal(buckets.at(-1).value, count.value, name);
      buckets.reduce((before, bucket) => {
        assert.ok(bucket.le > before.le && bucket.value >= before.value, name);
        return bucket;
      });
      assert.equal(metrics.select(`${name}_sum`, labels).length, 1, name);
    }
  });

  test('has an app from its first use on, and of a labelled counter what was counted', async (t) => {
    const server = await serverFor(t, { apps: [APP, { ...APP, id: 'idle', key: 'idle-key' }] });
    const samplesOf = async (id) => (await fetchMetrics(server)).samples.filter(({ labels }) => labels.app_id === id);
    assert.deepEqual(await samplesOf(APP.id), []);
    (await RawWebSocket.connect(server, { key: APP.key })).destroy();
    await eventually(server, (metrics) => assert.equal(metrics.sum('new_disconnections_total', { app_id: APP.id }), 1));
    assert.ok((await samplesOf(APP.id)).some(({ name, value }) => /_connected$/.test(name) && value === 0));
    assert.deepEqual(
      (await samplesOf(APP.id)).filter(({ labels }) => 'reason' in labels || 'error_type' in labels),
      [],
    );
    assert.deepEqual(await samplesOf('idle'), []);
  });

  test('the prefix is configurable', async (t) => {
    const server = await serverFor(t, { config: { metrics: { prometheus: { prefix: 'mine_' } } } });
    await connect(server, { t });
    const metrics = await fetchMetrics(server, { prefix: 'mine_' });
    assert.equal(metrics.sum('connected', appLabels), 1);
    assert.deepEqual(
      metrics.samples.filter(({ name }) => !/^(mine|process)_/.test(name)),
      [],
    );
  });

  test('is on its own port only, which serves nothing else', async (t) => {
    const server = await serverFor(t);
    const other = (path, method = 'GET') => request(new URL(path, server.metricsUrl), { method });
    assert.equal((await get(`${server.url}/metrics`)).status, 404);
    assert.equal((await other('/nowhere')).status, 404);
    assert.equal((await other(`/apps/${APP.id}/channels`)).status, 404);
    assert.equal((await other('/metrics', 'POST')).status, 405);
    const head = await other('/metrics', 'HEAD');
    assert.equal(head.status, 200);
    assert.equal(head.body, '');
  });

  test('can be turned off', async (t) => {
    const server = await serverFor(t, { config: { metrics: { enabled: false } } });
    assert.equal((await get(`${server.url}/up`)).body, 'OK');
    assert.ok(!server.log.all.some((line) => /^metrics on/.test(line.message)));
  });
});

describe('values', () => {
  test('connections and disconnections', async (t) => {
    const server = await serverFor(t);
    const open = [await connect(server, { t }), await connect(server, { t }), await connect(server, { t })];
    await eventually(server, (metrics) => {
      assert.equal(metrics.sum('connected', appLabels), 3);
      assert.equal(metrics.sum('new_connections_total', appLabels), 3);
      assert.equal(metrics.sum('new_disconnections_total', appLabels), 0);
    });
    await open[0].close();
    open[1].destroy();
    await eventually(server, (metrics) => {
      assert.equal(metrics.sum('connected', appLabels), 1);
      assert.equal(metrics.sum('new_connections_total', appLabels), 3);
      assert.equal(metrics.sum('new_disconnections_total', appLabels), 2);
    });
  });

  test('channels and subscriptions by type', async (t) => {
    const server = await serverFor(t);
    const names = ['a', 'b', 'private-a', 'presence-a', 'cache-a', 'private-cache-a'];
    const ws = await subscriber(server, t, names, { user: { user_id: '1' } });
    await subscriber(server, t, 'a');
    await eventually(server, (metrics) => {
      assert.deepEqual(values(metrics, 'active_channels', 'channel_type', appLabels), {
        public: 2,
        private: 1,
        presence: 1,
        cache: 2,
      });
      assert.deepEqual(values(metrics, 'channel_subscriptions_total', 'channel_type', appLabels), {
        public: 3,
        private: 1,
        presence: 1,
        cache: 2,
      });
    });
    unsubscribe(ws, 'b');
    unsubscribe(ws, 'b');
    await ws.fence();
    await eventually(server, (metrics) => {
      assert.equal(metrics.sum('active_channels', { ...appLabels, channel_type: 'public' }), 1);
      assert.equal(metrics.sum('channel_unsubscriptions_total', { ...appLabels, channel_type: 'public' }), 1);
    });
    await ws.close();
    await eventually(server, (metrics) => {
      assert.equal(metrics.sum('active_channels', appLabels), 1);
      assert.equal(metrics.sum('channel_unsubscriptions_total', appLabels), 6);
    });
  });

  test('messages and bytes of WebSockets', async (t) => {
    const server = await serverFor(t);
    const ws = await subscriber(server, t, 'c');
    const before = await fetchMetrics(server);
    for (let i = 0; i < 10; i++) await publish(server, { name: 'e', channel: 'c', data: 'x'.repeat(1000) });
    const frames = await ws.inbox.take(10);
    const sentBytes = frames.reduce((sum, frame) => sum + frame.text.length, 0);
    for (let i = 0; i < 5; i++) ws.send({ event: 'pusher:unknown', data: 'y'.repeat(1000) });
    await ws.fence();
    await eventually(server, (metrics) => {
      const grown = (name) => metrics.sum(name, appLabels) - before.sum(name, appLabels);
      assert.equal(grown('ws_messages_sent_total'), 11, '10 events and a pong');
      assert.equal(grown('ws_messages_received_total'), 6, '5 messages and a ping');
      assert.ok(grown('socket_transmitted_bytes') >= sentBytes && grown('socket_transmitted_bytes') < sentBytes + 500);
      assert.ok(grown('socket_received_bytes') >= 5000 && grown('socket_received_bytes') < 6000);
    });
  });

  test('events: published once for each channel, sent by clients, and how long their delivery took', async (t) => {
    const server = await serverFor(t);
    const list = ['a', 'private-b', 'presence-c'];
    const ws = await subscriber(server, t, list, { user: { user_id: '1' } });
    const other = await subscriber(server, t, 'private-b');
    for (let i = 0; i < 3; i++) await publish(server, { name: 'e', channels: list, data: 'x' });
    await api(server, 'POST', '/events', { body: { name: '', channel: 1 } });
    await ws.inbox.take(9, (message) => message.event === 'e');
    trigger(ws, 'private-b', 'client-e', {});
    await other.next('client-e');
    await eventually(server, (metrics) => {
      assert.equal(metrics.sum('publishes_total', appLabels), 9);
      assert.equal(metrics.sum('client_events_total', appLabels), 1);
      for (const type of ['public', 'private', 'presence']) {
        assert.ok(metrics.sum('broadcast_latency_ms_count', { ...appLabels, channel_type: type }) >= 3, type);
      }
      assert.ok(metrics.sum('loop_lag_seconds_count') > 0);
      assert.equal(metrics.select('loop_cpu_max_seconds').length, metrics.select('loop_lag_max_seconds').length);
    });
  });

  test('calls and bytes of the HTTP API', async (t) => {
    const server = await serverFor(t);
    await api(server, 'GET', '/channels');
    const before = await fetchMetrics(server);
    for (let i = 0; i < 7; i++) await publish(server, { name: 'e', channel: 'c', data: 'x'.repeat(10_000) });
    await api(server, 'GET', '/channels');
    await eventually(server, (metrics) => {
      const grown = (name) => metrics.sum(name, appLabels) - before.sum(name, appLabels);
      assert.equal(grown('http_calls_received_total'), 8);
      assert.ok(
        grown('http_received_bytes') >= 70_000 && grown('http_received_bytes') < 80_000,
        String(grown('http_received_bytes')),
      );
      assert.ok(grown('http_transmitted_bytes') > 7 * 2 && grown('http_transmitted_bytes') < 10_000);
    });
  });

  test('connection errors by type', async (t) => {
    const server = await serverFor(t, { apps: [APP, LIMITED, DISABLED] });
    await closedWithError(await RawWebSocket.connect(server, { key: DISABLED.key }), 4003);
    await connect(server, { app: LIMITED, t });
    await closedWithError(await RawWebSocket.connect(server, { key: LIMITED.key }), 4004);
    await closedWithError(await RawWebSocket.connect(server, { key: 'nobody' }), 4001);
    const ws = await connect(server, { t });
    ws.sendText('{');
    ws.sendText('{"data":1}');
    await ws.fence();
    sendSignin(ws, { id: '1' }, { auth: `${APP.key}:00` });
    await closedWithError(ws, 4009);
    await eventually(server, (metrics) => {
      const errors = (labels) => metrics.sum('connection_errors_total', labels);
      assert.equal(errors({ app_id: DISABLED.id, error_type: 'app_disabled' }), 1);
      assert.equal(errors({ app_id: LIMITED.id, error_type: 'over_quota' }), 1);
      assert.equal(errors({ error_type: 'app_not_found' }), 1);
      assert.equal(errors({ app_id: APP.id, error_type: 'missing_event_name' }), 1);
      assert.equal(errors({ app_id: APP.id, error_type: 'message_parse_error' }), 1);
      assert.equal(errors({ app_id: APP.id, error_type: 'authentication_failed' }), 1);
      assert.equal(metrics.sum('connected', { app_id: LIMITED.id }), 1, 'who was refused is not connected');
    });
  });

  test('every refusal is counted by app and reason', async (t) => {
    const server = await serverFor(t, { apps: [APP, LIMITED, DISABLED] });
    const event = { name: 'e', channel: 'c', data: 'x' };
    const refusals = (metrics) =>
      metrics.samples.filter(({ labels }) => labels.app_id === LIMITED.id && 'reason' in labels);
    const total = (metrics) => refusals(metrics).reduce((sum, { value }) => sum + value, 0);
    const ws = await connect(server, { app: LIMITED, t });
    await subscriber(server, t, 'presence-c', { user: { user_id: '1' } });
    const post = (path, body) => api(server, 'POST', path, { app: LIMITED, body });
    // Each is counted once, under a reason of its own.
    const acts = [
      () => post('/events', { ...event, name: 'too long' }),
      () => post('/events', { ...event, channel: 'c'.repeat(21) }),
      () => post('/events', { ...event, data: 'x'.repeat(1025) }),
      () => post('/batch_events', { batch: [event, event] }),
      () => api(server, 'GET', '/channels', { app: LIMITED, signAs: { secret: 'wrong' } }),
      async () => closedWithError(await RawWebSocket.connect(server, { key: LIMITED.key }), 4004),
      async () => {
        trigger(ws, 'private-c', 'client-e', {});
        await ws.next('pusher:error');
      },
    ];
    const reasons = new Set();
    for (const act of acts) {
      const before = await fetchMetrics(server);
      await act();
      await eventually(server, (metrics) => {
        assert.equal(total(metrics), total(before) + 1, String(act));
        const [grown] = refusals(metrics).filter(({ name, labels, value }) => value > before.sum(name, labels));
        reasons.add(grown.labels.reason);
      });
    }
    assert.equal(reasons.size, acts.length, [...reasons].join());
    const before = await fetchMetrics(server);
    await subscribeRefused(ws, 'c'.repeat(21), { type: 'LimitReached', status: 4009 });
    await eventually(server, (metrics) => assert.equal(total(metrics), total(before) + 1));
    await api(server, 'GET', '/channels', { app: DISABLED });
    await eventually(server, (metrics) => {
      const disabled = metrics.samples.filter(({ labels }) => labels.app_id === DISABLED.id && 'reason' in labels);
      assert.equal(
        disabled.reduce((sum, { value }) => sum + value, 0),
        1,
      );
    });
  });

  test('an unknown key, id or event name never becomes a label', async (t) => {
    const server = await serverFor(t);
    const made = [];
    for (let i = 0; i < 20; i++) {
      made.push(`made-up-${i}`);
      await closedWithError(await RawWebSocket.connect(server, { key: `made-up-${i}` }), 4001);
      await api(server, 'GET', '/channels', { app: { ...APP, id: `made-up-${i}` } });
      await api(server, 'GET', '/channels', { app: { ...APP, key: `made-up-${i}` } });
    }
    const ws = await connect(server, { t });
    ws.send({ event: 'made-up-event', channel: 'made-up-channel', data: '' });
    await ws.fence();
    const { body } = await getMetrics(server);
    assert.doesNotMatch(body, /made-up/);
    const metrics = await fetchMetrics(server);
    assert.equal(metrics.sum('connection_errors_total', { error_type: 'app_not_found' }), made.length);
    const ids = new Set(
      metrics.samples.map(({ labels }) => labels.app_id).filter((id) => id !== undefined && id !== ''),
    );
    assert.ok(ids.size <= 2, [...ids].join());
  });
});
