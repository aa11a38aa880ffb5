// usage: node upgrades.js [--upgrades N] [--clients N] [--grace SECONDS] [--restart]
//
// Upgrades the server again and again, while clients that come back as pusher-js does and real pusher-js clients are
// connected, and a publisher sends 100 events a second. It measures how long each client was away, and what was
// refused, cut without an answer or failed. With --restart the server is stopped and started in place of
// each upgrade, on a port of its own. Exit code 0; after upgrades 1 if more than 1 % of the absences took a second,
// or if anything was refused.

import http from 'node:http';
import net from 'node:net';
import { parseArgs } from 'node:util';

import { api } from '../lib/api.js';
import { makePusher } from '../lib/pusher.js';
import { Journal, ReturningClient } from '../lib/returning-client.js';
import { APP, RELEASE_BINARY, startServer } from '../lib/server.js';

const { values } = parseArgs({
  options: {
    upgrades: { type: 'string', default: '10' },
    clients: { type: 'string', default: '2000' },
    grace: { type: 'string', default: '10' },
    restart: { type: 'boolean', default: false },
  },
});
const UPGRADES = Number(values.upgrades);
const CLIENTS = Number(values.clients);
const PUSHERS = 20;
const PUBLISH_EVERY_MS = 10;
const OPENING_AT_ONCE = 100;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

// Publishes at a fixed rate, over connections that are kept alive as those of backends are.
class Publisher {
  published = 0;
  failed = {};
  #timer;
  #pending = new Set();
  #agent = new http.Agent({ keepAlive: true, maxSockets: 20 });

  constructor(server) {
    this.#timer = setInterval(() => this.#publish(server), PUBLISH_EVERY_MS);
  }

  #publish(server) {
    const body = { name: 'my-event', channel: 'my-channel', data: '{}' };
    this.published++;
    const sent = api(server, 'POST', '/events', { body, agent: this.#agent })
      .then(({ status }) => status === 200 || this.#count(status))
      .catch((error) => this.#count(error.code ?? error.message))
      .finally(() => this.#pending.delete(sent));
    this.#pending.add(sent);
  }

  #count(reason) {
    this.failed[reason] = (this.failed[reason] ?? 0) + 1;
  }

  async stop() {
    clearInterval(this.#timer);
    await Promise.all(this.#pending);
    this.#agent.destroy();
  }
}

// How long pusher-js clients are away: from the end of a connection to the next `connected`.
function watchPusher(server, journal) {
  const pusher = makePusher(server);
  let leftAt = null;
  pusher.connection.bind('state_change', ({ previous, current }) => {
    if (previous === 'connected') leftAt ??= performance.now();
    journal.codes[current] = (journal.codes[current] ?? 0) + 1;
    if (current !== 'connected' || leftAt === null) return;
    journal.away.push(performance.now() - leftAt);
    leftAt = null;
  });
  return pusher;
}

function report(what, journal) {
  const { away, codes, refused, unanswered } = journal;
  const at = (share) => `${(journal.percentile(share) / 1000).toFixed(3)} s`;
  console.log(
    `${what}: ${away.length} absences, median ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)}; ` +
      `${refused} refused, ${unanswered} without an answer; ${JSON.stringify(codes)}`,
  );
}

const options = {
  apps: [{ ...APP, max_connections: 0 }],
  binary: RELEASE_BINARY,
  config: {
    port: values.restart ? await freePort() : 0,
    shutdown_grace_period: Number(values.grace),
    metrics: { enabled: false },
  },
};
let server = await startServer(options);
const place = { host: server.host, port: server.port, url: server.url, own: () => {} };
const journal = new Journal();
const pusherJournal = new Journal();
const clients = [];
for (let first = 0; first < CLIENTS; first += OPENING_AT_ONCE) {
  const some = Array.from({ length: Math.min(OPENING_AT_ONCE, CLIENTS - first) }, () => {
    return new ReturningClient(place, `channel-${clients.length % 100}`, journal);
  });
  clients.push(...some);
  await Promise.all(some.map((client) => client.subscribed()));
}
const pushers = Array.from({ length: PUSHERS }, () => watchPusher(place, pusherJournal));
const publisher = new Publisher(place);
for (let i = 1; i <= UPGRADES; i++) {
  if (values.restart) {
    await server.stop();
    server = await startServer(options);
  } else {
    await (await server.upgrade()).ended();
  }
  await Promise.all(clients.map((client) => client.subscribed(i)));
  await sleep(500);
  console.log(`${values.restart ? 'restart' : 'upgrade'} ${i}: process ${server.pid}`);
}
await publisher.stop();
report(`${CLIENTS} clients`, journal);
report(`${PUSHERS} pusher-js`, pusherJournal);
console.log(`${publisher.published} publishes, failed: ${JSON.stringify(publisher.failed)}`);
for (const client of clients) client.end();
for (const pusher of pushers) pusher.disconnect();
await server.stop();
const noticed =
  Math.max(journal.percentile(0.99), pusherJournal.percentile(0.99)) >= 1000 ||
  journal.refused + journal.unanswered + Object.keys(publisher.failed).length > 0;
process.exit(noticed && !values.restart ? 1 : 0);
