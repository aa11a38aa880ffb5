// Watchlists: who of the watched users is online, and who comes and goes.

import assert from 'node:assert/strict';
import test from 'node:test';

import { connect, nothingArrived, signin } from '../lib/client.js';
import { APP, sharedServer } from '../lib/server.js';

const WATCHING = { id: 'watching', key: 'watching-key', secret: 'watching-secret', enable_watchlist_events: true };
const ELSEWHERE = { id: 'elsewhere', key: 'elsewhere-key', secret: 'elsewhere-secret', enable_watchlist_events: true };
const server = await sharedServer({ apps: [APP, WATCHING, ELSEWHERE] });
const WATCHLIST = 'pusher_internal:watchlist_events';

test('the_watched_users_are_told_offline_at_sign_in_and_then_as_they_come_and_go', async (t) => {
  const watcher = await user(t, { id: 'w1', watchlist: ['a1', 'b1'] });
  const first = await watcher.next(WATCHLIST);
  assert.equal(typeof first.data, 'string');
  assert.deepEqual(JSON.parse(first.text), { event: WATCHLIST, data: first.data });
  assert.deepEqual(sorted(first), [{ name: 'offline', user_ids: ['a1', 'b1'] }]);

  const a = await user(t, { id: 'a1' });
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'online', user_ids: ['a1'] }]);
  await a.close();
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'offline', user_ids: ['a1'] }]);
  const b = await user(t, { id: 'b1' });
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'online', user_ids: ['b1'] }]);
  b.destroy();
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'offline', user_ids: ['b1'] }]);
  await nothingArrived(server, watcher);
});

test('those_who_are_there_and_those_who_are_not_are_told_in_one_event', async (t) => {
  await user(t, { id: 'a2' });
  await user(t, { id: 'b2' });
  const watcher = await user(t, { id: 'w2', watchlist: ['a2', 'b2', 'c2'] });
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [
    { name: 'offline', user_ids: ['c2'] },
    { name: 'online', user_ids: ['a2', 'b2'] },
  ]);
  await nothingArrived(server, watcher);
});

test('an_entry_without_ids_is_left_out', async (t) => {
  await user(t, { id: 'a3' });
  const watcher = await user(t, { id: 'w3', watchlist: ['a3'] });
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'online', user_ids: ['a3'] }]);
});

test('a_user_with_several_connections_comes_once_and_goes_once', async (t) => {
  const watcher = await user(t, { id: 'w4', watchlist: ['a4'] });
  await watcher.next(WATCHLIST);
  const [first, second] = [await user(t, { id: 'a4' }), await user(t, { id: 'a4' })];
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'online', user_ids: ['a4'] }]);
  await first.close();
  await nothingArrived(server, watcher);
  await second.close();
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'offline', user_ids: ['a4'] }]);
});

test('every_connection_that_watches_is_told', async (t) => {
  const watchers = [];
  for (const id of ['w5', 'w5', 'x5']) watchers.push(await user(t, { id, watchlist: ['a5'] }));
  for (const ws of watchers)
    assert.deepEqual(sorted(await ws.next(WATCHLIST)), [{ name: 'offline', user_ids: ['a5'] }]);
  await user(t, { id: 'a5' });
  for (const ws of watchers) assert.deepEqual(sorted(await ws.next(WATCHLIST)), [{ name: 'online', user_ids: ['a5'] }]);
});

test('users_watch_each_other', async (t) => {
  const a = await user(t, { id: 'a6', watchlist: ['b6'] });
  assert.deepEqual(sorted(await a.next(WATCHLIST)), [{ name: 'offline', user_ids: ['b6'] }]);
  const b = await user(t, { id: 'b6', watchlist: ['a6'] });
  assert.deepEqual(sorted(await b.next(WATCHLIST)), [{ name: 'online', user_ids: ['a6'] }]);
  assert.deepEqual(sorted(await a.next(WATCHLIST)), [{ name: 'online', user_ids: ['b6'] }]);
});

test('an_empty_watchlist_or_none_hears_nothing', async (t) => {
  const a = await user(t, { id: 'w7', watchlist: [] });
  const b = await user(t, { id: 'x7' });
  await user(t, { id: 'a7' });
  await nothingArrived(server, a, b);
});

test('users_of_another_app_are_not_watched', async (t) => {
  const watcher = await user(t, { id: 'w8', watchlist: ['a8'] });
  await watcher.next(WATCHLIST);
  await user(t, { id: 'a8' }, ELSEWHERE);
  await nothingArrived(server, watcher);
});

test('ids_that_need_escapes_come_back_as_they_were', async (t) => {
  const id = 'a"\\\u{1f600} 9';
  const watcher = await user(t, { id: 'w9', watchlist: [id] });
  await watcher.next(WATCHLIST);
  await user(t, { id });
  assert.deepEqual(sorted(await watcher.next(WATCHLIST)), [{ name: 'online', user_ids: [id] }]);
});

test('an_app_with_watchlist_events_off_hears_none', async (t) => {
  const watcher = await user(t, { id: 'w10', watchlist: ['a10'] }, APP);
  await user(t, { id: 'a10' }, APP);
  await nothingArrived(server, watcher);
});

async function user(t, data, app = WATCHING) {
  const ws = await connect(server, { t, app });
  await signin(ws, data);
  return ws;
}

// The entries of a watchlist event by name, ids sorted: neither order is promised.
function sorted(message) {
  return JSON.parse(message.data)
    .events.map(({ name, user_ids }) => ({ name, user_ids: [...user_ids].sort() }))
    .sort((x, y) => (x.name < y.name ? -1 : 1));
}
