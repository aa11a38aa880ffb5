/* Addresses of refused clients: each once a minute, and not more than so many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "net/address_log.h"

#define MINUTE_MS 60000

static void an_address_is_new_once_a_minute(void **state) {
    struct address_log log;

    (void)state;
    address_log_init(&log, ADDRESS_LOG_MOST);
    for (uint64_t minute = 1; minute < 4; minute++) {
        assert_int_equal(address_log_note(&log, "192.0.2.1", minute * MINUTE_MS), ADDRESS_NEW);
        assert_int_equal(address_log_note(&log, "192.0.2.2", minute * MINUTE_MS), ADDRESS_NEW);
        for (unsigned i = 0; i < 1000; i++)
            assert_int_equal(address_log_note(&log, "192.0.2.1", minute * MINUTE_MS + 10 * i), ADDRESS_KNOWN);
    }
    address_log_dispose(&log);
}

static void beyond_a_number_of_addresses_it_is_said_once_that_there_are_more(void **state) {
    struct address_log log;
    char address[32];

    (void)state;
    address_log_init(&log, ADDRESS_LOG_MOST);
    for (uint64_t minute = 1; minute < 3; minute++) {
        unsigned counts[3] = {0};
        for (unsigned i = 0; i < 10000; i++) {
            snprintf(address, sizeof address, "10.0.%u.%u", i / 256, i % 256);
            counts[address_log_note(&log, address, minute * MINUTE_MS)]++;
        }
        assert_int_equal(counts[ADDRESS_NEW], ADDRESS_LOG_MOST);
        assert_int_equal(counts[ADDRESS_MORE], 1);
    }
    address_log_dispose(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_new_once_a_minute),
        cmocka_unit_test(beyond_a_number_of_addresses_it_is_said_once_that_there_are_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
