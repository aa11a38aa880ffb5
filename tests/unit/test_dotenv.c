#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "convert/dotenv.h"

static struct slice exact_copy(const char *text, size_t length) {
    char *copy = malloc(length > 0 ? length : 1); /* so that AddressSanitizer detects a read past its end */

    assert_non_null(copy);
    memcpy(copy, text, length);
    return (struct slice){copy, length};
}

static bool read_text(const char *text, enum dotenv_dialect dialect, json_t *variables, struct error *error) {
    struct slice copy = exact_copy(text, strlen(text));
    bool good = dotenv_read(copy, dialect, variables, error);

    free((char *)copy.data);
    return good;
}

/* The variable A of the text must have this value; NULL: null. */
static void assert_variable(enum dotenv_dialect dialect, const char *text, const char *wanted) {
    json_t *variables = json_object();
    struct error error = {0};
    const json_t *value;

    if (!read_text(text, dialect, variables, &error))
        fail_msg("%s: %s", text, error.text);
    value = json_object_get(variables, "A");
    assert_non_null(value);
    if (wanted == NULL)
        assert_true(json_is_null(value));
    else
        assert_string_equal(json_string_value(value), wanted);
    json_decref(variables);
}

static void assert_refused(enum dotenv_dialect dialect, const char *text, const char *wanted) {
    json_t *variables = json_object();
    struct error error = {0};

    assert_false(read_text(text, dialect, variables, &error));
    assert_string_equal(error.text, wanted);
    json_decref(variables);
}

static void plain_values_end_at_a_comment_and_lose_blanks(void **state) {
    (void)state;
    for (enum dotenv_dialect dialect = DOTENV_LARAVEL; dialect <= DOTENV_NODE; dialect++) {
        assert_variable(dialect, "A=b", "b");
        assert_variable(dialect,
                        "\xef\xbb\xbf"
                        "A=b",
                        "b");
        assert_variable(dialect, "  A = b \t # comment", "b");
        assert_variable(dialect, "A=b#c", "b");
        assert_variable(dialect, "A=b c", "b c");
        assert_variable(dialect, "A=", "");
        assert_variable(dialect, "A= # comment", "");
        assert_variable(dialect, "A", NULL);
        assert_variable(dialect, "A=a\\nb\"c'd", "a\\nb\"c'd");
        assert_variable(dialect, "# A=c\n\n\t\nexport A=b\r\nB=c\r\n", "b");
        assert_variable(dialect, "A=b\nA=c", "c");
        assert_variable(dialect, "export=x\nA=b", "b");
    }
}

static void quotes_keep_blanks_comments_and_line_ends(void **state) {
    (void)state;
    for (enum dotenv_dialect dialect = DOTENV_LARAVEL; dialect <= DOTENV_NODE; dialect++) {
        assert_variable(dialect, "A='b # c ' # comment", "b # c ");
        assert_variable(dialect, "A=\" b # c\"", " b # c");
        assert_variable(dialect, "A=\"b\nc\"\nB=d", "b\nc");
        assert_variable(dialect, "A='b\\n$B'", "b\\n$B");
        assert_variable(dialect, "A=\"b\\nc\"", "b\nc");
        assert_refused(dialect, "B=c\nA='b", "line 2: the closing quote is missing");
        assert_refused(dialect, "A='b'c", "line 1: only a comment may follow the closing quote");
    }
    assert_variable(DOTENV_LARAVEL, "A=\"\\\"\\\\\\$\\t\\r\\f\\v\"", "\"\\$\t\r\f\v");
    assert_refused(DOTENV_LARAVEL, "A=\"\\q\"", "line 1: in double quotes a backslash must be written \\\\");
    assert_variable(DOTENV_NODE, "A=\"\\\"\\q\\\\\"", "\\\"\\q\\\\");
    assert_variable(DOTENV_NODE, "A=`b\"'c`", "b\"'c");
    assert_variable(DOTENV_LARAVEL, "A=`b`", "`b`");
}

static void only_the_laravel_dialect_replaces_variables(void **state) {
    (void)state;
    assert_variable(DOTENV_LARAVEL, "B=c\nA=${B}d", "cd");
    assert_variable(DOTENV_LARAVEL, "B=c\nA=\"${B}${B} $B\"", "cc $B");
    assert_variable(DOTENV_LARAVEL, "B=c\nA='${B}'", "${B}");
    assert_variable(DOTENV_LARAVEL, "B=c\nA=\"\\${B}\"", "${B}");
    assert_variable(DOTENV_LARAVEL, "A=${B}\nB=c", "${B}");
    assert_variable(DOTENV_LARAVEL, "B='${C}'\nC=d\nA=${B}", "${C}");
    assert_variable(DOTENV_LARAVEL, "B=\nA=${B}", "");
    assert_variable(DOTENV_NODE, "B=c\nA=${B}", "${B}");
}

static void errors_name_the_line_and_never_the_value(void **state) {
    (void)state;
    for (enum dotenv_dialect dialect = DOTENV_LARAVEL; dialect <= DOTENV_NODE; dialect++) {
        assert_refused(dialect, "A=1\n\n=secret", "line 3: this is not NAME=value");
        assert_refused(dialect, "A secret", "line 1: this is not NAME=value");
        assert_refused(dialect, "A=\"1\n2\"\n-", "line 3: this is not NAME=value");
        assert_refused(dialect, "A=\xff", "this is not a text in UTF-8");
    }
}

static void a_zero_byte_is_refused(void **state) {
    struct slice text = exact_copy("A=b\0c", 5);
    json_t *variables = json_object();
    struct error error = {0};

    (void)state;
    assert_false(dotenv_read(text, DOTENV_LARAVEL, variables, &error));
    assert_string_equal(error.text, "this is not a text in UTF-8");
    json_decref(variables);
    free((char *)text.data);
}

static void variables_that_double_each_other_are_bounded(void **state) {
    json_t *variables = json_object();
    struct buffer text = {0};
    struct error error = {0};

    (void)state;
    buffer_append_string(&text, "A0=0123456789\n");
    for (unsigned i = 1; i < 64; i++)
        buffer_appendf(&text, "A%u=\"${A%u}${A%u}\"\n", i, i - 1, i - 1);
    assert_false(dotenv_read(buffer_slice(&text), DOTENV_LARAVEL, variables, &error));
    assert_string_equal(error.text, "line 19: the values have more than 4194304 bytes together");
    json_decref(variables);
    buffer_dispose(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_values_end_at_a_comment_and_lose_blanks),
        cmocka_unit_test(quotes_keep_blanks_comments_and_line_ends),
        cmocka_unit_test(only_the_laravel_dialect_replaces_variables),
        cmocka_unit_test(errors_name_the_line_and_never_the_value),
        cmocka_unit_test(a_zero_byte_is_refused),
        cmocka_unit_test(variables_that_double_each_other_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
