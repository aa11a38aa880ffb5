/*
 * Any bytes as what a server sends to `curlew listen`: the answer to the handshake and frames. The messages must not
 * depend on the pieces in which the bytes arrive, and a message on the terminal has no control characters.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/safe_text.h"
#include "client/incoming.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char accept_key[28] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

static void check(bool truth) {
    if (!truth)
        abort();
}

static void check_printed(struct slice text) {
    struct buffer line = {0};
    struct json_value value;

    safe_text_append(&line, text);
    for (size_t i = 0; i < line.length; i++)
        check((unsigned char)line.data[i] >= ' ' && line.data[i] != 0x7F);
    check(utf8_valid(buffer_slice(&line)));
    if (json_scan(text, &value, NULL)) {
        line.length = 0;
        safe_text_append_json(&line, text);
        for (size_t i = 0; i < line.length; i++)
            check((unsigned char)line.data[i] >= ' ' && line.data[i] != 0x7F);
        check(json_scan(buffer_slice(&line), &value, NULL));
    }
    buffer_dispose(&line);
}

/* Writes down all that comes out of the bytes, which arrive in pieces of `piece`. */
static void receive(const uint8_t *data, size_t size, size_t piece, bool shake, struct buffer *log) {
    struct incoming incoming = {0};
    enum incoming_result result = INCOMING_INCOMPLETE;
    struct incoming_message message;
    struct error error;

    for (size_t at = 0; at < size && result != INCOMING_BAD;) {
        size_t length = size - at < piece ? size - at : piece;
        check(incoming_append(&incoming, data + at, length));
        at += length;
        if (shake) {
            result = incoming_handshake(&incoming, accept_key, &error);
            if (result != INCOMING_READY)
                continue;
            shake = false;
        }
        while ((result = incoming_next(&incoming, &message, &error)) == INCOMING_READY) {
            buffer_appendf(log, "%d %zu ", (int)message.opcode, message.payload.length);
            buffer_append(log, message.payload);
            if (message.opcode == WEBSOCKET_TEXT)
                check_printed(message.payload);
        }
    }
    buffer_append_string(log, result == INCOMING_BAD ? "bad" : "end");
    incoming_dispose(&incoming);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer whole = {0}, pieces = {0};
    bool shake;

    if (size < 1)
        return 0;
    shake = data[0] % 2 == 0;
    receive(data + 1, size - 1, size, shake, &whole);
    receive(data + 1, size - 1, 1 + data[0] / 2 % 16, shake, &pieces);
    check(slice_equal(buffer_slice(&whole), buffer_slice(&pieces)));
    buffer_dispose(&whole);
    buffer_dispose(&pieces);
    return 0;
}
