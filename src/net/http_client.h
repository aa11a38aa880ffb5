/*
 * A blocking HTTP client for store drivers and the command line, on top of libcurl: one request with a deadline, over a
 * connection that is kept for the next one. libcurl also makes AWS Signatures Version 4.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/slice.h"

struct http_caller;

/* Initialises libcurl, once, for code that uses it directly. http_caller_create does it, too. Any thread. */
void http_client_init(void);

/* The credentials and the scope of an AWS Signature Version 4; not owned. */
struct http_signature {
    const char *access_key_id;
    const char *secret_access_key;
    const char *session_token; /* NULL: none */
    const char *region;
    const char *service;
};

struct http_call {
    const char *method; /* GET, PUT or POST */
    const char *url;
    const char *const *headers; /* "Name: value" lines, then NULL; NULL: none */
    struct slice body;
    uint32_t connect_timeout_ms; /* 0: the deadline only */
    bool direct;                 /* ignore the proxy settings of the environment */
    bool insecure;               /* accept any certificate */
    const char *unix_socket;     /* the socket to connect to in place of the URL's host; NULL: none */

    const struct http_signature *signature; /* NULL: not signed */
};

/* A caller keeps one connection and is used by one thread at a time. */
struct http_caller *http_caller_create(void);
void http_caller_destroy(struct http_caller *caller);

/*
 * Makes the call and returns the status of the answer. `answer` is cleared and then gets the body, followed by a zero
 * byte that its length does not count. 0 with an error if there is no answer: the host cannot be reached, the body is
 * too long, or the deadline has passed.
 */
unsigned http_caller_call(struct http_caller *caller, const struct http_call *call, const struct deadline *deadline,
                          struct buffer *answer, struct error *error);

/* Sets the error of a transfer that failed: `why` is libcurl's text. Always false. Any thread. */
bool http_explain_failure(const char *why, struct error *error);

/* True if `url` is an http or https URL with a host and without user and password. `*loopback` (may be NULL) is true if
 * the host is this machine. Any thread. */
bool http_url_valid(const char *url, bool *loopback);
