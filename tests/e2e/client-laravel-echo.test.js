// Laravel Echo, the client of Laravel applications, in headless Chromium. It does not tell of empty cache channels.

import { browserDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

journey('laravel-echo', (t) => browserDriver(t, 'laravel-echo'), {
  endpoint: true,
  encrypted: true,
  signin: true,
  watchlist: true,
  errors: true,
});
