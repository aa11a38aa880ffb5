// Connecting: the handshake, the established event, the refusals of the protocol's table, and what counts as activity.

import assert from 'node:assert/strict';
import test from 'node:test';

import { closedWithError, connect, stillOpen } from '../lib/client.js';
import { RawHttp } from '../lib/raw-http.js';
import { OPCODE, RawWebSocket } from '../lib/raw-websocket.js';
import { APP, serverFor, sharedServer } from '../lib/server.js';

const SMALL = { id: 'small', key: 'small-key', secret: 'small-secret', max_connections: 2 };
const UNLIMITED = { id: 'unlimited', key: 'unlimited-key', secret: 'unlimited-secret', max_connections: 0 };
const DISABLED = { id: 'disabled', key: 'disabled-key', secret: 'disabled-secret', enabled: false };
const server = await sharedServer({ apps: [APP, SMALL, UNLIMITED, DISABLED] });

test('the_established_event_has_a_socket_id_and_the_activity_timeout_as_a_json_string', async (t) => {
  const ws = await connect(server, { t });
  assert.deepEqual(Object.keys(ws.established).sort(), ['data', 'event', 'text']);
  assert.match(ws.established.data, /^\{"socket_id":"\d+\.\d+","activity_timeout":120\}$/);
});

test('socket_ids_are_unique', async (t) => {
  const connections = await Promise.all(Array.from({ length: 50 }, () => connect(server, { t })));
  assert.equal(new Set(connections.map((ws) => ws.socketId)).size, 50);
});

test('the_configured_activity_timeout_is_announced', async (t) => {
  const other = await serverFor(t, { config: { activity_timeout: 31 } });
  assert.equal((await connect(other)).activityTimeout, 31);
});

for (const query of [
  '',
  '?protocol=5',
  '?protocol=6',
  '?protocol=7',
  '?protocol=7&client=js&version=8.4.0&flash=false',
  '?client=js',
]) {
  test(`a_connection_with_the_query_"${query}"_is_established`, async (t) => {
    const ws = await connect(server, { t, path: `/app/${APP.key}${query}` });
    assert.deepEqual(await stillOpen(ws), []);
  });
}

test('an_unknown_key_is_refused_with_4001', async (t) => {
  const ws = await refused(t, { key: 'no-such-key' });
  await closedWithError(ws, 4001);
  await ws.closed();
});

test('a_disabled_app_is_refused_with_4003', async (t) => {
  await closedWithError(await refused(t, { key: DISABLED.key }), 4003);
});

test('a_connection_over_the_quota_is_refused_with_4004_and_a_place_that_is_left_is_free_again', async (t) => {
  const first = await connect(server, { t, app: SMALL });
  const second = await connect(server, { t, app: SMALL });
  const text = await closedWithError(await refused(t, { key: SMALL.key }), 4004);
  assert.match(text, /\b2\b/, 'the text names the limit');
  assert.deepEqual(await stillOpen(first), []);
  await second.close();
  await connect(server, { t, app: SMALL });
  await closedWithError(await refused(t, { key: SMALL.key }), 4004);
});

test('a_quota_of_0_is_no_limit', async (t) => {
  for (let i = 0; i < 5; i++) await connect(server, { t, app: UNLIMITED });
});

test('a_refused_connection_takes_no_place_of_the_quota', async (t) => {
  const app = { id: 'one', key: 'one-key', secret: 'one-secret', max_connections: 1 };
  const other = await serverFor(t, { apps: [app] });
  for (let i = 0; i < 3; i++) {
    const ws = await RawWebSocket.connect(other, { path: `/app/${app.key}?protocol=3` });
    await closedWithError(ws, 4007);
  }
  await connect(other, { app });
});

for (const path of ['/', '/nope', '/app', '/apps', '/application/app-key']) {
  test(`an_upgrade_of_${path}_is_refused_with_4005`, async (t) => {
    await closedWithError(await refused(t, { path }), 4005);
  });
}

for (const version of ['x', '7x', '-7', '7.0']) {
  test(`protocol_${version}_is_not_a_number_4006`, async (t) => {
    await closedWithError(await refused(t, { path: `/app/${APP.key}?protocol=${version}` }), 4006);
  });
}

for (const version of ['0', '4', '8', '77', '99999999999999999999']) {
  test(`protocol_${version}_is_not_supported_4007`, async (t) => {
    const text = await closedWithError(await refused(t, { path: `/app/${APP.key}?protocol=${version}` }), 4007);
    assert.match(text, /\b5\b.*\b7\b/, 'the text says which versions are');
  });
}

test('over_the_memory_threshold_new_connections_get_4100', async (t) => {
  const other = await serverFor(t, { config: { http_api: { accept_traffic: { memory_threshold: 0.001 } } } });
  await closedWithError(await RawWebSocket.connect(other), 4100);
});

test('with_a_path_prefix_the_app_is_below_it', async (t) => {
  const other = await serverFor(t, { config: { path_prefix: '/realtime' } });
  const ws = await connect(other, { path: `/realtime/app/${APP.key}?protocol=7` });
  assert.deepEqual(await stillOpen(ws), []);
  for (const path of [
    `/app/${APP.key}`,
    `/realtimeapp/${APP.key}`,
    `/realtime2/app/${APP.key}`,
    `/realtime/realtime/app/${APP.key}`,
  ]) {
    await closedWithError(await RawWebSocket.connect(other, { path }), 4005);
  }
});

test('keys_that_no_app_can_have_are_unknown', async (t) => {
  for (const key of ['k'.repeat(5000), '%', '%00', 'app%2fkey', 'app-key%20', 'app-key%C3%A9']) {
    await closedWithError(await refused(t, { key }), 4001);
  }
});

test('handshakes_that_break_rfc_6455_get_an_http_error', async () => {
  const handshake = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  };
  const answer = async (change) => {
    const http = await RawHttp.connect(server);
    const headers = Object.entries({ ...handshake, ...change }).filter(([, value]) => value !== null);
    http.send('GET', `/app/${APP.key}?protocol=7`, { headers });
    const response = await http.next();
    http.destroy();
    return response;
  };
  const version = await answer({ 'Sec-WebSocket-Version': '8' });
  assert.equal(version.status, 426);
  assert.equal(version.headers['sec-websocket-version'], '13');
  assert.equal(version.headers.upgrade, 'websocket');
  assert.equal((await answer({ 'Sec-WebSocket-Key': null })).status, 400);
  assert.equal((await answer({ 'Sec-WebSocket-Key': 'short' })).status, 400);
});

// RFC 6455 sections 4.2.1, 11.3.1 and 11.3.5.
test('a_handshake_in_http_1_0_or_with_a_header_twice_is_400', async () => {
  const handshake = [
    ['Connection', 'Upgrade'],
    ['Upgrade', 'websocket'],
    ['Sec-WebSocket-Version', '13'],
    ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='],
  ];
  for (const [version, more, text] of [
    ['1.0', [], /HTTP\/1\.1/],
    ['1.1', [['sec-websocket-key', 'AAAAAAAAAAAAAAAAAAAAAA==']], /Sec-WebSocket-Key/],
    ['1.1', [['Sec-WebSocket-Version', '13']], /Sec-WebSocket-Version/],
  ]) {
    const http = await RawHttp.connect(server);
    http.send('GET', `/app/${APP.key}?protocol=7`, { headers: [...handshake, ...more], version });
    const response = await http.next();
    assert.equal(response.status, 400, response.text);
    assert.match(response.json.error, text);
    await http.closed();
  }
});

test('a_get_without_upgrade_is_426_and_says_that_a_proxy_dropped_the_headers', async () => {
  for (const [method, version, headers] of [
    ['GET', '1.1', {}],
    ['GET', '1.0', {}],
    ['HEAD', '1.1', {}],
    ['GET', '1.1', { Connection: 'close', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAA' }],
  ]) {
    const http = await RawHttp.connect(server);
    http.send(method, `/app/${APP.key}?protocol=7`, { headers, version });
    const response = await http.next();
    assert.equal(response.status, 426);
    assert.equal(response.headers.upgrade, 'websocket');
    assert.match(response.headers.connection, /upgrade/i);
    if (method === 'GET') assert.match(response.json.error, /proxy/);
    http.destroy();
  }
});

test('handshake_headers_are_read_whatever_their_case_and_company', async (t) => {
  const ws = await connect(server, {
    t,
    headers: { Connection: 'keep-alive, uPGRADE', Upgrade: 'WebSocket', 'X-Other': 'x'.repeat(2000) },
  });
  assert.deepEqual(await stillOpen(ws), []);
});

test('frames_in_the_same_segment_as_the_handshake_are_handled', async (t) => {
  const ws = RawWebSocket.open(server);
  t.after(() => ws.destroy());
  await ws.connected();
  const shaking = ws.shakeHands(`/app/${APP.key}?protocol=7`);
  ws.send({ event: 'pusher:ping', data: {} });
  await shaking;
  await ws.expect('pusher:connection_established');
  await ws.expect('pusher:pong');
});

test('a_pusher_ping_is_answered_by_a_pusher_pong', async (t) => {
  const ws = await connect(server, { t });
  for (const message of [
    { event: 'pusher:ping', data: {} },
    { event: 'pusher:ping', data: '{}' },
    { event: 'pusher:ping' },
  ]) {
    ws.send(message);
    const pong = await ws.expect('pusher:pong');
    assert.ok(pong.data === undefined || typeof pong.data === 'string', 'data is a string if there is any');
  }
});

test('a_websocket_ping_is_answered_by_a_pong_with_its_payload', async (t) => {
  const ws = await connect(server, { t });
  for (const payload of ['', 'hello', 'x'.repeat(125)]) {
    ws.sendFrame({ opcode: OPCODE.ping, payload });
    const pong = await ws.frames.next((frame) => frame.opcode === OPCODE.pong);
    assert.equal(pong.payload.toString(), payload);
  }
});

test('a_close_by_the_client_is_answered_with_its_code', async (t) => {
  const ws = await connect(server, { t });
  ws.sendClose(1000, 'bye');
  const { code, reset } = await ws.closed();
  assert.equal(code, 1000);
  assert.equal(reset, false);
});

test('frames_of_the_server_are_unmasked_and_whole', async (t) => {
  const ws = await connect(server, { t });
  await stillOpen(ws);
  for (const frame of ws.frames.all) assert.deepEqual([frame.fin, frame.rsv, frame.masked], [true, 0, false]);
});

async function refused(t, options) {
  const ws = await RawWebSocket.connect(server, options);
  t.after(() => ws.destroy());
  return ws;
}
