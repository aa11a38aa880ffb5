// Clients with nothing but the public key that send as much as the server takes: `pusher:pong` messages of 60 KB, whose
// text is all escapes, since those take longest to read and need no answer.

import { connect } from '../lib/client.js';
import { encodeFrame, OPCODE } from '../lib/raw-websocket.js';

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

// Sends a ping on each client every `everyMs`, for `forMs`, and returns the times to the answers in ms, sorted.
export async function timePings(clients, { everyMs = 100, forMs = 5000 } = {}) {
  const times = [];
  const until = performance.now() + forMs;

  await Promise.all(
    clients.map(async (ws, i) => {
      await new Promise((resolve) => setTimeout(resolve, (i * everyMs) / clients.length));
      while (performance.now() < until) {
        const began = performance.now();
        await ws.ping();
        times.push(performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, everyMs));
      }
    }),
  );
  return times.sort((a, b) => a - b);
}

export const percentile = (sorted, p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];
