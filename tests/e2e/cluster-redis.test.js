// The bus on Redis: logging in, Sentinel, outages, and what is said when Redis refuses.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { makeCertificates } from '../lib/backends/certificates.js';
import { freePorts } from '../lib/backends/daemon.js';
import { backendFor } from '../lib/backends/index.js';
import { Redis } from '../lib/backends/redis.js';
import { startBus } from '../lib/bus-shell.js';
import { folderWith } from '../lib/process.js';
import { RedisClient } from '../lib/redis-client.js';

const PREFIX = 'test:';
const SUBJECT = 'test:curlew1:greetings';

// A user who may do no more than the bus needs.
const ACL = [
  'user default off',
  'user curlew on >secret resetchannels &test:curlew1:* -@all +publish +subscribe +unsubscribe +ping',
];

// The configuration for a back end, with other members of database.redis and of adapter.redis.
function configFor({ address }, { redis = {}, adapter = {} } = {}) {
  const config = Redis.config(address, PREFIX.slice(0, -1));
  Object.assign(config.database.redis, address.ca && { tls: { enabled: true, ca_path: address.ca } }, redis);
  Object.assign(config.adapter.redis, adapter);
  return config;
}

const urlsOf = (publish, subscribe = publish) => ({
  redis_pub_options: { url: publish },
  redis_sub_options: { url: subscribe },
});

async function busOn(t, config) {
  const bus = startBus(t, config);
  await bus.told('up');
  return bus;
}

// A bus that is up and subscribed.
async function subscriberOn(t, config) {
  const bus = await busOn(t, config);
  await bus.ask(`subscribe ${SUBJECT}`, `in_force ${SUBJECT}`);
  return bus;
}

async function hears(bus, other, text = 'hello') {
  assert.equal(await other.ask(`publish ${SUBJECT} ${text}`, 'published'), 'yes');
  assert.equal(await bus.told(`message ${SUBJECT}`), text);
}

// The same while Sentinels may still differ on who is the master, so that the bus may go down again.
async function hearsInTheEnd(bus, other, text) {
  for (;;) {
    await other.ask(`publish ${SUBJECT} ${text}`, 'published');
    if (await bus.told(`message ${SUBJECT}`, 1000).catch(() => null)) return;
  }
}

// The bus says that it is down, then that it is up, and its subscription holds again. Resolves to the cause.
async function returns(bus) {
  const why = await bus.told('down');
  await bus.told('up');
  await bus.told(`in_force ${SUBJECT}`);
  return why;
}

async function clientOf(t, backend, address = backend.address) {
  const client = await RedisClient.connect(address);
  t.after(() => client.close());
  return client;
}

describe('logging in', { concurrency: true }, () => {
  const kinds = {
    'a password': { options: { password: 'a secret' } },
    'a user with few rights': { options: { users: ACL }, redis: { username: 'curlew', password: 'secret' } },
    TLS: { options: { tls: true } },
    'another database': { options: {}, redis: { db: 7 } },
    'Sentinel, and passwords': { options: { replicas: 1, sentinels: 1, password: 'p' } },
  };
  for (const [name, { options, redis }] of Object.entries(kinds)) {
    test(name, async (t) => {
      const config = configFor(await backendFor(t, 'redis', options), { redis });
      const [one, other] = await Promise.all([subscriberOn(t, config), busOn(t, config)]);
      await hears(one, other);
      await Promise.all([one.stop(), other.stop()]);
    });
  }

  test('URLs with everything in them, over those of database.redis', async (t) => {
    const backend = await backendFor(t, 'redis', {
      tls: true,
      users: ACL.map((line) => line.replace('secret', 'a@:/é')),
    });
    const url = `rediss://curlew:${encodeURIComponent('a@:/é')}@localhost:${backend.address.port}/0`;
    const config = configFor(backend, {
      redis: { port: 1, tls: { ca_path: backend.address.ca } },
      adapter: urlsOf(url),
    });
    const bus = await subscriberOn(t, config);
    await hears(bus, bus);
    await bus.stop();
  });
});

describe('what is refused is said with the setting', { concurrency: true }, () => {
  async function saysOf(t, config) {
    const bus = startBus(t, config);
    const why = await bus.told('down');
    assert.equal(await bus.ask(`publish ${SUBJECT} hello`, 'published'), 'no');
    await bus.stop();
    assert.equal(bus.lines.filter((line) => line === 'up').length, 0);
    return why;
  }

  test('passwords and users', async (t) => {
    const backend = await backendFor(t, 'redis', { password: 'right' });
    const { port } = backend.address;
    const says = (redis) => saysOf(t, configFor(backend, { redis }));
    const at = `Redis at 127.0.0.1:${port} (database.redis.host and port): `;
    const wrong = 'WRONGPASS invalid username-password pair or user is disabled.';
    assert.equal(await says({ password: 'wrong' }), `${at}it refuses database.redis.password: ${wrong}`);
    assert.equal(
      await says({ username: 'nobody' }),
      `${at}it refuses database.redis.username or database.redis.password: ${wrong}`,
    );
    assert.equal(await says({ password: undefined }), `${at}it wants a password: set database.redis.password`);
    assert.equal(
      await says({ db: 99 }),
      `${at}it has no database 99, which database.redis.db names: ERR DB index is out of range`,
    );
    const urls = urlsOf(`redis://:wrong@127.0.0.1:${port}`, `redis://:right@127.0.0.1:${port}`);
    assert.equal(
      await saysOf(t, configFor(backend, { adapter: urls })),
      `Redis at 127.0.0.1:${port} (adapter.redis.redis_pub_options.url): it refuses the password in ` +
        `adapter.redis.redis_pub_options.url: ${wrong}`,
    );
  });

  test('rights that are missing', async (t) => {
    for (const [right, expected] of [
      [
        ['+subscribe', '-subscribe'],
        /it refuses to subscribe: NOPERM .*'subscribe' command; its ACL has to give the user this right/,
      ],
      [['+publish', '-publish'], /it refuses to publish: NOPERM .*'publish'/],
      [['&test:', '&other:'], /it refuses to (subscribe|publish): NOPERM .*channels/],
    ]) {
      const backend = await backendFor(t, 'redis', { users: ACL.map((line) => line.replace(...right)) });
      const config = configFor(backend, { redis: { username: 'curlew', password: 'secret' } });
      assert.match(await saysOf(t, config), expected);
    }
  });

  test('ports, hosts and servers that are wrong', async (t) => {
    const backend = await backendFor(t, 'redis', { replicas: 1 });
    const another = await backendFor(t, 'redis');
    const { ports } = backend.address;
    const [unused] = await freePorts(1);
    const says = (redis) => saysOf(t, configFor(backend, { redis }));
    assert.equal(
      await says({ port: unused }),
      `Redis at 127.0.0.1:${unused} (database.redis.host and port): Connection refused`,
    );
    assert.match(
      await says({ host: 'no-such-host.invalid' }),
      /^Redis at no-such-host\.invalid:\d+ \(database\.redis\.host and port\): /,
    );
    assert.equal(
      await says({ port: ports[1] }),
      `Redis at 127.0.0.1:${ports[1]} (database.redis.host and port): it is a replica, not a master: messages to it do not reach all nodes`,
    );
    const urls = [ports[0], another.address.port].map((port) => `redis://127.0.0.1:${port}`);
    assert.equal(
      await saysOf(t, configFor(backend, { adapter: urlsOf(...urls) })),
      `Redis at 127.0.0.1:${another.address.port} (adapter.redis.redis_sub_options.url): a message that was published to ` +
        `127.0.0.1:${ports[0]} (adapter.redis.redis_pub_options.url) did not arrive here in time`,
    );
  });

  test('TLS', async (t) => {
    const backend = await backendFor(t, 'redis', { tls: true, settings: ['bind 127.0.0.1 127.0.0.2'] });
    const plain = await backendFor(t, 'redis');
    const { ca } = makeCertificates(folderWith(t));
    const says = (one, redis) => saysOf(t, configFor(one, { redis }));
    assert.match(
      await says(backend, { tls: { enabled: true, ca_path: ca } }),
      /: its certificate is refused: .*; database\.redis\.tls\.ca_path names a file with the authority of the certificate$/,
    );
    assert.match(
      await says(backend, { host: '127.0.0.2' }),
      /: its certificate is refused: IP address mismatch; it has to name the host as the setting does$/,
    );
    assert.match(
      await says(plain, { tls: { enabled: true, ca_path: ca } }),
      /: no answer to the handshake of TLS within 5000 ms: a port without TLS gives none$/,
    );
    assert.match(
      await says(backend, { tls: undefined }),
      /: (it closed the connection|it sent what is not|Connection reset by peer) before it answered: if it wants TLS, write rediss:\/\/$/,
    );
    const bus = startBus(t, configFor(plain, { redis: { tls: { enabled: true, ca_path: '/no/such/file' } } }));
    await assert.rejects(bus.told('up'));
    assert.match(bus.errors.join('\n'), /database\.redis\.tls\.ca_path \/no\/such\/file: No such file or directory/);
  });

  test('Sentinel', async (t) => {
    const backend = await backendFor(t, 'redis', { replicas: 1, sentinels: 1 });
    assert.match(
      await saysOf(t, configFor(backend, { redis: { name: 'other' } })),
      /^Sentinel at 127\.0\.0\.1:\d+ \(database\.redis\.sentinels\): it does not know a master 'other': see database\.redis\.name$/,
    );
    const [unused] = await freePorts(1);
    assert.equal(
      await saysOf(t, configFor(backend, { redis: { sentinels: [{ host: '127.0.0.1', port: unused }] } })),
      `Redis at 127.0.0.1:${unused} (database.redis.sentinels): Connection refused`,
    );
  });
});

describe('outages', { concurrency: true }, () => {
  test('either connection is ended by Redis', async (t) => {
    const backend = await backendFor(t, 'redis');
    const bus = await subscriberOn(t, configFor(backend));
    const client = await clientOf(t, backend);
    for (const name of ['curlew-subscriber', 'curlew-publisher']) {
      const [, id] = (await client.call('CLIENT', 'LIST')).match(new RegExp(`id=(\\d+) .*name=${name} `));
      assert.equal(await client.call('CLIENT', 'KILL', 'ID', id), 1);
      assert.match(
        await returns(bus),
        /^Redis at 127\.0\.0\.1:\d+ \(database\.redis\.host and port\): it closed the connection$/,
      );
      await hears(bus, bus);
    }
    await bus.stop();
  });

  test('a subscriber for which too much waits', async (t) => {
    const backend = await backendFor(t, 'redis', { outputLimit: 300_000 });
    const config = configFor(backend);
    const [slow, publisher] = await Promise.all([subscriberOn(t, config), busOn(t, config)]);
    slow.send('wait 3000');
    for (let sent = 0; sent < 40; sent++) await publisher.ask(`flood ${SUBJECT} 1000 1000`, 'flooded');
    assert.match(await returns(slow), /it closed the connection|Connection reset by peer/);
    await hears(slow, publisher);
    assert.equal((await slow.counts()).wrongOrder, 0);
    await Promise.all([slow.stop(), publisher.stop()]);
  });

  test('a Redis that says nothing is noticed within 10 s', async (t) => {
    const backend = await backendFor(t, 'redis');
    const bus = await subscriberOn(t, configFor(backend));
    backend.freeze();
    assert.match(await bus.told('down'), /: no answer for 5 s$/);
    backend.thaw();
    await bus.told('up');
    await bus.told(`in_force ${SUBJECT}`);
    await hears(bus, bus);
    await bus.stop();
  });

  test('a master that becomes a replica', async (t) => {
    const backend = await backendFor(t, 'redis');
    const other = await backendFor(t, 'redis');
    const bus = await subscriberOn(t, configFor(backend));
    const client = await clientOf(t, backend);
    await client.call('REPLICAOF', '127.0.0.1', other.address.port);
    assert.match(await bus.told('down'), /: it is a replica, not a master: messages to it do not reach all nodes$/);
    await client.call('REPLICAOF', 'NO', 'ONE');
    await bus.told('up');
    await bus.told(`in_force ${SUBJECT}`);
    await bus.stop();
  });

  test('a hundred thousand subscriptions come back', async (t) => {
    const backend = await backendFor(t, 'redis');
    const bus = await busOn(t, configFor(backend));
    await bus.ask('subscribe-many test:curlew1:c:app 100000', 'many 100000');
    const client = await clientOf(t, backend);
    await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await bus.told('down');
    await bus.told('up');
    await bus.told('many 100000');
    assert.equal(await client.call('PUBLISH', 'test:curlew1:c:app.99999', 'x'), 1);
    await bus.stop();
  });

  test('Sentinel: a new master is followed after an order, and after the death of the old one', async (t) => {
    const backend = await backendFor(t, 'redis', { replicas: 2, sentinels: 3 });
    await backend.untilWatched();
    const config = configFor(backend);
    const [one, other] = await Promise.all([subscriberOn(t, config), subscriberOn(t, config)]);
    const [{ port }] = backend.address.sentinels;
    const sentinel = await clientOf(t, backend, { host: '127.0.0.1', port });
    const masterOf = async () => Number((await sentinel.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'curlew'))[1]);

    await sentinel.call('SENTINEL', 'FAILOVER', 'curlew');
    await Promise.all([returns(one), returns(other)]);
    await hearsInTheEnd(one, other, 'after-the-order');
    const second = await masterOf();
    assert.notEqual(second, backend.address.port);

    await backend.kill(backend.address.ports.indexOf(second));
    await Promise.all([returns(one), returns(other)]);
    await hearsInTheEnd(one, other, 'after-the-death');
    assert.notEqual(await masterOf(), second);
    await Promise.all([one.stop(), other.stop()]);
  });
});
