// `curlew apps copy` from each kind of store to the next, round to the one where it began, against real databases.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import {
  BARE,
  NONE,
  apps,
  appsDone,
  counts,
  exported,
  interruptedBy,
  manyApps,
  sqliteConfig,
} from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { folderWith } from '../lib/process.js';

const PLACE = 'round';
const COUNT = 230; // some pages
const LIST = manyApps(COUNT);
const BY_ID = new Map(LIST.map((app) => [app.id, app]));

const ROUTE = ['postgres', 'mariadb', 'dynamodb', 'cassandra'];

// Makes the webhooks of an app what no server writes.
const BREAK = {
  postgres: (client, id) => client.query("UPDATE applications SET webhooks = '3' WHERE id = $1", [id]),
  mariadb: (client, id) => client.query("UPDATE applications SET webhooks = '3' WHERE id = ?", [id]),
  cassandra: (client, id) => client.execute("UPDATE round.applications SET webhooks = '3' WHERE id = ?", [id]),
  async dynamodb(client, id) {
    const { UpdateItemCommand } = await import('@aws-sdk/client-dynamodb');
    await client.send(
      new UpdateItemCommand({
        TableName: PLACE,
        Key: { id: { S: id } },
        UpdateExpression: 'SET webhooks = :w',
        ExpressionAttributeValues: { ':w': { S: '3' } },
      }),
    );
  },
};

const CLOSE = { postgres: 'end', mariadb: 'end', cassandra: 'shutdown', dynamodb: 'destroy' };

function fileFor(t, config) {
  return path.join(folderWith(t, { 'config.json': config }), 'config.json');
}

describe('copy between stores of different kinds', { timeout: LONG_TIMEOUT_MS }, () => {
  const ends = [];
  const backends = {};
  const whole = { after: (end) => ends.push(end) };
  const configs = {};
  let start;

  before(async () => {
    await Promise.all(
      ROUTE.map(async (kind) => {
        backends[kind] = await backendFor(whole, kind);
        await backends[kind].createPlace(PLACE);
        configs[kind] = fileFor(whole, backends[kind].config(PLACE));
      }),
    );
    start = sqliteConfig(whole);
    await appsDone(whole, ['import', '-', '-c', start], { input: JSON.stringify({ apps: LIST }) });
  });
  after(async () => {
    for (const end of ends.reverse()) await end();
  });

  ROUTE.forEach((kind, i) => {
    const from = () => (i === 0 ? start : configs[ROUTE[i - 1]]);

    test(`to ${kind}: nothing is there for a reader and for a dry run, and a dry run makes nothing`, async (t) => {
      const to = configs[kind];
      for (let round = 0; round < 2; round++) {
        const { code, stderr } = await apps(t, ['list', '-c', to]);
        assert.equal(code, 1);
        assert.match(stderr, /no apps are kept there yet: .*there is no table/);
        assert.deepEqual(counts(await appsDone(t, ['copy', '--from', from(), '--to', to, '--dry-run', '--json'])), {
          ...NONE,
          created: COUNT,
        });
      }
    });

    test(`to ${kind}: a kill in the middle leaves whole records, and the next run finishes, with its progress`, async (t) => {
      const args = ['copy', '--from', from(), '--to', configs[kind]];
      assert.equal((await interruptedBy(t, args, 'SIGKILL', 20, Math.random() * 10)).signal, 'SIGKILL');
      const there = await exported(t, configs[kind]);
      assert.ok(there.length >= 20 && there.length < COUNT, `${there.length} apps`);
      for (const app of there) assert.deepEqual(app, BY_ID.get(app.id));
      const stopped = await interruptedBy(t, args, 'SIGINT', 20, 0);
      assert.equal(stopped.code, 1, stopped.stderr);
      assert.match(stopped.stderr, /stopped before the end; running it again goes on from there/);
      const { code, stdout, stderr } = await apps(t, args);
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^100 apps\n200 apps\n/m);
      const [, created, equal] = stdout
        .match(/^(\d+) created, 0 updated, (\d+) equal, 0 in conflict, 0 failed\n$/)
        .map(Number);
      assert.equal(created + equal, COUNT);
      assert.ok(equal >= there.length + 20);
      assert.deepEqual(await exported(t, configs[kind]), LIST);
      assert.deepEqual(counts(await appsDone(t, [...args, '--json'])), { ...NONE, equal: COUNT });
    });

    test(`to ${kind}: an id and a key that are taken are said, and neither run nor dry run changes what is there`, async (t) => {
      const other = sqliteConfig(t);
      const list = [
        { ...LIST[1], max_connections: 7 },
        { ...BARE, id: 'thief', key: LIST[2].key },
      ];
      await appsDone(t, ['import', '-', '-c', other], { input: JSON.stringify({ apps: list }) });
      for (const more of [['--dry-run'], []]) {
        const { code, stdout, stderr } = await apps(t, [
          'copy',
          '--from',
          other,
          '--to',
          configs[kind],
          '--json',
          ...more,
        ]);
        assert.equal(code, 1);
        assert.deepEqual(counts(JSON.parse(stdout)), { ...NONE, conflicts: 1, failed: 1 });
        assert.match(
          stderr,
          new RegExp(`app \\\\"${list[0].id}\\\\": .*differs in max_connections; --update overwrites it`),
        );
        assert.match(stderr, new RegExp(`app \\\\"thief\\\\": .*\\bkey\\b.*\\b${LIST[2].id}\\b`));
        assert.deepEqual(await exported(t, configs[kind]), LIST);
      }
    });

    test(`from ${kind}: a broken record is named and the others are copied`, async (t) => {
      await appsDone(t, [
        'create',
        '-c',
        configs[kind],
        '--id',
        'app-00100-broken',
        '--key',
        'broken',
        '--secret',
        's',
      ]);
      const client = await backends[kind].client(PLACE);
      await BREAK[kind](client, 'app-00100-broken');
      await client[CLOSE[kind]]();
      const to = sqliteConfig(t);
      const { code, stdout, stderr } = await apps(t, ['copy', '--from', configs[kind], '--to', to]);
      assert.equal(code, 1);
      assert.equal(stdout, `${COUNT} created, 0 updated, 0 equal, 0 in conflict, 1 failed\n`);
      assert.match(stderr, /broken record, "app-00100-broken": app "app-00100-broken": webhooks must be /);
      assert.deepEqual(await exported(t, to), LIST);
      await appsDone(t, ['delete', 'app-00100-broken', '-c', configs[kind]]);
    });
  });

  test('and back to where it began, byte for byte', async (t) => {
    const end = sqliteConfig(t);
    await appsDone(t, ['copy', '--from', configs[ROUTE.at(-1)], '--to', end, '--json']);
    assert.equal(await appsDone(t, ['export', '-c', end]), await appsDone(t, ['export', '-c', start]));
  });
});
