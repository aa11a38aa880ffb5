/* json_load_text: ids, keys and secrets that are integers keep their digits, and everything else is as in the text. */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_load.h"

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static json_t *load(const char *text) {
    json_error_t problem;

    return json_load_text((struct slice){text, strlen(text)}, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);
}

static void expect(const char *text, const char *expected) {
    json_t *json = load(text);
    char *written;

    assert_non_null(json);
    written = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(written, expected);
    free(written);
    json_decref(json);
}

static void integers_of_any_length_are_names(void **state) {
    (void)state;
    expect("{\"id\": 18446744073709551616}", "{\"id\":\"18446744073709551616\"}");
    expect("{\"key\":123456789012345678901234567890,\"secret\" :\n9999999999999999999}",
           "{\"key\":\"123456789012345678901234567890\",\"secret\":\"9999999999999999999\"}");
    expect("[{\"id\":1},{\"id\":9223372036854775807}]", "[{\"id\":1},{\"id\":\"9223372036854775807\"}]");
    expect("{\"id\":0}", "{\"id\":0}");
    expect("{\"id\":-0}", "{\"id\":-0.0}");
}

static void other_values_stay(void **state) {
    static const char *const texts[] = {
        "{\"other\":-0}",
        "{\"id\":\"x\",\"a\":\"\\\"id\\\":18446744073709551616\"}",
        "{\"id\":[1,2],\"ids\":{\"k\":1.5e+300}}",
        "\"id\"",
        "{\"id\":null,\"key\":true}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        json_t *ours = load(texts[i]), *theirs = json_loads(texts[i], JSON_DECODE_ANY, NULL);

        assert_non_null(ours);
        assert_true(json_equal(ours, theirs));
        json_decref(ours);
        json_decref(theirs);
    }
}

static void what_is_not_json_stays_an_error(void **state) {
    static const char *const texts[] = {
        "",
        "{\"id\":01234567890123456789}",
        "{\"id\":18446744073709551616",
        "{\"other\":18446744073709551616}",
        "{\"id\":-18446744073709551616}",
        "{\"id\" 18446744073709551616}",
        "{\"id\":1,\"id\":2}",
        "{\"id\":\"",
        "{\"id\\",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_null(load(texts[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_any_length_are_names),
        cmocka_unit_test(other_values_stay),
        cmocka_unit_test(what_is_not_json_stays_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
