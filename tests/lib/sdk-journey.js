// The journey that every server SDK makes: publishing, asking, terminating, signing for clients. The SDK is a driver
// (client-driver.js) whose commands are open {id, key, secret, host, port, encryption_key}, trigger {channels, name,
// data, socket_id?}, batch {events}, channels {prefix, info}, channel {channel, info}, users {channel}, terminate
// {user}, authorize {channel, socket_id, member?} and authenticate {socket_id, user}; each but open is answered by
// answer {value} or failed {text}.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';

import { ENCRYPTION_KEY } from './auth-endpoint.js';
import { closedWithError, connect, signin, subscribe } from './client.js';
import { connected, makePusher, record } from './pusher.js';
import { serverFor } from './server.js';

// The Python SDK takes only ids of digits.
const APP = { id: '4711', key: 'journey-key', secret: 'journey-secret', enable_client_messages: true };
const DATA = { text: 'hello "world" é 😀', number: 1.5, list: [1, null, true] };
const JSON_DATA = JSON.stringify(DATA);
const MEMBER = { user_id: 'm1', user_info: { name: 'Member' } };

// What a step needs beside the basics is named by `needs`, a member of `can`.
const steps = [
  {
    what: 'an event reaches one channel, or many',
    async run({ ask, ws }) {
      for (const channels of [['news'], ['news', 'private-desk', 'presence-room']]) {
        await ask('trigger', { channels, name: 'e', data: JSON_DATA });
        for (const channel of channels) assert.deepEqual(await dataOn(ws, channel), DATA);
      }
    },
  },
  {
    what: 'the connection that caused an event does not get it',
    async run({ t, server, ask, ws }) {
      const other = await connect(server, { t, app: APP });
      await subscribe(other, 'news');
      await ask('trigger', { channels: ['news'], name: 'e', data: JSON_DATA, socket_id: ws.socketId });
      assert.deepEqual(await dataOn(other, 'news'), DATA);
      await nothingOf(ws, 'news');
    },
  },
  {
    what: 'a batch reaches its channels',
    async run({ ask, ws }) {
      const events = ['news', 'private-desk'].map((channel) => ({ channel, name: 'e', data: JSON_DATA }));
      await ask('batch', { events });
      for (const { channel } of events) assert.deepEqual(await dataOn(ws, channel), DATA);
    },
  },
  {
    what: 'an encrypted event is decrypted by pusher-js',
    async run({ t, server, ask }) {
      const channel = 'private-encrypted-vault';
      const sharedSecret = createHash('sha256')
        .update(channel)
        .update(Buffer.from(ENCRYPTION_KEY, 'base64'))
        .digest('base64');
      const client = makePusher(server, { t, app: APP, sharedSecret });
      await connected(client);
      const events = record(client.subscribe(channel));
      await events.next('pusher:subscription_succeeded');
      await ask('trigger', { channels: [channel], name: 'e', data: JSON_DATA });
      assert.deepEqual((await events.next('e')).data, DATA);
    },
  },
  {
    what: 'channels and users are listed',
    async run({ ask }) {
      const { channels } = await ask('channels', { prefix: 'presence-', info: ['user_count'] });
      assert.deepEqual(channels, { 'presence-room': { user_count: 1 } });
      const info = ['user_count', 'subscription_count'];
      assert.deepEqual(await ask('channel', { channel: 'presence-room', info }), {
        occupied: true,
        user_count: 1,
        subscription_count: 1,
      });
      assert.deepEqual(await ask('users', { channel: 'presence-room' }), { users: [{ id: 'm1' }] });
    },
  },
  {
    what: 'its signatures open channels',
    async run({ t, server, ask }) {
      const ws = await connect(server, { t, app: APP });
      const { auth } = await ask('authorize', { channel: 'private-signed', socket_id: ws.socketId });
      await subscribe(ws, 'private-signed', { auth });
      const presence = { channel: 'presence-signed', socket_id: ws.socketId, member: MEMBER };
      const answer = await ask('authorize', presence);
      const { data } = await subscribe(ws, 'presence-signed', { auth: answer.auth, channelData: answer.channel_data });
      assert.deepEqual(JSON.parse(data).presence.hash, { m1: MEMBER.user_info });
    },
  },
  {
    what: 'its signatures sign users in',
    needs: 'authenticate',
    async run({ t, server, ask }) {
      const ws = await connect(server, { t, app: APP });
      const user = { id: 'u1', user_info: { name: 'User' } };
      const answer = await ask('authenticate', { socket_id: ws.socketId, user });
      const { data } = await signin(ws, undefined, { userData: answer.user_data, auth: answer.auth });
      assert.deepEqual(JSON.parse(data.user_data), user);
    },
  },
  {
    what: "a user's connections are terminated",
    needs: 'terminate',
    async run({ t, server, ask }) {
      const ws = await connect(server, { t, app: APP });
      await signin(ws, { id: 'ended' });
      await ask('terminate', { user: 'ended' });
      await closedWithError(ws, 4009);
    },
  },
  {
    what: 'a wrong secret, a wrong key and an unknown app are told as what they are',
    async run({ driver, where }) {
      for (const [wrong, text] of [
        [{ secret: 'wrong' }, /signature/],
        [{ key: 'wrong' }, /auth_key/],
        [{ id: '4712' }, /there is no app with this id/],
      ]) {
        await driver.command('open', { ...where, ...wrong });
        await driver.command('trigger', { channels: ['news'], name: 'e', data: JSON_DATA });
        assert.match((await driver.next('failed')).text, text);
      }
    },
  },
];

// Makes an SDK take the journey. `open(t)` starts its driver; `can` says what else it offers:
// authenticate (signs users in), terminate.
export function sdkJourney(name, open, can) {
  test(name, async (t) => {
    const server = await serverFor(t, { apps: [APP] });
    const driver = await open(t);
    const where = { ...APP, host: '127.0.0.1', port: server.port, encryption_key: ENCRYPTION_KEY };
    await driver.command('open', where);
    const ask = async (what, members) => {
      await driver.command(what, members);
      const answer = await driver.next(({ event }) => event === 'answer' || event === 'failed');
      assert.equal(answer.event, 'answer', answer.text);
      return answer.value;
    };
    const ws = await connect(server, { t, app: APP });
    for (const channel of ['news', 'private-desk']) await subscribe(ws, channel);
    await subscribe(ws, 'presence-room', { user: MEMBER });
    for (const { what, needs, run } of steps) {
      if (needs === undefined || can[needs]) {
        await t.test(what, (inner) => run({ t: inner, server, driver, where, ask, ws }));
      }
    }
  });
}

// The data of the next event on a channel, parsed.
async function dataOn(ws, channel) {
  return JSON.parse((await ws.next({ event: 'e', channel })).data);
}

// Proves that no event of the channel has come: the answers to what this connection sent are here.
async function nothingOf(ws, channel) {
  assert.deepEqual(
    (await ws.fence()).filter((message) => message.channel === channel),
    [],
  );
}
