/*
 * NATS. Options:
 *   servers     how many, default 1; several are a cluster
 *   auth        'password', 'token' or 'nkey'; without it no one is asked
 *   tls         a certificate for localhost; `clientCertificate`: clients have to show one, too
 *   settings    lines for the configuration of each server: 'max_payload: 65536'
 */

import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

import { Backend } from './backend.js';
import { makeCertificates } from './certificates.js';
import { Daemon, freePorts, PROBE_TIMEOUT_MS, program } from './daemon.js';

const HOST = '127.0.0.1';
const USER = 'curlew';
const PASSWORD = 'a nats password';
const TOKEN = 'a nats token';

export class Nats extends Backend {
  async create() {
    const { servers = 1, auth, tls } = this.options;
    const ports = await freePorts(3 * servers);
    this.ports = ports.slice(0, servers);
    this.routePorts = ports.slice(servers, 2 * servers);
    this.monitorPorts = ports.slice(2 * servers);
    const host = tls ? 'localhost' : HOST;
    this.address = {
      host: HOST,
      port: this.ports[0],
      servers: this.ports.map((port) => `${tls ? 'tls' : 'nats'}://${host}:${port}`),
      ...(auth === 'password' && { user: USER, password: PASSWORD }),
      ...(auth === 'token' && { token: TOKEN }),
      ...(tls && makeCertificates(this.folder)),
    };
    if (auth === 'nkey') {
      const { seed, publicKey } = makeNkey();
      this.publicKey = publicKey;
      this.address.nkeySeed = this.file('nkey.seed');
      writeFileSync(this.address.nkeySeed, `${seed}\n`, { mode: 0o600 });
    }
    const binary = program('nats-server', 'nats-server');
    this.daemons = this.ports.map((port, i) => {
      this.#writeConfig(i);
      return new Daemon({
        name: 'nats-server',
        log: this.file(`nats-${i}.log`),
        probe: () => this.#probe(i),
        command: [binary, '-c', this.file(`nats-${i}.conf`)],
      });
    });
  }

  async launch() {
    await super.launch();
    if (this.options.first === undefined) await this.untilJoined();
  }

  // Adds lines to the configuration of a server, which are in force when it is started again.
  configure(node, ...lines) {
    appendFileSync(this.file(`nats-${node}.conf`), `${lines.join('\n')}\n`);
  }

  #writeConfig(i) {
    const { auth, tls, clientCertificate, settings = [] } = this.options;
    const { ca, certificate, key } = this.address;
    const others = this.routePorts.filter((_, other) => other !== i);
    const authorization = {
      password: `authorization { user: "${USER}", password: "${PASSWORD}" }`,
      token: `authorization { token: "${TOKEN}" }`,
      nkey: `authorization { users: [ { nkey: ${this.publicKey} } ] }`,
    };
    const lines = [
      `server_name: "server-${i}"`,
      `listen: "${HOST}:${this.ports[i]}"`,
      `http: "${HOST}:${this.monitorPorts[i]}"`,
      ...(auth ? [authorization[auth]] : []),
      ...(tls
        ? [`tls { cert_file: "${certificate}", key_file: "${key}", ca_file: "${ca}", verify: ${!!clientCertificate} }`]
        : []),
      ...(others.length > 0
        ? [
            `cluster { name: test, listen: "${HOST}:${this.routePorts[i]}", routes: [ ` +
              `${others.map((port) => `"nats://${HOST}:${port}"`).join(', ')} ] }`,
          ]
        : []),
      ...settings,
    ];
    writeFileSync(this.file(`nats-${i}.conf`), `${lines.join('\n')}\n`);
  }

  async #probe(i) {
    const { status } = await this.monitor(i, 'healthz');
    if (status !== 'ok') throw new Error(status);
  }

  // What a server says of itself: 'varz', 'connz', 'routez', 'subsz'.
  async monitor(node, page) {
    const url = `http://${HOST}:${this.monitorPorts[node]}/${page}`;
    return (await fetch(url, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })).json();
  }

  // Returns when every server that runs has a route to each of the others that run.
  async untilJoined() {
    const running = this.daemons.flatMap((daemon, i) => (daemon.isRunning ? [i] : []));
    for (const node of running) {
      for (;;) {
        const { routes = [] } = await this.monitor(node, 'routez');
        if (new Set(routes.map((route) => route.remote_id)).size >= running.length - 1) break;
        await pause(20);
      }
    }
  }

  static config({ servers, user, password, token, nkeySeed, ca }, prefix) {
    return {
      adapter: {
        driver: 'nats',
        nats: {
          servers,
          prefix,
          ...(user && { username: user, password }),
          ...(token && { token }),
          ...(nkeySeed && { nkey_seed_path: nkeySeed }),
          ...(ca && { tls: { ca_path: ca } }),
        },
      },
    };
  }

  // A prefix needs nothing to be made.
  static async createPlace() {}
}

// A user's key pair in the spelling of NATS: base32 of one or two bytes for the kind, the key and a CRC.
function makeNkey() {
  const SEED = 18 << 3;
  const KIND_USER = 20 << 3;
  const { d, x } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  return {
    seed: encodeKey(
      Buffer.concat([Buffer.from([SEED | (KIND_USER >> 5), (KIND_USER & 31) << 3]), Buffer.from(d, 'base64url')]),
    ),
    publicKey: encodeKey(Buffer.concat([Buffer.from([KIND_USER]), Buffer.from(x, 'base64url')])),
  };
}

function encodeKey(bytes) {
  const crc = Buffer.alloc(2);
  crc.writeUInt16LE(crc16(bytes));
  return base32(Buffer.concat([bytes, crc]));
}

// CRC-16 of XMODEM.
function crc16(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc;
}

// RFC 4648 section 6, without padding.
function base32(bytes) {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits
    .match(/.{1,5}/g)
    .map((five) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[Number.parseInt(five.padEnd(5, '0'), 2)])
    .join('');
}
