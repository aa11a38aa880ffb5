/*
 * Negative entries: names that the store does not know, and names of records that are broken.
 *
 * Both are bounded, each kind of name for itself: beyond NEGATIVE_MAX the oldest goes. Names of broken records have
 * their own bound, so that made-up names do not displace them.
 *
 * Workers call negatives_find without a lock. All other functions are called with the cache's mutex held; what they
 * unlink goes to the batch `unlinked`, to be deferred after that.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app_manager/app_manager_types.h"
#include "app_manager/cache/name_table.h"
#include "base/list.h"

#define NEGATIVE_MAX 10000 /* names of each kind */

struct negatives {
    uint64_t ttl_ms;
    struct name_table names[NAME_KIND_COUNT];
    struct list unknown[NAME_KIND_COUNT]; /* names that the store does not know, the oldest first */
    struct list broken[NAME_KIND_COUNT];  /* names of broken records, the oldest first */
    size_t broken_count[NAME_KIND_COUNT];
    /* Why records are broken; each text once, for all names of its record. */
    struct name_table reasons;
    uint64_t last_change; /* number of the last change of a name's reason */
};

void negatives_init(struct negatives *negatives, uint64_t ttl_ms);
/* No worker reads any more. */
void negatives_dispose(struct negatives *negatives);

/* Sets the answer, and the reason for APP_INVALID, if the name has a negative entry that has not expired. On a worker:
 * the reason is valid until the end of its turn. */
bool negatives_find(const struct negatives *negatives, enum name_kind kind, struct slice name, uint64_t hash,
                    uint64_t now_ms, struct app_lookup *lookup);

/* The store does not know the name. */
void negatives_put_unknown(struct negatives *negatives, enum name_kind kind, struct slice name, uint64_t now_ms,
                           struct reclaim_batch *unlinked);
/* The name's record is broken. True if the reason is to be logged: once for each change of the record, whatever number
 * of lookups find it, and by whichever of its names. */
bool negatives_put_broken(struct negatives *negatives, enum name_kind kind, struct slice name, const char *reason,
                          uint64_t now_ms, struct reclaim_batch *unlinked);

/* Removes the entry of a name, if there is one. */
void negatives_drop(struct negatives *negatives, enum name_kind kind, struct slice name,
                    struct reclaim_batch *unlinked);
/* The next lookup of the name, or of any name, asks the store. Reasons stay known, so that an unchanged one is not
 * logged again. */
void negatives_expire(struct negatives *negatives, enum name_kind kind, struct slice name,
                      struct reclaim_batch *unlinked);
void negatives_expire_all(struct negatives *negatives, struct reclaim_batch *unlinked);

/* Removes up to `limit` unknown names that have expired; returns how many. */
size_t negatives_clean_up(struct negatives *negatives, enum name_kind kind, uint64_t now_ms, size_t limit,
                          struct reclaim_batch *unlinked);

size_t negatives_count(const struct negatives *negatives);
