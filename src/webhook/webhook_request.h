/*
 * One HTTP request to a webhook, made with libcurl: by the webhook thread with many at once, or by the command line.
 *
 * Certificates are verified, redirects are not followed, and of an answer at most 64 KB is read. Addresses are checked
 * when a connection is opened, after the name was resolved, so a name that resolves to another address later is checked
 * again. Proxies of the environment are not used: behind a proxy no address could be checked.
 */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/webhook_setting.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/network.h"
#include "base/slice.h"

struct aws_credentials;
struct config;

#define WEBHOOK_ANSWER_MAX_BYTES (64 * 1024)

/* What all requests share. Each belongs to one thread. */
struct webhook_sender {
    struct network *denied;
    size_t denied_count;
    uint32_t timeout_ms;
    const char *lambda_endpoint; /* see lambda_call.h */
    CURL **idle;                 /* easy handles for the next requests */
    size_t idle_count;
};

/* On the main thread: it reads the environment. */
void webhook_sender_init(struct webhook_sender *sender, const struct config *config);
void webhook_sender_dispose(struct webhook_sender *sender);

struct webhook_request {
    CURL *easy; /* its private pointer is this request */
    struct webhook_sender *sender;
    struct curl_slist *headers;
    size_t answer_bytes;                /* that were read, the head included */
    bool too_long;                      /* there was more */
    struct buffer *kept;                /* gets the beginning of the answer's body; NULL: nothing is kept */
    char refused[NETWORK_ADDRESS_TEXT]; /* the last address that may not be called; empty: none */
    char why[CURL_ERROR_SIZE];
    void *owner;
};

/* The parts of a request. */
struct webhook_call {
    const struct app_webhook *webhook;
    struct slice body; /* kept as it is until the request is destroyed */
    const char *key;   /* of the app */
    const char *signature;
    const struct aws_credentials *credentials; /* for a Lambda function */
};

/* Makes a request; NULL with an error if the webhook cannot be called at all. */
struct webhook_request *webhook_request_create(struct webhook_sender *sender, const struct webhook_call *call,
                                               struct error *error);
void webhook_request_destroy(struct webhook_request *request);

enum webhook_outcome {
    WEBHOOK_DELIVERED,
    WEBHOOK_FAILED,
    WEBHOOK_GONE, /* 410: there is no use in trying again */
};

/* The outcome of a transfer that ended with `code`. `status` is that of the answer, 0 without one. Every outcome but
 * WEBHOOK_DELIVERED sets the error, which holds no part of the URL but the host's name. */
enum webhook_outcome webhook_request_outcome(struct webhook_request *request, CURLcode code, unsigned *status,
                                             struct error *error);
