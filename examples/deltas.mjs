// A client that asks for deltas and rebuilds the whole messages from them. docs/deltas.md describes the protocol.
const [{ default: WebSocket }, { applyDelta }] = await Promise.all([import('ws'), import('fossil-delta')]).catch(() =>
  fail('ws or fossil-delta is missing: npm ci --prefix examples'),
);

const socket = new WebSocket('ws://127.0.0.1:6001/app/app-key?protocol=7');
const bases = new Map(); // conflation key -> {number, text} of the last message, as it is without deltas

socket.on('message', (bytes) => {
  const text = bytes.toString();
  const message = JSON.parse(text);
  switch (message.event) {
    case 'pusher:connection_established':
      return send('pusher:subscribe', { channel: 'prices', delta: 'fossil' });
    case 'pusher:delta_compression_enabled':
      return console.log('subscribed to prices, with deltas');
    case 'pusher:delta':
      return onDelta(message.data, text.length);
    case 'tick':
      // Only a message with a number becomes a base.
      if ('__delta_seq' in message)
        bases.set(message.__conflation_key ?? '', { number: message.__delta_seq, text: withoutNumber(text) });
      return console.log(`${message.data} (${text.length} bytes, whole)`);
  }
});
socket.on('error', ({ message }) => fail(`not connected: ${message}`));

function onDelta({ delta, seq, base_index: number, conflation_key: key = '' }, length) {
  const base = bases.get(key);
  if (base?.number !== number) return send('pusher:delta_sync_error', { channel: 'prices' });
  const rebuilt = applyDelta(Buffer.from(base.text), Buffer.from(delta, 'base64'));
  const text = Buffer.from(rebuilt).toString();
  bases.set(key, { number: seq, text });
  console.log(`${JSON.parse(text).data} (${length} bytes in place of ${text.length})`);
}

// The bytes of the message before its number and key were put in: deltas refer to these.
function withoutNumber(text) {
  return text.replace(/,"__delta_seq":\d+|,"__conflation_key":"[^"]*"/g, '');
}

function send(event, data) {
  socket.send(JSON.stringify({ event, data }));
}

function fail(text) {
  console.error(text);
  process.exit(1);
}
