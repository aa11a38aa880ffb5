/*
 * Delivery of events to the subscribers of one worker, of which some take deltas. On that worker's thread.
 *
 * Each event has up to four forms: as it is published, whole with its number, and a delta of each algorithm. Which one
 * a subscriber gets follows from what it takes and whether it knows the text that the delta is based on; both are known
 * without looking at anything but its entry in the list. Events that wait together are joined into one chunk for each
 * form.
 */
#pragma once

#include "channel/channel_internal.h"

#define DELIVERY_GROUP_MAX 64 /* events in one chunk */

/* What was delivered, for the counters. */
struct delivered {
    uint64_t messages, bytes;
    uint32_t recipients[DELIVERY_GROUP_MAX]; /* by event */
};

/* True if the event is for all subscribers of a list alike, so that it may be joined with others: nobody is left out of
 * it, nor was of the event that its delta is based on. */
bool delta_delivery_joins(const struct publication *publication);
/* True if subscribers that take deltas get the same form of both. Both join. */
bool delta_delivery_agrees(const struct publication *publication, const struct publication *next);

/* Delivers events of one channel; more than one only if they join and agree. `delivered` is zeroed. */
void delta_delivery_send(struct publication *const *group, unsigned count, struct subscriber_list *list,
                         struct app_part *app, struct delivered *delivered);
