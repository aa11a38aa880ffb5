/*
 * CPU time and memory of processes: of the server from /proc, and CPU time of the generator itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * User and system time of all threads of `pid` so far, in ns. The source is task/TID/schedstat, which counts
 * nanoseconds; on kernels without it stat, which counts ticks of 10 ms. Ends the program if the process does not exist.
 */
uint64_t process_cpu_ns(pid_t pid);

/* Resident memory of `pid` in bytes: from smaps_rollup, which is exact, or from statm if that is not readable. */
uint64_t process_memory_bytes(pid_t pid);

/* The only CPU that `pid` may run on; -1 if it may run on several or this is unknown. */
int process_only_cpu(pid_t pid);

/* User and system time of this process so far, in ns. */
uint64_t process_own_cpu_ns(void);

/* Binds the calling process to one CPU; false with errno if the system refuses. */
bool process_pin(int cpu);

/* Allows the calling process to run on every CPU. */
void process_unpin(void);

/* Busy time of all CPUs of the machine together since boot, in ns; 0 if /proc/stat cannot be read. */
uint64_t process_machine_busy_ns(void);

/* User and system time of the ended child processes, in ns. */
uint64_t process_children_cpu_ns(void);
