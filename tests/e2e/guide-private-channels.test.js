// examples/private-channels: the same web application in Node.js, Python and PHP. One user is in its page in Chromium,
// another is a pusher-js client that logs in over HTTP.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { cpSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { LONG_TIMEOUT_MS, TIMEOUT_MS } from '../lib/inbox.js';
import { Page } from '../lib/page.js';
import { folderWith, start } from '../lib/process.js';
import { connected, makePusher, record, subscribed } from '../lib/pusher.js';
import { serverFor } from '../lib/server.js';

const TESTS = fileURLToPath(new URL('..', import.meta.url));
const PYTHON = path.join(TESTS, 'clients/python/packages/bin/python');
const APP = { id: '1', key: 'app-key', secret: 'app-secret' };

// The files of the example beside the packages of the tests, as they are beside those of examples/.
function exampleFolder(t) {
  const folder = folderWith(t);
  cpSync(path.join(TESTS, '../examples/private-channels'), path.join(folder, 'private-channels'), { recursive: true });
  symlinkSync(path.join(TESTS, 'node_modules'), path.join(folder, 'node_modules'));
  return folder;
}

// Starts the application; resolves to its URL.
async function application(t, server, language) {
  const folder = exampleFolder(t);
  const file = path.join(folder, 'private-channels', `server.${language}`);
  const env = { PORT: '0', CURLEW_HOST: server.host, CURLEW_PORT: String(server.port) };
  if (language !== 'php') {
    const program = start(t, language === 'py' ? PYTHON : process.execPath, [file], { env });
    return program.out.next((line) => line.startsWith('http://'));
  }
  const program = start(t, 'php', ['-d', `session.save_path=${folder}`, '-S', '127.0.0.1:0', file], { env });
  const line = await program.err.next((text) => /Development Server \(http:/.test(text));
  return line.match(/http:[^)]*/)[0];
}

async function post(url, form, cookie = '') {
  const response = await fetch(url, { method: 'POST', headers: { cookie }, body: new URLSearchParams(form) });
  const body = await response.text();
  return { status: response.status, body, cookie: response.headers.get('set-cookie')?.split(';')[0] };
}

function memberClient(t, server, url, cookie) {
  const authorize = async ({ socketId, channelName }, callback) => {
    const form = { socket_id: socketId, channel_name: channelName };
    const { status, body } = await post(`${url}/pusher/auth`, form, cookie);
    if (status === 200) callback(null, JSON.parse(body));
    else callback(new Error(body), null);
  };
  return makePusher(server, { t, options: { channelAuthorization: { customHandler: authorize } } });
}

for (const [language, name] of Object.entries({ mjs: 'Node.js', py: 'Python', php: 'PHP' })) {
  test(`the application in ${name} lets two users meet and write to each other`, async (t) => {
    const server = await serverFor(t, { apps: [APP] });
    const url = await application(t, server, language);

    const page = await Page.open(url, LONG_TIMEOUT_MS);
    t.after(() => page.close());
    await page.run(`document.querySelector('[name=name]').value = 'ada'; document.forms[0].requestSubmit()`);
    await page.shows('In the room: ada', TIMEOUT_MS);

    const { cookie, status, body } = await post(`${url}/login`, { name: 'bob' });
    assert.equal(status, 200);
    assert.deepEqual(JSON.parse(body), { user: 'bob', key: APP.key, host: server.host, port: server.port });
    const bob = memberClient(t, server, url, cookie);
    await connected(bob);
    const own = bob.subscribe('private-user-bob');
    const room = bob.subscribe('presence-room');
    const heard = record(own);
    await subscribed(own);
    const members = await subscribed(room);
    assert.deepEqual(members.members, { ada: { name: 'ada' }, bob: { name: 'bob' } });
    await page.shows('In the room: ada, bob', TIMEOUT_MS);

    assert.equal((await post(`${url}/message`, { to: 'ada', text: 'hello ada' }, cookie)).status, 200);
    await page.shows('bob: hello ada', TIMEOUT_MS);
    await page.run(`document.querySelector('[name=to]').value = 'bob';
      document.querySelector('[name=text]').value = 'hello bob'; document.forms[1].requestSubmit()`);
    assert.deepEqual((await heard.next('message')).data, { from: 'ada', text: 'hello bob' });

    bob.disconnect();
    await page.run(`document.querySelector('#messages').textContent = ''`);
    await page.shows('In the room: ada\n', TIMEOUT_MS);
  });

  test(`the application in ${name} signs nothing that it should not`, async (t) => {
    const server = await serverFor(t, { apps: [APP] });
    const url = await application(t, server, language);
    const { cookie } = await post(`${url}/login`, { name: 'bob' });
    const auth = (form, as = cookie) => post(`${url}/pusher/auth`, form, as);

    const allowed = await auth({ socket_id: '1.2', channel_name: 'private-user-bob' });
    assert.equal(allowed.status, 200);
    const signature = createHmac('sha256', APP.secret).update('1.2:private-user-bob').digest('hex');
    assert.deepEqual(JSON.parse(allowed.body), { auth: `${APP.key}:${signature}` });

    for (const [form, as] of [
      [{ socket_id: '1.2', channel_name: 'private-user-ada' }],
      [{ socket_id: '1.2', channel_name: 'private-user-bob' }, ''],
      [{ socket_id: '1.2', channel_name: 'private-user-bob' }, 'session=none; PHPSESSID=none'],
      [{ socket_id: '1.2', channel_name: 'private-user-' }],
      [{ socket_id: '1.2' }],
      [{ socket_id: '1.2:private-user-ada:', channel_name: 'private-user-bob' }],
      [{ channel_name: 'private-user-bob' }],
    ]) {
      const { status, body } = await auth(form, as);
      assert.ok(status === 403 || status === 500, `${JSON.stringify(form)} was answered ${status}`);
      assert.ok(!body.includes(APP.key), body);
    }
    assert.equal((await post(`${url}/message`, { to: 'bob', text: 'hello' })).status, 403);
    assert.equal((await post(`${url}/message`, { to: 'bob/x', text: 'hello' }, cookie)).status, 400);
    assert.equal((await post(`${url}/login`, { name: 'Bob' })).status, 400);
  });
}
