// asyncpusher, a client for Python's asyncio.

import { pythonDriver } from '../lib/client-driver.js';
import { journey } from '../lib/client-journey.js';

journey('asyncpusher', (t) => pythonDriver(t, 'asyncpusher_driver'), { endpoint: true, cacheMiss: true });
