import Pusher from 'pusher';

const pusher = new Pusher({
  appId: '1',
  key: 'app-key',
  secret: 'app-secret',
  host: '127.0.0.1',
  port: '6001',
  useTLS: false,
});

await pusher.trigger('my-channel', 'my-event', { message: 'hello from Node' });
