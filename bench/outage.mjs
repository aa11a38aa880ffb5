// A node with very many occupied channels when the bus comes and goes, for cluster.mjs.
//
// Two nodes; all of the channels are occupied on the first. Each step cuts connections to the message system, and lets
// a visitor join some of the channels on the second node meanwhile. The first node is complete when it is subscribed to
// all channels again, and has told its clients of each visitor. Then clients subscribe to all of the channels on the
// second node, which asks the first one for who is there, and leave at once. At last they are back, and the first node
// dies, and a new one with as many clients comes.
//
// After each step the longest turns so far of all nodes are printed, in CPU time: of the thread for the bus, and of the
// workers. Both nodes share a CPU with nothing else that counts, but by the clock a turn still contains the time in
// which its thread waits for the CPU.

import { execFileSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';

import { backendFor } from '../tests/lib/backends/index.js';
import { fetchMetrics } from '../tests/lib/metrics.js';
import { nodesFor } from '../tests/lib/nodes.js';
import { APP } from '../tests/lib/server.js';
import { channelAuth } from '../tests/lib/sign.js';
import { Crowd } from './crowd.mjs';

const OCCUPIED = 100_000;
const EACH = 1000; // channels of a connection
const VISITED = 1000;
const GOAL_OUTAGE_S = 5;
const GOAL_TURN_MS = 5;

const pin = (pid, cpu) => execFileSync('taskset', ['-a', '-p', '-c', String(cpu), String(pid)], { stdio: 'ignore' });

// The subjects that the message system has subscribers for.
async function subscriptionsOf(bus, kind) {
  if (kind === 'nats') return (await bus.monitor(0, 'subsz')).num_subscriptions;
  const client = await bus.client();
  const info = await client.call('INFO', 'stats');
  client.close();
  return Number(/pubsub_channels:(\d+)/.exec(info)[1]);
}

function membership(channel, userId, socketId) {
  const channelData = JSON.stringify({ user_id: userId });
  return { channel, channel_data: channelData, auth: channelAuth(APP, socketId, channel, channelData) };
}

const memberships = (from, to, step, userId, socketId) => {
  const list = [];
  for (let n = from; n < to; n += step) list.push(membership(`presence-${n}`, userId, socketId));
  return list;
};

// Ways to lose the bus: each cuts, lets `meanwhile` happen, and resolves to the time from which the node is awaited.
function cutsOf(bus, kind, server) {
  const restart = async (meanwhile) => {
    const since = server.log.length;
    await bus.kill();
    await server.waitForLog(/is down/, { since });
    await meanwhile();
    await bus.start();
    return performance.now();
  };
  if (kind !== 'redis') return { 'a restart of its server': restart };
  const killClients = (name) => async (meanwhile) => {
    const client = await bus.client();
    const lines = (await client.call('CLIENT', 'LIST')).split('\n').filter((line) => line.includes(` name=${name} `));
    if (lines.length !== 2) throw new Error(`Redis has ${lines.length} clients with the name ${name}`);
    const began = performance.now();
    for (const line of lines) await client.call('CLIENT', 'KILL', 'ID', /^id=(\d+)/.exec(line)[1]);
    client.close();
    await meanwhile();
    return began;
  };
  return {
    'CLIENT KILL of the subscribers': killClients('curlew-subscriber'),
    'CLIENT KILL of the publishers': killClients('curlew-publisher'),
    'a restart of Redis': restart,
  };
}

// The longest turns of a node so far, in ms: of the thread for the bus (CPU time, and by the clock), and of its
// workers (CPU time).
async function longestTurns(server) {
  const metrics = await fetchMetrics(server);
  return {
    bus: 1000 * metrics.sum('cluster_loop_cpu_max_seconds'),
    clock: 1000 * metrics.sum('cluster_loop_lag_max_seconds'),
    workers: Math.max(...metrics.select('loop_cpu_max_seconds').map(({ value }) => 1000 * value)),
  };
}

const turnText = ({ bus, clock, workers }) =>
  `longest turns so far: bus ${bus.toFixed(1)} ms of CPU (${clock.toFixed(1)} by the clock), workers ${workers.toFixed(1)}`;

export async function measureOutage(kind, { life, goal, settings }) {
  pin(process.pid, 1); // the message system, too, is started there
  const bus = await backendFor(life, kind);
  const nodes = await nodesFor(life, { bus, count: 2, prefix: `outage-${kind}`, server: settings });
  const [server, other] = nodes.list;
  pin(server.pid, 0);
  const crowd = new Crowd();
  await crowd.open(server, OCCUPIED / EACH, (i, socketId) =>
    memberships(i * EACH, (i + 1) * EACH, 1, 'resident', socketId),
  );
  const subscribed = async () => {
    while ((await subscriptionsOf(bus, kind)) < OCCUPIED) await pause(50);
  };
  await subscribed();
  console.log(`       ${kind}: ${OCCUPIED} channels subscribed to; ${turnText(await longestTurns(server))}`);

  const visitors = new Crowd();
  let joined = 0;
  for (const [name, cut] of Object.entries(cutsOf(bus, kind, server))) {
    const told = new Promise((resolve) => {
      crowd.wanted = crowd.frames + VISITED;
      crowd.reached = resolve;
    });
    const userId = `visitor-${++joined}`;
    const { hostname, port } = new URL(other.url);
    const began = await cut(() =>
      visitors.add(hostname, Number(port), (socketId) =>
        memberships(0, OCCUPIED, OCCUPIED / VISITED, userId, socketId),
      ),
    );
    await Promise.all([told, subscribed()]);
    const seconds = (performance.now() - began) / 1000;
    goal(
      seconds <= GOAL_OUTAGE_S,
      `${kind}: ${OCCUPIED} channels are complete ${seconds.toFixed(1)} s after ${name}, goal ${GOAL_OUTAGE_S} s; ` +
        turnText(await longestTurns(server)),
    );
  }
  visitors.close();
  await measureMoves({ kind, goal, bus, nodes, residents: crowd });
}

// Resolves when nothing has come to the crowd for two seconds: all of it was told.
async function untilQuiet(crowd) {
  for (let frames = -1; frames !== crowd.frames;) {
    frames = crowd.frames;
    await pause(2000);
  }
}

// A client of each connection in all of the channels that it has a part of, all at once.
async function joinAll(crowd, server, name) {
  const { hostname, port } = new URL(server.url);
  await Promise.all(
    Array.from({ length: OCCUPIED / EACH }, (_, i) =>
      crowd.add(hostname, Number(port), (socketId) =>
        memberships(i * EACH, (i + 1) * EACH, 1, `${name}-${i}`, socketId),
      ),
    ),
  );
}

// Many clients, and a whole node, come and go.
async function measureMoves({ kind, goal, bus, nodes, residents }) {
  const [server, other] = nodes.list;
  const newcomers = new Crowd();
  const again = new Crowd();
  const successors = new Crowd();
  let living = [server, other];
  const step = async (name, act, goalSeconds = Infinity) => {
    const began = performance.now();
    await act();
    const seconds = (performance.now() - began) / 1000;
    const turns = await Promise.all(living.map(longestTurns));
    goal(
      seconds <= goalSeconds && turns.every((turn) => Math.max(turn.bus, turn.workers) < GOAL_TURN_MS),
      `${kind}: ${name} in ${seconds.toFixed(1)} s${goalSeconds < Infinity ? `, goal ${goalSeconds} s` : ''}; ` +
        `${turns.map(turnText).join('; other node: ')}; goal ${GOAL_TURN_MS} ms`,
    );
  };
  const all = `${OCCUPIED} channels`;
  await step(`clients subscribed to ${all} of another node`, () => joinAll(newcomers, other, 'one'), GOAL_OUTAGE_S);
  await untilQuiet(newcomers);
  await step('they left at once', async () => {
    newcomers.close();
    await untilQuiet(residents);
  });
  await joinAll(again, other, 'two');
  await untilQuiet(again);
  await step(`a node with ${all} died`, async () => {
    living = [other];
    await server.kill();
    await other.waitForLog(/is taken for dead/);
    await untilQuiet(again);
  });
  await step(`a node with ${all} came`, async () => {
    const successor = await nodes.add();
    pin(successor.pid, 0);
    living = [successor, other];
    await joinAll(successors, successor, 'three');
    await untilQuiet(again);
  });
  await step('all left, and the channels were given up', async () => {
    again.close();
    successors.close();
    while ((await subscriptionsOf(bus, kind)) > OCCUPIED / 100) await pause(200);
  });
}
