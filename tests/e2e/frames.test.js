// WebSocket framing as RFC 6455 has it, and what breaking it gets.

import assert from 'node:assert/strict';
import test from 'node:test';

import { connect, subscribe } from '../lib/client.js';
import { encodeFrame, OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const server = await sharedServer();
const PING = JSON.stringify({ event: 'pusher:ping', data: {} });
const LIMIT = 64 * 1024;

const PROTOCOL_ERRORS = {
  'an unmasked text frame': encodeFrame({ opcode: OPCODE.text, payload: PING, mask: false }),
  'an unmasked ping': encodeFrame({ opcode: OPCODE.ping, mask: false }),
  'the first reserved bit': encodeFrame({ opcode: OPCODE.text, payload: PING, rsv: 4 }),
  'the second reserved bit': encodeFrame({ opcode: OPCODE.text, payload: PING, rsv: 2 }),
  'the third reserved bit': encodeFrame({ opcode: OPCODE.text, payload: PING, rsv: 1 }),
  'reserved bits on a ping': encodeFrame({ opcode: OPCODE.ping, rsv: 4 }),
  'the reserved data opcode 3': encodeFrame({ opcode: 3, payload: 'x' }),
  'the reserved data opcode 7': encodeFrame({ opcode: 7, payload: 'x' }),
  'the reserved control opcode 11': encodeFrame({ opcode: 11 }),
  'the reserved control opcode 15': encodeFrame({ opcode: 15 }),
  'a fragmented ping': encodeFrame({ opcode: OPCODE.ping, payload: 'x', fin: false }),
  'a fragmented close': encodeFrame({ opcode: OPCODE.close, fin: false }),
  'a ping of 126 bytes': encodeFrame({ opcode: OPCODE.ping, payload: 'x'.repeat(126) }),
  'a pong of 126 bytes': encodeFrame({ opcode: OPCODE.pong, payload: 'x'.repeat(126) }),
  'a close of 126 bytes': encodeFrame({ opcode: OPCODE.close, payload: Buffer.alloc(126, 3) }),
  'a close of one byte': encodeFrame({ opcode: OPCODE.close, payload: 'x' }),
  'the close code 0': closeFrame(0),
  'the close code 999': closeFrame(999),
  'the close code 1005': closeFrame(1005),
  'the close code 1006': closeFrame(1006),
  'the close code 1015': closeFrame(1015),
  'the close code 2999': closeFrame(2999),
  'the close code 5000': closeFrame(5000),
  'a continuation of nothing': encodeFrame({ opcode: OPCODE.continuation, payload: 'x' }),
  'a second text frame within a message': Buffer.concat([
    encodeFrame({ opcode: OPCODE.text, payload: '{', fin: false }),
    encodeFrame({ opcode: OPCODE.text, payload: PING }),
  ]),
};
for (const [what, bytes] of Object.entries(PROTOCOL_ERRORS)) {
  test(`${what} closes with 1002`, async (t) => {
    const ws = await connect(server, { t });
    ws.write(bytes);
    assert.equal((await ws.closed()).code, 1002);
    assert.deepEqual(
      ws.inbox.waiting.filter(({ event }) => event === 'pusher:pong'),
      [],
      'nothing of it was obeyed',
    );
  });
}

for (const [what, frame] of Object.entries({
  'a binary frame': { opcode: OPCODE.binary, payload: PING },
  'an empty binary frame': { opcode: OPCODE.binary },
  'the beginning of a binary message': { opcode: OPCODE.binary, payload: PING, fin: false },
})) {
  test(`${what} closes with 1003`, async (t) => {
    const ws = await connect(server, { t });
    ws.sendFrame(frame);
    assert.equal((await ws.closed()).code, 1003);
  });
}

const around = (...bytes) =>
  Buffer.concat([Buffer.from('{"event":"pusher:ping","data":"'), Buffer.from(bytes), Buffer.from('"}')]);
for (const [what, payload] of Object.entries({
  'a stray continuation byte': around(0x80),
  'an overlong slash': around(0xc0, 0xaf),
  'an overlong three-byte character': around(0xe0, 0x80, 0xaf),
  'a surrogate': around(0xed, 0xa0, 0x80),
  'a character beyond unicode': around(0xf4, 0x90, 0x80, 0x80),
  'the byte 0xff': around(0xff),
  'a character cut by the end': Buffer.concat([Buffer.from(PING), Buffer.from([0xe2, 0x82])]),
})) {
  test(`invalid UTF-8 closes with 1007: ${what}`, async (t) => {
    const ws = await connect(server, { t });
    ws.sendFrame({ opcode: OPCODE.text, payload });
    assert.equal((await ws.closed()).code, 1007);
  });
}

test('invalid_utf_8_is_found_across_fragments', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.text, payload: Buffer.from([0x22, 0xe2]), fin: false });
  ws.sendFrame({ opcode: OPCODE.continuation, payload: Buffer.from([0x22]) });
  assert.equal((await ws.closed()).code, 1007);
});

test('invalid_utf_8_in_a_fragment_closes_at_once', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.text, payload: around(0xff), fin: false });
  assert.equal((await ws.closing()).code, 1007);
  const later = await connect(server, { t });
  later.sendFrame({ opcode: OPCODE.text, payload: Buffer.from([0x22, 0xe2]), fin: false });
  later.sendFrame({ opcode: OPCODE.continuation, payload: Buffer.from([0x22]), fin: false });
  assert.equal((await later.closing()).code, 1007);
});

test('invalid_utf_8_in_a_frame_that_is_still_arriving_closes_at_once_and_the_rest_of_it_is_read', async (t) => {
  const ws = await connect(server, { t });
  const frame = encodeFrame({ opcode: OPCODE.text, payload: Buffer.concat([around(0xff), Buffer.alloc(1000, 0x20)]) });
  ws.write(frame.subarray(0, 100));
  assert.equal((await ws.closing()).code, 1007);
  // The server still knows where the frame ends: it sees the client's answer to its close frame behind it.
  ws.write(frame.subarray(100));
  assert.equal((await ws.closed()).reset, false);
});

test('a_frame_that_arrives_byte_by_byte_is_understood', async (t) => {
  const [sender, receiver] = [await connect(server, { t }), await connect(server, { t })];
  for (const ws of [sender, receiver]) await subscribe(ws, 'private-bytes');
  const data = 'é\u{1f600}'.repeat(20);
  for (const byte of encodeFrame({
    opcode: OPCODE.text,
    payload: JSON.stringify({ event: 'client-x', channel: 'private-bytes', data }),
  })) {
    sender.write(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  assert.equal((await receiver.next('client-x')).data, data);
});

test('a_character_may_be_split_between_fragments', async (t) => {
  const [sender, receiver] = [await connect(server, { t }), await connect(server, { t })];
  for (const ws of [sender, receiver]) await subscribe(ws, 'private-split');
  const bytes = Buffer.from(JSON.stringify({ event: 'client-x', channel: 'private-split', data: 'é\u{1f600}' }));
  for (let i = 0; i < bytes.length; i++) {
    sender.sendFrame({
      opcode: i === 0 ? OPCODE.text : OPCODE.continuation,
      payload: bytes.subarray(i, i + 1),
      fin: i === bytes.length - 1,
    });
  }
  assert.equal((await receiver.next('client-x')).data, 'é\u{1f600}');
});

test('control_frames_between_fragments_are_answered_at_once', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.text, payload: PING.slice(0, 5), fin: false });
  ws.sendFrame({ opcode: OPCODE.ping, payload: 'between' });
  const pong = await ws.frames.next((frame) => frame.opcode === OPCODE.pong);
  assert.equal(pong.payload.toString(), 'between');
  ws.sendFrame({ opcode: OPCODE.pong });
  ws.sendFrame({ opcode: OPCODE.continuation, payload: '', fin: false });
  ws.sendFrame({ opcode: OPCODE.continuation, payload: PING.slice(5) });
  await ws.expect('pusher:pong');
});

test('a_close_between_fragments_is_answered', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.text, payload: '{', fin: false });
  ws.sendClose(1001);
  assert.equal((await ws.closed()).code, 1001);
});

test('a_close_without_code_is_answered', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.close });
  const { code, reset } = await ws.closed();
  assert.ok(code === null || code === 1000);
  assert.equal(reset, false);
});

test('a_close_reason_that_is_no_utf_8_closes_with_1007', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.close, payload: Buffer.from([0x03, 0xe8, 0xff]) });
  assert.equal((await ws.closed()).code, 1007);
});

test('the_handshake_and_frames_may_arrive_byte_by_byte', async (t) => {
  const ws = RawWebSocket.open(server);
  t.after(() => ws.destroy());
  await ws.connected();
  const handshake =
    `GET /app/${APP.key}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
  await trickle(ws, Buffer.from(handshake));
  await ws.shaken();
  assert.equal(ws.handshake.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  await ws.expect('pusher:connection_established');
  await trickle(ws, encodeFrame({ opcode: OPCODE.text, payload: PING }));
  await ws.expect('pusher:pong');
  const long = JSON.stringify({ event: 'pusher:ping', data: 'x'.repeat(300) });
  await trickle(ws, encodeFrame({ opcode: OPCODE.text, payload: long }));
  await ws.expect('pusher:pong');
});

test('many_frames_may_arrive_in_one_segment', async (t) => {
  const ws = await connect(server, { t });
  ws.write(Buffer.concat(Array.from({ length: 200 }, () => encodeFrame({ opcode: OPCODE.text, payload: PING }))));
  for (const pong of await ws.inbox.take(200)) assert.equal(pong.event, 'pusher:pong');
});

test('every_length_encoding_is_understood', async (t) => {
  const ws = await connect(server, { t });
  for (const size of [125, 126, 127, 65535, 65536]) {
    const frame = JSON.stringify({ event: 'pusher:ping', data: '' });
    ws.sendText(frame.replace('""', `"${'x'.repeat(size - frame.length)}"`));
    await ws.expect('pusher:pong');
  }
});

test('a_message_of_the_largest_size_is_accepted_and_a_larger_one_closes_with_1009', async (t) => {
  const message = (size) => PING.slice(0, -1) + ' '.repeat(size - PING.length) + '}';
  const ws = await connect(server, { t });
  ws.sendText(message(LIMIT));
  await ws.expect('pusher:pong');
  ws.sendText(message(LIMIT + 1));
  assert.equal((await ws.closed()).code, 1009);
});

test('the_announced_length_is_enough_to_close_with_1009', async (t) => {
  for (const length of [BigInt(LIMIT) + 1n, 1n << 31n, 1n << 32n, 1n << 62n]) {
    const ws = await connect(server, { t });
    ws.sendFrame({ opcode: OPCODE.text, payload: 'x', length });
    assert.equal((await ws.closed()).code, 1009, String(length));
  }
});

test('a_length_with_its_highest_bit_set_closes', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.text, payload: 'x', length: (1n << 64n) - 1n });
  assert.ok([1002, 1009].includes((await ws.closed()).code));
});

test('fragments_count_together', async (t) => {
  const ws = await connect(server, { t });
  ws.sendFrame({ opcode: OPCODE.text, payload: 'x'.repeat(LIMIT / 2), fin: false });
  ws.sendFrame({ opcode: OPCODE.continuation, payload: 'x'.repeat(LIMIT / 2), fin: false });
  ws.sendFrame({ opcode: OPCODE.ping });
  await ws.frames.next((frame) => frame.opcode === OPCODE.pong);
  ws.sendFrame({ opcode: OPCODE.continuation, payload: 'x', fin: false });
  assert.equal((await ws.closed()).code, 1009);
});

test('endless_empty_fragments_disturb_nobody', async (t) => {
  const [ws, other] = [await connect(server, { t }), await connect(server, { t })];
  ws.sendFrame({ opcode: OPCODE.text, payload: PING.slice(0, 3), fin: false });
  const fragments = Buffer.concat(
    Array.from({ length: 1000 }, () => encodeFrame({ opcode: OPCODE.continuation, fin: false })),
  );
  for (let i = 0; i < 100; i++) {
    ws.write(fragments);
    if (i % 20 === 0) assert.deepEqual(await other.fence(), []);
  }
  ws.sendFrame({ opcode: OPCODE.continuation, payload: PING.slice(3) });
  await ws.expect('pusher:pong');
});

test('a_lower_limit_of_the_websocket_section_wins', async (t) => {
  const other = await serverFor(t, { config: { websocket: { max_message_size: 2048, max_frame_size: 1024 } } });
  const fragmented = (size) => [
    encodeFrame({ opcode: OPCODE.text, payload: PING.slice(0, -1) + ' '.repeat(1000 - PING.length + 1), fin: false }),
    encodeFrame({ opcode: OPCODE.continuation, payload: ' '.repeat(1000), fin: false }),
    encodeFrame({ opcode: OPCODE.continuation, payload: `${' '.repeat(size - 2001)}}` }),
  ];
  const ws = await connect(other);
  ws.write(Buffer.concat(fragmented(2048)));
  await ws.expect('pusher:pong');
  ws.write(Buffer.concat(fragmented(2049)));
  assert.equal((await ws.closed()).code, 1009);
  const long = await connect(other);
  long.sendText(PING.slice(0, -1) + ' '.repeat(1025 - PING.length) + '}');
  assert.equal((await long.closed()).code, 1009);
});

function closeFrame(code) {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return encodeFrame({ opcode: OPCODE.close, payload });
}

async function trickle(ws, bytes) {
  for (const byte of bytes) {
    ws.write(Buffer.from([byte]));
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}
