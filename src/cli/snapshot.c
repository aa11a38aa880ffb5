#include "cli/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct snapshot_entry {
    char *id;
    struct app *app;     /* NULL: the record is broken */
    struct error *error; /* of a broken record */
};

struct snapshot {
    struct cli_store *store;
    struct snapshot_entry *entries; /* in order of id */
    struct app **by_key;            /* in order of key; not owned */
    size_t count, key_count;
};

static bool keep_record(void *context, struct slice id, struct app *app, const struct error *broken) {
    struct snapshot *snapshot = context;
    struct snapshot_entry *entry;

    if ((snapshot->count & (snapshot->count - 1)) == 0) { /* full at each power of two */
        size_t capacity = snapshot->count == 0 ? 1 : snapshot->count * 2;
        snapshot->entries = alloc_array(snapshot->entries, capacity, sizeof snapshot->entries[0]);
        snapshot->by_key = alloc_array(snapshot->by_key, capacity, sizeof snapshot->by_key[0]);
    }
    entry = &snapshot->entries[snapshot->count++];
    *entry = (struct snapshot_entry){.id = alloc_copy(id.data, id.length)};
    if (app != NULL) {
        entry->app = app_ref(app);
        snapshot->by_key[snapshot->key_count++] = app;
    } else {
        entry->error = alloc(sizeof *entry->error);
        *entry->error = *broken;
    }
    return true;
}

static int compare_entry_ids(const void *left, const void *right) {
    const struct snapshot_entry *a = left, *b = right;

    return strcmp(a->id, b->id);
}

static int compare_app_keys(const void *left, const void *right) {
    const struct app *const *a = left, *const *b = right;

    return slice_compare((*a)->key, (*b)->key);
}

static int compare_key_with_app(const void *key, const void *entry) {
    const struct app *const *app = entry;

    return slice_compare(*(const struct slice *)key, (*app)->key);
}

struct snapshot *snapshot_read(struct cli_store *store, struct error *error) {
    struct snapshot *snapshot = alloc_zero(sizeof *snapshot);

    snapshot->store = store;
    if (!store->absent && !cli_store_walk(store, keep_record, snapshot, error)) {
        snapshot_free(snapshot);
        return NULL;
    }
    if (snapshot->count != 0)
        qsort(snapshot->entries, snapshot->count, sizeof snapshot->entries[0], compare_entry_ids);
    if (snapshot->key_count != 0)
        qsort(snapshot->by_key, snapshot->key_count, sizeof snapshot->by_key[0], compare_app_keys);
    return snapshot;
}

void snapshot_free(struct snapshot *snapshot) {
    if (snapshot == NULL)
        return;
    for (size_t i = 0; i < snapshot->count; i++) {
        free(snapshot->entries[i].id);
        app_unref(snapshot->entries[i].app);
        free(snapshot->entries[i].error);
    }
    free(snapshot->entries);
    free(snapshot->by_key);
    free(snapshot);
}

enum store_answer snapshot_find_by_id(const struct snapshot *snapshot, struct slice id, struct app **app,
                                      struct error *error) {
    const struct snapshot_entry *found = NULL;
    char *text = alloc_copy(id.data, id.length);

    *app = NULL;
    if (snapshot->count != 0)
        found = bsearch(&(struct snapshot_entry){.id = text}, snapshot->entries, snapshot->count, sizeof *found,
                        compare_entry_ids);
    free(text);
    if (found == NULL)
        return STORE_NOT_FOUND;
    if (found->app == NULL) {
        *error = *found->error;
        return STORE_INVALID;
    }
    *app = app_ref(found->app);
    return STORE_OK;
}

enum store_answer snapshot_find_by_key(const struct snapshot *snapshot, struct slice key, struct app **app,
                                       struct error *error) {
    struct app **found = NULL;

    *app = NULL;
    if (snapshot->key_count != 0)
        found = bsearch(&key, snapshot->by_key, snapshot->key_count, sizeof *found, compare_key_with_app);
    if (found == NULL) /* a broken record may have the key, and only the store can tell */
        return snapshot->key_count == snapshot->count ? STORE_NOT_FOUND
                                                      : cli_store_find_by_key(snapshot->store, key, app, error);
    *app = app_ref(*found);
    return STORE_OK;
}
