// A client of machine.js: a WebSocket that checks everything that it receives against the model.

import WebSocket from 'ws';

import { channelAuth, signinAuth } from '../lib/sign.js';
import { clock, Membership } from './machine-model.js';

const isPresence = (channel) => channel.startsWith('presence-');
const isPrivate = (channel) => /^(private|presence)-/.test(channel);
export const isCache = (channel) => /^(private-|presence-)?cache-/.test(channel);
export const userChannel = (user) => `#server-to-user-${user}`;

export class Client {
  memberships = new Map(); // by channel
  socketId = null;
  established = false;
  closed = false;
  // The reason why the server may close it, or has to.
  doomed = null;
  mustClose = false;
  userId = null;
  #fences = [];

  constructor(world, app, index) {
    Object.assign(this, { world, app, index, publisher: `c${index}` });
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.ws = new WebSocket(`ws://${world.server.host}:${world.server.port}/app/${app.key}?protocol=7`, {
      perMessageDeflate: index % 3 === 0,
    });
    this.ws.on('message', (bytes) => this.#receive(bytes));
    this.ws.on('error', () => {}); // told by its end
    this.ws.on('close', (code) => this.#close(code));
  }

  get usable() {
    return this.established && !this.closed && !this.doomed;
  }

  #problem(text) {
    this.world.problem(`client ${this.index} of app ${this.app.id}: ${text}`);
  }

  #close(code) {
    this.closed = true;
    if (!this.doomed && !this.world.finishing) this.#problem(`was closed with ${code}`);
    for (const resolve of this.#fences.splice(0)) resolve();
    this.end();
  }

  send(message) {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(message));
  }

  // Resolves when the server has handled what was sent before, or the connection has ended.
  fence() {
    if (this.closed || this.ws.readyState !== WebSocket.OPEN) return Promise.resolve();
    this.send({ event: 'pusher:ping', data: {} });
    return new Promise((resolve) => this.#fences.push(resolve));
  }

  // --- what it does ---

  subscribe(channel, user, { wrong = false } = {}) {
    if (this.memberships.has(channel)) return;
    const data = { channel };
    if (isPresence(channel)) data.channel_data = JSON.stringify({ user_id: user });
    if (isPrivate(channel)) data.auth = channelAuth(this.app, this.socketId, channel, data.channel_data);
    if (wrong) data.auth = data.auth.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
    const membership = new Membership(user);
    membership.wrong = wrong;
    this.memberships.set(channel, membership);
    this.send({ event: 'pusher:subscribe', data });
  }

  unsubscribe(channel) {
    const membership = this.memberships.get(channel);
    if (!membership?.isIn) return;
    membership.leftAt = clock.tick();
    this.send({ event: 'pusher:unsubscribe', data: { channel } });
    this.fence().then(() => {
      membership.outAt = clock.tick();
      this.memberships.delete(channel);
    });
  }

  signIn(user) {
    if (this.userId) return;
    const userData = JSON.stringify({ id: user });
    this.userId = user;
    this.memberships.set(userChannel(user), new Membership(user));
    const data = { user_data: userData, auth: signinAuth(this.app, this.socketId, userData) };
    this.send({ event: 'pusher:signin', data });
  }

  clientEvent(channel) {
    const membership = this.memberships.get(channel);
    if (!membership || !isPrivate(channel)) this.send({ event: 'client-refused', channel, data: '{}' });
    if (!membership?.isIn || !isPrivate(channel)) return;
    const event = this.world.events.create({ publisher: this.publisher, app: this.app, channel, except: this });
    this.send({ event: 'client-e', channel, data: event.name });
    this.fence().then(() => {
      if (this.doomed) event.sure = false;
      // The server may still read what came before the end.
      if (!this.closed) event.answeredAt = clock.tick();
    });
  }

  // --- what it gets ---

  #receive(bytes) {
    let message;
    try {
      message = JSON.parse(bytes);
    } catch {
      this.#problem(`got what is not JSON: ${bytes}`);
      return;
    }
    const handle = this.#handlers[message.event];
    if (handle) handle.call(this, message);
    else this.#problem(`got ${bytes}`);
  }

  #handlers = {
    'pusher:connection_established': function ({ data }) {
      this.socketId = JSON.parse(data).socket_id;
      this.established = true;
    },
    'pusher:pong': function () {
      this.#fences.shift()?.();
    },
    'pusher:ping': function () {
      this.send({ event: 'pusher:pong', data: {} });
    },
    'pusher:error': function () {},
    'pusher:signin_success': function () {
      this.memberships.get(userChannel(this.userId)).inAt = clock.tick();
    },
    'pusher:cache_miss': function ({ channel }) {
      this.#member(channel, (membership) => (membership.cacheDue = false));
    },
    'pusher_internal:subscription_succeeded': function ({ channel, data }) {
      this.#member(channel, (membership) => {
        if (membership.wrong) this.#problem(`was subscribed to ${channel} with a wrong signature`);
        membership.inAt = clock.tick();
        membership.cacheDue = isCache(channel);
        if (isPresence(channel)) this.#takeMembers(channel, membership, JSON.parse(data).presence);
      });
    },
    'pusher:subscription_error': function ({ channel, data }) {
      this.#member(channel, (membership) => {
        if (!membership.wrong && !this.doomed)
          this.#problem(`was not subscribed to ${channel}: ${JSON.stringify(data)}`);
        this.memberships.delete(channel);
      });
    },
    'pusher_internal:member_added': function ({ channel, data }) {
      this.#memberEvent(channel, JSON.parse(data).user_id, true);
    },
    'pusher_internal:member_removed': function ({ channel, data }) {
      this.#memberEvent(channel, JSON.parse(data).user_id, false);
    },
    e: function (message) {
      this.#event(message);
    },
    'client-e': function (message) {
      this.#event(message);
    },
  };

  #member(channel, use) {
    const membership = this.memberships.get(channel);
    if (membership) use(membership);
    else this.#problem(`got a message of ${channel}, where it is not`);
  }

  #takeMembers(channel, membership, { count, ids }) {
    membership.members = new Set(ids);
    if (membership.members.size !== count || ids.length !== count)
      this.#problem(`got the wrong count of members of ${channel}: ${count} of ${ids}`);
    if (!membership.members.has(membership.user)) this.#problem(`is not in the member list of ${channel}`);
  }

  #memberEvent(channel, user, added) {
    this.#member(channel, ({ members }) => {
      if (members.has(user) === added) this.#problem(`was told twice of member ${user} of ${channel}`);
      if (added) members.add(user);
      else members.delete(user);
    });
  }

  #event({ channel, data }) {
    const event = this.world.events.find(data, channel);
    if (!event || event.app !== this.app) {
      this.#problem(`got the event ${data} on ${channel}, which was not published there`);
      return;
    }
    this.#member(channel, (membership) => {
      if (event.except === this && !membership.cacheDue)
        this.#problem(`got the event ${data} on ${channel}, from which it is excluded`);
      const wrong = membership.receive(event);
      if (wrong) this.#problem(`got the event ${data} on ${channel}, which ${wrong}`);
    });
    this.world.received++;
  }
}
