// A SQLite file that cannot be used.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';

import { serverFor } from './lib/server.js';

test('a_store_that_is_not_there_at_the_start_is_logged_once_unasked_and_so_is_its_return', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'curlew-sqlite-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'apps.db');
  fs.mkdirSync(file);
  const server = await serverFor(t, {
    apps: [],
    config: { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } },
  });
  const { message } = await server.waitForLog(/store cannot be asked/);
  assert.match(message, /the sqlite store cannot be asked: .*apps\.db/);
  fs.rmdirSync(file);
  await server.waitForLog(/the sqlite store answers/);
  assert.equal(server.log.all.filter((line) => /store cannot be asked/.test(line.message)).length, 1);
});
