// `curlew apps`: one app at a time, in a store of its own.

import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';

import { ADMIN_TOKEN, EVERY_FIELD, adminServer, apps, appsDone, sqliteConfig } from '../lib/apps-command.js';
import { folderWith } from '../lib/process.js';

const AN_APP = ['--id', 'a', '--key', 'a-key', '--secret', 'a-secret'];

async function storeWithAnApp(t, ...more) {
  const config = sqliteConfig(t);
  await appsDone(t, ['create', '-c', config, ...AN_APP, ...more]);
  return config;
}

describe('create', () => {
  test('without anything makes id, key and secret, prints them once, and they are good ones', async (t) => {
    const config = sqliteConfig(t);
    const first = await appsDone(t, ['create', '-c', config, '--json']);
    const second = await appsDone(t, ['create', '-c', config, '--json']);
    for (const app of [first, second]) {
      assert.match(app.id, /^[1-9][0-9]{9}$/);
      assert.match(app.key, /^[0-9a-f]{32}$/);
      assert.match(app.secret, /^[0-9a-f]{64}$/);
    }
    for (const field of ['id', 'key', 'secret']) assert.notEqual(first[field], second[field]);
    const shown = await appsDone(t, ['show', first.id, '-c', config, '--json', '--show-secrets']);
    assert.equal(shown.secret, first.secret);
  });

  test('prints what it made for people, too', async (t) => {
    const config = sqliteConfig(t);
    const text = await appsDone(t, ['create', '-c', config, '--id', 'mine']);
    assert.match(text, /^created app mine\nkey +[0-9a-f]{32}\nsecret +[0-9a-f]{64}\n$/);
  });

  test('takes every field, and what is not set stays unset', async (t) => {
    const config = sqliteConfig(t);
    const { id, key, secret, ...rest } = EVERY_FIELD;
    const sets = Object.entries(rest).flatMap(([name, value]) => [
      '--set',
      `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
    ]);
    await appsDone(t, ['create', '-c', config, '--id', id, '--key', key, '--secret', secret, ...sets]);
    assert.deepEqual(await appsDone(t, ['show', id, '-c', config, '--json', '--show-secrets']), EVERY_FIELD);
    await appsDone(t, ['create', '-c', config, ...AN_APP]);
    const bare = await appsDone(t, ['show', 'a', '-c', config, '--json']);
    for (const name of ['max_event_batch_size', 'enable_user_authentication', 'webhooks', 'allowed_origins']) {
      assert.equal(name in bare, false, name);
    }
  });

  test('reads the secret from standard input', async (t) => {
    const config = sqliteConfig(t);
    const said = await appsDone(t, ['create', '-c', config, '--id', 'a', '--key', 'k', '--secret', '-'], {
      input: 'from outside\nsecond line\n',
    });
    assert.doesNotMatch(said, /from outside/);
    const app = await appsDone(t, ['show', 'a', '-c', config, '--json', '--show-secrets']);
    assert.equal(app.secret, 'from outside');
  });

  test('says which of id and key is taken, and by whom', async (t) => {
    const config = await storeWithAnApp(t);
    const sameId = await apps(t, ['create', '-c', config, '--id', 'a', '--key', 'other']);
    assert.equal(sameId.code, 1);
    assert.match(sameId.stderr, /app "a" was not created: .*\bid a\b/);
    const sameKey = await apps(t, ['create', '-c', config, '--id', 'b', '--key', 'a-key']);
    assert.equal(sameKey.code, 1);
    assert.match(sameKey.stderr, /app "b" was not created: .*\bkey\b.*\ba\b/);
    assert.equal((await appsDone(t, ['list', '-c', config, '--json'])).apps.length, 1);
  });
});

test('-1 is no limit', async (t) => {
  const config = await storeWithAnApp(t);
  await appsDone(t, ['update', 'a', '-c', config, '--set', 'max_connections=-1', '--set', 'max_event_batch_size=-1']);
  const { max_connections, max_event_batch_size } = await appsDone(t, ['show', 'a', '-c', config, '--json']);
  assert.deepEqual([max_connections, max_event_batch_size], [0, 0]);
});

describe('a value that breaks a rule is refused with the name of its field, and nothing is written', () => {
  const refusals = {
    'max_connections=-2': 'max_connections must be a whole number from 0 to 4294967295 (0: no limit)',
    'max_connections=1.5': 'max_connections must be a whole number from 0 to 4294967295 (0: no limit)',
    'max_event_batch_size=4294967296': 'max_event_batch_size must be a whole number from 0 to 4294967295 (0: no limit)',
    'enabled=yes': 'enabled must be true or false',
    'enable_watchlist_events=1': 'enable_watchlist_events must be true or false',
    'allowed_origins="*"': 'allowed_origins must be a list of texts',
    'allowed_origins=[""]': 'allowed_origins[0] is empty; use * to allow every origin',
    'key=a/b': 'key must have 1 to 255 bytes of printable ASCII without / ? # % and blanks',
    'secret=': 'secret must have 1 to 255 bytes of printable ASCII',
  };
  for (const [assignment, text] of Object.entries(refusals)) {
    test(assignment, async (t) => {
      const config = await storeWithAnApp(t);
      const before = await appsDone(t, ['export', '-c', config]);
      for (const args of [
        ['update', 'a'],
        ['create', '--id', 'b'],
      ]) {
        const { code, stderr, stdout } = await apps(t, [...args, '-c', config, '--set', assignment]);
        assert.equal(code, 1);
        assert.equal(stdout, '');
        assert.equal(stderr, `curlew: app "${args.at(-1)}": ${text}\n`);
      }
      assert.equal(await appsDone(t, ['export', '-c', config]), before);
    });
  }

  test('of each field there is', async (t) => {
    const config = await storeWithAnApp(t);
    const before = await appsDone(t, ['export', '-c', config]);
    const bad = {
      id: 'a/b',
      key: 'k '.repeat(200),
      secret: 's'.repeat(256),
      previous_secret: 's'.repeat(256),
      allowed_origins: '[7]',
      webhooks: '[{"url":"nowhere"}]',
      channel_delta_compression: '{"x":"zip"}',
    };
    for (const name of Object.keys(EVERY_FIELD)) {
      const { code, stdout, stderr } = await apps(t, [
        'create',
        '-c',
        config,
        '--id',
        'b',
        '--set',
        `${name}=${bad[name] ?? 'minus one'}`,
      ]);
      assert.deepEqual([code, stdout], [1, ''], name);
      assert.match(stderr, new RegExp(`^curlew: app "(b|a/b)": ${name}\\b`));
    }
    assert.equal(await appsDone(t, ['export', '-c', config]), before);
  });

  test('as JSON as well', async (t) => {
    const config = await storeWithAnApp(t);
    const { code, stderr } = await apps(t, ['update', 'a', '-c', config, '--set', 'enabled=2', '--json']);
    assert.equal(code, 1);
    assert.deepEqual(JSON.parse(stderr), { error: 'app "a": enabled must be true or false' });
  });
});

describe('update', () => {
  test('changes and unsets what is named, in that order, and nothing else', async (t) => {
    const config = await storeWithAnApp(t, '--set', 'max_event_batch_size=3', '--set', 'webhooks=[]');
    const before = await appsDone(t, ['show', 'a', '-c', config, '--json', '--show-secrets']);
    await appsDone(t, [
      'update',
      'a',
      '-c',
      config,
      '--set',
      'max_event_name_length=0',
      '--unset',
      'webhooks',
      '--set',
      'key=new-key',
    ]);
    const { webhooks, ...rest } = before;
    assert.deepEqual(webhooks, []);
    const now = await appsDone(t, ['show', '--key', 'new-key', '-c', config, '--json', '--show-secrets']);
    assert.deepEqual(now, { ...rest, key: 'new-key', max_event_name_length: 0 });
    assert.equal((await apps(t, ['show', '--key', 'a-key', '-c', config])).code, 1);
  });

  test('the id cannot be changed, an app that is not there neither', async (t) => {
    const config = await storeWithAnApp(t);
    assert.match((await apps(t, ['update', 'a', '-c', config, '--set', 'id=b'])).stderr, /id cannot be changed/);
    assert.match(
      (await apps(t, ['update', 'b', '-c', config, '--set', 'enabled=true'])).stderr,
      /no app with the id b/,
    );
  });

  test('enable, disable, rotate-secret and delete do what they say', async (t) => {
    const config = await storeWithAnApp(t);
    const show = () => appsDone(t, ['show', 'a', '-c', config, '--json', '--show-secrets']);
    assert.equal(await appsDone(t, ['disable', 'a', '-c', config]), 'disabled app a\n');
    assert.equal((await show()).enabled, false);
    assert.equal(await appsDone(t, ['enable', 'a', '-c', config]), 'enabled app a\n');
    assert.equal((await show()).enabled, true);
    const { secret } = await appsDone(t, ['rotate-secret', 'a', '-c', config, '--json']);
    assert.match(secret, /^[0-9a-f]{64}$/);
    assert.equal((await show()).secret, secret);
    assert.equal(await appsDone(t, ['delete', 'a', '-c', config]), 'deleted app a\n');
    const again = await apps(t, ['delete', 'a', '-c', config]);
    assert.deepEqual([again.code, again.stderr], [1, 'curlew: there is no app with the id a\n']);
  });
});

describe('secrets', () => {
  test('are hidden unless --show-secrets', async (t) => {
    const config = await storeWithAnApp(t);
    for (const command of [['list'], ['show', 'a'], ['update', 'a', '--set', 'enabled=true']]) {
      for (const more of [[], ['--json']]) {
        assert.doesNotMatch(await appsDone(t, [...command, '-c', config, ...more]).then(String), /a-secret/);
        assert.doesNotMatch(JSON.stringify(await appsDone(t, [...command, '-c', config, ...more])), /a-secret/);
      }
    }
    for (const command of [['list'], ['show', 'a']]) {
      assert.match(await appsDone(t, [...command, '-c', config, '--show-secrets']), /a-secret/);
    }
  });
});

describe('the memory driver', () => {
  const config = {
    app_manager: {
      array: {
        apps: [
          { id: 'm', key: 'mk', secret: 'ms' },
          { id: 'bad', key: 'k', secret: 's', enabled: 3 },
        ],
      },
    },
  };

  test('is read: broken records are reported, the others listed, and the exit code is 1', async (t) => {
    const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
    const { code, stdout, stderr } = await apps(t, ['list', '--json', '-c', file]);
    assert.equal(code, 1);
    assert.deepEqual(JSON.parse(stdout), { apps: [{ id: 'm', key: 'mk' }] });
    assert.match(stderr, /app \\"bad\\": enabled must be true or false/);
  });

  test('is not written: it would keep nothing, and the file is named where its apps stand', async (t) => {
    const file = path.join(folderWith(t, { 'config.json': config }), 'config.json');
    for (const args of [['create'], ['update', 'm', '--set', 'enabled=true'], ['delete', 'm'], ['import', '-']]) {
      const { code, stderr } = await apps(t, [...args, '-c', file], { input: '{"apps":[]}' });
      assert.equal(code, 2);
      assert.match(
        stderr,
        /app_manager\.driver is "memory", which stores nothing.*app_manager\.array\.apps of .*config\.json/,
      );
    }
  });
});

describe('a command line that makes no sense has exit code 2 and says where to read on', () => {
  const lines = {
    'no command': [[], /a command must follow/],
    'an unknown command': [['lst'], /unknown command: apps lst/],
    'an unknown option': [['list', '--jsn'], /unknown option: --jsn/],
    'an option of another command': [['list', '--set', 'a=b'], /unknown option: --set/],
    'an argument too many': [['update', 'a', 'b'], /unexpected argument: b/],
    'a value missing': [['create', '--id'], /a value must follow --id/],
    'no id': [['delete'], /the id of an app must be named/],
    'no file': [['import'], /a file must be named/],
    'an unknown field': [['create', '--set', 'colour=blue'], /colour is not a field of an app/],
    'no assignment': [['create', '--set', 'enabled'], /FIELD=VALUE must follow --set/],
    'no field': [['create', '--set', '=blue'], /FIELD=VALUE must follow --set, not =blue/],
    'no JSON': [['create', '--set', 'webhooks={'], /webhooks must be JSON, such as '\[\{"url":/],
    'a word for a list': [
      ['create', '--set', 'allowed_origins=https://a.example https://b.example'],
      /allowed_origins must be JSON, such as '\["https:\/\/a\.example"\]': /,
    ],
    'a value for a flag': [['list', '--json=1'], /--json takes no value/],
  };
  for (const [what, [args, text]] of Object.entries(lines)) {
    test(what, async (t) => {
      const { code, stdout, stderr } = await apps(t, args);
      assert.equal(code, 2, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, text);
      if (what !== 'a value for a flag') assert.match(stderr, /--help/);
    });
  }

  test('--help of each command', async (t) => {
    const names = [...(await appsDone(t, ['--help'])).matchAll(/^ {2}(\S+) /gm)].map((match) => match[1]);
    assert.deepEqual(names, [
      'list',
      'show',
      'create',
      'update',
      'delete',
      'enable',
      'disable',
      'confirm-removal',
      'rotate-secret',
      'test-webhook',
      'encrypt-secrets',
      'import',
      'export',
      'copy',
    ]);
    for (const name of names) {
      const text = await appsDone(t, [name, '--help']);
      assert.match(text, new RegExp(`^usage: curlew apps ${name}\\b`));
      assert.match(text, /Exit code: 0/);
    }
  });
});

describe('a server that CURLEW_ADMIN_URL names', () => {
  test('is told of each change, after it is made', async (t) => {
    const { requests, env } = await adminServer(t);
    const config = sqliteConfig(t);
    await appsDone(t, ['create', '-c', config, ...AN_APP], { env });
    await appsDone(t, ['disable', 'a', '-c', config], { env });
    await appsDone(t, ['delete', 'a', '-c', config], { env });
    await appsDone(t, ['list', '-c', config], { env });
    assert.deepEqual(requests, Array(3).fill(`POST /admin/apps/a/refresh Bearer ${ADMIN_TOKEN}`));
  });

  const WARNING = (i) =>
    new RegExp(
      `the change of app ${i} is in the store, but CURLEW_ADMIN_URL \\(http://127\\.0\\.0\\.1:\\d+\\) was not told: `,
    );
  const three = { input: JSON.stringify({ apps: ['a', 'b', 'c'].map((id) => ({ id, key: id, secret: 's' })) }) };

  test('and refuses the token is asked once; the store is written, and the last line counts', async (t) => {
    const { requests, env } = await adminServer(t, (response) => response.writeHead(401).end());
    const config = sqliteConfig(t);
    const { code, stderr } = await apps(t, ['import', '-', '-c', config], { ...three, env });
    assert.equal(code, 0, stderr);
    assert.equal(requests.length, 1);
    const lines = stderr.trimEnd().split('\n');
    assert.equal(lines.length, 2, stderr);
    assert.match(lines[0], WARNING('a'));
    assert.match(lines[0], /HTTP 401: look at CURLEW_ADMIN_TOKEN/);
    assert.match(lines[1], /was not told of 3 changes/);
    assert.ok(!stderr.includes(ADMIN_TOKEN));
    assert.equal((await appsDone(t, ['list', '-c', config, '--json'])).apps.length, 3);
  });

  test('and cannot be reached is asked once', async (t) => {
    const { requests, env } = await adminServer(t, (response) => response.destroy());
    const { code, stderr } = await apps(t, ['import', '-', '-c', sqliteConfig(t)], { ...three, env });
    assert.equal(code, 0, stderr);
    assert.deepEqual(requests, [`POST /admin/apps/a/refresh Bearer ${ADMIN_TOKEN}`]);
    assert.match(stderr, WARNING('a'));
    assert.match(stderr, /was not told of 3 changes/);
  });

  test('and does not take one change is told of the others', async (t) => {
    const { requests, env } = await adminServer(t, (response, count) =>
      response.writeHead(count === 1 ? 404 : 200).end(),
    );
    const { code, stderr } = await apps(t, ['import', '-', '-c', sqliteConfig(t)], { ...three, env });
    assert.equal(code, 0, stderr);
    assert.equal(requests.length, 3);
    const lines = stderr.trimEnd().split('\n');
    assert.equal(lines.length, 1, stderr);
    assert.match(lines[0], WARNING('a'));
    assert.match(lines[0], /HTTP 404$/);
  });

  test('on this machine is asked directly, whatever the proxy variables say', async (t) => {
    const proxy = await adminServer(t);
    const { requests, env } = await adminServer(t);
    const variables = Object.fromEntries(
      ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'ALL_PROXY', 'all_proxy'].map((name) => [
        name,
        proxy.env.CURLEW_ADMIN_URL,
      ]),
    );
    await appsDone(t, ['create', '-c', sqliteConfig(t), ...AN_APP], { env: { ...variables, ...env } });
    assert.deepEqual(proxy.requests, []);
    assert.equal(requests.length, 1);
  });

  test('an address with a password, or without a token, is refused before anything is sent, and without the password', async (t) => {
    const { requests, env } = await adminServer(t);
    const withPassword = env.CURLEW_ADMIN_URL.replace('//', '//user:hush-hush@');
    for (const [more, text] of [
      [{ CURLEW_ADMIN_URL: withPassword }, /CURLEW_ADMIN_URL must be a URL .*without user and password/],
      [{ CURLEW_ADMIN_URL: 'ftp://127.0.0.1/hush-hush' }, /CURLEW_ADMIN_URL must be a URL of http or https/],
      [{ CURLEW_ADMIN_TOKEN: '' }, /no CURLEW_ADMIN_TOKEN; the server is not told/],
    ]) {
      const { code, stderr } = await apps(t, ['create', '-c', sqliteConfig(t), ...AN_APP], {
        env: { ...env, ...more },
      });
      assert.equal(code, 0);
      assert.match(stderr, text);
      assert.doesNotMatch(stderr, /hush/);
    }
    assert.deepEqual(requests, []);
  });
});

describe('several ids', () => {
  const withThree = async (t) => {
    const config = sqliteConfig(t);
    const list = ['a', 'b', 'c'].map((id) => ({ id, key: `${id}-key`, secret: 's' }));
    await appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: list }) });
    return config;
  };

  test('disable, enable, show and delete take them, and do the others if one fails', async (t) => {
    const config = await withThree(t);
    const run = (...args) => apps(t, [...args, '-c', config]);
    assert.equal((await run('disable', 'a', 'c')).stdout, 'disabled app a\ndisabled app c\n');
    const shown = await run('show', 'a', 'nobody', 'b');
    assert.equal(shown.code, 1);
    assert.equal(shown.stderr, 'curlew: there is no app with the id nobody\n');
    assert.match(shown.stdout, /^id +a\n[^]*^enabled +false\n[^]*\n\nid +b\n[^]*^enabled +true\n/m);
    assert.equal((await run('enable', 'a', 'c')).code, 0);
    const deleted = await run('delete', 'c', 'nobody', 'a');
    assert.equal(deleted.code, 1);
    assert.equal(deleted.stdout, 'deleted app c\ndeleted app a\n');
    assert.equal(deleted.stderr, 'curlew: there is no app with the id nobody\n');
    const left = (await appsDone(t, ['list', '-c', config, '--json'])).apps;
    assert.deepEqual(
      left.map(({ id, enabled }) => [id, enabled]),
      [['b', true]],
    );
  });

  test('with --json each gives an object of its own', async (t) => {
    const config = await withThree(t);
    const { stdout } = await apps(t, ['disable', 'a', 'b', '--json', '-c', config]);
    const objects = JSON.parse(`[${stdout.replaceAll('}\n{', '},{')}]`);
    assert.deepEqual(
      objects.map(({ id, enabled }) => [id, enabled]),
      [
        ['a', false],
        ['b', false],
      ],
    );
  });
});

describe('list', () => {
  const APPS = [
    { id: 'shop-1', key: 'k1', secret: 's', max_connections: 0, allowed_origins: ['https://a.example'] },
    { id: 'shop-2', key: 'k2', secret: 's', max_connections: 7, enabled: false },
    { id: 'blog', key: 'my-SHOP-key', secret: 's' }, // 100 connections by default
  ];
  const withApps = async (t) => {
    const config = sqliteConfig(t);
    await appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: APPS }) });
    return (...args) => appsDone(t, ['list', '-c', config, ...args]);
  };

  test('shows no limit as such, and the columns that are named', async (t) => {
    const list = await withApps(t);
    assert.deepEqual((await list()).split('\n'), [
      'ID      KEY          SECRET    ENABLED  MAX CONNECTIONS',
      'blog    my-SHOP-key  ********  yes      100',
      'shop-1  k1           ********  yes      no limit',
      'shop-2  k2           ********  no       7',
      '',
    ]);
    assert.deepEqual((await list('--columns', 'max_connections,id,allowed_origins')).split('\n'), [
      'MAX CONNECTIONS  ID      ALLOWED ORIGINS',
      '100              blog    -',
      'no limit         shop-1  ["https://a.example"]',
      '7                shop-2  -',
      '',
    ]);
    assert.deepEqual((await list('--json', '--columns', 'id,secret,max_connections')).apps, [
      { id: 'blog', max_connections: 100 },
      { id: 'shop-1', max_connections: 0 },
      { id: 'shop-2', max_connections: 7 },
    ]);
  });

  const ids = {
    'a text in id or key, in any case': [
      ['--filter', 'shop'],
      ['blog', 'shop-1', 'shop-2'],
    ],
    'a value': [['--filter', 'enabled=false'], ['shop-2']],
    'a default value': [['--filter', 'max_connections=100'], ['blog']],
    'a value that none has': [['--filter', 'id=shop'], []],
    'an order by numbers, no limit being the largest': [
      ['--sort', 'max_connections'],
      ['shop-2', 'blog', 'shop-1'],
    ],
    'the other way round': [
      ['--sort', '-max_connections'],
      ['shop-1', 'blog', 'shop-2'],
    ],
    'an order by a flag, then by id': [
      ['--sort', '-enabled'],
      ['blog', 'shop-1', 'shop-2'],
    ],
    'the first of an order': [
      ['--sort', 'key', '--limit', '2'],
      ['shop-1', 'shop-2'],
    ],
    'all of them together': [['--filter', 'enabled=true', '--sort=-id', '--limit=1'], ['shop-1']],
  };
  for (const [what, [args, expected]] of Object.entries(ids)) {
    test(`takes ${what}`, async (t) => {
      const list = await withApps(t);
      assert.deepEqual(
        (await list('--json', ...args)).apps.map(({ id }) => id),
        expected,
      );
    });
  }

  test('refuses what makes no sense', async (t) => {
    for (const [args, text] of [
      [['--limit', '0'], /--limit must be a whole number above 0, not 0/],
      [['--sort', 'max_conections'], /--sort: max_conections is not a field of an app; did you mean max_connections\?/],
      [['--columns', 'id,,key'], /--columns: {2}is not a field of an app/],
      [['--filter', 'colour=red'], /--filter: colour is not a field of an app; `curlew apps show ID` lists them/],
    ]) {
      const { code, stdout, stderr } = await apps(t, ['list', '-c', sqliteConfig(t), ...args]);
      assert.deepEqual([code, stdout], [2, ''], stderr);
      assert.match(stderr, text);
    }
  });
});

test('show says of a limit of 0 that it is none', async (t) => {
  const config = await storeWithAnApp(t, '--set', 'max_connections=0');
  assert.match(await appsDone(t, ['show', 'a', '-c', config]), /^max_connections +0 \(no limit\)$/m);
});
