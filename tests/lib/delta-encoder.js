// Deltas of pairs of texts from the server's own encoders, by the program delta_pairs of the build.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';

import { BINARY } from './server.js';

// For programs in folders that have no packages.
export { createDelta } from 'fossil-delta';

const NO_LIMIT = 0x7fffffff;

// Returns [{ delta, ns }] in the order of the pairs { base, target }; `algorithm` is fossil or xdelta3. With `rounds`
// every pair is encoded so many times, and `ns` is the shortest time.
export function encodePairs(algorithm, pairs, { rounds = 0, binary = BINARY } = {}) {
  const input = pairs.flatMap(({ base, target }) => {
    const head = Buffer.alloc(12);
    head.writeUInt32LE(base.length, 0);
    head.writeUInt32LE(target.length, 4);
    head.writeUInt32LE(NO_LIMIT, 8);
    return [head, base, target];
  });
  const program = path.join(path.dirname(binary), 'tests/delta/delta_pairs');
  const { error, status, stdout, stderr } = spawnSync(program, [algorithm, String(rounds)], {
    input: Buffer.concat(input),
    maxBuffer: 1 << 30,
  });
  assert.equal(error, undefined);
  assert.equal(status, 0, stderr.toString());
  let at = 0;
  return pairs.map(() => {
    const length = stdout.readUInt32LE(at);
    const ns = stdout.readUInt32LE(at + 4);
    const delta = stdout.subarray(at + 8, at + 8 + length);
    at += 8 + length;
    return { delta, ns };
  });
}

// Each text of a list with the one before.
export function pairsOf(texts) {
  const bytes = texts.map((text) => Buffer.from(text));
  return bytes.slice(1).map((target, i) => ({ base: bytes[i], target }));
}
