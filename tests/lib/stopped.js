// Whether a process that got SIGSTOP stands still.

import { readFileSync, readdirSync } from 'node:fs';

const TIMEOUT_MS = 60_000;

// The state and the parent, and more, of a process or thread. The name before them, in parentheses, may hold anything.
export function statOf(folder) {
  const stat = readFileSync(`${folder}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

// A stop begins with one thread, which has to get its share of a busy machine before the others stop, too.
export function isStopped(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) => /[TXZ]/.test(statOf(`/proc/${pid}/task/${thread}`)[0]));
  } catch {
    return false; // a thread has ended: look again
  }
}

// Stops a process; returns when none of its threads runs any more.
export function freeze(pid) {
  process.kill(pid, 'SIGSTOP');
  const deadline = performance.now() + TIMEOUT_MS;
  while (!isStopped(pid)) {
    if (performance.now() > deadline) throw new Error(`process ${pid} cannot be frozen`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
}
