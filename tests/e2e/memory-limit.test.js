// The limit of memory that clients can make the server hold: what each attack gets, and what others notice of it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';

import { api, publish } from '../lib/api.js';
import { sendSubscribe, subscribe } from '../lib/client.js';
import { nextOn, subscriber } from '../lib/events.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawHttp } from '../lib/raw-http.js';
import { encodeFrame, OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const MB = 1024 * 1024;
const OTHER = { id: 'other', key: 'other-key', secret: 'other-secret', max_connections: 0 };
const APPS = [{ ...APP, max_connections: 0 }, OTHER];
const SMALL = { memory: { limit_mb: 24 } };

// The account of one kind, or of all.
const held = (metrics, kind) => metrics.sum('memory_held_bytes', kind && { kind });

const heldFor = (metrics, app) => metrics.sum('app_memory_held_bytes', { app_id: app.id });

// What others do meanwhile: publishes that a subscriber has to get, each after the other.
async function healthyClients(server, t) {
  const ws = await subscriber(server, t, 'healthy');
  let count = 0;
  return async () => {
    count++;
    await publish(server, { name: 'e', channel: 'healthy', data: `${count}` });
    assert.equal((await nextOn(ws, 'healthy')).data, `${count}`);
  };
}

// The account is what it was, and nobody notices anything.
async function isBack(server, before, exchange) {
  await exchange();
  await eventually(server, (metrics) => {
    for (const sample of before.select('memory_held_bytes')) {
      const { kind } = sample.labels;
      const now = held(metrics, kind);
      assert.ok(Math.abs(now - sample.value) < 64 * 1024, `${kind}: ${sample.value} before, ${now} now`);
    }
  });
}

// Begins a request whose body never ends. Resolves when the server has taken the body's beginning, or has answered.
async function endless(server, target, { announced, sent }) {
  const http = await RawHttp.connect(server);
  http.write(`POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${announced}\r\nExpect: 100-continue\r\n\r\n`);
  const { status, headers } = await http.next();
  if (status === 100) http.write(Buffer.alloc(sent, 'x'));
  return { http, status, headers };
}

describe('the limit', () => {
  test('is what memory.limit_mb says', async (t) => {
    const server = await serverFor(t, { config: { memory: { limit_mb: 24 } } });
    await server.waitForLog(/^clients may take up to 24 MB of memory \(memory\.limit_mb\)$/);
    const metrics = await fetchMetrics(server);
    assert.equal(metrics.sum('memory_limit_bytes'), 24 * MB);
    assert.deepEqual(
      metrics.select('memory_held_bytes').map((sample) => sample.labels.kind),
      metrics.select('memory_refusals_total').map((sample) => sample.labels.kind),
    );
    assert.equal(metrics.sum('memory_refusals_total'), 0);
  });

  test('is three quarters of the memory by default, less what the server needed at the start', async (t) => {
    const server = await serverFor(t);
    await server.waitForLog(/^clients may take up to \d+ MB of memory: 75 % of \d+ MB, less the \d+ MB of the server$/);
    const metrics = await fetchMetrics(server);
    const most = 0.75 * metrics.sum('memory_total_bytes');
    assert.ok(metrics.sum('memory_limit_bytes') < most);
    assert.ok(metrics.sum('memory_limit_bytes') > most - 512 * MB, 'a sanitizer makes the server larger');
  });

  test('above the memory that there is it is a warning', async (t) => {
    const server = await serverFor(t, { env: { CURLEW_MEMORY_LIMIT_MB: '16777216' } });
    const line = await server.waitForLog(/^memory\.limit_mb is 16777216, but there are only \d+ MB of memory/);
    assert.equal(line.level, 'warn');
  });
});

describe('bodies of requests', () => {
  test('of an app that does not exist are never read: 60 of 10 MB', async (t) => {
    const server = await serverFor(t, { config: SMALL });
    const exchange = await healthyClients(server, t);
    const before = await fetchMetrics(server);
    const answers = await Promise.all(
      Array.from({ length: 60 }, () =>
        endless(server, '/apps/nobody/events', { announced: 10 * MB - 1, sent: 10 * MB - 2 }),
      ),
    );
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [404]);
    await exchange();
    for (const { http } of answers) http.destroy();
    await isBack(server, before, exchange);
  });

  test('above their share are refused with 503 before they are sent, and small ones go on', async (t) => {
    const server = await serverFor(t, { config: SMALL });
    const exchange = await healthyClients(server, t);
    const before = await fetchMetrics(server);
    const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body: 'x' });
    const answers = [];
    for (let i = 0; i < 60; i++) answers.push(await endless(server, target, { announced: MB, sent: MB - 1 }));
    await eventually(server, (metrics) => assert.ok(held(metrics, 'bodies') > 3 * MB));
    const more = await endless(server, target, { announced: 2 * MB, sent: MB });
    assert.equal(more.status, 503);
    assert.equal(more.headers['retry-after'], '1');
    assert.equal(more.headers.connection, 'close');
    await exchange();
    const metrics = await fetchMetrics(server);
    assert.ok(held(metrics, 'bodies') < 6 * MB, 'a quarter of the limit');
    assert.ok(metrics.sum('memory_refusals_total', { kind: 'bodies' }) > 0);
    const line = await server.waitForLog(
      /^no room for what clients ask for: \d+ times .*\(bodies \d+\); \d+ of 24 MB /,
    );
    assert.equal(line.level, 'warn');
    for (const { http } of answers) http.destroy();
    await isBack(server, before, exchange);
  });
});

describe('parts of messages', () => {
  const payload = Buffer.alloc(60_000, 'x');
  const begin = {
    'half frames': (ws) => ws.write(encodeFrame({ opcode: OPCODE.text, payload, length: 64_000 })),
    fragments: (ws) => ws.sendFrame({ opcode: OPCODE.text, payload, fin: false }),
  };

  for (const [what, send] of Object.entries(begin)) {
    test(`above the share of their app close their connection with 4100: ${what}`, async (t) => {
      const server = await serverFor(t, { apps: APPS, config: SMALL });
      const exchange = await healthyClients(server, t);
      const before = await fetchMetrics(server);
      const attackers = await Promise.all(Array.from({ length: 200 }, () => RawWebSocket.connect(server)));
      for (const ws of attackers) send(ws);
      const closed = () => attackers.filter((ws) => ws.closeFrame !== null);
      await eventually(server, (metrics) => {
        assert.ok(metrics.sum('memory_refusals_total', { kind: 'input' }) > 50);
        assert.equal(metrics.sum('memory_refusals_total', { kind: 'input' }), closed().length);
        assert.ok(held(metrics, 'input') > 2.5 * MB);
        assert.ok(held(metrics, 'input') < 4.5 * MB, 'two thirds of a quarter of the limit');
      });
      await exchange();
      const others = await Promise.all(
        Array.from({ length: 8 }, () => RawWebSocket.connect(server, { key: OTHER.key })),
      );
      for (const ws of others) send(ws);
      await eventually(server, (metrics) => assert.ok(heldFor(metrics, OTHER) > 8 * 60_000));
      assert.ok(others.every((ws) => ws.closeFrame === null));
      for (const ws of others) ws.destroy();
      for (const ws of closed()) {
        assert.equal((await ws.next('pusher:error')).data.code, 4100);
        assert.equal(ws.closeFrame.code, 4100);
      }
      assert.equal((await fetchMetrics(server)).sum('refusals_total', { reason: 'memory_limit' }), closed().length);
      for (const ws of attackers) ws.destroy();
      await isBack(server, before, exchange);
    });
  }
});

describe('output', () => {
  test('above the share of their app: slow readers are closed early, and others lose nothing', async (t) => {
    const websocket = { max_messages: 100_000, max_backpressure: 100 * MB };
    const server = await serverFor(t, { apps: APPS, config: { ...SMALL, websocket } });
    const exchange = await healthyClients(server, t);
    const healthy = await subscriber(server, t, 'wide');
    const patient = await subscriber(server, t, 'narrow', { key: OTHER.key });
    const before = await fetchMetrics(server);
    const slow = await Promise.all(Array.from({ length: 4 }, () => subscriber(server, t, 'wide')));
    for (const ws of [...slow, patient]) ws.pause();
    /* Another app has a slow reader as well, which stays below the app's share. */
    let waiting = 0;
    while (heldFor(await fetchMetrics(server), OTHER) < MB) {
      assert.ok(waiting < 2000, 'what waits counts for its app');
      for (let i = 0; i < 10; i++)
        await publish(
          server,
          { name: 'e', channel: 'narrow', data: `${waiting++}`.padEnd(10_000, '-') },
          { app: OTHER },
        );
    }
    let sent = 0;
    for (let closed = 0; closed < slow.length && sent < 10_000;) {
      const batch = Array.from({ length: 10 }, () => ({
        name: 'e',
        channel: 'wide',
        data: `${sent++}`.padEnd(10_000, '-'),
      }));
      const response = await api(server, 'POST', '/batch_events', { body: { batch } });
      assert.equal(response.status, 200);
      if (sent % 100 !== 0) continue;
      const metrics = await fetchMetrics(server);
      closed = metrics.sum('slow_readers_total');
      assert.ok(heldFor(metrics, APP) < 7 * MB, 'two thirds of 40 % of the limit, and what one turn needs');
    }
    assert.ok(sent < 10_000, 'all slow readers are closed');
    await exchange();
    for (let i = 0; i < sent; i++) assert.equal(Number.parseInt((await nextOn(healthy, 'wide')).data), i);
    patient.resume();
    for (let i = 0; i < waiting; i++) assert.equal(Number.parseInt((await nextOn(patient, 'narrow')).data), i);
    assert.equal((await fetchMetrics(server)).sum('slow_readers_total'), slow.length);
    for (const ws of slow) ws.destroy();
    await isBack(server, before, exchange);
  });

  test('above the share of their app: large answers get 503 while others are not read', async (t) => {
    const server = await serverFor(t, { apps: APPS, config: SMALL });
    const exchange = await healthyClients(server, t);
    const ws = await subscriber(server, t, 'first');
    for (let i = 0; i < 6000; i++) await subscribe(ws, `${i}`.padStart(100, '-'));
    const other = await subscriber(server, t, 'first', { key: OTHER.key });
    for (let i = 0; i < 1000; i++) await subscribe(other, `${i}`.padStart(100, '-'));
    const before = await fetchMetrics(server);
    const lists = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const http = await RawHttp.connect(server);
        http.socket.pause();
        /* More than the kernel's buffers take. */
        for (let i = 0; i < 40; i++) http.send('GET', signedPath(APP, 'GET', `/apps/${APP.id}/channels`));
        return http;
      }),
    );
    await eventually(server, (metrics) => {
      assert.ok(metrics.sum('memory_refusals_total', { kind: 'output' }) > 0);
      assert.ok(held(metrics, 'output') > 3 * MB);
      assert.ok(held(metrics, 'output') < 7 * MB, 'two thirds of 40 % of the limit');
    });
    const list = await api(server, 'GET', '/channels', { app: OTHER });
    assert.equal(list.status, 200);
    assert.ok(list.body.length > 100_000);
    await exchange();
    for (const http of lists) http.socket.resume();
    await eventually(server, () => {
      const refused = lists.flatMap((http) => http.responses.all).find(({ status }) => status === 503);
      assert.equal(refused?.headers['retry-after'], '1');
    });
    for (const http of lists) http.destroy();
    await isBack(server, before, exchange);
    assert.equal((await api(server, 'GET', '/channels')).status, 200);
  });
});

describe('connections', () => {
  const offer = { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' } };

  test('get no window when they are refused, and those that have none are served without', async (t) => {
    const websocket = { compression: 'dedicated' };
    const server = await serverFor(t, { apps: APPS, config: { ...SMALL, websocket } });
    const exchange = await healthyClients(server, t);
    const before = await fetchMetrics(server);
    const accepted = await Promise.all(Array.from({ length: 60 }, () => RawWebSocket.connect(server, offer)));
    for (const ws of accepted) {
      await ws.next('pusher:connection_established');
      assert.match(ws.handshake.headers['sec-websocket-extensions'], /^permessage-deflate/);
    }
    const full = await fetchMetrics(server);
    const share = (0.4 * 24 * MB * 2) / 3;
    assert.ok(held(full, 'compression') > share - MB && held(full, 'compression') < share, 'two thirds of 40 %');
    assert.ok(full.sum('memory_refusals_total', { kind: 'compression' }) > 0);
    const refused = await Promise.all(
      Array.from({ length: 100 }, () => RawWebSocket.connect(server, { ...offer, key: 'nobody', answerClose: false })),
    );
    for (const ws of refused) assert.equal((await ws.closing()).code, 4001);
    const after = await fetchMetrics(server);
    assert.equal(held(after, 'compression'), held(full, 'compression'));
    for (const ws of refused) await ws.closed(); /* the server does not wait long for their close frames */
    const others = await Promise.all(
      Array.from({ length: 4 }, () => RawWebSocket.connect(server, { ...offer, key: OTHER.key })),
    );
    for (const ws of others) await ws.next('pusher:connection_established');
    const shared = await fetchMetrics(server);
    assert.ok(held(shared, 'compression') - held(full, 'compression') > 4 * 256 * 1024, 'the other app has windows');
    for (const ws of [...accepted, ...refused, ...others]) ws.destroy();
    await isBack(server, before, exchange);
  });

  test('of an app that holds too much are refused with 4100, those of others are not', async (t) => {
    const server = await serverFor(t, { apps: APPS, config: { memory: { limit_mb: 16 } } });
    const exchange = await healthyClients(server, t);
    const before = await fetchMetrics(server);
    const refusals = async (kind) => (await fetchMetrics(server)).sum('memory_refusals_total', { kind });
    const holders = [];
    const open = async () => {
      holders.push(await RawWebSocket.connect(server));
      return holders.at(-1);
    };
    /* Parts of messages and bodies fill their shares, and the app takes what it can get of the rest. */
    while ((await refusals('input')) === 0)
      (await open()).sendFrame({ opcode: OPCODE.text, payload: Buffer.alloc(60_000, 'x'), fin: false });
    const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body: 'x' });
    while ((await refusals('bodies')) === 0)
      holders.push((await endless(server, target, { announced: 100_000, sent: 99_999 })).http);
    let full = false;
    while (!full) {
      const ws = await open();
      for (let i = 0; i < 1000; i++) sendSubscribe(ws, `${holders.length}-${i}`.padStart(100, '-'));
      full = (await ws.fence()).some(({ event }) => event === 'pusher:subscription_error');
    }
    let refused = null;
    while (refused === null) {
      const { event } = await (await open()).expect(() => true);
      if (event === 'pusher:error') refused = holders.at(-1);
    }
    assert.equal((await refused.closing()).code, 4100);
    const metrics = await fetchMetrics(server);
    assert.ok(metrics.sum('refusals_total', { app_id: APP.id, reason: 'memory_limit' }) > 0);
    assert.ok(metrics.sum('memory_refusals_total', { kind: 'connections' }) > 0);
    const welcome = await RawWebSocket.connect(server, { key: OTHER.key });
    await welcome.expect('pusher:connection_established');
    await exchange();
    for (const holder of [...holders, welcome]) holder.destroy();
    await isBack(server, before, exchange);
  });

  test('with TLS count for their app, which leaves room for those of others', async (t) => {
    const folder = folderWith(t, {});
    const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(folder, name));
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    execFileSync('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' });
    const ssl = { enabled: true, cert_path: cert, key_path: key };
    const server = await serverFor(t, { apps: APPS, config: { memory: { limit_mb: 16 }, ssl } });
    const connect = async (app) => {
      const options = { host: server.host, port: server.port, ca: readFileSync(cert), servername: '' };
      const ws = new RawWebSocket(tls.connect(options), true);
      server.own(() => ws.destroy());
      await ws.shakeHands(`/app/${app.key}?protocol=7`);
      return ws;
    };
    const share = (0.6 * 16 * MB * 2) / 3;
    const clients = [];
    let event;
    do {
      clients.push(await connect(APP));
      ({ event } = await clients.at(-1).expect(() => true));
    } while (event !== 'pusher:error' && clients.length < 1000);
    assert.equal((await clients.at(-1).closing()).code, 4100);
    const full = await fetchMetrics(server);
    assert.ok(full.sum('memory_refusals_total', { kind: 'tls' }) > 0);
    assert.ok(Math.abs(heldFor(full, APP) - share) < MB / 2, 'two thirds of 60 % of the limit');
    clients.push(await connect(OTHER));
    await clients.at(-1).expect('pusher:connection_established');
    for (const client of clients) client.destroy();
    await eventually(server, (metrics) => assert.equal(heldFor(metrics, APP) + heldFor(metrics, OTHER), 0));
  });
});
