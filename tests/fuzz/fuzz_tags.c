/*
 * Any bytes as the tags of an event. What is taken is within the limits and equals what jansson reads; written and read
 * again it is the same text.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "channel/filter/tags.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_truth(bool truth) {
    if (!truth)
        abort();
}

/* Checks the tags against the tree, in both directions. */
static void check_tree(const struct tags *tags, json_t *tree) {
    struct buffer written = {0};
    json_t *again, *value;
    struct tag_found found;
    const char *key;

    check_truth(json_is_object(tree) && json_object_size(tree) <= TAGS_MAX);
    json_object_foreach(tree, key, value) {
        struct slice text = {json_string_value(value), json_string_length(value)};
        check_truth(json_is_string(value) && text.length <= TAG_VALUE_MAX);
        check_truth(strlen(key) != 0 && strlen(key) <= TAG_KEY_MAX);
        check_truth(tags_find(tags, slice_of(key), &found) && slice_equal(found.value, text));
    }
    tags_append_json(&written, tags);
    again = json_loadb(written.data, written.length, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    check_truth(again != NULL && json_equal(again, tree));
    json_decref(again);
    buffer_dispose(&written);
}

/* Checks that the tags, written, give themselves again. */
static void check_round_trip(const struct tags *tags) {
    struct buffer first = {0}, second = {0};
    struct error error;
    struct tags *again;

    tags_append_json(&first, tags);
    again = tags_parse(buffer_slice(&first), &error);
    check_truth(again != NULL);
    tags_append_json(&second, again);
    check_truth(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    tags_unref(again);
    buffer_dispose(&first);
    buffer_dispose(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = malloc(size != 0 ? size : 1);
    struct slice text = {copy, size};
    struct error error;
    struct tags *tags;
    json_t *tree;

    check_truth(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    if (utf8_valid(text) && (tags = tags_parse(text, &error)) != NULL) {
        check_round_trip(tags);
        /* jansson refuses some of what JSON allows: half surrogates, and zero bytes in names. */
        tree = json_loadb(copy, size, JSON_ALLOW_NUL, NULL);
        if (tree != NULL)
            check_tree(tags, tree);
        json_decref(tree);
        tags_unref(tags);
    }
    free(copy);
    return 0;
}
