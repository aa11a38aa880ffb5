/*
 * Places whose lookups may be slow, and which the database itself counts: PostgreSQL by pg_stat_statements, MariaDB by
 * its general log (start it with `generalLog`). A place is filled by hand, with apps `app-1`, `app-2`, ... whose keys
 * are `key-1`, `key-2`, ...
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { eventually } from '../metrics.js';
import { RawWebSocket } from '../raw-websocket.js';

const COLUMNS =
  'max_connections bigint, max_client_events_per_second bigint, enable_client_messages boolean, enabled boolean';

const SIDES = {
  postgres: {
    options: {},
    async run(backend, place, sql) {
      const client = await backend.client(place);
      try {
        return (await client.query(sql)).rows;
      } finally {
        await client.end();
      }
    },
    // A view in place of the table whose rows take their time each; the server cannot tell the difference.
    fill: (apps, slowSeconds) => [
      `CREATE TABLE stored (id varchar(255) PRIMARY KEY, key varchar(255) UNIQUE, secret text, ${COLUMNS})`,
      `INSERT INTO stored SELECT 'app-' || i, 'key-' || i, 's', 0, 100, true, true FROM generate_series(1, ${apps}) i`,
      slowSeconds === 0
        ? 'ALTER TABLE stored RENAME TO applications'
        : `CREATE VIEW applications AS SELECT s.* FROM stored s, LATERAL (SELECT pg_sleep(${slowSeconds}), s.id) slow`,
      'CREATE EXTENSION pg_stat_statements',
    ],
    async counted(backend, place, what) {
      const like = what === 'lookups' ? `AND query LIKE 'SELECT "id"%WHERE%'` : '';
      const [{ calls }] = await this.run(
        backend,
        place,
        `SELECT coalesce(sum(calls), 0)::int AS calls FROM pg_stat_statements s
        JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = '${place}' AND query NOT LIKE '%pg_stat_statements%' ${like}`,
      );
      return calls;
    },
  },
  mariadb: {
    options: { generalLog: true },
    async run(backend, place, sql) {
      const client = await backend.client(place);
      try {
        return (await client.query(sql))[0];
      } finally {
        await client.end();
      }
    },
    fill: (apps, slowSeconds) => [
      `CREATE TABLE stored (id varchar(255) PRIMARY KEY, \`key\` varchar(255) UNIQUE, secret text, ${COLUMNS})`,
      `INSERT INTO stored SELECT CONCAT('app-', seq), CONCAT('key-', seq), 's', 0, 100, true, true
        FROM seq_1_to_${Math.max(apps, 1)} WHERE seq <= ${apps}`,
      slowSeconds === 0
        ? 'RENAME TABLE stored TO applications'
        : `CREATE VIEW applications AS SELECT * FROM stored WHERE SLEEP(${slowSeconds}) = 0`,
    ],
    async counted(backend, place, what) {
      const lines = readFileSync(backend.address.generalLog, 'utf8')
        .split('\n')
        .filter((line) => / (Query|Execute)\t/.test(line));
      return (what === 'lookups' ? lines.filter((line) => /\tSELECT `id`.* WHERE /.test(line)) : lines).length;
    },
  },
};

export const countedOptions = (kind) => SIDES[kind].options;
// Resolves to the rows.
export const runSql = (backend, kind, place, sql) => SIDES[kind].run(backend, place, sql);

// Makes the place. A lookup that finds an app takes `slowSeconds`.
export async function fillPlace(backend, kind, place, { apps, slowSeconds = 0 }) {
  await backend.createPlace(place);
  for (const sql of SIDES[kind].fill(apps, slowSeconds)) await runSql(backend, kind, place, sql);
}

/*
 * Returns when a server has begun to listen for changes, at which moment it forgets what it knew before; resolves to
 * the number of lookups that this took. A notice about a name that is known to be absent shows it: the server forgets
 * the name for the notice, or, where the notice came too early, because it begins to listen. MariaDB has no notices.
 */
export async function untilListening(backend, kind, place, server) {
  if (kind !== 'postgres') return 0;
  const ws = await RawWebSocket.connect(server, { key: 'nobody' });
  assert.equal((await ws.expect('pusher:error')).data.code, 4001);
  ws.destroy();
  const [{ channel }] = await runSql(backend, kind, place, "SELECT 'curlew_' || md5('public.applications') AS channel");
  await runSql(backend, kind, place, `NOTIFY ${channel}, '{"id":"nobody","old_key":"nobody"}'`);
  await eventually(server, (metrics) => assert.equal(metrics.sum('app_cache_absent_entries'), 0));
  return 1;
}

// Counts the server's `lookups` of names, or all `statements`, from now on: resolves to a function that resolves to
// their number.
export async function counterOf(backend, kind, place, what = 'lookups') {
  const before = await SIDES[kind].counted(backend, place, what);
  return async () => (await SIDES[kind].counted(backend, place, what)) - before;
}
