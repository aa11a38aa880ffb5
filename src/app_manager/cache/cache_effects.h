/*
 * Effects of a change of the cache that must wait until its mutex is released: they free memory, log, take other locks
 * or wake workers.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app_manager/app_manager_types.h"
#include "app_manager/cache/cache_secrets.h"
#include "net/reclaim.h"

/* {0}: none. */
struct cache_effects {
    struct reclaim_batch unlinked; /* objects that workers may still read */
    bool closes_sessions;          /* a change may close open sessions */
    /* A reference to a record that is new, or differs from the one before. */
    struct app *changed;
    /* A reference to the record that was replaced, or dropped because the app was deleted. */
    struct app *replaced;
    uint64_t connections; /* of an app that was deleted */
    bool is_logged;       /* the change came through this process, which has logged it */
    /* The reason why a record is broken, to be logged; from alloc(). */
    char *broken;
    char *removal_began;   /* that a mass removal is held; from alloc() */
    char *removal_ended;   /* the same of its end */
    bool keeps_last_valid; /* it is said, too, that the last valid record stays in force */
};

/* What effects act on. */
struct cache_surroundings {
    struct workers *workers;
    const struct app_manager_hooks *hooks;
    const struct app_defaults *defaults;
    struct reclaimer reclaimer;
    struct cache_secrets secrets;
    atomic_bool close_pending; /* workers were told that apps changed, and none has looked yet */
};

void cache_surroundings_init(struct cache_surroundings *surroundings, struct workers *workers,
                             const struct app_manager_hooks *hooks, const struct app_defaults *defaults,
                             const struct config *config, const struct app_store *store);
/* Frees what is still deferred. The workers have ended. */
void cache_surroundings_dispose(struct cache_surroundings *surroundings);

/* One record replaces the other; NULL: the app was not known before, or it was deleted. Adds references. */
void cache_effects_replace(struct cache_effects *effects, struct app *before, struct app *after);

/* The reason is to be logged; copied. */
void cache_effects_log_broken(struct cache_effects *effects, const char *reason, bool keeps_last_valid);

/* Does them, and leaves none. Without the cache's mutex, on any thread. */
void cache_effects_run(struct cache_effects *effects, struct cache_surroundings *surroundings);
