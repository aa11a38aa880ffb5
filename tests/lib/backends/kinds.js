// The classes of back ends by the name of their kind.

import { Cassandra } from './cassandra.js';
import { DynamoDb } from './dynamodb.js';
import { MariaDb } from './mariadb.js';
import { Nats } from './nats.js';
import { Postgres } from './postgres.js';
import { RedisCluster } from './redis-cluster.js';
import { Redis } from './redis.js';

export const KINDS = {
  mariadb: MariaDb,
  postgres: Postgres,
  dynamodb: DynamoDb,
  cassandra: Cassandra,
  nats: Nats,
  redis: Redis,
  'redis-cluster': RedisCluster,
};

export function kindOf(name) {
  if (!Object.hasOwn(KINDS, name))
    throw new Error(`there is no back end '${name}', only ${Object.keys(KINDS).join(', ')}`);
  return KINDS[name];
}
