// A connection to Redis for tests: commands out, answers of RESP2 in, and the messages of its subscriptions.

import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

import { Inbox, within } from './inbox.js';

export class RedisClient {
  // What pub/sub sends by itself: ['message', channel, text], ['subscribe', channel, count] and so on.
  pushed = new Inbox('Redis connection');
  #socket;
  #rest = Buffer.alloc(0);
  #waiting = [];
  #subscribed = false;
  #closed = null; // why no more can be said
  #encoding;

  // Connects and logs in; `ca` is the file of the authority for TLS. Texts that come are read in the encoding: in
  // `latin1` they are bytes.
  static async connect({ host, port, user, password, ca, encoding = 'utf8' }) {
    const client = new RedisClient();
    client.#encoding = encoding;
    await within(client.#open({ host, port, ca }), `a connection to Redis at ${host}:${port}`);
    if (password) await client.call('AUTH', ...(user ? [user] : []), password);
    return client;
  }

  #open({ host, port, ca }) {
    return new Promise((resolve, reject) => {
      const socket = ca
        ? tls.connect({ host, port, ca: readFileSync(ca) })
        : net.connect({ host, port, noDelay: true });
      this.#socket = socket;
      socket.once(ca ? 'secureConnect' : 'connect', resolve);
      socket.on('data', (chunk) => {
        this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
        this.#parse();
      });
      socket.on('error', reject);
      socket.on('close', () => {
        const error = new Error('the connection to Redis closed');
        this.#closed = error;
        for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
        this.pushed.close(error.message);
        reject(error);
      });
    });
  }

  // Resolves to the answer; rejects with an error of Redis.
  call(...words) {
    return within(
      new Promise((resolve, reject) => {
        if (this.#closed) throw this.#closed;
        this.#waiting.push({ resolve, reject });
        this.#write(words);
      }),
      `the answer to ${words[0]}`,
    );
  }

  // From here on everything that comes is pushed.
  subscribe(...channels) {
    this.#subscribed = true;
    this.#write(['SUBSCRIBE', ...channels]);
  }

  // The same for a sharded channel, at the master of its slot.
  subscribeSharded(channel) {
    this.#subscribed = true;
    this.#write(['SSUBSCRIBE', channel]);
  }

  close() {
    this.#socket.destroy();
  }

  #write(words) {
    const parts = words.map((word) => (Buffer.isBuffer(word) ? word : Buffer.from(String(word))));
    this.#socket.write(
      Buffer.concat([
        Buffer.from(`*${parts.length}\r\n`),
        ...parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')]),
      ]),
    );
  }

  #parse() {
    for (;;) {
      const read = parseAnswer(this.#rest, 0, this.#encoding);
      if (read === null) return;
      this.#rest = this.#rest.subarray(read.end);
      if (this.#subscribed) this.pushed.push(read.value);
      else if (read.value instanceof Error) this.#waiting.shift().reject(read.value);
      else this.#waiting.shift().resolve(read.value);
    }
  }
}

// The answer at `start` as {value, end}; null: it is not whole.
function parseAnswer(bytes, start, encoding) {
  const lineEnd = bytes.indexOf('\r\n', start);
  if (lineEnd < 0) return null;
  const line = bytes.toString('utf8', start + 1, lineEnd);
  const next = lineEnd + 2;
  switch (String.fromCharCode(bytes[start])) {
    case '+':
      return { value: line, end: next };
    case '-':
      return { value: new Error(line), end: next };
    case ':':
      return { value: Number(line), end: next };
    case '$': {
      const length = Number(line);
      if (length < 0) return { value: null, end: next };
      if (bytes.length < next + length + 2) return null;
      return { value: bytes.toString(encoding, next, next + length), end: next + length + 2 };
    }
    case '*': {
      const items = [];
      let end = next;
      for (let left = Number(line); left > 0; left--) {
        const item = parseAnswer(bytes, end, encoding);
        if (item === null) return null;
        items.push(item.value);
        ({ end } = item);
      }
      return { value: items, end };
    }
    default:
      throw new Error(`Redis answered ${line}`);
  }
}
