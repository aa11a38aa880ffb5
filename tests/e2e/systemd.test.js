// The units of systemd, and the socket that systemd passes to the server.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { get, publish } from '../lib/api.js';
import { within } from '../lib/inbox.js';
import { folderWith, start } from '../lib/process.js';
import { connected, makePusher, record } from '../lib/pusher.js';
import { APP, BINARY, serverFor } from '../lib/server.js';

const LAUNCHER = fileURLToPath(new URL('../lib/passed-socket.py', import.meta.url));
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CONFIG = {
  host: '192.0.2.1', // not an address of this machine: the server must not open a port of its own
  port: 1,
  workers: 2,
  shutdown_grace_period: 0,
  metrics: { enabled: false },
  app_manager: { driver: 'memory', array: { apps: [APP] } },
};

// Starts the server with a socket as from systemd; resolves to the running programs.
function launch(t, kind, { config = CONFIG, env = {} } = {}) {
  const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
  return start(t, 'python3', [LAUNCHER, kind, BINARY, 'serve', '--config', file], { env, input: true });
}

const line = (output, pattern) =>
  output.next(Object.assign((text) => pattern.test(text), { label: `a line ${pattern}` }));

// Ends a process that is not a child of the test.
function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

const pidOf = async ({ out }) => Number((await line(out, /^started \d+/)).split(' ')[1]);

async function portOf({ err }) {
  const listening = await line(err, /listening on http:\/\/127\.0\.0\.1:\d+/);
  return Number(listening.match(/127\.0\.0\.1:(\d+)/)[1]);
}

describe('the units', () => {
  test('are valid, and the service is exposed little', (t) => {
    const prefix = folderWith(t);
    execFileSync('make', ['install', `prefix=${prefix}`, `binary=${BINARY}`], { cwd: ROOT });
    const units = ['curlew.service', 'curlew.socket'].map((name) => `${prefix}/lib/systemd/system/${name}`);
    const verified = spawnSync('systemd-analyze', ['verify', '--man=no', ...units], { encoding: 'utf8' });
    assert.equal(verified.stderr, '');
    assert.equal(verified.status, 0);
    // Other programs, such as /bin/kill, are not on every system.
    const programs = [...readFileSync(units[0], 'utf8').matchAll(/^Exec\w+=(\S+)/gm)].map(([, program]) => program);
    assert.deepEqual(programs, [`${prefix}/bin/curlew`, '/bin/sh']);
    // 100 is the worst; the docs say 1.4 of 10.
    const limit = ['security', '--offline=true', '--threshold=14', units[0]];
    const rated = spawnSync('systemd-analyze', limit, { encoding: 'utf8' });
    assert.equal(rated.status, 0, rated.stdout + rated.stderr);
    assert.match(rated.stdout, /Overall exposure level for curlew\.service: 1\.4 /);

    const root = folderWith(t);
    mkdirSync(`${root}/etc`);
    execFileSync('systemd-sysusers', [`--root=${root}`, `${prefix}/lib/sysusers.d/curlew.conf`]);
    assert.match(readFileSync(`${root}/etc/passwd`, 'utf8'), /^curlew:.*:\/var\/lib\/curlew:\/usr\/sbin\/nologin$/m);
    execFileSync('systemd-tmpfiles', [`--root=${root}`, '--create', `${prefix}/lib/tmpfiles.d/curlew.conf`]);
    assert.equal(statSync(`${root}/etc/curlew`).mode & 0o777, 0o750);
  });
});

test('systemd is told when the server is ready, which process it is after an upgrade, and when it stops', async (t) => {
  const socket = path.join(folderWith(t), 'notify');
  const { out } = start(t, 'python3', [fileURLToPath(new URL('../lib/notify-socket.py', import.meta.url)), socket]);
  await line(out, /^listening/);
  const server = await serverFor(t, { env: { NOTIFY_SOCKET: socket } });
  assert.equal(await out.next(), 'READY=1');
  const { pid, ended } = await server.upgrade();
  assert.equal(await out.next(), `MAINPID=${pid}`);
  await ended();
  await server.stop();
  assert.equal(await out.next(), 'STOPPING=1');
});

describe('a socket of systemd', () => {
  test('serves clients, and a restart refuses none', async (t) => {
    const launched = launch(t, 'tcp');
    const pid = await pidOf(launched);
    const port = await portOf(launched);
    const server = { host: '127.0.0.1', port, url: `http://127.0.0.1:${port}`, own: () => {} };
    await line(launched.err, /ready/);

    const pusher = makePusher(server, { t });
    await connected(pusher);
    const events = record(pusher.subscribe('my-channel'));
    await events.next('pusher:subscription_succeeded');
    await publish(server, { name: 'my-event', channel: 'my-channel', data: '{"n":1}' });
    assert.deepEqual((await events.next('my-event')).data, { n: 1 });
    pusher.disconnect();

    process.kill(pid, 'SIGTERM');
    assert.equal(await line(launched.out, /^ended/), 'ended 0');
    // Nobody serves now, and a connection waits.
    const waiting = net.connect(port, '127.0.0.1');
    await once(waiting, 'connect');
    waiting.write('GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    launched.child.stdin.write('\n');
    const again = await pidOf(launched);
    const [answer] = await once(waiting, 'data');
    assert.match(String(answer), /^HTTP\/1\.1 200 /);
    waiting.destroy();
    assert.equal((await get(`${server.url}/up`)).body, 'OK');
    process.kill(again, 'SIGTERM');
    assert.equal(await line(launched.out, /^ended/), 'ended 0');
  });

  test('can be accepted from after a start that failed', async (t) => {
    // A limit on processes does not hold for root; the right is the one to filter what arrives at a socket.
    const user = ['--reuid', String(100000 + process.pid), '--clear-groups'];
    const rights = [...user, '--inh-caps=+net_admin', '--ambient-caps=+net_admin'];
    if (spawnSync('setpriv', [...rights, 'true']).status !== 0) return t.skip('it needs root');
    const folder = folderWith(t, { 'config.json': CONFIG });
    const file = path.join(folder, 'config.json');
    chmodSync(folder, 0o755);
    chmodSync(file, 0o644);
    const failed = [];
    for (let threads = 2; threads <= 8; threads++) {
      const program = ['/usr/bin/setpriv', ...rights, 'prlimit', `--nproc=${threads}`, BINARY];
      const launched = start(t, 'python3', [LAUNCHER, 'tcp', ...program, 'serve', '--config', file], {
        env: { ASAN_OPTIONS: 'detect_leaks=0' },
        input: true,
      });
      const pid = await pidOf(launched);
      const ready = / ready$/.test(await line(launched.err, /ready$|could not be started/));
      if (ready) process.kill(pid, 'SIGTERM');
      const ended = await line(launched.out, /^ended/);
      const listening = launched.err.all.find((text) => /listening on/.test(text));
      if (!listening) continue; // it has failed before that
      if (!ready) failed.push(threads);
      const waiting = net.connect(Number(listening.match(/:(\d+)$/)[1]), '127.0.0.1');
      await within(once(waiting, 'connect'), `a connection after "${ended}" with ${threads} threads`);
      waiting.destroy();
      launched.child.kill('SIGKILL');
    }
    assert.ok(failed.length > 0, 'no start has failed');
  });

  test('may be a Unix socket, whose file stays', async (t) => {
    const socket = path.join(folderWith(t), 'curlew.sock');
    const launched = launch(t, `unix:${socket}`);
    const pid = await pidOf(launched);
    assert.match(await line(launched.err, /listening on/), new RegExp(`unix:${socket}$`));
    await line(launched.err, /ready/);
    for (let i = 0; i < 2; i++) {
      const client = net.connect(socket);
      client.write('GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      const [answer] = await once(client, 'data');
      assert.match(String(answer), /^HTTP\/1\.1 200 /);
      client.destroy();
    }
    process.kill(pid, 'SIGTERM');
    assert.equal(await line(launched.out, /^ended/), 'ended 0');
    const client = net.connect(socket);
    await once(client, 'connect');
    client.destroy();
  });

  test('is passed on by an upgrade, and by the next one', async (t) => {
    const launched = launch(t, 'tcp');
    let pid = await pidOf(launched);
    const port = await portOf(launched);
    await line(launched.err, /ready/);
    for (let i = 0; i < 2; i++) {
      process.kill(pid, 'SIGUSR2');
      const taken = await line(launched.err, /process \d+ \(.*\) accepts connections in place of process \d+/);
      const next = Number(taken.match(/process (\d+)/)[1]);
      t.after(() => kill(next));
      await line(launched.err, new RegExp(`process ${pid} has ended`));
      if (i === 0) assert.equal(await line(launched.out, /^ended/), 'ended 0');
      pid = next;
      const answers = await Promise.all(Array.from({ length: 20 }, () => get(`http://127.0.0.1:${port}/up`)));
      for (const { body } of answers) assert.equal(body, 'OK');
    }
    process.kill(pid, 'SIGTERM');
    await line(launched.err, /stopped/);
  });

  for (const [what, kind, env, message] of [
    ['two sockets', 'tcp', { LISTEN_FDS: '2' }, /LISTEN_FDS passes 2 sockets, .* one ListenStream=/],
    ['a socket that is not a stream', 'udp', {}, /descriptor 3, .* is not a listening stream socket; .* ListenStream=/],
    ['a number that is none', 'tcp', { LISTEN_FDS: 'one' }, /LISTEN_FDS is not a number/],
  ]) {
    test(`${what}: exit code 2, and what would be right`, async (t) => {
      const launched = launch(t, kind, { env });
      assert.match(await line(launched.err, /LISTEN/), message);
      assert.equal(await line(launched.out, /^ended/), 'ended 2');
    });
  }

  test('for another process is left alone', async (t) => {
    const file = path.join(folderWith(t, { 'config.json': { ...CONFIG, host: '127.0.0.1', port: 0 } }), 'config.json');
    const env = { LISTEN_PID: '1', LISTEN_FDS: '1' };
    const server = start(t, BINARY, ['serve', '--config', file], { env });
    assert.match(await line(server.err, /listening on/), /http:\/\/127\.0\.0\.1:\d+/);
    server.child.kill('SIGTERM');
    assert.equal((await server.exited()).code, 0);
  });
});
