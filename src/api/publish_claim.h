/*
 * What other nodes have to do with an idempotency key: a key that is new on this one is claimed for all nodes before
 * the publish (cluster/claims.h), if they share a store.
 *
 *   new here ---> claim_begin: the call waits ---> dispatched again ---> claim_ended ---> publish, or refuse
 */
#pragma once

#include <stdbool.h>

#include "api/api_call.h"
#include "cluster/claims.h"

/* True if the call has to claim its key, which is new here. */
bool claim_is_due(const struct api_call *call);

/* Claims the key; the call waits, and is then dispatched again. Takes over call->repeat. */
void claim_begin(struct api_call *call, const struct claim_key *key);

/* For a call that was dispatched again with a claim: gives call->repeat back. False: the key was used with another
 * body. */
bool claim_ended(struct api_call *call);

/* The publish was accepted: the claim stays. */
void claim_keep(struct api_call *call);
