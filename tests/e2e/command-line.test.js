// The command line: what `curlew` says about itself, and how it ends when it cannot do what it was asked.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';

import { get } from '../lib/api.js';
import { folderWith, start } from '../lib/process.js';
import { APP, BINARY, runCurlew } from '../lib/server.js';

const GOOD = {
  host: '127.0.0.1',
  port: 0,
  metrics: { host: '127.0.0.1', port: 0 },
  shutdown_grace_period: 0,
  app_manager: { driver: 'memory', array: { apps: [APP] } },
};

describe('help', () => {
  test('--help lists the commands', async () => {
    for (const flag of ['--help', '-h', 'help']) {
      const { code, stdout, stderr } = await runCurlew([flag]);
      assert.equal(code, 0, stderr);
      for (const word of ['serve', 'check', 'version']) assert.ok(stdout.includes(word), `${word} in:\n${stdout}`);
      assert.equal(stderr, '');
    }
  });

  for (const command of ['serve', 'check', 'version']) {
    test(`${command} --help tells what it does`, async () => {
      const { code, stdout } = await runCurlew([command, '--help']);
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`curlew ${command}`));
      if (command !== 'version') assert.match(stdout, /--config/);
    });
  }

  test('version is one line', async () => {
    for (const args of [['version'], ['--version'], ['-V']]) {
      const { code, stdout } = await runCurlew(args);
      assert.equal(code, 0);
      assert.match(stdout, /^curlew \d+\.\d+\S*.*\n$/);
    }
  });
});

describe('help COMMAND', () => {
  for (const words of [['serve'], ['check'], ['apps'], ['apps', 'list'], ['listen'], ['publish']]) {
    test(`${words.join(' ')} is its --help`, async () => {
      const { code, stdout, stderr } = await runCurlew(['help', ...words]);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, (await runCurlew([...words, '--help'])).stdout);
      assert.match(stdout, new RegExp(`^usage: curlew ${words.join(' ')}\\b`));
    });
  }

  test('of an unknown command', async () => {
    const { code, stderr } = await runCurlew(['help', 'aps']);
    assert.equal(code, 2);
    assert.match(stderr, /unknown command: aps; did you mean `curlew apps`\?/);
  });
});

describe('command lines that make no sense: exit code 2, and where to read on', () => {
  const lines = {
    'an unknown command': [['srve'], /srve/],
    'an unknown flag': [['serve', '--prot', '1'], /--prot/],
    'an unknown flag of check': [['check', '--verbos'], /--verbos/],
    'an argument too many': [['serve', 'now'], /now/],
    'a flag without its value': [['serve', '--config'], /--config/],
    'an unknown flag alone': [['--bogus'], /--bogus/],
    'a slip in a command': [['srve'], /unknown command: srve; did you mean `curlew serve`\?/],
    'the command of another server': [['start'], /unknown command: start; did you mean `curlew serve`\?/],
    'a command without its s': [['app', 'list'], /did you mean `curlew apps`\?/],
    'a slip in a command of apps': [['apps', 'lst'], /unknown command: apps lst; did you mean `curlew apps list`\?/],
    'a slip in a flag': [['serve', '--confg', 'x'], /--confg; did you mean --config\?/],
    'a slip in a flag of apps': [['apps', 'list', '--jsn'], /--jsn; did you mean --json\?/],
    'a slip in a field': [
      ['apps', 'create', '--set', 'max_conections=1'],
      /max_conections .*; did you mean max_connections\?/,
    ],
    'a setting as a flag': [
      ['serve', '--port', '7000'],
      /--port; it is the setting port of .*, or the variable PORT of/,
    ],
    'a setting alone as a flag': [
      ['--metrics-port=1'],
      /it is the setting metrics\.port of .*, or the variable METRICS_PORT/,
    ],
    'a variable as a flag': [['serve', '--log-level=debug'], /; the environment variable LOG_LEVEL sets the log level/],
    'a slip in --version': [['--verison'], /--verison; did you mean `curlew --version`\?/],
    'a slip in a flag of convert': [['convert', 'soketi', 'a', '--envv', 'b'], /--envv; did you mean --env\?/],
    'a field as a flag': [
      ['apps', 'create', '--max-conections', '5'],
      /--max-conections; a field is set with --set max_connections=VALUE/,
    ],
    'the letter of a port': [['-p', '7000'], /unknown option: -p; it is the setting port of /],
    'a slip in a setting as a flag': [['serve', '--prot', '1'], /--prot; did you mean the setting port of /],
    'a server for publish': [
      ['publish', 'c', 'e', '--prot', '7000'],
      /unknown option: --prot; a server is named with --url/,
    ],
    'a command of apps alone': [['lst'], /unknown command: lst; did you mean `curlew apps list`\?/],
    'a file without its flag': [['serve', 'my.json'], /unexpected argument: my\.json; .* --config my\.json/],
    'a file without its flag, to check': [['check', 'my.json'], /--config my\.json/],
  };
  for (const [what, [args, named]] of Object.entries(lines)) {
    test(what, async () => {
      const { code, stdout, stderr } = await runCurlew(args);
      assert.equal(code, 2);
      assert.equal(stdout, '');
      assert.match(stderr, named);
      assert.match(stderr, /--help/);
    });
  }
});

describe('check', () => {
  test('a good file is good', async (t) => {
    const file = path.join(folderWith(t, { 'config.json': GOOD }), 'config.json');
    for (const flag of ['--config', '-c']) {
      const { code, stdout, stderr } = await runCurlew(['check', flag, file]);
      assert.equal(code, 0, stderr);
      assert.match(stdout + stderr, /config\.json/);
    }
  });

  test('a bad one is not: exit code 2, and every problem with file, key path and what would be right', async () => {
    const bad = {
      ...GOOD,
      port: 'many',
      activity_timeout: 0,
      metrics: { enabled: 'perhaps', port: 70000 },
      websocket: { max_messages: -1 },
      cors: { origin: 'everywhere', credentials: 3 },
      adapter: { driver: 'carrier-pigeon' },
    };
    const { code, stderr, stdout, configFile } = await runCurlew(['check'], { config: bad });
    const said = stdout + stderr;
    assert.equal(code, 2, said);
    for (const key of [
      'port',
      'activity_timeout',
      'metrics.enabled',
      'metrics.port',
      'websocket.max_messages',
      'cors.credentials',
      'adapter.driver',
    ]) {
      assert.match(said, new RegExp(`(^|[^\\w.])${key.replace('.', '\\.')}\\b`, 'm'), key);
    }
    assert.ok(said.includes(configFile), said);
    assert.match(said, /86400/, 'the range of activity_timeout');
  });

  test('a file that is no JSON is named with the line', async () => {
    const { code, stderr, stdout, configFile } = await runCurlew(['check'], {
      configText: '{\n  "port": 1,\n  "host" "x"\n}\n',
    });
    assert.equal(code, 2);
    assert.ok((stdout + stderr).includes(configFile));
    assert.match(stdout + stderr, /\b3\b/);
  });

  test('a file that is not there', async () => {
    for (const command of ['check', 'serve']) {
      const { code, stderr, stdout } = await runCurlew([command, '--config', '/nowhere/config.json']);
      assert.equal(code, 2);
      assert.match(stdout + stderr, /\/nowhere\/config\.json/);
      assert.match(stdout + stderr, /no such file/i);
    }
  });

  const impossible = {
    'a node without a name': [{ app_manager: { driver: 'scylladb', scylladb: { nodes: [''] } } }, /scylladb\.nodes/],
    'an endpoint that is no URL': [
      { app_manager: { driver: 'dynamodb' }, database: { dynamodb: { endpoint_url: 'nonsense' } } },
      /dynamodb\.endpoint_url/,
    ],
    'half of a key': [
      { app_manager: { driver: 'dynamodb' }, database: { dynamodb: { aws_access_key_id: 'AKIA' } } },
      /aws_secret_access_key/,
    ],
  };
  for (const [what, [config, message]] of Object.entries(impossible)) {
    test(`a store that can never be opened is an error of check as of a start: ${what}`, async () => {
      for (const command of ['check', 'serve']) {
        const { code, stdout, stderr } = await runCurlew([command], { config: { ...GOOD, ...config } });
        assert.equal(code, 2, stdout + stderr);
        assert.match(stdout + stderr, message);
      }
    });
  }

  test('an unknown key is a warning, and --verbose lists what has no effect', async () => {
    const config = { ...GOOD, colour: 'blue', cache: { memory: { cleanup_interval: 60 } }, websocket: { tempo: 3 } };
    const { code, stdout, stderr } = await runCurlew(['check'], { config });
    assert.equal(code, 0);
    assert.match(stdout + stderr, /warning.*colour/i);
    assert.match(stdout + stderr, /warning.*websocket\.tempo/i);
    assert.doesNotMatch(stdout + stderr, /cleanup_interval/);
    const verbose = await runCurlew(['check', '--verbose'], { config });
    assert.equal(verbose.code, 0);
    assert.match(verbose.stdout + verbose.stderr, /cache\.memory\.cleanup_interval/);
  });

  test('--verbose lists what has no effect, of the file and of the environment, and only that', async () => {
    const app = {
      ...APP,
      allowed_origins: ['https://shop.example'],
      enable_user_authentication: true,
      max_client_events_per_second: 5,
      channel_delta_compression: { 'c-*': 'fossil' },
    };
    const config = {
      ...GOOD,
      user_authentication_timeout: 60,
      delta_compression: { cluster_coordination: true, full_message_interval: 5 },
      app_manager: { array: { apps: [app] } },
    };
    const { code, stdout, stderr } = await runCurlew(['check', '--verbose'], {
      config,
      env: { TAG_FILTERING_ENABLED: 'true', WEBSOCKET_AUTO_PING: 'true' },
    });
    assert.equal(code, 0, stdout + stderr);
    assert.deepEqual((stdout + stderr).match(/(?<=accepted without effect: ).*/g).sort(), [
      'WEBSOCKET_AUTO_PING',
      'delta_compression.cluster_coordination',
    ]);
  });

  test('a bad value in the environment is a warning that names the variable', async () => {
    const { code, stdout, stderr } = await runCurlew(['check'], {
      config: GOOD,
      env: { METRICS_PORT: 'many', SOCKUDO_DEFAULT_APP_ID: 'only-an-id' },
    });
    assert.equal(code, 0);
    assert.match(stdout + stderr, /warning.*\bMETRICS_PORT\b/i);
    assert.match(stdout + stderr, /warning.*SOCKUDO_DEFAULT_APP_KEY/i);
  });

  test('--strict makes a failure of a warning', async () => {
    const known = { ...GOOD, app_manager: { array: { apps: [{ ...APP, secret: 'app-secret' }] } } };
    assert.equal((await runCurlew(['check'], { config: known })).code, 0);
    const { code, stdout } = await runCurlew(['check', '--strict'], { config: known });
    assert.equal(code, 1);
    assert.match(stdout, /^warning: app ".*": its secret is publicly known/);
  });

  test('a wrong port in the environment is an error: starting on another one would be worse', async () => {
    const { code, stdout } = await runCurlew(['check'], { config: GOOD, env: { PORT: 'many' } });
    assert.equal(code, 2);
    assert.equal(stdout, 'error: the environment variable PORT must be a whole number from 0 to 65535\n');
  });

  test('a bad app is named with its field', async () => {
    const config = {
      ...GOOD,
      app_manager: { array: { apps: [APP, { ...APP, id: 'broken', key: 'k', max_connections: 1.5 }] } },
    };
    const { stdout, stderr } = await runCurlew(['check'], { config });
    assert.match(stdout + stderr, /broken.*max_connections/);
  });

  test('the secrets of a configuration are not repeated, whatever is wrong with it', async () => {
    const config = {
      ...GOOD,
      port: 'many',
      database: { mysql: { password: 'mysql-pass-word', port: 'x' } },
      app_manager: { array: { apps: [{ ...APP, secret: 'hush-hush', max_connections: 1.5 }] } },
    };
    const { stdout, stderr } = await runCurlew(['check', '--verbose'], { config });
    assert.doesNotMatch(stdout + stderr, /mysql-pass-word|hush-hush/);
  });
});

describe('serve', () => {
  async function serves(t, args, options) {
    const server = start(t, BINARY, args, { env: { LOG_OUTPUT_FORMAT: 'json', ...options?.env }, cwd: options?.cwd });
    await server.err.next((line) => /"ready"/.test(line));
    const listening = server.err.all.find((line) => /listening on/.test(line)).match(/http:\/\/[\d.:[\]]+:\d+/)[0];
    assert.equal((await get(`${listening}/up`)).body, 'OK');
    server.child.kill('SIGTERM');
    assert.deepEqual(await server.exited(), { code: 0, signal: null });
    return server;
  }

  test('--config alone is serve --config, and -c is --config', async (t) => {
    const file = path.join(folderWith(t, { 'own.json': GOOD }), 'own.json');
    await serves(t, ['--config', file]);
    await serves(t, ['-c', file]);
    await serves(t, ['serve', '-c', file]);
    await serves(t, ['serve', `--config=${file}`]);
  });

  test('the environment comes after the file', async (t) => {
    const file = path.join(folderWith(t, { 'own.json': { ...GOOD, host: '127.0.0.9' } }), 'own.json');
    const server = await serves(t, ['serve', '--config', file], { env: { HOST: '127.0.0.1' } });
    assert.ok(server.err.all.some((line) => /listening on http:\/\/127\.0\.0\.1:/.test(line)));
  });

  test('an IPv6 address is logged as a URL takes it', async (t) => {
    const file = path.join(
      folderWith(t, { 'own.json': { ...GOOD, host: '::1', metrics: { host: '::1', port: 0 } } }),
      'own.json',
    );
    const server = await serves(t, ['serve', '--config', file]);
    for (const what of [/listening on http:\/\/\[::1\]:\d+"/, /metrics on http:\/\/\[::1\]:\d+\/metrics/]) {
      assert.ok(
        server.err.all.some((line) => what.test(line)),
        server.err.all.join('\n'),
      );
    }
  });

  test('an app from the environment works', async (t) => {
    const file = path.join(folderWith(t, { 'own.json': { ...GOOD, app_manager: {} } }), 'own.json');
    const env = {
      SOCKUDO_DEFAULT_APP_ID: 'env',
      SOCKUDO_DEFAULT_APP_KEY: 'env-key',
      SOCKUDO_DEFAULT_APP_SECRET: 'env-secret',
    };
    await serves(t, ['serve', '--config', file], { env });
  });

  test('a bad file stops it before anything is started', async () => {
    const { code, stderr, configFile } = await runCurlew(['serve'], { config: { ...GOOD, port: -1 } });
    assert.equal(code, 2);
    assert.ok(stderr.includes(configFile));
    assert.match(stderr, /\bport\b/);
    assert.doesNotMatch(stderr, /listening on/);
  });

  test('an unknown adapter is an error at start', async () => {
    const { code, stderr } = await runCurlew(['serve'], { config: { ...GOOD, adapter: { driver: 'kafka' } } });
    assert.equal(code, 2);
    assert.match(stderr, /adapter\.driver/);
  });

  for (const [what, key] of [
    ['the port', 'port'],
    ['the port of the metrics', 'metrics'],
  ]) {
    test(`${what} in use is said, with the address`, async (t) => {
      const other = net.createServer();
      t.after(() => other.close());
      other.listen(0, '127.0.0.1');
      await once(other, 'listening');
      const { port } = other.address();
      const config = { ...GOOD, ...(key === 'port' ? { port } : { metrics: { host: '127.0.0.1', port } }) };
      const { code, stderr } = await runCurlew(['serve'], { config });
      assert.ok(code > 0, `exit code ${code}`);
      assert.match(stderr, new RegExp(`127\\.0\\.0\\.1\\D+${port}`));
      assert.match(stderr, /in use/);
      assert.doesNotMatch(stderr, /"ready"/);
    });
  }

  test('the port of another curlew is in use as well', async (t) => {
    const file = path.join(folderWith(t, { 'own.json': GOOD }), 'own.json');
    const first = start(t, BINARY, ['serve', '--config', file], { env: { LOG_OUTPUT_FORMAT: 'json' } });
    await first.err.next((line) => /"ready"/.test(line));
    const port = Number(first.err.all.find((line) => /listening on/.test(line)).match(/127\.0\.0\.1:(\d+)/)[1]);
    const { code, stderr } = await runCurlew(['serve'], { config: { ...GOOD, port } });
    assert.ok(code > 0, `exit code ${code}`);
    assert.match(stderr, /in use/);
  });

  test('with no app at all it starts in production and says how to add one', async (t) => {
    const file = path.join(folderWith(t, { 'own.json': { ...GOOD, mode: 'production', app_manager: {} } }), 'own.json');
    const server = start(t, BINARY, ['serve', '--config', file], { env: { LOG_OUTPUT_FORMAT: 'json' } });
    await server.err.next((line) => /"ready"/.test(line));
    assert.ok(
      server.err.all.some((line) => /app_manager\.array\.apps|SOCKUDO_DEFAULT_APP_ID/.test(line)),
      server.err.all.join('\n'),
    );
  });

  test('with no file and no app at all it has a demo app in development, and warns', async (t) => {
    const env = { ENVIRONMENT: 'development', HOST: '127.0.0.1', PORT: '0', METRICS_PORT: '0' };
    const server = await serves(t, ['serve'], { cwd: folderWith(t), env });
    const warning = server.err.all.find((line) => /app-key/.test(line));
    assert.equal(JSON.parse(warning).level.toLowerCase().startsWith('warn'), true, warning);
    assert.doesNotMatch(server.err.all.join('\n'), /app-secret/);
  });
});
