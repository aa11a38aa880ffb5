#include "app_manager/cache/cache_snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "app_manager/cache/cache_answer.h"
#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/snapshot_file.h"
#include "app_manager/cache/snapshot_format.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret_text.h"
#include "base/thread.h"

#define WRITE_INTERVAL_MS 5000
/* Without a change of an app only the times are written, when records were read again. */
#define TIMES_INTERVAL_MS 300000
#define SLICE_ENTRIES 500
#define NS_PER_MS UINT64_C(1000000)

/* Names the table, so that the apps of one are not taken for those of another. */
static void append_store_place(const struct config *config, struct buffer *place) {
    const struct config_sql *sql =
        config->app_manager.driver == CONFIG_DRIVER_MYSQL ? &config->database.mysql : &config->database.postgres;

    switch (config->app_manager.driver) {
    case CONFIG_DRIVER_MYSQL:
    case CONFIG_DRIVER_POSTGRES:
        buffer_appendf(place, "%s:%u/%s/%s", sql->host, sql->port, sql->database, sql->table_name);
        break;
    case CONFIG_DRIVER_SQLITE:
        buffer_appendf(place, "%s", config->database.sqlite.path);
        break;
    case CONFIG_DRIVER_DYNAMODB:
        buffer_appendf(place, "%s/%s", config->database.dynamodb.region, config->database.dynamodb.table_name);
        break;
    default:
        buffer_appendf(place, "%s/%s", config->database.scylladb.keyspace, config->database.scylladb.table_name);
        break;
    }
}

void cache_snapshot_init(struct app_cache *cache) {
    const char *path = cache->config->app_manager.cache.snapshot_path;
    struct cache_snapshot *snapshot = &cache->snapshot;

    *snapshot = (struct cache_snapshot){.path = path != NULL && path[0] != '\0' ? path : NULL};
    condition_init(&snapshot->wake);
    buffer_appendf(&snapshot->place, "%s ", cache->driver->name);
    append_store_place(cache->config, &snapshot->place);
}

void cache_snapshot_dispose(struct app_cache *cache) {
    buffer_dispose(&cache->snapshot.place);
    pthread_cond_destroy(&cache->snapshot.wake);
}

/* --- reading --- */

/* True if the record was put into the cache: it is one, and not too old. */
static bool restore_app(struct app_cache *cache, uint64_t read_s, const json_t *record, uint64_t now_s) {
    uint64_t stale_ms = cache->settings.stale_if_error_ms, age_ms = now_s > read_s ? (now_s - read_s) * 1000 : 0;
    struct cache_effects effects = {0};
    struct error ignored;
    struct app *app;

    if (read_s > now_s + 1 || age_ms >= stale_ms) /* a clock that was set back makes no record younger */
        return false;
    app = app_parse(record, &cache->defaults, APP_FROM_COPY, NULL, NULL, &ignored);
    if (app == NULL)
        return false;
    pthread_mutex_lock(&cache->mutex);
    cache_restore_record(cache, app, read_s, clock_monotonic_ms() + stale_ms - age_ms, &effects);
    pthread_mutex_unlock(&cache->mutex);
    /* No connection has the app yet: there is nobody to tell. */
    app_unref(effects.changed);
    reclaim_batch_defer(&cache->surroundings.reclaimer, &effects.unlinked);
    return true;
}

static bool restore_apps(struct app_cache *cache, struct slice text, size_t *restored, size_t *left_out,
                         struct error *error) {
    uint64_t now_s = clock_wall_ms() / 1000, read_s;
    struct buffer place = {0};
    bool good =
        snapshot_read_place(&text, &place) && slice_equal(buffer_slice(&place), buffer_slice(&cache->snapshot.place));
    json_t *record;

    if (!good)
        error_set(error, "it is of another store, %.*s", place.length < 200 ? (int)place.length : 200,
                  place.length != 0 ? place.data : "");
    while (good && snapshot_read_app(&text, &read_s, &record)) {
        bool taken = restore_app(cache, read_s, record, now_s);
        *restored += taken;
        *left_out += !taken;
        json_decref(record);
    }
    buffer_dispose(&place);
    return good;
}

static void read_snapshot(struct app_cache *cache) {
    struct buffer file = {0}, memory = {0};
    size_t restored = 0, left_out = 0;
    struct slice text;
    struct error error;
    enum snapshot_read answer = snapshot_file_read(cache->snapshot.path, &file, &error);

    if (answer == SNAPSHOT_READ &&
        !(snapshot_unwrap(buffer_slice(&file), cache->store->keyring, &memory, &text, &error) &&
          restore_apps(cache, text, &restored, &left_out, &error)))
        answer = SNAPSHOT_REFUSED;
    if (answer == SNAPSHOT_REFUSED)
        log_error("app", "app_manager.cache.snapshot_path %s is not used: %s", cache->snapshot.path, error.text);
    else if (answer == SNAPSHOT_READ)
        log_info("app",
                 "%zu apps of an earlier run are known from %s (%zu were too old, or are not valid): they are served "
                 "while the store cannot be reached",
                 restored, cache->snapshot.path, left_out);
    secret_buffer_dispose(&file);
    secret_buffer_dispose(&memory);
    cache->snapshot.written_changes = cache->records.changes;
    cache->snapshot.written_loads = cache->records.loads;
}

/* --- writing --- */

static void append_entries(struct app_cache *cache, struct cache_entry *const *entries, size_t count,
                           struct buffer *text) {
    struct {
        struct app *app;
        uint64_t read_s;
    } found[SLICE_ENTRIES];

    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < count; i++) {
        struct app *app = atomic_load(&entries[i]->slot->current);
        /* One that the store does not have any more is not to come back, although its removal is held. */
        found[i].app = app != NULL && entries[i]->vanishing.since_ms == 0 ? app_ref(app) : NULL;
        found[i].read_s = entries[i]->read_s;
    }
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < count; i++) {
        if (found[i].app != NULL)
            snapshot_append_app(text, found[i].read_s, app_to_json(found[i].app));
        app_unref(found[i].app);
    }
}

/* The entries stay allocated until reclaim_read_end. */
static void append_all_entries(struct app_cache *cache, struct buffer *text) {
    struct cache_entry **entries;
    size_t count;

    reclaim_read_begin(&cache->surroundings.reclaimer);
    entries = records_copy(&cache->records, &cache->mutex, &count);
    for (size_t at = 0; at < count && text->length <= SNAPSHOT_MAX_BYTES; at += SLICE_ENTRIES)
        append_entries(cache, entries + at, count - at < SLICE_ENTRIES ? count - at : SLICE_ENTRIES, text);
    reclaim_read_end(&cache->surroundings.reclaimer);
    free(entries);
}

static void write_snapshot(struct app_cache *cache) {
    struct cache_snapshot *snapshot = &cache->snapshot;
    struct buffer text = {0}, file = {0};
    struct error error;
    bool written;

    snapshot_append_place(&text, buffer_slice(&snapshot->place));
    append_all_entries(cache, &text);
    snapshot_wrap(buffer_slice(&text), cache->store->keyring, &file);
    written = file.length <= SNAPSHOT_MAX_BYTES
                  ? snapshot_file_write(snapshot->path, buffer_slice(&file), &error)
                  : error_set(&error, "it would be longer than %d MB", SNAPSHOT_MAX_BYTES / (1024 * 1024));
    if (!written && !snapshot->failed)
        log_error("app", "app_manager.cache.snapshot_path cannot be written: %s", error.text);
    if (written && snapshot->failed)
        log_info("app", "app_manager.cache.snapshot_path is written again");
    snapshot->failed = !written;
    secret_buffer_dispose(&text);
    secret_buffer_dispose(&file);
}

/* With the mutex held. */
static bool is_write_due(const struct app_cache *cache, uint64_t now_ms) {
    const struct cache_snapshot *snapshot = &cache->snapshot;
    uint64_t quarter_ms = cache->settings.stale_if_error_ms / 4;
    uint64_t interval_ms = cache->stopping ? 0 : quarter_ms < TIMES_INTERVAL_MS ? quarter_ms : TIMES_INTERVAL_MS;

    if (snapshot->left)
        return false;
    return snapshot->failed || cache->records.changes != snapshot->written_changes ||
           (cache->records.loads != snapshot->written_loads && now_ms >= snapshot->written_ms + interval_ms);
}

static void *run_snapshot_thread(void *context) {
    struct app_cache *cache = context;
    struct cache_snapshot *snapshot = &cache->snapshot;
    bool goes_on = true, due;

    while (goes_on) {
        uint64_t until_ns = clock_monotonic_ns() + WRITE_INTERVAL_MS * NS_PER_MS;

        pthread_mutex_lock(&cache->mutex);
        while (!cache->stopping && condition_wait_until(&snapshot->wake, &cache->mutex, until_ns))
            ;
        goes_on = !cache->stopping;
        due = is_write_due(cache, clock_monotonic_ms());
        if (due) {
            snapshot->written_changes = cache->records.changes;
            snapshot->written_loads = cache->records.loads;
            snapshot->written_ms = clock_monotonic_ms();
        }
        pthread_mutex_unlock(&cache->mutex);
        if (due)
            write_snapshot(cache);
    }
    return NULL;
}

bool cache_snapshot_start(struct app_cache *cache, struct error *error) {
    struct cache_snapshot *snapshot = &cache->snapshot;

    if (snapshot->path == NULL)
        return true;
    if (cache->settings.passthrough) {
        log_warning("app", "app_manager.cache.snapshot_path has no effect without the cache");
        return true;
    }
    snapshot_file_clean(snapshot->path);
    read_snapshot(cache);
    snapshot->runs = thread_start(&snapshot->thread, "curlew-snapshot", run_snapshot_thread, cache, error);
    return snapshot->runs;
}

void cache_snapshot_leave(struct app_cache *cache) {
    pthread_mutex_lock(&cache->mutex);
    cache->snapshot.left = true;
    pthread_mutex_unlock(&cache->mutex);
}

bool cache_snapshot_stop(struct app_cache *cache) {
    struct cache_snapshot *snapshot = &cache->snapshot;

    if (!snapshot->runs)
        return true;
    pthread_mutex_lock(&cache->mutex);
    pthread_cond_broadcast(&snapshot->wake);
    pthread_mutex_unlock(&cache->mutex);
    snapshot->runs = !thread_join_until(snapshot->thread, clock_monotonic_ns() + STORE_STOP_MS * NS_PER_MS);
    return !snapshot->runs;
}
