#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "channel/filter/filter_set.h"

static enum filter_result intern(struct filter_set *set, struct budget_app *owner, const char *source,
                                 struct filter **filter) {
    struct json_value json;
    struct error error;

    assert_true(json_scan(slice_of(source), &json, &error));
    return filter_intern(set, owner, SLICE("chat"), json, filter, &error);
}

static struct filter *interned(struct filter_set *set, struct budget_app *owner, const char *source) {
    struct filter *filter;

    assert_int_equal(intern(set, owner, source, &filter), FILTER_READY);
    return filter;
}

static void the_same_filter_of_an_app_is_kept_once(void **state) {
    struct budget_app *app = budget_app_create(), *other = budget_app_create();
    static struct filter_set set;
    struct filter *first = interned(&set, app, "{\"key\":\"a\",\"cmp\":\"in\",\"vals\":[\"x\",\"y\"]}");
    struct filter *foreign;
    uint64_t bytes = budget_app_held(app);

    (void)state;
    assert_true(bytes > 0);
    assert_ptr_equal(interned(&set, app, " {\"vals\":[\"y\",\"x\"], \"cmp\":\"in\", \"key\":\"a\"}"), first);
    assert_int_equal(budget_app_held(app), bytes);
    foreign = interned(&set, other, "{\"key\":\"a\",\"cmp\":\"in\",\"vals\":[\"x\",\"y\"]}");
    assert_ptr_not_equal(foreign, first);
    assert_int_equal(set.count, 2);
    filter_release(&set, first);
    assert_int_equal(set.count, 2);
    filter_release(&set, first);
    assert_int_equal(set.count, 1);
    assert_int_equal(budget_app_held(app), 0);
    assert_int_equal(budget_app_held(other), bytes);
    filter_release(&set, foreign);
    filter_release(&set, NULL);
    assert_int_equal(budget_app_held(other), 0);
    budget_app_release(app);
    budget_app_release(other);
}

static void a_malformed_filter_takes_nothing(void **state) {
    struct budget_app *app = budget_app_create();
    static struct filter_set set;
    struct filter *filter;

    (void)state;
    assert_int_equal(intern(&set, app, "{\"key\":\"a\",\"cmp\":\"eq\"}", &filter), FILTER_REFUSED);
    assert_int_equal(set.count, 0);
    assert_int_equal(budget_app_held(app), 0);
    budget_app_release(app);
}

#define MANY 1000

static void a_table_of_many_filters_grows_and_shrinks(void **state) {
    struct budget_app *app = budget_app_create();
    static struct filter_set set;
    struct filter *filters[MANY];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            struct buffer source = {0};
            buffer_appendf(&source, "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":%u}", i);
            filters[i] = interned(&set, app, buffer_string(&source));
            buffer_dispose(&source);
        }
        assert_int_equal(set.count, MANY);
        assert_int_equal(set.bucket_count, 1024);
        for (unsigned i = 0; i < MANY; i++)
            filter_release(&set, filters[(i * 7919 + 13) % MANY]);
        assert_int_equal(set.count, 0);
        assert_null(set.buckets);
        assert_int_equal(budget_app_held(app), 0);
    }
    budget_app_release(app);
}

static void without_room_there_is_no_filter(void **state) {
    struct budget_app *app = budget_app_create();
    static struct filter_set set;
    struct filter *first, *second;

    (void)state;
    first = interned(&set, app, "{\"key\":\"a\",\"cmp\":\"ex\"}");
    budget_set_limit(1);
    assert_int_equal(intern(&set, app, "{\"key\":\"b\",\"cmp\":\"ex\"}", &second), FILTER_NO_MEMORY);
    assert_int_equal(intern(&set, app, "{\"key\":\"a\",\"cmp\":\"ex\"}", &second), FILTER_READY);
    assert_ptr_equal(first, second);
    budget_set_limit(0);
    filter_release(&set, first);
    filter_release(&set, first);
    assert_int_equal(budget_app_held(app), 0);
    budget_app_release(app);
}

static void an_answer_is_remembered_until_the_next_event(void **state) {
    struct budget_app *app = budget_app_create();
    static struct filter_set set;
    struct filter *filter = interned(&set, app, "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"x\"}");
    struct tags *matching = tags_parse(SLICE("{\"a\":\"x\"}"), NULL),
                *other_tags = tags_parse(SLICE("{\"a\":\"y\"}"), NULL);

    (void)state;
    filter_ask(&set);
    assert_true(filter_passes(&set, filter, FILTER_EVENT, matching));
    assert_false(filter_passes(&set, filter, FILTER_BASE, other_tags));
    /* Other tags are not looked at. */
    assert_true(filter_passes(&set, filter, FILTER_EVENT, other_tags));
    assert_false(filter_passes(&set, filter, FILTER_BASE, matching));
    filter_ask(&set);
    assert_false(filter_passes(&set, filter, FILTER_EVENT, NULL));
    assert_true(filter_passes(&set, filter, FILTER_BASE, matching));
    tags_unref(matching);
    tags_unref(other_tags);
    filter_release(&set, filter);
    budget_app_release(app);
}

static int seed_hashes(void **state) {
    (void)state;
    hash_seed();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_filter_of_an_app_is_kept_once),
        cmocka_unit_test(a_malformed_filter_takes_nothing),
        cmocka_unit_test(a_table_of_many_filters_grows_and_shrinks),
        cmocka_unit_test(without_room_there_is_no_filter),
        cmocka_unit_test(an_answer_is_remembered_until_the_next_event),
    };
    return cmocka_run_group_tests(tests, seed_hashes, NULL);
}
