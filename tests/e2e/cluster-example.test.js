// examples/cluster: three nodes behind HAProxy, with Redis, from one command.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { publish } from '../lib/api.js';
import { freePorts } from '../lib/backends/daemon.js';
import { connect, subscribe } from '../lib/client.js';
import { start } from '../lib/process.js';
import { BINARY, runCurlew } from '../lib/server.js';

const SCRIPT = fileURLToPath(new URL('../../examples/cluster/run.sh', import.meta.url));
const APP = { id: '1', key: 'app-key', secret: 'app-secret' };

const at = (port) => ({ host: '127.0.0.1', port, url: `http://127.0.0.1:${port}` });

// The process that the script has started with this port.
function processAt(script, port) {
  const { pid } = script.child;
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  return children.find((child) => readFileSync(`/proc/${child}/environ`, 'utf8').includes(`\0PORT=${port}\0`));
}

test('clients of each node get what is published through the balancer, also when a node has died', async (t) => {
  const [port, redis, admin, ...nodes] = await freePorts(6);
  const script = start(t, SCRIPT, [], {
    cwd: path.dirname(BINARY), // the program is named as in the docs, by a path from here
    env: {
      CURLEW: `./${path.basename(BINARY)}`,
      PORT: port,
      REDIS_PORT: redis,
      ADMIN_PORT: admin,
      NODE_PORTS: nodes.join(' '),
    },
  });
  try {
    await script.out.next((line) => line.startsWith(`clients and backends: http://127.0.0.1:${port},`));
    const hint = await script.out.next((line) => line.startsWith('the nodes: '));
    const [, url, token] = hint.match(/CURLEW_ADMIN_URL=(\S+) CURLEW_ADMIN_TOKEN=(\S+) /);
    const list = async () => {
      const env = { CURLEW_ADMIN_URL: url, CURLEW_ADMIN_TOKEN: token };
      const { code, stdout } = await runCurlew(['nodes', '--json'], { env });
      return code === 0 ? JSON.parse(stdout).nodes.map(({ name }) => name) : []; // the first node may not listen yet
    };
    while ((await list()).length < 3);
    assert.deepEqual((await list()).sort(), ['node1', 'node2', 'node3']);

    const clients = await Promise.all([port, ...nodes].map((where) => connect(at(where), { app: APP, t })));
    for (const ws of clients) await subscribe(ws, 'news');
    await publish(at(port), { name: 'first', channel: 'news', data: '{}' }, { app: APP });
    for (const ws of clients) await ws.next('first');

    process.kill(processAt(script, nodes[2]), 'SIGKILL');
    await script.err.next((line) => line.includes('nodes/node3 is DOWN'));
    const again = await connect(at(port), { app: APP, t });
    await subscribe(again, 'news');
    await publish(at(port), { name: 'second', channel: 'news', data: '{}' }, { app: APP });
    for (const ws of [clients[1], clients[2], again]) await ws.next('second');
    for (const ws of [...clients, again]) ws.destroy();
  } finally {
    script.child.kill('SIGTERM'); // it ends what it has started
    assert.deepEqual(await script.exited(), { code: 0, signal: null });
  }
});
