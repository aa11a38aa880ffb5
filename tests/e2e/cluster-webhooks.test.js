// Webhooks of several nodes: each event comes once, in order, whichever node sends it, and nodes that come, leave or
// die cause none of their own.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { backendFor } from '../lib/backends/index.js';
import { connect, join, subscribe, unsubscribe } from '../lib/client.js';
import { nodesFor } from '../lib/nodes.js';
import { APP, serverFor } from '../lib/server.js';
import { eventOf, webhookReceiver } from '../lib/webhook-receiver.js';

const redis = await backendFor({ after }, 'redis');
const receiver = await webhookReceiver({ after }, { [APP.key]: APP.secret });
const COMING_AND_GOING = ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'];

const appWith = (path, events) => ({
  ...APP,
  max_connections: 0,
  webhooks: [{ url: `${receiver.url}/${path}`, event_types: events }],
});

const nodesWith = (t, prefix, events, count = 3) =>
  nodesFor(t, { bus: redis, prefix, count, server: { apps: [appWith(prefix, events)] } });

const until = (channel, text, path) => receiver.events.next(eventOf(channel, text, path));
const isUser = (user) => ({ user_id: user, user_info: {} });

async function memberAt(t, node, channel, user) {
  const client = await connect(node, { t });
  await join(client, channel, isUser(user));
  return client;
}

// Channels enough that each node is the sender of some.
const CHANNELS = Array.from({ length: 12 }, (_, i) => `presence-room-${i}`);
const eachChannel = (work) => Promise.all(CHANNELS.map(work));

// At the same time, since they wait for graces: each has its own path.
describe('webhooks of several nodes', { concurrency: 3 }, () => {
  test('a user on several nodes comes and goes once', async (t) => {
    const nodes = await nodesWith(t, 'once', COMING_AND_GOING);
    await eachChannel(async (channel, i) => {
      const first = await memberAt(t, nodes.list[i % 3], channel, 'anna');
      await until(channel, 'member_added anna', '/once');
      const second = await memberAt(t, nodes.list[(i + 1) % 3], channel, 'anna');
      const other = await memberAt(t, nodes.list[(i + 2) % 3], channel, 'ben');
      await until(channel, 'member_added ben', '/once');
      await first.close();
      await other.close();
      await until(channel, 'member_removed ben', '/once');
      await second.close();
      await until(channel, 'channel_vacated', '/once');
      assert.deepEqual(receiver.of(channel, '/once'), [
        'channel_occupied',
        'member_added anna',
        'member_added ben',
        'member_removed ben',
        'member_removed anna',
        'channel_vacated',
      ]);
    });
  });

  // The node that sends does not wait once more. A server alone, whose client leaves two seconds later, is the clock.
  test('the grace of three seconds is waited for once', async (t) => {
    const nodes = await nodesWith(t, 'grace', COMING_AND_GOING, 2);
    const alone = await serverFor(t, { apps: [appWith('alone', COMING_AND_GOING)] });
    const members = await eachChannel((channel, i) => memberAt(t, nodes.list[i % 2], channel, 'anna'));
    const last = await memberAt(t, alone, 'presence-last', 'anna');
    await eachChannel((channel) => until(channel, 'member_added anna', '/grace'));
    for (const member of members) await member.close();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    await last.close();
    await until('presence-last', 'channel_vacated');
    for (const channel of CHANNELS)
      assert.deepEqual(receiver.of(channel, '/grace').slice(2), ['member_removed anna', 'channel_vacated']);
  });

  test('nodes that come and leave cause no event, and lose none', async (t) => {
    const nodes = await nodesWith(t, 'rolling', COMING_AND_GOING);
    const keepers = await eachChannel((channel) => memberAt(t, nodes.list[2], channel, 'keeper'));
    await eachChannel((channel) => until(channel, 'member_added keeper', '/rolling'));
    // Each node but the keepers' is replaced by a new one; its member goes over to it within the grace.
    let guests = await eachChannel((channel) => memberAt(t, nodes.list[0], channel, 'guest'));
    await eachChannel((channel) => until(channel, 'member_added guest', '/rolling'));
    for (const old of [nodes.list[0], nodes.list[1]]) {
      const next = await nodes.add();
      const gone = Promise.all(guests.map((guest) => guest.closed()));
      const stopped = old.stop();
      await gone;
      guests = await eachChannel((channel) => memberAt(t, next, channel, 'guest'));
      await stopped;
      await nodes.untilSeen(next, 3);
      if (old === nodes.list[0]) {
        for (const guest of guests) await guest.close();
        guests = await eachChannel((channel) => memberAt(t, nodes.list[1], channel, 'guest'));
      }
    }
    for (const guest of guests) await guest.close();
    await eachChannel((channel) => until(channel, 'member_removed guest', '/rolling'));
    for (const keeper of keepers) await keeper.close();
    await eachChannel(async (channel) => {
      await until(channel, 'channel_vacated', '/rolling');
      assert.deepEqual(receiver.of(channel, '/rolling'), [
        'channel_occupied',
        'member_added keeper',
        'member_added guest',
        'member_removed guest',
        'member_removed keeper',
        'channel_vacated',
      ]);
    });
  });

  test('what a node held that died is told as gone, once', async (t) => {
    const nodes = await nodesWith(t, 'dead', COMING_AND_GOING);
    await eachChannel(async (channel) => {
      await memberAt(t, nodes.list[0], channel, 'anna');
      await memberAt(t, nodes.list[1], channel, 'anna');
      await memberAt(t, nodes.list[0], channel, 'ben');
      await until(channel, 'member_added ben', '/dead');
    });
    nodes.list[0].kill();
    await eachChannel((channel) => until(channel, 'member_removed ben', '/dead'));
    const late = await connect(nodes.list[2], { t });
    await eachChannel(async (channel) => {
      await join(late, channel, isUser('carl'));
      await until(channel, 'member_added carl', '/dead');
      assert.deepEqual(receiver.of(channel, '/dead').sort(), [
        'channel_occupied',
        'member_added anna',
        'member_added ben',
        'member_added carl',
        'member_removed ben',
      ]);
    });
  });

  test('subscription_count is that of all nodes', async (t) => {
    const nodes = await nodesWith(t, 'counts', ['subscription_count'], 2);
    const clients = await Promise.all(nodes.list.map((node) => connect(node, { t })));
    await subscribe(clients[0], 'prices');
    await until('prices', 'subscription_count 1', '/counts');
    await subscribe(clients[1], 'prices');
    await until('prices', 'subscription_count 2', '/counts');
    await unsubscribe(clients[0], 'prices');
    await unsubscribe(clients[1], 'prices');
    await until('prices', 'subscription_count 0', '/counts');
  });
});
