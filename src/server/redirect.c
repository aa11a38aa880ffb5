#include "server/redirect.h"

#include "api/route_match.h"

/* The host of the Host header without its port, or "" if it is missing or cannot be part of a Location. */
static struct slice requested_host(const struct http_request *request) {
    struct slice host;

    if (!http_header(request, SLICE("host"), &host))
        return SLICE("");
    for (size_t i = 0; i < host.length; i++) {
        char byte = host.data[i];
        if (byte == ':' && host.data[0] != '[')
            return (struct slice){host.data, i};
        if (byte == ']')
            return (struct slice){host.data, i + 1};
        if (byte <= ' ' || byte == '/' || byte == '@' || byte == '\\')
            return SLICE("");
    }
    return host;
}

static void on_request(struct http_connection *connection, struct http_request *request) {
    const struct redirect *redirect = http_connection_handler(connection)->context;
    struct slice host = requested_host(request);
    struct slice target = route_path(request->target);
    struct buffer headers = {0};

    if (host.length == 0) {
        http_respond(connection, &(struct http_response){.status = 400,
                                                         .body = SLICE("{\"error\":\"the request has no Host\"}"),
                                                         .close = true});
        return;
    }
    buffer_append(&headers, SLICE("Location: https://"));
    buffer_append(&headers, host);
    if (redirect->https_port != 443)
        buffer_appendf(&headers, ":%u", redirect->https_port);
    buffer_append(&headers, slice_starts_with(target, SLICE("/")) ? target : SLICE("/")); /* it may be `*` */
    buffer_append(&headers, SLICE("\r\n"));
    http_respond(connection, &(struct http_response){.status = 308, .headers = buffer_slice(&headers), .close = true});
    buffer_dispose(&headers);
}

/* Every request is answered at once. */
static void on_redirect_abort(struct http_connection *connection) {
    (void)connection;
}

struct http_handler redirect_handler(struct redirect *redirect) {
    return (struct http_handler){.on_request = on_request, .on_abort = on_redirect_abort, .context = redirect};
}
