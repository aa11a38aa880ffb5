// Deltas with many threads: a short run of the load that `make soak` repeats for minutes.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { deltaLoad, LOAD_SERVER } from '../lib/delta-load.js';
import { serverFor, THREADS_BINARY } from '../lib/server.js';

test('while clients come, leave, return and lose events, all read the same texts', async (t) => {
  const server = await serverFor(t, { ...LOAD_SERVER, binary: THREADS_BINARY });
  const problems = [];
  const happened = await deltaLoad({ server, seconds: 0, seed: 13, problem: (text) => problems.push(text) });
  assert.deepEqual(problems.slice(0, 5), []);
  for (const [what, count] of Object.entries({ ...happened.kinds, ...happened, kinds: 1 })) {
    assert.ok(count > 0, `${what}: ${JSON.stringify(happened)}`);
  }
});
