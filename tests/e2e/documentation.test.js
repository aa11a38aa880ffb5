// What the pages of docs/ show: configurations and apps that are taken as they stand, commands that do it, links that
// lead somewhere.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { applyDelta } from 'fossil-delta';

import { api, publish } from '../lib/api.js';
import { appsDone, exported, sqliteConfig } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, subscribe } from '../lib/client.js';
import { TIMEOUT_MS } from '../lib/inbox.js';
import { getMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { APP, BINARY, runCurlew, serverFor } from '../lib/server.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const pages = ['.', 'docs'].flatMap((folder) =>
  readdirSync(path.join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => path.join(folder, name)),
);
const text = (page) => readFileSync(path.join(root, page), 'utf8');
const blocks = (page, language) =>
  [...text(page).matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, body]) => body);

// What a check says, without what is dangerous where the example is used as it stands: it has no TLS, for instance, and
// everyone can read its secret.
const withoutDangers = (stdout) =>
  stdout.replace(/^(dangerous: |warning: app "[\w-]+": its secret is publicly known ).*\n/gm, '');

describe('configurations', () => {
  for (const page of ['docs/configuration.md', 'docs/app-managers.md']) {
    for (const [i, configText] of blocks(page, 'json').entries()) {
      test(`${page}, example ${i + 1}, is taken without a word`, async (t) => {
        // The folder of the file of apps has to exist.
        const config = configText.replace('/var/lib/curlew', folderWith(t));
        // Some examples have no app of their own.
        const env = Object.fromEntries(['ID', 'KEY', 'SECRET'].map((field) => [`SOCKUDO_DEFAULT_APP_${field}`, 'own']));
        const { code, stdout, stderr } = await runCurlew(['check'], { configText: config, env });
        assert.equal(stderr, '');
        assert.match(withoutDangers(stdout), /^ok: .*\n$/);
        assert.equal(code, 0);
      });
    }
  }

  test('docs/scaling.md, the example of a node, is taken with a Redis and an app', async () => {
    const [, configText] = text('docs/scaling.md').match(/^ {3}```json\n(.*?)^ {3}```$/ms);
    const app = { SOCKUDO_DEFAULT_APP_ID: '1', SOCKUDO_DEFAULT_APP_KEY: 'key', SOCKUDO_DEFAULT_APP_SECRET: 'own' };
    const { code, stdout, stderr } = await runCurlew(['check'], { configText, env: { ...app, REDIS_PASSWORD: 'own' } });
    assert.equal(stderr, '');
    assert.match(withoutDangers(stdout), /^ok: .*\n$/);
    assert.equal(code, 0);
  });

  test('docs/configuration.md: its example in TOML is that in JSON', async (t) => {
    const [toml] = blocks('docs/configuration.md', 'toml');
    const [json] = blocks('docs/configuration.md', 'json');
    const folder = folderWith(t, { 'config.toml': toml, 'config.json': json });
    const { code, stdout } = await runCurlew(['check', '--config', path.join(folder, 'config.toml')]);
    assert.equal(withoutDangers(stdout), `ok: ${path.join(folder, 'config.toml')}, 1 app\n`);
    assert.equal(code, 0);
    const apps = ['config.toml', 'config.json'].map((name) =>
      JSON.parse(execFileSync(BINARY, ['apps', 'export', '--config', path.join(folder, name)], { encoding: 'utf8' })),
    );
    assert.deepEqual(apps[0], apps[1]);
  });
});

test('secrets of examples are publicly known', async () => {
  const folders = ['config', 'examples', 'packaging'].map((folder) => path.join(root, folder));
  const others = folders
    .flatMap((folder) => readdirSync(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('node_modules'))
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'utf8'));
  const found = [...pages.map(text), ...others].flatMap((body) => [
    ...body.matchAll(/\bsecret"?\s*[:=]\s*(["'])((?:(?!\1|\n).)+)\1/g),
    ...body.matchAll(/APP_SECRET(=|: )([a-z][\w-]+)/g),
  ]);
  const secrets = [...new Set(found.map(([, , secret]) => secret))].filter((secret) => !/^(file:|\$)/.test(secret));
  assert.ok(secrets.length >= 4, secrets.join());
  const apps = secrets.map((secret, i) => ({ id: `${i}`, key: `k${i}`, secret }));
  const { stdout } = await runCurlew(['check'], { config: { app_manager: { array: { apps } } } });
  for (const { id, secret } of apps) assert.ok(stdout.includes(`app "${id}": its secret is publicly known`), secret);
});

describe('docs/apps.md', () => {
  const [app, webhooks] = blocks('docs/apps.md', 'json').map(JSON.parse);

  test('its app and its webhooks come back as they are shown', async (t) => {
    const config = sqliteConfig(t);
    await appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: [{ ...app, webhooks }] }) });
    const [stored] = await exported(t, config);
    for (const [field, value] of Object.entries({ ...app, webhooks })) assert.deepEqual(stored[field], value);
  });

  test('each field of its table is one, with the default that a server has', async (t) => {
    const config = sqliteConfig(t);
    const policy = '{"limits":{"max_connections":100,"max_client_events_per_second":100}}';
    const rows = [
      ...text('docs/apps.md').matchAll(/^\| `(\w+)` \| (text|boolean|number|list of \w+|object) \| ([^|]+) \|/gm),
    ];
    assert.equal(rows.length, 24);
    await appsDone(t, [
      'create',
      '--id',
      'a',
      '--key',
      'k',
      '--secret',
      's',
      '--set',
      `policy=${policy}`,
      '--set',
      'previous_secret=old',
      '--set',
      'previous_secret_until=4102444800',
      '-c',
      config,
    ]);
    const shown = await appsDone(t, ['show', 'a', '-c', config]);
    for (const [, field, , byDefault] of rows) {
      const line = shown.split('\n').find((candidate) => candidate.startsWith(`${field} `));
      assert.ok(line, `${field} in\n${shown}`);
      if (/^(true|false|\d+)$/.test(byDefault)) assert.match(line, new RegExp(`\\b${byDefault}\\b`), field);
    }
  });
});

test('docs/command-line.md: its example runs', async (t) => {
  const settings = (file) => ({ app_manager: { driver: 'sqlite' }, database: { sqlite: { path: file } } });
  // What stands behind the second name is of another kind there; the command is the same.
  const folder = folderWith(t, { 'sqlite.json': settings('apps.db'), 'postgres.json': settings('other.db') });
  mkdirSync(path.join(folder, 'config'));
  copyFileSync(path.join(folder, 'sqlite.json'), path.join(folder, 'config/config.json'));
  const [commands] = blocks('docs/command-line.md', 'bash');
  const script = `curlew() { "${BINARY}" "$@"; }\n${commands}`;
  execFileSync('bash', ['-ec', script], { cwd: folder });
  const [app, ...others] = JSON.parse(
    execFileSync(BINARY, ['apps', 'list', '--json'], { cwd: folder, encoding: 'utf8' }),
  ).apps;
  assert.deepEqual(others, []);
  assert.deepEqual(
    { ...app, key: undefined },
    {
      id: 'shop',
      key: undefined,
      enabled: true,
      enable_client_messages: true,
      max_connections: 5000,
      max_client_events_per_second: 100,
    },
  );
  assert.match(app.key, /^[0-9a-f]{32}$/);
  assert.ok(!existsSync(path.join(folder, 'other.db')), 'a dry run makes nothing');
});

test('docs/backup-and-upgrade.md: its commands save the apps and bring them back', async (t) => {
  const folder = folderWith(t);
  const here = (line) => line.replaceAll('/var/lib/curlew', folder).replaceAll('/etc/curlew', folder);
  const [save, write, restore, read] = blocks('docs/backup-and-upgrade.md', 'bash').map(here);
  const file = path.join(folder, 'config.json');
  const sqlite = { path: path.join(folder, 'apps.db') };
  writeFileSync(file, JSON.stringify({ app_manager: { driver: 'sqlite' }, database: { sqlite } }));
  // The user and the service exist only on a server.
  const shell = `curlew() { "${BINARY}" "$@"; }; sudo() { shift 2; "$@"; }; systemctl() { :; }
    install() { command install -m 600 "\${@: -2}"; }\n`;
  const run = (script) => execFileSync('bash', ['-ec', shell + script], { cwd: folder });

  await appsDone(t, ['create', '--id', '1', '-c', file]);
  const apps = await exported(t, file);
  run(save);
  await appsDone(t, ['create', '--id', '2', '-c', file]);
  run(restore);
  assert.deepEqual(await exported(t, file), apps);
  run(write);
  await appsDone(t, ['delete', '1', '-c', file]);
  assert.deepEqual(await exported(t, file), []);
  run(read);
  assert.deepEqual(await exported(t, file), apps);
});

test('docs/metrics.md and docs/scaling.md name metrics that a server has', async (t) => {
  const sqlite = { path: path.join(folderWith(t), 'apps.db') };
  const { adapter, database } = (await backendFor(t, 'redis')).config('nodes');
  const config = { adapter, app_manager: { driver: 'sqlite' }, database: { ...database, sqlite } };
  const server = await serverFor(t, { config });
  await api(server, 'GET', '/channels');
  const there = new Set([...(await getMetrics(server)).body.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name));
  const reference = text('docs/metrics.md');
  const expressions = [...(reference + text('docs/scaling.md')).matchAll(/^\| `(.*?)` \|/gm)].map(([, one]) => one);
  const names = expressions.flatMap((expression) => expression.match(/\b(sockudo|process)_\w+/g) ?? []);
  assert.ok(names.length > 5);
  for (const name of names) assert.ok(there.has(name.replace(/_(bucket|sum|count)$/, '')), name);
  const ofNodes = [...there].filter((name) => /^sockudo_(cluster|horizontal)_/.test(name));
  assert.ok(ofNodes.length > 15);
  for (const name of ofNodes) assert.ok(reference.includes(`\`${name.slice('sockudo_'.length)}\``), name);
});

test('docs/protocol.md: Laravel Echo connects with the options that are shown', async (t) => {
  const server = await serverFor(t);
  const [example] = blocks('docs/protocol.md', 'js');
  const script = `${example.replace("'app-key'", `'${APP.key}'`).replace('6001', server.port)}
    echo.channel('news').subscribed(() => { console.log('subscribed'); echo.disconnect(); });`;
  const said = execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: path.join(root, 'tests/e2e'),
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
  assert.equal(said, 'subscribed\n');
});

describe('quotations', () => {
  for (const page of pages) {
    const quoted = [...text(page).matchAll(/^<!-- from: (\S+) -->\n```\w*\n(.*?)^```$/gms)];
    if (quoted.length === 0) continue;
    test(`those of ${page} are in the files that they name`, () => {
      for (const [, file, body] of quoted) assert.ok(text(file).includes(body), `${file} does not contain:\n${body}`);
    });
  }
});

test('docs/laravel.md: Laravel Echo connects with the options and the .env that are shown', async (t) => {
  const server = await serverFor(t);
  const variables = Object.fromEntries(
    [...blocks('docs/laravel.md', 'ini')[0].matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
  );
  const env = Object.fromEntries(
    Object.entries(variables)
      .filter(([name]) => name.startsWith('VITE_'))
      .map(([name, value]) => [name, value.replace(/^"\$\{(\w+)\}"$/, (whole, other) => variables[other])]),
  );
  assert.deepEqual(env, {
    VITE_REVERB_APP_KEY: APP.key,
    VITE_REVERB_HOST: '127.0.0.1',
    VITE_REVERB_PORT: '6001',
    VITE_REVERB_SCHEME: 'http',
  });
  const [example] = blocks('docs/laravel.md', 'js');
  const script = `
    const env = ${JSON.stringify({ ...env, VITE_REVERB_PORT: String(server.port) })};
    globalThis.window = globalThis;
    ${example.replaceAll('import.meta.env', 'env')}
    window.Echo.channel('news').subscribed(() => { console.log('subscribed'); window.Echo.disconnect(); });`;
  const said = execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: path.join(root, 'tests/e2e'),
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
  assert.equal(said, 'subscribed\n');
});

test('docs/troubleshooting.md explains every code with which the protocol closes', () => {
  const codes = (page) => [...text(page).matchAll(/^\| (4\d{3}) \|/gm)].map(([, code]) => code);
  assert.deepEqual(codes('docs/troubleshooting.md'), codes('docs/protocol.md'));
});

// As GitHub makes them of headings.
const anchor = (heading) =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');

describe('links', () => {
  for (const page of pages) {
    test(`those of ${page} lead somewhere`, () => {
      for (const [, target] of text(page).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^https?:/.test(target)) continue;
        const [file, fragment] = target.split('#');
        const to = file === '' ? page : path.join(path.dirname(page), file);
        assert.ok(existsSync(path.join(root, to)), `${target}: there is no ${to}`);
        if (fragment === undefined) continue;
        const anchors = [...text(to).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchor(heading));
        assert.ok(anchors.includes(fragment), `${target}: ${to} has the headings ${anchors.join(', ')}`);
      }
    });
  }
});

test('docs/README.md links to every page', () => {
  const linked = [...text('docs/README.md').matchAll(/\]\(([^)#\s]+)/g)].map(([, target]) => path.join('docs', target));
  const missing = pages.filter((page) => page !== 'docs/README.md' && !linked.includes(page));
  assert.deepEqual(missing, []);
});

describe('docs/architecture.md', () => {
  // `app/app.h`, `scripts/bench.sh`, `net/listener`: what looks like a file of src/ or of the project.
  const files = new Set(
    [...text('docs/architecture.md').matchAll(/`([a-z_]+(?:\/[a-z_0-9]+)+(?:\.[a-z]+)?)`/g)].map(([, name]) => name),
  );

  for (const name of files) {
    test(`${name} is there`, () => {
      assert.ok(
        ['', '.h', '.c'].some((ending) =>
          ['src', '.'].some((folder) => existsSync(path.join(root, folder, name + ending))),
        ),
      );
    });
  }
});

describe('docs/deltas.md', () => {
  const [app, asked, confirmed, whole, delta] = blocks('docs/deltas.md', 'json').map((body) => body.trim());

  test('its app is taken', async () => {
    const { code, stdout } = await runCurlew(['check'], {
      config: { app_manager: { array: { apps: [JSON.parse(app)] } } },
    });
    assert.match(withoutDangers(stdout), /^ok: .*\n$/);
    assert.equal(code, 0);
  });

  test('its messages are those of the server', async (t) => {
    const entry = { prices: { conflation_key: 'symbol' } };
    const server = await serverFor(t, { apps: [{ ...APP, channel_delta_compression: entry }] });
    const ws = await connect(server, { t });
    await subscribe(ws, 'prices', { delta: true });
    assert.equal((await ws.next('pusher:delta_compression_enabled')).text, confirmed);
    const [request, answer] = asked.split('\n');
    ws.send(JSON.parse(request));
    assert.equal((await ws.next('pusher:delta_compression_enabled')).text, answer);
    const { data, __delta_seq: number } = JSON.parse(whole);
    for (const text of [data, data.replace('1.5', '1.6')])
      await publish(server, { name: 'tick', channel: 'prices', data: text });
    // Numbers begin anywhere.
    const first = await ws.next('tick');
    assert.equal(first.text.replace(`"__delta_seq":${first.__delta_seq}`, `"__delta_seq":${number}`), whole);
    // The encoder may find another way to the same text.
    const shape = (text) => text.replace(/"delta":"[^"]+"/, '"delta":""');
    assert.equal(
      shape((await ws.next('pusher:delta')).text)
        .replace(`"seq":${first.__delta_seq + 1}`, `"seq":${number + 1}`)
        .replace(`"base_index":${first.__delta_seq}`, `"base_index":${number}`),
      shape(delta),
    );
    const base = whole.replace(/,"__delta_seq":\d+,"__conflation_key":"ABC"/, '');
    const rebuilt = applyDelta(Buffer.from(base), Buffer.from(JSON.parse(delta).data.delta, 'base64'));
    assert.equal(Buffer.from(rebuilt).toString(), base.replace('1.5', '1.6'));
  });
});
