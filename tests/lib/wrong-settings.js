// Servers whose store's settings are wrong: one that could never work does not start, any other starts without its
// store.

import assert from 'node:assert/strict';

import { RawWebSocket } from './raw-websocket.js';
import { runCurlew, serverFor } from './server.js';

const health = async (server) => (await fetch(`${server.url}/up`)).text();

async function refusal(server) {
  const ws = await RawWebSocket.connect(server, { key: 'nobody' });
  const { data } = await ws.expect('pusher:error');
  ws.destroy();
  return data.code;
}

/*
 * Starts a server whose store cannot be reached with its settings. The log says so in these words, and clients are told
 * to come back. After `repair` has mended what was wrong outside of the server, the server continues by itself. Its log
 * never holds `secret`.
 */
export async function servesWithout(t, { config, env, says, secret, repair }) {
  const server = await serverFor(t, {
    config: { ...config, app_manager: { ...config.app_manager, array: { apps: [] } } },
    env,
  });
  const { level, message } = await server.waitForLog(/^the \w+ store cannot be reached: /);
  assert.equal(level, 'error');
  assert.match(message, says);
  assert.equal(await refusal(server), 4100);
  assert.equal(await health(server), 'ERROR');
  if (repair !== undefined) {
    await repair();
    await server.waitForLog(/^the \w+ store answers/);
    assert.equal(await refusal(server), 4001);
    assert.equal(await health(server), 'OK');
  }
  assert.ok(secret === undefined || !server.log.all.some((line) => JSON.stringify(line).includes(secret)));
}

// Settings with which no server could ever work: exit code 2, and the setting.
export async function neverStarts({ config, says }) {
  const { code, stdout, stderr } = await runCurlew(['serve'], { config: { port: 0, ...config } });
  assert.equal(code, 2, stdout + stderr);
  assert.match(stdout + stderr, says);
}
