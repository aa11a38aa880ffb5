/*
 * The app manager: every WebSocket connection and API request asks it which app it is for.
 *
 *   session / api --- find_by_key, find_by_id ---> manager --- hit: answered at once
 *                                                     \------- miss: APP_PENDING; `done` is called on the same worker
 *
 * With the memory driver every lookup is a hit or a definite miss: the index of all apps is an immutable pair of hash
 * tables, read without a lock and replaced as a whole when the configuration is read again.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"
#include "app/app_slot.h"
#include "app/app_store.h"
#include "base/error.h"
#include "base/slice.h"
#include "net/worker.h"

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
    struct app_slot *slot;                   /* APP_FOUND */
    const struct app *app;                   /* APP_FOUND: the record, valid until the end of the turn */
    const char *reason;                      /* APP_INVALID: which field is broken; valid until the end of the turn */
    void (*done)(struct app_lookup *lookup); /* on the asker's worker, after APP_PENDING only */
    void *context;                           /* the asker's */
};

/* What changed when the configuration was read again. */
struct app_changes {
    unsigned added, changed, removed;
};

/* Opens the store and loads what it holds. `free_channels` frees what hangs on a slot (see app_slot_destroy). */
struct app_manager *app_manager_create(const struct config *config, struct workers *workers,
                                       void (*free_channels)(void *channels), struct error *error);
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
 * Takes over the apps of `config` (SIGHUP) and then runs `changed` on every worker, so that live connections learn of
 * it. A record that is broken now leaves the last valid one in force. On the main thread.
 */
bool app_manager_reload(struct app_manager *manager, const struct config *config,
                        void (*changed)(struct worker *worker), struct app_changes *changes, struct error *error);

/* Whether there is any app at all: for /up. On a worker. */
bool app_manager_has_apps(struct app_manager *manager);

/* Calls `each` for every slot that was ever used; for the metrics page. Any thread. */
void app_manager_each_slot(struct app_manager *manager, void (*each)(struct app_slot *slot, void *context),
                           void *context);
