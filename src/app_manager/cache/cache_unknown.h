/*
 * Names that were never found, which anyone can make up: a bound on how many of them the store is asked for.
 *
 * A query for such a name takes a token, and gives it back unless the store does not know the name. So apps that exist
 * cost none, not even all of them at the start. Ids and keys are counted by themselves: a flood of one kind does not
 * concern the other.
 *
 * A name takes two tokens: one of all names, and one of those whose client addresses have the same hash, which are a
 * quarter of all. So a flood from one address leaves the others their tokens; it takes four to stop everyone.
 *
 * Names that were found are remembered in a table of bits (a Bloom filter), also when their records were evicted. A
 * made-up name may pass for one of them by chance, one in ten with 100,000 apps.
 *
 * The cache's mutex guards all of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app_manager/app_manager_types.h"
#include "base/token_bucket.h"

/* Names that the store does not know, of each kind: so many at once, and a fortieth of them in each second. Those of
 * one address are more than the lookups that may wait for the store. */
#define UNKNOWN_LIMIT 8000
#define UNKNOWN_ADDRESS_LIMIT 2000
#define UNKNOWN_WINDOW_S 40
#define UNKNOWN_ADDRESSES 1024 /* hashes of addresses */

struct unknown_names {
    uint64_t *found; /* bits */
    struct token_bucket all[NAME_KIND_COUNT], addresses[NAME_KIND_COUNT][UNKNOWN_ADDRESSES];
    uint64_t refused;
};

void unknown_names_init(struct unknown_names *names);
void unknown_names_dispose(struct unknown_names *names);

/* The store has a name with this hash. */
void unknown_names_found(struct unknown_names *names, uint64_t hash);
bool unknown_names_was_found(const struct unknown_names *names, uint64_t hash);

/* False if the store may not be asked for the name now; it was never found. `address` is that of the client, see
 * client_address. */
bool unknown_names_admit(struct unknown_names *names, enum name_kind kind, uint64_t address, uint64_t now_ms);
/* A query that was admitted has not ended with "not found". */
void unknown_names_return(struct unknown_names *names, enum name_kind kind, uint64_t address);
