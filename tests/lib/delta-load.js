// A flow of events through channels with deltas, to clients that come, leave, return, lose events and replace filters,
// while others read every event as it is: what is rebuilt from deltas has to be the same texts in the same order.

import http from 'node:http';

import WebSocket from 'ws';

import { api, publish } from './api.js';
import { DeltaReader } from './delta-reader.js';
import { Random } from './delta-texts.js';
import { LONG_TIMEOUT_MS, within } from './inbox.js';
import { fetchMetrics } from './metrics.js';
import { APP } from './server.js';
import { channelAuth } from './sign.js';

const KEYS = 50;
const KEPT_KEYS = 40; // so that some go
const BATCH = 10;
const BATCH_MS = 10; // 1000 events in a second
const AT_ONCE = 3; // requests
const CHANNELS = ['private-keyed', 'private-plain', 'keyed'];
const BULK = 'bulk'; // fills the sockets of clients that do not read
const BULK_DATA = 'x'.repeat(90_000);
const BULK_EVENTS = 600; // at most: they end when some are dropped
const SIDES = ['0', '1', '2'];
const ROUND_EVENTS = 2000;
const CHANGE_EVENTS = 700; // between two changes of the record

const KEYED = { conflation_key: 'symbol', max_conflation_keys: KEPT_KEYS };
// What the record says of channels, one after the other.
const SETTINGS = [
  { '*keyed': KEYED },
  { '*keyed': { ...KEYED, algorithm: 'xdelta3', enable_tags: false } },
  { '*keyed': 'disabled', 'private-plain': 'xdelta3' },
  { '*keyed': KEYED, 'private-plain': 'disabled' },
  { '*keyed': 'inherit' },
];

const appWith = (settings) => ({
  ...APP,
  max_connections: 0,
  max_client_events_per_second: 0,
  channel_delta_compression: { [BULK]: 'disabled', ...settings },
});

export const LOAD_SERVER = {
  apps: [appWith(SETTINGS[0])],
  config: {
    workers: 4,
    websocket: { compression: 'shared', disconnect_on_buffer_full: false },
    tag_filtering: { enabled: true },
    delta_compression: { full_message_interval: 7 },
  },
};

// A side that a filter lets pass, with the events that end a round.
const filterFor = (side) => ({
  op: 'or',
  nodes: [
    { key: 'end', cmp: 'ex' },
    { key: 'side', cmp: 'eq', val: side },
  ],
});

// What a client has read of a channel without a gap that is allowed.
class Segment {
  texts = [];
  complete = false; // until the end of the round

  constructor({ socketId, filter, fromStart = false, lossy = false }) {
    Object.assign(this, { socketId, filter, fromStart, lossy });
  }
}

class Subscriber {
  reader = new DeltaReader();
  segments = new Map(); // by channel; none while what comes is not looked at
  judged = [];
  kinds = { P: 0, W: 0, F: 0, X: 0 };
  forgotten = null; // the channel of which it has forgotten its bases
  #waiting = [];

  // `delta` as in a subscription; undefined: a plain client.
  constructor(load, { delta, compressed = false, lossy = false }) {
    Object.assign(this, { load, delta, compressed, lossy, filters: new Map() });
  }

  async connect() {
    const { server } = this.load;
    const socket = new WebSocket(`ws://${server.host}:${server.port}/app/${APP.key}?protocol=7`, {
      perMessageDeflate: this.compressed,
    });
    this.socket = socket;
    socket.on('message', (bytes) => this.socket === socket && this.#receive(bytes.toString()));
    socket.on('error', (error) => this.load.problem(`a client: ${error.message}`));
    socket.on('close', (code) => this.socket === socket && this.load.problem(`a client was closed with ${code}`));
    this.socketId = JSON.parse((await this.#next('pusher:connection_established')).data).socket_id;
    for (const channel of CHANNELS) await this.subscribe(channel);
    if (this.lossy) await this.subscribe(BULK);
  }

  // Ends the connection; the reader keeps its bases, as the family's client does.
  leave() {
    const { socket } = this;
    this.socket = null;
    for (const channel of [...this.segments.keys()]) this.#close(channel);
    socket.terminate();
  }

  #send(message) {
    this.socket.send(JSON.stringify(message));
  }

  #next(event, channel) {
    const found = new Promise((resolve) => this.#waiting.push({ event, channel, resolve }));
    return within(found, `${event} ${channel ?? ''}`, LONG_TIMEOUT_MS);
  }

  // Subscribes, or again with another filter.
  async subscribe(channel, filter = this.filters.get(channel)) {
    this.filters.set(channel, filter);
    const data = { channel, ...(this.delta !== undefined && channel !== BULK && { delta: this.delta }) };
    if (filter !== undefined) data.filter = filterFor(filter);
    if (channel.startsWith('private-')) data.auth = channelAuth(APP, this.socketId, channel);
    this.#send({ event: 'pusher:subscribe', data });
    await this.#next('pusher_internal:subscription_succeeded', channel);
  }

  async resubscribe(channel) {
    this.#close(channel);
    this.reader.forget(channel);
    this.#send({ event: 'pusher:unsubscribe', data: { channel } });
    await this.subscribe(channel);
  }

  // The client reports an error and forgets its bases: deltas that come before the server knows cannot be read.
  async resync(channel) {
    this.#close(channel);
    this.reader.forget(channel);
    this.#send({ event: 'pusher:delta_sync_error', data: { channel } });
    this.forgotten = channel;
    this.onPong = () => {
      this.forgotten = null;
      this.#open(channel);
    };
    await this.fence();
  }

  async fence() {
    this.#send({ event: 'pusher:ping', data: {} });
    await this.#next('pusher:pong');
  }

  trigger(channel, data) {
    this.#send({ event: 'client-tick', channel, data });
  }

  #open(channel) {
    this.#close(channel);
    const { socketId, lossy } = this;
    this.segments.set(channel, new Segment({ socketId, filter: this.filters.get(channel), lossy }));
  }

  #close(channel) {
    const segment = this.segments.get(channel);
    if (segment !== undefined) this.judged.push([channel, segment]);
    this.segments.delete(channel);
  }

  #receive(raw) {
    const message = raw.length > BULK_DATA.length ? { event: 'bulk', channel: BULK } : JSON.parse(raw);
    if (message.event === 'pusher_internal:subscription_succeeded' && message.channel !== BULK)
      this.#open(message.channel);
    if (message.event === 'pusher:pong') {
      this.onPong?.();
      this.onPong = null;
    }
    const waiting = this.#waiting.findIndex(
      ({ event, channel }) => event === message.event && (channel === undefined || channel === message.channel),
    );
    if (waiting >= 0) this.#waiting.splice(waiting, 1)[0].resolve(message);
    const segment = this.segments.get(message.channel);
    const forgotten = this.forgotten === message.channel;
    if (segment === undefined && !forgotten) return;
    const read = this.reader.read(raw);
    const errors = this.reader.errors.splice(0);
    if (forgotten) return;
    for (const error of errors) this.load.problem(error);
    if (read === null || read.event.startsWith('end-')) return;
    this.kinds[read.kind]++;
    segment.texts.push(read.text);
  }

  async ended(name) {
    await Promise.all(CHANNELS.map((channel) => this.#next(name, channel)));
    for (const segment of this.segments.values()) segment.complete = true;
  }

  // Everything that was read since the last call; the next round begins.
  takeSegments() {
    for (const [channel, segment] of [...this.segments]) {
      this.#close(channel);
      this.segments.set(channel, new Segment({ ...segment, fromStart: true }));
    }
    return this.judged.splice(0);
  }
}

class Load {
  total = 0;
  changes = 0;
  kinds = { P: 0, W: 0, F: 0, X: 0 };
  #number = 0;
  #except = new Map(); // by number: the id of the socket that does not get it
  #sides = new Map(); // by number
  #underWay = new Set();
  #agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });

  constructor({ server, seed, problem, clients }) {
    Object.assign(this, { server, problem });
    this.random = new Random(seed);
    this.plain = Array.from({ length: 4 }, () => new Subscriber(this, {}));
    this.others = Array.from({ length: clients }, (_, i) => {
      return new Subscriber(this, {
        delta: ['fossil', 'xdelta3', true][i % 3],
        compressed: i % 4 === 1,
        lossy: i % 8 === 7,
      });
    });
    this.others.forEach((one, i) => {
      if (i % 5 === 2) for (const channel of CHANNELS) one.filters.set(channel, this.random.pick(SIDES));
    });
  }

  get steady() {
    return this.others.filter(({ lossy, busy }) => !lossy && !busy);
  }

  #data() {
    const n = ++this.#number;
    const symbol = `S${this.random.below(KEYS)}`;
    const price = this.random.below(100_000) / 100;
    return { n, text: JSON.stringify({ n, symbol, price, note: `of ${symbol}: é\u2028🚀 `.repeat(12) }) };
  }

  #event() {
    const { n, text } = this.#data();
    const event = { name: this.random.pick(['tick', 'tock']), channel: this.random.pick(CHANNELS), data: text };
    const kind = this.random.below(20);
    if (kind < 10) {
      event.tags = { side: this.random.pick(SIDES), 'a tag': 'of every event' };
      this.#sides.set(n, event.tags.side);
    }
    if (kind === 10 || kind === 0) {
      event.socket_id = this.random.pick(this.others).socketId;
      this.#except.set(n, event.socket_id);
    }
    if (kind === 11) event.delta = false;
    return event;
  }

  #triggerSome() {
    const [one] = [this.random.pick(this.steady)];
    if (one === undefined) return;
    const { n, text } = this.#data();
    this.#except.set(n, one.socketId);
    one.trigger(this.random.pick(CHANNELS.slice(0, 2)), text);
    this.total++;
  }

  #track(promise) {
    this.#underWay.add(promise);
    promise.catch((error) => this.problem(error.stack)).finally(() => this.#underWay.delete(promise));
  }

  async #batch() {
    const batch = Array.from({ length: BATCH }, () => this.#event());
    const { status, body } = await api(this.server, 'POST', '/batch_events', { body: { batch }, agent: this.#agent });
    if (status !== 200) this.problem(`a batch was answered ${status}: ${body}`);
    this.total += BATCH;
  }

  // One client does something else than read.
  async #disturb(one) {
    one.busy = true;
    const channel = this.random.pick(CHANNELS);
    const kind = this.random.below(5);
    if (kind === 0) await one.resubscribe(channel);
    else if (kind === 1) await one.resync(channel);
    else if (kind === 2) await one.subscribe(channel, this.random.pick([undefined, ...SIDES]));
    else {
      one.leave();
      await one.connect();
    }
    one.busy = false;
  }

  // Those that lose events do not read until their sockets are full.
  async #fill(slow) {
    for (const { socket } of slow) socket.pause();
    const dropped = async () => (await fetchMetrics(this.server)).sum('dropped_messages_total');
    const before = await dropped();
    for (let i = 0; i < BULK_EVENTS && (i % 25 !== 0 || (await dropped()) < before + 50); i++)
      await publish(this.server, { name: 'bulk', channel: BULK, data: BULK_DATA }, { agent: this.#agent });
    for (const { socket } of slow) socket.resume();
  }

  // The app's record changes: other algorithms, deltas off, keys or none.
  async #change() {
    const { message } = await this.server.reload({ apps: [appWith(SETTINGS[++this.changes % SETTINGS.length])] });
    if (!message.startsWith('apps reloaded')) this.problem(`a reload was answered: ${message}`);
  }

  async open() {
    for (const one of [...this.plain, ...this.others]) await one.connect();
    for (const one of [...this.plain, ...this.others]) one.takeSegments();
  }

  async round() {
    const slow = this.others.filter(({ lossy }) => lossy);
    const until = this.total + ROUND_EVENTS;
    let change = this.total + CHANGE_EVENTS;
    this.#track(this.#fill(slow));
    for (let next = performance.now(); this.total < until; next += BATCH_MS) {
      const requests = [...this.#underWay].length;
      if (requests > AT_ONCE + 2) await Promise.race(this.#underWay);
      this.#track(this.#batch());
      if (this.random.below(3) === 0) this.#triggerSome();
      if (this.total >= change) {
        change += CHANGE_EVENTS;
        this.#track(this.#change());
      }
      const { steady } = this;
      if (this.random.below(6) === 0 && steady.length > 4) this.#track(this.#disturb(this.random.pick(steady)));
      const wait = next + BATCH_MS - performance.now();
      if (wait < 0) next = performance.now();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
    }
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
    await this.#rest();
  }

  async #rest() {
    const name = `end-${this.total}`;
    for (const one of this.others) await one.fence(); // their client events are published
    const readers = [...this.plain, ...this.others.filter(({ lossy }) => !lossy)];
    const ended = Promise.all(readers.map((one) => one.ended(name)));
    for (const channel of CHANNELS)
      await publish(this.server, { name, channel, data: '', tags: { end: '' } }, { agent: this.#agent });
    await ended;
    this.#judge();
  }

  #judge() {
    const published = new Map(); // by channel: what the first plain client has read
    for (const [index, one] of this.plain.entries())
      for (const [channel, { texts }] of one.takeSegments()) {
        if (index === 0)
          published.set(
            channel,
            texts.map((text) => this.#described(text)),
          );
        else if (
          texts.join('\n') !==
          published
            .get(channel)
            .map(({ text }) => text)
            .join('\n')
        )
          this.problem(`plain clients have not read the same on ${channel}`);
      }
    for (const one of this.others) {
      for (const [channel, segment] of one.takeSegments()) this.#judgeSegment(published.get(channel), channel, segment);
      for (const kind of Object.keys(this.kinds)) this.kinds[kind] += one.kinds[kind];
      one.kinds = { P: 0, W: 0, F: 0, X: 0 };
    }
    this.#except.clear();
    this.#sides.clear();
  }

  #described(text) {
    const { n } = JSON.parse(JSON.parse(text).data);
    return { text, side: this.#sides.get(n), except: this.#except.get(n) };
  }

  #judgeSegment(published, channel, { texts, socketId, filter, fromStart, complete, lossy }) {
    const expected = published
      .filter(({ side, except }) => except !== socketId && (filter === undefined || side === filter))
      .map(({ text }) => text);
    let at = fromStart || texts.length === 0 ? 0 : expected.indexOf(texts[0]);
    for (const text of texts) {
      if (lossy) while (at < expected.length && expected[at] !== text) at++;
      if (expected[at++] === text) continue;
      this.problem(`${channel}: ${text} was read, not ${expected[at - 1]} (filter ${filter}, ${socketId})`);
      return;
    }
    const missing = expected.length - at;
    if (complete && !lossy && (fromStart || texts.length > 0) && missing !== 0)
      this.problem(`${channel}: the last ${missing} events were not read`);
  }

  close() {
    for (const one of [...this.plain, ...this.others]) one.leave();
    this.#agent.destroy();
  }
}

/*
 * Runs the load on a server that was started with LOAD_SERVER for so many seconds, and at least for one round. Calls
 * `problem(text)` for everything that is wrong, and returns what happened: {total, seconds, kinds, dropped, evictions,
 * filtered, resyncs}. The seed decides what is done.
 */
export async function deltaLoad({ server, seconds, seed, problem, clients = 24 }) {
  const load = new Load({ server, seed, problem, clients });
  await load.open();
  const began = performance.now();
  do await load.round();
  while (performance.now() - began < 1000 * seconds);
  const took = (performance.now() - began) / 1000;
  const metrics = await fetchMetrics(server);
  load.close();
  return {
    total: load.total,
    seconds: took,
    kinds: load.kinds,
    dropped: metrics.sum('dropped_messages_total'),
    evictions: metrics.sum('delta_compression_evictions_total'),
    filtered: metrics.sum('tag_filtering_filtered_messages_total'),
    resyncs: metrics.sum('delta_compression_resyncs_total'),
  };
}
