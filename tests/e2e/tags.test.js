// Tags of events: which are taken, who gets them and in what form, and where they are left out.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { assertRefusal, nextOn, subscriber, untilFence } from '../lib/events.js';
import { connected, makePusher, record } from '../lib/pusher.js';
import { APP, sharedServer } from '../lib/server.js';

const app = {
  ...APP,
  channel_delta_compression: {
    'bare-*': { enable_tags: false },
    'bare-but-shown': 'fossil',
    'object-*': { enabled: false, enable_tags: false },
    'off-*': 'disabled',
  },
};
const server = await sharedServer({ apps: [app] });
const hiding = await sharedServer({
  apps: [{ ...APP, channel_delta_compression: { 'shown-*': {}, 'word-*': 'xdelta3', 'same-*': 'inherit' } }],
  config: { tag_filtering: { enable_tags: false } },
});

let channels = 0;
const freshName = (prefix = '') => `${prefix}tags-${++channels}`;
const post = (body) => api(server, 'POST', '/events', { body });
const textOn = async (ws, channel) => (await nextOn(ws, channel)).text;

test('subscribers get the tags after the data, with their keys in order', async (t) => {
  const channel = freshName();
  const ws = await subscriber(server, t, channel);
  const body = `{"name":"e","channel":"${channel}","tags":{"symbol":"BTC", "a\\u00e9":"\\u2028\\"","Z":"1"},"data":"x"}`;
  assert.equal((await post(body)).status, 200);
  assert.equal(
    await textOn(ws, channel),
    `{"event":"e","channel":"${channel}","data":"x","tags":{"Z":"1","aé":"\u2028\\"","symbol":"BTC"}}`,
  );
});

test('an event without tags has no such member, and an empty map stays one', async (t) => {
  const channel = freshName();
  const ws = await subscriber(server, t, channel);
  for (const tags of ['', ',"tags":null', ',"tags":{}']) {
    await post(`{"name":"e","channel":"${channel}","data":"x"${tags}}`);
    assert.equal(
      await textOn(ws, channel),
      `{"event":"e","channel":"${channel}","data":"x"${tags === ',"tags":{}' ? tags : ''}}`,
    );
  }
});

test('every kind of channel passes them on, and each event of a batch has its own', async (t) => {
  const names = ['', 'private-', 'presence-', 'cache-', 'private-encrypted-'].map(freshName);
  const ws = await subscriber(server, t, names, { user: { user_id: '1' } });
  const batch = names.map((channel, i) => ({ name: 'e', channel, data: 'x', tags: { n: String(i) } }));
  const response = await api(server, 'POST', '/batch_events', { body: { batch } });
  assert.equal(response.status, 200, response.body);
  for (const [i, channel] of names.entries())
    assert.deepEqual((await ws.next({ event: 'e', channel })).tags, { n: String(i) });
  await publish(server, { name: 'all', channels: names, data: 'x', tags: { a: '1' } });
  for (const channel of names) assert.deepEqual((await ws.next({ event: 'all', channel })).tags, { a: '1' });
});

test('pusher-js takes events with tags, and both workers deliver them', async (t) => {
  const channel = freshName();
  const clients = [];
  for (let i = 0; i < 6; i++) clients.push(await subscriber(server, t, channel));
  const pusher = makePusher(server, { t });
  await connected(pusher);
  const events = record(pusher.subscribe(channel));
  await events.next({ event: 'pusher:subscription_succeeded' });
  await publish(server, { name: 'price', channel, data: { eur: 1.5 }, tags: { symbol: 'BTC' } });
  assert.deepEqual((await events.next({ event: 'price' })).data, { eur: 1.5 });
  for (const ws of clients) assert.deepEqual((await nextOn(ws, channel)).tags, { symbol: 'BTC' });
});

test('the kept event of a cache channel has none', async (t) => {
  const channel = freshName('cache-');
  await publish(server, { name: 'e', channel, data: 'x', tags: { a: '1' } });
  const ws = await subscriber(server, t, channel);
  assert.equal((await ws.next({ event: 'e', channel })).text, `{"event":"e","channel":"${channel}","data":"x"}`);
});

test('the tags that a client sends with an event are ignored', async (t) => {
  const channel = freshName('private-');
  const sender = await subscriber(server, t, channel);
  const other = await subscriber(server, t, channel);
  sender.send({ event: 'client-e', channel, data: 'x', tags: { a: '1' } });
  assert.deepEqual(Object.keys(await nextOn(other, channel)).sort(), ['channel', 'data', 'event', 'text']);
});

test('what is no map of strings is refused, and nothing is published', async (t) => {
  const channel = freshName();
  const ws = await subscriber(server, t, channel);
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`key${i}`, `${i}`]));
  for (const [tags, reason] of [
    [[], /`tags`: tags must be an object of strings/],
    ['a', /`tags`: tags must be an object of strings/],
    [{ a: 1 }, /`tags`: the value of tag 1 must be a string/],
    [{ a: '1', b: { c: '1' } }, /`tags`: the value of tag 2 must be a string/],
    [{ '': '1' }, /`tags`: the key of tag 1 must not be empty/],
    [{ ['k'.repeat(257)]: '1' }, /`tags`: the key of tag 1 is 257 bytes, and at most 256 are allowed/],
    [{ a: 'é'.repeat(513) }, /`tags`: the value of tag 1 is 1026 bytes, and at most 1024 are allowed/],
    [many, /`tags`: there are more than 128 tags/],
  ]) {
    assertRefusal(await post({ name: 'e', channel, data: 'x', tags }), 400, reason);
    const batch = [
      { name: 'e', channel, data: 'x' },
      { name: 'e', channel, data: 'x', tags },
    ];
    assertRefusal(await api(server, 'POST', '/batch_events', { body: { batch } }), 400, /^batch\[1\]: /, reason);
  }
  for (const delta of ['false', 0, {}, []])
    assertRefusal(await post({ name: 'e', channel, data: 'x', delta }), 400, /`delta` must be true or false/);
  assert.deepEqual(await untilFence(server, ws, channel), []);
  for (const delta of [true, false, null]) {
    assert.equal((await post({ name: 'e', channel, data: 'x', delta })).status, 200);
    assert.deepEqual(await textOn(ws, channel), `{"event":"e","channel":"${channel}","data":"x"}`);
  }
});

test('enable_tags of the app decides for its channels, else the one of the server', async (t) => {
  for (const [where, prefix, shown] of [
    [server, 'bare-', false],
    [server, 'object-', false],
    [server, 'off-', true],
    [server, 'other-', true],
    [hiding, 'shown-', true],
    [hiding, 'word-', true],
    [hiding, 'same-', false],
    [hiding, 'other-', false],
  ]) {
    const channel = freshName(prefix);
    const ws = await subscriber(where, t, channel);
    await publish(where, { name: 'e', channel, data: 'x', tags: { a: '1' } });
    const tags = shown ? ',"tags":{"a":"1"}' : '';
    assert.equal(await textOn(ws, channel), `{"event":"e","channel":"${channel}","data":"x"${tags}}`);
  }
  const ws = await subscriber(server, t, 'bare-but-shown');
  await publish(server, { name: 'e', channel: 'bare-but-shown', data: 'x', tags: {} });
  assert.deepEqual((await nextOn(ws, 'bare-but-shown')).tags, {});
});

test('a change of the app reaches the channels that there are', async (t) => {
  const changed = freshName('changed-');
  const ws = await subscriber(server, t, changed);
  const event = { name: 'e', channel: changed, data: 'x', tags: { a: '1' } };
  await publish(server, event);
  assert.ok('tags' in (await nextOn(ws, changed)));
  const settings = { ...app.channel_delta_compression, 'changed-*': { enable_tags: false } };
  await server.reload({ apps: [{ ...app, channel_delta_compression: settings }] });
  await publish(server, event);
  assert.ok(!('tags' in (await nextOn(ws, changed))));
});
