/*
 * Redis: a master, and beside it what the options ask for.
 *   password     clients must give it
 *   users        users with rights of their own, as lines of an ACL file: 'user NAME on >PASSWORD ~* &* +@all'
 *   tls          its port speaks only TLS (a certificate for localhost and 127.0.0.1)
 *   outputLimit  bytes that may wait for a subscriber before Redis closes it
 *   replicas     the number of replicas
 *   sentinels    the number of Sentinels that watch over the master, which they call `curlew`
 *   settings     more lines of the configuration file
 * The daemons are the master, the replicas and the Sentinels, in this order.
 */

import { writeFileSync } from 'node:fs';

import { within } from '../inbox.js';
import { RedisClient } from '../redis-client.js';
import { Backend } from './backend.js';
import { makeCertificates } from './certificates.js';
import { Daemon, freePorts, program } from './daemon.js';

export const MASTER_NAME = 'curlew';

export class Redis extends Backend {
  async create() {
    const { replicas = 0, sentinels = 0, password } = this.options;
    const ports = await freePorts(1 + replicas + sentinels);
    const [port] = ports;
    this.address = { host: '127.0.0.1', port, password, ports: ports.slice(0, 1 + replicas), sentinels: [] };
    if (this.options.tls) Object.assign(this.address, makeCertificates(this.folder));
    this.daemons = ports.slice(0, 1 + replicas).map((own, index) => this.#server(own, index === 0 ? null : port));
    for (const own of ports.slice(1 + replicas)) {
      this.address.sentinels.push({ host: '127.0.0.1', port: own });
      this.daemons.push(this.#sentinel(own, port));
    }
  }

  #server(port, masterPort) {
    const { password, users, outputLimit, settings = [] } = this.options;
    const name = `redis-${port}`;
    const lines = [...this.#listener(port), 'save ""', 'appendonly no', `dbfilename ${name}.rdb`, ...settings];
    // A stopped replica or client must not make a test wait for it.
    lines.push('repl-diskless-sync yes', 'repl-diskless-sync-delay 0');
    if (password) lines.push(`requirepass "${password}"`, `masterauth "${password}"`);
    if (outputLimit) lines.push(`client-output-buffer-limit pubsub ${outputLimit} 0 0`);
    if (masterPort !== null) lines.push(`replicaof 127.0.0.1 ${masterPort}`);
    if (users) {
      lines.push(`aclfile ${this.file(`${name}.acl`)}`);
      writeFileSync(this.file(`${name}.acl`), users.map((user) => `${user}\n`).join(''));
    }
    return this.#daemon(name, lines, port, []);
  }

  // A Sentinel writes what it learns into its configuration file.
  #sentinel(port, masterPort) {
    const { password } = this.options;
    return this.#daemon(
      `sentinel-${port}`,
      [
        ...this.#listener(port),
        `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${masterPort} ${Math.floor(this.options.sentinels / 2) + 1}`,
        `sentinel down-after-milliseconds ${MASTER_NAME} 1000`,
        `sentinel failover-timeout ${MASTER_NAME} 5000`,
        ...(password ? [`sentinel auth-pass ${MASTER_NAME} ${password}`] : []),
      ],
      port,
      ['--sentinel'],
    );
  }

  #listener(port) {
    const lines = ['bind 127.0.0.1', `dir ${this.folder}`, 'daemonize no'];
    if (!this.options.tls) return [...lines, `port ${port}`];
    const { ca, certificate, key } = this.address;
    return [
      ...lines,
      'port 0',
      `tls-port ${port}`,
      `tls-cert-file ${certificate}`,
      `tls-key-file ${key}`,
      `tls-ca-cert-file ${ca}`,
      'tls-auth-clients no',
      'tls-replication yes',
    ];
  }

  #daemon(name, lines, port, flags) {
    const file = this.file(`${name}.conf`);
    writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
    return new Daemon({
      name: 'Redis',
      log: this.file(`${name}.log`),
      command: [program('redis-server', 'redis-server'), file, ...flags],
      probe: () => this.#probe(port),
    });
  }

  // With users of its own the server may not let anybody ask more than this.
  async #probe(port) {
    const client = await Redis.client({ ...this.address, port, password: undefined });
    try {
      const answer = await client.call('PING').catch((error) => error.message);
      if (/^LOADING/.test(answer)) throw new Error(answer);
    } finally {
      client.close();
    }
  }

  // Resolves when the Sentinels know each other and the replicas, without which they cannot fail over.
  async untilWatched() {
    const { replicas = 0, sentinels = 0 } = this.options;
    await within(
      Promise.all(
        this.address.sentinels.map(async ({ host, port }) => {
          const client = await RedisClient.connect({ ...this.address, host, port, password: undefined });
          for (;;) {
            const answer = await client.call('SENTINEL', 'MASTER', MASTER_NAME);
            const master = Object.fromEntries(
              answer.flatMap((name, index) => (index % 2 === 0 ? [[name, answer[index + 1]]] : [])),
            );
            if (Number(master['num-slaves']) >= replicas && Number(master['num-other-sentinels']) >= sentinels - 1)
              break;
          }
          client.close();
        }),
      ),
      'the Sentinels to find each other',
    );
  }

  static client(address) {
    return RedisClient.connect(address);
  }

  // With Sentinels these are asked for the master.
  static config({ host, port, user, password, sentinels }, prefix) {
    const place = sentinels.length > 0 ? { sentinels, name: MASTER_NAME } : { host, port };
    return {
      adapter: { driver: 'redis', redis: { prefix: `${prefix}:` } },
      database: { redis: { ...place, ...(user && { username: user }), ...(password && { password }) } },
    };
  }

  // A prefix needs nothing.
  static async createPlace() {}
  static async dropPlace() {}
}
