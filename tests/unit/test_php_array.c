#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "convert/php_array.h"

static json_t *variables;

static struct source *read_file_text(const char *text, struct error *error) {
    size_t length = strlen(text);
    char *copy = malloc(length > 0 ? length : 1); /* so that AddressSanitizer detects a read past its end */
    struct source *array;

    assert_non_null(copy);
    memcpy(copy, text, length);
    array = php_array_read((struct slice){copy, length}, variables, error);
    free(copy);
    return array;
}

/* The PHP array must be this JSON. */
static void assert_array(const char *php, const char *json) {
    struct buffer file = {0};
    struct error error = {0};
    struct source *array;
    json_t *got, *wanted = json_loads(json, 0, NULL);

    buffer_appendf(&file, "<?php return %s;", php);
    array = read_file_text(buffer_string(&file), &error);
    if (array == NULL)
        fail_msg("%s: %s", php, error.text);
    assert_non_null(wanted);
    got = source_to_json(array);
    if (!json_equal(got, wanted)) {
        char *dump = json_dumps(got, JSON_COMPACT);
        fail_msg("%s is %s", php, dump);
    }
    json_decref(got);
    json_decref(wanted);
    source_destroy(array);
    buffer_dispose(&file);
}

/* The value must be described as one that is not understood; a value after it is still read. */
static void assert_unread(const char *php, const char *description) {
    struct buffer file = {0};
    struct error error = {0};
    struct source *array, *node;

    buffer_appendf(&file, "<?php return ['a' => %s, 'b' => 1];", php);
    array = read_file_text(buffer_string(&file), &error);
    if (array == NULL)
        fail_msg("%s: %s", php, error.text);
    node = source_find(array, "a", NULL);
    assert_int_equal(node->type, SOURCE_UNREAD);
    assert_string_equal(node->text, description);
    assert_non_null(source_find(array, "b", NULL));
    source_destroy(array);
    buffer_dispose(&file);
}

static void assert_refused(const char *file, const char *wanted) {
    struct error error = {0};

    assert_null(read_file_text(file, &error));
    assert_string_equal(error.text, wanted);
}

static void arrays_are_lists_or_maps(void **state) {
    (void)state;
    assert_array("[]", "[]");
    assert_array("array()", "[]");
    assert_array("[1, 'a', ]", "[1, \"a\"]");
    assert_array("Array(0 => 1, 1 => 2)", "[1, 2]");
    assert_array("['0' => 1, 2]", "[1, 2]");
    assert_array("[1 => 1]", "{\"1\": 1}");
    assert_array("['a' => 1, 2, 5 => 3, 4]", "{\"a\": 1, \"0\": 2, \"5\": 3, \"6\": 4}");
    assert_array("['a' => ['b' => array('c' => [null])], 'a.b' => 1]", "{\"a\": {\"b\": {\"c\": [null]}}, \"a.b\": 1}");
    assert_array("['a' => 1, 'a' => 2]", "{\"a\": 2}");
    assert_array("([1])", "[1]");
}

static void scalars_are_those_of_php(void **state) {
    (void)state;
    assert_array("[true, FALSE, Null, \\true]", "[true, false, null, true]");
    assert_array("[10_000, -5, 0x1F, 0b101, 017, 0o17, 1.5, 1e3, -0.25]",
                 "[10000, -5, 31, 5, 15, 15, 1.5, 1000, -0.25]");
    assert_array("['it\\'s', 'a\\\\b', 'a\\nb', '$a']", "[\"it's\", \"a\\\\b\", \"a\\\\nb\", \"$a\"]");
    assert_array("[\"a\\nb\\t\\\"\\\\\\$c\\x41\\101\\u{e9}\\q\", \"$ 5\", \"{a}\"]",
                 "[\"a\\nb\\t\\\"\\\\$cAA\\u00e9\\\\q\", \"$ 5\", \"{a}\"]");
    assert_array("[A::class, \\B\\C::class]", "[\"A\", \"B\\\\C\"]");
    assert_array(
        "[(int) '12x', (integer)null, (bool) 'no', (boolean) '0', (string) 5, (string) true, (float) '1.5', "
        "(array) 'a', (array) [1], (int) (string) 7]",
        "[12, 0, true, false, \"5\", \"1\", 1.5, [\"a\"], [1], 7]");
}

static void comments_and_statements_before_return_are_skipped(void **state) {
    struct error error = {0};
    struct source *array = read_file_text(
        "\xef\xbb\xbf<?php\n// ' one\n# \" two\n/* ] three\n */declare(strict_types=1);\n"
        "use A\\{B, C};\n$a = ['return' => fn () => 1];\nfunction f() { return 1; }\n"
        "return [ // x\n'a' /* y */ => # z\n 1, /** w */ ];\n?>\nrest ' [",
        &error);

    (void)state;
    assert_non_null(array);
    assert_int_equal(source_find(array, "a", NULL)->line, 11);
    source_destroy(array);
}

static void env_answers_as_in_laravel(void **state) {
    (void)state;
    assert_array(
        "[env('TEXT'), \\env('TEXT', 'x'), ENV('NONE', 'x'), env('NONE'), env('NONE', env('TEXT')), "
        "env('NONE', env('NONE'))]",
        "[\"t\", \"t\", \"x\", null, \"t\", null]");
    assert_array("[env('YES'), env('NO', true), env('NIL', 1), env('EMPTY', 1), env('BRACKETS'), env('QUOTED')]",
                 "[true, false, null, \"\", true, \"q\"]");
    assert_array("[env('TEXT', storage_path('x')), env('NUMBER', $x ? 1 : 2)]", "[\"t\", \"12\"]");
    assert_array("[(int) env('NUMBER'), (int) env('NONE', 8080), (bool) env('NO'), (string) env('NONE')]",
                 "[12, 8080, false, \"\"]");
}

static void env_names_its_variable(void **state) {
    static const char *const paths[] = {"a", "b", "c", "d"};
    struct error error = {0};
    struct source *array = read_file_text(
        "<?php return ['a' => env('TEXT'), 'b' => (int) env('NONE', 1), "
        "'c' => explode(',', env('LIST')), 'd' => env('NONE')];",
        &error);
    static const char *const names[] = {"TEXT", "NONE", "LIST", "NONE"};

    (void)state;
    assert_non_null(array);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(source_find(array, paths[i], NULL)->variable, names[i]);
    source_destroy(array);
}

static void lists_of_a_variable_are_split(void **state) {
    (void)state;
    assert_array("[explode(',', env('LIST')), explode(',', env('NONE', '')), explode(',', env('NONE'))]",
                 "[[\"a\", \" b\", \"\"], [\"\"], [\"\"]]");
    assert_array("[array_filter(explode(',', env('LIST'))), array_map('trim', explode(',', env('LIST')))]",
                 "[[\"a\", \" b\"], [\"a\", \"b\", \"\"]]");
    assert_array("[array_filter([1, 0, '', '0', null, false, [], ['a'], 'b'])]", "[[1, [\"a\"], \"b\"]]");
    assert_array("array_filter(['a' => 1, 'b' => null, 'c' => env('TEXT')])", "{\"a\": 1, \"c\": \"t\"}");
    assert_array("array_values(array_filter(array_map('trim', explode(',', env('LIST', '')))))", "[\"a\", \"b\"]");
}

static void other_expressions_are_described_without_their_values(void **state) {
    (void)state;
    assert_unread("storage_path('secret')", "the call of storage_path()");
    assert_unread("env('TEXT') === 'secret'", "the operator =");
    assert_unread("'secret' . env('TEXT')", "the operator .");
    assert_unread("60 * 60", "the operator *");
    assert_unread("env('TEXT') ? 'a' : ['x' => 1]", "the operator ?");
    assert_unread("$secret", "the variable $secret");
    assert_unread("\"secret $a\"", "a text with a variable in it");
    assert_unread("\"secret {$a['x']}\"", "a text with a variable in it");
    assert_unread("\"\\xff\"", "a text that is not UTF-8");
    assert_unread("PHP_INT_MAX", "the PHP word PHP_INT_MAX");
    assert_unread("A::B", "a constant or function of the class A");
    assert_unread("new A(['a' => 1])", "the PHP word new");
    assert_unread("fn ($x) => $x + 1", "the call of fn()");
    assert_unread("function () { return ['a' => 1, 2]; }", "the call of function()");
    assert_unread("match (1) { 1 => 2, default => 3 }", "the call of match()");
    assert_unread("env($x)", "the variable $x");
    assert_unread("env('NONE', $x ? 1 : 2)", "the variable $x");
    assert_unread("env()", "the call of env() with such values");
    assert_unread("explode(',', $x)", "the variable $x");
    assert_unread("(int) storage_path('x')", "the call of storage_path()");
    assert_unread("explode('', 'a')", "the call of explode() with such values");
    assert_unread("array_map('strrev', [1])", "the call of array_map() with such values");
    assert_unread("array_filter(1)", "the call of array_filter() with such values");
    assert_unread("(string) [1]", "the cast of an array");
    assert_unread("env('A', 'b', 'c')", "a call with so many values");
    assert_unread("99999999999999999999", "such an expression");
    assert_unread("...[1]", "the operator ...");
    assert_unread("-'a'", "such an expression");
}

static void what_is_not_understood_is_not_filtered_out(void **state) {
    struct error error = {0};
    struct source *array = read_file_text("<?php return array_filter(array_map('trim', ['a', '', $x]));", &error);

    (void)state;
    assert_non_null(array);
    assert_int_equal(source_find(array, "0", NULL)->type, SOURCE_TEXT);
    assert_int_equal(source_find(array, "1", NULL)->type, SOURCE_UNREAD);
    source_destroy(array);
}

static void an_array_may_hold_what_is_not_understood(void **state) {
    struct error error = {0};
    struct source *array = read_file_text("<?php return ['a' => ['b' => $x, 'c' => [1, $y]], 'd' => 1];", &error);

    (void)state;
    assert_non_null(array);
    assert_int_equal(source_find(array, "a.b", NULL)->type, SOURCE_UNREAD);
    assert_int_equal(source_find(array, "a.c.0", NULL)->type, SOURCE_NUMBER);
    assert_int_equal(source_find(array, "a.c.1", NULL)->type, SOURCE_UNREAD);
    source_destroy(array);
}

static void errors_name_the_line(void **state) {
    (void)state;
    assert_refused("", "the file is empty");
    assert_refused("{}", "line 1: a PHP file begins with <?php");
    assert_refused("<?php\n$a = 1;\n", "line 3: the file returns no array: `return [...];` is missing");
    assert_refused("<?php\nreturn 1;", "line 2: the file must return an array: `return [...];`");
    assert_refused("<?php return\n[1\n", "line 3: a comma or a closing bracket is missing");
    assert_refused("<?php return [1 => [2, ];", "line 1: a comma or a closing bracket is missing");
    assert_refused("<?php return [\n'secret];", "line 2: the closing quote is missing");
    assert_refused("<?php return [\n\n/* secret", "line 3: the end of the comment is missing");
    assert_refused("<?php return [\n<<<A\nsecret\nA\n];",
                   "line 2: a text that begins with <<< is not read: put it in quotes");
    assert_refused("<?php return [\nA::B => 1];", "line 2: a key of an array must be a text or a number");
    assert_refused("<?php return [`secret`];", "line 1: a shell command in back quotes is not read");
    assert_refused("<?php return ['\xff'];", "this is not a text in UTF-8");
}

static void nesting_is_bounded(void **state) {
    struct buffer file = {0};
    struct error error = {0};

    (void)state;
    buffer_append_string(&file, "<?php return ");
    for (unsigned i = 0; i < 100000; i++)
        buffer_append_string(&file, i % 2 == 0 ? "[" : "(");
    assert_null(php_array_read(buffer_slice(&file), NULL, &error));
    assert_string_equal(error.text, "line 1: arrays and brackets are nested too deeply");
    buffer_dispose(&file);
}

static int make_variables(void **state) {
    (void)state;
    variables =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "TEXT", "t", "YES", "true", "NO", "False", "NIL",
                  "null", "EMPTY", "empty", "BRACKETS", "(true)", "QUOTED", "'q'", "NUMBER", "12", "LIST", "a, b,");
    return variables == NULL;
}

static int free_variables(void **state) {
    (void)state;
    json_decref(variables);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_are_lists_or_maps),
        cmocka_unit_test(scalars_are_those_of_php),
        cmocka_unit_test(comments_and_statements_before_return_are_skipped),
        cmocka_unit_test(env_answers_as_in_laravel),
        cmocka_unit_test(env_names_its_variable),
        cmocka_unit_test(lists_of_a_variable_are_split),
        cmocka_unit_test(other_expressions_are_described_without_their_values),
        cmocka_unit_test(what_is_not_understood_is_not_filtered_out),
        cmocka_unit_test(an_array_may_hold_what_is_not_understood),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(nesting_is_bounded),
    };

    return cmocka_run_group_tests(tests, make_variables, free_variables);
}
