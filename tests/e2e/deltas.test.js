// What clients rebuild from deltas is what others get, byte for byte: a reader that keeps bases as the family's client
// does, beside connections that do not ask, on two workers, with and without compression.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { describe, test } from 'node:test';

import { api, publish } from '../lib/api.js';
import { connect, join, stillOpen, subscribe, trigger, unsubscribe } from '../lib/client.js';
import { DeltaReader } from '../lib/delta-reader.js';
import { matching, within } from '../lib/inbox.js';
import { eventually, fetchMetrics } from '../lib/metrics.js';
import { makePusher, Pusher, subscribed } from '../lib/pusher.js';
import { APP, RELEASE_BINARY, serverFor, sharedServer } from '../lib/server.js';

const KEYED = { conflation_key: 'symbol' };
const app = {
  ...APP,
  max_client_events_per_second: 10_000,
  channel_delta_compression: {
    'keyed-*': KEYED,
    'private-keyed-*': KEYED,
    'few-*': { conflation_key: 'symbol', max_conflation_keys: 2 },
    'tagged-*': { conflation_key: 'tags.symbol' },
  },
};
const config = {
  delta_compression: { full_message_interval: 3 },
  tag_filtering: { enabled: true },
  websocket: { compression: 'shared' },
};
const server = await sharedServer({ apps: [app], config });

let channels = 0;
const freshName = (prefix = '') => `${prefix}deltas-${++channels}`;

// --- clients ---

// A connection and the reader of what it gets; `connect` makes another connection for the same reader.
class Client {
  reader = new DeltaReader();

  async connect(t, channel, options = {}, { to = server, compressed = false } = {}) {
    this.options = options;
    const headers = compressed ? { 'Sec-WebSocket-Extensions': 'permessage-deflate' } : {};
    this.ws = await connect(to, { t, headers });
    await subscribe(this.ws, channel, options);
    return this;
  }
}

const client = (t, channel, options, how) => new Client().connect(t, channel, options, how);

// A pusher-js that notes every message as it comes.
async function pusherClient(t, channel, to = server) {
  const raw = [];
  const { Runtime } = Pusher;
  const original = Runtime.createWebSocket;
  Runtime.createWebSocket = (url) => {
    const socket = original.call(Runtime, url);
    socket.addEventListener('message', ({ data }) => raw.push(data));
    return socket;
  };
  try {
    const pusher = makePusher(to, { t });
    const joined = pusher.subscribe(channel);
    await subscribed(joined);
    return { raw, joined };
  } finally {
    Runtime.createWebSocket = original;
  }
}

// All kinds of subscribers, on both workers.
async function crew(t, channel, to = server) {
  const pusher = await pusherClient(t, channel, to);
  const plain = await client(t, channel, {}, { to });
  const all = [];
  for (const delta of ['fossil', 'xdelta3', true]) {
    for (const compressed of [false, true, false]) all.push(await client(t, channel, { delta }, { to, compressed }));
  }
  return { channel, pusher, plain, all };
}

// The text of an event without deltas, none of whose data or tags speaks of them.
const PLAIN = /^(?!.*(pusher:delta|__delta|__conflation)){"event":"[^"\\]/s;

let ends = 0;

// Ends what was published to a channel, and returns what each of the clients has read of it.
async function readAll(channel, clients, to = server) {
  const name = `end-${++ends}`;
  await publish(to, { name, channel, data: '', tags: { end: '' }, delta: false });
  const all = [];
  for (const { ws, reader } of clients) {
    const messages = await ws.inbox.through(matching({ event: name, channel }));
    all.push(
      messages
        .slice(0, -1)
        .map(({ text }) => reader.read(text))
        .filter((read) => read?.channel === channel),
    );
    assert.deepEqual(reader.errors, []);
  }
  return all;
}

const textsOf = (reads) => reads.map(({ text }) => text);
const kindsOf = (reads) => reads.map(({ kind }) => kind).join('');

/*
 * Ends what was published, and insists that all read the same texts, and that those that did not ask get no byte of
 * deltas. Returns the kinds in which the clients with deltas got them: of the first for each algorithm.
 */
async function agree({ channel, pusher, plain, all }, { to = server, members = PLAIN } = {}) {
  const name = `end-${ends + 1}`;
  const ended = new Promise((resolve) => pusher.joined.bind(name, resolve));
  const reads = await readAll(channel, [plain, ...all], to);
  await within(ended, 'pusher-js to get the end');
  const [expected, ...others] = reads;
  assert.match(kindsOf(expected), /^P*$/);
  const toPusher = pusher.raw.splice(0).filter((text) => !/^{"event":"(pusher(_internal)?:|end-)/.test(text));
  assert.deepEqual(toPusher, textsOf(expected));
  for (const text of textsOf(expected)) assert.match(text, members);
  for (const read of others) assert.deepEqual(textsOf(read), textsOf(expected));
  for (let i = 0; i < others.length; i += 3)
    for (const read of others.slice(i, i + 3)) assert.equal(kindsOf(read), kindsOf(others[i]));
  return { plain: expected, fossil: others[0], xdelta3: others[3], other: others[6] };
}

// Each delta is based on the message with a number before it, of the same key.
function assertChained(reads) {
  const last = new Map();
  for (const { kind, seq, key, base } of reads) {
    if (kind === 'F' || kind === 'X') assert.equal(base, last.get(key));
    if (kind !== 'P') last.set(key, seq);
  }
}

let numbers = 0;
const NOTE = 'the same in every message, with é, \u2028, 𝄞 and 🚀 "quoted"\n'.repeat(3);
const tick = (channel, members = {}, rest = {}) => ({
  name: 'tick',
  channel,
  data: JSON.stringify({ price: 100 + ++numbers, ...members, note: NOTE }),
  ...rest,
});

async function publishAll(events, to = server) {
  for (const event of events) await publish(to, event);
}

// --- what everyone reads ---

test('each delta rebuilds what others get, byte for byte, and others get no byte of deltas', async (t) => {
  const channel = freshName();
  const all = await crew(t, channel);
  console.log('DBG crew');
  const tags = (i) => ({ symbol: 'é"\u2028🚀', n: `${i}` });
  await publishAll(Array.from({ length: 6 }, (_, i) => tick(channel, {}, i % 2 ? { tags: tags(i) } : {})));
  const reads = await agree(all);
  assert.equal(kindsOf(reads.fossil), 'WFFFWF');
  assert.equal(kindsOf(reads.xdelta3), 'WXXXWX');
  assert.equal(kindsOf(reads.other), 'WFFFWF');
  assert.deepEqual(
    reads.fossil.map(({ seq }) => seq),
    [0, 1, 2, 3, 4, 5],
  );
  for (const read of [reads.fossil, reads.xdelta3]) assertChained(read);
});

test('events that come together are read in their order', async (t) => {
  const channel = freshName('keyed-');
  const all = await crew(t, channel);
  console.log('DBG crew');
  await Promise.all(Array.from({ length: 60 }, (_, i) => publish(server, tick(channel, { symbol: `s${i % 7}` }))));
  const reads = await agree(all);
  assert.equal(reads.plain.length, 60);
  assert.match(kindsOf(reads.fossil), /^W[WF]+$/);
  for (const read of [reads.fossil, reads.xdelta3]) {
    assertChained(read);
    // Three deltas and a whole message for each key.
    for (const symbol of new Set(read.map(({ key }) => key)))
      assert.match(kindsOf(read.filter(({ key }) => key === symbol)), /^(W[FX]{0,3})((?<=[FX]{3})W[FX]{0,3})*$/);
  }
});

test('VCDIFF has no indicator that clients do not know', async (t) => {
  const channel = freshName();
  const { ws } = await client(t, channel, { delta: 'xdelta3' });
  await publishAll(Array.from({ length: 5 }, () => tick(channel)));
  for (let i = 0; i < 3; i++) {
    const { data } = await ws.next('pusher:delta');
    const bytes = Buffer.from(data.delta, 'base64');
    assert.deepEqual([...bytes.subarray(0, 5)], [0xd6, 0xc3, 0xc4, 0, 0]);
    assert.ok(bytes[5] <= 1);
  }
});

test('messages of every size of a frame are rebuilt, and growing ones', async (t) => {
  const channel = freshName();
  const to = await serverFor(t, {
    apps: [app],
    config: { ...config, delta_compression: { full_message_interval: 100 } },
  });
  const all = await crew(t, channel, to);
  // The lengths of the text: those at which a frame has another head, whole, with a number, or as a delta.
  const lengths = [99, 100, 101, 124, 125, 126, 127, 150, 65_510, 65_534, 65_535, 65_536, 65_537, 90_000, 120];
  const letters = 'é\u2028🚀 and so on '.repeat(6000);
  const head = { name: 'tick', channel };
  const around = Buffer.byteLength(JSON.stringify({ event: 'tick', channel, data: '' }));
  for (const length of lengths) {
    for (const last of 'abc') {
      const data = `${last}${Buffer.from(letters)
        .subarray(0, length - around - 2)
        .toString()
        .replaceAll('\ufffd', '')}`;
      await publish(to, { ...head, data: data.padEnd(data.length + length - around - Buffer.byteLength(data), last) });
    }
  }
  const reads = await agree(all, { to });
  for (const read of [reads.fossil, reads.xdelta3]) {
    assert.deepEqual(
      read.map(({ text }) => Buffer.byteLength(text)),
      lengths.flatMap((length) => [length, length, length]),
    );
    assertChained(read);
  }
  assert.equal(kindsOf(reads.fossil).slice(0, 3), 'PPP', 'below min_message_size');
  assert.match(kindsOf(reads.fossil).slice(-21), /^[WF]FF[WF]FF[WF]FF[WF]FF[WF]FF[WF]FFWWW$/);
});

test('each channel of one publish has its own numbers, and a kept event none', async (t) => {
  const names = [freshName('keyed-'), freshName(), freshName('cache-')];
  const crews = [];
  for (const channel of names) crews.push(await crew(t, channel));
  for (let i = 0; i < 3; i++) {
    const { channel, ...event } = tick('all', { symbol: 'A' });
    await publish(server, { ...event, channels: names });
  }
  for (const one of crews) assert.equal(kindsOf((await agree(one)).fossil), 'WFF');
  const [, , cached] = names;
  await publish(server, tick(cached));
  const late = await client(t, cached, { delta: true });
  await publishAll([tick(cached), tick(cached)]);
  const [read] = await readAll(cached, [late]);
  assert.equal(kindsOf(read), 'PWF');
});

test('events of several names share one base', async (t) => {
  const channel = freshName();
  const all = await crew(t, channel);
  console.log('DBG crew');
  await publishAll(Array.from({ length: 8 }, (_, i) => ({ ...tick(channel), name: ['tick', 'a "name" é'][i % 2] })));
  const reads = await agree(all);
  assert.equal(kindsOf(reads.fossil), 'WFFFWFFF');
});

test('keys of every kind, one of them under two names, and messages without one', async (t) => {
  const channel = freshName('keyed-');
  const all = await crew(t, channel);
  console.log('DBG crew');
  const object = { a: [1] }; // its text has quotes
  const symbols = [
    'a\\b',
    'é:x',
    'q"x',
    1.5,
    true,
    null,
    object,
    [1, 2],
    '\u0001\u2028🚀',
    undefined,
    '',
    'x'.repeat(257),
  ];
  const events = Array.from({ length: 3 }, (_, i) =>
    symbols.map((symbol) => ({ ...tick(channel, { symbol }), name: ['tick', 'tock'][i % 2] })),
  ).flat();
  await publishAll(events);
  const reads = await agree(all);
  const untracked = ['q"x', object, undefined, '', 'x'.repeat(257)];
  symbols.forEach((symbol, n) => {
    const ofSymbol = reads.fossil.filter((_, i) => i % symbols.length === n);
    assert.equal(kindsOf(ofSymbol), untracked.includes(symbol) ? 'PPP' : 'WFF', JSON.stringify(symbol));
  });
  assertChained(reads.fossil);
  assert.ok(reads.fossil.every(({ seq }) => seq === undefined || seq < 2 ** 31));
  assert.deepEqual(
    [...new Set(reads.fossil.map(({ key }) => key))].filter((key) => key !== undefined),
    ['a\\b', 'é:x', '1.5', 'true', 'null', '[1,2]', '\u0001\u2028🚀'],
  );
});

test('client events are read alike, and the next one of another sender too', async (t) => {
  const channel = freshName('private-keyed-');
  const all = await crew(t, channel);
  console.log('DBG crew');
  const [one, two] = all.all;
  for (let i = 0; i < 4; i++) {
    const sender = i < 2 ? one : two;
    trigger(sender.ws, channel, 'client-moved', JSON.stringify({ symbol: 'S', x: i, note: NOTE }));
    await stillOpenIn(sender);
  }
  const reads = await readAll(channel, [all.plain, ...all.all]);
  const [expected, first, second, ...others] = reads.map(textsOf);
  assert.equal(expected.length, 4);
  assert.deepEqual(first, expected.slice(2));
  assert.deepEqual(second, expected.slice(0, 2));
  for (const texts of others) assert.deepEqual(texts, expected);
  assert.equal(kindsOf(reads[1]), 'WF'); // it lacks its own ones
  assert.equal(kindsOf(reads[2]), 'WF');
  assert.equal(kindsOf(reads[3]), 'WFFF');
});

// The server has handled what the client has sent; what the client has got stays for its reader.
async function stillOpenIn({ ws }) {
  ws.send({ event: 'pusher:ping', data: {} });
  await ws.next('pusher:pong');
}

// --- who lacks a base ---

test('a client that reconnects with its bases decodes everything', async (t) => {
  const channel = freshName('keyed-');
  const staying = [await client(t, channel, { delta: true }), await client(t, channel)];
  const returning = await client(t, channel, { delta: true });
  for (let round = 0; round < 4; round++) {
    // Alone in the last rounds: the channel ends and begins again.
    if (round === 2) for (const { ws } of staying) await ws.close();
    if (round > 0) {
      await returning.ws.close();
      await returning.connect(t, channel, { delta: true }, { compressed: round % 2 === 1 });
    }
    await publishAll(Array.from({ length: 6 }, (_, i) => tick(channel, { symbol: ['A', 'B'][i % 2] })));
    const all = await readAll(channel, round < 2 ? [returning, ...staying] : [returning]);
    assert.equal(all[0].length, 6);
    assert.match(kindsOf(all[0]), /^WW[WF]{4}$/, 'whole under each key first');
    if (round < 2) for (const other of all) assert.deepEqual(textsOf(other), textsOf(all[0]));
  }
});

test('a message that is sent whole to all is no base, and the next delta is based on the one before it', async (t) => {
  const channel = freshName();
  const all = await crew(t, channel);
  console.log('DBG crew');
  await publishAll([tick(channel), tick(channel), tick(channel, {}, { delta: false }), tick(channel)]);
  const batch = [
    tick(channel, {}, { delta: false }),
    tick(channel, {}, { delta: null }),
    tick(channel, {}, { delta: true }),
  ];
  assert.equal((await api(server, 'POST', '/batch_events', { body: { batch } })).status, 200);
  const reads = await agree(all);
  assert.equal(kindsOf(reads.fossil), 'WFPFPFW');
  assert.equal(kindsOf(reads.xdelta3), 'WXPXPXW');
});

test('who is left out of a message gets the next one whole', async (t) => {
  const channel = freshName();
  const [left, other] = [await client(t, channel, { delta: true }), await client(t, channel, { delta: true })];
  const { socketId } = left.ws;
  await publishAll([tick(channel), tick(channel), tick(channel, {}, { socket_id: socketId }), tick(channel)]);
  const all = await readAll(channel, [left, other]);
  assert.equal(kindsOf(all[0]), 'WFW');
  assert.equal(kindsOf(all[1]), 'WFFF');
  assert.deepEqual(
    textsOf(all[0]),
    textsOf(all[1]).filter((_, i) => i !== 2),
  );
});

test('a client that lacks one key gets only that key whole', async (t) => {
  const channel = freshName('keyed-');
  const [left, other] = [await client(t, channel, { delta: true }), await client(t, channel, { delta: true })];
  const rest = { socket_id: left.ws.socketId };
  const order = ['A', 'B', 'A', 'B'];
  await publishAll(order.map((symbol) => tick(channel, { symbol })));
  await publish(server, tick(channel, { symbol: 'A' }, rest));
  await publishAll(order.map((symbol) => tick(channel, { symbol })));
  const all = await readAll(channel, [left, other]);
  assert.equal(kindsOf(all[0]), 'WWFF' + 'WFWF');
  assert.equal(kindsOf(all[1]), 'WWFF' + 'F' + 'FFWF');
});

test('after leaving, and after an error, the next message of each key is whole', async (t) => {
  const channel = freshName('keyed-');
  const [one, other] = [await client(t, channel, { delta: 'xdelta3' }), await client(t, channel, { delta: true })];
  const symbols = ['A', 'B', 'A', 'B'];
  const events = () => symbols.map((symbol) => tick(channel, { symbol }));
  await publishAll(events());
  let all = await readAll(channel, [one, other]);
  assert.equal(kindsOf(all[0]), 'WWXX');
  one.reader.forget(channel); // as the client does when it reports the error
  one.ws.send({ event: 'pusher:delta_sync_error', data: { channel } });
  await stillOpen(one.ws);
  await publishAll(events());
  all = await readAll(channel, [one, other]);
  assert.equal(kindsOf(all[0]), 'WWXX');
  assert.equal(kindsOf(all[1]), 'FFFF');
  one.reader.forget(channel);
  unsubscribe(one.ws, channel);
  await subscribe(one.ws, channel, { delta: 'xdelta3' });
  await publishAll(events());
  all = await readAll(channel, [one, other]);
  assert.equal(kindsOf(all[0]), 'WWXX');
  assert.deepEqual(textsOf(all[0]), textsOf(all[1]));
});

test('over max_conflation_keys the key goes that was sent longest ago, and its next message is whole', async (t) => {
  const channel = freshName('few-');
  const all = await crew(t, channel);
  console.log('DBG crew');
  const before = (await fetchMetrics(server)).sum('delta_compression_evictions_total');
  await publishAll([...'ABABCABCC'].map((symbol) => tick(channel, { symbol })));
  const reads = await agree(all);
  //                                  A B A B C A B C C
  assert.equal(kindsOf(reads.fossil), 'WWFFWWWWF');
  assert.equal((await fetchMetrics(server)).sum('delta_compression_evictions_total') - before, 4);
});

test('a subscriber with a filter gets a message whole if it lacks the one before', async (t) => {
  const channel = freshName('tagged-');
  const passes = {
    op: 'or',
    nodes: [
      { key: 'end', cmp: 'ex' },
      { key: 'side', cmp: 'eq', val: 'buy' },
    ],
  };
  const filtered = [];
  for (const delta of ['fossil', 'xdelta3']) filtered.push(await client(t, channel, { delta, filter: passes }));
  const [plain, other] = [await client(t, channel, { filter: passes }), await client(t, channel, { delta: true })];
  const sides = ['buy', 'buy', 'sell', 'buy', 'buy'];
  for (const side of sides)
    for (const symbol of ['A', 'B']) await publish(server, tick(channel, {}, { tags: { side, symbol } }));
  const all = await readAll(channel, [plain, ...filtered, other]);
  assert.equal(kindsOf(all[0]), 'PPPPPPPP');
  assert.equal(kindsOf(all[1]), 'WWFFWWWW'); // the last ones are whole for all
  assert.equal(kindsOf(all[3]), 'WWFFFFFFWW');
  for (const reads of all.slice(1, 3)) assert.deepEqual(textsOf(reads), textsOf(all[0]));
});

test('clients that return after an upgrade decode what flows meanwhile', async (t) => {
  const channel = freshName('keyed-');
  const to = await serverFor(t, { apps: [app], config });
  const options = [{ delta: 'fossil' }, { delta: 'xdelta3' }, { delta: true }, {}];
  const all = [];
  for (const one of options) all.push(await client(t, channel, one, { to }));
  const published = [];
  let flows = true;
  const flow = (async () => {
    while (flows) {
      const event = tick(channel, { symbol: 'AB'[published.length % 2] });
      published.push(JSON.stringify({ event: event.name, channel, data: event.data }));
      await publish(to, event);
    }
  })();
  const some = () => Promise.all(all.map(({ ws }) => ws.inbox.take(20, (message) => message.channel === channel)));
  await some();
  await to.upgrade();
  const reads = all.map(() => []);
  const readAllOf = ({ ws, reader }, n) => {
    const read = ws.inbox.all.map(({ text }) => reader.read(text)).filter((one) => one !== null);
    assert.deepEqual(reader.errors, []);
    reads[n].push(read);
  };
  await Promise.all(
    all.map(async (one, n) => {
      await one.ws.closed();
      readAllOf(one, n);
      await one.connect(t, channel, options[n], { to });
    }),
  );
  await some();
  flows = false;
  await flow;
  await readAll(channel, [], to);
  for (const [n, one] of all.entries()) {
    await one.ws.next(matching({ event: `end-${ends}`, channel }));
    readAllOf(one, n);
    const [before, after] = reads[n];
    for (const read of [before, after.slice(0, -1)]) {
      // While both processes serve, events of one may come after later ones of the other.
      assert.equal(new Set(textsOf(read)).size, read.length, 'nothing twice');
      for (const text of textsOf(read)) assert.ok(published.includes(text), text);
      // Whole under each of the two keys first; how soon a delta follows is up to the others.
      assert.match(kindsOf(read), n === 3 ? /^P+$/ : /^W[WFX]*[FX]/);
      for (const symbol of 'AB') assert.match(kindsOf(read.filter(({ key }) => key === symbol)), /^W|^$/);
    }
  }
});

// --- what never is a delta ---

test('messages that clients could not keep as a base are plain, and harm no delta', async (t) => {
  const channel = freshName();
  const all = await crew(t, channel);
  console.log('DBG crew');
  const odd = [
    tick(channel, {}, { tags: { __delta_seq: '1' } }),
    tick(channel, {}, { tags: { a: '1', __conflation_key: 'x' } }),
    { name: 'pusher:odd', channel, data: NOTE },
    { name: 'short', channel, data: '' },
  ];
  for (const event of odd) await publishAll([tick(channel), tick(channel), event]);
  // Escaped, they are part of a text.
  await publishAll([tick(channel, { __delta_seq: 7, __conflation_key: ',"__delta_seq":1' }), tick(channel)]);
  const reads = await agree(all, { members: /./ });
  assert.equal(kindsOf(reads.fossil), 'WFP' + 'FFP' + 'WF' + 'FFP' + 'WF');
});

test('client events whose data has such members are plain', async (t) => {
  const channel = freshName('private-');
  const all = await crew(t, channel);
  console.log('DBG crew');
  const [sender] = all.all;
  for (const data of [{ __delta_seq: 1 }, { a: 1, __conflation_key: 'x' }, { a: 1 }, { a: 2 }])
    trigger(sender.ws, channel, 'client-odd', { ...data, note: NOTE });
  await stillOpenIn(sender);
  const reads = await readAll(channel, [all.plain, ...all.all.slice(1)]);
  assert.equal(kindsOf(reads[1]), 'PPWF');
  for (const read of reads) assert.deepEqual(textsOf(read), textsOf(reads[0]));
});

test('client events on presence channels, and members, are plain beside deltas', async (t) => {
  const channel = freshName('presence-');
  const all = [];
  for (const user_id of ['1', '2', '3'])
    all.push(await client(t, channel, { user: { user_id }, ...(user_id !== '3' && { delta: true }) }));
  const events = async (i) => {
    await publish(server, tick(channel));
    trigger(all[0].ws, channel, 'client-moved', JSON.stringify({ i, note: NOTE }));
    await stillOpenIn(all[0]);
  };
  for (let i = 0; i < 3; i++) {
    await events(i);
    const other = await connect(server, { t });
    await join(other, channel, { user_id: `new-${i}`, user_info: NOTE });
  }
  const reads = await readAll(channel, all);
  assert.equal(kindsOf(reads[1]), 'WPFPFP');
  assert.deepEqual(textsOf(reads[1]), textsOf(reads[2]));
  assert.equal(kindsOf(reads[0]), 'WFF');
});

// --- the settings ---

test('a change of the record applies to the next message, and all decode it', async (t) => {
  const channel = freshName('live-');
  const live = await serverFor(t, { apps: [app], config });
  const all = await crew(t, channel, live);
  const [follows] = [await client(t, channel, {}, { to: live })];
  follows.ws.send({ event: 'pusher:enable_delta_compression' });
  await stillOpenIn(follows);
  let seen = ''; // a key's text from before counts when its channel has keys again
  for (const setting of [
    'fossil',
    'xdelta3',
    'disabled',
    { conflation_key: 'symbol' },
    { conflation_key: 'symbol', algorithm: 'xdelta3', max_conflation_keys: 1 },
    { conflation_key: 'other' },
    'disabled',
    'fossil',
    'inherit',
    { conflation_key: 'symbol' },
  ]) {
    await live.reload({ apps: [{ ...app, channel_delta_compression: { 'live-*': setting } }] });
    await publishAll(
      Array.from({ length: 5 }, (_, i) => tick(channel, { symbol: ['A', 'B'][i % 2] })),
      live,
    );
    const { plain } = await agree(all, { to: live });
    // The end of agree() has come to this one, too.
    const messages = await follows.ws.inbox.through(matching({ event: `end-${ends}`, channel }));
    const reads = messages.slice(0, -1).map(({ text }) => follows.reader.read(text));
    assert.deepEqual(textsOf(reads.filter((read) => read !== null)), textsOf(plain));
    seen += ` ${kindsOf(reads.filter((read) => read !== null))}`;
    assert.deepEqual(follows.reader.errors, []);
  }
  assert.equal(seen, ' WFFFW XXXWX PPPPP WWFFF XWWWW PPPPP PPPPP WFFWF FFWFF FWFFF');
});

describe('the texts that are kept', () => {
  const MEGABYTE = 2 ** 20;
  const rss = (pid) => 1024 * Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);

  // Publishes to every channel so many events with a key of their own, and returns the most that was held meanwhile.
  async function flood(to, names, perChannel, first) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
    const held = [];
    for (let n = first; n < first + perChannel; n += 10) {
      const bodies = names.map((channel) => ({
        batch: Array.from({ length: 10 }, (_, i) => tick(channel, { symbol: `key ${n + i}`, text: 'x'.repeat(3000) })),
      }));
      const answers = await Promise.all(bodies.map((body) => api(to, 'POST', '/batch_events', { body, agent })));
      for (const { status, body } of answers) assert.equal(status, 200, body);
      if (n % 100 === 0) held.push((await fetchMetrics(to)).sum('memory_held_bytes', { kind: 'deltas' }));
    }
    agent.destroy();
    return Math.max(...held);
  }

  test('stay within their bound when every message has another key', async (t) => {
    const to = await serverFor(t, {
      binary: RELEASE_BINARY,
      apps: [{ ...app, channel_delta_compression: { '*': { conflation_key: 'symbol', max_conflation_keys: 0 } } }],
      config: { delta_compression: { max_memory_mb: 4 } },
    });
    const names = Array.from({ length: 10 }, () => freshName());
    for (const channel of names) {
      const { ws } = await client(t, channel, { delta: true }, { to });
      ws.frames.push = () => {}; // too many to keep
      ws.inbox.push = () => {};
    }
    const most = [await flood(to, names, 200, 0)];
    const before = rss(to.pid);
    most.push(await flood(to, names, 600, 200));
    const after = rss(to.pid);
    // Each of the two workers adds what it takes to the sum when it is more than 16 KB, or after a second.
    const mostCounted = 4 * MEGABYTE + 2 * 16384;
    for (const bytes of most) assert.ok(bytes > 3 * MEGABYTE && bytes <= mostCounted, `${bytes} bytes`);
    // 18 MB were published meanwhile.
    assert.ok(after - before < 6 * MEGABYTE, `from ${before} to ${after} bytes`);
    const metrics = await fetchMetrics(to);
    assert.ok(metrics.sum('delta_compression_evictions_total') > 6000);
    for (const channel of names) {
      const one = await client(t, channel, { delta: true }, { to });
      await publishAll([tick(channel, { symbol: 'last' }), tick(channel, { symbol: 'last' })], to);
      const all = await readAll(channel, [one], to);
      assert.equal(kindsOf(all[0]), 'WF');
      await one.ws.close();
    }
  });

  test('of one channel take a quarter of it, and go with the last subscriber that takes deltas', async (t) => {
    const to = await serverFor(t, {
      apps: [{ ...app, channel_delta_compression: { '*': { conflation_key: 'symbol', max_conflation_keys: 0 } } }],
      config: { delta_compression: { max_memory_mb: 1 } },
    });
    const channel = freshName();
    const [one, plain] = [await client(t, channel, { delta: true }, { to }), await client(t, channel, {}, { to })];
    const most = await flood(to, [channel], 200, 0);
    assert.ok(most > MEGABYTE / 8 && most <= MEGABYTE / 4, `${most} bytes`);
    await readAll(channel, [one, plain], to);
    unsubscribe(one.ws, channel);
    await eventually(to, (metrics) => assert.equal(metrics.sum('memory_held_bytes', { kind: 'deltas' }), 0));
  });
});
