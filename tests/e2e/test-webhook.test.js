// `curlew apps test-webhook`: what it sends to each webhook, and what it says about the answer.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';

import { apps } from '../lib/apps-command.js';
import { signatureOf } from '../lib/aws-signature.js';
import { httpStub } from '../lib/http-stub.js';
import { folderWith } from '../lib/process.js';
import { APP } from '../lib/server.js';
import { hmac } from '../lib/sign.js';

const ALL_EVENTS = {
  channel_occupied: ['channel'],
  channel_vacated: ['channel'],
  member_added: ['channel', 'user_id'],
  member_removed: ['channel', 'user_id'],
  client_event: ['channel', 'event', 'data', 'socket_id', 'user_id'],
  cache_miss: ['channel', 'data'],
  subscription_count: ['channel', 'subscription_count'],
};

// Runs the command for an app with these webhooks; `settings` are members of `webhooks` in the configuration.
function testWebhook(t, webhooks, args = [], { settings = {}, env = {} } = {}) {
  const folder = folderWith(t, {
    'config.json': { app_manager: { array: { apps: [{ ...APP, webhooks }] } }, webhooks: settings },
  });
  return apps(t, ['test-webhook', APP.id, '-c', path.join(folder, 'config.json'), ...args], {
    env: { HOME: folder, AWS_EC2_METADATA_DISABLED: 'true', ...env },
  });
}

async function assertRefused(t, words, ...parameters) {
  const result = await testWebhook(t, ...parameters);
  assert.equal(result.code, 1, result.stdout + result.stderr);
  assert.match(result.stderr, words);
  return result;
}

test('each_webhook_gets_an_event_that_it_takes_with_signature_and_headers', async (t) => {
  const stub = await httpStub(t, { answer: ({ path: at }) => ({ status: 200, body: `Hello from ${at}\u0007` }) });
  const webhooks = [
    {
      url: `${stub.url}/one?token=hidden`,
      event_types: ['member_added', 'cache_miss'],
      headers: { 'X-Mine': 'ü', Empty: '' },
    },
    { url: `${stub.url.replace('//', '//me:pass@')}/two`, event_types: ['cache_miss'] },
  ];
  const { code, stdout, stderr } = await testWebhook(t, webhooks);
  assert.equal(code, 0, stderr);
  assert.match(
    stdout,
    /^webhooks\[0\] http:\S+\/one: member_added: status 200 in \d+ ms\n {2}Hello from \/one\?token=hidden\\u0007$/m,
  );
  assert.match(stdout, /^webhooks\[1\] http:\/\/127\.0\.0\.1:\d+\/two: cache_miss: status 200/m);
  assert.doesNotMatch(stdout, /pass|app-secret/);
  const [one, two] = stub.requests.all;
  for (const { method, headers, body } of [one, two]) {
    assert.equal(method, 'POST');
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['x-pusher-key'], APP.key);
    assert.equal(headers['x-pusher-signature'], hmac(APP.secret, body));
    assert.ok(Math.abs(Date.now() - JSON.parse(body).time_ms) < 600_000);
  }
  assert.equal(Buffer.from(one.headers['x-mine'], 'latin1').toString(), 'ü');
  assert.equal(one.headers.empty, '');
  assert.equal(two.headers.authorization, `Basic ${Buffer.from('me:pass').toString('base64')}`);
});

test('every_event_can_be_sent_to_one_webhook', async (t) => {
  const stub = await httpStub(t, { answer: () => ({}) });
  const webhooks = [
    { url: `${stub.url}/other`, event_types: Object.keys(ALL_EVENTS) },
    { url: `${stub.url}/this`, event_types: Object.keys(ALL_EVENTS) },
  ];
  for (const [name, fields] of Object.entries(ALL_EVENTS)) {
    const { code, stdout, stderr } = await testWebhook(t, webhooks, ['--webhook', '1', '--event', name, '--json']);
    assert.equal(code, 0, stderr);
    const [result, ...more] = JSON.parse(stdout).webhooks;
    assert.deepEqual(more, []);
    assert.deepEqual(
      { ...result, time_ms: 0 },
      { webhook: 1, target: `${stub.url}/this`, event: name, delivered: true, status: 200, time_ms: 0 },
    );
    const request = await stub.requests.next();
    assert.equal(request.path, '/this');
    const [event] = JSON.parse(request.body).events;
    assert.deepEqual(Object.keys(event).sort(), ['name', ...fields].sort());
    assert.equal(event.name, name);
  }
});

describe('an error says what was wrong:', () => {
  const hook = (url) => [{ url, event_types: ['channel_occupied'] }];

  test('a status, and the beginning of the body', async (t) => {
    const stub = await httpStub(t, { answer: () => ({ status: 500, body: 'x'.repeat(50_000) }) });
    const { stdout } = await assertRefused(
      t,
      /webhooks\[0\] did not accept the event: the answer has the status 500/,
      hook(stub.url),
    );
    assert.match(stdout, /^ {2}x{1000}$/m);
  });

  test('a redirect, which is not followed', async (t) => {
    const stub = await httpStub(t, { answer: () => ({ status: 302, headers: { location: '/elsewhere' } }) });
    await assertRefused(t, /status 302; redirects are not followed/, hook(stub.url));
    assert.equal(stub.requests.all.length, 1);
  });

  test('nobody listens', async (t) => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await assertRefused(t, /Failed to connect to 127\.0\.0\.1 port \d+/, hook(`http://127.0.0.1:${port}/`));
  });

  test('no answer in time', async (t) => {
    const stub = await httpStub(t, { answer: () => new Promise(() => {}) });
    await assertRefused(t, /no answer within 300 ms/, hook(stub.url), [], { settings: { request_timeout_ms: 300 } });
  });

  test('an address in a denied network, by its name too', async (t) => {
    const settings = { denied_networks: ['127.0.0.0/8', '::1'] };
    const words = /the address (127\.0\.0\.1|::1) is not called: .*webhooks\.denied_networks/;
    await assertRefused(t, words, hook('http://127.0.0.1:9/'), [], { settings });
    await assertRefused(t, words, hook('http://localhost:9/'), [], { settings });
    await assertRefused(t, /the address 0\.0\.0\.0 is not called/, hook('http://0:9/'), [], { settings });
  });

  test('the metadata service of the machine', async (t) => {
    for (const url of ['http://169.254.169.254/', 'http://[::ffff:169.254.169.254]/', 'http://[fd00:ec2::254]/']) {
      await assertRefused(t, /is not called: it belongs to a metadata service/, hook(url));
    }
  });

  test('the number, the event, or that there is nothing to test', async (t) => {
    const url = 'http://127.0.0.1:9/';
    await assertRefused(t, /no webhooks/, []);
    await assertRefused(t, /has the webhooks 0 to 0/, hook(url), ['--webhook', '1']);
    await assertRefused(t, /has member_added in its event_types/, hook(url), ['--event', 'member_added']);
    const { code, stderr } = await testWebhook(t, hook(url), ['--event', 'member_aded']);
    assert.equal(code, 2);
    assert.match(stderr, /there is no webhook event member_aded; did you mean member_added\?/);
  });
});

describe('a Lambda function', () => {
  const KEYS = { AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE', AWS_SECRET_ACCESS_KEY: 'a/secret+key' };
  const lambda = (name, region) => [
    {
      lambda: { function_name: name, ...(region && { region }) },
      event_types: ['cache_miss'],
      headers: { 'X-Mine': 'a' },
    },
  ];

  for (const [name, region, token] of [
    ['hook', undefined, undefined],
    ['hook:live', 'eu-west-1', 'token/with+signs=='],
    ['arn:aws:lambda:eu-west-1:123456789012:function:hook', 'eu-west-1', undefined],
  ]) {
    test(`is invoked as an event, signed as AWS's own library signs it: ${name}`, async (t) => {
      const stub = await httpStub(t, { answer: () => ({ status: 202 }) });
      const env = { ...KEYS, AWS_ENDPOINT_URL_LAMBDA: `${stub.url}/`, ...(token && { AWS_SESSION_TOKEN: token }) };
      const { code, stdout, stderr } = await testWebhook(t, lambda(name, region), [], { env });
      assert.equal(code, 0, stderr);
      assert.ok(stdout.startsWith(`webhooks[0] Lambda function ${name}: cache_miss: status 202`), stdout);
      const [request] = stub.requests.all;
      assert.equal(request.method, 'POST');
      assert.equal(request.path, `/2015-03-31/functions/${encodeURIComponent(name)}/invocations`);
      assert.equal(request.headers['x-amz-invocation-type'], 'Event');
      assert.equal(request.headers['x-amz-security-token'], token);
      assert.equal(request.headers['x-mine'], undefined);
      assert.deepEqual(Object.keys(JSON.parse(request.body)), ['time_ms', 'events']);
      assert.equal(
        request.headers.authorization,
        await signatureOf(request, {
          service: 'lambda',
          region: region ?? 'us-east-1',
          accessKeyId: KEYS.AWS_ACCESS_KEY_ID,
          secretAccessKey: KEYS.AWS_SECRET_ACCESS_KEY,
          sessionToken: token,
        }),
      );
    });
  }

  test('without credentials, or with what is no region, is not invoked', async (t) => {
    await assertRefused(t, /AWS/, lambda('hook'));
    await assertRefused(t, /"a\.example\/#" is not a region/, lambda('hook', 'a.example/#'), [], { env: KEYS });
  });
});
