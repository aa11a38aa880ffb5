// permessage-deflate (RFC 7692), as `websocket.compression` has it: the `ws` client, which compresses what it sends and
// checks what it gets, beside clients that do not; and raw frames for what no client sends.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { constants, deflateRawSync } from 'node:zlib';

import WebSocket from 'ws';

import { publish } from '../lib/api.js';
import { connect, subscribe } from '../lib/client.js';
import { Inbox, matching, within } from '../lib/inbox.js';
import { getMetrics } from '../lib/metrics.js';
import { connected, makePusher, record } from '../lib/pusher.js';
import { OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor } from '../lib/server.js';
import { channelAuth } from '../lib/sign.js';

const MODES = ['shared', 'dedicated', 'window256b', 'window512b', 'window4kb', 'window32kb'];
const compression = (mode, more = {}) => ({ websocket: { compression: mode }, ...more });

// A message as it goes over the wire: deflated, without the four bytes that every one ends with.
const deflated = (text) => deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

// A `ws` client that is established; compresses whatever it sends, unless `perMessageDeflate` says otherwise.
async function open(server, { perMessageDeflate = { threshold: 0 } } = {}) {
  const socket = new WebSocket(`ws://${server.host}:${server.port}/app/${APP.key}?protocol=7`, { perMessageDeflate });
  const inbox = new Inbox('messages of a ws client', (message) => JSON.stringify(message).slice(0, 200));
  const closed = new Promise((resolve) =>
    socket.once('close', (code, reason) => resolve({ code, reason: String(reason) })),
  );
  server.own(() => socket.terminate());
  socket.on('message', (data) => inbox.push(JSON.parse(data)));
  socket.on('error', (error) => inbox.push({ event: 'error', error: String(error) }));
  const client = {
    socket,
    closed: () => within(closed, 'the end of a ws client'),
    send: (message) => socket.send(JSON.stringify(message)),
    next: (wanted) => inbox.next(matching(wanted)),
  };
  client.socketId = JSON.parse((await client.next('pusher:connection_established')).data).socket_id;
  return client;
}

async function join(client, channel) {
  const auth = channel.startsWith('private-') ? { auth: channelAuth(APP, client.socketId, channel) } : {};
  client.send({ event: 'pusher:subscribe', data: { channel, ...auth } });
  await client.next({ event: 'pusher_internal:subscription_succeeded', channel });
}

// Data that repeats itself, and some that does not.
const texts = Array.from({ length: 150 }, (_, i) =>
  JSON.stringify({
    i,
    text: i % 3 === 0 ? 'to and fro '.repeat(i) : String(Math.random()).repeat(1 + (i % 4)),
    more: 'ü€😀'.repeat(i % 5),
  }),
);

for (const mode of MODES) {
  test(`${mode}: everybody gets every event as it was sent, in order`, async (t) => {
    const server = await serverFor(t, {
      apps: [{ ...APP, max_backend_events_per_second: 0 }],
      config: compression(mode),
    });
    const clients = await Promise.all(
      Array.from({ length: 30 }, (_, i) => open(server, i % 5 === 4 ? { perMessageDeflate: false } : {})),
    );
    for (const [i, { socket }] of clients.entries())
      assert.equal(socket.extensions.includes('permessage-deflate'), i % 5 !== 4);
    await Promise.all(clients.map((client) => join(client, 'my-channel')));
    const receiving = clients.map(async (client) => {
      for (const text of texts) assert.equal((await client.next('my-event')).data, text);
    });
    // Ten at a time, so that some are joined into one write.
    for (let i = 0; i < texts.length; i += 10) {
      await publish(server, { name: 'my-event', channel: 'my-channel', data: texts[i] });
      for (const data of texts.slice(i + 1, i + 10))
        await publish(server, { name: 'my-event', channel: 'my-channel', data });
    }
    await Promise.all(receiving);
  });

  test(`${mode}: client events, compressed by their sender, reach the others`, async (t) => {
    const server = await serverFor(t, {
      apps: [{ ...APP, enable_client_messages: true, max_client_events_per_second: 0 }],
      config: compression(mode),
    });
    const [sender, ...others] = await Promise.all([
      open(server),
      open(server),
      open(server, { perMessageDeflate: false }),
    ]);
    for (const client of [sender, ...others]) await join(client, 'private-c');
    for (const data of texts.slice(0, 50)) {
      sender.send({ event: 'client-e', channel: 'private-c', data });
      for (const client of others) assert.equal((await client.next('client-e')).data, data);
    }
  });
}

test('disabled, the default: nothing is agreed on', async (t) => {
  const server = await serverFor(t);
  const client = await open(server);
  assert.equal(client.socket.extensions, '');
  const raw = await connect(server, { t, headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } });
  assert.equal(raw.handshake.headers['sec-websocket-extensions'], undefined);
  raw.sendFrame({ opcode: OPCODE.text, rsv: 4, payload: deflated('{}') });
  assert.equal((await raw.closing()).code, 1002);
});

test('pusher-js, which offers nothing, works beside clients that compress', async (t) => {
  const server = await serverFor(t, { config: compression('shared') });
  const client = await open(server);
  const pusher = makePusher(server, { t });
  await connected(pusher);
  const channel = pusher.subscribe('my-channel');
  const events = record(channel);
  await events.next('pusher:subscription_succeeded');
  await join(client, 'my-channel');
  await publish(server, {
    name: 'my-event',
    channel: 'my-channel',
    data: JSON.stringify({ text: 'to and fro '.repeat(50) }),
  });
  assert.equal((await events.next('my-event')).data.text, 'to and fro '.repeat(50));
  assert.equal(JSON.parse((await client.next('my-event')).data).text, 'to and fro '.repeat(50));
});

test('a client with a small window is served as it asks, with and without context takeover', async (t) => {
  const server = await serverFor(t, { config: compression('dedicated') });
  for (const serverNoContextTakeover of [false, true]) {
    const wish = `${serverNoContextTakeover ? 'server_no_context_takeover; ' : ''}server_max_window_bits=9`;
    const raw = await connect(server, {
      t,
      headers: { 'Sec-WebSocket-Extensions': `permessage-deflate; ${wish}` },
    });
    assert.equal(
      raw.handshake.headers['sec-websocket-extensions'],
      `permessage-deflate; client_no_context_takeover; ${wish}`,
    );
    const client = await open(server, {
      perMessageDeflate: { threshold: 0, serverMaxWindowBits: 9, serverNoContextTakeover },
    });
    await join(client, 'my-channel');
    for (const data of texts.slice(0, 50)) {
      await publish(server, { name: 'my-event', channel: 'my-channel', data });
      assert.equal((await client.next('my-event')).data, data);
    }
  }
});

test('what is agreed on, and what it saves', async (t) => {
  const sent = async (server) =>
    Number((await getMetrics(server)).body.match(/^sockudo_socket_transmitted_bytes\{.*\} (\d+)$/m)[1]);
  const bytes = {};
  for (const [mode, answer] of [
    ['disabled', undefined],
    ['shared', 'permessage-deflate; client_no_context_takeover; server_no_context_takeover'],
    ['dedicated', 'permessage-deflate; client_no_context_takeover'],
  ]) {
    const server = await serverFor(t, { config: compression(mode) });
    const ws = await connect(server, {
      t,
      headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' },
    });
    assert.equal(ws.handshake.headers['sec-websocket-extensions'], answer);
    const client = await open(server);
    await join(client, 'my-channel');
    const before = await sent(server);
    for (let i = 0; i < 20; i++) {
      await publish(server, {
        name: 'my-event',
        channel: 'my-channel',
        data: JSON.stringify({ i, title: 'A title as they are', body: 'and a body, and more of a body' }),
      });
      await client.next('my-event');
    }
    bytes[mode] = (await sent(server)) - before;
  }
  assert.ok(bytes.shared < bytes.disabled * 0.95, JSON.stringify(bytes));
  assert.ok(bytes.dedicated < bytes.shared * 0.5, JSON.stringify(bytes));
});

describe('what breaks the agreement', () => {
  const subscribeText = JSON.stringify({ event: 'pusher:ping', data: {} });
  const cases = {
    'no deflate data': [{ opcode: OPCODE.text, rsv: 4, payload: 'hello' }, 1007],
    'half a message': [{ opcode: OPCODE.text, rsv: 4, payload: deflated(subscribeText).subarray(0, 10) }, 1007],
    'a bomb': [{ opcode: OPCODE.text, rsv: 4, payload: deflated(Buffer.alloc(50_000_000)) }, 1009],
    'a compressed ping': [{ opcode: OPCODE.ping, rsv: 4 }, 1002],
    'a compressed continuation': [{ opcode: OPCODE.continuation, rsv: 4 }, 1002],
    'another reserved bit': [{ opcode: OPCODE.text, rsv: 6, payload: deflated(subscribeText) }, 1002],
  };
  for (const [what, [frame, code]] of Object.entries(cases)) {
    test(`${what} closes with ${code}, and others go on`, async (t) => {
      const server = await serverFor(t, { config: compression('shared') });
      const bystander = await open(server);
      const ws = await RawWebSocket.connect(server, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } });
      t.after(() => ws.destroy());
      ws.sendFrame(frame);
      assert.equal((await ws.closing()).code, code);
      bystander.send({ event: 'pusher:ping', data: {} });
      await bystander.next('pusher:pong');
    });
  }

  test('a slow reader with a window of its own is told so uncompressed', async (t) => {
    const server = await serverFor(t, {
      apps: [{ ...APP, max_backend_events_per_second: 0 }],
      config: { websocket: { compression: 'dedicated', max_messages: 20 } },
    });
    const slow = await connect(server, { t, headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } });
    const fast = await open(server);
    await Promise.all([subscribe(slow, 'c').catch(() => {}), join(fast, 'c')]);
    slow.pause();
    const noise = () =>
      Array.from({ length: 8000 }, () => String.fromCharCode(97 + Math.floor(Math.random() * 26))).join('');
    let closedOne = false;
    for (let i = 0; i < 3000 && !closedOne; i++) {
      await publish(server, { name: 'e', channel: 'c', data: noise() });
      await fast.next('e');
      closedOne = i % 50 === 49 && /reason="slow_reader"[^\n]* [1-9]/.test((await getMetrics(server)).body);
    }
    assert.ok(closedOne, 'the slow reader was closed');
    slow.resume();
    await slow.frames.next(
      (frame) => frame.opcode === OPCODE.text && frame.rsv === 0 && frame.payload.toString().includes('"code":4100'),
    );
  });
});
