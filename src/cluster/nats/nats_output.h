/*
 * Output: what waits until the library has room for it. The library moves its whole buffer after each partial write,
 * so it gets no more than it can write soon. On the I/O thread, where nothing else is said.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "cluster/bus.h"
#include "cluster/nats/nats_internal.h"

/* A message to publish, or a flush behind the messages before it. Embedded in the operation that brings it, in memory
 * that `dispose` frees. */
struct nats_item {
    struct list place; /* in the list of those that wait */
    struct bus_bytes *bytes;
    size_t size;     /* which counts as unsent */
    uint64_t number; /* of a flush, which has no bytes */
    const char *subject;
    void (*dispose)(struct nats_item *item);
};

/* Notes an item that is on its way to the I/O thread; takes the reference to its bytes. Cluster's thread. */
void nats_output_note(struct nats_threads *threads, struct nats_item *item);

/* Hands an item to the library, or lets it wait; owns it. */
void nats_output_add(struct nats_link *link, struct nats_item *item);
/* The library has written all that it had: hands over what waits. */
void nats_output_written(struct nats_link *link);
/* Frees what waits. */
void nats_output_drop(struct nats_link *link);
