/*
 * Flushes: round trips to the server, on the thread that waits. What was handed to the library before has arrived at
 * the server when the answer is there.
 */
#pragma once

#include <stdint.h>

#include "cluster/nats/nats_internal.h"

/* Begins a round trip, whose end is a notice with that number; without an answer there is none. I/O thread. */
void nats_flush_begin(struct nats_link *link, uint64_t number);
