// The limit of memory that clients can make the server hold: what each attack gets, and what others notice of it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { fetchMetrics } from '../lib/metrics.js';
import { serverFor } from '../lib/server.js';

const MB = 1024 * 1024;

describe('the limit', () => {
  test('is what memory.limit_mb says', async (t) => {
    const server = await serverFor(t, { config: { memory: { limit_mb: 24 } } });
    await server.waitForLog(/^clients may take up to 24 MB of memory \(memory\.limit_mb\)$/);
    const metrics = await fetchMetrics(server);
    assert.equal(metrics.sum('memory_limit_bytes'), 24 * MB);
    assert.deepEqual(
      metrics.select('memory_held_bytes').map((sample) => sample.labels.kind),
      metrics.select('memory_refusals_total').map((sample) => sample.labels.kind),
    );
    assert.equal(metrics.sum('memory_refusals_total'), 0);
  });

  test('is three quarters of the memory by default, less what the server needed at the start', async (t) => {
    const server = await serverFor(t);
    await server.waitForLog(/^clients may take up to \d+ MB of memory: 75 % of \d+ MB, less the \d+ MB of the server$/);
    const metrics = await fetchMetrics(server);
    const most = 0.75 * metrics.sum('memory_total_bytes');
    assert.ok(metrics.sum('memory_limit_bytes') < most);
    assert.ok(metrics.sum('memory_limit_bytes') > most - 512 * MB, 'a sanitizer makes the server larger');
  });

  test('above the memory that there is it is a warning', async (t) => {
    const server = await serverFor(t, { env: { CURLEW_MEMORY_LIMIT_MB: '16777216' } });
    const line = await server.waitForLog(/^memory\.limit_mb is 16777216, but there are only \d+ MB of memory/);
    assert.equal(line.level, 'warn');
  });
});
