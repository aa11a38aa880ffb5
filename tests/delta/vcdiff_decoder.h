/*
 * A decoder of VCDIFF (RFC 3284) for the tests, written from the RFC. It knows nothing of the encoder and takes nothing
 * on trust. It refuses what the decoder of the clients does not understand: secondary compression, other code tables,
 * VCD_TARGET, the checksum of open-vcdiff and xdelta3.
 */
#pragma once

#include "base/buffer.h"
#include "base/slice.h"

/* Returns NULL if `delta` makes a target of `base`, and appends the target; else what is wrong. */
const char *vcdiff_decode(struct slice base, struct slice delta, struct buffer *target);
