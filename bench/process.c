#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"

/* Reads a small file of /proc completely; false if it cannot be opened or is empty. */
static bool read_text(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "re");
    size_t length;

    if (file == NULL)
        return false;
    length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = '\0';
    return length != 0;
}

/* Adds up the scheduler's CPU time of all threads. */
static bool schedstat_ns(pid_t pid, uint64_t *total) {
    char path[64], text[128];
    struct dirent *entry;
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    if (tasks == NULL)
        return false;
    *total = 0;
    while ((entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.16s/schedstat", (int)pid, entry->d_name);
        if (read_text(path, text, sizeof text))
            *total += strtoull(text, NULL, 10);
    }
    closedir(tasks);
    return *total != 0;
}

/* Fields 14 and 15 of /proc/PID/stat (proc(5)), counted after the process name, which may contain any byte. */
static bool stat_ns(pid_t pid, uint64_t *total) {
    char path[64], text[1024];
    unsigned long user, system;
    const char *behind_name;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_text(path, text, sizeof text) || (behind_name = strrchr(text, ')')) == NULL)
        return false;
    if (sscanf(behind_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return false;
    *total = (uint64_t)(user + system) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
    return true;
}

uint64_t process_cpu_ns(pid_t pid) {
    uint64_t total;

    if (!schedstat_ns(pid, &total) && !stat_ns(pid, &total))
        fail("reading the CPU time of process %d from /proc: %s; has the server ended?", (int)pid, strerror(errno));
    return total;
}

uint64_t process_memory_bytes(pid_t pid) {
    char path[64], text[4096];
    unsigned long long amount;
    const char *line;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    if (read_text(path, text, sizeof text) && (line = strstr(text, "\nRss:")) != NULL &&
        sscanf(line, " Rss: %llu kB", &amount) == 1)
        return amount * 1024;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    if (!read_text(path, text, sizeof text) || sscanf(text, "%*u %llu", &amount) != 1)
        fail("reading the memory of process %d from /proc: %s; has the server ended?", (int)pid, strerror(errno));
    return amount * (unsigned long long)sysconf(_SC_PAGESIZE);
}

int process_only_cpu(pid_t pid) {
    cpu_set_t set;

    if (sched_getaffinity(pid, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set))
            return cpu;
    return -1;
}

uint64_t process_own_cpu_ns(void) {
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

bool process_pin(int cpu) {
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

void process_unpin(void) {
    cpu_set_t set;

    CPU_ZERO(&set);
    for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++)
        CPU_SET((size_t)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

uint64_t process_machine_busy_ns(void) {
    unsigned long long user, nice, system, interrupts, soft_interrupts, stolen;
    char text[1024];

    if (!read_text("/proc/stat", text, sizeof text) ||
        sscanf(text, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice, &system, &interrupts, &soft_interrupts,
               &stolen) != 6)
        return 0;
    return (user + nice + system + interrupts + soft_interrupts + stolen) *
           (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t process_children_cpu_ns(void) {
    struct rusage used;

    getrusage(RUSAGE_CHILDREN, &used);
    return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u;
}
