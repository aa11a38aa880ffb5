// What the first page promises: a server on this machine, `pusher-js` in one process, the `pusher` SDK in another, and
// their events.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { start } from '../lib/process.js';
import { APP, serverFor } from '../lib/server.js';

const FOLDER = path.join(path.dirname(fileURLToPath(import.meta.url)), 'example');

function script(t, name, server) {
  const env = { CURLEW_HOST: server.host, CURLEW_PORT: String(server.port), CURLEW_APP: JSON.stringify(APP) };
  return start(t, process.execPath, [path.join(FOLDER, name)], { env });
}

// Takes the next line, which is one JSON value.
const said = async (program) => JSON.parse(await program.out.next());

test('two processes with unmodified libraries exchange events', async (t) => {
  const server = await serverFor(t);
  const listener = script(t, 'listen.js', server);
  assert.deepEqual(await said(listener), ['subscribed', 'my-channel']);
  assert.deepEqual(await said(listener), ['subscribed', 'presence-room']);
  const publisher = script(t, 'publish.js', server);
  assert.deepEqual(await said(publisher), ['occupied', { 'my-channel': {}, 'presence-room': {} }]);
  assert.deepEqual(await said(publisher), ['users', [{ id: 'listener' }]]);
  assert.deepEqual(await publisher.exited(), { code: 0, signal: null });
  assert.deepEqual(await said(listener), ['my-channel', 'my-event', { message: 'hello world' }]);
  assert.deepEqual(await said(listener), ['presence-room', 'my-event', { message: 'hello room' }]);
  assert.deepEqual(await said(listener), ['my-channel', 'goodbye', { n: 1 }]);
  assert.deepEqual(await listener.exited(), { code: 0, signal: null });
});
