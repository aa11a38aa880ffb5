#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "channel/delta/delta_match.h"

#define MEGABYTE 1048576

/* Fills `text` with a pattern that a hostile publisher could choose; false if there are no more patterns. */
static bool fill_hostile(char *text, size_t length, unsigned pattern) {
    uint64_t seed = 7 + pattern;

    for (size_t i = 0; i < length; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        switch (pattern) {
        case 0: /* all equal */
            text[i] = 'a';
            break;
        case 1: /* periods of 2, 7 and 1000 */
            text[i] = (char)('a' + i % 2);
            break;
        case 2:
            text[i] = (char)('a' + i % 7);
            break;
        case 3:
            text[i] = (char)(i % 1000 % 251);
            break;
        case 4: /* nothing in common */
            text[i] = (char)(seed >> 56);
            break;
        case 5: /* short matches everywhere */
            text[i] = (char)('a' + (seed >> 63));
            break;
        case 6: /* a period that breaks now and then */
            text[i] = (char)(seed >> 54 == 0 ? 'x' : 'a' + i % 3);
            break;
        case 7: /* pieces that grow */
            text[i] = (i & (i - 1)) == 0 ? 'b' : 'a';
            break;
        default:
            return false;
        }
    }
    return true;
}

/* The copies must be in order, inside the texts, and right. Returns the bytes that they cover. */
static size_t check_copies(const struct delta_copies *copies, struct slice base, struct slice target) {
    size_t end = 0, covered = 0;

    for (size_t i = 0; i < copies->count; i++) {
        struct delta_copy copy = copies->list[i];
        assert_true(copy.length != 0 && copy.target >= end && copy.length <= target.length - copy.target);
        if (copy.from < base.length) {
            assert_true(copy.length <= base.length - copy.from);
            assert_memory_equal(base.data + copy.from, target.data + copy.target, copy.length);
        } else {
            assert_true(copy.from - base.length < copy.target);
            assert_memory_equal(target.data + (copy.from - base.length), target.data + copy.target, copy.length);
        }
        end = copy.target + copy.length;
        covered += copy.length;
    }
    return covered;
}

static size_t match_within_bounds(struct slice base, struct slice target, bool from_target) {
    struct delta_match_settings settings = {.shortest = 4, .from_target = from_target, .limit = SIZE_MAX / 2};
    struct delta_match_work work;
    struct delta_copies copies;
    size_t covered;

    assert_true(delta_match(base, target, &settings, &copies, &work));
    covered = check_copies(&copies, base, target);
    assert_true(work.indexed <= 65534);
    assert_true(work.searched <= 2 * target.length);
    assert_true(work.compared <= 1000 + 2 * (base.length + target.length) + target.length / 16);
    delta_copies_dispose(&copies);
    return covered;
}

static void the_work_is_linear_whatever_the_texts_are(void **state) {
    static const size_t lengths[] = {0, 1, 5, 64, 300, 5000, 70000, MEGABYTE};
    char *base = malloc(MEGABYTE + 16), *target = malloc(MEGABYTE);

    (void)state;
    for (unsigned first = 0; fill_hostile(base, MEGABYTE + 16, first); first++) {
        for (unsigned second = 0; fill_hostile(target, MEGABYTE, second); second++) {
            for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
                size_t length = lengths[i], other = lengths[(i + first + second) % (i + 1)];
                if (length == MEGABYTE && (first + second) % 4 != 0)
                    continue;
                match_within_bounds((struct slice){base, length}, (struct slice){target, length}, second % 2 == 0);
                match_within_bounds((struct slice){base + first, other}, (struct slice){target, length}, true);
            }
        }
    }
    free(base);
    free(target);
}

/* The base and the middle of the target each end with a step that is not full, for lengths of all remainders. */
static void every_place_has_room_in_the_index(void **state) {
    enum { BASE = 1200, MIDDLE = 1000, COMMON = 100 };
    struct delta_match_settings settings = {.shortest = 4, .from_target = true, .limit = SIZE_MAX / 2};
    char base[BASE + 16], target[MIDDLE + 16 + COMMON];

    (void)state;
    for (size_t i = 0; i < 16 * 16; i++) {
        size_t base_length = BASE + i % 16, middle = MIDDLE + i / 16;
        struct slice texts[] = {{base, base_length}, {target, middle + COMMON}};
        struct delta_copies copies;

        settings.max_places = (uint16_t)(100 + i * 7 % 50);
        fill_hostile(base, base_length, 4);
        base[0] = 'a';
        memcpy(target, base + 50, middle - 1);
        target[0] = 'b';
        memcpy(target + middle, base + base_length - COMMON, COMMON);
        target[middle - 1] = (char)(base[base_length - COMMON - 1] + 1);
        assert_true(delta_match(texts[0], texts[1], &settings, &copies, NULL));
        check_copies(&copies, texts[0], texts[1]);
        delta_copies_dispose(&copies);
    }
}

/* A block that moved, an insertion, a removal, and a change, in a text with an index at every n-th place. */
static void blocks_of_a_large_text_are_found_where_they_went(void **state) {
    char *base = malloc(MEGABYTE);
    struct buffer target = {0};
    size_t covered;

    (void)state;
    fill_hostile(base, MEGABYTE, 4);
    buffer_append_bytes(&target, base + 500000, 100000);
    buffer_append_string(&target, "inserted");
    buffer_append_bytes(&target, base, 400000);
    buffer_append_bytes(&target, base + 400100, 99900);
    buffer_append_string(&target, "other");
    buffer_append_bytes(&target, base + 600000, MEGABYTE - 600000);
    covered = match_within_bounds((struct slice){base, MEGABYTE}, buffer_slice(&target), false);
    assert_int_equal(target.length - covered, strlen("inserted") + strlen("other"));
    buffer_dispose(&target);
    free(base);
}

/* The place of a small change decides what is indexed, not the length of the text. */
static void a_small_change_in_a_large_text_is_little_work(void **state) {
    struct delta_match_settings settings = {.shortest = 6, .limit = SIZE_MAX / 2};
    struct delta_match_work work;
    struct delta_copies copies;
    char *base = malloc(MEGABYTE), *target = malloc(MEGABYTE);

    (void)state;
    fill_hostile(base, MEGABYTE, 4);
    memcpy(target, base, MEGABYTE);
    memcpy(target + 700000, "0123456789abcdef", 16);
    assert_true(
        delta_match((struct slice){base, MEGABYTE}, (struct slice){target, MEGABYTE}, &settings, &copies, &work));
    assert_int_equal(copies.count, 2);
    assert_true(work.indexed < 1000);
    assert_true(work.searched <= 16);
    delta_copies_dispose(&copies);
    free(base);
    free(target);
}

static void it_gives_up_when_too_much_is_new(void **state) {
    struct delta_match_settings settings = {.shortest = 6, .limit = 2000};
    struct delta_match_work work;
    struct delta_copies copies;
    char *base = malloc(MEGABYTE), *target = malloc(MEGABYTE);

    (void)state;
    fill_hostile(base, MEGABYTE, 4);
    fill_hostile(target, MEGABYTE, 5);
    assert_false(
        delta_match((struct slice){base, MEGABYTE}, (struct slice){target, MEGABYTE}, &settings, &copies, &work));
    assert_true(work.searched < 5000);
    delta_copies_dispose(&copies);
    assert_false(delta_match((struct slice){base, (size_t)DELTA_TEXT_MAX + 1}, SLICE("a"), &settings, &copies, NULL));
    delta_copies_dispose(&copies);
    free(base);
    free(target);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_work_is_linear_whatever_the_texts_are),
        cmocka_unit_test(every_place_has_room_in_the_index),
        cmocka_unit_test(blocks_of_a_large_text_are_found_where_they_went),
        cmocka_unit_test(a_small_change_in_a_large_text_is_little_work),
        cmocka_unit_test(it_gives_up_when_too_much_is_new),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
