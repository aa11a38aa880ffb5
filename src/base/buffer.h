/*
 * A growing array of bytes, to build text and to collect input.
 *
 * `struct buffer buffer = {0}` is an empty buffer; buffer_dispose frees its memory. The functions that append end the
 * process if memory runs out; for input whose size a client decides, call buffer_try_reserve first.
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

/* Frees the memory of a buffer that has some. */
void buffer_release(struct buffer *buffer);

/* Frees the memory; the buffer is empty afterwards and can be used again. Most buffers that are disposed of were never
 * needed. */
static inline void buffer_dispose(struct buffer *buffer) {
    if (buffer->data != NULL)
        buffer_release(buffer);
}

/* Reserves capacity for `extra` more bytes. False if there is no memory; the buffer is then unchanged. */
bool buffer_try_reserve(struct buffer *buffer, size_t extra) __attribute__((warn_unused_result));

/* Sets the capacity, which is at least the length. False if there is no memory; the buffer is then unchanged. */
bool buffer_try_resize(struct buffer *buffer, size_t capacity) __attribute__((warn_unused_result));

/* Reserves as buffer_try_reserve does, but ends the process if there is no memory. */
void buffer_reserve(struct buffer *buffer, size_t extra);

/* Append bytes, a slice, a string or a single byte. */
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

/* Appends formatted text, as printf does. */
void buffer_appendf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Returns the bytes as a string, with a zero byte that `length` does not count. Valid until the buffer changes. */
static inline char *buffer_string(struct buffer *buffer) {
    if (buffer->capacity == buffer->length)
        buffer_reserve(buffer, 1);
    buffer->data[buffer->length] = '\0';
    return buffer->data;
}

/* Returns the bytes as a slice, valid until the buffer changes. */
static inline struct slice buffer_slice(const struct buffer *buffer) {
    return (struct slice){buffer->data, buffer->length};
}
