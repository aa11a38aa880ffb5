// A small web application with an auth endpoint for private and presence channels.
// Usage: node server.mjs, then open http://127.0.0.1:8000

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import http from 'node:http';

import Pusher from 'pusher';

const { HOST = '127.0.0.1', PORT = '8000', APP_ID = '1', APP_KEY = 'app-key', APP_SECRET = 'app-secret' } = process.env;
const { CURLEW_HOST = '127.0.0.1', CURLEW_PORT = '6001' } = process.env;

const pusher = new Pusher({
  appId: APP_ID,
  key: APP_KEY,
  secret: APP_SECRET,
  host: CURLEW_HOST,
  port: CURLEW_PORT,
  useTLS: false,
});

// Your application decides who may enter a channel.
function mayEnter(user, channel) {
  return channel === `private-user-${user}` || channel === 'presence-room';
}

function authorize(user, socketId, channel) {
  if (!user || !mayEnter(user, channel)) return undefined;
  if (!channel.startsWith('presence-')) return pusher.authorizeChannel(socketId, channel);
  return pusher.authorizeChannel(socketId, channel, { user_id: user, user_info: { name: user } });
}

// The sessions of your application. To keep the example short, there are no passwords.
const sessions = new Map();

function userOf(request) {
  return sessions.get(/\bsession=([\w-]+)/.exec(request.headers.cookie ?? '')?.[1]);
}

const handlers = {
  'POST /login'(form, request, response) {
    const user = form.get('name') ?? '';
    if (!/^[a-z0-9]{1,20}$/.test(user)) return [400, 'name: 1 to 20 of a-z and 0-9'];
    const session = randomUUID();
    sessions.set(session, user);
    response.setHeader('Set-Cookie', `session=${session}; Path=/; HttpOnly; SameSite=Strict`);
    return [200, { user, key: APP_KEY, host: CURLEW_HOST, port: Number(CURLEW_PORT) }];
  },

  'POST /pusher/auth'(form, request) {
    const answer = authorize(userOf(request), form.get('socket_id') ?? '', form.get('channel_name') ?? '');
    return answer ? [200, answer] : [403, 'you may not enter this channel'];
  },

  async 'POST /message'(form, request) {
    const from = userOf(request);
    const to = form.get('to') ?? '';
    if (!from) return [403, 'log in first'];
    if (!/^[a-z0-9]{1,20}$/.test(to)) return [400, 'to: the name of a user'];
    await pusher.trigger(`private-user-${to}`, 'message', { from, text: form.get('text') ?? '' });
    return [200, {}];
  },
};

const files = {
  'GET /': [new URL('index.html', import.meta.url), 'text/html'],
  'GET /pusher.min.js': [
    new URL('../node_modules/pusher-js/dist/web/pusher.min.js', import.meta.url),
    'text/javascript',
  ],
};

async function answer(request, response) {
  const route = `${request.method} ${request.url}`;
  if (files[route]) {
    response.setHeader('Content-Type', files[route][1]);
    return [200, await readFile(files[route][0])];
  }
  if (!handlers[route]) return [404, 'there is nothing here'];
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > 10_000) return [413, 'too long'];
  }
  return handlers[route](new URLSearchParams(body), request, response);
}

const server = http.createServer(async (request, response) => {
  try {
    const [status, body] = await answer(request, response);
    response.statusCode = status;
    response.end(typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  } catch (error) {
    const text = error.status ? `Curlew refused the event with HTTP ${error.status}: ${error.body}` : error.message;
    console.error(text);
    response.statusCode = 500;
    response.end(text);
  }
});
server.on('error', (error) => {
  console.error(`cannot listen on ${HOST} port ${PORT}: ${error.code}; PORT chooses another port`);
  process.exit(1);
});
server.listen(Number(PORT), HOST, () => console.log(`http://${HOST}:${server.address().port}`));
