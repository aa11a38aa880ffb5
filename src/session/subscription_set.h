/*
 * The subscriptions of one session, found by channel: open addressing over pointers, in one small array for the usual
 * few.
 */
#pragma once

#include "channel/channel.h"

struct subscription_set {
    struct subscription **slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
};

/* The subscription to a channel, or NULL. */
struct subscription *subscriptions_find(const struct subscription_set *set, const struct channel *channel);
/* The same by the name of a channel of the app. */
struct subscription *subscriptions_find_by_name(const struct subscription_set *set, struct app_slot *slot,
                                                struct slice name);
void subscriptions_add(struct subscription_set *set, struct subscription *subscription);
/* Removes it; it stays the caller's. */
void subscriptions_remove(struct subscription_set *set, struct subscription *subscription);
