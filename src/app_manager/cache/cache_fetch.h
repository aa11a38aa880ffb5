/*
 * Fetches: queries of the store in flight, each shared by all lookups of one name.
 *
 *   lookup --- join ---> fetch --- the store's answer ---> one delivery for each worker ---> app_lookup.done
 *
 * Lookups wait in a list of their worker, which only that worker reads. The rest is guarded by the cache's mutex;
 * deliveries are posted when it is released.
 */
#pragma once

#include <pthread.h>

#include "app_manager/cache/cache_counters.h"
#include "app_manager/cache/cache_record.h"
#include "app_manager/store_queue.h"

#define REFRESHES_MAX 1000 /* refreshes in flight at once; a lookup never queues behind more */

struct fetches {
    struct workers *workers;
    struct lookup_counters *counters; /* by worker index */
    struct cache_wake *wake;
    struct name_table names[NAME_KIND_COUNT]; /* read with the mutex held only */
    struct list list;                         /* the oldest first */
    size_t refreshes;                         /* fetches that the sweep began */
    bool sweep_waits;                         /* the sweep continues when fewer refreshes are in flight */
};

struct cache_fetch {
    struct store_operation operation; /* the submitter sets run and finished */
    struct name_node node;
    struct list link;
    struct fetches *fetches;
    enum name_kind kind;
    atomic_uint references; /* the query's, and one for each delivery */
    bool refresh;           /* begun by the sweep */
    bool unknown;           /* of a name never found: has tokens of unknown_names */
    uint64_t address;       /* unknown: of the client that they are of */
    uint64_t started_ms;
    uint64_t write_version;           /* of the last write before the query began */
    uint64_t waiting_workers;         /* bits: workers on which lookups wait */
    struct app *app;                  /* the record that the query found */
    struct cache_entry *entry;        /* the record known before, pinned; NULL: none */
    struct list waiting[WORKERS_MAX]; /* lookups, by worker index */
    char text[];
};

/* Deliveries of an answer, chained, to be posted. */
struct fetch_delivery;

void fetches_init(struct fetches *fetches, struct workers *workers, struct lookup_counters *counters,
                  struct cache_wake *wake);
void fetches_dispose(struct fetches *fetches);

/* The fetch in flight for a name, or NULL. */
struct cache_fetch *fetches_find(const struct fetches *fetches, enum name_kind kind, struct slice name, uint64_t hash);

/* Adds a fetch, to be submitted when the mutex is released. `entry`: the record known already, or NULL. */
struct cache_fetch *fetches_add(struct fetches *fetches, enum name_kind kind, struct slice name,
                                struct cache_entry *entry, uint64_t now_ms, struct reclaim_batch *unlinked);
/* Adds a refresh: by id, for the sweep. */
struct cache_fetch *fetches_add_refresh(struct fetches *fetches, struct cache_entry *entry, uint64_t now_ms,
                                        struct reclaim_batch *unlinked);
/* False if so many are in flight that the sweep has to wait; it is woken when they have become fewer. */
bool fetches_may_refresh(struct fetches *fetches);

/* False, which is a refusal, if there is no room in the account of memory (base/budget.h) for one more lookup that
 * waits for this name. */
bool fetches_have_room(struct slice name);

/* The lookup waits for the fetch. On the lookup's worker. */
void fetch_join(struct cache_fetch *fetch, struct worker *worker, struct app_lookup *lookup);
/* It waits no more, if it does. On its worker, without the mutex. */
void fetch_leave(struct app_lookup *lookup);

/* Answers the lookups that wait now, and adds the deliveries to the chain; `reason` for APP_INVALID is copied. Lookups
 * that join later wait for the next answer. */
void fetch_answer(struct cache_fetch *fetch, enum app_answer answer, const char *reason,
                  struct fetch_delivery **deliveries);
/* The query has found a record, whose entry this is. */
void fetch_set_entry(struct cache_fetch *fetch, struct cache_entry *entry);
/* The query has ended: nothing joins the fetch any more. */
void fetches_remove(struct fetches *fetches, struct cache_fetch *fetch);

/* --- without the mutex --- */

void fetch_post(struct fetch_delivery *deliveries);
/* Gives up the query's reference. */
void fetch_unref(struct cache_fetch *fetch);
