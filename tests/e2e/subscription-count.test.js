// Subscription counts, sent to channels of apps that have a webhook of this type.

import assert from 'node:assert/strict';
import test from 'node:test';

import { connect, join, nothingArrived, subscribe, unsubscribe } from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';

// Nobody listens there: what matters is that the type is configured.
const webhook = (type) => [{ url: 'http://127.0.0.1:9/', event_types: [type] }];
const COUNTED = {
  id: 'counted',
  key: 'counted-key',
  secret: 'counted-secret',
  max_connections: 0,
  webhooks: webhook('subscription_count'),
};
const UNCOUNTED = {
  id: 'uncounted',
  key: 'uncounted-key',
  secret: 'uncounted-secret',
  webhooks: webhook('channel_occupied'),
};
const server = await sharedServer({ apps: [APP, COUNTED, UNCOUNTED] });
const COUNT = 'pusher_internal:subscription_count';

test('everybody_on_the_channel_hears_the_count_as_it_changes', async (t) => {
  const [a, b] = [await connect(server, { t, app: COUNTED }), await connect(server, { t, app: COUNTED })];
  await subscribe(a, 'room');
  const count = await a.expect(COUNT);
  assert.deepEqual(JSON.parse(count.text), { event: COUNT, channel: 'room', data: '{"subscription_count":1}' });
  await subscribe(b, 'room');
  for (const ws of [a, b]) assert.equal((await ws.expect(COUNT)).data, '{"subscription_count":2}');
  unsubscribe(b, 'room');
  assert.equal((await a.expect(COUNT)).data, '{"subscription_count":1}');
});

test('private_and_cache_channels_are_counted_and_presence_channels_are_not', async (t) => {
  const ws = await connect(server, { t, app: COUNTED });
  for (const channel of ['private-room', 'cache-room', 'private-cache-room', 'private-encrypted-room']) {
    await subscribe(ws, channel);
    assert.equal((await ws.next(COUNT)).channel, channel);
  }
  const [a, b] = [await connect(server, { t, app: COUNTED }), await connect(server, { t, app: COUNTED })];
  await join(a, 'presence-room', { user_id: 'a' });
  await join(b, 'presence-room', { user_id: 'b' });
  await a.next('pusher_internal:member_added');
  unsubscribe(b, 'presence-room');
  await a.expect('pusher_internal:member_removed');
  await b.fence();
  assert.deepEqual(
    b.inbox.all.filter(({ event }) => event === COUNT),
    [],
  );
});

test('subscribing_twice_does_not_change_the_count', async (t) => {
  const ws = await connect(server, { t, app: COUNTED });
  await subscribe(ws, 'twice');
  await subscribe(ws, 'twice');
  const other = await connect(server, { t, app: COUNTED });
  await subscribe(other, 'twice');
  assert.equal((await other.next(COUNT)).data, '{"subscription_count":2}');
});

for (const app of [APP, UNCOUNTED]) {
  test(`an_app_without_that_webhook_type_hears_none (${app.id})`, async (t) => {
    const [a, b] = [await connect(server, { t, app }), await connect(server, { t, app })];
    for (const ws of [a, b]) await subscribe(ws, 'silent');
    await nothingArrived(server, a, b);
  });
}

test('above_100_subscribers_counts_come_at_most_every_5_seconds_and_the_last_one_is_right', async (t) => {
  const observer = await connect(server, { t, app: COUNTED });
  await subscribe(observer, 'crowd');
  const crowd = await Promise.all(Array.from({ length: 129 }, () => connect(server, { t, app: COUNTED })));
  for (const ws of crowd) await subscribe(ws, 'crowd');
  await observer.next({ event: COUNT, data: '{"subscription_count":130}' });

  const arrivals = observer.inbox.all
    .filter(({ event }) => event === COUNT)
    .map(({ data, at }) => ({ count: JSON.parse(data).subscription_count, at }));
  const above = arrivals.filter(({ count }) => count > 100);
  assert.ok(above.length < 30, 'not every change was told');
  for (let i = 1; i < above.length; i++) {
    assert.ok(above[i].at - above[i - 1].at > 4_000, `${above[i - 1].count} and ${above[i].count} are about 5 s apart`);
  }
  assert.deepEqual(
    arrivals.map(({ count }) => count),
    arrivals.map(({ count }) => count).sort((x, y) => x - y),
  );
});
