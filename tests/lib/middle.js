// Between Curlew and a real server of this machine.

import { once } from 'node:events';
import net from 'node:net';
import os from 'node:os';

// An address of this machine that is not its loopback address, so that Curlew takes it for another machine's.
export function addressOutside() {
  const outside = Object.values(os.networkInterfaces())
    .flat()
    .find(({ internal, family }) => !internal && family === 'IPv4');
  if (!outside) throw new Error('this machine has no IPv4 address but the loopback one, which these tests need');
  return outside.address;
}

/*
 * A port (0: any) that leads to the one at `target`, {port}, until the test ends; resolves to it. What Curlew says goes
 * through `hear(bytes, near, far)`, where `near` is Curlew's end and `far` the server's; what the server says is handed
 * on. It is at `host`.
 */
export async function lead(t, port, target, hear = (bytes, near, far) => far.write(bytes), host = '127.0.0.1') {
  const ends = [];
  const middle = net.createServer((near) => {
    const far = net.connect(target.port, '127.0.0.1');
    ends.push(near, far);
    for (const end of [near, far]) end.on('error', () => {});
    near.on('data', (bytes) => hear(bytes, near, far)).on('close', () => far.destroy());
    far.pipe(near);
  });
  await once(middle.listen(port, host), 'listening');
  t.after(() => {
    for (const end of ends) end.destroy();
    middle.close();
  });
  return middle.address().port;
}

// A port that leads to `target` until Curlew says these words; from then on `talk(client)` speaks to Curlew instead.
// Resolves to it.
export function impostor(t, target, words, talk) {
  return lead(t, 0, target, (bytes, near, far) => {
    if (!bytes.includes(words)) return far.write(bytes);
    far.unpipe(near);
    return talk(near);
  });
}
