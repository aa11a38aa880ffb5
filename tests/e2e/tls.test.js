// TLS on the listener itself: https and wss, the plain port beside it, and certificates that cannot be used.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import net from 'node:net';
import tls from 'node:tls';

import { LONG_TIMEOUT_MS, within } from '../lib/inbox.js';
import { folderWith } from '../lib/process.js';
import { RawHttp } from '../lib/raw-http.js';
import { RELEASE_BINARY, runCurlew, serverFor, THREADS_BINARY } from '../lib/server.js';

const folder = mkdtempSync(path.join(tmpdir(), 'curlew-tls-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function certificate(name, extra = []) {
  const cert = path.join(folder, `${name}.crt`);
  const key = path.join(folder, `${name}.key`);
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      ...extra,
    ],
    { stdio: 'ignore' },
  );
  return { cert, key };
}

const plain = certificate('plain', ['-nodes']);
const locked = certificate('locked', ['-passout', 'pass:open sesame']);
const elliptic = certificate('elliptic', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']);
const old = path.join(folder, 'old.key');
execFileSync(
  'openssl',
  [
    'rsa',
    '-in',
    locked.key,
    '-passin',
    'pass:open sesame',
    '-traditional',
    '-aes256',
    '-passout',
    'pass:open sesame',
    '-out',
    old,
  ],
  { stdio: 'ignore' },
);
const CA = { ca: readFileSync(plain.cert), servername: '' };

const config = (more = {}) => ({ ssl: { enabled: true, cert_path: plain.cert, key_path: plain.key, ...more } });

function connect(server, options = {}) {
  return within(
    new Promise((resolve, reject) => {
      const socket = tls.connect({ host: server.host, port: server.port, ...CA, ...options }, () => resolve(socket));
      socket.once('error', reject);
    }),
    'a TLS handshake',
  );
}

// Collects what the socket says until `enough` accepts it.
function collect(socket, enough) {
  let text = '';
  return within(
    new Promise((resolve, reject) => {
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1');
        if (enough(text)) resolve(text);
      });
      socket.once('error', reject);
      socket.once('end', () => (enough(text) ? resolve(text) : reject(new Error(`the end after: ${text}`))));
    }),
    'an answer over TLS',
  );
}

const HANDSHAKE =
  'GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n';

// A masked text frame (RFC 6455 section 5.2) with a mask of zeros.
function frame(text) {
  const payload = Buffer.from(text);
  const header =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0xfe, payload.length >> 8, payload.length & 255]);
  return Buffer.concat([header, Buffer.alloc(4), payload]);
}

describe('TLS', () => {
  test('a_request_over_https_is_answered_and_the_certificate_is_the_configured_one', async (t) => {
    const server = await serverFor(t, { config: config() });
    const socket = await connect(server);
    assert.equal(socket.getPeerCertificate().subject.CN, 'localhost');
    socket.write('GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const answer = await collect(socket, (text) => text.endsWith('OK'));
    assert.match(answer, /^HTTP\/1\.1 200 /);
  });

  test('a_failed_handshake_is_logged_at_level_debug_with_address_and_reason', async (t) => {
    const server = await serverFor(t, { config: config(), env: { LOG_LEVEL: 'debug' } });
    const http = await RawHttp.connect(server);
    http.send('GET', '/up');
    await server.waitForLog(
      /^127\.0\.0\.1: the TLS handshake failed: plain HTTP came to a port with TLS: use https:\/\/ and wss:\/\/$/,
    );
    await assert.rejects(connect(server, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }));
    await server.waitForLog(/^127\.0\.0\.1: the TLS handshake failed: unsupported protocol$/);
  });

  test('a_websocket_over_tls_speaks_the_protocol_whatever_the_size_of_its_messages', async (t) => {
    const server = await serverFor(t, { config: config() });
    const socket = await connect(server, { ALPNProtocols: ['http/1.1'] });
    assert.equal(socket.alpnProtocol, 'http/1.1');
    socket.write(HANDSHAKE);
    await collect(socket, (text) => text.includes('connection_established'));
    // 20 KB: more than one TLS record in, and its name comes back in the answer.
    const name = 'n'.repeat(20_000);
    socket.write(frame(JSON.stringify({ event: 'pusher:subscribe', data: { channel: name } })));
    const answer = await collect(socket, (text) => text.includes('LimitReached'));
    assert.ok(answer.includes(name));
    socket.destroy();
  });

  test('many_messages_in_one_burst_over_tls_are_all_answered', async (t) => {
    const server = await serverFor(t, { config: config() });
    const socket = await connect(server);
    socket.write(HANDSHAKE);
    await collect(socket, (text) => text.includes('connection_established'));
    const ping = frame('{"event":"pusher:ping","data":{}}');
    socket.write(Buffer.concat(Array(900).fill(ping)));
    await collect(socket, (text) => text.split('pusher:pong').length === 901);
    socket.destroy();
  });

  test('a_key_with_a_passphrase_is_opened_by_it', async (t) => {
    const server = await serverFor(t, {
      config: { ssl: { enabled: true, cert_path: locked.cert, key_path: locked.key, passphrase: 'open sesame' } },
    });
    const socket = await connect(server, { ca: readFileSync(locked.cert) });
    socket.destroy();
  });

  test('with_ca_path_a_client_without_a_certificate_is_refused_and_one_with_it_is_not', async (t) => {
    const server = await serverFor(t, { config: config({ ca_path: plain.cert }) });
    const request = 'GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
    const anonymous = await connect(server);
    anonymous.write(request);
    await assert.rejects(collect(anonymous, (text) => text.endsWith('OK')));
    const known = await connect(server, { cert: readFileSync(plain.cert), key: readFileSync(plain.key) });
    known.write(request);
    await collect(known, (text) => text.endsWith('OK'));
  });

  test('a renewed certificate is in use after SIGHUP, and what is open stays open; one that cannot be used changes nothing', async (t) => {
    const renewed = { cert: path.join(folder, 'renewed.crt'), key: path.join(folder, 'renewed.key') };
    const install = ({ cert, key }) => {
      copyFileSync(cert, renewed.cert);
      copyFileSync(key, renewed.key);
    };
    install(plain);
    const server = await serverFor(t, {
      binary: THREADS_BINARY,
      config: { workers: 4, ssl: { enabled: true, cert_path: renewed.cert, key_path: renewed.key } },
    });
    const open = await connect(server);
    open.write(HANDSHAKE);
    await collect(open, (text) => text.includes('connection_established'));
    const shown = async (ca) => {
      const sockets = await Promise.all(
        Array.from({ length: 20 }, () => connect(server, { ca: readFileSync(ca.cert) })),
      );
      sockets.forEach((socket) => socket.destroy());
    };
    await shown(plain);
    install(elliptic);
    await server.hup();
    await shown(elliptic);
    await assert.rejects(shown(plain));
    copyFileSync(plain.cert, renewed.cert); // the key is not this one's
    await server.hup();
    await server.waitForLog(
      /ssl\.key_path.*not the key of the certificate.*; the certificate from before stays in use/,
    );
    await shown(elliptic);
    open.write(frame('{"event":"pusher:ping","data":{}}'));
    await collect(open, (text) => text.includes('pusher:pong'));
    open.destroy();
  });

  test('with apps in a store SIGHUP reads the certificate again and leaves the apps alone', async (t) => {
    const store = { app_manager: { driver: 'sqlite' }, database: { sqlite: { path: path.join(folder, 'apps.db') } } };
    const server = await serverFor(t, { config: { ...config(), ...store } });
    process.kill(server.pid, 'SIGHUP');
    await server.waitForLog(/^certificate and key read again/);
    assert.equal((await server.waitForLog(/^the apps are in a store/)).level.toLowerCase(), 'info');
    const socket = await connect(server);
    socket.write('GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await collect(socket, (text) => text.endsWith('OK'));
  });

  test('the_plain_port_redirects_to_https', async (t) => {
    const server = await serverFor(t, { config: config({ redirect_http: true, http_port: 0 }) });
    const line = await server.waitForLog(/^redirecting from http:\/\//);
    const answer = await fetch(`${line.message.match(/http\S+/)[0]}/up?a=1`, { redirect: 'manual' });
    assert.equal(answer.status, 308);
    assert.equal(answer.headers.get('location'), `https://127.0.0.1:${server.port}/up?a=1`);
    for (const [method, target, path] of [
      ['GET', 'http://other.example/up?a=http://b/', '/up?a=http://b/'],
      ['GET', 'http://other.example', '/'],
      ['OPTIONS', '*', '/'],
    ]) {
      const http = await RawHttp.connect({ host: server.host, port: Number(line.message.match(/\d+$/)[0]) });
      t.after(() => http.destroy());
      http.send(method, target, { headers: { Host: 'my.example' } });
      assert.equal((await http.next()).headers.location, `https://my.example:${server.port}${path}`, target);
    }
  });

  test('plain_http_on_the_tls_port_is_told_so_and_closed_and_disturbs_nobody', async (t) => {
    const server = await serverFor(t, { config: config() });
    const http = await RawHttp.connect(server);
    http.send('POST', '/apps/app-id/events', { body: 'x'.repeat(2000) });
    const answer = await http.next();
    assert.equal(answer.status, 400);
    assert.deepEqual(answer.json, { error: 'this port has TLS: use https:// and wss://' });
    await http.closed();
    const socket = await connect(server);
    socket.destroy();
  });

  const unusable = {
    'a certificate that is not there': [
      { cert_path: '/nowhere.crt', key_path: plain.key },
      /ssl\.cert_path.*nowhere\.crt/,
    ],
    'a key that is not there': [{ cert_path: plain.cert, key_path: '/nowhere.key' }, /ssl\.key_path.*nowhere\.key/],
    'a key of another certificate': [
      { cert_path: plain.cert, key_path: locked.key, passphrase: 'open sesame' },
      /ssl\.key_path.*not the key of the certificate/,
    ],
    'a key of another kind': [
      { cert_path: plain.cert, key_path: elliptic.key },
      /ssl\.key_path.*not the key of the certificate/,
    ],
    'a certificate in place of the key': [
      { cert_path: plain.cert, key_path: plain.cert },
      /ssl\.key_path.*holds no private key in PEM format/,
    ],
    'a key in place of the certificate': [
      { cert_path: plain.key, key_path: plain.key },
      /ssl\.cert_path.*holds no certificate in PEM format/,
    ],
    'a key in place of the authorities': [
      { cert_path: plain.cert, key_path: plain.key, ca_path: plain.key },
      /ssl\.ca_path.*holds no certificate in PEM format/,
    ],
    // Old and new ways to encrypt a key fail in different places.
    'a wrong passphrase': [
      { cert_path: locked.cert, key_path: locked.key, passphrase: 'hunter2' },
      /with (this )?ssl\.passphrase/,
    ],
    'a wrong passphrase of a key encrypted as before PKCS #8': [
      { cert_path: locked.cert, key_path: old, passphrase: 'hunter2' },
      /with (this )?ssl\.passphrase/,
    ],
    'no passphrase': [
      { cert_path: locked.cert, key_path: locked.key },
      /is encrypted, so ssl\.passphrase has to be given|holds no private key/,
    ],
    'no files at all': [{}, /ssl\.cert_path/],
  };
  for (const [what, [ssl, message]] of Object.entries(unusable)) {
    test(`${what} is an error at start that names the setting`, async () => {
      for (const command of ['serve', 'check']) {
        const { code, stdout, stderr } = await runCurlew([command], {
          config: { port: 0, metrics: { port: 0 }, ssl: { enabled: true, ...ssl } },
        });
        assert.equal(code, 2, stderr);
        assert.match(stdout + stderr, message);
        assert.doesNotMatch(stdout + stderr, /hunter2|open sesame/);
      }
    });
  }

  test('a client cannot renegotiate', async (t) => {
    const server = await serverFor(t, { config: config() });
    const args = ['s_client', '-tls1_2', '-connect', `${server.host}:${server.port}`];
    const client = spawn('openssl', args);
    let text = '';
    for (const stream of [client.stdout, client.stderr])
      stream.setEncoding('utf8').on('data', (chunk) => {
        if (!text.includes('Verify return code') && (text + chunk).includes('Verify return code'))
          client.stdin.write('R\n');
        text += chunk;
      });
    await within(new Promise((resolve) => client.once('close', resolve)), 'openssl s_client to end');
    assert.match(text, /RENEGOTIATING[^]*no renegotiation/);
  });

  test('a private key that every user can read is dangerous', async (t) => {
    const key = path.join(folderWith(t, { 'open.key': readFileSync(plain.key, 'utf8') }), 'open.key');
    for (const [mode, dangerous] of [
      [0o644, true],
      [0o640, false],
    ]) {
      chmodSync(key, mode);
      const { code, stdout } = await runCurlew(['check'], {
        config: { ssl: { enabled: true, cert_path: plain.cert, key_path: key } },
      });
      assert.equal(code, 0, stdout);
      assert.equal(stdout.includes(`dangerous: ssl.key_path, ${key}, has the mode 0644: `), dangerous, stdout);
      assert.doesNotMatch(stdout, /it has no TLS/);
    }
  });

  test('garbage_in_a_certificate_file_is_named', async () => {
    const cert = path.join(folder, 'garbage.crt');
    writeFileSync(cert, 'not a certificate');
    const { code, stderr } = await runCurlew(['serve'], {
      config: { port: 0, metrics: { port: 0 }, ssl: { enabled: true, cert_path: cert, key_path: plain.key } },
    });
    assert.equal(code, 2, stderr);
    assert.match(stderr, /"ssl\.cert_path: [^"]*garbage\.crt cannot be used: it holds no certificate in PEM format"/);
  });
});

// A record with the head of a ClientHello (RFC 8446 sections 4 and 5.1) of this length, of which `sent` bytes follow.
function hello(length, sent, recordLength = sent + 4) {
  const head = [22, 3, 1, recordLength >> 8, recordLength & 255, 1, length >> 16, (length >> 8) & 255, length & 255];
  return Buffer.concat([Buffer.from(head), Buffer.alloc(sent)]);
}

describe('a handshake that does not go on', { concurrency: true }, () => {
  // Opens a connection, sends the start and then a byte a second; resolves to the seconds until the server closed it.
  async function secondsUntilClosed(server, start, trickle) {
    const began = performance.now();
    const socket = net.connect(server.port, server.host);
    socket.on('error', () => {});
    socket.on('connect', () => socket.write(start));
    socket.resume();
    const timer = trickle && setInterval(() => socket.write(Buffer.alloc(1)), 1000);
    await within(new Promise((resolve) => socket.once('close', resolve)), 'the end of a handshake', LONG_TIMEOUT_MS);
    clearInterval(timer);
    return (performance.now() - began) / 1000;
  }

  const stalled = {
    'no byte at all': [Buffer.alloc(0), false],
    'a part of the first head': [hello(512, 0).subarray(0, 6), false],
    'half a hello': [hello(512, 200, 516), false],
    'a trickling hello': [hello(512, 200, 516), true],
  };
  for (const [what, [start, trickle]] of Object.entries(stalled))
    test(`${what}: is closed after 10 s, while others are served`, async (t) => {
      const server = await serverFor(t, { config: config() });
      const ended = secondsUntilClosed(server, start, trickle);
      (await connect(server)).destroy();
      const seconds = await ended;
      assert.ok(seconds > 8.9 && seconds < 28, `closed after ${seconds} s`);
      (await connect(server)).destroy();
    });

  // OpenSSL would allocate what the head of the message claims.
  const refused = {
    'a hello of more than 16 KB': hello(0x4001, 0),
    'a record without the whole head of the message': Buffer.concat([hello(512, 0, 1).subarray(0, 6), hello(512, 0)]),
  };
  for (const [what, start] of Object.entries(refused))
    test(`${what}: is closed at once`, async (t) => {
      const server = await serverFor(t, { config: config() });
      const seconds = await secondsUntilClosed(server, start, false);
      assert.ok(seconds < 8.9, `closed after ${seconds} s`);
    });

  test('a hello that comes in two pieces is answered', async (t) => {
    const server = await serverFor(t, { config: config() });
    const relay = net.createServer((client) => {
      const upstream = net.connect({ host: server.host, port: server.port, noDelay: true });
      upstream.pipe(client);
      client.once('data', (first) => {
        upstream.write(first.subarray(0, 4));
        // The next turn of the relay may still be too early for the server to have seen the piece: that is right, too.
        setImmediate(() => {
          upstream.write(first.subarray(4));
          client.pipe(upstream);
        });
      });
    });
    await new Promise((resolve) => relay.listen(0, '127.0.0.1', resolve));
    t.after(() => relay.close());
    const socket = await connect({ host: '127.0.0.1', port: relay.address().port });
    socket.write('GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await collect(socket, (text) => text.endsWith('OK'));
    socket.destroy();
  });

  test('each holds less than 64 KB', async (t) => {
    const server = await serverFor(t, { binary: RELEASE_BINARY, config: config() });
    const memory = () => Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);
    const before = memory();
    const sockets = Array.from({ length: 500 }, () => {
      const socket = net.connect(server.port, server.host).on('error', () => {});
      socket.write(hello(512, 200, 516));
      return socket;
    });
    // The server reads them before it answers one that comes later.
    await Promise.all(
      sockets.map((socket) => within(new Promise((resolve) => socket.once('connect', resolve)), 'TCP')),
    );
    for (let i = 0; i < 4; i++) (await connect(server)).destroy();
    const each = (memory() - before) / sockets.length;
    sockets.forEach((socket) => socket.destroy());
    assert.ok(each < 64, `${each} KB`);
  });
});
