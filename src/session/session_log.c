#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "net/client_address.h"
#include "session/session_internal.h"

void session_log_accept(struct session *session, struct http_connection *connection,
                        const struct http_request *request) {
    char text[CLIENT_ADDRESS_TEXT];

    if (!log_enabled(LOG_DEBUG))
        return;
    client_address_write(connection, request, session->server->config->rate_limiter.websocket_rate_limit.trust_hops,
                         text);
    session->address = alloc_copy(text, strlen(text) + 1);
}

void session_log(const struct session *session, const char *format, ...) {
    const char *address = session->address != NULL ? session->address : "unknown address";
    char text[640], socket_id[SOCKET_ID_TEXT];
    va_list arguments;

    if (!log_enabled(LOG_DEBUG))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (session->slot == NULL)
        log_debug("session", "%s: %s", address, text);
    else
        log_debug("session", "%s: socket %.*s of app %s: %s", address, (int)socket_id_format(&session->id, socket_id),
                  socket_id, session->slot->id, text);
}
