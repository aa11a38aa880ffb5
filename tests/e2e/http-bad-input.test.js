// Requests that no HTTP library would send, on raw sockets: each is refused with a status that says so, the connection
// is closed where the bytes behind it could mean anything, and nobody else notices.

import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';

import { get } from '../lib/api.js';
import { RawHttp } from '../lib/raw-http.js';
import { APP, sharedServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';

const UNLIMITED = { ...APP, id: 'unlimited', key: 'unlimited-key', max_event_payload_in_kb: 0 };
const DISABLED = { ...APP, id: 'disabled', key: 'disabled-key', enabled: false };
const BROKEN = { ...APP, id: 'broken', key: 'broken-key', max_connections: -2 };
const server = await sharedServer({
  apps: [APP, UNLIMITED, DISABLED, BROKEN],
  config: { http_api: { request_limit_in_mb: 1 } },
});
const MIB = 1024 * 1024;

afterEach(async () => {
  assert.equal((await get(`${server.url}/up`)).body, 'OK', 'the server lives on');
});

async function open(t) {
  const http = await RawHttp.connect(server);
  t.after(() => http.destroy());
  return http;
}

// Sends the bytes and insists on one answer with one of these statuses and on the end of the connection.
async function refused(t, bytes, statuses) {
  const http = await open(t);
  http.write(bytes);
  const response = await http.next();
  assert.ok(statuses.includes(response.status), `${response.status} ${response.text}`);
  assert.equal(typeof response.json?.error, 'string', response.text);
  assert.match(response.headers.connection ?? '', /close/i);
  await http.closed();
  return response;
}

const head = (...lines) => [...lines, '', ''].join('\r\n');
const eventsTarget = (body, app = APP) => signedPath(app, 'POST', `/apps/${app.id}/events`, { body });
const POST = `POST ${eventsTarget('x')} HTTP/1.1`;

describe('a request line or header that is malformed: 400, and the connection closes', () => {
  const requests = {
    'no request line': head('hello'),
    'a method alone': head('GET'),
    'no version': head('GET /up', 'Host: x'),
    'another protocol': head('GET /up FTP/1.1', 'Host: x'),
    'a version that does not exist': head('GET /up HTTP/9.9', 'Host: x'),
    'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'a TLS handshake': Buffer.from('16030100b5010000b10303', 'hex'),
    'zero bytes': Buffer.alloc(64),
    'a control character in the target': head('GET /u\x01p HTTP/1.1', 'Host: x'),
    'a second blank before the target': head('GET  /up HTTP/1.1', 'Host: x'),
    'a second blank before the version': head('GET /up  HTTP/1.1', 'Host: x'),
    'RTSP, which the parser knows': head('OPTIONS /up RTSP/1.1', 'Host: x'),
    'ICE, which the parser knows': head('SOURCE /up ICE/1.1', 'Host: x'),
    'a header on two lines': head('GET /up HTTP/1.1', 'Host: x', 'A: b', ' c'),
    'a header on two lines, with a tab': head('GET /up HTTP/1.1', 'Host: x', 'A: b', '\tc'),
    'a header with a second line that is blank': head('GET /up HTTP/1.1', 'Host: x', 'A: b', ' '),
    'a length on a second line': `${head(POST, 'Host: x', 'Content-Length:', ' 3')}abc`,
    'an encoding on a second line': `${head(POST, 'Host: x', 'Transfer-Encoding:', ' chunked')}0\r\n\r\n`,
    'no Host': head('GET /up HTTP/1.1'),
    'no Host, although the target names one': head('GET http://x/up HTTP/1.1'),
    'two Host headers': head('GET /up HTTP/1.1', 'Host: x', 'Host: x'),
    'two Host headers in HTTP/1.0': head('GET /up HTTP/1.0', 'Host: x', 'Host: y'),
    'a Host that is no host': head('GET /up HTTP/1.1', 'Host: x/y'),
    'a header without a colon': head('GET /up HTTP/1.1', 'Host: x', 'no colon here'),
    'a header without a name': head('GET /up HTTP/1.1', 'Host: x', ': value'),
    'a blank before the colon': head('GET /up HTTP/1.1', 'Host : x'),
    'a header name with other characters': head('GET /up HTTP/1.1', 'Host: x', 'na(me: x'),
    'a zero byte in a header': head('GET /up HTTP/1.1', 'Host: x', 'name: a\0b'),
    'a Content-Length that is negative': head(POST, 'Host: x', 'Content-Length: -1'),
    'a Content-Length that is a word': head(POST, 'Host: x', 'Content-Length: many'),
    'a Content-Length with something behind it': head(POST, 'Host: x', 'Content-Length: 1 2'),
    'a Content-Length in hexadecimal': head(POST, 'Host: x', 'Content-Length: 0x10'),
    'a Content-Length that is empty': head(POST, 'Host: x', 'Content-Length:'),
    'a Content-Length beyond 64 bits': head(POST, 'Host: x', 'Content-Length: 18446744073709551617'),
    'two lengths that differ': head(POST, 'Host: x', 'Content-Length: 1', 'Content-Length: 2'),
    'both length and chunked': `${head(POST, 'Host: x', 'Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    'both chunked and length': `${head(POST, 'Host: x', 'Transfer-Encoding: chunked', 'Content-Length: 5')}0\r\n\r\n`,
    'an unknown transfer encoding': head(POST, 'Host: x', 'Transfer-Encoding: gzip'),
    'chunked before another encoding': head(POST, 'Host: x', 'Transfer-Encoding: chunked, gzip'),
    'a chunk size that is a word': `${head(POST, 'Host: x', 'Transfer-Encoding: chunked')}zz\r\n`,
    'a chunk longer than it says': `${head(POST, 'Host: x', 'Transfer-Encoding: chunked')}2\r\nabcdef\r\n0\r\n\r\n`,
  };
  for (const [what, bytes] of Object.entries(requests)) {
    test(what, async (t) => refused(t, bytes, [400]));
  }

  test('a method that nobody knows', async (t) => refused(t, head('BREW /up HTTP/1.1', 'Host: x'), [400, 405, 501]));

  test('good requests before the bad one are answered first', async (t) => {
    const http = await open(t);
    http.write(`${head('GET /up HTTP/1.1', 'Host: x')}${head('GET /usage HTTP/1.1', 'Host: x')}${head('hello')}`);
    const statuses = [(await http.next()).status, (await http.next()).status, (await http.next()).status];
    assert.deepEqual(statuses, [200, 200, 400]);
    await http.closed();
  });
});

describe('methods', () => {
  test('known methods that no route has are 405, and the connection lives on', async (t) => {
    const http = await open(t);
    for (const method of ['TRACE', 'PROPFIND', 'LOCK', 'PUT', 'DELETE']) {
      http.send(method, '/up');
      assert.equal((await http.next()).status, 405, method);
    }
    http.send('GET', '/up');
    assert.equal((await http.next()).text, 'OK');
  });

  test('CONNECT is refused', async (t) => {
    const http = await open(t);
    http.write(head('CONNECT example.com:443 HTTP/1.1', 'Host: example.com:443'));
    assert.ok((await http.next()).status >= 400);
  });

  test('an upgrade to something unknown is ignored', async (t) => {
    const http = await open(t);
    http.send('GET', '/up', { headers: { Connection: 'Upgrade', Upgrade: 'h2c' } });
    assert.equal((await http.next()).text, 'OK');
  });
});

describe('a head over 16 KB: 431, and the connection closes', () => {
  const KIB = 1024;
  const long = {
    'one long header': head('GET /up HTTP/1.1', 'Host: x', `Long: ${'x'.repeat(17 * KIB)}`),
    'many headers': head(
      'GET /up HTTP/1.1',
      'Host: x',
      ...Array.from({ length: 1000 }, (_, i) => `Header-${i}: some value`),
    ),
    'a long target': head(`GET /up?${'x'.repeat(17 * KIB)} HTTP/1.1`, 'Host: x'),
    'a header that never ends': `GET /up HTTP/1.1\r\nHost: x\r\nLong: ${'x'.repeat(17 * KIB)}`,
    'a header name that never ends': `GET /up HTTP/1.1\r\nHost: x\r\n${'x'.repeat(17 * KIB)}`,
    'a target that never ends': `GET /${'x'.repeat(17 * KIB)}`,
  };
  for (const [what, bytes] of Object.entries(long)) {
    test(what, async (t) => refused(t, bytes, [431]));
  }

  test('in pieces it is refused as well', async (t) => {
    const http = await open(t);
    http.socket.on('error', () => {});
    http.write(head('GET /up HTTP/1.1', 'Host: x'));
    await http.next();
    http.write('GET /up HTTP/1.1\r\nHost: x\r\n');
    const line = `Header: ${'y'.repeat(1014)}\r\n`;
    for (let i = 0; i < 17; i++) http.write(line);
    assert.equal((await http.next()).status, 431);
    await http.closed();
  });

  test('a head of 15 KB is taken', async (t) => {
    const http = await open(t);
    http.send('GET', '/up', { headers: { Long: 'x'.repeat(15 * KIB) } });
    assert.equal((await http.next()).text, 'OK');
    http.send('GET', `/up?${'x'.repeat(15 * KIB)}`);
    assert.equal((await http.next()).text, 'OK');
  });

  test('trailers behind a chunked body are bounded too', async (t) => {
    const http = await open(t);
    http.socket.on('error', () => {});
    http.write(`${head(POST, 'Host: x', 'Transfer-Encoding: chunked')}0\r\n`);
    for (let i = 0; i < 64; i++) http.write(`Trailer-${i}: ${'x'.repeat(KIB)}\r\n`);
    const response = await http.next();
    assert.ok([400, 431].includes(response.status), String(response.status));
    await http.closed();
  });
});

describe('a body over http_api.request_limit_in_mb: 413', () => {
  function assertTooLarge(response) {
    assert.equal(response.status, 413);
    assert.match(response.json.error, /request_limit_in_mb/);
    assert.match(response.json.error, /\b1\b/);
    assert.match(response.headers.connection ?? '', /close/i);
  }

  test('is refused when it is announced, before it is sent', async (t) => {
    for (const length of [MIB + 1, 100 * MIB, Number.MAX_SAFE_INTEGER]) {
      const http = await open(t);
      http.write(head(POST, 'Host: x', `Content-Length: ${length}`));
      assertTooLarge(await http.next());
      await http.closed();
    }
  });

  test('is refused behind whatever comes before it in the order of the checks', async (t) => {
    const rows = [
      [404, { ...APP, id: 'nobody' }],
      [500, BROKEN],
      [401, { ...APP, secret: 'wrong' }],
      [403, DISABLED],
      [413, APP],
    ];
    for (const [status, app] of rows) {
      const http = await open(t);
      http.write(head(`POST ${eventsTarget('x', app)} HTTP/1.1`, 'Host: x', `Content-Length: ${MIB + 1}`));
      const response = await http.next();
      assert.equal(response.status, status, response.text);
      await http.closed();
    }
  });

  test('is refused, without a 100, when the client asks first', async (t) => {
    const http = await open(t);
    http.write(head(POST, 'Host: x', `Content-Length: ${MIB + 1}`, 'Expect: 100-continue'));
    assertTooLarge(await http.next());
  });

  test('is refused when chunks add up to it, and when one chunk announces it', async (t) => {
    const start = head(POST, 'Host: x', 'Transfer-Encoding: chunked');
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    for (const bytes of [start + chunk.repeat(16) + '1\r\nx', `${start}7fffffff\r\n${'x'.repeat(MIB + 1)}`]) {
      const http = await open(t);
      http.socket.on('error', () => {});
      http.write(bytes);
      assertTooLarge(await http.next());
      await http.closed();
    }
  });

  test('a body of exactly the limit is taken', async (t) => {
    const empty = JSON.stringify({ name: 'e', channel: 'c', data: '' });
    const body = empty.replace('""', `"${'x'.repeat(MIB - empty.length)}"`);
    assert.equal(body.length, MIB);
    const http = await open(t);
    http.send('POST', eventsTarget(body, UNLIMITED), { body });
    const response = await http.next();
    assert.equal(response.status, 200, response.text);
    const chunks = body
      .match(/.{1,65536}/gs)
      .map((part) => `${part.length.toString(16)}\r\n${part}\r\n`)
      .join('');
    http.send('POST', eventsTarget(body, UNLIMITED), {
      headers: { 'Transfer-Encoding': 'chunked' },
      body: `${chunks}0\r\n\r\n`,
    });
    assert.equal((await http.next()).status, 200);
  });
});

describe('half requests', () => {
  test('on hundreds of connections, they slow nobody and are answered when they are completed', async (t) => {
    const body = JSON.stringify({ name: 'e', channel: 'c', data: 'x' });
    const heads = await Promise.all(Array.from({ length: 250 }, () => open(t)));
    const bodies = await Promise.all(Array.from({ length: 250 }, () => open(t)));
    for (const http of heads) http.write('GET /up HTTP/1.1\r\nHo');
    const whole = `${head(`POST ${eventsTarget(body)} HTTP/1.1`, 'Host: x', `Content-Length: ${body.length}`)}${body}`;
    for (const http of bodies) http.write(whole.slice(0, -10));
    const other = await open(t);
    for (let i = 0; i < 100; i++) {
      other.send('POST', eventsTarget(body), { body });
      assert.equal((await other.next()).status, 200);
    }
    for (const http of heads) http.write('st: x\r\n\r\n');
    for (const http of bodies) http.write(whole.slice(-10));
    for (const http of [...heads, ...bodies]) assert.equal((await http.next()).status, 200);
  });

  test('that are cut off leave nothing behind', async (t) => {
    const cut = await Promise.all(Array.from({ length: 200 }, () => open(t)));
    const starts = [
      '',
      'G',
      'GET /up HTTP/1.1\r\nHost: x\r\n',
      head(POST, 'Host: x', 'Content-Length: 100') + 'x',
      `${head(POST, 'Host: x', 'Transfer-Encoding: chunked')}5\r\nab`,
    ];
    cut.forEach((http, i) => {
      http.write(starts[i % starts.length]);
      if (i % 2 === 0) http.end();
      else http.destroy();
    });
    await Promise.all(cut.map((http) => http.closed()));
  });
});
