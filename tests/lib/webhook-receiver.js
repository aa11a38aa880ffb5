// A receiver of webhooks, which takes batches apart and checks what every request must have.

import assert from 'node:assert/strict';

import { httpStub } from './http-stub.js';
import { Inbox } from './inbox.js';
import { hmac } from './sign.js';

/*
 * Starts a receiver; it is gone after the test (`t` may be {after} of a file). `secrets` maps the key of an app to its
 * secret. Events are in `events` in the order of their batches, as objects with the further members `path` (of the
 * request) and `timeMs` (of the batch). Returns the stub with `events` and `of(channel, path)`: the texts of what
 * came for a channel.
 */
export async function webhookReceiver(t, secrets) {
  const events = new Inbox('webhook events', ({ path, ...event }) => `${path} ${JSON.stringify(event)}`);
  const stub = await httpStub(t, {
    answer: ({ method, path, headers, body }) => {
      assert.equal(method, 'POST');
      assert.equal(headers['content-type'], 'application/json');
      assert.equal(headers['x-pusher-signature'], hmac(secrets[headers['x-pusher-key']], body), 'the signature');
      const batch = JSON.parse(body);
      assert.deepEqual(Object.keys(batch), ['time_ms', 'events']);
      for (const event of batch.events) events.push({ path, timeMs: batch.time_ms, ...event });
      return {};
    },
  });
  const of = (channel, path) =>
    events.all
      .filter((event) => event.channel === channel && (path === undefined || event.path === path))
      .map(shortText);
  return Object.assign(stub, { events, of });
}

// An event in short: its name, and the user or the count.
export function shortText({ name, user_id: user, subscription_count: count }) {
  return [name, user, count].filter((part) => part !== undefined).join(' ');
}

// A predicate for the events of a receiver.
export function eventOf(channel, text, path) {
  return Object.assign(
    (event) => event.channel === channel && shortText(event) === text && (path === undefined || event.path === path),
    { label: `${text} of ${channel}` },
  );
}
