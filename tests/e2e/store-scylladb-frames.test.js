// What a node may put on the wire, before and between its answers and in place of them: a real Cassandra through a port
// that adds frames, and peers that send what no node does.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';

import { EVERY_FIELD, apps, appsDone } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { connect } from '../lib/client.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { serverFor } from '../lib/server.js';

const HEADER_BYTES = 9;
const ERROR = 0x00;
const READY = 0x02;
const RESULT = 0x08;
const EVENT = 0x0c;
const APP = { id: 'one', key: 'one-key', secret: 's' };

function frame(opcode, stream, body, { version = 0x84, flags = 0, length = body.length } = {}) {
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = version;
  header[1] = flags;
  header.writeInt16BE(stream, 2);
  header[4] = opcode;
  header.writeUInt32BE(length, 5);
  return Buffer.concat([header, body]);
}

function text(string) {
  const bytes = Buffer.from(string);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

// Calls `each(header, body)` for every frame that arrives on the socket.
function framesOf(socket, each) {
  let rest = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= HEADER_BYTES && rest.length >= HEADER_BYTES + rest.readUInt32BE(5)) {
      const end = HEADER_BYTES + rest.readUInt32BE(5);
      each(rest.subarray(0, HEADER_BYTES), rest.subarray(HEADER_BYTES, end));
      rest = rest.subarray(end);
    }
  });
}

// Listens on a port of this machine for the test; returns "host:port".
async function listening(t, serve) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${server.address().port}`;
}

function settingsFor(node, lookup_timeout_ms) {
  return {
    app_manager: { driver: 'scylladb', lookup_timeout_ms, scylladb: { nodes: [node], username: 'u', password: 'p' } },
  };
}

function fileFor(t, settings) {
  return path.join(folderWith(t, { 'config.json': settings }), 'config.json');
}

test('events_strange_streams_warnings_and_flags_between_the_answers_change_nothing', async (t) => {
  const backend = await backendFor(t, 'cassandra');
  const { host, port } = backend.address;
  const warning = Buffer.concat([Buffer.from([0, 1]), text('a warning that nobody has to read')]);
  const payload = Buffer.concat([Buffer.from([0, 1]), text('name'), Buffer.from([0, 0, 0, 1, 7])]);
  let added = 0;
  const node = await listening(t, (client) => {
    const link = net
      .connect(port, host)
      .on('error', () => client.destroy())
      .on('close', () => client.destroy());
    client.on('close', () => link.destroy()).pipe(link);
    framesOf(link, (header, body) => {
      const stream = header.readInt16BE(2);
      client.write(
        frame(
          EVENT,
          -1,
          Buffer.concat([text('STATUS_CHANGE'), text('DOWN'), Buffer.from([4, 127, 0, 0, 1, 0, 0, 0, 1])]),
        ),
      );
      client.write(frame(EVENT, stream, text('A_NEW_KIND_OF_EVENT')));
      client.write(frame(RESULT, stream ^ 0x4000, Buffer.from([0, 0, 0, 1])));
      client.write(frame(ERROR, stream - 1, Buffer.concat([Buffer.from([0, 0, 0x10, 1]), text('for somebody else')])));
      // Bits of flags that version 4 does not name are nobody's.
      if ((header[1] & 0x0e) === 0)
        client.write(frame(header[4], stream, Buffer.concat([warning, payload, body]), { flags: 0x0c | 0xf0 }));
      else client.write(Buffer.concat([header, body]));
      added++;
    });
  });
  const settings = backend.config('crowded');
  settings.app_manager.scylladb.nodes = [node];
  const file = fileFor(t, settings);
  const { id, key, secret, ...rest } = EVERY_FIELD;
  const sets = Object.entries(rest).flatMap(([name, value]) => [
    '--set',
    `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
  ]);
  await appsDone(t, ['create', '-c', file, '--id', id, '--key', key, '--secret', secret, ...sets]);
  assert.deepEqual(await appsDone(t, ['show', id, '-c', file, '--json', '--show-secrets']), EVERY_FIELD);
  assert.ok(added > 20, `${added} answers`);
});

const nothing = Buffer.alloc(0);
// Each: what is sent when a request has come, and what the log says of it.
const PEERS = {
  a_node_that_says_nothing: [() => {}, /no answer in time/],
  a_node_that_sends_a_byte_now_and_then: [
    (socket, stream) => {
      const bytes = frame(READY, stream, nothing);
      let at = 0;
      const timer = setInterval(() => at < 8 && socket.write(bytes.subarray(at, ++at)), 300);
      socket.on('close', () => clearInterval(timer));
    },
    /no answer in time/,
  ],
  a_node_that_sends_events_without_end: [
    (socket) => {
      const flood = Buffer.concat(Array(1000).fill(frame(EVENT, -1, text('TOPOLOGY_CHANGE'))));
      const more = () => {
        while (!socket.destroyed && socket.write(flood));
      };
      socket.on('drain', more);
      more();
    },
    /no answer in time/,
  ],
  an_answer_that_announces_2_to_31_bytes: [
    (socket, stream) => socket.write(frame(READY, stream, nothing, { length: 2 ** 31 })),
    /an answer of 2147483648 bytes is too long/,
  ],
  an_answer_that_announces_what_never_comes: [
    (socket, stream) => socket.write(frame(READY, stream, nothing, { length: 16 * 1024 * 1024 })),
    /no answer in time/,
  ],
  an_answer_that_ends_in_the_middle: [
    (socket, stream) => socket.end(frame(READY, stream, Buffer.alloc(10), { length: 1000 })),
    /the node closed the connection/,
  ],
  a_node_that_speaks_version_3: [
    (socket, stream) => socket.write(frame(ERROR, stream, nothing, { version: 0x83 })),
    /the node speaks version 3 of the CQL protocol, and not 4/,
  ],
  a_node_that_speaks_version_5_with_segments: [
    (socket, stream) => socket.write(frame(READY, stream, nothing, { version: 0x85 })),
    /the node speaks version 5 of the CQL protocol, and not 4/,
  ],
  a_server_of_another_protocol: [
    (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'),
    /the other side does not speak the CQL protocol/,
  ],
  an_echo: [(socket, stream, request) => socket.write(request), /the other side does not speak the CQL protocol/],
  a_compressed_answer: [
    (socket, stream) => socket.write(frame(READY, stream, nothing, { flags: 1 })),
    /a compressed answer/,
  ],
  an_unknown_answer: [(socket, stream) => socket.write(frame(0x7f, stream, nothing)), /an unexpected answer/],
  half_an_error: [(socket, stream) => socket.write(frame(ERROR, stream, Buffer.from([0, 0]))), /half an error/],
  a_result_without_an_end: [
    (socket, stream, request) => {
      if (request[4] === 1)
        socket.write(frame(READY, stream, nothing)); // STARTUP
      else
        socket.write(
          frame(
            RESULT,
            stream,
            Buffer.from([
              0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0x6b, 0, 1, 0x74, 0, 1, 0x63, 0, 0x0d, 0xff, 0xff, 0xff, 0xff,
            ]),
          ),
        );
    },
    /an answer that ends too early/,
  ],
};

for (const [name, [answer, pattern]] of Object.entries(PEERS)) {
  test(`${name}_is_told_and_not_waited_for`, async (t) => {
    const node = await listening(t, (socket) =>
      framesOf(socket, (header, body) => answer(socket, header.readInt16BE(2), Buffer.concat([header, body]))),
    );
    const { code, stderr } = await apps(t, [
      'list',
      '-c',
      fileFor(t, settingsFor(node, /in time/.test(pattern.source) ? 1000 : 60_000)),
    ]);
    assert.equal(code, 1, stderr);
    assert.match(stderr, pattern);
    assert.match(stderr, new RegExp(`app_manager\\.scylladb\\.nodes: ${node}`));
  });
}

test('a_node_that_swallows_everything_leaves_time_for_the_others', async (t) => {
  const backend = await backendFor(t, 'cassandra');
  const silent = await listening(t, () => {});
  const settings = backend.config('others');
  settings.app_manager.scylladb.nodes.unshift(silent);
  settings.app_manager.lookup_timeout_ms = 10_000;
  const server = await serverFor(t, { apps: [APP], config: settings });
  (await connect(server, { app: APP })).destroy();
  const ws = await RawWebSocket.connect(server, { key: 'unknown' });
  assert.equal((await ws.expect('pusher:error')).data.code, 4001);
  ws.destroy();
});
