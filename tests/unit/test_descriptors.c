/* The bounds on descriptors: how many are kept for API requests, for operators and for the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "net/descriptors.h"

static struct descriptor_bounds bounds;

static void apply(unsigned workers, unsigned process, uint64_t limit) {
    descriptors_init(&bounds, workers);
    bounds.process = process;
    descriptors_apply_limit(&bounds, limit);
}

static void assert_bounds(int websockets, int requests, int operators) {
    assert_int_equal(atomic_load(&bounds.websockets), websockets);
    assert_int_equal(atomic_load(&bounds.requests), requests);
    assert_int_equal(atomic_load(&bounds.operators), operators);
}

static void nothing_is_bounded_before_the_limit_is_known(void **state) {
    (void)state;
    descriptors_init(&bounds, 1);
    assert_bounds(DESCRIPTORS_NO_BOUND, DESCRIPTORS_NO_BOUND, DESCRIPTORS_NO_BOUND);
    apply(2, 46, RLIM_INFINITY);
    assert_bounds(DESCRIPTORS_NO_BOUND, DESCRIPTORS_NO_BOUND, DESCRIPTORS_NO_BOUND);
}

static void a_sixteenth_is_kept_for_requests_within_bounds(void **state) {
    (void)state;
    apply(2, 46, 4096);
    assert_bounds(4096 - 46 - 10 - 256, 4096 - 46 - 10, 4096 - 46);
    apply(64, 16, 1 << 20);
    assert_bounds((1 << 20) - 16 - 72 - 1024, (1 << 20) - 16 - 72, (1 << 20) - 16);
    apply(2, 16, 200);
    assert_bounds(200 - 16 - 10 - 16, 200 - 16 - 10, 200 - 16);
}

static void a_small_limit_leaves_half_for_websockets(void **state) {
    (void)state;
    for (unsigned limit = 0; limit < 300; limit++) {
        apply(64, 3016, limit);
        assert_true(atomic_load(&bounds.websockets) >= (int)limit / 2);
        assert_true(atomic_load(&bounds.websockets) <= atomic_load(&bounds.requests));
        assert_true(atomic_load(&bounds.requests) <= atomic_load(&bounds.operators));
        assert_true(atomic_load(&bounds.operators) <= (int)limit);
    }
    apply(2, 46, 64);
    assert_bounds(32, 48, 56);
}

static void the_limit_of_the_process_is_read_again(void **state) {
    struct rlimit limit, changed;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    descriptors_init(&bounds, 2);
    for (rlim_t value = 100; value <= 200; value += 100) {
        changed = limit;
        changed.rlim_cur = value;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &changed), 0);
        descriptors_read_limit(&bounds);
        assert_int_equal(atomic_load(&bounds.operators), value);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_bounded_before_the_limit_is_known),
        cmocka_unit_test(a_sixteenth_is_kept_for_requests_within_bounds),
        cmocka_unit_test(a_small_limit_leaves_half_for_websockets),
        cmocka_unit_test(the_limit_of_the_process_is_read_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
