/* Core dumps are forbidden and allowed again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/core_dump.h"

static void nothing_is_dumped_until_it_is_allowed_again(void **state) {
    struct rlimit before, now;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_CORE, &before), 0);
    before.rlim_cur = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_CORE, &before), 0);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
    core_dump_forbid();
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    assert_int_equal(getrlimit(RLIMIT_CORE, &now), 0);
    assert_int_equal(now.rlim_cur, 0);
    assert_int_equal(now.rlim_max, before.rlim_max);
    core_dump_allow();
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
    assert_int_equal(getrlimit(RLIMIT_CORE, &now), 0);
    assert_int_equal(now.rlim_cur, before.rlim_cur);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_dumped_until_it_is_allowed_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
