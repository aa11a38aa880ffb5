#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "channel/conflation_key.h"

/* Copies of exact size, so that AddressSanitizer detects a read past their end. */
static bool find_key(const char *path, const char *message, struct buffer *key) {
    size_t path_length = strlen(path), length = strlen(message);
    char *path_copy = malloc(path_length + 1), *copy = malloc(length + 1);
    bool found;

    assert_non_null(path_copy);
    assert_non_null(copy);
    memcpy(path_copy, path, path_length);
    memcpy(copy, message, length);
    path_copy = realloc(path_copy, path_length != 0 ? path_length : 1);
    copy = realloc(copy, length);
    found = conflation_key_of((struct slice){path_copy, path_length}, (struct slice){copy, length}, key);
    free(path_copy);
    free(copy);
    return found;
}

static void assert_key(const char *path, const char *message, const char *wanted) {
    struct buffer key = {0};

    buffer_append(&key, SLICE("before:"));
    if (!find_key(path, message, &key))
        fail_msg("%s finds no key in %s", path, message);
    if (strcmp(buffer_string(&key) + strlen("before:"), wanted) != 0)
        fail_msg("%s finds %s, not %s, in %s", path, buffer_string(&key), wanted, message);
    buffer_dispose(&key);
}

static void assert_no_key(const char *path, const char *message) {
    struct buffer key = {0};

    buffer_append(&key, SLICE("before:"));
    if (find_key(path, message, &key))
        fail_msg("%s finds %s in %s", path, buffer_string(&key), message);
    assert_int_equal(key.length, strlen("before:"));
    buffer_dispose(&key);
}

/* The frame of a published event whose data is `data`, in a string. */
static const char *published(const char *data) {
    static struct buffer frame;

    frame.length = 0;
    buffer_append(&frame, SLICE("{\"event\":\"tick\",\"channel\":\"prices\",\"data\":"));
    json_append_string(&frame, slice_of(data));
    buffer_append(&frame,
                  SLICE(",\"user_id\":\"u7\",\"tags\":{\"symbol\":\"GOLD\",\"data.x\":\"dotted\",\"\":\"none\"}}"));
    return buffer_string(&frame);
}

#define CLIENT_EVENT(data) "{\"event\":\"client-move\",\"channel\":\"private-map\",\"data\":" data "}"

static void one_name_is_looked_up_in_the_message_and_then_in_its_data(void **state) {
    (void)state;
    assert_key("event", published("{\"event\":\"other\"}"), "tick");
    assert_key("channel", published("{}"), "prices");
    assert_key("user_id", published("{}"), "u7");
    assert_key("data", published("plain text"), "plain text");
    assert_key("symbol", published("{\"symbol\":\"ABC\",\"price\":1.5}"), "ABC");
    assert_key("symbol", CLIENT_EVENT("{\"symbol\":\"ABC\"}"), "ABC");
    assert_key("symbol", CLIENT_EVENT("\"{\\\"symbol\\\":\\\"ABC\\\"}\""), "ABC");
    assert_no_key("symbol", published("{\"price\":1.5}"));
    assert_no_key("symbol", published("no JSON"));
    assert_no_key("symbol", published("[{\"symbol\":\"ABC\"}]"));
    assert_no_key("symbol", published("\"{\\\"symbol\\\":\\\"ABC\\\"}\""));
    assert_no_key("symbol", CLIENT_EVENT("null"));
    assert_no_key("symbol", CLIENT_EVENT("5"));
}

static void a_dotted_path_walks_the_message_and_then_its_data(void **state) {
    (void)state;
    assert_key("tags.symbol", published("{\"tags\":{\"symbol\":\"inner\"}}"), "GOLD");
    assert_key("tags.other", published("{\"tags\":{\"other\":\"inner\"}}"), "inner");
    assert_key("a.b.c", published("{\"a\":{\"b\":{\"c\":\"deep\"}}}"), "deep");
    assert_key("data.a.b", published("{\"a\":{\"b\":\"text\"}}"), "text");
    assert_key("data.a.b", CLIENT_EVENT("{\"a\":{\"b\":\"object\"}}"), "object");
    assert_key("data.a", CLIENT_EVENT("\"{\\\"a\\\":1}\""), "1");
    assert_no_key("data.a.b", published("{\"data\":{\"a\":{\"b\":\"text\"}}}"));
    assert_no_key("a.b", published("{\"a\":\"{\\\"b\\\":1}\"}"));
    assert_no_key("a.0", published("{\"a\":[1,2]}"));
    assert_no_key("a[0]", published("{\"a\":[1,2]}"));
    assert_no_key("event.x", published("{}"));
}

static void odd_paths_find_nothing(void **state) {
    (void)state;
    assert_no_key("", published("{\"a\":1}"));
    assert_no_key(".", published("{\"a\":1}"));
    assert_no_key("a.", published("{\"a\":1}"));
    assert_no_key(".a", published("{\"a\":1}"));
    assert_key("tags.", published("{}"), "none");
    assert_key(
        "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16",
        published("{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":{\"11\":{\"12\":{\"13\":{"
                  "\"14\":{\"15\":{\"16\":true}}}}}}}}}}}}}}}}"),
        "true");
    assert_no_key("1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17",
                  published("{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":{\"11\":{\"12\":{"
                            "\"13\":{\"14\":{\"15\":{\"16\":{\"17\":true}}}}}}}}}}}}}}}}}"));
}

static void values_become_text(void **state) {
    (void)state;
    assert_key("k", published("{\"k\":\"a\\\\b\"}"), "a\\b");
    assert_key("k", published("{\"k\":\"\\u00e9:x\"}"), "\u00e9:x");
    assert_key("k", published("{\"k\":\"\\ud83d\\ude00\\n\\u0007\"}"), "\U0001F600\n\a");
    assert_key("k", published("{\"k\":\" \"}"), " ");
    assert_key("k", published("{\"k\":17}"), "17");
    assert_key("k", published("{\"k\":-3}"), "-3");
    assert_key("k", published("{\"k\":1.50}"), "1.5");
    assert_key("k", published("{\"k\":1e+21}"), "1e21");
    assert_key("k", published("{\"k\":true}"), "true");
    assert_key("k", published("{\"k\":false}"), "false");
    assert_key("k", published("{\"k\":null}"), "null");
    assert_key("k", published("{\"k\":{ }}"), "{}");
    assert_key("k", published("{\"k\":[ 1 , 2.50,\n\t[-0.10e1,true ], null]}"), "[1,2.5,[-1.0,true],null]");
    assert_key("k", published("{\"k\":1,\"k\":2}"), "2");
    assert_key("k", published("{\"\\u006b\":1}"), "1");
}

static void values_without_a_key(void **state) {
    (void)state;
    assert_no_key("k", published("{\"k\":\"\"}"));
    assert_no_key("k", published("{\"k\":\"q\\\"x\"}"));
    assert_no_key("k", published("{\"k\":\"q\\u0022x\"}"));
    assert_no_key("k", published("{\"k\":{\"a\":1}}"));
    assert_no_key("k", published("{\"k\":[\"a\"]}"));
    assert_no_key("k", published("{\"k\":1e999}"));
    assert_no_key("k", published("{\"k\":[1e999]}"));
    assert_no_key("k", published("{\"k\":1,}"));
}

static void a_key_has_a_longest_length(void **state) {
    char data[8 + 2 * CONFLATION_KEY_MAX], wanted[CONFLATION_KEY_MAX + 1] = {0};

    (void)state;
    memset(wanted, 'x', CONFLATION_KEY_MAX);
    snprintf(data, sizeof data, "{\"k\":\"%s\"}", wanted);
    assert_key("k", published(data), wanted);
    snprintf(data, sizeof data, "{\"k\":\"%sx\"}", wanted);
    assert_no_key("k", published(data));
    /* So many numbers have CONFLATION_KEY_MAX + 1 bytes with their commas and brackets. */
    memset(wanted, ',', CONFLATION_KEY_MAX);
    for (size_t i = 0; i + 1 < CONFLATION_KEY_MAX; i += 2)
        wanted[i] = '1';
    wanted[CONFLATION_KEY_MAX - 1] = '\0';
    snprintf(data, sizeof data, "{\"k\":[%s]}", wanted);
    assert_no_key("k", published(data));
    wanted[CONFLATION_KEY_MAX - 3] = '\0';
    snprintf(data, sizeof data, "{\"k\":[%s]}", wanted);
    snprintf(wanted, sizeof wanted, "%.*s", CONFLATION_KEY_MAX, data + strlen("{\"k\":"));
    wanted[strlen(wanted) - 1] = '\0'; /* the brace */
    assert_int_equal(strlen(wanted), CONFLATION_KEY_MAX - 1);
    assert_key("k", published(data), wanted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_name_is_looked_up_in_the_message_and_then_in_its_data),
        cmocka_unit_test(a_dotted_path_walks_the_message_and_then_its_data),
        cmocka_unit_test(odd_paths_find_nothing),
        cmocka_unit_test(values_become_text),
        cmocka_unit_test(values_without_a_key),
        cmocka_unit_test(a_key_has_a_longest_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
