// The Debian package: `make deb` builds it, lintian checks it, and dpkg installs, upgrades and purges it in a folder
// that stands for the system.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { folderWith } from '../lib/process.js';
import { RELEASE_BINARY, runCurlew } from '../lib/server.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CONFIG = '/etc/curlew/config.json';

// Builds the package and returns its path.
function build() {
  const output = execFileSync(path.join(ROOT, 'scripts/deb.sh'), [RELEASE_BINARY], { encoding: 'utf8' });
  return output.match(/^deb: (.*\.deb)$/m)[1];
}

// The same package with a higher version.
function nextVersion(t, file) {
  const folder = folderWith(t);
  const control = `${folder}/tree/DEBIAN/control`;
  execFileSync('dpkg-deb', ['-R', file, `${folder}/tree`]);
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*-1$/m, 'Version: 9.0-2'));
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '-b', `${folder}/tree`, `${folder}/next.deb`]);
  return `${folder}/next.deb`;
}

// A folder with dpkg's database of a system in which nothing is installed.
function emptySystem(t) {
  const system = folderWith(t);
  for (const folder of ['updates', 'info']) mkdirSync(`${system}/var/lib/dpkg/${folder}`, { recursive: true });
  mkdirSync(`${system}/etc`);
  writeFileSync(`${system}/var/lib/dpkg/status`, '');
  return system;
}

// Runs dpkg as if by root of that system. Its libraries are those of this machine, so dependencies are not there.
function dpkg(system, ...args) {
  const force = ['script-chrootless', 'depends', 'not-root'].map((what) => `--force-${what}`);
  const all = ['dpkg', `--root=${system}`, '--log=/dev/null', ...force, ...args];
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, LC_ALL: 'C' };
  const { status, stderr } = spawnSync('fakeroot', ['-i', `${system}.owners`, '-s', `${system}.owners`, ...all], {
    env,
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
}

const ownerOf = (system, file) =>
  execFileSync('fakeroot', ['-i', `${system}.owners`, 'stat', '-c', '%a %u %g', `${system}${file}`], {
    encoding: 'utf8',
  }).trim();

test('the package', async (t) => {
  const first = build();
  const system = emptySystem(t);
  writeFileSync(`${system}.owners`, '');
  t.after(() => execFileSync('rm', ['-f', `${system}.owners`]));

  await t.test('is clean for lintian', () => {
    const { status, stdout } = spawnSync('lintian', ['--tag-display-limit', '0', '--fail-on', 'error,warning', first], {
      encoding: 'utf8',
    });
    assert.equal(stdout, '');
    assert.equal(status, 0);
  });

  await t.test(
    'installs a program, a user, an enabled service and a configuration that only they can read',
    async () => {
      dpkg(system, '--install', first);
      assert.match(execFileSync(`${system}/usr/bin/curlew`, ['version'], { encoding: 'utf8' }), /^curlew /);
      const [, uid, gid] = readFileSync(`${system}/etc/passwd`, 'utf8').match(/^curlew:x:(\d+):(\d+):/m);
      assert.equal(ownerOf(system, '/etc/curlew'), `750 0 ${gid}`);
      assert.equal(ownerOf(system, CONFIG), `640 0 ${gid}`);
      assert.equal(ownerOf(system, '/var/lib/curlew'), `750 ${uid} ${gid}`);
      const enabled = `${system}/etc/systemd/system/multi-user.target.wants/curlew.service`;
      assert.equal(readlinkSync(enabled), '/lib/systemd/system/curlew.service');
      assert.ok(existsSync(`${system}/lib/systemd/system/curlew.socket`));
      assert.ok(!existsSync(`${system}/etc/systemd/system/sockets.target.wants`), 'the socket is off by default');
      for (const file of ['man/man1/curlew.1.gz', 'man/man5/curlew.json.5.gz', 'zsh/vendor-completions/_curlew']) {
        assert.ok(existsSync(`${system}/usr/share/${file}`), file);
      }
    },
  );

  await t.test('needs the libraries that the image and the pages install', () => {
    const control = execFileSync('dpkg-deb', ['-f', first, 'Depends'], { encoding: 'utf8' });
    // libc6 is part of every system.
    const needed = control.split(', ').map((name) => name.trim().split(' ')[0]);
    const libraries = needed.filter((name) => /^(lib|zlib)/.test(name) && name !== 'libc6');
    assert.ok(libraries.length > 5, control);
    for (const file of ['packaging/docker/Dockerfile', 'docs/systemd.md']) {
      const text = readFileSync(path.join(ROOT, file), 'utf8');
      for (const library of libraries) assert.match(text, new RegExp(`\\s${library}[\\s\`]`), `${library} in ${file}`);
    }
  });

  await t.test('has a valid configuration', async () => {
    const config = JSON.parse(readFileSync(`${system}${CONFIG}`, 'utf8'));
    assert.equal(config.database.sqlite.path, '/var/lib/curlew/apps.db');
    config.database.sqlite.path = `${system}/apps.db`;
    const { code, stdout, stderr } = await runCurlew(['check'], { config });
    assert.equal(code, 0, stdout + stderr);
    assert.doesNotMatch(stdout, /^warning/m);
  });

  await t.test('keeps a changed configuration and the apps when it is upgraded', () => {
    writeFileSync(`${system}${CONFIG}`, '{"port": 7001}\n');
    writeFileSync(`${system}/var/lib/curlew/apps.db`, 'apps');
    dpkg(system, '--install', nextVersion(t, first));
    const status = readFileSync(`${system}/var/lib/dpkg/status`, 'utf8');
    assert.match(status, /^Version: 9\.0-2$/m);
    assert.match(status, /^Status: install ok installed$/m);
    assert.equal(readFileSync(`${system}${CONFIG}`, 'utf8'), '{"port": 7001}\n');
    assert.match(ownerOf(system, CONFIG), /^640 0 /);
    assert.equal(readFileSync(`${system}/var/lib/curlew/apps.db`, 'utf8'), 'apps');
  });

  await t.test('keeps both when it is removed', () => {
    dpkg(system, '--remove', 'curlew');
    assert.ok(!existsSync(`${system}/usr/bin/curlew`));
    assert.equal(readFileSync(`${system}${CONFIG}`, 'utf8'), '{"port": 7001}\n');
    assert.ok(existsSync(`${system}/var/lib/curlew/apps.db`));
  });

  await t.test('leaves nothing when it is purged', () => {
    dpkg(system, '--purge', 'curlew');
    const left = execFileSync('find', [system, '-mindepth', '1', '-name', '*curlew*', '-printf', '/%P\n'], {
      encoding: 'utf8',
    });
    assert.equal(left, '');
  });
});
