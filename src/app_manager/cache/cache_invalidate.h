/*
 * Writes to the store by this process, and notices that others wrote: what is known of the apps is invalidated. All
 * functions: any thread, without the cache's mutex.
 */
#pragma once

#include <stdint.h>

#include "app/app.h"
#include "base/slice.h"

struct app_cache;

/* The version of the last write; taken before a write to the store, for app_cache_written. */
uint64_t app_cache_write_version(struct app_cache *cache);

/*
 * An app was written to the store by this process: `before` and `after` are its records, NULL for none or not known.
 * No lookup that starts after this returned sees the old record. Of two concurrent writes it is not known here which
 * was the later one: the store is asked then. Returns the connections of the app, if it was deleted.
 */
uint64_t app_cache_written(struct app_cache *cache, uint64_t write_version, struct slice id, const struct app *before,
                           const struct app *after);

/* The app may have changed: it is read again at once, and negative entries of its names expire. Each key may be
 * empty. `meant`: a person has changed it by a command for this server, so its removal is not held. */
void app_cache_invalidate(struct app_cache *cache, struct slice id, struct slice old_key, struct slice new_key,
                          bool meant);

/* Any app may have changed: those in use are read again at once, the others when they are looked up. */
void app_cache_invalidate_all(struct app_cache *cache);
