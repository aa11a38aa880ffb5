/* The set of a session's subscriptions, checked against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "session/session_internal.h"

#define CHANNELS 3000

static struct subscription subscriptions[CHANNELS];
static bool present[CHANNELS]; /* the expected subscriptions */
static struct subscription_set set;

/* The set uses only the addresses of channels, never their contents. */
static void place_channels(char *memory, size_t stride) {
    for (size_t i = 0; i < CHANNELS; i++)
        subscriptions[i] = (struct subscription){.channel = (struct channel *)(void *)(memory + i * stride)};
    memset(present, 0, sizeof present);
    set = (struct subscription_set){0};
}

static void toggle(unsigned at) {
    if (present[at])
        subscriptions_remove(&set, &subscriptions[at]);
    else
        subscriptions_add(&set, &subscriptions[at]);
    present[at] = !present[at];
}

static void assert_set_is_the_model(void) {
    unsigned count = 0, slots = 0;

    for (unsigned i = 0; i < CHANNELS; i++) {
        count += present[i];
        assert_ptr_equal(subscriptions_find(&set, subscriptions[i].channel), present[i] ? &subscriptions[i] : NULL);
    }
    assert_int_equal(set.count, count);
    for (uint32_t i = 0; i < set.capacity; i++)
        slots += set.slots[i] != NULL;
    assert_int_equal(slots, count); /* an iteration over the slots finds each subscription once */
}

static void empty(void) {
    for (unsigned i = 0; i < CHANNELS; i++)
        if (present[i])
            toggle(i);
}

static void random_use_agrees_with_an_array(void **state) {
    /* Channels at different distances, so that the home slots collide in many ways. */
    static const size_t strides[] = {16, 64, 4096, 320};
    char *memory = malloc((size_t)CHANNELS * 4096);
    uint64_t seed = 17;

    (void)state;
    assert_non_null(memory);
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        place_channels(memory, strides[i]);
        assert_null(subscriptions_find(&set, subscriptions[0].channel));
        for (unsigned step = 0; step < 30000; step++) {
            /* A few channels for a while, then thousands, then a few again. */
            unsigned range = step / 6000 % 2 == 0 ? 6 : CHANNELS;
            toggle(harness_random(&seed, range));
            if (step % 1500 == 0)
                assert_set_is_the_model();
        }
        assert_set_is_the_model();
        empty();
        assert_set_is_the_model();
    }
    free(memory);
}

static void every_small_set_is_right_whatever_leaves_first(void **state) {
    char *memory = malloc((size_t)CHANNELS * 16);

    (void)state;
    assert_non_null(memory);
    for (unsigned size = 1; size <= 12; size++) {
        for (unsigned first = 0; first < size; first++) {
            place_channels(memory, 16);
            for (unsigned i = 0; i < size; i++)
                toggle(i);
            for (unsigned i = 0; i < size; i++) {
                toggle((first + i * 5) % size);
                for (unsigned at = 0; at < size; at++)
                    assert_ptr_equal(subscriptions_find(&set, subscriptions[at].channel),
                                     present[at] ? &subscriptions[at] : NULL);
            }
            empty();
        }
    }
    free(memory);
}

static void an_empty_set_owns_no_memory_and_a_small_one_little(void **state) {
    char memory[16 * 4];

    (void)state;
    place_channels(memory, 0);
    for (unsigned i = 0; i < 3; i++)
        subscriptions[i].channel = (struct channel *)(void *)(memory + (size_t)i * 16);
    toggle(0);
    assert_true(set.capacity <= 2);
    toggle(1);
    toggle(2);
    assert_true(set.capacity <= 4);
    toggle(1);
    toggle(0);
    toggle(2);
    assert_null(set.slots);
    assert_int_equal(set.capacity, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use_agrees_with_an_array),
        cmocka_unit_test(every_small_set_is_right_whatever_leaves_first),
        cmocka_unit_test(an_empty_set_owns_no_memory_and_a_small_one_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
