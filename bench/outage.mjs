// A node with very many occupied channels when the bus comes and goes, for cluster.mjs.
//
// Two nodes; all of the channels are occupied on the first. Each step cuts connections to the message system, and lets
// a visitor join some of the channels on the second node meanwhile. The first node is complete when it is subscribed to
// all channels again, and has told its clients of each visitor. At last clients subscribe to all of the channels on the
// second node, which asks the first one for who is there.

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

async function longestTurn(server) {
  const metrics = await fetchMetrics(server);
  return {
    cpu: 1000 * metrics.sum('cluster_loop_cpu_max_seconds'),
    wall: 1000 * metrics.sum('cluster_loop_lag_max_seconds'),
  };
}

const turnText = ({ cpu, wall }) =>
  `longest turn so far ${cpu.toFixed(1)} ms of CPU, ${wall.toFixed(1)} ms by the clock`;

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
  console.log(`       ${kind}: ${OCCUPIED} channels subscribed to; ${turnText(await longestTurn(server))}`);

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
        turnText(await longestTurn(server)),
    );
  }
  await measureJoin(kind, goal, other);
  for (const [i, node] of nodes.list.entries()) {
    const { cpu } = await longestTurn(node);
    goal(
      cpu < GOAL_TURN_MS,
      `${kind}: longest turn of the thread for the bus on node ${i + 1} ${cpu.toFixed(1)} ms of CPU, goal ${GOAL_TURN_MS} ms`,
    );
  }
  crowd.close();
  visitors.close();
}

// Clients of another node subscribe to all of the channels at once.
async function measureJoin(kind, goal, server) {
  const { hostname, port } = new URL(server.url);
  const crowd = new Crowd();
  const began = performance.now();
  await Promise.all(
    Array.from({ length: OCCUPIED / EACH }, (_, i) =>
      crowd.add(hostname, Number(port), (socketId) =>
        memberships(i * EACH, (i + 1) * EACH, 1, `newcomer-${i}`, socketId),
      ),
    ),
  );
  const seconds = (performance.now() - began) / 1000;
  crowd.close();
  goal(
    seconds <= GOAL_OUTAGE_S,
    `${kind}: clients have subscribed to ${OCCUPIED} channels of another node in ${seconds.toFixed(1)} s, goal ` +
      `${GOAL_OUTAGE_S} s; ${turnText(await longestTurn(server))}`,
  );
}
