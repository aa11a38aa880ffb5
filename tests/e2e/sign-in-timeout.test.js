// enable_user_authentication: a connection has to sign in, or to join a private or presence channel, in time. The exact
// times are the subject of tests/unit/test_session.c.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  closedWithError,
  connect,
  join,
  nextError,
  sendSubscribe,
  signin,
  stillOpen,
  subscribe,
  unsubscribe,
} from '../lib/client.js';
import { LIVE_APPS } from '../lib/live-apps.js';
import { eventually } from '../lib/metrics.js';
import { APP, sharedServer } from '../lib/server.js';

const SECURE = { ...APP, id: 'secure', key: 'secure-key', enable_user_authentication: true };
const config = { user_authentication_timeout: 1 };
const server = await sharedServer({ apps: [APP, SECURE], config });

const TEXT =
  'not signed in within 1 s (`user_authentication_timeout`), which `enable_user_authentication` of this app asks for';

// Waits until a connection that is opened now is closed for want of a sign-in: those that were opened before it have
// had their time.
async function timeIsOver(t, where = server, app = SECURE) {
  const ws = await connect(where, { t, app });
  assert.equal(await closedWithError(ws, 4009), TEXT);
}

test('a connection that signs in or joins a private or presence channel stays, others are closed with 4009', async (t) => {
  const open = () => connect(server, { t, app: SECURE });
  const [signedIn, inPrivate, inPresence, left, inPublic, refused] = await Promise.all(Array.from({ length: 6 }, open));
  await signin(signedIn, { id: 'u' });
  await subscribe(inPrivate, 'private-c');
  await join(inPresence, 'presence-c', { user_id: 'u' });
  await subscribe(left, 'private-c');
  unsubscribe(left, 'private-c');
  await subscribe(inPublic, 'c');
  sendSubscribe(refused, 'private-c', { auth: `${SECURE.key}:wrong` });
  await refused.next('pusher:subscription_error');
  for (const ws of [inPublic, refused]) assert.equal(await closedWithError(ws, 4009), TEXT);
  await timeIsOver(t);
  for (const ws of [signedIn, inPrivate, inPresence, left]) assert.deepEqual(await stillOpen(ws), []);
});

test('an app that does not ask for it has no such time', async (t) => {
  const ws = await connect(server, { t });
  await timeIsOver(t);
  assert.deepEqual(await stillOpen(ws), []);
});

test('what is closed is counted', async (t) => {
  await timeIsOver(t);
  await eventually(server, (metrics) => {
    const closed = metrics.sum('refusals_total', { app_id: SECURE.id, reason: 'enable_user_authentication' });
    assert.ok(closed >= 1);
    assert.ok(
      metrics.sum('connection_errors_total', { app_id: SECURE.id, error_type: 'authentication_failed' }) >= closed,
    );
  });
});

for (const [way, start] of Object.entries(LIVE_APPS)) {
  test(`it can be turned on and off while connections are open: ${way}`, async (t) => {
    const { server: live, change } = await start(t, APP, { config });
    const before = await connect(live, { t });
    const signedIn = await connect(live, { t });
    await signin(signedIn, { id: 'u' });
    await change({ enable_user_authentication: true });
    const turnedOff = await connect(live, { t });
    await signin(turnedOff, { id: 'v' });
    assert.equal(await nextError(before, 4009), TEXT);
    await change({ enable_user_authentication: false });
    const free = await connect(live, { t });
    await change({ policy: { features: { enable_user_authentication: true } } });
    assert.equal(await closedWithError(free, 4009), TEXT);
    for (const ws of [signedIn, turnedOff]) assert.deepEqual(await stillOpen(ws), []);
  });
}
