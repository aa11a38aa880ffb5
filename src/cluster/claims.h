/*
 * Keys that one node of all may use within two minutes: those of publishes that may be repeated (X-Idempotency-Key).
 * They are kept in the store (key_store.h), so a repeat that another node gets is known.
 *
 *   worker: cluster_claim ---> thread: SET key digest NX, GET key ---> answered: new, the same, or another body
 *
 * Without a store, or without its answer within a second, each node knows only its own keys.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"
#include "cluster/cluster_core.h"

#define CLAIM_LIFETIME_MS 120000

enum claim_result {
    CLAIM_NEW,     /* the key is the caller's */
    CLAIM_SAME,    /* it was claimed with this digest */
    CLAIM_OTHER,   /* with another one */
    CLAIM_UNKNOWN, /* the store has not answered */
    CLAIM_ENDED,   /* this process ends: no worker runs any more */
};

struct claims;

/* Adds the part to the core, after cached_events.h; NULL if there is no store. */
struct claims *claims_create(struct cluster_core *core);

/* What is claimed. */
struct claim_key {
    struct slice app;
    char kind;           /* of the request */
    struct slice key;    /* as the client gave it */
    struct slice digest; /* of the body */
};

/* Claims a key; the texts are copied. `answered` is called once, on the cluster's thread. Any thread, as for the next.
 */
void claims_take(struct claims *claims, const struct claim_key *key,
                 void (*answered)(void *context, enum claim_result result), void *context);

/* Gives a key back that was claimed for a request that is refused. */
void claims_give_back(struct claims *claims, const struct claim_key *key);
