// pusher-js and Laravel Echo in headless Chromium.

import { browserDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

const all = { endpoint: true, encrypted: true, cacheMiss: true, signin: true, watchlist: true, errors: true };

journey('pusher-js', (t) => browserDriver(t, 'pusher-js'), all);
journey('laravel-echo', (t) => browserDriver(t, 'laravel-echo'), { ...all, cacheMiss: false });
