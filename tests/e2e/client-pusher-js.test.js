// pusher-js, the official client for browsers, in headless Chromium.

import { browserDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

journey('pusher-js', (t) => browserDriver(t, 'pusher-js'), {
  endpoint: true,
  encrypted: true,
  cacheMiss: true,
  signin: true,
  watchlist: true,
  errors: true,
});
