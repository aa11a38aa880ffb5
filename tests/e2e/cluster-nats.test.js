// The bus on NATS: signing in, several servers, outages, limits, and what others send to its subjects.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { backendFor } from '../lib/backends/index.js';
import { freePorts } from '../lib/backends/daemon.js';
import { Nats } from '../lib/backends/nats.js';
import { startBus } from '../lib/bus-shell.js';
import { folderWith } from '../lib/process.js';

const PREFIX = 'test:';

// A bus that is up. Without a sanitizer where the time of the server's side counts.
async function busOn(t, config) {
  const bus = startBus(t, config);
  await bus.told('up');
  return bus;
}

// What one publishes arrives at the other, and both end well.
async function exchange(one, other) {
  await one.ask('subscribe greetings', 'in_force greetings');
  assert.equal(await other.ask('publish greetings hello', 'published'), 'yes');
  assert.equal(await one.told('message greetings'), 'hello');
  await one.stop();
  await other.stop();
}

describe('signing in', { concurrency: true }, () => {
  const kinds = {
    'user and password': { auth: 'password' },
    'a token': { auth: 'token' },
    'an NKey': { auth: 'nkey' },
    TLS: { tls: true },
    'TLS with a certificate of the client, and a password': { tls: true, clientCertificate: true, auth: 'password' },
  };
  for (const [name, options] of Object.entries(kinds)) {
    test(name, async (t) => {
      const nats = await backendFor(t, 'nats', options);
      const config = nats.config(PREFIX);
      if (options.clientCertificate) {
        const { certificate, key } = nats.address;
        Object.assign(config.adapter.nats.tls, { cert_path: certificate, key_path: key });
      }
      await exchange(await busOn(t, config), await busOn(t, config));
    });
  }

  test('user and password in the URL', async (t) => {
    const nats = await backendFor(t, 'nats', { auth: 'password' });
    const { port, user, password } = nats.address;
    const servers = [`nats://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}`];
    const config = Nats.config({ servers }, PREFIX);
    await exchange(await busOn(t, config), await busOn(t, config));
  });
});

describe('what is refused names the setting', { concurrency: true }, () => {
  const down = async (t, config) => {
    const bus = startBus(t, config);
    const why = await bus.told('down');
    await bus.stop();
    assert.equal(bus.lines.filter((line) => line.startsWith('down ')).length, 1);
    return why;
  };

  test('a wrong password, token or key, and none', async (t) => {
    const nats = await backendFor(t, 'nats', { auth: 'password' });
    const { servers } = nats.address;
    const config = (more) => Nats.config({ servers, ...more }, PREFIX);
    assert.match(
      await down(t, config({ user: 'curlew', password: 'wrong' })),
      /^NATS at 127\.0\.0\.1:\d+: it refuses adapter\.nats\.username and adapter\.nats\.password$/,
    );
    assert.match(await down(t, config({ token: 'wrong' })), /: it refuses adapter\.nats\.token$/);
    assert.match(await down(t, config({})), /: it wants to know who connects: set adapter\.nats\.username and /);
    const other = new Nats({ auth: 'nkey' });
    t.after(() => other.discard());
    await other.create();
    assert.match(
      await down(t, config({ nkeySeed: other.address.nkeySeed })),
      /: it refuses the key in adapter\.nats\.nkey_seed_path$/,
    );
    assert.match(
      await down(t, Nats.config({ servers: servers.map((url) => url.replace('://', '://a:b@')) }, PREFIX)),
      /: it refuses the user in adapter\.nats\.servers$/,
    );
  });

  test('a port where nothing, or something else, listens, and a host that is none', async (t) => {
    const nats = await backendFor(t, 'nats');
    const [unused] = await freePorts(1);
    const at = (host) => Nats.config({ servers: [`nats://${host}`] }, PREFIX);
    assert.match(
      await down(t, at(`127.0.0.1:${unused}`)),
      /^NATS at 127\.0\.0\.1:\d+ \(adapter\.nats\.servers\): Connection refused$/,
    );
    const http = at(`127.0.0.1:${nats.monitorPorts[0]}`);
    http.adapter.nats.connection_timeout_ms = 1000;
    assert.match(await down(t, http), /\(adapter\.nats\.servers\): no answer in time$/);
    assert.match(
      await down(t, at('no-such-host.invalid')),
      /^NATS at no-such-host\.invalid:4222 \(adapter\.nats\.servers\)/,
    );
  });

  test('TLS: a server of another authority, of another name, and one without it', async (t) => {
    const nats = await backendFor(t, 'nats', { tls: true });
    const plain = await backendFor(t, 'nats');
    const { servers, ca } = nats.address;
    assert.match(
      await down(t, Nats.config({ servers }, PREFIX)),
      /^NATS at localhost:\d+: TLS failed: .*; look at adapter\.nats\.tls/,
    );
    const byNumber = servers.map((url) => url.replace('localhost', '127.0.0.2'));
    assert.match(await down(t, Nats.config({ servers: byNumber, ca }, PREFIX)), /127\.0\.0\.2:\d+/);
    assert.match(
      await down(t, Nats.config({ servers: plain.address.servers, ca }, PREFIX)),
      /: it does not offer TLS: write nats:\/\/ in place of tls:\/\/$/,
    );
  });

  test('a file that cannot be read, and one without a seed', async (t) => {
    const folder = folderWith(t, { 'nkey.seed': 'no seed\n' });
    const refused = async (config) => {
      const bus = startBus(t, config);
      await assert.rejects(bus.told('up'));
      return bus.errors.join('\n');
    };
    const servers = ['nats://localhost'];
    assert.match(
      await refused(Nats.config({ servers, nkeySeed: `${folder}/nkey.seed` }, PREFIX)),
      /adapter\.nats\.nkey_seed_path .*nkey\.seed: there is no seed of a user in it/,
    );
    assert.match(
      await refused(Nats.config({ servers, nkeySeed: `${folder}/none` }, PREFIX)),
      /adapter\.nats\.nkey_seed_path .*none: No such file or directory/,
    );
    assert.match(
      await refused(Nats.config({ servers, ca: `${folder}/none` }, PREFIX)),
      /adapter\.nats\.tls\.ca_path .*none: No such file or directory/,
    );
  });
});
