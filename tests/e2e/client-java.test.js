// com.pusher:pusher-java-client, the official client for Java and Android.

import { javaDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

journey('pusher-java-client', (t) => javaDriver(t, 'ClientDriver'), {
  endpoint: true,
  encrypted: true,
  cacheMiss: true,
  signin: true,
  errors: true,
});
