// A client that comes back as pusher-js does, and notes how long it was away: after a close with 4200 to 4299 it
// connects again at once, after 4100 to 4199 a second later, and after a connect that was refused or had no answer 15
// seconds later. It is light, so that a test can have thousands.

import net from 'node:net';

import { TIMEOUT_MS, within } from './inbox.js';
import { encodeFrame, OPCODE } from './raw-websocket.js';
import { APP } from './server.js';

const UNAVAILABLE_MS = 15_000;
const BACK_OFF_MS = 1000;
const HANDSHAKE = (host) =>
  `GET /app/${APP.key}?protocol=7&client=js&version=8.4.0 HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\n` +
  'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

// What happened to all clients of a test.
export class Journal {
  away = []; // milliseconds from the end of a connection to the subscription on the next one
  codes = {}; // closes by their code
  refused = 0; // connects that no process took
  unanswered = 0; // connections that were cut before any answer, or without a close frame
  events = 0;

  // The time that was exceeded by (1 - share) of the absences.
  percentile(share) {
    const sorted = this.away.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  }
}

export class ReturningClient {
  returns = 0;
  #journal;
  #open;
  #channel;
  #socket = null;
  #leftAt = null;
  #timer = null;
  #done = false;
  #waiting = [];

  // `open` makes a connected or connecting socket: (server) => net.connect(...), or of TLS.
  constructor(
    server,
    channel,
    journal,
    { open = ({ host, port }) => net.connect({ host, port, noDelay: true }) } = {},
  ) {
    this.#journal = journal;
    this.#channel = channel;
    this.#open = () => open(server);
    this.#connect();
  }

  // Waits until it is subscribed for the first time, or again after `returns` absences.
  subscribed(returns = 0) {
    if (this.returns > returns || (this.returns === returns && this.subscribedNow)) return Promise.resolve();
    const back = new Promise((resolve) => this.#waiting.push({ returns, resolve }));
    return within(back, `client to be subscribed after ${returns} absences`, TIMEOUT_MS);
  }

  end() {
    this.#done = true;
    clearTimeout(this.#timer);
    this.#socket.destroy();
  }

  #connect() {
    const socket = this.#open();
    const connection = { socket, rest: Buffer.alloc(0), answered: false, code: null };
    this.#socket = socket;
    this.subscribedNow = false;
    socket.on('error', (error) => (connection.error = error));
    socket.on('data', (chunk) => this.#receive(connection, chunk));
    socket.on('close', () => this.#left(connection));
    socket.write(HANDSHAKE('127.0.0.1'));
  }

  #receive(connection, chunk) {
    connection.rest = connection.rest.length === 0 ? chunk : Buffer.concat([connection.rest, chunk]);
    if (!connection.answered) {
      const end = connection.rest.indexOf('\r\n\r\n');
      if (end < 0) return;
      connection.answered = connection.rest.subarray(0, 12).toString() === 'HTTP/1.1 101';
      connection.rest = connection.rest.subarray(end + 4);
    }
    for (;;) {
      const { rest } = connection;
      if (rest.length < 2) return;
      const small = rest[1] & 0x7f;
      const head = small < 126 ? 2 : small === 126 ? 4 : 10;
      if (rest.length < head) return;
      const length = small < 126 ? small : small === 126 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2));
      if (rest.length < head + length) return;
      connection.rest = rest.subarray(head + length);
      this.#frame(connection, rest[0] & 0x0f, rest.subarray(head, head + length));
    }
  }

  #frame(connection, opcode, payload) {
    if (opcode === OPCODE.close) {
      connection.code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      connection.socket.end(encodeFrame({ opcode, payload }));
    } else if (opcode === OPCODE.text) {
      this.#message(connection.socket, payload.toString());
    }
  }

  #message(socket, text) {
    if (text.startsWith('{"event":"pusher:connection_established"')) {
      const subscribe = JSON.stringify({ event: 'pusher:subscribe', data: { channel: this.#channel } });
      socket.write(encodeFrame({ opcode: OPCODE.text, payload: subscribe }));
    } else if (text.startsWith('{"event":"pusher_internal:subscription_succeeded"')) {
      this.#arrived();
    } else if (text.startsWith('{"event":"pusher:ping"')) {
      socket.write(encodeFrame({ opcode: OPCODE.text, payload: '{"event":"pusher:pong","data":{}}' }));
    } else if (!text.startsWith('{"event":"pusher:')) {
      this.#journal.events++;
    }
  }

  #arrived() {
    this.subscribedNow = true;
    if (this.#leftAt !== null) {
      this.#journal.away.push(performance.now() - this.#leftAt);
      this.returns++;
    }
    this.#leftAt = null;
    const { returns } = this;
    this.#waiting.filter((waiter) => waiter.returns <= returns).forEach(({ resolve }) => resolve());
    this.#waiting = this.#waiting.filter((waiter) => waiter.returns > returns);
  }

  #left(connection) {
    if (this.#done) return;
    const { code } = connection;
    this.#leftAt ??= performance.now();
    if (code !== null) this.#journal.codes[code] = (this.#journal.codes[code] ?? 0) + 1;
    else if (connection.error?.code === 'ECONNREFUSED') this.#journal.refused++;
    else this.#journal.unanswered++;
    const waitMs = code >= 4200 && code < 4300 ? 0 : code >= 4100 && code < 4200 ? BACK_OFF_MS : UNAVAILABLE_MS;
    this.#timer = setTimeout(() => this.#connect(), waitMs);
  }
}
