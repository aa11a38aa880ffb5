// The kinds of back end by name: a class, and the options that make it this kind.

import { Cassandra } from './cassandra.js';
import { DynamoDb } from './dynamodb.js';
import { MariaDb } from './mariadb.js';
import { Postgres } from './postgres.js';

export const KINDS = {
  mariadb: { Kind: MariaDb },
  postgres: { Kind: Postgres },
  dynamodb: { Kind: DynamoDb },
  cassandra: { Kind: Cassandra },
  'cassandra-cluster': { Kind: Cassandra, options: { nodes: 3 } },
};

export function kindOf(name) {
  if (!Object.hasOwn(KINDS, name)) throw new Error(`there is no back end '${name}', only ${Object.keys(KINDS).join(', ')}`);
  return KINDS[name];
}
