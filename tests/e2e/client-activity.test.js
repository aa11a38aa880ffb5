// Public clients that are never cut off: each stays connected while it is idle, and while it only receives, for longer
// than the server waits for the answer to its pings. They take half a minute, so they run side by side.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { authEndpoint } from '../lib/auth-endpoint.js';
import { connect } from '../lib/client.js';
import { browserDriver, javaDriver, nodeDriver, pythonDriver } from '../lib/client-driver.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { APP, sharedServer } from '../lib/server.js';

const server = await sharedServer({ config: { activity_timeout: 1 }, apps: [{ ...APP, max_connections: 0 }] });

const clients = {
  'pusher-java-client': (t) => javaDriver(t, 'ClientDriver'),
  pysher: (t) => pythonDriver(t, 'pysher_driver'),
  asyncpusher: (t) => pythonDriver(t, 'asyncpusher_driver'),
  'pusher-client': (t) => nodeDriver(t, 'pusher-client'),
  'pusher-js in Chromium': (t) => browserDriver(t, 'pusher-js'),
};

async function joined(t, open, channel) {
  const driver = await open(t);
  const auth = await authEndpoint(t, APP, {});
  const { key, secret } = APP;
  await driver.command('connect', { host: server.host, port: server.port, key, secret, auth });
  await driver.next('connected', LONG_TIMEOUT_MS);
  await driver.command('subscribe', { channel });
  await driver.next('subscribed');
  return driver;
}

// Waits until the server has closed another client, which is younger and answers only the first of its pings.
async function silentOneIsClosed(t) {
  const silent = await connect(server, { t });
  await silent.next('pusher:ping', LONG_TIMEOUT_MS);
  silent.send({ event: 'pusher:pong', data: {} });
  const error = await silent.next('pusher:error', LONG_TIMEOUT_MS);
  assert.equal(error.data.code, 4201);
}

// Sends an event, and insists that the client gets it on its first connection.
async function stillThere(driver, channel) {
  await publish(server, { name: 'my-event', channel, data: '{}' });
  await driver.next('message');
  assert.equal(driver.inbox.all.filter(({ event }) => event === 'connected').length, 1, 'it never had to come back');
}

describe('public clients stay connected', { concurrency: true }, () => {
  for (const [name, open] of Object.entries(clients)) {
    const short = name.split(' ')[0];

    test(`${name}, idle`, async (t) => {
      const driver = await joined(t, open, `idle-${short}`);
      await silentOneIsClosed(t);
      await stillThere(driver, `idle-${short}`);
    });

    test(`${name}, which gets events and sends none`, async (t) => {
      const driver = await joined(t, open, `busy-${short}`);
      let waiting = true;
      const closed = silentOneIsClosed(t).finally(() => {
        waiting = false;
      });
      while (waiting) {
        await stillThere(driver, `busy-${short}`);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      await closed;
    });
  }
});
