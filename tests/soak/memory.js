// The resident memory of the server: after the warm-up it may not grow.

import { readFileSync } from 'node:fs';

// Of the time of the run: the load is the same from here on.
const WARM_UP_S = 120;
const GROWTH_PART = 0.05;
const GROWTH_BYTES = 2 * 1024 * 1024;

function median(list) {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
}

export class Memory {
  #samples = [];

  constructor(pid, seconds) {
    this.pid = pid;
    this.warmUp = Math.min(WARM_UP_S, Math.floor(seconds / 3));
    this.window = Math.max(5, Math.min(60, Math.floor(seconds / 6)));
  }

  // Once a second.
  sample() {
    const [, kilobytes] = readFileSync(`/proc/${this.pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB/m);
    this.#samples.push(Number(kilobytes) * 1024);
  }

  get #begin() {
    return median(this.#samples.slice(this.warmUp, this.warmUp + this.window));
  }

  get #end() {
    return median(this.#samples.slice(-this.window));
  }

  judge(problem) {
    const grown = this.#end - this.#begin;
    if (grown > GROWTH_BYTES + GROWTH_PART * this.#begin)
      problem(`memory grew from ${this.#begin} to ${this.#end} bytes after the warm-up`);
  }

  summary() {
    return `memory ${(this.#begin / 1e6).toFixed(1)} MB after the warm-up, ${(this.#end / 1e6).toFixed(1)} MB at the end`;
  }
}
