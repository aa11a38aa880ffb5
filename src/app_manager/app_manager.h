/*
 * The app manager: finds the app of every WebSocket connection and API request.
 *
 *   session / api --- find_by_key, find_by_id ---> manager --- known: answered at once
 *                                                     \------- else APP_PENDING: `done` is called on the same worker
 *
 *   memory driver       memory_apps: everything is read at the start; never pending
 *   every other driver  cache/, in front of store_pool
 */
#pragma once

#include <stdbool.h>

#include "app_manager/app_manager_types.h"
#include "app_manager/memory_apps.h"
#include "app_manager/store_pool.h"
#include "base/error.h"
#include "base/slice.h"
#include "net/worker.h"
#include "store/store.h"

struct app_manager;

/* Opens the store. The memory driver's apps are read; other stores are asked when an app is looked up. NULL with an
 * error if the configuration can never work. `config` and `hooks` outlive the manager. */
struct app_manager *app_manager_create(const struct config *config, struct workers *workers,
                                       const struct app_manager_hooks *hooks, struct error *error);
/* Starts the threads that talk to the store. A store that is down is no error. False with an error if a thread cannot
 * be started; app_manager_stop is to be called then, too. */
bool app_manager_start(struct app_manager *manager, struct error *error);
/* Ends them. Pending and later lookups are answered with APP_UNAVAILABLE. False after some seconds if a thread hangs in
 * the operating system: nothing can be freed then. */
bool app_manager_stop(struct app_manager *manager);
/* Another process writes the snapshot of the apps from now on. On the main thread. */
void app_manager_leave_snapshot(struct app_manager *manager);
/* After app_manager_stop, when the workers have ended. */
void app_manager_destroy(struct app_manager *manager);

/*
 * Finds an app by its public key (WebSocket) or its id (HTTP). On a worker's thread. Every answer but APP_PENDING is
 * final, and `done` is not called.
 */
enum app_answer app_manager_find_by_key(struct app_manager *manager, struct worker *worker, struct slice key,
                                        struct app_lookup *lookup);
enum app_answer app_manager_find_by_id(struct app_manager *manager, struct worker *worker, struct slice id,
                                       struct app_lookup *lookup);

/* Cancels a pending lookup: `done` is not called. On the lookup's worker. */
void app_manager_cancel(struct app_manager *manager, struct app_lookup *lookup);

/*
 * Takes over the apps of `config` (SIGHUP, memory driver), then runs the hook `changed` on every worker, so that live
 * connections learn of it. A record that is broken now leaves the last valid one in force. On the main thread.
 */
bool app_manager_reload(struct app_manager *manager, const struct config *config, struct app_changes *changes,
                        struct error *error);

/*
 * With the memory driver a reload may hold the removal of many apps at once, see mass_removal.h.
 * app_manager_removal_due_ms: when they are to be removed, by the monotonic clock; UINT64_MAX: never.
 * app_manager_remove_held: removes them if it is time. On the main thread; nothing to do for other drivers.
 */
uint64_t app_manager_removal_due_ms(const struct app_manager *manager);
void app_manager_remove_held(struct app_manager *manager, uint64_t now_ms);
/* Removes the apps that the store does not have any more, and whose removal is held. Returns how many. Any thread; not
 * for the memory driver. */
size_t app_manager_confirm_removal(struct app_manager *manager);

/* True if there may be any app at all. Any thread. */
bool app_manager_has_apps(struct app_manager *manager);

/* --- jobs: work on the store beside lookups; not for the memory driver --- */

/*
 * A job on a connection to the store: a health check, a write. The caller embeds it in memory of its own, which
 * `destroy` frees.
 */
struct app_job {
    struct store_operation operation; /* the caller sets priority and repeatable */
    struct message message;
    struct app_manager *manager;
    struct worker *worker;
    enum store_answer answer;
    struct error error;
    /* On a thread that may block. */
    enum store_answer (*run)(struct app_job *job, struct store_connection *connection);
    /* With the answer, on the worker; NULL: nothing waits for it any more. */
    void (*done)(struct app_job *job);
    void (*destroy)(struct app_job *job); /* after `done`, on the worker */
};

/* Submits a job, with `timeout_ms` (0: app_manager.lookup_timeout_ms). On the worker that `done` is to run on. */
void app_manager_submit(struct app_manager *manager, struct worker *worker, struct app_job *job, uint32_t timeout_ms);

/* For a write to the store: call write_version before it and written after it, see app_cache_written. In a job, or on
 * any thread. */
uint64_t app_manager_write_version(struct app_manager *manager);
uint64_t app_manager_written(struct app_manager *manager, uint64_t write_version, struct slice id,
                             const struct app *before, const struct app *after);
/* A command for this server has changed the app: it is read again at once. `key` is its key now; empty: not known. Any
 * thread; nothing to do for the memory driver. */
void app_manager_invalidate(struct app_manager *manager, struct slice id, struct slice key);

/* Another node says that the app was changed: it is read again at once, and negative entries of its names expire. Each
 * key may be empty; `meant`: by a command, so its removal is not held. The second function: any app may have changed.
 * Any thread; nothing to do for the memory driver. */
void app_manager_refresh(struct app_manager *manager, struct slice id, struct slice old_key, struct slice new_key,
                         bool meant);
void app_manager_refresh_all(struct app_manager *manager);

/* True for every driver but memory: apps are in a store that can be written and can fail. */
bool app_manager_has_store(const struct app_manager *manager);
const struct app_defaults *app_manager_defaults(const struct app_manager *manager);

/* --- for the health and metrics pages --- */

/* Any thread. */
enum app_health app_manager_health(struct app_manager *manager);
/* False if a job is needed to find out. Any thread. */
bool app_manager_health_known(struct app_manager *manager);

/* False with the memory driver. Any thread. */
bool app_manager_read_stats(struct app_manager *manager, struct app_lookup_stats *lookups,
                            struct store_pool_stats *pool);

/* Mass removals that were held so far, and apps that are held now. Any thread. */
void app_manager_read_removals(struct app_manager *manager, uint64_t *total, uint64_t *held);

/* Calls `each` for every slot in use, without a lock; slots and records are valid until this returns. Any thread. */
void app_manager_each_slot(struct app_manager *manager, void (*each)(struct app_slot *slot, void *context),
                           void *context);
