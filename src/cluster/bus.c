#include "cluster/bus.h"

#include <stdlib.h>

struct bus_bytes *bus_bytes_create(size_t length) {
    struct bus_bytes *bytes = malloc(sizeof *bytes + length);

    if (bytes == NULL)
        return NULL;
    atomic_init(&bytes->references, 1);
    bytes->length = length;
    return bytes;
}

struct bus_bytes *bus_bytes_ref(struct bus_bytes *bytes) {
    atomic_fetch_add_explicit(&bytes->references, 1, memory_order_relaxed);
    return bytes;
}

void bus_bytes_unref(struct bus_bytes *bytes) {
    if (bytes != NULL && atomic_fetch_sub_explicit(&bytes->references, 1, memory_order_acq_rel) == 1)
        free(bytes);
}
