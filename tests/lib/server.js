// Starts the real binary with a configuration of its own, on ports that the kernel chooses.
//
// A test owns its server: `serverFor(t, options)` stops it when the test ends, `sharedServer(options)` when the file
// ends. Stopping is part of the test: a sanitizer's report, a crash or an exit code other than 0 fails it, and the log
// of a failed test is printed.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Inbox, TIMEOUT_MS, within } from './inbox.js';

const REPOSITORY = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const BINARY = path.resolve(process.env.CURLEW_BINARY ?? path.join(REPOSITORY, 'build/curlew'));
// For tests that are about threads: the build with ThreadSanitizer, where there is one.
export const THREADS_BINARY = path.resolve(process.env.CURLEW_BINARY_TSAN ?? BINARY);
// For loads at a size that a sanitizer makes too slow: the release build, with bench/curlew-bench beside it.
export const RELEASE_BINARY = path.resolve(process.env.CURLEW_BINARY_RELEASE ?? BINARY);
// The same source with other versions of the protocol between nodes: of the next release, and of one that speaks none
// of this one's.
export const [NEXT_BINARY, APART_BINARY] = ['curlew-next', 'curlew-apart'].map((name) =>
  path.join(path.dirname(BINARY), 'tests/releases', name),
);

// The app that servers have unless the test names others.
export const APP = { id: 'app-id', key: 'app-key', secret: 'app-secret', enable_client_messages: true };

const SANITIZER_REPORT =
  /ERROR: (Address|Leak|Memory|Undefined)\w*Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer/;

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

// A server is used by the rest of the harness through: host, port, url, metricsUrl, metricsPort, pid, configFile, log,
// waitForLog(), reload(), hup(), upgrade(), terminate(), exited(), stop(), kill(), own().

/*
 * Starts a server and waits until it says `ready`.
 *   apps     the records of the memory driver (default: APP)
 *   config   members of the configuration file, merged into the harness's own (objects member by member)
 *   env      environment variables of the server; of the test's own it gets only PATH and sanitizer options
 *   binary   another binary than CURLEW_BINARY
 * Rejects with the exit code and the log when the server ends before it is ready.
 */
export async function startServer({ apps = [APP], config = {}, env = {}, binary = BINARY } = {}) {
  const server = new Server({ apps, config, env, binary });
  await server.start();
  return server;
}

// A server for one test: stopped and judged after it.
export async function serverFor(t, options) {
  const server = await startServer(options);
  t.after(async () => {
    if (t.passed === false) server.printLog(t.name);
    await server.stop();
  });
  return server;
}

// A server for all tests of a file. Call at the top level: `const server = await sharedServer({...})`.
export async function sharedServer(options) {
  const server = await startServer(options);
  afterEach((t) => {
    if (t.passed === false) server.printLog(t.name);
  });
  after(() => server.stop());
  return server;
}

// Runs the binary to its end, for command lines that start no server: {code, signal, stdout, stderr}.
// `configText` (a string) or `config` (an object) is written to a file and passed as --config.
export async function runCurlew(args, { config, configText, env = {}, binary = BINARY, timeoutMs = TIMEOUT_MS } = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'curlew-e2e-'));
  const text = configText ?? (config && JSON.stringify(config, null, 2));
  const configFile = path.join(folder, 'config.json');
  if (text !== undefined) writeFileSync(configFile, text);
  const child = spawn(binary, text === undefined ? args : [...args, '--config', configFile], {
    cwd: folder,
    env: environment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr, configFile }));
  });
  try {
    return await within(ended, `${path.basename(binary)} ${args.join(' ')} to end`, timeoutMs);
  } finally {
    child.kill('SIGKILL');
    running.delete(child);
    rmSync(folder, { recursive: true, force: true });
  }
}

class Server {
  // The lines of the log as objects {time, level, target, message}; a line that is no JSON has only `message`.
  log = new Inbox('log of the server', (line) => `${line.level ?? ''} ${line.target ?? ''} ${line.message}`);
  #child = null;
  #pid = null; // of the process that serves: another one after an upgrade
  #started = new Set(); // those that upgrades have started
  #ended = null;
  #folder;
  #stopping = null;
  #clients = [];

  constructor({ apps, config, env, binary }) {
    this.binary = binary;
    this.env = environment(env);
    this.config = merge(
      {
        host: '127.0.0.1',
        port: 0,
        mode: 'production',
        workers: 2,
        shutdown_grace_period: 1,
        metrics: { host: '127.0.0.1', port: 0 },
        // Tests send as fast as they can.
        rate_limits: { max_read_requests_per_second: 0, max_backend_events_per_second: 0 },
        app_manager: { driver: 'memory', array: { apps } },
      },
      config,
    );
    this.#folder = mkdtempSync(path.join(tmpdir(), 'curlew-e2e-'));
    this.configFile = path.join(this.#folder, 'config.json');
  }

  get pid() {
    return this.#pid;
  }

  get url() {
    return `http://${this.host}:${this.port}`;
  }

  async start() {
    this.#writeConfig();
    this.#child = spawn(this.binary, ['serve', '--config', this.configFile], {
      cwd: this.#folder,
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#pid = this.#child.pid;
    running.add(this);
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve({ code: null, signal: null, error }));
      this.#child.once('close', (code, signal) => resolve({ code, signal }));
    });
    this.#ended.then(({ code, signal, error }) => {
      running.delete(this);
      this.log.close(
        error ? `cannot start ${this.binary}: ${error.message}` : `the server ended (${signal ?? `exit code ${code}`})`,
      );
    });
    lines(this.#child.stderr, (line) => {
      const parsed = parseLogLine(line);
      const started = parsed.message.match(/ has started process (\d+) /);
      if (started) this.#started.add(Number(started[1]));
      this.log.push(parsed);
    });
    lines(this.#child.stdout, (line) => this.log.push({ target: 'stdout', message: line }));
    try {
      await this.waitForLog(/^ready\b/);
      const { message } = await this.waitForLog(/^listening on (https?:\/\/|unix:)/);
      if (message.includes('unix:')) {
        this.socketPath = message.slice('listening on unix:'.length);
      } else {
        const [, host, port] = message.match(/\/\/(\[[^\]]*\]|[^:/]+):(\d+)/);
        this.host = host;
        this.port = Number(port);
      }
      if (this.config.metrics.enabled !== false) {
        this.metricsUrl = (await this.waitForLog(/^metrics on http/)).message.match(/http\S+/)[0];
        this.metricsPort = Number(new URL(this.metricsUrl).port);
      }
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  // The first line of the log, past or to come, whose message the pattern or function accepts. `since` (a length of
  // `log.all`) leaves out lines before it.
  async waitForLog(pattern, { since = 0, timeoutMs = TIMEOUT_MS } = {}) {
    const before = new Set(this.log.all.slice(0, since)); // nobody may have taken them
    const matches = typeof pattern === 'function' ? pattern : (line) => pattern.test(line.message);
    const accepts = (line) => !before.has(line) && matches(line);
    const seen = this.log.all.find(accepts);
    return seen ?? this.log.next(Object.assign(accepts, { label: `a log line ${pattern}` }), timeoutMs);
  }

  // Replaces the apps (and other members of the configuration file, if given) and reloads; resolves to the log line
  // that says what changed, or why nothing did.
  async reload({ apps, config = {}, text } = {}) {
    this.config = merge(this.config, config);
    if (apps) this.config.app_manager.array.apps = apps;
    if (text === undefined) this.#writeConfig();
    else writeFileSync(this.configFile, text);
    return this.hup();
  }

  // Sends SIGHUP; resolves to the log line that tells its outcome.
  async hup() {
    const since = this.log.all.length;
    this.signal('SIGHUP');
    return this.waitForLog(/^(apps reloaded|nothing was changed)\b/, { since });
  }

  // Sends a signal to the process that serves.
  signal(name) {
    if (this.#pid !== null) process.kill(this.#pid, name);
  }

  #signalAll(name) {
    this.#child.kill(name);
    for (const pid of this.#started) {
      try {
        process.kill(pid, name);
      } catch {
        // it has ended
      }
    }
  }

  // Starts an upgrade with SIGUSR2; resolves to {old, pid, ended} when the new process serves: the ids of both, and
  // ended() waits until the old one has closed its last connection.
  async upgrade() {
    const old = this.#pid;
    const since = this.log.all.length;
    this.signal('SIGUSR2');
    const outcome = await this.waitForLog(/ accepts connections in place of process |the upgrade has failed/, {
      since,
    });
    if (/failed/.test(outcome.message)) throw new Error(outcome.message);
    await this.waitForLog(/^ready$/, { since });
    this.#pid = Number(outcome.message.match(/^process (\d+) /)[1]);
    const gone = new RegExp(`^process ${old} has ended$`);
    return { old, pid: this.#pid, ended: () => this.waitForLog(gone, { since }) };
  }

  // An upgrade has come to nothing: the process that serves is this one again.
  serves(pid) {
    this.#pid = pid;
  }

  // Registers a client of this server: `end` is called before the server is stopped, so that no test waits for a drain.
  own(end) {
    this.#clients.push(end);
  }

  // Sends SIGTERM without waiting, for tests that watch the shutdown. The test still ends with stop().
  terminate() {
    this.signal('SIGTERM');
  }

  // How the process ended: {code, signal}.
  exited(timeoutMs = TIMEOUT_MS) {
    return within(this.#ended, 'the server to end', timeoutMs);
  }

  // Ends the server with SIGTERM and throws if it did not end well. Safe to call twice.
  stop() {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  // Ends the server with SIGKILL, judging nothing.
  async kill() {
    this.#stopping ??= Promise.resolve();
    this.#signalAll('SIGKILL');
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #stop() {
    for (const end of this.#clients) end();
    this.#signalAll('SIGTERM');
    // A test that failed while the server stood still left it so: it would take no other signal but SIGKILL.
    this.#signalAll('SIGCONT');
    let ending;
    try {
      ending = await this.exited();
    } catch (error) {
      this.#signalAll('SIGABRT');
      await this.#ended;
      this.printLog('a server that did not end on SIGTERM');
      throw error;
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
    const report = this.log.all.findIndex((line) => SANITIZER_REPORT.test(line.message));
    if (report >= 0) {
      throw new Error(
        `a sanitizer reported:\n${this.log.all
          .slice(report, report + 80)
          .map((line) => line.message)
          .join('\n')}`,
      );
    }
    if (ending.code !== 0) {
      this.printLog('a server that ended badly');
      throw new Error(`the server ended with ${ending.signal ?? `exit code ${ending.code}`} instead of 0`);
    }
  }

  printLog(title) {
    const shown = this.log.all.slice(-200);
    process.stderr.write(`--- log of the server (pid ${this.pid}) of: ${title}\n`);
    for (const line of shown) process.stderr.write(`    ${this.log.describe(line)}\n`);
    process.stderr.write('--- end of the log\n');
  }

  #writeConfig() {
    writeFileSync(this.configFile, JSON.stringify(this.config, null, 2), { mode: 0o600 });
  }
}

// The server's environment: only what a program needs to run, so that a developer's PORT or HOST decides no test.
function environment(env) {
  const kept = {};
  for (const name of ['PATH', 'HOME', 'LANG', 'TZ', 'ASAN_OPTIONS', 'LSAN_OPTIONS', 'TSAN_OPTIONS', 'UBSAN_OPTIONS']) {
    if (process.env[name] !== undefined) kept[name] = process.env[name];
  }
  return { UBSAN_OPTIONS: 'print_stacktrace=1', LOG_OUTPUT_FORMAT: 'json', ...kept, ...env };
}

function merge(base, change) {
  const merged = { ...base };
  for (const [name, value] of Object.entries(change)) {
    const both = isObject(value) && isObject(base[name]);
    merged[name] = both ? merge(base[name], value) : value;
  }
  return merged;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseLogLine(line) {
  try {
    const parsed = JSON.parse(line);
    return isObject(parsed) && typeof parsed.message === 'string' ? parsed : { message: line };
  } catch {
    return { message: line };
  }
}

function lines(stream, receive) {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop();
    parts.forEach(receive);
  });
  stream.on('end', () => {
    if (rest !== '') receive(rest);
  });
}
