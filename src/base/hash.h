/*
 * A keyed hash for tables whose keys clients choose: SipHash-1-3 with a random key for each process, so that an
 * attacker cannot construct names that collide.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

/* Draws the random key. Call it once, before any table is used. */
void hash_seed(void);

/* Returns the hash of `text`, constant for the life of the process. Any thread. */
uint64_t hash_bytes(struct slice text);
