// A bus driver in a process of its own, driven by lines: tests/bus_shell/bus_shell.c says which.

import path from 'node:path';

import { TIMEOUT_MS } from './inbox.js';
import { folderWith, start } from './process.js';
import { BINARY, RELEASE_BINARY } from './server.js';

// The program in the folder of a build of the server.
const shellBeside = (binary) => path.join(path.dirname(binary), 'tests/bus_shell/bus_shell');

/*
 * Starts a bus with the `adapter` of this configuration; `release`: without a sanitizer. Returns
 *   send(line)         gives a command
 *   told(beginning)    waits for a line that begins so; resolves to the rest of it
 *   ask(line, answer)  both
 *   lines              all lines so far
 *   stop()             closes the bus, and checks that the process ends without an error
 */
export function startBus(t, config, { release = false } = {}) {
  const folder = folderWith(t, { 'config.json': config });
  const process = start(t, shellBeside(release ? RELEASE_BINARY : BINARY), [path.join(folder, 'config.json')], {
    input: true,
  });
  const send = (line) => process.child.stdin.write(`${line}\n`);
  const told = async (beginning, timeoutMs = TIMEOUT_MS) => {
    const line = await process.out.next((one) => one === beginning || one.startsWith(`${beginning} `), timeoutMs);
    return line.slice(beginning.length + 1);
  };
  return {
    pid: process.child.pid,
    send,
    told,
    ask(line, answer) {
      send(line);
      return told(answer);
    },
    get lines() {
      return process.out.all;
    },
    get errors() {
      return process.err.all;
    },
    async state() {
      send('state');
      const words = (await told('state')).split(' ').map((word) => word.split('='));
      return Object.fromEntries(words.map(([name, value]) => [name, Number(value)]));
    },
    async counts() {
      send('counts');
      const [messages, wrongOrder, bytes] = (await told('counts')).split(' ').map(Number);
      return { messages, wrongOrder, bytes };
    },
    async stop(withinMs = 5000) {
      send(`close ${withinMs}`);
      await told('closed');
      process.child.stdin.end();
      const { code, signal } = await process.exited();
      if (code !== 0) throw new Error(`bus_shell ended with ${signal ?? code}: ${process.err.all.join('\n')}`);
    },
  };
}
