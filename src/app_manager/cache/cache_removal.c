#include "app_manager/cache/cache_removal.h"

#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "base/buffer.h"

#define CONFIRM_MS 1000 /* an app with connections is taken for deleted only if it is not found for so long */
#define NAMES_MAX 5     /* in a line of the log */

/* --- what is logged --- */

/* Names some of the apps that have vanished. */
static void append_vanished_names(const struct records *records, size_t vanished, struct buffer *text) {
    unsigned named = 0;

    for (const struct list *link = records->entries.next; link != &records->entries && named < NAMES_MAX;
         link = link->next) {
        const struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (entry->vanishing.since_ms != 0)
            buffer_appendf(text, "%s%.*s", named++ == 0 ? "" : ", ", SLICE_ARGS(entry->by_id.text));
    }
    if (vanished > named)
        buffer_appendf(text, " and %zu more", vanished - named);
}

static void note_removal_begin(struct app_cache *cache, uint64_t now_ms, struct cache_effects *effects) {
    struct records *records = &cache->records;
    size_t vanished = mass_removal_vanished(&records->removals, now_ms);
    struct buffer text = {0};

    buffer_appendf(&text, "%zu of %zu apps have vanished from the store within %u s (", vanished, records->known,
                   MASS_REMOVAL_WINDOW_S);
    append_vanished_names(records, vanished, &text);
    buffer_appendf(&text,
                   "). In case this is a mistake they stay in force for %llu s (app_manager.vanished_grace). To remove "
                   "them now: `curlew apps confirm-removal`, or POST /admin/confirm-removal. To keep them: bring their "
                   "records back",
                   (unsigned long long)(records->removals.grace_ms / 1000));
    buffer_append_byte(&text, '\0');
    free(effects->removal_began);
    effects->removal_began = text.data;
    records->removals.began = false;
}

void cache_note_removal_end(struct app_cache *cache, struct cache_effects *effects) {
    struct mass_removal *removals = &cache->records.removals;
    struct buffer text = {0};

    if (!removals->ended)
        return;
    removals->ended = false;
    buffer_appendf(&text, "no removal is held any more: %zu of the apps were removed, %zu are in the store again",
                   removals->removed, removals->returned);
    buffer_append_byte(&text, '\0');
    free(effects->removal_ended);
    effects->removal_ended = text.data;
}

/* --- apps that are not found --- */

/* The app stays in force until the next look. */
static void hold_entry(struct app_cache *cache, struct cache_entry *entry, struct cache_effects *effects) {
    records_hold(&cache->records, entry, &effects->unlinked);
    negatives_drop(&cache->negatives, NAME_ID, entry->by_id.text, &effects->unlinked);
    if (entry->key != NULL)
        negatives_drop(&cache->negatives, NAME_KEY, entry->key->node.text, &effects->unlinked);
}

/* The app is looked up again before it is removed. */
static enum missing_app keep_for_next_look(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms) {
    if (!entry_has_connections(entry)) {
        atomic_store(&entry->fresh_until_ms, 0);
        return MISSING_UNSERVED;
    }
    if (records_may_serve_stale(&cache->records, entry, now_ms))
        records_serve_stale(&cache->records, entry, entry->vanishing.next_ms + STALE_AFTER_MS);
    /* pass-through: kept for live connections only */
    return cache->settings.passthrough ? MISSING_UNSERVED : MISSING_KEPT;
}

enum missing_app cache_note_missing(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms,
                                    struct cache_effects *effects) {
    struct records *records = &cache->records;
    bool first = entry->vanishing.since_ms == 0;
    enum removal_step step;

    /* What a snapshot has restored is no app that has vanished: the first answer of the store counts. */
    if (entry->meant || entry->restored || atomic_load(&entry->slot->current) == NULL)
        return MISSING_GONE;
    step =
        mass_removal_step(&records->removals, &entry->vanishing,
                          entry_has_connections(entry) && !entry->announced ? CONFIRM_MS : 0, records->known, now_ms);
    if (first && !entry->announced)
        records_hasten(records, now_ms);
    if (records->removals.began)
        note_removal_begin(cache, now_ms, effects);
    if (step == REMOVAL_GO)
        return MISSING_GONE;
    entry->early = false;
    records_refresh_at(records, entry, entry->vanishing.next_ms);
    if (step == REMOVAL_WAIT)
        return keep_for_next_look(cache, entry, now_ms);
    hold_entry(cache, entry, effects);
    return MISSING_KEPT;
}

size_t app_cache_confirm_removal(struct app_cache *cache) {
    struct records *records = &cache->records;
    size_t count = 0;

    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < records->count && records->removals.held != 0; i++) {
        struct cache_entry *entry = records->array[i];
        if (entry->vanishing.since_ms == 0)
            continue;
        entry->meant = true;
        records_refresh_now(records, entry);
        count++;
    }
    pthread_mutex_unlock(&cache->mutex);
    return count;
}

void app_cache_read_removals(struct app_cache *cache, uint64_t *total, uint64_t *held) {
    pthread_mutex_lock(&cache->mutex);
    *total = cache->records.removals.total;
    *held = cache->records.removals.held;
    pthread_mutex_unlock(&cache->mutex);
}
