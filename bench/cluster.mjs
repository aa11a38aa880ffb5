// usage: node cluster.mjs [latency|cpu|alone|memory|outage] [redis|nats]
//
// Benchmark of several nodes, run by `make bench BENCH_ARGS="--scenario cluster"`. Nodes, Redis, NATS and clients share
// this machine.
//   latency  how much later an event comes to a subscriber on another node than to one on the publisher's
//   cpu      CPU time of each node for an event of a batch, beside one node with the adapter `local`
//   alone    CPU time of a publish with an adapter and no other node, relative to `local`
//   memory   what a member of a presence channel takes on a node that only watches the channel
//   outage   how long one node with 100,000 occupied channels takes after its connections were cut and after a restart
//            of Redis or NATS, and the longest turns of its cluster's thread and its workers, also while clients and a
//            whole node come and go; the node on CPU 0, all else on CPU 1
// A second argument, `redis` or `nats`, chooses one of them. CURLEW_BINARY_RELEASE names another build. Exit code: 1 if
// a goal was missed.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

import { api, publish } from '../tests/lib/api.js';
import { nodesFor } from '../tests/lib/nodes.js';
import { APP, RELEASE_BINARY, serverFor } from '../tests/lib/server.js';
import { channelAuth } from '../tests/lib/sign.js';
import { cpuNs, Crowd } from './crowd.mjs';
import { measureOutage } from './outage.mjs';

const KINDS = ['redis', 'nats'];
const GOAL_KIND = 'redis'; // the goal of the latency is for Redis on the loopback device

const EVENTS = 500; // one after another
const GOAL_LATENCY_MS = 1;

const ROUNDS = 7;
const BATCHES = 1000; // in a round
const BATCH = 10;
const CONNECTIONS = 8;
const GOAL_CPU_US = 20;
const GOAL_REMOTE = 1.5;

const PAIRS = 45; // of servers: each server has its own luck with memory and caches
const SLICES = 12;
const PUBLISHES = 200; // in a slice
const GOAL_ALONE = 1.02;

const MEMBERS = 50_000;
const CHANNELS_EACH = 50;
const GOAL_MEMBER_BYTES = 200;

const DATA = '{"symbol":"ACME","price":123.45,"volume":1000,"time":1700000000000,"venue":"XNAS"}';

const ends = [];
const life = { after: (end) => ends.unshift(end) };
async function endAll() {
  while (ends.length > 0) await ends.shift()();
}
let missed = false;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const percentile = (values, part) => [...values].sort((a, b) => a - b)[Math.floor(values.length * part)];

function goal(met, text) {
  console.log(`${met ? 'ok    ' : 'MISSED'} ${text}`);
  missed ||= !met;
}

const SERVER = {
  apps: [
    {
      ...APP,
      max_connections: 0,
      max_backend_events_per_second: 0,
      max_client_events_per_second: 0,
      max_presence_members_per_channel: 0,
    },
  ],
  config: { websocket: { max_subscriptions_per_connection: 0 } },
  binary: RELEASE_BINARY,
};

const nodesOn = (kind, count) => nodesFor(life, { kind, count, prefix: `bench-${kind}-${count}`, server: SERVER });

// --- latency ---

// Resolves to the times at which the next event comes to each crowd.
const arrivals = (crowds) =>
  Promise.all(
    crowds.map(
      (crowd) =>
        new Promise((resolve) => {
          crowd.wanted = crowd.frames + 1;
          crowd.reached = () => {
            crowd.wanted = Infinity;
            resolve(performance.now());
          };
        }),
    ),
  );

async function measureLatency(kind) {
  const nodes = await nodesOn(kind, 2);
  const crowds = [new Crowd(), new Crowd()];
  for (const [i, crowd] of crowds.entries()) await crowd.open(nodes.list[i], 1, () => [{ channel: 'prices' }]);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const local = [];
  const later = [];
  for (let i = 0; i < EVENTS; i++) {
    const came = arrivals(crowds);
    const began = performance.now();
    await publish(nodes.list[0], { name: 'tick', channel: 'prices', data: DATA }, { agent });
    const [here, there] = await came;
    local.push(here - began);
    later.push(there - here);
  }
  agent.destroy();
  for (const crowd of crowds) crowd.close();
  const text =
    `${kind}: an event comes to another node ${median(later).toFixed(3)} ms later at the median, ` +
    `${percentile(later, 0.99).toFixed(3)} at the 99th percentile (on its own node: ${median(local).toFixed(3)})`;
  if (kind === GOAL_KIND) goal(median(later) < GOAL_LATENCY_MS, `${text}, goal ${GOAL_LATENCY_MS} ms`);
  else console.log(`       ${text}`);
}

// --- CPU ---

// Publishes many batches over a few connections; resolves when all events have come to the crowds, to the events a
// second.
async function publishBatches(server, crowds) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const batch = Array.from({ length: BATCH }, () => ({ name: 'tick', channel: 'prices', data: DATA }));
  const came = crowds.map(
    (crowd) =>
      new Promise((resolve) => {
        crowd.wanted = crowd.frames + BATCHES * BATCH;
        crowd.reached = resolve;
      }),
  );
  const began = performance.now();
  let left = BATCHES;
  const publisher = async () => {
    while (left-- > 0) {
      const answer = await api(server, 'POST', '/batch_events', { body: { batch }, agent });
      if (answer.status !== 200) throw new Error(`a batch was answered ${answer.status}: ${answer.body}`);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, publisher));
  await Promise.all(came);
  agent.destroy();
  return (BATCHES * BATCH * 1000) / (performance.now() - began);
}

// One subscriber of each server.
async function openSubscribers(servers) {
  const crowds = servers.map(() => new Crowd());
  for (const [i, crowd] of crowds.entries()) await crowd.open(servers[i], 1, () => [{ channel: 'prices' }]);
  return crowds;
}

// CPU time in µs of each server for an event of one round, and the events a second.
async function cpuOfRound(servers, crowds) {
  const before = servers.map((server) => cpuNs(server.pid));
  const rate = await publishBatches(servers[0], crowds);
  return { us: servers.map((server, i) => (cpuNs(server.pid) - before[i]) / (BATCHES * BATCH) / 1000), rate };
}

// What else runs on this machine changes the figures from one second to the next: so the sides are measured in turns,
// and compared round by round.
async function measureCpu(kind) {
  const local = await serverFor(life, SERVER);
  const nodes = await nodesOn(kind, 2);
  const sides = [[local], nodes.list];
  const crowds = [];
  for (const servers of sides) crowds.push(await openSubscribers(servers));
  const rounds = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const one = await cpuOfRound(sides[0], crowds[0]);
    const two = await cpuOfRound(sides[1], crowds[1]);
    // The first round warms up.
    if (round !== 0) rounds.push({ local: one.us[0], here: two.us[0], there: two.us[1], rate: two.rate });
  }
  for (const crowd of crowds.flat()) crowd.close();
  const of = (name) => median(rounds.map((round) => round[name]));
  const figures =
    `${kind}: ${of('here').toFixed(1)} µs of CPU for an event of a batch of ${BATCH} where it is published, ` +
    `${of('there').toFixed(1)} where it is received (${Math.round(of('rate'))} a second); adapter local ` +
    of('local').toFixed(1);
  goal(Math.max(of('here'), of('there')) <= GOAL_CPU_US, `${figures}; goal ${GOAL_CPU_US} on each side`);
  const ratios = rounds.map((round) => round.there / round.local);
  goal(
    median(ratios) <= GOAL_REMOTE,
    `${kind}: an event of another node costs ${median(ratios).toFixed(2)} times a local one (median of ${ROUNDS} ` +
      `rounds, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}), goal ${GOAL_REMOTE}`,
  );
}

// --- alone ---

async function cpuOfPublishes(server, agent) {
  const before = cpuNs(server.pid);
  for (let n = 0; n < PUBLISHES; n++) await publish(server, { name: 'tick', channel: 'prices', data: DATA }, { agent });
  return (cpuNs(server.pid) - before) / PUBLISHES / 1000;
}

// CPU time in µs of a publish, slice by slice: with the adapter `local`, and with this one.
async function measurePair(kind) {
  const local = await serverFor(life, SERVER);
  const nodes = await nodesOn(kind, 1);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const slices = [];
  for (let slice = 0; slice <= SLICES; slice++) {
    const us = [];
    // Each of the two is the first in every second slice.
    for (const side of slice % 2 === 0 ? [0, 1] : [1, 0])
      us[side] = await cpuOfPublishes(side === 0 ? local : nodes.list[0], agent);
    if (slice !== 0) slices.push(us); // the first one warms up
  }
  agent.destroy();
  await endAll();
  return slices;
}

async function measureAlone(kind) {
  const pairs = [];
  for (let pair = 0; pair < PAIRS; pair++) pairs.push(await measurePair(kind));
  const of = (side) => median(pairs.flat().map((us) => us[side]));
  const ratios = pairs.map((slices) => median(slices.map(([local, alone]) => alone / local)));
  goal(
    median(ratios) <= GOAL_ALONE,
    `${kind}, and no other node: ${of(1).toFixed(1)} µs of CPU for a publish, local ${of(0).toFixed(1)}; ` +
      `${median(ratios).toFixed(3)} times as much (median of ${PAIRS} pairs of servers, ` +
      `${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}), goal ${GOAL_ALONE}`,
  );
}

// --- memory ---

const privateBytes = (server) =>
  1024 * Number(/^Private_Dirty: +(\d+) kB/m.exec(readFileSync(`/proc/${server.pid}/smaps_rollup`, 'utf8'))[1]);

// Members of presence channels: each connection is one of all channels.
async function openMembers(crowd, server, count, channels) {
  await crowd.open(server, count, (i, socketId) =>
    channels.map((channel) => {
      const channelData = JSON.stringify({ user_id: `user-${i}`, user_info: { name: `Name ${i}` } });
      return { channel, channel_data: channelData, auth: channelAuth(APP, socketId, channel, channelData) };
    }),
  );
}

async function measureMemory(kind) {
  const nodes = await nodesOn(kind, 2);
  const channels = Array.from({ length: CHANNELS_EACH }, (_, i) => `presence-${i}`);
  const crowds = [new Crowd(), new Crowd()];
  await openMembers(crowds[0], nodes.list[0], 1, channels);
  await pause(2000);
  const before = privateBytes(nodes.list[0]);
  const frames = crowds[0].frames;
  await openMembers(crowds[1], nodes.list[1], MEMBERS / CHANNELS_EACH, channels);
  // The same user joins from the other node first: it is there already and is not told.
  const told = MEMBERS - CHANNELS_EACH;
  while (crowds[0].frames - frames < told) await pause(50);
  await pause(1000);
  const bytes = (privateBytes(nodes.list[0]) - before) / MEMBERS;
  for (const crowd of crowds) crowd.close();
  goal(
    bytes <= GOAL_MEMBER_BYTES,
    `${kind}: ${bytes.toFixed(0)} bytes for a member on another node, goal ${GOAL_MEMBER_BYTES}`,
  );
}

// --- outage ---

const outage = (kind) => measureOutage(kind, { life, goal, settings: SERVER });

const MEASURES = {
  latency: measureLatency,
  cpu: measureCpu,
  alone: measureAlone,
  memory: measureMemory,
  outage,
};

const [only, onlyKind] = process.argv.slice(2);
try {
  for (const [name, measure] of Object.entries(MEASURES)) {
    if (only !== undefined && only !== name) continue;
    for (const kind of KINDS) {
      if (onlyKind !== undefined && onlyKind !== kind) continue;
      await measure(kind);
      await endAll();
    }
  }
} finally {
  await endAll();
}
process.exit(missed ? 1 : 0);
