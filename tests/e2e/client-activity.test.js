// Public clients that are never cut off: each stays connected while it is idle, and while it only receives, for longer
// than the server waits for the answer to its pings. They take half a minute, so they run side by side.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { publish } from '../lib/api.js';
import { authEndpoint } from '../lib/auth-endpoint.js';
import { browserDriver, javaDriver, pythonDriver } from '../lib/client-driver.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { APP, sharedServer } from '../lib/server.js';

const LONGER_THAN_A_PING_AND_ITS_TIMEOUT_MS = 34_000;
const server = await sharedServer({ config: { activity_timeout: 1 }, apps: [{ ...APP, max_connections: 0 }] });

const clients = {
  'pusher-java-client': (t) => javaDriver(t, 'ClientDriver'),
  pysher: (t) => pythonDriver(t, 'pysher_driver'),
  asyncpusher: (t) => pythonDriver(t, 'asyncpusher_driver'),
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

const publishTo = (channel) => publish(server, { name: 'my-event', channel, data: '{}' });

describe('public clients stay connected', { concurrency: true }, () => {
  for (const [name, open] of Object.entries(clients)) {
    test(`${name}, idle`, async (t) => {
      const driver = await joined(t, open, `idle-${name.split(' ')[0]}`);
      await new Promise((resolve) => setTimeout(resolve, LONGER_THAN_A_PING_AND_ITS_TIMEOUT_MS));
      await publishTo(`idle-${name.split(' ')[0]}`);
      await driver.next('message');
      assert.equal(
        driver.inbox.all.filter(({ event }) => event === 'connected').length,
        1,
        'it never had to come back',
      );
    });

    test(`${name}, which gets events and sends none`, async (t) => {
      const channel = `busy-${name.split(' ')[0]}`;
      const driver = await joined(t, open, channel);
      for (const until = performance.now() + LONGER_THAN_A_PING_AND_ITS_TIMEOUT_MS; performance.now() < until;) {
        await publishTo(channel);
        await driver.next('message');
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      assert.equal(
        driver.inbox.all.filter(({ event }) => event === 'connected').length,
        1,
        'it never had to come back',
      );
    });
  }
});
