#include "upgrade.h"

#include <stdint.h>

/* Example key and answer of RFC 6455 section 1.3. */
#define HANDSHAKE_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define HANDSHAKE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

void upgrade_append_request(struct buffer *request, const struct target *target, const char *app_key) {
    buffer_appendf(request,
                   "GET /app/%s?protocol=7&client=curlew-bench&version=1.0 HTTP/1.1\r\nHost: %s\r\n"
                   "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: " HANDSHAKE_KEY "\r\n%s\r\n",
                   app_key, target->host,
                   target->compress ? "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
                                    : "");
}

size_t upgrade_answer_length(struct slice text, bool compress) {
    const char *end = memmem(text.data, text.length, "\r\n\r\n", 4);
    size_t length = end != NULL ? (size_t)(end - text.data) + 4 : 0;

    if (end == NULL)
        return 0;
    if (!slice_starts_with(text, SLICE("HTTP/1.1 101")) ||
        memmem(text.data, length, HANDSHAKE_ACCEPT, sizeof HANDSHAKE_ACCEPT - 1) == NULL ||
        (compress && memmem(text.data, length, "permessage-deflate", sizeof "permessage-deflate" - 1) == NULL))
        return SIZE_MAX;
    return length;
}
