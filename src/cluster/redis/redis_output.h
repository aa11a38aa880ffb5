/*
 * Bytes on their way to Redis, in blocks: commands of a pipeline are collected and written together.
 *
 * Short texts are copied into a block; a long message is a block by itself, which holds a reference to the bytes. For
 * one thread.
 */
#pragma once

#include <stddef.h>
#include <sys/uio.h>

#include "base/slice.h"
#include "cluster/bus.h"

struct redis_block;

/* Zeroed: empty. */
struct redis_output {
    struct redis_block *first, *last;
    size_t waiting;      /* bytes in all blocks */
    uint64_t sent_total; /* bytes that were taken out so far */
};

void redis_output_dispose(struct redis_output *output);

void redis_output_append(struct redis_output *output, struct slice bytes);
/* The same for bytes of a message, without copying if they are many. */
void redis_output_append_shared(struct redis_output *output, struct bus_bytes *bytes);

/* Append a command: first the number of its words, then each word. */
void redis_output_command(struct redis_output *output, size_t word_count);
void redis_output_word(struct redis_output *output, struct slice word);
void redis_output_shared_word(struct redis_output *output, struct bus_bytes *bytes);

/* Fills in what to write next; returns the number of parts, 0 if nothing waits. */
size_t redis_output_parts(const struct redis_output *output, struct iovec *parts, size_t max);
/* Takes out bytes that were written. */
void redis_output_written(struct redis_output *output, size_t length);
