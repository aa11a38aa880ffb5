/*
 * The app manager: every WebSocket connection and API request asks it which app it is for.
 *
 *   session / api --- find_by_key, find_by_id ---> manager --- hit: answered at once
 *                                                     \------- miss: APP_PENDING; `done` is called on the same worker
 *
 * With the memory driver every lookup is a hit or a definite miss: the index of all apps is an immutable pair of hash
 * tables, read without a lock and replaced as a whole when the configuration is read again. Every other store stands
 * behind one cache, see cache.h.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"
#include "app/app_slot.h"
#include "app_manager/store_pool.h"
#include "base/error.h"
#include "base/slice.h"
#include "net/worker.h"
#include "store/store.h"

struct app_manager;

enum app_answer {
    APP_FOUND,
    APP_NOT_FOUND,
    APP_INVALID,     /* a record is there, but broken, and no valid one was ever seen */
    APP_UNAVAILABLE, /* the store cannot be asked and nothing is known about this app */
    APP_PENDING,     /* the answer comes later, by `done` */
};

/* A question and its answer; lives in the asker until it is answered or cancelled. */
struct app_lookup {
    enum app_answer answer;
    struct app_slot *slot; /* APP_FOUND */
    const struct app *app; /* APP_FOUND: the record, valid until the end of the turn */
    const char *reason;    /* APP_INVALID: which field is broken; valid until the end of the turn, or of `done` */
    void (*done)(struct app_lookup *lookup); /* on the asker's worker, after APP_PENDING only */
    void *context;                           /* the asker's */
    struct list link;                        /* the manager's, while the answer is pending */
};

/* What changed when the configuration was read again. */
struct app_changes {
    unsigned added, changed, removed;
};

/* What the manager asks of those above it. */
struct app_manager_hooks {
    /* Apps were disabled or deleted: who is connected to one on this worker is to be told. On each worker. */
    void (*changed)(struct worker *worker, void *context);
    void (*free_channels)(void *channels); /* what hangs on a slot, see app_slot_destroy */
    bool (*channels_empty)(void *channels);
    void *context;
};

/* Opens the store. The memory driver's apps are there at once; other stores are asked when somebody wants an app.
 * NULL with an error if the configuration can never work. `config` and `hooks` outlive the manager. */
struct app_manager *app_manager_create(const struct config *config, struct workers *workers,
                                       const struct app_manager_hooks *hooks, struct error *error);
/* Starts the threads that talk to the store. A store that is down does not keep the server from starting. */
void app_manager_start(struct app_manager *manager);
/* Ends them. Lookups that wait, and later ones, are answered with APP_UNAVAILABLE. False after some seconds if one of
 * them hangs in the operating system: nothing can be freed then. */
bool app_manager_stop(struct app_manager *manager);
/* After app_manager_stop, and when the workers have ended. */
void app_manager_destroy(struct app_manager *manager);

/*
 * Finds an app by its public key (WebSocket) or its id (HTTP). On a worker's thread. Every answer but APP_PENDING is
 * final at once, and `done` is not called.
 */
enum app_answer app_manager_find_by_key(struct app_manager *manager, struct worker *worker, struct slice key,
                                        struct app_lookup *lookup);
enum app_answer app_manager_find_by_id(struct app_manager *manager, struct worker *worker, struct slice id,
                                       struct app_lookup *lookup);

/* The asker goes away before the answer: `done` will not be called. */
void app_manager_cancel(struct app_manager *manager, struct app_lookup *lookup);

/*
 * Takes over the apps of `config` (SIGHUP, memory driver) and then runs the hook `changed` on every worker, so that
 * live connections learn of it. A record that is broken now leaves the last valid one in force. On the main thread.
 */
bool app_manager_reload(struct app_manager *manager, const struct config *config, struct app_changes *changes,
                        struct error *error);

/* Whether there may be any app at all. Any thread. */
bool app_manager_has_apps(struct app_manager *manager);

/* --- work on the store beside lookups --- */

/*
 * Something to be done on a connection to the store: a look at its health, a write. The asker embeds it in something of
 * its own, from alloc(), that `destroy` frees.
 */
struct app_job {
    struct store_operation operation; /* the asker sets priority and repeatable */
    struct message message;
    struct app_manager *manager;
    struct worker *worker;
    enum store_answer answer;
    struct error error;
    /* On a thread that may block. */
    enum store_answer (*run)(struct app_job *job, const struct app_store_driver *driver,
                             struct store_connection *connection, const struct deadline *deadline);
    void (*done)(struct app_job *job);    /* with the answer, on the worker; NULL: nobody waits any more */
    void (*destroy)(struct app_job *job); /* behind it */
};

/* Hands over a job; with `timeout_ms` 0 it may take app_manager.lookup_timeout_ms. On the worker on which `done` is to
 * be called. Not for the memory driver. */
void app_manager_submit(struct app_manager *manager, struct worker *worker, struct app_job *job, uint32_t timeout_ms);

/* The process is about to write an app to the store, and has; see app_cache_written. In a job, or on any thread. */
uint64_t app_manager_write_begins(struct app_manager *manager);
void app_manager_written(struct app_manager *manager, uint64_t mark, struct slice id, const struct app *before,
                         const struct app *after);
/* The app may have changed: it is read again at once. `key` is its key now, empty if that is not known. Any thread. */
void app_manager_suspect(struct app_manager *manager, struct slice id, struct slice key);

/* True for every driver but memory: apps are kept in a store that can be written and can fail. */
bool app_manager_has_store(const struct app_manager *manager);
const struct app_defaults *app_manager_defaults(const struct app_manager *manager);

/* How the store is, as far as is known. */
enum app_health {
    APP_HEALTH_OK,
    APP_HEALTH_DEGRADED, /* the store cannot be asked, but apps are known */
    APP_HEALTH_ERROR,    /* the store cannot be asked and nothing was ever found in it, or there is no app at all */
};

/* Any thread. */
enum app_health app_manager_health(struct app_manager *manager);
/* False if it is worth a job to find out. */
bool app_manager_health_known(struct app_manager *manager);

/* --- for the metrics page, any thread --- */

struct app_lookup_counts {
    uint64_t hits, misses, negatives, stale, errors; /* lookups by how they were answered */
    uint64_t entries, absent;                        /* what the cache holds */
    uint64_t broken; /* of the entries: the record in the store is, the last valid one is in force */
    uint64_t outages;
    bool outage;
};

/* False with the memory driver. */
bool app_manager_look(struct app_manager *manager, struct app_lookup_counts *counts, struct store_pool_stats *status);

/* Calls `each` for every slot that is in use; for the metrics page. On a worker; the slots are good until the end of
 * its turn. */
void app_manager_each_slot(struct app_manager *manager, void (*each)(struct app_slot *slot, void *context),
                           void *context);
