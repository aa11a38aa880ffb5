#include <sched.h>
#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "base/clock.h"

#define ROOM_BEYOND 500    /* new entries, in addition to an eighth of the capacity, that nobody waits for */
#define ROOM_WAIT_MS 1000  /* that a thread of the pool waits at most */
#define ROUND_SLICE 500    /* entries that are looked at while the mutex is held once */
#define REFRESHES_MAX 1000 /* under way: who waits for the store waits behind no more of them */

struct candidate {
    struct cache_entry *entry;
    uint64_t used_ms;
};

/* The list of entries turns under the round: what was looked at goes to its end. */
struct cache_round {
    struct app_cache *cache;
    size_t left;                  /* entries to look at until the round has ended */
    bool begins;                  /* another one, when this one has ended */
    bool doubting;                /* idle entries are noted, for those that have to go are among them */
    struct candidate *candidates; /* the idle entries */
    size_t count, room, outdated;
    size_t held; /* entries that do not count against the capacity */
};

/* --- what is in use --- */

static uint64_t last_used_ms(const struct app_cache *cache, const struct cache_entry *entry) {
    uint64_t latest_ms = 0;

    for (unsigned i = 0; i < cache->workers->count; i++) {
        uint64_t used_ms = atomic_load_explicit(&entry->used_ms[i], memory_order_relaxed);
        if (used_ms > latest_ms)
            latest_ms = used_ms;
    }
    return latest_ms > entry->loaded_ms ? latest_ms : entry->loaded_ms;
}

/* It has a connection, or a channel that remembers an event. */
static bool is_held(const struct app_cache *cache, const struct cache_entry *entry) {
    void *channels = atomic_load_explicit(&entry->slot->channels, memory_order_acquire);

    return cache_has_connections(entry) || (channels != NULL && !cache->hooks->channels_empty(channels));
}

/* Nothing keeps it, no answer on its way either. */
static bool idle(const struct app_cache *cache, const struct cache_entry *entry) {
    return entry->pins == 0 && !is_held(cache, entry);
}

static bool wants_refresh(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms) {
    if (now_ms < entry->refresh_at_ms ||
        (!cache_has_connections(entry) && !entry->announced && last_used_ms(cache, entry) <= entry->loaded_ms))
        return false;
    return cache_flight_find(cache, NAME_ID, entry->by_id.text, entry->by_id.hash) == NULL;
}

/* --- giving up --- */

struct doubts {
    size_t count;
    struct cache_entry *entries[];
};

/* Every worker has ended a turn since the entries were doubted. */
static void judge(void *object, void *context) {
    struct doubts *doubts = object;
    struct app_cache *cache = context;
    size_t dead = 0;

    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < doubts->count; i++) {
        struct cache_entry *entry = doubts->entries[i];
        enum entry_life life = ENTRY_DOUBTED;
        if (!idle(cache, entry)) {
            atomic_store(&entry->life, ENTRY_LIVE);
        } else if (atomic_compare_exchange_strong(&entry->life, &life, ENTRY_DEAD)) {
            cache_unlink(cache, entry);
            doubts->entries[dead++] = entry;
        }
    }
    cache->judging = false;
    pthread_cond_broadcast(&cache->room);
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < dead; i++)
        reclaim_defer(&cache->reclaimer, doubts->entries[i], cache_entry_free, cache);
    free(doubts);
}

static int compare_candidates(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;

    return (a->used_ms > b->used_ms) - (a->used_ms < b->used_ms);
}

/* Beyond the time in which even a store that fails would be no excuse to serve it, or without a record at all. */
static bool outdated(const struct app_cache *cache, const struct cache_entry *entry, uint64_t used_ms,
                     uint64_t now_ms) {
    uint64_t kept_ms = (cache->settings.ttl_s + (uint64_t)cache->settings.stale_if_error_s) * 1000;

    return atomic_load(&entry->slot->current) == NULL ||
           now_ms > used_ms + (cache_is_passing(cache) ? CACHE_TICK_MS : kept_ms);
}

static void note_candidate(struct cache_round *round, struct cache_entry *entry, uint64_t now_ms) {
    struct candidate *candidate = &round->candidates[round->count];

    if (atomic_load(&entry->life) != ENTRY_LIVE || !idle(round->cache, entry))
        return;
    *candidate = (struct candidate){entry, last_used_ms(round->cache, entry)};
    if (outdated(round->cache, entry, candidate->used_ms, now_ms)) {
        candidate->used_ms = 0;
        round->outdated++;
    }
    round->count++;
}

/*
 * Doubts the idle entries that have to go: the outdated, and the least recently used of those beyond the capacity.
 *
 * Without the mutex: entries die by the judgment on doubts only, and while one is to come no candidates are noted.
 */
static void doubt(struct cache_round *round) {
    struct app_cache *cache = round->cache;
    size_t capacity = cache->settings.capacity;
    size_t excess = round->count > capacity ? round->count - capacity + capacity / 16 : 0;
    struct doubts *doubts;

    if (excess < round->outdated)
        excess = round->outdated;
    if (excess == 0)
        return;
    qsort(round->candidates, round->count, sizeof round->candidates[0], compare_candidates);
    doubts = alloc(sizeof *doubts + excess * sizeof doubts->entries[0]);
    doubts->count = excess;
    for (size_t i = 0; i < excess; i++) {
        doubts->entries[i] = round->candidates[i].entry;
        atomic_store(&doubts->entries[i]->life, ENTRY_DOUBTED);
    }
    pthread_mutex_lock(&cache->mutex);
    cache->judging = true;
    pthread_mutex_unlock(&cache->mutex);
    reclaim_defer(&cache->reclaimer, doubts, judge, cache);
}

/* --- rounds --- */

struct cache_round *cache_round_create(struct app_cache *cache) {
    struct cache_round *round = alloc_zero(sizeof *round);

    round->cache = cache;
    return round;
}

void cache_round_destroy(struct cache_round *round) {
    free(round->candidates);
    free(round);
}

void cache_round_begin(struct cache_round *round) {
    round->begins = true;
}

static void begin(struct cache_round *round) {
    struct app_cache *cache = round->cache;

    round->begins = false;
    round->count = round->outdated = round->held = 0;
    pthread_mutex_lock(&cache->mutex);
    round->left = cache->entry_count;
    round->doubting = !cache->judging;
    cache->created_since_round = 0;
    cache_forget_writes(cache, clock_monotonic_ms(), WRITES_MAX);
    pthread_mutex_unlock(&cache->mutex);
}

/* The next entries of the round; queries for what is due go to `flights`. False if the round has to wait for those that
 * are under way. */
static bool look_at_slice(struct cache_round *round, struct cache_flight **flights, size_t *count) {
    struct app_cache *cache = round->cache;
    uint64_t now_ms = clock_monotonic_ms();
    bool go_on = true;

    if (round->room < round->count + ROUND_SLICE) {
        round->room = 2 * round->room + ROUND_SLICE;
        round->candidates = alloc_array(round->candidates, round->room, sizeof round->candidates[0]);
    }
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < ROUND_SLICE && round->left != 0 && !list_empty(&cache->entries); i++) {
        struct cache_entry *entry = container_of(cache->entries.next, struct cache_entry, link);
        if (wants_refresh(cache, entry, now_ms)) {
            go_on = cache->refreshes < REFRESHES_MAX;
            if (!go_on)
                break;
            flights[*count] = cache_flight_create(cache, NAME_ID, entry->by_id.text, entry, now_ms);
            flights[(*count)++]->refresh = true;
            cache->refreshes++;
        }
        round->held += is_held(cache, entry);
        if (round->doubting)
            note_candidate(round, entry, now_ms);
        list_remove(&entry->link);
        list_append(&cache->entries, &entry->link);
        round->left--;
    }
    if (list_empty(&cache->entries))
        round->left = 0;
    if (round->left == 0) {
        cache->held_count = round->held;
        pthread_cond_broadcast(&cache->room);
    }
    cache->refreshes_wait = !go_on;
    pthread_mutex_unlock(&cache->mutex);
    return go_on;
}

void cache_round_go_on(struct cache_round *round) {
    struct cache_flight *flights[ROUND_SLICE];
    bool go_on = true;

    if (round->left == 0 && round->begins)
        begin(round);
    while (go_on && round->left != 0) {
        size_t count = 0;
        go_on = look_at_slice(round, flights, &count);
        for (size_t i = 0; i < count; i++)
            cache_flight_submit(flights[i]);
        if (round->left == 0 && round->doubting)
            doubt(round);
        sched_yield(); /* who waits for the mutex may have it before the next slice */
    }
}

/* --- room --- */

/* Those that are held do not count, and how many they are only a round knows: one is woken where it matters. Where the
 * upkeep thread and the workers get their share of the processors nobody ever waits. */
static bool is_crowded(const struct app_cache *cache) {
    return !cache->stopping && cache->entry_count > cache->held_count + cache->settings.capacity +
                                                        cache->settings.capacity / 8 + ROOM_BEYOND;
}

void cache_wait_for_room(struct app_cache *cache) {
    uint64_t until_ns = clock_monotonic_ns() + ROOM_WAIT_MS * UINT64_C(1000000);
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                                   .tv_nsec = (long)(until_ns % 1000000000u)};
    int ended = 0;

    pthread_mutex_lock(&cache->mutex);
    while (is_crowded(cache) && ended == 0) {
        cache_upkeep_wake(cache);
        ended = pthread_cond_timedwait(&cache->room, &cache->mutex, &until);
    }
    pthread_mutex_unlock(&cache->mutex);
}

void cache_note_refreshed(struct app_cache *cache) {
    cache->refreshes--;
    if (!cache->refreshes_wait || cache->refreshes > REFRESHES_MAX / 2)
        return;
    cache->refreshes_wait = false;
    cache_upkeep_wake(cache);
}

/* --- absent names --- */

/* The expired ones at the beginning of the list; true if there may be more. */
static bool clean_slice(struct app_cache *cache, enum name_kind kind, uint64_t now_ms) {
    struct list *order = &cache->absent_order[kind];
    size_t dropped = 0;

    pthread_mutex_lock(&cache->mutex);
    while (dropped < ROUND_SLICE && !list_empty(order)) {
        struct cache_absent *absent = container_of(order->next, struct cache_absent, link);
        if (now_ms < atomic_load(&absent->until_ms)) /* and so are those behind it */
            break;
        cache_drop_absent(cache, kind, absent->node.text);
        dropped++;
    }
    pthread_mutex_unlock(&cache->mutex);
    return dropped == ROUND_SLICE;
}

void cache_clean_absent(struct app_cache *cache, uint64_t now_ms) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++)
        while (clean_slice(cache, kind, now_ms))
            sched_yield();
}
