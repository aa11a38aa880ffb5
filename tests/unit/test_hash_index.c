/* The hash table that grows by one bucket at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash_index.h"
#include "base/list.h"

#define MOST_LINKS 20000

struct numbered {
    struct hash_link link;
    unsigned number;
};

static uint64_t hash_of_number(unsigned number) {
    return (number + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15) >> 11;
}

static struct numbered *find_numbered(const struct hash_index *index, unsigned number) {
    uint64_t hash = hash_of_number(number);

    for (struct hash_link *link = hash_index_bucket(index, hash); link != NULL; link = link->next) {
        struct numbered *found = container_of(link, struct numbered, link);

        if (link->hash == hash && found->number == number)
            return found;
    }
    return NULL;
}

static void check_all(const struct hash_index *index, unsigned from, unsigned to) {
    for (unsigned number = 0; number < MOST_LINKS; number++)
        assert_int_equal(find_numbered(index, number) != NULL, number >= from && number < to);
}

static void test_every_link_is_found_while_the_table_grows_and_shrinks(void **state) {
    struct numbered *all = calloc(MOST_LINKS, sizeof *all);
    struct hash_index index;

    (void)state;
    hash_index_init(&index);
    for (unsigned number = 0; number < MOST_LINKS; number++) {
        all[number] = (struct numbered){{NULL, hash_of_number(number)}, number};
        hash_index_add(&index, &all[number].link);
        assert_true(index.bucket_count >= index.count);
        assert_ptr_equal(find_numbered(&index, number / 2), &all[number / 2]);
        if (number == 63 || number == 64 || number == 1000)
            check_all(&index, 0, number + 1);
    }
    check_all(&index, 0, MOST_LINKS);
    for (unsigned number = 0; number < MOST_LINKS; number++) {
        hash_index_remove(&index, &all[number].link);
        if (number % 5000 == 0)
            check_all(&index, number + 1, MOST_LINKS);
    }
    assert_int_equal(index.count, 0);
    assert_true(index.capacity <= 128); /* it has given its memory back */
    hash_index_dispose(&index);
    free(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_link_is_found_while_the_table_grows_and_shrinks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
