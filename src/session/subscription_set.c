#include <stdlib.h>

#include "base/alloc.h"
#include "session/subscription_set.h"

#define FIRST_CAPACITY 2

static uint32_t home_slot(const struct subscription_set *set, const struct channel *channel) {
    uint64_t hash = ((uintptr_t)channel >> 4) * UINT64_C(0x9E3779B97F4A7C15);

    return (uint32_t)(hash >> 32) & (set->capacity - 1);
}

/* Returns the slot of the channel's subscription, or the empty slot in which to insert it. */
static uint32_t find_slot(const struct subscription_set *set, const struct channel *channel) {
    uint32_t at = home_slot(set, channel);

    while (set->slots[at] != NULL && set->slots[at]->channel != channel)
        at = (at + 1) & (set->capacity - 1);
    return at;
}

struct subscription *subscriptions_find(const struct subscription_set *set, const struct channel *channel) {
    return set->count != 0 ? set->slots[find_slot(set, channel)] : NULL;
}

struct subscription *subscriptions_find_by_name(const struct subscription_set *set, struct app_slot *slot,
                                                struct slice name) {
    struct channel *channel = channel_find(slot, name);
    struct subscription *subscription;

    if (channel == NULL)
        return NULL;
    subscription = subscriptions_find(set, channel);
    channel_unref(channel);
    return subscription;
}

/* The capacity for one more subscription. One slot at least stays empty, so that every search ends; a large set is at
 * most three quarters full. */
static uint32_t next_capacity(const struct subscription_set *set) {
    if (set->capacity == 0)
        return FIRST_CAPACITY;
    if (set->count + 1 >= set->capacity || set->count + 1 > set->capacity / 4 * 3 + 1)
        return set->capacity * 2;
    return set->capacity;
}

static size_t bytes_of_slots(uint32_t capacity) {
    return capacity != 0 ? alloc_footprint(capacity * sizeof(struct subscription *)) : 0;
}

size_t subscriptions_bytes(const struct subscription_set *set) {
    return set->count * alloc_footprint(sizeof(struct subscription)) + bytes_of_slots(set->capacity);
}

size_t subscriptions_bytes_of_next(const struct subscription_set *set) {
    return alloc_footprint(sizeof(struct subscription)) + bytes_of_slots(next_capacity(set)) -
           bytes_of_slots(set->capacity);
}

static void grow_set(struct subscription_set *set, uint32_t capacity) {
    struct subscription **old = set->slots;
    uint32_t old_capacity = set->capacity;

    set->capacity = capacity;
    set->slots = alloc_zero(set->capacity * sizeof(struct subscription *));
    for (uint32_t i = 0; i < old_capacity; i++)
        if (old[i] != NULL)
            set->slots[find_slot(set, old[i]->channel)] = old[i];
    free(old);
}

void subscriptions_add(struct subscription_set *set, struct subscription *subscription) {
    uint32_t capacity = next_capacity(set);

    if (capacity != set->capacity)
        grow_set(set, capacity);
    set->slots[find_slot(set, subscription->channel)] = subscription;
    set->count++;
}

/* Empties a slot and moves back the entries that were displaced past it (Knuth's algorithm R). */
static void clear_slot(struct subscription_set *set, uint32_t hole) {
    uint32_t mask = set->capacity - 1;

    set->slots[hole] = NULL;
    for (uint32_t at = (hole + 1) & mask; set->slots[at] != NULL; at = (at + 1) & mask) {
        uint32_t wanted = home_slot(set, set->slots[at]->channel);
        if (((at - wanted) & mask) >= ((at - hole) & mask)) {
            set->slots[hole] = set->slots[at];
            set->slots[at] = NULL;
            hole = at;
        }
    }
    if (--set->count == 0) {
        free(set->slots);
        *set = (struct subscription_set){0};
    }
}

void subscriptions_remove(struct subscription_set *set, struct subscription *subscription) {
    clear_slot(set, find_slot(set, subscription->channel));
}
