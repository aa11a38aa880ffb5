// How long the server waits for a request: 10 s for its head, 30 s for its body, however the bytes trickle in, and 60 s
// between two.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const server = await sharedServer();

// Opens a connection, sends the start and then a byte a second; resolves to the seconds until the server closed it.
async function secondsUntilClosed(t, start, trickle) {
  const began = performance.now();
  const http = await RawHttp.connect(server);
  http.write(start);
  const timer = trickle && setInterval(() => http.write(trickle), 1000);
  t.after(() => {
    clearInterval(timer);
    http.destroy();
  });
  await http.closed(LONG_TIMEOUT_MS);
  clearInterval(timer);
  return (performance.now() - began) / 1000;
}

const POST = `POST ${signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body: 'x' })} HTTP/1.1\r\nHost: x\r\n`;
const BODY = `${POST}Content-Length: 1000\r\n\r\n`;
const CHUNKS = `${POST}Transfer-Encoding: chunked\r\n\r\n`;

describe('a client that does not finish its request is closed', { concurrency: true }, () => {
  const heads = {
    'no byte at all': ['', null],
    'half a head': ['GET /up HTTP/1.1\r\nHost:', null],
    'a trickling head': ['GET /up?', 'x'],
  };
  for (const [what, [start, trickle]] of Object.entries(heads)) {
    test(`${what}: after 10 s`, async (t) => {
      const kept = await RawHttp.connect(server);
      t.after(() => kept.destroy());
      kept.send('GET', '/up');
      await kept.next();
      const seconds = await secondsUntilClosed(t, start, trickle);
      assert.ok(seconds > 8.9 && seconds < 28, `closed after ${seconds} s`);
      // One that was kept alive may idle for longer.
      kept.send('GET', '/up');
      assert.equal((await kept.next()).text, 'OK');
    });
  }

  const bodies = {
    'half a body': [`${BODY}x`, null],
    'a trickling body': [BODY, 'x'],
    'trickling chunks': [CHUNKS, '1\r\nx\r\n'],
  };
  for (const [what, [start, trickle]] of Object.entries(bodies)) {
    test(`${what}: after 30 s`, async (t) => {
      const seconds = await secondsUntilClosed(t, start, trickle);
      assert.ok(seconds > 28.9 && seconds < 58, `closed after ${seconds} s`);
    });
  }

  test('a kept-alive connection that idles: after 60 s', async (t) => {
    const http = await RawHttp.connect(server);
    t.after(() => http.destroy());
    const began = performance.now();
    http.send('GET', '/up');
    const answer = await http.next();
    assert.equal(answer.headers['keep-alive'], 'timeout=60');
    await http.closed(LONG_TIMEOUT_MS);
    const seconds = (performance.now() - began) / 1000;
    assert.ok(seconds > 58.9, `closed after ${seconds} s`);
  });
});
