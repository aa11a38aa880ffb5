// Many connections at once on several workers: limits stay exact, and everybody sees the same history.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Worker } from 'node:worker_threads';

import { api } from '../lib/api.js';
import { connect, join, sendSubscribe, settle } from '../lib/client.js';
import { Inbox, LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { fetchMetrics } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, sharedServer, THREADS_BINARY } from '../lib/server.js';

const LIMITED = { id: 'limited', key: 'limited-key', secret: 'limited-secret', max_connections: 137 };
const CROWDED = { ...APP, max_connections: 0, max_presence_members_per_channel: 0 };
const FULL = { id: 'full', key: 'full-key', secret: 'full-secret', max_presence_members_per_channel: 25 };
const server = await sharedServer({ apps: [CROWDED, LIMITED, FULL], config: { workers: 4 }, binary: THREADS_BINARY });
const LONG_MS = LONG_TIMEOUT_MS;

async function assertEveryWorkerTookConnections(before) {
  const taken = (await fetchMetrics(server)).since(before, 'worker_connections_total', 'worker');
  for (let worker = 0; worker < 4; worker++)
    assert.ok(taken[worker] > 50, `worker ${worker} took ${taken[worker]} connections`);
}

test('500_simultaneous_connects_admit_exactly_max_connections', async (t) => {
  const before = await fetchMetrics(server);
  for (let round = 0; round < 2; round++) {
    const sockets = Array.from({ length: 500 }, () => RawWebSocket.open(server));
    t.after(() => sockets.forEach((ws) => ws.destroy()));
    await Promise.all(sockets.map((ws) => ws.connected()));
    const first = await Promise.all(
      sockets.map(async (ws) => {
        await ws.shakeHands(`/app/${LIMITED.key}?protocol=7`);
        return ws.inbox.next(undefined, LONG_MS);
      }),
    );
    assert.equal(
      first.filter(({ event }) => event === 'pusher:connection_established').length,
      LIMITED.max_connections,
    );
    const refusals = first.filter(({ event }) => event === 'pusher:error');
    assert.equal(refusals.length, 500 - LIMITED.max_connections);
    for (const { data } of refusals) assert.equal(data.code, 4004);
    await Promise.all(sockets.map((ws) => ws.close()));
  }
  await assertEveryWorkerTookConnections(before);
});

test('simultaneous_joins_admit_exactly_max_presence_members', async (t) => {
  const sockets = await Promise.all(Array.from({ length: 100 }, () => connect(server, { t, app: FULL })));
  for (const [i, ws] of sockets.entries()) sendSubscribe(ws, 'presence-full', { user: { user_id: `u${i}` } });
  const answers = await Promise.all(
    sockets.map((ws) => ws.next((message) => /subscription_(succeeded|error)$/.test(message.event))),
  );
  assert.equal(answers.filter(({ event }) => event.endsWith('succeeded')).length, 25);
  const { json } = await api(server, 'GET', '/channels/presence-full', { app: FULL, query: { info: 'user_count' } });
  assert.equal(json.user_count, 25);
});

test(
  '1000_connections_join_and_leave_one_presence_channel_and_every_observer_sees_the_same_history',
  { timeout: LONG_MS },
  async (t) => {
    const channel = 'presence-crowd';
    const before = await fetchMetrics(server);
    const observers = [];
    const observe = async () => {
      const ws = await connect(server, { t, app: CROWDED });
      const list = await join(ws, channel, { user_id: `observer-${observers.length}` });
      assert.equal(list.count, list.ids.length);
      observers.push({ ws, list });
    };
    await observe();

    const reports = new Inbox('reports of the load threads');
    const threads = Array.from({ length: 4 }, (_, i) => {
      const thread = new Worker(new URL('../lib/presence-load.js', import.meta.url), {
        workerData: {
          host: server.host,
          port: server.port,
          app: CROWDED,
          channel,
          first: i * 250,
          count: 250,
          rounds: 2,
        },
      });
      thread.on('message', (report) => reports.push(report));
      thread.on('error', (error) => reports.close(String(error.stack)));
      t.after(() => thread.terminate());
      return thread;
    });
    for (let i = 0; i < 7; i++) await observe();
    const joined = (await reports.take(threads.length, undefined, LONG_MS)).flatMap((report) => report.joined);
    await observe();

    const histories = await settle(server, ...observers.map(({ ws }) => ws));
    const expected = [...new Set([...joined, ...observers.map((_, i) => `observer-${i}`)])].sort();
    const states = observers.map(({ list }, i) => replay(`observer ${i}`, list, histories[i], channel));
    for (const [i, { members }] of states.entries())
      assert.deepEqual([...members.keys()].sort(), expected, `observer ${i}`);

    // The first observer has seen everything: it is the model. A later list must be one of its states, and what follows
    // must be the same.
    const model = states[0];
    for (const [i, state] of states.entries()) {
      const start = model.events.length - state.events.length;
      assert.deepEqual(
        state.events,
        model.events.slice(start),
        `what observer ${i} was told is the end of what the first one was told`,
      );
      if (i > 0)
        assert.deepEqual(
          asEntries(state.first),
          asEntries(stateAt(model, start)),
          `the list of observer ${i} is the state of that moment`,
        );
    }
    await assertEveryWorkerTookConnections(before);
    const { json } = await api(server, 'GET', `/channels/${channel}/users`, { app: CROWDED });
    assert.deepEqual(json.users.map(({ id }) => id).sort(), expected);
    for (const thread of threads) thread.postMessage('end');
  },
);

// Applies the events to the first list, insisting that nobody is added or removed twice.
function replay(who, list, messages, channel) {
  const first = new Map(Object.entries(list.hash));
  const members = new Map(first);
  const events = [];
  for (const message of messages) {
    if (message.channel !== channel) continue;
    const { user_id: id, user_info: info } = JSON.parse(message.data);
    if (message.event === 'pusher_internal:member_added') {
      assert.ok(!members.has(id), `${who} is told twice that ${id} joined`);
      members.set(id, info);
    } else {
      assert.equal(message.event, 'pusher_internal:member_removed');
      assert.ok(members.delete(id), `${who} is told that ${id} left, who was not there`);
    }
    events.push([message.event, id, info]);
  }
  return { first, members, events };
}

// The members of the model after its first `count` events.
function stateAt({ first, events }, count) {
  const members = new Map(first);
  for (const [event, id, info] of events.slice(0, count)) {
    if (event === 'pusher_internal:member_added') members.set(id, info);
    else members.delete(id);
  }
  return members;
}

function asEntries(members) {
  return [...members].map(([id, info]) => `${id} ${JSON.stringify(info)}`).sort();
}
