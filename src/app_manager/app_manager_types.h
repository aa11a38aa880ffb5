/*
 * Types of the app manager's interface that its parts share: lookups, their answers, health and hooks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app.h"
#include "app/app_slot.h"
#include "base/list.h"
#include "net/worker.h"

/* What an app is looked up by. */
enum name_kind { NAME_ID, NAME_KEY, NAME_KIND_COUNT };

enum app_answer {
    APP_FOUND,
    APP_NOT_FOUND,
    APP_INVALID,     /* the record is broken, and no valid one was ever seen */
    APP_UNAVAILABLE, /* the store cannot be reached, and nothing is known about this app */
    APP_PENDING,     /* the answer comes later, by `done` */
};

/* A lookup and its answer. The caller embeds it and keeps it until it is answered or cancelled. */
struct app_lookup {
    enum app_answer answer;
    struct app_slot *slot; /* APP_FOUND */
    const struct app *app; /* APP_FOUND: the record, valid until the end of the turn */
    /* APP_INVALID: which field is broken; valid until the end of the turn, or of `done`. */
    const char *reason;
    void (*done)(struct app_lookup *lookup); /* after APP_PENDING only, on the caller's worker */
    /* The address of the client who asks, see client_address; called before the find returns, if the store has to be
     * asked. NULL: the server itself. */
    uint64_t (*address)(struct app_lookup *lookup);
    struct list link; /* the manager's, while the answer is pending */
};

/* What the manager calls above it. */
struct app_manager_hooks {
    /* Apps were deleted, or changed so that open connections are concerned (app_change_concerns_sessions): close those
     * of this worker that may not stay. Called on each worker. */
    void (*changed)(struct worker *worker, void *context);
    /* One record has replaced another; `before` NULL: the app is new to this process, `after` NULL: it was deleted.
     * NULL: nobody wants to know. Not called for the apps that the memory driver reads at the start. On any thread,
     * without a lock. */
    void (*replaced)(struct app *before, struct app *after, void *context);
    /* An app was changed in the store: by this process, by a command for it, or by another program, of which the store
     * gave notice (`meant` false). Other nodes have to read it again; keys may be empty. NULL: nobody wants to know. On
     * any thread, without a lock. */
    void (*written)(struct slice id, struct slice old_key, struct slice new_key, bool meant, void *context);
    void (*free_channels)(void *channels);  /* for app_slot_destroy */
    bool (*channels_empty)(void *channels); /* takes locks of the channels */
    void *context;
};

/* The state of the store, as far as known. */
enum app_health {
    APP_HEALTH_OK,
    APP_HEALTH_DEGRADED, /* the store cannot be reached, but apps are known */
    APP_HEALTH_ERROR,    /* the store cannot be reached and nothing was ever found in it, or there is no app at all */
};

/* A snapshot of lookups and of the cache, for the metrics page. */
struct app_lookup_stats {
    uint64_t hits, misses, negatives, stale, errors; /* lookups, by how they were answered */
    uint64_t entries, negative_entries;              /* in the cache */
    /* Entries whose record in the store is broken, while the last valid one is in force. */
    uint64_t broken;
    uint64_t outages;
    bool outage;
};
