// Clients with nothing but the public key that send as much as the server takes: `pusher:pong` messages of 60 KB, whose
// text is all escapes, since those take longest to read and need no answer.

import { connect } from './client.js';
import { encodeFrame, OPCODE } from './raw-websocket.js';

const BYTES = 60_000;

// Connects `count` clients and lets them flood. stop() ends it: {sent (messages), closed (connections that the server
// has closed)}.
export async function floodWithPongs(server, count, { key } = {}) {
  const data = '\\u0041'.repeat(Math.floor((BYTES - 100) / 6));
  const frame = encodeFrame({ opcode: OPCODE.text, payload: `{"event":"pusher:pong","data":"${data}"}` });
  const clients = await Promise.all(Array.from({ length: count }, () => connect(server, key ? { key } : {})));
  const result = { sent: 0, closed: 0 };
  let stopped = false;

  for (const { socket } of clients) {
    const pump = () => {
      while (!stopped && !socket.destroyed) {
        result.sent++;
        if (!socket.write(frame)) return;
      }
    };
    socket.on('drain', pump);
    socket.on('close', () => !stopped && result.closed++);
    pump();
  }
  return {
    clients,
    result,
    stop() {
      stopped = true;
      for (const ws of clients) ws.destroy();
      return result;
    },
  };
}
