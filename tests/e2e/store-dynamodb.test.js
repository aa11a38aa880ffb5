// Apps in DynamoDB: the table and its index, items as others write them, and a DynamoDB that throttles, fails and
// forbids.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { refusesBadAfter } from '../lib/admin-list.js';
import { api, get } from '../lib/api.js';
import { EVERY_FIELD, NONE, apps, appsDone, counts, startApps } from '../lib/apps-command.js';
import { makeCertificates } from '../lib/backends/certificates.js';
import { freePorts } from '../lib/backends/daemon.js';
import { connect } from '../lib/client.js';
import { INDEX, WITHOUT_INDEX, exception, operationOf, sharedDynamoDb } from '../lib/dynamodb.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { lead } from '../lib/middle.js';
import { folderWith } from '../lib/process.js';
import { RawWebSocket } from '../lib/raw-websocket.js';
import { runCurlew, serverFor } from '../lib/server.js';
import { neverStarts, servesWithout } from '../lib/wrong-settings.js';

const database = await sharedDynamoDb();
const AN_APP = ['--id', 'a', '--key', 'a-key', '--secret', 'a-secret'];
const ITEM = { id: { S: 'a' }, key: { S: 'a-key' }, secret: { S: 'a-secret' } };

const create = (t, { file }, ...more) => appsDone(t, ['create', '-c', file, ...AN_APP, ...more]);
const show = (t, { file }, id = 'a', options = {}) =>
  appsDone(t, ['show', id, '-c', file, '--json', '--show-secrets'], options);

async function refused(server, key, code) {
  const ws = await RawWebSocket.connect(server, { key });
  assert.equal((await ws.expect('pusher:error')).data.code, code);
  ws.destroy();
}

async function connectAs(server, t, id, key = 'a-key') {
  const app = { id, key, secret: 'a-secret' };
  const ws = await connect(server, { t, app });
  ws.destroy();
  return api(server, 'GET', '/channels', { app });
}

describe('the table', () => {
  test('is created, with an index on key and billed on demand', async (t) => {
    const place = database.place(t);
    const server = await serverFor(t, { config: place.config });
    await create(t, place);
    assert.equal((await connectAs(server, t, 'a')).status, 200);
    const table = await database.describe(place.table);
    assert.equal(table.BillingModeSummary.BillingMode, 'PAY_PER_REQUEST');
    assert.deepEqual(table.KeySchema, [{ AttributeName: 'id', KeyType: 'HASH' }]);
    const [index] = table.GlobalSecondaryIndexes;
    assert.deepEqual(
      [index.IndexName, index.KeySchema, index.Projection],
      [INDEX, [{ AttributeName: 'key', KeyType: 'HASH' }], { ProjectionType: 'ALL' }],
    );
  });

  test('is not listed after what cannot be an id', async (t) => refusesBadAfter(t, database.place(t).config));

  test('is created once by servers that start together', async (t) => {
    const place = database.place(t);
    const servers = await Promise.all(Array.from({ length: 3 }, () => serverFor(t, { config: place.config })));
    await create(t, place);
    for (const server of servers) assert.equal((await connectAs(server, t, 'a')).status, 200);
  });

  test('without an index gets one, and keys are found before it is ready', async (t) => {
    let ready = false;
    const place = await database.placeBehind(t, async (request, forward) => {
      if (operationOf(request) === 'Query') assert.ok(ready, 'the index was asked before it was ready');
      if (operationOf(request) !== 'DescribeTable') return undefined;
      const { body, ...rest } = await forward();
      const described = JSON.parse(body);
      for (const index of described.Table?.GlobalSecondaryIndexes ?? [])
        index.IndexStatus = ready ? 'ACTIVE' : 'CREATING';
      return { ...rest, body: described };
    });
    await database.createTable(place.table, WITHOUT_INDEX);
    await database.put(place.table, ITEM);
    const server = await serverFor(t, {
      config: { ...place.config, app_manager: { ...place.config.app_manager, cache: { enabled: false } } },
    });
    assert.equal((await connectAs(server, t, 'a')).status, 200);
    assert.equal((await database.describe(place.table)).GlobalSecondaryIndexes[0].IndexName, INDEX);
    assert.ok(place.stub.requests.all.some((request) => operationOf(request) === 'Scan'));
    ready = true;
    const asked = place.stub.requests.next((request) => operationOf(request) === 'Query');
    const done = asked.then(
      () => true,
      () => true,
    );
    while ((await Promise.race([done, connectAs(server, t, 'a').then(() => false)])) === false);
    await asked;
  });

  test('with capacity paid in advance gives the index as much', async (t) => {
    const place = database.place(t);
    await database.createTable(place.table, {
      ...WITHOUT_INDEX,
      BillingMode: 'PROVISIONED',
      ProvisionedThroughput: { ReadCapacityUnits: 7, WriteCapacityUnits: 3 },
    });
    await create(t, place);
    const { ReadCapacityUnits, WriteCapacityUnits } = (await database.describe(place.table)).GlobalSecondaryIndexes[0]
      .ProvisionedThroughput;
    assert.deepEqual([ReadCapacityUnits, WriteCapacityUnits], [7, 3]);
  });

  test('of another shape is refused by name', async (t) => {
    const place = database.place(t);
    await database.createTable(place.table, {
      KeySchema: [{ AttributeName: 'name', KeyType: 'HASH' }],
      AttributeDefinitions: [{ AttributeName: 'name', AttributeType: 'S' }],
    });
    const { code, stderr } = await apps(t, ['list', '-c', place.file]);
    assert.notEqual(code, 0);
    assert.match(stderr, new RegExp(`table ${place.table} .*partition key id`));
  });

  test('need not be looked at: without the right to, the index is asked and failing that the table', async (t) => {
    const denied = ['DescribeTable', 'Query'];
    const place = await database.placeBehind(t, (request) => {
      if (!denied.includes(operationOf(request))) return undefined;
      return exception(operationOf(request) === 'Query' ? 'ValidationException' : 'AccessDeniedException');
    });
    await database.createTable(place.table);
    await database.put(place.table, ITEM);
    const server = await serverFor(t, { config: place.config });
    await server.waitForLog(/assumed to exist/);
    assert.equal((await connectAs(server, t, 'a')).status, 200);
  });

  test('that is missing and may not be created is named', async (t) => {
    const place = await database.placeBehind(t, (request) =>
      operationOf(request) === 'CreateTable' ? exception('AccessDeniedException') : undefined,
    );
    const { code, stderr } = await apps(t, ['create', '-c', place.file]);
    assert.notEqual(code, 0);
    assert.match(stderr, new RegExp(`no table ${place.table} and it cannot be created.*AccessDeniedException`));
  });
});

describe('items', () => {
  test('have the types of the protocol family', async (t) => {
    const place = database.place(t);
    const { id, key, secret, ...rest } = EVERY_FIELD;
    await appsDone(t, [
      'create',
      '-c',
      place.file,
      '--id',
      id,
      '--key',
      key,
      '--secret',
      secret,
      ...Object.entries(rest).flatMap(([name, value]) => [
        '--set',
        `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
      ]),
    ]);
    const item = await database.get(place.table, id);
    assert.match(item.created_at.S, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/);
    assert.deepEqual(item.updated_at, item.created_at);
    assert.deepEqual(item.allowed_origins, { L: EVERY_FIELD.allowed_origins.map((S) => ({ S })) });
    assert.deepEqual(JSON.parse(item.webhooks.S), EVERY_FIELD.webhooks);
    assert.deepEqual(JSON.parse(item.channel_delta_compression.S), EVERY_FIELD.channel_delta_compression);
    for (const [name, value] of Object.entries(EVERY_FIELD)) {
      if (typeof value === 'number') assert.deepEqual(item[name], { N: String(value) }, name);
      if (typeof value === 'boolean') assert.deepEqual(item[name], { BOOL: value }, name);
      if (typeof value === 'string') assert.deepEqual(item[name], { S: value }, name);
    }
    assert.deepEqual(await show(t, place, id), EVERY_FIELD);
  });

  test('are read as others write them', async (t) => {
    const place = database.place(t);
    const webhook = { url: 'https://a.example/hook', event_types: ['member_added'], headers: { 'X-A': 'b' } };
    await database.createTable(place.table);
    await database.put(place.table, {
      ...ITEM,
      max_connections: { S: '7' },
      enabled: { N: '0' },
      enable_client_messages: { S: 'true' },
      max_event_batch_size: { NULL: true },
      enable_watchlist_events: { NULL: true },
      allowed_origins: { SS: ['https://a.example'] },
      webhooks: {
        L: [
          {
            M: {
              url: { S: webhook.url },
              event_types: { L: [{ S: 'member_added' }] },
              headers: { M: { 'X-A': { S: 'b' } } },
            },
          },
        ],
      },
      channel_delta_compression: {
        M: { 'x-*': { S: 'fossil' }, y: { M: { enabled: { BOOL: true }, max_messages_per_key: { N: '3' } } } },
      },
    });
    const app = await show(t, place);
    assert.deepEqual([app.max_connections, app.enabled, app.enable_client_messages], [7, false, true]);
    assert.equal('max_event_batch_size' in app || 'enable_watchlist_events' in app, false);
    assert.deepEqual(app.allowed_origins, ['https://a.example']);
    assert.deepEqual(app.webhooks, [webhook]);
    assert.deepEqual(app.channel_delta_compression, { 'x-*': 'fossil', y: { enabled: true, max_messages_per_key: 3 } });
    await database.put(place.table, { ...ITEM, allowed_origins: { S: '["b.example"]' }, webhooks: { S: '' } });
    assert.deepEqual((await show(t, place)).allowed_origins, ['b.example']);
  });

  test('that lack what every app has take the defaults', async (t) => {
    const place = database.place(t);
    await database.createTable(place.table);
    await database.put(place.table, ITEM);
    const server = await serverFor(t, { config: place.config });
    assert.equal((await connectAs(server, t, 'a')).status, 200);
  });

  test('that are broken are named, and hide no other', async (t) => {
    const place = database.place(t);
    await database.createTable(place.table);
    await database.put(place.table, {
      ...ITEM,
      id: { S: 'broken' },
      key: { S: 'broken-key' },
      max_connections: { N: '1.5' },
    });
    await database.put(place.table, ITEM);
    const { stdout, stderr } = await apps(t, ['list', '-c', place.file, '--json']);
    assert.match(stdout, /"a-key"/);
    assert.match(stdout + stderr, /broken.*max_connections/s);
  });

  test('keep through an update what is not known, and lose what is not set any more', async (t) => {
    const place = database.place(t);
    await create(t, place, '--set', 'max_event_batch_size=5');
    const before = await database.get(place.table, 'a');
    await database.put(place.table, {
      ...before,
      from_the_future: { M: { deep: { N: '1' } } },
      max_channel_name_length: { N: '9' },
    });
    await appsDone(t, [
      'update',
      'a',
      '-c',
      place.file,
      '--set',
      'max_connections=3',
      '--unset',
      'max_event_batch_size',
    ]);
    const after = await database.get(place.table, 'a');
    assert.deepEqual(after.from_the_future, { M: { deep: { N: '1' } } });
    assert.deepEqual(
      [after.max_connections, after.max_channel_name_length, after.max_event_batch_size],
      [{ N: '3' }, { N: '9' }, undefined],
    );
    assert.deepEqual(after.created_at, before.created_at);
    assert.notDeepEqual(after.updated_at, before.updated_at);
  });

  test('with one key: the older app answers, and both are named', async (t) => {
    const place = database.place(t);
    await database.createTable(place.table);
    await database.put(place.table, { ...ITEM, id: { S: 'a' }, created_at: { S: '2026-02-01T00:00:00Z' } });
    await database.put(place.table, { ...ITEM, id: { S: 'b' }, created_at: { S: '2026-01-01T00:00:00Z' } });
    await database.put(place.table, { ...ITEM, id: { S: 'y' }, key: { S: 'other' } });
    await database.put(place.table, {
      ...ITEM,
      id: { S: 'x' },
      key: { S: 'other' },
      created_at: { S: '2026-01-01T00:00:00Z' },
    });
    const server = await serverFor(t, { config: place.config });
    await connectAs(server, t, 'b');
    await server.waitForLog(/apps b and a have the same key/);
    await connectAs(server, t, 'x', 'other');
    await server.waitForLog(/apps x and y have the same key/);
  });

  test('that the index still names under an old key are not found by it', async (t) => {
    const place = await database.placeBehind(t, (request) =>
      operationOf(request) === 'Query'
        ? { body: { Items: [{ id: { S: 'a' } }, { id: { S: 'gone' } }], Count: 2 } }
        : undefined,
    );
    const server = await serverFor(t, { config: place.config });
    await create(t, place);
    const { code } = await apps(t, ['create', '-c', place.file, '--id', 'b', '--key', 'b-key', '--secret', 's']);
    assert.equal(code, 0);
    assert.equal((await connectAs(server, t, 'a')).status, 200);
  });

  test('larger than DynamoDB takes are refused', async (t) => {
    const place = database.place(t);
    const origins = Array.from({ length: 30_000 }, (_, i) => `https://host-${i}.example`);
    const record = { id: 'a', key: 'a-key', secret: 's', allowed_origins: origins };
    const { code, stderr } = await apps(t, ['import', '-', '-c', place.file], {
      input: JSON.stringify({ apps: [record] }),
    });
    assert.notEqual(code, 0);
    assert.match(stderr, /ValidationException/);
  });
});

describe('a DynamoDB that', () => {
  test('throttles and fails is asked again', async (t) => {
    const answers = [
      exception('ProvisionedThroughputExceededException'),
      exception('ThrottlingException'),
      exception('RequestLimitExceeded'),
      exception('InternalServerError', { status: 500 }),
      { status: 503, body: 'Service Unavailable' },
    ];
    const place = await database.placeBehind(t);
    await create(t, place);
    const since = place.stub.requests.all.length;
    place.stub.answer = (request) => (operationOf(request) === 'GetItem' ? answers.shift() : undefined);
    assert.equal((await show(t, place)).key, 'a-key');
    assert.equal(answers.length, 0);
    assert.ok(place.stub.requests.all.length - since > 5);
  });

  test('throttles for good is named with its own words when time is up', async (t) => {
    const place = await database.placeBehind(t);
    await create(t, place);
    let asked = 0;
    place.stub.answer = (request) => {
      if (operationOf(request) !== 'GetItem') return undefined;
      asked++;
      return exception('ThrottlingException', { message: 'Rate exceeded' });
    };
    const config = { ...place.config, app_manager: { ...place.config.app_manager, lookup_timeout_ms: 2000 } };
    const { code, stderr } = await runCurlew(['apps', 'show', 'a'], { config });
    assert.notEqual(code, 0);
    assert.match(stderr, /ThrottlingException: Rate exceeded/);
    assert.ok(asked >= 2 && asked < 30, `asked ${asked} times`); // longer and longer pauses: about 7
  });

  // What comes in the place of an answer to GetItem, after its head.
  const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: ';
  const broken = {
    'cuts the connection in the middle of an answer': [
      (socket) => socket.end(`${HEAD}1000\r\n\r\n{"Item":`),
      /DynamoDB at http:\S+: .*(closed|transfer)/,
    ],
    'cuts the connection in the middle of a head': [
      (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-'),
      /HTTP status 200 without a JSON object that is whole/,
    ],
    'sends an answer byte by byte without an end': [
      (socket) => {
        socket.write(`${HEAD}100000\r\n\r\n`);
        const trickle = setInterval(() => socket.write(' '), 20);
        socket.once('close', () => clearInterval(trickle)).once('error', () => {});
      },
      /DynamoDB at http:\S+: no answer in time/,
    ],
    'announces and sends more than anybody could keep': [
      (socket) => {
        const flood = Buffer.alloc(1 << 20, ' ');
        const pour = () => {
          while (!socket.destroyed && socket.write(flood));
        };
        socket.on('drain', pour).once('error', () => {});
        socket.write(`${HEAD}1000000000000000\r\n\r\n`);
        pour();
      },
      /DynamoDB at http:\S+: the answer is over 16 MB/,
    ],
    'sends nonsense': [
      (socket) => socket.end(`${HEAD}5\r\n\r\n<h1>\n`),
      /HTTP status 200 without a JSON object that is whole/,
    ],
  };
  for (const [what, [act, text]] of Object.entries(broken)) {
    test(`${what} is asked once more, then unavailable, and taken back`, async (t) => {
      let times = Infinity;
      const place = await database.placeBehind(t);
      await create(t, place);
      const config = { ...place.config, app_manager: { ...place.config.app_manager, lookup_timeout_ms: 1000 } };
      const server = await serverFor(t, { config });
      await server.waitForLog(/ready/);
      place.stub.answer = (request) => (operationOf(request) === 'GetItem' && times-- > 0 ? act : undefined);
      const ask = async () =>
        (await api(server, 'GET', '/channels', { app: { id: 'a', key: 'a-key', secret: 'a-secret' } })).status;
      assert.equal(await ask(), 503);
      await server.waitForLog(text);
      const { code, stderr } = await runCurlew(['apps', 'show', 'a'], { config });
      assert.equal(code, 1);
      assert.match(stderr, text);
      times = 1;
      while ((await ask()) === 503);
      assert.equal(await ask(), 200);
    });
  }

  test('loses the answer to a write that it carried out has written once', async (t) => {
    const lost = new Set(['PutItem', 'UpdateItem', 'DeleteItem']);
    const place = await database.placeBehind(t, async (request, forward) => {
      if (!lost.delete(operationOf(request))) return undefined;
      await forward();
      return exception('InternalServerError', { status: 500 });
    });
    await create(t, place);
    await appsDone(t, ['update', 'a', '-c', place.file, '--set', 'max_connections=3']);
    assert.deepEqual((await database.get(place.table, 'a')).max_connections, { N: '3' });
    await appsDone(t, ['delete', 'a', '-c', place.file]);
    assert.equal(await database.get(place.table, 'a'), undefined);
    assert.equal(lost.size, 0);
  });

  test('does not keep what it was given is found out when it is read back', async (t) => {
    const place = await database.placeBehind(t, async (request, forward) => {
      if (operationOf(request) !== 'PutItem') return undefined;
      if (request.body.includes('"lost"')) return { body: {} };
      request.body = request.body.replace('"7777"', '"7778"');
      return forward();
    });
    const list = [
      { id: 'a', key: 'a-key', secret: 's' },
      { id: 'bent', key: 'b-key', secret: 's', max_connections: 7777 },
      { id: 'lost', key: 'l-key', secret: 's' },
    ];
    const { code, stdout, stderr } = await apps(t, ['import', '-', '-c', place.file, '--json'], {
      input: JSON.stringify({ apps: list }),
    });
    assert.equal(code, 1);
    assert.deepEqual(counts(JSON.parse(stdout)), { ...NONE, created: 1, failed: 2 });
    assert.match(stderr, /app \\"bent\\": reading it back gave something else in max_connections/);
    assert.match(stderr, /app \\"lost\\": it was written, and is not there when it is read back/);
  });

  test(
    'hangs under an import does not hold up who presses Ctrl-C a second time, and the next run finishes',
    { timeout: LONG_TIMEOUT_MS },
    async (t) => {
      let hangs;
      const place = await database.placeBehind(t, (request) => {
        if (operationOf(request) !== 'PutItem' || !request.body.includes('"b-key"')) return undefined;
        return new Promise(() => hangs());
      });
      const hung = new Promise((resolve) => {
        hangs = resolve;
      });
      const input = JSON.stringify({ apps: ['a', 'b', 'c'].map((id) => ({ id, key: `${id}-key`, secret: 's' })) });
      const config = { ...place.config, app_manager: { ...place.config.app_manager, lookup_timeout_ms: 60_000 } };
      const args = ['import', '-', '-c', path.join(folderWith(t, { 'config.json': config }), 'config.json')];
      const { child, ended } = startApps(t, args, { input });
      await hung;
      const caught = () =>
        (parseInt(
          readFileSync(`/proc/${child.pid}/status`, 'utf8')
            .match(/^SigCgt:\s*(\w+)/m)[1]
            .slice(-1),
          16,
        ) &
          2) !==
        0;
      assert.ok(caught());
      child.kill('SIGINT');
      while (caught()) await nextTurn(); // the first is taken note of, and the second will end it
      child.kill('SIGINT');
      assert.equal((await ended).signal, 'SIGINT');
      assert.equal(await database.get(place.table, 'b'), undefined);
      place.stub.answer = () => undefined;
      assert.deepEqual(counts(await appsDone(t, [...args, '--json'], { input })), { ...NONE, created: 2, equal: 1 });
    },
  );

  test('takes the credentials for expired gets others, once', async (t) => {
    let expired = 1;
    const place = await database.placeBehind(t);
    await create(t, place);
    place.stub.answer = (request) =>
      operationOf(request) === 'GetItem' && expired-- > 0 ? exception('ExpiredTokenException') : undefined;
    assert.equal((await show(t, place)).key, 'a-key');
    expired = Infinity;
    const { code, stderr } = await apps(t, ['show', 'a', '-c', place.file]);
    assert.notEqual(code, 0);
    assert.match(stderr, /ExpiredTokenException/);
  });

  test('forbids a write says so', async (t) => {
    const place = await database.placeBehind(t, (request) =>
      operationOf(request) === 'PutItem'
        ? exception('AccessDeniedException', { message: 'not authorized to perform: dynamodb:PutItem' })
        : undefined,
    );
    const { code, stderr } = await apps(t, ['create', '-c', place.file, ...AN_APP]);
    assert.notEqual(code, 0);
    assert.match(stderr, /AccessDeniedException: not authorized/);
    assert.doesNotMatch(stderr, /a dynamodb secret/);
  });

  test('forbids a write to a server leaves what the server knows as it is', async (t) => {
    const place = await database.placeBehind(t);
    await create(t, place, '--set', 'max_connections=1');
    place.stub.answer = (request) =>
      /^(PutItem|UpdateItem|DeleteItem)$/.test(operationOf(request))
        ? exception('AccessDeniedException', { message: 'not authorized' })
        : undefined;
    const token = 'a token of at least thirty-two characters';
    const server = await serverFor(t, {
      config: place.config,
      env: { CURLEW_ADMIN_TOKEN: token, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
    });
    assert.equal((await connectAs(server, t, 'a')).status, 200);
    const { message } = await server.waitForLog(/^admin API on /);
    for (const [method, where, body] of [
      ['POST', '', { id: 'b', key: 'b-key', secret: 's' }],
      ['PATCH', '/a', { max_connections: 0 }],
      ['DELETE', '/a'],
    ]) {
      const answer = await fetch(message.match(/http:\/\/\S+/)[0] + where, {
        method,
        headers: { authorization: `Bearer ${token}` },
        body: body && JSON.stringify(body),
      });
      assert.equal(answer.status, 507, method);
      assert.match((await answer.json()).error, /AccessDeniedException: not authorized/);
    }
    await refused(server, 'b-key', 4001);
    await connect(server, { t, app: { id: 'a', key: 'a-key' } });
    await refused(server, 'a-key', 4004); // the limit that it had
  });

  test('refuses the credentials says so by where they are from, without the secret, and is asked again', async (t) => {
    const place = await database.placeBehind(t);
    await create(t, place);
    place.stub.answer = () =>
      exception('UnrecognizedClientException', { message: 'The security token included in the request is invalid.' });
    const server = await serverFor(t, { config: place.config });
    await server.waitForLog(
      /the credentials from database\.dynamodb\.aws_access_key_id and aws_secret_access_key are refused: .*UnrecognizedClientException: The security token/,
    );
    await refused(server, 'a-key', 4100);
    assert.equal((await get(`${server.url}/up`)).body, 'ERROR');
    assert.ok(!server.log.all.some((line) => JSON.stringify(line).includes('a dynamodb secret')));
    place.stub.answer = () => undefined;
    await server.waitForLog(/the dynamodb store answers/);
    assert.equal((await connectAs(server, t, 'a')).status, 200);
  });

  test('loses its table is unavailable, by table and region', async (t) => {
    const place = await database.placeBehind(t);
    const server = await serverFor(t, { config: place.config });
    await create(t, place);
    place.stub.answer = () => exception('ResourceNotFoundException', { message: 'Requested resource not found' });
    const { status } = await api(server, 'GET', '/channels', { app: { id: 'a', key: 'a-key', secret: 'a-secret' } });
    assert.equal(status, 503);
    await server.waitForLog(new RegExp(`table ${place.table} in eu-central-1: ResourceNotFoundException`));
  });

  test('is not there yet is waited for', async (t) => {
    const place = await database.placeBehind(t, () => null);
    const server = await serverFor(t, { config: place.config });
    const ask = async () =>
      (await api(server, 'GET', '/channels', { app: { id: 'a', key: 'a-key', secret: 'a-secret' } })).status;
    assert.equal(await ask(), 503);
    place.stub.answer = () => undefined;
    await create(t, place);
    while ((await ask()) === 503);
    assert.equal((await connectAs(server, t, 'a')).status, 200);
  });

  test('is something else is told from one', async (t) => {
    const place = await database.placeBehind(t, () => ({ status: 404, body: '<html>nginx</html>' }));
    const { code, stderr } = await apps(t, ['list', '-c', place.file]);
    assert.notEqual(code, 0);
    assert.match(stderr, /database\.dynamodb\.endpoint_url: .*HTTP status 404/);
  });

  test('answers with no object has not said that an app is not there', async (t) => {
    const place = await database.placeBehind(t);
    const server = await serverFor(t, { config: place.config });
    await create(t, place);
    const ask = async () =>
      (await api(server, 'GET', '/channels', { app: { id: 'a', key: 'a-key', secret: 'a-secret' } })).status;
    for (const body of ['[]', '"{}"', '1', 'null', '{', '']) {
      place.stub.answer = () => ({ status: 200, body });
      assert.equal(await ask(), 503, body);
    }
  });

  test('is on this machine is asked without a proxy', async (t) => {
    const env = {
      http_proxy: 'http://127.0.0.1:1',
      HTTPS_PROXY: 'http://127.0.0.1:1',
      ALL_PROXY: 'http://127.0.0.1:1',
    };
    await appsDone(t, ['create', '-c', database.place(t).file, ...AN_APP], { env });
  });

  test('is nowhere is named by its URL and the setting that this is from', async (t) => {
    const cases = [
      [{ url: 'http://127.0.0.1:1' }, /database\.dynamodb\.endpoint_url: DynamoDB at http:\/\/127\.0\.0\.1:1: \S/],
      [
        { endpoint_url: undefined, region: 'nowhere-9' },
        /database\.dynamodb\.region: DynamoDB at https:\/\/dynamodb\.nowhere-9\.amazonaws\.com\/: \S/,
      ],
    ];
    for (const [settings, text] of cases) {
      const { code, stderr } = await apps(t, ['list', '-c', database.place(t, settings).file]);
      assert.equal(code, 1);
      assert.match(stderr, text);
    }
  });

  test('has a certificate that nobody trusts is not asked', async (t) => {
    const { certificate, key } = makeCertificates(folderWith(t, {}));
    let asked = 0;
    const server = https.createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (_, response) => {
      asked++;
      response.end('{}');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const { code, stderr } = await apps(t, [
      'list',
      '-c',
      database.place(t, { url: `https://localhost:${server.address().port}` }).file,
    ]);
    assert.equal(code, 1);
    assert.match(stderr, /database\.dynamodb\.endpoint_url: DynamoDB at https:\S+: .*certificate/);
    assert.equal(asked, 0);
  });
});

describe('a server starts with wrong settings, names them, and goes on when they are right', () => {
  const wrong = (name, settings, says, repair) =>
    test(name, async (t) => {
      const { config } = database.place(t, await settings(t));
      await servesWithout(t, { config, says, secret: 'a dynamodb secret', repair: repair && (() => repair(t)) });
    });
  let port;
  wrong(
    'host',
    () => ({ url: 'http://no-such-host.invalid:1' }),
    /database\.dynamodb\.endpoint_url: DynamoDB at http:\/\/no-such-host\.invalid:1: \S/,
  );
  wrong(
    'port',
    async () => ({ url: `http://127.0.0.1:${([port] = await freePorts(1))}` }),
    /database\.dynamodb\.endpoint_url: DynamoDB at \S+: .*connect/,
    (t) => lead(t, port, new URL(database.url)),
  );
  wrong(
    'region',
    () => ({ endpoint_url: undefined, region: 'nowhere-9' }),
    /database\.dynamodb\.region: DynamoDB at https:\/\/dynamodb\.nowhere-9\.amazonaws\.com\/: \S/,
  );
  for (const [setting, value] of [
    ['table_name', 'my table'],
    ['region', 'eu/west'],
    ['endpoint_url', 'localhost:8000'],
  ]) {
    test(`or, with a ${setting} that is none, does not`, (t) =>
      neverStarts({
        config: database.place(t, { [setting]: value }).config,
        says: new RegExp(`database\\.dynamodb\\.${setting}`),
      }));
  }
});

describe('settings that cannot work are refused by name', () => {
  for (const [setting, value, words] of [
    ['table_name', 'ab', /table_name must be 3 to 255/],
    ['table_name', 'a'.repeat(256), /table_name must be/],
    ['table_name', 'my table', /table_name/],
    ['region', 'eu/west', /database\.dynamodb\.region/],
    ['region', 'eu.west', /database\.dynamodb\.region/],
    ['endpoint_url', 'ftp://localhost', /endpoint_url must be a URL of http/],
    ['endpoint_url', 'localhost:8000', /endpoint_url must be a URL of http/],
    ['endpoint_url', 'http://user:a-password@localhost', /without a user or password(?!.*a-password)/s],
    ['aws_secret_access_key', undefined, /aws_access_key_id and database\.dynamodb\.aws_secret_access_key/],
  ]) {
    test(`${setting} ${value === undefined ? 'missing' : `"${value.slice(0, 20)}"`}`, async (t) => {
      const { code, stderr } = await apps(t, ['list', '-c', database.place(t, { [setting]: value }).file]);
      assert.notEqual(code, 0);
      assert.match(stderr, words);
    });
  }
});
