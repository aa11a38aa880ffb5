// What the server does when a client says nothing, and what it does only after a while. These tests take half a minute
// each, so they run side by side.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import WebSocket from 'ws';

import { publish } from '../lib/api.js';
import { closedWithError, connect, sendSignin, subscribe, trigger } from '../lib/client.js';
import { Inbox, LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { RawHttp } from '../lib/raw-http.js';
import { OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, sharedServer } from '../lib/server.js';

const server = await sharedServer({ config: { activity_timeout: 1 } });
const LONG_MS = LONG_TIMEOUT_MS;

describe('activity', { concurrency: true }, () => {
  test('a_silent_client_is_pinged_and_closed_with_4201_when_it_does_not_answer', async (t) => {
    const began = performance.now();
    const ws = await connect(server, { t });
    await ws.expect('pusher:ping', LONG_MS);
    await ws.frames.next((frame) => frame.opcode === OPCODE.ping && frame.payload.length === 0);
    await ws.next('pusher:error', LONG_MS).then((error) => ws.inbox.waiting.unshift(error));
    assert.ok(performance.now() - began > 29_000, 'the client had about 30 s to answer');
    assert.equal(await closedWithError(ws, 4201), 'no pong came within 30 s');
    await ws.closed();
    assert.deepEqual(ws.inbox.waiting, []);
  });

  test('what_the_server_sends_is_no_activity_of_the_client', async (t) => {
    const ws = await connect(server, { t });
    await subscribe(ws, 'news');
    const stop = repeatedly(200, () => publish(server, { name: 'x', channel: 'news', data: 'x' }));
    try {
      await ws.next('pusher:ping', LONG_MS);
      const error = await ws.next('pusher:error', LONG_MS);
      assert.equal(error.data.code, 4201);
    } finally {
      await stop();
    }
  });

  for (const [name, answer] of Object.entries({
    a_pusher_pong: (ws) => ws.send({ event: 'pusher:pong', data: {} }),
    a_websocket_pong: (ws) => ws.sendFrame({ opcode: OPCODE.pong }),
    a_websocket_ping: (ws) => ws.sendFrame({ opcode: OPCODE.ping, payload: 'x' }),
    any_other_message: (ws) => ws.send({ event: 'pusher:something', data: {} }),
  })) {
    test(`${name}_answers_the_ping_and_the_client_stays`, async (t) => {
      const ws = await connect(server, { t });
      const until = performance.now() + 34_000;
      let pings = 0;
      for (; performance.now() < until; pings++) {
        await ws.expect('pusher:ping', LONG_MS);
        answer(ws);
      }
      assert.ok(pings >= 5, `it was pinged ${pings} times, each time after 1.25 s of silence`);
      assert.equal(ws.closeFrame, null);
      assert.deepEqual(
        await ws.fence().then((messages) => messages.filter(({ event }) => event !== 'pusher:ping')),
        [],
      );
    });
  }

  test('a_client_that_answers_only_websocket_pings_stays', async (t) => {
    const ws = await connect(server, { t });
    for (const until = performance.now() + 34_000; performance.now() < until;) {
      const { payload } = await ws.frames.next((frame) => frame.opcode === OPCODE.ping, LONG_MS);
      ws.sendFrame({ opcode: OPCODE.pong, payload });
    }
    assert.equal(ws.closeFrame, null);
    await ws.fence();
  });

  test('a_client_that_gets_events_all_the_time_and_sends_nothing_but_websocket_pongs_stays', async (t) => {
    const client = new WebSocket(`ws://${server.host}:${server.port}/app/${APP.key}?protocol=7`);
    const seen = new Inbox('pings and messages of a plain ws client', String);
    t.after(() => client.terminate());
    client.on('ping', () => seen.push('ping'));
    client.on('close', (code) => seen.push(`closed with ${code}`));
    client.on('message', (text) => seen.push(JSON.parse(text).event));
    await seen.next((what) => what === 'pusher:connection_established');
    client.send(JSON.stringify({ event: 'pusher:subscribe', data: { channel: 'busy' } }));
    await seen.next((what) => what === 'pusher_internal:subscription_succeeded');
    const stop = repeatedly(200, () => publish(server, { name: 'x', channel: 'busy', data: 'x' }));
    try {
      for (const until = performance.now() + 34_000; performance.now() < until;)
        assert.equal(await seen.next((what) => what !== 'x' && what !== 'pusher:ping', LONG_MS), 'ping');
    } finally {
      await stop();
    }
  });

  test('half_a_request_head_is_given_10_seconds', async () => {
    const began = performance.now();
    const http = await RawHttp.connect(server);
    http.write('GET /app/app-key HTTP/1.1\r\nHost: x\r\n');
    await http.closed(LONG_MS);
    assert.ok(performance.now() - began > 9_000, 'the client had about 10 s');
  });

  test('a_connection_that_sends_nothing_is_given_10_seconds', async () => {
    const began = performance.now();
    const http = await RawHttp.connect(server);
    await http.closed(LONG_MS);
    assert.ok(performance.now() - began > 9_000, 'the client had about 10 s');
  });

  test('a_head_that_trickles_in_is_given_10_seconds_in_all', async () => {
    const http = await RawHttp.connect(server);
    http.write('GET /app/app-key HTTP/1.1\r\n');
    const stop = repeatedly(500, () => http.write('X: y\r\n'));
    await http.closed(LONG_MS);
    await stop();
  });

  test('after_its_close_frame_the_server_obeys_no_more_and_drops_the_socket_5_seconds_later', async (t) => {
    const observer = await connect(server, { t });
    const ws = await connect(server, { t, answerClose: false });
    await subscribe(observer, 'private-room');
    await subscribe(ws, 'private-room');
    const closing = performance.now();
    sendSignin(ws, { id: 'u' }, { auth: 'app-key:00' });
    trigger(ws, 'private-room', 'client-late', {});
    await closedWithError(ws, 4009);
    trigger(ws, 'private-room', 'client-late', {});
    await ws.closed(LONG_MS);
    assert.ok(performance.now() - closing > 4_000, 'the client had about 5 s to close');
    await publish(server, { name: 'marker', channel: 'private-room', data: 'x' });
    assert.equal((await observer.next((message) => !message.event.startsWith('pusher:'))).event, 'marker');
  });

  test('a_client_that_never_shuts_its_side_after_a_refusal_is_dropped', async () => {
    const ws = await RawWebSocket.connect(server, { key: 'no-such-key', answerClose: false });
    await closedWithError(ws, 4001);
    await ws.closed(LONG_MS);
  });
});

// Calls `act` at intervals until the returned function is called.
function repeatedly(intervalMs, act) {
  let last = Promise.resolve();
  const timer = setInterval(() => {
    last = Promise.resolve(act()).catch(() => {});
  }, intervalMs);
  return () => {
    clearInterval(timer);
    return last;
  };
}
