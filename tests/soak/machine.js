// usage: node machine.js [--seconds N] [--clients N] [--seed N]
//
// A state machine against the running server (CURLEW_BINARY): operations at random, as many as it takes, on real
// sockets. Clients come, subscribe, sign in, talk, read slowly, send garbage and break off; publishers publish; an app
// is disabled and enabled; records are read again. From time to time all comes to rest, and what clients have received,
// member lists and the counts of the API are compared with the model (machine-model.js).
//
// The seed decides the operations. It is printed, and gives the same operations again; how they meet in the server is
// up to the machine. Exit code 0, or 1 with a list of what was wrong.

import http from 'node:http';
import { parseArgs } from 'node:util';

import { fetchMetrics } from '../lib/metrics.js';
import { startServer } from '../lib/server.js';
import { signedPath } from '../lib/sign.js';
import { Client, userChannel } from './machine-client.js';
import { clock, Events, Random } from './machine-model.js';

const { values } = parseArgs({
  options: { seconds: { type: 'string' }, clients: { type: 'string' }, seed: { type: 'string' } },
});
const SECONDS = Number(values.seconds ?? 300);
const CLIENTS = Number(values.clients ?? 60);
const SEED = Number(values.seed ?? Math.floor(Math.random() * 2 ** 32));

const OPERATIONS_PER_ROUND = 400;
const REST_MS = 60_000;
const UNDER_WAY_MOST = 40; // requests and records that are waited for
const SLOW_EVENTS = 300;
const PUBLISHERS = 4;
const USERS = ['ann', 'bob', 'cid', 'dee', 'eve', 'fay'];
const CHANNELS = [
  ...['room-1', 'room-2', 'private-room-1', 'private-room-2', 'presence-room-1', 'presence-room-2'],
  ...['cache-room-1', 'private-cache-room-1', 'presence-cache-room-1'],
];
const APPS = ['1', '2'].map((id) => ({ id, key: `key-${id}`, secret: `secret-${id}`, enable_client_messages: true }));

// What clients hold no more when they have gone. Of the other kinds, the metrics page and kept events hold some.
const HELD_KINDS = ['input', 'compression', 'presence'];

const random = new Random(SEED);

class World {
  events = new Events();
  received = 0;
  operations = 0;
  rests = 0;
  finishing = false;
  problems = [];
  clients = [];
  enabled = [true, true];
  #opened = 0;
  #leaving = [];
  #underWay = new Set();
  #terminating = new Map(); // requests to close a user that are not answered
  #agents = Array.from({ length: PUBLISHERS }, () => new http.Agent({ keepAlive: true, maxSockets: 1 }));

  problem(text) {
    this.problems.push(text);
    if (this.problems.length <= 30) console.error(`WRONG: ${text}`);
  }

  // --- what is under way ---

  #track(promise) {
    this.#underWay.add(promise);
    promise.catch((error) => this.problem(error.stack)).finally(() => this.#underWay.delete(promise));
  }

  async #request(agent, app, method, path, { body, query } = {}) {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const target = signedPath(app, method, `/apps/${app.id}${path}`, { query, body: text });
    const headers = text === undefined ? {} : { 'Content-Type': 'application/json' };
    const options = { host: this.server.host, port: this.server.port, method, path: target, headers };
    return new Promise((resolve, reject) => {
      const request = http.request({ ...options, agent }, (response) => {
        let answer = '';
        response.setEncoding('utf8').on('data', (chunk) => (answer += chunk));
        response.on('end', () => resolve({ status: response.statusCode, text: answer }));
      });
      request.on('error', reject);
      request.end(text);
    });
  }

  // --- clients ---

  open() {
    const app = random.one(APPS);
    const client = new Client(this, app, this.#opened++);
    if (!this.enabled[APPS.indexOf(app)]) this.#doom(client, 'its app is disabled');
    this.clients.push(client);
    return client;
  }

  #doom(client, reason, { mustClose = false } = {}) {
    client.doomed = reason;
    client.mustClose ||= mustClose;
    // What it has sent may not be handled any more.
    for (const channel of client.memberships.keys())
      for (const event of this.events.of(client.app, channel))
        if (event.publisher === client.publisher) event.sure = false;
  }

  leave(client, how) {
    this.#doom(client, `the test has closed it: ${how}`, { mustClose: true });
    if (how === 'close') client.ws.close(1000);
    else if (how === 'half' && client.ws._socket) client.ws._socket.end();
    else client.ws.terminate();
    this.#leaving.push(client);
    this.clients.splice(this.clients.indexOf(client), 1);
  }

  #dropClosed() {
    this.clients = this.clients.filter(({ closed }) => !closed);
    this.#leaving = this.#leaving.filter(({ closed }) => !closed);
  }

  // --- publishing ---

  publish(agentIndex, app, items, { except } = {}) {
    const events = items.map((channel) => this.events.create({ publisher: `p${agentIndex}`, app, channel, except }));
    for (const event of events) event.sure = this.enabled[APPS.indexOf(app)];
    const bodies = events.map(({ name, channel }) => ({
      name: 'e',
      channel,
      data: name,
      ...(except && { socket_id: except.socketId }),
    }));
    const [path, body] = items.length === 1 ? ['/events', bodies[0]] : ['/batch_events', { batch: bodies }];
    this.#track(
      this.#request(this.#agents[agentIndex], app, 'POST', path, { body }).then(({ status, text }) => {
        for (const event of events) event.answeredAt = clock.tick();
        if (status === 200) return;
        for (const event of events) event.sure = false;
        if (status !== 403 || !app.changed) this.problem(`a publish was answered ${status}: ${text}`);
      }),
    );
  }

  terminate(app, user) {
    const channel = userChannel(user);
    const name = `${app.id} ${user}`;
    this.#terminating.set(name, (this.#terminating.get(name) ?? 0) + 1);
    for (const client of this.clients) {
      const membership = client.app === app && client.memberships.get(channel);
      if (membership) this.#doom(client, 'the API has closed its user', { mustClose: membership.isIn });
    }
    this.#track(
      this.#request(this.#agents[0], app, 'POST', `/users/${user}/terminate_connections`).then(({ status, text }) => {
        this.#terminating.set(name, this.#terminating.get(name) - 1);
        if (status !== 200 && !app.changed) this.problem(`terminate_connections was answered ${status}: ${text}`);
      }),
    );
  }

  #signIn(client, user) {
    if (this.#terminating.get(`${client.app.id} ${user}`) > 0) this.#doom(client, 'the API closes its user');
    client.signIn(user);
  }

  // Reads the apps again, with the second one enabled or disabled.
  async reload(enabled) {
    const [, app] = APPS;
    const concerned = enabled ? [] : this.clients.filter((client) => client.app === app);
    if (!enabled) {
      this.enabled[1] = false;
      app.changed = true;
      for (const client of concerned) this.#doom(client, 'its app was disabled', { mustClose: client.established });
      for (const channel of [...CHANNELS, ...USERS.map(userChannel)])
        for (const event of this.events.of(app, channel)) event.sure = false;
    }
    const apps = APPS.map(({ id, key, secret, enable_client_messages }, index) => ({
      ...{ id, key, secret, enable_client_messages },
      enabled: index === 0 || enabled,
      max_connections: 10_000 + random.below(1000),
    }));
    const { message } = await this.server.reload({ apps });
    if (!message.startsWith('apps reloaded')) this.problem(`a reload was answered: ${message}`);
    this.enabled[1] = enabled;
    // If it was enabled again before, they could stay.
    await Promise.all(concerned.filter(({ established }) => established).map(({ ended }) => ended));
  }

  // Of 17 subscribers and more, an event waits in the fan-out queue; of one that does not read, in its own.
  slow(client) {
    client.slow = true;
    this.#doom(client, 'it reads slowly');
    client.ws.pause();
    const channel = [...client.memberships.keys()].find((name) => CHANNELS.includes(name));
    for (let i = 0; channel && i < SLOW_EVENTS; i += 10)
      this.publish(random.below(PUBLISHERS), client.app, Array(10).fill(channel));
    setTimeout(() => client.ws.resume(), 200 + random.below(500));
  }

  garbage(client) {
    const kind = random.below(4);
    if (kind === 0) client.ws.send('{"event":');
    else if (kind === 1) client.send({ event: 'pusher:unsubscribe', data: { channel: 'room-77' } });
    else if (kind === 2) client.ws.ping();
    else {
      this.#doom(client, 'it has sent a broken frame', { mustClose: true });
      client.ws._socket?.write(Buffer.from([0x83, 0x80, 1, 2, 3, 4]));
    }
  }

  // --- one operation ---

  step() {
    this.operations++;
    const client = this.clients.length === 0 ? null : random.one(this.clients);
    const usable = client?.usable;
    const [channel, user, kind] = [random.one(CHANNELS), random.one(USERS), random.below(100)];
    if (this.clients.length < CLIENTS / 2 || (kind < 4 && this.clients.length < CLIENTS)) this.open();
    else if (kind < 30) usable && client.subscribe(channel, user);
    else if (kind < 31) usable && !/^(cache-)?room/.test(channel) && client.subscribe(channel, user, { wrong: true });
    else if (kind < 40) usable && client.unsubscribe(channel);
    else if (kind < 43) usable && this.#signIn(client, user);
    else if (kind < 55) usable && client.clientEvent(channel);
    else if (kind < 80) this.#publishSomething(channel, user, usable ? client : null);
    else if (kind < 85) usable && this.garbage(client);
    else if (kind < 88) usable && this.leave(client, random.one(['close', 'kill', 'half']));
    else if (kind < 89) random.oneIn(4) && usable && this.slow(client);
    else if (kind < 90) random.oneIn(4) && this.terminate(random.one(APPS), user);
    else if (kind < 92) random.oneIn(10) && this.#track(this.#reloads(random.oneIn(2)));
  }

  // One reload at a time.
  async #reloads(disables) {
    if (this.reloading) return;
    this.reloading = true;
    try {
      if (this.enabled[1] && disables) await this.reload(false);
      else await this.reload(this.enabled[1] || random.oneIn(2));
    } finally {
      this.reloading = false;
    }
  }

  #publishSomething(channel, user, client) {
    const app = client?.app ?? random.one(APPS);
    const [agent, kind] = [random.below(PUBLISHERS), random.below(10)];
    if (kind === 0) this.publish(agent, app, [userChannel(user)]);
    else if (kind === 1) this.publish(agent, app, [channel, random.one(CHANNELS), channel]);
    else if (kind === 2 && client) this.publish(agent, app, [channel], { except: client });
    else this.publish(agent, app, [channel]);
  }

  async round() {
    for (let i = 0; i < OPERATIONS_PER_ROUND; i++) {
      this.step();
      if (i % 10 === 0) await new Promise(setImmediate);
      while (this.#underWay.size > UNDER_WAY_MOST) await Promise.race(this.#underWay);
    }
    await this.rest();
  }

  // --- when all has come to rest ---

  // Null, or what is not as it must be.
  async #difference() {
    this.#dropClosed();
    if (this.#leaving.length > 0) return 'a connection that the test has closed is still open';
    for (const client of this.clients) {
      const name = `client ${client.index} of app ${client.app.id}`;
      if (client.mustClose || !client.established) return `${name} is open: ${client.doomed ?? 'not established'}`;
      for (const [channel, membership] of client.memberships) {
        if (!membership.isIn) return `${name} has no answer about ${channel}`;
        if (client.slow) continue;
        const lost = this.events
          .of(client.app, channel)
          .find((event) => event.except !== client && membership.misses(event));
        if (lost) return `${name} has not got ${lost.name} of ${channel}`;
      }
    }
    for (const app of APPS) {
      const difference = this.enabled[APPS.indexOf(app)] ? await this.#differenceOfApp(app) : null;
      if (difference) return difference;
    }
    return null;
  }

  async #differenceOfApp(app) {
    const clients = this.clients.filter((client) => client.app === app);
    const ask = async (path, query) =>
      JSON.parse((await this.#request(this.#agents[1], app, 'GET', path, { query })).text);
    const { connections } = await ask('/connections');
    if (connections !== clients.length) return `app ${app.id} has ${connections} connections, not ${clients.length}`;
    const { channels } = await ask('/channels', { info: 'subscription_count' });
    for (const channel of new Set([...CHANNELS, ...Object.keys(channels)])) {
      const inside = clients.filter((client) => client.memberships.get(channel)?.isIn);
      const count = channels[channel]?.subscription_count ?? 0;
      if (count !== inside.length) return `${channel} of app ${app.id} has ${count} subscribers, not ${inside.length}`;
      if (!channel.startsWith('presence-') || count === 0) continue;
      const users = [...new Set(inside.map((client) => client.memberships.get(channel).user))].sort().join(' ');
      const answer = (await ask(`/channels/${channel}/users`)).users
        .map(({ id }) => id)
        .sort()
        .join(' ');
      if (answer !== users) return `${channel} of app ${app.id} has the users ${answer}, not ${users}`;
      for (const client of inside) {
        const told = [...client.memberships.get(channel).members].sort().join(' ');
        if (told !== users) return `client ${client.index} knows the members ${told} of ${channel}, not ${users}`;
      }
    }
    return null;
  }

  async rest() {
    const until = Date.now() + REST_MS;
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
    for (const client of this.clients.filter(({ slow }) => slow)) client.ws.resume();
    await Promise.all(this.clients.map((client) => client.fence()));
    let difference = await this.#difference();
    while (difference && Date.now() < until && this.problems.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      difference = await this.#difference();
    }
    if (difference) this.problem(`after ${this.operations} operations: ${difference}`);
    this.rests++;
    this.events.forget();
    for (const client of this.clients) {
      client.doomed = this.enabled[APPS.indexOf(client.app)] ? null : client.doomed;
      client.slow = false;
      for (const membership of client.memberships.values()) membership.forget();
    }
    APPS[1].changed = !this.enabled[1];
  }

  async finish() {
    this.finishing = true;
    for (const client of [...this.clients]) this.leave(client, 'kill');
    const until = Date.now() + REST_MS;
    for (;;) {
      const metrics = await fetchMetrics(this.server);
      const left = ['connected', 'active_channels'].filter((name) => metrics.sum(name) !== 0);
      for (const kind of HELD_KINDS) if (metrics.sum('memory_held_bytes', { kind }) !== 0) left.push(`memory: ${kind}`);
      const begun = metrics.sum('channel_subscriptions_total') - metrics.sum('channel_unsubscriptions_total');
      if (left.length === 0 && begun === 0) break;
      if (Date.now() > until) {
        this.problem(`the metrics do not return to zero: ${left.join(', ')}, subscriptions ${begun}`);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    for (const agent of this.#agents) agent.destroy();
  }
}

const world = new World();
console.log(`state machine: ${SECONDS} s, ${CLIENTS} clients; again with --seed ${SEED}`);
try {
  world.server = await startServer({
    apps: APPS.map((app) => ({ ...app, enabled: true })),
    config: { workers: 3, websocket: { compression: 'shared', max_messages: 200 } },
  });
  const until = Date.now() + SECONDS * 1000;
  while (Date.now() < until && world.problems.length === 0) await world.round();
  await world.finish();
} catch (error) {
  world.problem(error.stack);
}
try {
  await world.server?.stop();
} catch (error) {
  world.problem(error.message);
}
console.log(`${world.operations} operations, ${world.events.total} events published, ${world.received} received`);
if (world.problems.length > 0) console.log(`state machine: ${world.problems.length} things were wrong, see above`);
else console.log(`state machine: nothing was wrong at ${world.rests} rests`);
process.exit(world.problems.length === 0 ? 0 : 1);
