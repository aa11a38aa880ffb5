// Resumed TLS sessions, with the clients that people have, and certificates that are renewed while many connect.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';

import { TIMEOUT_MS, within } from '../lib/inbox.js';
import { APP, serverFor, sharedServer, THREADS_BINARY } from '../lib/server.js';

const WebSocket = createRequire(import.meta.url)('ws');
const folder = mkdtempSync(path.join(tmpdir(), 'curlew-tls-resumption-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function certificate(name) {
  const [cert, key] = ['crt', 'key'].map((end) => path.join(folder, `${name}.${end}`));
  execFileSync(
    'openssl',
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ${key} -out ${cert} -subj /CN=${name}`
      .split(' ')
      .concat(['-addext', 'subjectAltName=IP:127.0.0.1']),
    { stdio: 'ignore' },
  );
  return { cert, key };
}

const first = certificate('first');
const second = certificate('second');
const used = { cert: path.join(folder, 'used.crt'), key: path.join(folder, 'used.key') };
const ca = [first, second].map(({ cert }) => readFileSync(cert));

function install({ cert, key }) {
  copyFileSync(cert, used.cert);
  copyFileSync(key, used.key);
}

const config = (more = {}) => ({
  workers: 4,
  ssl: { enabled: true, cert_path: used.cert, key_path: used.key, ...more },
});

// Runs `openssl s_client` until it has the answer to a request; resolves to all that it printed.
function sClient(server, args) {
  const client = spawn('openssl', ['s_client', '-connect', `${server.host}:${server.port}`, ...args]);
  let text = '';
  client.stdin.on('error', () => {});
  client.stdin.write('GET /up HTTP/1.1\r\nHost: x\r\n\r\n');
  return within(
    new Promise((resolve, reject) => {
      for (const stream of [client.stdout, client.stderr])
        stream.setEncoding('utf8').on('data', (chunk) => {
          text += chunk;
          if (/\r\n\r\nOK/.test(text)) client.stdin.end();
        });
      client.once('error', reject);
      client.once('close', () => resolve(text));
    }),
    'openssl s_client to end',
  );
}

// Connects a WebSocket client and waits for its first message; resolves to it and to its TLS socket.
function connect(server, options) {
  const socket = new WebSocket(`wss://${server.host}:${server.port}/app/${APP.key}?protocol=7`, options);
  let transport;
  return within(
    new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('upgrade', (answer) => (transport = answer.socket));
      socket.once('message', () => resolve({ socket, transport }));
    }),
    'connection_established',
  );
}

function close(socket) {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.close();
  return within(closed, 'the end of a connection');
}

install(first);
const shared = await sharedServer({ config: config() });

describe('TLS sessions', () => {
  for (const version of ['-tls1_2', '-tls1_3'])
    test(`openssl s_client resumes a session with ${version}, again and again`, async () => {
      const session = path.join(folder, `session${version}`);
      assert.match(await sClient(shared, [version, '-sess_out', session]), /^New, TLSv1/m);
      for (let i = 0; i < 3; i++)
        assert.match(
          await sClient(shared, [version, '-sess_in', session, '-sess_out', session]),
          /^Reused, TLSv1/m,
          `time ${i}`,
        );
    });

  test('early data is not offered, so that no request can be replayed', async () => {
    const session = path.join(folder, 'session-early');
    const early = path.join(folder, 'early');
    writeFileSync(early, 'GET /up HTTP/1.1\r\nHost: x\r\n\r\n');
    const before = await sClient(shared, ['-tls1_3', '-sess_out', session]);
    assert.match(before, /Max Early Data: 0\b/);
    const text = await sClient(shared, ['-tls1_3', '-sess_in', session, '-early_data', early]);
    assert.match(text, /^Reused, TLSv1\.3/m);
    assert.match(text, /Early data was not sent/);
  });

  test('a WebSocket client resumes its session on a worker that has not seen it', async () => {
    const agent = new Agent({ ca });
    for (let i = 0; i < 12; i++) {
      const { socket, transport } = await connect(shared, { agent });
      assert.equal(transport.isSessionReused(), i > 0, `connection ${i}`);
      await close(socket);
    }
  });

  test('pusher-js connects over wss and subscribes', async () => {
    const script = `
      const Pusher = require('pusher-js');
      const client = new Pusher('${APP.key}', {
        cluster: 'local', wsHost: '${shared.host}', wssPort: ${shared.port}, forceTLS: true, enabledTransports: ['ws', 'wss'],
      });
      client.subscribe('over-tls').bind('pusher:subscription_succeeded', () => {
        console.log('subscribed');
        client.disconnect();
      });`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], {
      cwd: path.join(import.meta.dirname, '..'),
      env: { ...process.env, NODE_EXTRA_CA_CERTS: first.cert },
      timeout: TIMEOUT_MS,
    });
    assert.equal(stdout, 'subscribed\n');
  });

  test('after SIGHUP a session from before is resumed, and a new client sees the new certificate', async (t) => {
    install(first);
    const server = await serverFor(t, { config: config() });
    const session = path.join(folder, 'session-reload');
    await sClient(server, ['-tls1_3', '-sess_out', session]);
    install(second);
    await server.hup();
    assert.match(await sClient(server, ['-tls1_3', '-sess_in', session]), /^Reused, TLSv1\.3/m);
    assert.match(await sClient(server, ['-tls1_3']), /subject=CN = second/);
  });

  test('with client certificates each handshake is a full one', async (t) => {
    install(first);
    const server = await serverFor(t, { config: config({ ca_path: first.cert }) });
    for (const version of ['-tls1_2', '-tls1_3']) {
      const session = path.join(folder, 'session-certificates');
      const own = [version, '-cert', first.cert, '-key', first.key];
      writeFileSync(session, '');
      await sClient(server, [...own, '-sess_out', session]);
      assert.doesNotMatch(readFileSync(session, 'latin1'), /TLS session ticket/);
      assert.match(await sClient(server, own), /^New, TLSv1/m);
    }
  });
});

describe('a certificate renewed under load', () => {
  // Sixteen clients connect again and again, every second time resuming a session.
  async function client(server, load) {
    const agent = new Agent({ ca });
    for (let i = 0; !load.over; i++) {
      const { socket, transport } = await connect(server, i % 2 ? { agent } : { ca });
      if (transport.isSessionReused()) load.resumed++;
      else load.seen.add(transport.getPeerCertificate().subject.CN);
      load.count++;
      load.wake?.();
      await close(socket);
    }
  }

  async function more(load, count) {
    const target = load.count + count;
    while (load.count < target) await new Promise((resolve) => (load.wake = resolve));
  }

  test('no handshake fails, and open connections stay', async (t) => {
    install(first);
    const server = await serverFor(t, {
      binary: THREADS_BINARY,
      apps: [{ ...APP, max_connections: 0 }],
      config: config(),
    });
    const open = await Promise.all(Array.from({ length: 10 }, async () => (await connect(server, { ca })).socket));
    const load = { count: 0, resumed: 0, over: false, seen: new Set() };
    const clients = Promise.all(Array.from({ length: 16 }, () => client(server, load)));
    for (let i = 0; i < 8; i++) {
      install(i % 2 ? first : second);
      const since = server.log.all.length;
      await server.hup();
      await server.waitForLog(/^certificate and key read again/, { since });
      await Promise.race([more(load, 32), clients]);
    }
    load.over = true;
    await clients;
    assert.ok(load.resumed > 0);
    assert.ok(load.seen.has('first') && load.seen.has('second'), [...load.seen].join(' '));
    for (const socket of open) {
      const pong = within(new Promise((resolve) => socket.once('message', resolve)), 'pusher:pong');
      socket.send('{"event":"pusher:ping","data":{}}');
      assert.match(String(await pong), /pusher:pong/);
      socket.terminate();
    }
  });
});
