// Databases that are Java programs, from the jars that scripts/test-jars.sh fetched.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { program } from './daemon.js';

const JARS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../backends/jars');

// The folder of a database's jars; throws with what Maven said if they could not be fetched.
export function jarsOf(name, jars = JARS) {
  if (existsSync(path.join(jars, '.fetched'))) return path.join(jars, name);
  const log = path.join(jars, 'maven.log');
  const said = existsSync(log) ? `. It said:\n${readFileSync(log, 'utf8').split('\n').slice(-30).join('\n')}` : '';
  throw new Error(`the jars of ${name} are not in ${jars}; scripts/test-jars.sh fetches them${said}`);
}

export function jarIn(folder, start) {
  return path.join(
    folder,
    readdirSync(folder).find((file) => file.startsWith(start)),
  );
}

export function java() {
  return program('java', 'openjdk-17-jre-headless');
}
