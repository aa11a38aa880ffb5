/*
 * The events that cache channels keep, in sum: how much room they have, and which of them go.
 *
 *   hub ---> app "42" (in its channel table) ---> idle:     channels without subscribers, the oldest event or leave
 * first
 *                                            \--> occupied: channels with subscribers, the oldest event first
 *       \--> heaps of these apps: by bytes, by number of idle channels, by the time at which the next event expires
 *
 * Each event that is kept is in one list of its app. When the share of kept events in the account of memory is nearly
 * used up, or there are too many idle channels, the oldest event of the app that has the most goes: so an app cannot
 * throw out the events of another one. Events of idle channels go first.
 *
 * All functions are for a worker's thread, within its turn, without a lock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/list.h"

struct app_slot;
struct channel;
struct channel_hub;

/* The kept events of an app; part of its channel table. Zeroed memory has none. */
struct kept_app {
    struct list idle, occupied; /* channels; initialised with the first event */
    uint32_t idle_count;
    uint64_t bytes;
    struct heap_node by_bytes, by_idle, by_expiry;
};

/* The part of the hub. */
struct kept_events {
    pthread_mutex_t mutex; /* protects all of this, the apps' parts, and `kept` of channels */
    struct heap by_bytes, by_idle, by_expiry;
    uint32_t idle_count;
};

void kept_events_init(struct kept_events *kept);
/* Empties all lists: channels keep their events until they are freed. */
void kept_events_dispose(struct channel_hub *hub);

/* True if an event of `bytes` may be kept for the app; drops events of the app that has the most to make room for it,
 * but only so many at a time. */
bool kept_events_make_room(struct channel_hub *hub, struct app_slot *slot, size_t bytes, uint64_t now_ms);

/* The channel has got or lost its event, or its first or last subscriber: enters it where it belongs now. */
void kept_events_changed(struct channel_hub *hub, struct channel *channel, uint64_t now_ms);

/* Drops events that have expired. */
void kept_events_expire(struct channel_hub *hub, uint64_t now_ms);
