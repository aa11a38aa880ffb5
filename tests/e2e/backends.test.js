// The back ends of the tests themselves: one that does not start says so at once, in its own last words.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Daemon } from '../lib/backends/daemon.js';
import { jarsOf } from '../lib/backends/jvm.js';
import { kindOf } from '../lib/backends/kinds.js';
import { within } from '../lib/inbox.js';
import { folderWith } from '../lib/process.js';

const JARS_SCRIPT = fileURLToPath(new URL('../../scripts/test-jars.sh', import.meta.url));

// Makes the data of a back end, spoils it and starts; resolves to the message of the error.
async function failure(t, kind, spoil) {
  const backend = new (kindOf(kind))();
  t.after(() => backend.discard());
  await backend.create();
  await spoil(backend);
  const failed = backend.start().then(
    () => assert.fail(`${kind} has started`),
    (error) => error.message,
  );
  return within(failed, `${kind} to give up`);
}

async function takePort(t, { host, port }) {
  const other = net.createServer((socket) => socket.on('error', () => {}));
  t.after(() => other.close());
  await once(other.listen(port, host), 'listening');
}

describe('a back end that does not start fails with its last words', { concurrency: true }, () => {
  const folders = {
    mariadb: ['data', /^MariaDB ended with exit code 1\. Its log:.*Can't change dir to .*\[ERROR\] Aborting/s],
    postgres: [
      'data',
      /^PostgreSQL ended with exit code 2\. Its log:.*could not access the server configuration file/s,
    ],
    dynamodb: ['data', /^DynamoDB Local ended with exit code 0\. Its log:.*Invalid directory for database creation/s],
    cassandra: ['127.0.0.1/data', /^Cassandra on 127\.0\.0\.1 (ended|does not start).*Not a directory/s],
  };
  for (const [kind, [folder, words]] of Object.entries(folders)) {
    test(`${kind}: a file where its data should be`, async (t) => {
      const message = await failure(t, kind, (backend) => {
        rmSync(backend.file(folder), { recursive: true, force: true });
        writeFileSync(backend.file(folder), '');
        chmodSync(backend.file(folder), 0o777);
      });
      assert.match(message, words);
    });
  }

  const ports = {
    mariadb: /^MariaDB ended with exit code 1\. .*Address already in use/s,
    postgres: /^PostgreSQL ended with exit code 1\. .*Address already in use/s,
    dynamodb: /^DynamoDB Local ended with exit code 1\. .*Address already in use/s,
    nats: /^nats-server ended with exit code 1\. .*address already in use/s,
    'redis-cluster': /^Redis ended with exit code 1\. .*Address already in use/s,
    redis: /^Redis ended with exit code 1\. .*Address already in use/s,
  };
  for (const [kind, words] of Object.entries(ports)) {
    test(`${kind}: a port that is taken`, async (t) => {
      assert.match(await failure(t, kind, (backend) => takePort(t, backend.address)), words);
    });
  }
});

describe('a process that never serves', { concurrency: true }, () => {
  const neverAnswers = () => new Promise(() => {});
  const refuses = () => Promise.reject(new Error('refused'));

  function daemon(t, script, options) {
    const one = new Daemon({
      name: 'Fake',
      log: path.join(folderWith(t), 'log'),
      command: ['sh', '-c', script],
      probe: refuses,
      ...options,
    });
    t.after(() => one.kill());
    return one;
  }

  test('one that ends is not waited for, even while the probe waits', async (t) => {
    const one = daemon(t, 'echo its last words; exit 7', { probe: neverAnswers });
    await assert.rejects(one.start(), { message: 'Fake ended with exit code 7. Its log:\nits last words\n' });
  });

  test('one that is killed is told by the signal', async (t) => {
    await assert.rejects(daemon(t, 'kill -9 $$').start(), { message: 'Fake ended with SIGKILL. Its log:\n' });
  });

  test('a program that is not there is named', async (t) => {
    await assert.rejects(
      daemon(t, '', { command: ['/no/such/program'] }).start(),
      /^Error: Fake ended with exit code 127\. .*\/no\/such\/program/s,
    );
  });

  test('one that gives up and stays is ended', async (t) => {
    const one = daemon(t, 'echo ERROR the disk is full; exec sleep 1000', { fatal: /^ERROR .*$/m });
    await assert.rejects(one.start(), {
      message: 'Fake does not start: ERROR the disk is full. Its log:\nERROR the disk is full\n',
    });
    assert.equal(one.isRunning, false);
  });

  test('what it said before an earlier end does not count', async (t) => {
    const folder = folderWith(t, { said: 'ERROR' });
    let answers = false;
    const probe = async () => assert.ok(answers);
    const one = daemon(t, `cat ${folder}/said; exec sleep 1000`, { fatal: /^ERROR/m, probe });
    await assert.rejects(one.start(), /^Error: Fake does not start/);
    writeFileSync(path.join(folder, 'said'), 'well');
    setTimeout(() => {
      answers = true;
    }, 200); // the log has been looked at by then
    await one.start();
    assert.ok(one.isRunning);
  });
});

test('jars that Maven could not fetch fail those who need them, with its words', async (t) => {
  const folder = folderWith(t, { mvn: '#!/bin/sh\necho "[ERROR] No plugin found for prefix"\nexit 1\n' });
  chmodSync(path.join(folder, 'mvn'), 0o755);
  for (const name of ['scripts', 'tests/backends/cassandra']) mkdirSync(path.join(folder, name), { recursive: true });
  const script = path.join(folder, 'scripts/test-jars.sh');
  copyFileSync(JARS_SCRIPT, script);
  for (const name of ['.', 'cassandra']) writeFileSync(path.join(folder, 'tests/backends', name, 'pom.xml'), '');
  await assert.rejects(
    promisify(execFile)(script, { env: { ...process.env, PATH: `${folder}:${process.env.PATH}` } }),
    { code: 1 },
  );
  assert.throws(
    () => jarsOf('cassandra', path.join(folder, 'tests/backends/jars')),
    /the jars of cassandra are not in .*scripts\/test-jars\.sh fetches them\. It said:\n\[ERROR\] No plugin found for prefix/,
  );
});
