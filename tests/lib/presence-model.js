// Many members of presence channels, on connections to several nodes, and a model of who must be where.
//
// Every member checks each member_added and member_removed against what it was told before: a member that is added
// was not there, and one that is removed was. The model knows which connections are joined, on whatever node.

import { connect, sendSubscribe, unsubscribe } from './client.js';
import { LONG_TIMEOUT_MS, untilRight, within } from './inbox.js';

const BACK_OFF_MS = 1000;

export class PresenceModel {
  connections = [];
  members = []; // who has a place on a connection, joined or not
  #random;
  #options;

  // `random(n)` is a number below n; options: channels (names), users (their number).
  constructor(random, options) {
    this.#random = random;
    this.#options = options;
  }

  // Connects so many clients to each of these nodes, in steps. Options:
  //   returns   they come back by the rules of the protocol when the server closes their connection
  //   journal   is told joins(member), joined(member) and left(member): a WebhookModel
  //   watches   a channel of numbered events (see Connection), to which they are subscribed on each connection
  //   places    how many members each connection has (default: 1); they join by the test, not by change()
  async connect(servers, count, { places = 1, ...options } = {}) {
    for (let done = 0; done < count; done += 50) {
      const added = await Promise.all(
        servers.flatMap((server) =>
          Array.from({ length: Math.min(50, count - done) }, async () => {
            const connection = new Connection(server, options);
            await connection.connect();
            return connection;
          }),
        ),
      );
      this.connections.push(...added);
      for (const connection of added)
        for (let place = 0; place < places; place++) this.members.push(new Member(connection));
    }
  }

  // Connections join as random users, and leave, so many times in all. After each 25 changes those that join have their
  // answers before the next ones begin, unless `wait` is false.
  async change(times, { wait = true } = {}) {
    for (let i = 1; i <= times; i++) {
      const members = this.members.filter(({ server }) => !server.gone);
      this.#changeOne(members[this.#random(members.length)]);
      if (i % 25 !== 0) continue;
      await new Promise((resolve) => setImmediate(resolve));
      if (wait) await this.answered();
    }
  }

  // Resolves when those that join have their answers.
  answered() {
    const members = this.members.filter(({ server }) => !server.gone);
    return within(Promise.all(members.map(({ answered }) => answered)), 'answers to subscriptions', LONG_TIMEOUT_MS);
  }

  #changeOne(member) {
    if (member.channel === null) {
      const { channels, users } = this.#options;
      member.join(channels[this.#random(channels.length)], `user-${this.#random(users)}`);
    } else {
      member.leave();
    }
  }

  // Resolves when every connection has been told what the model says: to the time that it took.
  async settled(timeoutMs) {
    const begin = performance.now();
    await untilRight(() => this.fault(), 'all connections to know who is there', timeoutMs);
    return performance.now() - begin;
  }

  // What is wrong now; null: nothing.
  fault() {
    const expected = new Map();
    for (const { channel, user, server } of this.members) {
      if (channel === null || server.gone) continue;
      if (!expected.has(channel)) expected.set(channel, new Set());
      expected.get(channel).add(user);
    }
    for (const member of this.members) {
      if (member.mistakes.length > 0) throw new Error(member.mistakes.join('\n'));
      if (member.channel === null || member.server.gone) continue;
      const fault = member.differs(expected.get(member.channel));
      if (fault !== null) return `${fault}; in truth there are ${this.#placesIn(member.channel)}`;
    }
    return null;
  }

  #placesIn(channel) {
    const there = this.members.filter((member) => member.channel === channel);
    return there.map(({ user, server }) => `${user} on ${server.port}`).join(', ');
  }

  // The node is silent for so long that the others take it for dead; it may come back with its connections.
  miss(server) {
    server.gone = true;
  }

  found(server) {
    server.gone = false;
  }

  // The node has died: its connections with it.
  lose(server) {
    server.gone = true;
    this.members = this.members.filter((member) => member.server !== server);
    this.connections = this.connections.filter((connection) => connection.server !== server);
  }

  // Ends all connections.
  end() {
    for (const connection of this.connections) connection.end();
  }
}

/*
 * A connection, on which members have a place each. Events of the channel that it watches have a publisher as their
 * name and a number as their data. The numbers of a publisher follow each other: none is missing, none comes twice.
 */
class Connection {
  members = [];
  events = 0; // of the channel that it watches
  closes = []; // the codes with which it was closed, or why it could not be made again
  #options;
  #numbers;
  #ended = false;

  constructor(server, options = {}) {
    this.server = server;
    this.journal = options.journal;
    this.#options = options;
  }

  async connect() {
    const ws = await connect(this.server);
    this.ws = ws;
    this.#numbers = new Map();
    // Of many events nothing is kept.
    ws.frames.push = () => {};
    ws.inbox.push = (message) => this.#receive(message);
    for (const message of ws.inbox.waiting.splice(0)) this.#receive(message);
    if (this.#options.returns) ws.closed(2 ** 31 - 1).then(({ code }) => this.#return(code));
    if (this.#options.watches) sendSubscribe(ws, this.#options.watches);
    for (const member of this.members) member.connected();
  }

  end() {
    this.#ended = true;
    this.ws.destroy();
  }

  // Comes back at once after 4200 to 4299, else a second later.
  async #return(code) {
    for (const member of this.members) member.disconnected(code);
    for (let why = code ?? 'no code'; !this.#ended;) {
      this.closes.push(why);
      if (!(why >= 4200 && why < 4300)) await new Promise((resolve) => setTimeout(resolve, BACK_OFF_MS));
      try {
        return await this.connect();
      } catch (error) {
        why = error.message;
      }
    }
  }

  #receive(message) {
    if (message.event === 'pusher:ping') this.ws.send({ event: 'pusher:pong', data: {} });
    if (message.channel === undefined) return;
    if (message.channel === this.#options.watches) this.#watch(message);
    else this.members.find(({ channel }) => channel === message.channel)?.receive(message);
  }

  #watch(message) {
    if (message.event.startsWith('pusher')) return;
    const last = this.#numbers.get(message.event);
    const number = Number(message.data);
    if (last !== undefined && number !== last + 1) this.members[0].mistake(`after the event ${last}`, message);
    this.#numbers.set(message.event, number);
    this.events++;
  }
}

// Who is in a channel, or in none, on a connection.
class Member {
  channel = null;
  user = null;
  list = null; // a set of users; null: not told yet
  mistakes = [];
  answered = null; // a promise, while an answer is awaited
  #answer = null;
  #log = [];

  constructor(connection) {
    this.connection = connection;
    connection.members.push(this);
  }

  get server() {
    return this.connection.server;
  }

  get #journal() {
    return this.connection.journal;
  }

  connected() {
    if (this.channel !== null) this.#subscribe();
  }

  disconnected(code) {
    if (this.channel !== null) this.#journal?.left(this);
    this.list = null;
    this.#note(`closed with ${code}`);
  }

  join(channel, user) {
    this.channel = channel;
    this.user = user;
    this.list = null;
    this.answered = new Promise((resolve) => {
      this.#answer = resolve;
    });
    this.#subscribe();
  }

  #subscribe() {
    this.#journal?.joins(this);
    sendSubscribe(this.connection.ws, this.channel, { user: { user_id: this.user, user_info: { of: this.user } } });
  }

  leave() {
    // An answer that is still on its way may come, or not.
    if (this.list === null) return;
    this.#journal?.left(this);
    unsubscribe(this.connection.ws, this.channel);
    this.channel = null;
    this.list = null;
  }

  differs(expected) {
    const where = `${this.user} in ${this.channel} on port ${this.server.port}`;
    if (this.list === null) return `${where} has no answer`;
    const missing = [...expected].filter((user) => !this.list.has(user));
    const ghosts = [...this.list].filter((user) => !expected.has(user));
    if (missing.length + ghosts.length === 0) return null;
    return `${where} misses [${missing}] and has [${ghosts}] too much; it was told ${this.#log.slice(-20).join(', ')}`;
  }

  receive(message) {
    // Until the list comes, what arrives is of a subscription that has ended.
    const data = typeof message.data === 'string' ? JSON.parse(message.data) : message.data;
    if (message.event === 'pusher_internal:subscription_succeeded') {
      this.#answer();
      this.#journal?.joined(this);
      this.list = new Set(data.presence.ids);
      this.#note(`the list of ${this.list.size}`);
      if (this.list.size !== data.presence.ids.length) this.mistake('a list with doubles', message);
      if (!this.list.has(this.user)) this.mistake('a list without itself', message);
    } else if (message.event === 'pusher_internal:member_added') {
      this.#note(`+${data.user_id}`);
      if (this.list?.has(data.user_id)) this.mistake('added twice', message);
      this.list?.add(data.user_id);
    } else if (message.event === 'pusher_internal:member_removed') {
      this.#note(`-${data.user_id}`);
      if (this.list?.delete(data.user_id) === false) this.mistake('removed twice', message);
    } else if (message.event === 'pusher:subscription_error') {
      this.mistake('refused', message);
    }
  }

  #note(text) {
    if (this.#log.length === 40) this.#log.splice(0, 20);
    this.#log.push(`${text} at ${Math.round(performance.now())}`);
  }

  mistake(what, message) {
    this.mistakes.push(`${this.user} in ${this.channel} on port ${this.server.port}: ${what}: ${message.text}`);
  }
}

// Pseudo-random numbers from a seed: random(n) is below n.
export function randomFrom(seed) {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
