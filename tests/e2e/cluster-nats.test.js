// The bus on NATS: signing in, several servers, outages, limits, and what others send to its subjects.

import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { freePorts } from '../lib/backends/daemon.js';
import { Nats } from '../lib/backends/nats.js';
import { startBus } from '../lib/bus-shell.js';
import { subscriber } from '../lib/events.js';
import { untilTrue } from '../lib/inbox.js';
import { NatsClient } from '../lib/nats-client.js';
import { nodesFor } from '../lib/nodes.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { APP } from '../lib/server.js';
import { channelAuth } from '../lib/sign.js';

const PREFIX = 'test:';

// Subscriptions, and how many of them at once.
const SUBSCRIPTIONS = 500;
const LANES = 10;

// A bus that is up. Without a sanitizer where the time of the server's side counts.
async function busOn(t, config) {
  const bus = startBus(t, config);
  await bus.told('up');
  return bus;
}

// What one publishes arrives at the other, and both end well.
async function exchange(one, other) {
  await one.ask('subscribe greetings', 'in_force greetings');
  assert.equal(await other.ask('publish greetings hello', 'published'), 'yes');
  assert.equal(await one.told('message greetings'), 'hello');
  await one.stop();
  await other.stop();
}

// The place of the server to which the bus is connected.
let places = 0;
async function serverOf(nats, bus) {
  const mark = `place.${++places}`;
  await bus.ask(`subscribe ${mark}`, `in_force ${mark}`);
  for (const [node, daemon] of nats.daemons.entries()) {
    if (!daemon.isRunning) continue;
    const { connections } = await nats.monitor(node, 'connz?subs=1');
    if (connections.some((one) => one.subscriptions_list?.includes(mark))) return node;
  }
  return assert.fail('no server knows the bus');
}

// The numbered messages arrive, each once and in order.
async function arrive(bus, count) {
  for (;;) {
    const { messages, wrongOrder } = await bus.counts();
    assert.equal(wrongOrder, 0);
    assert.ok(messages <= count, `${messages} of ${count}`);
    if (messages === count) return;
    await pause(20);
  }
}

describe('signing in', { concurrency: true }, () => {
  const kinds = {
    'user and password': { auth: 'password' },
    'a token': { auth: 'token' },
    'an NKey': { auth: 'nkey' },
    TLS: { tls: true },
    'TLS with a certificate of the client, and a password': { tls: true, clientCertificate: true, auth: 'password' },
  };
  for (const [name, options] of Object.entries(kinds)) {
    test(name, async (t) => {
      const nats = await backendFor(t, 'nats', options);
      const config = nats.config(PREFIX);
      if (options.clientCertificate) {
        const { certificate, key } = nats.address;
        Object.assign(config.adapter.nats.tls, { cert_path: certificate, key_path: key });
      }
      await exchange(await busOn(t, config), await busOn(t, config));
    });
  }

  test('user and password in the URL', async (t) => {
    const nats = await backendFor(t, 'nats', { auth: 'password' });
    const { port, user, password } = nats.address;
    const servers = [`nats://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}`];
    const config = Nats.config({ servers }, PREFIX);
    await exchange(await busOn(t, config), await busOn(t, config));
  });
});

describe('what is refused names the setting', { concurrency: true }, () => {
  const down = async (t, config) => {
    const bus = startBus(t, config);
    const why = await bus.told('down');
    await bus.stop();
    assert.equal(bus.lines.filter((line) => line.startsWith('down ')).length, 1);
    return why;
  };

  test('a wrong password, token or key, and none', async (t) => {
    const nats = await backendFor(t, 'nats', { auth: 'password' });
    const { servers } = nats.address;
    const config = (more) => Nats.config({ servers, ...more }, PREFIX);
    assert.match(
      await down(t, config({ user: 'curlew', password: 'wrong' })),
      /^NATS at 127\.0\.0\.1:\d+: it refuses adapter\.nats\.username and adapter\.nats\.password$/,
    );
    assert.match(await down(t, config({ token: 'wrong' })), /: it refuses adapter\.nats\.token$/);
    assert.match(await down(t, config({})), /: it wants to know who connects: set adapter\.nats\.username and /);
    const other = new Nats({ auth: 'nkey' });
    t.after(() => other.discard());
    await other.create();
    assert.match(
      await down(t, config({ nkeySeed: other.address.nkeySeed })),
      /: it refuses the key in adapter\.nats\.nkey_seed_path$/,
    );
    assert.match(
      await down(t, Nats.config({ servers: servers.map((url) => url.replace('://', '://a:b@')) }, PREFIX)),
      /: it refuses the user in adapter\.nats\.servers$/,
    );
  });

  test('a port where nothing, or something else, listens, and a host that is none', async (t) => {
    const nats = await backendFor(t, 'nats');
    const [unused] = await freePorts(1);
    const at = (host) => Nats.config({ servers: [`nats://${host}`] }, PREFIX);
    assert.match(
      await down(t, at(`127.0.0.1:${unused}`)),
      /^NATS at 127\.0\.0\.1:\d+ \(adapter\.nats\.servers\): Connection refused$/,
    );
    const http = at(`127.0.0.1:${nats.monitorPorts[0]}`);
    http.adapter.nats.connection_timeout_ms = 1000;
    assert.match(await down(t, http), /\(adapter\.nats\.servers\): no answer in time$/);
    assert.match(
      await down(t, at('no-such-host.invalid')),
      /^NATS at no-such-host\.invalid:4222 \(adapter\.nats\.servers\)/,
    );
  });

  test('TLS: a server of another authority, of another name, and one without it', async (t) => {
    const nats = await backendFor(t, 'nats', { tls: true });
    const plain = await backendFor(t, 'nats');
    const { servers, ca } = nats.address;
    assert.match(
      await down(t, Nats.config({ servers }, PREFIX)),
      /^NATS at localhost:\d+: TLS failed: .*; look at adapter\.nats\.tls/,
    );
    // The same address by a name that the certificate does not have.
    const otherName = servers.map((url) => url.replace('localhost', '127.1'));
    assert.match(
      await down(t, Nats.config({ servers: otherName, ca }, PREFIX)),
      /^NATS at 127\.1:\d+: TLS failed: SSL handshake error.*hostname mismatch/,
    );
    assert.match(
      await down(t, Nats.config({ servers: plain.address.servers, ca }, PREFIX)),
      /: it does not offer TLS: write nats:\/\/ in place of tls:\/\/$/,
    );
  });

  test('a file that cannot be read, and one without a seed', async (t) => {
    const folder = folderWith(t, { 'nkey.seed': 'no seed\n' });
    const refused = async (config) => {
      const bus = startBus(t, config);
      await assert.rejects(bus.told('up'));
      return bus.errors.join('\n');
    };
    const servers = ['nats://localhost'];
    assert.match(
      await refused(Nats.config({ servers, nkeySeed: `${folder}/nkey.seed` }, PREFIX)),
      /adapter\.nats\.nkey_seed_path .*nkey\.seed: there is no seed of a user in it/,
    );
    assert.match(
      await refused(Nats.config({ servers, nkeySeed: `${folder}/none` }, PREFIX)),
      /adapter\.nats\.nkey_seed_path .*none: No such file or directory/,
    );
    assert.match(
      await refused(Nats.config({ servers, ca: `${folder}/none` }, PREFIX)),
      /adapter\.nats\.tls\.ca_path .*none: No such file or directory/,
    );
  });
});

describe('outages', { concurrency: true }, () => {
  test('a cluster of three, of which the setting names one: the server in use is killed', async (t) => {
    const nats = await backendFor(t, 'nats', { servers: 3 });
    const config = Nats.config({ servers: nats.address.servers.slice(0, 1) }, PREFIX);
    const one = await busOn(t, config);
    assert.equal((await one.state()).needs_answers, 1);
    await one.ask('subscribe news', 'in_force news');
    const node = await serverOf(nats, one);
    assert.equal(node, 0);
    await nats.kill(node);
    assert.match(await one.told('down'), /^NATS at 127\.0\.0\.1:\d+: the connection has ended: /);
    await one.told('up');
    await one.told('in_force news');
    const other = await busOn(t, Nats.config({ servers: nats.address.servers }, PREFIX));
    assert.notEqual(await serverOf(nats, one), node);
    // On another server interest may travel for a moment: a publisher that wants to be sure asks first.
    let got = null;
    const arrival = one.told('message news').then((text) => (got = text));
    while (got === null) {
      await other.ask('publish news hello', 'published');
      await Promise.race([arrival, pause(20)]);
    }
    assert.equal(got, 'hello');
    await one.stop();
    await other.stop();
  });

  test('one server, not of a cluster, is restarted: what was published meanwhile is refused', async (t) => {
    const nats = await backendFor(t, 'nats');
    const one = await busOn(t, nats.config(PREFIX));
    assert.equal((await one.state()).needs_answers, 0);
    await one.ask('subscribe news', 'in_force news');
    await one.ask('subscribe old', 'in_force old');
    await nats.stop();
    await one.told('down');
    assert.equal(await one.ask('publish news lost', 'published'), 'no');
    one.send('unsubscribe old');
    one.send('subscribe young');
    await nats.start();
    await one.told('up');
    await one.told('in_force news');
    await one.told('in_force young');
    const client = await NatsClient.connect(nats.address);
    for (const subject of ['old', 'young', 'news']) client.publish(subject, 'hello');
    assert.equal(await one.told('message news'), 'hello');
    assert.deepEqual(
      one.lines.filter((line) => line.startsWith('message ')),
      ['message young hello', 'message news hello'],
    );
    assert.equal(one.lines.filter((line) => line.startsWith('down ')).length, 1);
    client.close();
    await one.stop();
  });

  test('a server that stands still is given up within ten seconds', async (t) => {
    const nats = await backendFor(t, 'nats', { servers: 2, tls: true });
    const one = await busOn(t, nats.config(PREFIX));
    const node = await serverOf(nats, one);
    nats.freeze(node);
    const began = performance.now();
    // With TLS a write would wait for the server: the thread of the bus must not.
    await one.ask('flood far 20000 1000', 'flooded');
    assert.match(await one.told('down'), /no answer for 5000 ms$/);
    assert.ok(performance.now() - began < 20_000, 'it took ten seconds at most, here twice as long is let pass');
    await one.told('up');
    nats.thaw(node);
    assert.notEqual(await serverOf(nats, one), node);
    assert.ok(Number(await one.ask('turn', 'turn')) < 1_000_000);
    await one.stop();
  });

  test('100,000 subjects are in force again 5 seconds after the server is back', async (t) => {
    const nats = await backendFor(t, 'nats');
    const one = startBus(t, nats.config(PREFIX), { release: true });
    await one.told('up');
    await one.ask('subscribe-many many 100000', 'many');
    await nats.kill();
    await one.told('down');
    await nats.start();
    const began = performance.now();
    await one.told('up');
    await one.told('many');
    const took = performance.now() - began;
    assert.ok(took < 5000, `${Math.round(took)} ms`);
    await one.stop();
  });
});

describe('limits', { concurrency: true }, () => {
  test('a message over the max_payload of the server is not sent, and the bus stays up', async (t) => {
    const nats = await backendFor(t, 'nats', { settings: ['max_payload: 65536'] });
    const one = await busOn(t, nats.config(PREFIX));
    const other = await busOn(t, nats.config(PREFIX));
    assert.equal((await one.state()).max, 65536);
    await other.ask('subscribe news', 'in_force news');
    await one.ask('flood news 1 65536', 'flooded');
    await one.ask('flood news 1 65537', 'flooded');
    await one.ask('flood news 1 65536', 'flooded');
    await arrive(other, 2);
    assert.match(one.errors.join('\n'), /a message of 65537 bytes is not sent: NATS at .* takes no more than 65536/);
    assert.ok(!one.lines.some((line) => line.startsWith('down')));
    await one.stop();
    await other.stop();
  });

  test('one that reads too slowly for the server is down and up, and the others lose nothing', async (t) => {
    const nats = await backendFor(t, 'nats', { settings: ['max_pending: 4MB', 'write_deadline: "1s"'] });
    const [slow, fast, publisher] = await Promise.all([1, 2, 3].map(() => busOn(t, nats.config(PREFIX))));
    for (const bus of [slow, fast]) await bus.ask('subscribe news', 'in_force news');
    slow.send('hold');
    for (let sent = 0; sent < 60_000; sent += 10_000) {
      assert.equal(await publisher.ask('flood news 10000 1000', 'flooded'), '10000');
      await arrive(fast, sent + 10_000);
    }
    const isGivenUp = async () => (await nats.monitor(0, 'connz')).connections.length === 2;
    await untilTrue(isGivenUp, 'the server to give up the slow one');
    slow.send('go');
    await slow.told('down');
    await slow.told('up');
    await slow.told('in_force news');
    assert.equal(await publisher.ask('publish news again', 'published'), 'yes');
    assert.equal(await slow.told('message news'), 'again');
    const { messages, wrongOrder } = await slow.counts();
    assert.equal(wrongOrder, 0);
    assert.ok(messages < 60_000);
    assert.ok(![...fast.lines, ...publisher.lines].some((line) => line.startsWith('down')));
    await Promise.all([slow, fast, publisher].map((bus) => bus.stop()));
  });

  test('what waits is counted, and is written before the bus closes', async (t) => {
    const nats = await backendFor(t, 'nats');
    const one = await busOn(t, nats.config(PREFIX));
    const other = await busOn(t, nats.config(PREFIX));
    await other.ask('subscribe news', 'in_force news');
    nats.freeze();
    await one.ask('flood news 50000 1000', 'flooded');
    assert.ok((await one.state()).waiting > 20_000_000);
    nats.thaw();
    await one.stop(60_000);
    await arrive(other, 50_000);
    await other.stop();
  });
});

test('what others publish: headers, nothing at all, replies, and as much as there may be', async (t) => {
  const nats = await backendFor(t, 'nats');
  const one = await busOn(t, nats.config(PREFIX));
  await one.ask('subscribe news', 'in_force news');
  const client = await NatsClient.connect(nats.address);
  client.publishWithHeaders('news', ['Status: 503', 'Nats-Msg-Size: 99999999999'], 'with headers', 'news');
  client.publish('news', '');
  client.publishWithHeaders('news', [], '', 'a.reply');
  client.publish('news', `#${'9'.repeat(20)}${'x'.repeat((await one.state()).max - 21)}`);
  client.publishWithHeaders('news', Array(500).fill(`A: ${'b'.repeat(1000)}`), Buffer.from([0, 255, 10]));
  for (let i = 0; i < 1000; i++) client.publish('news', `\0${i}`);
  client.publish('news', 'last');
  await client.flush();
  const texts = [];
  while (texts.at(-1) !== 'last') texts.push(await one.told('message news'));
  assert.deepEqual(texts.slice(0, 3), ['with headers', '', '']);
  assert.equal(texts.length, 3 + 1 + 1000 + 1); // and the numbered one
  const { bytes } = await one.counts();
  assert.equal(bytes, (await one.state()).max);
  client.close();
  await one.stop();
});

test('an event over the max_payload of the server is refused, and a smaller one comes to all nodes', async (t) => {
  const nats = await backendFor(t, 'nats', { settings: ['max_payload: 131072'] });
  const nodes = await nodesFor(t, {
    bus: nats,
    count: 2,
    server: { config: { event_limits: { max_payload_in_kb: 500 } } },
  });
  const [one, two] = nodes.list;
  await one.waitForLog(/takes messages of at most 131072 bytes .*less than event_limits\.max_payload_in_kb/);
  const ws = await RawWebSocket.connect(two);
  ws.send({ event: 'pusher:subscribe', data: { channel: 'news' } });
  await ws.next('pusher_internal:subscription_succeeded');
  const event = (length) => ({ name: 'tick', channel: 'news', data: 'x'.repeat(length) });
  const sent = (path, body) => api(one, 'POST', path, { body });
  for (const [path, body] of [
    ['/events', event(131072)],
    ['/batch_events', { batch: [event(10), event(200_000)] }],
  ]) {
    const answer = await sent(path, body);
    assert.equal(answer.status, 413);
    assert.match(answer.body, /bytes on its way to the other nodes, and the message system .* no more than 131072/);
  }
  assert.equal((await sent('/events', event(131072 - 600))).status, 200);
  assert.equal((await ws.next('tick')).data.length, 131072 - 600);
  ws.destroy();
});

test('a subject that the server forbids is a warning, and subscribers are answered all the same', async (t) => {
  const user = 'user: "limited", password: "hunter2", permissions: { subscribe: { deny: "*.curlew1.c.>" } }';
  const bus = await backendFor(t, 'nats', { settings: [`authorization { users: [ { ${user} } ] }`] });
  const nats = { username: 'limited', password: 'hunter2' };
  const { list } = await nodesFor(t, { bus, count: 1, server: { config: { adapter: { nats } } } });
  await subscriber(list[0], t, 'news');
  const { level, message } = await list[0].waitForLog(/: allow it for the user of adapter\.nats$/);
  assert.equal(level, 'warn');
  assert.match(message, /^NATS at 127\.0\.0\.1:\d+: .*permissions violation.* "\S+\.curlew1\.c\.app-id\.news"/i);
});

test("a client event over the server's max_payload is refused, and nobody gets it", async (t) => {
  const nats = await backendFor(t, 'nats', { settings: ['max_payload: 131072'] });
  const app = { ...APP, enable_client_messages: true, max_event_payload_in_kb: 0 };
  const config = { websocket_max_payload_kb: 256 };
  const nodes = await nodesFor(t, { bus: nats, count: 2, server: { apps: [app], config } });
  const [one, two] = nodes.list;
  const [sender, here, there] = await Promise.all([one, one, two].map((node) => RawWebSocket.connect(node)));
  const channel = 'presence-room';
  for (const [i, ws] of [sender, here, there].entries()) {
    const { socket_id } = JSON.parse((await ws.next('pusher:connection_established')).data);
    const data = JSON.stringify({ user_id: `user-${i}` });
    const auth = channelAuth(app, socket_id, channel, data);
    ws.send({ event: 'pusher:subscribe', data: { channel, auth, channel_data: data } });
    await ws.next('pusher_internal:subscription_succeeded');
  }
  const sent = (name, length) => sender.send({ event: `client-${name}`, channel, data: 'x'.repeat(length) });
  for (const length of [131072, 131072 - 512]) {
    sent('large', length);
    const { code, message } = (await sender.next('pusher:error')).data;
    assert.equal(code, 4301);
    assert.match(
      message,
      /takes \d+ bytes on its way to the other nodes, and the message system .* no more than 131072/,
    );
  }
  sent('small', 131072 - 600);
  for (const ws of [here, there]) {
    const event = await ws.next((message) => message.event.startsWith('client-'));
    assert.equal(event.event, 'client-small');
    assert.equal(event.data.length, 131072 - 600);
    assert.equal(event.user_id, 'user-0');
  }
  assert.ok(!one.log.all.some((line) => line.message.includes('is not sent')));
  for (const ws of [sender, here, there]) ws.destroy();
});

// Publishes numbered events one after another until it is stopped.
class NumberedPublisher {
  next = 0;
  #stopped = false;
  #ended;

  constructor(t, node, name) {
    this.name = name;
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    this.#ended = (async () => {
      while (!this.#stopped) await publish(node, { name, channel: 'prices', data: String(this.next++) }, { agent });
    })();
  }

  // Resolves when its event with that number, or a later one, has come.
  async reaches(ws, number) {
    const there = ({ event, data }) => event === this.name && Number(data) >= number;
    if (!ws.inbox.all.some(there)) await ws.next(there);
  }

  async stop() {
    this.#stopped = true;
    await this.#ended;
  }

  // The numbers that came, in the order in which they came.
  numbersOn(ws) {
    return ws.inbox.all.filter(({ event }) => event === this.name).map(({ data }) => Number(data));
  }
}

test('of three servers one is killed while events flow: they come once and in order', async (t) => {
  const nats = await backendFor(t, 'nats', { servers: 3 });
  const nodes = await nodesFor(t, { bus: nats, count: 0 });
  for (const server of nats.address.servers) await nodes.add({ config: { adapter: { nats: { servers: [server] } } } });
  await nodes.untilAll(3);
  const [, , moving] = nodes.list;
  const clients = await Promise.all(nodes.list.map((node) => subscriber(node, t, 'prices')));
  const publishers = nodes.list.map((node, i) => new NumberedPublisher(t, node, `from-${i}`));
  const allReach = (numbers) =>
    Promise.all(clients.flatMap((ws) => publishers.map((publisher, i) => publisher.reaches(ws, numbers[i]))));

  await allReach([100, 100, 100]);
  const before = publishers.map(({ next }) => next);
  const since = moving.log.all.length;
  await allReach(before);
  await nats.kill(2);
  await moving.waitForLog(/^the bus \(nats\) is down/, { since });
  await moving.waitForLog(/^the bus \(nats\) is up/, { since });
  await nodes.untilAll(3);
  await allReach(publishers.map(({ next }) => next + 100));
  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await allReach(publishers.map(({ next }) => next - 1));

  for (const [to, ws] of clients.entries())
    for (const [from, publisher] of publishers.entries()) {
      const numbers = publisher.numbersOn(ws);
      const gaps = numbers.filter((number, i) => i > 0 && number !== numbers[i - 1] + 1);
      const where = `from node ${from} to node ${to}: ${gaps}`;
      assert.equal(numbers[0], 0, where);
      assert.ok(
        numbers.every((number, i) => i === 0 || number > numbers[i - 1]),
        where,
      );
      // What was on its way to or from the server that was killed is lost; nothing before, and nothing after.
      assert.ok(gaps.length <= (to !== from && [to, from].includes(2) ? 1 : 0), where);
      assert.ok(
        gaps.every((number) => number > before[from]),
        where,
      );
    }
});

test('on servers of a cluster, what is published after subscription_succeeded arrives', async (t) => {
  const nats = await backendFor(t, 'nats', { servers: 3 });
  const nodes = await nodesFor(t, { bus: nats, count: 0 });
  for (const server of nats.address.servers) await nodes.add({ config: { adapter: { nats: { servers: [server] } } } });
  await nodes.untilAll(3);
  const ws = await RawWebSocket.connect(nodes.list[0]);
  await ws.expect('pusher:connection_established');
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const one = async (i) => {
    const channel = `channel-${i}`;
    const of = (event) => ws.next({ event, channel });
    ws.send({ event: 'pusher:subscribe', data: { channel } });
    await of('pusher_internal:subscription_succeeded');
    await publish(nodes.list[1 + (i % 2)], { name: 'tick', channel, data: String(i) }, { agent });
    assert.equal((await of('tick')).data, String(i));
  };
  const lane = async (first) => {
    for (let i = first; i < SUBSCRIPTIONS; i += LANES) await one(i);
  };
  await Promise.all(Array.from({ length: LANES }, (_, first) => lane(first)));
  ws.destroy();
});
