// The admin API on a store that is broken, takes no write, or is not there; and names that are none.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { renameSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { folderWith } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const TOKEN = 'a token of at least thirty-two characters';
const ONE = { id: 'one', key: 'one-key', secret: 'one-secret' };

async function adminFor(t) {
  const file = path.join(folderWith(t), 'apps.db');
  const server = await serverFor(t, {
    apps: [],
    config: { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  const base = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
  const call = async (method, where = '', body) => {
    const answer = await fetch(base + where, {
      method,
      headers: { authorization: `Bearer ${TOKEN}` },
      body: body && JSON.stringify(body),
    });
    return { status: answer.status, json: JSON.parse(await answer.text()), headers: answer.headers };
  };
  assert.equal((await call('GET')).status, 200); // the table is made
  return { file, call, sql: (text) => execFileSync('sqlite3', ['-cmd', '.timeout 60000', file, text]) };
}

function insert(id, key, enabled = '1') {
  return `INSERT INTO applications (id, key, secret, enabled, enable_client_messages, max_connections, max_client_events_per_second) VALUES (${id}, ${key}, 's', ${enabled}, 0, 1, 1);`;
}

test('a broken record is 500 with its field and stands in lists; refresh takes it, PUT replaces it, DELETE deletes it', async (t) => {
  const { call, sql } = await adminFor(t);
  sql(insert("'a'", "'a-key'", "'maybe'") + insert("'b'", "'b-key'", "'maybe'") + insert("'c'", "'c-key'"));
  const text = 'app "a": enabled must be true or false';
  for (const [method, body] of [['GET'], ['PATCH', { enabled: true }]]) {
    const { status, json } = await call(method, '/a', body);
    assert.deepEqual([status, json], [500, { error: text }], method);
  }
  const { apps } = (await call('GET')).json;
  assert.deepEqual(
    apps.map(({ id, error }) => [id, error]),
    [
      ['a', text],
      ['b', text.replace('"a"', '"b"')],
      ['c', undefined],
    ],
  );
  assert.deepEqual((await call('POST', '/a/refresh')).json, {});
  assert.equal((await call('PUT', '/a', { key: 'a-key', secret: 's' })).status, 200);
  assert.equal((await call('GET', '/a')).json.enabled, true);
  assert.equal((await call('DELETE', '/b')).status, 200);
  assert.equal((await call('GET', '/b')).status, 404);
});

test('an error that quotes a text and is cut inside a character is told all the same', async (t) => {
  const { call, sql } = await adminFor(t);
  const id = 'é'.repeat(200); // and 255 bytes of it are quoted
  const { status, json } = await call('POST', '', { id, key: 'k', secret: 's' });
  assert.equal(status, 422);
  assert.match(json.error, /^app "é{127}\?": id must have 1 to 255 bytes of printable ASCII/);
  sql(insert(`'${id}'`, "'a-key'") + insert("'b'", "'b-key'"));
  const { apps, next } = (await call('GET', '?limit=2')).json;
  assert.deepEqual(
    apps.map((app) => [app.id, app.error]),
    [
      ['b', undefined],
      [id, json.error],
    ],
  );
  assert.equal(next, id);
});

test('a write that the store does not take is 507 with its words, and changes nothing', async (t) => {
  const { call, sql } = await adminFor(t);
  assert.equal((await call('POST', '', ONE)).status, 201);
  for (const what of ['INSERT', 'UPDATE', 'DELETE'])
    sql(
      `CREATE TRIGGER no_${what} BEFORE ${what} ON applications BEGIN SELECT RAISE(ABORT, 'closed for the night'); END`,
    );
  const before = (await call('GET', '/one?secrets=1')).json;
  const writes = [
    ['POST', '', { ...ONE, id: 'two', key: 'two-key' }],
    ['PUT', '/one', { key: 'k', secret: 's' }],
    ['PATCH', '/one', { enabled: false }],
    ['DELETE', '/one'],
  ];
  for (const [method, where, body] of writes) {
    const { status, json } = await call(method, where, body);
    assert.equal(status, 507, method);
    assert.match(json.error, /closed for the night/);
  }
  assert.deepEqual((await call('GET', '/one?secrets=1')).json, before);
});

test('a store that cannot be reached is 503, and all is well once it is back', async (t) => {
  const { call, file } = await adminFor(t);
  assert.equal((await call('POST', '', ONE)).status, 201);
  renameSync(file, `${file}.away`);
  for (const [method, where, body] of [
    ['GET', '/one'],
    ['GET', ''],
    ['PATCH', '/one', { enabled: false }],
    ['DELETE', '/one'],
    ['POST', '/one/refresh'],
  ]) {
    const { status, json, headers } = await call(method, where, body);
    assert.equal(status, 503, method);
    assert.match(json.error, /apps\.db/);
    assert.equal(headers.get('retry-after'), '1');
  }
  renameSync(`${file}.away`, file);
  while ((await call('GET', '/one')).status === 503);
  assert.equal((await call('GET', '/one')).json.enabled, true);
});

test('an id in the path that no app can have is 404 with a text', async (t) => {
  const { call } = await adminFor(t);
  await call('POST', '', ONE);
  for (const id of ['%FF', 'one%00', '%20', 'x'.repeat(256)]) {
    for (const [method, body] of [['GET'], ['PUT', ONE], ['PATCH', {}], ['DELETE']]) {
      const { status, json } = await call(method, `/${id}`, body);
      assert.deepEqual([status, json.error], [404, 'the path holds no id that an app could have'], id);
    }
  }
  assert.equal((await call('GET', '/one')).status, 200);
});

test('a record without a readable id is listed with its error; a list that could only begin again there says so', async (t) => {
  const { call, sql } = await adminFor(t);
  await call('POST', '', ONE);
  sql(insert("CAST(x'61ff' AS TEXT)", "'k'"));
  const { status, json } = await call('GET');
  assert.equal(status, 200);
  assert.deepEqual(
    json.apps.map(({ id }) => id),
    ['', 'one'],
  );
  assert.match(json.apps[0].error, /id must be/);
  const page = await call('GET', '?limit=1');
  assert.equal(page.status, 500);
  assert.match(page.json.error, /no id that can be read; those behind it are out of reach/);
});
