// A client of NATS that sends what a test says, byte by byte if need be. https://docs.nats.io/reference/reference-protocols/nats-protocol

import { once } from 'node:events';
import net from 'node:net';

import { within } from './inbox.js';

export class NatsClient {
  #received = '';

  // Resolves to a client that has signed in at a server without TLS and passwords.
  static async connect({ host, port }) {
    const client = new NatsClient();
    client.socket = net.connect(port, host).setEncoding('latin1');
    client.socket.on('error', () => {});
    await within(once(client.socket, 'data'), 'the INFO line of the server');
    client.socket.on('data', (chunk) => {
      client.#received += chunk;
      client.socket.emit('more');
    });
    client.send('CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1,"no_responders":true}\r\n');
    await client.flush();
    return client;
  }

  send(bytes) {
    this.socket.write(bytes);
  }

  publish(subject, payload) {
    const bytes = Buffer.from(payload);
    this.send(Buffer.concat([Buffer.from(`PUB ${subject} ${bytes.length}\r\n`), bytes, Buffer.from('\r\n')]));
  }

  // `headers` are the lines behind NATS/1.0.
  publishWithHeaders(subject, headers, payload, reply = '') {
    const head = Buffer.from(`NATS/1.0\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`);
    const bytes = Buffer.from(payload);
    const lengths = `${head.length} ${head.length + bytes.length}`;
    this.send(
      Buffer.concat([Buffer.from(`HPUB ${subject} ${reply} ${lengths}\r\n`), head, bytes, Buffer.from('\r\n')]),
    );
  }

  // Returns when the server has taken all that was sent.
  async flush() {
    const pongs = () => this.#received.split('PONG\r\n').length;
    const before = pongs();
    this.send('PING\r\n');
    while (pongs() === before) await within(once(this.socket, 'more'), 'an answer of the server');
  }

  close() {
    this.socket.destroy();
  }
}
