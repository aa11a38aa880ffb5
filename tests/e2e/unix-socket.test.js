// Listening on a Unix socket in place of the TCP port, as behind a proxy on the same machine.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { get, publish } from '../lib/api.js';
import { getMetrics } from '../lib/metrics.js';
import { connect, trySubscribe } from '../lib/client.js';
import { connected, makePusher, record } from '../lib/pusher.js';
import { BINARY, runCurlew, serverFor, startServer } from '../lib/server.js';

function folderFor(t) {
  const folder = mkdtempSync(path.join(tmpdir(), 'curlew-unix-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const on = (socket, more = {}) => ({ unix_socket: { enabled: true, path: socket, ...more } });

// What stands in front of such a server: takes TCP connections and hands their bytes on. Resolves to the server as it
// is seen from there.
async function proxyTo(server, t) {
  const proxy = net.createServer((front) => {
    const back = net.connect(server.socketPath);
    front.pipe(back).pipe(front);
    front.on('error', () => back.destroy());
    back.on('error', () => front.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => proxy.close());
  const { port } = proxy.address();
  return { host: '127.0.0.1', port, url: `http://127.0.0.1:${port}`, own: (end) => server.own(end) };
}

test('pusher-js behind a proxy gets what is published over the socket', async (t) => {
  const socket = path.join(folderFor(t), 'not', 'there', 'yet', 'curlew.sock');
  const server = await serverFor(t, { config: { workers: 4, ...on(socket) } });
  assert.equal(server.socketPath, socket);
  assert.ok(lstatSync(socket).isSocket());
  assert.equal(statSync(socket).mode & 0o777, 0o660);
  const seen = await proxyTo(server, t);
  const pusher = makePusher(seen, { t });
  await connected(pusher);
  const channel = pusher.subscribe('my-channel');
  const events = record(channel);
  await events.next('pusher:subscription_succeeded');
  await publish(seen, { name: 'my-event', channel: 'my-channel', data: '{"n":1}' });
  assert.deepEqual((await events.next('my-event')).data, { n: 1 });
  assert.equal((await get(`${seen.url}/up`)).body, 'OK');
});

test('too few files to listen with are named, whichever they are short for', async (t) => {
  const config = {
    workers: 8,
    metrics: { enabled: false },
    queue: { driver: 'none' },
    ...on(path.join(folderFor(t), 's')),
  };
  const limited = (files) =>
    runCurlew(['-c', `ulimit -n ${files}; exec "$0" "$@"`, BINARY, 'serve'], { binary: '/bin/sh', config });
  for (let files = 19; files <= 25; files++) {
    // three are standard streams, and each worker has two before it listens
    const { code, stderr } = await limited(files);
    assert.equal(code, 1, `${files} files: ${stderr}`);
    assert.match(stderr, /unix_socket.*: Too many open files\b/, `${files} files`);
  }
});

test('every worker takes connections from the socket', async (t) => {
  const server = await serverFor(t, { config: { workers: 2, ...on(path.join(folderFor(t), 's')) } });
  const seen = await proxyTo(server, t);
  const taken = async () =>
    [
      ...(await getMetrics(server)).body.matchAll(/^sockudo_worker_connections_total\{.*worker="(\d)".*\} (\d+)$/gm),
    ].map(([, , count]) => Number(count));
  let clients = 0;
  // The kernel wakes whoever sleeps; with both busy at the same time each gets some.
  while (!(await taken()).every((count) => count > 1) && clients < 2000) {
    const some = await Promise.all(Array.from({ length: 50 }, () => connect(seen, { t })));
    for (const ws of some) assert.equal((await trySubscribe(ws, 'c')).event, 'pusher_internal:subscription_succeeded');
    clients += some.length;
    for (const ws of some) ws.destroy();
  }
  assert.ok(
    (await taken()).every((count) => count > 1),
    `${await taken()} after ${clients}`,
  );
});

test('the mode is as configured, and the file goes with the server', async (t) => {
  const socket = path.join(folderFor(t), 'curlew.sock');
  const server = await startServer({ config: on(socket, { permission_mode: '600' }) });
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  await server.stop();
  assert.ok(!existsSync(socket));
});

test('a socket that a killed server left behind is replaced', async (t) => {
  const socket = path.join(folderFor(t), 'curlew.sock');
  const first = await startServer({ config: on(socket) });
  await first.kill();
  assert.ok(lstatSync(socket).isSocket());
  const second = await serverFor(t, { config: on(socket) });
  (await connect(await proxyTo(second, t), { t })).destroy();
});

test('the socket of a server that runs is left alone', async (t) => {
  const socket = path.join(folderFor(t), 'curlew.sock');
  const server = await serverFor(t, { config: on(socket) });
  const second = await runCurlew([], { config: { ...on(socket), metrics: { enabled: false } } });
  assert.equal(second.code, 1);
  assert.match(second.stderr + second.stdout, /another server is running there/);
  (await connect(await proxyTo(server, t), { t })).destroy();
});

for (const [what, make, pattern] of [
  [
    'a file that is no socket',
    (folder) => {
      writeFileSync(path.join(folder, 's'), 'precious');
      return path.join(folder, 's');
    },
    /not a socket/,
  ],
  ['a path that is too long', (folder) => path.join(folder, 'x'.repeat(120)), /unix_socket\.path/],
  [
    'a folder that cannot be made',
    (folder) => {
      writeFileSync(path.join(folder, 'file'), '');
      return path.join(folder, 'file', 's');
    },
    /Not a directory/,
  ],
]) {
  test(`${what} is named, and the server does not start`, async (t) => {
    const folder = folderFor(t);
    const ended = await runCurlew([], { config: { ...on(make(folder)), metrics: { enabled: false } } });
    assert.equal(ended.code, 1);
    assert.match(ended.stderr + ended.stdout, pattern);
    if (existsSync(path.join(folder, 's'))) assert.equal(statSync(path.join(folder, 's')).size, 8);
  });
}

test('a path that is not absolute and a mode that is none are refused as configuration', async () => {
  for (const [config, pattern] of [
    [on('relative.sock'), /unix_socket\.path.*absolute/],
    [on('/tmp/x', { permission_mode: '999' }), /unix_socket\.permission_mode/],
  ]) {
    const ended = await runCurlew([], { config });
    assert.equal(ended.code, 2);
    assert.match(ended.stderr + ended.stdout, pattern);
  }
});
