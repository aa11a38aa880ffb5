// How requests to AWS are signed, and where the credentials come from: each place, their order, and their renewal.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { api } from '../lib/api.js';
import { apps } from '../lib/apps-command.js';
import { signatureOf } from '../lib/aws-signature.js';
import { REGION, exception, operationOf, sharedDynamoDb, signerOf } from '../lib/dynamodb.js';
import { httpStub } from '../lib/http-stub.js';
import { LONG_TIMEOUT_MS } from '../lib/inbox.js';
import { folderWith } from '../lib/process.js';
import { serverFor } from '../lib/server.js';

const database = await sharedDynamoDb();
const NO_KEYS = { aws_access_key_id: undefined, aws_secret_access_key: undefined };
const NOWHERE = { AWS_EC2_METADATA_DISABLED: 'true' };
const HOUR_MS = 3_600_000;

const inMs = (ms) => new Date(Date.now() + ms).toISOString().replace(/\.\d+Z$/, 'Z');
const keys = (name, lifeMs = HOUR_MS) => ({
  AccessKeyId: name,
  SecretAccessKey: `secret of ${name}`.replaceAll(' ', '/'),
  Token: `token/of+${name}==`,
  Expiration: inMs(lifeMs),
});

/*
 * Runs `curlew apps create` without any credentials but what `env`, `files` in the home folder ({config, credentials})
 * and `settings` say. Resolves to {code, stderr, signers, requests}: with which access keys DynamoDB was asked.
 */
async function create(t, { env = {}, files = {}, settings = {} } = {}) {
  const place = await database.placeBehind(t, undefined, { ...NO_KEYS, ...settings });
  const home = folderWith(t);
  mkdirSync(path.join(home, '.aws'));
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(home, '.aws', name), text);
  const { code, stderr } = await apps(t, ['create', '-c', place.file], { env: { HOME: home, ...NOWHERE, ...env } });
  const requests = place.stub.requests.all;
  return { code, stderr, requests, signers: [...new Set(requests.map(signerOf))] };
}

async function assertSigner(t, signer, options) {
  const result = await create(t, options);
  assert.equal(result.code, 0, result.stderr);
  assert.deepEqual(result.signers, [signer]);
  return result;
}

async function assertNoCredentials(t, words, options) {
  const { code, stderr, requests } = await create(t, options);
  assert.notEqual(code, 0);
  assert.match(stderr, words);
  assert.equal(requests.length, 0);
  return stderr;
}

const partsOf = (authorization) =>
  Object.fromEntries(
    authorization
      .replace(/^AWS4-HMAC-SHA256 /, '')
      .split(/, */)
      .map((part) => part.split(/=(.*)/).slice(0, 2)),
  );

describe('a request is signed', () => {
  for (const [what, sessionToken] of [
    ['keys', undefined],
    ['keys and a session token', 'IQoJb3JpZ2luX2Vj//+/=='],
  ]) {
    test(`with ${what} as AWS's own library signs it`, async (t) => {
      const secretAccessKey = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY:';
      const { requests } = await assertSigner(t, 'AKIAEXAMPLE', {
        env: {
          AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
          AWS_SECRET_ACCESS_KEY: secretAccessKey,
          ...(sessionToken && { AWS_SESSION_TOKEN: sessionToken }),
        },
      });
      assert.ok(new Set(requests.map(operationOf)).size >= 3);
      for (const request of requests) {
        const parts = partsOf(request.headers.authorization);
        assert.deepEqual(
          parts,
          partsOf(
            await signatureOf(request, {
              service: 'dynamodb',
              region: REGION,
              accessKeyId: 'AKIAEXAMPLE',
              secretAccessKey,
              sessionToken,
            }),
          ),
        );
        const names = parts.SignedHeaders.split(';');
        for (const name of ['host', 'x-amz-date', 'x-amz-target', ...(sessionToken ? ['x-amz-security-token'] : [])])
          assert.ok(names.includes(name), name);
        assert.equal(request.headers['x-amz-security-token'], sessionToken);
      }
    });
  }
});

describe('given keys', () => {
  test('of the environment go before those of the configuration', (t) =>
    assertSigner(t, 'AKENV', {
      env: { AWS_ACCESS_KEY_ID: 'AKENV', AWS_SECRET_ACCESS_KEY: 's' },
      settings: { aws_access_key_id: 'AKCONFIG', aws_secret_access_key: 's' },
    }));

  test('of the configuration go before a profile', (t) =>
    assertSigner(t, 'AKCONFIG', {
      settings: { aws_access_key_id: 'AKCONFIG', aws_secret_access_key: 's' },
      files: { credentials: '[default]\naws_access_key_id=AKFILE\naws_secret_access_key=s\n' },
    }));

  test('are not needed by a DynamoDB on this machine', async (t) => {
    const { stderr } = await assertSigner(t, 'local');
    assert.doesNotMatch(stderr, /error/i);
  });
});

describe('a profile', () => {
  const credentials =
    '[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = s\n\n[work]\naws_access_key_id = AKWORK\naws_secret_access_key = s\naws_session_token = T\n';

  test('that nobody names is the default one', (t) => assertSigner(t, 'AKDEFAULT', { files: { credentials } }));
  test('is named by the configuration', async (t) => {
    const { requests } = await assertSigner(t, 'AKWORK', {
      files: { credentials },
      settings: { aws_profile_name: 'work' },
    });
    assert.equal(requests[0].headers['x-amz-security-token'], 'T');
  });
  test('is named by AWS_PROFILE', (t) =>
    assertSigner(t, 'AKWORK', { files: { credentials }, env: { AWS_PROFILE: 'work' } }));
  test('may be in the config file', (t) =>
    assertSigner(t, 'AKC', {
      files: { config: '[profile work]\naws_access_key_id=AKC\naws_secret_access_key=s\n' },
      env: { AWS_PROFILE: 'work' },
    }));
  test('may be in files elsewhere', async (t) => {
    const folder = folderWith(t, { mine: '[default]\naws_access_key_id=AKMINE\naws_secret_access_key=s\n' });
    await assertSigner(t, 'AKMINE', {
      files: { credentials },
      env: { AWS_SHARED_CREDENTIALS_FILE: path.join(folder, 'mine') },
    });
  });
  test('goes before the agent of a container', (t) =>
    assertSigner(t, 'AKDEFAULT', {
      files: { credentials },
      env: { AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://127.0.0.1:1/' },
    }));
  test('that is nowhere is named', (t) =>
    assertNoCredentials(t, /profile "other" is neither/, {
      files: { credentials },
      settings: { aws_profile_name: 'other' },
    }));
  test('that goes a way which is not supported says which', (t) =>
    assertNoCredentials(t, /profile "work" uses credential_process/, {
      files: { config: '[profile work]\ncredential_process = /bin/true\n' },
      settings: { aws_profile_name: 'work' },
    }));
});

// STS as far as this server uses it; `answer` is for its next requests.
async function sts(t, name = 'AKSTS') {
  return httpStub(t, {
    answer: () => {
      const { AccessKeyId, SecretAccessKey, Token, Expiration } = keys(name);
      return {
        body: `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
          <Credentials><AccessKeyId>${AccessKeyId}</AccessKeyId><SecretAccessKey>${SecretAccessKey}</SecretAccessKey>
          <SessionToken>${Token}</SessionToken><Expiration>${Expiration}</Expiration></Credentials>
          </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
      };
    },
  });
}

describe('a web identity', () => {
  const ROLE = 'arn:aws:iam::123456789012:role/curlew & co';
  const webIdentity = (t, stub, token = 'header.pay-load.sig_nature\n') => ({
    AWS_WEB_IDENTITY_TOKEN_FILE: path.join(folderWith(t, { token }), 'token'),
    AWS_ROLE_ARN: ROLE,
    AWS_ENDPOINT_URL_STS: stub.url,
  });

  test('is exchanged at STS', async (t) => {
    const stub = await sts(t);
    const { requests } = await assertSigner(t, 'AKSTS', {
      env: { ...webIdentity(t, stub), AWS_ROLE_SESSION_NAME: 'mine' },
    });
    assert.equal(requests[0].headers['x-amz-security-token'], 'token/of+AKSTS==');
    const [{ method, body, headers }] = stub.requests.all;
    assert.equal(method, 'POST');
    assert.equal(headers['content-type'], 'application/x-www-form-urlencoded');
    assert.deepEqual(Object.fromEntries(new URLSearchParams(body)), {
      Action: 'AssumeRoleWithWebIdentity',
      Version: '2011-06-15',
      RoleArn: ROLE,
      RoleSessionName: 'mine',
      WebIdentityToken: 'header.pay-load.sig_nature',
    });
    assert.equal(stub.requests.all.length, 1);
  });

  test('may be that of a profile', async (t) => {
    const stub = await sts(t);
    const { AWS_WEB_IDENTITY_TOKEN_FILE: file, AWS_ENDPOINT_URL_STS } = webIdentity(t, stub);
    await assertSigner(t, 'AKSTS', {
      files: { config: `[default]\nrole_arn = arn:r\nweb_identity_token_file = ${file}\n` },
      env: { AWS_ENDPOINT_URL_STS },
    });
    assert.equal(new URLSearchParams(stub.requests.all[0].body).get('RoleArn'), 'arn:r');
  });

  test('that STS refuses is told with its words, and nothing else is tried', async (t) => {
    const stub = await sts(t);
    stub.answer = () => ({
      status: 403,
      body: '<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>',
    });
    const stderr = await assertNoCredentials(t, /AWS web identity for arn.*HTTP status 403 AccessDenied/, {
      env: { ...webIdentity(t, stub), AWS_CONTAINER_CREDENTIALS_FULL_URI: stub.url },
    });
    assert.doesNotMatch(stderr, /pay-load/);
  });

  test('whose file is not there is told', async (t) => {
    const stub = await sts(t);
    await assertNoCredentials(t, /token-that-is-not-there cannot be read/, {
      env: { ...webIdentity(t, stub), AWS_WEB_IDENTITY_TOKEN_FILE: '/token-that-is-not-there' },
    });
  });
});

describe("a container's agent", () => {
  const agent = (t, name = 'AKAGENT') => httpStub(t, { answer: () => ({ body: keys(name) }) });

  test('is asked with the token of the environment', async (t) => {
    const stub = await agent(t);
    await assertSigner(t, 'AKAGENT', {
      env: {
        AWS_CONTAINER_CREDENTIALS_FULL_URI: `${stub.url}/v2/creds?x=1`,
        AWS_CONTAINER_AUTHORIZATION_TOKEN: 'Basic abc',
      },
    });
    const [{ method, path: at, headers }] = stub.requests.all;
    assert.deepEqual([method, at, headers.authorization], ['GET', '/v2/creds?x=1', 'Basic abc']);
  });

  test('is asked with the token of a file', async (t) => {
    const stub = await agent(t);
    const file = path.join(folderWith(t, { token: 'file-token\n' }), 'token');
    await assertSigner(t, 'AKAGENT', {
      env: { AWS_CONTAINER_CREDENTIALS_FULL_URI: stub.url, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file },
    });
    assert.equal(stub.requests.all[0].headers.authorization, 'file-token');
  });

  for (const uri of [
    'http://example.com/creds',
    'http://169.254.170.2@example.com/',
    'http://169.254.170.2.example.com/',
    'file:///etc/passwd',
  ]) {
    test(`is not asked at ${uri}`, (t) =>
      assertNoCredentials(t, /neither https nor a loopback, ECS or EKS address/, {
        env: { AWS_CONTAINER_CREDENTIALS_FULL_URI: uri },
      }));
  }

  test('that fails is told', async (t) => {
    const stub = await httpStub(t, { answer: () => ({ status: 500 }) });
    await assertNoCredentials(t, /AWS container credentials from http.*HTTP status 500/, {
      env: { AWS_CONTAINER_CREDENTIALS_FULL_URI: stub.url },
    });
  });
});

// The metadata service of an EC2 instance, version 2: nothing without its token.
function metadata(t, next) {
  return httpStub(t, {
    answer: ({ method, path: at, headers }) => {
      if (method === 'PUT' && at === '/latest/api/token') {
        return headers['x-aws-ec2-metadata-token-ttl-seconds'] ? { body: 'metadata-token' } : { status: 400 };
      }
      if (headers['x-aws-ec2-metadata-token'] !== 'metadata-token') return { status: 401 };
      if (at === '/latest/meta-data/iam/security-credentials/') return { body: 'my-role' };
      return at === '/latest/meta-data/iam/security-credentials/my-role' ? next() : { status: 404 };
    },
  });
}

const instance = (stub) => ({ AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: `${stub.url}/` });

describe("an instance's role", () => {
  test('is asked for with a token of the metadata service', async (t) => {
    const stub = await metadata(t, () => ({ body: { Code: 'Success', ...keys('AKROLE') } }));
    const { requests } = await assertSigner(t, 'AKROLE', { env: instance(stub) });
    assert.equal(requests[0].headers['x-amz-security-token'], 'token/of+AKROLE==');
    assert.equal(stub.requests.all.length, 3);
  });

  test('that answers with an error is told', async (t) => {
    const stub = await metadata(t, () => ({ body: { Code: 'AssumeRoleUnauthorizedAccess' } }));
    await assertNoCredentials(t, /EC2 instance metadata, role my-role.*AssumeRoleUnauthorizedAccess/, {
      env: instance(stub),
    });
  });

  test('counts last', async (t) => {
    const stub = await metadata(t, () => ({ body: keys('AKROLE') }));
    const agent = await httpStub(t, { answer: () => ({ body: keys('AKAGENT') }) });
    await assertSigner(t, 'AKAGENT', { env: { ...instance(stub), AWS_CONTAINER_CREDENTIALS_FULL_URI: agent.url } });
    assert.equal(stub.requests.all.length, 0);
  });
});

describe('without any credentials', () => {
  test('the places to put some are named', async (t) => {
    const { file } = database.place(t, { ...NO_KEYS, url: undefined, endpoint_url: 'http://dynamodb.invalid' });
    const { code, stderr } = await apps(t, ['list', '-c', file], { env: { HOME: folderWith(t), ...NOWHERE } });
    assert.notEqual(code, 0);
    assert.match(stderr, /no AWS credentials found: set AWS_ACCESS_KEY_ID/);
  });
});

// A server that reads its app from DynamoDB at each request, as an instance whose role `next` answers for.
async function serverOnInstance(t, next) {
  const app = { id: 'a', key: 'a-key', secret: 'a-secret' };
  const place = await database.placeBehind(t, undefined, NO_KEYS);
  const stub = await metadata(t, next);
  await database.createTable(place.table);
  await database.put(place.table, Object.fromEntries(Object.entries(app).map(([name, S]) => [name, { S }])));
  const server = await serverFor(t, {
    config: { ...place.config, app_manager: { ...place.config.app_manager, cache: { enabled: false } } },
    env: { HOME: folderWith(t), ...instance(stub) },
  });
  return { server, place, stub, ask: async () => (await api(server, 'GET', '/channels', { app })).status };
}

// Asks until DynamoDB was asked with that key; every request has to be answered meanwhile.
async function askUntilSigner({ place, ask }, signer) {
  const seen = () => place.stub.requests.all.some((request) => signerOf(request) === signer);
  const giveUp = Date.now() + LONG_TIMEOUT_MS;
  while (!seen() && Date.now() < giveUp) assert.equal(await ask(), 200);
  assert.ok(seen(), `nothing was signed with ${signer}`);
}

describe('temporary credentials', { concurrency: true }, () => {
  test('are renewed before they expire, without a pause', async (t) => {
    const answers = [keys('AKFIRST', 250_000), keys('AKSECOND')];
    const running = await serverOnInstance(t, () => ({ body: answers.length > 1 ? answers.shift() : answers[0] }));
    await askUntilSigner(running, 'AKFIRST');
    await askUntilSigner(running, 'AKSECOND');
  });

  test('are used on when they cannot be renewed yet', async (t) => {
    const answers = [{ body: keys('AKFIRST', 250_000) }, { status: 500 }, { body: keys('AKSECOND') }];
    const running = await serverOnInstance(t, () => (answers.length > 1 ? answers.shift() : answers[0]));
    await askUntilSigner(running, 'AKSECOND');
    await running.server.waitForLog(/expire soon could not be renewed: .*HTTP status 500/);
  });

  test('that AWS takes for expired are fetched anew', async (t) => {
    const answers = [keys('AKFIRST'), keys('AKSECOND')];
    const running = await serverOnInstance(t, () => ({ body: answers.length > 1 ? answers.shift() : answers[0] }));
    await askUntilSigner(running, 'AKFIRST');
    running.place.stub.answer = (request) =>
      signerOf(request) === 'AKFIRST' ? exception('ExpiredTokenException') : undefined;
    assert.equal(await running.ask(), 200);
    await askUntilSigner(running, 'AKSECOND');
  });

  test('are in no line of the log', async (t) => {
    const running = await serverOnInstance(t, () => ({ body: keys('AKFIRST') }));
    await askUntilSigner(running, 'AKFIRST');
    running.place.stub.answer = () =>
      exception('UnrecognizedClientException', { message: 'The security token included in the request is invalid.' });
    assert.equal(await running.ask(), 503);
    await running.server.stop();
    const log = JSON.stringify(running.server.log.all);
    assert.match(log, /UnrecognizedClientException/);
    assert.doesNotMatch(log, /secret\/of|token\/of|metadata-token/);
  });
});
