#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "net/client_address.h"
#include "session/session_internal.h"

void session_log_accept(struct session *session, struct http_connection *connection,
                        const struct http_request *request) {
    uint32_t hops = session->server->config->rate_limiter.websocket_rate_limit.trust_hops;
    char text[CLIENT_ADDRESS_TEXT];

    if (hops == 0 && !log_enabled(LOG_DEBUG)) /* the socket tells it when it is needed */
        return;
    client_address_write(connection, request, hops, text);
    session->address = alloc_copy(text, strlen(text) + 1);
}

static const char *address_of_session(const struct session *session, char storage[CLIENT_ADDRESS_TEXT]) {
    if (session->address != NULL)
        return session->address;
    return peer_address_write(session->websocket.stream->fd, storage) ? storage : "unknown address";
}

uint64_t session_client_address(const struct session *session) {
    uint64_t address = 0;

    if (session->address == NULL)
        (void)peer_address_read(session->websocket.stream->fd, &address);
    else
        (void)client_address_parse(slice_of(session->address), &address);
    return address;
}

void session_log_refusal(const struct session *session, const char *format, ...) {
    char text[512], storage[CLIENT_ADDRESS_TEXT];
    va_list arguments;

    if (session->server->refused == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    address_log_refused(session->server->refused, address_of_session(session, storage), session_worker(session)->now_ms,
                        "a client%s%s was refused: %s", session->slot != NULL ? " of app " : "",
                        session->slot != NULL ? session->slot->id : "", text);
}

void session_log(const struct session *session, const char *format, ...) {
    char text[640], socket_id[SOCKET_ID_TEXT], storage[CLIENT_ADDRESS_TEXT];
    const char *address;
    va_list arguments;

    if (!log_enabled(LOG_DEBUG))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    address = address_of_session(session, storage);
    if (session->slot == NULL)
        log_debug("session", "%s: %s", address, text);
    else
        log_debug("session", "%s: socket %.*s of app %s: %s", address, (int)socket_id_format(&session->id, socket_id),
                  socket_id, session->slot->id, text);
}
