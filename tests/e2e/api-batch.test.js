// POST /apps/{id}/batch_events: many events in one request, all of them or none.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { assertRefusal, nextOn, subscriber, untilFence } from '../lib/events.js';
import { sharedServer } from '../lib/server.js';

const server = await sharedServer();

let channels = 0;
const freshName = (prefix = '') => `${prefix}batch-${++channels}`;
const postText = (text) => api(server, 'POST', '/batch_events', { body: text });
const post = (batch) => postText(JSON.stringify({ batch }));

describe('a batch', () => {
  test('publishes its events in their order', async (t) => {
    const [first, second] = [freshName(), freshName('private-')];
    const ws = await subscriber(server, t, [first, second]);
    const response = await post([
      { name: 'a', channel: first, data: '1' },
      { name: 'b', channel: second, data: '2' },
      { name: 'c', channel: first, data: '3' },
      { name: 'd', channel: first, data: '4' },
    ]);
    assert.equal(response.status, 200, response.body);
    assert.equal(response.body, '{}');
    const received = [];
    for (let i = 0; i < 3; i++) received.push(await nextOn(ws, first));
    assert.deepEqual(
      received.map(({ event, data }) => [event, data]),
      [
        ['a', '1'],
        ['c', '3'],
        ['d', '4'],
      ],
    );
    assert.equal((await nextOn(ws, second)).event, 'b');
    assert.deepEqual(await untilFence(server, ws, first), []);
  });

  test('passes data through as it was sent: strings, objects and arrays', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    const token = String.raw`"\u00e9\/ \ud83d\ude00"`;
    const source = '{ "a" : [1.50, -0.0] }';
    const response = await postText(
      `{"batch":[{"name":"e","channel":"${channel}","data":${token}},` +
        `{"name":"e","channel":"${channel}","data":${source}}, {"name":"e","channel":"${channel}","data":[ ]} ]}`,
    );
    assert.equal(response.status, 200, response.body);
    const first = await nextOn(ws, channel);
    assert.ok(first.text.includes(`"data":${token}`), first.text);
    assert.equal((await nextOn(ws, channel)).data, source);
    assert.equal((await nextOn(ws, channel)).data, '[ ]');
  });

  test('leaves out the socket_id of each item', async (t) => {
    const channel = freshName();
    const first = await subscriber(server, t, channel);
    const second = await subscriber(server, t, channel);
    await post([
      { name: 'not-first', channel, data: '', socket_id: first.socketId },
      { name: 'not-second', channel, data: '', socket_id: second.socketId },
      { name: 'both', channel, data: '' },
    ]);
    const heard = async (ws) => (await untilFence(server, ws, channel)).map((message) => message.event);
    assert.deepEqual(await heard(first), ['not-second', 'both']);
    assert.deepEqual(await heard(second), ['not-first', 'both']);
  });

  test('is answered in order when any of its events asks for info', async (t) => {
    const [plain, presence] = [freshName(), freshName('presence-')];
    await subscriber(server, t, [plain, presence], { user: { user_id: '1' } });
    await subscriber(server, t, presence, { user: { user_id: '1' } });
    const response = await post([
      { name: 'e', channel: plain, data: '', info: 'subscription_count' },
      { name: 'e', channel: plain, data: '' },
      { name: 'e', channel: presence, data: '', info: 'user_count,subscription_count' },
      { name: 'e', channel: plain, data: '', info: 'user_count' },
      { name: 'e', channel: freshName(), data: '', info: 'subscription_count' },
    ]);
    assert.equal(response.status, 200, response.body);
    assert.deepEqual(response.json, {
      batch: [{ subscription_count: 1 }, {}, { user_count: 1, subscription_count: 2 }, {}, { subscription_count: 0 }],
    });
  });
});

describe('a batch with one bad item publishes none of it', () => {
  const good = { name: 'good', channel: 'batch-refused', data: 'x' };
  const bad = {
    'no name': [{ ...good, name: undefined }, /name/],
    'no data': [{ ...good, data: undefined }, /data/],
    'data that is a number': [{ ...good, data: 5 }, /data/],
    'data that is null': [{ ...good, data: null }, /data/],
    'no channel': [{ ...good, channel: undefined }, /channel/],
    'channels in place of channel': [{ ...good, channel: undefined, channels: ['batch-refused'] }, /channel/],
    'a bad channel name': [{ ...good, channel: 'no good' }, /channel/],
    'an item that is no object': ['good', /object/],
    'an item that is null': [null, /object/],
  };
  for (const [what, [item, pattern]] of Object.entries(bad)) {
    test(what, async (t) => {
      const ws = await subscriber(server, t, 'batch-refused');
      assertRefusal(await post([good, item]), 400, pattern);
      assertRefusal(await post([item, good]), 400, pattern);
      assert.deepEqual(await untilFence(server, ws, 'batch-refused'), []);
    });
  }
});

describe('bodies that are no batch are refused', () => {
  const bodies = {
    'no body': [undefined, /body|JSON/i],
    'no JSON': ['batch', /JSON/],
    'no batch': ['{}', /batch/],
    'a batch that is an object': ['{"batch":{}}', /batch/],
    'a batch that is null': ['{"batch":null}', /batch/],
    'an array alone': ['[{"name":"e","channel":"c","data":"x"}]', /object/],
    'invalid UTF-8': [Buffer.from('{"batch":[{"name":"e","channel":"c","data":"\xfe"}]}', 'latin1'), /UTF-8/],
  };
  for (const [what, [body, pattern]] of Object.entries(bodies)) {
    test(what, async () => assertRefusal(await postText(body), 400, pattern));
  }
});
