/*
 * The subscriptions of one session, a hash table by channel: open addressing over pointers, so that the usual few
 * subscriptions need only one small array. For the thread of the session's worker.
 */
#pragma once

#include "channel/channel.h"

struct subscription_set {
    struct subscription **slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
};

/* Finds the subscription to a channel; NULL if there is none. */
struct subscription *subscriptions_find(const struct subscription_set *set, const struct channel *channel);
/* The same by the channel's name in the app. */
struct subscription *subscriptions_find_by_name(const struct subscription_set *set, struct app_slot *slot,
                                                struct slice name);
/* The memory of the set with its subscriptions, for the account, and what one more adds to it. */
size_t subscriptions_bytes(const struct subscription_set *set);
size_t subscriptions_bytes_of_next(const struct subscription_set *set);
/* Adds a subscription, which must not be in the set. The caller keeps the ownership. */
void subscriptions_add(struct subscription_set *set, struct subscription *subscription);
/* Removes a subscription from the set without freeing it. */
void subscriptions_remove(struct subscription_set *set, struct subscription *subscription);
