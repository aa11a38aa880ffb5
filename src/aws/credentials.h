/*
 * AWS credentials: the keys that requests are signed with, and how services write them in their responses.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* Owns its texts. Zero-initialise it and dispose of it. */
struct aws_credentials {
    char *access_key_id;
    char *secret_access_key;
    char *session_token; /* NULL: none */
    uint64_t expires_ms; /* on the wall clock; 0: never */
    const char *source;  /* the provider's name, for messages; not owned */
};

void aws_credentials_copy(struct aws_credentials *to, const struct aws_credentials *from);
void aws_credentials_dispose(struct aws_credentials *credentials);

/* Reads the response of STS (XML), or of a container's agent or an instance (JSON). False with an error that holds no
 * secret. */
bool aws_credentials_from_sts(struct slice xml, struct aws_credentials *credentials, struct error *error);
bool aws_credentials_from_json(struct slice json, struct aws_credentials *credentials, struct error *error);
