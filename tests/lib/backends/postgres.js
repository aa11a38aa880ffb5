// PostgreSQL. Options: `small` (tables are kept where there is room for 16 MB, until it is stopped), `tls` (a
// certificate for localhost and 127.0.0.1).

import { chmodSync, existsSync, mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { Backend } from './backend.js';
import { makeCertificates } from './certificates.js';
import { Daemon, freePorts, giveToNobody, PROBE_TIMEOUT_MS, program, run } from './daemon.js';

const USER = 'curlew';
const PASSWORD = 'a postgres password';

export class Postgres extends Backend {
  async create() {
    const [port] = await freePorts(1);
    this.address = { host: '127.0.0.1', port, user: USER, password: PASSWORD };
    const binary = program('postgres', 'postgresql');
    writeFileSync(this.file('password'), PASSWORD);
    giveToNobody(this.folder, this.file('password'));
    await run(
      [
        program('initdb', 'postgresql'),
        '-D',
        this.file('data'),
        '-U',
        USER,
        `--pwfile=${this.file('password')}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        '--locale=C.UTF-8',
        '--no-sync',
        '--no-instructions',
      ],
      { asNobody: true, log: this.file('initdb.log'), cwd: this.folder },
    );
    const settings = {
      port,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: this.folder,
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      shared_buffers: '16MB',
      dynamic_shared_memory_type: 'mmap', // in its folder: what it leaves when it is killed goes with that
      max_connections: 300,
      ...statistics(),
      ...this.#tls(),
      ...(this.options.small && { default_tablespace: 'small' }),
    };
    this.daemons = [
      new Daemon({
        // SIGINT is its "fast" shutdown: it disconnects its clients instead of awaiting them.
        name: 'PostgreSQL',
        asNobody: true,
        stopSignal: 'SIGINT',
        log: this.file('postgres.log'),
        probe: () => this.#probe(),
        command: [
          ...this.#limit(),
          binary,
          '-D',
          this.file('data'),
          ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
        ],
      }),
    ];
  }

  #tls() {
    if (!this.options.tls) return {};
    const { ca, certificate, key } = makeCertificates(this.folder);
    giveToNobody(certificate, key);
    chmodSync(key, 0o600);
    chmodSync(this.folder, 0o755);
    Object.assign(this.address, { ca, certificate, key });
    return { ssl: 'on', ssl_cert_file: certificate, ssl_key_file: key };
  }

  // A file system of its own, which is full when it is full, and which nobody but the server sees.
  #limit() {
    if (!this.options.small) return [];
    mkdirSync(this.file('small'));
    giveToNobody(this.file('small'));
    return [
      'unshare',
      '--user',
      '--map-current-user',
      '--mount',
      '--keep-caps',
      'sh',
      '-c',
      'mount -t tmpfs -o size=16m,mode=700 tmpfs "$0" && exec setpriv --pdeathsig KILL "$@"',
      this.file('small'),
    ];
  }

  async launch() {
    await super.launch();
    if (this.options.small) await statement(this.address, `CREATE TABLESPACE small LOCATION '${this.file('small')}'`);
  }

  async #probe() {
    const client = await Postgres.client(this.address, 'postgres', { connectionTimeoutMillis: PROBE_TIMEOUT_MS });
    await client.end();
  }

  // A connection by pg; `database` may be left out.
  static async client({ host, port, user, password, ca }, database = 'postgres', options = {}) {
    const { default: pg } = await import('pg');
    const client = new pg.Client({
      host,
      port,
      user,
      password,
      database,
      ssl: ca && { rejectUnauthorized: false },
      ...options,
    });
    // Said again by whatever is asked of it next.
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  static config({ host, port, user, password, ca }, database) {
    const tls = ca && { mode: 'verify', ca_path: ca };
    return {
      app_manager: { driver: 'postgres' },
      database: { postgres: { host, port, username: user, password, database, ...(tls && { tls }) } },
    };
  }

  static async createPlace(address, database) {
    await statement(address, `CREATE DATABASE ${database}`);
  }

  static async dropPlace(address, database) {
    await statement(address, `DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
  }
}

// Debian's package has the module that counts statements; others have it apart.
function statistics() {
  const library = path.join(
    path.dirname(realpathSync(program('initdb', 'postgresql'))),
    '../lib/pg_stat_statements.so',
  );
  return existsSync(library) ? { shared_preload_libraries: 'pg_stat_statements' } : {};
}

async function statement(address, sql) {
  const client = await Postgres.client(address);
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
