/* Words that were probably meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/near_miss.h"

static void the_nearest_word_is_meant_if_it_is_near(void **state) {
    static const char *const words[] = {
        "memory", "mysql", "postgres", "port", "host", "max_connections", "max_backend_events_per_second"};
    static const struct {
        const char *word, *meant;
    } cases[] = {
        {"prot", "port"},
        {"hots", "host"},
        {"Port", "port"},
        {"postgress", "postgres"},
        {"postgers", "postgres"},
        {"mysq", "mysql"},
        {"redis", ""},
        {"po", ""},
        {"ports", "port"},
        {"max-conections", "max_connections"},
        {"maxconection", "max_connections"},
        {"maxconect", ""},
        {"maxBackendEventsPerSecond", "max_backend_events_per_second"},
        {"MAX-BACKEND-EVENT-PER-SECONDS", "max_backend_events_per_second"},
        {"_", ""},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct near_miss miss = near_miss_of(slice_of(cases[i].word));

        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++)
            near_miss_offer(&miss, slice_of(words[k]));
        if (!slice_equal(miss.best, slice_of(cases[i].meant)))
            fail_msg("%s: %.*s", cases[i].word, SLICE_ARGS(miss.best));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_word_is_meant_if_it_is_near),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
