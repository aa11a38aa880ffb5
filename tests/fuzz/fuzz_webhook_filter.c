/*
 * Any line as the pattern of a webhook's filter, and the rest as a channel. Whatever the pattern, a match ends.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/webhook_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *line_end = memchr(data, '\n', size);
    size_t length = line_end != NULL ? (size_t)(line_end - data) : size;
    struct webhook_filter filter = {.pattern_text = {(const char *)data, length}};
    struct slice channel = {(const char *)data + length, size - length};
    bool gave_up = false;
    struct error error;

    if (size == 0)
        return 0;
    if (channel.length != 0)
        channel = slice_skip(channel, 1);
    if (!webhook_filter_compile(&filter, "channel_pattern", &error))
        return 0;
    if (webhook_filter_takes(&filter, channel, &gave_up) && gave_up)
        abort();
    webhook_filter_dispose(&filter);
    return 0;
}
