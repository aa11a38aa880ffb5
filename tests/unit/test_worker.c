/* Failures to create workers: everything is released, and the error names the worker and the reason. */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_files_for_all_none_is_left_open),
        cmocka_unit_test(more_workers_than_there_can_be_are_refused),
        cmocka_unit_test(without_a_thread_there_is_nobody_to_wait_for),
        cmocka_unit_test(a_join_that_gives_up_leaves_the_workers_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
