// PostgreSQL behind PgBouncer, which hands out its connections by transaction or for as long as a client is there.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { after } from 'node:test';

import { appsDone } from '../lib/apps-command.js';
import { Daemon, freePorts, giveToNobody, program } from '../lib/backends/daemon.js';
import { backendFor } from '../lib/backends/index.js';
import { Postgres } from '../lib/backends/postgres.js';
import { connect } from '../lib/client.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const backend = await backendFor({ after }, 'postgres');
const APP = { id: 'a', key: 'a-key', secret: 's' };

// A PgBouncer for a test, and a database behind it with one app: {sql(statement, values), settings}.
async function pooled(t, mode) {
  await backend.createPlace(mode);
  const [port] = await freePorts(1);
  const address = { ...backend.address, port };
  const { host, user, password } = address;
  const file = (name) => path.join(backend.folder, `${mode}.${name}`);
  writeFileSync(file('users'), `"${user}" "${password}"\n`);
  writeFileSync(
    file('ini'),
    `[databases]\n* = host=${host} port=${backend.address.port}\n[pgbouncer]\nlisten_addr = ${host}\nlisten_port = ${port}\n` +
      `unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = ${file('users')}\npool_mode = ${mode}\n`,
  );
  giveToNobody(file('users'), file('ini'));
  const daemon = new Daemon({
    name: 'PgBouncer',
    asNobody: true,
    log: file('log'),
    command: [program('pgbouncer', 'pgbouncer'), file('ini')],
    probe: async () => (await Postgres.client(address, mode)).end(),
  });
  await daemon.start();
  const client = await backend.client(mode);
  t.after(async () => {
    await client.end();
    await daemon.stop();
  });
  const settings = Postgres.config(address, mode);
  const config = path.join(folderWith(t, { 'config.json': settings }), 'config.json');
  await appsDone(t, ['create', '-c', config, '--id', APP.id, '--key', APP.key, '--secret', APP.secret]);
  return { sql: (statement, values) => client.query(statement, values), settings, config };
}

async function refusal(server, key) {
  const ws = await RawWebSocket.connect(server, { key });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

test('by_transaction_apps_are_found_and_written_and_that_changes_come_late_is_said', async (t) => {
  const { settings, config } = await pooled(t, 'transaction');
  const server = await serverFor(t, {
    apps: [],
    config: { ...settings, app_manager: { ...settings.app_manager, cache: { ttl: 1 } } },
  });
  const live = await connect(server, { app: APP });
  assert.deepEqual(
    await Promise.all(Array.from({ length: 200 }, (_, i) => refusal(server, `unknown-${i}`))),
    Array(200).fill(4001),
  );
  const { level, message } = await server.waitForLog(/cannot be listened to/);
  assert.equal(level, 'warn');
  assert.match(message, /PostgreSQL at 127\.0\.0\.1:\d+ .*pool_mode session/);
  await appsDone(t, ['update', APP.id, '-c', config, '--set', 'enabled=false']);
  assert.equal((await live.expect('pusher:error')).data.code, 4003);
  await appsDone(t, ['delete', APP.id, '-c', config]);
});

test('by_session_a_row_edited_by_hand_arrives_at_once', async (t) => {
  const { sql, settings } = await pooled(t, 'session');
  const server = await serverFor(t, { apps: [], config: settings });
  const live = await connect(server, { app: APP });
  await sql('UPDATE applications SET enabled = false');
  assert.equal((await live.expect('pusher:error')).data.code, 4003);
  assert.ok(!server.log.all.some((line) => /listened/.test(line.message)));
});
