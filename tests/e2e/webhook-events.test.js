// Which events webhooks get, in which order, for each way in which clients come and go; the grace of three seconds; the
// filters; and records that change meanwhile.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, join, signin, subscribe, trigger, unsubscribe } from '../lib/client.js';
import { within } from '../lib/inbox.js';
import { folderWith } from '../lib/process.js';
import { OPCODE } from '../lib/raw-websocket.js';
import { APP, serverFor, sharedServer, THREADS_BINARY } from '../lib/server.js';
import { eventOf, webhookReceiver } from '../lib/webhook-receiver.js';

const EVERYTHING = [
  'channel_occupied',
  'channel_vacated',
  'member_added',
  'member_removed',
  'client_event',
  'cache_miss',
  'subscription_count',
];
const COMING_AND_GOING = EVERYTHING.slice(0, 4);

const KEYS = ['main', 'filters', 'disabled', 'live', 'stored', 'deleted', 'crowd', 'app-key'];
const secrets = Object.fromEntries(KEYS.map((key) => [key, key === APP.key ? APP.secret : `secret of ${key}`]));
const receiver = await webhookReceiver({ after }, secrets);
const { events } = receiver;

// An app whose id is its key, with webhooks at paths of the receiver.
function appWith(key, webhooks, more = {}) {
  const list = Object.entries(webhooks).map(([path, webhook]) => ({ url: `${receiver.url}/${path}`, ...webhook }));
  const record = { id: key, key, secret: secrets[key], enable_client_messages: true, max_connections: 0 };
  return { ...record, webhooks: list, ...more };
}

const MAIN = appWith('main', { all: { event_types: EVERYTHING } });
const FILTERS = appWith('filters', {
  none: { event_types: ['channel_occupied'] },
  prefix: { event_types: ['channel_occupied'], filter: { channel_prefix: 'private-' } },
  suffix: { event_types: ['channel_occupied'], filter: { channel_suffix: '-eu' } },
  pattern: { event_types: ['channel_occupied'], filter: { channel_pattern: '^[a-z]+-[0-9]+' } },
  both: { event_types: ['channel_occupied'], filter: { channel_prefix: 'private-', channel_suffix: '-eu' } },
  other: { event_types: ['channel_vacated'] },
});

function isMember(user) {
  return { user_id: user, user_info: { name: user } };
}

const server = await sharedServer({ apps: [MAIN, FILTERS] });

async function connection(t, app = MAIN, at = server) {
  return connect(at, { t, app });
}

// At the same time, since many of them wait for the grace.
describe('webhooks', { concurrency: true }, () => {
  describe('events', { concurrency: true }, () => {
    test('a_visit_of_a_presence_channel_is_told_in_order', async (t) => {
      const channel = 'presence-visit';
      const ws = await connection(t);
      await join(ws, channel, isMember('a'));
      await events.next(eventOf(channel, 'member_added a'));
      unsubscribe(ws, channel);
      await events.next(eventOf(channel, 'channel_vacated'));
      assert.deepEqual(receiver.of(channel), [
        'channel_occupied',
        'member_added a',
        'member_removed a',
        'channel_vacated',
      ]);
      const [occupied, added] = events.all.filter((event) => event.channel === channel);
      assert.ok(Math.abs(occupied.timeMs - Date.now()) < 60_000);
      assert.deepEqual(added, { path: '/all', timeMs: added.timeMs, name: 'member_added', channel, user_id: 'a' });
    });

    test('a_user_counts_once_however_many_connections_there_are', async (t) => {
      const channel = 'presence-twice';
      const [a, b, c] = await Promise.all([connection(t), connection(t), connection(t)]);
      await join(a, channel, isMember('u'));
      await join(b, channel, { user_id: 'u' });
      await join(c, channel, { user_id: 7 });
      unsubscribe(a, channel);
      a.destroy();
      unsubscribe(c, channel);
      await events.next(eventOf(channel, 'member_removed 7'));
      b.destroy();
      await events.next(eventOf(channel, 'channel_vacated'));
      assert.deepEqual(receiver.of(channel), [
        'channel_occupied',
        'member_added u',
        'member_added 7',
        'member_removed 7',
        'member_removed u',
        'channel_vacated',
      ]);
    });

    test('a_client_event_arrives_with_the_very_data_that_was_sent', async (t) => {
      const [a, b] = await Promise.all([connection(t), connection(t)]);
      const datas = ['{ "a": 1.50, "b":[ ] , "ü":"\\u00fc\\n" }', '"text \\u0041"', '-0', 'null'];
      await subscribe(a, 'private-said');
      await join(b, 'presence-said', isMember('b'));
      for (const [i, data] of datas.entries())
        a.sendText(`{"event":"client-e\\u0041${i}","channel":"private-said","data":${data}}`);
      trigger(b, 'presence-said', 'client-x', 'hello');
      const last = await events.next((event) => event.channel === 'presence-said' && event.name === 'client_event');
      assert.deepEqual(
        { ...last, timeMs: 0 },
        {
          path: '/all',
          timeMs: 0,
          name: 'client_event',
          channel: 'presence-said',
          event: 'client-x',
          data: 'hello',
          socket_id: b.socketId,
          user_id: 'b',
        },
      );
      for (const [i, data] of datas.entries()) {
        const event = await events.next((one) => one.channel === 'private-said' && one.event === `client-eA${i}`);
        assert.equal(event.socket_id, a.socketId);
        assert.ok(!('user_id' in event));
        const text = `"name":"client_event","channel":"private-said","event":"client-e\\u0041${i}","data":${data},`;
        assert.ok(
          receiver.requests.all.some(({ body }) => body.includes(text)),
          text,
        );
      }
    });

    test('a_client_event_that_was_refused_is_not_told', async (t) => {
      const ws = await connection(t);
      await subscribe(ws, 'private-refused');
      trigger(ws, 'private-refused', `client-${'x'.repeat(300)}`, 'too long a name');
      trigger(ws, 'private-not-joined', 'client-x', 'not subscribed');
      trigger(ws, 'private-refused', 'client-good', 'good');
      await events.next((event) => event.event === 'client-good');
      const told = events.all.filter((event) => event.name === 'client_event' && event.channel.endsWith('-refused'));
      assert.deepEqual(
        told.map((event) => event.event),
        ['client-good'],
      );
      assert.deepEqual(receiver.of('private-not-joined'), []);
    });

    test('each_subscriber_who_finds_a_cache_channel_empty_is_told', async (t) => {
      const channel = 'cache-empty';
      const [a, b, c] = await Promise.all([connection(t), connection(t), connection(t)]);
      await subscribe(a, channel);
      await subscribe(b, channel);
      await publish(server, { name: 'e', channel, data: 'x' }, { app: MAIN });
      await subscribe(c, channel);
      await events.next(eventOf(channel, 'subscription_count 3'));
      assert.deepEqual(receiver.of(channel).sort(), [
        'cache_miss',
        'cache_miss',
        'channel_occupied',
        'subscription_count 1',
        'subscription_count 2',
        'subscription_count 3',
      ]);
      const { path, timeMs, ...miss } = events.all.find((event) => event.name === 'cache_miss');
      assert.deepEqual(miss, { name: 'cache_miss', channel, data: '{}' });
      assert.ok(path === '/all' && timeMs > 0);
    });

    test('counts_are_told_down_to_zero_before_the_channel_is_vacated', async (t) => {
      const channel = 'counted';
      const [a, b] = await Promise.all([connection(t), connection(t)]);
      await subscribe(a, channel);
      await subscribe(b, channel);
      unsubscribe(a, channel);
      await subscribe(a, `${channel}-fence`);
      unsubscribe(b, channel);
      await events.next(eventOf(channel, 'channel_vacated'));
      assert.deepEqual(receiver.of(channel), [
        'channel_occupied',
        'subscription_count 1',
        'subscription_count 2',
        'subscription_count 1',
        'subscription_count 0',
        'channel_vacated',
      ]);
    });

    test('users_channels_cause_no_event', async (t) => {
      const ws = await connection(t);
      await signin(ws, { id: 'nobody-is-told' });
      ws.destroy();
      const other = await connection(t);
      await subscribe(other, 'after-the-user');
      await events.next(eventOf('after-the-user', 'channel_occupied'));
      assert.ok(events.all.every((event) => !event.channel.startsWith('#')));
    });
  });

  describe('the grace', { concurrency: true }, () => {
    test('whoever_is_back_in_time_causes_neither_event_but_clients_see_both', async (t) => {
      const channel = 'presence-back';
      const [watching, coming, again] = await Promise.all([connection(t), connection(t), connection(t)]);
      await join(watching, channel, isMember('watching'));
      await join(coming, channel, isMember('coming'));
      for (let i = 0; i < 3; i++) {
        unsubscribe(coming, channel);
        await watching.next('pusher_internal:member_removed');
        await join(coming, channel, isMember('coming'));
      }
      coming.destroy();
      await watching.next('pusher_internal:member_removed');
      await join(again, channel, isMember('coming'));
      again.destroy();
      await events.next(eventOf(channel, 'member_removed coming'));
      assert.deepEqual(receiver.of(channel), [
        'channel_occupied',
        'member_added watching',
        'member_added coming',
        'member_removed coming',
      ]);
    });

    test('a_channel_that_is_empty_for_a_moment_stays_occupied', async (t) => {
      const channel = 'private-moment';
      const [a, b] = await Promise.all([connection(t), connection(t)]);
      await subscribe(a, channel);
      unsubscribe(a, channel);
      await subscribe(a, `${channel}-fence`);
      await subscribe(b, channel);
      b.destroy();
      await events.next(eventOf(channel, 'channel_vacated'));
      const told = receiver.of(channel).filter((text) => !text.startsWith('subscription_count'));
      assert.deepEqual(told, ['channel_occupied', 'channel_vacated']);
    });

    test('another_user_in_the_place_of_the_last_one_is_told_with_the_channel_occupied_all_the_time', async (t) => {
      const channel = 'presence-relay';
      const [a, b] = await Promise.all([connection(t), connection(t)]);
      await join(a, channel, isMember('a'));
      unsubscribe(a, channel);
      await subscribe(a, 'relay-fence');
      await join(b, channel, isMember('b'));
      await events.next(eventOf(channel, 'member_removed a'));
      assert.deepEqual(receiver.of(channel), [
        'channel_occupied',
        'member_added a',
        'member_added b',
        'member_removed a',
      ]);
    });
  });

  test('each_way_to_leave_is_told', async (t) => {
    const ways = {
      unsubscribe: (ws, channel) => unsubscribe(ws, channel),
      close: (ws) => ws.close(),
      end: (ws) => ws.socket.end(),
      reset: (ws) => ws.socket.resetAndDestroy(),
      terminate: (ws) => api(server, 'POST', `/users/${ws.user}/terminate_connections`, { app: MAIN, body: '' }),
      'error of the protocol': (ws) => ws.sendFrame({ opcode: OPCODE.binary, payload: 'x' }),
    };
    for (const [way, leave] of Object.entries(ways)) {
      const ws = await connection(t);
      const channel = `presence-left-by-${way.replaceAll(' ', '-')}`;
      ws.user = way.replaceAll(' ', '-');
      await signin(ws, { id: ws.user });
      await join(ws, channel, isMember(ws.user));
      await leave(ws, channel);
    }
    for (const way of Object.keys(ways)) {
      const user = way.replaceAll(' ', '-');
      const channel = `presence-left-by-${user}`;
      await events.next(eventOf(channel, 'channel_vacated'));
      assert.deepEqual(receiver.of(channel), [
        'channel_occupied',
        `member_added ${user}`,
        `member_removed ${user}`,
        'channel_vacated',
      ]);
    }
  });

  test('filters_choose_the_webhooks_that_are_called', async (t) => {
    const ws = await connection(t, FILTERS);
    const channels = {
      lobby: ['none'],
      'private-lobby': ['none', 'prefix'],
      'lobby-eu': ['none', 'suffix'],
      'private-lobby-eu': ['none', 'prefix', 'suffix', 'both'],
      'room-17': ['none', 'pattern'],
      'my-room-17': ['none'],
    };
    for (const channel of Object.keys(channels)) await subscribe(ws, channel);
    for (const [channel, paths] of Object.entries(channels))
      for (const path of paths) await events.next(eventOf(channel, 'channel_occupied', `/${path}`));
    for (const [channel, paths] of Object.entries(channels)) {
      const called = events.all.filter((event) => event.channel === channel).map((event) => event.path.slice(1));
      assert.deepEqual(called.sort(), [...paths].sort(), channel);
    }
  });

  describe('changes of records', { concurrency: true }, () => {
    test('webhooks_that_are_added_changed_or_removed_count_at_once', async (t) => {
      const bare = appWith('live', {});
      const live = await serverFor(t, { apps: [bare] });
      const ws = await connection(t, bare, live);
      const occupied = { event_types: ['channel_occupied', 'channel_vacated'] };
      await subscribe(ws, 'before');
      await live.reload({ apps: [appWith('live', { first: occupied })] });
      await subscribe(ws, 'added');
      await events.next(eventOf('added', 'channel_occupied', '/first'));
      await live.reload({ apps: [appWith('live', { second: occupied })] });
      await subscribe(ws, 'changed');
      await events.next(eventOf('changed', 'channel_occupied', '/second'));
      unsubscribe(ws, 'added');
      await subscribe(ws, 'fence');
      await live.reload({ apps: [appWith('live', { third: occupied })] });
      await events.next(eventOf('added', 'channel_vacated', '/third')); // held while the record changed
      unsubscribe(ws, 'changed');
      await live.reload({ apps: [appWith('live', { third: { event_types: ['member_added'] } })] });
      await subscribe(ws, 'removed');
      await join(ws, 'presence-last', isMember('a'));
      await events.next(eventOf('presence-last', 'member_added a', '/third'));
      assert.deepEqual(receiver.of('before'), []);
      assert.deepEqual(receiver.of('removed'), []);
      assert.deepEqual(receiver.of('changed'), ['channel_occupied']);
      assert.deepEqual(receiver.of('added', '/second'), []);
    });

    test('a_change_in_a_database_counts_at_once_also_for_what_is_held', async (t) => {
      const TOKEN = 'a token of at least thirty-two characters';
      const first = appWith('stored', { before: { event_types: COMING_AND_GOING } });
      const stored = await serverFor(t, {
        apps: [],
        config: {
          app_manager: { driver: 'sqlite' },
          database: { sqlite: { path: path.join(folderWith(t), 'apps.db') } },
        },
        env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
      });
      const admin = (await stored.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
      const change = async (method, where, body) => {
        const headers = { authorization: `Bearer ${TOKEN}` };
        const { ok, status } = await fetch(admin + where, { method, headers, body: JSON.stringify(body) });
        assert.ok(ok, `${method} ${where}: ${status}`);
      };
      await change('POST', '', first);
      const [a, b] = [await connection(t, first, stored), await connection(t, first, stored)];
      await join(a, 'presence-stored', isMember('a'));
      await join(b, 'presence-stored', isMember('b'));
      await events.next(eventOf('presence-stored', 'member_added b', '/before'));
      unsubscribe(b, 'presence-stored');
      await a.next('pusher_internal:member_removed');
      const { webhooks } = appWith('stored', { after: { event_types: COMING_AND_GOING } });
      await change('PATCH', '/stored', { webhooks });
      await join(b, 'presence-stored', isMember('c'));
      await events.next(eventOf('presence-stored', 'member_added c', '/after'));
      await events.next(eventOf('presence-stored', 'member_removed b', '/after'));
    });

    test('the_members_of_an_app_that_is_disabled_are_told_and_those_of_a_deleted_one_are_not', async (t) => {
      const webhooks = { gone: { event_types: COMING_AND_GOING } };
      const disabled = appWith('disabled', webhooks);
      const deleted = appWith('deleted', webhooks);
      const live = await serverFor(t, { apps: [disabled, deleted] });
      const [a, b, c] = [
        await connection(t, disabled, live),
        await connection(t, deleted, live),
        await connection(t, deleted, live),
      ];
      await join(a, 'presence-disabled', isMember('a'));
      await join(b, 'presence-deleted', isMember('b'));
      await join(c, 'presence-deleted', isMember('c'));
      await events.next(eventOf('presence-deleted', 'member_added c'));
      unsubscribe(c, 'presence-deleted');
      await b.next('pusher_internal:member_removed');
      await live.reload({ apps: [{ ...disabled, enabled: false }] });
      await events.next(eventOf('presence-disabled', 'channel_vacated'));
      assert.deepEqual(receiver.of('presence-disabled'), [
        'channel_occupied',
        'member_added a',
        'member_removed a',
        'channel_vacated',
      ]);
      assert.deepEqual(receiver.of('presence-deleted'), ['channel_occupied', 'member_added b', 'member_added c']);
    });
  });

  test('at_a_shutdown_everything_is_told_at_once', async (t) => {
    const app = appWith(APP.key, { end: { event_types: COMING_AND_GOING } }, { id: APP.id });
    const ending = await serverFor(t, { apps: [app], config: { shutdown_grace_period: 0 } });
    const [a, b] = await Promise.all([connection(t, app, ending), connection(t, app, ending)]);
    await join(a, 'presence-end', isMember('a'));
    await join(b, 'presence-end', isMember('b'));
    unsubscribe(b, 'presence-end');
    await a.next('pusher_internal:member_removed');
    await ending.stop();
    assert.deepEqual(receiver.of('presence-end'), [
      'channel_occupied',
      'member_added a',
      'member_added b',
      'member_removed b',
      'member_removed a',
      'channel_vacated',
    ]);
  });

  test('with_the_queue_driver_none_nothing_is_sent', async (t) => {
    const app = appWith(APP.key, { off: { event_types: EVERYTHING } }, { id: APP.id });
    const off = await serverFor(t, { apps: [app], config: { queue: { driver: 'none' }, shutdown_grace_period: 0 } });
    const ws = await connection(t, app, off);
    await join(ws, 'presence-off', isMember('a'));
    await off.stop();
    assert.deepEqual(receiver.of('presence-off'), []);
  });
});

/*
 * Users come and go on several workers. In each round some go for good, and some only for a moment; the model has what
 * a receiver is to know of each channel and user.
 */
test('a_crowd_is_told_as_a_model_says', async (t) => {
  const USERS = 24;
  const CHANNELS = 5;
  const crowd = appWith('crowd', { crowd: { event_types: COMING_AND_GOING } });
  const at = await serverFor(t, { apps: [crowd], config: { workers: 4 }, binary: THREADS_BINARY });
  const model = new Map(); // "channel user" or "channel" -> its events
  const present = Array.from({ length: CHANNELS }, () => new Set());
  const random = generator(17);
  let expected = 0;

  const name = (channel) => `presence-crowd-${channel}`;
  const note = (key, event) => {
    model.set(key, [...(model.get(key) ?? []), event]);
    expected++;
  };
  const comes = (channel, user) => {
    present[channel].add(user);
    note(`${name(channel)} ${user}`, 'member_added');
  };
  const goes = (channel, user) => {
    present[channel].delete(user);
    note(`${name(channel)} ${user}`, 'member_removed');
  };
  // What a round means for channels: one that is empty for a moment of it stays occupied.
  const inOneRound = (run) => {
    const before = present.map(({ size }) => size);
    run();
    for (const [channel, { size }] of present.entries()) {
      if (before[channel] === 0 && size !== 0) note(name(channel), 'channel_occupied');
      if (before[channel] !== 0 && size === 0) note(name(channel), 'channel_vacated');
    }
  };
  const allTold = () =>
    within(
      (async () => {
        while (events.all.filter((event) => event.path === '/crowd').length < expected)
          await events.next((event) => event.path === '/crowd');
      })(),
      `${expected} events of the crowd`,
    );

  const sockets = await Promise.all(Array.from({ length: USERS }, () => connection(t, crowd, at)));
  for (let round = 0; round < 2; round++) {
    const steps = [];
    const plan = (user, channel) => {
      const what = random(4);
      const there = present[channel].has(user);
      const enter = () => join(sockets[user], name(channel), isMember(String(user)));
      if (!there && what !== 0) {
        comes(channel, user);
        steps.push(enter);
      } else if (there && what === 0) {
        goes(channel, user);
        steps.push(() => unsubscribe(sockets[user], name(channel)));
      } else if (there && what === 1) {
        // Away for a moment.
        steps.push(() => {
          unsubscribe(sockets[user], name(channel));
          return enter();
        });
      }
    };
    inOneRound(() => {
      for (let user = 0; user < USERS; user++) for (let channel = 0; channel < CHANNELS; channel++) plan(user, channel);
    });
    await Promise.all(steps.map((step) => step()));
    await allTold();
    // Some connections break, and their users are back at once.
    for (let user = round; user < USERS; user += 3) {
      const held = [...present.keys()].filter((channel) => present[channel].has(user));
      const next = await connection(t, crowd, at);
      sockets[user].destroy();
      sockets[user] = next;
      await Promise.all(held.map((channel) => join(next, name(channel), isMember(String(user)))));
    }
  }
  inOneRound(() => {
    for (let user = 0; user < USERS; user++) {
      for (let channel = 0; channel < CHANNELS; channel++) if (present[channel].has(user)) goes(channel, user);
      sockets[user].destroy();
    }
  });
  await allTold();
  const told = new Map();
  for (const event of events.all.filter(({ path }) => path === '/crowd')) {
    const key = event.user_id === undefined ? event.channel : `${event.channel} ${event.user_id}`;
    told.set(key, [...(told.get(key) ?? []), event.name]);
  }
  assert.deepEqual(new Map([...told].sort()), new Map([...model].sort()));
  for (let channel = 0; channel < CHANNELS; channel++) {
    const [first, second] = events.all.filter((event) => event.channel === name(channel));
    assert.deepEqual([first.name, second.name], ['channel_occupied', 'member_added']);
  }
});

// Deterministic pseudo-random numbers below a limit.
function generator(seed) {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
