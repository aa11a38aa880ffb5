/*
 * The limits of requests per second of an app: max_read_requests_per_second and max_backend_events_per_second.
 *
 * The buckets are in the app's slot, shared by all workers. A GET takes its token before its handler runs, and gets it
 * back if it is refused after all. A publish is only admitted at first, which needs one token; what it costs is known
 * and taken when the body is there and valid.
 */
#pragma once

#include "api/api_call.h"

/* Takes the token of a GET, or checks that there is one for a publish. Before the body is there it only checks. False
 * after a 429. */
bool request_rate_admit(struct api_call *call);

/* Takes `count` tokens for a checked publish, one for each event and channel. False after a 429. */
bool request_rate_take_events(struct api_call *call, size_t count);

/* Takes the token of a read, for a publish that is answered from memory. False after a 429. */
bool request_rate_take_read(struct api_call *call);
