// The project's load generator (bench/) as the clients of a test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { RELEASE_BINARY } from './server.js';

const GENERATOR = path.join(path.dirname(RELEASE_BINARY), 'bench/curlew-bench');

/*
 * Runs a scenario of curlew-bench with one row of results to its end; resolves to the row. `options` are more of its own, `meanwhile`
 * is run beside it. Rejects if a client was not served as it should have been, with what the generator says about it.
 */
export async function generate(server, scenario, key, { options = [], meanwhile = async () => {} } = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'curlew-generator-'));
  const results = path.join(folder, 'results.json');
  const child = spawn(GENERATOR, ['--url', server.url, '--app-id', '-', '--app-key', key, '--app-secret', '-', '--pid', String(server.pid),
    '--scenario', scenario, '--json', results, ...options.map(String)], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'close');
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (chunk) => { complaints += chunk; });
  try {
    const [[code]] = await Promise.all([ended, meanwhile()]);
    const rows = complaints === '' ? JSON.parse(readFileSync(results, 'utf8')).rows : [];
    assert.equal(code, 0, `curlew-bench --scenario ${scenario}: ${complaints}${rows[0]?.note ?? ''}`);
    return rows[0];
  } finally {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}
