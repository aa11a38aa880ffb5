#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void buffer_release(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

bool buffer_try_resize(struct buffer *buffer, size_t capacity) {
    char *data = realloc(buffer->data, capacity);

    if (data == NULL)
        return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

bool buffer_try_reserve(struct buffer *buffer, size_t extra) {
    size_t wanted, capacity;

    if (buffer->capacity - buffer->length >= extra)
        return true;
    if (__builtin_add_overflow(buffer->length, extra, &wanted) || wanted > SIZE_MAX / 2)
        return false;
    capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity < wanted)
        capacity *= 2;
    return buffer_try_resize(buffer, capacity);
}

void buffer_reserve(struct buffer *buffer, size_t extra) {
    if (!buffer_try_reserve(buffer, extra)) {
        fprintf(stderr, "curlew: out of memory: a buffer of %zu bytes could not grow by %zu\n", buffer->length, extra);
        abort();
    }
}

void buffer_append_number(struct buffer *buffer, unsigned long long number) {
    char digits[NUMBER_DIGITS];

    buffer_append(buffer, slice_of_number(number, digits));
}

void buffer_appendf(struct buffer *buffer, const char *format, ...) {
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    buffer_reserve(buffer, (size_t)length + 1);
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
}
