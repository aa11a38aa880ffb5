// pusher-js and Laravel Echo in a browser, driven by a test: it calls command() with an object, and the page calls
// tell() with events as JSON (tests/lib/client-driver.js). The page's query names the library: ?pusher-js or
// ?laravel-echo.

/* global Pusher, Echo, tell */

const say = (event, members) => tell(JSON.stringify({ event, ...members }));
const text = (data) => (typeof data === 'string' ? data : JSON.stringify(data));
let pusher;
let library;

function optionsOf({ host, port, auth }) {
  return {
    cluster: 'local',
    wsHost: host,
    wsPort: port,
    forceTLS: false,
    enabledTransports: ['ws'],
    enableStats: false,
    channelAuthorization: { transport: 'ajax', endpoint: `${auth}/channel` },
    userAuthentication: { transport: 'ajax', endpoint: `${auth}/user` },
  };
}

const ids = (members) => {
  const list = [];
  members.each((member) => list.push(member.id));
  return list.sort();
};

function bindChannel(name, channel) {
  channel.bind('pusher:subscription_succeeded', (data) => {
    say('subscribed', { channel: name, ...(name.startsWith('presence-') ? { members: ids(data) } : {}) });
  });
  channel.bind('pusher:subscription_error', ({ error }) => say('refused', { channel: name, text: String(error) }));
  channel.bind('pusher:member_added', ({ id }) => say('added', { channel: name, id }));
  channel.bind('pusher:member_removed', ({ id }) => say('removed', { channel: name, id }));
  channel.bind('pusher:cache_miss', () => say('cache_miss', { channel: name }));
  for (const event of ['my-event', 'client-event']) {
    channel.bind(event, (data, metadata) => {
      say('message', { channel: name, name: event, data: text(data), user: metadata?.user_id ?? '' });
    });
  }
}

const pusherLibrary = {
  connect: (command) => new Pusher(command.key, optionsOf(command)),
  subscribe: (name) => bindChannel(name, pusher.subscribe(name)),
  unsubscribe: (name) => pusher.unsubscribe(name),
  trigger: ({ channel, name, data }) => pusher.channel(channel).trigger(name, JSON.parse(data)),
};

let echo;
const echoKinds = [
  ['private-encrypted-', (name) => echo.encryptedPrivate(name)],
  ['private-', (name) => echo.private(name)],
  ['presence-', (name) => echo.join(name)],
  ['', (name) => echo.channel(name)],
];

function echoChannel(name) {
  const [prefix, open] = echoKinds.find(([start]) => name.startsWith(start));
  return open(name.slice(prefix.length));
}

function listen(name) {
  const channel = echoChannel(name);
  // Echo hands here() the members' user_info.
  if (name.startsWith('presence-')) {
    channel.here((members) => say('subscribed', { channel: name, members: members.map(({ id }) => id).sort() }));
    channel.joining(({ id }) => say('added', { channel: name, id }));
    channel.leaving(({ id }) => say('removed', { channel: name, id }));
  } else {
    channel.subscribed(() => say('subscribed', { channel: name }));
  }
  channel.error(({ error }) => say('refused', { channel: name, text: String(error) }));
  channel.listen('.my-event', (data) => say('message', { channel: name, name: 'my-event', data: text(data) }));
  channel.listenForWhisper?.('event', (data) => {
    say('message', { channel: name, name: 'client-event', data: text(data) });
  });
}

const echoLibrary = {
  connect: (command) => {
    const { default: Client } = Echo;
    echo = new Client({ broadcaster: 'reverb', key: command.key, Pusher, ...optionsOf(command) });
    return echo.connector.pusher;
  },
  subscribe: listen,
  unsubscribe: (name) => echo.leaveChannel(name),
  trigger: ({ channel, name, data }) => echoChannel(channel).whisper(name.replace('client-', ''), JSON.parse(data)),
};

function connect(command) {
  library = location.search === '?laravel-echo' ? echoLibrary : pusherLibrary;
  pusher = library.connect(command);
  pusher.connection.bind('connected', () => say('connected', { socket_id: pusher.connection.socket_id }));
  pusher.connection.bind('disconnected', () => say('disconnected'));
  pusher.connection.bind('error', ({ error }) => {
    if (error?.data?.code) say('error', { code: String(error.data.code), text: error.data.message });
  });
  pusher.user.bind('my-event', (data) => say('user_message', { name: 'my-event', data: text(data) }));
  pusher.bind('pusher:signin_success', () => say('signed_in'));
  for (const event of ['online', 'offline']) {
    pusher.user.watchlist.bind(event, ({ user_ids: users }) => say(event, { users }));
  }
}

// Called by the test.
// eslint-disable-next-line no-unused-vars
function command(order) {
  const { do: what, channel } = order;
  if (what === 'connect') connect(order);
  else if (what === 'signin') pusher.signin();
  else if (what === 'disconnect') pusher.disconnect();
  else if (what === 'trigger') library.trigger(order);
  else library[what](channel);
}
