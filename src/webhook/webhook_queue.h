/*
 * The queue of one webhook: events wait in lanes, are joined to batches, and a batch that failed waits for its next
 * attempt. Pure bookkeeping: sending is delivery.c's.
 *
 *   add --- lane 0: event event        \
 *       --- lane 1:                     >-- take: one batch of the lanes that are free
 *       --- lane 7: event event event  /
 *
 * The channel decides the lane. A lane belongs to at most one batch at a time, until that batch is delivered or given
 * up, so events of a channel stay in order, a webhook has at most 8 requests under way, and a batch that fails again
 * and again holds back only the channels of its own lanes. A batch takes all that waits in the free lanes if it fits,
 * so a webhook with few events gets one request, not eight.
 *
 * Times are on the monotonic clock unless a name says `wall`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "webhook/spool.h"

struct config;

#define WEBHOOK_LANES 8

/* A body is not made longer than this by joining events: 100 KB is what Express, the framework for Node.js, accepts. */
#define WEBHOOK_BODY_MAX_BYTES 100000

struct webhook_queue_settings {
    uint32_t batch_wait_ms; /* how long the first event of a batch waits for others */
    uint32_t batch_size;    /* most events in a batch; 1: no batching */
    bool retry;
    uint32_t max_attempts; /* the first one included; 0: limited by time alone */
    uint32_t max_elapsed_ms;
    uint32_t first_pause_ms;
    uint32_t last_pause_ms;
};

void webhook_queue_settings_init(struct webhook_queue_settings *settings, const struct config *config);

struct webhook_lane {
    struct list events;
    uint32_t count;
    size_t length;   /* of the events' texts */
    uint64_t due_ms; /* when the first of them is to be sent */
    struct webhook_batch *batch;
};

/* What the spool writes of a webhook. */
struct webhook_place {
    struct slice app_id;
    uint8_t target[SPOOL_TARGET_BYTES];
};

struct webhook_queue {
    const struct webhook_queue_settings *settings;
    struct spool *spool; /* NULL: there is none */
    struct webhook_place place;
    struct webhook_lane lanes[WEBHOOK_LANES];
    struct list waiting; /* all events that are in no batch, the oldest first */
    struct list batches;
    uint64_t next_number;
    size_t events; /* those in batches included */
    size_t bytes;  /* memory of all of it */
    bool draining; /* nothing waits for others */
};

enum webhook_batch_state {
    BATCH_SENDING,
    BATCH_WAITING, /* for the next attempt */
};

struct webhook_batch {
    struct list link; /* in the queue */
    struct webhook_queue *queue;
    enum webhook_batch_state state;
    unsigned lanes; /* a bit for each */
    uint32_t events;
    size_t bytes;
    char *body;
    size_t length;
    uint64_t oldest_wall_ms; /* when the oldest event happened */
    struct spool_unit unit;
    char *event_numbers; /* of its events in the spool; NULL without a spool */

    uint32_t attempts; /* that failed */
    uint32_t pause_ms;
    uint64_t first_attempt_ms;
    uint64_t next_attempt_ms;

    /* Made for the first attempt, and sent with each: see delivery.c. */
    char *key;
    char *signature;
};

void webhook_queue_init(struct webhook_queue *queue, const struct webhook_queue_settings *settings);
/* Frees all events and batches. */
void webhook_queue_dispose(struct webhook_queue *queue);

/* The lane of a channel; the same in each process. */
unsigned webhook_lane_of(struct slice channel);

/* Adds an event: `json` is copied. */
void webhook_queue_add(struct webhook_queue *queue, struct slice channel, struct slice json, uint64_t wall_ms,
                       uint64_t now_ms);

/* Adds a unit that the spool has from an earlier process; a batch is due at once. */
void webhook_queue_restore(struct webhook_queue *queue, const struct spool_restored *restored, uint64_t now_ms);

/* Writes the units of this file to the spool again. */
void webhook_queue_put_again(struct webhook_queue *queue, const struct spool_segment *segment);

/* Writes all that is pending to the spool, when the queue has one now and had none before. */
void webhook_queue_put_all(struct webhook_queue *queue);

/* When the next batch is due; UINT64_MAX: none is. */
uint64_t webhook_queue_due_ms(const struct webhook_queue *queue);

/* A batch to send now: one whose next attempt is due, or a new one. NULL: none is due. */
struct webhook_batch *webhook_queue_take(struct webhook_queue *queue, uint64_t now_ms);

/* The batch was delivered, or is given up: frees it, and its lanes are free again. */
void webhook_batch_end(struct webhook_batch *batch);

/* The attempt has failed. True if there is to be another one, after a pause; false if the batch is to be given up. */
bool webhook_batch_retry(struct webhook_batch *batch, uint64_t now_ms);

/* Drops the oldest event that is in no batch; false if there is none. */
bool webhook_queue_drop_oldest(struct webhook_queue *queue);

/* From now on all that waits is due; what waits for its next attempt is due at `now_ms`. */
void webhook_queue_drain(struct webhook_queue *queue, uint64_t now_ms);

/* When the oldest event of all happened, on the wall clock; 0: there is none. */
uint64_t webhook_queue_oldest_wall_ms(const struct webhook_queue *queue);
