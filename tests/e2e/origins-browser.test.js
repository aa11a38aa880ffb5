// allowed_origins with a real browser: pages of two origins and a sandboxed frame, whose origin is null.

import http from 'node:http';
import { test } from 'node:test';

import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { Page } from '../lib/page.js';
import { APP, serverFor } from '../lib/server.js';

// Connects to the app and writes the first message into the document, or into that of the frame's parent.
const SCRIPT = `
  const ws = new WebSocket(URL);
  ws.onmessage = ({ data }) => parent.postMessage(NAME + data, '*');
`;
const script = (url, name) => SCRIPT.replace('URL', JSON.stringify(url)).replace('NAME', JSON.stringify(`${name}: `));

async function pagesFor(t, url) {
  const frame = `<script>${script(url, 'frame')}</script>`.replaceAll('"', '&quot;');
  const page = `<!doctype html><pre></pre><script>
    onmessage = ({ data }) => document.querySelector('pre').append(data + '\\n');
    ${script(url, 'page')}
    </script><iframe sandbox="allow-scripts" srcdoc="${frame}"></iframe>`;
  const pages = http.createServer((request, response) => response.setHeader('Content-Type', 'text/html').end(page));
  await new Promise((resolve) => pages.listen(0, resolve));
  t.after(() => {
    pages.closeAllConnections();
    pages.close();
  });
  return pages.address().port;
}

test('Chromium connects from an origin that is allowed, and from no other', async (t) => {
  const server = await serverFor(t);
  const port = await pagesFor(t, `ws://127.0.0.1:${server.port}/app/${APP.key}?protocol=7`);
  await server.reload({ apps: [{ ...APP, allowed_origins: [`http://127.0.0.1:${port}`] }] });
  const refused = '{"event":"pusher:error","data":{"code":4009';
  for (const [host, answer] of [
    ['127.0.0.1', '{"event":"pusher:connection_established"'],
    ['localhost', refused],
  ]) {
    const page = await Page.open(`http://${host}:${port}/`, LONG_TIMEOUT_MS);
    t.after(() => page.close());
    await page.shows(`page: ${answer}`, LONG_TIMEOUT_MS);
    await page.shows(`frame: ${refused}`, LONG_TIMEOUT_MS);
  }
  // null matches only *.
  await server.reload({ apps: [{ ...APP, allowed_origins: ['*'] }] });
  const page = await Page.open(`http://localhost:${port}/`, LONG_TIMEOUT_MS);
  t.after(() => page.close());
  for (const name of ['page', 'frame'])
    await page.shows(`${name}: {"event":"pusher:connection_established"`, LONG_TIMEOUT_MS);
});
