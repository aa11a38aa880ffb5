// The project's load generator (bench/) as the clients of a test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { fetchMetrics } from './metrics.js';
import { RELEASE_BINARY } from './server.js';

const GENERATOR = path.join(path.dirname(RELEASE_BINARY), 'bench/curlew-bench');

/*
 * Runs a scenario of curlew-bench with one row of results to its end; resolves to the row. `options` are more of its
 * own, `meanwhile` is run beside it. Rejects if a client was not served as it should have been, with what the generator
 * says about it.
 */
export async function generate(server, scenario, key, { options = [], meanwhile = async () => {} } = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'curlew-generator-'));
  const results = path.join(folder, 'results.json');
  const child = spawn(
    GENERATOR,
    [
      '--url',
      server.url,
      '--app-id',
      '-',
      '--app-key',
      key,
      '--app-secret',
      '-',
      '--pid',
      String(server.pid),
      '--scenario',
      scenario,
      '--json',
      results,
      ...options.map(String),
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const ended = once(child, 'close');
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    complaints += chunk;
  });
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

/*
 * 200 clients of an app with this key, 50 connects a second, and a database that is frozen for so long, during which
 * `frozen` is run; resolves to the row and the longest turn of an event loop, {row, lagSeconds}.
 */
export async function generateOutage(server, key, backend, { seconds = 20, frozen = async () => {} } = {}) {
  const row = await generate(server, 'outage', key, {
    options: ['--seconds', seconds + 3],
    async meanwhile() {
      while ((await fetchMetrics(server)).sum('connected') < 200) await pause(20);
      await pause(1000);
      backend.freeze();
      try {
        await Promise.all([pause(seconds * 1000), frozen()]);
      } finally {
        backend.thaw();
      }
    },
  });
  const turns = (await fetchMetrics(server)).select('loop_lag_max_seconds');
  return { row, lagSeconds: Math.max(...turns.map(({ value }) => value)) };
}
