// What a configuration file holds that is not a plain value, seen from the command line.

import assert from 'node:assert/strict';
import test from 'node:test';

import { appsDone, exported, sqliteConfig } from '../lib/apps-command.js';

test('imports_and_stores_keep_what_looks_like_a_variable', async (t) => {
  const app = { id: 'a', key: 'k', secret: '$' + '{NOT_SET}' };
  const config = sqliteConfig(t);
  await appsDone(t, ['import', '-', '-c', config], { input: JSON.stringify({ apps: [app] }) });
  assert.equal((await exported(t, config))[0].secret, app.secret);
});
