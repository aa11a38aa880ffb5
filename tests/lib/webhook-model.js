// What webhooks have to say of members that a PresenceModel lets come and go: each user comes and goes once, in order,
// and who was away for less than the grace has not been away at all.

import { untilRight } from './inbox.js';
import { shortText } from './webhook-receiver.js';

// The server waits for 3 s. What the test sees as shorter than this is surely shorter there: it hears of the end of a
// connection a moment later.
const SURELY_WITHIN_GRACE_MS = 2000;
// Nodes report to each other in batches of 50 ms: who comes and goes within one was not there.
const SURELY_REPORTED_MS = 500;

// Who is somewhere, by the connections that are: a user in a channel, or anybody in it.
class Presence {
  removals = 0; // webhooks that said that nobody is there any more
  #there = new Set();
  #answered = new Set();
  #absences = []; // that have ended
  #absence = null; // {since, parts}: now
  #ended = null; // the absence before, and when it ended
  #log = [];

  joins(member) {
    this.#note('joins', member);
    this.#there.add(member);
  }

  joined(member) {
    this.#note('joined', member);
    this.#answered.add(member);
    if (this.#absence === null) return;
    this.#ended = { ...this.#absence, at: performance.now() };
    this.#absences.push(this.#removalsIn(this.#absence));
    this.#absence = null;
  }

  // A join that had no answer, or a visit that may not have lasted for a batch, may have ended the absence, or not.
  left(member) {
    if (!this.#there.delete(member)) return;
    this.#note('left', member);
    if (!this.#answered.delete(member) && this.#absence !== null) this.#absence.parts++;
    if (this.#there.size > 0 || this.#absence !== null) return;
    const now = performance.now();
    if (this.#ended === null || now - this.#ended.at >= SURELY_REPORTED_MS) {
      this.#absence = { since: now, parts: 1 };
    } else {
      this.#absences.pop();
      this.#absence = { since: this.#ended.since, parts: this.#ended.parts + 1 };
    }
  }

  #note(what, { user, server }) {
    if (this.#log.length === 40) this.#log.splice(0, 20);
    this.#log.push(`${user} ${what} on port ${server.port} at ${Date.now()}`);
  }

  get history() {
    return this.#log.join(', ');
  }

  #removalsIn({ since, parts }) {
    return Math.min(parts, Math.floor((performance.now() - since) / SURELY_WITHIN_GRACE_MS));
  }

  get isThere() {
    return this.#there.size > 0;
  }

  // How often webhooks may have said so.
  get mostRemovals() {
    const now = this.#absence === null ? 0 : this.#removalsIn(this.#absence);
    return this.#absences.reduce((sum, removals) => sum + removals, now);
  }

  // How often it was away, and came back so early that no webhook may say so.
  get shortAbsences() {
    return this.#absences.filter((removals) => removals === 0).length;
  }
}

// Give it to PresenceModel.connect() as `journal`.
export class WebhookModel {
  #events;
  #read = 0;
  #presences = new Map(); // by channel, and by channel and user
  #told = new Map(); // by channel: the users that webhooks have told of; none: the channel is vacated

  // `events` is the inbox of a webhookReceiver().
  constructor(events) {
    this.#events = events;
  }

  joins(member) {
    for (const presence of this.#presencesOf(member)) presence.joins(member);
  }

  joined(member) {
    for (const presence of this.#presencesOf(member)) presence.joined(member);
  }

  left(member) {
    for (const presence of this.#presencesOf(member)) presence.left(member);
  }

  #presencesOf({ channel, user }) {
    return [this.#presence(channel), this.#presence(channel, user)];
  }

  #presence(channel, user = '') {
    const key = `${channel} ${user}`;
    if (!this.#presences.has(key)) this.#presences.set(key, new Presence());
    return this.#presences.get(key);
  }

  // Resolves when webhooks have told what the model says, and nobody has left it less than a grace ago.
  settled(timeoutMs) {
    return untilRight(() => this.fault(), 'webhooks to tell who is there', timeoutMs);
  }

  // What is missing now; null: nothing. Throws if something came that must not.
  fault() {
    while (this.#read < this.#events.all.length) this.#take(this.#events.all[this.#read++]);
    for (const [key, presence] of this.#presences) {
      const [channel, user] = key.split(' ');
      const isTold = user === '' ? this.#told.has(channel) : Boolean(this.#told.get(channel)?.has(user));
      if (isTold !== presence.isThere)
        return `${key} ${presence.isThere ? 'is there' : 'has left'}: ${presence.history}; ${this.#historyOf(channel)}`;
    }
    return null;
  }

  #take(event) {
    const { name, channel, user_id: user } = event;
    const users = this.#told.get(channel);
    const right = {
      channel_occupied: () => users === undefined,
      channel_vacated: () => users?.size === 0,
      member_added: () => users !== undefined && !users.has(user),
      member_removed: () => users?.has(user),
    }[name]?.();
    if (!right) throw new Error(`${shortText(event)} is wrong, after ${this.#historyOf(channel)}`);
    if (name === 'channel_occupied') this.#told.set(channel, new Set());
    else if (name === 'channel_vacated') this.#told.delete(channel);
    else if (name === 'member_added') users.add(user);
    else users.delete(user);
    if (name === 'channel_vacated' || name === 'member_removed') this.#countRemoval(event);
  }

  #countRemoval(event) {
    const presence = this.#presence(event.channel, event.user_id);
    if (++presence.removals > presence.mostRemovals)
      throw new Error(
        `${shortText(event)} comes within the grace at ${Date.now()}: ${presence.history}; ` +
          `it came after ${this.#historyOf(event.channel)}`,
      );
  }

  #historyOf(channel) {
    const texts = this.#events.all.slice(0, this.#read).filter((event) => event.channel === channel);
    return texts.map((event) => `${shortText(event)} at ${event.timeMs}`).join(', ');
  }

  // How many absences were within the grace.
  get shortAbsences() {
    return [...this.#presences.values()].reduce((sum, { shortAbsences }) => sum + shortAbsences, 0);
  }
}
