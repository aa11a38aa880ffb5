/*
 * Repeats of a publish: what the idempotency key of a request means for it. The key is the header X-Idempotency-Key or
 * the member `idempotency_key`; a request without one costs a look for both.
 */
#pragma once

#include <stdbool.h>

#include "api/api_call.h"
#include "base/json.h"

#define REPEAT_LIFETIME_S 120

/*
 * Reads the key and looks it up; `kind` tells the paths apart. True: publish, and answer with repeat_accepted or call
 * repeat_refused. False: the call is answered, or waits for the first request with its key.
 */
bool repeat_begin(struct api_call *call, char kind, struct json_value member);

/* Answers an accepted publish, and remembers the answer if the request has a key. */
void repeat_accepted(struct api_call *call, struct slice body);

/* Forgets the key of a publish that is refused, before its answer. */
void repeat_refused(struct api_call *call);
