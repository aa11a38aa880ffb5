// RFC 6455 from the client's side over a plain socket: it can send what no client library would, and hides nothing.
//
// Every frame that arrives is in `frames`; text messages are parsed into `inbox` as well. The close frame is answered
// unless the test says otherwise, and how the connection ended is told by `closed()`.

import { createHash, randomBytes } from 'node:crypto';
import net from 'node:net';
import zlib from 'node:zlib';

import { Inbox, matching, TIMEOUT_MS, within } from './inbox.js';

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/*
 * The bytes of one frame. `rsv` is the three reserved bits (0 to 7), `length` overrides the announced length (a number
 * or BigInt), `lengthBytes` (0, 2 or 8) the size of the extended length field.
 */
export function encodeFrame({ opcode, payload = '', fin = true, mask = true, rsv = 0, length, lengthBytes } = {}) {
  const bytes = Buffer.from(payload);
  const announced = BigInt(length ?? bytes.length);
  const size = lengthBytes ?? (announced < 126n ? 0 : announced < 65536n ? 2 : 8);
  const head = Buffer.alloc(2 + size);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (size === 0 ? Number(announced) : size === 2 ? 126 : 127);
  if (size === 2) head.writeUInt16BE(Number(announced), 2);
  if (size === 8) head.writeBigUInt64BE(announced, 2);
  if (!mask) return Buffer.concat([head, bytes]);
  const key = randomBytes(4);
  const masked = Buffer.alloc(bytes.length);
  for (let i = 0; i < bytes.length; i++) masked[i] = bytes[i] ^ key[i & 3];
  return Buffer.concat([head, key, masked]);
}

export class RawWebSocket {
  // Frames as {fin, rsv, opcode, masked, payload}.
  frames = new Inbox(
    'WebSocket frames',
    (frame) => `opcode ${frame.opcode} ${frame.payload.toString('utf8').slice(0, 200)}`,
  );
  // Text messages as the parsed JSON object with `text` (the exact message) beside its members, and `at` (the time, not
  // enumerable).
  inbox = new Inbox('WebSocket messages', (message) => message.text);
  // {code, reason, at} once the server's close frame is here; code is null for an empty one.
  closeFrame = null;
  // The answer to the handshake: {status, headers, body}.
  handshake = null;
  #rest = Buffer.alloc(0);
  #fragments = [];
  #window = Buffer.alloc(0);
  #closeFrameSeen;
  #ended;
  #handshakeDone;

  /*
   * Connects and shakes hands. Options: `path` (default `/app/{key}?protocol=7&client=raw&version=1`), `headers` (an
   * object that adds or, with null, removes handshake headers), `answerClose` (true), `localAddress` (of the client's
   * end). Rejects when the answer is no valid 101, with the answer as `handshake` of the error.
   */
  static async connect(
    server,
    { key = 'app-key', path = `/app/${key}?protocol=7&client=raw&version=1`, ...options } = {},
  ) {
    const ws = RawWebSocket.open(server, options);
    await ws.connected();
    await ws.shakeHands(path, options.headers);
    return ws;
  }

  // The TCP connection alone: the test sends its own handshake, or none.
  static open(server, { answerClose = true, localAddress } = {}) {
    const to = { host: server.host ?? '127.0.0.1', port: server.port, localAddress, noDelay: true };
    const ws = new RawWebSocket(net.connect(to), answerClose);
    server.own?.(() => ws.destroy());
    return ws;
  }

  constructor(socket, answerClose) {
    this.socket = socket;
    this.answerClose = answerClose;
    this.#handshakeDone = withResolvers();
    this.#handshakeDone.promise.catch(() => {});
    this.#closeFrameSeen = withResolvers();
    this.#closeFrameSeen.promise.catch(() => {});
    this.#ended = new Promise((resolve) => {
      let error = null;
      socket.on('error', (cause) => {
        error = cause;
      });
      socket.on('close', () => {
        const ending = { error, reset: error?.code === 'ECONNRESET', at: performance.now() };
        this.frames.close('the connection closed');
        this.inbox.close('the connection closed');
        this.#closeFrameSeen.reject(Object.assign(new Error('the connection closed without a close frame'), ending));
        this.#handshakeDone.reject(
          Object.assign(new Error('the connection closed before the handshake was answered'), ending),
        );
        resolve(ending);
      });
    });
    socket.on('data', (chunk) => this.#receive(chunk));
  }

  connected() {
    const { socket } = this;
    if (!socket.connecting) return Promise.resolve();
    return within(
      new Promise((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      }),
      'the TCP connection',
    );
  }

  async shakeHands(path, headers = {}) {
    const key = randomBytes(16).toString('base64');
    const all = {
      Host: '127.0.0.1',
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': key,
      ...headers,
    };
    const lines = Object.entries(all)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name}: ${value}\r\n`);
    this.socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
    await this.shaken();
    const { status, headers: answered } = this.handshake;
    const expected = createHash('sha1')
      .update((all['Sec-WebSocket-Key'] ?? '') + GUID)
      .digest('base64');
    if (
      status !== 101 ||
      answered['sec-websocket-accept'] !== expected ||
      !/^websocket$/i.test(answered.upgrade ?? '')
    ) {
      throw Object.assign(new Error(`the handshake was answered ${status} ${JSON.stringify(answered)}`), {
        handshake: this.handshake,
      });
    }
  }

  // Waits for the answer to a handshake that the test wrote itself.
  shaken(timeoutMs = TIMEOUT_MS) {
    return within(this.#handshakeDone.promise, 'the answer to the handshake', timeoutMs);
  }

  // Sends bytes as they are.
  write(bytes) {
    this.socket.write(bytes);
  }

  // Sends one frame, see encodeFrame().
  sendFrame(frame) {
    this.socket.write(encodeFrame(frame));
  }

  sendText(text) {
    this.sendFrame({ opcode: OPCODE.text, payload: text });
  }

  // Sends an object as a JSON message.
  send(message) {
    this.sendText(JSON.stringify(message));
  }

  sendClose(code = 1000, reason = '') {
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.sendFrame({ opcode: OPCODE.close, payload });
  }

  // Takes the next message that matches an event name, members, or a predicate; see matching().
  next(wanted, timeoutMs) {
    return this.inbox.next(matching(wanted), timeoutMs);
  }

  // Takes the very next message, whatever it is, and insists that it matches.
  async expect(wanted, timeoutMs) {
    const message = await this.inbox.next(undefined, timeoutMs);
    const accepts = matching(wanted);
    if (!accepts(message))
      throw new Error(`expected ${accepts.label ?? accepts}, but this came first: ${message.text}`);
    return message;
  }

  // Sends pusher:ping and returns what arrived before its pusher:pong and was not taken yet: the proof that the
  // server's answers to what this connection sent earlier are all here.
  async fence() {
    this.send({ event: 'pusher:ping', data: {} });
    const messages = await this.inbox.through(matching('pusher:pong'));
    return messages.slice(0, -1);
  }

  // A WebSocket ping and its pong: a round trip that touches no message.
  async ping() {
    const payload = randomBytes(8);
    this.sendFrame({ opcode: OPCODE.ping, payload });
    await this.frames.next((frame) => frame.opcode === OPCODE.pong && frame.payload.equals(payload));
  }

  // The server's close frame: {code, reason, at}.
  closing(timeoutMs = TIMEOUT_MS) {
    return within(this.#closeFrameSeen.promise, 'a close frame', timeoutMs);
  }

  // The end of the TCP connection: {code, reason, reset, error, at}; code and reason of the close frame, undefined
  // without one.
  async closed(timeoutMs = TIMEOUT_MS) {
    const ending = await within(this.#ended, 'the server to close the connection', timeoutMs);
    return { code: this.closeFrame?.code, reason: this.closeFrame?.reason, ...ending };
  }

  // Stops and resumes reading from the socket: a slow reader.
  pause() {
    this.socket.pause();
  }

  resume() {
    this.socket.resume();
  }

  // Ends the connection as a well-behaved client would: a close frame, then waiting for the server's answer.
  async close() {
    if (this.socket.destroyed) return;
    if (this.closeFrame === null) this.sendClose();
    await this.closed();
  }

  // Cuts the connection (a reset when the kernel has unread bytes).
  destroy() {
    this.socket.destroy();
  }

  #receive(chunk) {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    if (this.handshake === null && !this.#parseHandshake()) return;
    if (this.handshake.status !== 101) return;
    while (this.#parseFrame());
  }

  #parseHandshake() {
    const headEnd = this.#rest.indexOf('\r\n\r\n');
    if (headEnd < 0) return false;
    const [statusLine, ...lines] = this.#rest.subarray(0, headEnd).toString('latin1').split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    this.handshake = { status: Number(statusLine.split(' ')[1]), headers };
    this.#rest = this.#rest.subarray(headEnd + 4);
    this.#handshakeDone.resolve();
    return true;
  }

  #parseFrame() {
    const bytes = this.#rest;
    if (bytes.length < 2) return false;
    const short = bytes[1] & 0x7f;
    const start = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (bytes.length < start) return false;
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    if (bytes.length < start + length) return false;
    this.#rest = bytes.subarray(start + length);
    const frame = {
      fin: (bytes[0] & 0x80) !== 0,
      rsv: (bytes[0] >> 4) & 7,
      opcode: bytes[0] & 15,
      masked: (bytes[1] & 0x80) !== 0,
      payload: Buffer.from(bytes.subarray(start, start + length)),
    };
    this.frames.push(frame);
    this.#handle(frame);
    return true;
  }

  // A compressed message (RFC 7692); what came before may be part of it.
  #inflate(payload) {
    const options = {
      finishFlush: zlib.constants.Z_SYNC_FLUSH,
      ...(this.#window.length > 0 && { dictionary: this.#window }),
    };
    const message = zlib.inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 0xff, 0xff])]), options);
    this.#window = Buffer.concat([this.#window, message]).subarray(-32768);
    return message;
  }

  #handle(frame) {
    if (frame.opcode === OPCODE.close) {
      this.closeFrame =
        frame.payload.length < 2
          ? { code: null, reason: '' }
          : { code: frame.payload.readUInt16BE(0), reason: frame.payload.subarray(2).toString('utf8') };
      this.closeFrame.at = performance.now();
      this.#closeFrameSeen.resolve(this.closeFrame);
      if (this.answerClose && !this.socket.destroyed) {
        this.sendFrame({ opcode: OPCODE.close, payload: frame.payload.subarray(0, 2) });
        this.socket.end();
      }
    } else if (frame.opcode <= OPCODE.binary) {
      this.#fragments.push(frame.rsv === 4 ? this.#inflate(frame.payload) : frame.payload);
      if (!frame.fin) return;
      const text = Buffer.concat(this.#fragments).toString('utf8');
      this.#fragments = [];
      this.inbox.push(Object.defineProperty({ ...JSON.parse(text), text }, 'at', { value: performance.now() }));
    }
  }
}

function withResolvers() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
