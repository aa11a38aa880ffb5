/*
 * Outages of the store: answers of operations enter its health, and an outage is logged when it begins and ends.
 */
#pragma once

#include <stdbool.h>

#include "app_manager/app_manager_types.h"
#include "app_manager/store_queue.h"

struct app_cache;

/* The state of the store by its last answers. Any thread. */
enum app_health app_cache_health(struct app_cache *cache);
/* True if the store has answered within the last second, or has an outage: there is no need to ask it. Any thread. */
bool app_cache_health_known(struct app_cache *cache);
/* Notes how an operation ended that is not the cache's own, or with NULL an attempt to connect; logs if an outage has
 * begun or ended. Any thread. */
void app_cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer,
                           const struct error *error);

/*
 * Notes how an operation ended, or with NULL an attempt to connect. With the mutex held. True if an outage
 * has begun or ended: the caller calls cache_log_outage when the mutex is released.
 */
bool cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer);
void cache_log_outage(struct app_cache *cache, enum store_answer answer, const struct error *error);

/* Sends a probe if the store has an outage and it is time for one. Without the mutex. */
void cache_probe_store(struct app_cache *cache);
