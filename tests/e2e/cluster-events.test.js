// Events from node to node.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { decode, KIND } from '../lib/cluster-message.js';
import { RedisClient } from '../lib/redis-client.js';
import { APP, serverFor } from '../lib/server.js';

const redis = await backendFor({ after }, 'redis');

// Starts a node; nodes with the same name of a test belong together.
function nodeFor(t, name, { config = {}, ...options } = {}) {
  const { adapter, ...rest } = redis.config(name);
  return serverFor(t, { ...options, config: { ...config, ...rest, adapter: { ...adapter, ...config.adapter } } });
}

// Hears what goes over some subjects of these nodes, as messages with their subject.
async function listenerFor(t, name, ...subjects) {
  const client = await RedisClient.connect({ ...redis.address, encoding: 'latin1' });
  t.after(() => client.close());
  client.subscribe(...subjects.map((subject) => `${name}:curlew1:${subject}`));
  for (const subject of subjects)
    await client.pushed.next(([kind, channel]) => kind === 'subscribe' && channel.endsWith(subject));
  return {
    async next(kind) {
      for (;;) {
        const [, subject, bytes] = await client.pushed.next(([what]) => what === 'message');
        const message = decode(Buffer.from(bytes, 'latin1'));
        if (message.kind === kind) return { ...message, subject: subject.slice(`${name}:curlew1:`.length) };
      }
    },
    get kinds() {
      return client.pushed.all
        .filter(([what]) => what === 'message')
        .map(([, , bytes]) => decode(Buffer.from(bytes, 'latin1')).kind);
    },
  };
}

test('a node alone publishes no events, and with another one each in its order', async (t) => {
  const listener = await listenerFor(t, 'alone', 'n', 'c:app-id:prices', 'u:app-id:anna');
  const one = await nodeFor(t, 'alone');
  await publish(one, { name: 'early', channel: 'prices', data: '1' });
  const two = await nodeFor(t, 'alone');
  await one.waitForLog(/ is there/);
  const before = Date.now();
  await publish(one, {
    name: 'tick "é"',
    channels: ['prices', '#server-to-user-anna'],
    data: '{"n":1.50}',
    socket_id: '7.9',
    tags: { region: 'eu', kind: 'a' },
  });
  const event = await listener.next(KIND.event);
  assert.equal(event.subject, 'c:app-id:prices');
  assert.deepEqual(
    { ...event, sender: null, number: null, published: null, left: null, subject: null },
    {
      version: 1,
      kind: KIND.event,
      sender: null,
      number: null,
      subject: null,
      app: APP.id,
      channel: 'prices',
      name: '"tick \\"é\\""',
      data: '"{\\"n\\":1.50}"',
      userId: '',
      tags: '{"kind":"a","region":"eu"}',
      keep: true,
      whole: false,
      hasExcept: true,
      exceptFirst: 7,
      exceptSecond: 9,
      published: null,
      left: null,
    },
  );
  assert.ok(event.published >= before && event.published <= Date.now());
  const other = await listener.next(KIND.event);
  assert.equal(other.subject, 'u:app-id:anna');
  assert.equal(other.sender, event.sender);
  assert.ok(other.number > event.number);
  // Each request has a connection of its own: both workers publish.
  for (let i = 0; i < 200; i++) await publish(two, { name: 'e', channel: 'prices', data: String(i) });
  for (let i = 0; i < 200; i++) assert.equal((await listener.next(KIND.event)).data, `"${i}"`);
});
