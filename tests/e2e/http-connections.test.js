// HTTP/1.1 connections: keep-alive, pipelining, chunked bodies, Expect, and requests that arrive in any pieces.

import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, test } from 'node:test';

import { subscriber } from '../lib/events.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const server = await sharedServer();

async function open(t) {
  const http = await RawHttp.connect(server);
  t.after(() => http.destroy());
  return http;
}

const event = (change) => JSON.stringify({ name: 'e', channel: 'c', data: 'x', ...change });
const events = (body) => signedPath(APP, 'POST', `/apps/${APP.id}/events`, { body });
const GET_UP = 'GET /up HTTP/1.1\r\nHost: x\r\n\r\n';

// A whole request as text, its body in chunks of these lengths (the last takes the rest).
function chunked(body, lengths, { extension = '', trailers = '' } = {}) {
  const parts = [];
  let rest = body;
  for (const length of lengths) {
    parts.push(rest.slice(0, length));
    rest = rest.slice(length);
  }
  const chunks = [...parts, rest]
    .filter((part) => part !== '')
    .map((part) => `${part.length.toString(16)}${extension}\r\n${part}\r\n`);
  return `POST ${events(body)} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunks.join('')}0\r\n${trailers}\r\n`;
}

describe('keep-alive', () => {
  test('a connection serves many requests, and says for how long it may idle', async (t) => {
    const http = await open(t);
    for (let i = 0; i < 50; i++) {
      const body = event();
      http.send('POST', events(body), { body });
      const response = await http.next();
      assert.equal(response.status, 200);
      assert.equal(response.version, '1.1');
      assert.equal(response.headers['keep-alive'], 'timeout=60');
      assert.doesNotMatch(response.headers.connection ?? '', /close/i);
    }
  });

  test('refusals that leave the connection in order do not end it', async (t) => {
    const http = await open(t);
    for (const [method, target, status] of [
      ['GET', '/nowhere', 404],
      ['DELETE', '/up', 405],
      ['GET', `/apps/${APP.id}/channels`, 401],
      ['GET', '/up/nobody', 404],
      ['POST', events('no JSON'), 400],
    ]) {
      http.send(method, target, { body: method === 'POST' ? 'no JSON' : '' });
      assert.equal((await http.next()).status, status);
    }
    // A body that the refusal did not need, and that came with the head, is read all the same.
    http.send('POST', '/nowhere', { body: 'x'.repeat(10_000) });
    assert.equal((await http.next()).status, 404);
    http.send('GET', '/up');
    assert.equal((await http.next()).text, 'OK');
  });

  test('Connection: close is answered, said and done', async (t) => {
    const http = await open(t);
    http.send('GET', '/up', { headers: { Connection: 'close' } });
    const response = await http.next();
    assert.equal(response.text, 'OK');
    assert.match(response.headers.connection, /close/i);
    assert.equal(response.headers['keep-alive'], undefined);
    assert.equal((await http.closed()).reset, false);
  });

  test('requests behind Connection: close are not served', async (t) => {
    const http = await open(t);
    http.write(`GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n${GET_UP}`);
    assert.equal((await http.next()).status, 200);
    await http.closed();
    assert.equal(http.responses.all.length, 1);
  });

  test('HTTP/1.0 closes after its answer, unless the client asks to keep the connection', async (t) => {
    const closing = await open(t);
    closing.write('GET /up HTTP/1.0\r\n\r\n'); // HTTP/1.0 needs no Host
    assert.equal((await closing.next()).text, 'OK');
    await closing.closed();
    const keeping = await open(t);
    for (let i = 0; i < 3; i++) {
      keeping.send('GET', '/up', { version: '1.0', headers: { Connection: 'keep-alive' } });
      const response = await keeping.next();
      assert.equal(response.text, 'OK');
      assert.match(response.headers.connection ?? '', /keep-alive/i);
    }
  });

  test('a client that has nothing more to send still gets its answers', async (t) => {
    const http = await open(t);
    http.write(GET_UP.repeat(3));
    http.end();
    for (let i = 0; i < 3; i++) assert.equal((await http.next()).text, 'OK');
    await http.closed();
  });
});

describe('pipelining', () => {
  test('100 requests in one write are answered in order', async (t) => {
    const http = await open(t);
    const ws = await subscriber(server, t, 'pipe');
    const requests = Array.from({ length: 100 }, (_, i) => {
      const body = event({
        name: `e${i}`,
        channel: undefined,
        channels: ['pipe', `pipe-${i}`],
        info: 'subscription_count',
      });
      return `POST ${events(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    });
    http.write(requests.join(''));
    for (let i = 0; i < 100; i++) {
      const response = await http.next();
      assert.equal(response.status, 200, response.text);
      assert.deepEqual(response.json.channels, {
        pipe: { subscription_count: 1 },
        [`pipe-${i}`]: { subscription_count: 0 },
      });
    }
    const heard = (await ws.inbox.take(100)).map((message) => message.event);
    assert.deepEqual(
      heard,
      Array.from({ length: 100 }, (_, i) => `e${i}`),
    );
  });

  test('requests of all kinds mix', async (t) => {
    const http = await open(t);
    const body = event();
    http.write(
      GET_UP +
        chunked(body, [3]) +
        GET_UP +
        'GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n' +
        chunked(body, []) +
        `\r\n\r\n${GET_UP}`,
    );
    const statuses = [];
    for (let i = 0; i < 6; i++) statuses.push((await http.next()).status);
    assert.deepEqual(statuses, [200, 200, 200, 404, 200, 200]);
  });

  test('a client that sends thousands of requests before it reads gets every answer', async (t) => {
    const http = await open(t);
    http.socket.pause();
    for (let i = 0; i < 50; i++) http.write(GET_UP.repeat(100));
    http.socket.resume();
    const responses = await http.responses.take(5000);
    assert.ok(responses.every((response) => response.text === 'OK'));
  });
});

describe('chunked bodies', () => {
  test('are accepted in chunks of any size, with extensions and trailers', async (t) => {
    const http = await open(t);
    const body = event({ data: 'x'.repeat(50_000) });
    for (const request of [
      chunked(body, []),
      chunked(body, [1, 2, 3]),
      chunked(body, Array(500).fill(1)),
      chunked(body, [10], { extension: ';name="value"' }),
      chunked(body, [10], { trailers: 'Trailer: x\r\n' }),
      chunked(body, []).replace(/Transfer-Encoding: chunked/, 'TRANSFER-ENCODING: Chunked'),
    ]) {
      http.write(request);
      const response = await http.next();
      assert.equal(response.status, 200, response.text);
    }
  });

  test('may be split between packets anywhere', async (t) => {
    const http = await open(t);
    const ws = await subscriber(server, t, 'c');
    const request = chunked(event({ data: 'split' }), [10, 20]);
    for (let at = 1; at < request.length; at++) {
      // The answer to the first request proves that the part behind it was read alone.
      http.write(GET_UP + request.slice(0, at));
      assert.equal((await http.next()).text, 'OK');
      http.write(request.slice(at));
      const response = await http.next();
      assert.equal(response.status, 200, `split at ${at}: ${response.text}`);
      assert.equal((await ws.next('e')).data, 'split');
    }
  });
});

describe('requests in pieces', () => {
  test('a request may be split between packets anywhere', async (t) => {
    const http = await open(t);
    const ws = await subscriber(server, t, 'c');
    const body = event({ data: 'split' });
    const request = `POST ${events(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    for (let at = 1; at < request.length; at++) {
      http.write(GET_UP + request.slice(0, at));
      assert.equal((await http.next()).text, 'OK');
      http.write(request.slice(at));
      const response = await http.next();
      assert.equal(response.status, 200, `split at ${at}: ${response.text}`);
      assert.equal((await ws.next('e')).data, 'split');
    }
  });

  test('a request may come byte by byte', async (t) => {
    const http = await open(t);
    for (const byte of chunked(event(), [7])) {
      http.write(byte);
      await turn();
    }
    assert.equal((await http.next()).status, 200);
  });

  test('a large body comes through while others are served', async (t) => {
    const slow = await open(t);
    const quick = await open(t);
    const body = event({ data: 'x'.repeat(100_000) });
    slow.write(`POST ${events(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`);
    for (let at = 0; at < body.length; at += 5000) {
      slow.write(body.slice(at, at + 5000));
      quick.send('GET', '/up');
      assert.equal((await quick.next()).text, 'OK');
    }
    assert.equal((await slow.next()).status, 200);
  });
});

describe('Expect: 100-continue', () => {
  test('a client that asks before it sends is told to go on', async (t) => {
    const http = await open(t);
    const body = event();
    for (let i = 0; i < 2; i++) {
      http.write(
        `POST ${events(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`,
      );
      assert.equal((await http.next()).status, 100);
      http.write(body);
      const response = await http.next();
      assert.equal(response.status, 200, response.text);
    }
  });

  test('and so is one with a chunked body', async (t) => {
    const http = await open(t);
    const [head, ...rest] = chunked(event(), [5]).split('\r\n\r\n');
    http.write(`${head}\r\nExpect: 100-Continue\r\n\r\n`);
    assert.equal((await http.next()).status, 100);
    http.write(rest.join('\r\n\r\n'));
    assert.equal((await http.next()).status, 200);
  });

  test('a client that sends at once gets its answer, and the next request is not disturbed', async (t) => {
    const http = await open(t);
    const body = event();
    http.write(
      `POST ${events(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n${body}${GET_UP}`,
    );
    let response = await http.next();
    if (response.status === 100) response = await http.next();
    assert.equal(response.text, '{}');
    assert.equal((await http.next()).text, 'OK');
  });
});
