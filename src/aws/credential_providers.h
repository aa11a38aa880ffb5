/*
 * The providers of AWS credentials, in the order in which they are asked:
 *
 *   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   2. the keys in the configuration
 *   3. a profile of the shared files (profile.c)
 *   4. a web identity, exchanged at STS (web_identity.c)
 *   5. the agent of ECS or EKS (credential_endpoints.c)
 *   6. the role of the EC2 instance, over IMDSv2 (credential_endpoints.c)
 *
 * The first provider that is set up counts; if it fails, the others are not asked.
 */
#pragma once

#include <stdbool.h>

#include "aws/provider.h"

/* Asks the providers once. False with an error. */
bool aws_credentials_fetch(const struct aws_provider_settings *settings, const struct deadline *deadline,
                           struct aws_credentials *credentials, struct error *error);
