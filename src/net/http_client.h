/*
 * One HTTP request and its answer, for drivers of stores that speak HTTP and for the command line: blocking, bounded by
 * deadline, over a connection that is kept for the next one. libcurl does the work, its AWS Signature Version 4
 * included.
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

/* What a request to AWS is signed with and for (Signature Version 4); not owned. */
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
    const char *const *headers; /* "Name: value", NULL behind the last; NULL: none */
    struct slice body;
    uint32_t connect_timeout_ms; /* 0: as long as deadline lasts */
    bool direct;                 /* whatever proxy the environment names */

    const struct http_signature *signature; /* NULL: the request is not signed */
};

/* A caller has one connection and is used by one thread at a time. */
struct http_caller *http_caller_create(void);
void http_caller_destroy(struct http_caller *caller);

/*
 * Makes the call and returns the status of the answer, with its body, a zero byte behind it, in `answer` (cleared
 * before). 0 with an error if there was none: unreachable, too long, out of deadline.
 */
unsigned http_caller_call(struct http_caller *caller, const struct http_call *call, const struct deadline *deadline,
                          struct buffer *answer, struct error *error);

/* True if the URL is one of http or https with a host and without user and password; `loopback` (may be NULL) says
 * whether that host is this machine. */
bool http_url_valid(const char *url, bool *loopback);
