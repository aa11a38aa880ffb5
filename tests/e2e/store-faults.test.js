// A database that stops, hangs, cuts its connections, is not there at the start, refuses the password, or takes no
// writes.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { get } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { LONG_TIMEOUT_MS, TIMEOUT_MS } from '../lib/inbox.js';
import { eventually, fetchMetrics, getMetrics } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { startServer } from '../lib/server.js';

const APP = { id: 'known', key: 'known-key', secret: 's' };
const TOKEN = 'a token of at least thirty-two characters';
const CLIENTS = 200;
const CONNECTS_PER_SECOND = 50;
const OUTAGE_MS = 30_000;
const FREEZE_MS = 20_000;

const incompressible = (length) => randomBytes(length / 2).toString('hex');

const health = async (server) =>
  (await fetch(`http://127.0.0.1:${server.port}/up`, { signal: AbortSignal.timeout(TIMEOUT_MS) })).text();

async function healthBecomes(server, word) {
  const end = performance.now() + TIMEOUT_MS;
  let last;
  do {
    last = await health(server);
    if (last === word) return;
    await pause(50);
  } while (performance.now() < end);
  assert.fail(`the health is ${last}, not ${word}, after ${TIMEOUT_MS} ms`);
}

async function connectOnce(server) {
  const ws = await connect(server, { app: { ...APP, max_connections: 0 } });
  ws.destroy();
}

async function refusal(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

// 50 connects a second, or fewer on a busy machine, for so long, each of which has to succeed; returns how many there
// were.
async function connectFor(server, milliseconds) {
  const end = performance.now() + milliseconds;
  const started = [];
  while (performance.now() < end) {
    started.push(connectOnce(server));
    await pause(1000 / CONNECTS_PER_SECOND);
  }
  await Promise.all(started);
  return started.length;
}

async function lagMax(server) {
  const page = (await getMetrics(server)).body;
  return Math.max(
    ...[...page.matchAll(/^sockudo_loop_lag_max_seconds\{.*\} (\S+)$/gm)].map((match) => Number(match[1])),
  );
}

function settings(backend, place, { cache = {}, ...more } = {}) {
  const config = backend.config(place);
  config.app_manager = { ...config.app_manager, cache: { ttl: 1, negative_ttl: 0, ...cache }, ...more };
  return {
    apps: [{ ...APP, max_connections: 0 }],
    config: { ...config, workers: 2 },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  };
}

// A side whose `cut` closes what came through a port of its own, which `point` puts in the settings.
function throughPort(point) {
  const pairs = new Set();
  const cut = async () => {
    const open = [...pairs];
    for (const [client] of open) client.destroy();
    return open.length;
  };
  return {
    cut,
    async prepare(backend) {
      const { host, port } = backend.address;
      const middle = net.createServer((client) => {
        const node = net.connect(port, host);
        const pair = [client, node];
        pairs.add(pair);
        const end = () => {
          pairs.delete(pair);
          for (const socket of pair) socket.destroy();
        };
        for (const socket of pair) socket.setNoDelay().on('error', end).on('close', end);
        client.pipe(node).pipe(client);
      });
      middle.listen(0, host);
      await once(middle, 'listening');
      const config = backend.config;
      backend.config = (name) => {
        const settings = config(name);
        point(settings, `${host}:${middle.address().port}`);
        return settings;
      };
      return () => {
        middle.close();
        return cut();
      };
    },
  };
}

// What the database's own side does to cut every connection of the server, and to take no writes.
const SIDES = {
  mariadb: {
    async cut(backend) {
      const client = await backend.client('faults');
      const [rows] = await client.query(
        "SELECT id FROM information_schema.processlist WHERE db = 'faults' AND id <> CONNECTION_ID()",
      );
      for (const { id } of rows) await client.query(`KILL ${id}`);
      await client.end();
      return rows.length;
    },
    // Whoever may all is not held to read_only, so the server is a user who may little else.
    async prepare(backend) {
      const client = await backend.client();
      await client.query("CREATE USER modest@'%' IDENTIFIED BY 'a modest password'");
      await client.query("GRANT ALL ON faults.* TO modest@'%'");
      await client.end();
      const { config } = backend;
      backend.config = (name) => {
        const settings = config(name);
        Object.assign(settings.database.mysql, { username: 'modest', password: 'a modest password' });
        return settings;
      };
      return () => {};
    },
    async forbidWrites(backend, on) {
      const client = await backend.client();
      await client.query(`SET GLOBAL read_only = ${Number(on)}`);
      await client.end();
    },
    full: {
      filler: 'CREATE TABLE filler (rest LONGTEXT)',
      fill: 'INSERT INTO filler VALUES (?)',
      says: /is full/,
    },
  },
  postgres: {
    async cut(backend) {
      const client = await backend.client('faults');
      const { rowCount } = await client.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'faults' AND pid <> pg_backend_pid()",
      );
      await client.end();
      return rowCount;
    },
    async forbidWrites(backend, on) {
      const client = await backend.client('faults');
      await client.query('SET default_transaction_read_only = off');
      await client.query(`ALTER DATABASE faults SET default_transaction_read_only = ${on ? 'on' : 'off'}`);
      await client.end();
      await this.cut(backend);
    },
    full: {
      // Without cleaning up after what did not fit.
      filler: 'CREATE TABLE filler (rest TEXT) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)',
      fill: 'INSERT INTO filler VALUES ($1)',
      says: /No space left on device/,
    },
  },
  // Neither of the two has a command to cut connections, so the server's go through a port that does.
  dynamodb: throughPort((settings, at) => {
    settings.database.dynamodb.endpoint_url = `http://${at}`;
  }),
  cassandra: throughPort((settings, at) => {
    settings.app_manager.scylladb.nodes = [at];
  }),
};

function faultsOf(kind) {
  describe(kind, { timeout: 2 * LONG_TIMEOUT_MS, concurrency: 1 }, () => {
    const ends = [];
    let backend;
    let server;
    before(async () => {
      backend = await backendFor({ after: (end) => ends.push(end) }, kind);
      await backend.createPlace('faults');
      if (SIDES[kind].prepare) ends.push(await SIDES[kind].prepare(backend));
      server = await startServer(settings(backend, 'faults'));
      await connectOnce(server); // as soon as the store is prepared
    });
    after(async () => {
      await server?.stop();
      for (const end of ends) await end();
    });

    test('stopped: nobody who connects to a known app notices, and the health does', async () => {
      const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connect(server, { app: APP })));
      assert.equal(await health(server), 'OK');
      const outages = () => server.log.all.filter(({ message }) => / store cannot be reached: /.test(message)).length;
      const before = outages();
      await backend.stop();
      const connecting = connectFor(server, OUTAGE_MS);
      await healthBecomes(server, 'DEGRADED');
      assert.equal(await refusal(server, 'unknown'), 4100);
      assert.ok((await connecting) >= OUTAGE_MS / 1000, 'many times');
      assert.equal(await health(server), 'DEGRADED');
      await backend.start();
      await healthBecomes(server, 'OK');
      assert.equal(outages(), before + 1); // is said once
      assert.equal(await refusal(server, 'unknown'), 4001);
      for (const client of clients) client.send({ event: 'pusher:ping', data: {} });
      await Promise.all(clients.map((client) => client.expect('pusher:pong')));
      for (const client of clients) client.destroy();
    });

    test('frozen: known apps are served, unknown ones are told to come back, no loop stalls', async () => {
      await connectOnce(server);
      backend.freeze();
      try {
        const connecting = connectFor(server, FREEZE_MS);
        assert.equal(await refusal(server, 'unknown'), 4100);
        await healthBecomes(server, 'DEGRADED');
        await connecting;
      } finally {
        backend.thaw();
      }
      // A loop that waited for the database would have stood still for app_manager.lookup_timeout_ms, 5 s.
      assert.ok((await lagMax(server)) < 4, `${await lagMax(server)} s`);
      await healthBecomes(server, 'OK');
      assert.equal(await refusal(server, 'unknown'), 4001);
    });

    test('frozen while the server ends: who waits for it is told to come back, and the server ends however long they might wait', async () => {
      const patient = settings(backend, 'faults', { lookup_timeout_ms: 3_600_000 });
      const ending = await startServer({ ...patient, config: { ...patient.config, shutdown_grace_period: 0 } });
      await connectOnce(ending);
      const { message } = await ending.waitForLog(/^admin API on /);
      backend.freeze();
      try {
        // more than there are connections
        const refused = Array.from({ length: 20 }, (_, i) => refusal(ending, `unknown-${i}`));
        const writing = fetch(message.match(/http:\/\/\S+/)[0], {
          method: 'POST',
          headers: { authorization: `Bearer ${TOKEN}` },
          body: JSON.stringify({ id: 'late', key: 'late-key', secret: 's' }),
        });
        await eventually(ending, (metrics) => assert.ok(metrics.sum('app_store_waiting') >= 10));
        ending.terminate();
        for (const code of await Promise.all(refused)) assert.equal(code, 4100);
        assert.equal((await writing).status, 503);
        assert.deepEqual(await ending.exited(), { code: 0, signal: null });
      } finally {
        backend.thaw();
        await ending.stop();
      }
      await healthBecomes(server, 'OK');
    });

    test('every connection cut: the next questions are answered all the same', async () => {
      assert.equal(await refusal(server, 'unknown'), 4001);
      assert.ok((await SIDES[kind].cut(backend)) > 0);
      for (let i = 0; i < 5; i++) assert.equal(await refusal(server, `unknown-${i}`), 4001);
      await connectOnce(server);
    });

    if (SIDES[kind].forbidWrites) {
      test('read-only: a create says so and changes nothing', async () => {
        const { message } = await server.waitForLog(/^admin API on /);
        const create = () =>
          fetch(message.match(/http:\/\/\S+/)[0], {
            method: 'POST',
            headers: { authorization: `Bearer ${TOKEN}` },
            body: JSON.stringify({ id: 'new', key: 'new-key', secret: 's' }),
          });
        await SIDES[kind].forbidWrites(backend, true);
        const answer = await create();
        assert.equal(answer.status, 507);
        assert.match((await answer.json()).error, /read-only/);
        assert.equal(await refusal(server, 'new-key'), 4001);
        await SIDES[kind].forbidWrites(backend, false);
        assert.equal((await create()).status, 201);
        (await connect(server, { app: { id: 'new', key: 'new-key', secret: 's' } })).destroy();
      });
    }

    test('not there at the start: the server is, and finds it when it comes', async () => {
      await backend.stop();
      const early = await startServer(settings(backend, 'faults'));
      try {
        assert.equal(await health(early), 'ERROR');
        assert.equal((await get(`${early.url}/ready`)).body, 'NO_STORE');
        assert.equal((await get(`${early.url}/live`)).body, 'OK');
        assert.equal(await refusal(early, APP.key), 4100);
        await backend.start();
        await healthBecomes(early, 'OK');
        assert.equal((await get(`${early.url}/ready`)).body, 'OK');
        await connectOnce(early);
      } finally {
        await early.stop();
      }
    });

    test('refused credentials are named, and not told', async () => {
      const wrong = settings(backend, 'faults');
      const { mysql, postgres, dynamodb } = wrong.config.database ?? {};
      // DynamoDB Local only looks at what an access key is made of.
      if (dynamodb) Object.assign(dynamodb, { aws_access_key_id: 'no-key', aws_secret_access_key: 'not-the-password' });
      else (mysql ?? postgres ?? wrong.config.app_manager.scylladb).password = 'not-the-password';
      const refused = await startServer(wrong);
      try {
        assert.equal(await refusal(refused, APP.key), 4100);
        const { message } = await refused.waitForLog(/store cannot be reached/);
        assert.match(
          message,
          /(database\.(mysql|postgres)|app_manager\.scylladb)\.username and \.password|database\.dynamodb\.aws_access_key_id and aws_secret_access_key/,
        );
        assert.equal(await health(refused), 'ERROR');
        assert.ok(!refused.log.all.some((line) => JSON.stringify(line).includes('not-the-password')));
      } finally {
        await refused.stop();
      }
    });
  });
}

// Beside the others, for it takes a minute.
function idleConnections() {
  test(
    'connections that a rush needed are closed when nobody has for a minute',
    { timeout: LONG_TIMEOUT_MS },
    async (t) => {
      const backend = await backendFor(t, 'postgres');
      await backend.createPlace('faults');
      const options = settings(backend, 'faults', { cache: { ttl: 300 } });
      Object.assign(options.config.database.postgres, { pool_min: 1, pool_max: 6 });
      const server = await startServer(options);
      const client = await backend.client('faults');
      t.after(async () => {
        await client.end();
        await server.stop();
      });
      const connections = async () => (await fetchMetrics(server)).sum('app_store_connections');
      await connectOnce(server);
      await client.query('BEGIN; LOCK TABLE applications');
      const rush = Array.from({ length: 20 }, (_, i) => refusal(server, `unknown-${i}`));
      await eventually(server, async () => assert.equal(await connections(), 6));
      const begin = performance.now();
      await client.query('COMMIT');
      assert.deepEqual(new Set(await Promise.all(rush)), new Set([4001]));
      while ((await connections()) === 6) await pause(100);
      const first = performance.now() - begin;
      assert.ok(first > 59_000, `the first was closed after ${first} ms`);
      while ((await connections()) > 1) await pause(100);
      const {
        rows: [{ count }],
      } = await client.query(
        "SELECT count(*)::int FROM pg_stat_activity WHERE datname = 'faults' AND pid <> pg_backend_pid()",
      );
      assert.equal(count, 2); // it, and the one that listens
    },
  );
}

describe('a database that fails', { concurrency: true }, () => {
  for (const kind of Object.keys(SIDES)) faultsOf(kind);
  idleConnections();
});

for (const [kind, { full }] of Object.entries(SIDES).filter(([, side]) => side.full)) {
  test(`${kind}, full: a create says so and changes nothing, and what is there is served`, async (t) => {
    const backend = await backendFor(t, kind, { small: true });
    await backend.createPlace('faults');
    const server = await startServer(settings(backend, 'faults'));
    try {
      await connectOnce(server);
      const client = await backend.client('faults');
      await client.query(full.filler);
      for (let size = 1 << 20; size >= 1 << 12; size /= 2) {
        for (;;)
          if (
            !(await client.query(full.fill, [incompressible(size)]).then(
              () => true,
              () => false,
            ))
          )
            break;
      }
      const { message } = await server.waitForLog(/^admin API on /);
      // More than fits where there is still room for a few words.
      const webhooks = Array.from({ length: 20 }, () => ({
        url: 'https://a.example',
        event_types: ['member_added'],
        headers: { 'X-Long': incompressible(1000) },
      }));
      const answer = await fetch(message.match(/http:\/\/\S+/)[0], {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}` },
        body: JSON.stringify({ id: 'new', key: 'new-key', secret: 's', webhooks }),
      });
      assert.equal(answer.status, 507);
      assert.match((await answer.json()).error, full.says);
      assert.equal(await refusal(server, 'new-key'), 4001);
      await connectOnce(server);
      await client.end();
    } finally {
      await server.stop();
    }
  });
}
