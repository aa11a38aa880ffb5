// A database for a test: started for it, and gone after it.

import { kindOf } from './kinds.js';

/*
 * Starts a back end of a kind (kinds.js) for the test or suite whose `t` (or {after}) this is. What comes back has
 *   config(name)      the members of Curlew's configuration that name a place of this name in it
 *   createPlace(name) makes a database (MariaDB, PostgreSQL) of that name
 *   client(name)      a connection of the database's own client library
 *   and the methods of Backend: stop, start, kill, freeze, thaw
 */
export async function backendFor(t, kind, options) {
  const Kind = kindOf(kind);
  const backend = new Kind(options);
  t.after(() => backend.discard());
  await backend.launch();
  return Object.assign(backend, {
    config: (name) => Kind.config(backend.address, name),
    createPlace: (name) => Kind.createPlace(backend.address, name),
    client: (name) => Kind.client(backend.address, name),
  });
}
