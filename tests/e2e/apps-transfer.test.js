// `curlew apps import`, `export` and `copy`: many apps at a time, and what an interruption leaves.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, readFileSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';

import {
  BARE,
  EVERY_FIELD,
  NONE,
  apps,
  appsDone,
  counts,
  exported,
  interruptedBy,
  manyApps,
  sqliteConfig,
  startApps,
} from '../lib/apps-command.js';
import { folderWith } from '../lib/process.js';

function fileWith(t, list) {
  return path.join(folderWith(t, { 'apps.json': { apps: list } }), 'apps.json');
}

async function storeWith(t, list) {
  const config = sqliteConfig(t);
  await appsDone(t, ['import', fileWith(t, list), '-c', config]);
  return config;
}

describe('export and import', () => {
  test('give every field back: two exports are equal byte by byte', async (t) => {
    const first = await storeWith(t, [EVERY_FIELD, BARE]);
    const text = await appsDone(t, ['export', '-c', first]);
    assert.deepEqual(JSON.parse(text).apps, [BARE, EVERY_FIELD]);
    const second = sqliteConfig(t);
    await appsDone(t, ['import', '-', '-c', second], { input: `\ufeff${text}` }); // as an editor on Windows saves it
    assert.equal(await appsDone(t, ['export', '-c', second]), text);
  });

  test('an exported file is for its owner only, and nothing is left beside it', async (t) => {
    const config = await storeWith(t, [BARE]);
    const folder = folderWith(t, { 'out.json': 'what was there' });
    const file = path.join(folder, 'out.json');
    await appsDone(t, ['export', '-c', config, '--output', file]);
    assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { apps: [BARE] });
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(folder), ['out.json']);
  });

  test('a pipe is written, not replaced, and so is what a link points to', async (t) => {
    const config = await storeWith(t, [BARE]);
    const folder = folderWith(t, { 'out.json': 'what was there' });
    const [pipe, link] = ['pipe', 'link'].map((name) => path.join(folder, name));
    execFileSync('mkfifo', [pipe]);
    symlinkSync('out.json', link);
    const [read] = await Promise.all([readFile(pipe, 'utf8'), appsDone(t, ['export', '-c', config, '-o', pipe])]);
    assert.deepEqual(JSON.parse(read), { apps: [BARE] });
    assert.ok(statSync(pipe).isFIFO());
    await appsDone(t, ['export', '-c', config, '-o', link]);
    assert.equal(readFileSync(path.join(folder, 'out.json'), 'utf8'), read);
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.deepEqual(readdirSync(folder).sort(), ['link', 'out.json', 'pipe']);
  });

  test('a folder is not read as if it were a file', async (t) => {
    const folder = folderWith(t);
    const { code, stderr } = await apps(t, ['import', folder, '-c', sqliteConfig(t)]);
    assert.deepEqual([code, stderr], [1, `curlew: cannot read ${folder}: Is a directory\n`]);
  });

  test('a file that cannot be written is named as it was given', async (t) => {
    const { code, stderr } = await apps(t, [
      'export',
      '-c',
      await storeWith(t, [BARE]),
      '--output',
      '/nowhere/out.json',
    ]);
    assert.equal(code, 1);
    assert.equal(stderr, 'curlew: cannot write /nowhere/out.json: No such file or directory\n');
  });

  test('an export whose reader goes away ends in silence', async (t) => {
    const config = sqliteConfig(t);
    await appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: manyApps(1500) }) });
    for (const words of [['export'], ['list', '--json']]) {
      const { child, ended } = startApps(t, [...words, '-c', config]);
      child.stdout.destroy();
      const { code, signal, stderr } = await ended;
      assert.deepEqual([code, signal, stderr], [null, 'SIGPIPE', '']);
    }
  });

  test('2,500 apps, with progress; a second time all are equal', async (t) => {
    const list = manyApps(2500);
    const config = sqliteConfig(t);
    const file = fileWith(t, list);
    const { code, stderr } = await apps(t, ['import', file, '-c', config]);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, Array.from({ length: 25 }, (_, i) => `${(i + 1) * 100} of 2500 apps\n`).join(''));
    assert.deepEqual(await exported(t, config), list);
    assert.deepEqual(counts(await appsDone(t, ['import', file, '-c', config, '--json'])), { ...NONE, equal: 2500 });
  });

  test('a broken record is reported by place, id and field, and the others go on', async (t) => {
    const config = sqliteConfig(t);
    const list = [
      BARE,
      { ...BARE, id: 'x', key: 'x', webhooks: 3 },
      { key: 'k' },
      7,
      { ...BARE, id: 'y' },
      { ...BARE, id: 'z', key: 'z' },
    ];
    const { code, stdout, stderr } = await apps(t, ['import', fileWith(t, list), '-c', config]);
    assert.equal(code, 1);
    assert.equal(stdout, '2 created, 0 updated, 0 equal, 0 in conflict, 4 failed\n');
    const lines = stderr.trimEnd().split('\n');
    assert.match(lines[0], /^curlew: apps\[1\]: app "x": webhooks must be /);
    assert.equal(lines[1], 'curlew: apps[2]: an app without an id: id is missing');
    assert.equal(lines[2], 'curlew: apps[3]: an app must be an object with id, key and secret');
    assert.match(lines[3], /^curlew: app "y": .*\bkey\b.*\bbare\b/);
    assert.deepEqual(
      (await exported(t, config)).map(({ id }) => id),
      ['bare', 'z'],
    );
  });

  test('what differs is a conflict, and is overwritten with --update only', async (t) => {
    const config = await storeWith(t, [BARE]);
    const file = fileWith(t, [{ ...BARE, max_connections: 7, max_event_batch_size: 100 }]);
    const { code, stderr } = await apps(t, ['import', file, '-c', config]);
    assert.equal(code, 1);
    assert.match(stderr, /app "bare": .* differs in max_connections, max_event_batch_size; --update overwrites it/);
    assert.deepEqual(await exported(t, config), [BARE]);
    assert.deepEqual(counts(await appsDone(t, ['import', file, '-c', config, '--update', '--json'])), {
      ...NONE,
      updated: 1,
    });
    assert.equal((await exported(t, config))[0].max_connections, 7);
  });

  test('what means nothing inside of a webhook is a warning, and the app is created', async (t) => {
    const config = sqliteConfig(t);
    const webhooks = [
      {
        url: 'https://shop.example/hook',
        event_types: ['member_added', 'joined'],
        filter: { channel_name_starts_with: 'private-' },
      },
    ];
    const { code, stdout, stderr } = await apps(t, [
      'import',
      fileWith(t, [{ ...BARE, webhooks, colour: 'blue' }]),
      '-c',
      config,
    ]);
    assert.deepEqual([code, stdout], [0, '1 created, 0 updated, 0 equal, 0 in conflict, 0 failed\n'], stderr);
    for (const part of [
      'webhooks\\[0\\]\\.event_types\\[1\\]: "joined"',
      'webhooks\\[0\\]\\.filter\\.channel_name_starts_with',
      '.* no place for colour',
    ]) {
      assert.match(stderr, new RegExp(`^curlew: warning: app "bare": ${part}`, 'm'));
    }
    assert.equal(stderr.trimEnd().split('\n').length, 3, stderr);
    const created = await apps(t, ['create', '--set', `webhooks=${JSON.stringify(webhooks)}`, '--json', '-c', config]);
    assert.equal(created.code, 0);
    assert.match(created.stderr, /\{"error":"warning: app .*webhooks\[0\]\.filter\.channel_name_starts_with/);
  });

  test('an app that stands twice in a file is taken once; a second one that differs is a conflict, or its key is taken', async (t) => {
    const config = sqliteConfig(t);
    const list = [BARE, BARE, { ...BARE, max_connections: 3 }, { ...BARE, id: 'other' }];
    const { code, stdout, stderr } = await apps(t, ['import', fileWith(t, list), '-c', config]);
    assert.deepEqual([code, stdout], [1, '1 created, 0 updated, 1 equal, 1 in conflict, 1 failed\n']);
    assert.match(stderr, /app "bare": .*differs in max_connections/);
    assert.match(stderr, /app "other": .*\bkey\b.*\bbare\b/);
    assert.deepEqual(await exported(t, config), [BARE]);
  });

  test('nonsense is refused before the store is touched: no file, a folder, nothing, bytes, two members of one name, endless brackets', async (t) => {
    const config = sqliteConfig(t);
    const folder = folderWith(t, {});
    const toml = path.join(folderWith(t, { 'config.toml': '[app_manager]\ndriver = "memory"\n' }), 'config.toml');
    const nonsense = [
      [path.join(folder, 'none.json'), '', /cannot read .*none\.json: No such file/],
      [folder, '', /is a directory|not JSON/i],
      ['-', '', /standard input:\d+:\d+: this is not JSON/],
      ['-', Buffer.from([0xff, 0xfe, 0, 1]), /not JSON/],
      ['-', '{"apps":[],"apps":[]}', /not JSON: duplicate object key/],
      ['-', '['.repeat(100_000), /not JSON: the brackets are nested too deeply/],
      ['-', '{"apps":[]}{}', /not JSON: there is more behind the end/],
      ['-', '7', /not JSON/],
      ['-', '{}', /must hold/],
      [toml, '', /config\.toml is a configuration, not a list of apps: `curlew apps copy --from .*config\.toml --to/],
      ['-', '{"app_manager": {}}', /is a configuration, not a list of apps: `curlew apps copy --from/],
    ];
    for (const [file, input, text] of nonsense) {
      const { code, stdout, stderr } = await apps(t, ['import', file, '-c', config], { input });
      assert.deepEqual([code, stdout], [1, ''], stderr);
      assert.match(stderr, text);
    }
    assert.deepEqual(readdirSync(path.dirname(JSON.parse(readFileSync(config, 'utf8')).database.sqlite.path)), []);
  });

  test('a file that is no list of apps is refused, without repeating what stands in it', async (t) => {
    const config = sqliteConfig(t);
    for (const [input, text] of [
      ['{"apps": ["hush-hush', /standard input:1:\d+: this is not JSON/],
      ['{"apps": [\n  {"id": "hush-hush"},\n]}', /standard input:2:\d+: this is not JSON: .*comma/],
      ['[]', /must hold \{"apps": \[\.\.\.\]\}/],
      ['{"apps": {}}', /must hold/],
    ]) {
      const { code, stderr } = await apps(t, ['import', '-', '-c', config], { input });
      assert.equal(code, 1);
      assert.match(stderr, text);
      assert.doesNotMatch(stderr, /hush/);
    }
  });
});

describe('copy', () => {
  test('brings all apps over as they are, and nothing twice', async (t) => {
    const list = manyApps(250);
    const from = await storeWith(t, list);
    const to = sqliteConfig(t);
    assert.deepEqual(counts(await appsDone(t, ['copy', '--from', from, '--to', to, '--json'])), {
      ...NONE,
      created: 250,
    });
    assert.deepEqual(await exported(t, to), list);
    assert.deepEqual(counts(await appsDone(t, ['copy', '--from', from, '--to', to, '--json'])), {
      ...NONE,
      equal: 250,
    });
  });

  test('--dry-run foretells what the run does, and writes no app', async (t) => {
    const from = await storeWith(t, [
      BARE,
      { ...BARE, id: 'b', key: 'b' },
      { ...BARE, id: 'c', key: 'taken' },
      { ...BARE, id: 'd', key: 'd' },
    ]);
    const there = [BARE, { ...BARE, id: 'b', key: 'b', max_connections: 3 }, { ...BARE, id: 'other', key: 'taken' }];
    const to = await storeWith(t, there);
    const before = await exported(t, to);
    const foretold = await apps(t, ['copy', '--from', from, '--to', to, '--update', '--dry-run', '--json']);
    assert.deepEqual(await exported(t, to), before);
    const done = await apps(t, ['copy', '--from', from, '--to', to, '--update', '--json']);
    assert.deepEqual(counts(JSON.parse(foretold.stdout)), {
      created: 1,
      updated: 1,
      equal: 1,
      conflicts: 0,
      failed: 1,
    });
    assert.deepEqual(counts(JSON.parse(done.stdout)), counts(JSON.parse(foretold.stdout)));
    assert.deepEqual([foretold.code, done.code], [1, 1]);
  });

  test('a broken record stays behind and is named; unknown fields without a place are warned of', async (t) => {
    const from = path.join(
      folderWith(t, {
        'config.json': {
          app_manager: {
            array: {
              apps: [
                { ...BARE, colour: 'blue' },
                { ...BARE, id: 'x', key: 'x', enabled: 9 },
              ],
            },
          },
        },
      }),
      'config.json',
    );
    const to = sqliteConfig(t);
    const { code, stderr } = await apps(t, ['copy', '--from', from, '--to', to]);
    assert.equal(code, 1);
    assert.match(stderr, /broken record, "x": app "x": enabled must be true or false/);
    assert.match(stderr, /warning: app "bare": the store that is written has no place for colour/);
    assert.deepEqual(await exported(t, to), [BARE]);
  });

  test('names the side whose store cannot be used', async (t) => {
    const good = await storeWith(t, [BARE]);
    const bad = path.join(
      folderWith(t, {
        'config.json': { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: '/nowhere/apps.db' } } },
      }),
      'config.json',
    );
    for (const [from, to, side] of [
      [bad, good, '--from'],
      [good, bad, '--to'],
    ]) {
      const { code, stderr } = await apps(t, ['copy', '--from', from, '--to', to]);
      assert.equal(code, 2);
      assert.match(stderr, new RegExp(`curlew: ${side} .*/nowhere/apps\\.db`));
    }
  });
});

describe('an interruption leaves whole records only, and running it again finishes', () => {
  const list = manyApps(500);
  const byId = new Map(list.map((app) => [app.id, app]));
  const commands = {
    copy: async (t, to) => ['copy', '--from', await storeWith(t, list), '--to', to],
    import: async (t, to) => ['import', fileWith(t, list), '-c', to],
  };

  for (const [name, argumentsFor] of Object.entries(commands)) {
    test(`SIGKILL, ${name}`, async (t) => {
      const to = sqliteConfig(t);
      const args = await argumentsFor(t, to);
      for (let i = 0; i < 6; i++) {
        assert.equal((await interruptedBy(t, args, 'SIGKILL', 10, Math.random() * 10)).signal, 'SIGKILL');
        const there = await exported(t, to);
        assert.ok(there.length > 0);
        for (const app of there) assert.deepEqual(app, byId.get(app.id));
      }
      const { created, equal } = await appsDone(t, [...args, '--json']);
      assert.equal(created + equal, list.length);
      assert.deepEqual(await exported(t, to), list);
    });
  }

  for (const [name, argumentsFor] of Object.entries(commands)) {
    test(`Ctrl-C, ${name}: ends between two apps and says so`, async (t) => {
      const to = sqliteConfig(t);
      const args = await argumentsFor(t, to);
      const { code, stdout, stderr } = await interruptedBy(t, args, 'SIGINT', 40, 0);
      assert.equal(code, 1);
      assert.match(stderr, /running it again goes on from there/);
      const there = await exported(t, to);
      assert.ok(there.length >= 40 && there.length < list.length, `${there.length} apps`);
      assert.match(stdout, new RegExp(`^${there.length} created, `));
      for (const app of there) assert.deepEqual(app, byId.get(app.id));
      await appsDone(t, args);
      assert.deepEqual(await exported(t, to), list);
    });
  }
});
