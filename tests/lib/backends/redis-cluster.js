/*
 * A Redis Cluster. Options:
 *   masters        the number of masters, default 3; each has its share of the slots
 *   replicas       the number of replicas of each master
 *   password       clients and nodes must give it
 *   tls            the ports speak only TLS (a certificate for localhost and 127.0.0.1)
 *   nodeTimeoutMs  the time after which a replica takes over
 *   announced      the ports that clients are told, one for each node in place of its own: of proxies
 *   settings       more lines of the configuration files
 * The daemons are the masters, then the replicas: the first of each master, then the second, and so on.
 */

import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

import { RedisClient } from '../redis-client.js';
import { Backend } from './backend.js';
import { makeCertificates } from './certificates.js';
import { Daemon, freePorts, program } from './daemon.js';

const HOST = '127.0.0.1';
const SLOTS = 16384;
// A node that is silent for so long counts as failed by another one. Links between nodes are renewed after half of it,
// and lose what was on its way; so on a busy machine the time is short only where a failure is the point.
const NODE_TIMEOUT_MS = 5000;
const FORMING_TIMEOUT_MS = 120_000;

export class RedisCluster extends Backend {
  async create() {
    const { masters = 3, replicas = 0, password, tls, announced } = this.options;
    const count = masters * (1 + replicas);
    const ports = await freePorts(2 * count);
    this.ports = ports.slice(0, count);
    this.address = {
      host: HOST,
      port: this.ports[0],
      password,
      nodes: this.ports.map((port) => ({ host: HOST, port })),
      ...(tls && makeCertificates(this.folder)),
    };
    this.daemons = this.ports.map((port, node) => {
      const name = `redis-${port}`;
      writeFileSync(
        this.file(`${name}.conf`),
        this.#lines(name, port, ports[count + node])
          .concat(announced ? `cluster-announce-port ${announced[node]}` : [])
          .map((line) => `${line}\n`)
          .join(''),
      );
      return new Daemon({
        name: 'Redis',
        log: this.file(`${name}.log`),
        command: [program('redis-server', 'redis-server'), this.file(`${name}.conf`)],
        probe: () => this.on(node, (client) => client.call('PING')),
      });
    });
  }

  #lines(name, port, busPort) {
    const { password, tls, nodeTimeoutMs = NODE_TIMEOUT_MS, settings = [] } = this.options;
    const { ca, certificate, key } = this.address;
    return [
      `bind ${HOST}`,
      `dir ${this.folder}`,
      `dbfilename ${name}.rdb`,
      'save ""',
      'appendonly no',
      'repl-diskless-sync yes',
      'repl-diskless-sync-delay 0',
      'cluster-enabled yes',
      `cluster-config-file ${name}.nodes`,
      `cluster-port ${busPort}`,
      `cluster-node-timeout ${nodeTimeoutMs}`,
      ...(password ? [`requirepass "${password}"`, `masterauth "${password}"`] : []),
      ...(tls
        ? [
            'port 0',
            `tls-port ${port}`,
            `tls-cert-file ${certificate}`,
            `tls-key-file ${key}`,
            `tls-ca-cert-file ${ca}`,
            'tls-auth-clients no',
            'tls-replication yes',
            'tls-cluster yes',
          ]
        : [`port ${port}`]),
      ...settings,
    ];
  }

  async launch() {
    await super.launch();
    await this.#form();
  }

  // Starts nodes that form the cluster already.
  async start(node) {
    await super.start(node);
    if (this.formed) await this.untilWhole();
  }

  // Calls the function with a connection to a node, and closes it.
  async on(node, call) {
    const client = await RedisClient.connect({ ...this.address, port: this.ports[node] });
    try {
      return await call(client);
    } finally {
      client.close();
    }
  }

  async #form() {
    const { masters = 3 } = this.options;
    const ports = this.daemons.map((_, i) => i);
    this.ids = [];
    for (const node of ports)
      await this.on(node, async (client) => {
        this.ids.push(await client.call('CLUSTER', 'MYID'));
        await client.call('CLUSTER', 'SET-CONFIG-EPOCH', node + 1);
        if (node >= masters) return;
        const first = Math.ceil((node * SLOTS) / masters);
        await client.call('CLUSTER', 'ADDSLOTSRANGE', first, Math.ceil(((node + 1) * SLOTS) / masters) - 1);
      });
    await this.on(0, async (client) => {
      const file = this.daemons.slice(1).map((_, i) => this.ports[i + 1]);
      for (const port of file) await client.call('CLUSTER', 'MEET', HOST, port, await this.#busPort(port));
    });
    await this.#until(async (client) => (await nodesOf(client)).length === this.daemons.length);
    for (const node of ports.slice(masters))
      await this.on(node, (client) => client.call('CLUSTER', 'REPLICATE', this.ids[node % masters]));
    this.formed = true;
    await this.untilWhole();
    await this.#until(
      async (client) =>
        (await nodesOf(client)).filter(({ flags }) => flags.includes('slave')).length === this.daemons.length - masters,
    );
  }

  async #busPort(port) {
    return this.on(this.ports.indexOf(port), async (client) => (await client.call('CONFIG', 'GET', 'cluster-port'))[1]);
  }

  // Resolves when every node that runs finds that all slots are served.
  async untilWhole() {
    await this.#until(async (client) => /cluster_state:ok/.test(await client.call('CLUSTER', 'INFO')));
  }

  // Asks every node that runs, again and again.
  async #until(check) {
    const deadline = performance.now() + FORMING_TIMEOUT_MS;
    for (const [node, daemon] of this.daemons.entries()) {
      while (daemon.isRunning && !(await this.on(node, check))) {
        if (performance.now() > deadline) throw new Error(`the Redis Cluster did not form in ${FORMING_TIMEOUT_MS} ms`);
        await pause(20);
      }
    }
  }

  // The slot of a key or of a channel of sharded pub/sub.
  slotOf(name) {
    return this.on(this.#running(), (client) => client.call('CLUSTER', 'KEYSLOT', name));
  }

  // The node that is the master of a slot.
  async masterOf(slot) {
    const ranges = await this.on(this.#running(), (client) => client.call('CLUSTER', 'SLOTS'));
    const [, , [, port]] = ranges.find(([first, last]) => first <= slot && slot <= last);
    return (this.options.announced ?? this.ports).indexOf(port);
  }

  #running() {
    return this.daemons.findIndex((daemon) => daemon.isRunning);
  }

  // Leaves a slot without a master, and gives it one. The cluster goes on without the slot.
  async dropSlot(slot) {
    for (const node of this.ports.keys())
      await this.on(node, async (client) => {
        await client.call('CONFIG', 'SET', 'cluster-require-full-coverage', 'no');
        await client.call('CLUSTER', 'DELSLOTS', slot);
      });
  }

  async takeSlot(slot, master) {
    await this.on(master, (client) => client.call('CLUSTER', 'ADDSLOTS', slot));
  }

  // Gives a slot without keys to another master.
  async moveSlot(slot, target) {
    await this.endMove(slot, await this.beginMove(slot, target), target);
  }

  // From now on the master that has the slot sends clients to the target for keys that it does not have (ASK). Returns
  // that master.
  async beginMove(slot, target) {
    const source = await this.masterOf(slot);
    await this.on(target, (client) => client.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', this.ids[source]));
    await this.on(source, (client) => client.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', this.ids[target]));
    return source;
  }

  // Moves the keys of the slot, where clients are sent for them until endMove.
  async moveKeys(slot, source, target) {
    await this.on(source, async (client) => {
      const keys = await client.call('CLUSTER', 'GETKEYSINSLOT', slot, 1000);
      for (const key of keys) await client.call('MIGRATE', HOST, this.ports[target], key, 0, 5000);
    });
  }

  async endMove(slot, source, target) {
    for (const node of [target, source])
      await this.on(node, (client) => client.call('CLUSTER', 'SETSLOT', slot, 'NODE', this.ids[target]));
  }

  // Makes a replica the master, as an administrator would.
  async failOver(replica) {
    await this.on(replica, async (client) => {
      await client.call('CLUSTER', 'FAILOVER');
      while (!(await nodesOf(client)).some(({ flags }) => flags.includes('myself') && flags.includes('master')))
        await pause(20);
    });
    await this.untilWhole();
  }

  // Kills a master to which a client is subscribed; the others go on, without its slots if it has no replica.
  async loseMaster() {
    for (const [node, daemon] of this.daemons.entries()) {
      const role = daemon.isRunning && (await this.on(node, (client) => client.call('ROLE')))[0];
      const subscribed =
        role === 'master' && (await this.on(node, (client) => client.call('CLIENT', 'LIST', 'TYPE', 'pubsub')));
      if (subscribed) return this.kill(node);
    }
    throw new Error('no client is subscribed');
  }

  // Ends all connections of clients. Returns how many there were.
  async cutClients() {
    let count = 0;
    for (const [node, daemon] of this.daemons.entries())
      if (daemon.isRunning)
        await this.on(node, async (client) => {
          for (const type of ['pubsub', 'normal']) count += await client.call('CLIENT', 'KILL', 'TYPE', type);
        });
    return count;
  }

  static config({ nodes, password, ca }, prefix) {
    return {
      adapter: { driver: 'redis-cluster', cluster: { prefix: `${prefix}:`, nodes } },
      database: {
        redis: {
          cluster: { ...(password && { password }), use_tls: Boolean(ca) },
          ...(ca && { tls: { ca_path: ca } }),
        },
      },
    };
  }

  // A prefix needs nothing.
  static async createPlace() {}
}

// The nodes that a node knows, with their flags.
async function nodesOf(client) {
  const text = await client.call('CLUSTER', 'NODES');
  return text
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , flags]) => !/handshake|noaddr/.test(flags))
    .map(([id, , flags]) => ({ id, flags: flags.split(',') }));
}
