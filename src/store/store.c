#include "store/store.h"

#include <string.h>

#include "base/utf8.h"

struct app_store *store_open(const struct app_store_driver *driver, const struct config *config,
                             const struct app_defaults *defaults, struct error *error) {
    struct app_store *store = driver->open(config, defaults, error);

    if (store != NULL)
        store->driver = driver;
    return store;
}

void store_close(struct app_store *store) {
    store->driver->close(store);
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

void store_connection_init(struct store_connection *connection, const struct app_store *store,
                           const struct deadline *deadline) {
    *connection = (struct store_connection){.driver = store->driver, .deadline = *deadline};
}

void store_begin(struct store_connection *connection, const struct deadline *deadline) {
    connection->deadline = *deadline;
}

enum store_answer store_prepare(struct store_connection *connection, struct error *error) {
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

enum store_answer store_create(struct store_connection *connection, const struct app *app, struct error *error) {
    return connection->driver->create != NULL ? connection->driver->create(connection, app, error)
                                              : refuse_write(connection, error);
}

enum store_answer store_update(struct store_connection *connection, const struct app *app, struct error *error) {
    return connection->driver->update != NULL ? connection->driver->update(connection, app, error)
                                              : refuse_write(connection, error);
}

enum store_answer store_remove(struct store_connection *connection, struct slice id, struct error *error) {
    return connection->driver->remove != NULL ? connection->driver->remove(connection, id, error)
                                              : refuse_write(connection, error);
}

enum store_answer store_check_health(struct store_connection *connection, struct error *error) {
    return connection->driver->check_health(connection, error);
}
