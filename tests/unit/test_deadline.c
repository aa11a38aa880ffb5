/* How long an operation on a store may take: until its deadline, or until its owner wants the thread back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/deadline.h"

#define LONG_MS 60000 /* nothing here waits for so long */
#define SHORT_MS 20

static int stop_fd, fd;

static int set_up(void **state) {
    (void)state;
    stop_fd = eventfd(0, EFD_CLOEXEC);
    fd = eventfd(0, EFD_CLOEXEC);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    close(stop_fd);
    close(fd);
    return 0;
}

static uint64_t since_ms(uint64_t began_ns) {
    return (clock_monotonic_ns() - began_ns) / 1000000;
}

static void it_ends_at_its_deadline_and_not_before(void **state) {
    uint64_t began_ns = clock_monotonic_ns();
    const struct patience patience = patience_for(SHORT_MS, stop_fd);
    struct error error;

    (void)state;
    assert_int_equal(patience_wait(&patience, fd, POLLIN), PATIENCE_TIMED_OUT);
    assert_true(since_ms(began_ns) >= SHORT_MS);
    assert_true(patience_ended(&patience));
    assert_int_equal(patience_left_ms(&patience), 0);
    assert_false(patience_wait_or_fail(&patience, fd, POLLIN, &error));
    assert_non_null(strstr(error.text, "no answer in time"));
}

/* A wait of no milliseconds for the last of them would be a loop that spins. */
static void what_is_left_of_the_last_millisecond_is_one(void **state) {
    const struct patience patience = patience_for(LONG_MS, -1);

    (void)state;
    assert_int_equal(patience_left_ms(&patience), LONG_MS);
    assert_false(patience_ended(&patience));
}

static void what_is_ready_is_told_at_once(void **state) {
    const struct patience patience = patience_for(LONG_MS, stop_fd);
    struct error error;

    (void)state;
    eventfd_write(fd, 1);
    assert_int_equal(patience_wait(&patience, fd, POLLIN), PATIENCE_READY);
    assert_true(patience_wait_or_fail(&patience, fd, POLLIN, &error));
    assert_false(patience_ended(&patience));
}

static void one_who_never_stops_talking_is_not_listened_to_beyond_the_deadline(void **state) {
    const struct patience patience = patience_for(0, stop_fd);

    (void)state;
    eventfd_write(fd, 1);
    assert_int_equal(patience_wait(&patience, fd, POLLIN), PATIENCE_TIMED_OUT);
}

static void the_owner_ends_it_whatever_is_ready_and_left(void **state) {
    const struct patience patience = patience_for(LONG_MS, stop_fd);
    struct error error;

    (void)state;
    eventfd_write(fd, 1);
    eventfd_write(stop_fd, 1);
    assert_int_equal(patience_wait(&patience, fd, POLLIN), PATIENCE_STOPPED);
    assert_true(patience_ended(&patience));
    assert_false(patience_pause(&patience, LONG_MS));
    assert_false(patience_wait_or_fail(&patience, fd, POLLIN, &error));
    assert_non_null(strstr(error.text, "stopped"));
}

static void a_pause_is_as_long_as_it_says_and_no_longer_than_patience(void **state) {
    const struct patience longer = patience_for(LONG_MS, stop_fd), shorter = patience_for(SHORT_MS, stop_fd);
    uint64_t began_ns = clock_monotonic_ns();

    (void)state;
    assert_true(patience_pause(&longer, SHORT_MS));
    assert_true(since_ms(began_ns) >= SHORT_MS);
    assert_false(patience_pause(&shorter, LONG_MS));
    assert_true(since_ms(began_ns) < LONG_MS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_ends_at_its_deadline_and_not_before),
        TEST(what_is_left_of_the_last_millisecond_is_one),
        TEST(what_is_ready_is_told_at_once),
        TEST(one_who_never_stops_talking_is_not_listened_to_beyond_the_deadline),
        TEST(the_owner_ends_it_whatever_is_ready_and_left),
        TEST(a_pause_is_as_long_as_it_says_and_no_longer_than_patience),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
