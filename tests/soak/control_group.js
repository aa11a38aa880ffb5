// A memory control group for the server: version 1 or 2, what the machine has. Where neither can be made,
// the resident memory of the process is read from /proc and nothing is limited.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const VERSIONS = [
  {
    root: '/sys/fs/cgroup/memory',
    limit: 'memory.limit_in_bytes',
    used: 'memory.usage_in_bytes',
    most: 'memory.max_usage_in_bytes',
  },
  { root: '/sys/fs/cgroup', limit: 'memory.max', used: 'memory.current', most: 'memory.peak' },
];

function readNumber(file) {
  return Number(readFileSync(file, 'utf8').trim());
}

export class ControlGroup {
  #files = null;
  #most = 0;

  // Makes a group with a limit in bytes. `owner.after` gets what removes it.
  static make(owner, bytes) {
    const group = new ControlGroup();
    for (const version of VERSIONS) {
      const folder = path.join(version.root, `curlew-soak-${process.pid}`);
      try {
        if (!existsSync(path.join(version.root, 'cgroup.procs'))) continue;
        mkdirSync(folder);
        owner.after(() => rmdirSync(folder));
        writeFileSync(path.join(folder, version.limit), String(bytes));
        group.#files = { ...version, root: folder };
        group.name = folder;
        return group;
      } catch (error) {
        console.log(`no memory control group in ${version.root}: ${error.message}`);
      }
    }
    group.name = 'none: resident memory is read from /proc';
    return group;
  }

  // A program that runs `binary` in the group.
  wrap(folder, binary) {
    if (this.#files === null) return binary;
    const script = path.join(folder, 'curlew');
    const enter = `echo $$ >'${path.join(this.#files.root, 'cgroup.procs')}' && exec '${binary}' "$@"`;
    writeFileSync(script, `#!/bin/sh\n${enter}\n`, { mode: 0o755 });
    return script;
  }

  used(pid) {
    return this.#files === null ? this.#resident(pid) : readNumber(path.join(this.#files.root, this.#files.used));
  }

  // The most that was ever used; without a group, of the times when `used` was called.
  most(pid) {
    const file = this.#files && path.join(this.#files.root, this.#files.most);
    return file && existsSync(file) ? readNumber(file) : Math.max(this.#most, this.used(pid));
  }

  #resident(pid) {
    const [, kilobytes] = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB/m);
    this.#most = Math.max(this.#most, Number(kilobytes) * 1024);
    return Number(kilobytes) * 1024;
  }
}
