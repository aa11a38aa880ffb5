// The TOML reader against the public cases of TOML 1.0 (https://github.com/toml-lang/toml-test), which
// scripts/toml-cases.py fetches: each invalid text is refused, and each valid one has the values of its .json file.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import { appsDone, exported, sqliteConfig } from '../lib/apps-command.js';
import { folderWith } from '../lib/process.js';
import { BINARY } from '../lib/server.js';

const CASES = fileURLToPath(new URL('../toml/cases/', import.meta.url));
const READER = path.join(path.dirname(BINARY), 'tests/toml/toml_values');

// The names of the cases in a folder, from the list of those for TOML 1.0.
function casesIn(folder) {
  const list = path.join(CASES, 'files-toml-1.0.0');
  assert.ok(existsSync(list), `there are no cases in ${CASES}: scripts/toml-cases.py fetches them`);
  return readFileSync(list, 'utf8')
    .split('\n')
    .filter((name) => name.startsWith(folder) && name.endsWith('.toml'));
}

function read(name) {
  const result = spawnSync(READER, { input: readFileSync(path.join(CASES, name)) });
  assert.equal(result.error, undefined);
  return { ...result, message: result.stderr.toString() };
}

// Numbers and moments have several spellings: RFC 3339 allows a space for the T, small letters, and zeros at the end.
function normalised(value) {
  if (Array.isArray(value)) return value.map(normalised);
  if (typeof value.type !== 'string' || typeof value.value !== 'string')
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, normalised(member)]));
  if (value.type === 'float') return { ...value, value: Number(value.value.replace(/inf$/i, 'Infinity')) };
  if (!/date|time/.test(value.type)) return value;
  const [, moment, fraction, offset] = /^([^.Zz+]*?)(\.\d+)?([Zz]|[+-]\d\d:\d\d)?$/.exec(value.value);
  const text = `${moment.replace(/[t ]/, 'T')}${Number(fraction ?? 0)}${offset ?? ''}`;
  return { ...value, value: text.toUpperCase() };
}

test('every_valid_case_of_toml_1_0_has_its_values', () => {
  const names = casesIn('valid/');
  assert.ok(names.length > 200, `${names.length} cases`);
  for (const name of names) {
    const { status, stdout, message } = read(name);
    assert.equal(status, 0, `${name}: ${message}`);
    const expected = JSON.parse(readFileSync(path.join(CASES, name.replace(/toml$/, 'json')), 'utf8'));
    assert.deepEqual(normalised(JSON.parse(stdout)), normalised(expected), name);
  }
});

test('every_invalid_case_of_toml_1_0_is_refused_with_its_line_and_column', () => {
  const names = casesIn('invalid/');
  assert.ok(names.length > 450, `${names.length} cases`);
  for (const name of names) {
    const { status, message } = read(name);
    assert.equal(status, 1, `${name}: ${message}`);
    assert.match(message, /^[1-9]\d*:[1-9]\d*: .+\n$/, name);
  }
});

test('apps_copy_takes_the_apps_of_a_toml_file', async (t) => {
  const text = '[[app_manager.array.apps]]\nid = "shop"\nkey = "k"\nsecret = "s"\nmax_connections = 5_000\n';
  const from = path.join(folderWith(t, { 'apps.toml': text }), 'apps.toml');
  const to = sqliteConfig(t);
  await appsDone(t, ['copy', '--from', from, '--to', to]);
  const [app] = await exported(t, to);
  assert.equal(app.id, 'shop');
  assert.equal(app.max_connections, 5000);
});
