// Ten thousand users who join presence channels of three nodes at once, and change nodes in one moment: at every step
// what a connection is told fits its first list, and in the end it is what the model says.

import { test } from 'node:test';

import { nodesFor, SLOW } from '../lib/nodes.js';
import { PresenceModel, randomFrom } from '../lib/presence-model.js';
import { APP } from '../lib/server.js';

const CONNECTIONS = 334; // on each node
const PLACES = 10; // on each connection
const CHANNELS = 200;

/*
 * Ten places on each connection, in ten channels. Two and two of a channel, on different nodes, are one user: `first`
 * and `second` are the places.
 */
function pairsOf({ connections }, servers) {
  const last = new Map();
  const pairs = [];
  const byNode = servers.map((node) => connections.filter(({ server }) => server === node));
  const mixed = Array.from({ length: CONNECTIONS }, (_, i) => byNode.map((list) => list[i])).flat();
  for (const [i, { members }] of mixed.entries())
    for (const [k, member] of members.entries()) {
      const channel = `presence-room-${(i * PLACES + k) % CHANNELS}`;
      const first = last.get(channel);
      if (first === undefined) last.set(channel, member);
      else {
        last.delete(channel);
        pairs.push({ first, second: member, channel, user: `user-${pairs.length}` });
      }
    }
  return pairs;
}

for (const kind of ['redis', 'nats'])
  test(`ten thousand join at once, and change nodes in one moment, on ${kind}`, async (t) => {
    const nodes = await nodesFor(t, { kind, server: { apps: [{ ...APP, max_connections: 0 }] } });
    const model = new PresenceModel(randomFrom(51), {});
    t.after(() => model.end());
    await model.connect(nodes.list, CONNECTIONS, { places: PLACES });
    const pairs = pairsOf(model, nodes.list);
    const settled = async (what) => {
      await model.answered();
      t.diagnostic(`${what}: right after ${Math.round(await model.settled(1000 * SLOW))} ms`);
    };
    for (const { first, second, channel, user } of pairs) {
      first.join(channel, user);
      second.join(channel, user);
    }
    await settled('all join');
    for (const { second } of pairs) second.leave();
    await settled('half of them leave');
    for (let round = 0; round < 2; round++) {
      for (const [i, { first, second, channel, user }] of pairs.entries()) {
        const [from, to] = round % 2 === 0 ? [first, second] : [second, first];
        // Either may be the earlier one.
        if (i % 2 === 0) from.leave();
        to.join(channel, user);
        if (i % 2 === 1) from.leave();
      }
      await model.answered();
    }
    await settled('each user changes nodes, and again');
  });
