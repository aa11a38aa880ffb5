#include "api/auth.h"

#include <stdlib.h>

#include "base/alloc.h"

#define SIGNATURE SLICE("auth_signature")

static unsigned char to_lower(char byte) {
    return (unsigned char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

/* Orders by key in lower case, as it is signed, then by value, so that a repeated key has a fixed order. */
static int compare_parameters(const struct query_parameter *a, const struct query_parameter *b) {
    size_t shorter = a->key.length < b->key.length ? a->key.length : b->key.length;

    for (size_t i = 0; i < shorter; i++)
        if (to_lower(a->key.data[i]) != to_lower(b->key.data[i]))
            return to_lower(a->key.data[i]) < to_lower(b->key.data[i]) ? -1 : 1;
    if (a->key.length != b->key.length)
        return a->key.length < b->key.length ? -1 : 1;
    return slice_compare(a->value, b->value);
}

static int compare_ordered(const void *a, const void *b) {
    return compare_parameters(*(const struct query_parameter *const *)a, *(const struct query_parameter *const *)b);
}

/* Insertion sort: parameters are few, and many clients send them sorted. */
static void sort_few(const struct query_parameter **order, size_t count) {
    for (size_t i = 1; i < count; i++) {
        const struct query_parameter *parameter = order[i];
        size_t place = i;
        for (; place != 0 && compare_parameters(parameter, order[place - 1]) < 0; place--)
            order[place] = order[place - 1];
        order[place] = parameter;
    }
}

static void append_ordered(const struct query_parameter *const *order, size_t count, struct buffer *out) {
    char *at = out->data + out->length;

    for (size_t i = 0; i < count; i++) {
        const struct query_parameter *parameter = order[i];
        if (i != 0)
            *at++ = '&';
        for (size_t byte = 0; byte < parameter->key.length; byte++)
            *at++ = (char)to_lower(parameter->key.data[byte]);
        *at++ = '=';
        if (parameter->value.length != 0)
            at = mempcpy(at, parameter->value.data, parameter->value.length);
    }
    out->length = (size_t)(at - out->data);
}

void auth_append_query(const struct query *query, struct buffer *out) {
    const struct query_parameter *few[QUERY_INLINE], **order = few;
    size_t count = 0, length = 0;

    if (query->count > QUERY_INLINE)
        order = alloc_array(NULL, query->count, sizeof order[0]);
    for (size_t i = 0; i < query->count; i++) {
        const struct query_parameter *parameter = &query->parameters[i];
        if (slice_equal_ignoring_case(parameter->key, SIGNATURE))
            continue;
        order[count++] = parameter;
        length += parameter->key.length + parameter->value.length + 2;
    }
    if (count <= QUERY_INLINE)
        sort_few(order, count);
    else
        qsort(order, count, sizeof order[0], compare_ordered);
    if (count != 0) {
        buffer_reserve(out, length);
        append_ordered(order, count, out);
    }
    if (order != few)
        free(order);
}

/* A request to verify, and its query in the form that is signed. */
struct verification {
    const struct app *app;
    const struct auth_request *request;
    struct slice query, signature;
    uint64_t now_s;
};

static enum app_signer signer_of_path(const struct verification *verification, struct slice path) {
    const struct slice newline = SLICE("\n");
    const struct slice parts[] = {verification->request->method, newline, path, newline, verification->query};

    return app_signer_of(verification->app, parts, sizeof parts / sizeof parts[0], verification->signature,
                         verification->now_s);
}

/* Checks the path as received, and without the prefix, which a proxy may have added. */
static enum app_signer signer_for(const struct verification *verification, struct slice path) {
    struct slice prefix = verification->request->path_prefix;
    enum app_signer signer = signer_of_path(verification, path);

    if (signer == APP_SIGNER_NONE && prefix.length != 0 && slice_starts_with(path, prefix))
        signer = signer_of_path(verification, slice_skip(path, prefix.length));
    return signer;
}

static enum app_signer verify_signature(const struct app *app, const struct auth_request *request,
                                        struct slice signature, uint64_t now_s) {
    struct verification verification = {app, request, .signature = signature, .now_s = now_s};
    struct buffer query = {0};
    enum app_signer signer;

    auth_append_query(request->query, &query);
    verification.query = buffer_slice(&query);
    signer = signer_for(&verification, request->path);
    if (signer == APP_SIGNER_NONE && request->path.length != 0 &&
        memchr(request->path.data, '%', request->path.length) != NULL) {
        struct buffer path = {0};
        percent_decode(request->path, &path);
        signer = signer_for(&verification, buffer_slice(&path));
        buffer_dispose(&path);
    }
    buffer_dispose(&query);
    return signer;
}

static bool verify_timestamp(struct slice text, uint64_t now_s, struct error *error) {
    unsigned long long stamp;
    uint64_t distance;

    if (!slice_to_number(text, UINT64_MAX, &stamp))
        return error_set(error, "auth_timestamp must be the time in whole seconds since 1970");
    distance = stamp > now_s ? stamp - now_s : now_s - stamp;
    if (distance > AUTH_WINDOW_S)
        return error_set(
            error, "auth_timestamp is %llu s %s the server's clock, which is more than %d s: set the clocks right",
            (unsigned long long)distance, stamp > now_s ? "ahead of" : "behind", AUTH_WINDOW_S);
    return true;
}

static bool verify_digest(const struct auth_request *request, struct slice digest, struct error *error) {
    char expected[MD5_HEX];

    if (request->body_md5 != NULL)
        md5_end(request->body_md5, expected);
    else
        md5_hex(request->body, expected);
    if (!equal_in_constant_time(digest, (struct slice){expected, sizeof expected}))
        return error_set(error,
                         "body_md5 is not the MD5 of the body in lower-case hexadecimal digits: sign the very "
                         "bytes that are sent");
    return true;
}

/* Checks the parameters that come before the signature. */
static bool check_parameters(const struct app *app, const struct auth_request *request, uint64_t now_s,
                             struct error *error) {
    const struct query *query = request->query;
    struct slice key, version, timestamp;

    if (!query_find(query, SLICE("auth_key"), &key))
        return error_set(error,
                         "auth_key is missing: requests to /apps are signed, with auth_key, auth_timestamp, "
                         "auth_version, body_md5 and auth_signature in the query");
    if (!equal_in_constant_time(key, app->key))
        return error_set(error, "auth_key is not the key of this app");
    if (!query_find(query, SLICE("auth_version"), &version))
        return error_set(error, "auth_version is missing");
    if (!slice_equal(version, SLICE("1.0")))
        return error_set(error, "auth_version must be 1.0");
    if (!query_find(query, SLICE("auth_timestamp"), &timestamp))
        return error_set(error, "auth_timestamp is missing");
    return verify_timestamp(timestamp, now_s, error);
}

enum app_signer auth_verify(const struct app *app, const struct auth_request *request, uint64_t now_s,
                            struct error *error) {
    struct slice signature, digest;
    bool has_digest = query_find(request->query, SLICE("body_md5"), &digest);
    enum app_signer signer;

    if (!check_parameters(app, request, now_s, error))
        return APP_SIGNER_NONE;
    if (!has_digest && (request->has_body || request->body.length != 0)) {
        error_set(error, "body_md5 is missing: a request with a body carries the MD5 of it");
        return APP_SIGNER_NONE;
    }
    if (!query_find(request->query, SIGNATURE, &signature)) {
        error_set(error, "auth_signature is missing");
        return APP_SIGNER_NONE;
    }
    /* The signature comes first: without the secret a client cannot make the server digest large bodies. */
    signer = verify_signature(app, request, signature, now_s);
    if (signer == APP_SIGNER_NONE)
        error_set(error,
                  "auth_signature is wrong: it is the HMAC-SHA256, by the app's secret, of method, path and "
                  "sorted query without auth_signature, on a line each");
    if (has_digest && !request->body_unknown && signer != APP_SIGNER_NONE && !verify_digest(request, digest, error))
        return APP_SIGNER_NONE;
    return signer;
}
