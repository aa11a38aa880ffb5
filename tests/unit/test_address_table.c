/* Open connections by client address: exact, whatever closes, and by threads at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/budget.h"
#include "base/hash.h"
#include "net/address_table.h"

static uint64_t addresses_of(const struct address_table *table) {
    uint64_t refusals, addresses;

    address_table_read(table, &refusals, &addresses);
    return addresses;
}

static void an_address_has_its_most_connections_and_others_have_theirs(void **state) {
    struct address_table *table = address_table_create(3, 100, true);

    (void)state;
    for (int fd = 0; fd < 3; fd++)
        assert_true(address_table_enter(table, fd, 1));
    assert_false(address_table_enter(table, 3, 1));
    assert_false(address_table_holds(table, 3));
    assert_true(address_table_enter(table, 3, 2));
    assert_true(address_table_enter(table, 0, 1)); /* is counted already */
    assert_int_equal(addresses_of(table), 2);
    assert_in_range(budget_used(BUDGET_CONNECTIONS), 2 * 24, 2 * 64);
    address_table_leave(table, 1);
    address_table_leave(table, 1);
    assert_true(address_table_enter(table, 4, 1));
    assert_false(address_table_enter(table, 5, 1));
    for (int fd = 0; fd < 6; fd++)
        address_table_leave(table, fd);
    assert_int_equal(addresses_of(table), 0);
    assert_int_equal(budget_used(BUDGET_CONNECTIONS), 0);
    address_table_destroy(table);
}

static void unknown_addresses_and_high_descriptors_are_not_limited(void **state) {
    struct address_table *table = address_table_create(1, 10, true);

    (void)state;
    for (int fd = 0; fd < 5; fd++) {
        address_table_enter_unknown(table, fd);
        assert_true(address_table_holds(table, fd));
        assert_true(address_table_enter(table, fd, 1));
    }
    assert_int_equal(addresses_of(table), 0);
    for (int fd = 10; fd < 20; fd++) {
        assert_true(address_table_enter(table, fd, 1));
        assert_true(address_table_holds(table, fd));
        address_table_leave(table, fd);
    }
    for (int fd = 0; fd < 5; fd++)
        address_table_leave(table, fd);
    assert_true(address_table_enter(table, 0, 1));
    assert_false(address_table_enter(table, 1, 1));
    address_table_destroy(table);
}

static void many_addresses_are_kept_apart(void **state) {
    enum { MANY = 100000 };
    struct address_table *table = address_table_create(1, MANY, true);

    (void)state;
    for (int fd = 0; fd < MANY; fd++)
        assert_true(address_table_enter(table, fd, (uint64_t)fd * 256));
    assert_int_equal(addresses_of(table), MANY);
    for (int fd = 0; fd < MANY; fd += 2)
        address_table_leave(table, fd);
    assert_int_equal(addresses_of(table), MANY / 2);
    for (int fd = 0; fd < MANY; fd += 2) {
        assert_false(address_table_enter(table, fd, (uint64_t)(fd + 1) * 256));
        assert_true(address_table_enter(table, fd, (uint64_t)fd * 256));
    }
    address_table_destroy(table); /* with connections left */
}

#define THREADS 4
#define ROUNDS 20000
#define MOST 5

static struct address_table *shared;
static _Atomic unsigned inside;

static void *come_and_go(void *context) {
    int base = *(const int *)context;

    for (int i = 0; i < ROUNDS; i++) {
        int fd = base + i % 4;
        if (address_table_enter(shared, fd, 7)) {
            inside++;
            assert_true(inside <= MOST);
            inside--;
            address_table_leave(shared, fd);
        }
    }
    return NULL;
}

static void threads_together_get_no_more_than_one(void **state) {
    pthread_t threads[THREADS];
    int bases[THREADS];

    (void)state;
    shared = address_table_create(MOST, 100, true);
    for (int i = 0; i < 2; i++)
        assert_true(address_table_enter(shared, 90 + i, 7));
    for (int i = 0; i < THREADS; i++) {
        bases[i] = i * 10;
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &bases[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < MOST - 2; i++)
        assert_true(address_table_enter(shared, i, 7)); /* nothing is left counted */
    assert_false(address_table_enter(shared, 50, 7));
    address_table_destroy(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_its_most_connections_and_others_have_theirs),
        cmocka_unit_test(unknown_addresses_and_high_descriptors_are_not_limited),
        cmocka_unit_test(many_addresses_are_kept_apart),
        cmocka_unit_test(threads_together_get_no_more_than_one),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
