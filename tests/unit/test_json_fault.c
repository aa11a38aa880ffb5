/* What is said of files that are no JSON: the fault, at its own line and column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/json_fault.h"

/* Looks at a copy of exact size, so that AddressSanitizer detects a read past its end. */
static bool find(const char *text, size_t length, struct text_position *position, struct error *error) {
    char *copy = malloc(length != 0 ? length : 1);
    bool found;

    assert_non_null(copy);
    memcpy(copy, text, length);
    found = json_find_fault((struct slice){copy, length}, position, error);
    free(copy);
    return found;
}

static void each_fault_is_named_at_its_own_place(void **state) {
    static const struct {
        const char *text;
        size_t line, column;
        const char *part;
    } cases[] = {
        {"{\n  \"port\": 6001,\n  \"host\": \"a\",\n}\n", 3, 14, "a comma before } is one too many"},
        {"[1, 2, ]", 1, 6, "a comma before ] is one too many"},
        {"{\n  \"port\": 6001\n  \"host\": \"a\"\n}\n", 2, 15, "a comma is missing after this value"},
        {"{\"a\": {} \"b\": 1}", 1, 9, "a comma is missing after this value"},
        {"[1 2]", 1, 3, "a comma is missing after this value"},
        {"{\n \"a\": {\n  \"b\": 1,\n", 3, 10, "the file ends too early: the { of line 2 is not closed"},
        {"{\"a\": [1", 1, 9, "the file ends too early: the [ of line 1 is not closed"},
        {"{\"a\":", 1, 6, "the file ends too early"},
        {"{\"a\"", 1, 5, "the file ends too early"},
        {"{ // the port\n \"port\": 1}", 1, 3, "JSON has no comments"},
        {"{\"port\": 1 /* the port */}", 1, 12, "JSON has no comments"},
        {"{\n # the port\n \"port\": 1}", 2, 2, "JSON has no comments"},
        {"{'port': 1}", 1, 2, "JSON has double quotation marks"},
        {"{\"host\": 'a'}", 1, 10, "JSON has double quotation marks"},
        {"{\"host\": \xe2\x80\x9c"
         "a\xe2\x80\x9d}",
         1, 10, "typographic quotation mark"},
        {"{port: 1}", 1, 2, "the name of a member must be in double quotation marks"},
        {"{\"host\": localhost}", 1, 10, "a text must be in double quotation marks"},
        {"{\"debug\": True}", 1, 11, "true, false and null, in small letters"},
        {"{\"port\" = 1}", 1, 8, "a colon is missing after the name"},
        {"{\"port\" 1}", 1, 8, "a colon is missing after the name"},
        {"{\"port\":, \"host\":1}", 1, 9, "a value is missing before this comma"},
        {"{\"port\":}", 1, 9, "a value is missing before this bracket"},
        {"{\"a\":1,,\"b\":1}", 1, 8, "a comma too many"},
        {"{\"a\": [1}", 1, 9, "expected ], which closes the [ of line 1"},
        {"{\"a\": 1}}", 1, 9, "there is more behind the end"},
        {"{\"a\": 1}\n{\"b\": 1}", 2, 1, "there is more behind the end"},
        {"{\"host\": \"a\n}", 1, 10, "no closing quotation mark on its line"},
        {"{\"host\": \"a", 1, 10, "no closing quotation mark"},
        {"{\"path\": \"C:\\dir\"}", 1, 13, "write \\\\ for a backslash"},
        {"{\"a\": \"\\u12\"}", 1, 8, "four hexadecimal digits"},
        {"{\"a\": \"b\\u0000\"}", 1, 9, "must not hold \\u0000"},
        {"{\"a\": \"\t\"}", 1, 8, "write \\t"},
        {"{\"port\": 06001}", 1, 10, "not a number of JSON"},
        {"{\"port\": ${PORT:-6001}}", 1, 10, "a variable must be in double quotation marks (\"${NAME}\")"},
        {"{\"port\": +1}", 1, 10, "not a number of JSON"},
        {"{\"a\": .5}", 1, 7, "not a number of JSON"},
        {"{\"a\": 1.}", 1, 7, "not a number of JSON"},
        {"{\"\xc3\xa9\": \xff}", 1, 7, "not in UTF-8"},
        {"", 1, 1, "the file ends too early"},
        {"# settings\nport = 6001\n", 2, 1, "this looks like TOML"},
        {"[app_manager]\ndriver = \"memory\"\n", 1, 1, "this looks like TOML"},
        {"[[app_manager.array.apps]]\n", 1, 1, "this looks like TOML"},
        {"port: 6001\r\nhost: a\r\n", 1, 1, "this looks like YAML"},
        {"---\nport: 6001\n", 1, 1, "this is YAML"},
        {"metrics:\n  port: 1\n", 1, 1, "this looks like YAML"},
        {"\n<?php\nreturn ['port' => 1];\n", 2, 1, "this is PHP"},
        {"PORT=6001\nHOST=a\n", 1, 1, "these look like environment variables"},
        {"<html>", 1, 1, "this is XML or HTML"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct text_position position = {0};
        struct error error = {0};

        if (!find(cases[i].text, strlen(cases[i].text), &position, &error))
            fail_msg("no fault in: %s", cases[i].text);
        if (position.line != cases[i].line || position.column != cases[i].column ||
            strstr(error.text, cases[i].part) == NULL)
            fail_msg("%s: %zu:%zu: %s", cases[i].text, position.line, position.column, error.text);
    }
}

static void what_is_json_has_no_fault(void **state) {
    static const char *const texts[] = {
        "{}",
        " [ ] ",
        "[{}, [[]], {\"a\": {}}]\n",
        "[true]",
        "\"a\\u00e9\\n\"",
        "-0.5e+10",
        "0",
        "null",
        "{\"a\": \"// # '\", \"b\": [1, \"\xe2\x80\x9c\"]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct text_position position;
        struct error error = {0};

        if (find(texts[i], strlen(texts[i]), &position, &error))
            fail_msg("%s: %s", texts[i], error.text);
    }
}

static void nesting_without_end_is_a_fault(void **state) {
    char text[5000];
    struct text_position position;
    struct error error;

    (void)state;
    memset(text, '[', sizeof text);
    assert_true(find(text, sizeof text, &position, &error));
    assert_non_null(strstr(error.text, "nested too deeply"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_is_named_at_its_own_place),
        cmocka_unit_test(what_is_json_has_no_fault),
        cmocka_unit_test(nesting_without_end_is_a_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
