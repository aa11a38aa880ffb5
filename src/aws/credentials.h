/*
 * Credentials for AWS: the keys that requests are signed with, and the chain of places that they may come from.
 *
 *   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   2. the configuration's keys
 *   3. a profile of the shared files
 *   4. a web identity, exchanged at STS
 *   5. the ECS (or EKS) agent
 *   6. the EC2 instance's role (IMDSv2)
 *
 * The first place that is set up counts; if it fails the others are not asked. Temporary credentials are renewed five
 * minutes before they expire, by one thread, while the others go on with those that are still valid.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"
#include "base/slice.h"

/* Owned texts; zero-initialise, dispose of it. */
struct aws_credentials {
    char *access_key_id;
    char *secret_access_key;
    char *session_token; /* NULL: none */
    uint64_t expires_ms; /* on the wall clock; 0: never */
    const char *source;  /* where they are from, for people; not owned */
};

void aws_credentials_dispose(struct aws_credentials *credentials);

struct aws_chain_settings {
    const char *region;            /* of STS */
    const char *access_key_id;     /* the configuration's; NULL or empty: unset */
    const char *secret_access_key; /* likewise */
    const char *profile_name;      /* likewise */
    bool needs_none;               /* made-up ones will do when no place has any: DynamoDB Local */
};

/* What one store asks for its credentials; any thread. */
struct aws_chain;

/* The texts in `settings` outlive the chain. */
struct aws_chain *aws_chain_create(const struct aws_chain_settings *settings);
void aws_chain_destroy(struct aws_chain *chain);

/* Gives a copy of the credentials in force. False with an error that says which places were asked. */
bool aws_chain_get(struct aws_chain *chain, const struct deadline *deadline, struct aws_credentials *credentials,
                   struct error *error);

/* AWS took these for expired or unknown: they are fetched anew when somebody asks next. */
void aws_chain_reject(struct aws_chain *chain, const struct aws_credentials *credentials);

/* One walk along the chain, without remembering anything. */
bool aws_credentials_fetch(const struct aws_chain_settings *settings, const struct deadline *deadline,
                           struct aws_credentials *credentials, struct error *error);

/* Reads the answer of STS (XML) or of an agent or instance (JSON); false with an error that holds no secret. */
bool aws_credentials_from_sts(struct slice xml, struct aws_credentials *credentials, struct error *error);
bool aws_credentials_from_json(struct slice json, struct aws_credentials *credentials, struct error *error);
