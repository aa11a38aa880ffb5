// Signatures of the Pusher protocol: API requests, channel subscriptions and sign-ins.

import { createHash, createHmac } from 'node:crypto';

export function hmac(secret, text) {
  return createHmac('sha256', secret).update(text).digest('hex');
}

export function md5(bytes) {
  return createHash('md5').update(bytes).digest('hex');
}

/*
 * The path with a signed query for a request to the HTTP API.
 *   method, path   as sent; the path is already percent-encoded
 *   query          parameters of the request itself, values as meant (not encoded)
 *   body           string or Buffer, or undefined
 * To make wrong ones: `auth` overrides single parameters after signing (undefined removes one), `signAs` overrides what
 * is signed ({method, path, secret, query, body}), `now` is the timestamp in seconds.
 */
export function signedPath(
  app,
  method,
  path,
  { query = {}, body, auth = {}, signAs = {}, now = Math.floor(Date.now() / 1000) } = {},
) {
  const signedBody = 'body' in signAs ? signAs.body : body;
  const parameters = {
    ...query,
    auth_key: app.key,
    auth_timestamp: String(now),
    auth_version: '1.0',
    ...(signedBody === undefined || signedBody.length === 0 ? {} : { body_md5: md5(signedBody) }),
    ...signAs.query,
  };
  const text = Object.entries(parameters)
    .map(([name, value]) => [name.toLowerCase(), value])
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const signature = hmac(signAs.secret ?? app.secret, `${signAs.method ?? method}\n${signAs.path ?? path}\n${text}`);
  const sent = { ...parameters, auth_signature: signature, ...auth };
  const encoded = Object.entries(sent)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&');
  return `${path}?${encoded}`;
}

// `auth` of pusher:subscribe; `channelData` is the JSON string that is sent beside it.
export function channelAuth(app, socketId, channel, channelData) {
  const text = channelData === undefined ? `${socketId}:${channel}` : `${socketId}:${channel}:${channelData}`;
  return `${app.key}:${hmac(app.secret, text)}`;
}

// `auth` of pusher:signin.
export function signinAuth(app, socketId, userData) {
  return `${app.key}:${hmac(app.secret, `${socketId}::user::${userData}`)}`;
}
