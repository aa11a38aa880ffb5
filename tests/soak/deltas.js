// usage: node deltas.js [--seconds N] [--clients N] [--seed N]
//
// Deltas while everything changes, against the server that CURLEW_BINARY names: up to 1000 events a second with 50
// keys, by publishers and clients, over four workers, to clients that come, leave, return, lose events, replace filters
// and report errors, while the record of the app changes (tests/lib/delta-load.js). Each text that is rebuilt has to be
// what plain clients get, in the same order.
//
// The seed decides what is done. Exit code 0, or 1 with a list of what was wrong.

import { parseArgs } from 'node:util';

import { deltaLoad, LOAD_SERVER } from '../lib/delta-load.js';
import { startServer } from '../lib/server.js';
import { ends, judge, problem } from './verdict.js';

const { values } = parseArgs({
  options: { seconds: { type: 'string' }, clients: { type: 'string' }, seed: { type: 'string' } },
});
const SECONDS = Number(values.seconds ?? 60);
const CLIENTS = Number(values.clients ?? 24);
const SEED = Number(values.seed ?? 1 + Math.floor(Math.random() * (2 ** 32 - 1)));

await judge('deltas', async () => {
  console.log(`deltas: ${SECONDS} s, ${CLIENTS} clients; again with --seed ${SEED}`);
  const server = await startServer(LOAD_SERVER);
  ends.unshift(() => server.stop());
  const { total, seconds, kinds, dropped, evictions, filtered, resyncs } = await deltaLoad({
    server,
    seconds: SECONDS,
    seed: SEED,
    problem,
    clients: CLIENTS,
  });
  console.log(
    `${total} events in ${Math.round(seconds)} s (${Math.round(total / seconds)} a second), read as ${kinds.F} Fossil ` +
      `and ${kinds.X} xdelta3 deltas, ${kinds.W} whole, ${kinds.P} plain; ${dropped} dropped, ${evictions} texts ` +
      `evicted, ${filtered} held back by filters, ${resyncs} errors reported`,
  );
});
