/*
 * A keyed hash for tables whose keys clients choose: SipHash-1-3 with a key drawn at start, so that nobody outside
 * can make names that collide.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

/* Draws the process's key. Call once before any table is used. */
void hash_seed(void);

/* The hash of `text`, the same for the life of the process. Any thread. */
uint64_t hash_bytes(struct slice text);
