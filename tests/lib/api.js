// The HTTP API, spoken plainly: signed requests whose bytes the test decides.

import http from 'node:http';

import { TIMEOUT_MS } from './inbox.js';
import { APP } from './server.js';
import { signedPath } from './sign.js';

// One request on a connection of its own: {status, headers, body, json}. `json` is undefined when the body is none.
export function request(url, { method = 'GET', headers = {}, body, agent = false, timeoutMs = TIMEOUT_MS } = {}) {
  return new Promise((resolve, reject) => {
    const sent = http.request(url, { method, headers, agent, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ status: response.statusCode, headers: response.headers, body: text, json: parse(text) });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

export function get(url, options) {
  return request(url, { ...options, method: 'GET' });
}

/*
 * A signed request. `path` is what follows /apps/{id} (beginning with a slash); `body` a string, a Buffer, or an object
 * that is sent as JSON. Further options: `query`, and the overrides of signedPath().
 */
export function api(server, method, path, { app = APP, body, query, headers = {}, agent, timeoutMs, ...signing } = {}) {
  const bytes = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const target = signedPath(app, method, `/apps/${app.id}${path}`, { query, body: bytes, ...signing });
  const type = bytes === undefined ? {} : { 'Content-Type': 'application/json' };
  return request(server.url + target, { method, headers: { ...type, ...headers }, body: bytes, agent, timeoutMs });
}

// Publishes and insists on success. `body` as in the API: {name, channel | channels, data, socket_id, info}.
export async function publish(server, body, options) {
  const response = await api(server, 'POST', '/events', { ...options, body });
  if (response.status !== 200) throw new Error(`publish was answered ${response.status}: ${response.body}`);
  return response.json;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
