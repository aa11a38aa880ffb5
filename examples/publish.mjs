const { default: Pusher } = await import('pusher').catch(() => fail('pusher is missing: npm ci --prefix examples'));

const pusher = new Pusher({
  appId: '1',
  key: 'app-key',
  secret: 'app-secret',
  host: '127.0.0.1',
  port: '6001',
  useTLS: false,
});

try {
  await pusher.trigger('my-channel', 'my-event', { message: 'hello from Node' });
  console.log('published my-event to my-channel');
} catch ({ status, body, error, message }) {
  fail(status ? `refused with HTTP ${status}: ${body}` : `not connected to port 6001: ${error?.message ?? message}`);
}

function fail(text) {
  console.error(text);
  process.exit(1);
}
