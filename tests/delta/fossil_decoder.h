/*
 * A decoder of Fossil deltas for the tests, written from the page "Fossil Delta Format". It knows nothing of the
 * encoder and takes nothing on trust: every part must be there, in order, with nothing before or after.
 */
#pragma once

#include "base/buffer.h"
#include "base/slice.h"

/* Returns NULL if `delta` makes a target of `base`, and appends the target; else what is wrong. */
const char *fossil_decode(struct slice base, struct slice delta, struct buffer *target);
