// The official server SDK for Python. Its terminate_user_connections asks for a path without the app, which Pusher does
// not document; so it is left out.

import { pythonDriver } from '../lib/client-driver.js';
import { sdkJourney } from '../lib/sdk-journey.js';

sdkJourney('the Python SDK', (t) => pythonDriver(t, 'sdk_driver'), { authenticate: true });
