// pusher-client, a client for Node.

import { nodeDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

journey('pusher-client', (t) => nodeDriver(t, 'pusher-client'), { endpoint: true, cacheMiss: true });
