// Messages that cannot be understood: answered, survived, and never spread.

import assert from 'node:assert/strict';
import test from 'node:test';

import { publish } from '../lib/api.js';
import { connect, nextError, nothingArrived, stillOpen, subscribe } from '../lib/client.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { sharedServer } from '../lib/server.js';

const server = await sharedServer();

const NOT_UNDERSTOOD = {
  'an empty message': '',
  spaces: '   ',
  'a word': 'hello',
  'an open brace': '{',
  'a string': '"pusher:ping"',
  'a number': '7',
  null: 'null',
  'an array': '[{"event":"pusher:ping"}]',
  'an empty object': '{}',
  'no event': '{"data":{},"channel":"x"}',
  'an event that is a number': '{"event":7}',
  'an event that is null': '{"event":null}',
  'an event that is an object': '{"event":{"event":"pusher:ping"}}',
  'an event further down': '{"data":{"event":"pusher:ping"}}',
  'a comma too many': '{"event":"pusher:ping",}',
  'a comma too few': '{"event":"pusher:ping" "data":{}}',
  'something behind it': '{"event":"pusher:ping"} x',
  'two objects': '{"event":"pusher:ping"}{"event":"pusher:ping"}',
  'single quotes': "{'event':'pusher:ping'}",
  'a bare key': '{event:"pusher:ping"}',
  'not a number': '{"event":"pusher:ping","data":NaN}',
  'a number with a leading zero': '{"event":"pusher:ping","data":01}',
  'a number without digits': '{"event":"pusher:ping","data":-}',
  'a number that ends in a point': '{"event":"pusher:ping","data":1.}',
  'a bad escape': '{"event":"pusher:ping","data":"\\x"}',
  'a short unicode escape': '{"event":"pusher:ping","data":"\\u12"}',
  'a line break within a string': '{"event":"pusher:ping","data":"\n"}',
  'a zero byte': '{"event":"pusher:ping"\0}',
  'a comment': '{"event":"pusher:ping"/* x */}',
  'a byte order mark': '\ufeff{"event":"pusher:ping"}',
  'a string that never ends': '{"event":"pusher:ping',
  '20,000 open brackets': '['.repeat(20_000),
  '20,000 open braces': '{"a":'.repeat(10_000),
  '20,000 open brackets within data': `{"event":"pusher:ping","data":${'['.repeat(20_000)}`,
};
for (const [what, text] of Object.entries(NOT_UNDERSTOOD)) {
  test(`${what}: answered 4300, and the connection stays`, async (t) => {
    const ws = await connect(server, { t });
    ws.sendText(text);
    await nextError(ws, 4300);
    assert.deepEqual(await stillOpen(ws), []);
  });
}

test('20_000_nested_brackets_in_data_pass_or_are_answered', async (t) => {
  const [sender, receiver] = [await connect(server, { t }), await connect(server, { t })];
  for (const ws of [sender, receiver]) await subscribe(ws, 'private-deep');
  const deep = '['.repeat(20_000) + ']'.repeat(20_000);
  sender.sendText(`{"event":"client-deep","channel":"private-deep","data":${deep}}`);
  const answers = await stillOpen(sender);
  if (answers.length === 0) assert.ok((await receiver.next('client-deep')).text.includes(deep));
  else assert.equal(answers[0].data.code, 4300);
  sender.sendText(`{"event":"pusher:subscribe","data":${'{"channel":'.repeat(5000)}"x"${'}'.repeat(5000)}}`);
  await nextError(sender, 4300);
  assert.deepEqual(await stillOpen(sender), []);
});

for (const event of [
  'pusher:unknown',
  'pusher:',
  'pusher:pong',
  'pusher:error',
  'pusher:connection_established',
  'pusher:cache_miss',
]) {
  test(`${event} from a client is ignored`, async (t) => {
    const ws = await connect(server, { t });
    ws.send({ event, data: { channel: 'x' }, channel: 'x' });
    ws.send({ event });
    assert.deepEqual(await stillOpen(ws), []);
  });
}

test('clients_cannot_send_what_only_the_server_may', async (t) => {
  const [sender, receiver] = [await connect(server, { t }), await connect(server, { t })];
  for (const ws of [sender, receiver]) await subscribe(ws, 'private-trust');
  for (const event of ['pusher_internal:member_added', 'pusher_internal:subscription_succeeded', 'pusher:error']) {
    sender.send({ event, channel: 'private-trust', data: '{"user_id":"x"}' });
  }
  await stillOpen(sender);
  await nothingArrived(server, receiver);
});

test('members_may_come_in_any_order_with_any_spaces_and_escapes', async (t) => {
  const ws = await connect(server, { t });
  ws.sendText(' {\t"data" :\r\n{ "auth":null, "channel" : "spa\\u0063ed" } , "event":"pusher\\u003asubscribe" } ');
  assert.equal((await ws.next('pusher_internal:subscription_succeeded')).channel, 'spaced');
});

test('a_storm_of_bad_messages_slows_nobody_down', async (t) => {
  const [bad, reader] = [await connect(server, { t }), await connect(server, { t })];
  await subscribe(reader, 'news');
  for (let i = 0; i < 500; i++) bad.sendText('{');
  for (let i = 0; i < 20; i++) {
    await publish(server, { name: `n${i}`, channel: 'news', data: 'x' });
    await reader.expect(`n${i}`);
  }
  for (let i = 0; i < 500; i++) await nextError(bad, 4300);
  assert.deepEqual(await stillOpen(bad), []);
});

test('half_handshakes_and_half_messages_on_hundreds_of_connections_disturb_nobody', async (t) => {
  const reader = await connect(server, { t });
  await subscribe(reader, 'calm');
  const halves = Array.from({ length: 300 }, () => RawWebSocket.open(server));
  t.after(() => halves.forEach((ws) => ws.destroy()));
  await Promise.all(halves.map((ws) => ws.connected()));
  for (const [i, ws] of halves.entries())
    ws.write('GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade'.slice(0, 1 + (i % 60)));
  await publish(server, { name: 'x', channel: 'calm', data: 'x' });
  await reader.expect('x');
  for (const ws of halves) ws.destroy();
  assert.deepEqual(await stillOpen(reader), []);
});
