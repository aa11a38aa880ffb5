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
#include "base/counter.h"
#include "base/heap.h"
#include "webhook/webhook_queue.h"

/* Of events that wait, those in batches included. Over a bound the oldest event of the webhook with the most goes. */
struct webhook_bounds {
    size_t webhook_events;
    size_t webhook_bytes;
    size_t events;
    size_t bytes;
};

extern const struct webhook_bounds webhook_bounds;

/* Why an event was dropped; the label `reason` of a metric. */
enum webhook_drop {
    WEBHOOK_DROP_BOUND,   /* too many wait */
    WEBHOOK_DROP_RETRIES, /* the last attempt has failed */
    WEBHOOK_DROP_GONE,    /* the endpoint answered 410 */
    WEBHOOK_DROP_COUNT,
};
extern const char *const webhook_drop_names[WEBHOOK_DROP_COUNT];

#define WEBHOOK_LATENCY_BUCKETS 12

/* The upper bounds of the buckets, in milliseconds; the last bucket has none. */
extern const uint64_t webhook_latency_bounds_ms[WEBHOOK_LATENCY_BUCKETS - 1];

/* Written by the webhook thread. */
struct webhook_counters {
    struct counter delivered; /* events */
    struct counter requests;  /* that ended, with any outcome */
    struct counter failures;  /* requests that did not deliver */
    struct counter retries;   /* requests that were repetitions */
    struct counter dropped[WEBHOOK_DROP_COUNT];
    struct counter
        latency[WEBHOOK_LATENCY_BUCKETS]; /* from an event to the answer, by batches and their oldest event */
    struct counter latency_sum_ms;
    struct counter waiting; /* events */
    struct counter waiting_bytes;
    struct counter oldest_wall_ms; /* when the oldest of them happened; 0: none waits */
};

struct webhook_app;

struct webhook {
    struct webhook_app *app;
    size_t index; /* in the record's list */
    struct webhook_queue queue;
    struct webhook_counters counters;
    struct heap_node timer, by_events, by_bytes;
    size_t counted_events, counted_bytes; /* what the table's sums hold of this queue */

    /* For delivery.c. */
    struct list attempts;
    unsigned under_way;
    struct list starved; /* in a list of those that wait until others have less under way */
    bool failing;
    uint64_t logged_ms;
};

struct webhook_app {
    struct slice id; /* of the record */
    struct app *record;
    struct webhook **webhooks; /* as many as in the record; NULL: had no event yet */
};

struct webhook_table {
    struct webhook_queue_settings settings;
    struct webhook_bounds bounds;
    pthread_mutex_t mutex;           /* protects `apps`, and the lists of webhooks in them */
    void *apps;                      /* a tree of <search.h> */
    struct heap timers;              /* the key is when a queue is due */
    struct heap by_events, by_bytes; /* the key is UINT64_MAX minus the amount */
    size_t events, bytes;
    bool draining;

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
