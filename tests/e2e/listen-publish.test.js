// `curlew listen` and `curlew publish`: a first event without any other client, and what they say when it fails.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { describe, test } from 'node:test';
import { WebSocketServer } from 'ws';

import { publish } from '../lib/api.js';
import { command, sqliteConfig, appsDone } from '../lib/apps-command.js';
import { connect, subscribe } from '../lib/client.js';
import { Inbox } from '../lib/inbox.js';
import { folderWith, start } from '../lib/process.js';
import { APP, BINARY, serverFor } from '../lib/server.js';

const DONE = { code: 0, signal: null };
const credentials = ['--id', APP.id, '--key', APP.key, '--secret', APP.secret];

// `curlew listen`, subscribed to all of its channels.
async function listening(t, channels, options, env) {
  const program = start(t, BINARY, ['listen', ...channels, ...options], { env });
  const named = channels.filter((word) => !word.startsWith('--'));
  for (const channel of named) await program.err.next((line) => line === `subscribed to ${channel}`);
  return program;
}

async function stops(program, signal = 'SIGINT') {
  program.child.kill(signal);
  assert.deepEqual(await program.exited(), DONE);
}

// A server whose configuration, with its real port, is in a file.
async function configured(t, options) {
  const server = await serverFor(t, options);
  const file = path.join(
    folderWith(t, { 'config.json': { ...server.config, port: server.port ?? 6001 } }),
    'config.json',
  );
  return { server, file };
}

describe('an event from publish reaches listen', () => {
  test('with the server and the only app of the configuration, on all kinds of channels', async (t) => {
    const { file } = await configured(t);
    const channels = ['my-channel', 'private-a', 'presence-b', 'private-cache-c', 'cache-d'];
    const listener = await listening(t, channels, ['-c', file]);
    for (const [i, channel] of channels.entries()) {
      const { code, stdout } = await command(t, ['publish', channel, 'my-event', `{"n":${i}}`, '-c', file]);
      assert.equal(code, 0);
      assert.equal(stdout, `published my-event to ${channel}\n`);
      assert.equal(await listener.out.next((line) => line.includes('my-event')), `${channel} my-event {"n":${i}}`);
    }
    await stops(listener);
  });

  test('of an app with allowed_origins, with --origin', async (t) => {
    const app = { ...APP, allowed_origins: ['https://shop.example'] };
    const { server, file } = await configured(t, { apps: [app] });
    const listener = await listening(t, ['my-channel'], ['-c', file, '--origin', 'https://shop.example']);
    await publish(server, { name: 'e', channel: 'my-channel', data: 'x' });
    assert.equal(await listener.out.next((line) => line.includes('my-channel')), 'my-channel e x');
    await stops(listener);
    for (const options of [[], ['--origin', 'https://evil.example']])
      assert.match(
        (await command(t, ['listen', 'my-channel', '-c', file, ...options])).stderr,
        /4009.*allowed_origins/,
      );
    const { code, stderr } = await command(t, ['listen', 'c', '-c', file, '--origin', 'https://a\r\nX: y']);
    assert.equal(code, 2);
    assert.match(stderr, /--origin must be like https:/);
  });

  test('with everything named on the command line, and data from standard input or none', async (t) => {
    const server = await serverFor(t);
    const url = ['--url', server.url.replace('http:', 'ws:'), ...credentials];
    const listener = await listening(t, ['my-channel'], url);
    const lines = [
      [['text'], 'my-channel my-event text'],
      [['-'], 'my-channel my-event {"from":"outside"}'],
      [[], 'my-channel my-event {}'],
    ];
    for (const [data, line] of lines) {
      const { code, stderr } = await command(t, ['publish', 'my-channel', 'my-event', ...data, ...url], {
        input: '{"from":"outside"}\n',
      });
      assert.equal(code, 0, stderr);
      assert.equal(stderr, '');
      assert.equal(await listener.out.next(), line);
    }
    // The shell has removed the quotation marks.
    const unquoted = await command(t, ['publish', 'my-channel', 'my-event', '{message:hello}', ...url]);
    assert.equal(unquoted.code, 0);
    assert.match(unquoted.stderr, /^warning: DATA is sent as text, because it is not JSON .*single quotes/);
    assert.equal(await listener.out.next(), 'my-channel my-event {message:hello}');
    await stops(listener, 'SIGTERM');
  });

  test('and the key alone is enough for a public channel', async (t) => {
    const server = await serverFor(t);
    const listener = await listening(t, ['my-channel'], ['--url', server.url, '--key', APP.key]);
    await publish(server, { channel: 'my-channel', name: 'e', data: 'x' });
    assert.equal(await listener.out.next(), 'my-channel e x');
    await stops(listener);
  });

  test('with an app of a database, by id or by key', async (t) => {
    const server = await serverFor(t);
    const config = sqliteConfig(t);
    await appsDone(t, ['create', '-c', config, ...credentials]);
    await appsDone(t, ['create', '-c', config, '--id', 'other']);
    const at = ['--url', server.url, '-c', config];
    const listener = await listening(t, ['private-a'], [...at, '--key', APP.key]);
    assert.equal((await command(t, ['publish', 'private-a', 'e', 'x', ...at, '--id', APP.id])).code, 0);
    assert.equal(await listener.out.next(), 'private-a e x');
    await stops(listener);
    const { code, stderr } = await command(t, ['publish', 'private-a', 'e', 'x', ...at]);
    assert.equal(code, 2);
    assert.match(stderr, /several apps: name one with --app ID_OR_KEY/);
    for (const name of [APP.id, APP.key]) {
      const chosen = await command(t, ['publish', 'private-a', 'e', 'x', ...at, '--app', name]);
      assert.equal(chosen.code, 0, chosen.stderr);
    }
    const unknown = await command(t, ['publish', 'private-a', 'e', 'x', ...at, '--app', 'nobody']);
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /no app with the id or the key nobody/);
  });

  test('over TLS: the certificate is checked with --url, and not with the configuration', async (t) => {
    const folder = folderWith(t);
    const [cert, key] = ['cert', 'key'].map((name) => path.join(folder, name));
    const request = 'req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=realtime.example'.split(' ');
    execFileSync('openssl', [...request, '-keyout', key, '-out', cert], { stdio: 'ignore' });
    const { server, file } = await configured(t, {
      config: { ssl: { enabled: true, cert_path: cert, key_path: key } },
    });
    const listener = await listening(t, ['private-a'], ['-c', file]);
    const url = ['--url', `https://127.0.0.1:${server.port}`, ...credentials];
    for (const words of [
      ['publish', 'private-a', 'e', 'x'],
      ['listen', 'private-a'],
    ]) {
      const { code, stderr } = await command(t, [...words, ...url]);
      assert.equal(code, 3);
      assert.match(stderr, /certificate/i);
    }
    assert.equal((await command(t, ['publish', 'private-a', 'e', 'x', '--insecure', ...url])).code, 0);
    assert.equal(await listener.out.next(), 'private-a e x');
    await stops(listener);
    await stops(await listening(t, ['private-a'], ['--insecure', ...url]));
  });

  test('over a Unix socket, and with a path prefix', async (t) => {
    const socket = path.join(folderWith(t), 'curlew.sock');
    for (const config of [{ unix_socket: { enabled: true, path: socket } }, { path_prefix: '/realtime' }]) {
      const { file } = await configured(t, { config });
      const listener = await listening(t, ['private-a'], ['-c', file]);
      assert.equal((await command(t, ['publish', 'private-a', 'e', 'x', '-c', file])).code, 0);
      assert.equal(await listener.out.next(), 'private-a e x');
      await stops(listener);
    }
  });

  test('whatever proxy the environment names, if the server is on this machine', async (t) => {
    const { file } = await configured(t);
    const env = Object.fromEntries(
      ['http_proxy', 'ALL_PROXY', 'all_proxy'].map((name) => [name, 'http://127.0.0.1:9']),
    );
    const listener = await listening(t, ['my-channel'], ['-c', file], env);
    assert.equal((await command(t, ['publish', 'my-channel', 'e', 'x', '-c', file], { env })).code, 0);
    assert.equal(await listener.out.next(), 'my-channel e x');
    await stops(listener);
  });
});

describe('listen prints', () => {
  test('one line of JSON for each event with --json, with the same values', async (t) => {
    const { server, file } = await configured(t);
    const listener = start(t, BINARY, ['listen', 'presence-a', '--json', '-c', file]);
    assert.deepEqual(JSON.parse(await listener.err.next()), { subscribed: 'presence-a' });
    const ws = await connect(server, { t });
    await subscribe(ws, 'presence-a', { user: { user_id: '7' } });
    assert.equal(JSON.parse(await listener.out.next()).event, 'pusher_internal:member_added');
    const data = '{\n\t"a" : "\u009b31m \u007f \u202e"\r\n}';
    ws.sendText(`{"event":"client-e","channel":"presence-a","data":${data}}`);
    const line = await listener.out.next();
    // eslint-disable-next-line no-control-regex
    assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u202e]/);
    const event = JSON.parse(line);
    assert.deepEqual([event.event, event.channel, event.user_id], ['client-e', 'presence-a', '7']);
    assert.deepEqual(event.data, JSON.parse(data));
    await stops(listener);
  });

  test('nothing that could control a terminal', async (t) => {
    const { server, file } = await configured(t);
    const listener = await listening(t, ['my-channel'], ['-c', file]);
    await publish(server, {
      channel: 'my-channel',
      name: 'e\u001b[2J',
      data: 'a\u001b]0;x\u0007\nb\u009b\u0000\u2066é\u{1f426}',
    });
    assert.equal(
      await listener.out.next(),
      'my-channel e\\u001b[2J a\\u001b]0;x\\u0007\\u000ab\\u009b\\u0000\\u2066é\u{1f426}',
    );
    await stops(listener);
  });

  test('nothing that could control a terminal, of the arguments of publish either', async (t) => {
    const { file } = await configured(t);
    const { code, stdout } = await command(t, ['publish', 'c', 'e\x1b[31m', '-c', file]);
    assert.deepEqual([code, stdout], [0, 'published e\\u001b[31m to c\n']);
  });

  test('with tags, which have to be an object of texts', async (t) => {
    const { file } = await configured(t);
    const listener = start(t, BINARY, ['listen', 'c', '--json', '-c', file]);
    assert.deepEqual(JSON.parse(await listener.err.next()), { subscribed: 'c' });
    const publishTagged = (tags) => command(t, ['publish', 'c', 'e', '1', '--tags', tags, '-c', file]);
    const { code, stderr } = await publishTagged('{"symbol":"BTC","side":"buy"}');
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(await listener.out.next()).tags, { side: 'buy', symbol: 'BTC' });
    for (const tags of ['symbol=BTC', '[]', '{"symbol":}']) {
      const refused = await publishTagged(tags);
      assert.equal(refused.code, 2, tags);
      assert.match(refused.stderr, /--tags must be a JSON object, like \{"symbol":"BTC"\}/);
    }
    const wrong = await publishTagged('{"size":1}');
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /the value of tag 1 must be a string/);
    await stops(listener);
  });

  test('only encrypted data for an encrypted channel', async (t) => {
    const { file } = await configured(t);
    const plain = await command(t, ['publish', 'private-encrypted-a', 'e', '{"n":1}', '-c', file]);
    assert.equal(plain.code, 2);
    assert.match(plain.stderr, /curlew publish cannot encrypt: DATA .* use a server SDK with your master key/);
    const data = '{"nonce":"bm9uY2U=","ciphertext":"eA=="}';
    const { code, stderr } = await command(t, ['publish', 'private-encrypted-a', 'e', data, '-c', file]);
    assert.equal(code, 0, stderr);
  });

  test('until its reader goes away, and then ends in silence', async (t) => {
    const { server, file } = await configured(t);
    const listener = await listening(t, ['my-channel'], ['-c', file]);
    const gone = once(listener.child.stdout, 'close');
    listener.child.stdout.destroy();
    await gone;
    await publish(server, { channel: 'my-channel', name: 'e', data: 'x' });
    assert.deepEqual(await listener.exited(), { code: null, signal: 'SIGPIPE' });
    assert.deepEqual(listener.err.waiting, []);
  });
});

describe('what fails has an exit code of its own and says why', () => {
  const cases = {
    'no server there, listen': [
      ['listen', 'a', '--url', 'http://127.0.0.1:9', '--key', 'k'],
      3,
      /cannot connect to http:\/\/127\.0\.0\.1:9: .*onnect/,
    ],
    'no server there, publish': [
      ['publish', 'a', 'e', '--url', 'http://127.0.0.1:9', ...credentials],
      3,
      /cannot publish to http:\/\/127\.0\.0\.1:9: .*onnect/,
    ],
    'no URL': [
      ['listen', 'a', '--url', 'gopher://x', '--key', 'k'],
      2,
      /--url must be a URL of http, https, ws or wss/,
    ],
    'a password in the URL': [['listen', 'a', '--url', 'http://u:hush@x', '--key', 'k'], 2, /--url must be a URL/],
    'no channel': [['listen'], 2, /a channel must be named/],
    'no event': [['publish', 'a'], 2, /a channel and an event must be named/],
    'a secret alone': [['publish', 'a', 'e', '--secret', 's'], 2, /--secret needs --id and --key/],
    'standard input twice': [
      ['publish', 'a', 'e', '-', '--id', 'i', '--key', 'k', '--secret', '-'],
      2,
      /cannot both be read/,
    ],
    'no such configuration': [['listen', 'a', '-c', '/nowhere.json'], 2, /\/nowhere\.json/],
  };
  for (const [what, [args, code, text]] of Object.entries(cases)) {
    test(what, async (t) => {
      const result = await command(t, args);
      assert.equal(result.code, code, result.stderr);
      assert.match(result.stderr, text);
      assert.doesNotMatch(result.stderr, /hush/);
      assert.equal(result.stdout, '');
    });
  }

  test('a key or an id that the server does not have', async (t) => {
    const server = await serverFor(t);
    const url = ['--url', server.url, '--id', 'nobody', '--key', 'no-key', '--secret', 's'];
    const listen = await command(t, ['listen', 'my-channel', ...url]);
    assert.equal(listen.code, 4);
    assert.match(listen.stderr, /has no app with the key no-key \(4001: /);
    const published = await command(t, ['publish', 'my-channel', 'e', 'x', ...url]);
    assert.equal(published.code, 4);
    assert.match(published.stderr, /for app nobody \(HTTP 404\)/);
  });

  test('an address of the server that is not its API', async (t) => {
    const server = await serverFor(t);
    const port = new URL(server.url).port;
    for (const [args, text] of [
      [['publish', 'c', 'e', '--url', `https://127.0.0.1:${port}`], /answers without TLS: use http in place of https/],
      [['listen', 'c', '--url', `wss://127.0.0.1:${port}`], /answers without TLS: use http in place of https/],
      [['publish', 'c', 'e', '--url', server.metricsUrl], /there is no HTTP API: is it the metrics port/],
      [['publish', 'c', 'e', '--url', `${server.url}/other`], /there is no HTTP API: .*has the URL another path/],
    ]) {
      const { code, stderr } = await command(t, [...args, ...credentials]);
      assert.equal(code, 3, stderr);
      assert.match(stderr, text);
    }
  });

  test('a secret that is wrong or unknown', async (t) => {
    const server = await serverFor(t);
    const wrong = ['--url', server.url, '--id', APP.id, '--key', APP.key, '--secret', '-'];
    const listen = await command(t, ['listen', 'private-a', ...wrong], { input: 'guess' });
    assert.equal(listen.code, 5);
    assert.match(listen.stderr, /refused the subscription to private-a: .*is it the secret of this app/);
    const published = await command(t, ['publish', 'my-channel', 'e', 'x', ...wrong], { input: 'guess' });
    assert.equal(published.code, 5);
    assert.match(published.stderr, /refuses the signature for app app-id, key app-key \(401\)/);
    const other = await serverFor(t, { apps: [{ ...APP, key: 'a-key-of-no-configuration' }] });
    const key = ['--key', 'a-key-of-no-configuration'];
    const without = await command(t, ['listen', 'private-a', '--url', other.url, ...key]);
    assert.equal(without.code, 5);
    assert.match(without.stderr, /no secret is known for this key: give --secret/);
    for (const { stderr } of [listen, published]) assert.doesNotMatch(stderr, /guess/);
  });

  test('a channel or an app that the server refuses', async (t) => {
    const server = await serverFor(t, { apps: [{ ...APP, enabled: false }] });
    const url = ['--url', server.url, ...credentials];
    const listen = await command(t, ['listen', 'my-channel', ...url]);
    assert.equal(listen.code, 1);
    assert.match(listen.stderr, /4003: the app is disabled/);
    assert.equal((await command(t, ['publish', 'my-channel', 'e', 'x', ...url])).code, 1);
    const open = await serverFor(t);
    const bad = await command(t, ['listen', 'a b', '--url', open.url, ...credentials]);
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /refused the subscription to a b: /);
  });
});

describe('listen and its connection', () => {
  test('connects again after a restart of the server', async (t) => {
    const { server, file } = await configured(t);
    const listener = await listening(t, ['private-a'], ['-c', file]);
    await server.stop();
    await listener.err.next((line) => /warning: not connected, trying again: /.test(line));
    const again = await serverFor(t, { config: { port: server.port } });
    await listener.err.next((line) => line === 'subscribed to private-a');
    await publish(again, { channel: 'private-a', name: 'e', data: 'back' });
    assert.equal(await listener.out.next(), 'private-a e back');
    await stops(listener);
  });

  // A WebSocket server that plays the other side: `play` gets the socket after connection_established.
  async function otherSide(t, play) {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    t.after(() => {
      for (const client of server.clients) client.terminate();
      server.close();
    });
    server.on('connection', (socket) => {
      const data = JSON.stringify({ socket_id: '1.2', activity_timeout: 1 });
      socket.send(JSON.stringify({ event: 'pusher:connection_established', data }));
      play(socket);
    });
    await once(server, 'listening');
    return ['--url', `ws://127.0.0.1:${server.address().port}`, '--key', 'k'];
  }

  test('answers pings of both kinds, and takes fragments', async (t) => {
    const heard = new Inbox('what the other side heard');
    const url = await otherSide(t, (socket) => {
      socket.on('pong', (payload) => heard.push(`pong ${payload}`));
      socket.on('message', (text) => {
        const { event } = JSON.parse(text);
        heard.push(event);
        if (event !== 'pusher:subscribe') return;
        socket.ping('are you there');
        socket.send('{"event":"pusher:ping","data":{}}');
        socket.send('{"event":"e","chan', { fin: false });
        socket.ping();
        socket.send('nel":"c","data":"whole"}');
      });
    });
    const listener = start(t, BINARY, ['listen', 'c', ...url]);
    assert.equal(await listener.out.next(), 'c e whole');
    for (const answer of ['pong are you there', 'pusher:pong', 'pong ']) await heard.next((what) => what === answer);
    await stops(listener);
  });

  test('asks a server that is silent for its activity_timeout', async (t) => {
    let heard;
    const asked = new Promise((resolve) => {
      heard = resolve;
    });
    const url = await otherSide(t, (socket) =>
      socket.on('message', (text) => JSON.parse(text).event === 'pusher:ping' && heard()),
    );
    const listener = start(t, BINARY, ['listen', 'c', ...url]);
    await asked;
    await stops(listener);
  });

  test('says what it found that is no such server', async (t) => {
    const server = await serverFor(t);
    const url = new URL('/metrics', server.metricsUrl);
    const { code, stderr } = await command(t, ['listen', 'c', '--url', url.origin, '--key', 'k']);
    assert.equal(code, 3);
    assert.match(stderr, /the answer is HTTP 404/);
  });
});
