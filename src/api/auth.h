/*
 * The signature of an API request: it carries the app's key, the time, a digest of its body and a signature of them.
 *
 *   POST /apps/3/events?body_md5=...&auth_version=1.0&auth_key=k&auth_timestamp=1353088179&auth_signature=...
 *
 *   signed text:  POST\n/apps/3/events\nauth_key=k&auth_timestamp=1353088179&auth_version=1.0&body_md5=...
 *
 * The signed query holds every parameter but the signature: keys in lower case and sorted, values percent-decoded once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app.h"
#include "app/app_secret.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/query.h"
#include "base/slice.h"

/* The largest difference of a timestamp from the server's clock. */
#define AUTH_WINDOW_S 600

struct auth_request {
    struct slice method;
    struct slice path;         /* as received */
    struct slice path_prefix;  /* the signature may cover the path without it; empty for none */
    const struct query *query; /* of the URL, decoded once */
    struct slice body;
    bool has_body;               /* there is one that has not arrived */
    bool body_unknown;           /* it has not arrived, or is too large to be read: the digest is not checked */
    struct md5_stream *body_md5; /* its digest, made while it arrived; NULL: of `body` */
};

/*
 * Checks all of it with the app's key and secrets; `now_s` is the wall clock. Returns which secret signed the request.
 * If none did, or something else is wrong, APP_SIGNER_NONE: `error` says what, but never the right signature or digest.
 */
enum app_signer auth_verify(const struct app *app, const struct auth_request *request, uint64_t now_s,
                            struct error *error);

/* Appends the query in the form that is signed. */
void auth_append_query(const struct query *query, struct buffer *out);
