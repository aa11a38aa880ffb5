// Subscribes with pusher-js, prints what it hears as lines of JSON, and ends with the event `goodbye`.

import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const Pusher = require('pusher-js');
const PusherServer = require('pusher');

const { id, key, secret } = JSON.parse(process.env.CURLEW_APP);
const host = process.env.CURLEW_HOST;
const port = Number(process.env.CURLEW_PORT);

// In an application this is the endpoint that decides who may enter; here it is in the same process.
const authorizer = new PusherServer({ appId: id, key, secret, host, port });

const client = new Pusher(key, {
  cluster: '',
  wsHost: host,
  wsPort: port,
  forceTLS: false,
  enabledTransports: ['ws'],
  channelAuthorization: {
    customHandler: ({ socketId, channelName }, callback) =>
      callback(null, authorizer.authorizeChannel(socketId, channelName, { user_id: 'listener' })),
  },
});

const say = (...words) => console.log(JSON.stringify(words));

function listen(name) {
  const channel = client.subscribe(name);
  channel.bind('my-event', (data) => say(name, 'my-event', data));
  return new Promise((resolve) => {
    channel.bind('pusher:subscription_succeeded', () => {
      say('subscribed', name);
      resolve(channel);
    });
  });
}

const channel = await listen('my-channel');
await listen('presence-room');
channel.bind('goodbye', (data) => {
  say('my-channel', 'goodbye', data);
  client.disconnect();
});
