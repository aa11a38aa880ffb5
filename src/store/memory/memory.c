/*
 * The memory driver: the apps of the configuration and of the environment, gone when the process ends. Any thread may
 * call it; one mutex guards an array in order of id.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "config/config.h"
#include "store/name_conflict.h"
#include "store/store.h"

struct memory_record {
    char *id, *key;
    size_t position;    /* in the configuration */
    struct app *app;    /* NULL: broken */
    struct error error; /* then why */
};

struct memory_store {
    struct app_store base;
    pthread_mutex_t mutex;
    struct memory_record *records;
    size_t count;
};

struct memory_connection {
    struct store_connection base;
    struct memory_store *store;
};

static struct memory_store *store_of(struct store_connection *base) {
    return container_of(base, struct memory_connection, base)->store;
}

static void record_dispose(struct memory_record *record) {
    free(record->id);
    free(record->key);
    app_unref(record->app);
}

/* The place of `id`, or the one where it belongs. */
static size_t find_place(const struct memory_store *store, struct slice id, bool *found) {
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

static void insert_at(struct memory_store *store, size_t place, const struct memory_record *record) {
    store->records = alloc_array(store->records, store->count + 1, sizeof store->records[0]);
    memmove(&store->records[place + 1], &store->records[place], (store->count - place) * sizeof store->records[0]);
    store->records[place] = *record;
    store->count++;
}

/* Another app that has this key, or NULL. */
static const struct memory_record *key_owner(const struct memory_store *store, struct slice key,
                                             struct slice except_id) {
    for (size_t i = 0; i < store->count; i++)
        if (slice_equal(slice_of(store->records[i].key), key) &&
            !slice_equal(slice_of(store->records[i].id), except_id))
            return &store->records[i];
    return NULL;
}

static char *text_member(const json_t *record, const char *name) {
    const char *text = json_string_value(json_object_get(record, name));

    return text != NULL ? alloc_copy(text, strlen(text)) : alloc_copy("", 0);
}

/* Appends a record of the configuration; one without an id can never be asked for, so it is only reported. */
static void add_configured(struct memory_store *store, const json_t *json, size_t position,
                           const struct app_defaults *defaults) {
    struct memory_record record = {
        .id = text_member(json, "id"), .key = text_member(json, "key"), .position = position};

    record.app = app_parse(json, defaults, APP_FROM_CONFIGURATION, app_warn_to_log, NULL, &record.error);
    if (record.id[0] == '\0') {
        log_error("app", "%s", record.error.text);
        record_dispose(&record);
        return;
    }
    store->records[store->count++] = record;
}

static int compare_records(const void *left, const void *right) {
    const struct memory_record *a = left, *b = right;
    int order = slice_compare(slice_of(a->id), slice_of(b->id));

    return order != 0 ? order : (a->position > b->position) - (a->position < b->position);
}

/* Puts the records in order of id and leaves out ids that are there already. */
static void sort_configured(struct memory_store *store) {
    size_t kept = 0;

    qsort(store->records, store->count, sizeof store->records[0], compare_records);
    for (size_t i = 0; i < store->count; i++) {
        struct memory_record *record = &store->records[i];
        if (kept != 0 && strcmp(store->records[kept - 1].id, record->id) == 0) {
            log_error("app", "app %s is configured twice; the first one counts", record->id);
            record_dispose(record);
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
    pthread_mutex_init(&store->mutex, NULL);
    store->records = alloc_array(NULL, json_array_size(config->app_manager.array_apps), sizeof store->records[0]);
    json_array_foreach(config->app_manager.array_apps, i, json) {
        add_configured(store, json, i, defaults);
    }
    sort_configured(store);
    return &store->base;
}

static void memory_close(struct app_store *base) {
    struct memory_store *store = container_of(base, struct memory_store, base);

    for (size_t i = 0; i < store->count; i++)
        record_dispose(&store->records[i]);
    free(store->records);
    pthread_mutex_destroy(&store->mutex);
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

static enum store_answer give(const struct memory_record *record, struct app **app, struct error *error) {
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
    struct memory_store *store = store_of(connection);
    enum store_answer answer;
    size_t place;
    bool found;

    pthread_mutex_lock(&store->mutex);
    place = find_place(store, id, &found);
    answer = give(found ? &store->records[place] : NULL, app, error);
    pthread_mutex_unlock(&store->mutex);
    return answer;
}

static enum store_answer memory_find_by_key(struct store_connection *connection, struct slice key, struct app **app,
                                            struct error *error) {
    struct memory_store *store = store_of(connection);
    enum store_answer answer;

    pthread_mutex_lock(&store->mutex);
    answer = give(key_owner(store, key, SLICE("")), app, error);
    pthread_mutex_unlock(&store->mutex);
    return answer;
}

static enum store_answer memory_list(struct store_connection *connection, struct slice after, size_t limit,
                                     store_list_function *each, void *context, struct error *error) {
    struct memory_store *store = store_of(connection);
    size_t place = 0;
    bool found = false;

    (void)error;
    pthread_mutex_lock(&store->mutex);
    if (after.length != 0)
        place = find_place(store, after, &found);
    for (place += found; place < store->count && limit-- != 0; place++) {
        const struct memory_record *record = &store->records[place];
        each(context, slice_of(record->id), slice_of(record->key), record->app != NULL ? app_ref(record->app) : NULL,
             &record->error);
    }
    pthread_mutex_unlock(&store->mutex);
    return STORE_OK;
}

static struct memory_record record_of(const struct app *app) {
    return (struct memory_record){.id = alloc_copy(app->id.data, app->id.length),
                                  .key = alloc_copy(app->key.data, app->key.length),
                                  .app = app_ref((struct app *)app)};
}

static enum store_answer memory_create(struct store_connection *connection, const struct app *app,
                                       struct error *error) {
    struct memory_store *store = store_of(connection);
    enum store_answer answer = STORE_OK;
    const struct memory_record *owner;
    size_t place;
    bool found;

    pthread_mutex_lock(&store->mutex);
    place = find_place(store, app->id, &found);
    owner = key_owner(store, app->key, app->id);
    if (found) {
        answer = conflict_id_taken(app->id, error);
    } else if (owner != NULL) {
        answer = conflict_key_taken(slice_of(owner->id), error);
    } else {
        struct memory_record record = record_of(app);
        insert_at(store, place, &record);
    }
    pthread_mutex_unlock(&store->mutex);
    return answer;
}

static enum store_answer memory_update(struct store_connection *connection, const struct app *app,
                                       struct error *error) {
    struct memory_store *store = store_of(connection);
    enum store_answer answer = STORE_OK;
    const struct memory_record *owner;
    size_t place;
    bool found;

    pthread_mutex_lock(&store->mutex);
    place = find_place(store, app->id, &found);
    owner = key_owner(store, app->key, app->id);
    if (!found) {
        answer = conflict_no_such_app(app->id, error);
    } else if (owner != NULL) {
        answer = conflict_key_taken(slice_of(owner->id), error);
    } else {
        record_dispose(&store->records[place]);
        store->records[place] = record_of(app);
    }
    pthread_mutex_unlock(&store->mutex);
    return answer;
}

static enum store_answer memory_remove(struct store_connection *connection, struct slice id, struct error *error) {
    struct memory_store *store = store_of(connection);
    enum store_answer answer = STORE_OK;
    size_t place;
    bool found;

    pthread_mutex_lock(&store->mutex);
    place = find_place(store, id, &found);
    if (!found) {
        answer = conflict_no_such_app(id, error);
    } else {
        record_dispose(&store->records[place]);
        store->count--;
        memmove(&store->records[place], &store->records[place + 1], (store->count - place) * sizeof store->records[0]);
    }
    pthread_mutex_unlock(&store->mutex);
    return answer;
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
    .create = memory_create,
    .update = memory_update,
    .remove = memory_remove,
    .check_health = memory_check_health,
};
