/* The pool of connections to a store: what is done when, on how many connections, and what happens when they break. The
 * store is a SQLite file; the operations are the test's, so that it decides how long they take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app_manager/store_pool.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/deadline.h"
#include "base/log.h"
#include "config/config.h"
#include "fake_store.h"
#include "harness.h"
#include "store/drivers.h"

#define TIMEOUT_MS 120000
#define ATTEMPTS_MAX 64

static char folder[64], path[96];
static struct config config;
static struct app_defaults defaults;
static struct store_pool_settings settings;
static struct store_pool *pool;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static unsigned running, most_running, finished_count, attempts, preparing;
static uint64_t attempted_ns[ATTEMPTS_MAX];

/* An operation of the test. */
struct step {
    struct store_operation operation;
    bool gated;        /* waits for the gate */
    unsigned failures; /* so many times the store cannot be reached */
    unsigned runs, finished, order;
    enum store_answer answer;
    struct error error;
};

static enum store_answer run(struct store_operation *operation, struct store_connection *connection,
                             struct error *error) {
    struct step *step = container_of(operation, struct step, operation);
    bool fails;

    pthread_mutex_lock(&mutex);
    step->runs++;
    if (++running > most_running)
        most_running = running;
    pthread_cond_broadcast(&moved);
    while (step->gated && !gate_open)
        pthread_cond_wait(&moved, &mutex);
    running--;
    fails = step->failures != 0;
    step->failures -= fails;
    pthread_mutex_unlock(&mutex);
    if (fails) {
        error_set(error, "the test says so");
        return STORE_UNAVAILABLE;
    }
    return store_check_health(connection, error);
}

static void finished(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct step *step = container_of(operation, struct step, operation);

    pthread_mutex_lock(&mutex);
    step->finished++;
    step->answer = answer;
    step->error = *error;
    step->order = ++finished_count;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&mutex);
}

static void unreachable(void *context, const struct error *error) {
    (void)context;
    (void)error;
    pthread_mutex_lock(&mutex);
    if (attempts < ATTEMPTS_MAX)
        attempted_ns[attempts++] = clock_monotonic_ns();
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&mutex);
}

static void start(unsigned min, unsigned max) {
    settings.min = min;
    settings.max = max;
    pool = store_pool_create(&settings);
    store_pool_start(pool);
}

static void submit(struct step *step, enum store_priority priority, uint32_t timeout_ms) {
    step->operation.priority = priority;
    step->operation.run = run;
    step->operation.finished = finished;
    store_pool_submit(pool, &step->operation, timeout_ms);
}

static void await(const unsigned *count, unsigned least) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TIMEOUT_MS / 1000;
    pthread_mutex_lock(&mutex);
    while (*count < least)
        if (pthread_cond_timedwait(&moved, &mutex, &until) != 0)
            fail_msg("%u of %u", *count, least);
    pthread_mutex_unlock(&mutex);
}

static void open_gate(void) {
    pthread_mutex_lock(&mutex);
    gate_open = true;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&mutex);
}

static struct store_pool_stats stats(void) {
    struct store_pool_stats result;

    store_pool_read_stats(pool, &result);
    return result;
}

static void await_connections(unsigned count) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;

    while (stats().connections != count) {
        if (clock_monotonic_ms() > end_ms)
            fail_msg("there are %u connections, not %u", stats().connections, count);
        poll(NULL, 0, 2);
    }
}

static uint64_t in_histogram(void) {
    struct store_pool_stats now = stats();
    uint64_t sum = 0;

    for (unsigned i = 0; i < STORE_LATENCY_BUCKETS; i++)
        sum += now.latency[i];
    return sum;
}

static int set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR};
    struct error error;

    (void)state;
    log_configure(&quiet);
    snprintf(folder, sizeof folder, "/tmp/curlew-pool-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/apps.db", folder);
    config = (struct config){0};
    config.database.sqlite.path = path;
    gate_open = false;
    running = most_running = finished_count = attempts = preparing = 0;
    settings = (struct store_pool_settings){.store = store_open(&sqlite_store_driver, &config, &defaults, &error),
                                            .timeout_ms = TIMEOUT_MS,
                                            .idle_ms = 60000,
                                            .unreachable = unreachable};
    pool = NULL;
    return 0;
}

static int tear_down(void **state) {
    char command[128];

    (void)state;
    open_gate();
    store_pool_stop(pool);
    store_pool_destroy(pool);
    store_close(settings.store);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* --- how many connections --- */

static void the_least_is_open_before_anybody_asks(void **state) {
    (void)state;
    start(3, 5);
    await_connections(3);
}

static void there_are_never_more_than_the_most(void **state) {
    static struct step steps[50];

    (void)state;
    memset(steps, 0, sizeof steps);
    start(1, 3);
    for (unsigned i = 0; i < 50; i++) {
        steps[i].gated = true;
        submit(&steps[i], STORE_KNOWN, 0);
    }
    await(&running, 3);
    assert_int_equal(stats().connections, 3);
    assert_int_equal(stats().busy, 3);
    assert_int_equal(stats().waiting[STORE_KNOWN], 47);
    open_gate();
    await(&finished_count, 50);
    assert_int_equal(most_running, 3);
    assert_true(stats().connections <= 3);
    assert_int_equal(in_histogram(), 50);
}

static void idle_ones_above_the_least_are_closed(void **state) {
    struct step steps[4] = {0};

    (void)state;
    settings.idle_ms = 20;
    start(1, 4);
    for (unsigned i = 0; i < 4; i++) {
        steps[i].gated = true;
        submit(&steps[i], STORE_KNOWN, 0);
    }
    await(&running, 4);
    assert_int_equal(stats().connections, 4);
    open_gate();
    await(&finished_count, 4);
    await_connections(1);
}

static void the_least_is_there_again_after_all_have_broken(void **state) {
    struct step steps[4] = {0};

    (void)state;
    start(2, 4);
    for (unsigned i = 0; i < 4; i++) {
        steps[i].gated = true;
        steps[i].failures = 1;
        submit(&steps[i], STORE_URGENT, 0);
    }
    await(&running, 4);
    open_gate();
    await(&finished_count, 4);
    await_connections(2);
}

/* --- what is done first, and what not --- */

static void urgent_ones_go_first_then_known_then_unknown(void **state) {
    static const enum store_priority priorities[] = {STORE_UNKNOWN, STORE_KNOWN,  STORE_URGENT,
                                                     STORE_UNKNOWN, STORE_URGENT, STORE_KNOWN};
    static const unsigned order[] = {6, 4, 2, 7, 3, 5}; /* behind the one that holds the connection */
    struct step holds = {.gated = true}, steps[6] = {0};

    (void)state;
    start(1, 1);
    submit(&holds, STORE_UNKNOWN, 0);
    await(&running, 1);
    for (unsigned i = 0; i < 6; i++)
        submit(&steps[i], priorities[i], 0);
    open_gate();
    await(&finished_count, 7);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(steps[i].order, order[i]);
}

static void what_waits_beyond_its_time_is_not_done_and_counts_as_slow(void **state) {
    struct step holds = {.gated = true}, waits = {0}, other = {0};

    (void)state;
    start(1, 1);
    submit(&holds, STORE_KNOWN, 0);
    await(&running, 1);
    submit(&waits, STORE_URGENT, 30);
    submit(&other, STORE_KNOWN, 0);
    while (stats().waiting[STORE_URGENT] != 0) {
        store_pool_expire(pool);
        poll(NULL, 0, 1);
    }
    assert_int_equal(waits.finished, 1);
    assert_int_equal(waits.answer, STORE_UNAVAILABLE);
    assert_string_equal(waits.error.text, "no connection to the store was free in time");
    assert_int_equal(stats().failures, 1);
    assert_int_equal(in_histogram(), 1);
    assert_true(stats().latency_sum_us >= 30000);
    open_gate();
    await(&finished_count, 3);
    assert_int_equal(waits.runs, 0);
    assert_int_equal(other.answer, STORE_OK);
    assert_int_equal(in_histogram(), 3);
}

static void what_comes_to_a_connection_too_late_is_not_done(void **state) {
    struct step holds = {.gated = true}, waits = {0};

    (void)state;
    start(1, 1);
    submit(&holds, STORE_KNOWN, 0);
    await(&running, 1);
    submit(&waits, STORE_KNOWN, 1);
    while (clock_monotonic_ns() <= waits.operation.deadline_ns)
        poll(NULL, 0, 1);
    open_gate();
    await(&finished_count, 2);
    assert_int_equal(waits.runs, 0);
    assert_int_equal(waits.answer, STORE_UNAVAILABLE);
    assert_int_equal(stats().failures, 1);
    assert_int_equal(in_histogram(), 2);
}

static void beyond_a_thousand_unknown_ones_are_rejected_and_others_are_not(void **state) {
    struct step *steps = alloc_array(NULL, STORE_UNKNOWN_WAITING_MAX, sizeof *steps);
    struct step holds = {.gated = true}, beyond = {0}, known = {0}, urgent = {0};

    (void)state;
    memset(steps, 0, STORE_UNKNOWN_WAITING_MAX * sizeof *steps);
    start(1, 1);
    submit(&holds, STORE_KNOWN, 0);
    await(&running, 1);
    for (unsigned i = 0; i < STORE_UNKNOWN_WAITING_MAX; i++)
        submit(&steps[i], STORE_UNKNOWN, 0);
    assert_int_equal(finished_count, 0);
    submit(&beyond, STORE_UNKNOWN, 0);
    assert_int_equal(beyond.finished, 1);
    assert_int_equal(beyond.answer, STORE_UNAVAILABLE);
    assert_string_equal(beyond.error.text, "1000 lookups wait already");
    assert_int_equal(stats().rejected, 1);
    submit(&known, STORE_KNOWN, 0);
    submit(&urgent, STORE_URGENT, 0);
    open_gate();
    await(&finished_count, STORE_UNKNOWN_WAITING_MAX + 4);
    assert_int_equal(known.answer, STORE_OK);
    assert_int_equal(urgent.answer, STORE_OK);
    assert_int_equal(steps[STORE_UNKNOWN_WAITING_MAX - 1].answer, STORE_OK);
    free(steps);
}

static void nobody_waits_longer_than_his_time_for_a_store_that_is_being_prepared(void **state) {
    struct step step = {0};
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;
    sqlite3 *other;

    (void)state;
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN EXCLUSIVE; CREATE TABLE mine (a)", NULL, NULL, NULL), SQLITE_OK);
    start(1, 1);
    submit(&step, STORE_URGENT, 50);
    while (step.finished == 0 && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 1);
        store_pool_expire(pool);
    }
    assert_int_equal(step.finished, 1);
    assert_int_equal(step.answer, STORE_UNAVAILABLE);
    assert_string_equal(step.error.text, "the store is still being prepared");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    await_connections(1);
    step = (struct step){0};
    submit(&step, STORE_URGENT, 0);
    await(&finished_count, 2);
    assert_int_equal(step.answer, STORE_OK);
}

/* --- a store that takes long to prepare --- */

static void prepare_until_gate_opens(void) {
    pthread_mutex_lock(&mutex);
    preparing++;
    pthread_cond_broadcast(&moved);
    while (!gate_open)
        pthread_cond_wait(&moved, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void use_fake_driver(void) {
    struct error error;

    store_close(settings.store);
    fake_store_reset();
    settings.store = store_open(&fake_store_driver, &config, &defaults, &error);
}

/* The other threads' time to connect ends before the first one has prepared the store. */
static void what_waits_while_a_slow_store_is_prepared_is_done_when_it_is(void **state) {
    static struct step steps[20];

    (void)state;
    use_fake_driver();
    fake_store.prepare = prepare_until_gate_opens;
    settings.timeout_ms = 1;
    for (unsigned round = 1; round <= 20; round++) {
        memset(steps, 0, sizeof steps);
        gate_open = false;
        finished_count = 0;
        start(8, 8);
        await(&preparing, round);
        for (unsigned i = 0; i < 20; i++)
            submit(&steps[i], STORE_KNOWN, TIMEOUT_MS);
        poll(NULL, 0, 5);
        open_gate();
        await(&finished_count, 20);
        for (unsigned i = 0; i < 20; i++)
            assert_int_equal(steps[i].answer, STORE_OK);
        assert_int_equal(attempts, 0); /* it was never said to be unreachable */
        if (round < 20) {
            store_pool_stop(pool);
            store_pool_destroy(pool);
        }
    }
}

/* --- connections that break --- */

/* By a copy of it. */
static void replace_the_file(void) {
    char command[320];

    snprintf(command, sizeof command, "cd %s && cp apps.db other.db && mv other.db apps.db", folder);
    assert_int_equal(system(command), 0);
}

static void a_read_on_a_connection_that_broke_is_done_again_on_a_new_one(void **state) {
    struct step first = {.operation.repeatable = true}, again = {.failures = 1, .operation.repeatable = true},
                twice = {.failures = 2, .operation.repeatable = true};

    (void)state;
    start(1, 1);
    submit(&first, STORE_KNOWN, 0);
    await(&finished_count, 1);
    submit(&again, STORE_KNOWN, 0);
    await(&finished_count, 2);
    assert_int_equal(again.runs, 2);
    assert_int_equal(again.answer, STORE_OK);
    submit(&twice, STORE_KNOWN, 0); /* once more, and no more */
    await(&finished_count, 3);
    assert_int_equal(twice.runs, 2);
    assert_int_equal(twice.answer, STORE_UNAVAILABLE);
}

static void a_read_that_fails_on_a_new_connection_is_not_done_again(void **state) {
    struct step breaks = {.failures = 1}, read = {.failures = 1, .operation.repeatable = true};

    (void)state;
    start(0, 1);
    submit(&breaks, STORE_KNOWN, 0);
    await(&finished_count, 1);
    assert_int_equal(stats().connections, 0);
    submit(&read, STORE_KNOWN, 0);
    await(&finished_count, 2);
    assert_int_equal(read.runs, 1);
    assert_int_equal(read.answer, STORE_UNAVAILABLE);
}

static void a_write_is_never_repeated_and_not_tried_on_a_connection_that_is_dead(void **state) {
    struct step first = {0}, unsure = {.failures = 1}, write = {0};

    (void)state;
    start(1, 1);
    submit(&first, STORE_URGENT, 0);
    await(&finished_count, 1);
    submit(&unsure, STORE_URGENT, 0);
    await(&finished_count, 2);
    assert_int_equal(unsure.runs, 1);
    assert_int_equal(unsure.answer, STORE_UNAVAILABLE);
    await_connections(1);
    replace_the_file();
    submit(&write, STORE_URGENT, 0);
    await(&finished_count, 3);
    assert_int_equal(write.runs, 1);
    assert_int_equal(write.answer, STORE_OK);
}

static void attempts_to_connect_back_off_and_operations_fail_meanwhile_with_the_reason(void **state) {
    static const unsigned gaps_ms[] = {100, 200, 400, 800};
    struct step fails = {0}, works = {0};

    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    start(1, 1);
    await(&attempts, 1);
    submit(&fails, STORE_KNOWN, 0);
    await(&finished_count, 1);
    assert_int_equal(fails.answer, STORE_UNAVAILABLE);
    assert_int_equal(fails.runs, 0);
    assert_non_null(strstr(fails.error.text, "unable to open database file"));
    assert_int_equal(stats().failures, 1);
    await(&attempts, 5);
    for (unsigned i = 0; i < 4; i++)
        assert_true(attempted_ns[i + 1] - attempted_ns[i] >= gaps_ms[i] * UINT64_C(1000000));
    assert_int_equal(rmdir(path), 0);
    await_connections(1);
    submit(&works, STORE_KNOWN, 0);
    await(&finished_count, 2);
    assert_int_equal(works.answer, STORE_OK);
}

/* --- a system that has no thread left --- */

static void without_any_thread_operations_fail_at_once_and_work_again_when_one_can_be_started(void **state) {
    struct step step = {0}, again = {0};

    (void)state;
    harness_fail_threads(2);
    start(1, 1);
    submit(&step, STORE_KNOWN, 0);
    assert_int_equal(step.finished, 1);
    assert_int_equal(step.answer, STORE_UNAVAILABLE);
    assert_non_null(strstr(step.error.text, "the thread curlew-store could not be started"));
    assert_int_equal(stats().failures, 1);
    submit(&again, STORE_KNOWN, 0);
    await(&finished_count, 2);
    assert_int_equal(again.answer, STORE_OK);
}

static void a_pool_that_gets_fewer_threads_than_it_wants_works_with_those(void **state) {
    struct step holds = {.gated = true}, waits = {0};

    (void)state;
    start(1, 2);
    harness_fail_threads(1000);
    submit(&holds, STORE_KNOWN, 0);
    await(&running, 1);
    submit(&waits, STORE_KNOWN, 0);
    harness_fail_threads(0);
    assert_int_equal(waits.finished, 0);
    open_gate();
    await(&finished_count, 2);
    assert_int_equal(waits.answer, STORE_OK);
}

/* --- the end --- */

static void *stop(void *context) {
    (void)context;
    store_pool_stop(pool);
    return NULL;
}

/* Waits for longer than any test may take. */
static enum store_answer hang(struct store_operation *operation, struct store_connection *connection,
                              struct error *error) {
    (void)operation;
    pthread_mutex_lock(&mutex);
    running++;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&mutex);
    deadline_wait_or_fail(&connection->deadline, -1, 0, error);
    return STORE_UNAVAILABLE;
}

static void the_end_does_not_wait_for_what_hangs(void **state) {
    struct step steps[7] = {0}, late = {0};
    pthread_t thread;

    (void)state;
    settings.timeout_ms = 3600000;
    start(2, 2);
    for (unsigned i = 0; i < 7; i++) {
        steps[i].operation = (struct store_operation){.repeatable = true, .run = hang, .finished = finished};
        steps[i].operation.priority = STORE_KNOWN;
        store_pool_submit(pool, &steps[i].operation, 0);
    }
    await(&running, 2);
    assert_int_equal(pthread_create(&thread, NULL, stop, NULL), 0);
    await(&finished_count, 7);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(steps[i].finished, 1);
        assert_int_equal(steps[i].answer, STORE_UNAVAILABLE);
    }
    assert_int_equal(stats().connections, 0);
    submit(&late, STORE_URGENT, 0);
    assert_int_equal(late.finished, 1);
    assert_string_equal(late.error.text, "the server stops");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_least_is_open_before_anybody_asks),
        TEST(there_are_never_more_than_the_most),
        TEST(idle_ones_above_the_least_are_closed),
        TEST(the_least_is_there_again_after_all_have_broken),
        TEST(urgent_ones_go_first_then_known_then_unknown),
        TEST(what_waits_beyond_its_time_is_not_done_and_counts_as_slow),
        TEST(what_comes_to_a_connection_too_late_is_not_done),
        TEST(beyond_a_thousand_unknown_ones_are_rejected_and_others_are_not),
        TEST(nobody_waits_longer_than_his_time_for_a_store_that_is_being_prepared),
        TEST(what_waits_while_a_slow_store_is_prepared_is_done_when_it_is),
        TEST(a_read_on_a_connection_that_broke_is_done_again_on_a_new_one),
        TEST(a_read_that_fails_on_a_new_connection_is_not_done_again),
        TEST(a_write_is_never_repeated_and_not_tried_on_a_connection_that_is_dead),
        TEST(attempts_to_connect_back_off_and_operations_fail_meanwhile_with_the_reason),
        TEST(without_any_thread_operations_fail_at_once_and_work_again_when_one_can_be_started),
        TEST(a_pool_that_gets_fewer_threads_than_it_wants_works_with_those),
        TEST(the_end_does_not_wait_for_what_hangs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
