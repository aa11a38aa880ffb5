/*
 * The spool: what is pending for webhooks, in append-only files, so that it is sent after the process was killed.
 *
 *   webhooks.spool_path/  000000000007.spool  000000000008.spool  000000000009.spool (appended to)
 *
 * A *unit* is an event or a batch. Each is written when it comes into being, and its number again when it is done. A
 * file is deleted when it is the oldest and no unit in it is pending. If one unit is pending for long, the units of the
 * oldest file are written again, so that it can go: the files stay below webhooks.spool_max_mb. A batch is written with
 * its body, so that after a kill the same bytes are sent.
 *
 * Files hold no secret: batches are signed when they are sent, and a webhook is named by a digest of its target.
 *
 * For the webhook thread; spool_open also for the main thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/list.h"
#include "webhook/spool_record.h"

struct app_webhook;
struct spool;
struct spool_segment;

/* Where a pending unit is. Zeroed: it is not in the spool. */
struct spool_unit {
    uint64_t number;
    struct spool_segment *segment;
};

/* A unit of an earlier process. Owned by the spool. */
struct spool_restored {
    struct spool_unit unit;
    struct spool_record record; /* its slices point into the files */
};

/* Opens the folder, which is made if it is missing, and reads what is pending in it. NULL with an error if it cannot be
 * used, or if another process uses it: `*held` (may be NULL) is true then. */
struct spool *spool_open(const char *path, uint64_t max_bytes, bool *held, struct error *error);
/* Writes all that is buffered, and closes the files. NULL is accepted. */
void spool_close(struct spool *spool);

/* The next app with units of an earlier process, and its units, in their order; false: there is none. */
bool spool_next_app(struct spool *spool, struct slice *app_id, const struct spool_restored **units, size_t *count);
/* Leaves these units for later, behind those of all other apps; true if all apps that are left have had their turn. */
bool spool_app_later(struct spool *spool);
/* Call when these units have been taken over. The slices of their records are no longer valid after the last app. */
void spool_app_taken(struct spool *spool);

/* Writes an event or a batch; `record->number` is given by the spool. The unit stays zeroed if the spool is full or the
 * disk fails: it is then only in memory. */
void spool_put(struct spool *spool, struct spool_unit *unit, struct spool_record *record);

/* The unit is pending no more: delivered or dropped. */
void spool_done(struct spool *spool, struct spool_unit *unit);

/* The event is in a batch that was put, and names it: it needs no record of its own any more. */
void spool_absorbed(struct spool_unit *unit);

/* The file whose units must be written again with spool_put_again, so that it can be deleted; NULL: none. */
const struct spool_segment *spool_crowded(struct spool *spool);
void spool_put_again(struct spool *spool, struct spool_unit *unit, struct spool_record *record);

/* Writes what is buffered to the file, and syncs it if the last time is 100 ms ago. Returns when to call it again;
 * UINT64_MAX: after the next unit. */
uint64_t spool_flush(struct spool *spool, uint64_t now_ms);

/* The name of a webhook: a digest of its target, without user and password, and which one it is of those with the
 * target. */
void spool_target_of(const struct app_webhook *webhooks, size_t index, uint8_t target[SPOOL_TARGET_BYTES]);
