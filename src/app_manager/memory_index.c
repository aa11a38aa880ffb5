#include "app_manager/memory_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"

static void table_init(struct app_index_table *table, size_t count) {
    table->capacity = 8;
    while (table->capacity < count * 2)
        table->capacity *= 2;
    table->entries = alloc_zero(table->capacity * sizeof table->entries[0]);
}

static void table_dispose(struct app_index_table *table) {
    for (uint32_t i = 0; i < table->capacity; i++) {
        free(table->entries[i].text);
        free(table->entries[i].broken);
    }
    free(table->entries);
}

struct app_index *app_index_create(size_t apps) {
    struct app_index *index = alloc_zero(sizeof *index);

    table_init(&index->by_id, apps);
    table_init(&index->by_key, apps);
    return index;
}

void app_index_destroy(struct app_index *index) {
    if (index == NULL)
        return;
    table_dispose(&index->by_id);
    table_dispose(&index->by_key);
    free(index);
}

/* The entry of `text`, or the free one for it; half of all entries are free. */
static struct app_index_entry *find_index_entry(const struct app_index_table *table, struct slice text, uint64_t hash) {
    uint32_t at = (uint32_t)hash & (table->capacity - 1);

    for (;;) {
        struct app_index_entry *entry = &table->entries[at];
        if (entry->text == NULL ||
            (entry->hash == hash && slice_equal((struct slice){entry->text, entry->length}, text)))
            return entry;
        at = (at + 1) & (table->capacity - 1);
    }
}

bool app_index_add(struct app_index_table *table, struct slice text, struct app_slot *slot, const char *broken) {
    uint64_t hash = hash_bytes(text);
    struct app_index_entry *entry = find_index_entry(table, text, hash);

    if (entry->text != NULL)
        return false;
    *entry = (struct app_index_entry){
        .text = alloc_copy(text.data, text.length),
        .hash = hash,
        .length = (uint32_t)text.length,
        .slot = slot,
        .broken = broken != NULL ? alloc_copy(broken, strlen(broken)) : NULL,
    };
    table->count++;
    return true;
}

const struct app_index_entry *app_index_find(const struct app_index_table *table, struct slice text) {
    const struct app_index_entry *entry = find_index_entry(table, text, hash_bytes(text));

    return entry->text != NULL ? entry : NULL;
}
