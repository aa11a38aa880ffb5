/*
 * Any bytes from the other process of an upgrade: frames, and the payloads of the messages that have a form. Each
 * message lies inside the input, and written again it gives the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "handover/handover_message.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_payload(const struct handover_message *message) {
    struct buffer again = {0};
    struct handover_listener listener;
    struct handover_hello hello;
    struct error error;

    if (message->type == HANDOVER_HELLO && handover_hello_parse(message->payload, &hello, &error))
        handover_hello_append(&again, &hello);
    else if (message->type == HANDOVER_LISTENER && handover_listener_parse(message->payload, &listener, &error))
        handover_listener_append(&again, &listener);
    MUST(again.length == 0 || slice_equal(buffer_slice(&again), message->payload));
    buffer_dispose(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = alloc_copy(data, size);
    struct slice all = {copy, size}, rest = all;
    struct handover_message message;
    struct buffer again = {0};
    enum handover_parsed parsed;
    struct error error;

    while ((parsed = handover_parse(&rest, &message, &error)) == HANDOVER_MESSAGE) {
        MUST(message.payload.length == 0 ||
             (message.payload.data >= all.data && message.payload.data + message.payload.length == rest.data));
        handover_append(&again, message.type, message.payload);
        check_payload(&message);
    }
    MUST(again.length == size - rest.length && (again.length == 0 || memcmp(again.data, copy, again.length) == 0));
    MUST(parsed != HANDOVER_INVALID || error.text[0] != '\0');
    buffer_dispose(&again);
    free(copy);
    return 0;
}
