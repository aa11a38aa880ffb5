// Pysher, a client for Python.

import { pythonDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

journey('pysher', (t) => pythonDriver(t, 'pysher_driver'), { secret: true, cacheMiss: true });
