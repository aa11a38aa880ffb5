// GET /apps/{id}/channels and /channels/{name}/users with so many entries that a thread makes the answer.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { publish } from '../lib/api.js';
import { connect, join, sendSubscribe, subscribe } from '../lib/client.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor, THREADS_BINARY } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const FREE = { ...APP, max_connections: 0, max_presence_members_per_channel: 0, max_read_requests_per_second: 0 };
const MANY = 2000; // the server makes lists of up to 500 at once

const listOf = (what, query = {}) => signedPath(APP, 'GET', `/apps/${APP.id}/${what}`, { query });

async function ask(http, target) {
  http.send('GET', target);
  const { status, text, json } = await http.next();
  assert.equal(status, 200, text);
  return json;
}

async function crowded(t) {
  const server = await serverFor(t, { apps: [FREE], binary: THREADS_BINARY, config: { workers: 2 } });
  const ws = await connect(server, { t });
  for (let i = 0; i < MANY; i++) sendSubscribe(ws, `many-${i}`);
  for (let i = 0; i < MANY; i++) await ws.next('pusher_internal:subscription_succeeded');
  return server;
}

test('thousands of channels are all listed, with their counts and by prefix', async (t) => {
  const server = await crowded(t);
  const second = await connect(server, { t });
  await subscribe(second, 'many-7');
  await subscribe(second, 'presence-few', { user: { user_id: 'u' } });
  const http = await RawHttp.connect(server);
  const { channels } = await ask(http, listOf('channels', { info: 'subscription_count' }));
  assert.equal(Object.keys(channels).length, MANY + 1);
  for (let i = 0; i < MANY; i++) assert.equal(channels[`many-${i}`].subscription_count, i === 7 ? 2 : 1);
  const few = await ask(http, listOf('channels', { filter_by_prefix: 'presence-', info: 'user_count' }));
  assert.deepEqual(few, { channels: { 'presence-few': { user_count: 1 } } });
  assert.deepEqual(await ask(http, listOf('channels', { filter_by_prefix: 'none-' })), { channels: {} });
});

test('lists for many requests at once, some of which are given up, are all right', async (t) => {
  const server = await crowded(t);
  const clients = await Promise.all(Array.from({ length: 12 }, () => RawHttp.connect(server)));
  for (const http of clients) http.send('GET', listOf('channels'));
  for (const http of clients.splice(0, 4)) http.destroy();
  for (const http of clients) assert.equal(Object.keys((await http.next()).json.channels).length, MANY);
  // The same connection goes on, pipelined.
  const [http] = clients;
  for (let i = 0; i < 3; i++) http.send('GET', listOf('channels', { filter_by_prefix: 'many-1' }));
  for (let i = 0; i < 3; i++) assert.equal(Object.keys((await http.next()).json.channels).length, 1111);
  await publish(server, { name: 'e', channel: 'c', data: 'x' });
});

test('more requests of one app than may wait get 503 and Retry-After', async (t) => {
  const server = await crowded(t);
  const clients = await Promise.all(Array.from({ length: 100 }, () => RawHttp.connect(server)));
  for (const http of clients) http.send('GET', listOf('channels'));
  const answers = await Promise.all(clients.map((http) => http.next()));
  for (const { status, headers, json } of answers) {
    if (status === 200) assert.equal(Object.keys(json.channels).length, MANY);
    else assert.deepEqual([status, headers['retry-after']], [503, '1']);
  }
  assert.ok(answers.filter(({ status }) => status === 200).length >= 16);
  clients.forEach((http) => http.destroy());
});

test('hundreds of members are all listed', async (t) => {
  const server = await serverFor(t, { apps: [FREE], binary: THREADS_BINARY, config: { workers: 2 } });
  const members = await Promise.all(Array.from({ length: 600 }, () => connect(server, { t })));
  await Promise.all(members.map((ws, i) => join(ws, 'presence-hall', { user_id: `${i}` })));
  const http = await RawHttp.connect(server);
  const { users } = await ask(http, listOf('channels/presence-hall/users'));
  assert.deepEqual(new Set(users.map(({ id }) => id)), new Set(members.map((_, i) => `${i}`)));
});
