// usage: node soak.js [--seconds N] [--clients N]
//
// A load of everything at once for a long time, on the release build: connections that stay and connections that come
// and go, over TLS, compressed and plain; public, private, presence and cache channels; client events; webhooks to an
// endpoint that sometimes fails; a record that changes; a database that is restarted twice. Nothing may be lost or
// counted twice, and memory may not grow. Exit code 0, or 1 with a list of what was wrong.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { backendFor } from '../lib/backends/index.js';
import { makeCertificates } from '../lib/backends/certificates.js';
import { folderWith } from '../lib/process.js';
import { RELEASE_BINARY, startServer } from '../lib/server.js';
import { Changes } from './changes.js';
import { Connections } from './connections.js';
import { Memory } from './memory.js';
import { Publisher } from './publisher.js';
import { Receiver } from './receiver.js';
import { ends, judge, owner, problem } from './verdict.js';

const { values } = parseArgs({ options: { seconds: { type: 'string' }, clients: { type: 'string' } } });
const SECONDS = Number(values.seconds ?? 600);
const CLIENTS = Number(values.clients ?? 2000);
if (!(SECONDS >= 30 && CLIENTS >= 100)) {
  console.error('usage: node soak.js [--seconds N (30 or more)] [--clients N (100 or more)]');
  process.exit(2);
}

const TOKEN = 'a token of at least thirty-two characters';
const APP = { id: '1', key: 'soak-key', secret: 'a secret of the soak test' };

async function startParts() {
  const files = makeCertificates(folderWith(owner));
  const backend = await backendFor(owner, 'postgres');
  await backend.createPlace('soak');
  const server = await startServer({
    binary: RELEASE_BINARY,
    apps: [],
    config: {
      ...backend.config('soak'),
      ssl: { enabled: true, cert_path: files.certificate, key_path: files.key },
      websocket: { compression: 'shared' },
      shutdown_grace_period: 5,
    },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  ends.unshift(() => server.stop());
  return { ca: readFileSync(files.ca), backend, server };
}

async function main() {
  const { ca, backend, server } = await startParts();
  const receiver = await Receiver.start(APP.secret, problem);
  ends.push(() => receiver.stop());
  const changes = await Changes.start({ server, token: TOKEN, app: APP, webhookUrl: receiver.url, problem });
  const connections = new Connections({ server, ca, app: APP, receiver, problem });
  const publisher = new Publisher({ server, ca, app: APP, problem });
  const memory = new Memory(server.pid, SECONDS);

  console.log(`${CLIENTS} clients for ${SECONDS} s: half of them stay, half come and go`);
  await connections.open(CLIENTS);
  publisher.start();
  connections.churn();
  changes.start();
  const began = Date.now();
  let restarts = 0;
  while (Date.now() - began < SECONDS * 1000) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    memory.sample();
    const part = (Date.now() - began) / 1000 / SECONDS;
    if (restarts < 2 && part > (restarts + 1) / 3) {
      restarts++;
      changes.storeIsDown(true);
      await backend.stop();
      await new Promise((resolve) => setTimeout(resolve, 2000));
      await backend.start();
      changes.storeIsDown(false);
      console.log(`${Math.round((Date.now() - began) / 1000)} s: the database was restarted`);
    }
  }

  await changes.stop();
  await publisher.stop();
  await connections.finish(publisher.published);
  await receiver.settle(connections.expectedWebhooks());
  await changes.checkMetrics();
  memory.judge(problem);
  console.log(
    `${publisher.total} events published, ${connections.received} received, ${connections.cycles} connections`,
  );
  console.log(
    `${receiver.total} webhook events in ${receiver.requests} requests, ${receiver.failed} of them refused first`,
  );
  console.log(`${changes.made} changes of the record; ${memory.summary()}`);
}

await judge('soak', main);
