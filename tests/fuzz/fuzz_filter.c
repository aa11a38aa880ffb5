/*
 * Any line as a filter, and the rest as the tags of an event. The compiler takes a filter exactly if a reference finds
 * it valid, and the program says of the tags what the reference says, which walks the tree of jansson.
 */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/number_text.h"
#include "base/utf8.h"
#include "channel/filter/filter.h"
#include "channel/filter/tag_number.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_truth(bool truth) {
    if (!truth)
        abort();
}

/* --- the reference: validity --- */

static json_t *member(const json_t *node, const char *name) {
    json_t *value = json_object_get(node, name);

    return json_is_null(value) ? NULL : value;
}

static struct slice string_of(const json_t *string) {
    return (struct slice){json_string_value(string), json_string_length(string)};
}

static bool is_word(const json_t *value, const char *word) {
    return json_is_string(value) && slice_equal(string_of(value), slice_of(word));
}

static bool is_one_of(const json_t *value, const char *const *words) {
    for (; *words != NULL; words++)
        if (is_word(value, *words))
            return true;
    return false;
}

static bool valid_value(const json_t *value) {
    return json_is_boolean(value) || json_is_number(value) ||
           (json_is_string(value) && json_string_length(value) <= 1024);
}

static bool valid_leaf(const json_t *node) {
    static const char *const lists[] = {"in", "nin", NULL};
    static const char *const presences[] = {"ex", "nex", NULL};
    static const char *const others[] = {"eq", "neq", "sw", "ew", "ct", "gt", "gte", "lt", "lte", NULL};
    const json_t *key = member(node, "key"), *cmp = member(node, "cmp"), *val = member(node, "val");
    const json_t *vals = member(node, "vals"), *value;
    size_t i;

    if (member(node, "nodes") != NULL || !json_is_string(key) || json_string_length(key) == 0 ||
        json_string_length(key) > 256 || (val != NULL && !valid_value(val)))
        return false;
    if (vals != NULL && (!json_is_array(vals) || json_array_size(vals) > 128))
        return false;
    json_array_foreach(vals, i, value) if (!valid_value(value)) return false;
    if (is_one_of(cmp, lists))
        return json_array_size(vals) != 0;
    if (is_one_of(cmp, presences))
        return true;
    return is_one_of(cmp, others) && val != NULL && !(json_is_string(val) && json_string_length(val) == 0);
}

static bool valid_node(const json_t *node, unsigned depth, unsigned *nodes) {
    static const char *const operators[] = {"and", "or", "not", NULL};
    const json_t *op = member(node, "op"), *children = member(node, "nodes"), *child;
    size_t i;

    if (!json_is_object(node) || depth > 16 || ++*nodes > 128)
        return false;
    if (op == NULL)
        return valid_leaf(node);
    if (!is_one_of(op, operators) || !json_is_array(children) || json_array_size(children) == 0 ||
        (is_word(op, "not") && json_array_size(children) != 1))
        return false;
    if (member(node, "key") != NULL || member(node, "cmp") != NULL || member(node, "val") != NULL ||
        member(node, "vals") != NULL)
        return false;
    json_array_foreach(children, i, child) if (!valid_node(child, depth + 1, nodes)) return false;
    return true;
}

static bool valid_filter(const json_t *filter) {
    unsigned nodes = 0;

    if (member(filter, "events") != NULL || member(filter, "expression") != NULL)
        return false;
    return valid_node(filter, 1, &nodes);
}

/* --- the reference: evaluation --- */

/* Appends the text that a value is compared as. */
static void append_text(struct buffer *out, const json_t *value) {
    char number[64];

    if (json_is_string(value)) {
        buffer_append(out, string_of(value));
    } else if (json_is_boolean(value)) {
        buffer_append_string(out, json_is_true(value) ? "true" : "false");
    } else if (json_is_integer(value)) {
        buffer_appendf(out, "%lld", (long long)json_integer_value(value));
    } else {
        snprintf(number, sizeof number, "%.17e", json_real_value(value));
        check_truth(number_text_append(out, slice_of(number)));
    }
}

static bool equals_value(const json_t *value, struct slice tag) {
    struct buffer text = {0};
    bool equal;

    append_text(&text, value);
    equal = slice_equal(buffer_slice(&text), tag);
    buffer_dispose(&text);
    return equal;
}

/* A slow reader of numbers: only bytes of numbers and words, and strtod takes all of them. */
static bool read_number(struct slice text, double *number) {
    char copy[TAG_NUMBER_MAX + 1], *end;

    if (text.length == 0 || text.length >= sizeof copy || memchr(text.data, '\0', text.length) != NULL)
        return false;
    snprintf(copy, sizeof copy, "%.*s", SLICE_ARGS(text));
    if (strspn(copy, "0123456789+-.eEinfatyINFATY") != text.length)
        return false;
    *number = strtod(copy, &end);
    return end == copy + text.length;
}

static bool is_in_order(const json_t *cmp, const json_t *val, struct slice tag) {
    struct buffer text = {0};
    double left, right;
    bool numbers;

    append_text(&text, val);
    numbers = read_number(tag, &left) && read_number(buffer_slice(&text), &right);
    buffer_dispose(&text);
    if (!numbers || isnan(left) || isnan(right))
        return false;
    return is_word(cmp, "gt")    ? left > right
           : is_word(cmp, "gte") ? left >= right
           : is_word(cmp, "lt")  ? left < right
                                 : left <= right;
}

static bool text_passes(const json_t *cmp, const json_t *val, struct slice tag) {
    struct buffer text = {0};
    struct slice part;
    bool passes = false;

    append_text(&text, val);
    part = buffer_slice(&text);
    for (size_t i = 0; i + part.length <= tag.length; i++) {
        bool here = memcmp(tag.data + i, part.data, part.length) == 0;
        passes |= here && (is_word(cmp, "ct") || (is_word(cmp, "sw") && i == 0) ||
                           (is_word(cmp, "ew") && i + part.length == tag.length));
    }
    buffer_dispose(&text);
    return passes;
}

static bool leaf_says(const json_t *node, const json_t *tags) {
    const json_t *cmp = member(node, "cmp"), *val = member(node, "val"), *value;
    const json_t *tag =
        json_object_getn(tags, json_string_value(member(node, "key")), json_string_length(member(node, "key")));
    size_t i;

    if (tag == NULL || is_word(cmp, "ex") || is_word(cmp, "nex"))
        return is_word(cmp, tag != NULL ? "ex" : "nex") ||
               (tag == NULL && (is_word(cmp, "neq") || is_word(cmp, "nin")));
    if (is_word(cmp, "eq") || is_word(cmp, "neq"))
        return equals_value(val, string_of(tag)) == is_word(cmp, "eq");
    if (is_word(cmp, "in") || is_word(cmp, "nin")) {
        bool listed = false;
        json_array_foreach(member(node, "vals"), i, value) listed |= equals_value(value, string_of(tag));
        return listed == is_word(cmp, "in");
    }
    if (is_word(cmp, "sw") || is_word(cmp, "ew") || is_word(cmp, "ct"))
        return text_passes(cmp, val, string_of(tag));
    return is_in_order(cmp, val, string_of(tag));
}

static bool node_says(const json_t *node, const json_t *tags) {
    const json_t *op = member(node, "op"), *child;
    bool all = true, any = false;
    size_t i;

    if (op == NULL)
        return leaf_says(node, tags);
    json_array_foreach(member(node, "nodes"), i, child) {
        bool says = node_says(child, tags);
        all &= says;
        any |= says;
    }
    return is_word(op, "and") ? all : is_word(op, "or") ? any : !any;
}

/* --- the comparison --- */

/* NULL for -0, which jansson takes for a whole number, too. */
static json_t *tree_of(struct slice text, size_t flags) {
    if (memmem(text.data, text.length, "-0", 2) != NULL)
        return NULL;
    return json_loadb(text.data, text.length, JSON_ALLOW_NUL | JSON_DECODE_ANY | flags, NULL);
}

static void try_filter(struct slice filter_text, struct slice tags_text) {
    struct buffer program = {0};
    struct json_value json;
    struct error error;
    struct tags *tags = NULL;
    json_t *tree = tree_of(filter_text, JSON_REJECT_DUPLICATES), *tags_tree = tree_of(tags_text, 0);
    bool taken;

    if (json_scan(filter_text, &json, &error)) {
        taken = filter_compile(json, &program, &error);
        /* jansson refuses some of what JSON allows: half surrogates, zero bytes in names, large numbers. */
        check_truth(tree == NULL || taken == valid_filter(tree) ||
                    (!taken && strstr(error.text, "too large to compare") != NULL));
        if (taken) {
            tags = tags_parse(tags_text, &error);
            bool passes = filter_evaluate(buffer_slice(&program), tags);
            if (tree != NULL && (tags == NULL || tags_tree != NULL))
                check_truth(passes == node_says(tree, tags != NULL ? tags_tree : NULL));
        }
    }
    tags_unref(tags);
    json_decref(tree);
    json_decref(tags_tree);
    buffer_dispose(&program);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *line_end = memchr(data, '\n', size);
    size_t length = line_end != NULL ? (size_t)(line_end - data) : size;
    char *filter = malloc(length + 1), *rest = malloc(size - length + 1);
    size_t skipped = line_end != NULL ? length + 1 : length;

    check_truth(filter != NULL && rest != NULL);
    if (length != 0)
        memcpy(filter, data, length);
    if (size != skipped)
        memcpy(rest, data + skipped, size - skipped);
    if (utf8_valid((struct slice){filter, length}) && utf8_valid((struct slice){rest, size - skipped}))
        try_filter((struct slice){filter, length}, (struct slice){rest, size - skipped});
    free(filter);
    free(rest);
    return 0;
}
