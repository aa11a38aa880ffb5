/*
 * Any bytes as a file of the webhook spool. The checksums are made right first, or nothing behind them would be
 * reached. Each record lies inside the file, and written again it gives the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "webhook/spool_record.h"

#define HEAD_BYTES 8

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the checksum of the record at the front of `rest`, if all of it is there. */
static void mend_checksum(char *rest, size_t length) {
    uint32_t payload, checksum;

    if (length < HEAD_BYTES)
        return;
    memcpy(&payload, rest, sizeof payload);
    if (payload > length - HEAD_BYTES)
        return;
    checksum = (uint32_t)crc32_z(0, (const Bytef *)rest + HEAD_BYTES, payload);
    memcpy(rest + 4, &checksum, sizeof checksum);
}

static void check_slice(struct slice file, struct slice part) {
    MUST(part.length == 0 || (part.data >= file.data && part.data + part.length <= file.data + file.length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = alloc_copy(data, size);
    struct slice file = {copy, size}, rest = file, before;
    struct spool_record record;

    if (!spool_magic_read(&rest))
        rest = file; /* most inputs: go on as if it were there */
    while (mend_checksum(copy + (rest.data - copy), rest.length), before = rest, spool_record_read(&rest, &record)) {
        struct buffer again = {0};

        MUST(rest.length < before.length);
        check_slice(file, record.app_id);
        check_slice(file, record.event_numbers);
        check_slice(file, record.text);
        spool_record_append(&again, &record);
        MUST(again.length == before.length - rest.length && memcmp(again.data, before.data, again.length) == 0);
        buffer_dispose(&again);
    }
    free(copy);
    return 0;
}
