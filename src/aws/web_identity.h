/*
 * The provider of credentials for a web identity: a token from a file, exchanged at STS (AssumeRoleWithWebIdentity).
 */
#pragma once

#include "aws/provider.h"

/* PROVIDER_NOT_SET_UP unless there are both a `token_file` and a `role`. `session` may be NULL. */
enum provider_answer web_identity_fetch(const struct provider_request *request, const char *token_file,
                                        const char *role, const char *session, struct aws_credentials *credentials,
                                        struct error *error);
