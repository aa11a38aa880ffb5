// Unmodified pusher-js against the server, with its events in a queue that a test can wait on.

import { createRequire } from 'node:module';

import { Inbox, matching, within } from './inbox.js';
import { APP } from './server.js';
import { channelAuth, signinAuth } from './sign.js';

const require = createRequire(import.meta.url);
export const Pusher = require('pusher-js');

/*
 * A pusher-js client with the options that a self-hosted server needs. `app` gives key and secret: channels are
 * authorized and users authenticated by handlers that sign on the spot. `members` is a function (channel name) ->
 * {user_id, user_info} for presence channels, `user` what signin() signs in as, `sharedSecret` the key of encrypted
 * channels (base64). `options` are added to pusher-js's own.
 */
export function makePusher(server, { t, app = APP, members, user, sharedSecret, options = {} } = {}) {
  const client = new Pusher(app.key, {
    cluster: 'local',
    wsHost: server.host,
    wsPort: server.port,
    forceTLS: false,
    enabledTransports: ['ws'],
    enableStats: false,
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, callback) => {
        const channelData =
          channelName.startsWith('presence-') && members ? JSON.stringify(members(channelName)) : undefined;
        const auth = channelAuth(app, socketId, channelName, channelData);
        const key = channelName.startsWith('private-encrypted-') ? { shared_secret: sharedSecret } : {};
        callback(null, channelData === undefined ? { auth, ...key } : { auth, channel_data: channelData });
      },
    },
    userAuthentication: {
      customHandler: ({ socketId }, callback) => {
        const userData = JSON.stringify(user);
        callback(null, { auth: signinAuth(app, socketId, userData), user_data: userData });
      },
    },
    ...options,
  });
  server.own(() => client.disconnect());
  t?.after(() => client.disconnect());
  return client;
}

/*
 * Records what a pusher-js object (client, channel, user, connection or watchlist) emits from now on as {event, data,
 * metadata}. Begin before the event can come. A connection (no bind_global) names its events.
 */
export function record(emitter, ...events) {
  const inbox = new Inbox(`events of ${emitter.name ?? emitter.constructor.name}`);
  if (events.length === 0) emitter.bind_global((event, data, metadata) => inbox.push({ event, data, metadata }));
  for (const event of events) emitter.bind(event, (data, metadata) => inbox.push({ event, data, metadata }));
  return { inbox, next: (wanted, timeoutMs) => inbox.next(matching(wanted), timeoutMs) };
}

// Waits until the client is connected; resolves to its socket id.
export function connected(client) {
  const { connection } = client;
  return within(
    new Promise((resolve, reject) => {
      if (connection.state === 'connected') resolve(connection.socket_id);
      connection.bind('connected', () => resolve(connection.socket_id));
      connection.bind('failed', () => reject(new Error('pusher-js gave up connecting')));
    }),
    'pusher-js to connect',
  );
}

// Waits until a channel is subscribed; resolves to what pusher:subscription_succeeded carried (the members on presence
// channels).
export function subscribed(channel) {
  return within(
    new Promise((resolve, reject) => {
      if (channel.subscribed) resolve(channel.members);
      channel.bind('pusher:subscription_succeeded', resolve);
      channel.bind('pusher:subscription_error', (error) =>
        reject(new Error(`${channel.name}: ${JSON.stringify(error)}`)),
      );
    }),
    `the subscription to ${channel.name}`,
  );
}
