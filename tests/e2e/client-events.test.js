// Client events: who may send what where, and that the receivers get exactly what was sent.

import assert from 'node:assert/strict';
import test from 'node:test';

import {
  connect,
  join,
  nextError,
  nothingArrived,
  signin,
  stillOpen,
  subscribe,
  trigger,
  unsubscribe,
} from '../lib/client.js';
import { memberText } from '../lib/json-text.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const MUTE = { id: 'mute', key: 'mute-key', secret: 'mute-secret', enable_client_messages: false };
const TIGHT = {
  id: 'tight',
  key: 'tight-key',
  secret: 'tight-secret',
  enable_client_messages: true,
  max_event_name_length: 20,
  max_event_payload_in_kb: 1,
};
const LOOSE = {
  id: 'loose',
  key: 'loose-key',
  secret: 'loose-secret',
  enable_client_messages: true,
  max_event_name_length: 0,
  max_event_payload_in_kb: 0,
};
const FREE = { ...APP, max_client_events_per_second: 0 };
const server = await sharedServer({ apps: [FREE, MUTE, TIGHT, LOOSE], config: { websocket_max_payload_kb: 256 } });

test('a_client_event_reaches_the_others_and_not_its_sender', async (t) => {
  const [sender, a, b] = await room(t, 'private-chat', 3);
  trigger(sender, 'private-chat', 'client-hello', { text: 'hi' });
  for (const ws of [a, b]) {
    assert.deepEqual(JSON.parse((await ws.next('client-hello')).text), {
      event: 'client-hello',
      channel: 'private-chat',
      data: { text: 'hi' },
    });
  }
  await nothingArrived(server, sender, a, b);
});

test('on_a_presence_channel_the_sender_is_named', async (t) => {
  const [text, number, observer] = await connections(t, 3);
  await join(text, 'presence-chat', { user_id: 'u"1' });
  await join(number, 'presence-chat', { user_id: 7 });
  await join(observer, 'presence-chat', { user_id: 'o' });
  trigger(text, 'presence-chat', 'client-x', 'data');
  assert.deepEqual(JSON.parse((await observer.next('client-x')).text), {
    event: 'client-x',
    channel: 'presence-chat',
    data: 'data',
    user_id: 'u"1',
  });
  trigger(number, 'presence-chat', 'client-y', 'data');
  assert.equal((await observer.next('client-y')).user_id, '7');
});

test('a_sender_that_joined_by_sign_in_is_named_too', async (t) => {
  const [sender, observer] = await connections(t, 2);
  await signin(sender, { id: 'signed' });
  await subscribe(sender, 'presence-signed-chat');
  await join(observer, 'presence-signed-chat', { user_id: 'o' });
  trigger(sender, 'presence-signed-chat', 'client-x', 'data');
  assert.equal((await observer.next('client-x')).user_id, 'signed');
});

test('a_sender_cannot_name_itself', async (t) => {
  const [sender, observer] = await connections(t, 2);
  await join(sender, 'presence-forged', { user_id: 'me' });
  await join(observer, 'presence-forged', { user_id: 'o' });
  sender.send({ event: 'client-x', channel: 'presence-forged', user_id: 'admin', data: 'x' });
  const event = await observer.next('client-x');
  assert.equal(event.user_id, 'me');
  assert.ok(!event.text.includes('admin'));
  const [a, b] = await room(t, 'private-forged', 2);
  a.send({ event: 'client-x', channel: 'private-forged', user_id: 'admin', data: 'x' });
  assert.ok(!('user_id' in (await b.next('client-x'))));
});

const EXACT = {
  numbers: '{"a":1.50,"b":1e400,"c":-0.0,"d":1E+2,"e":123456789012345678901234567890}',
  'the order of keys': '{"z":1,"a":2,"m":3}',
  spaces: '{ "a" :\t1 ,\n "b":[ 1,2 ] }',
  escapes: '{"a":"\\u0041\\/\\u00e9\\n\\ud83d\\ude00\\"\\\\"}',
  'a lone surrogate escape': '"\\ud800"',
  unicode: '{"é":"\u{1f600}\u2028"}',
  'duplicate keys': '{"a":1,"a":2,"a":{"a":3}}',
  'a string': '"text"',
  'a string with json': '"{\\"a\\":1}"',
  'an empty string': '""',
  'a number': '1.50',
  null: 'null',
  true: 'true',
  'an array': '[1.0, [], {}, "x"]',
  '1000 nested brackets': `${'['.repeat(1000)}${']'.repeat(1000)}`,
  '500 nested objects': `${'{"a":'.repeat(500)}-0${'}'.repeat(500)}`,
};
for (const [what, data] of Object.entries(EXACT)) {
  test(`data_passes_through_untouched: ${what}`, async (t) => {
    const [sender, receiver] = await room(t, 'private-exact', 2);
    sender.sendText(`{"data":${data},"channel":"private-exact","event":"client-exact"}`);
    assert.equal(memberText((await receiver.next('client-exact')).text, 'data'), data);
  });
}

test('names_and_channels_may_be_written_with_escapes', async (t) => {
  const [sender, receiver] = await room(t, 'private-escaped', 2);
  sender.sendText('{"event":"cl\\u0069ent-\\u00e9\\"x","channel":"private\\u002descaped","data":1}');
  const event = await receiver.next('client-é"x');
  assert.equal(event.channel, 'private-escaped');
});

test('unknown_members_are_left_behind', async (t) => {
  const [sender, receiver] = await room(t, 'private-extra', 2);
  sender.sendText('{"event":"client-x","more":{"data":2},"channel":"private-extra","data":1,"tags":{"a":"b"}}');
  assert.deepEqual(JSON.parse((await receiver.next('client-x')).text), {
    event: 'client-x',
    channel: 'private-extra',
    data: 1,
  });
});

test('private_cache_and_presence_cache_channels_take_client_events', async (t) => {
  for (const channel of ['private-cache-c', 'presence-cache-c']) {
    const [sender, receiver] = await connections(t, 2);
    for (const [i, ws] of [sender, receiver].entries()) {
      await subscribe(ws, channel, channel.startsWith('presence') ? { user: { user_id: String(i) } } : {});
    }
    trigger(sender, channel, 'client-x', {});
    await receiver.next('client-x');
  }
});

for (const channel of ['public-room', 'cache-room', 'private-encrypted-room', 'private-encrypted-cache-room']) {
  test(`client_events_are_refused_on_${channel}`, async (t) => {
    const [sender, receiver] = await room(t, channel, 2);
    trigger(sender, channel, 'client-x', {});
    await nextError(sender, 4301);
    assert.deepEqual(
      (await stillOpen(sender)).filter(({ event }) => event !== 'pusher:cache_miss'),
      [],
    );
    assert.deepEqual(
      (await stillOpen(receiver)).filter(({ event }) => event !== 'pusher:cache_miss'),
      [],
    );
    await nothingArrived(server, receiver);
  });
}

test('client_events_are_refused_where_the_sender_is_not_subscribed', async (t) => {
  const [receiver] = await room(t, 'private-others', 1);
  const outsider = await connect(server, { t });
  trigger(outsider, 'private-others', 'client-x', {});
  await nextError(outsider, 4301);
  await subscribe(outsider, 'private-others');
  unsubscribe(outsider, 'private-others');
  trigger(outsider, 'private-others', 'client-x', {});
  await nextError(outsider, 4301);
  for (const channel of ['private-nobody', '', 'private-é']) {
    trigger(outsider, channel, 'client-x', {});
    await nextError(outsider, 4301);
  }
  assert.deepEqual(await stillOpen(outsider), []);
  await nothingArrived(server, receiver);
});

test('a_user_channel_takes_no_client_events', async (t) => {
  const [sender, receiver] = await connections(t, 2);
  for (const ws of [sender, receiver]) await signin(ws, { id: 'u' });
  trigger(sender, '#server-to-user-u', 'client-x', {});
  await nextError(sender, 4301);
  await nothingArrived(server, sender, receiver);
});

test('client_events_are_refused_when_the_app_does_not_allow_them', async (t) => {
  const [sender, receiver] = await room(t, 'private-mute', 2, MUTE);
  trigger(sender, 'private-mute', 'client-x', {});
  await nextError(sender, 4301);
  assert.deepEqual(await stillOpen(sender), []);
  await nothingArrived(server, receiver);
});

test('the_default_is_not_to_allow_them', async (t) => {
  const app = { id: 'plain', key: 'plain-key', secret: 'plain-secret' };
  const other = await serverFor(t, { apps: [app] });
  const ws = await connect(other, { app });
  await subscribe(ws, 'private-x');
  trigger(ws, 'private-x', 'client-x', {});
  await nextError(ws, 4301);
});

for (const name of ['hello', 'Client-x', 'xclient-x', 'client', 'client_x', '']) {
  test(`an_event_named_"${name}"_is_refused`, async (t) => {
    const [sender, receiver] = await room(t, 'private-names', 2);
    trigger(sender, 'private-names', name, {});
    const error = await sender.next('pusher:error');
    assert.ok(error.data.code === 4301 || error.data.code === 4300, error.text);
    assert.deepEqual(await stillOpen(sender), []);
    await nothingArrived(server, receiver);
  });
}

test('a_name_of_the_longest_length_is_accepted_and_one_more_is_refused', async (t) => {
  const [sender, receiver] = await room(t, 'private-tight', 2, TIGHT);
  const name = `client-${'n'.repeat(13)}`;
  trigger(sender, 'private-tight', name, {});
  await receiver.next(name);
  trigger(sender, 'private-tight', `${name}n`, {});
  assert.match(await nextError(sender, 4301), /\b20\b/);
  assert.deepEqual(await stillOpen(sender), []);
  await nothingArrived(server, receiver);
});

test('the_size_of_data_is_that_of_the_decoded_string_or_the_source_text', async (t) => {
  const [sender, receiver] = await room(t, 'private-tight', 2, TIGHT);
  const send = (data) => sender.sendText(`{"event":"client-x","channel":"private-tight","data":${data}}`);
  const fits = [
    `"${'x'.repeat(1024)}"`,
    `"${'\\u0041'.repeat(1024)}"`,
    `"${'\\n'.repeat(1024)}"`,
    `"${'é'.repeat(512)}"`,
    `{"a":"${'x'.repeat(1016)}"}`,
  ];
  for (const data of fits) {
    send(data);
    assert.equal(memberText((await receiver.next('client-x')).text, 'data'), data);
  }
  for (const data of [
    `"${'x'.repeat(1025)}"`,
    `"${'\\u00e9'.repeat(513)}"`,
    `"${'é'.repeat(513)}"`,
    `{"a":"${'x'.repeat(1017)}"}`,
  ]) {
    send(data);
    assert.match(await nextError(sender, 4301), /\b1\b/);
  }
  assert.deepEqual(await stillOpen(sender), []);
  await nothingArrived(server, receiver);
});

test('the_default_limits_are_100_bytes_of_name_and_100_kilobytes_of_data', async (t) => {
  const [sender, receiver] = await room(t, 'private-default', 2);
  trigger(sender, 'private-default', `client-${'n'.repeat(93)}`, 'x'.repeat(100 * 1024));
  assert.equal((await receiver.next(`client-${'n'.repeat(93)}`)).data.length, 100 * 1024);
  trigger(sender, 'private-default', `client-${'n'.repeat(94)}`, {});
  assert.match(await nextError(sender, 4301), /\b100\b/);
  trigger(sender, 'private-default', 'client-x', 'x'.repeat(100 * 1024 + 1));
  assert.match(await nextError(sender, 4301), /\b100\b/);
});

test('limits_of_0_are_none', async (t) => {
  const [sender, receiver] = await room(t, 'private-loose', 2, LOOSE);
  const name = `client-${'n'.repeat(1000)}`;
  trigger(sender, 'private-loose', name, 'x'.repeat(200 * 1024));
  assert.equal((await receiver.next(name)).data.length, 200 * 1024);
});

test('events_of_one_sender_arrive_in_order', async (t) => {
  const [sender, ...receivers] = await room(t, 'private-order', 4);
  for (let i = 0; i < 300; i++) trigger(sender, 'private-order', 'client-n', i);
  for (const ws of receivers) {
    const numbers = (await ws.inbox.take(300)).map(({ data }) => data);
    assert.deepEqual(
      numbers,
      Array.from({ length: 300 }, (_, i) => i),
    );
  }
});

function connections(t, count, app = APP) {
  return Promise.all(Array.from({ length: count }, () => connect(server, { t, app })));
}

async function room(t, channel, count, app) {
  const sockets = await connections(t, count, app);
  for (const ws of sockets) await subscribe(ws, channel);
  return sockets;
}
