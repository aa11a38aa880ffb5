// What the drivers in Node share: commands on standard input, events on standard output, one JSON object per line
// (tests/lib/client-driver.js).

import { createInterface } from 'node:readline';

export function tell(event, members) {
  process.stdout.write(`${JSON.stringify({ event, ...members })}\n`);
}

// Calls `obey` with each command, in order.
export async function obeyCommands(obey) {
  for await (const line of createInterface({ input: process.stdin })) await obey(JSON.parse(line));
  process.exit();
}
