// Nodes that come, leave, die and return: what the others know of them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fetchMetrics } from '../lib/metrics.js';
import { HEARTBEAT_MS, NODE_TIMEOUT_MS, SLOW, nodesFor } from '../lib/nodes.js';
import { runCurlew } from '../lib/server.js';

const idOf = (seen) => seen.nodes.find(({ self }) => self).id;
const idsOf = (seen) => seen.nodes.map(({ id }) => id).sort();
const count = (server, pattern) => server.log.all.filter(({ message }) => pattern.test(message)).length;

test('nodes that join see each other, and serve clients only then', async (t) => {
  const nodes = await nodesFor(t, { count: 2 });
  const third = await nodes.add();
  const messages = third.log.all.map(({ message }) => message);
  const listening = messages.findIndex((message) => /^listening on /.test(message));
  assert.equal(messages.slice(0, listening).filter((message) => /^node .* is there$/.test(message)).length, 2);
  await nodes.untilAll(3);
  const seen = await Promise.all(nodes.list.map((server) => nodes.seenBy(server)));
  assert.deepEqual(idsOf(seen[0]), idsOf(seen[1]));
  assert.deepEqual(idsOf(seen[0]), idsOf(seen[2]));
  assert.equal(new Set(seen.map(idOf)).size, 3);
  for (const { adapter, fault, nodes: entries } of seen) {
    assert.equal(adapter, 'redis');
    assert.equal(fault, null);
    assert.equal(entries[0].self, true);
    for (const entry of entries) {
      assert.match(entry.name, /^[0-9a-f-]{36}$/);
      assert.match(entry.address, /^127\.0\.0\.1:/);
      assert.equal(entry.version, 1);
      assert.ok(Math.abs(entry.since - Date.now() / 1000) < 300);
    }
  }
});

test('a node that is stopped says bye, and has left at once', async (t) => {
  const nodes = await nodesFor(t);
  const [first, second, third] = nodes.list;
  await third.stop();
  await Promise.all([first, second].map((server) => server.waitForLog(/^node .* has said bye$/)));
  await nodes.untilAll(2, [first, second]);
  assert.equal(count(first, /taken for dead/), 0);
});

test('a node that is killed is dead, once, when it has been silent for node_timeout_ms', async (t) => {
  const nodes = await nodesFor(t);
  const [first, second, third] = nodes.list;
  await third.kill();
  const killed = Date.now();
  for (const server of [first, second]) {
    const { time } = await server.waitForLog(/^node .* is silent: it is taken for dead$/);
    const after = Date.parse(time) - killed;
    assert.ok(after > NODE_TIMEOUT_MS - 2 * HEARTBEAT_MS * SLOW, `${after} ms after its end`);
    assert.ok(after < NODE_TIMEOUT_MS + 1000 * SLOW, `${after} ms after its end`);
  }
  await nodes.untilAll(2, [first, second]);
  const again = await nodes.add();
  await nodes.untilAll(3, [first, second, again]);
  for (const server of [first, second]) assert.equal(count(server, /taken for dead/), 1);
});

test('health, metrics and the command line show the nodes', async (t) => {
  const nodes = await nodesFor(t, { count: 2 });
  const [first] = nodes.list;
  const answer = await fetch(`${first.url}/up`);
  assert.equal(await answer.text(), 'OK');
  const metrics = await fetchMetrics(first);
  assert.equal(metrics.sum('cluster_nodes_alive'), 2);
  assert.equal(metrics.sum('cluster_bus_up'), 1);
  assert.equal(metrics.sum('cluster_outages_total'), 0);
  assert.ok(metrics.sum('cluster_messages_received_total', { kind: 'hello' }) > 0);
  const apps = await fetch(`${first.adminUrl}/admin/apps`, { headers: nodes.authorization });
  assert.equal(apps.status, 404); // the memory driver has none that can be changed
  assert.match(await apps.text(), /app_manager\.driver is memory/);
  const { code, stdout } = await runCurlew(['nodes'], { env: nodes.environment(first) });
  assert.equal(code, 0);
  const lines = stdout.trimEnd().split('\n');
  assert.equal(lines.length, 3);
  assert.match(lines[0], /^ID +NAME +ADDRESS +VERSION +SINCE +CONNECTIONS +CHANNELS +LOAD +SILENT$/);
  assert.match(lines[1], /^[0-9a-f]{32} .* this node$/);
  assert.match(lines[2], /^[0-9a-f]{32} .* \d+\.\d s$/);
});
