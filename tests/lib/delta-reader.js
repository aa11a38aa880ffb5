// What a client of the family knows of deltas: it keeps bases and rebuilds messages exactly as their JavaScript client
// does. It asks for nothing and repairs nothing, so a message that cannot be rebuilt is a fault of the server.

import vcdiff from '@ably/vcdiff-decoder';
import { applyDelta } from 'fossil-delta';

const TEXTS_PER_KEY = 30;
// What the client deletes from a raw message, wherever it stands there.
const DELETED = [
  /,"__delta_seq":\d+/g,
  /"__delta_seq":\d+,/g,
  /,"__conflation_key":"[^"]*"/g,
  /"__conflation_key":"[^"]*",/g,
];

const parsed = (data) => (typeof data === 'string' ? JSON.parse(data) : data);
const isProtocol = (event) => /^pusher(_internal)?:/.test(event);

export class DeltaReader {
  // What could not be read, each as a text; a test insists that there is nothing.
  errors = [];
  // The algorithm of deltas that name none.
  #algorithm = 'fossil';
  #channels = new Map();

  /*
   * Reads the next message of the connection. Null for a message of the protocol, and for a delta that could not be
   * decoded; else {event, channel, data, text, kind, seq, key, base}: `text` is the message without deltas, `kind` how
   * it came: P plain, W whole with a number, F or X as a delta of Fossil or xdelta3.
   */
  read(raw) {
    const message = JSON.parse(raw);
    if (message.event === 'pusher:delta') return this.#readDelta(message, raw);
    if (message.event === 'pusher:delta_compression_enabled') this.#algorithm = parsed(message.data).algorithm;
    if (isProtocol(message.event)) return null;
    const { __delta_seq: seq, __conflation_key: key } = message;
    if (seq === undefined) return this.#told(raw, { kind: 'P' });
    const text = DELETED.reduce((rest, part) => rest.replaceAll(part, ''), raw);
    this.#keep(message.channel, key, { seq, text });
    return this.#told(text, { kind: 'W', seq, key });
  }

  // The client has left the channel.
  forget(channel) {
    this.#channels.delete(channel);
  }

  #told(text, rest) {
    const { event, channel, data } = JSON.parse(text);
    return { event, channel, data, text, ...rest };
  }

  #channel(name) {
    if (!this.#channels.has(name)) this.#channels.set(name, { keyed: false, last: null, keys: new Map() });
    return this.#channels.get(name);
  }

  #keep(name, key, base) {
    const channel = this.#channel(name);
    if (key !== undefined) channel.keyed = true;
    if (!channel.keyed) {
      channel.last = base;
      return;
    }
    const texts = channel.keys.get(key ?? '') ?? [];
    texts.push(base);
    if (texts.length > TEXTS_PER_KEY) texts.shift();
    channel.keys.set(key ?? '', texts);
  }

  #base(name, key, index) {
    const channel = this.#channel(name);
    if (!channel.keyed) return channel.last;
    return channel.keys.get(key ?? '')?.find(({ seq }) => seq === index);
  }

  #readDelta({ channel, data }, raw) {
    const { event, delta, seq, algorithm = this.#algorithm, conflation_key: key, base_index: index } = parsed(data);
    const base = this.#base(channel, key, index);
    try {
      if (!base) throw new Error('there is no base');
      const text = decode(algorithm, Buffer.from(base.text), Buffer.from(delta, 'base64'));
      const told = this.#told(text, { kind: algorithm === 'fossil' ? 'F' : 'X', seq, key, base: index });
      if (told.event !== event || told.channel !== channel) throw new Error(`it is for another event: ${text}`);
      this.#keep(channel, key, { seq, text });
      return told;
    } catch (error) {
      this.errors.push(`${error.message}: ${raw}; base: ${base?.text}`);
      return null;
    }
  }
}

function decode(algorithm, base, delta) {
  const bytes = algorithm === 'fossil' ? applyDelta(base, delta) : vcdiff.decode(delta, base);
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
}
