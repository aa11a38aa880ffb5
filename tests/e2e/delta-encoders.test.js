// The encoders of deltas against the decoders that clients have, and against other encoders: fossil-delta and
// @ably/vcdiff-decoder of npm, and the command xdelta3.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import vcdiff from '@ably/vcdiff-decoder';
import { applyDelta, createDelta } from 'fossil-delta';

import { encodePairs, pairsOf } from '../lib/delta-encoder.js';
import { bytePairs, KINDS, Random } from '../lib/delta-texts.js';
import { folderWith } from '../lib/process.js';

const SEED = 20260304;

const edges = ['', 'a', 'é', '🚀', 'aaaaaaaa', '{"event":"e"}'].flatMap((base) =>
  ['', 'a', 'b', 'é🚀', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '{"event":"e","x":"\u2028"}'].map((target) => ({
    base: Buffer.from(base),
    target: Buffer.from(target),
  })),
);

function allPairs() {
  const random = new Random(SEED);
  const texts = Object.values(KINDS).flatMap((make) => pairsOf(make(random, 120)));
  const far = pairsOf(Object.values(KINDS).flatMap((make) => make(random, 8))); // from one kind to the next, too
  return [...edges, ...texts, ...far, ...bytePairs(random, 2500)];
}

const name = ({ base, target }, i) => `pair ${i} of ${base.length} and ${target.length} bytes`;

test('fossil-delta makes every target of its delta', () => {
  const pairs = allPairs();
  encodePairs('fossil', pairs).forEach(({ delta }, i) => {
    const { base, target } = pairs[i];
    assert.deepEqual(Buffer.from(applyDelta(base, delta)), target, name(pairs[i], i));
  });
});

test('the decoder of VCDIFF that clients have makes every target of its delta, which has no indicator but VCD_SOURCE', () => {
  const pairs = allPairs();
  encodePairs('xdelta3', pairs).forEach(({ delta }, i) => {
    const { base, target } = pairs[i];
    assert.deepEqual(Buffer.from(vcdiff.decode(delta, base)), target, name(pairs[i], i));
    assert.deepEqual([...delta.subarray(0, 5)], [0xd6, 0xc3, 0xc4, 0, 0]);
    assert.ok(delta[5] <= 1, name(pairs[i], i));
  });
});

function xdelta3(t, pair, args, input) {
  const folder = folderWith(t, {});
  const file = (member) => {
    writeFileSync(path.join(folder, member), pair[member]);
    return path.join(folder, member);
  };
  const { error, status, stdout, stderr } = spawnSync('xdelta3', [...args, '-c', '-s', file('base')], { input });
  assert.equal(error, undefined, 'xdelta3 is a package of Debian');
  assert.equal(status, 0, stderr.toString());
  return stdout;
}

test('xdelta3 makes targets of deltas', (t) => {
  const random = new Random(SEED);
  const pairs = [
    ...edges.filter(({ target }) => target.length !== 0),
    ...Object.values(KINDS).flatMap((make) => pairsOf(make(random, 5))),
    ...bytePairs(random, 30).filter(({ target }) => target.length !== 0),
  ];
  encodePairs('xdelta3', pairs).forEach(({ delta }, i) => {
    assert.deepEqual(xdelta3(t, pairs[i], ['-d'], delta), pairs[i].target, name(pairs[i], i));
  });
});

const total = (deltas) => deltas.reduce((sum, { length }) => sum + length, 0);

for (const [kind, make] of Object.entries(KINDS)) {
  test(`deltas of ${kind} are not larger than those of other encoders`, (t) => {
    const pairs = pairsOf(make(new Random(SEED), 101));
    const fossil = encodePairs('fossil', pairs).map(({ delta }) => delta);
    const theirs = pairs.map(({ base, target }) => createDelta(base, target));
    assert.ok(total(fossil) < total(theirs), `${total(fossil)} bytes, fossil-delta: ${total(theirs)}`);
    const larger = fossil.filter(({ length }, i) => length > theirs[i].length);
    assert.ok(larger.length <= pairs.length / 50, `${larger.length} of ${pairs.length} deltas are larger`);
    const some = pairs.slice(0, 6);
    const ours = encodePairs('xdelta3', some).map(({ delta }) => delta);
    const command = some.map((pair) => xdelta3(t, pair, ['-e', '-n', '-A', '-S', 'none'], pair.target));
    assert.ok(total(ours) < 1.03 * total(command), `${total(ours)} bytes, xdelta3: ${total(command)}`);
  });
}
