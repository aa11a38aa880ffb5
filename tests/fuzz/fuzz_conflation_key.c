/*
 * Any path and any message, with a line break between them. A key must be what a tree of the message has at the path.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/delta_setting.h"
#include "base/json.h"
#include "base/utf8.h"
#include "channel/conflation_key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

static json_t *load(const char *text, size_t length) {
    return json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

/* Follows the path from a tree down; NULL if it leads nowhere. A borrowed reference. */
static json_t *walk(json_t *tree, const char *path, size_t length) {
    while (tree != NULL) {
        const char *dot = memchr(path, '.', length);
        size_t name = dot != NULL ? (size_t)(dot - path) : length;

        tree = json_object_getn(tree, path, name);
        if (dot == NULL)
            break;
        path += name + 1;
        length -= name + 1;
    }
    return tree;
}

/* The value by the rule of the header, a new reference. False if a tree cannot tell: jansson refuses some numbers and
 * escapes. */
static bool find_in_trees(const char *path, size_t length, const char *text, size_t text_length, json_t **value) {
    bool in_data = length > 5 && memcmp(path, "data.", 5) == 0;
    json_t *tree = load(text, text_length), *data, *inner = NULL;

    if (tree == NULL)
        return false;
    *value = walk(tree, path, length);
    data = json_object_get(tree, "data");
    if (json_is_string(data)) {
        struct json_value whole;
        struct slice inner_text = {json_string_value(data), json_string_length(data)};

        inner = load(inner_text.data, inner_text.length);
        if (inner == NULL && json_scan(inner_text, &whole, NULL)) {
            json_decref(tree);
            return false;
        }
        data = inner;
    }
    if (*value == NULL && in_data)
        *value = walk(data, path + 5, length - 5);
    else if (*value == NULL && !(length == 4 && memcmp(path, "data", 4) == 0))
        *value = walk(data, path, length);
    json_incref(*value);
    json_decref(inner);
    json_decref(tree);
    return true;
}

static void check_against_trees(const char *path, size_t length, const char *text, size_t text_length,
                                const struct buffer *key, bool found) {
    json_t *value = NULL;

    if (!find_in_trees(path, length, text, text_length, &value))
        return;
    check(!found || value != NULL);
    if (json_is_string(value)) {
        size_t bytes = json_string_length(value);
        bool fits = bytes != 0 && bytes <= CONFLATION_KEY_MAX && memchr(json_string_value(value), '"', bytes) == NULL;

        check(found == fits);
        check(!found || (key->length == bytes && memcmp(key->data, json_string_value(value), bytes) == 0));
    } else if (json_is_boolean(value) || json_is_null(value)) {
        const char *word = json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false";

        check(found && slice_equal(buffer_slice(key), slice_of(word)));
    } else if (json_is_number(value)) {
        json_t *again = found ? load(key->data, key->length) : NULL;

        check(!found || json_number_value(again) == json_number_value(value));
        json_decref(again);
    } else if (json_array_size(value) != 0 && found) {
        json_t *again = load(key->data, key->length);

        check(json_array_size(again) == json_array_size(value));
        json_decref(again);
    }
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = (const char *)data;
    const char *line = size != 0 ? memchr(path, '\n', size) : NULL;
    struct buffer key = {0};
    struct json_value whole;
    size_t length, text_length, dots = 0;
    bool found;

    if (line == NULL)
        return 0;
    length = (size_t)(line - path);
    text_length = size - length - 1;
    if (!utf8_valid((struct slice){path, length}) || !utf8_valid((struct slice){line + 1, text_length}))
        return 0;
    app_conflation_path_odd((struct slice){path, length});
    found = conflation_key_of((struct slice){path, length}, (struct slice){line + 1, text_length}, &key);
    check(found == (key.length != 0));
    check(key.length <= CONFLATION_KEY_MAX && utf8_valid(buffer_slice(&key)));
    check(!found || memchr(key.data, '"', key.length) == NULL);
    for (size_t i = 0; i < length; i++)
        dots += path[i] == '.';
    if (json_scan((struct slice){line + 1, text_length}, &whole, NULL) && length != 0 &&
        dots < APP_CONFLATION_NAMES_MAX)
        check_against_trees(path, length, line + 1, text_length, &key, found);
    buffer_dispose(&key);
    return 0;
}
