/*
 * The events of cache channels in the store (key_store.h), where they outlive the nodes.
 *
 *   worker: an event is kept ---> thread: SET key, with what is left of its time ---> store
 *   thread: first interest in a channel ---> GET ---> worker: channel_remote_cached, which takes the newer one --->
 * done
 *
 * A value is the event's message, as on the bus, under the key `<cache prefix>curlew1:c:<app>:<channel>`. While the
 * store is down, events wait in a bounded queue; the oldest go. On the cluster's thread, where nothing else is said.
 */
#pragma once

#include "base/counter.h"
#include "cluster/cluster_core.h"

struct cached_events;

/* Adds the part and the store to the core, if cache.driver names one. False with an error of the configuration. */
bool cached_events_create(struct cluster_core *core, struct error *error);

/* For a store whose answers publishes wait for: the number of the event that was kept last. 0: there is nothing to wait
 * for, since the store is another one or down. `events` may be NULL. */
uint64_t cached_events_last(const struct cached_events *events);
/* True if the store has answered about the events up to this number, or the connection was lost. */
bool cached_events_are_stored(const struct cached_events *events, uint64_t number);

/* Who asks for the event of a channel. */
struct cached_asker {
    /* What the store has is applied, or cannot be had. On the thread; never from within cached_events_read. */
    void (*done)(void *context, uint64_t channel_hash, uint32_t generation);
    void *context;
    uint64_t channel_hash; /* these two are the asker's */
    uint32_t generation;
};

/* Reads what the store has of a channel that is wanted here. False: `done` is not called, because there is no store or
 * it is down. `events` may be NULL. */
bool cached_events_read(struct cached_events *events, struct slice app, struct slice channel,
                        const struct cached_asker *asker);

struct cached_events_stats {
    uint64_t waiting, waiting_bytes; /* now */
    uint64_t dropped;                /* for want of room */
    uint64_t refused;                /* by the store */
};

/* Any thread. */
void cached_events_read_stats(const struct cached_events *events, struct cached_events_stats *stats);
