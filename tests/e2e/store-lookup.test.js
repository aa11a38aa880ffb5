// Who asks for an app while its store is slow, or finds that its record there is broken.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { assertRefusal } from '../lib/events.js';
import { TIMEOUT_MS } from '../lib/inbox.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { RawHttp } from '../lib/raw-http.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const APP = { id: 'one', key: 'one-key', secret: 's' };
const INSERT =
  'INSERT INTO applications (id, key, secret, enabled, enable_client_messages, max_connections, max_client_events_per_second) VALUES ';

// The address of another client, as a proxy tells it.
const from = (address) => ({ 'X-Forwarded-For': address });
const OTHERS = ['198.51.100.1', '203.0.113.7', '2001:db8::1'];

// Asks for made-up names from one address while `meanwhile` runs, which begins when the first is refused.
async function floodWhile(t, server, target, meanwhile) {
  const http = await RawHttp.connect(server);
  t.after(() => http.destroy());
  let [sent, rest, over] = [0, null, false];
  while (!over) {
    let refused = false;
    for (let i = 0; i < 100; i++) http.send('GET', target(++sent), { headers: from('192.0.2.1') });
    for (let i = 0; i < 100; i++) {
      const { status } = await http.next();
      assert.ok(status !== 200, `${status}`);
      refused ||= status === 503;
    }
    assert.ok(refused || sent <= 50_000, 'it has a bound');
    if (refused) rest ??= meanwhile().finally(() => (over = true));
  }
  await rest;
}

// By chance an address may share the lookups of the attacker, one in a thousand.
async function oneOf(addresses, ask) {
  for (const address of addresses) if (await ask(address)) return;
  assert.fail(`no client was served from ${addresses}`);
}

test('made-up ids and keys from one address leave the lookups of the others alone', async (t) => {
  const apps = Array.from({ length: 40 }, (_, i) => ({ id: `app-${i}`, key: `key-${i}`, secret: 's' }));
  const server = await serverFor(t, {
    apps,
    config: {
      app_manager: { driver: 'sqlite', cache: { negative_ttl: 0 } },
      database: { sqlite: { path: path.join(folderWith(t), 'apps.db') } },
      rate_limiter: { api_rate_limit: { trust_hops: 1 }, websocket_rate_limit: { trust_hops: 1 } },
    },
  });
  const reads = async (app, address) =>
    (await api(server, 'GET', '/channels', { app, headers: from(address) })).status === 200;
  const connects = async (app, address) => {
    const ws = await RawWebSocket.connect(server, { key: app.key, headers: from(address) });
    const { event } = await ws.expect(/^pusher:(connection_established|error)$/);
    ws.destroy();
    return event === 'pusher:connection_established';
  };
  // each app is asked for once, so it is as unknown as a made-up one
  await floodWhile(
    t,
    server,
    (name) => `/up/${name}`,
    async () => {
      for (const app of apps.slice(0, 20)) await oneOf(OTHERS, (address) => reads(app, address));
    },
  );
  await floodWhile(
    t,
    server,
    (name) => `/stats?auth_key=${name}`,
    async () => {
      for (const app of apps.slice(20)) await oneOf(OTHERS, (address) => connects(app, address));
    },
  );
});

describe('while the store does not answer', () => {
  const ends = [];
  let backend;
  let places = 0;
  before(async () => {
    backend = await backendFor({ after: (end) => ends.push(end) }, 'postgres');
  });
  after(async () => {
    for (const end of ends) await end();
  });

  // A server whose lookups wait until release() is called.
  async function locked(t, lookup_timeout_ms) {
    const place = `lookup_${++places}`;
    await backend.createPlace(place);
    const { app_manager, database } = backend.config(place);
    const server = await serverFor(t, {
      apps: [],
      config: { app_manager: { ...app_manager, lookup_timeout_ms }, database },
    });
    await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_connections') >= 1));
    const client = await backend.client(place);
    await client.query(`${INSERT} ('one', 'one-key', 's', true, false, 0, 10)`);
    await client.query('BEGIN; LOCK TABLE applications IN ACCESS EXCLUSIVE MODE');
    t.after(() => client.end());
    return { server, release: () => client.query('COMMIT') };
  }

  test('nobody waits longer than app_manager.lookup_timeout_ms', async (t) => {
    const { server, release } = await locked(t, 1500);
    const began = performance.now();
    const [code, answer] = await Promise.all([
      RawWebSocket.connect(server, { key: APP.key }).then(async (ws) => {
        const { data } = await ws.expect('pusher:error');
        assert.ok(performance.now() - began >= 1400, 'it waited for the answer');
        return data.code;
      }),
      api(server, 'GET', '/channels', { app: APP }),
    ]);
    const took = performance.now() - began;
    assert.ok(took >= 1400 && took < 15_000, `${took} ms`);
    assert.equal(code, 4100);
    assertRefusal(answer, 503);
    assert.equal(answer.headers['retry-after'], '1');
    await release();
    await eventually(server, () => connect(server, { app: APP }).then((ws) => ws.destroy()));
  });

  test('/up waits for no more than a second, and the outage is in the log once', async (t) => {
    const { server, release } = await locked(t, 30_000);
    await release();
    await connect(server, { app: APP, t });
    const health = async () => (await fetch(`http://127.0.0.1:${server.port}/up`)).text();
    assert.equal(await health(), 'OK');
    backend.freeze();
    try {
      let word;
      for (const end = performance.now() + TIMEOUT_MS; word !== 'DEGRADED' && performance.now() < end;) {
        const began = performance.now();
        word = await health();
        assert.ok(performance.now() - began < 10_000, `${performance.now() - began} ms`); // a lookup waits for 30 s
      }
      assert.equal(word, 'DEGRADED');
      for (let i = 0; i < 10; i++) assert.equal(await health(), 'DEGRADED');
    } finally {
      backend.thaw();
    }
    await server.waitForLog(/^the postgres store answers$/);
    assert.equal(server.log.all.filter(({ message }) => /store cannot be reached/.test(message)).length, 1);
  });

  test('a flood of /up asks the store a few times at once, and no lookup waits behind it', async (t) => {
    const { server, release } = await locked(t, 30_000);
    await release();
    await connect(server, { app: APP, t });
    const health = async () => (await fetch(`http://127.0.0.1:${server.port}/up`)).text();
    const most = { urgent: 0 };
    let words = [];
    backend.freeze();
    try {
      for (const end = performance.now() + TIMEOUT_MS; !words.includes('DEGRADED') && performance.now() < end;) {
        const answers = Promise.all(Array.from({ length: 50 }, health));
        const metrics = await fetchMetrics(server);
        most.urgent = Math.max(most.urgent, metrics.sum('app_store_waiting', { priority: 'urgent' }));
        words = await answers;
      }
    } finally {
      backend.thaw();
    }
    assert.ok(words.includes('DEGRADED'), words.join());
    assert.ok(most.urgent <= 5, `${most.urgent} waited`); // four of these, and the server's own
    await server.waitForLog(/^the postgres store answers$/);
    assert.equal(await health(), 'OK');
  });

  // Of what was sent on a client's socket: how many bytes lie unread in the server's kernel, and how many have not got
  // that far.
  function bytesOnTheWay({ localPort, remotePort }) {
    const hex = (port) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
    const rows = readFileSync('/proc/net/tcp', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/));
    const queues = (from, to) =>
      rows.find(([, local, remote]) => local?.endsWith(hex(from)) && remote.endsWith(hex(to)))[4].split(':');
    return {
      unread: parseInt(queues(remotePort, localPort)[1], 16),
      unsent: parseInt(queues(localPort, remotePort)[0], 16),
    };
  }

  // Pours up to `most` bytes into a connection until neither the server nor the kernel takes more.
  async function pour(server, socket, most) {
    const piece = Buffer.alloc(64 * 1024);
    let taken = 0; // by the kernel; a piece of which it has taken a part is not counted
    const send = () =>
      taken + piece.length <= most &&
      socket.write(piece, (error) => {
        if (error) return;
        taken += piece.length;
        send();
      });
    send();
    let before;
    do {
      // a server that reads has read something in twenty answers
      before = taken;
      for (let i = 0; i < 20; i++) await fetchMetrics(server);
    } while (taken > before);
    assert.ok(!socket.destroyed, 'the server waits');
    const { unread, unsent } = bytesOnTheWay(socket);
    assert.ok(unread > 0, 'the kernel keeps it');
    // one read of the server, whose buffer has 256 KiB
    assert.ok(taken - unread - unsent <= 256 * 1024, `${taken} - ${unread} - ${unsent} bytes were read`);
  }

  test('what a client sends meanwhile is not read beyond a buffer, and is acted on afterwards', async (t) => {
    const { server, release } = await locked(t, 60_000);
    const [small, large] = [
      await RawWebSocket.connect(server, { key: APP.key }),
      await RawWebSocket.connect(server, { key: APP.key }),
    ];
    t.after(() => large.destroy());
    small.send({ event: 'pusher:ping', data: {} });
    await pour(server, large.socket, 64 * 1024 * 1024); // far more than the kernel takes
    await release();
    await small.expect('pusher:connection_established');
    await small.expect('pusher:pong');
    small.destroy();
  });

  test('the body of an API request waits for the app, and is not read if there is none', async (t) => {
    const { server, release } = await locked(t, 60_000);
    const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x' });
    const begin = async (app, length = body.length) => {
      const http = await RawHttp.connect(server);
      t.after(() => http.destroy());
      const target = signedPath(app, 'POST', `/apps/${app.id}/events`, { body });
      http.write(`POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\nExpect: 100-continue\r\n\r\n`);
      return http;
    };
    const madeUp = (i) => ({ ...APP, id: `made-up-${i}` });
    const [known, gone] = [await begin(APP), await begin(APP)];
    const unknown = await Promise.all(Array.from({ length: 10 }, (_, i) => begin(madeUp(i))));
    const large = await begin(madeUp('large'), 9_000_000);
    await pour(server, large.socket, 9_000_000);
    gone.socket.resetAndDestroy();
    for (const http of [known, large, ...unknown]) assert.equal(http.received.length, 0);
    await release();
    for (const http of [large, ...unknown]) {
      const response = await http.next();
      assert.equal(response.status, 404, response.text);
      assert.equal(response.headers.connection, 'close');
    }
    assert.equal((await known.next()).status, 100);
    known.write(body);
    const response = await known.next();
    assert.equal(response.status, 200, response.text);
    assert.equal(response.headers.connection, 'keep-alive');
  });
});

test('what a newer server wrote into a record is a warning, once for each change of it', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await serverFor(t, {
    apps: [],
    config: { app_manager: { driver: 'sqlite', cache: { ttl: 1 } }, database: { sqlite: { path: file } } },
  });
  await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_connections') >= 1));
  const sql = (text) => execFileSync('sqlite3', ['-cmd', '.timeout 60000', file, text]);
  const webhook = (member) => JSON.stringify([{ url: 'https://a.example', event_types: [], [member]: 3 }]);
  sql(`${INSERT} ('one', 'one-key', 's', 1, 0, 0, 10); UPDATE applications SET webhooks = '${webhook('retries')}'`);
  await connect(server, { app: APP, t });
  const { level } = await server.waitForLog(/^app "one": webhooks\[0\]\.retries is not a field/);
  assert.match(level, /warn/i);
  const before = (await eventually(server, (metrics) => metrics)).sum('app_store_seconds_count');
  // it was read again
  await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_seconds_count') >= before + 2));
  sql(`UPDATE applications SET webhooks = '${webhook('colour')}'`);
  await server.waitForLog(/^app "one": webhooks\[0\]\.colour is not a field/);
  assert.equal(server.log.all.filter(({ message }) => /is not a field/.test(message)).length, 2);
});

test('an app whose record is broken is 4100 and 500 with the field, by key and by id, and good once it is repaired', async (t) => {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await serverFor(t, {
    apps: [],
    config: { app_manager: { driver: 'sqlite', cache: { negative_ttl: 0 } }, database: { sqlite: { path: file } } },
  });
  await eventually(server, (metrics) => assert.ok(metrics.sum('app_store_connections') >= 1));
  const sql = (text) => execFileSync('sqlite3', ['-cmd', '.timeout 60000', file, text]);
  sql(`${INSERT} ('one', 'one-key', 's', 1, 0, 'many', 10)`);
  for (let i = 0; i < 3; i++) {
    // asked for, and known
    assertRefusal(await api(server, 'GET', '/channels', { app: APP }), 500, /app "one": max_connections must be/);
    const ws = await RawWebSocket.connect(server, { key: APP.key });
    assert.deepEqual((await ws.expect('pusher:error')).data, {
      code: 4100,
      message: "the app's record is broken; try again later",
    });
    ws.destroy();
  }
  sql('UPDATE applications SET max_connections = 1');
  await eventually(server, async () => assert.equal((await api(server, 'GET', '/channels', { app: APP })).status, 200));
  await connect(server, { app: APP, t });
});
