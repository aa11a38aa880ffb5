/*
 * Records of the spool's files: an event or a batch that is pending, or the number of one that no longer is.
 *
 *   file:    magic, then records
 *   record:  length (4 bytes), CRC-32 of the rest (4), then `length` bytes: type (1), number (8), and by type
 *     event:  wall_ms (8), lane (1), target (17), app id (2 + n), json (the rest)
 *     batch:  wall_ms (8), lanes (1), target (17), app id (2 + n), count (4), numbers of its events (8 each),
 *             body (the rest)
 *     done:   nothing more
 *
 * Numbers are little-endian. A record that is cut off or damaged ends the file: it was being written when the process
 * ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

#define SPOOL_MAGIC "curlew webhooks 1\n"
#define SPOOL_TARGET_BYTES 17

enum spool_type { SPOOL_EVENT = 1, SPOOL_BATCH, SPOOL_DONE };

/* Slices point into the file's bytes. */
struct spool_record {
    enum spool_type type;
    uint64_t number;
    uint64_t wall_ms; /* when the event, or the oldest of the batch, happened */
    uint8_t lanes;    /* a lane's number, or the bits of a batch's lanes */
    uint8_t target[SPOOL_TARGET_BYTES];
    struct slice app_id;
    struct slice event_numbers; /* of a batch: 8 bytes each */
    struct slice text;          /* JSON of the event, or the body */
};

/* Appends the record. */
void spool_record_append(struct buffer *file, const struct spool_record *record);

/* Reads the next record and moves `rest` behind it; false at the end, or where the file is damaged. Any thread. */
bool spool_record_read(struct slice *rest, struct spool_record *record);

/* Checks the magic and moves `rest` behind it. */
bool spool_magic_read(struct slice *rest);

/* How many events an event (1) or a batch stands for. */
size_t spool_record_events(const struct spool_record *record);

void spool_append_number(struct buffer *file, uint64_t number);
uint64_t spool_number_at(const char *bytes);
