/* Threads, waits on the monotonic clock, and back-off pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/thread.h"
#include "harness.h"

#define LONG_NS (UINT64_C(600) * 1000000000)
#define SHORT_NS (UINT64_C(20) * 1000000)

struct seen {
    sigset_t blocked;
};

static void *note_thread(void *context) {
    struct seen *seen = context;

    pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
    return NULL;
}

static void a_thread_blocks_signals_and_its_starter_keeps_its_mask(void **state) {
    struct seen seen;
    struct error error;
    sigset_t own;
    pthread_t thread;

    (void)state;
    assert_true(thread_start(&thread, "noting", note_thread, &seen, &error));
    assert_true(thread_join_until(thread, clock_monotonic_ns() + LONG_NS));
    assert_true(sigismember(&seen.blocked, SIGTERM) && sigismember(&seen.blocked, SIGHUP));
    pthread_sigmask(SIG_SETMASK, NULL, &own);
    assert_false(sigismember(&own, SIGTERM));
}

static void a_thread_that_cannot_be_started_is_named_with_the_reason(void **state) {
    struct error error;
    pthread_t thread;

    (void)state;
    harness_fail_threads(2);
    assert_false(thread_start(&thread, "noting", note_thread, NULL, &error));
    assert_non_null(strstr(error.text, "noting"));
    assert_non_null(strstr(error.text, strerror(EAGAIN)));
    assert_false(thread_start_detached("noting", note_thread, NULL, &error));
    assert_non_null(strstr(error.text, strerror(EAGAIN)));
}

static void *wait_for_event(void *context) {
    uint64_t ignored;

    return read(*(int *)context, &ignored, sizeof ignored) > 0 ? context : NULL;
}

static void joining_gives_up_in_time_and_can_be_tried_again(void **state) {
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t began_ns = clock_monotonic_ns();
    struct error error;
    pthread_t thread;

    (void)state;
    assert_true(thread_start(&thread, "waiting", wait_for_event, &fd, &error));
    assert_false(thread_join_until(thread, began_ns + SHORT_NS));
    assert_true(clock_monotonic_ns() >= began_ns + SHORT_NS);
    eventfd_write(fd, 1);
    assert_true(thread_join_until(thread, clock_monotonic_ns() + LONG_NS));
    close(fd);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition;
static bool ready;

static void *signal_condition(void *context) {
    (void)context;
    pthread_mutex_lock(&mutex);
    ready = true;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void a_condition_is_waited_for_until_a_monotonic_time(void **state) {
    uint64_t began_ns = clock_monotonic_ns();
    struct error error;
    pthread_t thread;

    (void)state;
    condition_init(&condition);
    pthread_mutex_lock(&mutex);
    while (condition_wait_until(&condition, &mutex, began_ns + SHORT_NS))
        continue;
    assert_true(clock_monotonic_ns() >= began_ns + SHORT_NS);
    assert_true(thread_start(&thread, "signalling", signal_condition, NULL, &error));
    while (!ready)
        assert_true(condition_wait_until(&condition, &mutex, clock_monotonic_ns() + LONG_NS));
    pthread_mutex_unlock(&mutex);
    assert_true(thread_join_until(thread, clock_monotonic_ns() + LONG_NS));
    pthread_cond_destroy(&condition);
}

static void a_back_off_doubles_up_to_its_last_pause(void **state) {
    static const uint32_t expected[] = {50, 100, 200, 400, 700, 700};
    uint32_t pause_ms = 0;

    (void)state;
    for (unsigned i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        pause_ms = backoff_next_ms(pause_ms, 50, 700);
        assert_int_equal(pause_ms, expected[i]);
    }
    assert_int_equal(backoff_next_ms(UINT32_MAX, 50, UINT32_MAX), UINT32_MAX);
    for (unsigned i = 0; i < 100; i++)
        assert_in_range(backoff_spread_ms(100), 50, 100);
    assert_in_range(backoff_spread_ms(1), 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_blocks_signals_and_its_starter_keeps_its_mask),
        cmocka_unit_test(a_thread_that_cannot_be_started_is_named_with_the_reason),
        cmocka_unit_test(joining_gives_up_in_time_and_can_be_tried_again),
        cmocka_unit_test(a_condition_is_waited_for_until_a_monotonic_time),
        cmocka_unit_test(a_back_off_doubles_up_to_its_last_pause),
    };

    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
