#include "cluster/redis/redis_output.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define BLOCK_BYTES (16 * 1024)

/* Messages up to this size are copied: that costs less than a part of writev. */
#define COPIED_BYTES_MAX 2048

struct redis_block {
    struct redis_block *next;
    size_t begin, end;
    size_t capacity;         /* of `data`; 0: the bytes are those of a message */
    struct bus_bytes *bytes; /* NULL: the bytes are in `data` */
    char data[];
};

static void free_redis_block(struct redis_block *block) {
    bus_bytes_unref(block->bytes);
    free(block);
}

void redis_output_dispose(struct redis_output *output) {
    while (output->first != NULL) {
        struct redis_block *next = output->first->next;
        free_redis_block(output->first);
        output->first = next;
    }
    output->last = NULL;
    output->waiting = 0;
}

static struct redis_block *add_redis_block(struct redis_output *output, size_t capacity) {
    struct redis_block *block = alloc(sizeof *block + capacity);

    *block = (struct redis_block){.capacity = capacity};
    if (output->last != NULL)
        output->last->next = block;
    else
        output->first = block;
    output->last = block;
    return block;
}

void redis_output_append(struct redis_output *output, struct slice bytes) {
    output->waiting += bytes.length;
    while (bytes.length > 0) {
        struct redis_block *last = output->last;
        size_t length;
        if (last == NULL || last->end >= last->capacity)
            last = add_redis_block(output, BLOCK_BYTES);
        length = last->capacity - last->end;
        if (length > bytes.length)
            length = bytes.length;
        memcpy(last->data + last->end, bytes.data, length);
        last->end += length;
        bytes = slice_skip(bytes, length);
    }
}

void redis_output_append_shared(struct redis_output *output, struct bus_bytes *bytes) {
    struct redis_block *block;

    if (bytes->length <= COPIED_BYTES_MAX) {
        redis_output_append(output, (struct slice){bytes->data, bytes->length});
        return;
    }
    block = add_redis_block(output, 0);
    block->bytes = bus_bytes_ref(bytes);
    block->end = bytes->length;
    output->waiting += bytes->length;
}

static void append_redis_number(struct redis_output *output, char sign, size_t number) {
    char digits[NUMBER_DIGITS];

    redis_output_append(output, (struct slice){&sign, 1});
    redis_output_append(output, slice_of_number(number, digits));
    redis_output_append(output, SLICE("\r\n"));
}

void redis_output_command(struct redis_output *output, size_t word_count) {
    append_redis_number(output, '*', word_count);
}

void redis_output_word(struct redis_output *output, struct slice word) {
    append_redis_number(output, '$', word.length);
    redis_output_append(output, word);
    redis_output_append(output, SLICE("\r\n"));
}

void redis_output_shared_word(struct redis_output *output, struct bus_bytes *bytes) {
    append_redis_number(output, '$', bytes->length);
    redis_output_append_shared(output, bytes);
    redis_output_append(output, SLICE("\r\n"));
}

size_t redis_output_parts(const struct redis_output *output, struct iovec *parts, size_t max) {
    size_t count = 0;

    for (struct redis_block *block = output->first; block != NULL && count < max; block = block->next) {
        char *data = block->bytes != NULL ? block->bytes->data : block->data;
        parts[count++] = (struct iovec){data + block->begin, block->end - block->begin};
    }
    return count;
}

void redis_output_written(struct redis_output *output, size_t length) {
    output->waiting -= length;
    output->sent_total += length;
    while (length > 0) {
        struct redis_block *first = output->first;
        size_t taken = first->end - first->begin;
        if (taken > length)
            taken = length;
        first->begin += taken;
        length -= taken;
        if (first->begin < first->end)
            return;
        output->first = first->next;
        if (output->first == NULL)
            output->last = NULL;
        free_redis_block(first);
    }
}
