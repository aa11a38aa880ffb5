// Events while the message system is down: what waits, for how long, and what is refused.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { closedWithError, connect, join, signin, stillOpen, trigger } from '../lib/client.js';
import { subscriber, untilFence } from '../lib/events.js';
import { nodesFor } from '../lib/nodes.js';

// Two nodes whose bus is down; `adapter` are settings of the outage.
async function nodesInOutage(t, adapter, prepare = async () => {}) {
  const bus = await backendFor(t, 'redis');
  const nodes = await nodesFor(t, { bus, count: 2, server: { config: { adapter } } });
  const prepared = await prepare(...nodes.list);
  await bus.stop();
  for (const node of nodes.list) await node.waitForLog(/the bus \(redis\) is down/);
  const end = async () => {
    await bus.start();
    await nodes.untilAll(2);
  };
  return { nodes: nodes.list, prepared, end };
}

describe('while the bus is down', { concurrency: true }, () => {
  test('events are delivered here at once, and to the others afterwards in their order', async (t) => {
    const channel = 'prices';
    const { nodes, prepared, end } = await nodesInOutage(t, {}, (...list) =>
      Promise.all(list.map((node) => subscriber(node, t, channel))),
    );
    for (let i = 0; i < 200; i++) await publish(nodes[0], { name: 'e', channel, data: String(i) });
    const next = async (ws) => (await ws.next((m) => m.channel === channel)).data;
    for (let i = 0; i < 200; i++) assert.equal(await next(prepared[0]), String(i));
    assert.deepEqual(await stillOpen(prepared[1]), []);
    await end();
    for (let i = 200; i < 300; i++) await publish(nodes[0], { name: 'e', channel, data: String(i) });
    for (let i = 0; i < 300; i++) assert.equal(await next(prepared[1]), String(i));
    for (let i = 200; i < 300; i++) assert.equal(await next(prepared[0]), String(i));
    for (const [i, ws] of prepared.entries()) assert.deepEqual(await untilFence(nodes[i], ws, channel), []);
  });

  test('an event that has waited too long is dropped', async (t) => {
    const channel = 'old';
    const { nodes, prepared, end } = await nodesInOutage(t, { outage_max_age_s: 1 }, (_, two) =>
      subscriber(two, t, channel),
    );
    await publish(nodes[0], { name: 'old', channel, data: '1' });
    await new Promise((resolve) => setTimeout(resolve, 1100)); // the age is the matter
    await end();
    await publish(nodes[0], { name: 'new', channel, data: '2' });
    assert.equal((await prepared.next((m) => m.channel === channel)).event, 'new');
  });

  test('the oldest events go when the buffer is full', async (t) => {
    const channel = 'large';
    const { nodes, prepared, end } = await nodesInOutage(t, { outage_buffer_mb: 1 }, (_, two) =>
      subscriber(two, t, channel),
    );
    const data = 'x'.repeat(9000);
    for (let i = 0; i < 200; i++) await publish(nodes[0], { name: `e${i}`, channel, data });
    await end();
    const first = (await prepared.next((m) => m.channel === channel)).event;
    const kept = 200 - Number(first.slice(1));
    assert.ok(kept > 90 && kept < 117, `${kept} of 9 KB in a megabyte`);
    for (let i = 201 - kept; i < 200; i++)
      assert.equal((await prepared.next((m) => m.channel === channel)).event, `e${i}`);
  });

  test('an order closes the connections that were there before it, when it gets there', async (t) => {
    const { nodes, prepared, end } = await nodesInOutage(t, {}, async (_, two) => {
      const ws = await connect(two, { t });
      await signin(ws, { id: 'anna' });
      return ws;
    });
    assert.equal((await api(nodes[0], 'POST', '/users/anna/terminate_connections')).status, 200);
    await new Promise((resolve) => setTimeout(resolve, 500)); // times of connections have a resolution of 0.1 s
    const later = await connect(nodes[1], { t });
    await signin(later, { id: 'anna' });
    await end();
    await closedWithError(prepared, 4009);
    await stillOpen(later);
    await publish(nodes[0], { name: 'note', channel: '#server-to-user-anna', data: 'x' });
    await later.next('note');
  });

  test('members of other nodes stay for outage_presence_s, and come again afterwards', async (t) => {
    const channel = 'presence-room';
    let began;
    const { nodes, prepared, end } = await nodesInOutage(t, { outage_presence_s: 2 }, async (...list) => {
      const [anna, bob] = await Promise.all(list.map((node) => connect(node, { t })));
      await join(anna, channel, { user_id: 'anna' });
      await join(bob, channel, { user_id: 'bob' });
      await anna.next({ event: 'pusher_internal:member_added', channel });
      began = performance.now();
      return [anna, bob];
    });
    const users = async (node) => (await api(node, 'GET', `/channels/${channel}/users`)).json.users.map(({ id }) => id);
    for (const [i, ws] of prepared.entries()) {
      const { data } = await ws.next({ event: 'pusher_internal:member_removed', channel });
      assert.ok(performance.now() - began > 1900, `after ${Math.round(performance.now() - began)} ms`);
      assert.equal(JSON.parse(data).user_id, ['bob', 'anna'][i]);
      assert.deepEqual(await users(nodes[i]), [['anna', 'bob'][i]]);
    }
    await end();
    for (const [i, ws] of prepared.entries()) {
      const { data } = await ws.next({ event: 'pusher_internal:member_added', channel });
      assert.equal(JSON.parse(data).user_id, ['bob', 'anna'][i]);
      // It was an outage of many attempts.
      const said = nodes[i].log.all.filter(({ message }) => /^the bus \(redis\) is down, .*: Redis at /.test(message));
      assert.equal(said.length, 1);
    }
  });

  test('the HTTP API refuses events if that is set, and takes them again afterwards', async (t) => {
    const channel = 'strict';
    const { nodes, prepared, end } = await nodesInOutage(t, { publish_when_down: 'refuse' }, (one) =>
      subscriber(one, t, channel),
    );
    const body = { name: 'e', channel, data: 'x' };
    for (const [path, content] of [
      ['/events', body],
      ['/batch_events', { batch: [body] }],
    ]) {
      const answer = await api(nodes[0], 'POST', path, { body: content });
      assert.equal(answer.status, 503);
      assert.equal(answer.headers['retry-after'], '1');
      assert.match(answer.json.error, /adapter\.publish_when_down/);
    }
    const sender = await subscriber(nodes[0], t, 'private-strict');
    const other = await subscriber(nodes[0], t, 'private-strict');
    trigger(sender, 'private-strict', 'client-typing', {}); // only the HTTP API refuses
    await other.next('client-typing');
    await end();
    while ((await api(nodes[0], 'POST', '/events', { body: { ...body, name: 'accepted' } })).status === 503);
    await prepared.next({ event: 'accepted', channel });
    assert.deepEqual(await untilFence(nodes[0], prepared, channel), []);
  });
});

test('a node that starts without the bus keeps events for the others', async (t) => {
  const bus = await backendFor(t, 'redis');
  const nodes = await nodesFor(t, { bus, count: 1 });
  const there = await subscriber(nodes.list[0], t, 'early');
  await bus.stop();
  const late = await nodes.add();
  await late.waitForLog(/the bus \(redis\) is down/);
  await publish(late, { name: 'e', channel: 'early', data: '1' });
  await bus.start();
  await nodes.untilAll(2);
  await there.next({ event: 'e', channel: 'early' });
});

test('a node that is alone refuses events in an outage, too', async (t) => {
  const bus = await backendFor(t, 'redis');
  const nodes = await nodesFor(t, { bus, count: 1, server: { config: { adapter: { publish_when_down: 'refuse' } } } });
  await publish(nodes.list[0], { name: 'e', channel: 'c', data: 'x' });
  await bus.stop();
  await nodes.list[0].waitForLog(/the bus \(redis\) is down/);
  const answer = await api(nodes.list[0], 'POST', '/events', { body: { name: 'e', channel: 'c', data: 'x' } });
  assert.equal(answer.status, 503);
});
