/* Host name lookups with a deadline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string.h>

#include "base/resolve.h"
#include "harness.h"

static void addresses_and_known_names_resolve(void **state) {
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    const struct deadline deadline = deadline_after(120000, -1);
    struct error error;

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        if (!resolve_in_time(hosts[i], &deadline, &error))
            fail_msg("%s: %s", hosts[i], error.text);
}

static void addresses_bear_the_port(void **state) {
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    const struct deadline deadline = deadline_after(120000, -1);
    struct error error;

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        struct addrinfo *found = resolve_addresses(hosts[i], 9042, &deadline, &error);
        if (found == NULL)
            fail_msg("%s: %s", hosts[i], error.text);
        for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
            const void *port = at->ai_family == AF_INET6 ? &((const struct sockaddr_in6 *)at->ai_addr)->sin6_port
                                                         : &((const struct sockaddr_in *)at->ai_addr)->sin_port;
            assert_memory_equal(port, &(uint16_t){htons(9042)}, sizeof(uint16_t));
            assert_int_equal(at->ai_socktype, SOCK_STREAM);
        }
        freeaddrinfo(found);
    }
}

static void an_unknown_name_is_refused_in_words(void **state) {
    const struct deadline deadline = deadline_after(120000, -1);
    struct error error = {0};

    (void)state;
    assert_false(resolve_in_time("no-such-host.invalid", &deadline, &error));
    assert_true(error.text[0] != '\0');
}

static void nobody_is_waited_for_when_it_is_time_to_stop(void **state) {
    int cancel_fd = eventfd(1, EFD_CLOEXEC);
    const struct deadline deadline = deadline_after(120000, cancel_fd);
    struct error error = {0};

    (void)state;
    assert_false(resolve_in_time("localhost", &deadline, &error));
    assert_string_equal(error.text, "looking the name up: stopped");
    close(cancel_fd);
}

static void a_lookup_ends_without_anybody_who_waits(void **state) {
    static const char *const hosts[] = {"127.0.0.1", "localhost", "no-such-host.invalid"};

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        struct resolve_lookup *left = resolve_begin(hosts[i], 6379, NULL);
        struct resolve_lookup *lookup = resolve_begin(hosts[i], 6379, NULL);
        struct pollfd ready = {.fd = resolve_fd(lookup), .events = POLLIN};
        struct error error = {0};
        struct addrinfo *found;
        resolve_end(left);
        assert_int_equal(poll(&ready, 1, 120000), 1);
        found = resolve_take(lookup, &error);
        if (i < 2) {
            assert_non_null(found);
            freeaddrinfo(found);
            assert_null(resolve_take(lookup, &error));
        } else {
            assert_null(found);
            assert_true(error.text[0] != '\0');
        }
        resolve_end(lookup);
    }
}

static void a_thread_that_cannot_be_started_is_named_with_the_reason(void **state) {
    const struct deadline deadline = deadline_after(120000, -1);
    struct error error = {0};

    (void)state;
    harness_fail_threads(1);
    assert_false(resolve_in_time("localhost", &deadline, &error));
    harness_fail_threads(0);
    assert_non_null(strstr(error.text, "the name cannot be looked up"));
    assert_non_null(strstr(error.text, strerror(EAGAIN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_and_known_names_resolve),
        cmocka_unit_test(addresses_bear_the_port),
        cmocka_unit_test(an_unknown_name_is_refused_in_words),
        cmocka_unit_test(nobody_is_waited_for_when_it_is_time_to_stop),
        cmocka_unit_test(a_lookup_ends_without_anybody_who_waits),
        cmocka_unit_test(a_thread_that_cannot_be_started_is_named_with_the_reason),
    };

    return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
