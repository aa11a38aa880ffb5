// usage: node webhooks.mjs
//
// Benchmark of webhooks, run by `make bench BENCH_ARGS="--scenario webhooks"`: 20,000 client events a second, each of
// them an event of a webhook, with the server on CPU 0 and the clients and the receiver on CPU 1. Prints what arrived,
// the CPU time of the webhook thread, and the latency of publishes beside the load, with webhooks and with
// `queue.driver` `none` in turns. CURLEW_BINARY_RELEASE names another build. Exit code: 1 if a goal was missed.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

import { publish } from '../tests/lib/api.js';
import { connect, subscribe } from '../tests/lib/client.js';
import { APP, RELEASE_BINARY, startServer } from '../tests/lib/server.js';

const RATE = 20_000;
const STEP_MS = 10;
const SECONDS = 5;
const ROUNDS = 3;
const PUBLISH_EVERY_MS = 20;
const TICKS_PER_SECOND = 100; // of /proc; the same on all of Linux's usual machines
// Two threads share the CPU: a publish waits for the webhook thread at most for its slice.
const GOAL_RATIO = 1.5;

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

// A receiver that counts.
async function receiver() {
  const counts = { events: 0, requests: 0 };
  const server = http.createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('latin1')) body += chunk;
    counts.events += body.split('{"name":').length - 1;
    counts.requests++;
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    counts,
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => server.close() ?? server.closeAllConnections(),
  };
}

// The CPU seconds of the server's threads of this name.
function cpuOf(pid, name) {
  let ticks = 0;
  for (const id of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${id}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (stat.includes(`(${name})`)) ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

// A masked text frame whose mask is zero (RFC 6455 section 5.3).
function frame(text) {
  const payload = Buffer.from(text);
  const head = Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 255, 0, 0, 0, 0]);
  return Buffer.concat([head, payload]);
}

// Sends RATE events a second for SECONDS over one connection; resolves to their number.
async function load(client) {
  const data = { text: 'x'.repeat(60) };
  const one = frame(JSON.stringify({ event: 'client-load', channel: 'private-load', data }));
  const begin = performance.now();
  let sent = 0;
  while (performance.now() - begin < SECONDS * 1000) {
    const due = Math.floor(((performance.now() - begin) / 1000) * RATE) - sent;
    if (due > 0 && !client.socket.write(Buffer.concat(Array(due).fill(one)))) await once(client.socket, 'drain');
    sent += Math.max(due, 0);
    await pause(STEP_MS);
  }
  return sent;
}

// The milliseconds from publishes to their subscriber, while `during` lasts.
async function latencies(server, subscriber, during) {
  const found = [];
  let over = false;
  during.finally(() => (over = true)).catch(() => {});
  while (!over) {
    const begin = performance.now();
    await Promise.all([publish(server, { channel: 'latency', name: 'tick', data: '{}' }), subscriber.next('tick')]);
    found.push(performance.now() - begin);
    await pause(PUBLISH_EVERY_MS);
  }
  return found;
}

async function start(url, config = {}) {
  const webhooks = [{ url, event_types: ['client_event'] }];
  const server = await startServer({
    apps: [{ ...APP, max_client_events_per_second: 0, max_connections: 0, webhooks }],
    config: { workers: 1, ...config },
    binary: RELEASE_BINARY,
  });
  execFileSync('taskset', ['-a', '-p', '-c', '0', String(server.pid)], { stdio: 'ignore' });
  const client = await connect(server);
  await subscribe(client, 'private-load');
  const subscriber = await connect(server);
  await subscribe(subscriber, 'latency');
  return { server, client, subscriber, latencies: [] };
}

async function measure(side) {
  const before = cpuOf(side.server.pid, 'webhooks');
  const loading = load(side.client);
  side.latencies.push(...(await latencies(side.server, side.subscriber, loading)));
  const sent = await loading;
  return { sent, cpu: () => cpuOf(side.server.pid, 'webhooks') - before };
}

execFileSync('taskset', ['-a', '-p', '-c', '1', String(process.pid)], { stdio: 'ignore' });
const target = await receiver();
const on = await start(target.url);
const off = await start(target.url, { queue: { driver: 'none' } });
let sent = 0;
let cpu = 0;
const begin = performance.now();
let idleMs = 0;
for (let round = 0; round < ROUNDS; round++) {
  const result = await measure(on);
  sent += result.sent;
  const wait = performance.now();
  while (target.counts.events < sent && performance.now() - wait < 10_000) await pause(20);
  cpu += result.cpu();
  const other = performance.now();
  await measure(off);
  idleMs += performance.now() - other;
}
const seconds = (performance.now() - begin - idleMs) / 1000;
const rate = target.counts.events / seconds;
const [with_, without] = [median(on.latencies), median(off.latencies)];
const good = target.counts.events === sent && rate >= RATE * 0.9 && with_ <= without * GOAL_RATIO;
console.log(
  `webhooks        ${Math.round(rate)} events/s in ${target.counts.requests} requests, ${sent - target.counts.events} of ${sent} lost`,
);
console.log(
  `                ${((cpu / sent) * 1e6).toFixed(2)} µs of CPU per event on the webhook thread, ${((100 * cpu) / (ROUNDS * SECONDS)).toFixed(1)} % of one CPU`,
);
console.log(
  `                publish to subscriber, median: ${with_.toFixed(2)} ms with webhooks, ${without.toFixed(2)} ms without (goal: ${GOAL_RATIO} x)${good ? '' : '  MISSED'}`,
);
for (const { server, client, subscriber } of [on, off]) {
  client.destroy();
  subscriber.destroy();
  await server.stop();
}
target.close();
process.exitCode = good ? 0 : 1;
