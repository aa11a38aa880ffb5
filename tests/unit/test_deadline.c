/* Deadlines of blocking operations: their end, and their cancellation. */
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

#define LONG_MS 60000 /* longer than any wait of these tests */
#define SHORT_MS 20

static int cancel_fd, fd;

static int set_up(void **state) {
    (void)state;
    cancel_fd = eventfd(0, EFD_CLOEXEC);
    fd = eventfd(0, EFD_CLOEXEC);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    close(cancel_fd);
    close(fd);
    return 0;
}

static uint64_t since_ms(uint64_t began_ns) {
    return (clock_monotonic_ns() - began_ns) / 1000000;
}

static void it_ends_at_its_deadline_and_not_before(void **state) {
    uint64_t began_ns = clock_monotonic_ns();
    const struct deadline deadline = deadline_after(SHORT_MS, cancel_fd);
    struct error error;

    (void)state;
    assert_int_equal(deadline_wait(&deadline, fd, POLLIN), WAIT_TIMED_OUT);
    assert_true(since_ms(began_ns) >= SHORT_MS);
    assert_true(deadline_passed(&deadline));
    assert_int_equal(deadline_remaining_ms(&deadline), 0);
    assert_false(deadline_wait_or_fail(&deadline, fd, POLLIN, &error));
    assert_non_null(strstr(error.text, "no answer in time"));
}

/* If the rest of a millisecond were rounded to 0, a waiting loop would spin. */
static void what_is_left_of_the_last_millisecond_is_one(void **state) {
    const struct deadline deadline = deadline_after(SHORT_MS, -1);

    (void)state;
    assert_in_range(deadline_remaining_ms(&deadline), 0, SHORT_MS);
    while (deadline_remaining_ms(&deadline) != 0)
        continue;
    assert_true(clock_monotonic_ns() >= deadline.ends_ns);
    assert_true(deadline_passed(&deadline));
}

static void what_is_ready_is_told_at_once(void **state) {
    const struct deadline deadline = deadline_after(LONG_MS, cancel_fd);
    struct error error;

    (void)state;
    eventfd_write(fd, 1);
    assert_int_equal(deadline_wait(&deadline, fd, POLLIN), WAIT_READY);
    assert_true(deadline_wait_or_fail(&deadline, fd, POLLIN, &error));
    assert_false(deadline_passed(&deadline));
}

static void one_who_never_stops_talking_is_not_listened_to_beyond_the_deadline(void **state) {
    const struct deadline deadline = deadline_after(0, cancel_fd);

    (void)state;
    eventfd_write(fd, 1);
    assert_int_equal(deadline_wait(&deadline, fd, POLLIN), WAIT_TIMED_OUT);
}

static void the_owner_ends_it_whatever_is_ready_and_left(void **state) {
    const struct deadline deadline = deadline_after(LONG_MS, cancel_fd);
    struct error error;

    (void)state;
    eventfd_write(fd, 1);
    eventfd_write(cancel_fd, 1);
    assert_int_equal(deadline_wait(&deadline, fd, POLLIN), WAIT_CANCELLED);
    assert_true(deadline_passed(&deadline));
    assert_false(deadline_sleep(&deadline, LONG_MS));
    assert_false(deadline_wait_or_fail(&deadline, fd, POLLIN, &error));
    assert_non_null(strstr(error.text, "stopped"));
}

static void a_sleep_is_as_long_as_it_says_and_no_longer_than_the_deadline(void **state) {
    const struct deadline longer = deadline_after(LONG_MS, cancel_fd), shorter = deadline_after(SHORT_MS, cancel_fd);
    uint64_t began_ns = clock_monotonic_ns();

    (void)state;
    assert_true(deadline_sleep(&longer, SHORT_MS));
    assert_true(since_ms(began_ns) >= SHORT_MS);
    assert_false(deadline_sleep(&shorter, LONG_MS));
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
        TEST(a_sleep_is_as_long_as_it_says_and_no_longer_than_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
