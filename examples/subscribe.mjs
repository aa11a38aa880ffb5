import Pusher from 'pusher-js';

const pusher = new Pusher('app-key', {
  cluster: 'local', // pusher-js asks for one; the server is found by wsHost and wsPort
  wsHost: '127.0.0.1',
  wsPort: 6001,
  forceTLS: false,
  enabledTransports: ['ws'],
});
const channel = pusher.subscribe('my-channel');
channel.bind('pusher:subscription_succeeded', () => console.log('subscribed to my-channel'));
channel.bind('my-event', (data) => console.log('my-event:', data.message));
