// The clients: half of them stay and check that no event is missing, the others come and go and note which webhooks
// that must cause.

import { once } from 'node:events';
import WebSocket from 'ws';

import { Inbox, matching } from '../lib/inbox.js';
import { channelAuth } from '../lib/sign.js';
import { CHANNELS } from './publisher.js';
import { webhookKey } from './receiver.js';

const CHANNELS_EACH = 3;
const OPENING_AT_ONCE = 50;
const ROOMS = 50;
const STAY_MOST_MS = 20_000;
const WAIT_MS = 60_000;

class Client {
  inbox = new Inbox('messages', (text) => text);
  closed = false;

  constructor({ server, ca, app }, { compressed = false, onEvent } = {}) {
    this.app = app;
    this.socket = new WebSocket(`wss://127.0.0.1:${server.port}/app/${app.key}?protocol=7`, {
      ca,
      servername: 'localhost',
      origin: 'https://soak.example',
      perMessageDeflate: compressed,
      handshakeTimeout: WAIT_MS,
    });
    this.socket.on('message', (bytes) => {
      const message = JSON.parse(bytes);
      if (message.event === 'pusher:ping') this.send({ event: 'pusher:pong', data: {} });
      else if (!onEvent?.(message)) this.inbox.push(message);
    });
    this.socket.on('error', (error) => (this.error = error));
    this.socket.on('close', (code) => {
      this.closed = true;
      this.inbox.close(`closed with ${code}: ${this.error?.message ?? ''}`);
    });
  }

  async established() {
    const { data } = await this.inbox.next(matching('pusher:connection_established'), WAIT_MS);
    this.socketId = JSON.parse(data).socket_id;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  async subscribe(channel, user) {
    const data = { channel };
    if (user) data.channel_data = JSON.stringify({ user_id: user, user_info: { name: user } });
    if (/^(private|presence)-/.test(channel))
      data.auth = channelAuth(this.app, this.socketId, channel, data.channel_data);
    this.send({ event: 'pusher:subscribe', data });
    const accepts = (message) =>
      message.channel === channel && message.event === 'pusher_internal:subscription_succeeded';
    await this.inbox.next(Object.assign(accepts, { label: `subscribed to ${channel}` }), WAIT_MS);
  }

  unsubscribe(channel) {
    this.send({ event: 'pusher:unsubscribe', data: { channel } });
  }

  async leave(how) {
    if (this.closed) return;
    const end = once(this.socket, 'close');
    if (how === 'close') this.socket.close(1000);
    else this.socket.terminate();
    await end;
  }
}

export class Connections {
  received = 0;
  cycles = 0;
  #expected = new Map();
  #stayers = [];
  #visitors = 0;
  #slots = [];
  #finishing = false;

  constructor(parts) {
    Object.assign(this, parts);
  }

  async open(count) {
    const staying = Math.floor(count / 2);
    this.#visitors = count - staying;
    for (let first = 0; first < staying; first += OPENING_AT_ONCE) {
      const some = Array.from({ length: Math.min(OPENING_AT_ONCE, staying - first) }, (_, i) => this.#stay(first + i));
      this.#stayers.push(...(await Promise.all(some)));
    }
  }

  async #stay(index) {
    const last = new Map();
    const client = new Client(this, {
      compressed: index % 2 === 0,
      onEvent: (message) => message.event === 'numbered' && this.#check(index, last, message),
    });
    await client.established();
    for (let i = 0; i < CHANNELS_EACH; i++) await client.subscribe(CHANNELS[(index + i * 7) % CHANNELS.length]);
    client.socket.on('close', (code) => {
      if (!this.#finishing) this.problem(`connection ${index}, which stays, was closed with ${code}`);
    });
    return { client, last };
  }

  #check(index, last, { channel, data }) {
    const { n } = JSON.parse(data);
    const before = last.get(channel);
    this.received++;
    if (before !== undefined && n !== before + 1)
      this.problem(`connection ${index} got event ${n} of ${channel} after ${before}`);
    last.set(channel, n);
    return true;
  }

  churn() {
    this.#slots = Array.from({ length: this.#visitors }, (_, slot) => this.#visit(slot));
  }

  async #visit(slot) {
    for (let cycle = 0; !this.#finishing; cycle++) {
      try {
        await this.#visitOnce(slot, cycle);
      } catch (error) {
        if (!this.#finishing) this.problem(`visitor ${slot}, visit ${cycle}: ${error.message}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 900));
    }
  }

  async #visitOnce(slot, cycle) {
    const name = `${slot}-${cycle}`;
    const [visit, talk, room] = [`visit-${name}`, `private-talk-${name}`, `presence-visit-${slot % ROOMS}`];
    const client = new Client(this, { compressed: slot % 2 === 0 });
    try {
      await client.established();
      this.#expectOccupied(visit);
      await client.subscribe(visit);
      this.#expectOccupied(talk);
      await client.subscribe(talk);
      this.#expectMember(room, name);
      await client.subscribe(room, name);
      client.send({ event: 'client-said', channel: talk, data: { said: name } });
      this.#expect({ name: 'client_event', channel: talk, data: { said: name } });
      if (cycle % 3 === 0) {
        // Back at once: neither channel_vacated nor another channel_occupied.
        const left = Date.now();
        client.unsubscribe(visit);
        await client.subscribe(visit);
        if (Date.now() - left > 2000) this.#expectOccupied(visit, { most: 2 });
      }
      await this.#pause(Math.random() * STAY_MOST_MS);
      if (client.closed) throw new Error(`closed by the server: ${client.error?.message ?? ''}`);
      if (cycle % 3 === 1) for (const channel of [visit, talk, room]) client.unsubscribe(channel);
      this.cycles++;
    } finally {
      await client.leave(cycle % 2 === 0 ? 'close' : 'terminate');
    }
  }

  // Ends early when the test does.
  async #pause(milliseconds) {
    const until = Date.now() + milliseconds;
    while (!this.#finishing && Date.now() < until)
      await new Promise((resolve) => setTimeout(resolve, Math.min(500, milliseconds)));
  }

  #expect(event, { most = 1, optional = false } = {}) {
    this.#expected.set(webhookKey(event), { most, optional });
  }

  #expectOccupied(channel, options) {
    this.#expect({ name: 'channel_occupied', channel }, options);
    this.#expect({ name: 'channel_vacated', channel }, options);
  }

  #expectMember(channel, user_id) {
    this.#expect({ name: 'member_added', channel, user_id });
    this.#expect({ name: 'member_removed', channel, user_id });
    // A room is empty now and then.
    this.#expectOccupied(channel, { most: Infinity, optional: true });
  }

  expectedWebhooks() {
    return this.#expected;
  }

  // All leave; those that stayed must have got everything that was published.
  async finish(published) {
    const until = Date.now() + WAIT_MS;
    const late = ({ last }) => [...last].some(([channel, n]) => n !== published.get(channel));
    while (this.#stayers.some(late) && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 100));
    for (const [index, stayer] of this.#stayers.entries())
      if (stayer.last.size === 0 || late(stayer)) this.problem(`connection ${index} did not get the last events`);
    this.#finishing = true;
    await Promise.all(this.#slots);
    await Promise.all(this.#stayers.map(({ client }) => client.leave('close')));
  }
}
