// OPTIONS and the Access-Control headers follow the `cors` section of the configuration.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, request } from '../lib/api.js';
import { serverFor, sharedServer } from '../lib/server.js';

const PAGE = 'https://page.example';
const LISTED = ['https://page.example', 'http://localhost:3000'];

function preflight(server, origin, path = '/apps/app-id/events') {
  const headers = { 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'content-type' };
  return request(server.url + path, {
    method: 'OPTIONS',
    headers: origin === undefined ? headers : { ...headers, Origin: origin },
  });
}

function assertPreflight(response, methods, allowedHeaders) {
  assert.ok([200, 204].includes(response.status), `${response.status} ${response.body}`);
  const list = (name) =>
    (response.headers[name] ?? '')
      .split(/\s*,\s*/)
      .map((item) => item.toLowerCase())
      .sort();
  assert.deepEqual(list('access-control-allow-methods'), methods.map((item) => item.toLowerCase()).sort());
  assert.deepEqual(list('access-control-allow-headers'), allowedHeaders.map((item) => item.toLowerCase()).sort());
}

// What browsers refuse, no answer may hold: every origin together with credentials.
function assertNeverBoth({ headers }) {
  assert.ok(
    !(headers['access-control-allow-origin'] === '*' && 'access-control-allow-credentials' in headers),
    JSON.stringify(headers),
  );
}

describe('by default', async () => {
  const server = await sharedServer();

  test('every origin is allowed, without credentials', async () => {
    const response = await preflight(server, PAGE);
    assertPreflight(
      response,
      ['GET', 'POST', 'OPTIONS'],
      ['Authorization', 'Content-Type', 'X-Requested-With', 'Accept'],
    );
    assert.equal(response.headers['access-control-allow-origin'], '*');
    assertNeverBoth(response);
  });

  test('answers of the API are open to every origin', async () => {
    for (const response of [
      await api(server, 'GET', '/channels', { headers: { Origin: PAGE } }),
      await request(`${server.url}/up`, { headers: { Origin: PAGE } }),
    ]) {
      assert.equal(response.status, 200);
      assert.equal(response.headers['access-control-allow-origin'], '*');
      assertNeverBoth(response);
    }
  });

  test('OPTIONS needs no signature, on any route', async () => {
    for (const path of [
      '/apps/app-id/channels',
      '/apps/app-id/batch_events',
      '/apps/app-id/users/1/terminate_connections',
      '/up',
      '/usage',
    ]) {
      const response = await preflight(server, PAGE, path);
      assert.ok([200, 204].includes(response.status), `${path}: ${response.status}`);
      assert.equal(response.headers['access-control-allow-origin'], '*');
    }
  });
});

describe('with a list of origins', async () => {
  const server = await sharedServer({
    config: { cors: { origin: LISTED, methods: ['GET', 'POST'], allowed_headers: ['X-Own'], credentials: true } },
  });

  test('a listed one is named, with credentials', async () => {
    for (const origin of LISTED) {
      const response = await preflight(server, origin);
      assertPreflight(response, ['GET', 'POST'], ['X-Own']);
      assert.equal(response.headers['access-control-allow-origin'], origin);
      assert.equal(response.headers['access-control-allow-credentials'], 'true');
      assert.match(response.headers.vary ?? '', /\borigin\b/i);
      const answer = await api(server, 'GET', '/channels', { headers: { Origin: origin } });
      assert.equal(answer.headers['access-control-allow-origin'], origin);
      assert.equal(answer.headers['access-control-allow-credentials'], 'true');
    }
  });

  test('another one, or none, is allowed nothing', async () => {
    for (const origin of [
      'https://other.example',
      'http://page.example',
      'https://page.example:8443',
      'https://page.example.evil.example',
      'null',
    ]) {
      for (const response of [
        await preflight(server, origin),
        await api(server, 'GET', '/channels', { headers: { Origin: origin } }),
      ]) {
        assert.equal(response.headers['access-control-allow-origin'], undefined, origin);
        assert.equal(response.headers['access-control-allow-credentials'], undefined, origin);
      }
    }
    const response = await api(server, 'GET', '/channels');
    assert.equal(response.status, 200);
    assert.equal(response.headers['access-control-allow-origin'], undefined);
  });
});

test('credentials can be turned off', async (t) => {
  const server = await serverFor(t, { config: { cors: { origin: LISTED, credentials: false } } });
  const response = await preflight(server, PAGE);
  assert.equal(response.headers['access-control-allow-origin'], PAGE);
  assert.equal(response.headers['access-control-allow-credentials'], undefined);
});

test('* among others allows every origin, and never together with credentials', async (t) => {
  const server = await serverFor(t, { config: { cors: { origin: [PAGE, '*'], credentials: true } } });
  for (const origin of [PAGE, 'https://other.example']) {
    const response = await preflight(server, origin);
    assert.ok(
      ['*', origin].includes(response.headers['access-control-allow-origin']),
      JSON.stringify(response.headers),
    );
    assertNeverBoth(response);
  }
});

test('the environment sets the list', async (t) => {
  const env = { CORS_ORIGINS: LISTED.join(','), CORS_METHODS: 'POST', CORS_HEADERS: 'X-Env', CORS_CREDENTIALS: 'no' };
  const server = await serverFor(t, { env });
  const response = await preflight(server, LISTED[1]);
  assertPreflight(response, ['POST'], ['X-Env']);
  assert.equal(response.headers['access-control-allow-origin'], LISTED[1]);
  assert.equal(response.headers['access-control-allow-credentials'], undefined);
});
