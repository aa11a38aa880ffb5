// Every refusal that a WebSocket client may hear, one row each: the exact message with its code and a text that names
// the limit and its value, whether the connection stays, and the reason that the metrics count it under.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import {
  connect,
  cutToBytes,
  join,
  sendSignin,
  sendSubscribe,
  signin,
  stillOpen,
  subscribe,
  trigger,
} from '../lib/client.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { channelAuth, signinAuth } from '../lib/sign.js';

const app = (id, limits) => ({ id, key: `${id}-key`, secret: `${id}-secret`, enable_client_messages: true, ...limits });
const LIMITED = app('limited', {
  max_event_name_length: 10,
  max_event_payload_in_kb: 1,
  max_channel_name_length: 12,
  max_presence_members_per_channel: 1,
  max_presence_member_size_in_kb: 2,
});
const MUTE = app('mute', { enable_client_messages: false });
const WATCHING = app('watching', { enable_watchlist_events: true });
const SMALL = app('small', { max_connections: 1 });
const DISABLED = app('disabled', { enabled: false });
const BROKEN = app('broken', { max_connections: 1.5 });
const server = await sharedServer({ apps: [APP, LIMITED, MUTE, WATCHING, SMALL, DISABLED, BROKEN] });

const error = (code, message) => JSON.stringify({ event: 'pusher:error', data: { code, message } });
const refusal = (channel, type, status, text) =>
  JSON.stringify({ event: 'pusher:subscription_error', channel, data: { type, error: text, status } });

// One app's refusals and errors since `before`, by reason and type.
function counted(on, before, id, refusals, errors) {
  return eventually(on, (metrics) => {
    assert.deepEqual(metrics.since(before, 'refusals_total', 'reason', { app_id: id }), refusals);
    assert.deepEqual(metrics.since(before, 'connection_errors_total', 'error_type', { app_id: id }), errors);
  });
}

async function assertCloses(ws, code, text) {
  const { code: closeCode, reason } = await ws.closing();
  assert.equal(closeCode, code);
  assert.equal(reason, cutToBytes(text, 123));
  await ws.closed();
}

describe('a connect that is refused is told why and closed', () => {
  const rows = {
    'an unknown key': {
      key: 'nobody',
      code: 4001,
      text: 'there is no app with this key',
      error: 'app_not_found',
      counted: '',
    },
    'a disabled app': {
      key: DISABLED.key,
      code: 4003,
      text: 'the app is disabled',
      reason: 'disabled',
      error: 'app_disabled',
      counted: DISABLED.id,
    },
    'an app with a broken record': { key: BROKEN.key, code: 4100, text: "the app's record is broken; try again later" },
    'a path that is not there': {
      path: '/ap/app-key',
      code: 4005,
      text: 'there is no such path: connect to /app/{key}',
    },
    'a protocol that is no number': {
      path: '/app/app-key?protocol=seven',
      code: 4006,
      text: '`protocol` must be a number',
    },
    'a protocol that is not supported': {
      path: '/app/app-key?protocol=4',
      code: 4007,
      text: 'this protocol version is not supported, 5 to 7 are',
    },
  };
  for (const [what, row] of Object.entries(rows)) {
    test(what, async (t) => {
      const before = await fetchMetrics(server);
      const ws = await RawWebSocket.connect(server, row.path ? { path: row.path } : { key: row.key });
      t.after(() => ws.destroy());
      assert.equal((await ws.inbox.next()).text, error(row.code, row.text));
      await assertCloses(ws, row.code, row.text);
      if ('counted' in row)
        await counted(server, before, row.counted, row.reason ? { [row.reason]: 1 } : {}, { [row.error]: 1 });
    });
  }

  test('an app over its connection quota', async (t) => {
    const text = 'the app is over its connection quota: `max_connections` is 1';
    const holder = await connect(server, { t, app: SMALL });
    const before = await fetchMetrics(server);
    const ws = await RawWebSocket.connect(server, { key: SMALL.key });
    t.after(() => ws.destroy());
    assert.equal((await ws.inbox.next()).text, error(4004, text));
    await assertCloses(ws, 4004, text);
    await counted(server, before, SMALL.id, { max_connections: 1 }, { over_quota: 1 });
    assert.deepEqual(await stillOpen(holder), []);
  });

  test('a store that cannot be reached', async (t) => {
    // Nobody listens there.
    const lost = await serverFor(t, {
      config: {
        app_manager: { driver: 'mysql', lookup_timeout_ms: 500 },
        database: { mysql: { host: '127.0.0.1', port: 9 } },
      },
    });
    const ws = await RawWebSocket.connect(lost);
    assert.equal((await ws.inbox.next()).text, error(4100, 'the app store cannot be reached; try again later'));
    await assertCloses(ws, 4100, 'the app store cannot be reached; try again later');
  });

  test('a server over its memory threshold', async (t) => {
    const text = 'the server is over capacity: `http_api.accept_traffic.memory_threshold` is 0.00';
    const full = await serverFor(t, {
      apps: [APP, DISABLED],
      config: { http_api: { accept_traffic: { memory_threshold: 0.001 } } },
    });
    const before = await fetchMetrics(full);
    const ws = await RawWebSocket.connect(full);
    assert.equal((await ws.inbox.next()).text, error(4100, text));
    await assertCloses(ws, 4100, text);
    await counted(full, before, APP.id, { memory_threshold: 1 }, {});
    // What a client must not try again comes first.
    const other = await RawWebSocket.connect(full, { key: DISABLED.key });
    assert.equal((await other.inbox.next()).data.code, 4003);
  });
});

describe('what closes a connection is said before the close frame', () => {
  const signedIn = (data, auth) => (ws) =>
    sendSignin(ws, undefined, { userData: data, ...(auth ? { auth: auth(ws, data) } : {}) });
  const user = '{"id":"u"}';
  const rows = {
    'a sign-in with a wrong signature': {
      act: signedIn(user, (ws) => signinAuth({ ...APP, secret: 'wrong' }, ws.socketId, user)),
      reason: 'signature',
      text: "sign-in refused: the signature in `auth` does not match: is it made with this app's secret, for this socket id?",
    },
    'a sign-in with another key': {
      act: signedIn(user, (ws) => signinAuth({ ...APP, key: 'other' }, ws.socketId, user)),
      reason: 'signature',
      text: 'sign-in refused: the key in `auth` is not the key of this app',
    },
    'a sign-in with an auth that is none': {
      act: signedIn(user, () => 'x'),
      reason: 'signature',
      text: "sign-in refused: `auth` must be the app's key, a colon and 64 hexadecimal digits",
    },
    'a sign-in without data': {
      act: (ws) => ws.send({ event: 'pusher:signin' }),
      reason: 'signature',
      text: 'sign-in refused: pusher:signin needs `data`, an object',
    },
    'a sign-in without auth': {
      act: (ws) => ws.send({ event: 'pusher:signin', data: { user_data: user } }),
      reason: 'signature',
      text: 'sign-in refused: pusher:signin needs `auth` and `user_data`, both strings',
    },
    'user data that is no object': {
      act: signedIn('[]'),
      reason: 'signature',
      text: 'sign-in refused: `user_data` must be a JSON object in a string',
    },
    'a user without an id': {
      act: signedIn('{"id":7.5}'),
      reason: 'signature',
      text: 'sign-in refused: `id` in `user_data` must be a string of 1 to 255 bytes or an integer',
    },
    'signing in as somebody else': {
      act: async (ws) => {
        await signin(ws, { id: 'first' });
        sendSignin(ws, { id: 'second' });
      },
      reason: 'signature',
      text: 'sign-in refused: this connection is signed in as another user',
    },
    'the order of the API': {
      act: async (ws) => {
        await signin(ws, { id: 'ended' });
        await api(server, 'POST', '/users/ended/terminate_connections');
      },
      text: 'the connection was terminated by the API',
    },
  };
  for (const [what, { act, text, reason }] of Object.entries(rows)) {
    test(`${what}: 4009`, async (t) => {
      const ws = await connect(server, { t });
      const before = await fetchMetrics(server);
      await act(ws);
      assert.equal((await ws.inbox.next()).text, error(4009, text));
      await assertCloses(ws, 4009, text);
      await counted(server, before, APP.id, reason ? { [reason]: 1 } : {}, reason ? { authentication_failed: 1 } : {});
    });
  }

  test('the shutdown: 4100', async (t) => {
    const ending = await serverFor(t);
    const ws = await connect(ending);
    ending.terminate();
    assert.equal((await ws.inbox.next()).text, error(4100, 'the server is restarting, try again'));
    await assertCloses(ws, 4100, 'the server is restarting, try again');
    assert.equal((await ending.exited()).code, 0);
  });
});

describe('what is refused while the connection stays', () => {
  const send = (message) => (ws) => ws.sendText(message);
  const client = (channel, event, data) => (ws) => trigger(ws, channel, event, data);
  const subscribing = (channel, options) => (ws) => sendSubscribe(ws, channel, options);
  const long = 'x'.repeat(1025);
  const info = (bytes) => ({ user: { user_id: 'u', user_info: 'x'.repeat(bytes - 2) } });
  const rows = {
    'a message that is no JSON': {
      act: send('{'),
      answer: error(4300, 'the message is not a JSON object: JSON at byte 1: expected a member name, found the end'),
      reason: 'message',
      error: 'message_parse_error',
    },
    'a message without event': {
      act: send('{"channel":"c"}'),
      answer: error(4300, 'the message has no `event`'),
      reason: 'message',
      error: 'missing_event_name',
    },
    'an event that is no string': {
      act: send('{"event":1}'),
      answer: error(4300, '`event` must be a string'),
      reason: 'message',
      error: 'invalid_message_format',
    },
    'a subscribe without channel': {
      act: send('{"event":"pusher:subscribe","data":{}}'),
      reason: 'message',
      error: 'invalid_message_format',
      answer: error(4300, 'pusher:subscribe needs `data` with `channel`, a string'),
    },
    'an unsubscribe without channel': {
      act: send('{"event":"pusher:unsubscribe","data":{"channel":1}}'),
      reason: 'message',
      error: 'invalid_message_format',
      answer: error(4300, 'pusher:unsubscribe needs `data` with `channel`, a string'),
    },
    'a client event without channel': {
      act: send('{"event":"client-x"}'),
      reason: 'message',
      error: 'invalid_message_format',
      answer: error(4300, 'a client event needs `channel`, a string'),
    },
    'an event that clients may not send': {
      act: send('{"event":"hello","channel":"private-c"}'),
      reason: 'message',
      answer: error(4301, "a client's event must have a name that begins with `client-`"),
    },
    'a client event of an app that allows none': {
      app: MUTE,
      act: client('private-c', 'client-x', {}),
      reason: 'enable_client_messages',
      answer: error(4301, 'client event refused: `enable_client_messages` of this app is false'),
    },
    'a client event on a public channel': {
      act: client('c', 'client-x', {}),
      reason: 'client_event_channel',
      answer: error(4301, 'client event refused: only private and presence channels take client events'),
    },
    'a client event on an encrypted channel': {
      act: client('private-encrypted-c', 'client-x', {}),
      reason: 'client_event_channel',
      answer: error(4301, 'client event refused: only private and presence channels take client events'),
    },
    'a client event to a user': {
      act: client('#server-to-user-u', 'client-x', {}),
      reason: 'client_event_channel',
      answer: error(4301, 'client event refused: only private and presence channels take client events'),
    },
    'a client event of one that is not subscribed': {
      act: client('private-other', 'client-x', {}),
      reason: 'client_event_channel',
      answer: error(4301, 'client event refused: this connection is not subscribed to the channel'),
    },
    'a client event with a name too long': {
      app: LIMITED,
      act: client('private-c', 'client-long', {}),
      reason: 'max_event_name_length',
      answer: error(4301, 'client event refused: the name has 11 bytes, `max_event_name_length` of this app is 10'),
    },
    'a client event with too much data': {
      app: LIMITED,
      act: client('private-c', 'client-x', long),
      reason: 'max_event_payload_in_kb',
      answer: error(4301, 'client event refused: `data` has 1025 bytes, `max_event_payload_in_kb` of this app is 1 KB'),
    },
    'a watchlist of 101': {
      app: WATCHING,
      act: (ws) => sendSignin(ws, { id: 'w', watchlist: Array(101).fill('w') }),
      reason: 'watchlist',
      answer: error(4302, 'the watchlist has 101 users; only the first 100 are watched'),
      before: 'pusher:signin_success',
      after: 'pusher_internal:watchlist_events',
    },
    'a watchlist that is no array': {
      app: WATCHING,
      act: (ws) => sendSignin(ws, { id: 'w', watchlist: { 1: '2' } }),
      reason: 'watchlist',
      answer: error(
        4302,
        '`watchlist` must be an array of user ids, strings of 1 to 255 bytes or integers; it is ignored',
      ),
      before: 'pusher:signin_success',
    },
    'a channel without a name': {
      act: subscribing(''),
      reason: 'message',
      answer: refusal('', 'InvalidChannel', 400, "the channel's name is empty"),
    },
    'a channel with a bad name': {
      act: subscribing('a b'),
      reason: 'message',
      answer: refusal(
        'a b',
        'InvalidChannel',
        400,
        "a channel's name consists of letters, digits and _ - = @ , . ; : #",
      ),
    },
    "a user's channel without a user": {
      act: subscribing('#server-to-user-', { auth: '' }),
      reason: 'message',
      answer: refusal(
        '#server-to-user-',
        'InvalidChannel',
        400,
        "the user's id in #server-to-user-{id} has 1 to 255 bytes",
      ),
    },
    'a channel with a name too long': {
      app: LIMITED,
      act: subscribing('c'.repeat(13)),
      reason: 'max_channel_name_length',
      answer: refusal(
        'c'.repeat(13),
        'LimitReached',
        4009,
        "the channel's name has 13 bytes, `max_channel_name_length` of this app is 12",
      ),
    },
    'a private channel without auth': {
      act: subscribing('private-x', { auth: undefined }),
      reason: 'signature',
      error: 'authentication_failed',
      answer: refusal('private-x', 'AuthError', 401, 'a private or presence channel needs `auth`, a string'),
    },
    'a private channel with a wrong signature': {
      act: subscribing('private-x', { auth: `${APP.key}:${'0'.repeat(64)}` }),
      reason: 'signature',
      error: 'authentication_failed',
      answer: refusal(
        'private-x',
        'AuthError',
        401,
        "the signature in `auth` does not match: is it made with this app's secret, for this socket id?",
      ),
    },
    'a presence channel without channel_data': {
      act: subscribing('presence-x'),
      reason: 'signature',
      error: 'authentication_failed',
      answer: refusal(
        'presence-x',
        'AuthError',
        401,
        'a presence channel needs `channel_data`, a string, or a connection that is signed in',
      ),
    },
    'channel_data that is no object': {
      act: subscribing('presence-x', { channelData: '7' }),
      reason: 'signature',
      error: 'authentication_failed',
      answer: refusal('presence-x', 'AuthError', 401, '`channel_data` must be a JSON object in a string'),
    },
    'channel_data without a user': {
      act: subscribing('presence-x', { channelData: '{"user_id":1.5}' }),
      reason: 'signature',
      error: 'authentication_failed',
      answer: refusal(
        'presence-x',
        'AuthError',
        401,
        '`user_id` in `channel_data` must be a string of 1 to 255 bytes or an integer',
      ),
    },
    "another user's channel": {
      act: subscribing('#server-to-user-u', { auth: '' }),
      reason: 'signature',
      error: 'authentication_failed',
      answer: refusal(
        '#server-to-user-u',
        'AuthError',
        401,
        'this connection is not signed in as the user of the channel',
      ),
    },
    'a presence channel that is full': {
      app: LIMITED,
      act: subscribing('presence-c', { user: { user_id: 'second' } }),
      reason: 'max_presence_members_per_channel',
      answer: refusal(
        'presence-c',
        'LimitReached',
        4004,
        'the channel is full: `max_presence_members_per_channel` of this app is 1',
      ),
    },
    'a member that is too large': {
      app: LIMITED,
      act: subscribing('presence-d', info(2049)),
      reason: 'max_presence_member_size_in_kb',
      answer: refusal(
        'presence-d',
        'LimitReached',
        4301,
        '`user_info` has 2049 bytes, `max_presence_member_size_in_kb` of this app is 2 KB',
      ),
    },
  };
  for (const [what, row] of Object.entries(rows)) {
    test(what, async (t) => {
      const own = row.app ?? APP;
      const ws = await connect(server, { t, app: own });
      await subscribe(ws, 'private-c');
      const member = await connect(server, { t, app: own });
      await join(member, 'presence-c', { user_id: 'first' });
      const before = await fetchMetrics(server);
      row.act(ws);
      if (row.before) await ws.expect(row.before);
      assert.equal((await ws.inbox.next()).text, row.answer);
      if (row.after) await ws.expect(row.after);
      assert.deepEqual(await stillOpen(ws), []);
      await counted(server, before, own.id, { [row.reason]: 1 }, row.error ? { [row.error]: 1 } : {});
      await subscribe(ws, 'after');
    });
  }

  test('the 10,001st subscription', async (t) => {
    const ws = await connect(server, { t });
    for (let from = 0; from < 10_000; from += 500) {
      for (let i = from; i < from + 500; i++) sendSubscribe(ws, `c${i}`);
      await ws.inbox.take(500);
    }
    const before = await fetchMetrics(server);
    ws.send({
      event: 'pusher:subscribe',
      data: { channel: 'private-more', auth: channelAuth(APP, ws.socketId, 'private-more') },
    });
    assert.equal(
      (await ws.inbox.next()).text,
      refusal(
        'private-more',
        'LimitReached',
        4004,
        'a connection holds at most 10000 subscriptions: see `websocket.max_subscriptions_per_connection`',
      ),
    );
    assert.deepEqual(await stillOpen(ws), []);
    await counted(server, before, APP.id, { subscriptions_per_connection: 1 }, {});
  });

  test('a subscription over `websocket.max_subscriptions_per_connection`, until another one ends', async (t) => {
    const own = await serverFor(t, { config: { websocket: { max_subscriptions_per_connection: 2 } } });
    const ws = await connect(own, { t });
    await subscribe(ws, 'a');
    await subscribe(ws, 'b');
    sendSubscribe(ws, 'c');
    assert.equal(
      (await ws.inbox.next()).text,
      refusal(
        'c',
        'LimitReached',
        4004,
        'a connection holds at most 2 subscriptions: see `websocket.max_subscriptions_per_connection`',
      ),
    );
    await subscribe(ws, 'b');
    ws.send({ event: 'pusher:unsubscribe', data: { channel: 'a' } });
    await subscribe(ws, 'c');
  });
});
