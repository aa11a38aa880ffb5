// An upgrade: the running server starts its program again and passes its sockets on (SIGUSR2). The old process goes on
// until the new one serves, and is not missed then.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';

import { api, get, publish } from '../lib/api.js';
import { closedWithError, connect, subscribe, trigger } from '../lib/client.js';
import { nextOn, subscriber, untilFence } from '../lib/events.js';
import { httpStub } from '../lib/http-stub.js';
import { within } from '../lib/inbox.js';
import { eventually } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { connected, makePusher } from '../lib/pusher.js';
import { Journal, ReturningClient } from '../lib/returning-client.js';
import { APP, BINARY, RELEASE_BINARY, runCurlew, serverFor } from '../lib/server.js';

const UNLIMITED = { ...APP, max_connections: 0 };

// Starts `count` clients that come back, and ends them with the server.
async function returningClients(server, count, options) {
  const journal = new Journal();
  const clients = Array.from({ length: count }, () => new ReturningClient(server, 'my-channel', journal, options));
  for (const client of clients) server.own(() => client.end());
  await Promise.all(clients.map((client) => client.subscribed()));
  return { journal, clients, back: (times) => Promise.all(clients.map((client) => client.subscribed(times))) };
}

// A program that a test can replace: a link to the server's binary, in a folder of its own.
function replaceableProgram(t, target = BINARY) {
  const folder = folderWith(t);
  const program = path.join(folder, 'curlew');
  const replace = (next) => {
    symlinkSync(next, `${program}.new`);
    renameSync(`${program}.new`, program);
  };
  replace(target);
  return {
    program,
    replace,
    replaceByScript(text) {
      writeFileSync(path.join(folder, 'script'), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
      replace(path.join(folder, 'script'));
    },
  };
}

// The inodes of the sockets that listen on a TCP port of this machine.
function socketsOn(port) {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1);
  return rows
    .map((row) => row.trim().split(/\s+/))
    .filter(([, local, , state]) => state === '0A' && local.endsWith(`:${hex}`))
    .map((row) => Number(row[9]));
}

describe('an upgrade', () => {
  test('is not noticed by clients and publishers, three times in a row', async (t) => {
    const server = await serverFor(t, {
      apps: [UNLIMITED],
      binary: RELEASE_BINARY,
      config: { shutdown_grace_period: 2 },
    });
    const { journal, back } = await returningClients(server, 300);
    const pusher = makePusher(server, { t });
    await connected(pusher);
    const states = [];
    pusher.connection.bind('state_change', ({ current }) => states.push(current));

    const failed = [];
    let published = 0;
    let ending = false;
    const publishing = (async () => {
      while (!ending) {
        const body = { name: 'my-event', channel: 'my-channel', data: '{}' };
        const answer = await api(server, 'POST', '/events', { body }).catch((error) => ({ status: error.message }));
        published++;
        if (answer.status !== 200) failed.push(answer.status);
      }
    })();
    for (let times = 1; times <= 3; times++) {
      const { ended } = await server.upgrade();
      await ended();
      await back(times);
    }
    ending = true;
    await publishing;
    assert.deepEqual(failed, [], `of ${published} publishes`);
    assert.equal(journal.refused, 0);
    assert.equal(journal.unanswered, 0);
    assert.deepEqual(journal.codes, { 4200: 900 });
    assert.equal(journal.away.length, 900);
    await connected(pusher);
    assert.ok(states.filter((state) => state === 'connected').length >= 3, `states of pusher-js: ${states}`);
    assert.ok(!states.includes('unavailable'), `states of pusher-js: ${states}`);
  });

  test('passes all sockets on: their queues are those of the old process', async (t) => {
    const server = await serverFor(t);
    const ports = [server.port, server.metricsPort];
    const before = ports.map(socketsOn);
    assert.deepEqual(
      before.map(({ length }) => length),
      [2, 1],
    );
    const { ended } = await server.upgrade();
    assert.deepEqual(ports.map(socketsOn), before);
    await ended();
    assert.deepEqual(ports.map(socketsOn), before);
    assert.equal((await get(server.metricsUrl)).status, 200);
    assert.equal((await get(`${server.url}/up`)).status, 200);
  });

  test('answers requests and handshakes that the old process has accepted', async (t) => {
    const server = await serverFor(t, { config: { shutdown_grace_period: 2 } });
    const half = net.connect(server.port, server.host);
    half.write('GET /usage HTTP/1.1\r\nHost: x\r\n');
    const client = await subscriber(server, t, 'my-channel'); // the worker has accepted both
    await publish(server, { name: 'my-event', channel: 'my-channel', data: '{}' });
    await nextOn(client, 'my-channel');
    const answer = new Promise((resolve, reject) => {
      half.once('data', (chunk) => resolve(chunk.toString()));
      half.once('close', () => reject(new Error('closed without an answer')));
    });
    const { ended } = await server.upgrade();
    half.write('\r\n');
    assert.match(await within(answer, 'an answer'), /^HTTP\/1.1 200 /);
    half.destroy();
    await ended();
  });

  test('starts the file that is there now, with the same arguments, and says both versions', async (t) => {
    const { program, replace } = replaceableProgram(t);
    const server = await serverFor(t, { binary: program });
    const [first] = readdirSync(path.dirname(program));
    assert.equal(first, 'curlew');
    replace(RELEASE_BINARY);
    const { pid, old } = await server.upgrade();
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    assert.deepEqual(command, [program, 'serve', '--config', server.configFile, '']);
    assert.equal(readFileSync(`/proc/${pid}/comm`, 'utf8'), 'curlew\n');
    const version = '\\(curlew \\d+\\.\\d+\\.\\d+\\)';
    await server.waitForLog(
      new RegExp(`^process ${pid} ${version} accepts connections in place of process ${old} ${version}$`),
    );
    await server.waitForLog(new RegExp(`process ${old} ${version} has started process ${pid} to take its place$`));
  });
});

describe('an upgrade that fails', () => {
  test('leaves everything as it is when the new program dies at its start', async (t) => {
    const { program, replace, replaceByScript } = replaceableProgram(t);
    const server = await serverFor(t, { binary: program });
    const client = await subscriber(server, t, 'my-channel');
    replaceByScript('exit 3');
    await assert.rejects(
      server.upgrade(),
      /goes on: the new process ended at once; process \d+ has exited with code 3$/,
    );
    assert.deepEqual(await untilFence(server, client, 'my-channel'), []);

    replace(path.join(path.dirname(program), 'nothing'));
    await assert.rejects(server.upgrade(), /cannot start .*curlew: No such file or directory/);
    assert.deepEqual(await untilFence(server, client, 'my-channel'), []);

    replace(BINARY);
    const { ended } = await server.upgrade();
    await closedWithError(client, 4200);
    await ended();
  });

  test('leaves everything as it is when the configuration has an error by now', async (t) => {
    const server = await serverFor(t);
    const client = await subscriber(server, t, 'my-channel');
    writeFileSync(server.configFile, '{"port": "no number"');
    await assert.rejects(server.upgrade(), /process \d+ has exited with code 2$/);
    assert.deepEqual(await untilFence(server, client, 'my-channel'), []);
  });

  test('is given up when the new program says nothing; nobody else can connect, and no second one begins', async (t) => {
    const { program, replaceByScript } = replaceableProgram(t);
    const runtime = folderWith(t);
    const server = await serverFor(t, { binary: program, env: { RUNTIME_DIRECTORY: runtime } });
    const client = await subscriber(server, t, 'my-channel');
    replaceByScript('exec sleep 1000');
    server.signal('SIGUSR2');
    const started = await server.waitForLog(/has started process \d+/);
    const pid = Number(started.message.match(/started process (\d+)/)[1]);

    const [folder] = readdirSync(runtime);
    const socket = path.join(runtime, folder, 'socket');
    assert.equal(statSync(path.join(runtime, folder)).mode & 0o777, 0o700);
    assert.equal(statSync(socket).mode & 0o777, 0o600);
    const stranger = net.connect(socket);
    await within(
      new Promise((resolve) => stranger.on('close', resolve).on('error', () => {})),
      'the stranger to be cut',
    );
    await server.waitForLog(new RegExp(`^process ${process.pid} of user .* it should be process ${pid} .* refused$`));

    server.signal('SIGUSR2');
    await server.waitForLog(new RegExp(`an upgrade is under way already, to process ${pid}$`));
    assert.match((await server.hup()).message, /^apps reloaded/);

    process.kill(pid, 'SIGTERM');
    await server.waitForLog(/the upgrade has failed.*was ended by signal 15/);
    assert.deepEqual(readdirSync(runtime), []);
    assert.deepEqual(await untilFence(server, client, 'my-channel'), []);
  });

  test('ends the new program when the server is told to end', async (t) => {
    const { program, replaceByScript } = replaceableProgram(t);
    const server = await serverFor(t, { binary: program });
    replaceByScript("trap '' TERM; echo trapped >&2; while :; do sleep 0.1; done");
    server.signal('SIGUSR2');
    const started = await server.waitForLog(/has started process \d+/);
    const pid = Number(started.message.match(/started process (\d+)/)[1]);
    await server.waitForLog(/^trapped$/);
    server.terminate();
    await server.waitForLog(new RegExp(`^the upgrade is given up: process ${pid} was ended by signal 9`));
    assert.deepEqual(await server.exited(), { code: 0, signal: null });
    assert.equal(existsSync(`/proc/${pid}`), false);
  });
});

describe('signals after an upgrade', () => {
  test('SIGTERM to both: the clients of both are told, and both end well', async (t) => {
    const server = await serverFor(t, { config: { shutdown_grace_period: 2 } });
    const clients = await Promise.all(Array.from({ length: 10 }, () => subscriber(server, t, 'my-channel')));
    const { old, pid } = await server.upgrade();
    await Promise.any(clients.map((ws) => ws.closing())); // from now on the old process accepts nobody
    const next = await subscriber(server, t, 'my-channel');
    process.kill(old, 'SIGTERM');
    process.kill(pid, 'SIGTERM');
    for (const client of clients) await closedWithError(client, 4200);
    await next.closing();
    assert.deepEqual(await server.exited(), { code: 0, signal: null });
    assert.equal(server.log.all.filter(({ message }) => message === 'stopped').length, 2);
  });

  test('SIGUSR2 while the process before still ends is refused', async (t) => {
    const server = await serverFor(t, { config: { shutdown_grace_period: 3, workers: 1 } });
    await Promise.all(Array.from({ length: 10 }, () => subscriber(server, t, 'my-channel')));
    const { old, ended } = await server.upgrade();
    server.signal('SIGUSR2');
    const refusal = `nothing was done: process ${old}, before this one, still closes its connections`;
    await server.waitForLog(new RegExp(refusal));
    await ended();
    assert.equal((await get(`${server.url}/up`)).status, 200);
  });
});

test('when the new process crashes within two seconds, the old one goes on, and can be upgraded again', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 1 } });
  const clients = await Promise.all(Array.from({ length: 10 }, () => subscriber(server, t, 'my-channel')));
  const { old, pid } = await server.upgrade();
  process.kill(pid, 'SIGKILL');
  const crash = 'the new process has crashed soon after it began to accept connections; process';
  const line = await server.waitForLog(new RegExp(`: ${crash} ${pid} was ended by signal 9 `));
  assert.match(line.message, new RegExp(`^the upgrade has failed, and process ${old} .* goes on: `));
  assert.equal(line.level, 'error');
  server.serves(old);
  clients.push(await subscriber(server, t, 'my-channel'));
  await publish(server, { name: 'e', channel: 'my-channel', data: 'still there' });
  for (const client of clients) assert.equal((await nextOn(client, 'my-channel')).data, 'still there');
  const { ended } = await server.upgrade();
  for (const client of clients) await closedWithError(client, 4200);
  await ended();
  assert.equal((await get(`${server.url}/up`)).status, 200);
});

test('when the new process crashes while the old one still ends, the old one says so and fails', async (t) => {
  const server = await serverFor(t, { config: { shutdown_grace_period: 4, workers: 1 } });
  const clients = await Promise.all(Array.from({ length: 20 }, () => subscriber(server, t, 'my-channel')));
  const { pid } = await server.upgrade();
  await Promise.any(clients.map((ws) => ws.closing()));
  process.kill(pid, 'SIGKILL');
  await server.waitForLog(new RegExp(`^process ${pid}, .* was ended by signal 9 .*: nobody accepts connections`));
  for (const client of clients) await closedWithError(client, 4200);
  assert.deepEqual(await server.exited(), { code: 1, signal: null });
  await server.kill();
});

describe('an upgrade that must not begin', () => {
  test('SIGUSR2 to the new process before it serves is refused, and the upgrade goes on', async (t) => {
    const { program, replaceByScript } = replaceableProgram(t);
    const server = await serverFor(t, { binary: program, config: { shutdown_grace_period: 1 } });
    const client = await subscriber(server, t, 'my-channel');
    replaceByScript(`kill -USR2 $$; exec '${BINARY}' "$@"`); // SIGUSR2 is blocked, and waits
    const { old, pid, ended } = await server.upgrade();
    await server.waitForLog(new RegExp(`^SIGUSR2: nothing was done: process ${old}, before this one, still `));
    await closedWithError(client, 4200);
    await ended();
    assert.equal(server.pid, pid);
    assert.deepEqual(server.log.all.filter(({ message }) => / has started process /.test(message)).length, 1);
  });

  test('process 1 of a container refuses: the container would end with it', async (t) => {
    const script = path.join(folderWith(t), 'container');
    const rights = process.getuid() === 0 ? '' : '--user --map-current-user';
    writeFileSync(script, `#!/bin/sh\nexec unshare ${rights} --pid --fork --kill-child '${BINARY}' "$@"\n`, {
      mode: 0o755,
    });
    const server = await serverFor(t, { binary: script });
    const pid = Number(readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8'));
    const { code, stderr } = await runCurlew(['upgrade', '--pid', String(pid)]);
    assert.deepEqual([code, /is process 1 of its container/.test(stderr)], [1, true], stderr);
    process.kill(pid, 'SIGUSR2');
    await server.waitForLog(/^SIGUSR2: nothing was done: this is process 1 of its container/);
    assert.equal((await get(`${server.url}/up`)).status, 200);
    await server.kill();
  });
});

describe('an upgrade with another configuration', () => {
  test('two, four and one workers: each socket is accepted from', async (t) => {
    const server = await serverFor(t, { apps: [UNLIMITED] });
    for (const [workers, sockets] of [
      [4, 4],
      [1, 4],
      [2, 4],
    ]) {
      server.config.workers = workers;
      writeFileSync(server.configFile, JSON.stringify(server.config));
      const { ended } = await server.upgrade();
      await ended();
      assert.equal(socketsOn(server.port).length, sockets);
      // With 40 connections to four sockets, none of a socket without an owner would be missed by chance.
      await Promise.all(Array.from({ length: 40 }, () => get(`${server.url}/usage`)));
    }
  });

  test('another port is opened, and the old one is closed', async (t) => {
    const server = await serverFor(t);
    const { port } = server;
    const probe = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => probe.once('listening', resolve));
    const next = probe.address().port;
    await new Promise((resolve) => probe.close(resolve));
    writeFileSync(server.configFile, JSON.stringify({ ...server.config, port: next }));
    const { ended } = await server.upgrade();
    await server.waitForLog(new RegExp(`^127.0.0.1:${port}, the port "main" of the old process, is closed`));
    await ended();
    assert.equal((await get(`http://127.0.0.1:${next}/up`)).status, 200);
    await assert.rejects(get(`http://127.0.0.1:${port}/up`), /ECONNREFUSED/);
  });
});

describe('an upgrade over other sockets', () => {
  test('TLS, with the port that redirects to it', async (t) => {
    const folder = folderWith(t);
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name));
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, ...subject],
      {
        stdio: 'ignore',
      },
    );
    const server = await serverFor(t, {
      config: { ssl: { enabled: true, cert_path: cert, key_path: key, redirect_http: true, http_port: 0 } },
    });
    const plain = (await server.waitForLog(/^redirecting from/)).message.match(/:(\d+)$/)[1];
    const open = ({ port }) => tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    const { journal, back } = await returningClients(server, 20, { open });
    const { ended } = await server.upgrade();
    await ended();
    await back(1);
    assert.deepEqual([journal.codes, journal.refused, journal.unanswered], [{ 4200: 20 }, 0, 0]);
    assert.equal((await get(`http://127.0.0.1:${plain}/`)).headers.location, `https://127.0.0.1:${server.port}/`);
  });

  test('a unix socket, whose file stays', async (t) => {
    const socketPath = path.join(folderWith(t), 'curlew.sock');
    const server = await serverFor(t, { config: { unix_socket: { enabled: true, path: socketPath } } });
    const { ino } = statSync(socketPath);
    const open = () => net.connect(socketPath);
    const { journal, back } = await returningClients(server, 20, { open });
    for (let times = 1; times <= 2; times++) {
      const { ended } = await server.upgrade();
      await ended();
      await back(times);
    }
    assert.deepEqual([journal.codes, journal.refused, journal.unanswered], [{ 4200: 40 }, 0, 0]);
    assert.equal(statSync(socketPath).ino, ino);
    await server.stop();
    assert.equal(existsSync(socketPath), false);
  });
});

test('webhooks that the old process could not deliver are sent by the new one, from the spool', async (t) => {
  const receiver = await httpStub(t, { answer: () => ({ status: receiver.status }) });
  receiver.status = 500;
  const app = { ...UNLIMITED, webhooks: [{ url: receiver.url, event_types: ['client_event'] }] };
  const retry = { initial_backoff_ms: 20, max_backoff_ms: 50 };
  const spool = path.join(folderWith(t), 'spool');
  const server = await serverFor(t, {
    apps: [app],
    config: { shutdown_grace_period: 1, webhooks: { spool_path: spool, retry, batching: { size: 10 } } },
  });
  const say = async (numbers) => {
    const client = await connect(server, { t });
    await subscribe(client, 'private-a');
    for (const number of numbers) trigger(client, 'private-a', 'client-number', number);
    return client;
  };
  await say([1, 2, 3]);
  await eventually(server, (metrics) => assert.equal(metrics.sum('webhook_events_waiting'), 3));
  const { ended } = await server.upgrade();
  await say([4, 5]); // to the new process, which has no spool yet
  await ended();
  await server.waitForLog(/^webhooks\.spool_path .* is free now, and in use by this process$/);
  await eventually(server, (metrics) => assert.equal(metrics.sum('webhook_events_waiting'), 5));
  receiver.requests.all.length = 0;
  await server.kill();

  receiver.status = 200;
  const next = await serverFor(t, { apps: [app], config: server.config });
  const arrived = () =>
    receiver.requests.all.flatMap(({ body }) => JSON.parse(body).events.map(({ data }) => Number(data)));
  await eventually(next, (metrics) => assert.equal(metrics.sum('webhook_events_waiting'), 0));
  while (arrived().length < 5) await receiver.requests.next();
  assert.deepEqual(new Set(arrived()), new Set([1, 2, 3, 4, 5]));
});

describe('curlew upgrade', () => {
  const upgrade = (...args) => runCurlew(['upgrade', ...args]);

  test('waits until the new process serves, and names it', async (t) => {
    const server = await serverFor(t);
    const old = server.pid;
    const { code, stdout, stderr } = await upgrade('--pid', String(old));
    assert.deepEqual([code, stderr], [0, '']);
    const { message } = await server.waitForLog(/ accepts connections in place of process /);
    const pid = Number(message.match(/^process (\d+)/)[1]);
    assert.ok(
      [
        `process ${pid} serves in place of process ${old}\n`,
        `a new process serves in place of process ${old}\n`,
      ].includes(stdout),
      stdout,
    );
    assert.equal((await get(`${server.url}/up`)).status, 200);
  });

  test('says so when the upgrade fails', async (t) => {
    const { program, replaceByScript } = replaceableProgram(t);
    const server = await serverFor(t, { binary: program });
    replaceByScript('exit 1');
    const { code, stderr } = await upgrade('--pid', String(server.pid));
    assert.equal(code, 1);
    assert.match(stderr, /^curlew: .*process \d+ goes on.*log says why\n$/);
    await server.waitForLog(/the upgrade has failed/);
    assert.equal((await get(`${server.url}/up`)).status, 200);
  });

  test('asks which one when there are several servers', async (t) => {
    const servers = [await serverFor(t), await serverFor(t)];
    const { code, stderr } = await upgrade();
    assert.equal(code, 1);
    for (const { pid } of servers)
      assert.match(stderr, new RegExp(`there are several servers, the processes .*\\b${pid}\\b`));
  });

  test('sends no signal to a process that is no server', async () => {
    const { code, stderr } = await upgrade(`--pid=${process.pid}`);
    assert.equal(code, 1);
    assert.match(stderr, /process \d+ \(.*\) is not a running server that knows how to upgrade itself/);
    assert.match((await upgrade('--pid', '999999999')).stderr, /there is no process 999999999/);
    for (const wrong of [['--pid', 'x'], ['--pid'], ['--pid=0'], ['now']])
      assert.equal((await upgrade(...wrong)).code, 2);
  });
});
