// `curlew apps` as a test runs it: against a store of its own, to its end, with the two outputs and the exit code.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import path from 'node:path';

import { LONG_TIMEOUT_MS, within } from './inbox.js';
import { folderWith } from './process.js';
import { BINARY } from './server.js';

export const EVERY_FIELD = {
  id: 'every',
  key: 'every-key',
  secret: 'every secret',
  previous_secret: 'the secret before',
  previous_secret_until: 4102444800,
  enabled: false,
  enable_client_messages: true,
  max_connections: 4294967295,
  max_client_events_per_second: 0,
  max_read_requests_per_second: 3,
  max_backend_events_per_second: 4,
  max_presence_members_per_channel: 5,
  max_presence_member_size_in_kb: 6,
  max_channel_name_length: 7,
  max_event_channels_at_once: 8,
  max_event_name_length: 9,
  max_event_payload_in_kb: 10,
  max_event_batch_size: 2147483648,
  enable_user_authentication: true,
  enable_watchlist_events: false,
  allowed_origins: ['https://a.example', '*.b.example'],
  webhooks: [
    {
      url: 'https://a.example/hook?x=1',
      event_types: ['member_added'],
      headers: { 'X-Token': 'a "quoted" \\ text', A: '' },
    },
  ],
  channel_delta_compression: {
    'ticker-*': 'fossil',
    other: { enabled: true, algorithm: 'Xdelta3', max_messages_per_key: 3 },
  },
};

// A configuration with an SQLite store in a folder that is gone after the test; returns the path of the file.
export function sqliteConfig(t) {
  const folder = folderWith(t);
  return path.join(
    folderWith(t, {
      'config.json': {
        app_manager: { driver: 'sqlite' },
        database: { sqlite: { path: path.join(folder, 'apps.db') } },
      },
    }),
    'config.json',
  );
}

/*
 * Starts `curlew ARGS`; it is killed after the test if it still runs. Returns {child, ended}: a promise of
 * {code, signal, stdout, stderr}.
 */
export function startCommand(t, args, { input = '', env = {} } = {}) {
  const kept = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (/^(PATH|HOME|LANG|TZ|\w+SAN_OPTIONS)$/.test(name)) kept[name] = value;
  }
  const child = spawn(BINARY, args, { env: { ...kept, ...env } });
  t.after(() => child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.on('error', () => {}); // it need not read what it is given
  child.stdin.end(input);
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, ended };
}

export const startApps = (t, args, options) => startCommand(t, ['apps', ...args], options);

export function command(t, args, options) {
  return within(startCommand(t, args, options).ended, `curlew ${args.join(' ')}`, LONG_TIMEOUT_MS);
}

export function apps(t, args, options) {
  return within(startApps(t, args, options).ended, `curlew apps ${args.join(' ')}`, LONG_TIMEOUT_MS);
}

export const ADMIN_TOKEN = 'a token of thirty-two characters';

/*
 * Stands in for the server that CURLEW_ADMIN_URL names: the command calls it after each app that it wrote, and waits
 * for `answer(response, count)`. Returns {requests, env}.
 */
export async function adminServer(t, answer = (response) => response.writeHead(204).end()) {
  const requests = [];
  const server = http.createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    answer(response, requests.length);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    requests,
    env: { CURLEW_ADMIN_URL: `http://127.0.0.1:${server.address().port}`, CURLEW_ADMIN_TOKEN: ADMIN_TOKEN },
  };
}

// Runs a command that has to fail; returns what it says.
export async function refused(t, args, pattern) {
  const { code, stderr } = await apps(t, args);
  assert.equal(code, 1, stderr);
  assert.match(stderr, pattern);
  return stderr;
}

// An app of a configuration's store.
export function show(t, id, config) {
  return appsDone(t, ['show', id, '-c', config, '--json', '--show-secrets']);
}

// Brings the store of a configuration to its current shape, as whatever writes there does first; resolves as `apps`.
export function migrate(t, config) {
  return apps(t, ['import', '-', '-c', config], { input: '{"apps":[]}' });
}

// `apps` for a command that has to succeed; with --json among the arguments its standard output as a value.
export async function appsDone(t, args, options) {
  const { code, stdout, stderr } = await apps(t, args, options);
  if (code !== 0) throw new Error(`curlew apps ${args.join(' ')}: exit code ${code}: ${stderr}`);
  return args.includes('--json') ? JSON.parse(stdout) : stdout;
}

export const BARE = {
  id: 'bare',
  key: 'bare-key',
  secret: 'bare-secret',
  enabled: true,
  enable_client_messages: false,
  max_connections: 100,
  max_client_events_per_second: 100,
};

// Every seventh has all fields, the others few.
export function manyApps(count) {
  return Array.from({ length: count }, (_, i) => {
    const name = `app-${String(i).padStart(5, '0')}`;
    return { ...(i % 7 === 0 ? EVERY_FIELD : BARE), id: name, key: `${name}-key`, secret: `${name}-secret` };
  });
}

// The apps of a configuration's store as `export` writes them.
export async function exported(t, config) {
  return JSON.parse(await appsDone(t, ['export', '-c', config])).apps;
}

export function counts({ created, updated, equal, conflicts, failed }) {
  return { created, updated, equal, conflicts, failed };
}

export const NONE = { created: 0, updated: 0, equal: 0, conflicts: 0, failed: 0 };

/*
 * Runs a command that writes many apps and sends it the signal once `after` of them are written. It waits for this
 * process after each app, so it cannot get far ahead.
 */
export async function interruptedBy(t, args, signal, after, delayMs) {
  const { env } = await adminServer(t, (response, count) => {
    if (count === after && delayMs === 0) child.kill(signal);
    else if (count === after) setTimeout(() => child.kill(signal), delayMs);
    response.writeHead(204).end();
  });
  const { child, ended } = startApps(t, args, { env });
  return ended;
}
