// An upgrade of a node: for a while both processes are nodes, and each event reaches each client once.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { publish } from '../lib/api.js';
import { subscriber } from '../lib/events.js';
import { nodesFor } from '../lib/nodes.js';

const CHANNEL = 'private-steps';

// What a client gets up to an event that is published last, by name.
async function namesUpTo(ws, last) {
  const messages = await ws.inbox.through(({ event }) => event === last);
  return messages.map(({ event }) => event).filter((event) => !event.startsWith('pusher'));
}

test('clients of the old process, the new one and another node get each event once', async (t) => {
  const nodes = await nodesFor(t, { count: 2, server: { config: { workers: 1, shutdown_grace_period: 60 } } });
  const [first, second] = nodes.list;
  const clients = await Promise.all(Array.from({ length: 10 }, () => subscriber(first, t, CHANNEL)));
  const other = await subscriber(second, t, CHANNEL);
  const { ended } = await first.upgrade();
  await Promise.any(clients.map((ws) => ws.closing())); // from now on the old process accepts nobody
  const next = await subscriber(first, t, CHANNEL);
  const old = clients.filter((ws) => ws.closeFrame === null).slice(-2);
  await nodes.untilSeen(second, 3);
  const expected = [];
  for (let n = 0; n < 20; n++) {
    expected.push(`step-${n}`);
    await publish(n % 2 === 0 ? first : second, { name: `step-${n}`, channel: CHANNEL, data: '{}' });
  }
  await publish(first, { name: 'last-of-first', channel: CHANNEL, data: '{}' });
  await publish(second, { name: 'last-of-second', channel: CHANNEL, data: '{}' });
  for (const ws of [...old, next, other]) {
    const names = [...(await namesUpTo(ws, 'last-of-first')), ...ws.inbox.waiting.map(({ event }) => event)];
    while (!names.includes('last-of-second')) names.push((await ws.inbox.next()).event);
    const steps = names.filter((name) => name.startsWith('step-'));
    assert.deepEqual([...steps].sort(), [...expected].sort());
    for (const parity of [0, 1])
      assert.deepEqual(
        steps.filter((name) => Number(name.slice(5)) % 2 === parity),
        expected.filter((name) => Number(name.slice(5)) % 2 === parity),
      );
  }
  for (const ws of clients) ws.destroy();
  await ended();
  await nodes.untilSeen(second, 2);
  assert.equal(second.log.all.filter(({ message }) => /has said bye$/.test(message)).length, 1);
  await publish(first, { name: 'after', channel: CHANNEL, data: '{}' });
  for (const ws of [next, other]) await ws.next('after');
});
