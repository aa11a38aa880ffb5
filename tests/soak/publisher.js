// Publishes numbered events over the HTTP API: on each channel 1, 2, 3 ..., one batch for all channels at a time.

import https from 'node:https';

import { signedPath } from '../lib/sign.js';

export const CHANNELS = Array.from({ length: 20 }, (_, i) => ['news', 'private-news', 'cache-news'][i % 3] + `-${i}`);
const PAUSE_MS = 500;
const BATCH = 10;

export class Publisher {
  // By channel: how many events were published.
  published = new Map(CHANNELS.map((channel) => [channel, 0]));
  total = 0;
  #running = null;
  #stopped = false;

  constructor({ server, ca, app, problem }) {
    this.app = app;
    this.problem = problem;
    this.target = { host: '127.0.0.1', port: server.port, ca, servername: 'localhost' };
    this.agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  }

  start() {
    this.#running = this.#run();
  }

  async stop() {
    this.#stopped = true;
    await this.#running;
    this.agent.destroy();
  }

  async #run() {
    for (let first = 0; !this.#stopped; first = (first + BATCH) % CHANNELS.length) {
      const batch = CHANNELS.slice(first, first + BATCH).map((channel) => ({
        channel,
        name: 'numbered',
        data: JSON.stringify({ n: this.published.get(channel) + 1, text: 'the same words each time' }),
      }));
      const { status, text } = await this.#post(JSON.stringify({ batch }));
      if (status !== 200) {
        this.problem(`a batch was answered ${status}: ${text}`);
        return;
      }
      for (const { channel } of batch) this.published.set(channel, this.published.get(channel) + 1);
      this.total += batch.length;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  #post(body) {
    const path = signedPath(this.app, 'POST', `/apps/${this.app.id}/batch_events`, { body });
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    return new Promise((resolve) => {
      const options = { ...this.target, agent: this.agent, method: 'POST', path, headers };
      const request = https.request(options, async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve({ status: response.statusCode, text });
      });
      request.on('error', (error) => resolve({ status: 0, text: error.message }));
      request.end(body);
    });
  }
}
