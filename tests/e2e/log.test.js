// The log: for people or for machines, one line per event, and never a secret in it.

import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';

import { api, publish, request } from '../lib/api.js';
import {
  closedWithError,
  connect,
  join,
  nextError,
  sendSignin,
  sendSubscribe,
  signin,
  subscribeRefused,
  trigger,
} from '../lib/client.js';
import { subscriber } from '../lib/events.js';
import { folderWith, start } from '../lib/process.js';
import { RawHttp } from '../lib/raw-http.js';
import { encodeFrame, OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, BINARY, serverFor } from '../lib/server.js';

const SECRET = 'the-secret-that-no-log-may-hold-at-all';
const GOOD = {
  host: '127.0.0.1',
  port: 0,
  metrics: { host: '127.0.0.1', port: 0 },
  shutdown_grace_period: 0,
  app_manager: { driver: 'memory', array: { apps: [APP] } },
};

// Starts, waits for `ready` in whatever format, stops; returns the lines.
async function linesOf(t, env, config = GOOD) {
  const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
  const server = start(t, BINARY, ['serve', '--config', file], { env });
  await server.err.next((line) => /\bready\b/.test(line));
  server.child.kill('SIGTERM');
  assert.equal((await server.exited()).code, 0);
  assert.deepEqual(server.out.all, [], 'nothing but the log is written');
  return server.err.all;
}

describe('formats', () => {
  test('json: every line is an object with time, level, target and message', async (t) => {
    const lines = (await linesOf(t, { LOG_OUTPUT_FORMAT: 'json' })).map((line) => JSON.parse(line));
    for (const line of lines) {
      for (const member of ['time', 'level', 'target', 'message'])
        assert.equal(typeof line[member], 'string', JSON.stringify(line));
      assert.ok(Math.abs(Date.parse(line.time) - Date.now()) < 600_000, line.time);
    }
    const server = lines.filter((line) => line.target === 'server').map((line) => line.message);
    const ready = server.findIndex((message) => message === 'ready');
    const listening = server.findIndex((message) => /^listening on http:\/\/127\.0\.0\.1:\d+$/.test(message));
    const metrics = server.findIndex((message) => /^metrics on http:\/\/127\.0\.0\.1:\d+\/metrics$/.test(message));
    assert.ok(listening >= 0 && metrics >= 0 && ready > listening && ready > metrics, server.join('\n'));
  });

  test('human: readable lines, without colours when nobody looks at a terminal', async (t) => {
    for (const env of [{}, { LOG_OUTPUT_FORMAT: 'human' }, { LOG_COLORS_ENABLED: 'true' }]) {
      const lines = await linesOf(t, env);
      assert.ok(
        lines.some((line) => /server.*listening on http:/.test(line)),
        lines.join('\n'),
      );
      assert.ok(
        lines.every((line) => !line.includes('\x1b') && !line.startsWith('{')),
        lines.join('\n'),
      );
    }
  });

  test('the target can be left out', async (t) => {
    const lines = await linesOf(t, { LOG_INCLUDE_TARGET: 'false' });
    assert.ok(
      lines.some((line) => /listening on/.test(line) && !/\bserver\b/.test(line.replace(/listening on.*/, ''))),
      lines.join('\n'),
    );
  });

  test('debug says more than info', async (t) => {
    const levels = async (env) =>
      (await linesOf(t, { LOG_OUTPUT_FORMAT: 'json', ...env })).map((line) => JSON.parse(line).level.toLowerCase());
    assert.ok(!(await levels({})).includes('debug'));
    assert.ok(!(await levels({ LOG_LEVEL: 'info', RUST_LOG: 'debug' })).includes('debug'));
  });
});

describe('what connections do, at level debug', () => {
  const messages = (server) =>
    server.log.all.filter(({ target }) => target === 'session').map(({ message }) => message);

  test('connects, refusals and ends are logged with address, app, socket id and reason', async (t) => {
    const app = { ...APP, enable_client_messages: false };
    const server = await serverFor(t, {
      apps: [app, { ...app, id: 'off', key: 'off-key', enabled: false }],
      env: { LOG_LEVEL: 'debug' },
      config: { rate_limiter: { websocket_rate_limit: { trust_hops: 1 } } },
    });
    const headers = { 'X-Forwarded-For': '203.0.113.9, [2001:db8::7]:4711' };
    const ws = await connect(server, { t, app, headers });
    await subscribeRefused(ws, 'private-c', { type: 'AuthError', status: 401 }, { auth: `${app.key}:00` });
    trigger(ws, 'private-c', 'client-x', {});
    await nextError(ws, 4301);
    await ws.close();
    const refused = await RawWebSocket.connect(server, { key: 'no-such-key' });
    await closedWithError(refused, 4001);
    await closedWithError(await RawWebSocket.connect(server, { key: 'off-key' }), 4003);
    const cut = await connect(server, { t, app });
    sendSignin(cut, { id: 'u' }, { auth: `${app.key}:00` });
    await closedWithError(cut, 4009);
    await server.stop();
    const [proxied, direct] = [`2001:db8::7: socket ${ws.socketId} of app ${app.id}`, '127.0.0.1'];
    assert.deepEqual(messages(server), [
      `${proxied}: connected`,
      `${proxied}: subscription to "private-c" refused: AuthError 401: \`auth\` must be the app's key, a colon and 64 hexadecimal digits`,
      `${proxied}: error 4301: client event refused: \`enable_client_messages\` of this app is false`,
      `${proxied}: disconnected`,
      `${direct}: refused with 4001: there is no app with this key`,
      `${direct}: refused with 4003: the app is disabled`,
      `${direct}: socket ${cut.socketId} of app ${app.id}: connected`,
      `${direct}: socket ${cut.socketId} of app ${app.id}: closed with 4009: sign-in refused: \`auth\` must be the app's key, a colon and 64 hexadecimal digits`,
      `${direct}: socket ${cut.socketId} of app ${app.id}: disconnected`,
    ]);
  });

  test('at level info, the default, none of this is logged', async (t) => {
    const server = await serverFor(t);
    await connect(server, { t });
    await closedWithError(await RawWebSocket.connect(server, { key: 'no-such-key' }), 4001);
    await server.stop();
    assert.deepEqual(messages(server), []);
  });
});

describe('what is refused before its path is looked at, at level debug', () => {
  const LINE = /^127\.0\.0\.1: a request was refused with /;
  const TLS = 'these are bytes of TLS, and this port has no TLS: use http:// and ws://, or set ssl.enabled';
  const PROXY = 'the PROXY protocol is not supported: let the proxy send X-Forwarded-For';
  const handshake = (lines) => `GET /app/app-key HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n${lines}\r\n`;

  for (const [what, bytes, status, text] of [
    ['TLS on a port without it', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a b', 400, TLS],
    ['the PROXY protocol', 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n', 400, PROXY],
    ['its second version', '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c', 400, PROXY],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'HTTP/2 is not supported: use HTTP/1.1'],
    ['a request without Host', 'GET / HTTP/1.1\r\n\r\n', 400, 'HTTP/1.1 needs a Host header'],
    ['no request', 'hello\r\n\r\n', 400, 'Invalid method encountered'],
    ['a head that is too long', `GET /${'x'.repeat(70_000)} HTTP/1.1\r\n\r\n`, 431, "the request's head is over"],
    [
      'a handshake of another version',
      handshake('Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\n'),
      426,
      'Sec-WebSocket-Version must be 13',
    ],
    [
      'a handshake without a key',
      handshake('Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'),
      400,
      'Sec-WebSocket-Key must be 16 bytes in base64',
    ],
  ]) {
    test(`${what} is logged with address, status and reason, which the client gets as well`, async (t) => {
      const server = await serverFor(t, { env: { LOG_LEVEL: 'debug' } });
      const http = await RawHttp.connect(server);
      http.write(Buffer.from(bytes, 'latin1'));
      const answer = await http.next();
      assert.equal(answer.status, status);
      assert.ok(answer.json.error.includes(text), answer.text);
      const { message } = await server.waitForLog(LINE);
      assert.equal(message, `127.0.0.1: a request was refused with ${status}: ${answer.json.error}`);
    });
  }

  test('a message that breaks the WebSocket protocol is logged with the connection and the reason', async (t) => {
    const server = await serverFor(t, { env: { LOG_LEVEL: 'debug' } });
    for (const [bytes, code] of [
      [encodeFrame({ opcode: OPCODE.text, payload: 'x', mask: false }), 1002],
      [encodeFrame({ opcode: OPCODE.binary, payload: 'x' }), 1003],
      [encodeFrame({ opcode: OPCODE.text, payload: Buffer.from([0xff]) }), 1007],
      [encodeFrame({ opcode: OPCODE.text, payload: Buffer.alloc(70_000, 'x') }), 1009],
    ]) {
      const ws = await connect(server, { t });
      ws.write(bytes);
      const closed = await ws.closed();
      assert.equal(closed.code, code);
      await server.waitForLog(
        (line) =>
          line.message ===
          `127.0.0.1: socket ${ws.socketId} of app ${APP.id}: closed with ${code}: ${closed.reason.toString()}`,
      );
    }
  });
});

describe('requests', () => {
  test('are logged at level debug with address, method, path, app and status, without their query', async (t) => {
    const server = await serverFor(t, {
      env: { LOG_LEVEL: 'debug' },
      config: { rate_limiter: { api_rate_limit: { trust_hops: 1 } } },
    });
    const event = { name: 'e', channel: 'c', data: 'x' };
    await publish(server, event, { headers: { 'X-Forwarded-For': '203.0.113.9' } });
    await api(server, 'POST', '/events', { body: event, signAs: { secret: 'wrong' } });
    await request(`${server.url}/up?secret=${SECRET}`);
    await request(`${server.url}/apps/nobody/channels`);
    await request(`${server.url}/nowhere`, { method: 'DELETE' });
    await request(server.metricsUrl);
    await server.stop();
    const lines = server.log.all.filter((line) => line.level === 'debug' && line.target === 'api');
    assert.deepEqual(
      lines.map(({ message }) => message),
      [
        `203.0.113.9: POST /apps/${APP.id}/events of app ${APP.id}: 200`,
        `127.0.0.1: POST /apps/${APP.id}/events of app ${APP.id}: 401: auth_signature is wrong: it is the HMAC-SHA256, ` +
          "by the app's secret, of method, path and sorted query without auth_signature, on a line each",
        '127.0.0.1: GET /up: 200',
        '127.0.0.1: GET /apps/nobody/channels: 404: there is no app with this id',
        '127.0.0.1: DELETE /nowhere: 404: there is nothing at this path',
        '127.0.0.1: GET /metrics: 200',
      ],
    );
  });

  test('to the admin API without its token are a warning with the address, once a minute', async (t) => {
    const server = await serverFor(t, {
      apps: [],
      config: {
        app_manager: { driver: 'sqlite' },
        database: { sqlite: { path: path.join(folderWith(t), 'apps.db') } },
      },
      env: { CURLEW_ADMIN_TOKEN: SECRET, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
    });
    const { message } = await server.waitForLog(/^admin API on /);
    const url = message.match(/http:\/\/\S+/)[0];
    for (const authorization of [undefined, 'Bearer wrong', `Basic ${SECRET}`]) {
      const headers = authorization === undefined ? {} : { authorization };
      assert.equal((await request(`${url}/one?secrets=1`, { method: 'DELETE', headers })).status, 401);
    }
    assert.equal((await request(url, { headers: { authorization: `Bearer ${SECRET}` } })).status, 200);
    await server.stop();
    const warnings = server.log.all.filter((line) => line.level === 'warn' && line.target === 'api');
    // The minute may have changed in between.
    assert.ok(warnings.length === 1 || warnings.length === 2, `${warnings.length} lines`);
    for (const line of warnings)
      assert.equal(
        line.message,
        '127.0.0.1: a request to the admin API without its token was refused: DELETE /admin/apps/one',
      );
    for (const line of server.log.all) assert.ok(!line.message.includes(SECRET), line.message);
  });
});

describe('what clients send', () => {
  test('no secret and no signature is ever in the log, at the most talkative level', async (t) => {
    const app = { ...APP, secret: SECRET };
    const server = await serverFor(t, {
      apps: [app],
      env: { LOG_LEVEL: 'debug', DEBUG: 'true' },
      config: {
        debug: true,
        database: {
          mysql: { password: SECRET },
          postgres: { password: SECRET },
          dynamodb: { aws_secret_access_key: SECRET },
        },
      },
    });
    const ws = await subscriber(server, t, ['c', 'private-c'], { app });
    await join(ws, 'presence-c', { user_id: '1' });
    await signin(ws, { id: '1' });
    await publish(server, { name: 'e', channel: 'c', data: 'x' }, { app });
    const event = { name: 'e', channel: 'c', data: 'x' };
    for (const wrong of [
      { signAs: { secret: 'wrong' } },
      { now: 1 },
      { auth: { auth_version: '2' } },
      { auth: { body_md5: 'x' } },
    ]) {
      assert.equal((await api(server, 'POST', '/events', { app, body: event, ...wrong })).status, 401);
    }
    const stranger = await connect(server, { app, t });
    await subscribeRefused(
      stranger,
      'private-c',
      { type: 'AuthError', status: 401 },
      { auth: `${app.key}:${'0'.repeat(64)}` },
    );
    sendSubscribe(stranger, 'private-c', { auth: `${app.key}:${SECRET}` });
    sendSignin(stranger, { id: '2' }, { auth: `${app.key}:${'1'.repeat(64)}` });
    await closedWithError(stranger, 4009);
    await server.reload({ apps: [{ ...app, secret: `${SECRET}-2` }] });
    await server.reload({ apps: [{ ...app, secret: '' }] });
    await server.reload({ text: `{"app_manager":{"array":{"apps":[{"secret":"${SECRET}" "x"}]}}}` });
    await server.stop();
    for (const line of server.log.all) {
      assert.ok(!line.message.includes(SECRET), line.message);
      assert.doesNotMatch(line.message, /[0-9a-f]{64}/i);
    }
  });

  test('control characters from a client cannot forge a line', async (t) => {
    const server = await serverFor(t, { env: { LOG_LEVEL: 'debug' } });
    const forged = 'x\r\n\x1b[31m{"level":"error","target":"server","message":"forged"}\n';
    await request(`${server.url}/up/${encodeURIComponent(forged)}`);
    await request(`${server.url}/apps/${encodeURIComponent(forged)}/channels`);
    await request(`${server.url}/${encodeURIComponent(forged)}`);
    const ws = await connect(server, { t });
    ws.send({ event: forged, channel: forged, data: forged });
    ws.send({ event: 'pusher:subscribe', data: { channel: forged } });
    trigger(ws, forged, `client-${forged}`, {});
    await ws.fence();
    await server.stop();
    for (const line of server.log.all) {
      assert.ok('level' in line, `no line of the log: ${line.message}`);
      assert.notEqual(line.message, 'forged');
    }
  });
});

describe('the level while the server runs', () => {
  const connected = (line) => line.level === 'debug' && /: connected$/.test(line.message);
  const lines = (server) => server.log.all.filter(connected).length;
  const signalled = async (server) => {
    const since = server.log.all.length;
    process.kill(server.pid, 'SIGUSR1');
    return (await server.waitForLog(/^SIGUSR1: /, { since })).message;
  };
  const visit = async (server) => (await connect(server)).destroy();

  for (const [configured, back] of [
    ['info', 'info'],
    ['debug', 'info'],
  ])
    test(`SIGUSR1 turns debug on and off again, with ${configured} configured`, async (t) => {
      const server = await serverFor(t, { env: { LOG_LEVEL: configured } });
      if (configured === 'debug') assert.match(await signalled(server), /^SIGUSR1: the log level is info now/);
      await visit(server);
      assert.equal(lines(server), 0);
      assert.match(await signalled(server), new RegExp(`the log level is debug now; another one sets it to ${back}`));
      await visit(server);
      await server.waitForLog(connected);
      assert.equal(lines(server), 1);
      assert.match(await signalled(server), new RegExp(`the log level is ${back} now`));
      await visit(server);
      await signalled(server);
      await visit(server);
      await server.stop();
      assert.equal(lines(server), 2);
    });
});

describe('the address of a refused client', () => {
  const HOPS = { trust_hops: 1 };
  const refusals = (server) => server.log.all.filter(({ target }) => target === 'net').map(({ message }) => message);

  test('is one warning a minute, by the proxy if there is one, for signatures, origins and limits', async (t) => {
    const app = { ...APP, allowed_origins: ['https://good.example'] };
    const limits = { api_rate_limit: HOPS, websocket_rate_limit: HOPS };
    const server = await serverFor(t, { apps: [app], config: { rate_limiter: limits } });
    const from = (address) => ({ 'X-Forwarded-For': address });
    for (let i = 0; i < 5; i++) {
      const answer = await api(server, 'GET', '/channels', {
        app: { ...app, secret: 'wrong' },
        headers: from('192.0.2.1'),
      });
      assert.equal(answer.status, 401);
      const headers = { ...from('192.0.2.2'), Origin: 'https://evil.example' };
      await closedWithError(await RawWebSocket.connect(server, { key: app.key, headers }), 4009);
    }
    const ws = await connect(server, {
      t,
      app,
      headers: { ...from('192.0.2.3'), Origin: 'https://good.example' },
    });
    await subscribeRefused(ws, 'private-c', { type: 'AuthError', status: 401 }, { auth: `${app.key}:00` });
    await subscribeRefused(ws, 'private-c', { type: 'AuthError', status: 401 }, { auth: `${app.key}:00` });
    await server.stop();
    const lines = refusals(server);
    // A minute may end in between.
    const shown = [...new Set(lines)];
    assert.ok(lines.length <= 2 * shown.length, lines.join('\n'));
    assert.equal(shown.length, 3);
    assert.match(shown[0], /^192\.0\.2\.1: a request to app app-id was refused with 401: /);
    assert.equal(shown[1], '192.0.2.2: a client was refused: app app-id does not allow its origin');
    assert.equal(shown[2], '192.0.2.3: a client of app app-id was refused: its signature is wrong');
    assert.ok(server.log.all.every(({ target, level }) => target !== 'net' || level === 'warn'));
  });

  test('is that of the socket without a proxy', async (t) => {
    const limit = { max_requests: 1, window_seconds: 3600 };
    const server = await serverFor(t, {
      config: { rate_limiter: { enabled: true, api_rate_limit: limit, websocket_rate_limit: limit } },
    });
    const ws = await connect(server, { t });
    await closedWithError(await RawWebSocket.connect(server, { key: APP.key }), 4100);
    await subscribeRefused(ws, 'private-c', { type: 'AuthError', status: 401 }, { auth: `${APP.key}:00` });
    await server.stop();
    const [first, ...more] = refusals(server);
    const path = 'rate_limiter.websocket_rate_limit';
    assert.equal(first, `127.0.0.1: a client was refused: it connects more often than ${path} allows`);
    assert.ok(more.length <= 1, 'a minute may end in between');
  });
});
