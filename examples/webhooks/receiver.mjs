// A receiver of webhooks: it verifies the signature and prints the events.
// Usage: node receiver.mjs, then set the `url` of a webhook to http://127.0.0.1:8001/

import http from 'node:http';

import Pusher from 'pusher';

const { HOST = '127.0.0.1', PORT = '8001', APP_KEY = 'app-key', APP_SECRET = 'app-secret' } = process.env;
const { PREVIOUS_SECRET } = process.env; // while the secret is being changed

const pusher = new Pusher({ appId: '1', key: APP_KEY, secret: APP_SECRET, host: HOST });
const others = PREVIOUS_SECRET ? [{ key: APP_KEY, secret: PREVIOUS_SECRET }] : [];

// Your application acts on an event. It may come twice, so doing this again must do no harm.
function handle(event, time) {
  console.log(JSON.stringify({ ...event, time: time.toISOString() }));
}

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  // The signature covers these bytes: do not parse the body and encode it again.
  const webhook = pusher.webhook({ headers: request.headers, rawBody: Buffer.concat(chunks).toString() });
  if (!webhook.isValid(others)) return response.writeHead(401).end('wrong signature\n');
  for (const event of webhook.getEvents()) handle(event, webhook.getTime());
  response.end();
});
server.listen(Number(PORT), HOST, () => console.log(`http://${HOST}:${server.address().port}/`));
