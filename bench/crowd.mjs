// Connections of a benchmark, as cheap as they can be, and the CPU time of the server.

import { readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';

import { APP } from '../tests/lib/server.js';

// CPU time of all threads of a process so far.
export function cpuNs(pid) {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]),
    0,
  );
}

function textFrame(message) {
  const payload = Buffer.from(JSON.stringify(message));
  const length = payload.length < 126 ? [payload.length] : [126, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([0x81, 0x80 | length[0], ...length.slice(1), 0, 0, 0, 0]), payload]);
}

// Many connections that count the frames and bytes that come.
export class Crowd {
  frames = 0;
  bytes = 0;
  wanted = Infinity;
  reached = () => {};
  sockets = [];

  // Connects; `subscriptions(i, socketId)` are the data of the messages that subscribe.
  async open(server, count, subscriptions) {
    const { hostname, port } = new URL(server.url);
    for (let i = 0; i < count; i++) await this.add(hostname, Number(port), (socketId) => subscriptions(i, socketId));
    this.frames = this.bytes = 0;
  }

  // Resolves when the answers to all subscriptions have come.
  add(host, port, subscriptions) {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host, port, noDelay: true });
      this.sockets.push(socket);
      let rest = Buffer.alloc(0);
      let open = false;
      let due = 1;
      const message = (payload) => {
        if (payload.includes('connection_established')) {
          const channels = subscriptions(JSON.parse(JSON.parse(payload).data).socket_id);
          due = channels.length;
          socket.write(Buffer.concat(channels.map((data) => textFrame({ event: 'pusher:subscribe', data }))));
        } else if (payload.includes('pusher_internal:subscription_succeeded') && --due === 0) resolve();
        else if (payload.includes('pusher:error')) reject(new Error(payload.toString()));
      };
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('the server closed a connection')));
      socket.on('data', (chunk) => {
        rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        if (!open) {
          const end = rest.indexOf('\r\n\r\n');
          if (end < 0) return;
          open = true;
          rest = rest.subarray(end + 4);
        }
        for (;;) {
          if (rest.length < 4) break;
          const head = rest[1] < 126 ? 2 : rest[1] === 126 ? 4 : 10;
          const length = head === 2 ? rest[1] : head === 4 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2));
          if (rest.length < head + length) break;
          if (due > 0) message(rest.subarray(head, head + length));
          this.count(head + length);
          rest = rest.subarray(head + length);
        }
      });
      socket.write(
        `GET /app/${APP.key}?protocol=7 HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
      );
    });
  }

  close() {
    for (const socket of this.sockets) socket.destroy();
  }

  count(bytes) {
    this.bytes += bytes;
    if (++this.frames >= this.wanted) this.reached();
  }
}
