// The limits of an app on what is published: at the limit an event goes out, one over it is refused with a text that
// names the limit and its value.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { assertRefusal, nextOn, subscriber, untilFence } from '../lib/events.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const LIMITED = {
  ...APP,
  id: 'limited',
  key: 'limited-key',
  max_event_name_length: 12,
  max_event_channels_at_once: 3,
  max_channel_name_length: 14,
  max_event_payload_in_kb: 2,
  max_event_batch_size: 4,
};
const UNLIMITED = {
  ...APP,
  id: 'unlimited',
  key: 'unlimited-key',
  max_event_name_length: 0,
  max_event_channels_at_once: 0,
  max_channel_name_length: 0,
  max_event_payload_in_kb: 0,
  max_event_batch_size: 0,
};
const server = await sharedServer({ apps: [LIMITED, UNLIMITED, APP] });

const post = (body, app = LIMITED) => api(server, 'POST', '/events', { app, body });
const batch = (items, app = LIMITED) => api(server, 'POST', '/batch_events', { app, body: { batch: items } });
const event = (change) => ({ name: 'e', channel: 'limits', data: 'x', ...change });
const names = (count, length = 4) => Array.from({ length: count }, (_, i) => `c${i}`.padEnd(length, '-'));

function assertLimit(response, status, limit, value) {
  assertRefusal(response, status, new RegExp(limit), new RegExp(`\\b${value}\\b`));
}

async function assertAccepted(response) {
  const { status, body } = await response;
  assert.equal(status, 200, body);
}

// What was refused reaches nobody.
async function subscriberThatHearsNothing(t, send) {
  const ws = await subscriber(server, t, 'limits', { app: LIMITED });
  await send();
  assert.deepEqual(await untilFence(server, ws, 'limits', { app: LIMITED }), []);
}

describe('POST events', () => {
  test('the name of an event', async (t) => {
    await assertAccepted(post(event({ name: 'n'.repeat(12) })));
    await subscriberThatHearsNothing(t, async () => {
      assertLimit(await post(event({ name: 'n'.repeat(13) })), 400, 'max_event_name_length', 12);
    });
  });

  test('the length of a name counts without its escapes', async () => {
    const escaped = String.raw`{"name":"${'\\u006e'.repeat(12)}","channel":"limits","data":"x"}`;
    await assertAccepted(post(escaped));
    assertLimit(
      await post(escaped.replace('"channel"', '"x":0,"channel"').replace('"name":"', '"name":"n')),
      400,
      'max_event_name_length',
      12,
    );
  });

  test('the number of channels', async (t) => {
    await assertAccepted(post(event({ channel: undefined, channels: names(3) })));
    await subscriberThatHearsNothing(t, async () => {
      const channels = ['limits', ...names(3)];
      assertLimit(await post(event({ channel: undefined, channels })), 400, 'max_event_channels_at_once', 3);
    });
  });

  test('the name of a channel, alone and among others', async (t) => {
    const tooLong = 'c'.repeat(15);
    await assertAccepted(post(event({ channel: 'c'.repeat(14) })));
    assertLimit(await post(event({ channel: tooLong })), 400, 'max_channel_name_length', 14);
    await subscriberThatHearsNothing(t, async () => {
      assertLimit(
        await post(event({ channel: undefined, channels: ['limits', tooLong] })),
        400,
        'max_channel_name_length',
        14,
      );
    });
  });

  test('#server-to-user- is outside the limit on names, and takes ids of up to 255 bytes', async () => {
    await assertAccepted(post(event({ channel: `#server-to-user-${'u'.repeat(255)}` })));
    assertRefusal(await post(event({ channel: `#server-to-user-${'u'.repeat(256)}` })), 400, /channel/);
    assertRefusal(await post(event({ channel: '#server-to-user-' })), 400, /channel/);
  });
});

describe('the payload, in KB of 1024 bytes', () => {
  test('exactly at the limit it goes out, one byte over it is refused with 413', async (t) => {
    const ws = await subscriber(server, t, 'limits', { app: LIMITED });
    await assertAccepted(post(event({ data: 'x'.repeat(2048) })));
    assert.equal((await nextOn(ws, 'limits')).data.length, 2048);
    assertLimit(await post(event({ data: 'x'.repeat(2049) })), 413, 'max_event_payload_in_kb', 2);
    assert.deepEqual(await untilFence(server, ws, 'limits', { app: LIMITED }), []);
  });

  test('of a string the decoded size counts', async () => {
    const body = (token) => `{"name":"e","channel":"limits","data":"${token}"}`;
    await assertAccepted(post(body('\\u0041'.repeat(2048))));
    await assertAccepted(post(body('\\n'.repeat(2048))));
    assertLimit(await post(body('\\u0041'.repeat(2049))), 413, 'max_event_payload_in_kb', 2);
    // Two bytes each, escaped or not; a pair of surrogates is one character of four bytes.
    for (const token of ['é', '\\u00e9']) {
      await assertAccepted(post(body(token.repeat(1024))));
      assertLimit(await post(body(`${token.repeat(1024)}x`)), 413, 'max_event_payload_in_kb', 2);
    }
    await assertAccepted(post(body('\\ud83d\\ude00'.repeat(512))));
    assertLimit(await post(body(`${'\\ud83d\\ude00'.repeat(512)}x`)), 413, 'max_event_payload_in_kb', 2);
  });

  test('of an object or array the source text counts', async () => {
    const body = (length) => `{"name":"e","channel":"limits","data":["${'x'.repeat(length - 4)}"]}`;
    await assertAccepted(post(body(2048)));
    assertLimit(await post(body(2049)), 413, 'max_event_payload_in_kb', 2);
    const blanks = `{"name":"e","channel":"limits","data":{${' '.repeat(2047)}}}`;
    assertLimit(await post(blanks), 413, 'max_event_payload_in_kb', 2);
  });
});

describe('POST batch_events', () => {
  test('the size of a batch', async (t) => {
    await assertAccepted(batch(names(4).map((channel) => event({ channel }))));
    await subscriberThatHearsNothing(t, async () => {
      assertLimit(await batch(Array(5).fill(event())), 400, 'max_event_batch_size', 4);
    });
  });

  test('each item is held to the limits of an event', async (t) => {
    await subscriberThatHearsNothing(t, async () => {
      assertLimit(await batch([event(), event({ name: 'n'.repeat(13) })]), 400, 'max_event_name_length', 12);
      assertLimit(await batch([event(), event({ channel: 'c'.repeat(15) })]), 400, 'max_channel_name_length', 14);
      assertLimit(await batch([event(), event({ data: 'x'.repeat(2049) })]), 413, 'max_event_payload_in_kb', 2);
    });
  });
});

test('0 means no limit', async () => {
  await assertAccepted(post(event({ name: 'n'.repeat(5000) }), UNLIMITED));
  await assertAccepted(post(event({ channel: 'c'.repeat(5000) }), UNLIMITED));
  await assertAccepted(post(event({ channel: undefined, channels: names(300) }), UNLIMITED));
  await assertAccepted(post(event({ data: 'x'.repeat(1_000_000) }), UNLIMITED));
  await assertAccepted(batch(Array(300).fill(event()), UNLIMITED));
});

test('an app without limits of its own has the documented defaults', async () => {
  await assertAccepted(post(event({ name: 'n'.repeat(100) }), APP));
  assertLimit(await post(event({ name: 'n'.repeat(101) }), APP), 400, 'max_event_name_length', 100);
  await assertAccepted(post(event({ channel: 'c'.repeat(100) }), APP));
  assertLimit(await post(event({ channel: 'c'.repeat(101) }), APP), 400, 'max_channel_name_length', 100);
  await assertAccepted(post(event({ channel: undefined, channels: names(100) }), APP));
  assertLimit(
    await post(event({ channel: undefined, channels: names(101) }), APP),
    400,
    'max_event_channels_at_once',
    100,
  );
  await assertAccepted(post(event({ data: 'x'.repeat(102_400) }), APP));
  assertLimit(await post(event({ data: 'x'.repeat(102_401) }), APP), 413, 'max_event_payload_in_kb', 100);
  await assertAccepted(batch(Array(100).fill(event()), APP));
  assertLimit(await batch(Array(101).fill(event()), APP), 400, 'max_event_batch_size', 100);
});

test('the configuration changes the defaults, and an app its own', async (t) => {
  const own = { ...APP, id: 'own', key: 'own-key', max_event_name_length: 8, max_channel_name_length: 8 };
  const configured = await serverFor(t, {
    apps: [APP, own],
    config: {
      event_limits: { max_channels_at_once: 2, max_name_length: 5, max_payload_in_kb: 1, max_batch_size: 2 },
      channel_limits: { max_name_length: 6 },
    },
  });
  const send = (body, app = APP) => api(configured, 'POST', '/events', { app, body });
  assertLimit(await send(event({ name: 'n'.repeat(6) })), 400, 'max_event_name_length', 5);
  assertLimit(await send(event({ channel: 'c'.repeat(7) })), 400, 'max_channel_name_length', 6);
  assertLimit(await send(event({ channel: undefined, channels: names(3) })), 400, 'max_event_channels_at_once', 2);
  assertLimit(await send(event({ data: 'x'.repeat(1025) })), 413, 'max_event_payload_in_kb', 1);
  const three = { batch: Array(3).fill(event()) };
  assertLimit(await api(configured, 'POST', '/batch_events', { body: three }), 400, 'max_event_batch_size', 2);
  await assertAccepted(send(event({ name: 'n'.repeat(8), channel: 'c'.repeat(8) }), own));
  assertLimit(await send(event({ name: 'n'.repeat(9) }), own), 400, 'max_event_name_length', 8);
});

test('while memory is short no large body is read, whoever sends it', async (t) => {
  const full = await serverFor(t, { config: { http_api: { accept_traffic: { memory_threshold: 0.001 } } } });
  const padded = (bytes) => {
    const body = { name: 'e', channel: 'c', data: '' };
    return { ...body, data: 'x'.repeat(bytes - JSON.stringify(body).length) };
  };
  assert.equal((await api(full, 'POST', '/events', { body: padded(16 * 1024) })).status, 200);
  const refused = await api(full, 'POST', '/events', { body: padded(16 * 1024 + 1) });
  assert.equal(refused.status, 503);
  assert.deepEqual(refused.json, { error: 'there is no memory for a request of this size now: try again' });
  const half = await RawHttp.connect(full); // it is refused when it passes the size, before all of it is there
  t.after(() => half.destroy());
  const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body: 'x'.repeat(100_000) });
  half.write(`POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(16 * 1024)}`);
  half.write('x');
  assert.equal((await half.next()).status, 503);
  const stranger = await RawHttp.connect(full); // whose body is not read at all
  t.after(() => stranger.destroy());
  stranger.write(`POST /apps/${APP.id}/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n`);
  assert.equal((await stranger.next()).status, 401);
});
