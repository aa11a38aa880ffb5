/*
 * Deltas in the format VCDIFF (RFC 3284), which clients call `xdelta3`.
 *
 * The part of it that every decoder understands: one window, the default code table with its address caches, no
 * secondary compression, and nothing that the RFC does not have, such as a checksum. All indicators are 0, apart from
 * VCD_SOURCE of the window.
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
bool vcdiff_encode(struct slice base, struct slice target, size_t limit, struct buffer *out,
                   struct delta_match_work *work);
