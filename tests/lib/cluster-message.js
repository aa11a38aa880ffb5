// The messages between nodes as bytes (src/cluster/message/message.h), for tests that listen or speak on the bus.

export const KIND = {
  hello: 1,
  helloAnswer: 2,
  heartbeat: 3,
  bye: 4,
  dead: 5,
  event: 10,
  terminate: 11,
  change: 20,
  count: 21,
  told: 22,
  stateRequest: 30,
  statePart: 31,
  stateCredit: 32,
  gapRequest: 33,
  digest: 34,
  quotas: 40,
  appChanges: 41,
  roster: 42,
  rosterAsk: 43,
  apiRequest: 50,
  apiAnswer: 51,
};

const HEADER = 30;

const text = (name) => ({ name, form: 'text' });
const number = (name, bytes) => ({ name, form: 'number', bytes });
const flag = (name) => ({ name, form: 'flag', bytes: 1 });

const FIELDS = {
  [KIND.hello]: [
    number('lowest', 1),
    number('highest', 1),
    number('replacesHigh', 8),
    number('replacesLow', 8),
    text('name'),
    text('address'),
    number('since', 8),
    number('connections', 8),
    number('channels', 8),
    number('load', 4),
    number('whole', 8),
    number('part', 4),
    flag('last'),
    text('apps'),
  ],
  [KIND.heartbeat]: [number('connections', 8), number('channels', 8), number('load', 4)],
  [KIND.dead]: [number('idHigh', 8), number('idLow', 8)],
  [KIND.event]: [
    text('app'),
    text('channel'),
    text('name'),
    text('data'),
    text('userId'),
    text('tags'),
    flag('keep'),
    flag('whole'),
    flag('hasExcept'),
    number('exceptFirst', 8),
    number('exceptSecond', 8),
    number('published', 8),
    number('left', 8),
  ],
  [KIND.change]: [
    text('app'),
    text('channel'),
    number('changed', 8),
    number('before', 8),
    flag('added'),
    flag('empties'),
    flag('knownAlready'),
    text('id'),
    text('info'),
    number('since', 8),
  ],
  [KIND.stateRequest]: [number('request', 8), number('credit', 8), text('places')],
  [KIND.statePart]: [number('request', 8), number('part', 4), flag('last'), text('sets'), text('empty')],
  [KIND.appChanges]: [text('apps')],
  [KIND.terminate]: [text('app'), text('userId'), flag('reconnect'), number('waited', 8)],
};
FIELDS[KIND.helloAnswer] = FIELDS[KIND.hello];
FIELDS[KIND.gapRequest] = FIELDS[KIND.stateRequest];

// Reads a message: {version, kind, sender (32 hexadecimal digits), number, and the fields of its kind}.
export function decode(bytes) {
  const message = {
    version: bytes[0],
    kind: bytes[1],
    sender: bytes.toString('hex', 6, 22),
    number: bytes.readBigUInt64BE(22),
  };
  if (bytes.readUInt32BE(2) !== bytes.length - HEADER) throw new Error('the length of the message is another one');
  let at = HEADER;
  for (const { name, form, bytes: size } of FIELDS[message.kind] ?? []) {
    if (form === 'text') {
      const length = bytes.readUInt32BE(at);
      message[name] = bytes.toString('utf8', at + 4, at + 4 + length);
      at += 4 + length;
    } else {
      const value = size === 8 ? Number(bytes.readBigUInt64BE(at)) : bytes.readUIntBE(at, size);
      message[name] = form === 'flag' ? value === 1 : value;
      at += size;
    }
  }
  return message;
}

// Writes a message; fields that are left out are 0 or empty.
export function encode({ version = 1, kind, sender, number: running = 1, ...fields }) {
  const body = Buffer.concat(
    (FIELDS[kind] ?? []).map(({ name, form, bytes: size }) => {
      if (form === 'text') {
        const value = Buffer.from(fields[name] ?? '');
        const length = Buffer.alloc(4);
        length.writeUInt32BE(value.length);
        return Buffer.concat([length, value]);
      }
      const value = Buffer.alloc(8);
      value.writeBigUInt64BE(BigInt(fields[name] ?? 0));
      return value.subarray(8 - size);
    }),
  );
  const header = Buffer.alloc(HEADER);
  header[0] = version;
  header[1] = kind;
  header.writeUInt32BE(body.length, 2);
  Buffer.from(sender, 'hex').copy(header, 6);
  header.writeBigUInt64BE(BigInt(running), 22);
  return Buffer.concat([header, body]);
}
