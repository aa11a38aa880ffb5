// rate_limiter.max_connections_per_address: how many connections of one client address may be open at the same time,
// whatever worker has them. The loopback network has many addresses, so the clients of these tests have different ones.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';

import { closedWithError, connect } from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { connected, makePusher } from '../lib/pusher.js';
import { RawHttp } from '../lib/raw-http.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor, THREADS_BINARY } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const MOST = 5;
const OVER = /max_connections_per_address is 5/;
const CHANNELS = () => signedPath(APP, 'GET', `/apps/${APP.id}/channels`);

function limited(t, { hops = 0, config = {} } = {}) {
  const rate_limiter = {
    max_connections_per_address: MOST,
    api_rate_limit: { trust_hops: hops },
    websocket_rate_limit: { trust_hops: hops },
  };
  return serverFor(t, { binary: THREADS_BINARY, config: { workers: 4, rate_limiter, ...config } });
}

const from = (list) => ({ headers: { 'X-Forwarded-For': list } });

async function refused(server, t, options) {
  const ws = await RawWebSocket.connect(server, options);
  t.after(() => ws.destroy());
  assert.match(await closedWithError(ws, 4100), OVER);
}

// Until all but `count` of the address's connections have left the table, one more is refused.
async function connectsAgain(server, t, options) {
  for (;;) {
    const ws = await RawWebSocket.connect(server, options);
    t.after(() => ws.destroy());
    if ((await ws.inbox.next()).event === 'pusher:connection_established') return ws;
  }
}

async function ask(server, target, { localAddress, headers } = {}) {
  const http = await RawHttp.connect(server, { localAddress });
  http.send('GET', target, { headers });
  const response = await http.next();
  http.destroy();
  return response;
}

test('WebSockets and idle HTTP connections of an address count together, of another one apart', async (t) => {
  const server = await limited(t);
  const here = { localAddress: '127.0.0.2' };
  const open = [];
  for (let i = 0; i < 3; i++) open.push(await connect(server, { t, ...here }));
  const http = await RawHttp.connect(server, here);
  http.send('GET', '/up');
  assert.equal((await http.next()).status, 200);
  open.push(await connect(server, { t, ...here }));
  await refused(server, t, here);
  const over = await ask(server, CHANNELS(), here);
  assert.equal(over.status, 429);
  assert.match(over.json.error, OVER);
  assert.equal(over.headers['retry-after'], '1');
  assert.equal(over.headers.connection, 'close');
  assert.equal((await ask(server, CHANNELS(), { localAddress: '127.0.0.3' })).status, 200);
  http.send('GET', CHANNELS());
  assert.equal((await http.next()).status, 200, 'a connection that counts is served on');

  // Every way to close gives the place back.
  const ways = [
    () => http.destroy(),
    () => open[0].close(),
    () => open[1].destroy(),
    () => open[2].socket.resetAndDestroy(),
  ];
  for (const close of ways) {
    await close();
    await connectsAgain(server, t, here);
    await refused(server, t, here);
  }
  const metrics = await fetchMetrics(server);
  assert.ok(metrics.sum('address_limit_refusals_total') >= 6);
  assert.equal(metrics.sum('connected_addresses'), 1, 'the others have gone');
});

const PROBES = ['/live', '/ready', '/accept-traffic'];

async function probe(http, target) {
  http.send('GET', target);
  const response = await http.next();
  assert.equal(response.status, 200);
  return response.headers.connection;
}

test('probes are served over the limit, and their connections close then', async (t) => {
  const server = await limited(t);
  const open = [];
  for (let i = 0; i < MOST; i++) open.push(await connect(server, { t }));
  for (const target of PROBES) {
    const http = await RawHttp.connect(server);
    t.after(() => http.destroy());
    assert.equal(await probe(http, target), 'close');
    await http.closed();
  }
  await refused(server, t);
  open[0].destroy();
  await connectsAgain(server, t);
});

test('connections that probe count like others', async (t) => {
  const server = await limited(t);
  const open = [];
  for (let i = 0; i < MOST; i++) {
    const http = await RawHttp.connect(server);
    t.after(() => http.destroy());
    for (const target of PROBES) assert.equal(await probe(http, target), 'keep-alive');
    open.push(http);
  }
  await refused(server, t);
  assert.equal((await ask(server, CHANNELS())).status, 429);
  for (const http of open) assert.equal(await probe(http, '/live'), 'keep-alive');
  open[0].destroy();
  await connectsAgain(server, t);
});

test('who connects and says nothing over the limit is closed after two seconds', async (t) => {
  const server = await limited(t);
  const silent = [];
  for (let i = 0; i < MOST + 1; i++) silent.push(await RawHttp.connect(server));
  const began = performance.now();
  await Promise.any(silent.map((http) => http.closed()));
  assert.ok(performance.now() - began < 8000, 'before the ten seconds of the others');
  assert.equal((await ask(server, CHANNELS())).status, 429);
  silent.forEach((http) => http.destroy());
  await connectsAgain(server, t);
});

test('clients behind a proxy have their own count, and its connections have none', async (t) => {
  const server = await limited(t, { hops: 1 });
  for (let i = 0; i < MOST; i++) await connect(server, { t, ...from('198.51.100.1') });
  await refused(server, t, from('198.51.100.1'));
  await refused(server, t, from('203.0.113.9, 198.51.100.1'));
  await connect(server, { t, ...from('198.51.100.2') });
  // The proxy's connections carry requests of all clients, and stay open if one of these is refused.
  const pool = [];
  for (let i = 0; i < 2 * MOST; i++) pool.push(await RawHttp.connect(server));
  for (const http of pool) {
    for (const [client, status] of [
      ['198.51.100.1', 429],
      ['198.51.100.3', 200],
    ]) {
      http.send('GET', CHANNELS(), from(client));
      const response = await http.next();
      assert.equal(response.status, status);
      assert.doesNotMatch(response.headers.connection ?? '', /close/);
    }
  }
  pool.forEach((http) => http.destroy());
  // Both ends of one network of IPv6 are one client.
  for (let i = 0; i < MOST; i++) await connect(server, { t, ...from(`2001:db8::${i}`) });
  await refused(server, t, from('2001:db8::ffff'));
  await connect(server, { t, ...from('2001:db8:0:1::1') });
});

test('a request behind a proxy counts from its head to its answer', async (t) => {
  const server = await limited(t, { hops: 1 });
  const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x' });
  const uploads = [];
  for (let i = 0; i < MOST; i++) {
    const http = await RawHttp.connect(server);
    t.after(() => http.destroy());
    const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body });
    http.write(
      `POST ${target} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.1\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`,
      { method: 'POST' },
    );
    assert.equal((await http.next()).status, 100);
    uploads.push(http);
  }
  assert.equal((await ask(server, CHANNELS(), from('198.51.100.1'))).status, 429);
  for (const http of uploads) {
    http.write(body, { method: 'POST' });
    assert.equal((await http.next()).status, 200);
  }
  assert.equal((await ask(server, CHANNELS(), from('198.51.100.1'))).status, 200);
});

test('connections at the same time get no more than one after another', async (t) => {
  const server = await limited(t);
  const clients = await Promise.all(Array.from({ length: 40 }, () => RawWebSocket.connect(server)));
  const events = await Promise.all(clients.map(async (ws) => (await ws.inbox.next()).event));
  clients.forEach((ws) => ws.destroy());
  assert.equal(events.filter((event) => event === 'pusher:connection_established').length, MOST);
  await eventually(server, (metrics) => assert.equal(metrics.sum('connected_addresses'), 0));
});

test('pusher-js tries again, and is in as soon as there is a place', async (t) => {
  const server = await limited(t);
  const others = [];
  for (let i = 0; i < MOST; i++) others.push(await connect(server, { t }));
  const pusher = makePusher(server, { t });
  await server.waitForLog(/127\.0\.0\.1.*max_connections_per_address/);
  others[0].destroy();
  await connected(pusher);
});

test('over a unix socket there are no addresses, and no limit', async (t) => {
  const unix = path.join(folderWith(t), 'curlew.sock');
  const server = await limited(t, { config: { unix_socket: { enabled: true, path: unix } } });
  const proxy = net.createServer((front) => {
    const back = net.connect(unix);
    front.pipe(back).pipe(front);
    for (const [one, other] of [
      [front, back],
      [back, front],
    ])
      one.on('error', () => other.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => proxy.close());
  const seen = { host: '127.0.0.1', port: proxy.address().port, own: (end) => server.own(end) };
  for (let i = 0; i < 2 * MOST; i++) await connect(seen, { t });
});
