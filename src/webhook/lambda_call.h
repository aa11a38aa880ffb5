/*
 * The call of Lambda's HTTP API that invokes a function: POST /2015-03-31/functions/NAME/invocations, signed. The body
 * is the event, the same as a URL would get; Lambda answers 202 before the function runs.
 */
#pragma once

#include <stdbool.h>

#include "app/webhook_setting.h"
#include "aws/credentials.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

/* The endpoint in AWS_ENDPOINT_URL_LAMBDA, else in AWS_ENDPOINT_URL; NULL: AWS's own. On the main thread. */
const char *lambda_endpoint(void);

/* True if functions are invoked on this machine. */
bool lambda_endpoint_is_loopback(const char *endpoint);

/* The parts of a call; zero-initialise it and dispose of it. */
struct lambda_call {
    struct buffer url;
    struct buffer headers[6]; /* lines */
    size_t header_count;
};

/* Makes the call; false with an error if the webhook's region or the endpoint is not valid. `endpoint` may be NULL. */
bool lambda_call_make(struct lambda_call *call, const char *endpoint, const struct app_webhook *webhook,
                      struct slice body, const struct aws_credentials *credentials, struct error *error);
void lambda_call_dispose(struct lambda_call *call);
