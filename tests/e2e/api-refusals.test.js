// Every refusal of the HTTP API, one row each: status, headers and exact body, a text that names the limit and its
// value, whether the connection stays, and the reason that the metrics count it under.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { eventually, fetchMetrics } from '../lib/metrics.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { md5, signedPath } from '../lib/sign.js';

const LIMITED = {
  ...APP,
  id: 'limited',
  key: 'limited-key',
  max_event_name_length: 5,
  max_event_channels_at_once: 2,
  max_channel_name_length: 9,
  max_event_payload_in_kb: 1,
  max_event_batch_size: 1,
};
const DISABLED = { ...APP, id: 'disabled', key: 'disabled-key', enabled: false };
const BROKEN = { ...APP, id: 'broken', key: 'broken-key', max_event_batch_size: -2 };
const server = await sharedServer({
  apps: [APP, LIMITED, DISABLED, BROKEN],
  config: { http_api: { request_limit_in_mb: 1 } },
});

const EVENT = { name: 'e', channel: 'c', data: 'x' };
const now = () => Math.floor(Date.now() / 1000);
const WRONG_SIGNATURE =
  "auth_signature is wrong: it is the HMAC-SHA256, by the app's secret, of method, path and sorted query " +
  'without auth_signature, on a line each';
const UNSIGNED =
  'auth_key is missing: requests to /apps are signed, with auth_key, auth_timestamp, auth_version, body_md5 and ' +
  'auth_signature in the query';

const TOO_LARGE = 'The data content of this event exceeds the allowed maximum (1024 bytes)';

// A signed request as [method, target, body]; `path` follows /apps/{id}.
function signed(method, path, body, { app = APP, ...signing } = {}) {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  return [method, signedPath(app, method, `/apps/${app.id}${path}`, { body: text, ...signing }), text];
}
const publishing = (change, options) => signed('POST', '/events', { ...EVENT, ...change }, options);
const batch = (items, options) => signed('POST', '/batch_events', { batch: items }, options);
const limited = (change) => publishing(change, { app: LIMITED });
const unsigned = (auth, options) => signed('POST', '/events', EVENT, { auth, ...options });

const ROWS = {
  404: {
    'a path that is not there': { send: ['GET', '/nowhere'], text: 'there is nothing at this path' },
    'an app that is not there': {
      send: signed('GET', '/channels', undefined, { app: { ...APP, id: 'nobody' } }),
      text: 'there is no app with this id',
    },
  },
  405: {
    'GET of what is posted': {
      send: ['GET', `/apps/${APP.id}/events`],
      headers: { allow: 'POST, OPTIONS' },
      text: 'the path does not take this method; the Allow header says which it takes',
    },
    'POST to what is read': {
      send: ['POST', `/apps/${APP.id}/channels`],
      headers: { allow: 'GET, HEAD, OPTIONS' },
      text: 'the path does not take this method; the Allow header says which it takes',
    },
  },
  500: {
    'an app with a broken record': {
      send: signed('GET', '/channels', undefined, { app: BROKEN }),
      text: 'the app\'s record is broken: app "broken": max_event_batch_size must be a whole number from 0 to 4294967295 (0: no limit)',
    },
  },
  401: {
    'no signature at all': { send: ['GET', `/apps/${APP.id}/channels`], text: UNSIGNED, reason: 'signature' },
    'the key of another app': {
      send: unsigned({ auth_key: LIMITED.key }),
      text: 'auth_key is not the key of this app',
      reason: 'signature',
    },
    'no version': { send: unsigned({ auth_version: undefined }), text: 'auth_version is missing', reason: 'signature' },
    'another version': {
      send: unsigned({ auth_version: '2.0' }),
      text: 'auth_version must be 1.0',
      reason: 'signature',
    },
    'no timestamp': {
      send: unsigned({ auth_timestamp: undefined }),
      text: 'auth_timestamp is missing',
      reason: 'signature',
    },
    'a timestamp that is none': {
      send: unsigned({ auth_timestamp: 'noon' }),
      text: 'auth_timestamp must be the time in whole seconds since 1970',
      reason: 'signature',
    },
    'a timestamp of long ago': {
      send: unsigned({}, { now: now() - 4000 }),
      reason: 'signature',
      text: /^auth_timestamp is 40\d\d s behind the server's clock, which is more than 600 s: set the clocks right$/,
    },
    'a timestamp far ahead': {
      send: unsigned({}, { now: now() + 4000 }),
      reason: 'signature',
      text: /^auth_timestamp is (39|40)\d\d s ahead of the server's clock, which is more than 600 s: set the clocks right$/,
    },
    'no signature': {
      send: unsigned({ auth_signature: undefined }),
      text: 'auth_signature is missing',
      reason: 'signature',
    },
    'a wrong signature': {
      send: unsigned({ auth_signature: '0'.repeat(64) }),
      text: WRONG_SIGNATURE,
      reason: 'signature',
    },
    'no digest': {
      send: unsigned({ body_md5: undefined }),
      text: 'body_md5 is missing: a request with a body carries the MD5 of it',
      reason: 'signature',
    },
    'the digest of another body': {
      send: unsigned({}, { signAs: { query: { body_md5: md5('another') } } }),
      reason: 'signature',
      text: 'body_md5 is not the MD5 of the body in lower-case hexadecimal digits: sign the very bytes that are sent',
    },
  },
  403: {
    'a disabled app': {
      send: publishing({}, { app: DISABLED }),
      app: DISABLED,
      text: 'the app is disabled',
      reason: 'disabled',
    },
  },
  413: {
    'data that is too large': {
      send: limited({ data: 'x'.repeat(1025) }),
      app: LIMITED,
      reason: 'max_event_payload_in_kb',
      text: `${TOO_LARGE}: \`data\` is 1025 bytes, and max_event_payload_in_kb is 1`,
    },
    'data of a batch that is too large': {
      send: batch([{ ...EVENT, data: 'x'.repeat(1025) }], { app: LIMITED }),
      app: LIMITED,
      reason: 'max_event_payload_in_kb',
      text: `batch[0]: ${TOO_LARGE}: \`data\` is 1025 bytes, and max_event_payload_in_kb is 1`,
    },
    'a body that is too large': {
      send: signed('POST', '/events', 'x'.repeat(1024 * 1024 + 1)),
      reason: 'request',
      closes: true,
      text: 'the body is over http_api.request_limit_in_mb, which is 1',
    },
  },
  400: {
    'no body': {
      send: signed('POST', '/events', ''),
      text: 'the body is empty: it must be a JSON object',
      reason: 'request',
    },
    'a body that is no UTF-8': {
      send: ((body) => ['POST', signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body }), body])(
        Buffer.from([0x22, 0xff, 0x22]),
      ),
      text: 'the body is not valid UTF-8',
      reason: 'request',
    },
    'a body that is no JSON': {
      send: signed('POST', '/events', 'name=e'),
      reason: 'request',
      text: "the event must be a JSON object: JSON at byte 0: expected an object, found 'n'",
    },
    'no name': {
      send: publishing({ name: undefined }),
      text: "`name` must be a string: the event's name",
      reason: 'request',
    },
    'an empty name': { send: publishing({ name: '' }), text: '`name` must not be empty', reason: 'request' },
    'a name that is too long': {
      send: limited({ name: 'longer' }),
      app: LIMITED,
      reason: 'max_event_name_length',
      text: '`name` is 6 bytes, which is over max_event_name_length = 5',
    },
    'no data': {
      send: publishing({ data: undefined }),
      text: '`data` must be a string, an object or an array',
      reason: 'request',
    },
    'a number as data': {
      send: publishing({ data: 7 }),
      text: '`data` must be a string, an object or an array',
      reason: 'request',
    },
    'no channel': {
      send: publishing({ channel: undefined }),
      text: '`channel` or `channels` must say where the event goes',
      reason: 'request',
    },
    'channel and channels': {
      send: publishing({ channels: ['d'] }),
      text: '`channel` and `channels` are both there: give one of them',
      reason: 'request',
    },
    'no channel in channels': {
      send: publishing({ channel: undefined, channels: [] }),
      text: '`channels` must name at least one channel',
      reason: 'request',
    },
    'channels that are no array': {
      send: publishing({ channel: undefined, channels: 'c' }),
      reason: 'request',
      text: '`channels` must be an array of strings: names of channels',
    },
    'a channel that is no string': {
      send: publishing({ channel: 7 }),
      text: '`channel`: the name of a channel must be a string',
      reason: 'request',
    },
    'a name that no channel can have': {
      send: publishing({ channel: 'a b' }),
      reason: 'request',
      text:
        "`channel` holds a name that no channel can have: letters, digits and _-=@,.;:# are allowed, or #server-to-user- and a user's " +
        'id of 1 to 255 bytes',
    },
    "a channel's name that is too long": {
      send: limited({ channel: 'c'.repeat(10) }),
      app: LIMITED,
      reason: 'max_channel_name_length',
      text: '`channel` holds a name of 10 bytes, which is over max_channel_name_length = 9',
    },
    'a name of channels that is too long': {
      send: limited({ channel: undefined, channels: ['c', 'c'.repeat(10)] }),
      app: LIMITED,
      reason: 'max_channel_name_length',
      text: '`channels` holds a name of 10 bytes, which is over max_channel_name_length = 9',
    },
    'too many channels': {
      send: limited({ channel: undefined, channels: ['a', 'b', 'c'] }),
      app: LIMITED,
      reason: 'max_event_channels_at_once',
      text: '`channels` names 3 channels, which is over max_event_channels_at_once = 2',
    },
    'a socket_id that is none': {
      send: publishing({ socket_id: '1' }),
      reason: 'request',
      text: '`socket_id` must be a string of two numbers like "123.456", as the client was given it',
    },
    'info that is no string': {
      send: publishing({ info: 7 }),
      text: '`info` must be a string like "user_count,subscription_count"',
      reason: 'request',
    },
    'a batch that is none': {
      send: signed('POST', '/batch_events', EVENT),
      text: '`batch` must be an array of events',
      reason: 'request',
    },
    'a batch that is too large': {
      send: batch([EVENT, EVENT], { app: LIMITED }),
      app: LIMITED,
      reason: 'max_event_batch_size',
      text: 'Batch too large (2 > 1): `batch` holds 2 events, and max_event_batch_size is 1',
    },
    'an event of a batch without channel': {
      send: batch([EVENT, { ...EVENT, channel: undefined }]),
      reason: 'request',
      text: 'batch[1]: `channel` is missing: an event of a batch goes to one channel',
    },
    'an event of a batch with channels': {
      send: batch([EVENT, { ...EVENT, channels: ['d'] }]),
      reason: 'request',
      text: 'batch[1]: `channels` is not taken: an event of a batch goes to one `channel`',
    },
    'user counts of all channels': {
      send: signed('GET', '/channels', undefined, { query: { info: 'user_count' } }),
      reason: 'request',
      text: '`info`: user_count is known of presence channels only: give a `filter_by_prefix` that begins with presence-',
    },
    'the user count of a channel without users': {
      send: signed('GET', '/channels/c', undefined, { query: { info: 'user_count' } }),
      reason: 'request',
      text: '`info`: user_count is known of presence channels only',
    },
    'the users of a channel without users': {
      send: signed('GET', '/channels/private-c/users'),
      reason: 'request',
      text: 'only a presence channel has users: its name begins with presence-',
    },
    'a channel that cannot exist': {
      send: signed('GET', '/channels/a%20b'),
      reason: 'request',
      text: 'the path names a channel that cannot exist: letters, digits and _-=@,.;:# are allowed',
    },
    'a user that cannot exist': {
      send: signed('POST', `/users/${'u'.repeat(256)}/terminate_connections`),
      reason: 'request',
      text: "the user's id in the path is over 255 bytes",
    },
  },
};

for (const [status, rows] of Object.entries(ROWS)) {
  describe(status, () => {
    for (const [
      what,
      {
        send: [method, target, body],
        app = APP,
        text,
        headers = {},
        reason,
        closes = false,
      },
    ] of Object.entries(rows)) {
      test(what, async (t) => {
        const before = await fetchMetrics(server);
        const http = await RawHttp.connect(server);
        t.after(() => http.destroy());
        http.socket.on('error', () => {}); // a body that nobody waits for may meet a closed door
        http.send(method, target, { body });
        const response = await http.next();
        assert.equal(response.status, Number(status), response.text);
        assert.deepEqual(Object.keys(response.json ?? {}), ['error'], response.text);
        if (text instanceof RegExp) assert.match(response.json.error, text);
        else assert.equal(response.json.error, text);
        assert.equal(response.headers['content-type'], 'application/json');
        for (const [name, value] of Object.entries(headers)) assert.equal(response.headers[name], value);
        if (reason !== undefined) {
          await eventually(server, (metrics) => {
            assert.deepEqual(metrics.since(before, 'refusals_total', 'reason', { app_id: app.id }), { [reason]: 1 });
          });
        }
        if (closes) {
          assert.equal(response.headers.connection, 'close');
          await http.closed();
        } else {
          http.send('GET', '/up');
          assert.equal((await http.next()).text, 'OK', 'the connection stays');
        }
      });
    }
  });
}

test('503: a store that cannot be reached', async (t) => {
  // Nobody listens there.
  const lost = await serverFor(t, {
    config: {
      app_manager: { driver: 'mysql', lookup_timeout_ms: 500 },
      database: { mysql: { host: '127.0.0.1', port: 9 } },
    },
  });
  const http = await RawHttp.connect(lost);
  const [method, target] = signed('GET', '/channels');
  http.send(method, target);
  const response = await http.next();
  assert.equal(response.status, 503);
  assert.equal(response.headers['retry-after'], '1');
  assert.deepEqual(response.json, {
    error: 'the app store cannot be reached, and nothing is known about this app: try again',
  });
  http.send('GET', '/up');
  assert.equal((await http.next()).text, 'ERROR');
});
