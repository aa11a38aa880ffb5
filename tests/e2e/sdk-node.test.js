// pusher, the official server SDK for Node. server-sdk.test.js tests more of it.

import { nodeDriver } from '../lib/client-driver.js';
import { sdkJourney } from '../lib/sdk-journey.js';

sdkJourney('the Node SDK', (t) => nodeDriver(t, 'sdk'), { authenticate: true, terminate: true });
