#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "channel/filter/tags.h"

static void assert_written(const char *source, const char *wanted) {
    struct buffer out = {0};
    struct error error;
    struct tags *tags = tags_parse(slice_of(source), &error);

    if (tags == NULL)
        fail_msg("%s: %s", source, error.text);
    tags_append_json(&out, tags);
    assert_string_equal(buffer_string(&out), wanted);
    buffer_dispose(&out);
    tags_unref(tags);
}

static void assert_refused(const char *source, const char *wanted) {
    struct error error;

    assert_null(tags_parse(slice_of(source), &error));
    assert_string_equal(error.text, wanted);
}

static void tags_are_written_in_the_order_of_their_keys(void **state) {
    (void)state;
    assert_written("{}", "{}");
    assert_written(" { } ", "{}");
    assert_written("{\"b\":\"2\", \"a\" : \"1\"}", "{\"a\":\"1\",\"b\":\"2\"}");
    assert_written("{\"aa\":\"1\",\"a\":\"2\",\"B\":\"3\",\"\xc3\xa9\":\"4\",\"z\":\"5\"}",
                   "{\"B\":\"3\",\"a\":\"2\",\"aa\":\"1\",\"z\":\"5\",\"\xc3\xa9\":\"4\"}");
}

static void the_last_value_of_a_key_counts(void **state) {
    (void)state;
    assert_written("{\"a\":\"1\",\"b\":\"2\",\"a\":\"3\"}", "{\"a\":\"3\",\"b\":\"2\"}");
    assert_written("{\"a\":\"1\",\"\\u0061\":\"2\"}", "{\"a\":\"2\"}");
}

static void texts_are_decoded_and_escaped_again(void **state) {
    (void)state;
    assert_written("{\"\\u00e9\\n\":\"\\ud83d\\ude00\\/\\\\\\\"\\u0001\"}",
                   "{\"\xc3\xa9\\n\":\"\xf0\x9f\x98\x80/\\\\\\\"\\u0001\"}");
    assert_written("{\"a\":\"\"}", "{\"a\":\"\"}");
    assert_written("{\"a\\u0000b\":\"\\ud800\"}", "{\"a\\u0000b\":\"\xef\xbf\xbd\"}");
}

static void other_types_are_refused(void **state) {
    static const char *const others[] = {"null", "true", "1", "\"a\"", "[]", "[{\"a\":\"1\"}]"};
    static const char *const values[] = {"null", "false", "1", "{}", "[\"1\"]"};

    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_refused(others[i], "tags must be an object of strings");
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct buffer source = {0};
        buffer_appendf(&source, "{\"a\":\"1\",\"b\":%s}", values[i]);
        assert_refused(buffer_string(&source), "the value of tag 2 must be a string");
        buffer_dispose(&source);
    }
    assert_refused("{\"a\":\"1\"", "JSON at byte 8: expected ',' or '}', found the end");
}

/* Appends `count` times the byte. */
static void append_many(struct buffer *out, char byte, size_t count) {
    for (; count != 0; count--)
        buffer_append_byte(out, byte);
}

/* Parses one tag whose key and value have so many bytes. */
static struct tags *parse_long(size_t key, size_t value, struct error *error) {
    struct buffer source = {0};
    struct tags *tags;

    buffer_append(&source, SLICE("{\""));
    append_many(&source, 'k', key);
    buffer_append(&source, SLICE("\":\""));
    append_many(&source, 'v', value);
    buffer_append(&source, SLICE("\"}"));
    tags = tags_parse(buffer_slice(&source), error);
    buffer_dispose(&source);
    return tags;
}

static void keys_and_values_have_a_limit(void **state) {
    struct tags *tags;
    struct error error;

    (void)state;
    tags = parse_long(256, 1024, &error);
    assert_non_null(tags);
    assert_true(tags_bytes(tags) >= 256 + 1024);
    tags_unref(tags);
    assert_null(parse_long(257, 1, &error));
    assert_string_equal(error.text, "the key of tag 1 is 257 bytes, and at most 256 are allowed");
    assert_null(parse_long(1, 1025, &error));
    assert_string_equal(error.text, "the value of tag 1 is 1025 bytes, and at most 1024 are allowed");
    assert_null(parse_long(0, 1, &error));
    assert_string_equal(error.text, "the key of tag 1 must not be empty");
}

/* The text of `count` tags, whose keys descend. */
static void append_tags(struct buffer *out, unsigned count) {
    buffer_append_byte(out, '{');
    for (unsigned i = count; i != 0; i--)
        buffer_appendf(out, "%s\"key%05u\":\"value%u\"", i != count ? "," : "", i, i);
    buffer_append_byte(out, '}');
}

static void at_most_128_tags_are_taken(void **state) {
    struct buffer source = {0};
    struct tag_found found;
    struct tags *tags;
    struct error error;

    (void)state;
    append_tags(&source, 128);
    tags = tags_parse(buffer_slice(&source), &error);
    assert_non_null(tags);
    assert_true(tags_find(tags, SLICE("key00128"), &found) && slice_equal(found.value, SLICE("value128")));
    assert_true(tags_find(tags, SLICE("key00001"), &found) && slice_equal(found.value, SLICE("value1")));
    assert_false(tags_find(tags, SLICE("key00000"), &found));
    assert_false(tags_find(tags, SLICE("key001281"), &found));
    tags_unref(tags);
    source.length = 0;
    append_tags(&source, 10000);
    assert_null(tags_parse(buffer_slice(&source), &error));
    assert_string_equal(error.text, "there are more than 128 tags");
    buffer_dispose(&source);
}

static void no_tags_are_an_empty_map(void **state) {
    struct tag_found found;

    (void)state;
    assert_false(tags_find(NULL, SLICE("a"), &found));
    assert_null(tags_ref(NULL));
    assert_int_equal(tags_bytes(NULL), 0);
    tags_unref(NULL);
}

static void tags_live_until_the_last_reference_goes(void **state) {
    struct tags *tags = tags_parse(SLICE("{\"a\":\"1\"}"), NULL);
    struct tag_found found;

    (void)state;
    assert_ptr_equal(tags_ref(tags), tags);
    tags_unref(tags);
    assert_true(tags_find(tags, SLICE("a"), &found));
    tags_unref(tags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_are_written_in_the_order_of_their_keys),
        cmocka_unit_test(the_last_value_of_a_key_counts),
        cmocka_unit_test(texts_are_decoded_and_escaped_again),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(keys_and_values_have_a_limit),
        cmocka_unit_test(at_most_128_tags_are_taken),
        cmocka_unit_test(no_tags_are_an_empty_map),
        cmocka_unit_test(tags_live_until_the_last_reference_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
