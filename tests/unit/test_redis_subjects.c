/* The table of subjects of a subscriber of Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "cluster/redis/redis_subjects.h"

#define COUNT 20000

static struct slice name_of(unsigned number, char name[32]) {
    return (struct slice){name, (size_t)snprintf(name, 32, "c:app:channel-%u", number)};
}

static void subjects_are_found_until_they_are_removed(void **state) {
    struct redis_subjects subjects = {0};
    char name[32];

    (void)state;
    assert_null(redis_subjects_find(&subjects, SLICE("c:app:channel-1")));
    for (unsigned i = 0; i < COUNT; i++) {
        struct redis_subject *added = redis_subjects_add(&subjects, name_of(i, name));
        assert_true(slice_equal(redis_subject_text(added), name_of(i, name)));
    }
    assert_int_equal(subjects.count, COUNT);
    for (unsigned i = 0; i < COUNT; i += 2)
        redis_subjects_remove(&subjects, redis_subjects_find(&subjects, name_of(i, name)));
    assert_int_equal(subjects.count, COUNT / 2);
    for (unsigned i = 0; i < COUNT; i++) {
        const struct redis_subject *found = redis_subjects_find(&subjects, name_of(i, name));
        if (i % 2 == 0)
            assert_null(found);
        else
            assert_true(slice_equal(redis_subject_text(found), name_of(i, name)));
    }
    redis_subjects_dispose(&subjects);
    assert_int_equal(subjects.count, 0);
}

/* The parts grow one by one: no turn of the loop moves more than a few. */
static void a_part_holds_its_share(void **state) {
    struct redis_subjects subjects = {0};
    char name[32];
    size_t most = 0;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        redis_subjects_add(&subjects, name_of(i, name));
    for (size_t i = 0; i < REDIS_SUBJECT_PARTS; i++)
        if (subjects.parts[i].count > most)
            most = subjects.parts[i].count;
    assert_true(most < 4 * COUNT / REDIS_SUBJECT_PARTS);
    redis_subjects_dispose(&subjects);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subjects_are_found_until_they_are_removed),
        cmocka_unit_test(a_part_holds_its_share),
    };

    hash_seed();
    return cmocka_run_group_tests_name("redis_subjects", tests, NULL, NULL);
}
