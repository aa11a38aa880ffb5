// The scripts of examples/: what they print when all is well, and what is wrong when it is not.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { publish } from '../lib/api.js';
import { folderWith, start } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '../..');
const DEMO = { id: '1', key: 'app-key', secret: 'app-secret' };

// A script of examples/ for another port, and with other words replaced, started where its library is found.
function example(t, name, port, { replace = {}, cwd = here } = {}) {
  let script = readFileSync(path.join(root, 'examples', name), 'utf8').replaceAll('6001', port);
  for (const [word, other] of Object.entries(replace)) script = script.replaceAll(word, other);
  return start(t, process.execPath, ['--input-type=module', '--eval', script], { cwd });
}

const HELLO = ['my-channel', 'my-event', '{"message":"hello world"}'];

function publishScript(server, env = {}, parameters = HELLO) {
  return new Promise((resolve) => {
    execFile(
      path.join(root, 'examples/publish.sh'),
      parameters,
      { env: { PATH: process.env.PATH, CURLEW_URL: server.url, ...env } },
      (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }),
    );
  });
}

async function fails(program, pattern) {
  assert.match(await program.err.next(), pattern);
  assert.deepEqual(await program.exited(), { code: 1, signal: null });
}

test('an event published by each example reaches the subscriber', async (t) => {
  const server = await serverFor(t, { apps: [DEMO] });
  const subscriber = example(t, 'subscribe.mjs', server.port);
  assert.equal(await subscriber.out.next(), 'subscribed to my-channel');
  assert.deepEqual(await publishScript(server), { code: 0, stdout: '{}\n', stderr: '' });
  assert.equal(await subscriber.out.next(), 'my-event: hello world');
  const publisher = example(t, 'publish.mjs', server.port);
  assert.equal(await publisher.out.next(), 'published my-event to my-channel');
  assert.deepEqual(await publisher.exited(), { code: 0, signal: null });
  assert.equal(await subscriber.out.next(), 'my-event: hello from Node');
});

test('the example of filters gets the trades of one symbol', async (t) => {
  const server = await serverFor(t, { apps: [DEMO], config: { tag_filtering: { enabled: true } } });
  const client = example(t, 'filter.mjs', server.port);
  assert.equal(await client.out.next(), 'subscribed to trades');
  for (const [symbol, price] of [
    ['BTC', 1.5],
    ['ETH', 2.5],
    ['BTC', 3.5],
  ])
    assert.deepEqual(
      await publishScript(server, {}, ['trades', 'trade', JSON.stringify({ price }), JSON.stringify({ symbol })]),
      { code: 0, stdout: '{}\n', stderr: '' },
    );
  assert.equal(await client.out.next(), 'trade: 1.5');
  assert.equal(await client.out.next(), 'trade: 3.5');
});

test('the example of deltas rebuilds every message', async (t) => {
  const apps = [{ ...DEMO, channel_delta_compression: { prices: { conflation_key: 'symbol' } } }];
  const server = await serverFor(t, { apps });
  const client = example(t, 'deltas.mjs', server.port);
  assert.equal(await client.out.next(), 'subscribed to prices, with deltas');
  const texts = [];
  for (const [symbol, price] of [
    ['ABC', 1.5],
    ['é:x', 200],
    ['ABC', 1.6],
    ['é:x', 201],
    ['ABC', 1.7],
  ])
    texts.push(JSON.stringify({ symbol, price, venue: 'a market that is named in every message '.repeat(4) }));
  for (const data of texts) await publish(server, { name: 'tick', channel: 'prices', data }, { app: DEMO });
  const whole = (text) => JSON.stringify({ event: 'tick', channel: 'prices', data: text }).length;
  for (const [i, text] of texts.entries()) {
    const line = await client.out.next();
    assert.ok(line.startsWith(`${text} (`), line);
    const [, length, rest] = line.slice(text.length).match(/ \((\d+) bytes(.*)\)$/);
    if (i < 2) assert.equal(rest, ', whole');
    else assert.equal(rest, ` in place of ${whole(text)}`);
    assert.equal(Number(length) < whole(text), i >= 2);
  }
});

describe('an example that fails says why, and has exit code 1', () => {
  test('without a server', async (t) => {
    await fails(example(t, 'subscribe.mjs', 9), /^not connected: no server answers on port 9/);
    await fails(example(t, 'filter.mjs', 9), /^not connected: no server answers on port 9/);
    await fails(example(t, 'publish.mjs', 9), /^not connected to port 9: .*ECONNREFUSED/);
    await fails(example(t, 'deltas.mjs', 9), /^not connected: .*ECONNREFUSED/);
    const { code, stderr } = await publishScript({ url: 'http://127.0.0.1:9' });
    assert.notEqual(code, 0);
    assert.match(stderr, /connect/);
  });

  test('with a wrong key or secret', async (t) => {
    const server = await serverFor(t, { apps: [DEMO] });
    const replace = { 'app-key': 'no-key' };
    await fails(example(t, 'subscribe.mjs', server.port, { replace }), /^not connected: there is no app with this key/);
    await fails(example(t, 'publish.mjs', server.port, { replace }), /^refused with HTTP 401: .*auth_key/);
    const { code, stdout } = await publishScript(server, { APP_SECRET: 'wrong' });
    assert.notEqual(code, 0);
    assert.match(stdout, /auth_signature is wrong/);
  });

  test('without its library', async (t) => {
    const cwd = folderWith(t);
    await fails(example(t, 'subscribe.mjs', 9, { cwd }), /^pusher-js is missing: npm ci --prefix examples/);
    await fails(example(t, 'publish.mjs', 9, { cwd }), /^pusher is missing: npm ci --prefix examples/);
    await fails(example(t, 'deltas.mjs', 9, { cwd }), /^ws or fossil-delta is missing: npm ci --prefix examples/);
    const { code, stderr } = await publishScript({ url: 'http://127.0.0.1:9' }, { PATH: cwd });
    assert.notEqual(code, 0);
    assert.match(stderr, /is missing|No such file/);
  });
});
