// usage: node readme.mjs FOLDER
//
// Does in FOLDER, a fresh copy of the project, what the README tells a new user to do, with the README's own words:
// start the server, receive and publish with curlew itself, receive with a Node script and with a page, publish from
// Node and from the shell. The exit code is 0 when every event has arrived where the README says it does, and the page
// says what is wrong when it cannot arrive.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { Page } from '../lib/page.js';
import { Program } from './program.mjs';
import { snippets } from './snippets.mjs';

const SECOND = 1000;
const BUILD_MS = 600 * SECOND;
const STEP_MS = 60 * SECOND;
const PORTS = [6001, 9601];

const folder = path.resolve(process.argv[2]);
const { run, file } = snippets(await readFile(path.join(folder, 'README.md'), 'utf8'));
const open = [];

function look(name) {
  assert.ok(run.has(name), `the README has no snippet marked run: ${name}`);
  return run.get(name);
}

// Takes a snippet; what is left in the end was never run.
function take(name) {
  const text = look(name);
  run.delete(name);
  return text;
}

function shell(name, text) {
  const program = new Program(name, 'bash', ['-ec', text], { cwd: folder });
  open.push(() => program.stop());
  return program;
}

async function succeeds(name) {
  const program = shell(name, take(name));
  assert.deepEqual(await program.exited, { code: 0, signal: null }, `the snippet ${name} failed`);
  return program.output;
}

// The README's ports are the real ones, so nobody else may be there.
async function portIsFree(port) {
  const server = net.createServer();
  await new Promise((resolve, reject) => {
    server.on('error', () =>
      reject(new Error(`port ${port} is taken, and the README's snippets need it: stop what listens there`)),
    );
    server.listen(port, '0.0.0.0', resolve);
  });
  await new Promise((resolve) => {
    server.close(resolve);
  });
}

async function filesAreAsShown() {
  for (const [name, text] of file)
    assert.equal(await readFile(path.join(folder, name), 'utf8'), text, `${name} is not what the README shows of it`);
}

const openPage = async () => {
  const page = await Page.open(pathToFileURL(path.join(folder, 'examples/index.html')), STEP_MS);
  open.push(() => page.close());
  return page;
};

async function tryCurlew() {
  const listener = shell('listen', take('listen'));
  await listener.says('subscribed to my-channel', STEP_MS);
  assert.equal(await succeeds('publish'), 'published my-event to my-channel\n');
  await listener.says('my-channel my-event {"message":"hello world"}', STEP_MS);
  assert.deepEqual(await listener.stop(), { code: 0, signal: null });
}

async function tryLibraries() {
  const incomplete = await openPage();
  await incomplete.shows('pusher-js is missing', STEP_MS);
  await incomplete.close();

  await succeeds('fetch');
  const script = shell('receive', take('receive'));
  await script.says('subscribed to my-channel', STEP_MS);
  const page = await openPage();
  await page.shows('subscribed to my-channel', STEP_MS);
  for (const [snippet, output, text] of [
    ['publish-from-node', 'published my-event to my-channel\n', 'my-event: hello from Node'],
    ['publish-from-shell', '{}\n', 'my-event: hello from the shell'],
  ]) {
    assert.equal(await succeeds(snippet), output);
    await script.says(text, STEP_MS);
    await page.shows(text, STEP_MS);
    console.log(`page: ${text}`);
  }
  await page.close();
  await script.stop();
}

async function tryEverything() {
  await filesAreAsShown();
  for (const port of PORTS) await portIsFree(port);

  const server = shell('serve', take('serve'));
  await server.says('build: 50 %', BUILD_MS);
  await server.says('address   http://127.0.0.1:6001', BUILD_MS);
  await server.says('key app-key', STEP_MS);
  // What is printed to be pasted is what the README says.
  for (const name of ['listen', 'publish']) await server.says(look(name).trim(), STEP_MS);

  // A server whose port is another one's is not introduced.
  const second = shell('serve again', 'make run');
  assert.notEqual((await second.exited).code, 0);
  assert.match(second.output, /Address already in use/);
  assert.doesNotMatch(second.output, /^ *address +http/m);

  await tryCurlew();
  await tryLibraries();

  const stopped = server.says('server: stopped', STEP_MS);
  await server.stop();
  await stopped;
  const alone = await openPage();
  await alone.shows('not connected: no server answers on port 6001', STEP_MS);
  await alone.close();
  assert.deepEqual([...run.keys()], [], 'every snippet that is marked was run');
}

async function closeAll() {
  for (const close of open.splice(0).reverse()) await close().catch(() => {});
}

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => closeAll().finally(() => process.exit(1)));

try {
  await tryEverything();
  console.log('readme: every snippet does what the README says');
} catch (error) {
  console.error(`readme: FAILED: ${error.message}`);
  process.exitCode = 1;
} finally {
  await closeAll();
}
