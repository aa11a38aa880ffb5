// How events of webhooks are delivered: batches, order, signatures, retries; endpoints that misbehave beside one that
// does not; records that change meanwhile; the shutdown.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { describe, test } from 'node:test';

import { signatureOf } from '../lib/aws-signature.js';
import { makeCertificates } from '../lib/backends/certificates.js';
import { connect, subscribe, trigger } from '../lib/client.js';
import { httpStub } from '../lib/http-stub.js';
import { within } from '../lib/inbox.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { APP, serverFor, THREADS_BINARY } from '../lib/server.js';
import { hmac } from '../lib/sign.js';

const QUICK = { initial_backoff_ms: 20, max_backoff_ms: 50 };
const hook = (url, more = {}) => ({ url, event_types: ['client_event'], ...more });
const appWith = (webhooks, more = {}) => ({ ...APP, max_client_events_per_second: 0, webhooks, ...more });

// A server with these webhooks, and a client of it that sends numbered events: `say(channel, from, to)`.
async function serverWith(t, webhooks, { settings = {}, app = {}, ...options } = {}) {
  const server = await serverFor(t, {
    apps: [appWith(webhooks, app)],
    config: { webhooks: { retry: QUICK, ...settings } },
    ...options,
  });
  const client = await connect(server, { t, app: { ...APP, ...app } });
  const joined = new Set();
  const say = async (channel, from, to = from) => {
    if (!joined.has(channel)) await subscribe(client, channel);
    joined.add(channel);
    for (let i = from; i <= to; i++) trigger(client, channel, 'client-number', i);
  };
  return { server, client, say };
}

const eventsOf = (request) => JSON.parse(request.body).events;
const numbers = (requests, channel) =>
  requests
    .flatMap(eventsOf)
    .filter((event) => event.channel === channel)
    .map((event) => event.data);
const upTo = (count) => Array.from({ length: count }, (_, i) => i + 1);

// Takes requests until one has the number of the channel; returns all of them.
const untilNumber = (stub, channel, number) =>
  stub.requests.through(
    Object.assign((request) => numbers([request], channel).includes(number), { label: `${number} of ${channel}` }),
  );

// The sum of a metric of a webhook, once it is what the test expects.
const counted = (server, name, expected, labels) =>
  eventually(server, (metrics) => assert.equal(metrics.sum(name, labels), expected, name));

describe('batches', () => {
  test('hold_what_happens_within_the_duration_in_its_order_over_channels', async (t) => {
    const stub = await httpStub(t, { answer: () => ({}) });
    const { say } = await serverWith(t, [hook(stub.url)], { settings: { batching: { duration: 400 } } });
    for (let i = 1; i <= 5; i++) for (const channel of ['private-a', 'private-b', 'private-c']) await say(channel, i);
    const first = await stub.requests.next();
    const events = eventsOf(first);
    // All are sent within milliseconds; a slow machine may split them.
    while (events.length < 15) events.push(...eventsOf(await stub.requests.next()));
    assert.deepEqual(
      events.map(({ channel, data }) => `${channel} ${data}`),
      upTo(5).flatMap((i) => ['a', 'b', 'c'].map((name) => `private-${name} ${i}`)),
    );
    assert.ok(stub.requests.all.length <= 5, `${stub.requests.all.length} requests`);
  });

  test('have_at_most_the_size_and_do_not_wait_when_they_are_full', async (t) => {
    const stub = await httpStub(t, { answer: () => ({}) });
    const { say } = await serverWith(t, [hook(stub.url)], { settings: { batching: { size: 10, duration: 3600000 } } });
    await say('private-a', 1, 30);
    await untilNumber(stub, 'private-a', 30);
    assert.deepEqual(
      stub.requests.all.map((request) => eventsOf(request).length),
      [10, 10, 10],
    );
    assert.deepEqual(numbers(stub.requests.all, 'private-a'), upTo(30));
  });

  test('can_be_turned_off', async (t) => {
    const stub = await httpStub(t, { answer: () => ({}) });
    const { say } = await serverWith(t, [hook(stub.url)], { settings: { batching: { enabled: false } } });
    await say('private-a', 1, 5);
    await untilNumber(stub, 'private-a', 5);
    assert.equal(stub.requests.all.length, 5);
    assert.deepEqual(numbers(stub.requests.all, 'private-a'), upTo(5));
  });

  test('of_two_webhooks_with_one_url_go_to_each_over_kept_connections', async (t) => {
    const connections = new Set();
    const stub = await httpStub(t, { answer: () => ({}) });
    const server = http.createServer((request, response) => {
      connections.add(request.socket);
      request
        .pipe(http.request(stub.url, { method: 'POST', headers: request.headers }))
        .on('response', () => response.end());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.closeAllConnections() ?? server.close());
    const url = `http://127.0.0.1:${server.address().port}/`;
    const { say } = await serverWith(t, [hook(url, { headers: { 'X-One': '1' } }), hook(url)]);
    for (let i = 1; i <= 20; i++) {
      await say('private-a', i);
      await stub.requests.take(2, (request) => numbers([request], 'private-a').includes(i));
    }
    const [one, two] = [true, false].map((has) =>
      stub.requests.all.filter(({ headers }) => 'x-one' in headers === has),
    );
    assert.deepEqual(numbers(one, 'private-a'), upTo(20));
    assert.deepEqual(numbers(two, 'private-a'), upTo(20));
    assert.ok(connections.size <= 4, `${connections.size} connections`);
  });
});

test('a_healthy_webhook_gets_everything_while_others_misbehave', async (t) => {
  const healthy = await httpStub(t, { answer: () => ({}) });
  const hanging = await httpStub(t, { answer: () => new Promise(() => {}) });
  const failing = await httpStub(t, { answer: () => ({ status: 500 }) });
  const cutting = await httpStub(t, {
    answer: () => (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'),
  });
  const redirecting = await httpStub(t, {
    answer: () => ({ status: 307, headers: { location: `${healthy.url}/redirected` } }),
  });
  const { url: endless, written } = await endlessServer(t);
  const refusing = net.createServer().listen(0, '127.0.0.1');
  await once(refusing, 'listening');
  const refused = `http://127.0.0.1:${refusing.address().port}/`;
  refusing.close();
  const bad = [hanging.url, failing.url, cutting.url, redirecting.url, refused, endless];
  const { server, say } = await serverWith(
    t,
    [...bad, healthy.url].map((url) => hook(url)),
    {
      settings: { request_timeout_ms: 500, batching: { size: 10, duration: 20 } },
      binary: THREADS_BINARY,
    },
  );
  for (let i = 1; i <= 100; i++) for (const name of ['a', 'b', 'c', 'd']) await say(`private-${name}`, i);
  for (const name of ['a', 'b', 'c', 'd']) {
    await untilAll(healthy, `private-${name}`, 100);
    assert.deepEqual(numbers(healthy.requests.all, `private-${name}`), upTo(100));
  }
  assert.ok(
    healthy.requests.all.every((request) => request.path === '/'),
    'a redirect was followed',
  );
  for (let webhook = 0; webhook < 5; webhook++) {
    await eventually(server, (metrics) => assert.ok(metrics.sum('webhook_failures_total', { webhook }) > 1));
    assert.equal((await fetchMetrics(server)).sum('webhook_events_sent_total', { webhook }), 0);
  }
  // Its status counts, and of its answer little is read.
  await counted(server, 'webhook_events_sent_total', 400, { webhook: 5 });
  assert.ok(written() < 400 * 20_000_000, `${written()} bytes`);
  await counted(server, 'webhook_events_waiting', 0, { webhook: 6 });
  for (const stub of [hanging, failing, cutting, redirecting]) {
    assert.ok(stub.requests.all.length > 0);
    for (const { headers, body } of stub.requests.all)
      assert.equal(headers['x-pusher-signature'], hmac(APP.secret, body));
  }
});

// Waits until `count` numbers of the channel have come.
async function untilAll(stub, channel, count) {
  while (numbers(stub.requests.all, channel).length < count) await stub.requests.next();
}

// A server whose answers never end.
async function endlessServer(t) {
  let bytes = 0;
  const chunk = Buffer.alloc(65536, 'x');
  const server = http.createServer((request, response) => {
    request.resume();
    response.writeHead(200);
    const more = () => {
      while (!response.destroyed && response.write(chunk)) bytes += chunk.length;
    };
    response.on('drain', more).on('error', () => {});
    more();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}/`, written: () => bytes };
}

describe('a failed request', () => {
  test('is_repeated_with_the_same_bytes_until_it_is_accepted_and_keeps_its_channel_in_order', async (t) => {
    let failures = 3;
    const stub = await httpStub(t, { answer: () => ({ status: failures-- > 0 ? 503 : 200 }) });
    const { server, say } = await serverWith(t, [hook(stub.url)], { settings: { batching: { duration: 10 } } });
    await say('private-a', 1);
    const [first] = await stub.requests.take(1);
    await say('private-a', 2, 9);
    await untilNumber(stub, 'private-a', 9);
    const attempts = stub.requests.all.filter((request) => numbers([request], 'private-a').includes(1));
    assert.equal(attempts.length, 4);
    for (const { body, headers } of attempts) {
      assert.equal(body, first.body);
      assert.equal(headers['x-pusher-signature'], first.headers['x-pusher-signature']);
    }
    assert.deepEqual(numbers(stub.requests.all.slice(3), 'private-a'), upTo(9));
    await counted(server, 'webhook_retries_total', 3);
    await counted(server, 'webhook_failures_total', 3);
    await counted(server, 'webhook_events_sent_total', 9);
    await counted(server, 'webhook_delivery_seconds_count', stub.requests.all.length - 3);
    await server.waitForLog(
      /^app "app-id": webhooks\[0\]: 1 events were not accepted, and are sent again: .*status 503/,
    );
    await server.waitForLog(/^app "app-id": webhooks\[0\] accepts events again/);
  });

  test('holds_back_no_channel_of_another_lane', async (t) => {
    let open = false;
    const stub = await httpStub(t, {
      answer: (request) => ({ status: !open && numbers([request], 'private-poison').length > 0 ? 500 : 200 }),
    });
    const { say } = await serverWith(t, [hook(stub.url)], { settings: { batching: { duration: 1, size: 5 } } });
    await say('private-poison', 1);
    await stub.requests.take(2); // it is being repeated
    await say('private-poison', 2, 5);
    const others = upTo(20).map((i) => `private-other-${i}`);
    for (const channel of others) await say(channel, 1);
    // Some of them share the lane of the one that fails: about one in eight.
    const arrived = () => others.filter((channel) => numbers(stub.requests.all, channel).length > 0);
    while (arrived().length < 10) await stub.requests.next();
    assert.deepEqual(new Set(numbers(stub.requests.all, 'private-poison')), new Set([1]));
    open = true;
    await untilNumber(stub, 'private-poison', 5);
    while (arrived().length < others.length) await stub.requests.next();
    assert.deepEqual([...new Set(numbers(stub.requests.all, 'private-poison'))], upTo(5));
  });

  test('is_given_up_after_the_attempts_that_are_set_and_the_next_one_is_sent', async (t) => {
    const stub = await httpStub(t, {
      answer: (request) => ({ status: numbers([request], 'private-a').includes(1) ? 500 : 200 }),
    });
    const settings = { retry: { ...QUICK, max_attempts: 3 }, batching: { enabled: false } };
    const { server, say } = await serverWith(t, [hook(stub.url)], { settings });
    await say('private-a', 1, 2);
    await untilNumber(stub, 'private-a', 2);
    assert.deepEqual(numbers(stub.requests.all, 'private-a'), [1, 1, 1, 2]);
    await counted(server, 'webhook_events_dropped_total', 1, { reason: 'retries' });
    await server.waitForLog(/webhooks\[0\]: 1 events are dropped after 3 attempts; the last one: .*status 500/);
  });

  test('is_given_up_after_the_time_that_is_set_or_at_once', async (t) => {
    const stub = await httpStub(t, { answer: ({ path: at }) => ({ status: at === '/gone' ? 410 : 500 }) });
    const { server, say } = await serverWith(t, [hook(`${stub.url}/time`), hook(`${stub.url}/gone`)], {
      settings: { retry: { initial_backoff_ms: 50, max_elapsed_time_ms: 200 } },
    });
    await say('private-a', 1);
    await counted(server, 'webhook_events_dropped_total', 1, { reason: 'retries', webhook: 0 });
    await counted(server, 'webhook_events_dropped_total', 1, { reason: 'gone', webhook: 1 });
    const paths = stub.requests.all.map((request) => request.path);
    assert.equal(paths.filter((at) => at === '/gone').length, 1);
    // The pauses are 50, 100 and 200 ms, each up to 20 % shorter or longer.
    assert.equal(paths.filter((at) => at === '/time').length, 3);
  });
});

describe('a record that changes', () => {
  test('has_its_new_secret_sign_new_batches_and_repeats_old_ones_as_they_were', async (t) => {
    let open = false;
    const stub = await httpStub(t, { answer: () => ({ status: open ? 200 : 500 }) });
    const { server, say } = await serverWith(t, [hook(stub.url)]);
    await say('private-a', 1);
    await stub.requests.take(1);
    await server.reload({ apps: [appWith([hook(stub.url)], { secret: 'another' })] });
    await say('private-a', 2);
    await stub.requests.take(2);
    open = true;
    await untilNumber(stub, 'private-a', 2);
    for (const request of stub.requests.all) {
      const secret = numbers([request], 'private-a').includes(1) ? APP.secret : 'another';
      assert.equal(request.headers['x-pusher-signature'], hmac(secret, request.body));
    }
  });

  test('has_a_webhook_that_was_removed_called_no_more_and_the_others_keep_what_waits', async (t) => {
    let open = false;
    const stub = await httpStub(t, { answer: () => ({ status: open ? 200 : 500 }) });
    const [removed, kept] = ['removed', 'kept'].map((name) => hook(`${stub.url}/${name}`));
    const { server, say } = await serverWith(t, [removed, kept]);
    await say('private-a', 1);
    await stub.requests.next(({ path: at }) => at === '/removed');
    await server.reload({ apps: [appWith([kept])] });
    await server.waitForLog(/^app "app-id": a webhook was removed, and 1 events for it are dropped/);
    await say('private-a', 2); // behind the change
    open = true;
    await stub.requests.next((request) => request.path === '/kept' && numbers([request], 'private-a').includes(2));
    const before = stub.requests.all.filter(({ path: at }) => at === '/removed').length;
    await say('private-a', 3, 20);
    await untilNumber(stub, 'private-a', 20);
    const requests = stub.requests.all.filter(({ path: at }) => at === '/kept');
    assert.deepEqual([...new Set(numbers(requests, 'private-a'))], upTo(20));
    assert.equal(stub.requests.all.filter(({ path: at }) => at === '/removed').length, before);
  });
});

describe('who is called', () => {
  test('is_nobody_whose_certificate_does_not_hold', async (t) => {
    const files = makeCertificates(folderWith(t));
    const requests = [];
    const server = https.createServer(
      { key: readFileSync(files.key), cert: readFileSync(files.certificate) },
      (request) => requests.push(request),
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const { server: curlew, say } = await serverWith(t, [hook(`https://localhost:${server.address().port}/`)], {
      settings: { retry: { enabled: false } },
    });
    await say('private-a', 1);
    await curlew.waitForLog(/webhooks\[0\]: 1 events are dropped after 1 attempts.*certificate/);
    assert.deepEqual(requests, []);
  });

  test('is_no_address_of_a_denied_network', async (t) => {
    const stub = await httpStub(t, { answer: () => ({}) });
    const { server, say } = await serverWith(t, [hook(stub.url.replace('127.0.0.1', 'localhost'))], {
      settings: { denied_networks: ['127.0.0.0/8', '::1'], retry: { enabled: false } },
    });
    await say('private-a', 1);
    await server.waitForLog(/webhooks\[0\]: .*the address (127\.0\.0\.1|::1) is not called/);
    assert.equal(stub.requests.all.length, 0);
  });

  test('is_nobody_with_queue_driver_none', async (t) => {
    const stub = await httpStub(t, { answer: () => ({}) });
    const { server, client, say } = await serverWith(t, [hook(stub.url)], { config: { queue: { driver: 'none' } } });
    await say('private-a', 1, 5);
    client.destroy();
    const threads = readdirSync(`/proc/${server.pid}/task`).map((id) =>
      readFileSync(`/proc/${server.pid}/task/${id}/comm`, 'utf8').trim(),
    );
    assert.ok(!threads.includes('webhooks'), threads.join());
    await server.stop();
    assert.equal(stub.requests.all.length, 0);
  });
});

test('credentials_that_take_long_delay_only_the_lambda_function', async (t) => {
  let answerKeys;
  const agent = await httpStub(t, {
    answer: () =>
      new Promise((resolve) => {
        answerKeys = () =>
          resolve({ body: { AccessKeyId: 'AKAGENT', SecretAccessKey: 'agent/secret', Token: 'to/ken' } });
      }),
  });
  const lambda = await httpStub(t, { answer: () => ({ status: 202 }) });
  const stub = await httpStub(t, { answer: () => ({}) });
  const webhooks = [
    { lambda: { function_name: 'f', region: 'eu-west-1' }, event_types: ['client_event'] },
    hook(stub.url),
  ];
  const { say } = await serverWith(t, webhooks, {
    env: {
      HOME: folderWith(t),
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: agent.url,
      AWS_ENDPOINT_URL_LAMBDA: lambda.url,
    },
    binary: THREADS_BINARY,
  });
  await say('private-a', 1, 3);
  await untilNumber(stub, 'private-a', 3);
  await agent.requests.next();
  await say('private-a', 4);
  await untilNumber(stub, 'private-a', 4);
  assert.equal(lambda.requests.all.length, 0);
  answerKeys();
  await untilNumber(lambda, 'private-a', 4);
  assert.deepEqual(numbers(lambda.requests.all, 'private-a'), upTo(4));
  assert.equal(agent.requests.all.length, 1);
  for (const request of lambda.requests.all) {
    const keys = { accessKeyId: 'AKAGENT', secretAccessKey: 'agent/secret', sessionToken: 'to/ken' };
    assert.equal(
      request.headers.authorization,
      await signatureOf(request, { service: 'lambda', region: 'eu-west-1', ...keys }),
    );
  }
});

describe('at the shutdown', () => {
  test('what_waits_for_its_batch_or_its_next_attempt_is_delivered', async (t) => {
    let open = false;
    const stub = await httpStub(t, { answer: ({ path: at }) => ({ status: open || at === '/wait' ? 200 : 500 }) });
    const { server, client, say } = await serverWith(t, [hook(`${stub.url}/wait`), hook(`${stub.url}/retry`)], {
      settings: {
        batching: { duration: 3600000, size: 5 },
        retry: { initial_backoff_ms: 3600000, max_elapsed_time_ms: 3600000 },
      },
    });
    await say('private-a', 1, 7);
    await stub.requests.next(({ path: at }) => at === '/retry');
    open = true;
    client.destroy();
    await server.stop();
    for (const at of ['/wait', '/retry']) {
      const requests = stub.requests.all.filter((request) => request.path === at);
      assert.deepEqual([...new Set(numbers(requests, 'private-a'))], upTo(7));
    }
  });

  test('an_endpoint_that_hangs_does_not_keep_the_process', async (t) => {
    const stub = await httpStub(t, { answer: () => new Promise(() => {}) });
    const { server, client, say } = await serverWith(t, [hook(stub.url)]);
    await say('private-a', 1);
    await stub.requests.next();
    client.destroy();
    await within(server.stop(), 'the server to end');
    await server.waitForLog(/^1 events of webhooks could not be delivered in time and are lost/);
  });
});
