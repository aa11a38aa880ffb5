/* Intrusive lists, and counters that one thread writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/counter.h"
#include "base/list.h"

struct item {
    int number;
    struct list link;
};

static struct list head;
static struct item items[6];

static int set_up(void **state) {
    (void)state;
    list_init(&head);
    for (int i = 0; i < 6; i++)
        items[i] = (struct item){.number = i};
    return 0;
}

static void assert_list(struct list *list, const char *numbers) {
    struct list *link = list->next;

    for (; *numbers != '\0'; numbers++, link = link->next) {
        assert_ptr_not_equal(link, list);
        assert_int_equal(container_of(link, struct item, link)->number, *numbers - '0');
        assert_ptr_equal(link->next->previous, link);
    }
    assert_ptr_equal(link, list);
    assert_ptr_equal(list->previous->next, list);
}

static void a_list_keeps_the_order_of_appending(void **state) {
    (void)state;
    assert_true(list_empty(&head));
    for (int i = 0; i < 6; i++)
        list_append(&head, &items[i].link);
    assert_false(list_empty(&head));
    assert_list(&head, "012345");
    list_remove(&items[0].link);
    list_remove(&items[3].link);
    list_remove(&items[5].link);
    assert_list(&head, "124");
    list_append(&head, &items[3].link);
    assert_list(&head, "1243");
}

static void removing_twice_or_what_was_never_on_a_list_is_harmless(void **state) {
    (void)state;
    list_remove(&items[0].link);
    assert_true(list_empty(&items[0].link)); /* a link in zeroed memory is in no list */
    list_append(&head, &items[1].link);
    list_remove(&items[1].link);
    list_remove(&items[1].link);
    assert_true(list_empty(&items[1].link));
    assert_list(&head, "");
}

static void everything_moves_behind_what_the_other_list_has(void **state) {
    struct list other;

    (void)state;
    list_init(&other);
    list_move_all(&other, &head);
    assert_list(&head, "");
    list_append(&head, &items[0].link);
    list_move_all(&other, &head);
    assert_list(&head, "0");
    for (int i = 1; i < 4; i++)
        list_append(&other, &items[i].link);
    list_move_all(&other, &head);
    assert_list(&head, "0123");
    assert_list(&other, "");
    list_move_all(&head, &other);
    assert_list(&head, "");
    assert_list(&other, "0123");
}

static void counters_add_up_and_keep_the_largest(void **state) {
    struct counter sum = {0}, largest = {0};

    (void)state;
    counter_add(&sum, 3);
    counter_add(&sum, 0);
    counter_add(&sum, UINT64_C(1) << 40);
    assert_true(counter_read(&sum) == (UINT64_C(1) << 40) + 3);
    counter_max(&largest, 7);
    counter_max(&largest, 5);
    assert_int_equal(counter_read(&largest), 7);
    counter_max(&largest, 9);
    assert_int_equal(counter_read(&largest), 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_list_keeps_the_order_of_appending, set_up),
        cmocka_unit_test_setup(removing_twice_or_what_was_never_on_a_list_is_harmless, set_up),
        cmocka_unit_test_setup(everything_moves_behind_what_the_other_list_has, set_up),
        cmocka_unit_test(counters_add_up_and_keep_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
