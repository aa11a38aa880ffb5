#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "channel/filter/filter.h"
#include "channel/filter/tag_number.h"

static bool compile(const char *source, struct buffer *program, struct error *error) {
    struct json_value json;

    assert_true(json_scan(slice_of(source), &json, error));
    return filter_compile(json, program, error);
}

/* `tags` NULL: the event has none. */
static bool passes(const char *source, const char *tags_source) {
    struct buffer program = {0};
    struct tags *tags = NULL;
    struct error error = {0};
    bool passed;

    if (!compile(source, &program, &error))
        fail_msg("%s: %s", source, error.text);
    if (tags_source != NULL && (tags = tags_parse(slice_of(tags_source), &error)) == NULL)
        fail_msg("%s: %s", tags_source, error.text);
    passed = filter_evaluate(buffer_slice(&program), tags);
    tags_unref(tags);
    buffer_dispose(&program);
    return passed;
}

static void assert_refused(const char *source, const char *reason) {
    struct buffer program = {0};
    struct error error = {0};

    if (compile(source, &program, &error))
        fail_msg("taken: %s", source);
    assert_string_equal(error.text, reason);
    buffer_dispose(&program);
}

/* What a filter says of an event with the tag that it names, with another value, and without the tag. */
static void assert_row(const char *source, const char *matching, const char *other, bool when_missing) {
    static const char *const missing[] = {"{\"b\":\"x\"}", "{}", NULL};

    if (matching != NULL)
        assert_true(passes(source, matching));
    if (other != NULL)
        assert_false(passes(source, other));
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        if (passes(source, missing[i]) != when_missing)
            fail_msg("%s of %s", source, missing[i] != NULL ? missing[i] : "no tags");
}

static void each_comparison_does_what_the_table_says(void **state) {
    (void)state;
    assert_row("{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"x\"}", "{\"a\":\"x\"}", "{\"a\":\"X\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"neq\",\"val\":\"x\"}", "{\"a\":\"y\"}", "{\"a\":\"x\"}", true);
    assert_row("{\"key\":\"a\",\"cmp\":\"in\",\"vals\":[\"y\",\"x\"]}", "{\"a\":\"x\"}", "{\"a\":\"xy\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"nin\",\"vals\":[\"x\",\"y\"]}", "{\"a\":\"z\"}", "{\"a\":\"y\"}", true);
    assert_row("{\"key\":\"a\",\"cmp\":\"ex\"}", "{\"a\":\"\"}", NULL, false);
    assert_row("{\"key\":\"a\",\"cmp\":\"nex\"}", NULL, "{\"a\":\"\"}", true);
    assert_row("{\"key\":\"a\",\"cmp\":\"sw\",\"val\":\"ab\"}", "{\"a\":\"abc\"}", "{\"a\":\"cab\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"ew\",\"val\":\"ab\"}", "{\"a\":\"cab\"}", "{\"a\":\"abc\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"ct\",\"val\":\"ab\"}", "{\"a\":\"cabc\"}", "{\"a\":\"cAbc\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"gt\",\"val\":\"10\"}", "{\"a\":\"10.5\"}", "{\"a\":\"1e1\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"gte\",\"val\":\"10\"}", "{\"a\":\"1e1\"}", "{\"a\":\"9\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"lt\",\"val\":\"10\"}", "{\"a\":\"9\"}", "{\"a\":\"10\"}", false);
    assert_row("{\"key\":\"a\",\"cmp\":\"lte\",\"val\":\"10\"}", "{\"a\":\"10.0\"}", "{\"a\":\"10.01\"}", false);
}

static void texts_are_compared_byte_by_byte(void **state) {
    (void)state;
    assert_true(passes("{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"\\u00e9\"}", "{\"a\":\"\xc3\xa9\"}"));
    assert_false(passes("{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"\\u00e9\"}", "{\"a\":\"e\xcc\x81\"}"));
    assert_true(passes("{\"key\":\"a\\u0000b\",\"cmp\":\"eq\",\"val\":\"\\u0000\"}", "{\"a\\u0000b\":\"\\u0000\"}"));
    assert_true(passes("{\"key\":\"a\",\"cmp\":\"ct\",\"val\":\"\\u0000x\"}", "{\"a\":\"x\\u0000x\"}"));
    assert_false(passes("{\"key\":\"a\",\"cmp\":\"sw\",\"val\":\"abc\"}", "{\"a\":\"ab\"}"));
    assert_false(passes("{\"key\":\"a\",\"cmp\":\"ct\",\"val\":\"abc\"}", "{\"a\":\"\"}"));
}

static void values_of_other_types_are_compared_as_text(void **state) {
    static const struct {
        const char *value, *text;
    } rows[] = {
        {"501", "501"},        {"0.80", "0.8"},  {"5.0", "5.0"},
        {"1e3", "1000.0"},     {"true", "true"}, {"false", "false"},
        {"-1.50", "-1.5"},     {"1e21", "1e21"}, {"18446744073709551615", "18446744073709551615"},
        {"0.0000001", "1e-7"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer filter = {0}, tags = {0};
        buffer_appendf(&tags, "{\"a\":\"%s\"}", rows[i].text);
        buffer_appendf(&filter, "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":%s}", rows[i].value);
        assert_true(passes(buffer_string(&filter), buffer_string(&tags)));
        filter.length = 0;
        buffer_appendf(&filter, "{\"key\":\"a\",\"cmp\":\"nin\",\"vals\":[\"x\",%s]}", rows[i].value);
        assert_false(passes(buffer_string(&filter), buffer_string(&tags)));
        buffer_dispose(&filter);
        buffer_dispose(&tags);
    }
}

static void numbers_have_one_syntax(void **state) {
    static const struct {
        const char *text;
        double number;
    } numbers[] = {{"0", 0},
                   {"-1", -1},
                   {"+1.5", 1.5},
                   {".5", 0.5},
                   {"5.", 5},
                   {"-.5e1", -5},
                   {"1E3", 1000},
                   {"1e+3", 1000},
                   {"1e-1", 0.1},
                   {"0.1", 0.1},
                   {"007", 7},
                   {"1.e2", 100},
                   {"1e400", (double)INFINITY},
                   {"-1e400", -(double)INFINITY},
                   {"1e-400", 0},
                   {"inf", (double)INFINITY},
                   {"-INF", -(double)INFINITY},
                   {"+Infinity", (double)INFINITY},
                   {"iNfInItY", (double)INFINITY}};
    static const char *const others[] = {"",   " ",    " 1",   "1 ",   ".",   "-",   "+-1",
                                         "1e", "1e+",  "e1",   "0x10", "1,5", "1_0", "1.2.3",
                                         "in", "infi", "nan1", "1d",   "1f",  "--1", "1e1.5"};
    double number;

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!tag_number(slice_of(numbers[i].text), &number) || number < numbers[i].number || number > numbers[i].number)
            fail_msg("\"%s\"", numbers[i].text);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (tag_number(slice_of(others[i]), &number))
            fail_msg("\"%s\" is taken", others[i]);
    assert_true(tag_number(SLICE("NaN"), &number) && number != number);
    assert_true(tag_number(SLICE("-nan"), &number) && number != number);
    assert_false(tag_number((struct slice){"1\0", 2}, &number));
}

static void numbers_of_many_digits_are_none(void **state) {
    static const char zeros[] = "00000000000000000000000000000000000000000000000000000000000000000";
    double number;

    (void)state;
    assert_true(tag_number((struct slice){zeros, TAG_NUMBER_MAX}, &number));
    assert_false(tag_number((struct slice){zeros, TAG_NUMBER_MAX + 1}, &number));
}

static size_t work_of(const char *source) {
    struct buffer program = {0};
    struct error error;
    size_t work;

    assert_true(compile(source, &program, &error));
    work = filter_work(buffer_slice(&program));
    buffer_append(&program, SLICE("what follows does not count"));
    assert_int_equal(filter_work(buffer_slice(&program)), work);
    buffer_dispose(&program);
    return work;
}

#define LEAF(cmp) "{\"key\":\"a\",\"cmp\":\"" cmp "\",\"val\":\"x\",\"vals\":[\"x\"]}"

static void work_is_that_of_all_leaves(void **state) {
    static const char *const comparisons[] = {LEAF("eq"), LEAF("neq"), LEAF("nex"), LEAF("sw"), LEAF("ew"),
                                              LEAF("gt"), LEAF("lte"), LEAF("in"),  LEAF("nin")};
    size_t least = work_of(LEAF("ex")), search = work_of(LEAF("ct"));
    size_t leaf = work_of("{\"op\":\"and\",\"nodes\":[" LEAF("ex") "," LEAF("ex") "]}") - least;

    (void)state;
    assert_in_range(leaf, 1, least);
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++)
        assert_in_range(work_of(comparisons[i]), least, search / 10);
    assert_int_equal(work_of("{\"op\":\"not\",\"nodes\":[" LEAF("ct") "]}"), search);
    assert_int_equal(work_of("{\"op\":\"or\",\"nodes\":[" LEAF("ct") ",{\"op\":\"and\",\"nodes\":[" LEAF("ex") "]}]}"),
                     search + leaf);
}

static void what_is_no_number_is_in_no_order(void **state) {
    static const char *const comparisons[] = {"gt", "gte", "lt", "lte"};
    static const char *const texts[] = {"x", "", " 1", "0x10", "nan", "NaN"};

    (void)state;
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        for (size_t j = 0; j < sizeof texts / sizeof texts[0]; j++) {
            struct buffer filter = {0}, tags = {0};
            buffer_appendf(&filter, "{\"key\":\"a\",\"cmp\":\"%s\",\"val\":\"1\"}", comparisons[i]);
            buffer_appendf(&tags, "{\"a\":\"%s\"}", texts[j]);
            assert_false(passes(buffer_string(&filter), buffer_string(&tags)));
            if (texts[j][0] != '\0') {
                filter.length = 0;
                buffer_appendf(&filter, "{\"key\":\"a\",\"cmp\":\"%s\",\"val\":\"%s\"}", comparisons[i], texts[j]);
                assert_false(passes(buffer_string(&filter), "{\"a\":\"1\"}"));
                assert_false(passes(buffer_string(&filter), buffer_string(&tags)));
            }
            buffer_dispose(&filter);
            buffer_dispose(&tags);
        }
    }
    assert_true(passes("{\"key\":\"a\",\"cmp\":\"lt\",\"val\":\"inf\"}", "{\"a\":\"1e308\"}"));
    assert_true(passes("{\"key\":\"a\",\"cmp\":\"gte\",\"val\":99.5}", "{\"a\":\"99.5\"}"));
}

#define A "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"x\"}"
#define B "{\"key\":\"b\",\"cmp\":\"eq\",\"val\":\"x\"}"
#define NOT_B "{\"key\":\"b\",\"cmp\":\"neq\",\"val\":\"x\"}"

static void branches_join_what_their_nodes_say(void **state) {
    (void)state;
    assert_true(passes("{\"op\":\"and\",\"nodes\":[" A "," B "]}", "{\"a\":\"x\",\"b\":\"x\"}"));
    assert_false(passes("{\"op\":\"and\",\"nodes\":[" A "," B "]}", "{\"a\":\"x\"}"));
    assert_false(passes("{\"op\":\"and\",\"nodes\":[" A "," B "]}", "{\"b\":\"x\"}"));
    assert_true(passes("{\"op\":\"or\",\"nodes\":[" A "," B "]}", "{\"a\":\"x\"}"));
    assert_true(passes("{\"op\":\"or\",\"nodes\":[" A "," B "]}", "{\"b\":\"x\"}"));
    assert_false(passes("{\"op\":\"or\",\"nodes\":[" A "," B "]}", NULL));
    assert_true(passes("{\"op\":\"not\",\"nodes\":[" A "]}", NULL));
    assert_false(passes("{\"op\":\"not\",\"nodes\":[" A "]}", "{\"a\":\"x\"}"));
    assert_true(passes("{\"op\":\"and\",\"nodes\":[" A "," NOT_B "]}", "{\"a\":\"x\"}"));
    assert_true(passes("{\"op\":\"or\",\"nodes\":[{\"op\":\"and\",\"nodes\":[" A "," B "]},{\"op\":\"not\",\"nodes\":["
                       "{\"op\":\"or\",\"nodes\":[" A "," B "]}]}]}",
                       "{\"c\":\"x\"}"));
    assert_true(passes("{\"op\":\"and\",\"nodes\":[" A "]}", "{\"a\":\"x\"}"));
}

static void a_filter_that_is_not_of_the_grammar_is_refused(void **state) {
    static const char cmp[] = "cmp must be eq, neq, in, nin, ex, nex, sw, ew, ct, gt, gte, lt or lte";
    static const char form[] = "events, expression and tags are not supported: give the filter of tags itself";
    static const char either[] = "a node has either op and nodes, or key and cmp";
    static const char value[] = "val must be a string, a number, true or false";
    static const char *const rows[][2] = {
        {"{}", "Leaf node requires a non-empty key"},
        {"{\"key\":\"a\",\"cmp\":\"ex\",\"key\":\"b\"}", "a node has key twice"},
        {"{\"op\":\"and\",\"nodes\":[" A "],\"\\u006fp\":\"or\"}", "a node has op twice"},
        {"{\"op\":\"not\",\"nodes\":[{\"key\":null,\"key\":\"a\",\"cmp\":\"ex\"}]}",
         "Child node 0: a node has key twice"},
        {"{\"key\":\"\",\"cmp\":\"ex\"}", "Leaf node requires a non-empty key"},
        {"{\"key\":null,\"cmp\":\"ex\"}", "Leaf node requires a non-empty key"},
        {"{\"key\":1,\"cmp\":\"ex\"}", "key must be a string"},
        {"{\"key\":\"a\"}", cmp},
        {"{\"key\":\"a\",\"cmp\":\"EQ\",\"val\":\"x\"}", cmp},
        {"{\"key\":\"a\",\"cmp\":\"regex\",\"val\":\"x\"}", cmp},
        {"{\"key\":\"a\",\"cmp\":1,\"val\":\"x\"}", cmp},
        {"{\"key\":\"a\",\"cmp\":[\"eq\"],\"val\":\"x\"}", cmp},
        {"{\"key\":\"a\",\"cmp\":\"eq\"}", "eq operation requires a non-empty val"},
        {"{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"\"}", "eq operation requires a non-empty val"},
        {"{\"key\":\"a\",\"cmp\":\"gte\",\"val\":null}", "gte operation requires a non-empty val"},
        {"{\"key\":\"a\",\"cmp\":\"ct\",\"vals\":[\"x\"]}", "ct operation requires a non-empty val"},
        {"{\"key\":\"a\",\"cmp\":\"eq\",\"val\":[\"x\"]}", value},
        {"{\"key\":\"a\",\"cmp\":\"ex\",\"val\":{}}", value},
        {"{\"key\":\"a\",\"cmp\":\"eq\",\"val\":1e999}", "val is a number too large to compare"},
        {"{\"key\":\"a\",\"cmp\":\"in\"}", "in operation requires at least one value in vals"},
        {"{\"key\":\"a\",\"cmp\":\"nin\",\"vals\":[]}", "nin operation requires at least one value in vals"},
        {"{\"key\":\"a\",\"cmp\":\"in\",\"val\":\"x\"}", "in operation requires at least one value in vals"},
        {"{\"key\":\"a\",\"cmp\":\"in\",\"vals\":\"x\"}", "vals must be an array"},
        {"{\"key\":\"a\",\"cmp\":\"in\",\"vals\":[\"x\",null]}",
         "a value in vals must be a string, a number, true or false"},
        {"{\"op\":\"xor\",\"nodes\":[" A "]}", "op must be and, or or not"},
        {"{\"op\":\"AND\",\"nodes\":[" A "]}", "op must be and, or or not"},
        {"{\"op\":7,\"nodes\":[" A "]}", "op must be and, or or not"},
        {"{\"op\":\"and\"}", "and operation requires at least one child node"},
        {"{\"op\":\"or\",\"nodes\":[]}", "or operation requires at least one child node"},
        {"{\"op\":\"not\",\"nodes\":[]}", "not operation requires exactly one child node, got 0"},
        {"{\"op\":\"not\",\"nodes\":[" A "," B "]}", "not operation requires exactly one child node, got 2"},
        {"{\"op\":\"and\",\"nodes\":" A "}", "nodes must be an array"},
        {"{\"op\":\"and\",\"nodes\":[{}]}", "Child node 0: Leaf node requires a non-empty key"},
        {"{\"op\":\"and\",\"nodes\":[" A ",{\"op\":\"not\",\"nodes\":[{\"key\":\"a\",\"cmp\":\"eq\"}]}]}",
         "Child node 1: Child node 0: eq operation requires a non-empty val"},
        {"{\"op\":\"and\",\"nodes\":[\"x\"]}", "Child node 0: a node must be an object"},
        {"{\"op\":\"and\",\"nodes\":[" A "],\"key\":\"a\"}", either},
        {"{\"op\":\"and\",\"nodes\":[" A "],\"vals\":[]}", either},
        {"{\"nodes\":[" A "]}", "nodes belongs to a node with op: and, or or not"},
        {"{\"key\":\"a\",\"cmp\":\"ex\",\"nodes\":[]}", "nodes belongs to a node with op: and, or or not"},
        {"\""
         "x\"",
         "a filter must be an object"},
        {"7", "a filter must be an object"},
        {"[" A "]", "a filter must be an object"},
        {"{\"events\":[\"a\"]}", form},
        {"{\"expression\":\"a\"}", form},
        {"{\"tags\":" A "}", form},
        {"{\"key\":\"a\",\"cmp\":\"ex\",\"events\":[]}", form},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_refused(rows[i][0], rows[i][1]);
}

static void unknown_members_and_null_are_ignored(void **state) {
    (void)state;
    assert_true(passes("{\"key\":\"a\",\"cmp\":\"ex\",\"type\":[{}],\"op\":null,\"nodes\":null,\"vals\":null}",
                       "{\"a\":\"x\"}"));
    assert_true(passes("{\"op\":\"and\",\"nodes\":[" A "],\"key\":null,\"tags\":{},\"events\":null}", "{\"a\":\"x\"}"));
    assert_true(passes("{\"\\u006bey\":\"a\",\"cmp\":\"e\\u0078\"}", "{\"a\":\"x\"}"));
}

/* --- limits --- */

static void append_nested(struct buffer *out, unsigned branches) {
    for (unsigned i = 0; i < branches; i++)
        buffer_append(out, SLICE("{\"op\":\"not\",\"nodes\":["));
    buffer_append(out, SLICE(A));
    for (unsigned i = 0; i < branches; i++)
        buffer_append(out, SLICE("]}"));
}

static void filters_are_at_most_16_nodes_deep(void **state) {
    struct buffer source = {0}, program = {0};
    struct error error = {0};

    (void)state;
    append_nested(&source, 15);
    assert_true(passes(buffer_string(&source), NULL));
    source.length = 0;
    append_nested(&source, 16);
    assert_false(compile(buffer_string(&source), &program, &error));
    assert_non_null(strstr(error.text, "Child node 0: nodes are nested in more than 16 levels"));
    source.length = 0;
    append_nested(&source, 500);
    assert_false(compile(buffer_string(&source), &program, &error));
    buffer_dispose(&source);
    buffer_dispose(&program);
}

static void append_leaves(struct buffer *out, unsigned count) {
    buffer_append(out, SLICE("{\"op\":\"or\",\"nodes\":["));
    for (unsigned i = 0; i < count; i++)
        buffer_appendf(out, "%s{\"key\":\"k%u\",\"cmp\":\"ex\"}", i != 0 ? "," : "", i);
    buffer_append(out, SLICE("]}"));
}

static void filters_have_at_most_128_nodes(void **state) {
    struct buffer source = {0};

    (void)state;
    append_leaves(&source, 127);
    assert_true(passes(buffer_string(&source), "{\"k126\":\"\"}"));
    assert_false(passes(buffer_string(&source), "{\"k127\":\"\"}"));
    source.length = 0;
    append_leaves(&source, 128);
    assert_refused(buffer_string(&source), "Child node 127: the filter has more than 128 nodes");
    buffer_dispose(&source);
}

static void append_list(struct buffer *out, unsigned count) {
    buffer_append(out, SLICE("{\"key\":\"a\",\"cmp\":\"in\",\"vals\":["));
    for (unsigned i = 0; i < count; i++)
        buffer_appendf(out, "%s\"%u\"", i != 0 ? "," : "", i * 7919 % 1000);
    buffer_append(out, SLICE("]}"));
}

static void leaves_have_at_most_128_values(void **state) {
    struct buffer source = {0};

    (void)state;
    append_list(&source, 128);
    for (unsigned i = 0; i < 1000; i++) {
        struct buffer tags = {0};
        bool listed = false;
        for (unsigned j = 0; j < 128; j++)
            listed |= j * 7919 % 1000 == i;
        buffer_appendf(&tags, "{\"a\":\"%u\"}", i);
        assert_int_equal(passes(buffer_string(&source), buffer_string(&tags)), listed);
        buffer_dispose(&tags);
    }
    source.length = 0;
    append_list(&source, 129);
    assert_refused(buffer_string(&source), "vals holds more than 128 values");
    buffer_dispose(&source);
}

/* {"key":"kkk","cmp":"in","vals":["vvv"]} or with `val` */
static void append_long(struct buffer *out, size_t key, size_t value, bool list) {
    buffer_append(out, SLICE("{\"key\":\""));
    for (size_t i = 0; i < key; i++)
        buffer_append_byte(out, 'k');
    buffer_append(out, list ? SLICE("\",\"cmp\":\"in\",\"vals\":[\"") : SLICE("\",\"cmp\":\"eq\",\"val\":\""));
    for (size_t i = 0; i < value; i++)
        buffer_append_byte(out, 'v');
    buffer_append(out, list ? SLICE("\"]}") : SLICE("\"}"));
}

static void keys_and_values_have_a_limit(void **state) {
    (void)state;
    for (int list = 0; list < 2; list++) {
        struct buffer source = {0};
        append_long(&source, 256, 1024, list != 0);
        assert_false(passes(buffer_string(&source), NULL));
        source.length = 0;
        append_long(&source, 257, 1024, list != 0);
        assert_refused(buffer_string(&source), "key is 257 bytes, and at most 256 are allowed");
        source.length = 0;
        append_long(&source, 256, 1025, list != 0);
        assert_refused(buffer_string(&source), list != 0 ? "a value in vals is 1025 bytes, and at most 1024 are allowed"
                                                         : "val is 1025 bytes, and at most 1024 are allowed");
        buffer_dispose(&source);
    }
}

static void the_same_filter_compiles_to_the_same_bytes(void **state) {
    static const char *const same[][2] = {
        {"{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"x\"}", " { \"val\" : \"x\", \"cmp\":\"eq\", \"key\":\"a\", \"q\":1}"},
        {"{\"key\":\"a\",\"cmp\":\"eq\",\"val\":1.5}",
         "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"1.5\",\"vals\":[\"x\"]}"},
        {"{\"key\":\"a\",\"cmp\":\"in\",\"vals\":[\"x\",\"y\"]}",
         "{\"key\":\"a\",\"cmp\":\"in\",\"vals\":[\"y\",\"x\",\"y\"]}"},
        {"{\"key\":\"a\",\"cmp\":\"gt\",\"val\":10}", "{\"key\":\"a\",\"cmp\":\"gt\",\"val\":\"1e1\"}"},
        {"{\"key\":\"a\",\"cmp\":\"gt\",\"val\":\"nan\"}", "{\"key\":\"a\",\"cmp\":\"gt\",\"val\":\"-NaN\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct buffer first = {0}, second = {0};
        assert_true(compile(same[i][0], &first, NULL) && compile(same[i][1], &second, NULL));
        if (!slice_equal(buffer_slice(&first), buffer_slice(&second)))
            fail_msg("%s", same[i][1]);
        buffer_dispose(&first);
        buffer_dispose(&second);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_comparison_does_what_the_table_says),
        cmocka_unit_test(texts_are_compared_byte_by_byte),
        cmocka_unit_test(values_of_other_types_are_compared_as_text),
        cmocka_unit_test(numbers_have_one_syntax),
        cmocka_unit_test(numbers_of_many_digits_are_none),
        cmocka_unit_test(work_is_that_of_all_leaves),
        cmocka_unit_test(what_is_no_number_is_in_no_order),
        cmocka_unit_test(branches_join_what_their_nodes_say),
        cmocka_unit_test(a_filter_that_is_not_of_the_grammar_is_refused),
        cmocka_unit_test(unknown_members_and_null_are_ignored),
        cmocka_unit_test(filters_are_at_most_16_nodes_deep),
        cmocka_unit_test(filters_have_at_most_128_nodes),
        cmocka_unit_test(leaves_have_at_most_128_values),
        cmocka_unit_test(keys_and_values_have_a_limit),
        cmocka_unit_test(the_same_filter_compiles_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
