// What the head of a request decides is answered before its body is read, and before `100 Continue`: no body is sent
// here, so an answer that waits for one would never come.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { RawHttp } from '../lib/raw-http.js';
import { APP, serverFor } from '../lib/server.js';
import { md5, signedPath } from '../lib/sign.js';

const DISABLED = { ...APP, id: 'disabled', key: 'disabled-key', enabled: false };
const TOKEN = 'a token of at least thirty-two characters';
const MIB = 1024 * 1024;
const target = (body, { app = APP, path = '/events', ...signing } = {}) =>
  signedPath(app, 'POST', `/apps/${app.id}${path}`, { body, ...signing });
const NO_DIGEST = { auth: { body_md5: undefined } };

async function begin(t, server, method, path, headers) {
  const http = await RawHttp.connect(server);
  t.after(() => http.destroy());
  http.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`, {
    method,
  });
  return http;
}

// Insists on one answer, without `100 Continue` before it, and on the end of the connection.
async function refused(t, server, [method, path, ...headers], status) {
  for (const expect of [[], ['Expect: 100-continue']]) {
    const http = await begin(t, server, method, path, [...headers, ...expect]);
    const answer = await http.next();
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.headers.connection, 'close');
    await http.closed();
  }
}

const LENGTH = 'Content-Length: 100000';
const CHUNKED = 'Transfer-Encoding: chunked';

describe('the API', async () => {
  const server = await serverFor(
    { after: () => {} },
    { apps: [APP, DISABLED], config: { http_api: { request_limit_in_mb: 1 } } },
  );
  for (const [what, status, path, length = LENGTH] of [
    ['an app that is not there: 404', 404, target('x', { app: { ...APP, id: 'nobody' } })],
    ['a path that is not there: 404', 404, target('x', { path: '/nothing' })],
    ['a method that the path does not take: 405', 405, target('x', { path: '/channels' })],
    ['no signature: 401', 401, `/apps/${APP.id}/events`],
    ['a wrong signature: 401', 401, target('x', { app: { ...APP, secret: 'wrong' } })],
    ['a disabled app: 403', 403, target('x', { app: DISABLED })],
    ['no digest of the body: 401', 401, target('x', NO_DIGEST)],
    ['no digest of a body in chunks: 401', 401, target('x', NO_DIGEST), CHUNKED],
    ['a body over the limit: 413', 413, target('x'), `Content-Length: ${MIB + 1}`],
    ['a path for everybody that takes no body: 413', 413, '/up'],
  ])
    test(what, (t) => refused(t, server, [path === '/up' ? 'GET' : 'POST', path, length], status));
  test.after(() => server.stop());

  test('a length that is no number is 400', (t) => refused(t, server, ['POST', target('x'), 'Content-Length: x'], 400));

  test('an address over its limit: 429', async (t) => {
    const limited = await serverFor(t, {
      config: { rate_limiter: { enabled: true, api_rate_limit: { max_requests: 1, window_seconds: 3600 } } },
    });
    const first = await begin(t, limited, 'GET', `/up/${APP.id}`, []);
    assert.equal((await first.next()).status, 200);
    for (let i = 0; i < 2; i++) await refused(t, limited, ['POST', target('x'), LENGTH], 429);
  });

  test('what the head allows is asked for with 100 Continue, and its digest is checked however it comes', async (t) => {
    const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x'.repeat(5000) });
    for (const [status, digest] of [
      [200, md5(body)],
      [401, md5('another')],
    ])
      for (const pieces of [1, 2, 50]) {
        const path = target(body, { signAs: { query: { body_md5: digest } } });
        const http = await begin(t, server, 'POST', path, [`Content-Length: ${body.length}`, 'Expect: 100-continue']);
        assert.equal((await http.next()).status, 100);
        const size = Math.ceil(body.length / pieces);
        for (let at = 0; at < body.length; at += size) {
          http.write(body.slice(at, at + size));
          await new Promise((resolve) => setImmediate(resolve));
        }
        const answer = await http.next();
        assert.equal(answer.status, status, answer.text);
        assert.equal(answer.headers.connection, 'keep-alive');
      }
  });

  test('chunks over the limit are 413 before the last one', async (t) => {
    const http = await begin(t, server, 'POST', target('x'), [CHUNKED]);
    http.socket.on('error', () => {});
    for (let i = 0; i < 17; i++) http.write(`10000\r\n${'x'.repeat(65536)}\r\n`);
    assert.equal((await http.next()).status, 413);
    await http.closed();
  });
});

test('the admin API wants its token before a body', async (t) => {
  const server = await serverFor(t, {
    apps: [],
    config: { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: 'apps.db' } } },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  const [, port] = (await server.waitForLog(/^admin API on /)).message.match(/:(\d+)/);
  const admin = { host: '127.0.0.1', port: Number(port) };
  const bearer = `Authorization: Bearer ${TOKEN}`;
  for (const [method, path] of [
    ['POST', '/admin/apps'],
    ['PUT', '/admin/apps/1'],
    ['PUT', '/admin/log-level'],
  ]) {
    await refused(t, admin, [method, path, LENGTH], 401);
    await refused(t, admin, [method, path, LENGTH, 'Authorization: Bearer wrong'], 401);
    await refused(t, admin, [method, path, CHUNKED], 401);
    await refused(t, admin, [method, path, `Content-Length: ${2 * MIB}`], 401);
    const allowed = await begin(t, admin, method, path, [bearer, LENGTH, 'Expect: 100-continue']);
    assert.equal((await allowed.next()).status, 100, `${method} ${path}`);
  }
  await refused(t, admin, ['POST', '/admin/apps', bearer, `Content-Length: ${2 * MIB}`], 413);
  await refused(t, admin, ['POST', '/admin/nothing', LENGTH], 404);
});
