// Clients that watch a server restart: single connections, and WebSockets that come back as pusher-js does.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';

import { RawWebSocket } from './raw-websocket.js';
import { APP } from './server.js';

export const UP_REQUEST = 'GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

export function handshakeRequest(key = APP.key) {
  return (
    `GET /app/${key}?protocol=7 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`
  );
}

// One connection. `answer` resolves to its first line; '' if the server took it and ended it without an answer; null if
// it was refused.
export class Attempt {
  constructor(address) {
    this.socket = net.connect(address);
    this.connected = once(this.socket, 'connect').then(
      () => true,
      () => false,
    );
    this.answer = this.#firstLine();
  }

  async #firstLine() {
    let received = '';
    this.socket.setEncoding('latin1').on('data', (text) => {
      received += text;
    });
    this.socket.on('error', () => {});
    const closed = new Promise((resolve) => {
      this.socket.once('close', resolve);
    });
    if (!(await this.connected)) return null;
    await Promise.race([closed, once(this.socket, 'data').catch(() => {})]);
    this.socket.end();
    return received.split('\r\n', 1)[0];
  }

  send(text) {
    this.socket.write(text);
    return this;
  }
}

// Connects again and again, each time with this request, until a connection is refused; resolves to the answers.
export async function knock(address, request) {
  const answers = [];
  for (;;) {
    const attempt = new Attempt(address).send(request());
    const answer = await attempt.answer;
    if (answer === null) return answers;
    answers.push(answer);
  }
}

/*
 * A WebSocket that comes back by the rules of the protocol: at once after 4200 to 4299, after a second after 4100 to
 * 4199, and as pusher-js does after 15 s if a connection is refused or ends without an answer.
 */
export class ReturningClient {
  away = []; // ms of each time without an established connection
  refused = 0;
  silent = 0; // connections that ended without an answer
  codes = []; // of the close frames
  #server;
  #ended = false;
  #left = null; // since when it is away
  #pause = () => {};
  #returns = [];

  constructor(server) {
    this.#server = server;
  }

  // Resolves when the first connection is established.
  start() {
    const first = this.returned();
    this.#run();
    return first;
  }

  // Resolves at the next established connection.
  returned() {
    return new Promise((resolve) => {
      this.#returns.push(resolve);
    });
  }

  stop() {
    this.#ended = true;
    this.ws?.destroy();
    this.#pause();
  }

  async #run() {
    while (!this.#ended) {
      const code = await this.#connection();
      if (this.#ended || (code >= 4200 && code < 4300)) continue;
      await this.#sleep(code >= 4100 && code < 4200 ? 1000 : 15000);
    }
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#pause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // One connection to its end; resolves to the code of the close frame, or null.
  async #connection() {
    const ws = RawWebSocket.open(this.#server);
    this.ws = ws;
    try {
      await ws.connected();
    } catch {
      if (!this.#ended) this.refused++;
      return null;
    }
    try {
      await ws.shakeHands(`/app/${APP.key}?protocol=7`);
      if ((await ws.next()).event === 'pusher:connection_established') this.#noteReturn();
      const { code, at } = await ws.closing(2 ** 31 - 1);
      this.codes.push(code);
      this.#left ??= at;
      await ws.closed();
      return code;
    } catch {
      if (!this.#ended) this.silent++;
      this.#left ??= performance.now();
      return null;
    }
  }

  #noteReturn() {
    if (this.#left !== null) this.away.push(performance.now() - this.#left);
    this.#left = null;
    for (const resolve of this.#returns.splice(0)) resolve();
  }
}
