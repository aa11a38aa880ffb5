// Pending events of webhooks are kept in files, and sent after the server was killed.

import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { appsDone } from '../lib/apps-command.js';
import { connect, subscribe, trigger } from '../lib/client.js';
import { httpStub } from '../lib/http-stub.js';
import { eventually } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { APP, runCurlew, serverFor, startServer } from '../lib/server.js';
import { hmac } from '../lib/sign.js';

const USER_INFO = 'user:word-of-the-user@';

// A receiver that answers `status`, and what servers with a spool in `folder` need for it.
async function placeWith(t, { status = 500, url = (stub) => stub.url.replace('//', `//${USER_INFO}`), ...more } = {}) {
  const stub = await httpStub(t, { answer: () => ({ status: stub.status }) });
  stub.status = status;
  const webhooks = [{ url: url(stub), event_types: ['client_event'], headers: { 'X-Token': 'word-of-the-header' } }];
  const folder = path.join(folderWith(t), 'spool');
  const options = {
    apps: [{ ...APP, max_client_events_per_second: 0, webhooks }],
    config: {
      webhooks: { spool_path: folder, retry: { initial_backoff_ms: 20, max_backoff_ms: 50 }, batching: { size: 10 } },
      ...more,
    },
  };
  return { stub, folder, options };
}

// Sends client events with these numbers.
async function say(t, server, numbers, channel = 'private-a') {
  const client = await connect(server, { t });
  await subscribe(client, channel);
  for (const number of numbers) trigger(client, channel, 'client-number', number);
  return client;
}

const numbersOf = (requests) => requests.flatMap((request) => JSON.parse(request.body).events.map(({ data }) => data));
const upTo = (count) => Array.from({ length: count }, (_, i) => i + 1);
const bytesOf = (folder) => Buffer.concat(readdirSync(folder).map((name) => readFileSync(path.join(folder, name))));

// Waits until the spool has the event with this number, in whatever form.
const spooled = (server, count) =>
  eventually(server, (metrics) => assert.equal(metrics.sum('webhook_events_waiting'), count));

async function killedWith(t, options, numbers) {
  const server = await startServer(options);
  await say(t, server, numbers);
  await spooled(server, numbers.length);
  await server.kill();
}

test('what_was_pending_at_a_kill_is_sent_by_the_next_server_with_the_same_bytes_and_in_order', async (t) => {
  const { stub, folder, options } = await placeWith(t);
  await killedWith(t, options, upTo(35));
  const [first] = stub.requests.all;
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  for (const name of readdirSync(folder)) assert.equal(statSync(path.join(folder, name)).mode & 0o777, 0o600);
  const kept = bytesOf(folder).toString('latin1');
  for (const secret of [APP.secret, first.headers['x-pusher-signature'], 'word-of-the-user', 'word-of-the-header'])
    assert.ok(!kept.includes(secret), secret);
  stub.status = 200;
  const before = stub.requests.all.length;
  const server = await serverFor(t, options);
  while (!numbersOf(stub.requests.all.slice(before)).includes(35)) await stub.requests.next();
  await say(t, server, [36]);
  while (!numbersOf(stub.requests.all).includes(36)) await stub.requests.next();
  const after = stub.requests.all.slice(before);
  assert.deepEqual(numbersOf(after), upTo(36));
  assert.equal(after[0].body, first.body);
  for (const { headers, body } of after) assert.equal(headers['x-pusher-signature'], hmac(APP.secret, body));
  await spooled(server, 0);
  await server.kill();
  const sent = stub.requests.all.length;
  const last = await serverFor(t, options);
  await say(t, last, [37]);
  while (!numbersOf(stub.requests.all).includes(37)) await stub.requests.next();
  assert.deepEqual(numbersOf(stub.requests.all.slice(sent)), [37]);
});

for (const [what, damage] of [
  ['cut', (file) => truncateSync(file, statSync(file).size - 3)],
  ['garbled', (file) => appendFileSync(file, '\u0001\u0000\u0000\u0000 not a record')],
]) {
  test(`a_file_whose_end_is_${what}_loses_no_more_than_that`, async (t) => {
    const { stub, folder, options } = await placeWith(t, {});
    await killedWith(t, options, upTo(30));
    const files = readdirSync(folder).sort();
    damage(path.join(folder, files.at(-1)));
    stub.status = 200;
    const before = stub.requests.all.length;
    const server = await serverFor(t, options);
    while (!numbersOf(stub.requests.all.slice(before)).includes(29)) await stub.requests.next();
    await say(t, server, [31]);
    while (!numbersOf(stub.requests.all.slice(before)).includes(31)) await stub.requests.next();
    const numbers = numbersOf(stub.requests.all.slice(before));
    assert.deepEqual(numbers.slice(0, 29), upTo(29));
  });
}

test('an_app_in_a_store_gets_what_is_kept_for_it_and_one_that_is_gone_does_not', async (t) => {
  const folder = folderWith(t);
  const store = { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: path.join(folder, 'apps.db') } } };
  const { stub, options } = await placeWith(t, store);
  const [app] = options.apps;
  const config = path.join(folderWith(t, { 'config.json': store }), 'config.json');
  const other = { ...app, id: 'gone', key: 'gone-key' };
  await appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: [app, other] }) });
  const server = await startServer(options);
  await say(t, server, upTo(5));
  const client = await connect(server, { t, app: other });
  await subscribe(client, 'private-a');
  trigger(client, 'private-a', 'client-number', 'gone');
  await spooled(server, 6);
  await server.kill();
  await appsDone(t, ['delete', 'gone', '-c', config]);
  stub.status = 200;
  const before = stub.requests.all.length;
  const next = await serverFor(t, options);
  await say(t, next, [6]);
  while (!numbersOf(stub.requests.all.slice(before)).includes(6)) await stub.requests.next();
  while (!numbersOf(stub.requests.all.slice(before)).includes(5)) await stub.requests.next();
  assert.deepEqual(numbersOf(stub.requests.all.slice(before)).sort(), upTo(6));
  await next.waitForLog(/^app "gone": 1 events in webhooks\.spool_path are dropped: there is no such app$/);
  await eventually(next, (metrics) => assert.equal(metrics.sum('webhook_spool_dropped_total'), 1));
});

test('what_is_kept_for_a_webhook_that_the_app_no_longer_has_is_dropped_and_counted', async (t) => {
  const { stub, options } = await placeWith(t);
  await killedWith(t, options, upTo(12));
  const [app] = options.apps;
  const moved = [{ ...app, webhooks: [{ ...app.webhooks[0], url: `${stub.url}/moved` }] }];
  const server = await serverFor(t, { ...options, apps: moved });
  await server.waitForLog(
    /^app "app-id": 12 events in webhooks\.spool_path are dropped: the app no longer has their web/,
  );
  await eventually(server, (metrics) => assert.equal(metrics.sum('webhook_spool_dropped_total'), 12));
});

test('a_webhook_that_is_removed_after_the_restart_gets_nothing_more_of_what_was_kept_for_it', async (t) => {
  const { stub, options } = await placeWith(t);
  await killedWith(t, options, upTo(12));
  const before = stub.requests.all.length;
  const server = await serverFor(t, options);
  while (stub.requests.all.length === before) await stub.requests.next();
  const [app] = options.apps;
  await server.reload({ apps: [{ ...app, webhooks: [] }] });
  await server.waitForLog(/^app "app-id": a webhook was removed, and 12 events for it are dropped$/);
  await spooled(server, 0);
});

test('an_app_whose_record_is_broken_at_the_start_gets_what_is_kept_for_it_when_it_is_repaired', async (t) => {
  const { stub, options } = await placeWith(t);
  const [app] = options.apps;
  const other = { ...app, id: 'other-id', key: 'other-key' };
  const server = await startServer({ ...options, apps: [app, other] });
  await say(t, server, upTo(5));
  const client = await connect(server, { t, app: other });
  await subscribe(client, 'private-a');
  trigger(client, 'private-a', 'client-number', 'other');
  await spooled(server, 6);
  await server.kill();
  stub.status = 200;
  const before = stub.requests.all.length;
  const secret = path.join(folderWith(t), 'secret');
  const next = await serverFor(t, { ...options, apps: [{ ...app, secret: `file:${secret}` }, other] });
  await next.waitForLog(/^app "app-id": its record is broken; its events in webhooks\.spool_path wait/);
  while (numbersOf(stub.requests.all.slice(before)).length < 1) await stub.requests.next();
  assert.deepEqual(numbersOf(stub.requests.all.slice(before)), ['other']);
  writeFileSync(secret, APP.secret, { mode: 0o600 });
  await next.hup();
  while (numbersOf(stub.requests.all.slice(before)).length < 6) await stub.requests.next();
  assert.deepEqual(numbersOf(stub.requests.all.slice(before)), ['other', ...upTo(5)]);
});

test('a_folder_that_cannot_be_used_or_is_in_use_is_an_error_at_the_start', async (t) => {
  const { options } = await placeWith(t);
  await serverFor(t, options);
  const config = { ...options.config, port: 0, metrics: { enabled: false }, app_manager: { array: { apps: [] } } };
  const second = await runCurlew(['serve'], { config });
  assert.equal(second.code, 2);
  assert.match(second.stdout + second.stderr, /webhooks\.spool_path .* is in use by another process/);
  const wrong = { ...config, webhooks: { spool_path: '/proc/curlew' } };
  const third = await runCurlew(['serve'], { config: wrong });
  assert.equal(third.code, 2);
  assert.match(third.stdout + third.stderr, /webhooks\.spool_path \/proc\/curlew cannot be made/);
  const open = folderWith(t);
  for (const mode of [0o770, 0o1777]) {
    chmodSync(open, mode);
    const fourth = await runCurlew(['serve'], { config: { ...config, webhooks: { spool_path: open } } });
    assert.equal(fourth.code, 2);
    assert.match(fourth.stdout + fourth.stderr, /webhooks\.spool_path .* can be written by others.* mode 0700/);
  }
});
