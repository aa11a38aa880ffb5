// DynamoDB for a test file: a real one, tables in it, and what stands between it and the server where a test wants a
// say.

import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { after } from 'node:test';

import { CreateTableCommand, DescribeTableCommand, GetItemCommand, PutItemCommand } from '@aws-sdk/client-dynamodb';

import { backendFor } from './backends/index.js';
import { httpStub } from './http-stub.js';
import { folderWith } from './process.js';

export const REGION = 'eu-central-1';
export const INDEX = 'KeyIndex';

const attribute = (AttributeName) => ({ AttributeName, AttributeType: 'S' });
const partitionKey = (AttributeName) => [{ AttributeName, KeyType: 'HASH' }];

export const WITHOUT_INDEX = { KeySchema: partitionKey('id'), AttributeDefinitions: [attribute('id')] };
const WITH_INDEX = {
  AttributeDefinitions: [attribute('id'), attribute('key')],
  GlobalSecondaryIndexes: [{ IndexName: INDEX, KeySchema: partitionKey('key'), Projection: { ProjectionType: 'ALL' } }],
};

// One database for all tests of a file, each of which uses a table of its own: `const database = await
// sharedDynamoDb()`. If it does not start, the tests that use it fail, and no others.
export async function sharedDynamoDb() {
  try {
    return await startShared();
  } catch (error) {
    return new Proxy(
      {},
      {
        get(_, name) {
          if (name !== 'then') throw error; // which `await` asks for
        },
      },
    );
  }
}

async function startShared() {
  const backend = await backendFor({ after }, 'dynamodb');
  const client = await backend.client();
  after(() => client.destroy());
  const database = {
    url: `http://${backend.address.host}:${backend.address.port}`,
    // {table, config, file, folder}: the name of a table, and a configuration for it as an object and as a file.
    // Members that are undefined are left out.
    place(t, { url = database.url, ...settings } = {}) {
      const table = `apps-${randomBytes(6).toString('hex')}`;
      const dynamodb = {
        region: REGION,
        table_name: table,
        endpoint_url: url,
        aws_access_key_id: 'AKTEST',
        aws_secret_access_key: 'a dynamodb secret',
        ...settings,
      };
      const config = { app_manager: { driver: 'dynamodb', array: { apps: [] } }, database: { dynamodb } };
      const folder = folderWith(t, { 'config.json': config });
      return { table: dynamodb.table_name, config, folder, file: path.join(folder, 'config.json') };
    },
    // A place behind a stub that passes everything on until the test says otherwise.
    async placeBehind(t, answer, settings = {}) {
      const stub = await httpStub(t, { upstream: database.url, answer });
      return { stub, ...database.place(t, { url: stub.url, ...settings }) };
    },
    // As the server makes it, or one of the test's own.
    createTable: (table, own = WITH_INDEX) =>
      client.send(
        new CreateTableCommand({
          TableName: table,
          BillingMode: 'PAY_PER_REQUEST',
          ...WITHOUT_INDEX,
          ...own,
        }),
      ),
    describe: async (table) => (await client.send(new DescribeTableCommand({ TableName: table }))).Table,
    put: (table, Item) => client.send(new PutItemCommand({ TableName: table, Item })),
    get: async (table, id) =>
      (await client.send(new GetItemCommand({ TableName: table, Key: { id: { S: id } } }))).Item,
  };
  return database;
}

// The operation that a request is for: GetItem, ...
export function operationOf(request) {
  return request.headers['x-amz-target']?.split('.')[1];
}

// The access key that a request is signed with.
export function signerOf(request) {
  return request.headers.authorization?.match(/Credential=([^/]+)\//)[1];
}

// An answer of DynamoDB that says no.
export function exception(name, { status = 400, message = 'as the test wants it' } = {}) {
  return {
    status,
    body: { __type: `com.amazonaws.dynamodb.v20120810#${name}`, message },
    headers: { 'content-type': 'application/x-amz-json-1.0' },
  };
}
