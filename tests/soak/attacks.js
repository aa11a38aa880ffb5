// usage: node attacks.js [--seconds N] [--clients N] [--megabytes N] [--p99 MS] [--attack NAME...]
//
// Healthy clients exchange events on the release build in a memory control group while others attack it: each attack of
// tests/soak/attacker.py for N seconds, one after the other, then all at once. The server must not be killed, the
// healthy must lose nothing, and its account of memory and the memory itself must be back afterwards. With --p99 the
// 99th percentile of the healthy clients' latency is judged, too. Exit code 0, or 1 with a list of what was wrong.

import { parseArgs } from 'node:util';

import { fetchMetrics } from '../lib/metrics.js';
import { folderWith, start } from '../lib/process.js';
import { RELEASE_BINARY, startServer } from '../lib/server.js';
import { ControlGroup } from './control_group.js';
import { Healthy } from './healthy.js';
import { ends, judge, owner, problem } from './verdict.js';

const ATTACKS = [
  'unknown-bodies',
  'signed-bodies',
  'channels',
  'kept-events',
  'connects',
  'half-frames',
  'half-messages',
  'flood',
  'slow-readers',
];

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    clients: { type: 'string' },
    megabytes: { type: 'string' },
    p99: { type: 'string' },
    attack: { type: 'string', multiple: true },
  },
});
const SECONDS = Number(values.seconds ?? 20);
const CLIENTS = Number(values.clients ?? 500);
const MEGABYTES = Number(values.megabytes ?? 256);
const P99_MS = values.p99 === undefined ? Infinity : Number(values.p99);
const CHOSEN = values.attack ?? ATTACKS;
const BACK_WITHIN_MS = 120_000;
const ACCOUNT_SLACK_BYTES = 1024 * 1024;
const MEMORY_SLACK_BYTES = 32 * 1024 * 1024;

const HEALTHY = { id: '1', key: 'healthy-key', secret: 'a secret of the healthy', enable_client_messages: true };
const HOSTILE = { id: '2', key: 'hostile-key', secret: 'a secret of the hostile', enable_client_messages: true };
const UNLIMITED = { max_connections: 0, max_client_events_per_second: 0, max_backend_events_per_second: 0 };

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function megabytes(bytes) {
  return (bytes / 1024 / 1024).toFixed(1);
}

// The bytes of the account, by kind and in all; 0 where the kind is not there.
async function readAccount(server) {
  const metrics = await fetchMetrics(server);
  const kinds = metrics.select('memory_held_bytes').filter(({ value }) => value > 0);
  return {
    total: kinds.reduce((sum, { value }) => sum + value, 0),
    text: kinds.map(({ labels, value }) => `${labels.kind} ${megabytes(value)}`).join(', '),
  };
}

class Assault {
  #running = [];

  async begin(server, names) {
    for (const name of names) {
      const { key, id, secret } = HOSTILE;
      const script = new URL('attacker.py', import.meta.url).pathname;
      // Attackers have machines of their own: here they get the time that the server and the healthy leave.
      const command = ['-n', '19', 'python3', script, String(server.port), name, key, id, secret];
      const run = start(owner, 'nice', command, { input: true });
      this.#running.push(run);
    }
    const isFull = Object.assign((line) => line === 'full', { label: 'full' });
    await Promise.all(this.#running.map((run) => run.out.next(isFull, 120_000)));
  }

  async end() {
    for (const run of this.#running) run.child.stdin.end();
    for (const run of this.#running) {
      const { code } = await run.exited(60_000);
      if (code !== 0) problem(`an attacker ended with ${code}: ${run.err.all.slice(-3).join(' ')}`);
      console.log(`  ${run.out.all.at(-1)}`);
    }
  }
}

async function attack({ server, group, healthy, before }, names, title) {
  const assault = new Assault();
  healthy.takeP99();
  await assault.begin(server, names);
  await pause(SECONDS * 1000);
  const during = await readAccount(server);
  const used = group.used(server.pid);
  await assault.end();
  const p99 = healthy.takeP99();
  console.log(
    `${title}: account ${megabytes(during.total)} MB (${during.text}); memory ${megabytes(used)} MB, at most ` +
      `${megabytes(group.most(server.pid))} MB; p99 of the healthy ${p99.toFixed(1)} ms`,
  );
  if (p99 > P99_MS) problem(`${title}: the p99 of the healthy clients was ${p99.toFixed(1)} ms`);
  await isBack({ server, group, before }, title);
}

// Kept events expire later: they are not counted.
async function isBack({ server, group, before }, title) {
  const until = Date.now() + BACK_WITHIN_MS;
  for (;;) {
    const now = await readAccount(server);
    const kept = /kept_events/.test(now.text);
    const used = group.used(server.pid);
    // What the healthy hold may become resident only as they use it.
    const held = Math.max(before.used, before.account);
    const back = now.total <= before.account + ACCOUNT_SLACK_BYTES && used <= held + MEMORY_SLACK_BYTES;
    if (back || (kept && title !== 'all at once')) {
      console.log(`  afterwards: account ${megabytes(now.total)} MB, memory ${megabytes(used)} MB`);
      return;
    }
    if (Date.now() > until) {
      problem(
        `${title}: afterwards the account holds ${megabytes(now.total)} MB (${now.text}), the memory is ` +
          `${megabytes(used)} MB; before ${megabytes(before.account)} and ${megabytes(before.used)} MB`,
      );
      return;
    }
    await pause(500);
  }
}

async function main() {
  const group = ControlGroup.make(owner, MEGABYTES * 1024 * 1024);
  console.log(`memory control group ${group.name}, ${MEGABYTES} MB; ${CLIENTS} healthy clients`);
  const server = await startServer({
    binary: group.wrap(folderWith(owner), RELEASE_BINARY),
    apps: [HEALTHY, HOSTILE].map((app) => ({ ...app, ...UNLIMITED })),
    config: {
      websocket: { compression: 'dedicated' },
      channel_limits: { cache_ttl: 20 },
      shutdown_grace_period: 5,
    },
  });
  ends.unshift(() => server.stop());
  const healthy = new Healthy({ server, app: HEALTHY, problem });
  await healthy.open(CLIENTS);
  healthy.start();
  await pause(5000);
  const before = { account: (await readAccount(server)).total, used: group.used(server.pid) };
  console.log(
    `before: account ${megabytes(before.account)} MB, memory ${megabytes(before.used)} MB, p99 ` +
      `${healthy.takeP99().toFixed(1)} ms`,
  );
  const parts = { server, group, healthy, before };
  for (const name of CHOSEN) await attack(parts, [name], name);
  if (CHOSEN.length > 1) await attack(parts, CHOSEN, 'all at once');
  await healthy.finish();
  console.log(`${healthy.received} events received by the healthy, ${healthy.published} published`);
}

await judge('attacks', main);
