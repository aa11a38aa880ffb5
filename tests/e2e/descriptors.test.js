// A server whose limit on open files is reached: API requests, metrics and the admin API are still answered, and a
// WebSocket gets 4100.

import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';

import { get, publish, request } from '../lib/api.js';
import { connect } from '../lib/client.js';
import { nextOn, subscriber } from '../lib/events.js';
import { eventually, getMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, BINARY, serverFor } from '../lib/server.js';

const TOKEN = 'a token of at least thirty-two characters';
const MANY = { ...APP, max_connections: 0 };

// Starts the server with a limit of `files` open files.
async function limitedServer(t, files, options) {
  const binary = path.join(folderWith(t), 'limited');
  writeFileSync(binary, `#!/bin/sh\nulimit -n ${files}\nexec '${BINARY}' "$@"\n`);
  chmodSync(binary, 0o755);
  return serverFor(t, { apps: [MANY], binary, ...options });
}

// Connects WebSockets until one is refused.
async function fill(server, t) {
  const connections = [];
  for (;;) {
    const ws = await RawWebSocket.connect(server, { key: APP.key });
    t.after(() => ws.destroy());
    const message = await ws.inbox.next();
    if (message.event !== 'pusher:connection_established') {
      assert.equal(message.data.code, 4100, message.text);
      assert.match(message.data.message, /file descriptors/);
      assert.equal((await ws.closing()).code, 4100);
      await ws.closed();
      return connections;
    }
    connections.push(ws);
  }
}

async function answersAll(server, times) {
  for (let i = 0; i < times; i++) {
    await publish(server, { name: 'e', channel: 'c', data: `${i}` });
    assert.equal((await getMetrics(server)).status, 200);
    assert.equal((await get(`${server.url}/up`)).body, 'OK');
  }
}

// TCP connections that never say a word, held open as far as the server lets them.
function silence(server, t, count) {
  const sockets = Array.from({ length: count }, () => net.connect(server.port, server.host).on('error', () => {}));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  return Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
}

describe('with all descriptors in use by WebSockets', () => {
  test('requests, metrics and events go on, new WebSockets get 4100, and places that are left are taken again', async (t) => {
    const server = await limitedServer(t, 128);
    const listener = await subscriber(server, t, 'c');
    const connections = await fill(server, t);
    assert.ok(connections.length >= 30, `${connections.length} connections`);
    await answersAll(server, 20);
    for (let i = 0; i < 20; i++) assert.equal((await nextOn(listener, 'c')).data, `${i}`);
    for (let i = 0; i < 20; i++) assert.equal((await fill(server, t)).length, 0);
    await server.waitForLog(/file descriptors are short: .*4100.*ulimit -n/);
    await eventually(server, (metrics) => {
      const refused = metrics.select('descriptor_refusals_total').map((sample) => sample.value);
      assert.equal(
        refused.reduce((sum, value) => sum + value, 0),
        21,
      );
    });
    for (const ws of connections.splice(0, 10)) ws.destroy();
    await eventually(server, (metrics) => {
      const [connected] = metrics.select('connected', { app_id: APP.id });
      assert.equal(connected.value, connections.length + 1);
    });
    await connect(server, { t });
    await server.waitForLog(/file descriptors are short/);
    assert.equal(server.log.all.filter((line) => /file descriptors are short/.test(line.message)).length, 1);
  });

  test('a store can still be reached, and the admin API answers', async (t) => {
    const server = await limitedServer(t, 160, {
      apps: [],
      config: {
        app_manager: { driver: 'sqlite' },
        database: { sqlite: { path: path.join(folderWith(t), 'apps.db') } },
      },
      env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
    });
    const { message } = await server.waitForLog(/^admin API on /);
    const url = message.match(/http:\/\/\S+/)[0];
    const headers = { authorization: `Bearer ${TOKEN}` };
    assert.equal((await request(url, { method: 'POST', headers, body: JSON.stringify(MANY) })).status, 201);
    await fill(server, t);
    for (let i = 0; i < 20; i++) {
      const body = JSON.stringify({ id: `app-${i}`, key: `key-${i}`, secret: 's' });
      assert.equal((await request(url, { method: 'POST', headers, body })).status, 201);
    }
    await answersAll(server, 5);
  });
});

describe('with more silent connections than descriptors', () => {
  // docs/production.md promises an answer within two seconds.
  test('requests and metrics are answered soon', async (t) => {
    const server = await limitedServer(t, 128);
    await publish(server, { name: 'e', channel: 'c', data: 'x' });
    await silence(server, t, 300);
    const began = performance.now();
    await answersAll(server, 1);
    assert.ok(performance.now() - began < 3 * 2000, `${performance.now() - began} ms for three requests`);
    await answersAll(server, 10);
    const ws = await RawWebSocket.connect(server, { key: APP.key });
    const { event, data } = await ws.inbox.next();
    if (event === 'pusher:error') {
      assert.equal(data.code, 4100);
      assert.equal((await ws.closing()).code, 4100);
    } else {
      assert.equal(event, 'pusher:connection_established');
    }
    ws.destroy();
  });
});
