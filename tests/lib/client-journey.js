// The journey that every public client makes: what an application does with the server, seen from its client library.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';

import { api, publish } from './api.js';
import { authEndpoint, ENCRYPTION_KEY } from './auth-endpoint.js';
import { connect, signin, subscribe, trigger } from './client.js';
import { TIMEOUT_MS } from './inbox.js';
import { lead } from './middle.js';
import { serverFor } from './server.js';

const Pusher = createRequire(import.meta.url)('pusher');
const APP = { id: '4711', key: 'journey-key', secret: 'journey-secret', enable_client_messages: true };
const MEMBER = { user_id: 'agent', user_info: { id: 'agent', name: 'Agent' } };
const USER = { id: 'agent', user_info: { name: 'Agent' }, watchlist: ['friend'] };
const DATA = { text: 'hello "world" é 😀', number: 1.5, list: [1, null, true] };
const MESSAGE = { name: 'my-event', data: JSON.stringify(DATA) };

const sent = (what) => (message) => message.event === 'message' && JSON.parse(message.data).what === what;

// What a step needs beside the basics is named by `needs`, a member of `can`.
const steps = [
  {
    what: 'events of a public channel arrive as they were published',
    async run({ server, driver }) {
      await joined(driver, 'news');
      await publishTo(server, { ...MESSAGE, channel: 'news' });
      const { data, channel } = await driver.next('message');
      assert.deepEqual([channel, JSON.parse(data)], ['news', DATA]);
    },
  },
  {
    what: 'a private channel is joined with a signature',
    async run({ server, driver }) {
      await joined(driver, 'private-desk');
      await publishTo(server, { ...MESSAGE, channel: 'private-desk' });
      assert.equal((await driver.next('message')).channel, 'private-desk');
    },
  },
  {
    what: 'a wrong signature is refused, and the connection stays',
    async run({ driver, can }) {
      for (const channel of can.endpoint ? ['private-wrong', 'private-forbidden'] : []) {
        await driver.command('subscribe', { channel });
        await driver.next('refused');
      }
      await joined(driver, 'after-the-refusal');
    },
  },
  {
    what: 'client events go both ways',
    async run({ t, server, driver }) {
      const other = await connect(server, { t, app: APP });
      await subscribe(other, 'private-desk');
      trigger(other, 'private-desk', 'client-event', DATA);
      const { name, data } = await driver.next({ event: 'message', name: 'client-event' });
      assert.deepEqual([name, JSON.parse(data)], ['client-event', DATA]);
      await driver.command('trigger', { channel: 'private-desk', name: 'client-event', data: JSON.stringify(DATA) });
      const got = (await other.next('client-event')).data;
      assert.deepEqual(typeof got === 'string' ? JSON.parse(got) : got, DATA);
    },
  },
  {
    what: 'a presence channel tells who is there, who comes and who goes',
    async run({ t, server, driver }) {
      const first = await connect(server, { t, app: APP });
      await subscribe(first, 'presence-room', { user: { user_id: 'first', user_info: { id: 'first' } } });
      const { members } = await joined(driver, 'presence-room');
      assert.deepEqual(members, ['agent', 'first']);
      assert.deepEqual(JSON.parse((await first.next('pusher_internal:member_added')).data).user_id, 'agent');
      const second = await connect(server, { t, app: APP });
      await subscribe(second, 'presence-room', { user: { user_id: 'second', user_info: { id: 'second' } } });
      assert.equal((await driver.next('added')).id, 'second');
      await second.close();
      assert.equal((await driver.next('removed')).id, 'second');
    },
  },
  {
    what: 'events of an encrypted channel are decrypted',
    needs: 'encrypted',
    async run({ server, driver }) {
      await joined(driver, 'private-encrypted-vault');
      const sdk = new Pusher({
        appId: APP.id,
        key: APP.key,
        secret: APP.secret,
        host: server.host,
        port: server.port,
        useTLS: false,
        encryptionMasterKeyBase64: ENCRYPTION_KEY,
      });
      await sdk.trigger('private-encrypted-vault', 'my-event', DATA);
      const { data } = await driver.next({ event: 'message', channel: 'private-encrypted-vault' });
      assert.deepEqual(JSON.parse(data), DATA);
    },
  },
  {
    what: 'a cache channel gives its last event, or says that there is none',
    async run({ server, driver, can }) {
      await publishTo(server, { name: 'my-event', channel: 'cache-full', data: '{"what":"kept"}' });
      await joined(driver, 'cache-full');
      await driver.next(sent('kept'));
      await joined(driver, 'cache-empty');
      if (can.cacheMiss) assert.equal((await driver.next('cache_miss')).channel, 'cache-empty');
    },
  },
  {
    what: 'a user signs in, gets events of their own, and hears of the users on the watchlist',
    needs: 'signin',
    async run(state) {
      const { t, server, driver, can } = state;
      await driver.command('signin');
      if (can.watchlist) assert.deepEqual((await driver.next('offline')).users, ['friend']);
      // The Java client does not tell when it is signed in.
      await signedIn(server, driver, 'signed in');
      if (!can.watchlist) return;
      const friend = await connect(server, { t, app: APP });
      await signin(friend, { id: 'friend' });
      assert.deepEqual((await driver.next('online')).users, ['friend']);
      await friend.close();
      assert.deepEqual((await driver.next('offline')).users, ['friend']);
    },
  },
  {
    what: 'after unsubscribing no event of the channel comes',
    async run({ server, driver }) {
      await joined(driver, 'left');
      await driver.command('unsubscribe', { channel: 'left' });
      await occupied(server, 'left', false);
      await publishTo(server, { name: 'my-event', channel: 'left', data: '{"what":"missed"}' });
      await publishTo(server, { name: 'my-event', channel: 'news', data: '{"what":"marker"}' });
      await driver.next(sent('marker'));
      assert.equal(driver.inbox.all.some(sent('missed')), false);
    },
  },
  {
    what: 'a connection that breaks comes back with its channels',
    async run({ server, driver, line, can }) {
      line.cut();
      await cameBack(server, driver, 'after the break');
      if (can.endpoint) await reached(server, driver, 'private-desk', 'after the break, in private');
    },
  },
  {
    what: 'a user who is told to reconnect comes back at once, with channels and sign-in',
    needs: 'signin',
    async run({ server, driver }) {
      await signedIn(server, driver, 'before 4200');
      assert.equal((await api(server, 'POST', '/users/agent/force_reconnect', { app: APP })).status, 200);
      await cameBack(server, driver, 'after 4200');
      await signedIn(server, driver, 'after 4200');
    },
  },
  {
    what: 'a server that is stopped hands its clients over to the next one, with channels and sign-in',
    async run(state) {
      await state.restart();
      const { server, driver, can } = state;
      await cameBack(server, driver, 'after the restart');
      if (can.signin) await signedIn(server, driver, 'after the restart');
    },
  },
  {
    what: 'disconnecting leaves all channels',
    async run({ server, driver }) {
      await driver.command('disconnect');
      await occupied(server, 'news', false);
    },
  },
  {
    what: 'a channel signed with a wrong secret is refused',
    needs: 'secret',
    async run({ driver, where }) {
      await driver.command('connect', { ...where, secret: 'wrong' });
      await driver.next('connected');
      await driver.command('subscribe', { channel: 'private-desk' });
      await driver.next('refused');
    },
  },
  {
    what: 'an unknown key is refused with 4001',
    needs: 'errors',
    async run({ driver, where }) {
      await driver.command('connect', { ...where, key: 'no-such-key' });
      await driver.next({ event: 'error', code: '4001' });
    },
  },
];

/*
 * Makes a client take the journey. `open(t)` starts its driver (client-driver.js); `can` says what the library offers:
 * endpoint (asks a back end for signatures), secret (signs by itself), encrypted, cacheMiss, signin, watchlist, errors
 * (tells the code of an error).
 */
export function journey(name, open, can) {
  test(name, async (t) => {
    const options = { apps: [{ ...APP, enable_watchlist_events: true }] };
    const server = await serverFor(t, options);
    const line = await cuttableLine(t, server);
    const auth = await authEndpoint(t, APP, { member: MEMBER, user: USER });
    const driver = await open(t);
    const where = { host: '127.0.0.1', port: line.port, key: APP.key, secret: APP.secret, auth };
    const state = { server, driver, line, where, can };
    state.restart = async () => {
      const next = await serverFor(t, options);
      line.leadTo(next);
      await state.server.stop();
      state.server = next;
    };
    await driver.command('connect', where);
    assert.match((await driver.next('connected')).socket_id, /^\d+\.\d+$/);
    for (const { what, needs, run } of steps) {
      if (needs === undefined || can[needs]) await t.test(what, (inner) => run(Object.assign(state, { t: inner })));
    }
  });
}

const publishTo = (server, body) => publish(server, body, { app: APP });

// Subscribes and waits for the success.
async function joined(driver, channel) {
  await driver.command('subscribe', { channel });
  return driver.next({ event: 'subscribed', channel });
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 10));

// Waits until the channel has subscribers, or none: the server knows, and does not tell when it changes.
async function occupied(server, channel, wanted) {
  const deadline = performance.now() + TIMEOUT_MS;
  while ((await api(server, 'GET', `/channels/${channel}`, { app: APP })).json.occupied !== wanted) {
    assert.ok(performance.now() < deadline, `${channel} should ${wanted ? 'have subscribers' : 'be empty'}`);
    await pause();
  }
}

// Publishes until the event `wanted` comes: what is published before the client is there is for nobody.
async function publishUntil(driver, wanted, server, body) {
  const arrived = driver.next(wanted);
  let waiting = true;
  const over = () => {
    waiting = false;
  };
  arrived.then(over, over);
  while (waiting) {
    await publishTo(server, body);
    await pause();
  }
  return arrived;
}

function reached(server, driver, channel, what) {
  return publishUntil(driver, sent(what), server, { name: 'my-event', channel, data: JSON.stringify({ what }) });
}

// Waits for the next connection of the client, and until it has its channel again.
async function cameBack(server, driver, what) {
  await driver.next('connected');
  await reached(server, driver, 'news', what);
}

// Waits until an event to the user arrives.
async function signedIn(server, driver, what) {
  const wanted = ({ event, data }) => event === 'user_message' && JSON.parse(data).what === what;
  const body = { name: 'my-event', channel: '#server-to-user-agent', data: JSON.stringify({ what, ...DATA }) };
  assert.deepEqual(JSON.parse((await publishUntil(driver, wanted, server, body)).data), { what, ...DATA });
}

// A port that leads to the server, or to another one, and cuts its connections when it is told to.
async function cuttableLine(t, server) {
  const ends = new Set();
  const target = { port: server.port };
  const port = await lead(t, 0, target, (bytes, near, far) => {
    ends.add(near);
    far.write(bytes);
  });
  return {
    port,
    leadTo(next) {
      target.port = next.port;
    },
    cut() {
      for (const end of ends) end.resetAndDestroy();
      ends.clear();
    },
  };
}
