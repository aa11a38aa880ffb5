/*
 * A provider of AWS credentials: one of the sources that credential_providers.c asks in turn.
 */
#pragma once

#include <stdbool.h>

#include "aws/credentials.h"
#include "base/deadline.h"
#include "base/error.h"

struct http_caller;

struct aws_provider_settings {
    const char *region;            /* of STS */
    const char *access_key_id;     /* from the configuration; NULL or empty: not set */
    const char *secret_access_key; /* likewise */
    const char *profile_name;      /* likewise */
    /* DynamoDB Local accepts any: when no provider has some, they are made up. */
    bool may_be_made_up;
};

/* The parameters of a provider. It keeps responses over HTTP no longer than it takes to read them. */
struct provider_request {
    const struct aws_provider_settings *settings;
    struct http_caller *caller;
    const struct deadline *deadline;
};

/* With PROVIDER_FAILED there is an error. */
enum provider_answer { PROVIDER_NOT_SET_UP, PROVIDER_FAILED, PROVIDER_FOUND };

typedef enum provider_answer provider_function(const struct provider_request *request,
                                               struct aws_credentials *credentials, struct error *error);
