// examples/webhooks: receivers that verify the signature, with the SDKs for Node.js and Python, and in plain PHP.

import assert from 'node:assert/strict';
import { cpSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { connect, join, subscribe, trigger } from '../lib/client.js';
import { folderWith, start } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const TESTS = fileURLToPath(new URL('..', import.meta.url));
const PYTHON = path.join(TESTS, 'clients/python/packages/bin/python');
const APP = {
  id: '1',
  key: 'app-key',
  secret: 'app-secret',
  enable_client_messages: true,
  max_client_events_per_second: 0,
};
const NEW_SECRET = 'another secret';
const TEXT = 'Zürich – 東京 – \u{1F600} "quoted" \\ and a \n line';

// Starts a receiver; resolves to {url, lines}: where it is, and what it prints.
async function receiver(t, language, secret, previous) {
  const folder = folderWith(t);
  cpSync(path.join(TESTS, '../examples/webhooks'), path.join(folder, 'webhooks'), { recursive: true });
  symlinkSync(path.join(TESTS, 'node_modules'), path.join(folder, 'node_modules'));
  const file = path.join(folder, 'webhooks', `receiver.${language}`);
  const env = { PORT: '0', APP_SECRET: secret, ...(previous && { PREVIOUS_SECRET: previous }) };
  if (language !== 'php') {
    const program = start(t, language === 'py' ? PYTHON : process.execPath, [file], { env });
    return { url: await program.out.next((line) => line.startsWith('http://')), lines: program.out };
  }
  const program = start(t, 'php', ['-S', '127.0.0.1:0', file], { env });
  const line = await program.err.next((text) => /Development Server \(http:/.test(text));
  return { url: line.match(/http:[^)]*/)[0], lines: program.err };
}

function eventOf(line) {
  const start = line.indexOf('{');
  try {
    return start < 0 ? {} : JSON.parse(line.slice(start));
  } catch {
    return {};
  }
}

// Waits for the receiver's line about an event with these members.
const told = ({ lines }, members) =>
  lines.next(
    Object.assign((line) => Object.entries(members).every(([name, value]) => eventOf(line)[name] === value), {
      label: JSON.stringify(members),
    }),
  );

for (const [language, name] of Object.entries({ mjs: 'Node.js', py: 'Python', php: 'PHP' })) {
  test(`the receiver in ${name} accepts what Curlew signs, through a rotation, and nothing else`, async (t) => {
    const before = await receiver(t, language, APP.secret);
    const after = await receiver(t, language, NEW_SECRET, APP.secret);
    const webhooks = [before, after].flatMap(({ url }) => [
      { url, event_types: ['client_event'] },
      { url, event_types: ['member_added', 'channel_occupied'], filter: { channel_pattern: '^presence-[äöü]*$' } },
    ]);
    const server = await serverFor(t, {
      apps: [{ ...APP, webhooks }],
      config: { webhooks: { batching: { duration: 200 }, retry: { enabled: false } } },
    });
    const client = await connect(server, { t, app: APP });
    await join(client, 'presence-x', { user_id: 'x' }); // is filtered out
    await subscribe(client, 'private-a');
    trigger(client, 'private-a', 'client-text', TEXT);
    trigger(client, 'private-a', 'client-text', 'second');
    for (const each of [before, after]) {
      await told(each, { name: 'client_event', channel: 'private-a', data: TEXT });
      await told(each, { name: 'client_event', data: 'second' });
    }
    await server.reload({ apps: [{ ...APP, secret: NEW_SECRET, webhooks }] });
    trigger(client, 'private-a', 'client-text', 'by the new secret');
    await told(after, { name: 'client_event', data: 'by the new secret' });
    // The one that knows only the old secret refuses it.
    await server.waitForLog(/webhooks\[0\]: 1 events are dropped after 1 attempts; .*status 401/);
    const forged = await fetch(after.url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Pusher-Key': APP.key, 'X-Pusher-Signature': '0'.repeat(64) },
      body: JSON.stringify({ time_ms: Date.now(), events: [{ name: 'forged' }] }),
    });
    assert.equal(forged.status, 401);
    for (const { lines } of [before, after])
      assert.ok(!lines.all.some((line) => /forged|presence-x/.test(JSON.stringify(eventOf(line)))));
  });
}
