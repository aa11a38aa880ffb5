/*
 * usage: curlew-bench-rates
 *
 * Cost of a check of a rate limit: a token that is taken from a bucket, or refused. Over the buckets of 10,000 apps, on
 * one bucket, and by two threads at once, with one bucket for both and with one for each. The time is not read: workers
 * use that of the turn. Exit code: 1 if the goal was missed.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/token_bucket.h"

#define BUCKETS 10000
#define CHECKS 2000000
#define ROUNDS 15
#define GOAL_NS 50

/* As far from each other as the buckets of two apps. */
struct app_bucket {
    _Alignas(CACHE_LINE) struct token_bucket bucket;
};

struct measured_thread {
    pthread_t thread;
    unsigned cpu, first, count;
    struct token_rate rate;
    double ns;
};

static struct app_bucket *buckets;
static pthread_barrier_t barrier;

static uint64_t thread_cpu_ns(void) {
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * SECOND_IN_NS + (uint64_t)time.tv_nsec;
}

static void *run_checks(void *context) {
    struct measured_thread *measured = context;
    uint64_t seed = 88172645463325252u + measured->cpu, now_ns = SECOND_IN_NS, start_ns;
    unsigned granted = 0;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(measured->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    pthread_barrier_wait(&barrier);
    start_ns = thread_cpu_ns();
    for (unsigned i = 0; i < CHECKS; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        now_ns += 100;
        granted +=
            token_bucket_take(&buckets[measured->first + seed % measured->count].bucket, measured->rate, 1, now_ns);
    }
    measured->ns = (double)(thread_cpu_ns() - start_ns) / CHECKS;
    if (granted == 0)
        exit(2); /* and the loop is not optimised away */
    return NULL;
}

/* Returns the CPU time of a check in ns, as the mean of the threads. `distance` is that of their first buckets. */
static double measure_checks(unsigned threads, unsigned count, unsigned distance, uint32_t limit) {
    struct measured_thread measured[2];
    double sum = 0;

    for (unsigned i = 0; i < BUCKETS; i++)
        buckets[i].bucket = (struct token_bucket){0};
    pthread_barrier_init(&barrier, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        measured[i] = (struct measured_thread){.cpu = i, .first = i * distance, .count = count, .rate = {limit, 1}};
        if (pthread_create(&measured[i].thread, NULL, run_checks, &measured[i]) != 0)
            exit(2);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(measured[i].thread, NULL);
        sum += measured[i].ns;
    }
    pthread_barrier_destroy(&barrier);
    return sum / threads;
}

static int compare_values(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(void) {
    static const struct {
        const char *what;
        unsigned threads, count, distance;
        uint32_t limit;
        bool judged;
    } kinds[] = {
        {"10,000 apps, granted", 1, BUCKETS, 0, 100000000, true},
        {"the same app, granted", 1, 1, 0, 100000000, true},
        {"the same app, refused", 1, 1, 0, 100, true},
        {"two threads, each its own app", 2, 1, 1, 100000000, true},
        {"two threads, the same app", 2, 1, 0, 100000000, false},
    };
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    double ns[KINDS][ROUNDS];
    bool missed = false;

    buckets = alloc_cache_line(BUCKETS * sizeof buckets[0]);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned kind = 0; kind < KINDS; kind++)
            ns[kind][round] =
                measure_checks(kinds[kind].threads, kinds[kind].count, kinds[kind].distance, kinds[kind].limit);
    printf("CPU time of a check of a rate limit, median of %d rounds:\n", ROUNDS);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        double median;
        qsort(ns[kind], ROUNDS, sizeof ns[kind][0], compare_values);
        median = ns[kind][ROUNDS / 2];
        printf("  %-30s %6.1f ns", kinds[kind].what, median);
        if (kinds[kind].judged)
            printf(" (goal: under %d ns)%s", GOAL_NS, median < GOAL_NS ? "" : "  MISSED");
        printf("\n");
        missed |= kinds[kind].judged && median >= GOAL_NS;
    }
    free(buckets);
    return missed;
}
