const { default: Pusher } = await import('pusher-js').catch(() =>
  fail('pusher-js is missing: npm ci --prefix examples'),
);

const pusher = new Pusher('app-key', {
  cluster: 'local', // pusher-js asks for one; the server is found by wsHost and wsPort
  wsHost: '127.0.0.1',
  wsPort: 6001,
  forceTLS: false,
  enabledTransports: ['ws'],
  unavailableTimeout: 3000,
});
const channel = pusher.subscribe('my-channel');
channel.bind('pusher:subscription_succeeded', () => console.log('subscribed to my-channel'));
channel.bind('my-event', (data) => console.log('my-event:', data.message));

// After codes from 4000 to 4099 pusher-js gives up; after all others it connects again by itself.
pusher.connection.bind('error', ({ type, data, error = { type, data } }) => {
  const text = `not connected: ${error.data?.message ?? error.type}`;
  if (error.data?.code >= 4000 && error.data.code < 4100) fail(text);
  console.error(text);
});
pusher.connection.bind('unavailable', () => fail('not connected: no server answers on port 6001; does make run work?'));

function fail(text) {
  console.error(text);
  process.exit(1);
}
