// A node that is no Curlew: it speaks on a bus of Redis what a test wants, in versions of its own.

import { randomBytes } from 'node:crypto';

import { KIND, decode, encode } from './cluster-message.js';
import { Inbox } from './inbox.js';
import { RedisClient } from './redis-client.js';

const newId = () => randomBytes(16).toString('hex');

export class BusPeer {
  // What other nodes said, decoded, with its `subject` (`n`, `i:...`).
  heard = new Inbox('a peer on the bus', ({ kind, sender, subject }) => `${kind} of ${sender} on ${subject}`);
  id = newId();
  answers; // requests for its sets, with nothing
  #speaker;
  #listener;
  #prefix;
  #versions;
  #heartbeats = null;

  /*
   * Connects, and hears what is said to all and to this peer.
   *   nodes     what nodesFor() gave
   *   versions  that it speaks: [lowest, highest]
   *   answers   answers requests for its sets with nothing
   *   deaf      hears nothing: for tests that send what is no message
   */
  static async connect(t, nodes, { versions = [1, 1], deaf = false, answers = false } = {}) {
    const peer = new BusPeer();
    peer.answers = answers;
    peer.#prefix = `${nodes.prefix}:curlew1:`;
    peer.#versions = versions;
    peer.#speaker = await RedisClient.connect(nodes.bus.address);
    peer.#listener = await RedisClient.connect({ ...nodes.bus.address, encoding: 'latin1' });
    t.after(() => peer.close());
    if (deaf) return peer;
    peer.#listen();
    await peer.#listener.pushed.take(2, ([what]) => what === 'subscribe');
    return peer;
  }

  #listen() {
    const { push } = this.#listener.pushed;
    this.#listener.pushed.push = (item) => {
      push.call(this.#listener.pushed, item);
      if (item[0] === 'message') this.#take(item[1], Buffer.from(item[2], 'latin1'));
    };
    this.#listener.subscribe(`${this.#prefix}n`, `${this.#prefix}i:${this.id}`);
  }

  #take(subject, bytes) {
    if (bytes.toString('hex', 6, 22) === this.id) return;
    const message = { ...decode(bytes), subject: subject.slice(this.#prefix.length) };
    if (message.kind === KIND.hello && this.#heartbeats !== null)
      this.#sayUnasked(`i:${message.sender}`, KIND.helloAnswer, this.#hello());
    // The sets of a peer that answers are empty until it says a change.
    if ((message.kind === KIND.stateRequest || message.kind === KIND.gapRequest) && this.answers)
      this.#sayUnasked(`i:${message.sender}`, KIND.statePart, { request: message.request, last: true });
    this.heard.push(message);
  }

  #hello() {
    const [lowest, highest] = this.#versions;
    return { lowest, highest, name: 'peer', address: 'test', last: 1, since: Date.now() };
  }

  // Says hello, answers that of others, and goes on with heartbeats until it leaves or closes.
  async join(heartbeatMs) {
    this.#heartbeats = setInterval(() => this.#sayUnasked('n', KIND.heartbeat), heartbeatMs);
    await this.say('n', KIND.hello, this.#hello());
  }

  // Takes a new id, and says so. It hears what is said to the new inbox.
  async rename() {
    const [replacesHigh, replacesLow] = [this.id.slice(0, 16), this.id.slice(16)].map((half) => BigInt(`0x${half}`));
    this.id = newId();
    const inbox = `${this.#prefix}i:${this.id}`;
    this.#listener.subscribe(inbox);
    await this.#listener.pushed.next(([what, subject]) => what === 'subscribe' && subject === inbox);
    await this.say('n', KIND.hello, { ...this.#hello(), replacesHigh, replacesLow });
  }

  leave() {
    this.fallSilent();
    return this.say('n', KIND.bye);
  }

  fallSilent() {
    clearInterval(this.#heartbeats);
    this.#heartbeats = null;
  }

  // Nobody waits for it: without Redis, which may end before the peer, the peer falls silent.
  #sayUnasked(...words) {
    this.say(...words).catch(() => this.fallSilent());
  }

  // Says a message of a kind, as itself unless the fields name another sender; resolves when Redis has it.
  say(subject, kind, fields = {}) {
    const version = Math.max(1, this.#versions[0]);
    return this.send(subject, encode({ version, kind, sender: this.id, ...fields }));
  }

  // The same with any bytes.
  send(subject, bytes) {
    return this.#speaker.call('PUBLISH', `${this.#prefix}${subject}`, bytes);
  }

  close() {
    this.fallSilent();
    this.#speaker.close();
    this.#listener.close();
  }
}
