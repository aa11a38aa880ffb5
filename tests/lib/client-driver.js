// Public client libraries, each in a program or page of its own (tests/clients/): commands go in and events come out,
// as JSON objects.
//
// Commands, by their member `do`: connect {host, port, key, secret, auth}, subscribe, unsubscribe {channel},
// trigger {channel, name, data}, signin, disconnect. `data` is always a text.
// Events, by their member `event`: connected {socket_id}, disconnected, subscribed {channel, members?},
// refused {channel?, text}, message {channel, name, data, user?}, added, removed {channel, id}, cache_miss {channel},
// signed_in, user_message {name, data}, online, offline {users}, error {code, text}.

import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Inbox, LONG_TIMEOUT_MS, matching } from './inbox.js';
import { Page } from './page.js';
import { start } from './process.js';

const TESTS = fileURLToPath(new URL('..', import.meta.url));
const CLIENTS = path.join(TESTS, 'clients');

class Driver {
  constructor(what, send) {
    this.inbox = new Inbox(`events of ${what}`);
    this.send = send;
  }

  command(what, members = {}) {
    return this.send({ do: what, ...members });
  }

  next(wanted, timeoutMs) {
    return this.inbox.next(matching(wanted), timeoutMs);
  }
}

function programDriver(t, what, command, args, options) {
  const program = start(t, command, args, { input: true, ...options });
  const driver = new Driver(what, (order) => program.child.stdin.write(`${JSON.stringify(order)}\n`));
  program.child.stdout.setEncoding('utf8');
  program.child.stdout.on(
    'data',
    lineReader((line) => driver.inbox.push(JSON.parse(line))),
  );
  program
    .exited(LONG_TIMEOUT_MS)
    .then(({ code }) => driver.inbox.close(`the driver has ended (${code}); it said:\n${program.err.all.join('\n')}`))
    .catch(() => {});
  return driver;
}

function lineReader(hear) {
  let rest = '';
  return (chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    lines.forEach(hear);
  };
}

// A driver in Node, of tests/clients/node.
export function nodeDriver(t, name) {
  return programDriver(t, name, process.execPath, [path.join(CLIENTS, 'node', `${name}.js`)]);
}

// A driver in Java, of tests/clients/java.
export function javaDriver(t, name) {
  const folder = path.join(CLIENTS, 'java');
  if (!existsSync(path.join(folder, 'jars', '.fetched'))) {
    throw new Error(`the libraries for Java were not fetched: ${readLog(path.join(folder, 'jars', 'maven.log'))}`);
  }
  return programDriver(t, name, 'java', [
    '-XX:TieredStopAtLevel=1',
    '-XX:+UseSerialGC',
    '-Xmx128m',
    '-cp',
    path.join(folder, 'jars', '*'),
    path.join(folder, `${name}.java`),
  ]);
}

// A driver in Python, of tests/clients/python.
export function pythonDriver(t, name) {
  const folder = path.join(CLIENTS, 'python');
  if (!existsSync(path.join(folder, 'packages', '.fetched'))) {
    throw new Error(`the packages for Python were not fetched: ${readLog(path.join(folder, 'packages', 'pip.log'))}`);
  }
  return programDriver(t, name, path.join(folder, 'packages', 'bin', 'python'), [
    '-uB',
    path.join(folder, `${name}.py`),
  ]);
}

function readLog(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : 'run `make test`, which fetches them';
}

const BROWSER_FILES = {
  '/pusher.js': 'node_modules/pusher-js/dist/web/pusher-with-encryption.js',
  '/echo.js': 'node_modules/laravel-echo/dist/echo.iife.js',
  '/driver.js': 'clients/browser/driver.js',
};
const PAGE = `<!doctype html><title>driver</title>${Object.keys(BROWSER_FILES)
  .map((name) => `<script src="${name}"></script>`)
  .join('')}`;

// pusher-js or laravel-echo in a page of headless Chromium.
export async function browserDriver(t, library) {
  const files = http.createServer((request, response) => {
    const file = BROWSER_FILES[request.url];
    response.setHeader('Content-Type', file === undefined ? 'text/html' : 'text/javascript');
    response.end(file === undefined ? PAGE : readFileSync(path.join(TESTS, file)));
  });
  await once(files.listen(0, '127.0.0.1'), 'listening');
  t.after(() => files.close());
  const driver = new Driver(`${library} in Chromium`, (order) => page.run(`command(${JSON.stringify(order)})`));
  const url = `http://127.0.0.1:${files.address().port}/?${library}`;
  const page = await Page.open(url, LONG_TIMEOUT_MS, { hear: (text) => driver.inbox.push(JSON.parse(text)) });
  t.after(() => page.close());
  return driver;
}
