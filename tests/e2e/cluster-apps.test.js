// Changes of apps reach all nodes.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { untilListening } from '../lib/backends/counted.js';
import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { decode, KIND } from '../lib/cluster-message.js';
import { nodesFor } from '../lib/nodes.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { RedisClient } from '../lib/redis-client.js';

const SHOP = { id: 'shop', key: 'shop-key', secret: 'shop-secret' };

// Two nodes whose apps are in a database and would be read again after five minutes.
async function nodesOn(t, kind) {
  const store = await backendFor(t, kind);
  await store.createPlace('apps');
  const config = store.config('apps');
  Object.assign(config.app_manager, { cache: { ttl: 300, negative_ttl: 300 } });
  const bus = await backendFor(t, 'redis');
  const nodes = await nodesFor(t, { bus, count: 2, server: { apps: [], config } });
  const admin = async (node, method, where, body) => {
    const answer = await fetch(`${node.adminUrl}${where}`, {
      method,
      headers: nodes.authorization,
      body: body && JSON.stringify(body),
    });
    assert.ok(answer.ok, `${method} ${where}: ${answer.status} ${await answer.text()}`);
  };
  return { store, bus, nodes: nodes.list, untilAll: () => nodes.untilAll(2), admin };
}

async function refusal(node, key) {
  const ws = await RawWebSocket.connect(node, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

// Connects as soon as the node knows the app; the promise is a second.
async function connectWhenKnown(t, node, app) {
  const until = Date.now() + 5000;
  for (;;) {
    const ws = await RawWebSocket.connect(node, { key: app.key });
    t.after(() => ws.destroy());
    const message = await ws.next((m) => /^pusher:(connection_established|error)$/.test(m.event));
    if (message.event === 'pusher:connection_established') return ws;
    assert.equal(message.data.code, 4001);
    assert.ok(Date.now() < until, 'the node does not learn of the app');
  }
}

test('what the admin API of one node changes is in force on the others', async (t) => {
  const { store, nodes, admin, bus, untilAll } = await nodesOn(t, 'mariadb');
  const [one, two] = nodes;
  for (const node of nodes) assert.equal(await refusal(node, SHOP.key), 4001); // and that is remembered
  await admin(one, 'POST', '/admin/apps', SHOP);
  const buyer = await connectWhenKnown(t, two, SHOP);
  await admin(one, 'PATCH', '/admin/apps/shop', { key: 'new-key' });
  await connectWhenKnown(t, two, { ...SHOP, key: 'new-key' });
  assert.equal(await refusal(two, SHOP.key), 4001);
  await admin(two, 'PATCH', '/admin/apps/shop', { enabled: false });
  assert.equal((await buyer.next('pusher:error')).data.code, 4003);

  // In an outage the change waits. No node hears of a change in the store itself, so all records are read again.
  await admin(one, 'PATCH', '/admin/apps/shop', { enabled: true });
  const other = await connectWhenEnabled(t, two, 'new-key');
  await admin(one, 'POST', '/admin/apps', { ...SHOP, id: 'inn', key: 'inn-key' });
  const guest = await connectWhenEnabled(t, two, 'inn-key');
  await bus.stop();
  for (const node of nodes) await node.waitForLog(/the bus \(redis\) is down/);
  await admin(one, 'DELETE', '/admin/apps/shop');
  const client = await store.client('apps');
  t.after(() => client.end());
  await client.query("UPDATE applications SET enabled = 0 WHERE id = 'inn'");
  await bus.start();
  await untilAll();
  assert.equal((await other.next('pusher:error')).data.code, 4001);
  assert.equal((await guest.next('pusher:error')).data.code, 4003);
});

// Connects when the app is enabled again.
async function connectWhenEnabled(t, node, key) {
  const until = Date.now() + 5000;
  while ((await refusalOrNone(node, key)) !== null) assert.ok(Date.now() < until, 'the app is not enabled');
  return connect(node, { t, app: { key } });
}

async function refusalOrNone(node, key) {
  const ws = await RawWebSocket.connect(node, { key });
  const message = await ws.next((m) => /^pusher:(connection_established|error)$/.test(m.event));
  ws.destroy();
  return message.event === 'pusher:error' ? message.data.code : null;
}

test('a notice of the store goes to the other nodes', async (t) => {
  const { store, nodes, bus, admin } = await nodesOn(t, 'postgres');
  await admin(nodes[0], 'POST', '/admin/apps', SHOP);
  for (const node of nodes) await untilListening(store, 'postgres', 'apps', node);
  const listener = await RedisClient.connect({ ...bus.address, encoding: 'latin1' });
  t.after(() => listener.close());
  listener.subscribe('test:curlew1:n');
  await listener.pushed.next(([kind]) => kind === 'subscribe');
  const client = await store.client('apps');
  t.after(() => client.end());
  await client.query("UPDATE applications SET enabled = false WHERE id = 'shop'");
  await listener.pushed.next(([kind, , text]) => {
    if (kind !== 'message') return false;
    const message = decode(Buffer.from(text, 'latin1'));
    return message.kind === KIND.appChanges && message.apps.includes('shop');
  });
  for (const node of nodes) assert.equal(await refusal(node, SHOP.key), 4003);
});
