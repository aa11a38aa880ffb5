#include "measure.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "process.h"

#define SETTLE_NS 3000000u

void measure_begin(struct measure *measure, const struct target *target) {
    measure->server_cpu_ns = target->pid != 0 ? process_cpu_ns(target->pid) : 0;
    measure->generator_cpu_ns = process_own_cpu_ns();
    measure->wall_ns = clock_monotonic_ns();
}

void measure_end(struct measure *measure, const struct target *target) {
    measure->wall_ns = clock_monotonic_ns() - measure->wall_ns;
    measure->generator_cpu_ns = process_own_cpu_ns() - measure->generator_cpu_ns;
    measure_pause(SETTLE_NS);
    if (target->pid != 0)
        measure->server_cpu_ns = process_cpu_ns(target->pid) - measure->server_cpu_ns;
}

void measure_pause(uint64_t ns) {
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

    nanosleep(&time, NULL);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double measure_median(double *values, size_t count) {
    if (count == 0)
        return 0;
    qsort(values, count, sizeof values[0], compare);
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
