// A pusher-js client that subscribes with a filter: it gets the trades of one symbol only. See docs/tags.md.
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

// pusher-js knows no filters: they are added to what it sends when it subscribes, also after it has connected again.
const filters = { trades: { key: 'symbol', cmp: 'eq', val: 'BTC' } };
const send = pusher.send_event.bind(pusher);
pusher.send_event = (event, data, channel) => {
  const filter = event === 'pusher:subscribe' ? filters[data.channel] : undefined;
  return send(event, filter === undefined ? data : { ...data, filter }, channel);
};

const channel = pusher.subscribe('trades');
channel.bind('pusher:subscription_succeeded', () => console.log('subscribed to trades'));
channel.bind('trade', (data) => console.log('trade:', data.price));

pusher.connection.bind('error', ({ type, data, error = { type, data } }) =>
  fail(`not connected: ${error.data?.message ?? error.type}`),
);
pusher.connection.bind('unavailable', () => fail('not connected: no server answers on port 6001; does make run work?'));

function fail(text) {
  console.error(text);
  process.exit(1);
}
