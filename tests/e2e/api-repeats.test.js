// Repeats of a publish: a request with an idempotency key that was accepted before is answered as the first one was,
// and publishes nothing.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { assertRefusal, nextOn, subscriber, untilFence } from '../lib/events.js';
import { getMetrics } from '../lib/metrics.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const OTHER = { id: 'other', key: 'other-key', secret: 'other-secret' };
const DISABLED = { id: 'disabled', key: 'disabled-key', secret: 'disabled-secret', enabled: false };
const server = await sharedServer({ apps: [APP, OTHER, DISABLED] });

let drawn = 0;
const newKey = () => `key-${++drawn}`;
const EVENT = { name: 'e', channel: 'repeats', data: 'x' };
const KEY = 'X-Idempotency-Key';

function post(path, body, key, options = {}) {
  return api(server, 'POST', path, { body, headers: key === undefined ? {} : { [KEY]: key }, ...options });
}
const event = (key, change, options) => post('/events', { ...EVENT, ...change }, key, options);

function assertFirst(response) {
  assert.equal(response.status, 200, response.body);
  assert.equal(response.headers['idempotency-replayed'], undefined);
}

function assertReplayed(response, first) {
  assert.equal(response.status, 200, response.body);
  assert.equal(response.headers['idempotency-replayed'], 'true');
  assert.match(response.headers['content-type'], /^application\/json/);
  assert.equal(response.body, first.body);
}

// What reaches a subscriber of the channel while `send` runs.
async function heard(t, send) {
  const ws = await subscriber(server, t, 'repeats');
  await send();
  return (await untilFence(server, ws, 'repeats')).map((message) => message.data);
}

describe('a repeat', () => {
  test('is answered as the first was and publishes nothing', async (t) => {
    const data = await heard(t, async () => {
      const key = newKey();
      const first = await event(key);
      assertFirst(first);
      for (let i = 0; i < 3; i++) assertReplayed(await event(key), first);
    });
    assert.deepEqual(data, ['x']);
  });

  test('gets the counts of the first', async (t) => {
    const key = newKey();
    const change = { channel: 'repeats-info', info: 'subscription_count' };
    const first = await event(key, change);
    assert.deepEqual(first.json, { channels: { 'repeats-info': { subscription_count: 0 } } });
    await subscriber(server, t, 'repeats-info');
    assertReplayed(await event(key, change), first);
  });

  test('of a batch is a repeat as well, and the path counts', async (t) => {
    const batch = { batch: [EVENT, { ...EVENT, data: 'y', info: 'subscription_count' }] };
    const data = await heard(t, async () => {
      const key = newKey();
      const first = await post('/batch_events', batch, key);
      assertFirst(first);
      assert.deepEqual(first.json, { batch: [{}, { subscription_count: 1 }] });
      assertReplayed(await post('/batch_events', batch, key), first);
      assertFirst(await event(key)); // the same key on another path
    });
    assert.deepEqual(data, ['x', 'y', 'x']);
  });

  test('may give its key as a member, in the header, or in both', async (t) => {
    const data = await heard(t, async () => {
      const key = newKey();
      const body = { ...EVENT, idempotency_key: key };
      const first = await post('/events', body);
      assertFirst(first);
      assertReplayed(await post('/events', body), first);
      assertReplayed(await post('/events', body, key), first);
      const escaped = JSON.stringify(body).replace('"key-', String.raw`"\u006bey-`);
      assert.equal((await post('/events', escaped)).status, 422); // the same key, other bytes
      const batch = { batch: [EVENT], idempotency_key: key };
      assertFirst(await post('/batch_events', batch));
      assertReplayed(await post('/batch_events', batch, key), { body: '{}' });
    });
    assert.deepEqual(data, ['x', 'x']);
  });

  test('belongs to its app, and an event without a key is never one', async (t) => {
    const data = await heard(t, async () => {
      const key = newKey();
      assertFirst(await event(key));
      assertFirst(await event(key, {}, { app: OTHER }));
      for (let i = 0; i < 2; i++) assertFirst(await event());
      for (let i = 0; i < 2; i++) assertFirst(await post('/events', { ...EVENT, idempotency_key: null }));
    });
    assert.deepEqual(data, ['x', 'x', 'x', 'x', 'x']);
  });

  test('with another body is 422, and the first stays', async (t) => {
    const data = await heard(t, async () => {
      const key = newKey();
      const first = await event(key);
      assertRefusal(await event(key, { data: 'another' }), 422, /idempotency key/);
      assertReplayed(await event(key), first);
    });
    assert.deepEqual(data, ['x']);
  });

  test('of a request that was refused is as new', async (t) => {
    const data = await heard(t, async () => {
      const key = newKey();
      for (let i = 0; i < 2; i++) assertRefusal(await event(key, { data: 1 }), 400, /data/);
      for (let i = 0; i < 2; i++) assertRefusal(await event(key, { data: 'x'.repeat(110_000) }), 413);
      assertFirst(await event(key));
    });
    assert.deepEqual(data, ['x']);
  });

  test('is looked up after 401 and 403', async () => {
    const key = newKey();
    assertFirst(await event(key));
    assertRefusal(await event(key, {}, { signAs: { secret: 'wrong' } }), 401);
    assertRefusal(await event(key, {}, { app: DISABLED }), 403);
  });

  test('at the same time as the first, from many connections, waits and gets its answer', async (t) => {
    const ws = await subscriber(server, t, 'repeats-many');
    const rounds = 50;
    for (let round = 0; round < rounds; round++) {
      const body = JSON.stringify({ ...EVENT, channel: 'repeats-many', data: `${round}`, info: 'subscription_count' });
      const target = signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body });
      const connections = await Promise.all(Array.from({ length: 8 }, () => RawHttp.connect(server)));
      const key = newKey();
      for (const http of connections) http.send('POST', target, { body, headers: { [KEY]: key } });
      const responses = await Promise.all(connections.map((http) => http.next()));
      for (const response of responses) {
        assert.equal(response.status, 200, response.text);
        assert.equal(response.text, '{"channels":{"repeats-many":{"subscription_count":1}}}');
      }
      assert.equal(responses.filter((one) => one.headers['idempotency-replayed'] === undefined).length, 1);
      for (const http of connections) http.destroy();
    }
    for (let round = 0; round < rounds; round++) assert.equal((await nextOn(ws, 'repeats-many')).data, `${round}`);
    assert.deepEqual(await untilFence(server, ws, 'repeats-many'), []);
  });
});

describe('a key', () => {
  test('is 1 to 128 printable characters', async () => {
    for (const key of ['k', 'k'.repeat(128), 'a b', '~!"#%&{}']) assertFirst(await event(key));
    for (const key of ['', 'k'.repeat(129), 'a\tb', 'caf\u00e9']) {
      assertRefusal(await event(key), 400, /X-Idempotency-Key/, /\b128\b/);
      assertRefusal(await post('/events', { ...EVENT, idempotency_key: key }), 400, /idempotency_key/, /\b128\b/);
    }
    for (const key of [5, {}, [], true]) {
      assertRefusal(await post('/events', { ...EVENT, idempotency_key: key }), 400, /idempotency_key/);
      assertRefusal(await post('/batch_events', { batch: [EVENT], idempotency_key: key }), 400, /idempotency_key/);
    }
  });

  test('that is given twice and differently is 400', async () => {
    const [one, two] = [newKey(), newKey()];
    assertRefusal(await post('/events', { ...EVENT, idempotency_key: one }, two), 400, /differ/);
    assertRefusal(await post('/batch_events', { batch: [EVENT], idempotency_key: one }, two), 400, /differ/);
    const body = JSON.stringify(EVENT);
    const http = await RawHttp.connect(server);
    http.send('POST', signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body }), {
      body,
      headers: [
        [KEY, one],
        [KEY.toLowerCase(), two],
      ],
    });
    assertRefusal(await http.next().then((response) => ({ ...response, body: response.text })), 400, /more than once/);
    http.destroy();
  });

  test('in an event of a batch is 400', async () => {
    const batch = [EVENT, { ...EVENT, idempotency_key: newKey() }];
    assertRefusal(await post('/batch_events', { batch }), 400, /batch\[1\]/, /idempotency_key/);
  });
});

test('the metrics tell how many keys are remembered, and a restart forgets them', async (t) => {
  const own = await serverFor(t);
  const size = async () => {
    const { body } = await getMetrics(own, { headers: { 'Cache-Control': 'no-cache' } });
    return ['keys', 'bytes'].map((name) =>
      Number(body.match(new RegExp(`^\\w+_idempotency_${name}\\{.*\\} (\\d+)$`, 'm'))[1]),
    );
  };
  assert.deepEqual(await size(), [0, 0]);
  for (const key of ['1', '2']) {
    assertFirst(await api(own, 'POST', '/events', { body: EVENT, headers: { [KEY]: key } }));
  }
  const [keys, bytes] = await size();
  assert.equal(keys, 2);
  assert.ok(bytes > 0 && bytes < 2000, `${bytes} bytes`);
  const next = await serverFor(t);
  assertFirst(await api(next, 'POST', '/events', { body: EVENT, headers: { [KEY]: '1' } }));
});
