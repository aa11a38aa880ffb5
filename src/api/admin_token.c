#include "api/admin_token.h"

#include "base/crypto.h"
#include "base/log.h"
#include "net/client_address.h"

static bool has_token(const struct api_call *call) {
    struct slice value, token = slice_of(call->api->config->admin.token);
    struct slice scheme = SLICE("Bearer ");

    if (!http_header(call->request, SLICE("authorization"), &value) || value.length < scheme.length ||
        !slice_equal_ignoring_case((struct slice){value.data, scheme.length}, scheme))
        return false;
    return equal_in_constant_time(slice_skip(value, scheme.length), token);
}

/* Logs a request without the token: a client once a minute, and a number of clients. */
static void log_stranger(struct api_call *call) {
    char address[CLIENT_ADDRESS_TEXT];

    client_address_write(call->connection, call->request, 0, address);
    switch (address_log_note(&call->api->admin_strangers, address, call->worker->now_ms)) {
    case ADDRESS_NEW:
        log_write_each(LOG_WARNING, "api", "%s: a request to the admin API without its token was refused: %.*s %.*s",
                       address, SLICE_ARGS(call->request->method),
                       call->path.length < 200 ? (int)call->path.length : 200, call->path.data);
        break;
    case ADDRESS_MORE:
        log_warning("api",
                    "requests to the admin API without its token come from more addresses than these %d, which "
                    "are not logged in this minute",
                    ADMIN_STRANGERS);
        break;
    case ADDRESS_KNOWN:
        break;
    }
}

bool admin_token_admits(struct api_call *call) {
    if (has_token(call))
        return true;
    log_stranger(call);
    api_refuse_with(call, 401, REFUSED_REQUEST, SLICE("WWW-Authenticate: Bearer\r\n"),
                    "the request needs the header `Authorization: Bearer` with CURLEW_ADMIN_TOKEN");
    return false;
}
