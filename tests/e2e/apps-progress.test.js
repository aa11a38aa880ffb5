// Commands that handle many apps: what a dry run asks the store, and the progress on a terminal.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { NONE, apps, appsDone, counts, manyApps, sqliteConfig } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { lead } from '../lib/middle.js';
import { folderWith, start } from '../lib/process.js';
import { BINARY } from '../lib/server.js';

const fileFor = (t, content) => path.join(folderWith(t, { 'file.json': content }), 'file.json');

test('a dry run reads the store in pages, and does not ask for each app', async (t) => {
  const backend = await backendFor(t, 'postgres');
  await backend.createPlace('dry');
  const list = manyApps(450);
  const config = backend.config('dry');
  await appsDone(t, ['import', '-', '-c', fileFor(t, config)], { input: JSON.stringify({ apps: list.slice(50) }) });
  let pieces = 0; // a query at least each
  config.database.postgres.port = await lead(t, 0, backend.address, (bytes, near, far) => {
    pieces++;
    far.write(bytes);
  });
  const others = list.slice(1);
  const input = JSON.stringify({ apps: [...others, { id: 'taken', key: list[100].key, secret: 's' }] });
  const { code, stdout, stderr } = await apps(t, ['import', '-', '--dry-run', '--json', '-c', fileFor(t, config)], {
    input,
  });
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`app ..taken..: the key is already that of app ${list[100].id}`));
  assert.deepEqual(counts(JSON.parse(stdout)), { ...NONE, created: 49, equal: 400, failed: 1 });
  assert.ok(pieces < 100, `${pieces} pieces for 450 apps`);
});

// In a terminal of its own, which `script` makes.
const inTerminal = (t, args) =>
  start(t, 'script', ['-qefc', [BINARY, ...args].map((word) => `'${word}'`).join(' '), '/dev/null']);

test('on a terminal import, copy and export show total, rate and time left, redrawn a few times a second at most', async (t) => {
  const config = sqliteConfig(t);
  const file = fileFor(t, { apps: manyApps(1000) });
  const began = process.hrtime.bigint();
  const program = inTerminal(t, ['apps', 'import', file, '-c', config]);
  assert.deepEqual(await program.exited(), { code: 0, signal: null });
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const redraws = program.out.all
    .join('\n')
    .split('\r')
    .filter((line) => line.includes(' of 1000 apps'));
  assert.ok(redraws.length >= 1 && redraws.length <= 4 * seconds + 2, `${redraws.length} in ${seconds} s`);
  for (const line of redraws.slice(1)) assert.match(line, /^\d+ of 1000 apps, [\d.]+ a second, \d+ (s|min) left/);
  assert.match(program.out.all.at(-1), /1000 created, 0 updated/);

  const to = sqliteConfig(t);
  const copy = inTerminal(t, ['apps', 'copy', '--from', config, '--to', to]);
  assert.deepEqual(await copy.exited(), { code: 0, signal: null });
  assert.match(copy.out.all.join('\n'), /\r\d+ of 1000 apps/);

  const exported = inTerminal(t, ['apps', 'export', '-c', config, '--output', path.join(folderWith(t), 'out.json')]);
  assert.deepEqual(await exported.exited(), { code: 0, signal: null });
  assert.match(exported.out.all.join('\n'), /\r\d+ of 1000 apps, [\d.]+ a second, \d+ (s|min) left/);
});
