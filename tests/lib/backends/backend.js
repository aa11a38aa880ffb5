/*
 * What all back ends have in common. A back end is a database of one kind in a folder of its own, with one daemon or,
 * for a cluster, several. A kind's class says how the data is made (`create`, which fills `daemons` and `address`); the
 * rest is here.
 *
 * `address` is plain data, which travels to the test: host, port, user, password and what else the kind's config()
 * needs.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export class Backend {
  daemons = [];
  address = {};

  constructor(options = {}) {
    this.options = options;
    this.folder = mkdtempSync(path.join(tmpdir(), 'curlew-backend-'));
  }

  file(...names) {
    return path.join(this.folder, ...names);
  }

  // Makes the data and starts on it; with the option `first` only that daemon of a cluster.
  async launch() {
    await this.create();
    await this.start(this.options.first);
  }

  // Starts what does not run, on the same data and ports. A `node` is a daemon's place in a cluster; without one, all
  // are meant.
  async start(node) {
    for (const daemon of this.#chosen(node)) if (!daemon.isRunning) await daemon.start();
  }

  async stop(node) {
    await Promise.all(this.#chosen(node).map((daemon) => daemon.stop()));
  }

  async kill(node) {
    await Promise.all(this.#chosen(node).map((daemon) => daemon.kill()));
  }

  freeze(node) {
    for (const daemon of this.#chosen(node)) daemon.freeze();
  }

  thaw(node) {
    for (const daemon of this.#chosen(node)) daemon.thaw();
  }

  // Nothing is left of it.
  async discard() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #chosen(node) {
    return node === undefined ? this.daemons : [this.daemons[node]];
  }
}
