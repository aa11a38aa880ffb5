// The configurations of examples/proxies, each with its real proxy between TLS clients and a server. What differs from
// the files is what an operator replaces too: addresses, the name and the certificate.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

import { makeCertificates } from '../lib/backends/certificates.js';
import { Daemon, freePorts, giveToNobody, program } from '../lib/backends/daemon.js';
import { Inbox, TIMEOUT_MS, matching, untilTrue } from '../lib/inbox.js';
import { fetchMetrics } from '../lib/metrics.js';
import { nodesFor } from '../lib/nodes.js';
import { folderWith } from '../lib/process.js';
import { APP, serverFor } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const EXAMPLES = fileURLToPath(new URL('../../examples/proxies', import.meta.url));
const SCALING = fileURLToPath(new URL('../../docs/scaling.md', import.meta.url));
const BATCH = { size: 20, bytes: 90_000 }; // more than nginx takes by itself

// The text with each of these words replaced; a word that is not there is a mistake of this test.
function replaced(text, words) {
  for (const [word, value] of Object.entries(words)) {
    assert.ok(text.includes(word), `there is no ${word} in\n${text}`);
    text = text.replaceAll(word, value);
  }
  return text;
}

// A part of docs/scaling.md.
const snippet = (pattern) => readFileSync(SCALING, 'utf8').match(pattern)[0];

// What follows from a row: the file for this test, and the command that serves it.
const PROXIES = {
  nginx: {
    example: 'nginx.conf',
    balancing: (text) => text.replace(/^upstream curlew \{.*?^\}\n/ms, snippet(/^upstream curlew \{.*?^\}\n/ms)),
    privately: (text) => replaced(text, { '#allow 10.0.0.0/8;': 'allow 127.0.0.2/32;', '#deny all;': 'deny all;' }),
    write: ({ text, folder, port, addresses, files }) => {
      const site = replaced(text, {
        ...addresses,
        'listen 443 ssl': `listen 127.0.0.1:${port} ssl`,
        '/etc/ssl/ws.example.com/fullchain.pem': files.certificate,
        '/etc/ssl/ws.example.com/privkey.pem': files.key,
      });
      const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
        (kind) => `${kind}_temp_path ${folder}/${kind};`,
      );
      return `daemon off; pid ${folder}/nginx.pid; error_log stderr; events {}
        http { access_log off; ${paths.join(' ')} ${site} }`;
    },
    command: (file, folder) => [program('nginx', 'nginx'), '-p', folder, '-e', 'stderr', '-c', file],
    stopSignal: 'SIGTERM',
  },
  Caddy: {
    example: 'Caddyfile',
    privately: (text) =>
      replaced(text, {
        '#@others {': '@others {',
        '#\tpath': '\tpath',
        '#\tnot remote_ip 10.0.0.0/8': '\tnot remote_ip 127.0.0.2/32',
        '#}': '}',
        '#respond': 'respond',
      }),
    write: ({ text, port, addresses, files }) =>
      `{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n${replaced(text, {
        ...addresses,
        'ws.example.com {': `https://localhost:${port}, https://127.0.0.1:${port} {
        tls ${files.certificate} ${files.key}`,
      })}`,
    command: (file) => [program('caddy', 'caddy'), 'run', '--adapter', 'caddyfile', '--config', file],
    stopSignal: 'SIGTERM',
  },
  HAProxy: {
    example: 'haproxy.cfg',
    balancing: (text) =>
      replaced(text, { 'default_backend curlew': 'default_backend nodes' }).replace(
        /^backend curlew\n.*/ms,
        snippet(/^backend nodes\n.*?(?=^```$)/ms),
      ),
    privately: (text) => replaced(text, { '#http-request': 'http-request', '10.0.0.0/8': '127.0.0.2/32' }),
    write: ({ text, port, addresses, files }) =>
      replaced(text, {
        ...addresses,
        'bind :443': `bind 127.0.0.1:${port}`,
        '/etc/haproxy/ws.example.com.pem': files.both,
        'maxconn 100000': 'maxconn 100', // a test may not open more files
      }),
    command: (file) => [program('haproxy', 'haproxy'), '-db', '-f', file],
    stopSignal: 'SIGUSR1',
  },
};

// A proxy in front of the server, or of three; resolves to how clients reach it.
async function proxyFor(t, name, server, { privately = false } = {}) {
  const { example, write, command, stopSignal, ...row } = PROXIES[name];
  const folder = folderWith(t);
  const files = { ...makeCertificates(folder), both: path.join(folder, 'both.pem') };
  writeFileSync(files.both, readFileSync(files.certificate));
  appendFileSync(files.both, readFileSync(files.key));
  const [port] = await freePorts(1);
  const original = readFileSync(path.join(EXAMPLES, example), 'utf8');
  const file = path.join(folder, example);
  const several = Array.isArray(server);
  const text = privately ? row.privately(original) : several ? row.balancing(original) : original;
  const addresses = several
    ? Object.fromEntries(server.map((one, i) => [`10.0.0.1${i + 1}:6001`, `127.0.0.1:${one.port}`]))
    : { '127.0.0.1:6001': `127.0.0.1:${server.port}` };
  writeFileSync(file, write({ text, folder, port, addresses, files }));
  giveToNobody(folder, file, ...Object.values(files));
  const ca = readFileSync(files.ca);
  const proxy = { port, ca };
  const daemon = new Daemon({
    name,
    command: command(file, folder),
    probe: () => probe(proxy),
    log: path.join(folder, 'log'),
    asNobody: true,
    env: { HOME: folder },
    stopSignal,
  });
  t.after(() => daemon.stop());
  await daemon.start();
  return proxy;
}

// Resolves when the proxy reaches the server.
async function probe(proxy) {
  const { status } = await ask(proxy, 'GET', `/apps/${APP.id}/channels`);
  if (status !== 401 && status !== 403) throw new Error(`answered ${status}`);
}

// A request to the API through the proxy, of a client at `from`: {status, json}.
async function ask({ port, ca }, method, target, { body, from = '127.0.0.1', headers = {} } = {}) {
  const options = { host: '127.0.0.1', port, ca, method, path: target, localAddress: from, headers, agent: false };
  const request = https.request({ ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  request.end(body);
  const [response] = await once(request, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode, json: text.startsWith('{') ? JSON.parse(text) : text };
}

function api(proxy, method, rest, { body, ...options } = {}) {
  const target = signedPath(APP, method, `/apps/${APP.id}${rest}`, { body });
  return ask(proxy, method, target, { body, ...options });
}

// A WebSocket through the proxy: {messages, closed, send}.
function connect(t, { port, ca }, { from = '127.0.0.1', key = APP.key, headers = {} } = {}) {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/app/${key}?protocol=7`, { ca, localAddress: from, headers });
  t.after(() => socket.terminate());
  const messages = new Inbox('messages through the proxy');
  socket.on('message', (bytes) => messages.push(JSON.parse(bytes)));
  socket.on('close', (code) => messages.close(`the connection was closed with ${code}`));
  socket.on('error', (error) => messages.close(error.message));
  const closed = once(socket, 'close').then(([code]) => code);
  closed.catch(() => {});
  const next = (event) => messages.next(matching(event));
  return { next, closed, send: (message) => socket.send(JSON.stringify(message)) };
}

for (const name of ['nginx', 'HAProxy'])
  test(`${name}: nodes behind it as in docs/scaling.md are one server, also when one dies`, async (t) => {
    const { list } = await nodesFor(t);
    const proxy = await proxyFor(t, name, list);
    const clients = Array.from({ length: 6 }, () => connect(t, proxy));
    for (const client of clients) {
      await client.next('pusher:connection_established');
      client.send({ event: 'pusher:subscribe', data: { channel: 'news' } });
      await client.next('pusher_internal:subscription_succeeded');
    }
    for (const node of list) assert.equal((await fetchMetrics(node)).sum('connected'), 2); // those with the fewest
    const publish = (event) => {
      const body = JSON.stringify({ name: event, channel: 'news', data: '{}' });
      return api(proxy, 'POST', '/events', { body });
    };
    assert.equal((await publish('first')).status, 200);
    for (const client of clients) await client.next('first');

    await list[2].kill();
    const gone = new Set();
    for (const client of clients) client.closed.catch(() => {}).then(() => gone.add(client));
    await untilTrue(() => gone.size >= 2, 'the connections of the node to end');
    const left = clients.filter((client) => !gone.has(client));
    assert.equal(left.length, 4);
    for (let i = 0; i < 12; i++) assert.equal((await publish(`after-${i}`)).status, 200);
    const again = connect(t, proxy);
    await again.next('pusher:connection_established');
    for (const client of left) for (let i = 0; i < 12; i++) await client.next(`after-${i}`);
  });

for (const name of Object.keys(PROXIES)) {
  test(`${name}: WebSockets, the API and close codes pass`, async (t) => {
    const server = await serverFor(t);
    const proxy = await proxyFor(t, name, server);

    const client = connect(t, proxy);
    await client.next('pusher:connection_established');
    client.send({ event: 'pusher:subscribe', data: { channel: 'news;today' } });
    await client.next('pusher_internal:subscription_succeeded');

    const data = 'x'.repeat(BATCH.bytes);
    const batch = Array.from({ length: BATCH.size }, (_, i) => ({ name: `event-${i}`, channel: 'news;today', data }));
    const published = await api(proxy, 'POST', '/batch_events', { body: JSON.stringify({ batch }) });
    assert.deepEqual(published, { status: 200, json: {} });
    for (const event of batch) assert.equal((await client.next(event.name)).data, data);

    const channel = await api(proxy, 'GET', '/channels/news%3Btoday');
    assert.deepEqual(channel, { status: 200, json: { occupied: true } });
    assert.equal((await ask(proxy, 'GET', '/elsewhere')).status, 404);

    const stranger = connect(t, proxy, { key: 'no-such-key' });
    assert.equal((await stranger.next('pusher:error')).data.code, 4001);
    assert.equal(await stranger.closed, 4001);
  });

  test(`${name}: with trust_hops 1, limits count the client's own address, whatever it claims`, async (t) => {
    const limit = { max_requests: 2, window_seconds: 3600, trust_hops: 1 };
    const rate_limiter = { enabled: true, api_rate_limit: limit, websocket_rate_limit: limit };
    const server = await serverFor(t, { config: { rate_limiter } });
    const proxy = await proxyFor(t, name, server);
    const forged = { 'X-Forwarded-For': '192.0.2.7' };

    const statuses = async (from, count, headers) => {
      const all = [];
      for (let i = 0; i < count; i++) all.push((await api(proxy, 'GET', '/channels', { from, headers })).status);
      return all;
    };
    assert.deepEqual(await statuses('127.0.0.2', 3), [200, 200, 429]);
    assert.deepEqual(await statuses('127.0.0.2', 1, forged), [429]);
    assert.deepEqual(await statuses('127.0.0.3', 2, forged), [200, 200]);

    for (const [from, headers, expected] of [
      ['127.0.0.2', {}, 'pusher:connection_established'],
      ['127.0.0.2', {}, 'pusher:connection_established'],
      ['127.0.0.2', forged, 'pusher:error'],
      ['127.0.0.3', forged, 'pusher:connection_established'],
    ])
      await connect(t, proxy, { from, headers }).next(expected);
  });

  test(`${name}: the lines that keep the API private do so`, async (t) => {
    const server = await serverFor(t);
    const proxy = await proxyFor(t, name, server, { privately: true });
    assert.equal((await api(proxy, 'GET', '/channels', { from: '127.0.0.2' })).status, 200);
    assert.equal((await api(proxy, 'GET', '/channels', { from: '127.0.0.3' })).status, 403);
    await connect(t, proxy, { from: '127.0.0.3' }).next('pusher:connection_established');
  });
}
