// What the clients of machine.js may and must receive, by what happened before what.
//
// `clock.tick()` numbers what the test does and sees. An event was sent at one tick and its publish answered at
// another; a client asked to join at one tick, was told that it is in at another, and asked to leave at a third. So
//
//   in before sent, still in when everything has come to rest     the client must have got the event
//   asked to join after the answer, or certainly out before sent  the client must not get it
//   anything between                                              it may
//
// Each publisher numbers its events of a channel: a client that gets a number a second time, or a smaller one, has got
// an event twice or in the wrong order.

export const clock = {
  now: 0,
  tick() {
    return ++this.now;
  },
};

// A client's subscription to a channel, or its sign-in as a user.
export class Membership {
  askedAt = 0;
  inAt = Infinity;
  leftAt = Infinity; // asked to leave
  outAt = Infinity; // the server has certainly handled that
  cacheDue = false;
  user;
  members = new Set(); // of a presence channel, as the client was told
  #last = new Map(); // publisher -> number
  #got = new Set();

  constructor(user) {
    this.askedAt = clock.tick();
    this.user = user;
  }

  get isIn() {
    return this.inAt !== Infinity && this.leftAt === Infinity;
  }

  // Null, or what is wrong with getting the event.
  receive(event) {
    const { publisher, number } = event;
    const kept = this.cacheDue;
    this.cacheDue = false;
    if (!kept && event.answeredAt < this.askedAt) return 'was published before it joined';
    if (event.sentAt > this.outAt) return 'was published after it left';
    const last = this.#last.get(publisher) ?? 0;
    if (number === last) return 'came twice';
    if (number < last) return `came after number ${last}`;
    this.#last.set(publisher, number);
    this.#got.add(event);
    return null;
  }

  misses(event) {
    return event.sure && this.isIn && this.inAt < event.sentAt && !this.#got.has(event);
  }

  // Everything before has been judged.
  forget() {
    this.#got.clear();
  }
}

// Every event since the last rest, by `app channel`.
export class Events {
  #numbers = new Map();
  #byPlace = new Map();
  #byName = new Map();
  total = 0;

  // `sure`: it is published if the server does what it should.
  create({ publisher, app, channel, sure = true, except = null }) {
    const series = `${publisher} ${app.id} ${channel}`;
    const number = (this.#numbers.get(series) ?? 0) + 1;
    this.#numbers.set(series, number);
    const event = { publisher, number, channel, app, sure, except, sentAt: clock.tick(), answeredAt: Infinity };
    event.name = `${publisher}-${app.id}-${number}`;
    const place = `${app.id} ${channel}`;
    if (!this.#byPlace.has(place)) this.#byPlace.set(place, []);
    this.#byPlace.get(place).push(event);
    this.#byName.set(`${event.name} ${channel}`, event);
    this.total++;
    return event;
  }

  of(app, channel) {
    return this.#byPlace.get(`${app.id} ${channel}`) ?? [];
  }

  // The event that a client got; kept events of cache channels may be old.
  find(name, channel) {
    return this.#byName.get(`${name} ${channel}`);
  }

  forget() {
    this.#byPlace.clear();
    // Keep what a cache channel may still send.
    const names = [...this.#byName.keys()];
    for (const name of names.slice(0, Math.max(0, names.length - 20_000))) this.#byName.delete(name);
  }
}

// Numbers from a seed (mulberry32).
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  below(limit) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  one(list) {
    return list[this.below(list.length)];
  }

  // True in one of `count` cases.
  oneIn(count) {
    return this.below(count) === 0;
  }
}
