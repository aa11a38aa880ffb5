// DynamoDB Local. It accepts any credentials whose access key is of letters and digits.

import { mkdirSync } from 'node:fs';

import { Backend } from './backend.js';
import { Daemon, freePorts, PROBE_TIMEOUT_MS } from './daemon.js';
import { jarsOf, java } from './jvm.js';

const REGION = 'eu-central-1';

export class DynamoDb extends Backend {
  async create() {
    const [port] = await freePorts(1);
    this.address = { host: '127.0.0.1', port, user: 'TESTKEY', password: 'a dynamodb secret', region: REGION };
    const jars = jarsOf('dynamodb');
    mkdirSync(this.file('data'));
    this.daemons = [
      new Daemon({
        name: 'DynamoDB Local',
        log: this.file('dynamodb.log'),
        probe: () => this.#probe(),
        command: [
          java(),
          '-Xmx256m',
          '-XX:+UseSerialGC',
          '-XX:TieredStopAtLevel=1',
          `-Djava.library.path=${jars}`,
          '-cp',
          `${jars}/*`,
          'com.amazonaws.services.dynamodbv2.local.main.ServerRunner',
          '-port',
          String(port),
          '-sharedDb',
          '-dbPath',
          this.file('data'),
          '-disableTelemetry',
        ],
      }),
    ];
  }

  async #probe() {
    const client = await DynamoDb.client(this.address, { maxAttempts: 1 });
    const { ListTablesCommand } = await import('@aws-sdk/client-dynamodb');
    try {
      await client.send(new ListTablesCommand({}), { abortSignal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    } finally {
      client.destroy();
    }
  }

  static async client({ host, port, user, password, region }, options = {}) {
    const { DynamoDBClient } = await import('@aws-sdk/client-dynamodb');
    const credentials = { accessKeyId: user, secretAccessKey: password };
    return new DynamoDBClient({ endpoint: `http://${host}:${port}`, region, credentials, ...options });
  }

  static config({ host, port, user, password, region }, table) {
    return {
      app_manager: { driver: 'dynamodb' },
      database: {
        dynamodb: {
          endpoint_url: `http://${host}:${port}`,
          region,
          table_name: table,
          aws_access_key_id: user,
          aws_secret_access_key: password,
        },
      },
    };
  }

  // The table is for the server to create.
  static async createPlace() {}

  static async dropPlace(address, table) {
    const { DeleteTableCommand } = await import('@aws-sdk/client-dynamodb');
    const client = await DynamoDb.client(address);
    await client.send(new DeleteTableCommand({ TableName: table })).catch((error) => {
      if (error.name !== 'ResourceNotFoundException') throw error;
    });
    client.destroy();
  }
}
