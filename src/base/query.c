#include "base/query.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void percent_decode(struct slice text, struct buffer *out) {
    while (text.length != 0) {
        const char *percent = memchr(text.data, '%', text.length);
        size_t plain = percent != NULL ? (size_t)(percent - text.data) : text.length;
        int high, low;

        buffer_append_bytes(out, text.data, plain);
        text = slice_skip(text, plain);
        if (text.length == 0)
            return;
        high = text.length >= 3 ? hex_digit_value(text.data[1]) : -1;
        low = text.length >= 3 ? hex_digit_value(text.data[2]) : -1;
        if (high < 0 || low < 0) {
            buffer_append_byte(out, '%');
            text = slice_skip(text, 1);
        } else {
            buffer_append_byte(out, (char)(high << 4 | low));
            text = slice_skip(text, 3);
        }
    }
}

/* Removes and returns the part of `text` before `separator`, and removes the separator; without one, all of `text`. */
static inline struct slice cut_parameter(struct slice *text, char separator) {
    const char *found = text->length != 0 ? memchr(text->data, separator, text->length) : NULL;
    struct slice before = *text;

    if (found == NULL) {
        *text = (struct slice){text->data, 0};
        return before;
    }
    before.length = (size_t)(found - text->data);
    *text = slice_skip(*text, before.length + 1);
    return before;
}

/* Returns a part of a parameter decoded. Without room reserved, nothing is encoded. */
static inline struct slice decode_part(struct slice text, struct buffer *storage) {
    size_t start = storage->length;

    if (storage->capacity == 0 || text.length == 0 || memchr(text.data, '%', text.length) == NULL)
        return text;
    percent_decode(text, storage);
    return (struct slice){storage->data + start, storage->length - start};
}

/* Returns the next free parameter. */
static struct query_parameter *add_parameter(struct query *query) {
    if (query->count == query->capacity) {
        struct query_parameter *old = query->parameters != query->inlined ? query->parameters : NULL;
        query->parameters = alloc_array(old, 2 * query->capacity, sizeof *old);
        if (old == NULL)
            memcpy(query->parameters, query->inlined, sizeof query->inlined);
        query->capacity *= 2;
    }
    return &query->parameters[query->count++];
}

void query_parse(struct query *query, struct slice text) {
    query->parameters = query->inlined;
    query->count = 0;
    query->capacity = QUERY_INLINE;
    query->storage = (struct buffer){0};
    /* Decoding never lengthens the text, so the storage does not move while parameters point into it. */
    if (text.length != 0 && memchr(text.data, '%', text.length) != NULL)
        buffer_reserve(&query->storage, text.length);
    while (text.length != 0) {
        struct slice value = cut_parameter(&text, '&');
        struct query_parameter *parameter;
        if (value.length == 0)
            continue;
        parameter = add_parameter(query);
        parameter->key = decode_part(cut_parameter(&value, '='), &query->storage);
        parameter->value = decode_part(value, &query->storage);
    }
}

void query_dispose(struct query *query) {
    if (query->parameters != query->inlined)
        free(query->parameters);
    buffer_dispose(&query->storage);
}

bool query_find(const struct query *query, struct slice key, struct slice *value) {
    for (size_t i = query->count; i-- != 0;)
        if (slice_equal_ignoring_case(query->parameters[i].key, key)) {
            *value = query->parameters[i].value;
            return true;
        }
    return false;
}
