// pusher-client, a client for Node, driven by a test.

import Pusher from 'pusher-client';

import { obeyCommands, tell } from './driver.js';

let pusher;

Pusher.warn = console.error; // standard output is for events

function connect({ key, host, port, auth }) {
  pusher = new Pusher(key, { host, wsPort: port, authEndpoint: `${auth}/channel` });
  pusher.connection.on('connected', () => tell('connected', { socket_id: pusher.connection.socket_id }));
  pusher.connection.on('disconnected', () => tell('disconnected'));
  pusher.connection.on('error', (error) => {
    tell('error', { text: JSON.stringify(error) });
    // The library leaves it to the application to come back from a connection that broke.
    if (error.error === 'close code 1006') {
      pusher.disconnect();
      pusher.connect();
    }
  });
}

function subscribe(name) {
  const channel = pusher.subscribe(name);
  channel.bind('pusher:subscription_succeeded', ({ members } = {}) => {
    tell('subscribed', { channel: name, ...(members && { members: Object.keys(members).sort() }) });
  });
  channel.bind('pusher:subscription_error', (error) => tell('refused', { channel: name, text: JSON.stringify(error) }));
  channel.bind('pusher:member_added', ({ id }) => tell('added', { channel: name, id }));
  channel.bind('pusher:member_removed', ({ id }) => tell('removed', { channel: name, id }));
  channel.bind('pusher:cache_miss', () => tell('cache_miss', { channel: name }));
  for (const event of ['my-event', 'client-event']) {
    channel.bind(event, (data) => tell('message', { channel: name, name: event, data: JSON.stringify(data) }));
  }
}

const commands = {
  connect,
  subscribe: ({ channel }) => subscribe(channel),
  unsubscribe: ({ channel }) => pusher.unsubscribe(channel),
  trigger: ({ channel, name, data }) => pusher.channel(channel).trigger(name, JSON.parse(data)),
  disconnect: () => pusher.disconnect(),
};

await obeyCommands((command) => commands[command.do](command));
