#include "app_manager/cache/cache_answer.h"

#include <string.h>

#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_outage.h"
#include "app_manager/cache/cache_removal.h"
#include "base/clock.h"

#define BROKEN_REFRESH_MS 5000 /* until a broken record is read again */

struct cache_entry *cache_put_record(struct app_cache *cache, struct app *app, uint64_t now_ms,
                                     struct cache_effects *effects) {
    struct cache_entry *entry = records_put(&cache->records, app, now_ms, effects);

    negatives_drop(&cache->negatives, NAME_ID, entry->by_id.text, &effects->unlinked);
    negatives_drop(&cache->negatives, NAME_KEY, entry->key->node.text, &effects->unlinked);
    unknown_names_found(&cache->unknown, entry->by_id.hash);
    unknown_names_found(&cache->unknown, entry->key->node.hash);
    cache->health.ever_loaded = true;
    return entry;
}

void cache_restore_record(struct app_cache *cache, struct app *app, uint64_t read_s, uint64_t stale_until_ms,
                          struct cache_effects *effects) {
    struct cache_entry *entry = records_restore(&cache->records, app, read_s, stale_until_ms, effects);

    unknown_names_found(&cache->unknown, entry->by_id.hash);
    unknown_names_found(&cache->unknown, entry->key->node.hash);
    cache->health.ever_loaded = true;
}

/* --- applying an answer; with the mutex held --- */

static enum app_answer apply_missing(struct app_cache *cache, struct cache_fetch *fetch, uint64_t now_ms,
                                     struct cache_effects *effects) {
    struct cache_entry *entry = fetch->entry;
    struct slice name = fetch->node.text;

    if (entry != NULL && fetch->kind == NAME_ID) {
        enum missing_app missing = cache_note_missing(cache, entry, now_ms, effects);
        if (missing == MISSING_KEPT)
            return APP_FOUND;
        if (missing == MISSING_GONE)
            records_drop(&cache->records, entry, effects);
    } else if (entry != NULL && entry->key != NULL && slice_equal(entry->key->node.text, name)) {
        if (entry->vanishing.held_until_ms != 0)
            return APP_FOUND;
        records_drop_key(&cache->records, entry, &effects->unlinked);
        records_refresh_now(&cache->records, entry); /* does the app have another key, or is it deleted? */
    }
    negatives_put_unknown(&cache->negatives, fetch->kind, name, now_ms, &effects->unlinked);
    return APP_NOT_FOUND;
}

/* A broken record leaves the last valid one in force. */
static enum app_answer apply_broken(struct app_cache *cache, struct cache_fetch *fetch, const char *reason,
                                    uint64_t now_ms, struct cache_effects *effects) {
    struct cache_entry *entry = fetch->entry;

    if (entry == NULL || atomic_load(&entry->slot->current) == NULL) {
        if (negatives_put_broken(&cache->negatives, fetch->kind, fetch->node.text, reason, now_ms, &effects->unlinked))
            cache_effects_log_broken(effects, reason, false);
        return APP_INVALID;
    }
    if (entry->broken == NULL || strcmp(entry->broken, reason) != 0) {
        cache_effects_log_broken(effects, reason, true);
        records_set_broken(&cache->records, entry, reason);
    }
    mass_removal_returned(&cache->records.removals, &entry->vanishing);
    records_put_off(&cache->records, entry, now_ms);
    entry->refresh_at_ms = now_ms + BROKEN_REFRESH_MS;
    return APP_FOUND;
}

static enum app_answer apply_failure(struct app_cache *cache, struct cache_fetch *fetch, uint64_t now_ms) {
    struct cache_entry *entry = fetch->entry;

    if (entry == NULL)
        return APP_UNAVAILABLE;
    records_put_off(&cache->records, entry, now_ms);
    return records_may_serve_stale(&cache->records, entry, now_ms) ? APP_FOUND : APP_UNAVAILABLE;
}

static enum app_answer apply_answer(struct app_cache *cache, struct cache_fetch *fetch, enum store_answer answer,
                                    const struct error *error, struct cache_effects *effects) {
    uint64_t now_ms = clock_monotonic_ms();

    switch (answer) {
    case STORE_OK:
        fetch_set_entry(fetch, cache_put_record(cache, fetch->app, now_ms, effects));
        fetch->app = NULL;
        return APP_FOUND;
    case STORE_NOT_FOUND:
        return apply_missing(cache, fetch, now_ms, effects);
    case STORE_INVALID:
        return apply_broken(cache, fetch, error->text, now_ms, effects);
    default:
        return apply_failure(cache, fetch, now_ms);
    }
}

/* --- queries --- */

static enum store_answer run_fetch(struct store_operation *operation, struct store_connection *connection,
                                   struct error *error) {
    struct cache_fetch *fetch = container_of(operation, struct cache_fetch, operation);
    struct app_cache *cache = container_of(fetch->fetches, struct app_cache, fetches);
    struct slice name = fetch->node.text;

    pthread_mutex_lock(&cache->mutex);
    fetch->write_version = write_log_version(&cache->writes);
    pthread_mutex_unlock(&cache->mutex);
    return fetch->kind == NAME_ID ? store_find_by_id(connection, name, &fetch->app, error)
                                  : store_find_by_key(connection, name, &fetch->app, error);
}

/* True if the answer may be older than a write: the query is to be repeated. */
static bool is_outdated(const struct app_cache *cache, const struct cache_fetch *fetch, enum store_answer answer) {
    const struct slice none = SLICE("");
    struct slice id = fetch->app != NULL ? fetch->app->id : none, key = none;

    if (answer == STORE_UNAVAILABLE)
        return false;
    if (fetch->kind == NAME_ID)
        id = fetch->node.text;
    else
        key = fetch->node.text;
    return write_log_concerns(&cache->writes, fetch->write_version, id, key);
}

static void repeat_fetch(struct app_cache *cache, struct cache_fetch *fetch) {
    app_unref(fetch->app);
    fetch->app = NULL;
    store_pool_submit(cache->pool, &fetch->operation, 0);
}

static void finish_fetch(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct cache_fetch *fetch = container_of(operation, struct cache_fetch, operation);
    struct app_cache *cache = container_of(fetch->fetches, struct app_cache, fetches);
    struct cache_effects effects = {0};
    struct fetch_delivery *deliveries = NULL;
    bool outage_changed, outdated;

    if (answer == STORE_REFUSED) /* for a lookup it is the same */
        answer = STORE_UNAVAILABLE;
    pthread_mutex_lock(&cache->mutex);
    outage_changed = cache_note_answer(cache, operation, answer);
    outdated = is_outdated(cache, fetch, answer);
    if (!outdated) {
        enum app_answer result = apply_answer(cache, fetch, answer, error, &effects);
        cache_note_removal_end(cache, &effects);
        if (fetch->unknown && answer != STORE_NOT_FOUND)
            unknown_names_return(&cache->unknown, fetch->kind, fetch->address);
        fetch_answer(fetch, result, result == APP_INVALID ? error->text : NULL, &deliveries);
        fetches_remove(&cache->fetches, fetch);
    }
    pthread_mutex_unlock(&cache->mutex);
    if (outage_changed)
        cache_log_outage(cache, answer, error);
    if (outdated) {
        repeat_fetch(cache, fetch);
        return;
    }
    cache_effects_run(&effects, &cache->surroundings);
    fetch_post(deliveries);
    fetch_unref(fetch);
    if (answer != STORE_OK) /* else this is a thread of the pool */
        return;
    pthread_mutex_lock(&cache->mutex);
    cache_capacity_wait(&cache->capacity, &cache->mutex);
    pthread_mutex_unlock(&cache->mutex);
}

void cache_submit_fetch(struct app_cache *cache, struct cache_fetch *fetch) {
    fetch->operation.run = run_fetch;
    fetch->operation.finished = finish_fetch;
    store_pool_submit(cache->pool, &fetch->operation, 0);
}
