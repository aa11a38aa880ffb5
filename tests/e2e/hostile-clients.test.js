// Clients that mean harm, on the one worker that serves a well-behaved client too: while they go on, its events come
// and the worker never stays away for long; when they are gone, so is everything that they cost.

import assert from 'node:assert/strict';
import test from 'node:test';

import { publish, request } from '../lib/api.js';
import { connect, nextError, stillOpen, subscribe } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { RawHttp } from '../lib/raw-http.js';
import { encodeFrame, OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const BULKY = { ...APP, max_connections: 0, max_event_payload_in_kb: 0 };
const CROWD = 100;
// Each round costs the server some 10 MB while it lasts, so what stayed of six would be seen.
const WARM_UP = 2;
const ROUNDS = 6;
const GROWTH = 20 * 1024 * 1024;
// far beyond what any attack takes, for a busy machine may stop the worker in the middle of a turn
const LONGEST_TURN_S = 5;

const crowd = (count, open) => Promise.all(Array.from({ length: count }, open));
const NESTED = '['.repeat(20_000);
const KEPT = 60_000; // what a connection can make the server hold for it: just under the largest message

test('20_000_nested_brackets', async (t) => {
  await survives(t, async (server) => {
    const clients = await crowd(20, () => connect(server));
    for (const ws of clients) {
      await subscribe(ws, 'private-deep');
      for (let i = 0; i < 5; i++) {
        ws.sendText(NESTED);
        ws.sendText(`{"event":"client-x","channel":"private-deep","data":${NESTED}${']'.repeat(20_000)}}`);
        ws.sendText(
          `{"event":"pusher:subscribe","data":{"channel":"presence-x","auth":"x","channel_data":${JSON.stringify(NESTED)}}}`,
        );
      }
    }
    for (const body of [
      NESTED,
      `{"name":"e","channel":"c","data":${NESTED}${']'.repeat(20_000)}}`,
      `{"batch":${NESTED}`,
    ]) {
      const target = signedPath(BULKY, 'POST', `/apps/${BULKY.id}/events`, { body });
      assert.equal((await request(server.url + target, { method: 'POST', body })).status, 400);
    }
    for (const ws of clients) {
      for (let i = 0; i < 10; i++) await nextError(ws, 4300);
      for (let i = 0; i < 5; i++) assert.equal((await ws.next('pusher:subscription_error')).data.type, 'AuthError');
      assert.deepEqual(await stillOpen(ws), []);
      ws.destroy();
    }
  });
});

test('a_frame_that_announces_2_to_the_62_bytes', async (t) => {
  await survives(t, async (server) => {
    const clients = await crowd(CROWD, () => connect(server));
    for (const ws of clients) ws.sendFrame({ opcode: OPCODE.text, payload: 'x'.repeat(KEPT), length: 1n << 62n });
    for (const ws of clients) {
      assert.equal((await ws.closing()).code, 1009);
      ws.destroy();
    }
    const http = await RawHttp.connect(server);
    const target = signedPath(BULKY, 'POST', `/apps/${BULKY.id}/events`, { body: 'x' });
    http.write(`POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${1n << 62n}\r\n\r\n${'x'.repeat(KEPT)}`);
    assert.equal((await http.next()).status, 413);
    http.destroy();
  });
});

test('endless_fragments', async (t) => {
  const empty = Buffer.concat(
    Array.from({ length: 1000 }, () => encodeFrame({ opcode: OPCODE.continuation, fin: false })),
  );
  const small = Buffer.concat(
    Array.from({ length: 600 }, () =>
      encodeFrame({ opcode: OPCODE.continuation, payload: 'x'.repeat(100), fin: false }),
    ),
  );
  await survives(t, async (server) => {
    const clients = await crowd(2 * CROWD, () => connect(server));
    for (const ws of clients) {
      ws.sendFrame({ opcode: OPCODE.text, payload: '{', fin: false });
      ws.write(small);
    }
    for (let i = 0; i < 50; i++) {
      for (const ws of clients.slice(0, 5)) ws.write(empty);
    }
    for (const ws of clients) await ws.ping(); // all of it has been read
    for (const ws of clients.splice(CROWD)) ws.destroy();
    for (const ws of clients) {
      // A message that never ends grows over the limit in the end.
      ws.sendFrame({ opcode: OPCODE.continuation, payload: 'x'.repeat(10_000), fin: false });
      assert.equal((await ws.closing()).code, 1009);
      ws.destroy();
    }
  });
});

test('half_requests_on_hundreds_of_connections', async (t) => {
  const target = signedPath(BULKY, 'POST', `/apps/${BULKY.id}/events`, { body: 'x' });
  const post = `POST ${target} HTTP/1.1\r\nHost: x\r\n`;
  const halves = [
    `GET /app/${BULKY.key}?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: webso`,
    `${post}X: ${'x'.repeat(15_000)}`,
    `${post}Content-Length: ${2 * KEPT}\r\n\r\n${'x'.repeat(KEPT)}`,
    `${post}Transfer-Encoding: chunked\r\n\r\n20000\r\n${'x'.repeat(KEPT)}`,
  ];
  await survives(t, async (server) => {
    const clients = await crowd(4 * CROWD, () => RawHttp.connect(server));
    await Promise.all(
      clients.map(
        (http, i) =>
          new Promise((resolve) => {
            http.socket.write(halves[i % halves.length], resolve);
          }),
      ),
    );
    await eventually(server, (metrics) => assert.ok(openConnections(metrics) >= clients.length));
    // In each of the turns that this takes the worker reads what has come to the others as well.
    await (await connect(server)).close();
    for (const http of clients) http.destroy();
  });
});

test('subscribers_that_never_read', async (t) => {
  const data = 'x'.repeat(1_000_000);
  await survives(t, async (server) => {
    const clients = await crowd(8, () => connect(server));
    for (const ws of clients) {
      await subscribe(ws, 'bulk');
      ws.pause();
    }
    const before = (await fetchMetrics(server)).sum('slow_readers_total');
    for (let i = 0; (await fetchMetrics(server)).sum('slow_readers_total') < before + clients.length; i++) {
      assert.ok(i < 100, 'every one of them is found to be slow');
      await publish(server, { name: 'bulk', channel: 'bulk', data }, { app: BULKY });
    }
    for (const ws of clients) ws.destroy();
  });
});

/*
 * Runs the attack again and again. All the while a bystander publishes and receives, one event after the other; each
 * has to come. In the end no connection is left but its own, the process has not grown, and no turn of the worker was
 * long.
 */
async function survives(t, attack) {
  // The sanitizer keeps what was freed for a while; here it would look like growth.
  const env = {
    ASAN_OPTIONS: [process.env.ASAN_OPTIONS, 'quarantine_size_mb=1', 'thread_local_quarantine_size_kb=64']
      .filter(Boolean)
      .join(':'),
  };
  const server = await serverFor(t, { apps: [BULKY], config: { workers: 1 }, env });
  const bystander = await connect(server);
  await subscribe(bystander, 'calm');
  await RawWebSocket.connect(server).then((ws) => ws.close());
  const idle = openConnections(await fetchMetrics(server));
  let settled;
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    let attacking = true;
    const attacked = attack(server).finally(() => {
      attacking = false;
    });
    let heard = 0;
    for (; attacking || heard === 0; heard++) {
      await publish(server, { name: 'event', channel: 'calm', data: String(heard) }, { app: BULKY });
      assert.equal((await bystander.expect('event')).data, String(heard));
    }
    await attacked;
    await eventually(server, (metrics) => assert.ok(openConnections(metrics) <= idle, 'only the bystander is left'));
    if (round === WARM_UP - 1) settled = await fetchMetrics(server);
  }
  const metrics = await fetchMetrics(server);
  const grown = metrics.sum('process_resident_memory_bytes') - settled.sum('process_resident_memory_bytes');
  assert.ok(grown < GROWTH, `it has grown by ${grown} bytes`);
  assert.equal(metrics.sum('connected', { app_id: BULKY.id }), 1);
  assert.ok(
    metrics.sum('loop_lag_max_seconds') < LONGEST_TURN_S,
    `a turn took ${metrics.sum('loop_lag_max_seconds')} s`,
  );
}

function openConnections(metrics) {
  return metrics.sum('worker_connections_total') - metrics.sum('worker_disconnections_total');
}
