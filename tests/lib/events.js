// Subscribers for tests of the HTTP API, the fence that proves that something was not delivered, and the shape of
// refusals.

import assert from 'node:assert/strict';

import { publish } from './api.js';
import { connect, subscribe } from './client.js';
import { matching } from './inbox.js';

let fences = 0;

// The numbers of events from the first to the last.
export const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

// A raw connection that is subscribed to the channels. Options as connect(); `user` is who it is on presence channels.
export async function subscriber(server, t, channels, { user, ...options } = {}) {
  const ws = await connect(server, { t, ...options });
  for (const channel of [channels].flat()) {
    await subscribe(ws, channel, channel.startsWith('presence-') ? { user } : {});
  }
  return ws;
}

// The next event on a channel, parsed, with its exact `text`.
export function nextOn(ws, channel) {
  return ws.next(Object.assign((message) => message.channel === channel, { label: `an event on ${channel}` }));
}

/*
 * Publishes a last event to the channel and returns what the connection had received before it and nobody had taken. A
 * channel has one order, so what is not there by then never comes: this is how an absence is proved.
 */
export async function untilFence(server, ws, channel, options) {
  const name = `fence-${++fences}`;
  await publish(server, { name, channel, data: '' }, options);
  // Fences of other subscribers of the channel are no events of the test.
  return (await ws.inbox.through(matching({ event: name, channel }))).filter(
    (message) => !/^fence-\d+$/.test(message.event),
  );
}

// A refusal of the HTTP API: this status, and a JSON body whose `error` matches every pattern.
export function assertRefusal(response, status, ...patterns) {
  assert.equal(response.status, status, response.body);
  assert.match(response.headers['content-type'] ?? '', /^application\/json/);
  assert.equal(typeof response.json?.error, 'string', `no error text in ${response.body}`);
  for (const pattern of patterns) assert.match(response.json.error, pattern);
}
