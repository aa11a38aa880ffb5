/*
 * The memory driver: the apps of the configuration and the environment, which end with the process. An array in order
 * of id, which does not change after the store is opened, so any thread may read it. It cannot be written.
 */
#include <stdlib.h>

#include "app/record_json.h"
#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "config/config.h"
#include "store/drivers.h"
#include "store/store.h"

struct memory_record {
    char *id, *key;
    size_t position;    /* in the list of the configuration */
    struct app *app;    /* NULL: broken */
    struct error error; /* why it is broken */
};

struct memory_store {
    struct app_store base;
    struct memory_record *records;
    size_t count;
};

struct memory_connection {
    struct store_connection base;
    struct memory_store *store;
};

static struct memory_store *memory_store_of(struct store_connection *base) {
    return container_of(base, struct memory_connection, base)->store;
}

static void memory_record_dispose(struct memory_record *record) {
    free(record->id);
    free(record->key);
    app_unref(record->app);
}

/* The index of the record with this id, or the one where it would be. */
static size_t find_memory_id(const struct memory_store *store, struct slice id, bool *found) {
    size_t low = 0, high = store->count;

    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_compare(slice_of(store->records[middle].id), id);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first record with this key, or NULL. */
static const struct memory_record *find_memory_key(const struct memory_store *store, struct slice key) {
    for (size_t i = 0; i < store->count; i++)
        if (slice_equal(slice_of(store->records[i].key), key))
            return &store->records[i];
    return NULL;
}

static char *copy_member(const json_t *json, const char *name) {
    char digits[RECORD_NAME_BYTES];
    struct slice text = record_name(json_object_get(json, name), digits);

    return alloc_copy(text.data, text.length);
}

/* Appends a record of the configuration. One without an id can never be found, so it is only logged. */
static void add_configured_app(struct memory_store *store, const json_t *json, size_t position,
                               const struct app_defaults *defaults) {
    struct memory_record record = {
        .id = copy_member(json, "id"), .key = copy_member(json, "key"), .position = position};

    record.app = app_parse(json, defaults, APP_FROM_CONFIGURATION, app_warn_to_log, NULL, &record.error);
    if (record.id[0] == '\0') {
        log_error("app", "%s", record.error.text);
        memory_record_dispose(&record);
        return;
    }
    store->records[store->count++] = record;
}

static int compare_records(const void *left, const void *right) {
    const struct memory_record *a = left, *b = right;
    int order = slice_compare(slice_of(a->id), slice_of(b->id));

    return order != 0 ? order : (a->position > b->position) - (a->position < b->position);
}

/* Sorts the records by id and drops all but the first with the same id. */
static void sort_configured_apps(struct memory_store *store) {
    size_t kept = 0;

    qsort(store->records, store->count, sizeof store->records[0], compare_records);
    for (size_t i = 0; i < store->count; i++) {
        struct memory_record *record = &store->records[i];
        if (kept != 0 && strcmp(store->records[kept - 1].id, record->id) == 0) {
            log_error("app", "app %s is configured twice; the first one counts", record->id);
            memory_record_dispose(record);
        } else {
            store->records[kept++] = *record;
        }
    }
    store->count = kept;
}

static struct app_store *memory_open(const struct config *config, const struct app_defaults *defaults,
                                     struct error *error) {
    struct memory_store *store = alloc_zero(sizeof *store);
    const json_t *json;
    size_t i;

    (void)error;
    store->records = alloc_array(NULL, json_array_size(config->app_manager.array_apps), sizeof store->records[0]);
    json_array_foreach(config->app_manager.array_apps, i, json) {
        add_configured_app(store, json, i, defaults);
    }
    sort_configured_apps(store);
    return &store->base;
}

static void memory_close(struct app_store *base) {
    struct memory_store *store = container_of(base, struct memory_store, base);

    for (size_t i = 0; i < store->count; i++)
        memory_record_dispose(&store->records[i]);
    free(store->records);
    free(store);
}

static struct store_connection *memory_connect(struct app_store *base, const struct deadline *deadline,
                                               struct error *error) {
    struct memory_connection *connection = alloc(sizeof *connection);

    (void)error;
    store_connection_init(&connection->base, base, deadline);
    connection->store = container_of(base, struct memory_store, base);
    return &connection->base;
}

static void memory_disconnect(struct store_connection *connection) {
    free(container_of(connection, struct memory_connection, base));
}

static enum store_answer memory_prepare(struct store_connection *connection, struct error *error) {
    (void)connection;
    (void)error;
    return STORE_OK;
}

static enum store_answer answer_with(const struct memory_record *record, struct app **app, struct error *error) {
    if (record == NULL)
        return STORE_NOT_FOUND;
    if (record->app == NULL) {
        *error = record->error;
        return STORE_INVALID;
    }
    *app = app_ref(record->app);
    return STORE_OK;
}

static enum store_answer memory_find_by_id(struct store_connection *connection, struct slice id, struct app **app,
                                           struct error *error) {
    struct memory_store *store = memory_store_of(connection);
    bool found;
    size_t at = find_memory_id(store, id, &found);

    return answer_with(found ? &store->records[at] : NULL, app, error);
}

static enum store_answer memory_find_by_key(struct store_connection *connection, struct slice key, struct app **app,
                                            struct error *error) {
    return answer_with(find_memory_key(memory_store_of(connection), key), app, error);
}

static enum store_answer memory_list(struct store_connection *connection, struct slice after, size_t limit,
                                     store_list_function *each, void *context, struct error *error) {
    struct memory_store *store = memory_store_of(connection);
    size_t at = 0;
    bool found = false;

    (void)error;
    if (after.length != 0)
        at = find_memory_id(store, after, &found);
    for (at += found; at < store->count && limit-- != 0; at++) {
        const struct memory_record *record = &store->records[at];
        each(context, slice_of(record->id), slice_of(record->key), record->app != NULL ? app_ref(record->app) : NULL,
             &record->error);
    }
    return STORE_OK;
}

static enum store_answer memory_check_health(struct store_connection *connection, struct error *error) {
    (void)connection;
    (void)error;
    return STORE_OK;
}

const struct app_store_driver memory_store_driver = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .connect = memory_connect,
    .disconnect = memory_disconnect,
    .prepare = memory_prepare,
    .inspect = memory_prepare, /* nothing is ever missing */
    .find_by_id = memory_find_by_id,
    .find_by_key = memory_find_by_key,
    .list = memory_list,
    .check_health = memory_check_health,
};
