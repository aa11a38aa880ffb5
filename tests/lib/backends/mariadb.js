// MariaDB. Options: `small` (one file of data, which is full at 48 MB), `tls` (a certificate for localhost and
// 127.0.0.1), `generalLog` (every statement goes to address.generalLog).

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';

import { Backend } from './backend.js';
import { makeCertificates } from './certificates.js';
import { Daemon, freePorts, giveToNobody, PROBE_TIMEOUT_MS, program, run } from './daemon.js';

const USER = 'curlew';
const PASSWORD = 'a mysql password';

export class MariaDb extends Backend {
  async create() {
    const [port] = await freePorts(1);
    this.address = { host: '127.0.0.1', port, user: USER, password: PASSWORD };
    for (const folder of ['data', 'tmp']) mkdirSync(this.file(folder));
    writeFileSync(
      this.file('init.sql'),
      `CREATE USER IF NOT EXISTS '${USER}'@'%' IDENTIFIED BY '${PASSWORD}';\n` +
        `GRANT ALL ON *.* TO '${USER}'@'%' WITH GRANT OPTION;\n`,
    );
    giveToNobody(this.folder, this.file('data'), this.file('tmp'));
    // one that starts tidies up where another works
    const folders = [`--datadir=${this.file('data')}`, `--tmpdir=${this.file('tmp')}`];
    await run(
      [
        program('mariadb-install-db', 'mariadb-server-core'),
        '--no-defaults',
        ...folders,
        '--skip-test-db',
        '--auth-root-authentication-method=normal',
        '--skip-name-resolve',
        '--innodb-flush-method=nosync',
      ],
      { asNobody: true, log: this.file('install.log'), cwd: this.folder },
    );
    this.daemons = [
      new Daemon({
        name: 'MariaDB',
        asNobody: true,
        log: this.file('mariadb.log'),
        probe: () => this.#probe(),
        command: [
          program('mariadbd', 'mariadb-server-core'),
          '--no-defaults',
          ...folders,
          `--port=${port}`,
          '--bind-address=127.0.0.1',
          `--socket=${this.file('socket')}`,
          `--pid-file=${this.file('pid')}`,
          `--init-file=${this.file('init.sql')}`,
          '--skip-log-bin',
          '--skip-name-resolve',
          '--performance-schema=off',
          '--innodb-buffer-pool-size=16M',
          '--innodb-flush-method=nosync',
          // What was committed outlives the process, which is what is killed here, and not the machine.
          '--innodb-flush-log-at-trx-commit=2',
          '--innodb-log-file-size=16M',
          '--character-set-server=utf8mb4',
          '--max-connections=500',
          ...this.#tls(),
          ...this.#generalLog(),
          ...this.#limit(),
        ],
      }),
    ];
  }

  #tls() {
    if (!this.options.tls) return [];
    const { ca, certificate, key } = makeCertificates(this.folder);
    giveToNobody(certificate, key);
    chmodSync(this.folder, 0o755);
    this.address.ca = ca;
    return [`--ssl-cert=${certificate}`, `--ssl-key=${key}`];
  }

  #generalLog() {
    if (!this.options.generalLog) return [];
    this.address.generalLog = this.file('general.log');
    return ['--general-log=1', `--general-log-file=${this.address.generalLog}`];
  }

  #limit() {
    return this.options.small
      ? [
          '--innodb-file-per-table=0',
          '--innodb-autoextend-increment=4',
          '--innodb-data-file-path=ibdata1:12M:autoextend:max:48M',
        ]
      : [];
  }

  async #probe() {
    const connection = await MariaDb.client(this.address, undefined, { connectTimeout: PROBE_TIMEOUT_MS });
    await connection.end();
  }

  // A connection by mysql2; `database` may be left out. A busy machine may take longer than the library would wait.
  static async client({ host, port, user, password, ca }, database, options = { connectTimeout: 60_000 }) {
    const { createConnection } = await import('mysql2/promise');
    return createConnection({
      host,
      port,
      user,
      password,
      database,
      ssl: ca && { rejectUnauthorized: false },
      ...options,
    });
  }

  static config({ host, port, user, password, ca }, database) {
    const tls = ca && { mode: 'verify', ca_path: ca };
    return {
      app_manager: { driver: 'mysql' },
      database: { mysql: { host, port, username: user, password, database, ...(tls && { tls }) } },
    };
  }

  static async createPlace(address, database) {
    await statement(address, `CREATE DATABASE ${database}`);
  }

  static async dropPlace(address, database) {
    await statement(address, `DROP DATABASE IF EXISTS ${database}`);
  }
}

async function statement(address, sql) {
  const connection = await MariaDb.client(address);
  try {
    await connection.query(sql);
  } finally {
    await connection.end();
  }
}
