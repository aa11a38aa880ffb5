// A page in headless Chromium, over the DevTools protocol on a pair of pipes (--remote-debugging-pipe): JSON messages,
// each ended by a zero byte, from us on file descriptor 3 and to us on 4.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--disable-background-networking',
  '--remote-debugging-pipe',
];

// Runs in the page: resolves when its text holds `text`.
function shows(text) {
  return new Promise((resolve) => {
    const there = () => document.documentElement.textContent.includes(text);
    if (there()) {
      resolve();
      return;
    }
    const observer = new MutationObserver(() => {
      if (!there()) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(document, { childList: true, characterData: true, subtree: true });
  });
}

export class Page {
  #browser;
  #profile;
  #session;
  #next = 1;
  #calls = new Map();
  #events = new Map();
  #rest = '';

  // `hear` gets each text that the page passes to the function `tell`.
  static async open(url, timeoutMs, { hear } = {}) {
    const page = new Page();
    if (hear !== undefined) page.#events.set('Runtime.bindingCalled', ({ payload }) => hear(payload));
    page.#profile = await mkdtemp(path.join(os.tmpdir(), 'curlew-chromium-'));
    page.#browser = spawn('chromium', [...ARGUMENTS, `--user-data-dir=${page.#profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
    });
    page.#listen();
    try {
      await page.#load(url, timeoutMs);
    } catch (error) {
      await page.close();
      throw error;
    }
    return page;
  }

  // Resolves when the page shows `text`.
  async shows(text, timeoutMs) {
    const expression = `(${shows})(${JSON.stringify(text)})`;
    const { exceptionDetails } = await this.#call(
      'Runtime.evaluate',
      { expression, awaitPromise: true },
      { timeoutMs, what: `the page to show "${text}"` },
    );
    if (exceptionDetails) throw new Error(`the page: ${exceptionDetails.text}`);
  }

  // Evaluates an expression in the page.
  async run(expression) {
    const { exceptionDetails } = await this.#call('Runtime.evaluate', { expression });
    if (exceptionDetails) throw new Error(`the page: ${exceptionDetails.exception?.description}`);
  }

  async close() {
    if (this.#browser.exitCode === null && this.#browser.signalCode === null && this.#browser.pid !== undefined) {
      const exited = once(this.#browser, 'close');
      process.kill(-this.#browser.pid, 'SIGKILL');
      await exited;
    }
    await rm(this.#profile, { recursive: true, force: true });
  }

  async #load(url, timeoutMs) {
    const { targetId } = await this.#call(
      'Target.createTarget',
      { url: 'about:blank' },
      { timeoutMs, what: 'Chromium to start' },
    );
    ({ sessionId: this.#session } = await this.#call('Target.attachToTarget', { targetId, flatten: true }));
    await this.#call('Page.enable');
    if (this.#events.has('Runtime.bindingCalled')) {
      await this.#call('Runtime.enable');
      await this.#call('Runtime.addBinding', { name: 'tell' });
    }
    const loaded = new Promise((resolve) => {
      this.#events.set('Page.loadEventFired', resolve);
    });
    const { errorText } = await this.#call('Page.navigate', { url });
    if (errorText) throw new Error(`the page ${url} does not load: ${errorText}`);
    await this.#within(loaded, timeoutMs, `the page ${url} to load`);
  }

  #listen() {
    let said = '';
    this.#browser.stderr.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
    this.#browser.stdio[3].on('error', () => {}); // told by 'close'
    this.#browser.stdio[4].setEncoding('utf8').on('data', (text) => this.#receive(text));
    const fail = (reason) => {
      for (const { reject } of this.#calls.values()) reject(new Error(`Chromium ${reason}; it said:\n${said}`));
      this.#calls.clear();
    };
    this.#browser.on('error', (error) => fail(`does not start: ${error.message}`));
    this.#browser.on('close', (code, signal) => fail(`ended (${signal ?? code})`));
  }

  #receive(text) {
    const messages = (this.#rest + text).split('\0');
    this.#rest = messages.pop();
    for (const message of messages) this.#handle(JSON.parse(message));
  }

  #handle({ id, method, params, result, error }) {
    if (id === undefined) {
      this.#events.get(method)?.(params);
      return;
    }
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error) call?.reject(new Error(`DevTools: ${error.message}`));
    else call?.resolve(result);
  }

  #call(method, params = {}, { timeoutMs = 30000, what = method } = {}) {
    const id = this.#next++;
    const answer = new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
    });
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    this.#browser.stdio[3].write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    return this.#within(answer, timeoutMs, what);
  }

  async #within(promise, timeoutMs, what) {
    let timer;
    const over = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`waited ${timeoutMs / 1000} s in vain for ${what}`)), timeoutMs);
    });
    try {
      return await Promise.race([promise, over]);
    } finally {
      clearTimeout(timer);
    }
  }
}
