/*
 * Records of the cache: apps that were found in the store, by id and by key.
 *
 *   id  -> entry -> slot -> record
 *   key ---^
 *
 * Workers read the tables, and the atomic members of an entry, without a lock. All functions are called with the
 * cache's mutex held, except where it is said; what they unlink goes to effects or to the batch `unlinked`.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app_manager/app_manager_types.h"
#include "app_manager/cache/cache_effects.h"
#include "app_manager/cache/cache_settings.h"
#include "app_manager/cache/cache_wake.h"
#include "app_manager/cache/name_table.h"
#include "app_manager/mass_removal.h"

/* A lookup that finds an expired record waits for the store no longer than this, if the record may still be served. */
#define STALE_AFTER_MS 1000

/* Eviction takes two steps, since a worker may find an entry at any time. The sweep marks it ENTRY_EVICTING. When every
 * worker has ended a turn and none has used it meanwhile, it becomes ENTRY_DEAD and is unlinked. Finding or pinning an
 * entry makes it live again. */
enum entry_life { ENTRY_LIVE, ENTRY_EVICTING, ENTRY_DEAD };

/* A key of an app, in the table; replaced when the app's key changes. */
struct cache_key {
    struct name_node node;
    struct cache_entry *entry;
    char text[];
};

struct cache_entry {
    struct name_node by_id; /* its text is the slot's id */
    struct app_slot *slot;
    _Atomic(enum entry_life) life;
    atomic_bool stale;                   /* expired, and served because the store cannot be reached */
    atomic_uint_fast64_t fresh_until_ms; /* from then on a lookup asks the store; 0: always */
    atomic_uint pins;                    /* queries for it, and answers on their way to workers */

    /* Guarded by the cache's mutex. */
    struct list link;
    size_t index; /* in records.array */
    struct cache_key *key;
    uint64_t loaded_ms;      /* when the store last gave the record, or it was restored */
    uint64_t read_s;         /* the same on the wall clock; not of the restoring */
    uint64_t stale_until_ms; /* until when it may be served while the store cannot be reached */
    uint64_t refresh_at_ms;  /* when the store is to be asked again, if the app is in use */
    /* The pause after the last refresh, which failed; 0: it did not. */
    uint32_t backoff_ms;
    /* A notice said that the app changed: "not found" needs no second query. */
    bool announced;
    bool meant;    /* its removal was announced or confirmed: it is not held */
    bool restored; /* from a snapshot: the store has not been asked yet */
    bool early;    /* to be read again though it is not in use: other apps have vanished */
    struct vanishing vanishing;
    char *broken; /* why the record in the store is broken; NULL: it is not */

    /* When each worker last used the entry, within a tenth of a second; written by that worker. */
    atomic_uint_fast64_t used_ms[];
};

struct records {
    const struct cache_settings *settings;
    struct cache_wake *wake;
    unsigned worker_count;
    void (*free_channels)(void *channels);
    struct name_table names[NAME_KIND_COUNT];
    struct list entries; /* in the order in which the sweep comes to them */
    size_t count;
    /* The same entries in any order, to be copied at once. */
    struct cache_entry **array;
    size_t array_capacity;
    size_t created_since_sweep;
    size_t broken;           /* entries whose record in the store is broken */
    size_t known;            /* entries with a record */
    uint64_t changes, loads; /* of records that changed, and that the store gave */
    struct mass_removal removals;
    size_t hasten_at; /* in the array: where records_hasten continues */
};

/* The settings and `wake` outlive the records. */
void records_init(struct records *records, const struct cache_settings *settings, struct cache_wake *wake,
                  unsigned worker_count, void (*free_channels)(void *channels));
/* No worker reads any more. */
void records_dispose(struct records *records);

/* Copies all entries into an array that the caller frees; `*count` is their number. `mutex` guards the records, and is
 * not held by the caller: the array is allocated before it is taken. */
struct cache_entry **records_copy(const struct records *records, pthread_mutex_t *mutex, size_t *count);

/* The entry of a name, or NULL. On a worker within its turn, or with the mutex held. */
static inline struct cache_entry *records_find(const struct records *records, enum name_kind kind, struct slice name,
                                               uint64_t hash) {
    struct name_node *node = name_table_find(&records->names[kind], name, hash);

    if (node == NULL)
        return NULL;
    return kind == NAME_ID ? container_of(node, struct cache_entry, by_id)
                           : container_of(node, struct cache_key, node)->entry;
}

/* Takes over a record that the store gave, with its reference; returns its entry. */
struct cache_entry *records_put(struct records *records, struct app *app, uint64_t now_ms,
                                struct cache_effects *effects);
/* The same for a record that the store gave before this process was started. It has expired, and may be served while
 * the store cannot be reached. */
struct cache_entry *records_restore(struct records *records, struct app *app, uint64_t read_s, uint64_t stale_until_ms,
                                    struct cache_effects *effects);
/* The app is not in the store any more: its entry loses record and key. */
void records_drop(struct records *records, struct cache_entry *entry, struct cache_effects *effects);
/* The app is not in the store any more, but its removal is held: its record stays in force until it is looked up again.
 * Its key leads to it. */
void records_hold(struct records *records, struct cache_entry *entry, struct reclaim_batch *unlinked);
/* Wants some other entries to be read again early: their apps may have vanished, too. */
void records_hasten(struct records *records, uint64_t now_ms);
/* The key leads to no app any more. */
void records_drop_key(struct records *records, struct cache_entry *entry, struct reclaim_batch *unlinked);
/* The record in the store is broken for that reason; NULL: it is not. */
void records_set_broken(struct records *records, struct cache_entry *entry, const char *reason);
/* The entry could not be read again: the next attempt comes later, and the record is served meanwhile. */
void records_put_off(struct records *records, struct cache_entry *entry, uint64_t now_ms);

/* True while the expired record may be served because the store cannot be reached. */
bool records_may_serve_stale(const struct records *records, const struct cache_entry *entry, uint64_t now_ms);
/* Serves the record as it is until then, but not beyond the time of stale_if_error. */
void records_serve_stale(struct records *records, struct cache_entry *entry, uint64_t until_ms);
/* The entry is to be read again by a sweep at that time. */
void records_refresh_at(struct records *records, struct cache_entry *entry, uint64_t at_ms);
/* The entry is to be read again by the next sweep, which is woken. */
void records_refresh_now(struct records *records, struct cache_entry *entry);

/* Removes a dead entry from the tables. entry_free frees it when no worker reads it any more. */
void records_unlink(struct records *records, struct cache_entry *entry, struct reclaim_batch *unlinked);
void entry_free(void *entry, void *records);

/* --- without the mutex --- */

/* True if the app has connections. */
static inline bool entry_has_connections(const struct cache_entry *entry) {
    return atomic_load_explicit(&entry->slot->connections, memory_order_relaxed) != 0;
}

/* A pinned entry is not evicted. Pinning needs the mutex, which keeps it from being unlinked meanwhile. */
void entry_pin(struct cache_entry *entry);
void entry_unpin(struct cache_entry *entry);

/* True if the entry is live, or was made live again; false if it is dead. On a worker. */
static inline bool entry_revive(struct cache_entry *entry) {
    enum entry_life life = atomic_load_explicit(&entry->life, memory_order_acquire);

    if (life == ENTRY_EVICTING)
        return atomic_compare_exchange_strong(&entry->life, &life, ENTRY_LIVE) || life == ENTRY_LIVE;
    return life == ENTRY_LIVE;
}

/* When a worker last used the entry, or it was loaded. */
uint64_t entry_last_used_ms(const struct cache_entry *entry, unsigned worker_count);
