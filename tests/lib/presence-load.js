// A thread of load for concurrency.test.js: many connections that join and leave one presence channel.
//
// Each connection is a plain socket that looks for a few words in what it receives and parses nothing, so that the
// server and not the load is what limits. The thread reports {joined: [user ids]} when the server has handled
// everything, and holds its connections until told `end`.

import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

import { encodeFrame, OPCODE } from './raw-websocket.js';
import { channelAuth } from './sign.js';

const { host, port, app, channel, first, count, rounds } = workerData;
const HANDSHAKE =
  `GET /app/${app.key}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

const sockets = [];
const joined = new Set();
await Promise.all(Array.from({ length: count }, (_, i) => load(first + i)));
parentPort.postMessage({ joined: [...joined] });
parentPort.once('message', () => {
  for (const socket of sockets) socket.destroy();
});

// One connection. Two neighbours share a user; every third connection ends joined, every third left, every third closed
// while joined.
async function load(number) {
  const userId = `user-${number >> 1}`;
  const socket = net.connect({ host, port, noDelay: true });
  sockets.push(socket);
  const words = scanner(socket);
  socket.write(HANDSHAKE);
  const [, socketId] = await words.find(/socket_id\\":\\"(\d+\.\d+)/);
  const channelData = JSON.stringify({ user_id: userId, user_info: { of: number } });
  const join = {
    event: 'pusher:subscribe',
    data: { channel, auth: channelAuth(app, socketId, channel, channelData), channel_data: channelData },
  };
  const leave = { event: 'pusher:unsubscribe', data: { channel } };
  for (let round = 0; round < rounds; round++) {
    send(socket, join);
    send(socket, { event: 'pusher:ping', data: {} });
    await words.find(/pusher:pong/);
    if (round < rounds - 1) send(socket, leave);
  }
  if (number % 3 === 0) joined.add(userId);
  if (number % 3 === 1) {
    send(socket, leave);
    send(socket, { event: 'pusher:ping', data: {} });
    await words.find(/pusher:pong/);
  }
  if (number % 3 === 2) {
    const closed = new Promise((resolve) => {
      socket.once('close', resolve);
    });
    socket.write(encodeFrame({ opcode: OPCODE.close }));
    await closed;
  }
}

function send(socket, message) {
  socket.write(encodeFrame({ opcode: OPCODE.text, payload: JSON.stringify(message) }));
}

// Finds patterns in a stream of bytes, each after the one before; what has been searched is forgotten but for a short
// tail.
function scanner(socket) {
  let text = '';
  let waiting = null;
  const search = () => {
    const match = waiting?.pattern.exec(text);
    if (match) {
      text = text.slice(match.index + match[0].length);
      const { resolve } = waiting;
      waiting = null;
      resolve(match);
    } else if (waiting) {
      text = text.slice(-80);
    }
  };
  socket.setEncoding('latin1');
  socket.on('data', (chunk) => {
    text += chunk;
    search();
  });
  socket.on('error', (error) => waiting?.reject(error));
  socket.on('close', () => waiting?.reject(new Error('the server closed the connection')));
  return {
    find: (pattern) =>
      new Promise((resolve, reject) => {
        waiting = { pattern, resolve, reject };
        search();
      }),
  };
}
