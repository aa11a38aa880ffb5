// The back end that clients ask for signatures: /channel and /user, with the `pusher` SDK of Node.

import { once } from 'node:events';
import http from 'node:http';
import { createRequire } from 'node:module';

const Pusher = createRequire(import.meta.url)('pusher');

export const ENCRYPTION_KEY = Buffer.alloc(32, 7).toString('base64');

async function readForm(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
}

/*
 * Serves until the test ends; resolves to its URL. Every client is `user`, {user_id, user_info} in presence channels
 * and {id, ...} at sign-in. Channels with "forbidden" in their name get 403, those with "wrong" a signature of another
 * secret.
 */
export async function authEndpoint(t, app, { member, user }) {
  const sdkWith = (secret) =>
    new Pusher({ appId: app.id, key: app.key, secret, cluster: 'x', encryptionMasterKeyBase64: ENCRYPTION_KEY });
  const [right, wrong] = [sdkWith(app.secret), sdkWith('another secret')];
  const server = http.createServer(async (request, response) => {
    const { socket_id: socketId, channel_name: channel } = await readForm(request);
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Content-Type', 'application/json');
    if (request.url === '/user') {
      response.end(JSON.stringify(right.authenticateUser(socketId, user)));
    } else if (channel.includes('forbidden')) {
      response.writeHead(403).end('{}');
    } else {
      const data = channel.startsWith('presence-') ? member : undefined;
      response.end(
        JSON.stringify((channel.includes('wrong') ? wrong : right).authorizeChannel(socketId, channel, data)),
      );
    }
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}
