/*
 * What the cache's files share.
 *
 *   cache.c          building and ending; looking up
 *   cache_fetch.c    queries, each for all who ask for one name
 *   cache_record.c   what is known: records, keys, absent names, writes
 *   cache_maintenance.c the upkeep thread: who waits too long, the store's health, and rounds
 *   cache_sweep.c     rounds through all that is known: records in use are read again, old ones given up
 */
#pragma once

#include <pthread.h>

#include "app_manager/cache/cache.h"
#include "app_manager/cache/name_table.h"
#include "base/alloc.h"
#include "base/counter.h"
#include "net/reclaim.h"

#define ABSENT_MAX 10000    /* names of each kind */
#define WRITES_MAX 10000    /* that are remembered for queries under way */
#define CACHE_TICK_MS 100   /* of the upkeep thread */
#define STALE_AFTER_MS 1000 /* who asks for an expired record waits no longer than this for a new one */
#define REFRESH_BACKOFF_FIRST_MS 100
#define REFRESH_BACKOFF_LAST_MS 5000

/* An entry leaves in two steps, since a worker may find it at any time: it is doubted, and when every worker has ended
 * a turn and none has used it meanwhile, it is dead. Only live ones are used; finding a doubted one makes it live. */
enum entry_life { ENTRY_LIVE, ENTRY_DOUBTED, ENTRY_DEAD };

/* A key in the table; goes when the app's key changes. */
struct cache_key {
    struct name_node node;
    struct cache_entry *entry;
    char text[];
};

/* An app that was found. */
struct cache_entry {
    struct name_node by_id; /* its text is the slot's */
    struct app_slot *slot;
    _Atomic(enum entry_life) life;
    atomic_bool stale;                   /* past its time: the store cannot be asked */
    atomic_uint_fast64_t fresh_until_ms; /* from then on a lookup asks the store; 0: always */

    /* The rest is guarded by the cache's mutex. */
    struct list link; /* of cache->entries */
    struct cache_key *key;
    uint64_t loaded_ms;     /* when the store last gave the record */
    uint64_t refresh_at_ms; /* when it is to be asked again, if the app is in use */
    unsigned failures;      /* in a row, of asking again */
    unsigned pins;          /* answers on their way to workers */
    bool announced;         /* a notice said that the app changed: "not found" needs no second look */
    uint64_t missing_ms;    /* when it was not found, though it has connections; 0: it was */
    char *broken;           /* the record in the store is broken, and why */

    atomic_uint_fast64_t used_ms[]; /* when each worker last used it, to a tenth of a second; written by that worker */
};

/* A name that the store does not know, or whose record it holds is broken. */
struct cache_absent {
    struct name_node node;
    atomic_uint_fast64_t until_ms;
    struct list link; /* of cache->absent_order or, with a reason, broken_order */
    enum app_answer answer;
    char *reason; /* APP_INVALID */
    uint64_t reason_hash;
    uint64_t since; /* the reason's number: a later one is a newer one */
    char text[];
};

/* A query, and who waits for its answer. */
struct cache_flight {
    struct store_operation operation;
    struct name_node node; /* in cache->flights */
    struct list link;      /* of cache->flight_list */
    struct app_cache *cache;
    enum name_kind kind;
    atomic_uint references; /* the query's, and one for each answer on its way */
    bool refresh;           /* begun by a round */
    uint64_t started_ms;
    uint64_t first_write;             /* the number of the last write before the query began */
    uint64_t asking;                  /* bits: workers on which somebody waits */
    struct app *app;                  /* what the query found */
    struct cache_entry *entry;        /* what is known already, NULL: nothing; pinned */
    struct list waiting[WORKERS_MAX]; /* lookups; each list is its worker's */
    char text[];
};

/* An answer on its way to the lookups that wait on one worker. */
struct cache_delivery {
    struct message message;
    struct worker *worker;
    struct cache_flight *flight;
    struct cache_entry *entry; /* pinned; NULL unless found */
    enum app_answer answer;
    bool stale;
    char *reason;
};

struct cache_write {
    struct list link;
    uint64_t number, at_ms;
    char *id, *old_key, *new_key; /* NULL: none */
};

struct cache_counters {
    struct counter hits, misses, negatives, stale, errors;
    char apart[2 * CACHE_LINE - 5 * sizeof(struct counter)]; /* processors fetch lines in pairs */
};

struct app_cache {
    const struct config *config;
    const struct app_manager_hooks *hooks;
    struct workers *workers;
    const struct app_store_driver *driver;
    struct app_store *store;
    struct app_defaults defaults;
    struct app_cache_settings settings;
    struct store_pool *pool;
    struct reclaimer reclaimer;

    pthread_mutex_t mutex; /* of all that follows, but for what workers read in the tables */
    struct name_table names[NAME_KIND_COUNT];
    struct name_table absent[NAME_KIND_COUNT];
    struct name_table flights[NAME_KIND_COUNT]; /* read under the mutex only */
    struct list absent_order[NAME_KIND_COUNT];  /* names that were not found, the oldest first */
    struct list
        broken_order[NAME_KIND_COUNT]; /* names of broken records, likewise: they do not make room for unknown ones */
    size_t broken_names[NAME_KIND_COUNT]; /* how many */
    uint64_t last_broken;                 /* the number of the last reason */
    struct list entries;
    size_t entry_count;
    struct list flight_list;
    size_t created_since_round; /* entries */
    size_t refreshes;           /* queries that a round began, under way */
    bool refreshes_wait;        /* more of them when there are fewer */
    size_t broken;              /* entries with a record in the store that is broken */
    bool judging;               /* there are doubted entries */
    size_t held_count;          /* entries that do not count against the capacity, as of the last round */
    pthread_cond_t room;        /* there may be some: entries have gone, or were found to be held */

    struct list writes;
    size_t write_count;
    uint64_t last_write;      /* the number of the last one */
    uint64_t forgotten_write; /* the number of the last one that is not in the list any more, or concerned everything */

    bool outage;
    uint64_t outage_ms;
    uint64_t answered_ms; /* when the store last answered */
    bool ever_loaded;
    bool probing;
    uint64_t probed_ms;
    struct store_operation probe;
    uint64_t outages;

    pthread_t upkeep_thread, watch_thread;
    bool upkeep_runs, watch_runs;
    pthread_cond_t upkeep_wake;
    bool upkeep_wanted; /* do not wait for the next interval */
    bool stopping;

    atomic_bool changed_told; /* workers are told that apps have changed, and none has looked yet */

    struct cache_counters counters[WORKERS_MAX];
};

struct cache_entry *cache_entry_of(enum name_kind kind, struct name_node *node);
bool cache_has_connections(const struct cache_entry *entry);

/* --- cache_record.c; with the mutex held --- */

/* Something that has to wait until the mutex is released. */
struct cache_aftermath {
    bool changed;     /* an app was disabled or deleted */
    struct app *news; /* a record that was not known, or differs from the one before; NULL: none */
};

/* Takes over a record that the store gave (and the reference); returns its entry. */
struct cache_entry *cache_put(struct app_cache *cache, struct app *app, uint64_t now_ms,
                              struct cache_aftermath *aftermath);
/* The app is not there any more. */
void cache_drop_record(struct app_cache *cache, struct cache_entry *entry, struct cache_aftermath *aftermath);
/* The key leads nowhere any more. */
void cache_drop_key(struct app_cache *cache, struct cache_entry *entry);
/* The name leads nowhere, or with a `reason` (else NULL) to a record that is broken. */
void cache_put_absent(struct app_cache *cache, enum name_kind kind, struct slice name, enum app_answer answer,
                      const char *reason, uint64_t now_ms);
void cache_drop_absent(struct app_cache *cache, enum name_kind kind, struct slice name);
void cache_drop_all_absent(struct app_cache *cache);
/* The store is to be asked for the name, or all names, anew. What was wrong with a record stays known, so that it is
 * said again only if that changed. */
void cache_expire_absent(struct app_cache *cache, enum name_kind kind, struct slice name);
void cache_expire_all_absent(struct app_cache *cache);
/* The record in the store is broken, and why; NULL: it is not. */
void cache_set_broken(struct app_cache *cache, struct cache_entry *entry, const char *reason);
/* The entry could not be read again. */
void cache_put_off(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms);
/* Takes a dead entry out of the tables, to be freed by cache_entry_free when it was retired. */
void cache_unlink(struct app_cache *cache, struct cache_entry *entry);
void cache_entry_free(void *entry, void *cache);
/* Lookups get the record as it is until then, or until even a store that fails is no excuse. */
void cache_serve_stale(struct app_cache *cache, struct cache_entry *entry, uint64_t until_ms);
/* True if every lookup goes to the store, and nothing stale is served. */
bool cache_is_passing(const struct app_cache *cache);
/* True while the expired record may be served because the store cannot be asked. */
bool cache_may_be_stale(const struct app_cache *cache, const struct cache_entry *entry, uint64_t now_ms);

void cache_note_write(struct app_cache *cache, struct slice id, struct slice old_key, struct slice new_key);
/* True if a write after the one of the number `since` concerns the app or the key; each may be empty. */
bool cache_written_since(const struct app_cache *cache, uint64_t since, struct slice id, struct slice key);
void cache_forget_writes(struct app_cache *cache, uint64_t now_ms, size_t keep);

/* --- without the mutex --- */

void cache_do_aftermath(struct app_cache *cache, const struct cache_aftermath *aftermath);

/* --- cache_fetch.c --- */

/* A new query for a name; with the mutex held. Submit it when it is released. `entry` may be NULL. */
struct cache_flight *cache_flight_create(struct app_cache *cache, enum name_kind kind, struct slice name,
                                         struct cache_entry *entry, uint64_t now_ms);
void cache_flight_submit(struct cache_flight *flight);
struct cache_flight *cache_flight_find(struct app_cache *cache, enum name_kind kind, struct slice name, uint64_t hash);
/* With the mutex held, on the lookup's worker. */
void cache_flight_join(struct cache_flight *flight, struct worker *worker, struct app_lookup *lookup);
/* Those that wait get the expired record; with the mutex held. Returns messages to post, see cache_post. */
struct cache_delivery *cache_flight_serve_stale(struct cache_flight *flight);
/* Likewise, but they are told that the store cannot be asked. The query goes on. */
struct cache_delivery *cache_flight_give_up(struct cache_flight *flight);
void cache_post(struct cache_delivery *deliveries);

/* --- cache_sweep.c --- */

struct cache_round;

/* For the upkeep thread. */
struct cache_round *cache_round_create(struct app_cache *cache);
void cache_round_destroy(struct cache_round *round);
/* A round is to begin, after the one that may be under way. */
void cache_round_begin(struct cache_round *round);
/* Goes on with the round until it has ended or too many queries that it began are under way; the mutex is held for a
 * few entries at a time. To be called at every tick and when the upkeep thread is woken. */
void cache_round_go_on(struct cache_round *round);
/* For a thread of the pool that has added an entry: if more come than can go it waits a while, without the mutex. */
void cache_wait_for_room(struct app_cache *cache);
/* A query that a round began has ended; with the mutex held. */
void cache_note_refreshed(struct app_cache *cache);
/* Forgets which names were not found whose time is over. */
void cache_clean_absent(struct app_cache *cache, uint64_t now_ms);

/* --- cache_maintenance.c --- */

void *cache_upkeep_run(void *cache);
void *cache_watch_run(void *cache);
/* With the mutex held. */
void cache_upkeep_wake(struct app_cache *cache);
/* How an operation on the store ended, NULL: how an attempt to connect did; with the mutex held. True if that was news,
 * to be logged when it is released. */
bool cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer,
                       uint64_t now_ms);
void cache_log_outage(struct app_cache *cache, enum store_answer answer, const struct error *error);
