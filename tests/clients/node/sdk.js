// pusher, the official server SDK for Node, driven by a test (tests/lib/sdk-journey.js).

import Pusher from 'pusher';

import { obeyCommands, tell } from './driver.js';

let sdk;

function open({ id, key, secret, host, port, encryption_key: encryptionMasterKeyBase64 }) {
  sdk = new Pusher({ appId: id, key, secret, host, port, useTLS: false, encryptionMasterKeyBase64 });
}

async function get(path, params) {
  return (await sdk.get({ path, params })).json();
}

const calls = {
  async trigger({ channels, name, data, socket_id: socketId }) {
    const params = socketId === undefined ? {} : { socket_id: socketId };
    return (await sdk.trigger(channels, name, JSON.parse(data), params)).json();
  },
  async batch({ events }) {
    return (await sdk.triggerBatch(events.map((event) => ({ ...event, data: JSON.parse(event.data) })))).json();
  },
  channels: ({ prefix, info }) => get('/channels', { filter_by_prefix: prefix, info: info.join(',') }),
  channel: ({ channel, info }) => get(`/channels/${channel}`, { info: info.join(',') }),
  users: ({ channel }) => get(`/channels/${channel}/users`, {}),
  terminate: async ({ user }) => (await sdk.terminateUserConnections(user)).json(),
  authorize: ({ channel, socket_id: socketId, member }) => sdk.authorizeChannel(socketId, channel, member),
  authenticate: ({ socket_id: socketId, user }) => sdk.authenticateUser(socketId, user),
};

await obeyCommands(async (command) => {
  if (command.do === 'open') {
    open(command);
    return;
  }
  try {
    tell('answer', { value: await calls[command.do](command) });
  } catch (error) {
    tell('failed', { kind: `${error.name} ${error.status ?? ''}`, text: `${error.message}: ${error.body ?? ''}` });
  }
});
