/*
 * A growing array of bytes, for building text and for collecting input.
 *
 * Zero-initialise it (`struct buffer buffer = {0}`) and give it back with buffer_dispose. The appending functions
 * treat lack of memory as fatal; input whose size a client decides goes through buffer_try_reserve first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/slice.h"

struct buffer {
    char *data;
    size_t length;
    size_t capacity;
};

void buffer_dispose(struct buffer *buffer);

/* Makes room for `extra` more bytes behind `length`; false, with the buffer unchanged, if there is no memory. */
bool buffer_try_reserve(struct buffer *buffer, size_t extra) __attribute__((warn_unused_result));

/* The same, with lack of memory fatal. */
void buffer_reserve(struct buffer *buffer, size_t extra);

static inline void buffer_append_bytes(struct buffer *buffer, const void *data, size_t length) {
    if (length == 0)
        return;
    if (buffer->capacity - buffer->length < length)
        buffer_reserve(buffer, length);
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

static inline void buffer_append(struct buffer *buffer, struct slice text) {
    buffer_append_bytes(buffer, text.data, text.length);
}

static inline void buffer_append_string(struct buffer *buffer, const char *string) {
    buffer_append_bytes(buffer, string, strlen(string));
}

static inline void buffer_append_byte(struct buffer *buffer, char byte) {
    buffer_append_bytes(buffer, &byte, 1);
}

/* Appends a decimal number. */
void buffer_append_number(struct buffer *buffer, unsigned long long number);

void buffer_appendf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The bytes as a string: a zero byte behind them, not counted in `length`. Valid until the buffer changes. */
static inline char *buffer_string(struct buffer *buffer) {
    if (buffer->capacity == buffer->length)
        buffer_reserve(buffer, 1);
    buffer->data[buffer->length] = '\0';
    return buffer->data;
}

static inline struct slice buffer_slice(const struct buffer *buffer) {
    return (struct slice){buffer->data, buffer->length};
}
