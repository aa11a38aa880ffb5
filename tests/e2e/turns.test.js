// Flooding clients, and messages and bodies that are larger than one turn of the server takes: no connection takes more
// than its share of a turn, and everything arrives, in order.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { constants, deflateRawSync } from 'node:zlib';

import { publish } from '../lib/api.js';
import { connect } from '../lib/client.js';
import { nextOn, subscriber } from '../lib/events.js';
import { fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawHttp } from '../lib/raw-http.js';
import { encodeFrame, OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor } from '../lib/server.js';
import { floodWithPongs } from '../lib/flood.js';

const FREE = { ...APP, max_connections: 0, max_event_payload_in_kb: 0 };
const PING = encodeFrame({ opcode: OPCODE.text, payload: '{"event":"pusher:ping","data":{}}' });

// Docs: 16 KB and 64 messages. Returns the metrics.
async function withinShares(server) {
  const metrics = await fetchMetrics(server);
  for (const { value } of metrics.select('input_bytes_max')) assert.ok(value <= 16_384, `${value} bytes in a turn`);
  for (const { value } of metrics.select('input_messages_max')) assert.ok(value <= 64, `${value} messages in a turn`);
  return metrics;
}

async function pongs(ws, count) {
  for (let i = 0; i < count; i++) await ws.next('pusher:pong');
}

describe('clients that flood', () => {
  test('take no more than their share, and others get all their events', async (t) => {
    const server = await serverFor(t, { apps: [FREE] });
    const listener = await subscriber(server, t, 'c');
    const flood = await floodWithPongs(server, 30);
    t.after(() => flood.stop());
    for (let i = 0; i < 30; i++) await publish(server, { name: 'e', channel: 'c', data: `${i}` });
    for (let i = 0; i < 30; i++) assert.equal((await nextOn(listener, 'c')).data, `${i}`);
    const metrics = await withinShares(server);
    assert.ok(metrics.sum('input_deferred_total') > 100, 'the flood is put off again and again');
    assert.equal(flood.stop().closed, 0);
  });

  test('with messages that are small until they are inflated get one answered after the other', async (t) => {
    const server = await serverFor(t, { apps: [FREE], config: { websocket: { compression: 'shared' } } });
    const headers = { 'Sec-WebSocket-Extensions': 'permessage-deflate' };
    const ws = await connect(server, { t, headers });
    const text = `{"event":"pusher:ping","data":"${'x'.repeat(50_000)}"}`;
    const payload = deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
    const frame = encodeFrame({ opcode: OPCODE.text, rsv: 4, payload });
    const before = (await fetchMetrics(server)).sum('input_deferred_total');
    ws.write(Buffer.concat(Array.from({ length: 50 }, () => frame)));
    await pongs(ws, 50);
    const metrics = await withinShares(server);
    assert.ok(metrics.sum('input_deferred_total') >= before + 40, 'one message is more than a turn inflates');
  });
});

describe('more than one turn takes', () => {
  test('500 messages in one write are all answered', async (t) => {
    const server = await serverFor(t, { apps: [FREE] });
    const ws = await connect(server, { t });
    ws.write(Buffer.concat(Array.from({ length: 500 }, () => PING)));
    await pongs(ws, 500);
    assert.equal(Math.max(...(await withinShares(server)).select('input_messages_max').map((s) => s.value)), 64);
  });

  test('500 messages in few records of TLS are all answered', async (t) => {
    const folder = folderWith(t);
    const [cert, key] = ['server.crt', 'server.key'].map((name) => path.join(folder, name));
    execFileSync(
      'openssl',
      `req -x509 -newkey rsa:2048 -nodes -keyout ${key} -out ${cert} -days 2 -subj /CN=localhost`.split(' '),
      { stdio: 'ignore' },
    );
    const config = { ssl: { enabled: true, cert_path: cert, key_path: key } };
    const server = await serverFor(t, { apps: [FREE], config });
    const socket = tls.connect({ host: server.host, port: server.port, rejectUnauthorized: false });
    await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    const ws = new RawWebSocket(socket, true);
    t.after(() => ws.destroy());
    await ws.shakeHands(`/app/${APP.key}?protocol=7`);
    await ws.next('pusher:connection_established');
    ws.write(Buffer.concat(Array.from({ length: 500 }, () => PING)));
    await pongs(ws, 500);
    // A message of 50 KB, in four records.
    ws.sendText(`{"event":"pusher:ping","data":"${'x'.repeat(50_000)}"}`);
    await pongs(ws, 1);
  });

  test('300 pipelined requests are answered in order', async (t) => {
    const server = await serverFor(t, { apps: [FREE] });
    const http = await RawHttp.connect(server);
    const one = (i) => `GET /${i % 2 === 0 ? 'up' : 'nowhere'} HTTP/1.1\r\nHost: x\r\n\r\n`;
    http.write(Array.from({ length: 300 }, (_, i) => one(i)).join(''));
    for (let i = 0; i < 300; i++) assert.equal((await http.next()).status, i % 2 === 0 ? 200 : 404);
    await withinShares(server);
  });

  test('an event of 5 MB arrives byte by byte, and others are answered meanwhile', async (t) => {
    const server = await serverFor(t, { apps: [FREE] });
    const listener = await subscriber(server, t, 'c');
    const data = Array.from({ length: 50_000 }, (_, i) => `${i}`.padStart(100, '-')).join('');
    const [, other] = await Promise.all([
      publish(server, { name: 'e', channel: 'c', data }, { app: FREE }),
      connect(server, { t }).then(async (ws) => {
        for (let i = 0; i < 20; i++) await ws.ping();
        return ws;
      }),
    ]);
    assert.ok(other.socketId);
    assert.equal((await nextOn(listener, 'c')).data, data);
    await withinShares(server);
  });
});
