/* When memory is given back after a peak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory_trim.h"

#define MB (UINT64_C(1024) * 1024)

static void memory_is_given_back_once_when_a_quarter_of_a_peak_is_gone(void **state) {
    struct memory_trim trim = {0};

    (void)state;
    assert_false(memory_trim_look(&trim, 0));
    assert_false(memory_trim_look(&trim, 100 * MB));
    assert_false(memory_trim_look(&trim, 76 * MB));
    assert_true(memory_trim_look(&trim, 75 * MB));
    assert_false(memory_trim_look(&trim, 60 * MB)); /* too little */
    assert_true(memory_trim_look(&trim, 50 * MB));
    assert_true(memory_trim_look(&trim, 0));
}

static void small_peaks_are_left_alone(void **state) {
    struct memory_trim trim = {0};

    (void)state;
    assert_false(memory_trim_look(&trim, MEMORY_TRIM_LEAST_BYTES - 1));
    assert_false(memory_trim_look(&trim, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_given_back_once_when_a_quarter_of_a_peak_is_gone),
        cmocka_unit_test(small_peaks_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
