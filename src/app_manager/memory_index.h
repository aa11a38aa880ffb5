/*
 * The index of the memory driver's apps, by id and by key: a pair of hash tables that do not change once they are
 * published, so that workers read them without a lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app_slot.h"
#include "base/slice.h"

struct app_index_entry {
    char *text; /* the id or key; NULL: a free entry */
    uint64_t hash;
    uint32_t length;
    struct app_slot *slot;
    char *broken; /* why the record is broken; NULL: it is not */
};

struct app_index_table {
    struct app_index_entry *entries;
    uint32_t capacity; /* a power of two */
    uint32_t count;
};

struct app_index {
    struct app_index_table by_id;
    struct app_index_table by_key;
};

/* An empty index for up to `apps` apps. */
struct app_index *app_index_create(size_t apps);
void app_index_destroy(struct app_index *index);

/* Adds an entry; false if there is one of that text. `broken` may be NULL and is copied. */
bool app_index_add(struct app_index_table *table, struct slice text, struct app_slot *slot, const char *broken);

/* The entry of that text, or NULL. */
const struct app_index_entry *app_index_find(const struct app_index_table *table, struct slice text);
