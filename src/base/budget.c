#include "base/budget.h"

#include <stdlib.h>

#include "base/alloc.h"

/* An app may hold this many times of what is free. */
#define APP_SHARE_OF_FREE 2

const char *const budget_kind_names[BUDGET_KIND_COUNT] = {
    [BUDGET_CONNECTIONS] = "connections", [BUDGET_TLS] = "tls",
    [BUDGET_BODIES] = "bodies",           [BUDGET_INPUT] = "input",
    [BUDGET_OUTPUT] = "output",           [BUDGET_COMPRESSION] = "compression",
    [BUDGET_CHANNELS] = "channels",       [BUDGET_PRESENCE] = "presence",
    [BUDGET_KEPT_EVENTS] = "kept_events", [BUDGET_DELTAS] = "deltas",
    [BUDGET_WEBHOOKS] = "webhooks",       [BUDGET_LOOKUPS] = "lookups",
    [BUDGET_HANDOVER] = "handover",       [BUDGET_CLUSTER] = "cluster",
};

/* The share of each kind in percent of the limit. Their sum is above 100: they bound what one kind can take. */
static const uint8_t shares[BUDGET_KIND_COUNT] = {
    [BUDGET_CONNECTIONS] = 60, [BUDGET_TLS] = 60,         [BUDGET_BODIES] = 25,   [BUDGET_INPUT] = 25,
    [BUDGET_OUTPUT] = 40,      [BUDGET_COMPRESSION] = 40, [BUDGET_CHANNELS] = 60, [BUDGET_PRESENCE] = 40,
    [BUDGET_KEPT_EVENTS] = 25, [BUDGET_DELTAS] = 25,      [BUDGET_WEBHOOKS] = 25, [BUDGET_LOOKUPS] = 10,
    [BUDGET_HANDOVER] = 25,    [BUDGET_CLUSTER] = 25,
};

struct sum {
    _Alignas(CACHE_LINE) atomic_llong bytes;
};

static struct {
    struct sum kinds[BUDGET_KIND_COUNT];
    struct sum total;
    _Alignas(CACHE_LINE) atomic_ullong limit;
    _Alignas(CACHE_LINE) atomic_ullong refusals[BUDGET_KIND_COUNT];
} account;

_Thread_local int64_t budget_drifts[BUDGET_KIND_COUNT];

struct budget_app *budget_app_create(void) {
    struct budget_app *app = alloc_cache_line(sizeof *app); /* written by all threads */

    atomic_init(&app->bytes, BUDGET_APP_OWNED);
    return app;
}

void budget_app_release(struct budget_app *app) {
    budget_app_give(app, BUDGET_APP_OWNED);
}

void budget_app_free(struct budget_app *app) {
    free(app);
}

uint64_t budget_app_held(const struct budget_app *app) {
    return (uint64_t)(atomic_load_explicit(&app->bytes, memory_order_relaxed) & (BUDGET_APP_OWNED - 1));
}

static int64_t sum_read(const struct sum *sum) {
    return atomic_load_explicit(&sum->bytes, memory_order_relaxed);
}

void budget_settle_kind(enum budget_kind kind) {
    atomic_fetch_add_explicit(&account.kinds[kind].bytes, budget_drifts[kind], memory_order_relaxed);
    atomic_fetch_add_explicit(&account.total.bytes, budget_drifts[kind], memory_order_relaxed);
    budget_drifts[kind] = 0;
}

void budget_set_limit(uint64_t bytes) {
    atomic_store(&account.limit, bytes);
}

uint64_t budget_limit(void) {
    return atomic_load_explicit(&account.limit, memory_order_relaxed);
}

uint64_t budget_kind_limit(enum budget_kind kind) {
    uint64_t limit = budget_limit();

    return limit == 0 ? UINT64_MAX : limit / 100 * shares[kind];
}

/* True if the kind has `free` bytes, all kinds together hold `total` of `limit`, and that is enough. */
static bool has_room_beside(uint64_t free, uint64_t limit, uint64_t total, const struct budget_app *app, size_t bytes) {
    uint64_t room = limit - total < free ? limit - total : free;

    if (total > limit || room < bytes)
        return false;
    return app == NULL || budget_app_held(app) + bytes <= APP_SHARE_OF_FREE * (room - bytes);
}

/* The most that budget_total can return now. */
static uint64_t highest_total(void) {
    int64_t bytes = sum_read(&account.total) + BUDGET_KIND_COUNT * BUDGET_DRIFT_BYTES;

    return bytes > 0 ? (uint64_t)bytes : 0;
}

bool budget_has_room(enum budget_kind kind, const struct budget_app *app, size_t bytes) {
    uint64_t limit = budget_limit(), kind_limit, used;

    if (limit == 0)
        return true;
    used = budget_used(kind);
    kind_limit = budget_kind_limit(kind);
    if (used > kind_limit)
        return false;
    /* Mostly there is so much room that the thread's own changes need not be added up. */
    return has_room_beside(kind_limit - used, limit, highest_total(), app, bytes) ||
           has_room_beside(kind_limit - used, limit, budget_total(), app, bytes);
}

bool budget_take(enum budget_kind kind, struct budget_app *app, size_t bytes) {
    if (!budget_has_room(kind, app, bytes)) {
        budget_refused(kind);
        return false;
    }
    budget_add(kind, app, bytes);
    return true;
}

void budget_refused(enum budget_kind kind) {
    atomic_fetch_add_explicit(&account.refusals[kind], 1, memory_order_relaxed);
}

uint64_t budget_refusals(enum budget_kind kind) {
    return atomic_load_explicit(&account.refusals[kind], memory_order_relaxed);
}

void budget_settle(void) {
    for (enum budget_kind kind = 0; kind < BUDGET_KIND_COUNT; kind++)
        if (budget_drifts[kind] != 0)
            budget_settle_kind(kind);
}

uint64_t budget_used(enum budget_kind kind) {
    int64_t bytes = sum_read(&account.kinds[kind]) + budget_drifts[kind];

    return bytes > 0 ? (uint64_t)bytes : 0;
}

uint64_t budget_total(void) {
    int64_t bytes = sum_read(&account.total);

    for (enum budget_kind kind = 0; kind < BUDGET_KIND_COUNT; kind++)
        bytes += budget_drifts[kind];
    return bytes > 0 ? (uint64_t)bytes : 0;
}
