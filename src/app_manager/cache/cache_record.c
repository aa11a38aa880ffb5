#include "app_manager/cache/cache_record.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_change.h"
#include "base/alloc.h"
#include "base/backoff.h"
#include "base/clock.h"

#define CREATED_BEYOND 100 /* new entries beyond the capacity that do not want a sweep at once */
#define PASSTHROUGH_REFRESH_MS 300000
#define BACKOFF_FIRST_MS 100
#define HASTENED 8 /* apps that are read early for each one that has vanished */
#define HASTEN_LOOKS 64
#define HASTEN_AFTER_MS 1000 /* since the app was read last */
#define BACKOFF_LAST_MS 5000

void records_init(struct records *records, const struct cache_settings *settings, struct cache_wake *wake,
                  unsigned worker_count, void (*free_channels)(void *channels)) {
    *records = (struct records){
        .settings = settings, .wake = wake, .worker_count = worker_count, .free_channels = free_channels};
    records->removals.grace_ms = settings->vanished_grace_ms;
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++)
        name_table_init(&records->names[kind]);
    list_init(&records->entries);
}

void records_dispose(struct records *records) {
    struct reclaim_batch unlinked = {0};

    while (!list_empty(&records->entries)) {
        struct cache_entry *entry = container_of(records->entries.next, struct cache_entry, link);
        records_unlink(records, entry, &unlinked);
        reclaim_batch_add(&unlinked, entry, entry_free, records);
    }
    reclaim_batch_free(&unlinked);
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++)
        name_table_dispose(&records->names[kind]);
    free(records->array);
}

struct cache_entry **records_copy(const struct records *records, pthread_mutex_t *mutex, size_t *count) {
    struct cache_entry **entries = NULL;
    size_t capacity;

    *count = 0;
    do { /* the number may grow before the mutex is taken */
        capacity = *count + *count / 8 + 64;
        entries = alloc_array(entries, capacity, sizeof entries[0]);
        pthread_mutex_lock(mutex);
        *count = records->count;
        if (*count != 0 && *count <= capacity)
            memcpy(entries, records->array, *count * sizeof(struct cache_entry *));
        pthread_mutex_unlock(mutex);
    } while (*count > capacity);
    return entries;
}

/* --- entries --- */

static void add_to_array(struct records *records, struct cache_entry *entry) {
    if (records->count == records->array_capacity) {
        records->array_capacity = records->array_capacity == 0 ? 64 : records->array_capacity * 2;
        records->array = alloc_array(records->array, records->array_capacity, sizeof(struct cache_entry *));
    }
    entry->index = records->count;
    records->array[records->count++] = entry;
}

/* The last entry takes the place of the removed one. */
static void remove_from_array(struct records *records, const struct cache_entry *entry) {
    struct cache_entry *last = records->array[--records->count];

    records->array[entry->index] = last;
    last->index = entry->index;
}

static struct cache_entry *create_entry(struct records *records, struct slice id, struct reclaim_batch *unlinked) {
    size_t size = sizeof(struct cache_entry) + records->worker_count * sizeof(atomic_uint_fast64_t);
    struct cache_entry *entry = alloc_cache_line(size);
    size_t capacity = records->settings->capacity;

    entry->slot = app_slot_create(id, records->worker_count);
    entry->by_id.hash = hash_bytes(id);
    entry->by_id.text = slice_of(entry->slot->id);
    name_table_add(&records->names[NAME_ID], &entry->by_id, unlinked);
    list_append(&records->entries, &entry->link);
    add_to_array(records, entry);
    /* Not for each one: any number of the others may have connections, and those do not count. */
    if (++records->created_since_sweep > capacity / 16 + CREATED_BEYOND && records->count > capacity) {
        records->created_since_sweep = 0;
        cache_wake_for_sweep(records->wake);
    }
    return entry;
}

void records_unlink(struct records *records, struct cache_entry *entry, struct reclaim_batch *unlinked) {
    records_drop_key(records, entry, unlinked);
    records_set_broken(records, entry, NULL);
    mass_removal_returned(&records->removals, &entry->vanishing);
    records->known -= atomic_load(&entry->slot->current) != NULL;
    name_table_remove(&records->names[NAME_ID], &entry->by_id);
    list_remove(&entry->link);
    remove_from_array(records, entry);
}

void entry_free(void *object, void *context) {
    struct cache_entry *entry = object;
    struct records *records = context;

    app_slot_destroy(entry->slot, records->free_channels);
    free(entry);
}

void entry_pin(struct cache_entry *entry) {
    enum entry_life life = ENTRY_EVICTING;

    atomic_fetch_add_explicit(&entry->pins, 1, memory_order_relaxed);
    atomic_compare_exchange_strong(&entry->life, &life, ENTRY_LIVE);
}

void entry_unpin(struct cache_entry *entry) {
    atomic_fetch_sub_explicit(&entry->pins, 1, memory_order_release);
}

uint64_t entry_last_used_ms(const struct cache_entry *entry, unsigned worker_count) {
    uint64_t latest_ms = entry->loaded_ms;

    for (unsigned i = 0; i < worker_count; i++) {
        uint64_t used_ms = atomic_load_explicit(&entry->used_ms[i], memory_order_relaxed);
        if (used_ms > latest_ms)
            latest_ms = used_ms;
    }
    return latest_ms;
}

/* --- keys --- */

void records_drop_key(struct records *records, struct cache_entry *entry, struct reclaim_batch *unlinked) {
    if (entry->key == NULL)
        return;
    name_table_remove(&records->names[NAME_KEY], &entry->key->node);
    reclaim_batch_add_memory(unlinked, entry->key);
    entry->key = NULL;
}

static void put_key(struct records *records, struct cache_entry *entry, struct slice text,
                    struct reclaim_batch *unlinked) {
    uint64_t hash = hash_bytes(text);
    struct cache_entry *other;
    struct cache_key *key;

    if (entry->key != NULL && slice_equal(entry->key->node.text, text))
        return;
    records_drop_key(records, entry, unlinked);
    other = records_find(records, NAME_KEY, text, hash);
    if (other != NULL) { /* the key has moved from that app to this one */
        records_drop_key(records, other, unlinked);
        records_refresh_now(records, other);
    }
    key = alloc_zero(sizeof *key + text.length + 1);
    memcpy(key->text, text.data, text.length);
    key->node.hash = hash;
    key->node.text = (struct slice){key->text, text.length};
    key->entry = entry;
    entry->key = key;
    name_table_add(&records->names[NAME_KEY], &key->node, unlinked);
}

/* --- records --- */

static void unref_unlinked_record(void *record, void *context) {
    (void)context;
    app_unref(record);
}

/* How long after loading a record in use is read again: well before it expires, and not all records at one time. */
static uint64_t refresh_after_ms(const struct records *records, const struct cache_entry *entry) {
    uint64_t ttl_ms = records->settings->ttl_ms;

    if (records->settings->passthrough) /* kept for live connections only */
        return ttl_ms == 0 || ttl_ms > PASSTHROUGH_REFRESH_MS ? PASSTHROUGH_REFRESH_MS : ttl_ms;
    return ttl_ms / 2 + (entry->by_id.hash >> 32) % (ttl_ms / 4 + 1);
}

static void note_loaded(struct records *records, struct cache_entry *entry, uint64_t now_ms) {
    uint64_t fresh_until_ms = records->settings->passthrough ? 0 : now_ms + records->settings->ttl_ms;

    entry->loaded_ms = now_ms;
    entry->read_s = clock_wall_ms() / 1000;
    entry->stale_until_ms = now_ms + records->settings->ttl_ms + records->settings->stale_if_error_ms;
    entry->restored = false;
    records->loads++;
    entry->refresh_at_ms = now_ms + refresh_after_ms(records, entry);
    entry->backoff_ms = 0;
    entry->announced = entry->meant = entry->early = false;
    mass_removal_returned(&records->removals, &entry->vanishing);
    atomic_store_explicit(&entry->stale, false, memory_order_relaxed);
    atomic_store_explicit(&entry->fresh_until_ms, fresh_until_ms, memory_order_release);
}

struct cache_entry *records_put(struct records *records, struct app *app, uint64_t now_ms,
                                struct cache_effects *effects) {
    struct cache_entry *entry = records_find(records, NAME_ID, app->id, hash_bytes(app->id));
    struct app *old;

    if (entry == NULL)
        entry = create_entry(records, app->id, &effects->unlinked);
    atomic_store(&entry->life, ENTRY_LIVE);
    put_key(records, entry, app->key, &effects->unlinked);
    old = atomic_load(&entry->slot->current);
    if (old != NULL && app_equal(old, app)) {
        app_unref(app);
    } else {
        if (old != NULL && app_change_concerns_sessions(old, app))
            effects->closes_sessions = true;
        records->known += old == NULL;
        records->changes++;
        cache_effects_replace(effects, old, app);
        reclaim_batch_add(&effects->unlinked, slot_replace_app(entry->slot, app), unref_unlinked_record, NULL);
    }
    records_set_broken(records, entry, NULL);
    note_loaded(records, entry, now_ms);
    return entry;
}

struct cache_entry *records_restore(struct records *records, struct app *app, uint64_t read_s, uint64_t stale_until_ms,
                                    struct cache_effects *effects) {
    struct cache_entry *entry = records_put(records, app, clock_monotonic_ms(), effects);

    entry->read_s = read_s;
    entry->stale_until_ms = stale_until_ms;
    entry->refresh_at_ms = 0;
    entry->restored = true;
    atomic_store_explicit(&entry->stale, true, memory_order_relaxed);
    atomic_store_explicit(&entry->fresh_until_ms, 0, memory_order_release);
    return entry;
}

void records_drop(struct records *records, struct cache_entry *entry, struct cache_effects *effects) {
    struct app *old = slot_replace_app(entry->slot, NULL);

    atomic_store(&entry->fresh_until_ms, 0);
    records_drop_key(records, entry, &effects->unlinked);
    records_set_broken(records, entry, NULL);
    mass_removal_meant(&records->removals, &entry->vanishing);
    records->known -= old != NULL;
    records->changes += old != NULL;
    entry->announced = entry->meant = entry->early = false;
    entry->refresh_at_ms = UINT64_MAX;
    effects->connections = slot_connections(entry->slot);
    effects->closes_sessions |= old != NULL;
    cache_effects_replace(effects, old, NULL);
    reclaim_batch_add(&effects->unlinked, old, unref_unlinked_record, NULL);
}

void records_set_broken(struct records *records, struct cache_entry *entry, const char *reason) {
    records->broken += reason != NULL;
    records->broken -= entry->broken != NULL;
    free(entry->broken);
    entry->broken = reason != NULL ? alloc_copy(reason, strlen(reason)) : NULL;
}

/* --- records that the store does not find --- */

void records_hold(struct records *records, struct cache_entry *entry, struct reclaim_batch *unlinked) {
    struct slice key = atomic_load(&entry->slot->current)->key;

    if (entry->key == NULL && records_find(records, NAME_KEY, key, hash_bytes(key)) == NULL)
        put_key(records, entry, key, unlinked);
    atomic_store_explicit(&entry->stale, true, memory_order_relaxed);
    if (!records->settings->passthrough)
        atomic_store_explicit(&entry->fresh_until_ms, entry->vanishing.next_ms + STALE_AFTER_MS, memory_order_release);
}

void records_hasten(struct records *records, uint64_t now_ms) {
    unsigned chosen = 0;

    for (unsigned i = 0; i < HASTEN_LOOKS && i < records->count && chosen < HASTENED; i++) {
        struct cache_entry *entry = records->array[records->hasten_at++ % records->count];
        if (entry->vanishing.since_ms != 0 || entry->early || now_ms < entry->loaded_ms + HASTEN_AFTER_MS ||
            atomic_load(&entry->slot->current) == NULL)
            continue;
        entry->early = true;
        records_refresh_now(records, entry);
        chosen++;
    }
}

/* --- reading again --- */

void records_refresh_at(struct records *records, struct cache_entry *entry, uint64_t at_ms) {
    entry->refresh_at_ms = at_ms;
    cache_wake_for_sweep_at(records->wake, at_ms);
}

void records_refresh_now(struct records *records, struct cache_entry *entry) {
    entry->refresh_at_ms = 0;
    cache_wake_for_sweep(records->wake);
}

/* --- expired records --- */

static uint64_t stale_until_ms(const struct records *records, const struct cache_entry *entry) {
    (void)records;
    return entry->stale_until_ms;
}

bool records_may_serve_stale(const struct records *records, const struct cache_entry *entry, uint64_t now_ms) {
    return !records->settings->passthrough && atomic_load(&entry->slot->current) != NULL &&
           now_ms < stale_until_ms(records, entry);
}

void records_serve_stale(struct records *records, struct cache_entry *entry, uint64_t until_ms) {
    uint64_t last_ms = stale_until_ms(records, entry);

    atomic_store_explicit(&entry->stale, true, memory_order_relaxed);
    atomic_store_explicit(&entry->fresh_until_ms, until_ms < last_ms ? until_ms : last_ms, memory_order_release);
}

void records_put_off(struct records *records, struct cache_entry *entry, uint64_t now_ms) {
    uint32_t pause_ms = backoff_next_ms(entry->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_LAST_MS);

    entry->backoff_ms = pause_ms;
    entry->early = false;
    entry->refresh_at_ms = now_ms + pause_ms;
    if (!records_may_serve_stale(records, entry, now_ms) || now_ms + pause_ms < atomic_load(&entry->fresh_until_ms))
        return;
    /* Served until well after the next attempt, so that no lookup waits for it. */
    records_serve_stale(records, entry, now_ms + pause_ms + STALE_AFTER_MS);
}
