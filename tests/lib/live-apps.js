// Servers whose apps change while they run, in the two ways there are: the file and SIGHUP, or a store and the admin
// API. Tests of what follows a change run with both.

import assert from 'node:assert/strict';
import path from 'node:path';

import { folderWith } from './process.js';
import { serverFor } from './server.js';

const TOKEN = 'a token of at least thirty-two characters';

async function fromFile(t, app, { config = {}, ...options } = {}) {
  const server = await serverFor(t, { apps: [app], config, ...options });
  return {
    server,
    change: async (fields) => {
      const [was] = server.config.app_manager.array.apps;
      const { message } = await server.reload({ apps: [{ ...was, ...fields }] });
      assert.match(message, /^apps reloaded: 0 added, 1 changed/);
    },
  };
}

async function fromStore(t, app, { config = {}, env = {}, ...options } = {}) {
  const server = await serverFor(t, {
    apps: [app],
    config: {
      ...config,
      app_manager: { driver: 'sqlite' },
      database: { sqlite: { path: path.join(folderWith(t), 'apps.db') } },
    },
    env: { CURLEW_ADMIN_TOKEN: TOKEN, CURLEW_ADMIN_LISTEN: '127.0.0.1:0', ...env },
    ...options,
  });
  const base = (await server.waitForLog(/^admin API on /)).message.match(/http:\/\/\S+/)[0];
  return {
    server,
    change: async (fields) => {
      const answer = await fetch(`${base}/${app.id}`, {
        method: 'PATCH',
        headers: { authorization: `Bearer ${TOKEN}` },
        body: JSON.stringify(fields),
      });
      assert.equal(answer.status, 200, await answer.text());
    },
  };
}

// By the way in which apps change: (t, app, options of serverFor) => {server, change(fields)}. `change` resolves when
// the new record is in force.
export const LIVE_APPS = { 'a file and SIGHUP': fromFile, 'SQLite and the admin API': fromStore };
