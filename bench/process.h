/*
 * What processes cost: CPU time and memory of the server from /proc, and of the generator itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * User and system time of all threads of `pid` so far, in ns: from task/TID/schedstat, which counts nanoseconds, or
 * where the kernel does not keep it from stat, which counts ticks of 10 ms. Ends the program if there is no such
 * process.
 */
uint64_t process_cpu_ns(pid_t pid);

/* Resident memory of `pid` in bytes: from smaps_rollup, which is exact, or where that may not be read from statm. */
uint64_t process_memory_bytes(pid_t pid);

/* The one CPU that `pid` may run on; -1 if it may run on several or none is known. */
int process_only_cpu(pid_t pid);

/* User and system time of this process so far, in ns. */
uint64_t process_own_cpu_ns(void);

/* Binds the calling process to one CPU; false with errno if the system refuses. */
bool process_pin(int cpu);

/* Lets the calling process run on every CPU that there is. */
void process_unpin(void);

/* Time that all CPUs of the machine together spent on anything, in ns, since it started; 0 if /proc/stat cannot be
 * read. */
uint64_t process_machine_busy_ns(void);

/* User and system time of the children that have ended, in ns. */
uint64_t process_children_cpu_ns(void);
