// A program whose output is awaited, text by text.

import { spawn } from 'node:child_process';

export class Program {
  #output = '';
  #seen = 0;
  #waiting = null;
  #ended = false;

  // Starts `command` with `args`. `name` stands before each line that it says. Further options are those of spawn().
  constructor(name, command, args, options = {}) {
    this.name = name;
    // A group of its own, so that what it starts can be ended with it, as Ctrl-C in a terminal does.
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => this.#say(text));
    }
    this.exited = new Promise((resolve, reject) => {
      this.child.on('error', reject);
      this.child.on('close', (code, signal) => {
        this.#ended = true;
        this.#look();
        resolve({ code, signal });
      });
    });
    this.exited.catch(() => {});
  }

  get output() {
    return this.#output;
  }

  // Resolves when `text` has come since what was awaited before; rejects when the program ends or the time is over.
  async says(text, timeoutMs) {
    let timer;
    try {
      await new Promise((resolve, reject) => {
        timer = setTimeout(
          () => reject(new Error(`${this.name} did not say "${text}" within ${timeoutMs / 1000} s`)),
          timeoutMs,
        );
        this.#waiting = { text, resolve, reject };
        this.#look();
      });
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
    }
  }

  // Ends the program and all that it started, and waits for it.
  async stop(signal = 'SIGINT') {
    if (!this.#ended && this.child.pid !== undefined) process.kill(-this.child.pid, signal);
    return this.exited;
  }

  #say(text) {
    this.#output += text;
    process.stdout.write(text.replace(/^(?=[^\n])/gm, `${this.name}: `));
    this.#look();
  }

  #look() {
    if (this.#waiting === null) return;
    const { text, resolve, reject } = this.#waiting;
    const at = this.#output.indexOf(text, this.#seen);
    if (at >= 0) {
      this.#seen = at + text.length;
      resolve();
    } else if (this.#ended) {
      reject(new Error(`${this.name} ended without saying "${text}"`));
    }
  }
}
