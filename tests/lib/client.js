// A Pusher protocol client on a raw WebSocket: it knows the handshake, subscriptions and sign-in, and leaves every
// answer to the test.

import assert from 'node:assert/strict';

import { publish } from './api.js';
import { matching } from './inbox.js';
import { RawWebSocket } from './raw-websocket.js';
import { APP } from './server.js';
import { channelAuth, signinAuth } from './sign.js';

// Connects and waits for the established event: the raw connection with `socketId`, `app` and the functions below.
// Options as RawWebSocket.connect(); `app` is the app whose key and secret are used. With `t` the socket is destroyed
// after the test.
export async function connect(server, { app = APP, t, ...options } = {}) {
  const ws = await RawWebSocket.connect(server, { key: app.key, ...options });
  t?.after(() => ws.destroy());
  const established = await ws.expect('pusher:connection_established');
  const { socket_id: socketId, activity_timeout: activityTimeout } = JSON.parse(established.data);
  return Object.assign(ws, { app, socketId, activityTimeout, established });
}

// A connection to an app, and the code of the error that it gets; 0: it is established.
export async function tryToConnect(t, server, app = APP) {
  const ws = await RawWebSocket.connect(server, { key: app.key });
  t.after(() => ws.destroy());
  const message = await ws.next((m) => /^pusher:(connection_established|error)$/.test(m.event));
  return { ws, code: message.event === 'pusher:error' ? message.data.code : 0 };
}

// The data of a subscribe message, signed where the channel's kind asks for it. `user` is {user_id, user_info};
// `channelData` the exact text in its place.
export function subscription(ws, channel, { user, channelData = user && JSON.stringify(user), ...rest } = {}) {
  const data = { channel, ...rest };
  if (channelData !== undefined) data.channel_data = channelData;
  if (/^(private|presence)-/.test(channel) && !('auth' in rest))
    data.auth = channelAuth(ws.app, ws.socketId, channel, channelData);
  return data;
}

// Sends a subscribe message without waiting.
export function sendSubscribe(ws, channel, options) {
  ws.send({ event: 'pusher:subscribe', data: subscription(ws, channel, options) });
}

// Subscribes and returns the answer, a success or an error, whichever comes for this channel.
export function trySubscribe(ws, channel, options) {
  sendSubscribe(ws, channel, options);
  return ws.next(
    Object.assign(
      (message) =>
        message.channel === channel &&
        (message.event === 'pusher_internal:subscription_succeeded' || message.event === 'pusher:subscription_error'),
      { label: `the answer to subscribing to ${channel}` },
    ),
  );
}

// Subscribes and insists on success; returns the success message.
export async function subscribe(ws, channel, options) {
  const answer = await trySubscribe(ws, channel, options);
  assert.equal(answer.event, 'pusher_internal:subscription_succeeded', answer.text);
  return answer;
}

// Subscribes and insists on an error of this type and status; returns its text.
export async function subscribeRefused(ws, channel, { type, status }, options) {
  const answer = await trySubscribe(ws, channel, options);
  assert.equal(answer.event, 'pusher:subscription_error', answer.text);
  assert.equal(typeof answer.data, 'object', 'the data of an error is an object');
  assert.deepEqual(Object.keys(answer.data).sort(), ['error', 'status', 'type']);
  assert.equal(answer.data.type, type, answer.text);
  assert.equal(answer.data.status, status, answer.text);
  assert.ok(typeof answer.data.error === 'string' && answer.data.error !== '', 'the error has a text');
  return answer.data.error;
}

// Joins a presence channel as a user and returns the member list {count, ids, hash}.
export async function join(ws, channel, user, options) {
  const answer = await subscribe(ws, channel, { user, ...options });
  return JSON.parse(answer.data).presence;
}

export function unsubscribe(ws, channel) {
  ws.send({ event: 'pusher:unsubscribe', data: { channel } });
}

// Sends a signed sign-in without waiting; `user` is {id, user_info, watchlist}, `userData` the exact text in its place.
export function sendSignin(
  ws,
  user,
  { userData = JSON.stringify(user), auth = signinAuth(ws.app, ws.socketId, userData) } = {},
) {
  ws.send({ event: 'pusher:signin', data: { auth, user_data: userData } });
}

// Signs in and insists on success.
export function signin(ws, user, options) {
  sendSignin(ws, user, options);
  return ws.next('pusher:signin_success');
}

// Sends a client event; `data` as a value.
export function trigger(ws, channel, event, data) {
  ws.send({ event, channel, data });
}

// The next pusher:error of this code: checks its exact shape and returns its text.
export async function nextError(ws, code) {
  const error = await ws.next('pusher:error');
  assert.deepEqual(error.data, { code, message: error.data.message }, error.text);
  assert.deepEqual(Object.keys(error).sort(), ['data', 'event', 'text']);
  assert.ok(typeof error.data.message === 'string' && error.data.message !== '', 'the error has a text');
  return error.data.message;
}

// An error of this code, then a close frame with the same code and text (cut to 123 bytes); returns the text.
export async function closedWithError(ws, code) {
  const text = await nextError(ws, code);
  const { code: closeCode, reason } = await ws.closing();
  assert.equal(closeCode, code);
  assert.equal(reason, cutToBytes(text, 123));
  return text;
}

// A text cut to so many bytes of UTF-8, at a character's border.
export function cutToBytes(text, bytes) {
  let cut = '';
  for (const character of text) {
    if (Buffer.byteLength(cut + character) > bytes) break;
    cut += character;
  }
  return cut;
}

// Proves that the connection still works, and returns what it had received and nobody had taken.
export async function stillOpen(ws) {
  assert.equal(ws.closeFrame, null, 'the connection stays open');
  return ws.fence();
}

/*
 * Proves that whatever the server had to deliver to these connections is here: publishes one marker event to a channel
 * that all of them hold. A worker delivers what is posted to it in order, so everything older has arrived before the
 * marker. Returns, for each connection, the messages that arrived before it and were not taken.
 */
export async function settle(server, ...connections) {
  const channel = `settle-${connections[0].socketId.replace('.', '-')}`;
  for (const ws of connections) sendSubscribe(ws, channel);
  const isAnswer = (message) => message.channel === channel && message.event.startsWith('pusher_internal:');
  for (const ws of connections)
    await ws.next(Object.assign(isAnswer, { label: 'the subscription to the marker channel' }));
  await publish(server, { name: 'marker', channel, data: 'x' }, { app: connections[0].app });
  const before = [];
  for (const ws of connections) {
    const messages = await ws.inbox.through(matching({ event: 'marker', channel }));
    before.push(messages.slice(0, -1));
    unsubscribe(ws, channel);
  }
  return before;
}

// settle(), and insists that nothing had arrived.
export async function nothingArrived(server, ...connections) {
  for (const messages of await settle(server, ...connections))
    assert.deepEqual(
      messages.map((message) => message.text),
      [],
    );
}
