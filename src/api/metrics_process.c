#include "api/metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/memory_usage.h"

/* process_* have no prefix and no labels, as in every exporter. */
static void append_gauge(struct metrics_page *page, const char *name, const char *help, uint64_t value) {
    metrics_family(page, name, "gauge", help);
    metrics_sample(page, SLICE(""), value);
}

static void append_process_memory(struct metrics_page *page) {
    uint64_t virtual_bytes, resident_bytes;

    if (!memory_of_process(&virtual_bytes, &resident_bytes))
        return;
    append_gauge(page, "process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_bytes);
    append_gauge(page, "process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes);
}

static double timeval_seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* The number of open descriptors; 0: unknown. */
static uint64_t count_descriptors(void) {
    struct stat status;
    uint64_t count = 0;
    DIR *folder;

    if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0) /* the count, since Linux 6.2 */
        return (uint64_t)status.st_size;
    folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count > 3 ? count - 3 : 0; /* without ".", ".." and the folder's own */
}

static void append_descriptors(struct metrics_page *page) {
    uint64_t count = count_descriptors();
    struct rlimit limit;

    if (count != 0)
        append_gauge(page, "process_open_fds", "Number of open file descriptors.", count);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        append_gauge(page, "process_max_fds", "Maximum number of open file descriptors.", limit.rlim_cur);
}

void metrics_append_process(struct metrics_page *page, uint64_t started_at_s) {
    struct slice prefix = page->prefix;
    struct rusage usage;

    page->prefix = SLICE("");
    append_process_memory(page);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        metrics_family(page, "process_cpu_seconds_total", "counter", "Total user and system CPU time in seconds.");
        metrics_fraction(page, SLICE(""), timeval_seconds(usage.ru_utime) + timeval_seconds(usage.ru_stime));
    }
    append_gauge(page, "process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.",
                 started_at_s);
    append_descriptors(page);
    page->prefix = prefix;
}
