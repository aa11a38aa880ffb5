// Databases that are Java programs, from the jars that scripts/test-jars.sh fetched.

import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { program } from './daemon.js';

const JARS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../backends/jars');

// The folder of a database's jars.
export function jarsOf(name) {
  const folder = path.join(JARS, name);
  if (!existsSync(folder)) throw new Error(`there is no ${folder}; scripts/test-jars.sh fetches it`);
  return folder;
}

export function jarIn(folder, start) {
  return path.join(folder, readdirSync(folder).find((file) => file.startsWith(start)));
}

export function java() {
  return program('java', 'openjdk-17-jre-headless');
}
