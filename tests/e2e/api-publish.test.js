// POST /apps/{id}/events: who receives an event, what the answer tells, and that `data` arrives exactly as it was sent.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, signin, stillOpen } from '../lib/client.js';
import { assertRefusal, nextOn, subscriber, untilFence } from '../lib/events.js';
import { sharedServer } from '../lib/server.js';

const server = await sharedServer();

let channels = 0;
const freshName = (prefix = '') => `${prefix}publish-${++channels}`;

// Publishes a body whose text the test decides.
const post = (text, options) => api(server, 'POST', '/events', { ...options, body: text });

describe('who receives an event', () => {
  test('the subscribers of the channel do, and nobody else', async (t) => {
    const [channel, other] = [freshName(), freshName()];
    const first = await subscriber(server, t, channel);
    const second = await subscriber(server, t, channel);
    const stranger = await subscriber(server, t, other);
    const response = await post(JSON.stringify({ name: 'e', channel, data: '{"a":1}' }));
    assert.equal(response.status, 200);
    assert.equal(response.body, '{}');
    for (const ws of [first, second]) {
      const { text, ...event } = await nextOn(ws, channel);
      assert.deepEqual(event, { event: 'e', channel, data: '{"a":1}' });
      assert.deepEqual(await untilFence(server, ws, channel), []);
    }
    assert.deepEqual(await untilFence(server, stranger, other), []);
  });

  test('an event to several channels reaches each once, with its own channel name', async (t) => {
    const list = [freshName(), freshName('private-'), freshName('cache-')];
    const all = await subscriber(server, t, list);
    const one = await subscriber(server, t, list[1]);
    await publish(server, { name: 'e', channels: list, data: 'x' });
    for (const channel of list) await all.next({ event: 'e', channel });
    assert.equal((await nextOn(one, list[1])).event, 'e');
    assert.deepEqual(await untilFence(server, one, list[1]), []);
    assert.deepEqual(
      (await untilFence(server, all, list[0])).map((message) => message.event),
      ['pusher:cache_miss'],
    );
  });

  test('every kind of channel can be published to', async (t) => {
    for (const prefix of [
      '',
      'private-',
      'private-encrypted-',
      'presence-',
      'cache-',
      'private-cache-',
      'private-encrypted-cache-',
      'presence-cache-',
    ]) {
      const channel = freshName(prefix);
      const ws = await subscriber(server, t, channel, { user: { user_id: '1' } });
      await publish(server, { name: 'e', channel, data: 'x' });
      const event = await ws.next({ event: 'e', channel });
      assert.equal(event.data, 'x', prefix);
      assert.ok(!('user_id' in event), 'user_id is for client events');
    }
  });

  test('the connection whose socket_id is given is left out', async (t) => {
    const channel = freshName();
    const sender = await subscriber(server, t, channel);
    const other = await subscriber(server, t, channel);
    await publish(server, { name: 'e', channel, data: 'x', socket_id: sender.socketId });
    assert.equal((await nextOn(other, channel)).event, 'e');
    assert.deepEqual(await untilFence(server, sender, channel), []);
  });

  test('a socket_id that nobody has leaves nobody out', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    await publish(server, { name: 'e', channel, data: 'x', socket_id: '1.1' });
    assert.equal((await nextOn(ws, channel)).event, 'e');
  });

  test('an event published to nobody is accepted', async () => {
    assert.deepEqual(await publish(server, { name: 'e', channel: freshName(), data: 'x' }), {});
  });

  test('a user is reached through #server-to-user-, once on each of its connections', async (t) => {
    const id = 'user 7/ü';
    const mine = [await connect(server, { t }), await connect(server, { t })];
    for (const ws of mine) await signin(ws, { id });
    const other = await connect(server, { t });
    await signin(other, { id: 'somebody else' });
    const channel = `#server-to-user-${id}`;
    await publish(server, { name: 'e', channels: [channel], data: '{"to":"you"}' });
    for (const ws of mine) {
      const { text, ...event } = await ws.next('e');
      assert.deepEqual(event, { event: 'e', channel, data: '{"to":"you"}' });
      assert.deepEqual(await untilFence(server, ws, channel), []);
    }
    assert.deepEqual(await untilFence(server, other, '#server-to-user-somebody else'), []);
  });

  test('events that one publisher sends one after another arrive in that order', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    for (let i = 0; i < 50; i++) await publish(server, { name: `e${i}`, channel, data: String(i) });
    const names = (await ws.inbox.take(50)).map((message) => message.event);
    assert.deepEqual(
      names,
      Array.from({ length: 50 }, (_, i) => `e${i}`),
    );
  });
});

describe('the answer with info', () => {
  test('tells the counts of each channel that was published to', async (t) => {
    const list = [freshName(), freshName('presence-'), freshName()];
    await subscriber(server, t, list.slice(0, 2), { user: { user_id: '1' } });
    await subscriber(server, t, list[1], { user: { user_id: '1' } });
    const answer = await publish(server, {
      name: 'e',
      channels: list,
      data: 'x',
      info: 'subscription_count,user_count,unknown',
    });
    assert.deepEqual(answer, {
      channels: {
        [list[0]]: { subscription_count: 1 },
        [list[1]]: { subscription_count: 2, user_count: 1 },
        [list[2]]: { subscription_count: 0 },
      },
    });
  });

  test('tells only what was asked for', async (t) => {
    const channel = freshName('presence-');
    await subscriber(server, t, channel, { user: { user_id: '1' } });
    const ask = (info) => publish(server, { name: 'e', channel, data: 'x', info });
    assert.deepEqual(await ask('user_count'), { channels: { [channel]: { user_count: 1 } } });
    assert.deepEqual(await ask('subscription_count'), { channels: { [channel]: { subscription_count: 1 } } });
  });
});

describe('data arrives exactly as it was sent', () => {
  const strings = {
    'escapes of every kind': String.raw`"\u00e9\/\"\\\b\f\n\r\t\u001f\uD83D\uDE00 é €"`,
    'an escaped slash and upper-case hex': String.raw`"https:\/\/example.com\u002F\u00C9"`,
    'a lone surrogate': String.raw`"\ud800"`,
    'an escaped zero': String.raw`"a\u0000b"`,
    'JSON with odd numbers': String.raw`"{\"n\":1.50e+10,\"z\":-0.0,\"big\":123456789012345678901234567890}"`,
    'characters beyond the basic plane': '"😀 𝄞"',
    'the delete character and line separators': '"\u007f\u2028\u2029"',
    nothing: '""',
  };
  for (const [what, token] of Object.entries(strings)) {
    test(`a string goes out as the very token received: ${what}`, async (t) => {
      const channel = freshName();
      const ws = await subscriber(server, t, channel);
      const response = await post(`{"name":"e","data":${token},"channel":"${channel}"}`);
      assert.equal(response.status, 200, response.body);
      const event = await nextOn(ws, channel);
      assert.ok(event.text.includes(`"data":${token}`), `${event.text} does not hold ${token}`);
      assert.equal(event.data, JSON.parse(token));
    });
  }

  const sources = {
    'an object with blanks and odd numbers':
      '{ "a" : 1.50, "b" :\n[1e5, -0.0, 123456789012345678901234567890], "a": null }',
    'an object with escapes': String.raw`{"text":"\u00e9\/\"\\ é \ud83d\ude00","key\u0020":"\t"}`,
    'an array': '[ 1,2 ,{"x":[]}, "y", true ]',
    'an empty object': '{}',
    'an empty array': '[]',
    'numbers that no double holds': '[1e400,-0,-0.0,1E-999]',
    'a lone surrogate': String.raw`{"\udfff":"\ud800"}`,
    '1000 nested brackets': `${'['.repeat(1000)}${']'.repeat(1000)}`,
  };
  for (const [what, source] of Object.entries(sources)) {
    test(`an object or array goes out as a string of its exact source text: ${what}`, async (t) => {
      const channel = freshName();
      const ws = await subscriber(server, t, channel);
      const response = await post(`{"name":"e","channel":"${channel}","data": ${source} }`);
      assert.equal(response.status, 200, response.body);
      assert.equal((await nextOn(ws, channel)).data, source);
    });
  }

  test('a name that needs escapes is the same name at the subscriber', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    const name = 'quote " backslash \\ newline \n é 😀';
    await publish(server, { name, channel, data: 'x' });
    assert.equal((await nextOn(ws, channel)).event, name);
    await post(String.raw`{"n\u0061me":"\u0065","ch\u0061nnel":"${channel}","d\u0061ta":"x"}`);
    assert.equal((await nextOn(ws, channel)).event, 'e');
  });

  test('a body larger than any buffer arrives whole', async (t) => {
    const channel = freshName();
    const ws = await subscriber(server, t, channel);
    const data = 'x'.repeat(90_000);
    await publish(server, { name: 'e', channel, data });
    assert.equal((await nextOn(ws, channel)).data, data);
  });
});

describe('bodies that are no event are refused, and nothing is sent', () => {
  const channel = 'refused';
  const bodies = {
    'no body at all': [undefined, /body|JSON/i],
    'text that is no JSON': ['name=e&channel=c', /JSON/],
    'JSON with something behind it': ['{"name":"e","channel":"refused","data":"x"} x', /JSON/],
    'JSON that is cut': ['{"name":"e","channel":"refused","data":"x', /JSON/],
    'an array': ['[]', /object/],
    'no name': ['{"channel":"refused","data":"x"}', /name/],
    'a name that is a number': ['{"name":1,"channel":"refused","data":"x"}', /name/],
    'a name that is null': ['{"name":null,"channel":"refused","data":"x"}', /name/],
    'no data': ['{"name":"e","channel":"refused"}', /data/],
    'data null': ['{"name":"e","channel":"refused","data":null}', /data/],
    'data true': ['{"name":"e","channel":"refused","data":true}', /data/],
    'data a number': ['{"name":"e","channel":"refused","data":1}', /data/],
    'no channel': ['{"name":"e","data":"x"}', /channel/],
    'a channel that is no string': ['{"name":"e","data":"x","channel":["refused"]}', /channel/],
    'an empty channel name': ['{"name":"e","data":"x","channel":""}', /channel/],
    'a channel name with other characters': ['{"name":"e","data":"x","channel":"re fused!"}', /channel/],
    'channels that are no array': ['{"name":"e","data":"x","channels":"refused"}', /channels/],
    'channels of which one is no string': ['{"name":"e","data":"x","channels":["refused",1]}', /channels/],
    'channels of which one is badly named': ['{"name":"e","data":"x","channels":["refused","b/d"]}', /channel/],
    'an empty list of channels': ['{"name":"e","data":"x","channels":[]}', /channels/],
    'a control character in a string': ['{"name":"e","channel":"refused","data":"\n"}', /JSON/],
    '20,000 nested brackets': [
      `{"name":"e","channel":"refused","data":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
      /JSON|nest|deep/i,
    ],
    '20,000 open brackets': ['['.repeat(20_000), /JSON|nest|deep/i],
    'invalid UTF-8': [Buffer.from('{"name":"e","channel":"refused","data":"\xff"}', 'latin1'), /UTF-8/],
    'overlong UTF-8': [Buffer.from('{"name":"e","channel":"refused","data":"\xc0\xaf"}', 'latin1'), /UTF-8/],
    'a surrogate in UTF-8': [Buffer.from('{"name":"e","channel":"refused","data":"\xed\xa0\x80"}', 'latin1'), /UTF-8/],
  };
  for (const [what, [body, pattern]] of Object.entries(bodies)) {
    test(what, async (t) => {
      const ws = await subscriber(server, t, channel);
      assertRefusal(await post(body), 400, pattern);
      assert.deepEqual(await untilFence(server, ws, channel), []);
      assert.deepEqual(await stillOpen(ws), []);
    });
  }
});
