// The limit of connections of an app, over all nodes.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { api } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, tryToConnect } from '../lib/client.js';
import { untilTrue } from '../lib/inbox.js';
import { APP, serverFor } from '../lib/server.js';

const redis = await backendFor({ after }, 'redis');
// Within 100 ms the other nodes know of a connection.
const untilTold = (ms = 200) => new Promise((resolve) => setTimeout(resolve, ms));

const limited = { ...APP, max_connections: 5 };
const nodeFor = (t, name) => serverFor(t, { apps: [limited], config: redis.config(name) });

// Connects when there is room again.
async function connectWhenThereIsRoom(t, server) {
  for (;;) {
    const { ws, code } = await tryToConnect(t, server);
    if (code === 0) return ws;
    assert.equal(code, 4004);
    ws.destroy();
  }
}

test('max_connections counts the connections of all nodes', async (t) => {
  const nodes = [await nodeFor(t, 'quota'), await nodeFor(t, 'quota')];
  const codes = [];
  const open = [];
  for (let i = 0; i < 10; i++) {
    const { ws, code } = await tryToConnect(t, nodes[i % 2]);
    codes.push(code);
    if (code === 0) open.push(ws);
    await untilTold();
  }
  assert.deepEqual(codes, [0, 0, 0, 0, 0, 4004, 4004, 4004, 4004, 4004]);

  // A node that comes knows the others' connections before it listens.
  const third = await nodeFor(t, 'quota');
  assert.equal((await tryToConnect(t, third)).code, 4004);

  // What leaves makes room everywhere.
  open[0].destroy();
  const last = await connectWhenThereIsRoom(t, third);
  await untilTold();
  assert.equal((await tryToConnect(t, nodes[1])).code, 4004);
  last.destroy();

  // A node that says bye takes its two connections with it; one more place is free.
  await nodes[0].stop();
  for (let i = 0; i < 3; i++) await connectWhenThereIsRoom(t, nodes[1]);
  assert.equal((await tryToConnect(t, nodes[1])).code, 4004);
});

// Connects so many clients at once; resolves to those that are established. The others were refused.
async function connectAtOnce(t, servers) {
  const tried = await Promise.all(servers.map((server) => tryToConnect(t, server)));
  for (const { code } of tried) assert.ok(code === 0 || code === 4004, code);
  return tried.filter(({ code }) => code === 0).map(({ ws }) => ws);
}

// Resolves when each node says that there are so many connections.
async function untilOpen(nodes, count) {
  const isSo = async (node) => (await api(node, 'GET', '/connections')).json.connections === count;
  for (const node of nodes) await untilTrue(() => isSo(node), `${count} connections`);
}

test('what comes to several nodes in the same moment may exceed max_connections, and nothing after it', async (t) => {
  const nodes = await Promise.all([1, 2].map(() => nodeFor(t, 'quota-at-once')));
  for (const node of nodes) await node.waitForLog(/ is there$/);
  const [one, other] = nodes;

  // A node knows those that came to the other one a moment before.
  const first = await connectAtOnce(t, [one, one, one]);
  assert.equal(first.length, 3);
  await untilTold(1000);
  const second = await connectAtOnce(t, Array(10).fill(other));
  assert.equal(second.length, 2);
  for (const ws of [...first, ...second]) ws.destroy();
  await untilOpen(nodes, 0);
  await untilTold(1000);

  // Without an exchange between them each node takes as many as it may alone.
  const open = await connectAtOnce(t, Array(10).fill(nodes).flat());
  assert.ok(open.length >= 5 && open.length <= 10, open.length);
  await untilTold(1000);
  assert.deepEqual(await connectAtOnce(t, Array(5).fill(nodes).flat()), []);
  await untilOpen(nodes, open.length);

  // What is too much has to leave before anybody can come.
  for (const ws of open.slice(5)) ws.destroy();
  await untilOpen(nodes, 5);
  await untilTold(1000);
  assert.deepEqual(await connectAtOnce(t, nodes), []);
});

test('without a limit connections are not counted for other nodes', async (t) => {
  const nodes = [];
  for (let i = 0; i < 2; i++) nodes.push(await serverFor(t, { config: redis.config('unlimited') }));
  for (const node of [...nodes, ...nodes]) await connect(node, { t });
});
