// The app's record, changed over the admin API all the time, in ways that nobody may notice.

import { fetchMetrics } from '../lib/metrics.js';

const PAUSE_MS = 500;

export class Changes {
  made = 0;
  #running = null;
  #stopped = false;
  #down = false;

  static async start({ server, token, app, webhookUrl, problem }) {
    const changes = new Changes({ server, token, app, webhookUrl, problem });
    const { message } = await server.waitForLog(/^admin API on /);
    changes.base = message.match(/http:\/\/\S+/)[0];
    const { status, text } = await changes.#call('POST', '', {
      ...app,
      enable_client_messages: true,
      max_connections: 0,
      max_backend_events_per_second: 0,
      max_client_events_per_second: 1000,
      max_presence_members_per_channel: 0,
      webhooks: changes.#webhooks(),
    });
    if (status !== 201) throw new Error(`the app could not be made: ${status} ${text}`);
    return changes;
  }

  constructor({ server, token, app, webhookUrl, problem }) {
    Object.assign(this, { server, token, app, webhookUrl, problem });
  }

  #webhooks() {
    const events = ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event'];
    return [
      {
        url: this.webhookUrl,
        event_types: events,
        filter: { channel_pattern: '^(private-|presence-)?(visit|talk)-' },
        headers: { 'X-Change': String(this.made) },
      },
    ];
  }

  async #call(method, where, body) {
    const answer = await fetch(this.base + where, {
      method,
      headers: { authorization: `Bearer ${this.token}` },
      body: JSON.stringify(body),
    });
    return { status: answer.status, text: await answer.text() };
  }

  // While the database is down a change may fail.
  storeIsDown(down) {
    this.#down = down;
  }

  start() {
    this.#running = this.#run();
  }

  async stop() {
    this.#stopped = true;
    await this.#running;
  }

  async #run() {
    while (!this.#stopped) {
      const wasDown = this.#down;
      const { status, text } = await this.#call('PATCH', `/${this.app.id}`, {
        max_connections: 10_000 + (this.made % 7),
        allowed_origins: this.made % 2 === 0 ? ['*'] : null,
        enable_watchlist_events: this.made % 2 === 0,
        webhooks: this.#webhooks(),
      });
      if (status === 200) this.made++;
      else if (!wasDown && !this.#down && ![503, 507].includes(status))
        this.problem(`a change of the record was answered ${status}: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async checkMetrics() {
    const metrics = await fetchMetrics(this.server);
    for (const name of ['webhook_dropped_total', 'webhooks_dropped_total'])
      for (const { value } of metrics.select(name)) if (value !== 0) this.problem(`${name} is ${value}`);
  }
}
