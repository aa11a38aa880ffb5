/*
 * The kernel's floor: what it costs a process merely to hand ready bytes to 500 loopback TCP sockets.
 *
 *   sender (a process of its own, on the server's core)          generator (on its own core)
 *   for each of 500 sockets: send(1, 8 or 32 frames)   ------>   gathered and read like subscribers
 *   waits while it is two rounds ahead                 <------   rounds drained, in shared memory
 *
 * Only the CPU time of the calls to send counts, not the waiting. The sender may be no more than two rounds ahead, as a
 * server that answers closed-loop publishers is: one round being written while another is being read. Floors are
 * measured in short slices between slices of what is compared with them, since the speed of a shared machine changes by
 * the second.
 */
#pragma once

#include <stdint.h>

#include "poller.h"

#define FLOOR_SOCKETS 500
#define FLOOR_FRAME 170 /* bytes: an event with 100 bytes of data, with its envelope and frame header */

struct floor;

/*
 * Starts the sender on `cpu` (anywhere if negative); it inherits every open socket, so call this while there are no
 * others. Its sockets join the gathered set of `poller`. It ends with floor_stop or with this process.
 */
struct floor *floor_start(struct poller *poller, int cpu);
void floor_stop(struct floor *floor);

/* Lets the sender run for `duration_ns`; returns its CPU time per frame in ns, at `frames` a call (1 to 32). */
double floor_measure(struct floor *floor, unsigned frames, uint64_t duration_ns);
