// usage: node start.js KIND [OPTION=VALUE...]
//
// Starts one back end for work by hand, prints its address and the fragment of Curlew's configuration for it, and stops
// it on Ctrl-C. Options are the kind's: tls, generalLog, nodes=3.

import { parse } from 'node:path';

import { KINDS, kindOf } from './kinds.js';

const [name, ...given] = process.argv.slice(2);
if (!Object.hasOwn(KINDS, name ?? '')) {
  console.error(
    `usage: node ${parse(import.meta.url).base} KIND [OPTION=VALUE...]; a kind is one of ${Object.keys(KINDS).join(', ')}`,
  );
  process.exit(2);
}

const Kind = kindOf(name);
const chosen = Object.fromEntries(given.map((word) => [word.split('=')[0], JSON.parse(word.split('=')[1] ?? 'true')]));
const backend = new Kind(chosen);
const stopped = new Promise((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, resolve);
});
const began = performance.now();
let code = 0;
try {
  if ((await Promise.race([backend.launch().then(() => 'up'), stopped])) === 'up') {
    await Kind.createPlace(backend.address, 'curlew');
    console.log(
      `${name} is up after ${((performance.now() - began) / 1000).toFixed(1)} s in ${backend.folder}, pid ${backend.daemons.map((one) => one.pid)}`,
    );
    console.log('address', backend.address);
    console.log(JSON.stringify(Kind.config(backend.address, 'curlew'), null, 2));
    console.log('Ctrl-C stops it.');
    const alive = setInterval(() => {}, 1 << 30);
    await stopped;
    clearInterval(alive);
  }
} catch (error) {
  console.error(error.message);
  code = 1;
} finally {
  await backend.discard();
}
process.exit(code);
