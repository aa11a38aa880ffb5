// SIGHUP re-reads the apps of the configuration file and applies the difference to live connections.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { api, publish } from '../lib/api.js';
import {
  closedWithError,
  connect,
  join,
  nextError,
  stillOpen,
  subscribe,
  subscribeRefused,
  trigger,
} from '../lib/client.js';
import { assertRefusal, nextOn, subscriber } from '../lib/events.js';
import { folderWith, start } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, BINARY, serverFor, THREADS_BINARY } from '../lib/server.js';

const OTHER = { id: 'other-id', key: 'other-key', secret: 'other-secret', enable_client_messages: true };

async function connectRefused(server, t, app, code) {
  const ws = await RawWebSocket.connect(server, { key: app.key });
  t.after(() => ws.destroy());
  await closedWithError(ws, code);
}

async function assertReload(server, change, [added, changed, removed]) {
  const line = await server.reload(change);
  assert.equal(line.message, `apps reloaded: ${added} added, ${changed} changed, ${removed} removed`);
}

describe('apps come and go', () => {
  test('an app that was added takes connections and requests', async (t) => {
    const server = await serverFor(t);
    const ws = await connect(server, { t });
    await connectRefused(server, t, OTHER, 4001);
    assertRefusal(await api(server, 'GET', '/channels', { app: OTHER }), 404);
    await assertReload(server, { apps: [APP, OTHER] }, [1, 0, 0]);
    await subscriber(server, t, 'c', { app: OTHER });
    assert.equal((await api(server, 'GET', '/channels/c', { app: OTHER })).json.occupied, true);
    assert.deepEqual(await stillOpen(ws), []);
  });

  test('the connections of an app that was removed are closed with 4001, the others stay', async (t) => {
    const server = await serverFor(t, { apps: [APP, OTHER], config: { workers: 4 }, binary: THREADS_BINARY });
    const gone = await Promise.all(Array.from({ length: 30 }, () => subscriber(server, t, 'c', { app: OTHER })));
    const stays = await subscriber(server, t, 'c');
    await assertReload(server, { apps: [APP] }, [0, 0, 1]);
    for (const ws of gone) await closedWithError(ws, 4001);
    await connectRefused(server, t, OTHER, 4001);
    assertRefusal(await api(server, 'GET', '/channels', { app: OTHER }), 404);
    await publish(server, { name: 'e', channel: 'c', data: 'x' });
    assert.equal((await nextOn(stays, 'c')).event, 'e');
  });

  describe('many connections of an app that goes', () => {
    const many = { ...OTHER, max_connections: 0 };
    const SPREAD_MS = 900;

    // One worker, so that its turns have one order; `stays` is a connection of another app.
    async function crowd(t, count) {
      const server = await serverFor(t, { apps: [APP, many], config: { workers: 1 } });
      const stays = await connect(server, { t });
      const clients = [];
      while (clients.length < count) {
        clients.push(...(await Promise.all(Array.from({ length: 100 }, () => connect(server, { t, app: many })))));
      }
      return { server, stays, clients };
    }

    test('up to a thousand are closed at once', async (t) => {
      const { server, stays, clients } = await crowd(t, 1000);
      await assertReload(server, { apps: [APP] }, [0, 0, 1]);
      await Promise.race(clients.map((ws) => ws.closing()));
      assert.deepEqual(await stillOpen(stays), []); // answered in a later turn than the one that began to close
      for (let i = 0; i < 20; i++) await setImmediate(); // what is here by now is read
      assert.equal(clients.filter((ws) => ws.closeFrame === null).length, 0, 'open after the turn');
      for (const ws of clients) await closedWithError(ws, 4001);
    });

    test('more of them are spread over a second', async (t) => {
      const { server, stays, clients } = await crowd(t, 1500);
      const began = performance.now();
      await assertReload(server, { apps: [APP] }, [0, 0, 1]);
      const after = (
        await Promise.all(
          clients.map(async (ws) => {
            await closedWithError(ws, 4001);
            return (await ws.closing()).at - began;
          }),
        )
      ).sort((a, b) => a - b);
      const early = after.findIndex((ms, i) => ms < (SPREAD_MS * i) / clients.length);
      assert.equal(early, -1, `number ${early} of ${clients.length} came after ${after[early]} ms`);
      // a machine ten times slower keeps this
      assert.ok(after.at(-1) < 10 * SPREAD_MS, `the last one came after ${after.at(-1)} ms`);
      assert.deepEqual(await stillOpen(stays), []);
    });
  });

  test('an app that comes back works again, without what it had', async (t) => {
    const server = await serverFor(t, { apps: [APP, OTHER] });
    const ws = await subscriber(server, t, 'c', { app: OTHER });
    await server.reload({ apps: [APP] });
    await closedWithError(ws, 4001);
    await ws.closed();
    await assertReload(server, { apps: [APP, OTHER] }, [1, 0, 0]);
    assert.deepEqual((await api(server, 'GET', '/channels', { app: OTHER })).json, { channels: {} });
    const back = await subscriber(server, t, 'c', { app: OTHER });
    await publish(server, { name: 'e', channel: 'c', data: 'x' }, { app: OTHER });
    assert.equal((await nextOn(back, 'c')).event, 'e');
  });

  test('each change is one line of the log with the names of the fields, of many the first hundred', async (t) => {
    const changed = { ...OTHER, secret: 'hunter2', max_connections: 3 };
    const many = Array.from({ length: 150 }, (_, i) => ({ id: `many-${i}`, key: `many-key-${i}`, secret: 'hunter2' }));
    const server = await serverFor(t, { apps: [APP, OTHER] });
    const lines = async (apps) => {
      const since = server.log.all.length;
      await server.reload({ apps });
      return server.log.all
        .slice(since)
        .filter(({ level, message }) => /info|warn/.test(level) && /^(app|more) /.test(message));
    };
    const by = 'by a reload of the configuration';
    assert.deepEqual(
      (await lines([APP, changed])).map(({ message }) => message),
      [`app other-id was changed ${by}: secret, max_connections`],
    );
    assert.deepEqual(
      (await lines([APP])).map(({ message }) => message),
      [`app other-id was deleted ${by}; it had 0 connections here`],
    );
    const created = (await lines([APP, ...many])).map(({ message }) => message);
    assert.equal(created[0], `app many-0 was created ${by}: id, key, secret`);
    // A slow machine may take more than one second for them, and each second has a hundred lines.
    const more = created.indexOf(`more than 100 apps were changed ${by} within a second; the others are not named`);
    assert.ok(more >= 0 ? more <= 100 : created.length === 150, created.at(-1));
    assert.ok(!server.log.all.some(({ message }) => /hunter2/.test(message)));
  });

  test('a file without changes changes nothing', async (t) => {
    const server = await serverFor(t, { apps: [APP, OTHER] });
    const ws = await connect(server, { t });
    await assertReload(server, {}, [0, 0, 0]);
    await assertReload(server, { apps: [OTHER, APP] }, [0, 0, 0]);
    assert.deepEqual(await stillOpen(ws), []);
  });

  test('requests and connections go on while the file is re-read again and again', async (t) => {
    const server = await serverFor(t, { apps: [APP], binary: THREADS_BINARY });
    const ws = await subscriber(server, t, 'c');
    let reloading = true;
    const reloads = (async () => {
      for (let i = 0; i < 20; i++)
        await server.reload({ apps: [{ ...APP, max_connections: 100 + i }, ...(i % 2 ? [OTHER] : [])] });
      reloading = false;
    })();
    let sent = 0;
    while (reloading) {
      await publish(server, { name: `e${sent++}`, channel: 'c', data: 'x' });
      await (await connect(server)).close();
    }
    await reloads;
    const heard = (await ws.inbox.take(sent)).map((message) => message.event);
    assert.deepEqual(
      heard,
      Array.from({ length: sent }, (_, i) => `e${i}`),
    );
  });
});

describe('an app changes', () => {
  test('disabled: its connections are closed with 4003 and requests are 403, until it is enabled', async (t) => {
    const server = await serverFor(t, { apps: [APP, OTHER] });
    const ws = await connect(server, { t, app: OTHER });
    const stays = await connect(server, { t });
    await assertReload(server, { apps: [APP, { ...OTHER, enabled: false }] }, [0, 1, 0]);
    await closedWithError(ws, 4003);
    await connectRefused(server, t, OTHER, 4003);
    assertRefusal(await api(server, 'GET', '/channels', { app: OTHER }), 403);
    assert.deepEqual(await stillOpen(stays), []);
    await assertReload(server, { apps: [APP, OTHER] }, [0, 1, 0]);
    await connect(server, { t, app: OTHER });
    assert.equal((await api(server, 'GET', '/channels', { app: OTHER })).status, 200);
  });

  test('new limits apply to connections that are open', async (t) => {
    const server = await serverFor(t, { apps: [{ ...APP, enable_client_messages: false }] });
    const ws = await subscriber(server, t, 'private-c');
    const other = await subscriber(server, t, 'private-c');
    trigger(ws, 'private-c', 'client-event', {});
    await nextError(ws, 4301);

    await assertReload(server, { apps: [APP] }, [0, 1, 0]);
    trigger(ws, 'private-c', 'client-event', {});
    assert.equal((await nextOn(other, 'private-c')).event, 'client-event');

    const limits = { max_event_name_length: 10, max_channel_name_length: 12, max_presence_members_per_channel: 1 };
    await assertReload(server, { apps: [{ ...APP, ...limits }] }, [0, 1, 0]);
    trigger(ws, 'private-c', 'client-event', {});
    assert.match(await nextError(ws, 4301), /\b10\b/);
    assert.match(await subscribeRefused(ws, 'c'.repeat(13), { type: 'LimitReached', status: 4009 }), /\b12\b/);
    await join(ws, 'presence-c', { user_id: '1' });
    const full = await subscribeRefused(
      other,
      'presence-c',
      { type: 'LimitReached', status: 4004 },
      { user: { user_id: '2' } },
    );
    assert.match(full, /\b1\b/);
    const response = await api(server, 'POST', '/events', { body: { name: 'n'.repeat(11), channel: 'c', data: '' } });
    assertRefusal(response, 400, /\b10\b/);

    await assertReload(server, { apps: [APP] }, [0, 1, 0]);
    await join(other, 'presence-c', { user_id: '2' });
  });

  test('a lowered max_connections closes nobody and counts those who are there', async (t) => {
    const server = await serverFor(t, { apps: [{ ...APP, max_connections: 3 }] });
    const open = [await connect(server, { t }), await connect(server, { t }), await connect(server, { t })];
    await assertReload(server, { apps: [{ ...APP, max_connections: 2 }] }, [0, 1, 0]);
    for (const ws of open) assert.deepEqual(await stillOpen(ws), []);
    await open[0].close();
    await connectRefused(server, t, APP, 4004);
    await open[1].close();
    const last = await connect(server, { t });
    await connectRefused(server, t, APP, 4004);
    await assertReload(server, { apps: [{ ...APP, max_connections: 3 }] }, [0, 1, 0]);
    await connect(server, { t });
    assert.deepEqual(await stillOpen(last), []);
  });

  test('another secret: the old one is refused at once, connections stay', async (t) => {
    const server = await serverFor(t);
    const ws = await subscriber(server, t, 'private-before');
    const changed = { ...APP, secret: 'another-secret' };
    await assertReload(server, { apps: [changed] }, [0, 1, 0]);
    assertRefusal(await api(server, 'GET', '/channels'), 401);
    assert.equal((await api(server, 'GET', '/channels', { app: changed })).status, 200);
    await subscribeRefused(ws, 'private-after', { type: 'AuthError', status: 401 });
    ws.app = changed;
    await subscribe(ws, 'private-after');
    await publish(server, { name: 'e', channels: ['private-before', 'private-after'], data: 'x' }, { app: changed });
    assert.equal((await nextOn(ws, 'private-before')).event, 'e');
    assert.equal((await nextOn(ws, 'private-after')).event, 'e');
  });

  test('another key: the old one stops working at once, connections made with it stay', async (t) => {
    const server = await serverFor(t);
    const ws = await subscriber(server, t, 'c');
    const changed = { ...APP, key: 'another-key' };
    await assertReload(server, { apps: [changed] }, [0, 1, 0]);
    await connectRefused(server, t, APP, 4001);
    assertRefusal(await api(server, 'GET', '/channels'), 401, /auth_key/);
    const fresh = await subscriber(server, t, 'c', { app: changed });
    await publish(server, { name: 'e', channel: 'c', data: 'x' }, { app: changed });
    for (const subscribed of [ws, fresh]) assert.equal((await nextOn(subscribed, 'c')).event, 'e');
  });

  test('apps may exchange their keys', async (t) => {
    const server = await serverFor(t, { apps: [APP, OTHER] });
    const swapped = [
      { ...APP, key: OTHER.key },
      { ...OTHER, key: APP.key },
    ];
    await assertReload(server, { apps: swapped }, [0, 2, 0]);
    await subscriber(server, t, 'mine', { app: swapped[0] });
    assert.equal((await api(server, 'GET', '/channels/mine', { app: swapped[0] })).json.occupied, true);
    assert.equal((await api(server, 'GET', '/channels/mine', { app: swapped[1] })).json.occupied, false);
  });
});

describe('a bad file changes nothing, and the log says why', () => {
  const apps = [APP, OTHER];
  const files = {
    'no JSON': ['{ "app_manager": ', /config\.json/],
    'an empty file': ['', /config\.json/],
    'apps that are no array': [JSON.stringify({ app_manager: { array: { apps: {} } } }), /app_manager\.array\.apps/],
    'apps that are kept in a store now': [
      JSON.stringify({ app_manager: { driver: 'sqlite' } }),
      /app_manager\.driver.*restart/,
    ],
    'a wrong type elsewhere': [JSON.stringify({ port: 'many', app_manager: { array: { apps: [] } } }), /port/],
    'a number out of range elsewhere': [
      JSON.stringify({ activity_timeout: 0, app_manager: { array: { apps: [] } } }),
      /activity_timeout/,
    ],
  };
  for (const [what, [text, pattern]] of Object.entries(files)) {
    test(what, async (t) => {
      const server = await serverFor(t, { apps });
      const open = [await connect(server, { t }), await connect(server, { t, app: OTHER })];
      const since = server.log.all.length;
      const outcome = await server.reload({ text });
      assert.doesNotMatch(outcome.message, /apps reloaded/);
      assert.match(outcome.level, /error|warn/i);
      const lines = server.log.all.slice(since).filter((line) => pattern.test(line.message));
      assert.equal(lines.length, 1, `the log names what is wrong, once: ${JSON.stringify(lines)}`);
      for (const ws of open) assert.deepEqual(await stillOpen(ws), []);
      for (const app of apps) assert.equal((await api(server, 'GET', '/channels', { app })).status, 200);
      await assertReload(server, { apps: [APP] }, [0, 0, 1]);
    });
  }

  test('a record that turns invalid does not replace the last valid one; a new one is answered 500', async (t) => {
    const server = await serverFor(t, { apps });
    const ws = await connect(server, { t, app: OTHER });
    const broken = { id: 'broken', key: 'broken-key', secret: 'broken-secret', max_event_batch_size: 'many' };
    const since = server.log.all.length;
    await server.reload({ apps: [{ ...APP, max_event_name_length: 7 }, { ...OTHER, max_connections: 1.5 }, broken] });
    for (const [id, field] of [
      ['other-id', 'max_connections'],
      ['broken', 'max_event_batch_size'],
    ]) {
      const named = (line) => line.message.includes(id) && line.message.includes(field);
      assert.ok(server.log.all.slice(since).some(named), `the log names ${field} of ${id}`);
    }
    assert.deepEqual(await stillOpen(ws), []);
    assert.equal((await api(server, 'GET', '/channels', { app: OTHER })).status, 200);
    assertRefusal(await api(server, 'GET', '/channels', { app: broken }), 500, /max_event_batch_size/);
    await connectRefused(server, t, broken, 4100);
    // The good one beside them has changed.
    assertRefusal(
      await api(server, 'POST', '/events', { body: { name: 'n'.repeat(8), channel: 'c', data: '' } }),
      400,
      /\b7\b/,
    );
  });
});

test('a reload that is asked for while the server starts does not end it', async (t) => {
  const folder = folderWith(t);
  const file = path.join(folder, 'config.json');
  execFileSync('mkfifo', [file]);
  const { child, err } = start(t, BINARY, ['serve', '--config', file]);
  const pipe = await open(file, 'w'); // opens when the server reads
  child.kill('SIGHUP');
  await pipe.write(JSON.stringify({ port: 0, metrics: { port: 0 }, app_manager: { array: { apps: [APP] } } }));
  await pipe.close();
  await err.next((line) => /\bready\b/.test(line));
});

test('settings that a reload does not apply are named, and those that it applies are not', async (t) => {
  const server = await serverFor(t);
  const warnings = () => server.log.all.filter((line) => /need a restart/.test(line.message));
  await assertReload(server, { config: { event_limits: { max_name_length: 50 } } }, [0, 1, 0]);
  assert.deepEqual(warnings(), []);
  const config = {
    port: 1,
    metrics: { prometheus: { prefix: 'x_' } },
    cors: { origin: ['https://a.example'] },
    database: { mysql: { password: 'hunter2' } },
    app_manager: { scylladb: { keyspace: 'x' } },
  };
  await assertReload(server, { config }, [0, 0, 0]);
  assert.deepEqual(
    warnings().map(({ level, message }) => [level.toLowerCase().slice(0, 4), message]),
    [
      [
        'warn',
        'these settings have changed and need a restart: port, database.mysql.password, app_manager.scylladb.keyspace, ' +
          'cors.origin, metrics.prometheus.prefix',
      ],
    ],
  );
});
