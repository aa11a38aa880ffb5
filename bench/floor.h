/*
 * The kernel's floor: CPU time that a process needs only to send prepared bytes to 500 loopback TCP sockets.
 *
 *   sender (a process of its own, on the server's core)          generator (on its own core)
 *   for each of 500 sockets: send(1, 8 or 32 frames)   ------>   gathered and read as by subscribers
 *   waits while it is two rounds ahead                 <------   number of rounds read, in shared memory
 *
 * Only the CPU time of the send calls counts, not the waiting. The sender is at most two rounds ahead, like a server
 * with closed-loop publishers: it writes one round while the generator reads another. The floor is measured in short
 * slices between the slices of the server, since the speed of a shared machine changes from second to second.
 */
#pragma once

#include <stdint.h>

#include "poller.h"

#define FLOOR_SOCKETS 500
#define FLOOR_FRAME 170 /* bytes: an event with 100 bytes of data, with its envelope and frame header */

struct floor;

/*
 * Starts the sender process on `cpu` (on any CPU if negative). The sender inherits every open socket, so call this
 * before any other socket is opened. The reading ends join the gathered set of `poller`. The sender ends with
 * floor_stop or with this process.
 */
struct floor *floor_start(struct poller *poller, int cpu);

/* Ends the sender, closes the sockets and frees `floor`. */
void floor_stop(struct floor *floor);

/* Runs the sender for `duration_ns` with `frames` (1 to 32) per send call; returns its CPU time per frame in ns. */
double floor_measure(struct floor *floor, unsigned frames, uint64_t duration_ns);
