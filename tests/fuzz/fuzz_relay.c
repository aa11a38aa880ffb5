/*
 * Any bytes as an event from another process: its texts lie inside the input, and written again it gives the same
 * bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "handover/handover_relay_event.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = alloc_copy(data, size);
    struct slice all = {copy, size};
    struct relay_event event;
    struct buffer again = {0};
    struct error error = {0};

    if (relay_event_parse(all, &event, &error)) {
        MUST(event.tags.data + event.tags.length == copy + size);
        relay_event_append(&again, &event);
        MUST(slice_equal(buffer_slice(&again), all));
    } else {
        MUST(error.text[0] != '\0');
    }
    buffer_dispose(&again);
    free(copy);
    return 0;
}
