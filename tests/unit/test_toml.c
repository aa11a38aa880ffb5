/* The TOML reader: the tree of a document, where an error is, and the bounds. tests/e2e/toml.test.js has the cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "config/toml.h"

/* Parses a copy of exact size, so that AddressSanitizer detects a read past its end. */
static json_t *parse(struct slice text, struct text_position *position, struct error *error) {
    char *copy = malloc(text.length != 0 ? text.length : 1);
    json_t *root;

    assert_non_null(copy);
    memcpy(copy, text.data, text.length);
    root = toml_parse((struct slice){copy, text.length}, NULL, position, error);
    free(copy);
    return root;
}

static void a_document_gives_the_tree_of_the_same_json(void **state) {
    static const char toml[] =
        "# an example\r\n"
        "port = 6_001\n"
        "fraction = 0.85 # of the memory\n"
        "debug = false\n"
        "day = 1979-05-27\n"
        "moment = 1979-05-27 07:32:00.5Z\n"
        "cors.origin = [\"https://a.example\", 'b\\c',\n  # another\n  \"\"\"\n\\u00e9\"\"\", ]\n"
        "inline = { a = 1, b.c = 0x1F }\n"
        "[app_manager]\n"
        "driver = \"memory\"\n"
        "[[app_manager.array.apps]]\n"
        "id = \"a\"\n"
        "[[app_manager.array.apps.webhooks]]\n"
        "url = \"u\"\n"
        "[[app_manager.array.apps]]\n"
        "id = \"b\"\n"
        "[app_manager.\"cache\" . 'x']\n";
    static const char json[] =
        "{\"port\":6001,\"fraction\":0.85,\"debug\":false,\"day\":\"1979-05-27\","
        "\"moment\":\"1979-05-27 07:32:00.5Z\",\"cors\":{\"origin\":[\"https://a.example\",\"b\\\\c\",\"\\u00e9\"]},"
        "\"inline\":{\"a\":1,\"b\":{\"c\":31}},"
        "\"app_manager\":{\"driver\":\"memory\",\"cache\":{\"x\":{}},"
        "\"array\":{\"apps\":[{\"id\":\"a\",\"webhooks\":[{\"url\":\"u\"}]},{\"id\":\"b\"}]}}}";
    struct text_position position;
    struct error error = {0};
    json_t *found = parse(slice_of(toml), &position, &error), *expected = json_loads(json, 0, NULL);

    (void)state;
    if (found == NULL)
        fail_msg("%zu:%zu: %s", position.line, position.column, error.text);
    assert_non_null(expected);
    assert_true(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
}

static void an_error_has_its_line_its_column_and_what_would_be_right(void **state) {
    static const struct {
        const char *text;
        size_t line, column;
        const char *part;
    } cases[] = {
        {"port = 1\nport = 2\n", 2, 1, "port is defined twice"},
        {"a.b = 1\n[a.b]\n", 2, 4, "b is defined twice"},
        {"a = 1\n[a.b]\n", 2, 2, "a is a value already"},
        {"[a]\nb = 1\n[a]\n", 3, 2, "a is defined twice"},
        {"[a]\n[[a]]\n", 2, 3, "a is defined already, and not as a list by [[ ]]"},
        {"port 6001\n", 1, 6, "expected = and a value after the key, found '6'"},
        {"port =\n", 1, 7, "expected a value, but the line ends here"},
        {"port = 6001 host = 1", 1, 13, "expected the end of the line, found 'h'"},
        {"host = localhost", 1, 8, "text needs quotation marks"},
        {"debug = True", 1, 9, "true, false, inf and nan are lower case"},
        {"port = 06001", 1, 8, "no valid number"},
        {"port = ${PORT:-6001}", 1, 8, "a variable must be in quotation marks (\"${NAME}\")"},
        {"port = 9223372036854775808", 1, 8, "beyond 64 bits"},
        {"a = \"x\ny\"", 1, 7, "the string has no end on its line"},
        {"\na = '''x\n\n", 2, 5, "the string that begins here has no end"},
        {"a = \"C:\\dir\"", 1, 8, "write \\\\ for a backslash"},
        {"a = \"\\u00\"", 1, 10, "four hexadecimal digits"},
        {"a = [1 2]", 1, 8, "expected a comma or ] after a value of an array, found '2'"},
        {"a = [1,", 1, 8, "but the file ends here"},
        {"a = {b = 1,}", 1, 11, "a comma before } is not TOML 1.0"},
        {"[a\n", 1, 3, "expected ] after the name of a table, but the line ends here"},
        {"d = 2026-02-29", 1, 5, "no valid date or time"},
        {"\xc3\xa9 = 1", 1, 1, "expected a key (letters"},
        {"'\xc3\xa9\xc3\xa9' = x", 1, 8, "text needs quotation marks"},
        {"a = 1\n\nb = \"\xff\"", 3, 6, "not in UTF-8"},
        {"# \x01\n", 1, 3, "control character 0x01"},
        {"\n {\"port\": 1}", 2, 2, "this looks like JSON"},
        {"a = \"\\u0000\"", 1, 6, "U+0000"},
        {"a = 1\nb = inf", 2, 5, "inf and nan are no values"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct text_position position = {0};
        struct error error = {0};

        if (parse(slice_of(cases[i].text), &position, &error) != NULL)
            fail_msg("accepted: %s", cases[i].text);
        if (position.line != cases[i].line || position.column != cases[i].column ||
            strstr(error.text, cases[i].part) == NULL)
            fail_msg("%s: %zu:%zu: %s", cases[i].text, position.line, position.column, error.text);
    }
}

/* `count` times `text`. */
static struct slice repeat(struct buffer *buffer, const char *start, const char *text, size_t count) {
    buffer->length = 0;
    buffer_append_string(buffer, start);
    while (count-- > 0)
        buffer_append_string(buffer, text);
    return buffer_slice(buffer);
}

static void nesting_is_bounded_in_all_ways_to_nest(void **state) {
    static const struct {
        const char *start, *level, *end;
    } ways[] = {{"a=", "[", ""}, {"a=", "{a=", ""}, {"", "a.", "a=1"}, {"[", "a.", "a]"}, {"[[", "a.", "a]]"}};
    struct buffer text = {0};

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct text_position position;
        struct error error = {0};

        repeat(&text, ways[i].start, ways[i].level, 100000);
        buffer_append_string(&text, ways[i].end);
        assert_null(parse(buffer_slice(&text), &position, &error));
        assert_non_null(strstr(error.text, "nested deeper than"));
    }
    buffer_dispose(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_gives_the_tree_of_the_same_json),
        cmocka_unit_test(an_error_has_its_line_its_column_and_what_would_be_right),
        cmocka_unit_test(nesting_is_bounded_in_all_ways_to_nest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
