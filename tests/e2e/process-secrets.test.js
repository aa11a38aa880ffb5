// What keeps secrets from other users of the machine: core dumps, the modes of files.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { folderWith } from '../lib/process.js';
import { BINARY, RELEASE_BINARY, serverFor } from '../lib/server.js';

// The server, with this line of shell before it, in which $3 is the configuration file.
function startedAfter(t, line, binary = BINARY) {
  const file = path.join(folderWith(t), 'curlew');
  writeFileSync(file, `#!/bin/sh\n${line}\nexec ${binary} "$@"\n`, { mode: 0o755 });
  return file;
}

test('no core is dumped, except with debug', async (t) => {
  // AddressSanitizer sets the same limit.
  const binary = startedAfter(t, 'ulimit -S -c "$(ulimit -H -c)"', RELEASE_BINARY);
  const coreLimits = ({ pid }) =>
    readFileSync(`/proc/${pid}/limits`, 'utf8').match(/^Max core file size +(\S+) +(\S+)/m);
  // For the program that an upgrade starts, too.
  const env = { ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:disable_coredump=0` };
  const server = await serverFor(t, { binary, env });
  const [, soft, hard] = coreLimits(server);
  assert.equal(soft, '0');
  assert.equal(coreLimits(await serverFor(t, { binary, env, config: { debug: true } }))[1], hard);

  writeFileSync(server.configFile, JSON.stringify({ ...server.config, debug: true }), { mode: 0o600 });
  const { ended } = await server.upgrade();
  assert.equal(coreLimits(server)[1], hard);
  await ended();
});

test('a file with secrets that everybody can read is a warning at the start', async (t) => {
  const warnings = async (mode) => {
    const server = await serverFor(t, { binary: startedAfter(t, `chmod ${mode} "$3"`) });
    return server.log.all.filter(({ level, message }) => level === 'warn' && /every user/.test(message));
  };
  assert.deepEqual(await warnings('640'), []);
  const [{ message }] = await warnings('644');
  assert.match(message, /^the configuration file, \S+, has the mode 0644: it holds secrets, .* chmod o= on it/);
});
