// max_read_requests_per_second and max_backend_events_per_second: what costs how much, and the answer to what is over.
//
// Tokens come back with time, and no test knows how fast the machine is. So each one compares with the time that it
// took, or repeats until the machine was fast enough.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { assertRefusal, subscriber } from '../lib/events.js';
import { matching } from '../lib/inbox.js';
import { LIVE_APPS } from '../lib/live-apps.js';
import { eventually } from '../lib/metrics.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor, sharedServer, THREADS_BINARY } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const limited = (id, limits) => ({ ...APP, id, key: `${id}-key`, ...limits });
// Apps with full buckets, by their limits.
const APPS = Object.fromEntries(
  [1, 3, 10].map((perSecond) => [
    perSecond,
    Array.from({ length: 100 }, (_, i) =>
      limited(`${perSecond}-${i}`, {
        max_backend_events_per_second: perSecond,
        max_read_requests_per_second: perSecond,
      }),
    ),
  ]),
);
const server = await sharedServer({ apps: Object.values(APPS).flat() });
const EVENTS = APPS[10].pop();

const names = (count) => Array.from({ length: count }, (_, i) => `c-${i}`);
const toChannels = (count, change) => ({ name: 'e', channels: names(count), data: 'x', ...change });
const post = (body, app, options) => api(server, 'POST', '/events', { app, body, ...options });
const postBatch = (count, app) =>
  api(server, 'POST', '/batch_events', {
    app,
    body: { batch: names(count).map((channel) => ({ name: 'e', channel, data: 'x' })) },
  });
const read = (app, where = '/channels') => api(server, 'GET', where, { app });

// Runs the steps with an app whose bucket is full, again with the next app until they took so little time that no token
// can have come back, and returns what they return. The app has `perSecond` of both limits.
async function withoutRefill(perSecond, steps) {
  for (;;) {
    const app = APPS[perSecond].shift();
    assert.ok(app, 'this machine is too slow for the test');
    const began = performance.now();
    const result = await steps(app);
    if (performance.now() - began < 1000 / perSecond) return result;
  }
}

function assertOverRate(response, { limit, remaining, retry = '1' }, ...patterns) {
  assertRefusal(response, 429, new RegExp(`per_second of this app is ${limit}\\b`), ...patterns);
  const { headers } = response;
  assert.equal(headers['retry-after'], retry);
  assert.equal(headers['x-ratelimit-limit'], String(limit));
  assert.equal(headers['x-ratelimit-remaining'], String(remaining));
  assert.match(headers['x-ratelimit-reset'], /^[01]$/);
}

function assertAccepted(response) {
  assert.equal(response.status, 200, response.body);
  for (const name of Object.keys(response.headers)) assert.doesNotMatch(name, /ratelimit|retry-after/);
}

describe('max_backend_events_per_second', () => {
  test('an event costs one for each channel, and a batch the sum, all or nothing', async (t) => {
    const [ws, first, event, batch, rest, app] = await withoutRefill(10, async (tried) => [
      await subscriber(server, t, 'c-3', { app: tried }),
      await post(toChannels(7), tried),
      await post(toChannels(4), tried),
      await postBatch(4, tried),
      await postBatch(3, tried),
      tried,
    ]);
    assertAccepted(first);
    assertOverRate(event, { limit: 10, remaining: 3 }, /publishes 4/);
    assertOverRate(batch, { limit: 10, remaining: 3 }, /publishes 4/);
    assertAccepted(rest);
    // What was refused reached nobody: a last event shows it.
    while ((await post({ name: 'last', channel: 'c-3', data: 'x' }, app)).status !== 200);
    const heard = await ws.inbox.through(matching({ event: 'last', channel: 'c-3' }));
    assert.deepEqual(
      heard.map(({ event: name }) => name),
      ['e', 'last'],
    );
  });

  test('a channel that is named twice costs once', async () => {
    const [response, over] = await withoutRefill(10, async (app) => [
      await post(toChannels(10, { channels: [...names(10), 'c-0', 'c-1'] }), app),
      await post(toChannels(1), app),
    ]);
    assertAccepted(response);
    assertOverRate(over, { limit: 10, remaining: 0 });
  });

  test('what is over the limit in itself is told that, and not to come again', async () => {
    for (const response of [await post(toChannels(11), EVENTS), await postBatch(12, EVENTS)]) {
      assertRefusal(response, 429, /publishes 1[12] events/, /max_backend_events_per_second of this app is 10\b/);
      assert.equal(response.headers['retry-after'], undefined);
      assert.equal(response.headers['x-ratelimit-limit'], '10');
    }
  });

  test('a request that is refused for another reason costs nothing', async () => {
    const answers = await withoutRefill(10, async (app) => {
      for (const body of [toChannels(3, { name: '' }), '{', toChannels(3, { data: 'x'.repeat(110_000) })])
        assert.ok([400, 413].includes((await post(body, app)).status));
      assert.equal((await post(toChannels(5), app, { signAs: { secret: 'wrong' } })).status, 401);
      assert.equal((await post(toChannels(11), app)).status, 429);
      return [await post(toChannels(10), app), await post(toChannels(1, { name: '' }), app)];
    });
    assertAccepted(answers[0]);
    assertOverRate(answers[1], { limit: 10, remaining: 0 }); // before the body is looked at
  });

  test('one token has to be there when the head is complete: nothing is read without', async (t) => {
    const body = JSON.stringify(toChannels(1));
    for (const expect of ['', 'Expect: 100-continue\r\n']) {
      const [spent, answer, closed] = await withoutRefill(1, async (app) => {
        const spending = await post(toChannels(1), app);
        const http = await RawHttp.connect(server);
        t.after(() => http.destroy());
        const target = signedPath(app, 'POST', `/apps/${app.id}/events`, { body });
        http.write(`POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n${expect}\r\n`, {
          method: 'POST',
        });
        return [spending, await http.next(), http.closed()];
      });
      assertAccepted(spent);
      assert.equal(answer.status, 429, answer.text);
      assert.equal(answer.headers.connection, 'close');
      await closed;
    }
  });

  test('what else the head decides is decided before the body, too', async (t) => {
    const body = JSON.stringify(toChannels(1));
    for (const [status, app, target] of [
      [404, { ...EVENTS, id: 'none' }],
      [401, { ...EVENTS, secret: 'wrong' }],
      [404, EVENTS, `/apps/${EVENTS.id}/nothing`],
      [405, EVENTS, `/apps/${EVENTS.id}/channels`],
    ]) {
      const http = await RawHttp.connect(server);
      t.after(() => http.destroy());
      const signed = target ?? signedPath(app, 'POST', `/apps/${app.id}/events`, { body });
      http.write(`POST ${signed} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n`, { method: 'POST' });
      assert.equal((await http.next()).status, status);
      await http.closed();
    }
  });
});

describe('max_read_requests_per_second', () => {
  test('a GET or HEAD costs one; one that is refused costs nothing, and neither does a publish', async () => {
    const answers = await withoutRefill(3, async (app) => {
      for (let i = 0; i < 5; i++) assertRefusal(await read(app, '/channels/c/users'), 400);
      assertAccepted(await post(toChannels(3), app));
      return [
        await read(app),
        await api(server, 'HEAD', '/channels/c', { app }),
        await read(app, '/connections'),
        await read(app),
        await read(app, '/channels/c/users'),
      ];
    });
    for (const response of answers.slice(0, 3)) assertAccepted(response);
    for (const response of answers.slice(3))
      assertOverRate(response, { limit: 3, remaining: 0 }, /^too many requests: max_read_requests_per_second/);
  });

  test('a repeat of a publish that is answered from memory costs a read, and comes before the other limit', async () => {
    const headers = { 'X-Idempotency-Key': 'key' };
    const [first, replayed, over] = await withoutRefill(1, async (app) => [
      await post(toChannels(1), app, { headers }),
      await post(toChannels(1), app, { headers }),
      await post(toChannels(1), app, { headers }),
    ]);
    assertAccepted(first);
    assertAccepted(replayed);
    assert.equal(replayed.headers['idempotency-replayed'], 'true');
    assertOverRate(over, { limit: 1, remaining: 0 }, /max_read_requests_per_second/);
  });
});

test('four workers together grant exactly the limit', async (t) => {
  const app = limited('four', { max_backend_events_per_second: 100, max_read_requests_per_second: 50 });
  const four = await serverFor(t, { apps: [app], config: { workers: 4 }, binary: THREADS_BINARY });
  const target = {
    POST: signedPath(app, 'POST', `/apps/${app.id}/events`, { body: JSON.stringify(toChannels(1)) }),
    GET: signedPath(app, 'GET', `/apps/${app.id}/channels`),
  };
  const connections = await Promise.all(Array.from({ length: 24 }, () => RawHttp.connect(four)));
  t.after(() => connections.forEach((http) => http.destroy()));
  for (const [method, limit] of [
    ['POST', 100],
    ['GET', 50],
  ]) {
    const began = performance.now();
    for (const http of connections)
      for (let i = 0; i < 10; i++)
        http.send(method, target[method], method === 'POST' ? { body: JSON.stringify(toChannels(1)) } : {});
    const answers = await Promise.all(connections.flatMap((http) => Array.from({ length: 10 }, () => http.next())));
    const elapsed = (performance.now() - began) / 1000;
    const granted = answers.filter(({ status }) => status === 200).length;
    assert.equal(answers.filter(({ status }) => status === 429).length, 240 - granted);
    assert.ok(granted >= limit && granted <= limit + limit * elapsed, `${method}: ${granted} in ${elapsed} s`);
  }
});

test('refusals are counted by app and reason', async () => {
  const refused = await withoutRefill(1, async (app) => {
    for (let i = 0; i < 2; i++) await post(toChannels(1), app);
    for (let i = 0; i < 2; i++) await read(app);
    return app.id;
  });
  await eventually(server, (metrics) => {
    const counted = metrics.select('refusals_total', { app_id: refused });
    assert.deepEqual(
      counted.map(({ labels, value }) => [labels.reason, value]),
      [
        ['max_read_requests_per_second', 1],
        ['max_backend_events_per_second', 1],
      ],
    );
  });
});

test('the first refusal within a minute of an app that does not set its limit is logged, with what to set', async (t) => {
  const config = { rate_limits: { max_read_requests_per_second: 1, max_backend_events_per_second: 1 } };
  const own = limited('own', { max_backend_events_per_second: 1, max_read_requests_per_second: 1 });
  const defaults = await serverFor(t, { apps: [own, APP], config });
  for (const app of [own, APP])
    for (const [method, where, body] of [
      ['GET', '/channels'],
      ['POST', '/events', toChannels(1)],
    ]) {
      let refused = 0;
      while (refused < 3) refused += (await api(defaults, method, where, { app, body })).status === 429;
    }
  await defaults.waitForLog(/set max_backend_events_per_second of the app/);
  const lines = defaults.log.all.filter(({ message }) => /are refused with 429/.test(message));
  assert.deepEqual(
    lines.map(({ level, message }) => [
      level,
      message.match(/^app "(.*?)".* set (\S+) of the app, or (\S+) /).slice(1),
    ]),
    [
      ['warn', [APP.id, 'max_read_requests_per_second', 'rate_limits.max_read_requests_per_second']],
      ['warn', [APP.id, 'max_backend_events_per_second', 'rate_limits.max_backend_events_per_second']],
    ],
  );
});

for (const [way, start] of Object.entries(LIVE_APPS)) {
  test(`a changed limit is in force at once, and gives no tokens: ${way}`, async (t) => {
    const { server: live, change } = await start(t, limited('live', { max_backend_events_per_second: 20 }));
    const app = limited('live');
    const publish = (count) => api(live, 'POST', '/events', { app, body: toChannels(count) });
    assertAccepted(await publish(20));
    assertRefusal(await publish(30), 429, /is 20\b/);
    await change({ max_backend_events_per_second: 40 });
    assertRefusal(await publish(41), 429, /is 40\b/);
    await change({ max_backend_events_per_second: 0 });
    for (let i = 0; i < 3; i++) assertAccepted(await publish(60));
    await change({ max_backend_events_per_second: 2 });
    assertRefusal(await publish(3), 429, /is 2\b/);
    // Turning it off and on again fills nothing.
    for (;;) {
      while ((await publish(2)).status !== 200);
      const began = performance.now();
      await change({ max_backend_events_per_second: 0 });
      await change({ max_backend_events_per_second: 2 });
      const response = await publish(2);
      if (performance.now() - began >= 1000) continue;
      assert.equal(response.status, 429, response.body);
      return;
    }
  });
}
