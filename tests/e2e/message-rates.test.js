// What one connection may send: client events per second, messages of any kind, and messages that are good for nothing.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { closedWithError, connect, nextError, settle, stillOpen, subscribe, trigger } from '../lib/client.js';
import { LIVE_APPS } from '../lib/live-apps.js';
import { eventually } from '../lib/metrics.js';
import { encodeFrame, OPCODE } from '../lib/raw-websocket.js';
import { APP, sharedServer } from '../lib/server.js';

// A window so long that no token comes back while a test runs.
const HOUR = 3600;
const limited = (id, limits) => ({ ...APP, id, key: `${id}-key`, ...limits });
const withPolicy = (id, limits) =>
  limited(id, {
    policy: {
      limits: { max_client_events_per_second: 0, ...limits },
      features: { enable_client_messages: true },
    },
  });
const messages = (change) => ({
  message_rate_limit: { enabled: true, max_attempts: 5, decay_seconds: HOUR, ...change },
});

const FIVE = limited('five', { max_client_events_per_second: 5 });
const FREE = limited('free', { max_client_events_per_second: 0 });
const SLOW = withPolicy('slow', { max_client_events_per_second: 5, decay_seconds: HOUR });
const STRICT = withPolicy('strict', {
  max_client_events_per_second: 5,
  decay_seconds: HOUR,
  terminate_on_limit: true,
});
const COUNTED = withPolicy('counted', messages());
const CUT = withPolicy('cut', messages({ terminate_on_limit: true }));
const OFF = withPolicy('off', messages({ enabled: false }));
const server = await sharedServer({ apps: [APP, FIVE, FREE, SLOW, STRICT, COUNTED, CUT, OFF] });

const text = (message) => encodeFrame({ opcode: OPCODE.text, payload: JSON.stringify(message) });
const event = { event: 'client-e', channel: 'private-c', data: 'x' };

// A sender, and a receiver in the same channel.
async function pair(t, app, where = server) {
  const both = [await connect(where, { t, app }), await connect(where, { t, app })];
  for (const ws of both) await subscribe(ws, 'private-c');
  return both;
}

// Sends `count` client events at once. Returns how many were delivered, and the errors for the others.
async function burst(sender, receiver, count, where = server) {
  sender.write(Buffer.concat(Array(count).fill(text(event))));
  const errors = (await sender.fence()).filter((message) => message.event === 'pusher:error');
  const [delivered] = await settle(where, receiver);
  return { granted: delivered.filter((message) => message.event === 'client-e').length, errors };
}

async function refusals(app, where = server) {
  const counted = {};
  await eventually(where, (metrics) => {
    for (const { labels, value } of metrics.select('refusals_total', { app_id: app.id }))
      counted[labels.reason] = value;
  });
  return counted;
}

describe('client events', () => {
  test('max_client_events_per_second holds for each connection, with a burst of one second', async (t) => {
    const [sender, receiver] = await pair(t, FIVE);
    const began = performance.now();
    const { granted, errors } = await burst(sender, receiver, 12);
    const elapsed = (performance.now() - began) / 1000;
    assert.ok(granted >= 5 && granted <= 5 + 5 * elapsed, `${granted} in ${elapsed} s`);
    assert.equal(errors.length, 12 - granted);
    for (const { data } of errors)
      assert.deepEqual(data, {
        code: 4301,
        message: 'client event refused: `max_client_events_per_second` of this app is 5 for each connection',
      });
    assert.ok((await burst(receiver, sender, 5)).granted === 5, 'another connection has its own');
    assert.deepEqual(await refusals(FIVE), { max_client_events_per_second: 12 - granted });
  });

  test('policy: decay_seconds is the window, and an event that is refused for another reason costs nothing', async (t) => {
    const [sender, receiver] = await pair(t, SLOW);
    for (let i = 0; i < 3; i++) {
      trigger(sender, 'private-other', 'client-e', 'x');
      await nextError(sender, 4301);
    }
    const { granted, errors } = await burst(sender, receiver, 8);
    assert.equal(granted, 5);
    assert.equal(errors.length, 3);
    assert.match(errors[0].data.message, /`max_client_events_per_second` of this app is 5 in 3600 s/);
  });

  test('policy: terminate_on_limit closes instead of dropping', async (t) => {
    const [sender, receiver] = await pair(t, STRICT);
    for (let i = 0; i < 6; i++) trigger(sender, 'private-c', 'client-e', 'x');
    assert.match(await closedWithError(sender, 4009), /^client event refused: .* is 5 in 3600 s/);
    for (let i = 0; i < 5; i++) await receiver.next('client-e');
    assert.deepEqual(await stillOpen(receiver), []);
  });
});

describe('policy: message_rate_limit', () => {
  test('counts all messages of a connection, junk and pings, too', async (t) => {
    const ws = await connect(server, { t, app: COUNTED });
    ws.send({ event: 'pusher:ping', data: {} });
    await ws.expect('pusher:pong');
    ws.sendText('{');
    await nextError(ws, 4300);
    ws.send({ event: 'pusher:unknown', data: {} });
    await ws.ping();
    await subscribe(ws, 'c');
    ws.sendFrame({ opcode: OPCODE.pong, payload: '' }); // answers a ping of the server: not counted
    for (let i = 0; i < 3; i++) ws.send({ event: 'pusher:subscribe', data: { channel: 'd' } });
    for (let i = 0; i < 3; i++) {
      const refused = await ws.expect('pusher:error');
      assert.deepEqual(refused.data, {
        code: 4301,
        message: 'message refused: `message_rate_limit` of this app is 5 in 3600 s for each connection',
      });
    }
    ws.sendFrame({ opcode: OPCODE.ping, payload: 'x' });
    await ws.expect('pusher:error');
    assert.ok(!ws.frames.all.some(({ opcode, payload }) => opcode === OPCODE.pong && payload.equals(Buffer.from('x'))));
    assert.equal((await refusals(COUNTED)).message_rate_limit, 4);
  });

  test('closes with terminate_on_limit', async (t) => {
    const ws = await connect(server, { t, app: CUT });
    for (let i = 0; i < 5; i++) await stillOpen(ws);
    ws.send({ event: 'pusher:ping', data: {} });
    assert.match(await closedWithError(ws, 4009), /^message refused: `message_rate_limit` of this app is 5 in 3600 s/);
  });

  test('does nothing unless it is enabled', async (t) => {
    const ws = await connect(server, { t, app: OFF });
    for (let i = 0; i < 20; i++) await stillOpen(ws);
  });
});

describe('messages that are good for nothing', () => {
  const JUNK = {
    'that are no JSON': encodeFrame({ opcode: OPCODE.text, payload: '{' }),
    'with an event that nobody knows': text({ event: 'pusher:nothing', data: {} }),
    'that are refused': text({ event: 'client-e', channel: 'public', data: 'x' }),
    'that subscribe in vain': text({ event: 'pusher:subscribe', data: { channel: 'private-c', auth: 'x' } }),
    'that unsubscribe from nothing': text({ event: 'pusher:unsubscribe', data: { channel: 'c' } }),
    pings: text({ event: 'pusher:ping', data: {} }),
    'that answer no ping': text({ event: 'pusher:pong', data: {} }),
    'in ping frames': encodeFrame({ opcode: OPCODE.ping, payload: '' }),
    'in pong frames': encodeFrame({ opcode: OPCODE.pong, payload: '' }),
  };
  for (const [what, frame] of Object.entries(JUNK)) {
    test(`${what}: a thousand of them in a second are suffered, more close the connection`, async (t) => {
      const patient = await connect(server, { t });
      patient.write(Buffer.concat(Array(999).fill(frame))); // and the ping of the fence
      await stillOpen(patient);
      const ws = await connect(server, { t });
      ws.write(Buffer.concat(Array(5000).fill(frame)));
      const error = await ws.next(
        Object.assign(({ event: name, data }) => name === 'pusher:error' && data.code === 4009, { label: '4009' }),
      );
      assert.equal(
        error.data.message,
        'more than 1000 messages in a second were refused, ignored, or only pings and pongs',
      );
      assert.equal((await ws.closing()).code, 4009);
    });
  }

  test('are counted as a refusal; messages with an effect are not junk, however many they are', async (t) => {
    const [sender] = await pair(t, FREE);
    for (let i = 0; i < 5; i++) {
      sender.write(Buffer.concat(Array(1000).fill(text(event))));
      await stillOpen(sender);
    }
    assert.equal((await refusals(FREE)).junk_messages, undefined);
    assert.equal((await refusals(APP)).junk_messages, Object.keys(JUNK).length);
  });
});

for (const [way, start] of Object.entries(LIVE_APPS)) {
  test(`what changes is in force on open connections: ${way}`, async (t) => {
    const { server: live, change } = await start(t, FREE);
    const [sender, receiver] = await pair(t, FREE, live);
    assert.equal((await burst(sender, receiver, 20, live)).granted, 20);
    await change({ max_client_events_per_second: 3 });
    const { granted, errors } = await burst(sender, receiver, 100, live);
    assert.ok(granted >= 3 && granted < 100, `${granted}`);
    assert.match(errors[0].data.message, /is 3\b/);
    await change({ max_client_events_per_second: 0 });
    assert.equal((await burst(sender, receiver, 20, live)).granted, 20);
    await change({ policy: COUNTED.policy });
    sender.write(Buffer.concat(Array(6).fill(text({ event: 'pusher:ping', data: {} }))));
    assert.match(await nextError(sender, 4301), /`message_rate_limit`/);
    await change({ policy: CUT.policy });
    sender.send({ event: 'pusher:ping', data: {} });
    await closedWithError(sender, 4009);
  });
}
