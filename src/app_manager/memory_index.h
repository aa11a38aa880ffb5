/*
 * All apps by id and by key: an immutable pair of hash tables that workers read without a lock. A reload builds a new
 * index and swaps the pointer; the old one is freed when no worker can be looking at it any more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app_slot.h"
#include "base/slice.h"

struct app_index_entry {
    char *text; /* the id or key; NULL: an empty place */
    uint64_t hash;
    uint32_t length;
    struct app_slot *slot;
    char *broken; /* the record is broken, and why; else NULL */
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

/* An empty index with room for `apps` apps. */
struct app_index *app_index_create(size_t apps);
void app_index_destroy(struct app_index *index);

/* Adds an entry; false if the text is there already. `broken` may be NULL and is copied. */
bool app_index_add(struct app_index_table *table, struct slice text, struct app_slot *slot, const char *broken);

/* The entry of that text, or NULL. */
const struct app_index_entry *app_index_find(const struct app_index_table *table, struct slice text);
