/*
 * Answers of the store enter the cache: a fetch runs its query, applies the answer, and hands it to the lookups that
 * wait.
 */
#pragma once

#include "app_manager/cache/cache_fetch.h"

struct app_cache;

/* Submits the query of a fetch. Without the mutex; the answer may be there before this returns. */
void cache_submit_fetch(struct app_cache *cache, struct cache_fetch *fetch);

/* Puts a record of a snapshot, see records_restore. With the mutex held. */
void cache_restore_record(struct app_cache *cache, struct app *app, uint64_t read_s, uint64_t stale_until_ms,
                          struct cache_effects *effects);

/* Puts a record, whose reference it takes over, in place of all that is known of its names; returns its entry. With the
 * mutex held. */
struct cache_entry *cache_put_record(struct app_cache *cache, struct app *app, uint64_t now_ms,
                                     struct cache_effects *effects);
