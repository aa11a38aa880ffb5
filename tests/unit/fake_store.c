#include "fake_store.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct fake_store fake_store;

static struct app_store the_store;
static const struct app_defaults *app_defaults;

void fake_store_reset(void) {
    fake_store = (struct fake_store){.max_connections = 1};
}

static struct app_store *fake_open(const struct config *config, const struct app_defaults *defaults,
                                   struct error *error) {
    (void)config;
    (void)error;
    app_defaults = defaults;
    return &the_store;
}

static void fake_close(struct app_store *store) {
    (void)store;
}

static bool answers(const struct deadline *deadline, struct error *error) {
    if (deadline_passed(deadline))
        return error_set(error, "no answer in time");
    return !atomic_load(&fake_store.down) || error_set(error, "down");
}

static struct store_connection *fake_connect(struct app_store *store, const struct deadline *deadline,
                                             struct error *error) {
    struct store_connection *connection;

    if (!answers(deadline, error))
        return NULL;
    connection = alloc(sizeof *connection);
    store_connection_init(connection, store, deadline);
    return connection;
}

static void fake_disconnect(struct store_connection *connection) {
    free(connection);
}

static enum store_answer fake_prepare(struct store_connection *connection, struct error *error) {
    (void)connection;
    (void)error;
    if (fake_store.prepare != NULL)
        fake_store.prepare();
    return STORE_OK;
}

/* The app whose name is `prefix` and a number. */
static enum store_answer find_app(struct slice name, const char *prefix, const struct deadline *deadline,
                                  struct app **app, struct error *error) {
    char text[64], *end;
    unsigned long number;
    json_t *json;

    atomic_fetch_add(&fake_store.queries, 1);
    if (!answers(deadline, error))
        return STORE_UNAVAILABLE;
    snprintf(text, sizeof text, "%.*s", SLICE_ARGS(name));
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return STORE_NOT_FOUND;
    number = strtoul(text + strlen(prefix), &end, 10);
    if (*end != '\0' || number >= atomic_load(&fake_store.app_count))
        return STORE_NOT_FOUND;
    json =
        json_pack("{s:o, s:o, s:s, s:i}", "id", json_sprintf("app-%lu", number), "key", json_sprintf("key-%lu", number),
                  "secret", "s", "max_connections", (int)atomic_load(&fake_store.max_connections));
    *app = app_parse(json, app_defaults, APP_FROM_STORE, NULL, NULL, error);
    json_decref(json);
    return *app != NULL ? STORE_OK : STORE_INVALID;
}

static enum store_answer fake_find_by_id(struct store_connection *connection, struct slice id, struct app **app,
                                         struct error *error) {
    return find_app(id, "app-", &connection->deadline, app, error);
}

static enum store_answer fake_find_by_key(struct store_connection *connection, struct slice key, struct app **app,
                                          struct error *error) {
    return find_app(key, "key-", &connection->deadline, app, error);
}

static enum store_answer fake_check_health(struct store_connection *connection, struct error *error) {
    return answers(&connection->deadline, error) ? STORE_OK : STORE_UNAVAILABLE;
}

static void fake_watch(struct app_store *store, uint32_t timeout_ms, int cancel_fd,
                       const struct store_watcher *watcher) {
    struct pollfd polled = {.fd = cancel_fd, .events = POLLIN};

    (void)store;
    (void)timeout_ms;
    if (fake_store.watch != NULL)
        fake_store.watch(watcher);
    poll(&polled, 1, -1);
}

#define FAKE_DRIVER                                                                                                    \
    .name = "fake", .open = fake_open, .close = fake_close, .connect = fake_connect, .disconnect = fake_disconnect,    \
    .prepare = fake_prepare, .find_by_id = fake_find_by_id, .find_by_key = fake_find_by_key,                           \
    .check_health = fake_check_health

const struct app_store_driver fake_store_driver = {FAKE_DRIVER};
const struct app_store_driver fake_watched_store_driver = {FAKE_DRIVER, .watch = fake_watch};
