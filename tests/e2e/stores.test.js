// The same cases for every driver (tests/stores/store_suite.c), each against a real database.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { backendFor } from './lib/backends/index.js';
import { folderWith } from './lib/process.js';
import { BINARY } from './lib/server.js';

const SUITE = path.join(path.dirname(BINARY), 'tests/stores/store_suite');

async function runSuite(t, config) {
  const folder = folderWith(t, { 'config.json': config });
  const { PATH, ASAN_OPTIONS = '', UBSAN_OPTIONS = '' } = process.env;
  const child = spawn(SUITE, [path.join(folder, 'config.json')], { env: { PATH, ASAN_OPTIONS, UBSAN_OPTIONS } });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk) => { said += chunk; });
  const [code] = await once(child, 'close');
  return { code, said };
}

for (const kind of ['mariadb', 'postgres', 'dynamodb', 'cassandra']) {
  test(`the driver for ${kind} does what every driver does`, { timeout: 300_000 }, async (t) => {
    assert.ok(existsSync(SUITE), `${SUITE} is not built`);
    const backend = await backendFor(t, kind);
    await backend.createPlace('suite');
    const { code, said } = await runSuite(t, backend.config('suite'));
    assert.equal(code, 0, said);
    assert.match(said, /\[ {2}PASSED {2}\]/);
  });
}
