// What the image promises and what needs no container to try: its health check, the command of Sockudo, and that its
// compose file sets what the server reads. scripts/lint.sh checks the Dockerfile itself.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { folderWith, start } from '../lib/process.js';
import { APP, BINARY, runCurlew, serverFor } from '../lib/server.js';

const text = (file) => readFileSync(fileURLToPath(new URL(`../../packaging/docker/${file}`, import.meta.url)), 'utf8');
const dockerfile = text('Dockerfile');
const [, healthCheck] = dockerfile.match(/^HEALTHCHECK .*\\\n +CMD (\[.*\])$/m);

// Runs the health check of the image; its exit code.
function checkHealth(port) {
  const [program, ...args] = JSON.parse(healthCheck);
  return spawnSync(program, args, { env: { PATH: process.env.PATH, PORT: String(port) } }).status;
}

test('the health check succeeds while the server runs, and fails when it does not', async (t) => {
  const server = await serverFor(t);
  assert.equal(checkHealth(server.port), 0);
  await server.stop();
  assert.notEqual(checkHealth(server.port), 0);
});

test('the commands of Sockudo start the server', async (t) => {
  const config = {
    host: '127.0.0.1',
    port: 0,
    metrics: { enabled: false },
    app_manager: { array: { apps: [APP] } },
  };
  const folder = folderWith(t, { 'config.json': config });
  symlinkSync(BINARY, path.join(folder, 'sockudo'));
  for (const args of [['--config', path.join(folder, 'config.json')], ['--config=./config.json']]) {
    const server = start(t, path.join(folder, 'sockudo'), args, { cwd: folder });
    await server.err.next((line) => line.includes('ready'));
    server.child.kill('SIGTERM');
    assert.equal((await server.exited()).code, 0);
  }
});

test('the configuration and the variables of the compose file are valid', async (t) => {
  const [, block] = text('compose.yaml').match(/^ {4}environment:\n((?: {6}.*\n)+)/m);
  const env = Object.fromEntries([...block.matchAll(/^ {6}(\w+): (.*)$/gm)].map(([, name, value]) => [name, value]));
  assert.equal(env.DATABASE_SQLITE_PATH, '/var/lib/curlew/apps.db');
  env.DATABASE_SQLITE_PATH = path.join(folderWith(t), 'apps.db');
  const { code, stdout, stderr } = await runCurlew(['check'], { configText: text('config.json'), env });
  assert.equal(code, 0, stdout + stderr);
  // Inside a container the server must listen on every address; which of them others reach, `ports` decides.
  const others = (stdout + stderr)
    .split('\n')
    .filter((line) => !/^(ok|dangerous: (metrics\.)?host is 0\.0\.0\.0): /.test(line));
  assert.deepEqual(others.filter(Boolean), []);
});
