// Healthy clients beside an attack: groups of ten on a private channel. Each client sends numbered client events, and
// checks that it gets every number of each other member of its group; some events come over the HTTP API.

import http from 'node:http';
import WebSocket from 'ws';

import { channelAuth, signedPath } from '../lib/sign.js';

const GROUP = 10;
const SEND_EVERY_MS = 2000;
const OPENING_AT_ONCE = 50;
const WAIT_MS = 60_000;

class HealthyClient {
  sent = 0;
  closed = null;
  #last = new Map();
  #events = new Map();

  constructor({ server, app, channel, index, healthy }) {
    Object.assign(this, { app, channel, index, healthy });
    this.socket = new WebSocket(`ws://127.0.0.1:${server.port}/app/${app.key}?protocol=7`, {
      perMessageDeflate: index % 2 === 0,
      handshakeTimeout: WAIT_MS,
    });
    this.socket.on('message', (bytes) => this.#take(JSON.parse(bytes)));
    this.socket.on('error', (error) => (this.error = error));
    this.socket.on('close', (code) => {
      this.closed = code;
      if (!healthy.finishing) healthy.problem(`healthy client ${index} was closed with ${code}: ${this.error ?? ''}`);
    });
  }

  #take({ event, data, channel }) {
    if (event === 'pusher:connection_established') {
      const auth = channelAuth(this.app, JSON.parse(data).socket_id, this.channel);
      this.#send({ event: 'pusher:subscribe', data: { channel: this.channel, auth } });
    } else if (event === 'pusher:ping') {
      this.#send({ event: 'pusher:pong', data: {} });
    } else if (event === 'client-n' || event === 'published') {
      this.#check(typeof data === 'string' ? JSON.parse(data) : data);
    } else {
      this.#events.get(event)?.();
      if (event === 'pusher:error') this.healthy.problem(`healthy client ${this.index}: ${JSON.stringify(data)}`);
      if (channel !== undefined && channel !== this.channel) this.healthy.problem(`an event of ${channel} came`);
    }
  }

  #check({ from, n, at }) {
    const last = this.#last.get(from);
    this.healthy.received++;
    this.healthy.latencies.push(performance.now() - at);
    if (n !== (last ?? 0) + 1) this.healthy.problem(`client ${this.index} got ${n} of ${from} after ${last}`);
    this.#last.set(from, n);
  }

  #send(message) {
    this.socket.send(JSON.stringify(message));
  }

  subscribed() {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`client ${this.index} was not subscribed`)), WAIT_MS);
      this.#events.set('pusher_internal:subscription_succeeded', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  speak() {
    const data = { from: this.index, n: ++this.sent, at: performance.now() };
    this.#send({ event: 'client-n', channel: this.channel, data });
  }

  has(from, n) {
    return n === 0 || this.#last.get(from) === n;
  }
}

export class Healthy {
  received = 0;
  published = 0;
  latencies = [];
  finishing = false;
  #clients = [];
  #timers = [];
  #counts = new Map();
  #publishing = null;

  constructor({ server, app, problem }) {
    Object.assign(this, { server, app, problem });
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  }

  async open(count) {
    for (let first = 0; first < count; first += OPENING_AT_ONCE) {
      const some = Array.from({ length: Math.min(OPENING_AT_ONCE, count - first) }, (_, i) => {
        const index = first + i;
        const channel = `private-healthy-${Math.floor(index / GROUP)}`;
        return new HealthyClient({ server: this.server, app: this.app, channel, index, healthy: this });
      });
      await Promise.all(some.map((client) => client.subscribed()));
      this.#clients.push(...some);
    }
  }

  start() {
    for (const client of this.#clients) {
      const begin = setTimeout(() => {
        client.speak();
        this.#timers.push(setInterval(() => client.speak(), SEND_EVERY_MS));
      }, Math.random() * SEND_EVERY_MS);
      this.#timers.push(begin);
    }
    this.#publishing = this.#publish();
  }

  // Ten publishes a second, one channel after the other.
  async #publish() {
    const groups = Math.ceil(this.#clients.length / GROUP);
    for (let i = 0; !this.finishing; i = (i + 1) % groups) {
      const channel = `private-healthy-${i}`;
      const n = (this.#counts.get(channel) ?? 0) + 1;
      const data = JSON.stringify({ from: 'api', n, at: performance.now() });
      const { status, text } = await this.#post(JSON.stringify({ name: 'published', channel, data }));
      if (status === 200) {
        this.#counts.set(channel, n);
        this.published++;
      } else this.problem(`a healthy publish was answered ${status}: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  #post(body) {
    const path = signedPath(this.app, 'POST', `/apps/${this.app.id}/events`, { body });
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    const options = { host: '127.0.0.1', port: this.server.port, agent: this.agent, method: 'POST', path, headers };
    return new Promise((resolve) => {
      const request = http.request(options, async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve({ status: response.statusCode, text });
      });
      request.on('error', (error) => resolve({ status: 0, text: error.message }));
      request.end(body);
    });
  }

  // The 99th percentile of the time from sending to receiving, in ms, since the last call.
  takeP99() {
    const sorted = this.latencies.sort((a, b) => a - b);
    this.latencies = [];
    return sorted[Math.floor(sorted.length * 0.99)] ?? 0;
  }

  #missing() {
    return this.#clients.filter((client) => {
      const group = this.#clients.filter((other) => other.channel === client.channel && other !== client);
      const all = group.every((other) => client.has(other.index, other.sent));
      return !all || !client.has('api', this.#counts.get(client.channel) ?? 0);
    });
  }

  // All stop sending; everyone must have got everything.
  async finish() {
    this.finishing = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#publishing;
    this.agent.destroy();
    const until = Date.now() + WAIT_MS;
    while (this.#missing().length > 0 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 100));
    for (const client of this.#missing()) this.problem(`healthy client ${client.index} did not get everything`);
    for (const client of this.#clients) {
      if (client.closed !== null) this.problem(`healthy client ${client.index} is closed (${client.closed})`);
      client.socket.terminate();
    }
  }
}
