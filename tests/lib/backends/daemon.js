// One database process of a back end: started as a user who may, watched until it answers, stopped with all its
// children.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, existsSync, fstatSync, openSync, readFileSync, readdirSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { isStopped, statOf } from '../stopped.js';

// A JVM beside sanitizer builds on a busy machine takes its time; a test that passes never waits this long.
const START_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 60_000;
// A probe that got no answer has to end by then, or its connection would keep the test's process alive.
export const PROBE_TIMEOUT_MS = 5_000;

// PostgreSQL refuses to run as root, so root starts it as this user.
const NOBODY = 65534;
const isRoot = process.getuid() === 0;

// Where Debian keeps daemons, which is not on everybody's PATH.
const PROGRAM_FOLDERS = [
  ...(process.env.PATH ?? '').split(':'),
  '/usr/sbin',
  '/usr/lib/postgresql/*/bin',
  '/usr/lib/jvm/java-17-*/bin',
];

export class Daemon {
  #child = null;
  #ended = null;
  #ending = null;

  // `name` is for messages; `command` the program's name and arguments; `probe` an asynchronous function that resolves
  // when the database serves requests; `log` a file that gets all output; `fatal` a pattern of lines after which it
  // never will, though the process may go on.
  constructor({ name, command, probe, log, fatal = null, asNobody = false, env = {}, stopSignal = 'SIGTERM' }) {
    Object.assign(this, { name, command, probe, log, fatal, asNobody, env, stopSignal });
  }

  get pid() {
    return this.#child?.pid;
  }

  get isRunning() {
    return this.#child !== null && this.#ending === null;
  }

  // Resolves when the probe got an answer; rejects with the end of the log if the process ends before, gives up, or
  // time is up.
  async start() {
    const log = openSync(this.log, 'a');
    const logged = fstatSync(log).size;
    this.#child = launch(this.command, { asNobody: this.asNobody, env: this.env, stdio: ['ignore', log, log] });
    closeSync(log);
    this.#ending = null;
    this.#ended = once(this.#child, 'exit')
      .then(
        ([code, signal]) => signal ?? `exit code ${code}`,
        (error) => error.message,
      )
      .then((how) => {
        this.#ending = how;
      });
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      const refusal = await Promise.race([
        bounded(this.probe()).then(
          () => null,
          (error) => error,
        ),
        this.#ended,
      ]);
      if (!this.isRunning) throw this.#failure(`ended with ${this.#ending}`); // whatever answers on its port
      if (refusal === null) return;
      const fatal = this.fatal && readFileSync(this.log).subarray(logged).toString().match(this.fatal)?.[0];
      if (fatal) await this.#giveUp(`does not start: ${fatal}`);
      if (performance.now() > deadline)
        await this.#giveUp(`does not answer in ${START_TIMEOUT_MS} ms: ${refusal.message}`);
      await pause(50);
    }
  }

  async #giveUp(why) {
    await this.kill();
    throw this.#failure(why);
  }

  // Ends it as an administrator would, and by force when that takes too long.
  async stop() {
    if (!this.isRunning) return;
    this.thaw();
    this.#child.kill(this.stopSignal);
    const late = setTimeout(() => this.#signalAll('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(late);
  }

  async kill() {
    if (!this.isRunning) return;
    this.#signalAll('SIGKILL');
    await this.#ended;
  }

  // Returns when none of its threads runs any more.
  freeze() {
    this.#signalAll('SIGSTOP');
    const deadline = performance.now() + STOP_TIMEOUT_MS;
    while (this.isRunning && !family(this.pid).every(isStopped)) {
      if (performance.now() > deadline) throw this.#failure('cannot be frozen');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }

  thaw() {
    this.#signalAll('SIGCONT');
  }

  #signalAll(signal) {
    if (!this.isRunning) return;
    // A child that is born meanwhile is found by the second look.
    for (let look = 0; look < 2; look++) {
      for (const pid of family(this.pid)) {
        try {
          process.kill(pid, signal);
        } catch (error) {
          if (error.code !== 'ESRCH') throw error;
        }
      }
    }
  }

  #failure(why) {
    return new Error(`${this.name} ${why}. Its log:\n${tail(this.log)}`);
  }
}

// Runs a program to its end and insists on exit code 0.
export async function run(command, { log, ...options }) {
  const output = openSync(log, 'a');
  const child = launch(command, { ...options, stdio: ['ignore', output, output] });
  closeSync(output);
  const [code, signal] = await once(child, 'exit');
  if (code !== 0)
    throw new Error(`${command[0]} ended with ${signal ?? `exit code ${code}`}. Its output:\n${tail(log)}`);
}

// Makes files accessible to daemons that run `asNobody`.
export function giveToNobody(...files) {
  if (isRoot) for (const file of files) chownSync(file, NOBODY, NOBODY);
}

// The full path of a program, the newest version where there are several; `package_` is what to install if there is
// none.
export function program(name, package_) {
  for (const folder of PROGRAM_FOLDERS.flatMap(expand)) {
    if (existsSync(path.join(folder, name))) return path.join(folder, name);
  }
  throw new Error(`there is no ${name} here; scripts/install-packages.sh test installs it (package ${package_})`);
}

/*
 * `count` ports that are free on all of the addresses. They are below the kernel's own choices for outgoing connections
 * and for port 0, so that they are still free when the database is started again.
 */
export async function freePorts(count, addresses = ['127.0.0.1']) {
  const found = new Set();
  while (found.size < count) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const free = await Promise.all(addresses.map((address) => isFree(address, port)));
    if (free.every(Boolean)) found.add(port);
  }
  return [...found];
}

// Node cannot set the death signal, which takes the databases along if the process that keeps them is killed.
function launch([name, ...args], { asNobody = false, env = {}, cwd = '/', stdio }) {
  const user = asNobody && isRoot ? [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : [];
  const { PATH, LANG = 'C.UTF-8' } = process.env;
  const HOME = cwd;
  return spawn('setpriv', ['--pdeathsig', 'KILL', ...user, '--', name, ...args], {
    cwd,
    env: { PATH, LANG, HOME, ...env },
    stdio,
    detached: true,
  });
}

// A process and all below it.
function family(root) {
  const children = new Map();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const parent = Number(statOf(`/proc/${entry}`)[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // It has ended.
    }
  }
  const found = [root];
  for (const pid of found) found.push(...(children.get(pid) ?? []));
  return found;
}

function isFree(address, port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, address, () => server.close(() => resolve(true)));
  });
}

function expand(folder) {
  const star = folder.match(/([^/]*)\*/);
  if (!star) return [folder];
  const parent = folder.slice(0, star.index);
  const rest = folder.slice(star.index + star[0].length);
  if (!existsSync(parent)) return [];
  const versions = readdirSync(parent).filter((entry) => entry.startsWith(star[1]));
  return versions.sort((a, b) => b.localeCompare(a, 'en', { numeric: true })).map((entry) => parent + entry + rest);
}

function bounded(promise) {
  const timer = AbortSignal.timeout(PROBE_TIMEOUT_MS);
  return Promise.race([
    promise,
    once(timer, 'abort').then(() => {
      throw new Error('no answer to a connection');
    }),
  ]);
}

function tail(file) {
  if (!existsSync(file)) return '(none)';
  return readFileSync(file, 'utf8').split('\n').slice(-100).join('\n');
}
