/* Failures to create workers: everything is released, and the error names the worker and the reason. The CPU time of a
 * turn is counted, and no time in which the thread sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"
#include "net/worker_loop.h"

static unsigned open_files(void) {
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* Allows the process to open `more` further files. */
static void allow_files(unsigned more, struct rlimit *before) {
    struct rlimit limit;
    int next = dup(0);

    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
    limit = (struct rlimit){.rlim_cur = (rlim_t)next + more, .rlim_max = before->rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void without_files_for_all_none_is_left_open(void **state) {
    unsigned before = open_files();

    (void)state;
    for (unsigned more = 0; more < 6; more++) { /* a worker needs two */
        struct workers workers;
        struct rlimit limit;
        struct error error;
        bool created;

        allow_files(more, &limit);
        created = workers_create(&workers, 3, &error);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_false(created);
        assert_int_equal(workers.count, more / 2);
        assert_non_null(strstr(error.text, "of 3 could not be created: Too many open files"));
        workers_destroy(&workers);
        assert_int_equal(open_files(), before);
    }
}

static void more_workers_than_there_can_be_are_refused(void **state) {
    struct workers workers;
    struct error error;

    (void)state;
    assert_false(workers_create(&workers, WORKERS_MAX + 1, &error));
    assert_string_equal(error.text, "65 workers are too many: there can be 64");
    workers_destroy(&workers);
}

static void without_a_thread_there_is_nobody_to_wait_for(void **state) {
    struct workers workers;
    struct error error;

    (void)state;
    assert_true(workers_create(&workers, 2, &error));
    harness_fail_threads(1);
    assert_false(workers_start(&workers, &error));
    assert_int_equal(workers.started, 0);
    assert_non_null(strstr(error.text, "worker-0 could not be started"));
    workers_join(&workers);
    workers_destroy(&workers);
}

static void stop_loop(struct worker *worker, void *context) {
    (void)context;
    worker_stop(worker);
}

static void a_join_that_gives_up_leaves_the_workers_running(void **state) {
    struct workers workers;
    struct error error;

    (void)state;
    assert_true(workers_create(&workers, 2, &error));
    assert_true(workers_start(&workers, &error));
    assert_false(workers_join_within(&workers, 10));
    assert_int_equal(workers.started, 2);
    workers_run_on_all(&workers, &(struct worker_task){.run = stop_loop});
    assert_true(workers_join_within(&workers, 600000));
    assert_int_equal(workers.started, 0);
    workers_destroy(&workers);
}

#define BUSY_US 20000
#define ASLEEP_US 500000

static void use_cpu(struct worker *worker, void *context) {
    uint64_t begin_ns = clock_thread_cpu_ns();

    (void)worker;
    (void)context;
    while (clock_thread_cpu_ns() - begin_ns < BUSY_US * UINT64_C(1000))
        ;
    usleep(ASLEEP_US);
}

static void the_cpu_time_of_the_longest_turn_is_counted(void **state) {
    struct workers workers;
    struct error error;

    (void)state;
    assert_true(workers_create(&workers, 1, &error));
    workers_run_on_all(&workers, &(struct worker_task){.run = use_cpu});
    workers_run_on_all(&workers, &(struct worker_task){.run = stop_loop});
    assert_true(workers_start(&workers, &error));
    assert_true(workers_join_within(&workers, 600000));
    assert_true(counter_read(&workers.list[0]->counters.cpu_max_us) >= BUSY_US);
    assert_true(counter_read(&workers.list[0]->counters.cpu_max_us) < BUSY_US + ASLEEP_US);
    assert_true(counter_read(&workers.list[0]->counters.lag_max_us) >= BUSY_US + ASLEEP_US);
    workers_destroy(&workers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_files_for_all_none_is_left_open),
        cmocka_unit_test(more_workers_than_there_can_be_are_refused),
        cmocka_unit_test(without_a_thread_there_is_nobody_to_wait_for),
        cmocka_unit_test(a_join_that_gives_up_leaves_the_workers_running),
        cmocka_unit_test(the_cpu_time_of_the_longest_turn_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
