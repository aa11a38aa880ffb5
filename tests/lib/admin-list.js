// A case of the admin API that every store has to pass.

import assert from 'node:assert/strict';

import { serverFor } from './server.js';

// GET /admin/apps with an `after` that cannot be an id is 400; the store is not asked. `config` names the store.
export async function refusesBadAfter(t, config) {
  const token = 'a token of at least thirty-two characters';
  const server = await serverFor(t, {
    apps: [],
    config,
    env: { CURLEW_ADMIN_TOKEN: token, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  const { message } = await server.waitForLog(/^admin API on /);
  const [url] = message.match(/http:\/\/\S+/);
  const headers = { authorization: `Bearer ${token}` };
  for (const id of ['a', 'b']) {
    const answer = await fetch(url, {
      method: 'POST',
      headers,
      body: JSON.stringify({ id, key: `${id}-key`, secret: 's' }),
    });
    assert.equal(answer.status, 201);
  }
  const list = async (after) => {
    const answer = await fetch(`${url}?after=${after}`, { headers });
    return { status: answer.status, json: await answer.json() };
  };
  for (const after of ['%FF', 'a%C3', 'a%00', '%00', 'x'.repeat(2049)]) {
    const { status, json } = await list(after);
    assert.deepEqual([status, json.field], [400, 'after'], after);
    assert.match(json.error, /^after must be the id of an app/);
  }
  assert.equal((await list('')).json.apps.length, 2);
  assert.equal((await list('a')).status, 200);
}
