/* The line of the log that says that there is no room for what clients ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/memory_limit.h"

#define MB UINT64_C(1048576)

static void refusals_are_told_with_their_kinds_at_most_every_ten_seconds(void **state) {
    struct memory_refusals refusals = {0};
    char text[MEMORY_REFUSALS_TEXT] = "";
    uint64_t now_ms = 5000;

    (void)state;
    budget_set_limit(100 * MB);
    assert_false(memory_refusals_due(&refusals, now_ms, text));
    assert_true(budget_take(BUDGET_BODIES, NULL, 25 * MB));
    assert_false(budget_take(BUDGET_BODIES, NULL, 1));
    assert_false(budget_take(BUDGET_CHANNELS, NULL, 90 * MB));
    assert_false(budget_take(BUDGET_BODIES, NULL, 1));
    assert_true(memory_refusals_due(&refusals, now_ms, text));
    assert_string_equal(text,
                        "no room for what clients ask for: 3 times since the last such line (bodies 2, channels 1); "
                        "25 of 100 MB are held (memory.limit_mb)");
    assert_false(memory_refusals_due(&refusals, now_ms + 60000, text));

    now_ms += 60000;
    for (unsigned second = 0; second < 20; second++) {
        assert_false(budget_take(BUDGET_BODIES, NULL, 1));
        assert_int_equal(memory_refusals_due(&refusals, now_ms + second * 1000, text), second % 10 == 0);
    }
    assert_string_equal(text,
                        "no room for what clients ask for: 10 times since the last such line (bodies 10); 25 of 100 "
                        "MB are held (memory.limit_mb)");
    budget_give(BUDGET_BODIES, NULL, 25 * MB);
    budget_set_limit(0);
}

static void many_refusals_of_all_kinds_fit_the_line(void **state) {
    struct memory_refusals refusals = {0};
    char text[MEMORY_REFUSALS_TEXT];

    (void)state;
    for (enum budget_kind kind = 0; kind < BUDGET_KIND_COUNT; kind++)
        refusals.told[kind] = budget_refusals(kind) + 1; /* as if the counter had gone around: the largest number */
    assert_true(memory_refusals_due(&refusals, 0, text));
    assert_non_null(strstr(text, "cluster 18446744073709551615); "));
    assert_non_null(strstr(text, "(memory.limit_mb)"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_are_told_with_their_kinds_at_most_every_ten_seconds),
        cmocka_unit_test(many_refusals_of_all_kinds_fit_the_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
