// Publishes with the server SDK and prints what the server tells about its channels.

import { createRequire } from 'node:module';

const Pusher = createRequire(import.meta.url)('pusher');

const { id, key, secret } = JSON.parse(process.env.CURLEW_APP);
const pusher = new Pusher({
  appId: id,
  key,
  secret,
  host: process.env.CURLEW_HOST,
  port: process.env.CURLEW_PORT,
  useTLS: false,
});

const ask = async (path) => (await pusher.get({ path })).json();
const say = (...words) => console.log(JSON.stringify(words));

say('occupied', (await ask('/channels')).channels);
say('users', (await ask('/channels/presence-room/users')).users);
await pusher.trigger('my-channel', 'my-event', { message: 'hello world' });
await pusher.trigger('presence-room', 'my-event', { message: 'hello room' });
await pusher.triggerBatch([{ channel: 'my-channel', name: 'goodbye', data: { n: 1 } }]);
