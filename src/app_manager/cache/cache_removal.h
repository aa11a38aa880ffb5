/*
 * Apps that the store does not have any more: they go, unless it is a mass removal (mass_removal.h), which is held.
 */
#pragma once

#include "app_manager/cache/cache_record.h"

struct app_cache;

enum missing_app {
    MISSING_GONE,     /* it is removed */
    MISSING_KEPT,     /* it stays in force */
    MISSING_UNSERVED, /* it is to be looked up again; lookups get "not found" until then */
};

/* The store did not find the entry's app by its id. With the mutex held. */
enum missing_app cache_note_missing(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms,
                                    struct cache_effects *effects);

/* Adds to the effects that a mass removal has ended, if it has. With the mutex held. */
void cache_note_removal_end(struct app_cache *cache, struct cache_effects *effects);

/* Removes the apps whose removal is held, unless the store has them again. Returns how many. Any thread, without the
 * mutex. */
size_t app_cache_confirm_removal(struct app_cache *cache);

/* For the metrics page; see app_manager_read_removals. */
void app_cache_read_removals(struct app_cache *cache, uint64_t *total, uint64_t *held);
