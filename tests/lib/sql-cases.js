// Cases of the SQL stores that are the same for each: `here` is a place of theirs, {sql(statement), config(...),
// settings(...)}.

import assert from 'node:assert/strict';

import { api } from './api.js';
import { BARE, apps, appsDone, migrate, refused, show } from './apps-command.js';
import { serverFor } from './server.js';

/*
 * A row inserted by hand, with the statement that the documentation of the protocol family has, is an app with the
 * defaults: in a table of ours, and in `theirs` (if given), a place with one that another program made without.
 * `ours.key` is the quoted name of the column key.
 */
export async function takesRowsByHand(t, ours, theirs) {
  const key = ours.key ?? '"key"';
  for (const place of theirs ? [ours, theirs] : [ours]) {
    await migrate(t, place.config());
    await migrate(t, place.config()); // which finds nothing to do
    await place.sql(
      'INSERT INTO applications (id, key, secret, max_connections, max_client_events_per_second) '.replace('key', key) +
        "VALUES ('by-hand', 'by-hand-key', 's', 5, 6)",
    );
    await place.sql(`INSERT INTO applications (id, ${key}, secret) VALUES ('bare', 'bare-key', 's')`);
    const { id, ...fields } = BARE;
    assert.deepEqual(await show(t, 'by-hand', place.config()), {
      ...fields,
      id: 'by-hand',
      key: 'by-hand-key',
      secret: 's',
      max_connections: 5,
      max_client_events_per_second: 6,
    });
    assert.deepEqual(await show(t, 'bare', place.config()), { ...fields, id, key: 'bare-key', secret: 's' });
    const [times] = await place.sql(
      'SELECT COUNT(*) AS n FROM applications WHERE created_at IS NULL OR updated_at IS NULL',
    );
    assert.equal(Number(times.n), 0);
  }
}

/*
 * A default that a column has stays. `here` is a place with a table that another program made, in which
 * max_connections has the default 1000, as in Sockudo's sql/init-sql.sql, enabled has false, and the other number none.
 * `key` is the quoted name of the column key.
 */
export async function keepsDefaultsThatAreThere(t, here, key) {
  await migrate(t, here.config());
  await here.sql(`INSERT INTO applications (id, ${key}, secret) VALUES ('bare', 'bare-key', 's')`);
  const app = await show(t, 'bare', here.config());
  assert.deepEqual([app.max_connections, app.enabled, app.max_client_events_per_second], [1000, false, 100]);
}

/*
 * What the table has no column for is refused and never dropped, until there is one. `who` are the settings of a user
 * who may read and write `here`, a place with an old table and in it the app `old`.
 */
export async function refusesWhatHasNoColumn(t, here, who, old) {
  const config = here.config(who);
  await refused(
    t,
    ['create', '-c', config, '--id', 'a', '--set', 'allowed_origins=["https://a.example"]'],
    /"a" was not created: the table has no column allowed_origins/,
  );
  await refused(
    t,
    ['update', 'old', '-c', config, '--set', 'max_event_batch_size=0'],
    /the table has no column max_event_batch_size/,
  );
  assert.deepEqual(await show(t, 'old', config), old);
  await refused(
    t,
    ['rotate-secret', 'old', '--overlap', '1h', '-c', config],
    /no column previous_secret; an administrator should run: ALTER TABLE .*previous_secret.*previous_secret_until/,
  );
  assert.deepEqual(await show(t, 'old', config), old);
  const rotation = ['previous_secret=s', 'previous_secret_until=4102444800'].flatMap((field) => ['--set', field]);
  const said = await refused(
    t,
    ['update', 'old', '-c', config, ...rotation],
    /no column previous_secret; an administrator should run: ALTER TABLE .*previous_secret.*previous_secret_until/,
  );
  await here.sql(said.match(/the table has no column .*; an administrator should run: (.*)$/m)[1]);
  await appsDone(t, ['update', 'old', '-c', config, ...rotation]);
  assert.equal((await show(t, 'old', config)).previous_secret_until, 4102444800);
  await appsDone(t, ['update', 'old', '-c', config, '--unset', 'previous_secret', '--unset', 'previous_secret_until']);
  assert.deepEqual(await show(t, 'old', config), old);
  const token = 'a token of at least thirty-two characters';
  const server = await serverFor(t, {
    apps: [],
    config: here.settings(who, { cache: { enabled: false } }),
    env: { CURLEW_ADMIN_TOKEN: token, CURLEW_ADMIN_LISTEN: '127.0.0.1:0' },
  });
  const { message } = await server.waitForLog(/^admin API on /);
  const allowed_origins = ['https://a.example'];
  const [url] = message.match(/http:\/\/\S+/);
  const headers = { authorization: `Bearer ${token}` };
  const create = () =>
    fetch(url, {
      method: 'POST',
      headers,
      body: JSON.stringify({ id: 'new', key: 'new-key', secret: 's', allowed_origins }),
    });
  // Over every connection to the database.
  const readOften = (id) =>
    Promise.all(Array.from({ length: 20 }, async () => (await fetch(`${url}/${id}`, { headers })).json()));
  assert.equal((await readOften('old'))[19].id, 'old');
  const answer = await create();
  assert.equal(answer.status, 507);
  assert.match((await answer.json()).error, /the table has no column allowed_origins/);
  await here.sql('ALTER TABLE applications ADD COLUMN allowed_origins JSON');
  assert.equal((await create()).status, 201);
  assert.deepEqual((await show(t, 'new', config)).allowed_origins, allowed_origins);
  while ((await readOften('new')).some((app) => app.allowed_origins?.[0] !== allowed_origins[0]));
}

// A column or table that goes away under a running server is not missed.
export async function missesNothingThatGoesAway(t, here) {
  const server = await serverFor(t, { apps: [], config: here.settings({}, { cache: { enabled: false } }) });
  const status = async () =>
    (await api(server, 'GET', '/channels', { app: { id: 'old', key: 'old-key', secret: 's' } })).status;
  const answers = async () => Promise.all(Array.from({ length: 20 }, status));
  assert.deepEqual(new Set(await answers()), new Set([200]));
  await here.sql('ALTER TABLE applications DROP COLUMN webhooks');
  assert.deepEqual(new Set(await answers()), new Set([200]));
  await here.sql('ALTER TABLE applications RENAME TO aside');
  assert.deepEqual(new Set(await answers()), new Set([503]));
  await here.sql('ALTER TABLE aside RENAME TO applications');
  while ((await status()) !== 200);
}

/*
 * Encrypted secrets are longer than the column of other programs' tables. Where this user may widen it, that is done;
 * where not, what does not fit is refused with the statement to run. `here` is a place with an old table and in it the
 * app `old`; `limited` are the settings of a user who may not change it. `width(here)` is the length of the columns.
 */
export async function makesRoomForEncryptedSecrets(t, here, limited, width) {
  const env = { CURLEW_SECRETS_KEY: Buffer.alloc(32, 1).toString('base64') };
  const config = here.config(limited);
  await migrate(t, here.config()); // by who may
  assert.deepEqual(await width(here), [255, 255]);
  const create = (id, length) =>
    apps(t, ['create', '-c', config, '--id', id, '--key', id, '--secret', 's'.repeat(length)], { env });
  const stored = async () =>
    Object.fromEntries((await here.sql('SELECT id, secret FROM applications')).map((row) => [row.id, row.secret]));

  assert.equal((await create('fits', 158)).code, 0);
  const tooLong = await create('long', 159);
  assert.equal(tooLong.code, 1);
  const [, statement] = tooLong.stderr.match(
    /the column secret has room for 255 characters, and 258 are needed for the encrypted secret; an administrator should run: (.*)$/m,
  );
  assert.match((await stored()).fits, /^enc:1:[A-Za-z0-9+/]+=*$/);
  assert.equal((await stored()).fits.length, 254);
  assert.equal((await stored()).old, 's');
  assert.equal((await stored()).long, undefined);

  await here.sql(statement);
  assert.deepEqual(await width(here), [512, 512]);
  assert.equal((await create('long', 255)).code, 0);
  assert.equal((await stored()).long.length, 386);
  const shown = await appsDone(t, ['show', 'long', '-c', config, '--json', '--show-secrets'], { env });
  assert.equal(shown.secret, 's'.repeat(255));
  const without = await apps(t, ['show', 'long', '-c', config]);
  assert.deepEqual([without.code, without.stdout], [1, '']);
  assert.match(without.stderr, /app "long": secret is encrypted, and there is no key/);
  assert.equal((await migrate(t, here.config())).code, 0); // nothing is narrowed
  assert.deepEqual(await width(here), [512, 512]);
}
