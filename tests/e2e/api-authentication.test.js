// Who may use the HTTP API: each parameter of the signature, and how the server reads what was signed.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { api, request } from '../lib/api.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';
import { hmac, md5, signedPath } from '../lib/sign.js';

const OTHER = { id: 'other-id', key: 'other-key', secret: 'other-secret' };
const server = await sharedServer({ apps: [APP, OTHER] });

const EVENT = JSON.stringify({ name: 'e', channel: 'c', data: '{}' });
const now = () => Math.floor(Date.now() / 1000);

// A refusal says what is wrong, and gives away neither the secret nor the signature that would have been right.
function assertRefused(response, what) {
  assert.equal(response.status, 401, response.body);
  assert.equal(typeof response.json?.error, 'string', `no error text in ${response.body}`);
  assert.match(response.json.error, what);
  assert.ok(!response.body.includes(APP.secret), response.body);
  assert.doesNotMatch(response.body, /[0-9a-f]{64}/i, 'a signature in the answer');
}

// Sends `wire` as the query, signed over the pairs as the client means them.
function sendSigned(method, path, wire, meant, { signedAs = path, body } = {}) {
  const pairs = [...meant, `auth_key=${APP.key}`, `auth_timestamp=${now()}`, 'auth_version=1.0'];
  const auth = pairs.slice(meant.length).join('&');
  const text = `${method}\n${signedAs}\n${pairs.sort().join('&')}`;
  const query = [auth, wire, `auth_signature=${hmac(APP.secret, text)}`].filter((part) => part !== '').join('&');
  return request(`${server.url}${path}?${query}`, { method, body });
}

describe('each parameter of the signature', () => {
  test('a signed request is accepted', async () => {
    const response = await api(server, 'POST', '/events', { body: EVENT });
    assert.equal(response.status, 200, response.body);
    assert.equal(response.body, '{}');
    assert.match(response.headers['content-type'], /^application\/json/);
  });

  for (const name of ['auth_key', 'auth_timestamp', 'auth_version', 'auth_signature', 'body_md5']) {
    test(`a request without ${name} is refused with a text that names it`, async () => {
      assertRefused(
        await api(server, 'POST', '/events', { body: EVENT, auth: { [name]: undefined } }),
        new RegExp(name),
      );
    });
  }

  test('a request without any query is refused', async () => {
    assertRefused(await request(`${server.url}/apps/${APP.id}/channels`), /auth_/);
    assertRefused(await request(`${server.url}/apps/${APP.id}/events`, { method: 'POST', body: EVENT }), /auth_/);
  });

  test('a timestamp 601 seconds old or ahead is refused, one within 600 is not', async () => {
    assertRefused(await api(server, 'POST', '/events', { body: EVENT, now: now() - 601 }), /auth_timestamp.*600/);
    // Not 601 ahead: the clock may tick before the server looks.
    assertRefused(await api(server, 'POST', '/events', { body: EVENT, now: now() + 660 }), /auth_timestamp.*600/);
    assert.equal((await api(server, 'POST', '/events', { body: EVENT, now: now() - 560 })).status, 200);
    assert.equal((await api(server, 'POST', '/events', { body: EVENT, now: now() + 600 })).status, 200);
  });

  for (const stamp of ['', 'soon', '-1', '1.5e9', `${now()}x`, '99999999999999999999999999']) {
    test(`a timestamp that is no time is refused: "${stamp}"`, async () => {
      assertRefused(await api(server, 'GET', '/channels', { now: stamp }), /auth_timestamp/);
    });
  }

  test('another version than 1.0 is refused', async () => {
    for (const version of ['1.1', '2.0', '1', '']) {
      assertRefused(
        await api(server, 'GET', '/channels', { signAs: { query: { auth_version: version } } }),
        /auth_version/,
      );
    }
  });

  test('a body other than the one that body_md5 digests is refused', async () => {
    assertRefused(await api(server, 'POST', '/events', { body: EVENT, signAs: { body: `${EVENT} ` } }), /body_md5/);
    const noDigest = { signAs: { query: { body_md5: 'd41d8cd98f00b204e9800998ecf8427e' } } };
    assertRefused(await api(server, 'POST', '/events', { body: EVENT, ...noDigest }), /body_md5/);
  });

  test('a wrong signature is refused: another secret, method, path, query or digest', async () => {
    for (const signAs of [{ secret: 'wrong' }, { method: 'GET' }, { path: `/apps/${OTHER.id}/events` }]) {
      assertRefused(await api(server, 'POST', '/events', { body: EVENT, signAs }), /signature/);
    }
    const good = signedPath(APP, 'GET', `/apps/${APP.id}/channels`, { query: { info: 'user_count' } });
    for (const target of [
      good.replace('info=user_count', 'info=cache'),
      `${good}&filter_by_prefix=a`,
      good.replace(/(auth_signature=.)./, '$1g'),
      good.slice(0, -1),
      `${good}0`,
    ]) {
      assertRefused(await request(server.url + target), /signature/);
    }
    for (const signature of ['', '0', '0'.repeat(64)]) {
      assertRefused(await api(server, 'GET', '/channels', { auth: { auth_signature: signature } }), /signature/);
    }
  });

  test('a key opens its own app only', async () => {
    const path = `/apps/${APP.id}/channels`;
    assertRefused(await request(server.url + signedPath(OTHER, 'GET', path)), /auth_key/);
    assertRefused(await request(server.url + signedPath({ ...APP, key: 'nobody' }, 'GET', path)), /auth_key/);
    assertRefused(await request(server.url + signedPath({ ...APP, key: 'APP-KEY' }, 'GET', path)), /auth_key/);
    assert.equal((await api(server, 'GET', '/channels', { app: OTHER })).status, 200);
  });

  test('body_md5 of an empty body may be there or not', async () => {
    const path = `/apps/${APP.id}/users/1/terminate_connections`;
    assert.equal((await request(server.url + signedPath(APP, 'POST', path), { method: 'POST' })).status, 200);
    const withDigest = signedPath(APP, 'POST', path, { query: { body_md5: md5('') } });
    assert.equal((await request(server.url + withDigest, { method: 'POST' })).status, 200);
    assert.equal((await api(server, 'GET', '/channels', { query: { body_md5: md5('') } })).status, 200);
  });
});

describe('how the query is read', () => {
  const path = `/apps/${APP.id}/channels`;

  async function assertAccepted(wire, meant) {
    const response = await sendSigned('GET', path, wire, meant);
    assert.equal(response.status, 200, `${wire}: ${response.body}`);
  }

  test('parameters may stand in any order', async () => {
    const target = signedPath(APP, 'GET', path, { query: { zeta: '1', alpha: '2', info: 'subscription_count' } });
    const [bare, query] = target.split('?');
    const response = await request(`${server.url}${bare}?${query.split('&').reverse().join('&')}`);
    assert.equal(response.status, 200, response.body);
  });

  test('keys are signed in lower case, however they were sent', async () => {
    await assertAccepted('Filter_By_Prefix=Room', ['filter_by_prefix=Room']);
    const [bare, query] = signedPath(APP, 'GET', path).split('?');
    const shouting = query.replace(/auth_\w+=/g, (name) => name.toUpperCase());
    const response = await request(`${server.url}${bare}?${shouting}`);
    assert.equal(response.status, 200, response.body);
  });

  test('values are signed as the client meant them before URL encoding', async () => {
    const meant = 'a&b=c d/e?f#g;h:i@j,k"é€';
    await assertAccepted(`filter_by_prefix=${encodeURIComponent(meant)}`, [`filter_by_prefix=${meant}`]);
    await assertAccepted('filter_by_prefix=a%2fb%2Fc', ['filter_by_prefix=a/b/c']);
    await assertAccepted('filter_by_prefix=a/b?c', ['filter_by_prefix=a/b?c']);
    await assertAccepted('filter%5fby%5Fprefix=a', ['filter_by_prefix=a']);
  });

  test('a plus is a plus', async () => {
    await assertAccepted('filter_by_prefix=a+b', ['filter_by_prefix=a+b']);
    await assertAccepted('filter_by_prefix=a%2Bb', ['filter_by_prefix=a+b']);
    assertRefused(await sendSigned('GET', path, 'filter_by_prefix=a+b', ['filter_by_prefix=a b']), /signature/);
  });

  test('a % without two hex digits is itself', async () => {
    for (const text of ['100%', '%', '%%', '%4', '%zz', '%4g1']) {
      await assertAccepted(`filter_by_prefix=${text}`, [`filter_by_prefix=${text}`]);
    }
    await assertAccepted('filter_by_prefix=%%41', ['filter_by_prefix=%A']);
  });

  test('values are decoded once', async () => {
    await assertAccepted('filter_by_prefix=%2541', ['filter_by_prefix=%41']);
    assertRefused(await sendSigned('GET', path, 'filter_by_prefix=%2541', ['filter_by_prefix=A']), /signature/);
  });

  test('a parameter without a value is signed with an empty one', async () => {
    await assertAccepted('info=', ['info=']);
    await assertAccepted('info', ['info=']);
  });

  test('as many parameters as the head holds are verified', async () => {
    for (const count of [65, 500, 2000]) {
      const many = Array.from({ length: count }, (_, i) => [`p${i}`, '']);
      const response = await request(server.url + signedPath(APP, 'GET', path, { query: Object.fromEntries(many) }));
      assert.equal(response.status, 200, `${count} parameters: ${response.body}`);
      const unsigned = many.map(([name]) => name).join('&');
      assertRefused(await request(`${signedUrl()}&${unsigned}`), /signature/);
    }
  });

  const signedUrl = () => server.url + signedPath(APP, 'GET', path);
});

describe('how the path is read', () => {
  const encoded = `/apps/${APP.id}/users/a%2Fb%20c/terminate_connections`;
  const decoded = `/apps/${APP.id}/users/a/b c/terminate_connections`;

  test('the path is verified as received', async () => {
    assert.equal((await sendSigned('POST', encoded, '', [])).status, 200);
  });

  test('and, if that fails, percent-decoded once', async () => {
    assert.equal((await sendSigned('POST', encoded, '', [], { signedAs: decoded })).status, 200);
    const twice = encoded.replaceAll('%', '%25');
    assert.equal((await sendSigned('POST', twice, '', [], { signedAs: encoded })).status, 200);
    assertRefused(await sendSigned('POST', twice, '', [], { signedAs: decoded }), /signature/);
  });

  test('one trailing slash is dropped for the route; the signature covers the path as received', async () => {
    const path = `/apps/${APP.id}/channels/`;
    assert.equal((await sendSigned('GET', path, '', [])).status, 200);
  });
});

test('with a path_prefix the signature covers the path with it or without it', async (t) => {
  const prefixed = await serverFor(t, { config: { path_prefix: '/realtime' } });
  const path = `/realtime/apps/${APP.id}/events`;
  const send = (signAs) =>
    request(prefixed.url + signedPath(APP, 'POST', path, { body: EVENT, signAs }), { method: 'POST', body: EVENT });
  assert.equal((await send({})).status, 200);
  assert.equal((await send({ path: `/apps/${APP.id}/events` })).status, 200);
  assertRefused(await send({ path: `/other/apps/${APP.id}/events` }), /signature/);
});
