// Cassandra over TLS: what each mode asks for, a client's certificate, and what is said when there is no agreement.

import assert from 'node:assert/strict';
import path from 'node:path';
import test, { after } from 'node:test';

import { apps, appsDone, migrate } from '../lib/apps-command.js';
import { backendFor } from '../lib/backends/index.js';
import { addressOutside, lead } from '../lib/middle.js';
import { makeCertificates } from '../lib/backends/certificates.js';
import { folderWith } from '../lib/process.js';

const [encrypted, plain] = await Promise.all([
  backendFor({ after }, 'cassandra', { tls: true }), // from those who use TLS it wants a certificate by its authority
  backendFor({ after }, 'cassandra'),
]);
const { ca, certificate, key } = encrypted.address.tls;
const ours = { cert_path: certificate, key_path: key };
const strangers = makeCertificates(folderWith({ after }));

function fileFor(t, backend, tls, more = {}) {
  const config = backend.config('curlew');
  Object.assign(config.app_manager.scylladb, { tls, ...more });
  return path.join(folderWith(t, { 'config.json': config }), 'config.json');
}

async function migrated(t, file) {
  const { code, stderr } = await migrate(t, file);
  assert.equal(code, 0, stderr);
}

async function refused(t, file, pattern) {
  const { code, stderr } = await apps(t, ['list', '-c', file]);
  assert.equal(code, 1, stderr);
  assert.match(stderr, pattern);
}

test('an_encrypted_connection_is_made_where_it_is_asked_for_or_offered', async (t) => {
  const { port } = encrypted.address;
  await migrated(t, fileFor(t, encrypted, { mode: 'disable' }));
  for (const tls of [
    { mode: 'require', ...ours },
    { mode: 'prefer', ...ours },
    { mode: 'verify', ca_path: ca, ...ours },
  ]) {
    for (const host of ['127.0.0.1', 'localhost'])
      await appsDone(t, ['list', '-c', fileFor(t, encrypted, tls, { nodes: [`${host}:${port}`] })]);
  }
  const system = await apps(t, ['list', '-c', fileFor(t, encrypted, { mode: 'verify', ...ours })], {
    env: { SSL_CERT_FILE: ca },
  });
  assert.equal(system.code, 0, system.stderr);
  await appsDone(t, ['list', '-c', fileFor(t, encrypted, { mode: 'disable' })]);
});

test('the_client_shows_the_certificate_that_it_was_given', async (t) => {
  // Were one of these connections plain, it would be served.
  for (const mode of ['require', 'prefer', 'verify']) {
    await refused(t, fileFor(t, encrypted, { mode, ca_path: ca }), /the node closed the connection/);
    await refused(
      t,
      fileFor(t, encrypted, { mode, ca_path: ca, cert_path: strangers.certificate, key_path: strangers.key }),
      /the node closed the connection/,
    );
  }
});

test('verify_wants_a_certificate_by_the_authority_and_for_the_node', async (t) => {
  for (const tls of [{ ca_path: strangers.ca }, {}]) {
    await refused(
      t,
      fileFor(t, encrypted, { mode: 'verify', ...tls, ...ours }),
      /app_manager\.scylladb\.tls: the node's certificate is refused: unable to get local issuer/,
    );
  }
  // Another name of this machine, which the certificate does not bear.
  const nodes = [`0.0.0.0:${encrypted.address.port}`];
  await refused(
    t,
    fileFor(t, encrypted, { mode: 'verify', ca_path: ca, ...ours }, { nodes }),
    /certificate is refused: IP address mismatch/,
  );
  await migrated(t, fileFor(t, encrypted, { mode: 'require', ...ours }, { nodes }));
});

test('a_file_that_cannot_be_used_is_named_with_its_setting', async (t) => {
  const cases = [
    [
      { ca_path: '/no/such/ca.pem' },
      /app_manager\.scylladb\.tls\.ca_path \/no\/such\/ca\.pem: No such file or directory/,
    ],
    [
      { ca_path: ca, cert_path: '/no/such/cert.pem' },
      /app_manager\.scylladb\.tls\.cert_path \/no\/such\/cert\.pem: No such file/,
    ],
    [{ ca_path: ca, cert_path: certificate }, /app_manager\.scylladb\.tls\.key_path \S*server\.pem: /],
    [
      { ca_path: ca, cert_path: certificate, key_path: strangers.key },
      /app_manager\.scylladb\.tls\.key_path \S*server-key\.pem: key values mismatch/,
    ],
  ];
  for (const [tls, pattern] of cases)
    for (const mode of ['verify', 'prefer']) await refused(t, fileFor(t, encrypted, { mode, ...tls }), pattern);
});

test('a_node_without_tls_is_taken_by_prefer_and_by_nothing_stricter', async (t) => {
  for (const mode of ['prefer', 'disable']) await migrated(t, fileFor(t, plain, { mode }));
  for (const tls of [{ mode: 'require' }, { mode: 'verify', ca_path: ca }]) {
    await refused(t, fileFor(t, plain, tls), /app_manager\.scylladb\.tls: the node does not speak TLS/);
  }
});

test('a_password_that_leaves_without_tls_for_another_machine_is_a_warning', async (t) => {
  const host = addressOutside();
  const warnings = async (file) =>
    (await apps(t, ['list', '-c', file])).stderr.match(/went to \S+ without encryption/g);
  const through = { nodes: [`${host}:${await lead(t, 0, plain.address, undefined, host)}`] };
  await migrated(t, fileFor(t, plain, { mode: 'disable' }));
  for (const mode of ['disable', 'prefer'])
    assert.deepEqual(await warnings(fileFor(t, plain, { mode }, through)), [
      `went to ${through.nodes[0]} without encryption`,
    ]);
  assert.equal(await warnings(fileFor(t, plain, { mode: 'disable' })), null);
  const secret = { nodes: [`${host}:${await lead(t, 0, encrypted.address, undefined, host)}`] };
  assert.equal(await warnings(fileFor(t, encrypted, { mode: 'prefer', ...ours }, secret)), null);
});
