#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "base/clock.h"
#include "base/log.h"

#define CREATED_BEYOND 100 /* entries that may be more than the capacity, for less than a second */

static struct slice slot_name(const struct cache_entry *entry) {
    return slice_of(entry->slot->id);
}

struct cache_entry *cache_entry_of(enum name_kind kind, struct name_node *node) {
    if (node == NULL)
        return NULL;
    return kind == NAME_ID ? container_of(node, struct cache_entry, by_id)
                           : container_of(node, struct cache_key, node)->entry;
}

/* --- entries --- */

static struct cache_entry *entry_create(struct app_cache *cache, struct slice id) {
    size_t size = sizeof(struct cache_entry) + cache->workers->count * sizeof(atomic_uint_fast64_t);
    struct cache_entry *entry = alloc_cache_line(size);

    entry->slot = app_slot_create(id, cache->workers->count);
    entry->by_id.hash = hash_bytes(id);
    entry->by_id.text = slot_name(entry);
    name_table_add(&cache->names[NAME_ID], &entry->by_id, &cache->reclaimer);
    list_append(&cache->entries, &entry->link);
    cache->entry_count++;
    /* Not for each one: among the others may be any number that have connections, which do not count. */
    if (++cache->created_since_round > cache->settings.capacity / 16 + CREATED_BEYOND &&
        cache->entry_count > cache->settings.capacity) {
        cache->created_since_round = 0;
        cache_upkeep_wake(cache);
    }
    return entry;
}

void cache_unlink(struct app_cache *cache, struct cache_entry *entry) {
    cache_drop_key(cache, entry);
    cache_set_broken(cache, entry, NULL);
    name_table_remove(&cache->names[NAME_ID], &entry->by_id);
    list_remove(&entry->link);
    cache->entry_count--;
}

void cache_entry_free(void *object, void *context) {
    struct cache_entry *entry = object;
    struct app_cache *cache = context;

    app_slot_destroy(entry->slot, cache->hooks->free_channels);
    free(entry->key);
    free(entry);
}

/* --- keys --- */

void cache_drop_key(struct app_cache *cache, struct cache_entry *entry) {
    if (entry->key == NULL)
        return;
    name_table_remove(&cache->names[NAME_KEY], &entry->key->node);
    reclaim_free(&cache->reclaimer, entry->key);
    entry->key = NULL;
}

static void put_key(struct app_cache *cache, struct cache_entry *entry, struct slice text) {
    uint64_t hash = hash_bytes(text);
    struct cache_entry *other;
    struct cache_key *key;

    if (entry->key != NULL && slice_equal(entry->key->node.text, text))
        return;
    cache_drop_key(cache, entry);
    other = cache_entry_of(NAME_KEY, name_table_find(&cache->names[NAME_KEY], text, hash));
    if (other != NULL) { /* the key went from one app to the other */
        cache_drop_key(cache, other);
        other->refresh_at_ms = 0;
        cache_upkeep_wake(cache);
    }
    key = alloc_zero(sizeof *key + text.length + 1);
    memcpy(key->text, text.data, text.length);
    key->node.hash = hash;
    key->node.text = (struct slice){key->text, text.length};
    key->entry = entry;
    entry->key = key;
    name_table_add(&cache->names[NAME_KEY], &key->node, &cache->reclaimer);
}

/* --- records --- */

static void leave_record(void *record, void *context) {
    (void)context;
    app_unref(record);
}

bool cache_has_connections(const struct cache_entry *entry) {
    return atomic_load_explicit(&entry->slot->connections, memory_order_relaxed) != 0;
}

/* How long after it was loaded a record in use is asked for again: well before its end, and not all at one time. */
static uint64_t refresh_after_ms(const struct app_cache *cache, const struct cache_entry *entry) {
    uint64_t ttl_ms = cache->settings.ttl_s * UINT64_C(1000);

    if (cache_is_passing(cache)) /* held for live connections only */
        return ttl_ms == 0 || ttl_ms > 300000 ? 300000 : ttl_ms;
    return ttl_ms / 2 + (entry->by_id.hash >> 32) % (ttl_ms / 4 + 1);
}

static void note_loaded(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms) {
    uint64_t ttl_ms = cache->settings.enabled ? cache->settings.ttl_s * UINT64_C(1000) : 0;

    entry->loaded_ms = now_ms;
    entry->refresh_at_ms = now_ms + refresh_after_ms(cache, entry);
    entry->failures = 0;
    entry->missing_ms = 0;
    entry->announced = false;
    atomic_store_explicit(&entry->stale, false, memory_order_relaxed);
    atomic_store_explicit(&entry->fresh_until_ms, ttl_ms == 0 ? 0 : now_ms + ttl_ms, memory_order_release);
}

struct cache_entry *cache_put(struct app_cache *cache, struct app *app, uint64_t now_ms,
                              struct cache_aftermath *aftermath) {
    struct name_node *node = name_table_find(&cache->names[NAME_ID], app->id, hash_bytes(app->id));
    struct cache_entry *entry = cache_entry_of(NAME_ID, node);
    struct app *old;

    if (entry == NULL)
        entry = entry_create(cache, app->id);
    atomic_store(&entry->life, ENTRY_LIVE);
    put_key(cache, entry, app->key);
    old = atomic_load(&entry->slot->current);
    if (old != NULL && app_equal(old, app)) {
        app_unref(app);
    } else {
        if (old != NULL && old->enabled && !app->enabled)
            aftermath->changed = true;
        aftermath->news = app_ref(app);
        atomic_store(&entry->slot->current, app);
        reclaim_defer(&cache->reclaimer, old, leave_record, NULL);
    }
    cache_set_broken(cache, entry, NULL);
    cache_drop_absent(cache, NAME_ID, slot_name(entry));
    cache_drop_absent(cache, NAME_KEY, entry->key->node.text);
    note_loaded(cache, entry, now_ms);
    cache->ever_loaded = true;
    return entry;
}

void cache_drop_record(struct app_cache *cache, struct cache_entry *entry, struct cache_aftermath *aftermath) {
    struct app *old = atomic_exchange(&entry->slot->current, NULL);

    atomic_store(&entry->fresh_until_ms, 0);
    cache_drop_key(cache, entry);
    cache_set_broken(cache, entry, NULL);
    entry->missing_ms = 0;
    entry->announced = false;
    entry->refresh_at_ms = UINT64_MAX;
    aftermath->changed |= old != NULL;
    reclaim_defer(&cache->reclaimer, old, leave_record, NULL);
}

bool cache_is_passing(const struct app_cache *cache) {
    return !cache->settings.enabled || cache->settings.ttl_s == 0;
}

bool cache_may_be_stale(const struct app_cache *cache, const struct cache_entry *entry, uint64_t now_ms) {
    uint64_t ttl_ms = cache->settings.ttl_s * UINT64_C(1000), beyond_ms = cache->settings.stale_if_error_s;

    return !cache_is_passing(cache) && atomic_load(&entry->slot->current) != NULL &&
           now_ms < entry->loaded_ms + ttl_ms + beyond_ms * 1000;
}

void cache_serve_stale(struct app_cache *cache, struct cache_entry *entry, uint64_t until_ms) {
    uint64_t last_ms =
        entry->loaded_ms + (cache->settings.ttl_s + (uint64_t)cache->settings.stale_if_error_s) * UINT64_C(1000);

    atomic_store_explicit(&entry->stale, true, memory_order_relaxed);
    atomic_store_explicit(&entry->fresh_until_ms, until_ms < last_ms ? until_ms : last_ms, memory_order_release);
}

void cache_put_off(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms) {
    uint64_t backoff_ms = REFRESH_BACKOFF_FIRST_MS << (entry->failures < 6 ? entry->failures : 6);

    if (backoff_ms > REFRESH_BACKOFF_LAST_MS)
        backoff_ms = REFRESH_BACKOFF_LAST_MS;
    entry->failures++;
    entry->refresh_at_ms = now_ms + backoff_ms;
    if (!cache_may_be_stale(cache, entry, now_ms) || now_ms + backoff_ms < atomic_load(&entry->fresh_until_ms))
        return;
    /* Served until well after the next attempt, so that nobody waits for it. */
    cache_serve_stale(cache, entry, now_ms + backoff_ms + STALE_AFTER_MS);
}

void cache_set_broken(struct app_cache *cache, struct cache_entry *entry, const char *reason) {
    cache->broken += reason != NULL;
    cache->broken -= entry->broken != NULL;
    free(entry->broken);
    entry->broken = reason != NULL ? alloc_copy(reason, strlen(reason)) : NULL;
}

/* --- absent names --- */

static void absent_free(void *object, void *context) {
    struct cache_absent *absent = object;

    (void)context;
    free(absent->reason);
    free(absent);
}

static void drop_absent(struct app_cache *cache, enum name_kind kind, struct cache_absent *absent) {
    name_table_remove(&cache->absent[kind], &absent->node);
    list_remove(&absent->link);
    cache->broken_names[kind] -= absent->reason != NULL;
    reclaim_defer(&cache->reclaimer, absent, absent_free, NULL);
}

static struct cache_absent *absent_of(struct app_cache *cache, enum name_kind kind, struct slice name) {
    struct name_node *node = name_table_find(&cache->absent[kind], name, hash_bytes(name));

    return node != NULL ? container_of(node, struct cache_absent, node) : NULL;
}

void cache_drop_absent(struct app_cache *cache, enum name_kind kind, struct slice name) {
    struct cache_absent *absent = absent_of(cache, kind, name);

    if (absent != NULL)
        drop_absent(cache, kind, absent);
}

static void drop_list(struct app_cache *cache, enum name_kind kind, struct list *list) {
    while (!list_empty(list))
        drop_absent(cache, kind, container_of(list->next, struct cache_absent, link));
}

void cache_drop_all_absent(struct app_cache *cache) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        drop_list(cache, kind, &cache->absent_order[kind]);
        drop_list(cache, kind, &cache->broken_order[kind]);
    }
}

void cache_expire_absent(struct app_cache *cache, enum name_kind kind, struct slice name) {
    struct cache_absent *absent = absent_of(cache, kind, name);

    if (absent != NULL && absent->reason != NULL)
        atomic_store(&absent->until_ms, 0);
    else if (absent != NULL)
        drop_absent(cache, kind, absent);
}

void cache_expire_all_absent(struct app_cache *cache) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        struct list *broken = &cache->broken_order[kind];
        drop_list(cache, kind, &cache->absent_order[kind]);
        for (struct list *link = broken->next; link != broken; link = link->next)
            atomic_store(&container_of(link, struct cache_absent, link)->until_ms, 0);
    }
}

/* When another name led to a record that is broken in just this way, the last time; 0: none did. */
static uint64_t told_by_another_name(const struct app_cache *cache, const struct cache_absent *absent) {
    uint64_t latest = 0;

    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        const struct list *broken = &cache->broken_order[kind];
        for (const struct list *link = broken->next; link != broken; link = link->next) {
            const struct cache_absent *other = container_of(link, struct cache_absent, link);
            if (other->reason_hash == absent->reason_hash && other->since > latest &&
                strcmp(other->reason, absent->reason) == 0)
                latest = other->since;
        }
    }
    return latest;
}

/* A broken record is said to be so once for each change of it, not each time that somebody asks, and not for each of
 * its names. `before` is what was known of this name. */
static void note_broken(struct app_cache *cache, struct cache_absent *absent, const struct cache_absent *before,
                        const char *reason) {
    bool known = before != NULL && before->reason != NULL;

    absent->reason = alloc_copy(reason, strlen(reason));
    absent->reason_hash = hash_bytes(slice_of(reason));
    if (known && strcmp(before->reason, reason) == 0) {
        absent->since = before->since;
        return;
    }
    absent->since = ++cache->last_broken;
    if (told_by_another_name(cache, absent) <= (known ? before->since : 0))
        log_error("app", "%s", reason);
}

void cache_put_absent(struct app_cache *cache, enum name_kind kind, struct slice name, enum app_answer answer,
                      const char *reason, uint64_t now_ms) {
    uint64_t ttl_ms = cache->settings.enabled ? cache->settings.negative_ttl_s * UINT64_C(1000) : 0;
    struct list *order = reason != NULL ? &cache->broken_order[kind] : &cache->absent_order[kind];
    struct cache_absent *before = absent_of(cache, kind, name);
    struct cache_absent *absent = alloc_zero(sizeof *absent + name.length + 1);
    size_t count;

    memcpy(absent->text, name.data, name.length);
    absent->node.text = (struct slice){absent->text, name.length};
    absent->node.hash = hash_bytes(name);
    absent->answer = answer;
    atomic_init(&absent->until_ms, now_ms + ttl_ms);
    if (reason != NULL)
        note_broken(cache, absent, before, reason);
    if (before != NULL)
        drop_absent(cache, kind, before);
    count = reason != NULL ? cache->broken_names[kind] : cache->absent[kind].count - cache->broken_names[kind];
    if (count >= ABSENT_MAX)
        drop_absent(cache, kind, container_of(order->next, struct cache_absent, link));
    list_append(order, &absent->link);
    cache->broken_names[kind] += reason != NULL;
    name_table_add(&cache->absent[kind], &absent->node, &cache->reclaimer);
}

/* --- writes --- */

static char *copy_or_null(struct slice text) {
    return text.length != 0 ? alloc_copy(text.data, text.length) : NULL;
}

void cache_note_write(struct app_cache *cache, struct slice id, struct slice old_key, struct slice new_key) {
    struct cache_write *write = alloc(sizeof *write);

    *write = (struct cache_write){.number = ++cache->last_write,
                                  .at_ms = clock_monotonic_ms(),
                                  .id = copy_or_null(id),
                                  .old_key = copy_or_null(old_key),
                                  .new_key = copy_or_null(new_key)};
    list_append(&cache->writes, &write->link);
    cache->write_count++;
    cache_forget_writes(cache, write->at_ms, WRITES_MAX);
}

void cache_forget_writes(struct app_cache *cache, uint64_t now_ms, size_t keep) {
    uint64_t age_ms = cache->config->app_manager.lookup_timeout_ms * UINT64_C(2) + 1000;

    while (!list_empty(&cache->writes)) {
        struct cache_write *write = container_of(cache->writes.next, struct cache_write, link);
        if (cache->write_count <= keep && now_ms < write->at_ms + age_ms)
            break;
        cache->forgotten_write = write->number;
        list_remove(&write->link);
        cache->write_count--;
        free(write->id);
        free(write->old_key);
        free(write->new_key);
        free(write);
    }
}

static bool is_name(const char *text, struct slice name) {
    return text != NULL && slice_equal(slice_of(text), name);
}

bool cache_written_since(const struct app_cache *cache, uint64_t since, struct slice id, struct slice key) {
    if (since < cache->forgotten_write)
        return true;
    for (const struct list *link = cache->writes.previous; link != &cache->writes; link = link->previous) {
        const struct cache_write *write = container_of(link, struct cache_write, link);
        if (write->number <= since)
            break;
        if (is_name(write->id, id) || is_name(write->old_key, key) || is_name(write->new_key, key))
            return true;
    }
    return false;
}

static void run_changed(struct worker *worker, void *context) {
    struct app_cache *cache = context;

    atomic_store(&cache->changed_told, false); /* what changes from now on, this look may miss */
    cache->hooks->changed(worker, cache->hooks->context);
}

static void warn(void *context, const char *text) {
    (void)context;
    log_warning("app", "%s", text);
}

/* What a newer server may have written into a record: said once, not each time that it is read. */
static void warn_of_unknown(const struct app_cache *cache, const struct app *app) {
    json_t *record = app_to_json(app);
    struct error ignored;

    app_unref(app_parse(record, &cache->defaults, APP_FROM_STORE, warn, NULL, &ignored));
    json_decref(record);
}

/* All workers look, whether the app has connections or not: in this very turn one may let somebody in by the record
 * that was found a moment ago. One look is for all changes before it. */
void cache_do_aftermath(struct app_cache *cache, const struct cache_aftermath *aftermath) {
    if (aftermath->changed && !atomic_exchange(&cache->changed_told, true))
        workers_run_on_all(cache->workers, &(struct worker_task){.run = run_changed, .context = cache});
    if (aftermath->news != NULL && (aftermath->news->webhooks_json != NULL || aftermath->news->delta_json != NULL))
        warn_of_unknown(cache, aftermath->news);
    app_unref(aftermath->news);
}
