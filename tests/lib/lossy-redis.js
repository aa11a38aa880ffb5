// Between a node and Redis: a proxy that understands the protocol, can leave out messages, and can be a bad network.

import { once } from 'node:events';
import net from 'node:net';

import { KIND } from './cluster-message.js';

// By its own messages, which are of no kind, a node learns whether the connection works.
const PROBE = 'probe';
const NAMES = new Map(Object.entries(KIND).map(([name, kind]) => [kind, name]));

/*
 * Listens until the test ends; `port` is where the node connects to. Members to change at any time:
 *   dropEvery   of the messages of each kind (see kindOf) every so many is left out (0: none), for the first time after
 *               half as many; `dropped` counts them by kind
 *   delayMs     how long everything is late
 *   hold({in, out})  true holds what Redis sends, what the node sends; false lets it go on
 */
export async function redisProxy(t, target) {
  const proxy = new RedisProxy(target);
  await proxy.listen();
  t.after(() => proxy.close());
  return proxy;
}

class RedisProxy {
  dropEvery = 0;
  delayMs = 0;
  dropped = {};
  #seen = new Map();
  #target;
  #server;
  #pairs = new Set();
  #held = { in: false, out: false };
  #refuses = false;

  constructor(target) {
    this.#target = target;
    this.#server = net.createServer((near) => this.#accept(near));
  }

  get port() {
    return this.#server.address().port;
  }

  async listen() {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
  }

  close() {
    this.#destroyAll();
    this.#server.close();
  }

  #destroyAll() {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }

  // While it refuses there is no Redis: connections are closed, also those that are tried.
  refuse(refuses) {
    this.#refuses = refuses;
    if (refuses) this.#destroyAll();
  }

  // What is held waits in the sockets, as in a network that drops packets.
  hold(held) {
    Object.assign(this.#held, held);
    for (const pair of this.#pairs) this.#apply(pair);
  }

  #apply({ near, far }) {
    if (this.#held.in) far.pause();
    else far.resume();
    if (this.#held.out) near.pause();
    else near.resume();
  }

  #accept(near) {
    if (this.#refuses) {
      near.destroy();
      return;
    }
    const far = net.connect({ host: '127.0.0.1', port: this.#target.port, noDelay: true });
    const pair = { near, far };
    const reader = new AnswerReader();
    near.setNoDelay(true);
    this.#pairs.add(pair);
    for (const [own, other] of [
      [near, far],
      [far, near],
    ]) {
      own.on('error', () => {});
      own.on('close', () => {
        this.#pairs.delete(pair);
        other.destroy();
      });
    }
    near.on('data', (bytes) => this.#send(far, bytes));
    far.on('data', (bytes) => {
      if (this.dropEvery === 0 && reader.isIdle) return this.#send(near, bytes);
      const kept = reader.read(bytes).filter((answer) => !this.#leavesOut(answer));
      if (kept.length > 0) this.#send(near, Buffer.concat(kept));
    });
    this.#apply(pair);
  }

  // Whatever the delay is now, bytes stay in their order.
  #send(to, bytes) {
    const late = (to.late ??= []);
    if (this.delayMs === 0 && late.length === 0) return to.write(bytes);
    late.push(bytes);
    return setTimeout(() => to.write(late.shift()), this.delayMs);
  }

  #leavesOut(answer) {
    if (this.dropEvery === 0 || !answer.subarray(0, 20).includes('$7\r\nmessage\r\n')) return false;
    const kind = kindOf(answer);
    const seen = (this.#seen.get(kind) ?? 0) + 1;
    this.#seen.set(kind, seen);
    if (kind === PROBE || seen % this.dropEvery !== this.dropEvery >> 1) return false;
    this.dropped[kind] = (this.dropped[kind] ?? 0) + 1;
    return true;
  }
}

// The kind of the message in ['message', subject, message], which is its second byte, and what it is about: `change u`
// is one of a user.
function kindOf(answer) {
  const [subject, message] = bulkAt(answer, answer.indexOf('$7\r\nmessage\r\n') + 13);
  const [start] = bulkAt(answer, message);
  const about = answer.toString('latin1', subject, message).match(/:curlew1:([a-z]+)/)?.[1];
  return about === PROBE ? PROBE : `${NAMES.get(answer[start + 1])} ${about}`;
}

// Where the bytes of a text of RESP2 begin, and where what follows it does.
function bulkAt(bytes, at) {
  const start = bytes.indexOf('\r\n', at) + 2;
  return [start, start + Number(bytes.toString('latin1', at + 1, start - 2)) + 2];
}

// Cuts a stream of answers in RESP2 into answers.
class AnswerReader {
  #rest = Buffer.alloc(0);

  get isIdle() {
    return this.#rest.length === 0;
  }

  read(bytes) {
    const answers = [];
    let start = 0;
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes;
    for (let end = endOfAnswer(this.#rest, 0); end !== null; end = endOfAnswer(this.#rest, start)) {
      answers.push(this.#rest.subarray(start, end));
      start = end;
    }
    this.#rest = this.#rest.subarray(start);
    return answers;
  }
}

// Where the answer at `start` ends; null: it is not whole.
function endOfAnswer(bytes, start) {
  const lineEnd = bytes.indexOf('\r\n', start);
  if (lineEnd < 0) return null;
  const next = lineEnd + 2;
  const number = Number(bytes.toString('latin1', start + 1, lineEnd));
  if (bytes[start] === 0x24) {
    const end = number < 0 ? next : next + number + 2;
    return end <= bytes.length ? end : null;
  }
  if (bytes[start] !== 0x2a) return next;
  let end = next;
  for (let left = number; left > 0 && end !== null; left--) end = endOfAnswer(bytes, end);
  return end;
}
