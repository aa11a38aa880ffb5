// Changes in the store reach live connections, and what it costs the database to look apps up: two servers on one
// PostgreSQL.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { counterOf, fillPlace, untilListening } from '../lib/backends/counted.js';
import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { fetchMetrics } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor, startServer } from '../lib/server.js';

const TOKEN = 'a token of at least thirty-two characters';
const ends = [];
let backend;

before(async () => {
  backend = await backendFor({ after: (end) => ends.push(end) }, 'postgres');
});
after(async () => {
  for (const end of ends) await end();
});

function settings(place, cache = {}) {
  const config = backend.config(place);
  config.app_manager = { ...config.app_manager, cache: { ttl: 300, negative_ttl: 300, ...cache } };
  return {
    apps: [],
    config: { ...config, workers: 2 },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  };
}

async function query(place, sql, values) {
  const client = await backend.client(place);
  try {
    return (await client.query(sql, values)).rows;
  } finally {
    await client.end();
  }
}

const INSERT = `INSERT INTO applications (id, key, secret, max_connections, max_client_events_per_second, enable_client_messages, enabled)
  VALUES ($1, $2, 's', 100000, 100, true, true)`;

async function refusal(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

async function admin(server, method, where, body) {
  const { message } = await server.waitForLog(/^admin API on /);
  const answer = await fetch(message.match(/http:\/\/\S+/)[0] + where, {
    method,
    headers: { authorization: `Bearer ${TOKEN}` },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
}

describe('two servers on one database, a record being good for 300 s', () => {
  const app = { id: 'live', key: 'live-key', secret: 's' };
  let one;
  let two;
  before(async () => {
    await backend.createPlace('live');
    await query('live', 'CREATE EXTENSION pg_stat_statements');
    one = await startServer(settings('live'));
    assert.equal(await refusal(one, 'nobody'), 4001); // the table is there
    two = await startServer(settings('live'));
    await two.waitForLog(/^ready/);
    assert.equal(await refusal(two, 'nobody'), 4001);
  });
  after(async () => {
    await one?.stop();
    await two?.stop();
  });

  // The trigger's notices arrive in order, so what a later one brings about shows that an earlier one has come.
  async function onBoth(act) {
    return [await act(one), await act(two)];
  }

  // Until the key is known and good.
  async function connected(server, key) {
    for (;;) {
      const ws = await RawWebSocket.connect(server, { key });
      if ((await ws.next(() => true)).event === 'pusher:connection_established') return ws;
      ws.destroy();
    }
  }

  test('an app that is created by hand can be used where its key was known not to be there', async () => {
    assert.deepEqual(await onBoth((server) => refusal(server, app.key)), [4001, 4001]);
    await query('live', INSERT, [app.id, app.key]);
    for (const ws of await onBoth((server) => connected(server, app.key))) ws.destroy();
  });

  // What PostgreSQL was asked for apps so far, by both servers.
  const reads = async () =>
    (
      await query(
        'live',
        `SELECT coalesce(sum(calls), 0)::int AS calls FROM pg_stat_statements s
    JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = 'live' AND query LIKE 'SELECT "id"%WHERE%'`,
      )
    )[0].calls;

  // Does something for which all of the clients are closed with the code: within a second, or ten of a busy machine,
  // and not only when the record is read again.
  async function closesAll(clients, code, act) {
    const began = performance.now();
    await act();
    for (const client of clients) {
      assert.equal((await client.expect('pusher:error')).data.code, code);
      const { at } = await client.closing();
      assert.ok(at - began < 10_000, `${at - began} ms`);
      client.destroy();
    }
  }

  test('disabled and deleted through one, it is closed on both within a second', async () => {
    const clients = await onBoth((server) => connect(server, { app }));
    await closesAll(clients, 4003, () => admin(one, 'PATCH', '/live', { enabled: false }));
    assert.deepEqual(await onBoth((server) => refusal(server, app.key)), [4003, 4003]);
    await admin(two, 'PATCH', '/live', { enabled: true });
    (await connect(two, { app })).destroy();

    const gone = { id: 'gone', key: 'gone-key', secret: 's' };
    await admin(one, 'POST', '', gone);
    const others = await onBoth((server) => connect(server, { app: gone }));
    await closesAll(others, 4001, () => admin(one, 'DELETE', '/gone'));
    assert.deepEqual(await onBoth((server) => refusal(server, gone.key)), [4001, 4001]);
  });

  test('disabled and deleted by plain SQL, it is closed on both within a second, and nobody asked before', async () => {
    const client = await backend.client('live');
    await client.query("UPDATE applications SET enabled = true WHERE id = 'live'");
    for (const [code, statement] of [
      [4003, "UPDATE applications SET enabled = false WHERE id = 'live'"],
      [4001, "DELETE FROM applications WHERE id = 'live'"],
    ]) {
      const clients = await onBoth((server) => connected(server, app.key));
      const before = await reads();
      await client.query('BEGIN');
      await client.query(statement);
      for (let i = 0; i < 50; i++) await onBoth(async (server) => (await connect(server, { app })).destroy());
      // A notice of an earlier change may still be read by each server; the hundred connects ask for nothing.
      assert.ok((await reads()) - before <= 2);
      await closesAll(clients, code, () => client.query('COMMIT'));
      assert.ok((await reads()) - before <= 6, 'each has read it again, and nothing else');
      await client.query("UPDATE applications SET enabled = true WHERE id = 'live'");
    }
    await client.end();
  });

  test('a changed key works on both, the old one no more, and connections stay', async () => {
    await query('live', INSERT, ['keyed', 'first-key']);
    const clients = await onBoth((server) => connected(server, 'first-key'));
    const began = performance.now();
    await admin(one, 'PATCH', '/keyed', { key: 'second-key' });
    assert.equal(await refusal(one, 'first-key'), 4001);
    (await connect(one, { app: { id: 'keyed', key: 'second-key', secret: 's' } })).destroy();
    (await connected(two, 'second-key')).destroy();
    assert.equal(await refusal(two, 'first-key'), 4001);
    assert.ok(performance.now() - began < 10_000);
    for (const client of clients) {
      client.send({ event: 'pusher:ping', data: {} });
      await client.expect('pusher:pong');
      client.destroy();
    }
  });

  test('what changed while a server could not hear of it is in force when it listens again', async () => {
    const ids = Array.from({ length: 20 }, (_, i) => `unheard-${i}`);
    const by = (id) => ({ app: { id, key: `${id}-key`, secret: 's' } });
    for (const id of ids) await query('live', INSERT, [id, `${id}-key`]);
    const clients = [];
    for (const id of ids) clients.push(await connect(one, by(id)));
    const idle = ids.pop();
    clients.pop().destroy();
    assert.deepEqual(await onBoth((server) => refusal(server, 'late-key')), [4001, 4001]);
    const client = await backend.client('live');
    await query('postgres', 'ALTER DATABASE live ALLOW_CONNECTIONS false');
    try {
      await query(
        'postgres',
        `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = 'live' AND application_name = 'curlew'`,
      );
      await client.query("UPDATE applications SET enabled = false WHERE id LIKE 'unheard-%'");
      await client.query(INSERT, ['late', 'late-key']);
    } finally {
      await client.end();
      await query('postgres', 'ALTER DATABASE live ALLOW_CONNECTIONS true');
    }
    for (const held of clients) {
      assert.equal((await held.expect('pusher:error')).data.code, 4003);
      held.destroy();
    }
    assert.deepEqual(await onBoth((server) => refusal(server, `${idle}-key`)), [4003, 4003]);
    (await connect(one, { app: { id: 'late', key: 'late-key', secret: 's' } })).destroy();
  });

  test('a hundred thousand changes at once are read for the apps in use, and the next one comes through', async () => {
    const others = `INSERT INTO applications (id, key, secret, max_connections, max_client_events_per_second, enable_client_messages, enabled)
      SELECT 'storm-' || i, 'storm-key-' || i, 's', 0, 100, true, true FROM generate_series(1, 100000) i`;
    await query('live', others);
    const held = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        connect(one, { app: { id: `storm-${i + 1}`, key: `storm-key-${i + 1}`, secret: 's' } }),
      ),
    );
    const before = await reads();
    await query('live', "UPDATE applications SET max_connections = 1000 WHERE id LIKE 'storm-%'");
    await query('live', "UPDATE applications SET enabled = false WHERE id = 'storm-20'");
    assert.equal((await held[19].expect('pusher:error')).data.code, 4003);
    // Each may be read again while there are changes that nobody has told apart.
    assert.ok((await reads()) - before < 1000, `${(await reads()) - before} reads`);
    for (const ws of held) ws.destroy();
  });
});

describe('what lookups cost', () => {
  const APP = { id: 'app-1', key: 'key-1', secret: 's' };

  // A database whose lookups take their time.
  const slowPlace = (place, slowSeconds = 0.2) => fillPlace(backend, 'postgres', place, { apps: 1, slowSeconds });

  test('five hundred first connects at once for one app are one query', async (t) => {
    await slowPlace('crowd');
    const server = await serverFor(t, settings('crowd'));
    await untilListening(backend, 'postgres', 'crowd', server);
    const queries = await counterOf(backend, 'postgres', 'crowd');
    const clients = await Promise.all(Array.from({ length: 500 }, () => connect(server, { app: APP })));
    assert.equal(await queries(), 1);
    for (const client of clients) client.destroy();
  });

  /*
   * A record in use is read again after half to three quarters of its TTL and up to a tenth of it until the next look
   * at all records, so an answer that takes a tenth is in time with a seventh to spare for a busy machine. Without that
   * every read would be waited for.
   */
  test('while an app is in use, nobody waits for the store after the first, TTL after TTL', async (t) => {
    await slowPlace('steady', 0.1);
    const server = await serverFor(t, settings('steady', { ttl: 3 }));
    await untilListening(backend, 'postgres', 'steady', server);
    const queries = await counterOf(backend, 'postgres', 'steady');
    (await connect(server, { app: APP })).destroy();
    const waited = async () => (await fetchMetrics(server)).sum('app_lookups_total', { answer: 'miss' });
    const before = await waited();
    while ((await queries()) < 6) for (let i = 0; i < 20; i++) (await connect(server, { app: APP })).destroy();
    const late = (await waited()) - before;
    assert.ok(late <= 1, `${late} waited`); // none, but for a machine that has more to do than it can
  });
});
