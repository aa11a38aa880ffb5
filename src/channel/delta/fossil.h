/*
 * Deltas in the format of the version control system Fossil (its page "Fossil Delta Format").
 *
 * A delta is text: the length of the target and a newline, commands that copy bytes of the base (`LENGTH@OFFSET,`) or
 * contain new ones (`LENGTH:BYTES`), and a checksum of the target with a semicolon. Numbers have base 64.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "channel/delta/delta_match.h"

/* Appends the delta that makes `target` of `base`, if it is shorter than `limit` bytes. False if not, or if memory runs
 * out; `out` is then unchanged. It may also give up when few bytes below the limit are possible. `work` may be NULL.
 * Any thread. */
bool fossil_encode(struct slice base, struct slice target, size_t limit, struct buffer *out,
                   struct delta_match_work *work);
