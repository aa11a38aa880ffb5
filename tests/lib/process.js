// Programs that a test starts itself and watches line by line: curlew with any command line, scripts of Node.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { Inbox, TIMEOUT_MS, within } from './inbox.js';

// A temporary folder that is gone after the test, with these files in it ({name: text or object}); returns its path.
export function folderWith(t, files = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'curlew-e2e-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(path.join(folder, name), typeof content === 'string' ? content : JSON.stringify(content, null, 2));
  }
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/*
 * Starts a program; it is killed after the test if it still runs. Returns {child, out, err, exited}: the lines of its
 * two outputs as inboxes, and a function that waits for its end, {code, signal}. With `input` the test writes to
 * child.stdin.
 */
export function start(t, command, args, { env = {}, cwd, input = false } = {}) {
  const kept = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (/^(PATH|HOME|LANG|TZ|\w+SAN_OPTIONS)$/.test(name)) kept[name] = value;
  }
  const child = spawn(command, args, {
    cwd,
    env: { ...kept, ...env },
    stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  });
  child.stdin?.on('error', () => {}); // told by its end
  const name = `${path.basename(command)} ${args.join(' ')}`;
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  const out = lines(child.stdout, `output of ${name}`);
  const err = lines(child.stderr, `errors of ${name}`);
  ended
    .finally(() => {
      out.close(`${name} has ended`);
      err.close(`${name} has ended`);
    })
    .catch(() => {});
  t.after(async () => {
    // The report of a sanitizer is longer than what an error quotes.
    if (t.passed === false && err.all.some((line) => /Sanitizer/.test(line))) console.log(err.all.join('\n'));
    child.kill('SIGKILL');
    await ended.catch(() => {});
  });
  return { child, out, err, exited: (timeoutMs = TIMEOUT_MS) => within(ended, `${name} to end`, timeoutMs) };
}

function lines(stream, what) {
  const inbox = new Inbox(what, (line) => line);
  let rest = '';
  stream.setEncoding('utf8').on('data', (chunk) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop();
    parts.forEach((line) => inbox.push(line));
  });
  stream.on('end', () => rest !== '' && inbox.push(rest));
  return inbox;
}
