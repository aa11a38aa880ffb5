// A queue of what arrived, for tests that wait for events instead of sleeping.
//
// Nothing is ever dropped: `all` keeps every item in the order of arrival, and an item leaves `waiting` only when a
// test asks for it. So a test can wait for one item and then look at what arrived before it.

// Sanitizer builds on a busy machine are slow; a test that passes never waits this long.
export const TIMEOUT_MS = Number(process.env.CURLEW_TEST_TIMEOUT_MS ?? 60_000);
// For what takes long on any machine, and for whole tests that may hang.
export const LONG_TIMEOUT_MS = 10 * TIMEOUT_MS;

export class Inbox {
  all = [];
  waiting = [];
  #takers = [];
  #closedBy = null;

  // `what` names the queue in the message of a timeout, `describe` shows its items there.
  constructor(what, describe = (item) => JSON.stringify(item)) {
    this.what = what;
    this.describe = describe;
  }

  push(item) {
    this.all.push(item);
    this.waiting.push(item);
    this.#settle();
  }

  // Nothing more will come: whoever waits for something fails at once, with this reason.
  close(reason) {
    this.#closedBy ??= reason;
    this.#settle();
  }

  // Takes the first item that the predicate accepts, waiting for it if need be. Items before it stay in `waiting`.
  next(predicate = () => true, timeoutMs = TIMEOUT_MS) {
    return this.#take(
      (items) => {
        const index = items.findIndex((item) => predicate(item));
        return index < 0 ? null : items.splice(index, 1)[0];
      },
      predicate,
      timeoutMs,
    );
  }

  // Takes everything up to the first item that the predicate accepts; that one is the last of the returned array.
  through(predicate, timeoutMs = TIMEOUT_MS) {
    return this.#take(
      (items) => {
        const index = items.findIndex((item) => predicate(item));
        return index < 0 ? null : items.splice(0, index + 1);
      },
      predicate,
      timeoutMs,
    );
  }

  // Takes `count` items in order of arrival, skipping those that the predicate refuses (they stay).
  async take(count, predicate = () => true, timeoutMs = TIMEOUT_MS) {
    const taken = [];
    while (taken.length < count) taken.push(await this.next(predicate, timeoutMs));
    return taken;
  }

  #take(attempt, predicate, timeoutMs) {
    const origin = new Error();
    return new Promise((resolve, reject) => {
      const taker = { attempt, resolve, fail: null, timer: null };
      taker.fail = (why) => {
        const recent = this.all
          .slice(-10)
          .map((item) => `\n    ${shorten(this.describe(item))}`)
          .join('');
        const wanted = predicate.label ?? shorten(String(predicate));
        const error = new Error(
          `${this.what}: ${why} while waiting for ${wanted}; ` +
            `${this.all.length} arrived, ${this.waiting.length} not taken; the last ones:${recent || ' none'}`,
        );
        error.stack = `${error.message}\n${origin.stack.split('\n').slice(2).join('\n')}`;
        reject(error);
      };
      taker.timer = setTimeout(() => {
        this.#takers.splice(this.#takers.indexOf(taker), 1);
        taker.fail(`nothing in ${timeoutMs} ms`);
      }, timeoutMs);
      this.#takers.push(taker);
      this.#settle();
    });
  }

  #settle() {
    for (const taker of [...this.#takers]) {
      const found = taker.attempt(this.waiting);
      if (found === null && this.#closedBy === null) continue;
      this.#takers.splice(this.#takers.indexOf(taker), 1);
      clearTimeout(taker.timer);
      if (found !== null) taker.resolve(found);
      else taker.fail(this.#closedBy);
    }
  }
}

// A predicate from an event name, a set of members that must be equal, or a function.
export function matching(wanted) {
  if (wanted === undefined) return Object.assign(() => true, { label: 'anything' });
  if (typeof wanted === 'function') return wanted;
  if (typeof wanted === 'string') return Object.assign((item) => item.event === wanted, { label: `event ${wanted}` });
  return Object.assign(
    (item) => Object.entries(wanted).every(([name, value]) => JSON.stringify(item[name]) === JSON.stringify(value)),
    { label: JSON.stringify(wanted) },
  );
}

// Fails with a text that says what was awaited when the promise takes longer than the timeout.
export function within(promise, what, timeoutMs = TIMEOUT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing in ${timeoutMs} ms while waiting for ${what}`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Resolves when the function, which is called again and again, resolves to true.
export function untilTrue(look, what, timeoutMs = TIMEOUT_MS) {
  let late = false;
  const looks = async () => {
    while (!late && !(await look())) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  return within(looks(), what, timeoutMs).finally(() => {
    late = true;
  });
}

// Resolves when the function, which is called again and again, resolves to null: it found nothing wrong. What it found
// last is in the error.
export async function untilRight(look, what, timeoutMs = TIMEOUT_MS) {
  let fault = null;
  const isRight = async () => {
    fault = await look();
    return fault === null;
  };
  try {
    await untilTrue(isRight, what, timeoutMs);
  } catch (error) {
    throw fault === null ? error : new Error(`${error.message}: ${fault}`, { cause: error });
  }
}

function shorten(text) {
  return text === undefined || text.length <= 300 ? text : `${text.slice(0, 300)}... (${text.length} characters)`;
}
