/* Looking a name up within a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include "app/resolve.h"

static void addresses_and_known_names_resolve(void **state) {
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    const struct patience patience = patience_for(20000, -1);
    struct error error;

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        if (!resolve_in_time(hosts[i], &patience, &error))
            fail_msg("%s: %s", hosts[i], error.text);
}

static void an_unknown_name_is_refused_in_words(void **state) {
    const struct patience patience = patience_for(20000, -1);
    struct error error = {0};

    (void)state;
    assert_false(resolve_in_time("no-such-host.invalid", &patience, &error));
    assert_true(error.text[0] != '\0');
}

static void nobody_is_waited_for_when_it_is_time_to_stop(void **state) {
    int stop_fd = eventfd(1, EFD_CLOEXEC);
    const struct patience patience = patience_for(20000, stop_fd);
    struct error error = {0};

    (void)state;
    assert_false(resolve_in_time("localhost", &patience, &error));
    assert_string_equal(error.text, "looking the name up: stopped");
    close(stop_fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_and_known_names_resolve),
        cmocka_unit_test(an_unknown_name_is_refused_in_words),
        cmocka_unit_test(nobody_is_waited_for_when_it_is_time_to_stop),
    };

    return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
