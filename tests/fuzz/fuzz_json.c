/*
 * Any bytes as JSON. An accepted text must give the same values through all functions that read it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_fault.h"
#include "base/json_load.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

static bool same(struct json_value a, struct json_value b) {
    return a.type == b.type && a.escaped == b.escaped && a.token.data == b.token.data &&
           a.token.length == b.token.length;
}

/* Checks a string: decoded, it is UTF-8 of the computed length, and it is the same after encoding and decoding again.
 */
static void check_string(struct json_value string) {
    struct buffer storage = {0}, token = {0}, again = {0};
    struct slice text = json_decode_string(string, &storage);
    struct json_value value;

    check(text.length == json_decoded_length(string));
    check(utf8_valid(text));
    check(string.escaped == (memchr(string.token.data, '\\', string.token.length) != NULL));
    json_append_string(&token, text);
    check(json_scan(buffer_slice(&token), &value, NULL));
    check(value.type == JSON_TYPE_STRING && json_decoded_length(value) == text.length);
    check(slice_equal(json_decode_string(value, &again), text));
    buffer_dispose(&storage);
    buffer_dispose(&token);
    buffer_dispose(&again);
}

/* Checks that only blanks, commas and colons are between the tokens of an iteration. */
static void check_between(const char *at, const char *end) {
    for (; at != end; at++)
        check(strchr(" \t\r\n,:", *at) != NULL && *at != '\0');
}

/* Checks a value and its first levels of nesting; tokens of deeper levels are scanned as texts of their own. */
static void check_value(struct json_value value, unsigned depth) {
    struct json_value key, element, scanned;
    struct json_iterator iterator = json_iterate(value);
    const char *at = iterator.at;

    check(json_scan(value.token, &scanned, NULL));
    check(same(scanned, value));
    if (value.type == JSON_TYPE_STRING)
        check_string(value);
    if (value.type == JSON_TYPE_NUMBER)
        check(json_is_whole_number(value) == (strcspn(value.token.data, ".eE") >= value.token.length));
    while (json_next(&iterator, &key, &element)) {
        check((key.type == JSON_TYPE_STRING) == (value.type == JSON_TYPE_OBJECT));
        if (key.type == JSON_TYPE_STRING) {
            check_between(at, key.token.data);
            check_string(key);
            at = key.token.data + key.token.length;
        }
        check_between(at, element.token.data);
        at = element.token.data + element.token.length;
        if (depth < 4)
            check_value(element, depth + 1);
    }
    if (value.type == JSON_TYPE_OBJECT || value.type == JSON_TYPE_ARRAY)
        check_between(at, value.token.data + value.token.length - 1);
}

/* Checks that json_scan_object returns the last member of each name in the order of the iteration. */
static void check_members(struct slice text, struct json_value object) {
    static const struct slice names[] = {{"event", 5}, {"data", 4}, {"channel", 7}, {"", 0}};
    struct json_value picked[4], wanted[4] = {0}, key, value;
    struct json_iterator iterator = json_iterate(object);
    struct buffer storage = {0};

    check(json_scan_object(text, names, picked, 4, NULL) == (object.type == JSON_TYPE_OBJECT));
    if (object.type != JSON_TYPE_OBJECT)
        return;
    while (json_next(&iterator, &key, &value)) {
        storage.length = 0;
        for (size_t i = 0; i < 4; i++)
            if (slice_equal(json_decode_string(key, &storage), names[i]))
                wanted[i] = value;
    }
    for (size_t i = 0; i < 4; i++)
        check(picked[i].type == wanted[i].type && (picked[i].type == JSON_TYPE_ABSENT || same(picked[i], wanted[i])));
    buffer_dispose(&storage);
}

/* True if a text of JSON has \u0000 in a string: that is valid, but json_find_fault() does not allow it. */
static bool holds_zero(struct slice json) {
    for (size_t i = 0; i + 6 <= json.length; i++)
        if (json.data[i] == '\\') {
            if (memcmp(json.data + i, "\\u0000", 6) == 0)
                return true;
            i++;
        }
    return false;
}

/* Checks that a text which jansson reads is read by json_load_text, too. */
static void check_load(struct slice text) {
    json_t *plain = json_loadb(text.data, text.length, JSON_DECODE_ANY, NULL);
    json_t *loaded = json_load_text(text, JSON_DECODE_ANY, NULL);

    check(plain == NULL || loaded != NULL);
    json_decref(plain);
    json_decref(loaded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* The scanner gets a copy of exact size; strcspn above gets one that is terminated by a zero byte. */
    char *exact = malloc(size != 0 ? size : 1), *terminated = malloc(size + 1);
    struct slice text = {terminated, size};
    struct json_value value;
    struct error error = {0};
    bool valid;

    check(exact != NULL && terminated != NULL);
    if (size != 0) {
        memcpy(exact, data, size);
        memcpy(terminated, data, size);
    }
    terminated[size] = '\0';
    valid = json_scan((struct slice){exact, size}, &value, &error);
    check(valid == (error.text[0] == '\0'));
    check(json_scan_object((struct slice){exact, size}, NULL, NULL, 0, NULL) ==
          (valid && value.type == JSON_TYPE_OBJECT));
    if (utf8_valid(text)) {
        struct text_position position = {0};

        check(json_find_fault((struct slice){exact, size}, &position, NULL) == (!valid || holds_zero(text)));
        check(valid || (position.line >= 1 && position.line <= size + 1 && position.column >= 1));
    }
    check_load((struct slice){exact, size});
    if (valid && utf8_valid(text)) {
        check(json_scan(text, &value, NULL));
        check_between(text.data, value.token.data);
        check_between(value.token.data + value.token.length, text.data + text.length);
        check_value(value, 0);
        check_members(text, value);
    }
    free(exact);
    free(terminated);
    return 0;
}
