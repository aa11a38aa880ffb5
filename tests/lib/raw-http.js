// HTTP/1.1 without a library in between: any bytes in, parsed responses out, on one connection that the test controls.

import net from 'node:net';

import { Inbox, TIMEOUT_MS, within } from './inbox.js';

export class RawHttp {
  // Responses in the order they came: {version, status, reason, headers (lower-case names), rawHeaders, body (Buffer),
  // text, json}.
  responses = new Inbox(
    'HTTP connection',
    (response) => `${response.status} ${JSON.stringify(response.headers)} ${response.text}`,
  );
  // Everything received, for tests of exact bytes.
  received = Buffer.alloc(0);
  #rest = Buffer.alloc(0);
  #methods = [];
  #ended;

  // Connects to a server ({host, port}) or a metrics page ({host, port: server.metricsPort}), from `localAddress` if it
  // is given.
  static async connect(server, { localAddress } = {}) {
    const { host = '127.0.0.1', port } = server;
    const http = new RawHttp(net.connect({ host, port, localAddress, noDelay: true }));
    server.own?.(() => http.destroy());
    await within(
      new Promise((resolve, reject) => {
        http.socket.once('connect', resolve);
        http.socket.once('error', reject);
      }),
      `a connection to ${host}:${port}`,
    );
    return http;
  }

  constructor(socket) {
    this.socket = socket;
    this.#ended = new Promise((resolve) => {
      let error = null;
      socket.on('error', (cause) => {
        error = cause;
      });
      socket.on('close', () => resolve({ error, reset: error?.code === 'ECONNRESET' }));
    });
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#rest = Buffer.concat([this.#rest, chunk]);
      this.#parse(false);
    });
    socket.on('end', () => this.#parse(true));
    this.#ended.then(() => this.responses.close('the connection closed'));
  }

  // Sends bytes as they are. To let a response without body be understood, `method` names the request that they
  // complete (HEAD).
  write(bytes, { method = null } = {}) {
    if (method !== null) this.#methods.push(method);
    this.socket.write(bytes);
  }

  /*
   * Sends one well-formed request: Host always, Content-Length for a body unless the headers say otherwise.
   * `headers` is an object or an array of [name, value].
   */
  send(method, target, { headers = {}, body = '', version = '1.1' } = {}) {
    const given = Array.isArray(headers) ? headers : Object.entries(headers);
    const has = (name) => given.some(([key]) => key.toLowerCase() === name);
    const all = [...given];
    if (!has('host')) all.unshift(['Host', '127.0.0.1']);
    if (body.length > 0 && !has('content-length') && !has('transfer-encoding'))
      all.push(['Content-Length', Buffer.byteLength(body)]);
    const head = `${method} ${target} HTTP/${version}\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
    this.#methods.push(method);
    this.socket.write(Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(body)]));
  }

  // The next response; 1xx ones count.
  next(timeoutMs = TIMEOUT_MS) {
    return this.responses.next(undefined, timeoutMs);
  }

  // Waits until the server has closed the connection: {error, reset}.
  closed(timeoutMs = TIMEOUT_MS) {
    return within(this.#ended, 'the server to close the HTTP connection', timeoutMs);
  }

  end() {
    this.socket.end();
  }

  destroy() {
    this.socket.destroy();
  }

  #parse(atEnd) {
    for (;;) {
      const headEnd = this.#rest.indexOf('\r\n\r\n');
      if (headEnd < 0) return;
      const [statusLine, ...headerLines] = this.#rest.subarray(0, headEnd).toString('latin1').split('\r\n');
      const match = statusLine.match(/^HTTP\/(\d\.\d) (\d{3})(?: (.*))?$/);
      if (!match) {
        this.responses.close(`no status line: ${JSON.stringify(statusLine)}`);
        return;
      }
      const rawHeaders = headerLines.map((line) => [
        line.slice(0, line.indexOf(':')),
        line.slice(line.indexOf(':') + 1).trim(),
      ]);
      const headers = {};
      for (const [name, value] of rawHeaders) {
        const key = name.toLowerCase();
        headers[key] = key in headers ? `${headers[key]}, ${value}` : value;
      }
      const status = Number(match[2]);
      const body = this.#body(this.#rest.subarray(headEnd + 4), status, headers, atEnd);
      if (body === null) return;
      this.#rest = this.#rest.subarray(headEnd + 4 + body.length);
      if (status >= 200) this.#methods.shift();
      const text = body.content.toString('utf8');
      let json;
      try {
        json = JSON.parse(text);
      } catch {
        json = undefined;
      }
      this.responses.push({
        version: match[1],
        status,
        reason: match[3] ?? '',
        headers,
        rawHeaders,
        body: body.content,
        text,
        json,
      });
    }
  }

  // The body at the start of the bytes: {content, length (bytes used)}, or null when it is not complete.
  #body(bytes, status, headers, atEnd) {
    if (status < 200 || status === 204 || status === 304 || this.#methods[0] === 'HEAD')
      return { content: Buffer.alloc(0), length: 0 };
    if (/chunked/i.test(headers['transfer-encoding'] ?? '')) return chunked(bytes);
    if (headers['content-length'] !== undefined) {
      const length = Number(headers['content-length']);
      return bytes.length < length ? null : { content: Buffer.from(bytes.subarray(0, length)), length };
    }
    return atEnd ? { content: Buffer.from(bytes), length: bytes.length } : null;
  }
}

function chunked(bytes) {
  const parts = [];
  let at = 0;
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return null;
    const size = parseInt(bytes.subarray(at, lineEnd).toString('latin1'), 16);
    at = lineEnd + 2;
    if (bytes.length < at + size + 2) return null;
    if (size === 0) return { content: Buffer.concat(parts), length: at + 2 };
    parts.push(bytes.subarray(at, at + size));
    at += size + 2;
  }
}
