/*
 * All webhooks that have had an event: for each app its record and the queues, with the bounds for what waits and the
 * time at which each queue is due.
 *
 *   table --- app "42" (record) --- webhook 0: queue, counters
 *                              \--- webhook 1
 *
 * Belongs to the webhook thread. Only webhook_table_each is for any thread: a mutex protects the lists of apps and
 * webhooks against it, and counters are atomic.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/app.h"
#include "base/heap.h"
#include "webhook/webhook_counters.h"
#include "webhook/webhook_queue.h"

/* Of events that wait, those in batches included. Over a bound the oldest event goes of the webhook with the
 * most, of the app with the most. With a small `memory.limit_mb` the bytes of all are fewer (webhook_bytes_max). */
struct webhook_bounds {
    size_t webhook_events;
    size_t webhook_bytes;
    size_t events;
    size_t bytes;
};

extern const struct webhook_bounds webhook_bounds;

struct webhook_app;

struct webhook {
    struct webhook_app *app;
    size_t index; /* in the record's list */
    struct webhook_queue queue;
    struct webhook_counters counters;
    struct heap_node timer;
    size_t counted_events, counted_bytes; /* what the sums of app and table, and the account, hold of this queue */

    /* For delivery.c. */
    struct list attempts;
    unsigned under_way;
    struct list starved; /* in a list of those that wait until others have less under way */
    bool failing;
    uint64_t warned_ms, drop_logged_ms;
};

struct webhook_app {
    struct slice id; /* of the record */
    struct app *record;
    struct webhook **webhooks; /* as many as in the record; NULL: had no event yet */
    size_t events, bytes;      /* of all of them */
    struct heap_node by_events, by_bytes;
};

struct webhook_table {
    struct webhook_queue_settings settings;
    struct webhook_bounds bounds;
    pthread_mutex_t mutex;           /* protects `apps`, and the lists of webhooks in them */
    void *apps;                      /* a tree of <search.h> */
    struct heap timers;              /* the key is when a queue is due */
    struct heap by_events, by_bytes; /* of apps; the key is UINT64_MAX minus the amount */
    size_t events, bytes;
    bool draining, closing;
    struct spool *spool;          /* NULL: there is none */
    struct counter spool_dropped; /* events in it for apps and webhooks that are gone */

    /* A webhook is about to be freed: ends its attempts. */
    void (*removed)(struct webhook *webhook, void *context);
    void *context;
};

void webhook_table_init(struct webhook_table *table, const struct config *config);
void webhook_table_dispose(struct webhook_table *table);

/* Adds an event, as delivery_add does. */
void webhook_table_add(struct webhook_table *table, struct app *record, size_t index, struct slice channel,
                       struct slice json, uint64_t wall_ms, uint64_t now_ms);

/* Takes over a record, as delivery_app_changed does. */
void webhook_table_change(struct webhook_table *table, struct slice app_id, struct app *record);

/* Takes over what the spool has of the app from an earlier process. What no webhook of the record has as its target is
 * dropped; `record` NULL: all of it. */
void webhook_table_restore(struct webhook_table *table, struct app *record, const struct spool_restored *units,
                           size_t count, uint64_t now_ms);

/* Writes all units of this file to the spool again. */
void webhook_table_put_again(struct webhook_table *table, const struct spool_segment *segment);

/* Keeps what is pending in the spool from now on. Once. */
void webhook_table_use_spool(struct webhook_table *table, struct spool *spool);

/* Call after each change of the webhook's queue: keeps the sums, the timer and the gauges. */
void webhook_table_update(struct webhook_table *table, struct webhook *webhook);

/* A webhook that is due; NULL: none is. */
struct webhook *webhook_table_due(struct webhook_table *table, uint64_t now_ms);

/* See webhook_queue_drain; also for the queues to come. */
void webhook_table_drain(struct webhook_table *table, uint64_t now_ms);

/* The webhook as the record describes it. */
const struct app_webhook *webhook_setting_of(const struct webhook *webhook);

/* Calls `each` for every webhook that has had an event. Any thread; the webhook thread waits meanwhile if an app's list
 * changes. */
void webhook_table_each(struct webhook_table *table,
                        void (*each)(struct slice app_id, size_t index, const struct webhook_counters *counters,
                                     void *context),
                        void *context);
