/*
 * The cache of apps in front of every store but memory. This page is for those who use it; cache_internal.h shows how
 * it is built.
 *
 *   find --- fresh record, or negative entry ---> the answer, at once, without a lock
 *     \----- else: a fetch, one query for all lookups of the name --> the answer, on each lookup's worker
 *
 * In an outage of the store what is known is served. Workers only read the tables. One mutex is for those who change
 * them: lookups that miss, answers of the store, and the maintenance thread.
 *
 * Also for users: cache_invalidate.h (writes and notices of changes) and cache_outage.h (the health of the store).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app_manager/app_manager_types.h"
#include "app_manager/store_pool.h"

struct app_cache;

/* `config` and `hooks` outlive the cache. Starts nothing yet. NULL with an error if the configuration can never work.
 */
struct app_cache *app_cache_create(const struct config *config, const struct app_store_driver *driver,
                                   struct workers *workers, const struct app_manager_hooks *hooks, struct error *error);
/* Starts the threads: the pool's, the maintenance thread, and the watch thread if the driver can watch. False with an
 * error if one of the last two cannot be started; app_cache_stop is to be called then, too. */
bool app_cache_start(struct app_cache *cache, struct error *error);
/* Ends the threads and every query; from then on lookups are answered "unavailable". False if a thread hangs in the
 * operating system, see store_pool_stop; may be called again. */
bool app_cache_stop(struct app_cache *cache);
/* See app_manager_leave_snapshot. */
void app_cache_leave_snapshot(struct app_cache *cache);
/* After app_cache_stop; the workers have ended. */
void app_cache_destroy(struct app_cache *cache);

/* On a worker; see app_manager_find_by_id. */
enum app_answer app_cache_find(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                               struct app_lookup *lookup);

/* Submits an operation that is not the cache's own; see store_pool_submit. Any thread. */
void app_cache_cancel(struct app_lookup *lookup);
void app_cache_submit(struct app_cache *cache, struct store_operation *operation, uint32_t timeout_ms);

/* Calls `each` for every slot, without a lock; slots and records are valid until this returns. Any thread. */
void app_cache_each_slot(struct app_cache *cache, void (*each)(struct app_slot *slot, void *context), void *context);

/* For the metrics page. Any thread. */
void app_cache_read_stats(struct app_cache *cache, struct app_lookup_stats *lookups, struct store_pool_stats *pool);
