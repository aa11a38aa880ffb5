#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

/* Scans a copy of exact size, so that AddressSanitizer detects a read past its end. */
static bool scan(const char *text, size_t length, struct error *error) {
    char *copy = malloc(length != 0 ? length : 1);
    struct json_value value;
    bool result;

    assert_non_null(copy);
    memcpy(copy, text, length);
    error->text[0] = '\0';
    result = json_scan((struct slice){copy, length}, &value, error);
    if (result == (error->text[0] != '\0'))
        fail_msg("an error comes with a failure, and only then: %.*s", (int)length, text);
    free(copy);
    return result;
}

static void assert_slice(struct slice text, struct slice wanted) {
    if (!slice_equal(text, wanted))
        fail_msg("\"%.*s\", not \"%.*s\"", SLICE_ARGS(text), SLICE_ARGS(wanted));
}

static void assert_good(const char *text) {
    struct error error;

    if (!scan(text, strlen(text), &error))
        fail_msg("%s: %s", text, error.text);
}

static void assert_bad(const char *text, const char *wanted) {
    struct error error;

    if (scan(text, strlen(text), &error))
        fail_msg("%s was accepted", text);
    if (strcmp(error.text, wanted) != 0)
        fail_msg("%s: \"%s\", not \"%s\"", text, error.text, wanted);
}

static struct json_value value_of(const char *text) {
    struct json_value value;
    struct error error;

    if (!json_scan(slice_of(text), &value, &error))
        fail_msg("%s: %s", text, error.text);
    return value;
}

/* Checks the decoded bytes of a string token, and their length without decoding. */
static void assert_decodes(const char *token, const char *wanted, size_t length) {
    struct buffer storage = {0};
    struct json_value value = value_of(token);
    struct slice text;

    assert_int_equal(value.type, JSON_TYPE_STRING);
    assert_int_equal(value.escaped, strchr(token, '\\') != NULL);
    buffer_append_string(&storage, "before");
    text = json_decode_string(value, &storage);
    assert_slice(text, (struct slice){wanted, length});
    assert_int_equal(json_decoded_length(value), length);
    assert_memory_equal(storage.data, "before", 6);
    assert_int_equal(storage.length, value.escaped ? 6 + length : 6);
    buffer_dispose(&storage);
}

#define DECODES(token, literal) assert_decodes(token, literal, sizeof(literal) - 1)

static void every_type_is_recognised_with_its_exact_token(void **state) {
    static const struct {
        const char *text;
        enum json_type type;
        const char *token;
    } rows[] = {
        {"null", JSON_TYPE_NULL, "null"},
        {" true\n", JSON_TYPE_TRUE, "true"},
        {"\t\r\n false ", JSON_TYPE_FALSE, "false"},
        {" -1.50e+3 ", JSON_TYPE_NUMBER, "-1.50e+3"},
        {" \"a b\" ", JSON_TYPE_STRING, "\"a b\""},
        {" [ 1 , 2 ] ", JSON_TYPE_ARRAY, "[ 1 , 2 ]"},
        {" { \"a\" : [ ] } ", JSON_TYPE_OBJECT, "{ \"a\" : [ ] }"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_value value = value_of(rows[i].text);
        assert_int_equal(value.type, rows[i].type);
        assert_slice(value.token, slice_of(rows[i].token));
    }
}

static void what_rfc_8259_allows_is_accepted(void **state) {
    static const char *const texts[] = {
        "{}",
        "[]",
        "\"\"",
        "0",
        "[[],{},[[]],[{}],{\"a\":{}}]",
        " [ ] ",
        "{\"\":0}",
        "{\"a\":1,\"a\":2}",
        "[null,true,false]",
        "[\"a\",\"b\"]",
        "\"\x7F\"",
        "\"caf\xC3\xA9 \xF0\x9F\x98\x80 \xE2\x80\xA8\"",
        "{\"a\":[{\"b\":[1,2,{\"c\":null}]},\"d\"],\"e\":\"f\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_good(texts[i]);
}

static void numbers_are_those_of_the_grammar(void **state) {
    static const char *const good[] = {
        "0",   "-0",   "1",    "10",     "-1",     "1234567890123456789012345678901234567890",
        "0.0", "-0.5", "1.25", "1e5",    "1E5",    "1e+5",
        "1e0", "1e05", "0e0",  "1.5E-7", "1e9999", "-0.000e-000"};
    static const char *const bad[] = {"-",    "+1",   "01",   "-01", "00",    ".5",       "1.",
                                      "1.e5", "1e",   "1e+",  "1e-", "0x1",   "1_0",      "NaN",
                                      "-a",   "1.5.", "1.5e", "--1", "1e1.5", "Infinity", "-Infinity",
                                      "1 2",  "1a",   "0b1",  "1,2", "1e5e",  "- 1",      "\xD9\xA1"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char wrapped[128];
        assert_good(good[i]);
        assert_int_equal(value_of(good[i]).type, JSON_TYPE_NUMBER);
        assert_slice(value_of(good[i]).token, slice_of(good[i]));
        snprintf(wrapped, sizeof wrapped, "[%s,{\"a\":%s}]", good[i], good[i]);
        assert_good(wrapped);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error error;
        char wrapped[128];
        if (scan(bad[i], strlen(bad[i]), &error))
            fail_msg("%s was accepted", bad[i]);
        snprintf(wrapped, sizeof wrapped, "{\"a\":%s}", bad[i]);
        if (scan(wrapped, strlen(wrapped), &error))
            fail_msg("%s was accepted", wrapped);
    }
}

static void whole_numbers_are_told_from_others(void **state) {
    static const char *const whole[] = {"0", "-0", "-12", "7", "123456789012345678901234567890"};
    static const char *const others[] = {"0.0", "1e5", "1E5", "-1.5", "\"1\"", "null", "[1]", "true"};

    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        assert_true(json_is_whole_number(value_of(whole[i])));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(json_is_whole_number(value_of(others[i])));
    assert_false(json_is_whole_number((struct json_value){0}));
}

static void an_error_names_the_byte_and_what_was_expected(void **state) {
    (void)state;
    assert_bad("", "JSON at byte 0: expected a value, found the end");
    assert_bad("  ", "JSON at byte 2: expected a value, found the end");
    assert_bad("tru", "JSON at byte 0: expected a value, found 't'");
    assert_bad("nul", "JSON at byte 0: expected a value, found 'n'");
    assert_bad("True", "JSON at byte 0: expected a value, found 'T'");
    assert_bad("\xEF\xBB\xBF{}", "JSON at byte 0: expected a value, found byte 0xef");
    assert_bad("\v1", "JSON at byte 0: expected a value, found byte 0x0b");
    assert_bad("truex", "JSON at byte 4: expected the end of the text, found 'x'");
    assert_bad("{} {}", "JSON at byte 3: expected the end of the text, found '{'");
    assert_bad("[1]]", "JSON at byte 3: expected the end of the text, found ']'");
    assert_bad("[", "JSON at byte 1: expected a value, found the end");
    assert_bad("[1", "JSON at byte 2: expected ',' or ']', found the end");
    assert_bad("[1}", "JSON at byte 2: expected ',' or ']', found '}'");
    assert_bad("[1 2]", "JSON at byte 3: expected ',' or ']', found '2'");
    assert_bad("[,]", "JSON at byte 1: expected a value, found ','");
    assert_bad("[1,]", "JSON at byte 3: expected a value, found ']'");
    assert_bad("[1,,2]", "JSON at byte 3: expected a value, found ','");
    assert_bad("]", "JSON at byte 0: expected a value, found ']'");
    assert_bad("{", "JSON at byte 1: expected a member name, found the end");
    assert_bad("{]", "JSON at byte 1: expected a member name, found ']'");
    assert_bad("{,}", "JSON at byte 1: expected a member name, found ','");
    assert_bad("{a:1}", "JSON at byte 1: expected a member name, found 'a'");
    assert_bad("{1:1}", "JSON at byte 1: expected a member name, found '1'");
    assert_bad("{\"a\"}", "JSON at byte 4: expected ':', found '}'");
    assert_bad("{\"a\" 1}", "JSON at byte 5: expected ':', found '1'");
    assert_bad("{\"a\":}", "JSON at byte 5: expected a value, found '}'");
    assert_bad("{\"a\":1]", "JSON at byte 6: expected ',' or '}', found ']'");
    assert_bad("{\"a\":1,}", "JSON at byte 7: expected a member name, found '}'");
    assert_bad("{\"a\":1 \"b\":2}", "JSON at byte 7: expected ',' or '}', found '\"'");
    assert_bad("{\"a\"::1}", "JSON at byte 5: expected a value, found ':'");
    assert_bad("01", "JSON at byte 1: expected no digit after a leading zero, found '1'");
    assert_bad("-x", "JSON at byte 1: expected a digit, found 'x'");
    assert_bad("'a'", "JSON at byte 0: expected a value, found '''");
    assert_bad("// x\n1", "JSON at byte 0: expected a value, found '/'");
    assert_bad("\"abc", "JSON at byte 4: expected a closing quote, found the end");
    assert_bad("\"a\nb\"", "JSON at byte 2: expected an escape in place of a control character, found byte 0x0a");
    assert_bad("\"\\", "JSON at byte 2: expected an escape, found the end");
    assert_bad("\"\\x\"", "JSON at byte 2: expected one of \"\\/bfnrtu after a backslash, found 'x'");
    assert_bad("\"\\u12g4\"", "JSON at byte 5: expected a hexadecimal digit, found 'g'");
    assert_bad("\"\\u12\"", "JSON at byte 5: expected a hexadecimal digit, found '\"'");
}

static void an_error_may_be_left_unsaid(void **state) {
    struct json_value value;

    (void)state;
    assert_false(json_scan(SLICE("[1"), &value, NULL));
    assert_false(json_scan_object(SLICE("[1"), NULL, NULL, 0, NULL));
    assert_false(json_scan((struct slice){NULL, 0}, &value, NULL));
    assert_false(json_scan_object((struct slice){NULL, 0}, NULL, NULL, 0, NULL));
}

static void only_the_eight_escapes_and_u_may_follow_a_backslash(void **state) {
    (void)state;
    for (int byte = 1; byte < 256; byte++) {
        char text[] = "\"\\x\"";
        struct error error;
        text[2] = (char)byte;
        assert_int_equal(scan(text, 4, &error), strchr("\"\\/bfnrt", byte) != NULL);
    }
    assert_false(scan("\"\\\0\"", 4, &(struct error){0}));
}

static void control_characters_stand_in_no_string_wherever_they_are(void **state) {
    char text[64];

    (void)state;
    for (size_t at = 1; at < 40; at++)
        for (int byte = 0; byte < 256; byte++) {
            struct error error;
            memset(text, 'x', sizeof text);
            text[0] = text[41] = '"';
            text[at] = (char)byte;
            if (byte != '"' && byte != '\\')
                assert_int_equal(scan(text, 42, &error), byte >= 0x20);
        }
}

static void every_escape_decodes(void **state) {
    (void)state;
    DECODES("\"\"", "");
    DECODES("\"plain\"", "plain");
    DECODES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
    DECODES("\"a\\nb\"", "a\nb");
    DECODES("\"\\u0041\\u00e9\\u20AC\\u20ac\"", "A\xC3\xA9\xE2\x82\xAC\xE2\x82\xAC");
    DECODES("\"\\u0000\"", "\0");
    DECODES("\"\\u0022\\u005c\"", "\"\\");
    DECODES("\"\\\\u0041\"", "\\u0041");
    DECODES("\"\\\\\\\"\"", "\\\"");
    DECODES("\"caf\xC3\xA9\\t\xF0\x9F\x98\x80\"", "caf\xC3\xA9\t\xF0\x9F\x98\x80");
}

static void every_u_escape_decodes_to_its_code_point(void **state) {
    (void)state;
    for (unsigned code = 0; code < 0x10000; code++) {
        bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        unsigned wanted = surrogate ? 0xFFFD : code;
        unsigned char bytes[3];
        size_t length = wanted < 0x80 ? 1 : wanted < 0x800 ? 2 : 3;
        char token[16];
        snprintf(token, sizeof token, code % 2 != 0 ? "\"\\u%04x\"" : "\"\\u%04X\"", code);
        if (length == 1) {
            bytes[0] = (unsigned char)wanted;
        } else if (length == 2) {
            bytes[0] = (unsigned char)(0xC0 | wanted >> 6);
            bytes[1] = (unsigned char)(0x80 | (wanted & 0x3F));
        } else {
            bytes[0] = (unsigned char)(0xE0 | wanted >> 12);
            bytes[1] = (unsigned char)(0x80 | (wanted >> 6 & 0x3F));
            bytes[2] = (unsigned char)(0x80 | (wanted & 0x3F));
        }
        assert_decodes(token, (const char *)bytes, length);
    }
}

static void surrogate_pairs_join(void **state) {
    (void)state;
    DECODES("\"\\uD83D\\uDE00\"", "\xF0\x9F\x98\x80");
    DECODES("\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80");
    DECODES("\"\\uD800\\uDC00\"", "\xF0\x90\x80\x80");
    DECODES("\"\\uDBFF\\uDFFF\"", "\xF4\x8F\xBF\xBF");
    DECODES("\"a\\uD83D\\uDE00b\\uD83D\\uDE01\"",
            "a\xF0\x9F\x98\x80"
            "b\xF0\x9F\x98\x81");
}

static void lone_surrogates_become_the_replacement_character(void **state) {
    (void)state;
    DECODES("\"\\uD83D\"", "\xEF\xBF\xBD");
    DECODES("\"\\uDE00\"", "\xEF\xBF\xBD");
    DECODES("\"\\uD83Dx\"", "\xEF\xBF\xBDx");
    DECODES("\"\\uD83D\\n\"", "\xEF\xBF\xBD\n");
    DECODES("\"\\uD83D\\\\uDE00\"", "\xEF\xBF\xBD\\uDE00");
    DECODES("\"\\uDE00\\uD83D\"", "\xEF\xBF\xBD\xEF\xBF\xBD");
    DECODES("\"\\uD83D\\uD83D\\uDE00\"", "\xEF\xBF\xBD\xF0\x9F\x98\x80");
    DECODES("\"\\uD83D\\u0041\"",
            "\xEF\xBF\xBD"
            "A");
    DECODES("\"\\uD83DuDE00\"", "\xEF\xBF\xBDuDE00");
}

static void what_is_no_string_decodes_to_nothing(void **state) {
    struct buffer storage = {0};

    (void)state;
    assert_int_equal(json_decode_string(value_of("12"), &storage).length, 0);
    assert_int_equal(json_decode_string((struct json_value){0}, &storage).length, 0);
    assert_int_equal(json_decoded_length(value_of("[\"a\"]")), 0);
    assert_null(storage.data);
}

/* Builds `depth` opening brackets, taken cyclically from `pattern`, and the closing ones if `closed`. */
static struct buffer nest(size_t depth, const char *pattern, bool closed) {
    struct buffer text = {0};

    for (size_t i = 0; i < depth; i++)
        buffer_append_string(&text, pattern[i % strlen(pattern)] == '[' ? "[" : "{\"a\":");
    buffer_append_string(&text, "1");
    for (size_t i = depth; closed && i-- > 0;)
        buffer_append_byte(&text, pattern[i % strlen(pattern)] == '[' ? ']' : '}');
    return text;
}

static void nesting_of_1024_levels_is_the_deepest(void **state) {
    static const char *const patterns[] = {"[", "{", "[{", "{[", "[[{", "{{{[["};

    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        for (size_t depth = 1020; depth <= 1030; depth++) {
            struct buffer text = nest(depth, patterns[i], true);
            struct error error;
            assert_int_equal(scan(text.data, text.length, &error), depth <= JSON_MAX_DEPTH);
            if (depth > JSON_MAX_DEPTH)
                assert_non_null(strstr(error.text, "nested deeper than 1024 levels"));
            if (patterns[i][0] == '{')
                assert_int_equal(json_scan_object(buffer_slice(&text), NULL, NULL, 0, &error), depth <= JSON_MAX_DEPTH);
            buffer_dispose(&text);
        }
}

static void twenty_thousand_open_brackets_are_an_error(void **state) {
    static const char *const patterns[] = {"[", "{", "[{"};

    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        for (int closed = 0; closed < 2; closed++) {
            struct buffer text = nest(20000, patterns[i], closed != 0);
            struct error error;
            assert_false(scan(text.data, text.length, &error));
            assert_non_null(strstr(error.text, "nested deeper than 1024 levels"));
            assert_false(json_scan_object(buffer_slice(&text), NULL, NULL, 0, &error));
            buffer_dispose(&text);
        }
}

static void a_closing_bracket_matches_its_own_at_every_depth(void **state) {
    (void)state;
    for (size_t depth = 1; depth <= 200; depth++)
        for (size_t wrong = 0; wrong < depth; wrong += 7) {
            struct buffer text = nest(depth, "[{{[[[{", true);
            char *closing = &text.data[text.length - 1 - wrong];
            *closing = *closing == ']' ? '}' : ']';
            assert_false(scan(text.data, text.length, &(struct error){0}));
            buffer_dispose(&text);
        }
}

static void many_siblings_need_no_depth(void **state) {
    struct buffer text = {0};

    (void)state;
    buffer_append_byte(&text, '[');
    for (int i = 0; i < 5000; i++)
        buffer_append_string(&text, i % 2 != 0 ? "[{}]," : "{\"a\":[]},");
    buffer_append_string(&text, "0]");
    assert_true(scan(text.data, text.length, &(struct error){0}));
    buffer_dispose(&text);
}

static void a_message_cut_at_any_byte_is_an_error(void **state) {
    static const char text[] =
        "{ \"event\" : \"client-x\\u00e9\\n\", \"data\":{\"a\":[1.50e-7,true,false,null,{}],\"b\":\"\\\"\"},"
        "\"channel\":\"private-a-long-channel-name-of-many-bytes\"}";
    static const struct slice names[] = {{"event", 5}, {"data", 4}};
    struct json_value values[2];
    struct error error;

    (void)state;
    for (size_t length = 0; length < sizeof text - 1; length++) {
        char *copy = malloc(length != 0 ? length : 1);
        assert_non_null(copy);
        memcpy(copy, text, length);
        assert_false(scan(copy, length, &error));
        assert_false(json_scan_object((struct slice){copy, length}, names, values, 2, &error));
        free(copy);
    }
    assert_true(scan(text, sizeof text - 1, &error));
    assert_true(json_scan_object((struct slice){text, sizeof text - 1}, names, values, 2, &error));
}

static const struct slice wanted_names[] = {{"event", 5}, {"data", 4}, {"channel", 7}};

static void scan_members(const char *text, struct json_value values[3]) {
    struct error error;

    if (!json_scan_object(slice_of(text), wanted_names, values, 3, &error))
        fail_msg("%s: %s", text, error.text);
}

static void wanted_members_come_as_their_exact_source(void **state) {
    struct json_value values[3];

    (void)state;
    scan_members(
        " {\"data\" : { \"a\" : 1.50 , \"b\":\"\\u00e9\" } ,\"other\":[{\"event\":1}], \"event\":\"client-x\"} ",
        values);
    assert_int_equal(values[0].type, JSON_TYPE_STRING);
    assert_slice(values[0].token, SLICE("\"client-x\""));
    assert_int_equal(values[1].type, JSON_TYPE_OBJECT);
    assert_slice(values[1].token, SLICE("{ \"a\" : 1.50 , \"b\":\"\\u00e9\" }"));
    assert_int_equal(values[2].type, JSON_TYPE_ABSENT);
    assert_int_equal(values[2].token.length, 0);
}

static void no_members_are_wanted_or_there(void **state) {
    struct json_value values[3];

    (void)state;
    scan_members("{}", values);
    for (int i = 0; i < 3; i++)
        assert_int_equal(values[i].type, JSON_TYPE_ABSENT);
    assert_true(json_scan_object(SLICE("{\"a\":1}"), NULL, NULL, 0, NULL));
}

static void the_last_of_equal_names_counts(void **state) {
    struct json_value values[3];

    (void)state;
    scan_members("{\"event\":1,\"event\":\"two\",\"data\":1,\"d\\u0061ta\":null}", values);
    assert_slice(values[0].token, SLICE("\"two\""));
    assert_int_equal(values[1].type, JSON_TYPE_NULL);
}

static void names_are_compared_decoded(void **state) {
    static const struct slice names[] = {{"\xF0\x9F\x98\x80", 4}, {"a\"b", 3}, {"", 0}, {"\xEF\xBF\xBD", 3}};
    struct json_value values[4];

    (void)state;
    scan_members(
        "{\"\\u0065vent\":1,\"dat\\u0061\":2,\"\\u0063\\u0068annel\":3,"
        "\"\\u0065ven\":4,\"\\u0065vents\":5,\"\\u0065venT\":6,\"Event\":7,\"event \":8}",
        values);
    assert_slice(values[0].token, SLICE("1"));
    assert_slice(values[1].token, SLICE("2"));
    assert_slice(values[2].token, SLICE("3"));
    assert_true(
        json_scan_object(SLICE("{\"\\uD83D\\uDE00\":1,\"a\\\"b\":2,\"\":3,\"\\uD83D\":4}"), names, values, 4, NULL));
    for (int i = 0; i < 4; i++)
        assert_int_equal(values[i].token.data[0], '1' + i);
}

static void names_inside_other_values_are_not_members(void **state) {
    struct json_value values[3];

    (void)state;
    scan_members("{\"x\":{\"event\":1},\"y\":[{\"data\":2}],\"z\":\"\\\"channel\\\":3\"}", values);
    for (int i = 0; i < 3; i++)
        assert_int_equal(values[i].type, JSON_TYPE_ABSENT);
}

static void what_is_no_object_is_refused_by_name(void **state) {
    static const char *const texts[] = {"[]", "1", "\"{}\"", "null", "", "x"};
    struct error error;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_false(json_scan_object(slice_of(texts[i]), NULL, NULL, 0, &error));
        assert_non_null(strstr(error.text, "JSON at byte 0: expected an object"));
    }
    assert_false(json_scan_object(SLICE("{}x"), NULL, NULL, 0, &error));
    assert_string_equal(error.text, "JSON at byte 2: expected the end of the text, found 'x'");
}

static void iteration_gives_members_and_elements_in_order(void **state) {
    struct json_value object =
        value_of(" { \"a\" : 1 , \"b\\n\":[ {\"x\":\"]\"} , 2 ] ,\"c\":{\"d\":\"}\\\"\"},\"e\":true} ");
    struct json_iterator members = json_iterate(object), elements;
    struct json_value key, value;

    (void)state;
    assert_true(json_next(&members, &key, &value));
    assert_slice(key.token, SLICE("\"a\""));
    assert_int_equal(value.type, JSON_TYPE_NUMBER);
    assert_slice(value.token, SLICE("1"));
    assert_true(json_next(&members, &key, &value));
    assert_slice(key.token, SLICE("\"b\\n\""));
    assert_true(key.escaped);
    assert_int_equal(value.type, JSON_TYPE_ARRAY);
    assert_slice(value.token, SLICE("[ {\"x\":\"]\"} , 2 ]"));
    elements = json_iterate(value);
    assert_true(json_next(&elements, &key, &value));
    assert_int_equal(key.type, JSON_TYPE_ABSENT);
    assert_slice(value.token, SLICE("{\"x\":\"]\"}"));
    assert_true(json_next(&elements, NULL, &value));
    assert_slice(value.token, SLICE("2"));
    assert_false(json_next(&elements, NULL, &value));
    assert_false(json_next(&elements, NULL, &value));
    assert_true(json_next(&members, NULL, &value));
    assert_slice(value.token, SLICE("{\"d\":\"}\\\"\"}"));
    assert_true(json_next(&members, &key, &value));
    assert_slice(key.token, SLICE("\"e\""));
    assert_int_equal(value.type, JSON_TYPE_TRUE);
    assert_false(json_next(&members, &key, &value));
    assert_int_equal(value.type, JSON_TYPE_ABSENT);
}

static void empty_containers_and_other_values_have_nothing_to_walk(void **state) {
    static const char *const texts[] = {"{}", "[]", "[ \n]", "{ }", "1", "\"abc\"", "null", "true"};
    struct json_value key, value;
    struct json_iterator iterator;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        iterator = json_iterate(value_of(texts[i]));
        assert_false(json_next(&iterator, &key, &value));
    }
    iterator = json_iterate((struct json_value){0});
    assert_false(json_next(&iterator, &key, &value));
}

static void appended_strings_escape_what_must_be_escaped_and_nothing_else(void **state) {
    struct buffer buffer = {0};

    (void)state;
    buffer_append_byte(&buffer, ':');
    json_append_string(&buffer, SLICE("a\"b\\c/d\b\f\n\r\t\x01\x1F\x7F\0caf\xC3\xA9 \xE2\x80\xA8"));
    assert_slice(buffer_slice(&buffer),
                 SLICE(":\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\\u0000caf\xC3\xA9 \xE2\x80\xA8\""));
    buffer.length = 0;
    json_append_string(&buffer, (struct slice){NULL, 0});
    assert_slice(buffer_slice(&buffer), SLICE("\"\""));
    buffer_dispose(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_recognised_with_its_exact_token),
        cmocka_unit_test(what_rfc_8259_allows_is_accepted),
        cmocka_unit_test(numbers_are_those_of_the_grammar),
        cmocka_unit_test(whole_numbers_are_told_from_others),
        cmocka_unit_test(an_error_names_the_byte_and_what_was_expected),
        cmocka_unit_test(an_error_may_be_left_unsaid),
        cmocka_unit_test(only_the_eight_escapes_and_u_may_follow_a_backslash),
        cmocka_unit_test(control_characters_stand_in_no_string_wherever_they_are),
        cmocka_unit_test(every_escape_decodes),
        cmocka_unit_test(every_u_escape_decodes_to_its_code_point),
        cmocka_unit_test(surrogate_pairs_join),
        cmocka_unit_test(lone_surrogates_become_the_replacement_character),
        cmocka_unit_test(what_is_no_string_decodes_to_nothing),
        cmocka_unit_test(nesting_of_1024_levels_is_the_deepest),
        cmocka_unit_test(twenty_thousand_open_brackets_are_an_error),
        cmocka_unit_test(a_closing_bracket_matches_its_own_at_every_depth),
        cmocka_unit_test(many_siblings_need_no_depth),
        cmocka_unit_test(a_message_cut_at_any_byte_is_an_error),
        cmocka_unit_test(wanted_members_come_as_their_exact_source),
        cmocka_unit_test(no_members_are_wanted_or_there),
        cmocka_unit_test(the_last_of_equal_names_counts),
        cmocka_unit_test(names_are_compared_decoded),
        cmocka_unit_test(names_inside_other_values_are_not_members),
        cmocka_unit_test(what_is_no_object_is_refused_by_name),
        cmocka_unit_test(iteration_gives_members_and_elements_in_order),
        cmocka_unit_test(empty_containers_and_other_values_have_nothing_to_walk),
        cmocka_unit_test(appended_strings_escape_what_must_be_escaped_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
