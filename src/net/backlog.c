#include "net/backlog.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"

#define FIRST_CAPACITY 64

static void grow_ring(struct backlog *backlog) {
    uint32_t capacity = backlog->capacity == 0 ? FIRST_CAPACITY : backlog->capacity * 2;
    struct backlog_entry **ring = alloc(capacity * sizeof ring[0]);

    for (uint32_t i = 0; i < backlog->length; i++) {
        ring[i] = backlog->ring[(backlog->first + i) % backlog->capacity];
        if (ring[i] != NULL)
            ring[i]->place = i + 1;
    }
    free(backlog->ring);
    backlog->ring = ring;
    backlog->first = 0;
    backlog->capacity = capacity;
}

void backlog_append(struct backlog *backlog, struct backlog_entry *entry) {
    uint32_t at;

    if (entry->place != 0)
        return;
    if (backlog->length == backlog->capacity)
        grow_ring(backlog);
    at = (backlog->first + backlog->length) % backlog->capacity;
    backlog->length++;
    backlog->ring[at] = entry;
    entry->place = at + 1;
}

void backlog_remove(struct backlog *backlog, struct backlog_entry *entry) {
    if (entry->place == 0)
        return;
    backlog->ring[entry->place - 1] = NULL;
    entry->place = 0;
}

struct backlog_entry *backlog_take(struct backlog *backlog) {
    struct backlog_entry *entry = backlog->ring[backlog->first];

    backlog->first = (backlog->first + 1) % backlog->capacity;
    backlog->length--;
    if (entry != NULL)
        entry->place = 0;
    return entry;
}

void backlog_dispose(struct backlog *backlog) {
    free(backlog->ring);
    *backlog = (struct backlog){0};
}
