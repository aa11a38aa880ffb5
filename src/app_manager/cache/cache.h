/*
 * The cache of apps in front of every store but memory.
 *
 *   find --- fresh record, or known not to be there ---> the answer, at once, without a lock
 *     \----- else: one query for all who ask (a flight) --> the answer on each asker's worker
 *
 *   names  id -> entry -> slot -> record     what was found; records in use are read again before they expire
 *          key ---^
 *   absent names that the store did not know or could not read; a space of their own, bounded
 *
 * While the store cannot be asked, what is known is served. Workers only read the tables; one mutex is for those who
 * change them: misses, answers of the store, and the upkeep thread. A query that began before a write never fills the
 * cache: writes are numbered, and an answer that a younger write concerns is asked for again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app_manager/app_manager.h"
#include "app_manager/store_pool.h"

struct app_cache;

/* By what an app is looked up. */
enum name_kind { NAME_ID, NAME_KEY, NAME_KIND_COUNT };

struct app_cache_settings {
    bool enabled;
    uint32_t ttl_s, negative_ttl_s, stale_if_error_s, cleanup_interval_s;
    uint32_t capacity; /* of apps without connections */
};

/* `hooks` and `config` outlive the cache. Starts nothing yet. NULL with an error if the configuration can never work.
 */
struct app_cache *app_cache_create(const struct config *config, const struct app_store_driver *driver,
                                   struct workers *workers, const struct app_manager_hooks *hooks, struct error *error);
/* Starts the threads: connections to the store, upkeep, and the watch for others' changes. */
void app_cache_start(struct app_cache *cache);
/* Ends them, and every query; lookups are answered "unavailable" from then on. False as store_pool_stop says. */
bool app_cache_stop(struct app_cache *cache);
/* After app_cache_stop; the workers have ended. */
void app_cache_destroy(struct app_cache *cache);

/* On a worker; see app_manager_find_by_id. */
enum app_answer app_cache_find(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                               struct app_lookup *lookup);

/* A write to the store is about to begin: its mark, for app_cache_written. Any thread. */
uint64_t app_cache_write_begins(struct app_cache *cache);
/*
 * An app was written to the store by this process: `before` and `after` are its record then and now, NULL for none
 * or not known. No lookup that starts after this returned sees the old record. Of two writes at the same moment nobody
 * here knows which was the later one: the store is asked then. Any thread.
 */
void app_cache_written(struct app_cache *cache, uint64_t mark, struct slice id, const struct app *before,
                       const struct app *after);

/* The app may have changed in the store, nobody here knows how: it is read again at once, and what is known of its keys
 * not being there is forgotten; each key may be empty. Any thread. */
void app_cache_suspect(struct app_cache *cache, struct slice id, struct slice old_key, struct slice new_key);

struct store_pool *app_cache_pool(struct app_cache *cache);
/* The store's last answer: whether it could be asked, and whether anything was ever found in it. Any thread. */
enum app_health app_cache_health(struct app_cache *cache);
/* True if the store has answered within the last second, or is known not to: no need to ask. Any thread. */
bool app_cache_health_known(struct app_cache *cache);
/* Notes how an operation on the pool ended that was not the cache's own; NULL: the pool itself says so. Any thread. */
void app_cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer,
                           const struct error *error);

/* On a worker; the slots are good until the end of its turn. */
void app_cache_each_slot(struct app_cache *cache, void (*each)(struct app_slot *slot, void *context), void *context);

/* For the metrics page. Any thread. */
void app_cache_look(struct app_cache *cache, struct app_lookup_counts *counts);
