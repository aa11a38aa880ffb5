// Events while the two processes of an upgrade both have clients: each event reaches the clients of both, once.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { closedWithError, connect, join, signin, subscribe, trigger } from '../lib/client.js';
import { subscriber } from '../lib/events.js';
import { fetchMetrics } from '../lib/metrics.js';
import { APP, serverFor } from '../lib/server.js';
import { webhookReceiver } from '../lib/webhook-receiver.js';

const CHANNEL = 'private-steps';

// Upgrades a server with ten clients of which only the first are sent away soon; resolves to those that the old process
// still has, and a client of the new one.
async function withTwoProcesses(t, { prepare = () => {}, ...options } = {}) {
  const server = await serverFor(t, { config: { workers: 1, shutdown_grace_period: 60 }, ...options });
  const clients = await Promise.all(Array.from({ length: 10 }, () => subscriber(server, t, CHANNEL)));
  for (const ws of clients) await prepare(ws);
  const { old: oldPid, ended } = await server.upgrade();
  await Promise.any(clients.map((ws) => ws.closing())); // from now on the old process accepts nobody
  const next = await subscriber(server, t, CHANNEL);
  await prepare(next);
  const old = clients.filter((ws) => ws.closeFrame === null).slice(-2);
  const end = async () => {
    for (const ws of clients) ws.destroy();
    await ended();
  };
  return { server, old, oldPid, next, end };
}

const number = ({ data }) => JSON.parse(data).n;

async function numbers(ws, event, count) {
  const got = [];
  while (got.length < count) got.push(number(await ws.next(event)));
  return got;
}

const upTo = (count) => Array.from({ length: count }, (_, i) => i);

test('what is published to the new process reaches the clients of both, once and in order', async (t) => {
  const { server, old, next, end } = await withTwoProcesses(t);
  for (let n = 0; n < 50; n++) await publish(server, { name: 'step', channel: CHANNEL, data: JSON.stringify({ n }) });
  const batch = Array.from({ length: 10 }, (_, i) => ({ name: 'step', channel: CHANNEL, data: `{"n":${50 + i}}` }));
  assert.equal((await api(server, 'POST', '/batch_events', { body: { batch } })).status, 200);
  for (const ws of [...old, next]) assert.deepEqual(await numbers(ws, 'step', 60), upTo(60));
  await publish(server, { name: 'last', channel: CHANNEL, data: '{}' });
  for (const ws of [...old, next]) {
    const all = await ws.inbox.through((message) => message.event === 'last');
    assert.deepEqual(
      all.map(({ event }) => event),
      ['last'],
    );
  }
  await end();
});

test('client events go from either process to the other, and not back to the sender', async (t) => {
  const { server, old, next, end } = await withTwoProcesses(t);
  for (let n = 0; n < 5; n++) trigger(old[0], CHANNEL, 'client-from-old', JSON.stringify({ n }));
  for (let n = 0; n < 5; n++) trigger(next, CHANNEL, 'client-from-new', JSON.stringify({ n }));
  assert.deepEqual(await numbers(next, 'client-from-old', 5), upTo(5));
  assert.deepEqual(await numbers(old[1], 'client-from-old', 5), upTo(5));
  for (const ws of old) assert.deepEqual(await numbers(ws, 'client-from-new', 5), upTo(5));
  await publish(server, { name: 'last', channel: CHANNEL, data: '{}' });
  for (const ws of [old[0], next]) {
    const rest = await ws.inbox.through((message) => message.event === 'last');
    assert.equal(rest.length, 1, `an event came back: ${rest.map(({ event }) => event)}`);
  }
  await end();
});

test('tags, and the wish for no delta, go to the other process with an event', async (t) => {
  const { server, old, next, end } = await withTwoProcesses(t, {
    prepare: async (ws) => {
      ws.send({ event: 'pusher:enable_delta_compression' });
      await ws.next('pusher:delta_compression_enabled');
    },
  });
  const data = (n) => JSON.stringify({ n, text: 'x'.repeat(200) });
  const send = (n, members) => publish(server, { name: 'step', channel: CHANNEL, data: data(n), ...members });
  await send(0, { tags: { b: 'ü', a: '1' } });
  await send(1, { tags: {}, delta: false });
  await send(2);
  for (const ws of [...old, next]) {
    const first = await ws.next('step');
    assert.deepEqual(first.tags, { a: '1', b: 'ü' });
    assert.equal(first.__delta_seq, 0);
    const whole = await ws.next('step');
    assert.deepEqual([whole.tags, whole.__delta_seq, number(whole)], [{}, undefined, 1]);
    const { data: delta } = await ws.next('pusher:delta');
    assert.deepEqual([delta.seq, delta.base_index], [1, 0]);
  }
  await end();
});

test('an excluded socket id is respected in the other process', async (t) => {
  const { server, old, end } = await withTwoProcesses(t);
  await publish(server, { name: 'step', channel: CHANNEL, data: '{"n":0}', socket_id: old[0].socketId });
  await publish(server, { name: 'step', channel: CHANNEL, data: '{"n":1}' });
  assert.deepEqual(await numbers(old[0], 'step', 1), [1]);
  assert.deepEqual(await numbers(old[1], 'step', 2), [0, 1]);
  await end();
});

test('events for users, and the orders to close their connections, reach both', async (t) => {
  const { server, old, next, end } = await withTwoProcesses(t, { prepare: (ws) => signin(ws, { id: 'user-1' }) });
  await publish(server, { name: 'step', channel: '#server-to-user-user-1', data: '{"n":0}' });
  for (const ws of [...old, next]) assert.deepEqual(await numbers(ws, 'step', 1), [0]);
  await api(server, 'POST', '/users/user-1/terminate_connections');
  for (const ws of [...old, next]) await closedWithError(ws, 4009);
  await end();
});

test('cache channels keep their events, and those that are published meanwhile', async (t) => {
  const apps = [APP, { ...APP, id: 'other', key: 'other-key' }];
  const server = await serverFor(t, { apps, config: { shutdown_grace_period: 0 } });
  const data = 'x'.repeat(5000); // several pages
  for (const app of apps)
    for (let n = 0; n < 100; n++)
      await publish(server, { name: 'price', channel: `cache-${n}`, data: JSON.stringify({ n, data }) }, { app });
  const { ended } = await server.upgrade();
  await ended();
  await publish(server, { name: 'price', channel: 'cache-7', data: '{"n":-7}' });
  for (const app of apps) {
    const ws = await connect(server, { t, app });
    for (let n = 0; n < 100; n++) {
      await subscribe(ws, `cache-${n}`);
      const event = await ws.next(({ channel }) => channel === `cache-${n}`);
      assert.equal(event.event, 'price');
      assert.equal(number(event), app === APP && n === 7 ? -7 : n);
    }
  }
});

test('webhooks hear of nobody who only changes over, and of those who do not come back once', async (t) => {
  const receiver = await webhookReceiver(t, { [APP.key]: APP.secret });
  const event_types = ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'];
  const server = await serverFor(t, {
    apps: [{ ...APP, webhooks: [{ url: receiver.url, event_types }] }],
    config: { shutdown_grace_period: 1 },
  });
  const people = ['anna', 'ben', 'cleo'];
  const here = (ws, user) => join(ws, 'presence-room', { user_id: user });
  const enter = async (user) => {
    const ws = await connect(server, { t });
    await here(ws, user);
    await subscribe(ws, 'shared');
    await subscribe(ws, `of-${user}`);
    return ws;
  };
  const clients = await Promise.all(people.map(enter));
  const told = () =>
    receiver.events.all.map(({ name, channel, user_id: user }) => [name, channel, user ?? ''].join(' '));
  const first = [
    ...people.map((user) => `member_added presence-room ${user}`),
    ...['presence-room', 'shared', ...people.map((user) => `of-${user}`)].map((name) => `channel_occupied ${name} `),
  ].sort();
  for (let i = 0; i < first.length; i++) await receiver.events.next();
  assert.deepEqual(told().sort(), first);

  const { ended } = await server.upgrade();
  const back = await Promise.all(
    clients.slice(0, 2).map(async (ws, i) => {
      await ws.closing();
      return enter(people[i]);
    }),
  );
  await ended();
  const gone = [await receiver.events.next(), await receiver.events.next()];
  assert.deepEqual(gone.map(({ name, channel, user_id: user }) => [name, channel, user ?? ''].join(' ')).sort(), [
    'channel_vacated of-cleo ',
    'member_removed presence-room cleo',
  ]);
  await subscribe(back[0], 'last');
  await receiver.events.next((event) => event.channel === 'last');
  assert.equal(told().length, first.length + 3, told().join('\n'));
});

test('a process that hangs is given up some time after its grace period', async (t) => {
  const receiver = await webhookReceiver(t, { [APP.key]: APP.secret });
  const server = await serverFor(t, {
    apps: [{ ...APP, webhooks: [{ url: receiver.url, event_types: ['channel_occupied'] }] }],
    config: { shutdown_grace_period: 5 }, // the old process has clients for so long
  });
  const since = server.log.all.length;
  const clients = await Promise.all(Array.from({ length: 10 }, () => connect(server, { t })));
  const { old } = await server.upgrade();
  await Promise.any(clients.map((ws) => ws.closing())); // from now on the old process accepts nobody
  process.kill(old, 'SIGSTOP');
  try {
    await subscribe(await connect(server, { t }), 'fresh');
    await receiver.events.next((event) => event.channel === 'fresh');
    await server.waitForLog(new RegExp(`^process ${old} has not ended in time`), { since });
    await server.upgrade();
  } finally {
    process.kill(old, 'SIGCONT');
  }
  for (const ws of clients) ws.destroy();
});

test('a flood of one app takes no events of another one, and what is accepted of it is not lost', async (t) => {
  const flooder = { ...APP, id: 'flooder', key: 'flooder-key', max_backend_events_per_second: 0 };
  const { server, old, oldPid, end } = await withTwoProcesses(t, { apps: [APP, flooder] });
  const channels = Array.from({ length: 100 }, (_, i) => `nobody-${i}`);
  const body = { name: 'e', channels, data: 'x'.repeat(9000) };
  const flood = async (count) => {
    let refused = 0;
    for (let i = 0; i < count; i++) {
      const { status, headers } = await api(server, 'POST', '/events', { app: flooder, body });
      if (status === 503) assert.equal(headers['retry-after'], '1');
      else assert.equal(status, 200);
      if (status === 503) refused++;
    }
    return refused;
  };
  process.kill(oldPid, 'SIGSTOP'); // it reads nothing
  try {
    const refused = await flood(80); // 72 MB
    assert.ok(refused > 40 && refused < 80, `${refused} of 80 were refused`);
    for (let n = 0; n < 60; n++) await publish(server, { name: 'step', channel: CHANNEL, data: JSON.stringify({ n }) });
    const held = (await fetchMetrics(server)).sum('memory_held_bytes', { kind: 'handover' });
    assert.ok(held > 10_000_000 && held < 64 * 1024 * 1024, `${held} bytes wait`);
  } finally {
    process.kill(oldPid, 'SIGCONT');
  }
  for (const ws of old) assert.deepEqual(await numbers(ws, 'step', 60), upTo(60));
  await end();
  assert.ok(!server.log.all.some(({ message }) => /events did not reach/.test(message)));
});
