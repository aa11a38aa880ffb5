#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_policy.h"
#include "app/record_json.h"
#include "app/secret_keyring.h"
#include "base/alloc.h"
#include "base/utf8.h"

struct app_store *store_open(const struct app_store_driver *driver, const struct config *config,
                             const struct app_defaults *defaults, struct error *error) {
    struct app_defaults *own = alloc(sizeof *own);
    struct secret_keyring *keyring = NULL;
    struct app_store *store = NULL;

    *own = *defaults;
    /* The apps of the configuration have plain secrets. */
    if (config->app_manager.driver == CONFIG_DRIVER_MEMORY || keyring_create(config, &keyring, error)) {
        own->keyring = keyring;
        store = driver->open(config, own, error);
    }
    if (store == NULL) {
        keyring_destroy(keyring);
        free(own);
        return NULL;
    }
    store->driver = driver;
    store->defaults = own;
    store->keyring = keyring;
    return store;
}

void store_close(struct app_store *store) {
    struct app_defaults *own = store->defaults;
    struct secret_keyring *keyring = store->keyring;

    store->driver->close(store);
    keyring_destroy(keyring);
    free(own);
}

bool store_has_keys(const struct app_store *store) {
    return store->keyring != NULL;
}

void store_write_plain_secrets(struct app_store *store) {
    store->opens_only = true;
}

bool store_can_watch(const struct app_store *store) {
    return store->driver->watch != NULL;
}

void store_watch(struct app_store *store, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher) {
    store->driver->watch(store, timeout_ms, cancel_fd, watcher);
}

struct store_connection *store_connect(struct app_store *store, const struct deadline *deadline, struct error *error) {
    return store->driver->connect(store, deadline, error);
}

void store_disconnect(struct store_connection *connection) {
    connection->driver->disconnect(connection);
}

void store_connection_init(struct store_connection *connection, struct app_store *store,
                           const struct deadline *deadline) {
    *connection = (struct store_connection){.driver = store->driver,
                                            .store = store,
                                            .deadline = *deadline,
                                            .seen_table_changes = atomic_load(&store->table_changes)};
}

bool store_table_changed(struct store_connection *connection) {
    unsigned seen = connection->seen_table_changes;

    connection->seen_table_changes = atomic_load(&connection->store->table_changes);
    return connection->seen_table_changes != seen;
}

void store_change_table(struct store_connection *connection) {
    atomic_fetch_add(&connection->store->table_changes, 1);
}

void store_begin(struct store_connection *connection, const struct deadline *deadline) {
    connection->deadline = *deadline;
}

enum store_answer store_prepare(struct store_connection *connection, struct error *error) {
    keyring_warn_of_file(connection->store->keyring);
    return connection->driver->prepare(connection, error);
}

enum store_answer store_inspect(struct store_connection *connection, struct error *error) {
    return connection->driver->inspect(connection, error);
}

enum store_answer store_find_by_id(struct store_connection *connection, struct slice id, struct app **app,
                                   struct error *error) {
    return connection->driver->find_by_id(connection, id, app, error);
}

enum store_answer store_find_by_key(struct store_connection *connection, struct slice key, struct app **app,
                                    struct error *error) {
    return connection->driver->find_by_key(connection, key, app, error);
}

enum store_answer store_list(struct store_connection *connection, struct slice after, size_t limit,
                             store_list_function *each, void *context, struct error *error) {
    /* No table holds such an id. Libraries would cut it, or drop it and list from the first app again. */
    if (after.length != 0 && (!utf8_valid(after) || memchr(after.data, '\0', after.length) != NULL)) {
        error_set(error, "the id to list after must be UTF-8 without zero bytes");
        return STORE_REFUSED;
    }
    return connection->driver->list(connection, after, limit, each, context, error);
}

static enum store_answer refuse_write(const struct store_connection *connection, struct error *error) {
    error_set(error, "the %s driver cannot write apps", connection->driver->name);
    return STORE_REFUSED;
}

static void see_first_record(void *context, struct slice id, struct slice key, struct app *app,
                             const struct error *error) {
    enum store_policy_use *use = context;

    (void)id;
    (void)key;
    (void)error;
    *use = app != NULL && app_field_is_set(app, APP_POLICY) ? STORE_POLICY_YES : STORE_POLICY_NO;
    app_unref(app);
}

/* Finds out, once for the store, whether new records get a policy. */
static enum store_answer learn_policy_use(struct store_connection *connection, enum store_policy_use *use,
                                          struct error *error) {
    enum store_answer answer;

    *use = atomic_load(&connection->store->new_records);
    if (*use != STORE_POLICY_UNKNOWN)
        return STORE_OK;
    *use = STORE_POLICY_NO; /* an empty store */
    answer = connection->driver->list(connection, SLICE(""), 1, see_first_record, use, error);
    if (answer == STORE_OK)
        atomic_store(&connection->store->new_records, *use);
    return answer;
}

/* The app with its secrets encrypted, a new reference. */
static struct app *sealed_app(const struct app_store *store, const struct app *app) {
    json_t *record = app_to_json(app);
    struct error ignored; /* the fields were valid before */
    struct app *sealed;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        const char *name = app_fields[i].name;
        struct slice secret = record_member(record, name);
        char text[SEALED_MAX_BYTES];
        if (app_fields[i].hidden && app_fields[i].type == APP_TYPE_TEXT && secret.length != 0)
            json_object_set_new(
                record, name, json_stringn(text, keyring_seal(store->keyring, app->id, slice_of(name), secret, text)));
    }
    sealed = app_parse(record, store->defaults, APP_FOR_STORE, NULL, NULL, &ignored);
    json_decref(record);
    return sealed;
}

static enum store_answer write_sealed(struct store_connection *connection, store_write_function *write,
                                      const struct app *app, struct error *error) {
    const struct app_store *store = connection->store;
    struct app *sealed = NULL;
    enum store_answer answer;

    if (store->keyring != NULL && !store->opens_only)
        sealed = sealed_app(store, app);
    answer = write(connection, sealed != NULL ? sealed : app, error);
    app_unref(sealed);
    return answer;
}

enum store_answer store_create(struct store_connection *connection, const struct app *app, struct error *error) {
    enum store_policy_use use = STORE_POLICY_NO;
    struct app *with_policy = NULL;
    enum store_answer answer = STORE_OK;

    if (connection->driver->create == NULL)
        return refuse_write(connection, error);
    if (!app_field_is_set(app, APP_POLICY))
        answer = learn_policy_use(connection, &use, error);
    if (answer == STORE_OK && use == STORE_POLICY_YES)
        with_policy = app_with_policy(app, NULL, connection->store->defaults);
    if (answer == STORE_OK)
        answer = write_sealed(connection, connection->driver->create, with_policy != NULL ? with_policy : app, error);
    app_unref(with_policy);
    return answer;
}

enum store_answer store_update(struct store_connection *connection, const struct app *app, struct error *error) {
    return connection->driver->update != NULL ? write_sealed(connection, connection->driver->update, app, error)
                                              : refuse_write(connection, error);
}

enum store_answer store_remove(struct store_connection *connection, struct slice id, struct error *error) {
    return connection->driver->remove != NULL ? connection->driver->remove(connection, id, error)
                                              : refuse_write(connection, error);
}

enum store_answer store_check_health(struct store_connection *connection, struct error *error) {
    return connection->driver->check_health(connection, error);
}
