// Restarts by SIGTERM: whatever the kernel has connected gets an answer, and clients of a socket that outlives the
// process wait for the next one.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { closedWithError, connect } from '../lib/client.js';
import { subscriber } from '../lib/events.js';
import { folderWith, start } from '../lib/process.js';
import { Attempt, handshakeRequest, knock, ReturningClient, UP_REQUEST } from '../lib/restart-clients.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, BINARY, serverFor, startServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const LAUNCHER = fileURLToPath(new URL('../lib/passed-socket.py', import.meta.url));

function publishRequest() {
  const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x' });
  return (
    `POST ${signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body })} HTTP/1.1\r\nHost: localhost\r\n` +
    `Connection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  );
}

const answersOf = (attempts) => Promise.all(attempts.map((attempt) => attempt.answer));

// Stops a server `rounds` times, with connections that are made before and meanwhile.
async function restartUnderLoad(t, rounds, options) {
  const requests = [() => UP_REQUEST, handshakeRequest, publishRequest];
  for (let round = 0; round < rounds; round++) {
    const server = await serverFor(t, { ...options, config: { shutdown_grace_period: round === 0 ? 1 : 0 } });
    const address = { host: server.host, port: server.port };
    await Promise.all(Array.from({ length: 5 }, () => connect(server, { t })));
    const before = Array.from({ length: 30 }, () => new Attempt(address));
    await Promise.all(before.map(({ connected }) => connected));
    const knocking = Array.from({ length: 9 }, (_, i) => knock(address, requests[i % 3]));
    server.terminate();
    before.forEach((attempt, i) => attempt.send(requests[i % 3]()));
    const answers = [...(await answersOf(before)), ...(await Promise.all(knocking)).flat()];
    const wrong = answers.filter((answer) => !/^HTTP\/1\.1 (101|200|503) /.test(answer));
    assert.deepEqual(wrong, [], `of ${answers.length} answers in round ${round}`);
    assert.deepEqual(await server.exited(), { code: 0, signal: null });
  }
}

test('through ten restarts every connection that was made gets an answer', (t) => restartUnderLoad(t, 10));

// Some kernels let only a process with CAP_NET_ADMIN attach a filter to a listening socket.
test('the same without CAP_NET_ADMIN', async (t) => {
  const drop = process.getuid() === 0 ? 'setpriv --bounding-set=-net_admin --inh-caps=-net_admin' : '';
  const files = { 'without-right': `#!/bin/sh\nexec ${drop} '${BINARY}' "$@"\n` };
  const binary = path.join(folderWith(t, files), 'without-right');
  chmodSync(binary, 0o755);
  await restartUnderLoad(t, 3, { binary });
});

test('a connection that has sent nothing has two seconds to ask, and is answered in any case', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 0 } });
  const address = { host: server.host, port: server.port };
  const [asks, shakes, silent] = Array.from({ length: 3 }, () => new Attempt(address));
  await Promise.all([asks, shakes, silent].map(({ connected }) => connected));
  server.terminate();
  await server.waitForLog(/^shutting down\b/);
  asks.send(UP_REQUEST);
  shakes.send(handshakeRequest());
  const answers = await answersOf([asks, shakes, silent]);
  assert.match(answers[0], /^HTTP\/1\.1 (200|503) /); // 200 if it was served before the drain began
  assert.deepEqual(answers.slice(1), ['HTTP/1.1 101 Switching Protocols', 'HTTP/1.1 503 Service Unavailable']);
  assert.equal((await server.exited()).code, 0);
});

test('when the last client is gone, a publish is to be tried again', async (t) => {
  const hanging = net.createServer().listen(0, '127.0.0.1'); // an endpoint that never answers keeps the process
  t.after(() => hanging.close());
  await once(hanging, 'listening');
  const webhooks = [{ url: `http://127.0.0.1:${hanging.address().port}/`, event_types: ['channel_occupied'] }];
  const server = await serverFor(t, {
    apps: [{ ...APP, webhooks }],
    config: { shutdown_grace_period: 0, webhooks: { denied_networks: [] } },
  });
  const ws = await subscriber(server, t, 'c');
  const [requested] = await once(hanging, 'connection');
  requested.on('error', () => {});
  t.after(() => requested.destroy());
  server.terminate();
  await ws.closed();
  let head;
  do {
    const publishes = new Attempt({ host: server.host, port: server.port }).send(publishRequest());
    [head] = await once(publishes.socket, 'data');
  } while (/^HTTP\/1\.1 200 /.test(head)); // until the last worker has said that it has no client
  assert.match(head, /^HTTP\/1\.1 503 [^]*^Retry-After: 1\r$/m);
  const late = await RawWebSocket.connect(server, { key: APP.key });
  assert.equal(await closedWithError(late, 4100), 'the server is restarting, try again');
  requested.destroy();
  assert.equal((await server.exited()).code, 0);
});

test('a TLS handshake under way does not hold it up', async (t) => {
  const folder = folderWith(t);
  const [cert, key] = [path.join(folder, 'cert.pem'), path.join(folder, 'key.pem')];
  const options = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost'.split(' ');
  execFileSync('openssl', ['req', ...options, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const ssl = { enabled: true, cert_path: cert, key_path: key };
  const server = await serverFor(t, { config: { shutdown_grace_period: 0, ssl } });
  const half = new Attempt({ host: server.host, port: server.port });
  await half.connected;
  half.send(Buffer.from('160301', 'hex')); // the beginning of a ClientHello
  server.terminate();
  await half.answer;
  assert.equal((await server.exited()).code, 0);
});

test('a second SIGTERM ends it at once', async (t) => {
  const server = await startServer({ config: { shutdown_grace_period: 3600 } });
  t.after(() => server.kill());
  const clients = await Promise.all(Array.from({ length: 10 }, () => connect(server, { t })));
  server.terminate();
  await Promise.any(clients.map((ws) => ws.closing()));
  server.terminate();
  assert.deepEqual(await server.exited(), { code: null, signal: 'SIGTERM' });
});

test('through ten restarts with a socket that is held outside nobody is refused', async (t) => {
  const config = {
    workers: 2,
    shutdown_grace_period: 10,
    metrics: { enabled: false },
    app_manager: { driver: 'memory', array: { apps: [APP] } },
  };
  const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
  const held = start(t, 'python3', [LAUNCHER, 'tcp', BINARY, 'serve', '--config', file], { input: true });
  const line = (output, pattern) => output.next(Object.assign((text) => pattern.test(text), { label: `${pattern}` }));
  let pid = Number((await line(held.out, /^started/)).split(' ')[1]);
  const port = Number((await line(held.err, /listening on http/)).match(/:(\d+)$/)[1]);
  await line(held.err, /ready/);

  const server = { host: '127.0.0.1', port };
  const clients = Array.from({ length: 50 }, () => new ReturningClient(server));
  t.after(() => clients.forEach((client) => client.stop()));
  await Promise.all(clients.map((client) => client.start()));
  for (let round = 0; round < 10; round++) {
    const returned = clients.map((client) => client.returned());
    const waiting = Array.from({ length: 10 }, () => new Attempt(server));
    process.kill(pid, 'SIGTERM');
    waiting.forEach((attempt) => attempt.send(UP_REQUEST));
    assert.equal(await line(held.out, /^ended/), 'ended 0');
    const late = Array.from({ length: 10 }, () => new Attempt(server).send(publishRequest()));
    held.child.stdin.write('\n');
    pid = Number((await line(held.out, /^started/)).split(' ')[1]);
    await Promise.all(returned);
    for (const answer of await answersOf([...waiting, ...late]))
      assert.match(answer ?? 'refused', /^HTTP\/1\.1 (200|503) /);
    for (const answer of await answersOf(late)) assert.equal(answer, 'HTTP/1.1 200 OK');
  }
  const sum = (name) => clients.reduce((total, client) => total + client[name], 0);
  assert.deepEqual([sum('refused'), sum('silent')], [0, 0]);
  for (const { codes, away } of clients) {
    assert.deepEqual(codes, Array(10).fill(4200));
    assert.equal(away.length, 10);
  }
  const times = clients.flatMap(({ away }) => away).sort((one, other) => one - other);
  t.diagnostic(`away: median ${Math.round(times[times.length / 2])} ms, most ${Math.round(times.at(-1))} ms`);
  clients.forEach((client) => client.stop());
  process.kill(pid, 'SIGTERM');
  assert.equal(await line(held.out, /^ended/), 'ended 0');
});
