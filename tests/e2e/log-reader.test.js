// A reader of the log that stops reading: the server goes on, and the log says what is missing.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { connect, stillOpen } from '../lib/client.js';
import { fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { APP, BINARY } from '../lib/server.js';

const CONFIG = {
  host: '127.0.0.1',
  port: 0,
  metrics: { host: '127.0.0.1', port: 0 },
  shutdown_grace_period: 0,
  app_manager: { driver: 'memory', array: { apps: [APP] } },
};

// A server whose standard error is a pipe that the test reads when it wants to.
async function serverWithPipe(t) {
  const folder = folderWith(t, { 'config.json': CONFIG });
  const pipe = path.join(folder, 'log');
  execFileSync('mkfifo', [pipe]);
  const reading = fs.openSync(pipe, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  t.after(() => fs.closeSync(reading));
  const writing = fs.openSync(pipe, 'w');
  const child = spawn(BINARY, ['serve', '--config', path.join(folder, 'config.json')], {
    cwd: folder,
    env: { ...process.env, LOG_LEVEL: 'debug', LOG_OUTPUT_FORMAT: 'human' },
    stdio: ['ignore', 'ignore', writing],
  });
  fs.closeSync(writing);
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'close');
  const server = {
    host: '127.0.0.1',
    child,
    text: '',
    own() {},
    exited: () => ended,
    // Reads what is there; false at the end of the pipe.
    read() {
      const piece = Buffer.alloc(65536);
      try {
        const length = fs.readSync(reading, piece);
        this.text += piece.toString('utf8', 0, length);
        return length > 0;
      } catch (error) {
        assert.equal(error.code, 'EAGAIN');
        return true;
      }
    },
    async readUntil(pattern) {
      while (!pattern.test(this.text)) {
        assert.ok(this.read(), this.text);
        await setImmediate();
      }
      return this.text.match(pattern);
    },
  };
  await server.readUntil(/ready\n/);
  server.port = Number(server.text.match(/listening on http:\/\/127.0.0.1:(\d+)/)[1]);
  [server.metricsUrl] = server.text.match(/http:\/\/\S+\/metrics/);
  return server;
}

// Requests that are logged, one by one on a connection, until lines are lost.
async function fillLog(server) {
  const socket = net.connect(server.port, server.host);
  const request = `GET /nothing/${'x'.repeat(300)} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const BATCH = 200;
  let answers = 0;
  let rest = '';
  const lost = async () => (await fetchMetrics(server)).sum('log_lines_lost_total');
  socket.setEncoding('latin1');
  for (let asked = 0; (await lost()) === 0;) {
    socket.write(request.repeat(BATCH));
    asked += BATCH;
    while (answers < asked) {
      const [piece] = await once(socket, 'data');
      const parts = (rest + piece).split('HTTP/1.1 404');
      answers += parts.length - 1;
      rest = parts.at(-1).slice(-20);
    }
  }
  socket.destroy();
  return answers;
}

test('it stops neither requests nor clients, and a line says later how many are missing', async (t) => {
  const server = await serverWithPipe(t);
  const ws = await connect(server, { t });
  const requests = await fillLog(server);
  assert.deepEqual(await stillOpen(ws), []);
  (await connect(server, { t })).destroy();
  const missing = (await fetchMetrics(server)).sum('log_lines_lost_total');
  assert.ok(missing > 0);

  const [, count] = await server.readUntil(
    / WARN log: (\d+) lines are missing here: the log was not read fast enough\n/,
  );
  assert.ok(Number(count) >= missing && Number(count) < requests);
  server.child.kill('SIGHUP');
  await server.readUntil(/apps reloaded: 0 added/); // what comes after it is there
  ws.destroy();
  server.child.kill('SIGTERM');
  await server.readUntil(/ stopped\n/);
  assert.deepEqual(await server.exited(), [0, null]);
});

test('it does not keep the server from ending', async (t) => {
  const server = await serverWithPipe(t);
  await fillLog(server);
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.exited(), [0, null]);
});
