/*
 * The credentials of one store: fetched from the providers when they are first needed, kept, and renewed five minutes
 * before they expire, by one thread, while the other threads go on with those that are still valid.
 */
#pragma once

#include "aws/credential_providers.h"

/* Any thread may use it. */
struct aws_chain;

/* The texts in `settings` outlive the chain. */
struct aws_chain *aws_chain_create(const struct aws_provider_settings *settings);
void aws_chain_destroy(struct aws_chain *chain);

/* Gives a copy of the current credentials. False with an error that says which provider failed. */
bool aws_chain_get(struct aws_chain *chain, const struct deadline *deadline, struct aws_credentials *credentials,
                   struct error *error);

/* Call when AWS answers that these credentials are expired or unknown: the next aws_chain_get fetches others. */
void aws_chain_reject(struct aws_chain *chain, const struct aws_credentials *credentials);
