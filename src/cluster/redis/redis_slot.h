/*
 * The slots of a Redis Cluster: each key, and each channel of sharded pub/sub, is in one of 16384. Pure functions.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

#define REDIS_SLOTS 16384

/* CRC-16 of XMODEM: polynomial 0x1021, initial value 0, no reflection. */
uint16_t redis_crc16(struct slice text);

/* The slot of a name: of the part between the first `{` and the next `}`, its hash tag, if that is not empty, else of
 * the whole name. */
uint16_t redis_slot_of(struct slice name);
