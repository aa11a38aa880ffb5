/*
 * The account of memory that clients make the server hold: every byte is counted as it is taken, and whether there is
 * room is decided at once.
 *
 * The process has one limit (`memory.limit_mb`). Each kind of memory has a share of it, so that one kind of attack
 * leaves the others working. An app may hold at most twice of what is still free, of the limit and of the share of the
 * kind that it takes from: a single app gets two thirds of a share, and an app that takes all it can leaves room for
 * the others. What an app holds may outlive the app: an event waits in the output of a connection that is closing. So
 * its account is freed with the last byte.
 *
 * What a client asks for is taken with budget_take, which may refuse. What follows from something that was accepted is
 * counted with budget_add, which does not. Both are given back with budget_give, with the same number of bytes, on any
 * thread.
 *
 * A thread keeps the changes that it makes to itself until they exceed BUDGET_DRIFT_BYTES, so that counting writes to
 * no memory that threads share. The sums are therefore short or long by at most so much for each thread and kind, until
 * each thread has called budget_settle; workers do so once a second.
 *
 * All functions are for any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUDGET_DRIFT_BYTES (16 * 1024)

enum budget_kind {
    BUDGET_CONNECTIONS, /* streams, sessions and HTTP connections, with the limits that count for one or its address */
    BUDGET_TLS,         /* OpenSSL's memory for a connection */
    BUDGET_BODIES,      /* heads and bodies of HTTP requests */
    BUDGET_INPUT,       /* half frames and fragments of WebSocket messages */
    BUDGET_OUTPUT,      /* frames and chunks that wait to be written, and the queues that hold them */
    BUDGET_COMPRESSION, /* windows of permessage-deflate */
    BUDGET_CHANNELS,    /* channels and subscriptions */
    BUDGET_PRESENCE,    /* members of presence channels, users and watchlists */
    BUDGET_KEPT_EVENTS, /* last events of cache channels */
    BUDGET_DELTAS,      /* texts that deltas are based on, with their conflation keys */
    BUDGET_WEBHOOKS,    /* webhook events that wait */
    BUDGET_LOOKUPS,     /* lookups of apps that wait for the store, and its queries for them */
    BUDGET_HANDOVER,    /* what waits on its way between the two processes of an upgrade */
    BUDGET_CLUSTER,     /* what waits on its way to other nodes and from them */
    BUDGET_KIND_COUNT,
};

/* The names of the kinds, for the label of a metric. */
extern const char *const budget_kind_names[BUDGET_KIND_COUNT];

/* What one app holds, of all kinds that are counted for it: its bytes, and BUDGET_APP_OWNED until budget_app_release.
 */
struct budget_app {
    atomic_llong bytes;
};

#define BUDGET_APP_OWNED (INT64_C(1) << 62)

/* Creates an empty account. */
struct budget_app *budget_app_create(void);

/* Gives up the account: it is freed now, or when everything is given back. After that only those that hold some of it
 * may take more. */
void budget_app_release(struct budget_app *app);

/* The bytes that the app holds. */
uint64_t budget_app_held(const struct budget_app *app);

/* The calling thread's own changes, which the sums do not have yet; for the inline functions only. */
extern _Thread_local int64_t budget_drifts[BUDGET_KIND_COUNT];

/* Sets the limit of the process in bytes; 0: no limit. Call it before the workers start. */
void budget_set_limit(uint64_t bytes);

/* Takes `bytes` for the app (NULL: for none). False, and nothing is taken, if the process, the kind or the app would
 * then be over what it may hold; that is counted as a refusal. */
bool budget_take(enum budget_kind kind, struct budget_app *app, size_t bytes);

/* True if budget_take would succeed now. */
bool budget_has_room(enum budget_kind kind, const struct budget_app *app, size_t bytes);

/* Counts a refusal that followed from budget_has_room. */
void budget_refused(enum budget_kind kind);

/* Adds the calling thread's own changes to the sums: of all kinds, or of one. */
void budget_settle(void);
void budget_settle_kind(enum budget_kind kind);

/* Frees an account whose last bytes were given back after its release. */
void budget_app_free(struct budget_app *app);

/* Add to what the app (NULL: none) holds, and take from it; for the functions below. The last that is taken frees the
 * account, so it comes after all other changes. What is added never does: whoever adds to an account owns it, or holds
 * some of it. */
static inline void budget_app_add(struct budget_app *app, size_t bytes) {
    if (app != NULL)
        atomic_fetch_add_explicit(&app->bytes, (int64_t)bytes, memory_order_relaxed);
}

static inline void budget_app_give(struct budget_app *app, int64_t bytes) {
    if (app != NULL && atomic_fetch_sub_explicit(&app->bytes, bytes, memory_order_acq_rel) == bytes)
        budget_app_free(app);
}

/* Adds to what the thread and the kind hold; for the two functions below. */
static inline void budget_change(enum budget_kind kind, int64_t bytes) {
    int64_t drift = budget_drifts[kind] += bytes;

    /* One comparison for both sides. */
    if (__builtin_expect((uint64_t)(drift + BUDGET_DRIFT_BYTES) > 2 * BUDGET_DRIFT_BYTES, false))
        budget_settle_kind(kind);
}

/* Counts bytes that are taken in any case. */
static inline void budget_add(enum budget_kind kind, struct budget_app *app, size_t bytes) {
    budget_change(kind, (int64_t)bytes);
    budget_app_add(app, bytes);
}

/* Gives bytes back. */
static inline void budget_give(enum budget_kind kind, struct budget_app *app, size_t bytes) {
    budget_change(kind, -(int64_t)bytes);
    budget_app_give(app, (int64_t)bytes);
}

/* Counts for the app, or no more, what was counted for none when it was taken. */
static inline void budget_assign(struct budget_app *app, size_t bytes) {
    budget_app_add(app, bytes);
}

static inline void budget_unassign(struct budget_app *app, size_t bytes) {
    budget_app_give(app, (int64_t)bytes);
}

/* The sums, for decisions and metrics; never below 0. */
uint64_t budget_used(enum budget_kind kind);
uint64_t budget_total(void);
uint64_t budget_limit(void);

/* How often budget_take refused. */
uint64_t budget_refusals(enum budget_kind kind);

/* The most that a kind may hold, in bytes; UINT64_MAX without a limit. */
uint64_t budget_kind_limit(enum budget_kind kind);
