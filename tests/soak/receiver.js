// A webhook endpoint: verifies each signature, refuses one request in fifty at first, and counts each event.

import { createHmac } from 'node:crypto';
import http from 'node:http';

const REFUSED_EVERY = 50;
const QUIET_MS = 90_000;

// What makes an event unique in this test.
export function webhookKey({ name, channel, user_id, data }) {
  return [name, channel, user_id ?? '', name === 'client_event' ? JSON.stringify(data) : ''].join(' ');
}

export class Receiver {
  total = 0;
  requests = 0;
  failed = 0;
  #counts = new Map();
  #changed = () => {};

  static async start(secret, problem) {
    const receiver = new Receiver(secret, problem);
    await new Promise((resolve) => receiver.server.listen(0, '127.0.0.1', resolve));
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}/hook`;
    return receiver;
  }

  constructor(secret, problem) {
    this.secret = secret;
    this.problem = problem;
    this.server = http.createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      response.statusCode = this.#take(request.headers, Buffer.concat(chunks));
      response.end();
    });
    this.server.on('clientError', (error, socket) => socket.destroy());
  }

  #take(headers, body) {
    const signature = createHmac('sha256', this.secret).update(body).digest('hex');
    if (headers['x-pusher-signature'] !== signature) {
      this.problem('a webhook has a wrong signature');
      return 401;
    }
    if (++this.requests % REFUSED_EVERY === 0) {
      this.failed++;
      return 500;
    }
    for (const event of JSON.parse(body).events) {
      const key = webhookKey(event);
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
      this.total++;
    }
    this.#changed();
    return 200;
  }

  // Waits until every expected event has come, then judges all of them. An event that is `optional` may come or not.
  async settle(expected) {
    const missing = () => [...expected].filter(([key, { optional }]) => !optional && !this.#counts.has(key));
    let quiet = Date.now();
    this.#changed = () => (quiet = Date.now());
    while (missing().length > 0 && Date.now() - quiet < QUIET_MS)
      await new Promise((resolve) => setTimeout(resolve, 200));
    for (const [key] of missing()) this.problem(`no webhook came for: ${key}`);
    for (const [key, count] of this.#counts) {
      if (!expected.has(key)) this.problem(`a webhook came for what did not happen: ${key}`);
      else if (count > expected.get(key).most) this.problem(`${count} webhooks in place of one: ${key}`);
    }
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
