// SIGTERM: /up fails, new clients are asked to try again, the others are sent away spread over the grace period, exit
// code 0.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { get, publish } from '../lib/api.js';
import { closedWithError, connect } from '../lib/client.js';
import { subscriber } from '../lib/events.js';
import { RawHttp } from '../lib/raw-http.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

test('every client is told 4100 before the server ends with exit code 0', async (t) => {
  const server = await serverFor(t, { config: { workers: 4, shutdown_grace_period: 1 } });
  const clients = await Promise.all(
    Array.from({ length: 40 }, () => subscriber(server, t, 'presence-c', { user: { user_id: '1' } })),
  );
  server.terminate();
  await Promise.all(
    clients.map(async (ws) => {
      await closedWithError(ws, 4100);
      await ws.closed();
    }),
  );
  assert.deepEqual(await server.exited(), { code: 0, signal: null });
});

test('the closes of each app are spread over the whole grace period', async (t) => {
  const apps = ['first', 'second'].map((id) => ({ id, key: `${id}-key`, secret: 's' }));
  const server = await serverFor(t, { apps, config: { shutdown_grace_period: 2, workers: 1 } });
  const order = [];
  const clients = [];
  for (const app of apps) for (let i = 0; i < 10; i++) clients.push({ app, ws: await connect(server, { app, t }) });
  server.terminate();
  await Promise.all(
    clients.map(async ({ app, ws }) => {
      const { at } = await ws.closing();
      order.push({ at, id: app.id });
    }),
  );
  order.sort((one, other) => one.at - other.at);
  const half = order.slice(0, 10).map(({ id }) => id);
  for (const { id } of apps) assert.ok(half.includes(id), `of the first half none is of ${id}: ${half}`);
  assert.equal((await server.exited()).code, 0);
});

test('the closes are spread evenly over the grace period', async (t) => {
  const grace = 4;
  const workers = 2;
  const server = await serverFor(t, { config: { shutdown_grace_period: grace, workers } });
  const clients = await Promise.all(Array.from({ length: 40 }, () => connect(server, { t })));
  const began = performance.now();
  server.terminate();
  const times = await Promise.all(clients.map(async (ws) => (await ws.closing()).at));
  const seconds = times.map((at) => (at - began) / 1000).sort((a, b) => a - b);
  // Each worker closes the first of its connections at once. None is closed before its time; a busy machine may be
  // late.
  const early = seconds.findIndex((after, i) => after < (grace * (i + 1 - workers)) / clients.length);
  assert.equal(early, -1, `number ${early} of ${clients.length} was closed after ${seconds[early]} s`);
  assert.equal((await server.exited()).code, 0);
});

test('clients that are being told that their app has gone hear so at once, and not of the shutdown', async (t) => {
  const gone = { ...APP, id: 'gone', key: 'gone-key', max_connections: 0 };
  const server = await serverFor(t, { apps: [APP, gone], config: { shutdown_grace_period: 60 } });
  const clients = [];
  while (clients.length < 1200)
    clients.push(...(await Promise.all(Array.from({ length: 100 }, () => connect(server, { t, app: gone })))));
  await server.reload({ apps: [APP] });
  await Promise.any(clients.map((ws) => ws.closing()));
  assert.ok(
    clients.some((ws) => ws.closeFrame === null),
    'some are not told yet',
  );
  server.terminate();
  for (const ws of clients) await closedWithError(ws, 4001);
  assert.deepEqual(await server.exited(), { code: 0, signal: null });
});

test('an HTTP connection closes after its next answer', async (t) => {
  // One worker: when it closes the first client, it drains.
  const server = await serverFor(t, { config: { shutdown_grace_period: 3600, workers: 1 } });
  const clients = await Promise.all(Array.from({ length: 20 }, () => connect(server, { t })));
  const used = await RawHttp.connect(server);
  const idle = await RawHttp.connect(server);
  for (const http of [used, idle]) {
    t.after(() => http.destroy());
    http.send('GET', '/up');
    assert.equal((await http.next()).text, 'OK');
  }
  server.terminate();
  await Promise.any(clients.map((ws) => ws.closing()));
  used.send('GET', '/usage');
  const answer = await used.next();
  assert.deepEqual([answer.status, answer.headers.connection], [200, 'close']);
  await used.closed();
  for (const ws of clients) ws.destroy();
  await idle.closed(); // when the last client has left
  assert.equal((await server.exited()).code, 0);
});

test('while it drains /up and /ready fail, new clients are asked to try again, and requests are served', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 60 } });
  const clients = await Promise.all(Array.from({ length: 20 }, () => subscriber(server, t, 'c')));
  server.terminate();
  await Promise.any(clients.map((ws) => ws.closing()));
  const stay = clients.filter((ws) => ws.closeFrame === null);
  assert.notEqual(stay.length, 0, 'some clients are still connected');
  for (const [path, status, text] of [
    ['/up', 503, 'ERROR'],
    ['/ready', 503, 'DRAINING'],
    ['/accept-traffic', 503, 'DRAINING'],
    ['/live', 200, 'OK'],
  ]) {
    const answer = await get(`${server.url}${path}`);
    assert.deepEqual([answer.status, answer.body], [status, text], path);
  }
  const late = await RawWebSocket.connect(server, { key: APP.key });
  t.after(() => late.destroy());
  assert.equal(await closedWithError(late, 4100), 'the server is restarting, try again');
  await publish(server, { name: 'e', channel: 'c', data: 'x' });
  await Promise.any(stay.map((ws) => ws.next('e')));
  assert.match((await get(server.metricsUrl)).body, /^\w*_connected/m);
  for (const ws of clients) ws.destroy();
  assert.equal((await server.exited()).code, 0);
});

test('a request that has begun is answered', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 60 } });
  const clients = await Promise.all(Array.from({ length: 10 }, () => connect(server, { t })));
  const http = await RawHttp.connect(server);
  t.after(() => http.destroy());
  const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x' });
  http.write(
    `GET /usage HTTP/1.1\r\nHost: x\r\n\r\nPOST ${signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body })} HTTP/1.1\r\n` +
      `Host: x\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 10)}`,
  );
  assert.equal((await http.next()).status, 200);
  server.terminate();
  await Promise.any(clients.map((ws) => ws.closing()));
  http.write(body.slice(10));
  const response = await http.next();
  assert.equal(response.status, 200, response.text);
  for (const ws of clients) ws.destroy();
  await http.closed();
  assert.equal((await server.exited()).code, 0);
});

test('clients that neither read nor answer do not hold it up', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 1 } });
  const silent = await Promise.all(Array.from({ length: 5 }, () => connect(server, { t, answerClose: false })));
  const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body: 'x' });
  for (const start of [
    '',
    'GET /up HTTP/1.1\r\nHo',
    `POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx`,
  ]) {
    const half = await RawHttp.connect(server);
    t.after(() => half.destroy());
    half.write(start);
  }
  for (const ws of silent) ws.pause();
  server.terminate();
  assert.deepEqual(await server.exited(), { code: 0, signal: null });
});

test('a reload that is asked for in the middle of it does not cut it short', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 1 } });
  const clients = await Promise.all(Array.from({ length: 10 }, () => connect(server, { t })));
  server.terminate();
  await server.waitForLog(/^shutting down\b/);
  await Promise.any(clients.map((ws) => ws.closing()));
  process.kill(server.pid, 'SIGHUP');
  for (const ws of clients) await closedWithError(ws, 4100);
  assert.deepEqual(await server.exited(), { code: 0, signal: null });
});

test('a grace period of 0 closes everybody at once', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 0 } });
  const clients = await Promise.all(Array.from({ length: 10 }, () => connect(server, { t })));
  server.terminate();
  for (const ws of clients) await closedWithError(ws, 4100);
  assert.equal((await server.exited()).code, 0);
});

test('a server without clients ends without waiting for the grace period', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 3600 } });
  server.terminate();
  assert.equal((await server.exited()).code, 0);
});
