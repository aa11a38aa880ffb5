#include "app_manager/cache/cache_outage.h"

#include "app_manager/cache/cache_internal.h"
#include "base/clock.h"
#include "base/log.h"

#define PROBE_TIMEOUT_MS 2000

/* Wants records that could not be refreshed in the outage to be read again now. */
static void refresh_failed_entries(struct records *records, uint64_t now_ms) {
    for (struct list *link = records->entries.next; link != &records->entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (entry->backoff_ms == 0)
            continue;
        entry->backoff_ms = 0;
        entry->refresh_at_ms = now_ms;
    }
    cache_wake_for_sweep(records->wake);
}

bool cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer) {
    bool asked = operation == NULL || operation->asked, failed = answer == STORE_UNAVAILABLE;
    uint64_t now_ms = clock_monotonic_ms();

    if (cache->stopping || !store_health_note(&cache->health, asked, failed, now_ms))
        return false;
    if (!failed)
        refresh_failed_entries(&cache->records, now_ms);
    else
        cache_wake_for_work(&cache->wake); /* for the first probe */
    return true;
}

void cache_log_outage(struct app_cache *cache, enum store_answer answer, const struct error *error) {
    if (answer == STORE_UNAVAILABLE)
        log_error("app", "the %s store cannot be reached: %s; cached apps are still served", cache->driver->name,
                  error->text);
    else
        log_info("app", "the %s store answers", cache->driver->name);
}

void app_cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer,
                           const struct error *error) {
    bool changed;

    pthread_mutex_lock(&cache->mutex);
    changed = cache_note_answer(cache, operation, answer);
    pthread_mutex_unlock(&cache->mutex);
    if (changed)
        cache_log_outage(cache, answer, error);
}

enum app_health app_cache_health(struct app_cache *cache) {
    enum app_health health;

    pthread_mutex_lock(&cache->mutex);
    health = store_health_state(&cache->health);
    pthread_mutex_unlock(&cache->mutex);
    return health;
}

bool app_cache_health_known(struct app_cache *cache) {
    bool known;

    pthread_mutex_lock(&cache->mutex);
    known = store_health_known(&cache->health, clock_monotonic_ms());
    pthread_mutex_unlock(&cache->mutex);
    return known;
}

/* --- probes --- */

static enum store_answer run_probe(struct store_operation *operation, struct store_connection *connection,
                                   struct error *error) {
    (void)operation;
    return store_check_health(connection, error);
}

static void finish_probe(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct app_cache *cache = container_of(operation, struct app_cache, probe);

    app_cache_note_answer(cache, operation, answer, error);
    pthread_mutex_lock(&cache->mutex);
    store_health_end_probe(&cache->health);
    pthread_mutex_unlock(&cache->mutex);
}

void cache_probe_store(struct app_cache *cache) {
    bool probes;

    pthread_mutex_lock(&cache->mutex);
    probes = store_health_begin_probe(&cache->health, clock_monotonic_ms());
    if (probes)
        cache->probe = (struct store_operation){
            .priority = STORE_URGENT, .repeatable = true, .run = run_probe, .finished = finish_probe};
    pthread_mutex_unlock(&cache->mutex);
    if (probes)
        store_pool_submit(cache->pool, &cache->probe, PROBE_TIMEOUT_MS);
}
