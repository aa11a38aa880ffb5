/* A hash table that workers read while one writer changes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "app_manager/cache/name_table.h"
#include "base/alloc.h"
#include "harness.h"
#include "net/worker_loop.h"

#define MANY 1000
#define CHANGES 20000
#define STEADY 50 /* names that are always there */
#define PASSING 200

static struct workers workers;
static struct reclaimer reclaimer;
static struct name_table table;

struct name {
    struct name_node node;
    char text[16];
};

static struct name *add_with_hash(const char *text, uint64_t hash) {
    struct name *name = alloc_zero(sizeof *name);
    struct reclaim_batch unlinked = {0};

    snprintf(name->text, sizeof name->text, "%s", text);
    name->node.text = slice_of(name->text);
    name->node.hash = hash;
    name_table_add(&table, &name->node, &unlinked);
    reclaim_batch_defer(&reclaimer, &unlinked);
    return name;
}

static struct name *add(const char *text) {
    return add_with_hash(text, hash_bytes(slice_of(text)));
}

static struct name *find(const char *text) {
    struct name_node *node = name_table_find(&table, slice_of(text), hash_bytes(slice_of(text)));

    return node != NULL ? container_of(node, struct name, node) : NULL;
}

static void remove_name(struct name *name) {
    name_table_remove(&table, &name->node);
    reclaim_free(&reclaimer, name);
}

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, 2);
    reclaimer_init(&reclaimer, &workers);
    name_table_init(&table);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    name_table_dispose(&table);
    harness_destroy(&workers);
    reclaimer_dispose(&reclaimer);
    return 0;
}

static void names_of_one_hash_are_told_apart(void **state) {
    struct name *a = add_with_hash("a", 7), *b = add_with_hash("b", 7), *c = add_with_hash("c", 7 + 64);

    (void)state;
    assert_ptr_equal(name_table_find(&table, SLICE("a"), 7), &a->node);
    assert_ptr_equal(name_table_find(&table, SLICE("b"), 7), &b->node);
    assert_ptr_equal(name_table_find(&table, SLICE("c"), 7 + 64), &c->node);
    assert_null(name_table_find(&table, SLICE("c"), 7));
    assert_null(name_table_find(&table, SLICE("d"), 7));
    remove_name(b); /* from the middle of the chain */
    assert_ptr_equal(name_table_find(&table, SLICE("a"), 7), &a->node);
    assert_null(name_table_find(&table, SLICE("b"), 7));
    assert_ptr_equal(name_table_find(&table, SLICE("c"), 7 + 64), &c->node);
    remove_name(c);
    remove_name(a);
    assert_int_equal(table.count, 0);
}

static void a_reader_that_stands_on_a_removed_name_finds_those_behind_it(void **state) {
    struct name *behind = add_with_hash("behind", 7), *removed = add_with_hash("removed", 7);

    (void)state;
    name_table_remove(&table, &removed->node);
    assert_ptr_equal(atomic_load(&removed->node.next), &behind->node);
    reclaim_free(&reclaimer, removed);
    remove_name(behind);
}

static void all_names_are_found_when_the_table_has_grown_and_only_those(void **state) {
    struct name *names[MANY];
    char text[16];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "name-%u", i);
        names[i] = add(text);
        assert_true(table.count <= atomic_load(&table.buckets)->count); /* chains stay short */
    }
    for (unsigned i = 0; i < MANY; i += 2)
        remove_name(names[i]);
    assert_int_equal(table.count, MANY / 2);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "name-%u", i);
        assert_ptr_equal(find(text), i % 2 != 0 ? names[i] : NULL);
    }
    for (unsigned i = 1; i < MANY; i += 2)
        remove_name(names[i]);
}

static void a_reader_in_the_middle_of_its_turn_may_look_into_the_table_as_it_was(void **state) {
    struct name_buckets *before = atomic_load(&table.buckets);
    struct name *names[MANY];
    char text[16];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "name-%u", i);
        names[i] = add(text);
    }
    assert_ptr_not_equal(atomic_load(&table.buckets), before);
    harness_turn(workers.list[0]); /* the other has not ended its turn yet */
    for (size_t i = 0; i < before->count; i++) {
        unsigned steps = 0;
        for (struct name_node *node = atomic_load(&before->heads[i]); node != NULL; node = atomic_load(&node->next))
            assert_true(++steps <= MANY); /* every chain ends */
    }
    for (unsigned i = 0; i < MANY; i++)
        remove_name(names[i]);
}

/* A message that reads as long as the writer writes. */
struct reader {
    struct message message;
    struct worker *worker;
    uint64_t found, wrong, misses;
};

static atomic_bool writing, grown;
static atomic_uint turns[2];

static void read_names(struct worker *worker, struct message *message, struct message **rest) {
    struct reader *reader = container_of(message, struct reader, message);
    char text[16];

    (void)rest;
    for (unsigned i = 0; i < STEADY + PASSING; i++) {
        bool nothing_moves = atomic_load(&grown); /* before the look: only a growing table hides names */
        struct name *name;
        snprintf(text, sizeof text, "name-%u", i);
        name = find(text);
        reader->found += name != NULL;
        reader->wrong += name != NULL && strcmp(name->text, text) != 0;
        reader->misses += name == NULL && i < STEADY && nothing_moves;
    }
    atomic_fetch_add(&turns[worker->index], 1);
    if (atomic_load(&writing))
        worker_post(worker, message);
    else
        worker_stop(worker);
}

static void await_a_turn_of_each(void) {
    for (unsigned i = 0; i < 2; i++)
        for (unsigned before = atomic_load(&turns[i]); atomic_load(&turns[i]) == before;)
            sched_yield();
}

static void readers_find_what_is_there_while_names_come_and_go(void **state) {
    struct name *steady[STEADY], *passing[PASSING] = {0};
    struct reader readers[2] = {0};
    struct error error;
    uint64_t seed = 1;
    char text[16];

    (void)state;
    atomic_store(&writing, true);
    atomic_store(&grown, false);
    for (unsigned i = 0; i < STEADY; i++) {
        snprintf(text, sizeof text, "name-%u", i);
        steady[i] = add(text);
    }
    assert_true(workers_start(&workers, &error));
    for (unsigned i = 0; i < 2; i++) {
        readers[i].message.handle = read_names;
        worker_post(workers.list[i], &readers[i].message);
    }
    for (unsigned change = 0; change < CHANGES; change++) {
        unsigned i = change < PASSING ? change : harness_random(&seed, PASSING);
        snprintf(text, sizeof text, "name-%u", STEADY + i);
        if (passing[i] == NULL) {
            passing[i] = add(text);
        } else {
            remove_name(passing[i]);
            passing[i] = NULL;
        }
        if (change == PASSING) { /* as large as it gets: from the next turn on nobody is in the old buckets */
            await_a_turn_of_each();
            await_a_turn_of_each();
            atomic_store(&grown, true);
            await_a_turn_of_each();
        }
    }
    await_a_turn_of_each();
    atomic_store(&writing, false);
    workers_join(&workers);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(readers[i].found != 0);
        assert_int_equal(readers[i].wrong, 0);
        assert_int_equal(readers[i].misses, 0);
    }
    for (unsigned i = 0; i < STEADY; i++)
        remove_name(steady[i]);
    for (unsigned i = 0; i < PASSING; i++)
        if (passing[i] != NULL)
            remove_name(passing[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(names_of_one_hash_are_told_apart),
        TEST(a_reader_that_stands_on_a_removed_name_finds_those_behind_it),
        TEST(all_names_are_found_when_the_table_has_grown_and_only_those),
        TEST(a_reader_in_the_middle_of_its_turn_may_look_into_the_table_as_it_was),
        TEST(readers_find_what_is_there_while_names_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
