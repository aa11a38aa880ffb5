// An HTTP server that a test speaks for: it answers what the test says, and passes the rest on to a real one.

import { once } from 'node:events';
import http from 'node:http';

import { Inbox } from './inbox.js';

/*
 * Starts the server; it is gone after the test. Each request {method, path, headers, rawHeaders, body} is in
 * `requests`, in order of arrival. `answer(request, forward)` may be changed at any time; it returns, at once or later,
 *   {status, body, headers}   the answer; a body that is no string is sent as JSON
 *   undefined                 what `upstream` (a URL) says
 *   null                      nothing: the connection is cut
 *   a function                what it does with the socket, to answer as no good server would
 * and may ask upstream itself with `forward()`. Returns {url, port, requests, answer, path}.
 */
export async function httpStub(t, { upstream, answer = () => undefined } = {}) {
  const stub = { requests: new Inbox('requests', ({ method, path, body }) => `${method} ${path} ${body}`), answer };
  const server = http.createServer(async (message, response) => {
    const { method, url: path, headers, rawHeaders } = message;
    const request = { method, path, headers, rawHeaders, body: await text(message) };
    const forward = () => pass(upstream, request);
    stub.requests.push(request);
    try {
      const given = await stub.answer(request, forward);
      if (typeof given === 'function') return void given(message.socket);
      const { status = 200, body = '', headers: more = {} } = given === undefined ? await forward() : (given ?? {});
      if (given === null) message.socket.destroy();
      else response.writeHead(status, more).end(typeof body === 'string' ? body : JSON.stringify(body));
    } catch {
      message.socket.destroy();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  stub.port = server.address().port;
  stub.url = `http://127.0.0.1:${stub.port}`;
  return stub;
}

async function text(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function pass(upstream, { method, path, headers, body }) {
  const { hostname, port } = new URL(upstream);
  const request = http.request({ hostname, port, path, method, headers, agent: false });
  request.end(body);
  const [response] = await once(request, 'response');
  return {
    status: response.statusCode,
    headers: { 'content-type': response.headers['content-type'] },
    body: await text(response),
  };
}
