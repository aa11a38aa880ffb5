// `make install`: the program, its units, manual pages and completions of shells, below a folder of the test.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { folderWith } from '../lib/process.js';
import { BINARY } from '../lib/server.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

const install = (...variables) => spawnSync('make', ['install', ...variables], { cwd: root, encoding: 'utf8' });

test('make install copies a program that runs, units that name it, pages and completions, and nothing else', (t) => {
  for (const [prefix, variables] of [
    ['/usr/local', []],
    ['/opt/curlew', ['prefix=/opt/curlew']],
  ]) {
    const destination = folderWith(t);
    const { status, stderr } = install(`DESTDIR=${destination}`, `binary=${BINARY}`, ...variables);
    assert.equal(status, 0, stderr);
    const files = execFileSync('find', [destination, '-type', 'f', '-printf', '/%P\n'], { encoding: 'utf8' })
      .trim()
      .split('\n');
    const [program, unit] = [`${prefix}/bin/curlew`, `${prefix}/lib/systemd/system/curlew.service`];
    const others = ['systemd/system/curlew.socket', 'sysusers.d/curlew.conf', 'tmpfiles.d/curlew.conf'];
    const shared = [
      'man/man1/curlew.1',
      'man/man5/curlew.json.5',
      'bash-completion/completions/curlew',
      'zsh/site-functions/_curlew',
      'fish/vendor_completions.d/curlew.fish',
    ].map((name) => `${prefix}/share/${name}`);
    const beside = others.map((name) => `${prefix}/lib/${name}`);
    assert.deepEqual(files.sort(), [program, unit, ...beside, ...shared].sort());
    const whatIs = execFileSync('man', ['-M', `${destination}${prefix}/share/man`, '-w', '1', 'curlew'], {
      encoding: 'utf8',
    });
    assert.equal(whatIs.trim(), `${destination}${prefix}/share/man/man1/curlew.1`);
    assert.match(execFileSync(path.join(destination, program), ['version'], { encoding: 'utf8' }), /^curlew \d/);
    const text = readFileSync(path.join(destination, unit), 'utf8');
    assert.ok(text.includes(`\nExecStart=${program} serve --config /etc/curlew/config.json\n`), text);
    assert.doesNotMatch(text, /@bindir@/);
    assert.equal(statSync(path.join(destination, unit)).mode & 0o777, 0o644);
  }
});

test('make install says what is missing', (t) => {
  const destination = folderWith(t);
  const without = install(`DESTDIR=${destination}`, 'binary=nowhere/curlew');
  assert.notEqual(without.status, 0);
  assert.match(without.stderr, /nowhere\/curlew is missing: run `make build` first/);
  const relative = install(`DESTDIR=${destination}`, `binary=${BINARY}`, 'prefix=usr');
  assert.notEqual(relative.status, 0);
  assert.match(relative.stderr, /prefix must be an absolute path/);
});
