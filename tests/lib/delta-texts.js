// Texts as a channel with deltas carries them: each kind gives a list in which every text follows from the one before.
// The same seed gives the same texts.

export class Random {
  constructor(seed) {
    this.state = seed >>> 0 || 1;
  }

  // A number from 0 up to `end`, which is not reached.
  below(end) {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state % end;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  // A change of up to `size` in both directions.
  step(size) {
    return this.below(2 * size + 1) - size;
  }
}

// The message that a subscriber without deltas gets.
export function frame(event, channel, data) {
  return JSON.stringify({ event, channel, data: typeof data === 'string' ? data : JSON.stringify(data) });
}

const time = (ms) => new Date(1772618400000 + ms).toISOString();

// Prices of one instrument: 300 bytes.
function ticks(random, count) {
  const state = { bid: 18721, spread: 3, volume: 1502200, ms: 0 };
  return Array.from({ length: count }, (_, i) => {
    state.bid += random.step(12);
    state.spread = 1 + random.below(5);
    const size = 100 * (1 + random.below(20));
    state.volume += size;
    state.ms += 40 + random.below(900);
    return frame('tick', 'ticks.ACME', {
      symbol: 'ACME',
      venue: 'XNAS',
      currency: 'USD',
      bid: state.bid / 100,
      ask: (state.bid + state.spread) / 100,
      last: (state.bid + random.below(state.spread + 1)) / 100,
      size,
      volume: state.volume,
      open: 184.9,
      high: 188.02,
      low: 184.31,
      change: (state.bid - 18490) / 100,
      seq: 88120 + i,
      time: time(state.ms),
    });
  });
}

// The best twenty prices on both sides.
function books(random, count) {
  const levels = (sign) => Array.from({ length: 20 }, (_, i) => [18720 + sign * (i + 1), 100 * (1 + random.below(90))]);
  const book = { bids: levels(-1), asks: levels(1) };
  return Array.from({ length: count }, (_, i) => {
    for (let n = 1 + random.below(4); n > 0; n--) {
      const side = random.pick([book.bids, book.asks]);
      side[random.below(side.length)][1] = 100 * (1 + random.below(90));
    }
    if (random.below(5) === 0) {
      book.bids.unshift([book.bids[0][0] + 1, 100 * (1 + random.below(90))]);
      book.bids.pop();
    }
    const text = (side) => side.map(([price, size]) => [(price / 100).toFixed(2), size]);
    return frame('book', 'book.ACME', { seq: 4400 + i, bids: text(book.bids), asks: text(book.asks) });
  });
}

const vehicle = (random, id) => ({
  id: `truck-${id}`,
  lat: 52.3 + random.below(400000) / 1e6,
  lon: 13.1 + random.below(600000) / 1e6,
  speed: random.below(90),
  heading: random.below(360),
  driver: `Driver ${id}`,
  status: 'driving',
});

function drive(random, one) {
  one.lat = Math.round((one.lat + random.step(300) / 1e6) * 1e6) / 1e6;
  one.lon = Math.round((one.lon + random.step(300) / 1e6) * 1e6) / 1e6;
  one.speed = Math.max(0, one.speed + random.step(3));
  one.heading = (one.heading + 360 + random.step(5)) % 360;
}

// The position of one vehicle.
function positions(random, count) {
  const one = vehicle(random, 17);
  return Array.from({ length: count }, (_, i) => {
    drive(random, one);
    return frame('moved', 'private-fleet', { ...one, time: time(1000 * i) });
  });
}

// The positions of 50 vehicles, of which some move.
function fleets(random, count) {
  const all = Array.from({ length: 50 }, (_, id) => vehicle(random, id));
  return Array.from({ length: count }, (_, i) => {
    for (const one of all) if (random.below(4) === 0) drive(random, one);
    return frame('fleet', 'private-fleet', { time: time(1000 * i), vehicles: all });
  });
}

const WORDS = (
  'the server sends every message once to each subscriber and what changed is little when a number moves or a line is ' +
  'added so most of the text stays where it was'
).split(' ');
const NAMES = ['Ada', 'Björn', 'Chloé', 'Дмитрий', '恵子', 'Zoë 🚀'];

const sentence = (random) => Array.from({ length: 3 + random.below(12) }, () => random.pick(WORDS)).join(' ');

// A document to which an entry is added each time.
function growing(random, count) {
  const entries = Array.from({ length: 10 }, (_, id) => ({ id, author: random.pick(NAMES), text: sentence(random) }));
  return Array.from({ length: count }, (_, i) => {
    entries.push({ id: 10 + i, author: random.pick(NAMES), text: sentence(random), at: time(7000 * i) });
    return frame('document', 'private-notes', { title: 'Notes', version: i, entries });
  });
}

// A text that people edit: words are added, removed and replaced.
function edited(random, count) {
  const words = Array.from({ length: 400 }, () => random.pick(WORDS));
  return Array.from({ length: count }, () => {
    for (let n = 1 + random.below(5); n > 0; n--)
      words.splice(random.below(words.length), random.below(4), ...sentence(random).split(' ').slice(random.below(5)));
    return frame(
      'text',
      'private-editor',
      words.join(' ') + random.pick(['', '\u2028', ' "quoted" ', ' é', ' 🎉', '\n']),
    );
  });
}

// A table whose rows change places.
function ranked(random, count) {
  const rows = Array.from({ length: 30 }, (_, id) => ({
    player: `player-${id}`,
    score: 1000 - 10 * id,
    level: id % 7,
  }));
  return Array.from({ length: count }, () => {
    for (let n = 0; n < 3; n++) random.pick(rows).score += random.below(40);
    rows.sort((a, b) => b.score - a.score);
    return frame('ranking', 'ranking', { rows });
  });
}

export const KINDS = { ticks, books, positions, fleets, growing, edited, ranked };

// Pairs of buffers with any bytes: changes of all kinds, empty ones, and nothing in common.
export function bytePairs(random, count) {
  const bytes = (length, letters) => Buffer.from(Array.from({ length }, () => random.below(letters)));
  return Array.from({ length: count }, () => {
    const letters = random.pick([1, 2, 4, 100, 256]);
    const base = bytes(random.below(random.pick([2, 20, 200, 3000])), letters);
    let target = random.below(8) === 0 ? bytes(random.below(300), letters) : base;
    for (let n = random.below(6); n > 0; n--) {
      const at = random.below(target.length + 1);
      const from = random.below(base.length + 1);
      target = Buffer.concat([
        target.subarray(0, at),
        random.below(2) ? base.subarray(from, from + random.below(100)) : bytes(random.below(9), letters),
        target.subarray(at + random.below(30)),
      ]);
    }
    return { base, target };
  });
}
