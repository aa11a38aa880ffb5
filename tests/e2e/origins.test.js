// allowed_origins: which web pages may connect, at the handshake and when the list changes under open connections.
// What each pattern matches is the subject of tests/unit/test_origin.c.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { closedWithError, connect, stillOpen } from '../lib/client.js';
import { LIVE_APPS } from '../lib/live-apps.js';
import { eventually } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const withOrigins = (id, allowed_origins, change) => ({ ...APP, id, key: `${id}-key`, allowed_origins, ...change });
const SHOP = withOrigins('shop', ['https://shop.example', '*.shop.test', 'localhost:3000']);
const ANY = withOrigins('any', ['*']);
const EMPTY = withOrigins('empty', []);
const FULL = withOrigins('full', ['https://shop.example'], { max_connections: 1 });
const server = await sharedServer({ apps: [APP, SHOP, ANY, EMPTY, FULL] });

const origin = (text) => ({ headers: { Origin: text } });

async function refused(where, t, app, options) {
  const ws = await RawWebSocket.connect(where, { key: app.key, ...options });
  t.after(() => ws.destroy());
  return closedWithError(ws, 4009);
}

const NOT_ALLOWED = 'this origin is not allowed: it matches no entry of `allowed_origins` of this app';
const NO_HEADER = 'this app has `allowed_origins`, so a connection needs an Origin header, as browsers send it';

test('the Origin has to match one pattern, or the connection is refused with 4009', async (t) => {
  for (const text of ['https://shop.example', 'http://a.shop.test', 'HTTP://LOCALHOST:3000'])
    await connect(server, { t, app: SHOP, ...origin(text) });
  for (const text of ['http://shop.example', 'https://shop.example:8443', 'http://localhost', 'null', 'nonsense', ''])
    assert.equal(await refused(server, t, SHOP, origin(text)), NOT_ALLOWED, text);
  assert.equal(await refused(server, t, SHOP), NO_HEADER);
});

test('two Origin headers match only *, whichever comes first', async (t) => {
  const [good, evil] = ['https://shop.example', 'https://evil.example'];
  for (const [Origin, origin] of [
    [good, evil],
    [evil, good],
    [good, good],
  ]) {
    const headers = { Origin, origin };
    assert.equal(await refused(server, t, SHOP, { headers }), NOT_ALLOWED);
    for (const app of [ANY, APP]) await connect(server, { t, app, headers });
  }
});

test('null matches only *, and without a header even * does not', async (t) => {
  await connect(server, { t, app: ANY, ...origin('null') });
  await connect(server, { t, app: ANY, ...origin('https://any.example') });
  assert.equal(await refused(server, t, ANY), NO_HEADER);
});

test('an app without a list, or with an empty one, takes every connection', async (t) => {
  for (const app of [APP, EMPTY])
    for (const options of [{}, origin('null'), origin('https://evil.example'), origin(`https://${'x'.repeat(5000)}`)])
      await connect(server, { t, app, ...options });
});

test('the origin is looked at before max_connections, and a refused connection takes no place', async (t) => {
  await refused(server, t, FULL, origin('https://evil.example'));
  const one = await connect(server, { t, app: FULL, ...origin('https://shop.example') });
  await refused(server, t, FULL, origin('https://evil.example'));
  assert.deepEqual(await stillOpen(one), []);
});

test('refusals are counted', async (t) => {
  const app = withOrigins('counted', ['https://shop.example']);
  const own = await serverFor(t, { apps: [app] });
  for (let i = 0; i < 3; i++) await refused(own, t, app, origin('https://evil.example'));
  await eventually(own, (metrics) => {
    assert.equal(metrics.sum('connection_errors_total', { app_id: app.id, error_type: 'origin_not_allowed' }), 3);
    assert.equal(metrics.sum('refusals_total', { app_id: app.id, reason: 'allowed_origins' }), 3);
    assert.equal(metrics.sum('connected', { app_id: app.id }), 0);
  });
});

for (const [way, start] of Object.entries(LIVE_APPS)) {
  test(`a changed list closes the open connections that it does not allow: ${way}`, async (t) => {
    const { server: live, change } = await start(t, APP);
    const open = async (options) => connect(live, { t, ...options });
    const shop = [await open(origin('https://shop.example')), await open(origin('https://shop.example'))];
    const blog = await open(origin('https://blog.example'));
    const none = await open({});
    await change({ allowed_origins: ['shop.example', '*.blog.example'] });
    assert.equal(await closedWithError(none, 4009), NO_HEADER);
    assert.deepEqual(await stillOpen(blog), []);
    await change({ allowed_origins: ['shop.example'] });
    assert.equal(await closedWithError(blog, 4009), NOT_ALLOWED);
    await refused(live, t, APP, origin('https://blog.example'));
    for (const ws of shop) assert.deepEqual(await stillOpen(ws), []);
    await change({ allowed_origins: ['shop.example'], max_connections: 50 });
    await change({ allowed_origins: null });
    const late = await open({});
    for (const ws of [...shop, late]) assert.deepEqual(await stillOpen(ws), []);
    await change({ policy: { channels: { allowed_origins: ['*'] } } });
    await closedWithError(late, 4009);
    for (const ws of shop) assert.deepEqual(await stillOpen(ws), []);
  });
}

test('of many connections each is judged, over a second, while others come and go', async (t) => {
  const app = { ...APP, max_connections: 0 };
  const live = await serverFor(t, { apps: [app], config: { workers: 1 } });
  const clients = [];
  while (clients.length < 1500) {
    const names = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? 'shop' : `evil-${clients.length + i}`));
    clients.push(
      ...(await Promise.all(
        names.map(async (name) => ({ name, ws: await connect(live, { t, ...origin(`https://${name}.example`) }) })),
      )),
    );
  }
  for (const { ws } of clients.splice(0, 20)) ws.destroy();
  await live.reload({ apps: [{ ...app, allowed_origins: ['https://shop.example'] }] });
  const leaving = clients.splice(0, 20);
  for (const { ws } of leaving) ws.destroy();
  const late = await connect(live, { t, ...origin('https://shop.example') });
  for (const { name, ws } of clients.filter(({ name }) => name !== 'shop'))
    assert.equal(await closedWithError(ws, 4009), NOT_ALLOWED, name);
  for (const { ws } of clients.filter(({ name }) => name === 'shop').slice(-100))
    assert.deepEqual(await stillOpen(ws), []);
  assert.deepEqual(await stillOpen(late), []);
  await eventually(live, (metrics) =>
    assert.equal(metrics.sum('connected'), 1 + clients.filter(({ name }) => name === 'shop').length),
  );
});
