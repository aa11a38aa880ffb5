/*
 * Time that passes at once. The program is linked with --wrap=clock_gettime.
 */
#pragma once

#include <stdint.h>

/* Moves the monotonic clock of all threads on by `ms`. A thread that sleeps until a time does not wake for it. Workers
 * of the harness have a clock of their own. */
void passing_time_add(uint64_t ms);
