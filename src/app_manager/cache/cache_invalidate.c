#include "app_manager/cache/cache_invalidate.h"

#include "app_manager/cache/cache_answer.h"
#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_removal.h"
#include "base/clock.h"

static struct slice key_or_empty(const struct app *app) {
    return app != NULL ? app->key : SLICE("");
}

static struct cache_entry *entry_of_id(struct app_cache *cache, struct slice id) {
    return records_find(&cache->records, NAME_ID, id, hash_bytes(id));
}

/* The next sweep reads the app again, and "not found" is then believed at once. */
static void announce_change(struct app_cache *cache, struct cache_entry *entry) {
    entry->announced = true;
    records_refresh_now(&cache->records, entry);
}

uint64_t app_cache_write_version(struct app_cache *cache) {
    uint64_t version;

    pthread_mutex_lock(&cache->mutex);
    version = write_log_version(&cache->writes);
    pthread_mutex_unlock(&cache->mutex);
    return version;
}

uint64_t app_cache_written(struct app_cache *cache, uint64_t write_version, struct slice id, const struct app *before,
                           const struct app *after) {
    struct cache_effects effects = {.is_logged = true};
    struct cache_entry *entry;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t connections;
    bool concurrent;

    pthread_mutex_lock(&cache->mutex);
    concurrent = write_log_concerns(&cache->writes, write_version, id, SLICE(""));
    write_log_add(&cache->writes, id, key_or_empty(before), key_or_empty(after), now_ms);
    entry = entry_of_id(cache, id);
    if (after != NULL)
        entry = cache_put_record(cache, app_ref((struct app *)after), now_ms, &effects);
    else if (entry != NULL)
        records_drop(&cache->records, entry, &effects);
    if (concurrent && entry != NULL) { /* lookups ask the store, too */
        atomic_store(&entry->fresh_until_ms, 0);
        announce_change(cache, entry);
    }
    cache_note_removal_end(cache, &effects);
    pthread_mutex_unlock(&cache->mutex);
    connections = effects.connections;
    cache_effects_run(&effects, &cache->surroundings);
    return connections;
}

void app_cache_invalidate(struct app_cache *cache, struct slice id, struct slice old_key, struct slice new_key,
                          bool meant) {
    struct cache_effects effects = {0};
    struct cache_entry *entry;

    pthread_mutex_lock(&cache->mutex);
    write_log_add(&cache->writes, id, old_key, new_key, clock_monotonic_ms());
    negatives_expire(&cache->negatives, NAME_ID, id, &effects.unlinked);
    negatives_expire(&cache->negatives, NAME_KEY, old_key, &effects.unlinked);
    negatives_expire(&cache->negatives, NAME_KEY, new_key, &effects.unlinked);
    entry = entry_of_id(cache, id);
    if (entry != NULL) {
        entry->meant |= meant;
        announce_change(cache, entry);
    }
    pthread_mutex_unlock(&cache->mutex);
    cache_effects_run(&effects, &cache->surroundings);
}

void app_cache_invalidate_all(struct app_cache *cache) {
    struct cache_effects effects = {0};
    uint64_t now_ms = clock_monotonic_ms();

    pthread_mutex_lock(&cache->mutex);
    write_log_add_any(&cache->writes);
    negatives_expire_all(&cache->negatives, &effects.unlinked);
    for (struct list *link = cache->records.entries.next; link != &cache->records.entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (entry->refresh_at_ms > now_ms)
            entry->refresh_at_ms = now_ms;
        if (!entry_has_connections(entry)) /* read again at the next lookup */
            atomic_store(&entry->fresh_until_ms, 0);
    }
    cache_wake_for_sweep(&cache->wake);
    pthread_mutex_unlock(&cache->mutex);
    cache_effects_run(&effects, &cache->surroundings);
}
