// Cassandra: one node, or a cluster of `nodes` on 127.0.0.1, 127.0.0.2 and so on with the same ports. Options: `rights`
// (users may only what they are granted), `tls` (on the same port as plain connections; a client's certificate is
// wanted, too), `centres` (the name of each node's data centre), `mostMib` (the node is full beyond that).

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

import { Backend } from './backend.js';
import { makeCertificates } from './certificates.js';
import { Daemon, freePorts } from './daemon.js';
import { jarIn, jarsOf, java } from './jvm.js';

const USER = 'cassandra';
const PASSWORD = 'cassandra';
const DATA_CENTRE = 'datacenter1';

// Where it stops serving it may leave the process behind.
const FATAL = /^ERROR .*(?:startup|disk|stopping|exiting|unstable).*$/im;

// What Cassandra's own start script passes on Java 17.
const EXPORTS = [
  'java.base/jdk.internal.misc',
  'java.base/jdk.internal.ref',
  'java.base/sun.nio.ch',
  'java.management.rmi/com.sun.jmx.remote.internal.rmi',
  'java.rmi/sun.rmi.registry',
  'java.rmi/sun.rmi.server',
  'java.sql/java.sql',
];
const OPENS = ['lang', 'lang.module', 'io', 'nio', 'util', 'util.concurrent', 'util.concurrent.atomic']
  .map((name) => `java.base/java.${name}`)
  .concat(
    [
      'sun.nio.ch',
      ...['loader', 'ref', 'reflect', 'math', 'module', 'util.jar'].map((name) => `jdk.internal.${name}`),
    ].map((name) => `java.base/${name}`),
    'jdk.management/com.sun.management.internal',
  );

export class Cassandra extends Backend {
  async create() {
    const { nodes = 1 } = this.options;
    const hosts = Array.from({ length: nodes }, (_, index) => `127.0.0.${index + 1}`);
    const [port, storagePort] = await freePorts(2, hosts);
    this.address = {
      host: hosts[0],
      hosts,
      port,
      user: USER,
      password: PASSWORD,
      dataCentre: this.options.centres?.[0] ?? DATA_CENTRE,
    };
    this.daemons = hosts.map((host, index) =>
      this.#daemon(host, hosts[0], port, storagePort, this.options.centres?.[index]),
    );
  }

  // Nodes that come later fetch what is there.
  get #grows() {
    return this.options.first !== undefined;
  }

  #daemon(host, seed, port, storagePort, centre) {
    const folder = this.file(host);
    const jars = jarsOf('cassandra');
    mkdirSync(folder);
    writeFileSync(`${folder}/logback.xml`, LOGBACK);
    if (centre) writeFileSync(`${folder}/cassandra-rackdc.properties`, `dc=${centre}\nrack=rack1\n`);
    writeFileSync(
      `${folder}/cassandra.yaml`,
      JSON.stringify(
        {
          cluster_name: 'curlew-test',
          num_tokens: 1,
          partitioner: 'org.apache.cassandra.dht.Murmur3Partitioner',
          endpoint_snitch: centre ? 'GossipingPropertyFileSnitch' : 'SimpleSnitch',
          seed_provider: [
            {
              class_name: 'org.apache.cassandra.locator.SimpleSeedProvider',
              parameters: [{ seeds: `${seed}:${storagePort}` }],
            },
          ],
          listen_address: host,
          rpc_address: host,
          storage_port: storagePort,
          native_transport_port: port,
          auto_bootstrap: this.#grows,
          commitlog_sync: 'periodic',
          commitlog_sync_period: '10s',
          commitlog_segment_size: '4MiB',
          // In a cluster that loses nodes, who may sign in would have to be on every one of them; there anybody may.
          authenticator: this.options.nodes > 1 ? 'AllowAllAuthenticator' : 'PasswordAuthenticator',
          // Tests change passwords and stop nodes: who may sign in is not theirs to wait for.
          authorizer: this.options.rights ? 'CassandraAuthorizer' : 'AllowAllAuthorizer',
          auth_read_consistency_level: 'LOCAL_ONE',
          credentials_validity: '0ms',
          roles_validity: '0ms',
          permissions_validity: '0ms',
          ...this.#tls(),
          ...this.#bounded(),
          memtable_heap_space: '32MiB',
          memtable_offheap_space: '32MiB',
          key_cache_size: '1MiB',
          concurrent_reads: 4,
          concurrent_writes: 4,
          ...Object.fromEntries(
            ['data_file', 'commitlog', 'saved_caches', 'hints', 'cdc_raw'].map((name) =>
              name === 'data_file'
                ? ['data_file_directories', [`${folder}/data`]]
                : [`${name}_directory`, `${folder}/${name}`],
            ),
          ),
        },
        null,
        2,
      ),
    );
    return new Daemon({
      name: `Cassandra on ${host}`,
      log: `${folder}/cassandra.log`,
      probe: () => this.#probe(host),
      fatal: FATAL,
      command: [
        java(),
        '-Xms512m',
        '-Xmx512m',
        '-Xss512k',
        '-XX:+UseSerialGC',
        '-XX:TieredStopAtLevel=1',
        '-XX:-UsePerfData',
        `-javaagent:${jarIn(jars, 'jamm-')}`,
        '-Djdk.attach.allowAttachSelf=true',
        `-Dcassandra.storagedir=${folder}`,
        '-Dcassandra.skip_wait_for_gossip_to_settle=0',
        `-Dcassandra.ring_delay_ms=${this.#grows ? 3000 : 0}`,
        '-Dcassandra.superuser_setup_delay_ms=0',
        '-Dcassandra.disk_usage.monitor_interval_ms=200',
        '-Dcassandra.consistent.rangemovement=false',
        `-Dcassandra.config=file://${folder}/cassandra.yaml`,
        '-Dcassandra-foreground=yes',
        `-Dlogback.configurationFile=${folder}/logback.xml`,
        ...EXPORTS.flatMap((name) => ['--add-exports', `${name}=ALL-UNNAMED`]),
        ...OPENS.flatMap((name) => ['--add-opens', `${name}=ALL-UNNAMED`]),
        '-cp',
        `${folder}:${jars}/*`,
        'org.apache.cassandra.service.CassandraDaemon',
      ],
    });
  }

  // More than so much is refused to users who are no administrators.
  #bounded() {
    const { mostMib } = this.options;
    return mostMib
      ? { data_disk_usage_max_disk_size: `${mostMib}MiB`, data_disk_usage_percentage_fail_threshold: 90 }
      : {};
  }

  #tls() {
    if (!this.options.tls) return {};
    const { ca, certificate, key } = makeCertificates(this.folder);
    const keystore = this.file('server-both.pem');
    writeFileSync(keystore, readFileSync(key, 'utf8') + readFileSync(certificate, 'utf8'));
    this.address.tls = { ca, certificate, key };
    return {
      client_encryption_options: {
        enabled: true,
        optional: true,
        require_client_auth: true,
        keystore,
        truststore: ca,
        ssl_context_factory: { class_name: 'org.apache.cassandra.security.PEMBasedSslContextFactory' },
      },
    };
  }

  async #probe(host) {
    const client = await Cassandra.client({ ...this.address, hosts: [host] });
    await client.shutdown();
  }

  // A session by cassandra-driver.
  static async client({ hosts, port, user, password, dataCentre }, options = {}) {
    const { default: cassandra } = await import('cassandra-driver');
    const client = new cassandra.Client({
      contactPoints: hosts.map((host) => `${host}:${port}`),
      localDataCenter: dataCentre,
      credentials: { username: user, password },
      ...options,
    });
    try {
      await client.connect();
    } catch (error) {
      await client.shutdown();
      throw error;
    }
    return client;
  }

  static config({ hosts, port, user, password }, keyspace) {
    return {
      app_manager: {
        driver: 'scylladb',
        scylladb: {
          nodes: hosts.map((host) => `${host}:${port}`),
          keyspace,
          username: user,
          password,
          replication_factor: hosts.length,
        },
      },
    };
  }

  // The keyspace is for the server to create.
  static async createPlace() {}

  static async dropPlace(address, keyspace) {
    const client = await Cassandra.client(address);
    await client.execute(`DROP KEYSPACE IF EXISTS ${keyspace}`);
    await client.shutdown();
  }
}

const LOGBACK = `<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{HH:mm:ss.SSS} %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDOUT"/></root>
</configuration>
`;
