// One order for all: publishers and subscribers on connections of several workers.

import assert from 'node:assert/strict';
import http from 'node:http';
import test from 'node:test';

import { publish } from '../lib/api.js';
import { connect, join, settle, subscribe, trigger, unsubscribe } from '../lib/client.js';
import { fetchMetrics } from '../lib/metrics.js';
import { sharedServer, THREADS_BINARY } from '../lib/server.js';

const server = await sharedServer({ config: { workers: 4 }, binary: THREADS_BINARY });

test('all_subscribers_see_the_events_of_publishers_on_different_workers_in_one_order', async (t) => {
  const subscribers = await connections(t, 16);
  for (const ws of subscribers) await subscribe(ws, 'ordered');
  const agents = await onDifferentWorkers(t, 3);
  await Promise.all(['a', 'b', 'c'].map((name, i) => publishing(t, 'ordered', name, 100, agents[i])));
  const runs = (await settle(server, ...subscribers)).map((messages) =>
    messages.map(({ event, data }) => `${event}${data}`),
  );
  assert.equal(runs[0].length, 300);
  for (const name of ['a', 'b', 'c']) {
    const own = runs[0].filter((event) => event[0] === name);
    assert.deepEqual(
      own,
      Array.from({ length: 100 }, (_, i) => `${name}${i}`),
      'each publisher in the order of its answers',
    );
  }
  for (const run of runs) assert.deepEqual(run, runs[0]);
});

test('client_events_and_published_events_have_one_order_too', async (t) => {
  const [first, second, ...observers] = await connections(t, 10);
  for (const ws of [first, second, ...observers]) await subscribe(ws, 'private-ordered');
  const triggering = async (ws, name) => {
    for (let i = 0; i < 100; i++) {
      trigger(ws, 'private-ordered', `client-${name}`, String(i));
      await ws.ping();
    }
  };
  await Promise.all([
    publishing(t, 'private-ordered', 'api', 100),
    triggering(first, 'first'),
    triggering(second, 'second'),
  ]);
  // Each sender's marker comes after its own events, and all markers are here when the observers have seen both.
  for (const ws of [first, second]) trigger(ws, 'private-ordered', 'client-end', '');
  const runs = [];
  for (const ws of observers) {
    const end = (message) => message.event === 'client-end';
    const events = [...(await ws.inbox.through(end)), ...(await ws.inbox.through(end))];
    runs.push(events.map(({ event, data }) => `${event} ${data}`));
  }
  assert.equal(runs[0].length, 302);
  for (const name of ['api', 'client-first', 'client-second']) {
    assert.deepEqual(
      runs[0].filter((event) => event.startsWith(`${name} `)),
      Array.from({ length: 100 }, (_, i) => `${name} ${i}`),
    );
  }
  for (const run of runs) assert.deepEqual(run, runs[0]);
});

test('joins_leaves_and_events_of_a_presence_channel_have_one_order_too', async (t) => {
  const [mover, sender, ...observers] = await connections(t, 10);
  for (const [i, ws] of [sender, ...observers].entries()) await join(ws, 'presence-ordered', { user_id: `o${i}` });
  await settle(server, ...observers);
  const moving = (async () => {
    for (let i = 0; i < 30; i++) {
      await join(mover, 'presence-ordered', { user_id: `m${i}` });
      unsubscribe(mover, 'presence-ordered');
    }
    await mover.fence();
  })();
  await Promise.all([moving, publishing(t, 'presence-ordered', 'api', 60)]);
  const runs = (await settle(server, ...observers)).map((messages) =>
    messages.map(({ event, data }) => `${event} ${data}`),
  );
  assert.equal(runs[0].length, 120);
  for (const run of runs) assert.deepEqual(run, runs[0]);
});

function connections(t, count) {
  return Promise.all(Array.from({ length: count }, () => connect(server, { t })));
}

function keptAlive(t) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  return agent;
}

// Connections to publish on, no two of them taken by the same worker. Nobody else may connect meanwhile.
async function onDifferentWorkers(t, count) {
  const watching = keptAlive(t);
  const agents = new Map();
  let before = await fetchMetrics(server, { agent: watching });
  while (agents.size < count) {
    const agent = keptAlive(t);
    await publish(server, { name: 'first', channel: 'nobody', data: '' }, { agent });
    const after = await fetchMetrics(server, { agent: watching });
    const workers = Object.entries(after.since(before, 'worker_connections_total', 'worker'));
    assert.equal(workers.length, 1, `one worker took the connection: ${workers}`);
    agents.set(workers[0][0], agent);
    before = after;
  }
  return [...agents.values()];
}

// Publishes events one after another, each after the answer to the one before, on a connection of its own.
async function publishing(t, channel, name, count, agent = keptAlive(t)) {
  for (let i = 0; i < count; i++) await publish(server, { name, channel, data: String(i) }, { agent });
}
