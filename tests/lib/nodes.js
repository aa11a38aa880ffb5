// Several nodes of Curlew that share one bus: a real message system, started for the test.
//
// Each node has the admin API, for /admin/nodes. Nodes are stopped and judged after the test, as all servers are.

import { backendFor } from './backends/index.js';
import { TIMEOUT_MS, untilTrue, within } from './inbox.js';
import { startServer } from './server.js';

const TOKEN = 'a token for the admin API of tests';

// Short, so that tests do not wait for long, and long enough for sanitizers on a busy machine.
export const HEARTBEAT_MS = 500;
export const NODE_TIMEOUT_MS = 3000;

// What a promise in milliseconds is multiplied by, for the same reason.
export const SLOW = 4;

/*
 * Starts a bus and nodes on it, for the test or suite whose `t` (or {after}) this is.
 *   kind        of the bus: redis, redis-cluster, nats (tests/lib/backends/kinds.js)
 *   bus         a back end that is there already, in place of a new one; or options for a new one
 *   count       of nodes (default: 3)
 *   server      options of startServer() for each node: apps, config, env, binary
 *   timeoutMs   after which silent nodes count as dead
 * Resolves when every node sees all others.
 */
export async function nodesFor(
  t,
  { kind = 'redis', bus, busOptions, count = 3, prefix = 'test', server = {}, timeoutMs = NODE_TIMEOUT_MS } = {},
) {
  const nodes = new Nodes(t, bus ?? (await backendFor(t, kind, busOptions)), prefix, timeoutMs, server);
  await Promise.all(Array.from({ length: count }, () => nodes.add()));
  await nodes.untilAll(count);
  return nodes;
}

// Resolves when /up of a server says the word, to the cause in its header.
export async function untilUp(server, word) {
  let cause;
  const saysSo = async () => {
    const answer = await fetch(`${server.url}/up`);
    cause = answer.headers.get('X-Health-Cause');
    return (await answer.text()) === word;
  };
  await untilTrue(saysSo, `/up to say ${word}`);
  return cause;
}

class Nodes {
  // The header of requests to the admin API.
  authorization = { authorization: `Bearer ${TOKEN}` };
  // The servers, in the order in which they were added; those that have ended stay.
  list = [];
  #t;
  #timeoutMs;
  #options;

  constructor(t, bus, prefix, timeoutMs, options) {
    this.#t = t;
    this.bus = bus;
    this.prefix = prefix;
    this.#timeoutMs = timeoutMs;
    this.#options = options;
  }

  // The configuration by which a node finds the bus.
  config() {
    const { adapter, ...rest } = this.bus.config(this.prefix);
    const cluster_health = { heartbeat_interval_ms: HEARTBEAT_MS, node_timeout_ms: this.#timeoutMs };
    return { ...rest, adapter: { ...adapter, cluster_health } };
  }

  // Starts one more node; `options` come on top of those that all have.
  async add(options = {}) {
    const { env, config, ...rest } = { ...this.#options, ...options };
    const server = await startServer({
      ...rest,
      config: merge(this.config(), merge(this.#options.config ?? {}, config ?? {})),
      env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0', ...this.#options.env, ...env },
    });
    this.list.push(server);
    this.#t.after(async () => {
      if (this.#t.passed === false) server.printLog(this.#t.name ?? 'a suite');
      await server.stop();
    });
    server.adminUrl = (await server.waitForLog(/^admin API on http/)).message.match(/http:\/\/[^/ ]+/)[0];
    return server;
  }

  // What a node says of the others: the answer of /admin/nodes.
  async seenBy(server) {
    const answer = await fetch(`${server.adminUrl}/admin/nodes`, { headers: this.authorization });
    if (answer.status !== 200) throw new Error(`/admin/nodes answers ${answer.status}`);
    return answer.json();
  }

  // Resolves when a node sees so many nodes, itself among them, to what it says.
  async untilSeen(server, count, timeoutMs = TIMEOUT_MS) {
    const look = async () => {
      for (;;) {
        const seen = await this.seenBy(server);
        if (seen.nodes.length === count) return seen;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    return within(look(), `a node to see ${count} nodes`, timeoutMs);
  }

  // The same for each of the nodes, or of those given.
  untilAll(count, servers = this.list) {
    return Promise.all(servers.map((server) => this.untilSeen(server, count)));
  }

  // The environment in which the command line asks this node.
  environment(server) {
    return { CURLEW_ADMIN_URL: server.adminUrl, CURLEW_ADMIN_TOKEN: TOKEN };
  }
}

// Objects member by member; others are replaced.
function merge(base, over) {
  const merged = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const both = isObject(merged[name]) && isObject(value);
    merged[name] = both ? merge(merged[name], value) : value;
  }
  return merged;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
