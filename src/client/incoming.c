#include "client/incoming.h"

#include <string.h>

#include "base/utf8.h"

/* The largest head of an answer to the handshake. */
#define HEAD_MAX_BYTES 16384

void incoming_dispose(struct incoming *incoming) {
    buffer_dispose(&incoming->bytes);
    buffer_dispose(&incoming->parts);
    *incoming = (struct incoming){0};
}

bool incoming_append(struct incoming *incoming, const void *data, size_t length) {
    if (incoming->used != 0) {
        incoming->bytes.length -= incoming->used;
        memmove(incoming->bytes.data, incoming->bytes.data + incoming->used, incoming->bytes.length);
        incoming->used = 0;
    }
    if (incoming->bytes.length + length > INCOMING_MESSAGE_MAX + WEBSOCKET_HEADER_MAX ||
        !buffer_try_reserve(&incoming->bytes, length))
        return false;
    buffer_append_bytes(&incoming->bytes, data, length);
    return true;
}

static struct slice unread_bytes(const struct incoming *incoming) {
    struct slice bytes = buffer_slice(&incoming->bytes);

    if (bytes.length == incoming->used)
        return (struct slice){0};
    return slice_skip(bytes, incoming->used);
}

/* --- the handshake --- */

/* Cuts the text before the first line end off `*text`. */
static struct slice next_head_line(struct slice *text) {
    const char *end = memmem(text->data, text->length, "\r\n", 2);
    struct slice line = *text;

    if (end != NULL)
        line.length = (size_t)(end - text->data);
    *text = end != NULL ? slice_skip(*text, line.length + 2) : (struct slice){0};
    return line;
}

/* The value of the first header with this name, empty if there is none. */
static struct slice find_head_value(struct slice head, struct slice name) {
    while (head.length != 0) {
        struct slice line = next_head_line(&head);
        if (line.length > name.length && line.data[name.length] == ':' &&
            slice_equal_ignoring_case((struct slice){line.data, name.length}, name))
            return slice_trim(slice_skip(line, name.length + 1));
    }
    return (struct slice){0};
}

/* Checks the head of the answer (RFC 6455 section 4.1). */
static bool check_head(struct slice head, const char accept[28], struct error *error) {
    struct slice status = next_head_line(&head);

    if (!slice_starts_with(status, SLICE("HTTP/1.")) || status.length < 12)
        return error_set(error, "the answer is not HTTP: is this the port of a Curlew server?");
    status = slice_skip(status, 9);
    if (slice_starts_with(status, SLICE("426")))
        return error_set(error,
                         "the answer is HTTP 426: a proxy in between has dropped the headers Upgrade and "
                         "Connection");
    if (!slice_starts_with(status, SLICE("101")))
        return error_set(error, "the answer is HTTP %.*s in place of a WebSocket", SLICE_ARGS(status));
    if (!slice_equal_ignoring_case(find_head_value(head, SLICE("Upgrade")), SLICE("websocket")) ||
        !slice_equal(find_head_value(head, SLICE("Sec-WebSocket-Accept")), (struct slice){accept, 28}))
        return error_set(error,
                         "the answer is not that of a WebSocket server: Upgrade or Sec-WebSocket-Accept is "
                         "missing or wrong");
    return true;
}

enum incoming_result incoming_handshake(struct incoming *incoming, const char accept[28], struct error *error) {
    struct slice unread = unread_bytes(incoming);
    const char *end = unread.length != 0 ? memmem(unread.data, unread.length, "\r\n\r\n", 4) : NULL;

    if (end == NULL && unread.length < HEAD_MAX_BYTES)
        return INCOMING_INCOMPLETE;
    if (end == NULL || (size_t)(end - unread.data) >= HEAD_MAX_BYTES) {
        error_set(error, "the answer to the handshake has more than %d bytes", HEAD_MAX_BYTES);
        return INCOMING_BAD;
    }
    incoming->used += (size_t)(end - unread.data) + 4;
    return check_head((struct slice){unread.data, (size_t)(end - unread.data)}, accept, error) ? INCOMING_READY
                                                                                               : INCOMING_BAD;
}

/* --- frames --- */

static enum incoming_result refuse_frame(struct error *error, const char *why) {
    error_set(error, "the server broke the WebSocket protocol: %s", why);
    return INCOMING_BAD;
}

struct server_frame {
    enum websocket_opcode opcode;
    bool fin;
    struct slice payload;
};

/* Parses a frame from a server: like one from a client, but without a mask. Extensions are not negotiated. */
static enum incoming_result parse_server_frame(struct incoming *incoming, struct server_frame *frame,
                                               struct error *error) {
    struct slice unread = unread_bytes(incoming);
    const uint8_t *bytes = (const uint8_t *)unread.data;
    size_t header_length, length_bytes;
    uint64_t length;

    if (unread.length < 2)
        return INCOMING_INCOMPLETE;
    if ((bytes[0] & 0x70) != 0 || (bytes[1] & 0x80) != 0)
        return refuse_frame(error, "a reserved bit or the mask bit of a frame is set");
    length_bytes = bytes[1] < 126 ? 0 : bytes[1] == 126 ? 2 : 8;
    if (unread.length < 2 + length_bytes)
        return INCOMING_INCOMPLETE;
    header_length = websocket_header_read(bytes, &length);
    frame->opcode = (enum websocket_opcode)(bytes[0] & 0x0F);
    frame->fin = (bytes[0] & 0x80) != 0;
    if (frame->opcode >= WEBSOCKET_CLOSE && (!frame->fin || length > 125))
        return refuse_frame(error, "a control frame is fragmented or longer than 125 bytes");
    if (length > INCOMING_MESSAGE_MAX)
        return refuse_frame(error, "a message has more than 64 MB");
    if (unread.length - header_length < length)
        return INCOMING_INCOMPLETE;
    frame->payload = (struct slice){unread.data + header_length, (size_t)length};
    incoming->used += header_length + (size_t)length;
    return INCOMING_READY;
}

/* Adds a fragment; INCOMING_READY if the message is complete. */
static enum incoming_result add_fragment(struct incoming *incoming, const struct server_frame *frame,
                                         struct incoming_message *message, struct error *error) {
    if (incoming->fragmented != (frame->opcode == WEBSOCKET_CONTINUATION))
        return refuse_frame(error, "a fragment is out of its order");
    if (incoming->parts.length + frame->payload.length > INCOMING_MESSAGE_MAX ||
        !buffer_try_reserve(&incoming->parts, frame->payload.length))
        return refuse_frame(error, "a message has more than 64 MB");
    buffer_append(&incoming->parts, frame->payload);
    incoming->fragmented = !frame->fin;
    *message = (struct incoming_message){WEBSOCKET_TEXT, buffer_slice(&incoming->parts)};
    return frame->fin ? INCOMING_READY : INCOMING_INCOMPLETE;
}

enum incoming_result incoming_next(struct incoming *incoming, struct incoming_message *message, struct error *error) {
    if (!incoming->fragmented)
        incoming->parts.length = 0;
    for (;;) {
        struct server_frame frame;
        enum incoming_result result = parse_server_frame(incoming, &frame, error);

        if (result != INCOMING_READY)
            return result;
        switch (frame.opcode) {
        case WEBSOCKET_CLOSE:
        case WEBSOCKET_PING:
        case WEBSOCKET_PONG:
            *message = (struct incoming_message){frame.opcode, frame.payload};
            return INCOMING_READY;
        case WEBSOCKET_CONTINUATION:
        case WEBSOCKET_TEXT:
            result = add_fragment(incoming, &frame, message, error);
            break;
        default:
            return refuse_frame(error, "a frame is neither text nor a control frame");
        }
        if (result == INCOMING_READY && !utf8_valid(message->payload))
            return refuse_frame(error, "a message is not UTF-8");
        if (result != INCOMING_INCOMPLETE)
            return result;
    }
}
