// com.pusher:pusher-http-java, the official server SDK for Java.

import { javaDriver } from '../lib/client-driver.js';
import { sdkJourney } from '../lib/sdk-journey.js';

sdkJourney('the Java SDK', (t) => javaDriver(t, 'SdkDriver'), { terminate: true });
