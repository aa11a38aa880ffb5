/*
 * The AWS credentials for Lambda functions, fetched on a thread of their own: providers may take seconds to answer, and
 * the webhook thread must not wait for them.
 *
 * The thread is started when credentials are first needed. They are those of the DynamoDB driver (aws/).
 */
#pragma once

#include <stdbool.h>

#include "aws/credentials.h"
#include "base/error.h"

struct config;
struct lambda_credentials;

/* `fetched(context)` is called on that thread after each fetch. `loopback` is true if functions are invoked at an
 * endpoint on this machine, which accepts any credentials. */
struct lambda_credentials *lambda_credentials_create(const struct config *config, bool loopback,
                                                     void (*fetched)(void *context), void *context);
/* Ends the thread; a fetch under way is cancelled. */
void lambda_credentials_destroy(struct lambda_credentials *lambda);

enum lambda_answer {
    LAMBDA_READY,
    LAMBDA_PENDING, /* `fetched` will be called */
    LAMBDA_FAILED,  /* the next call fetches again */
};

/* The credentials: those in `credentials` are replaced unless they are the same. Does not block. On the webhook thread.
 */
enum lambda_answer lambda_credentials_get(struct lambda_credentials *lambda, struct aws_credentials *credentials,
                                          struct error *error);

/* Call when AWS has refused these credentials: others are fetched. On the webhook thread. */
void lambda_credentials_reject(struct lambda_credentials *lambda, const struct aws_credentials *credentials);

/* Gets them in place, for the command line. Blocks. */
bool lambda_credentials_fetch(const struct config *config, bool loopback, struct aws_credentials *credentials,
                              struct error *error);
