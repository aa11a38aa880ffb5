/*
 * A store is a place where apps are kept; a driver is the code for one kind of store. This is what every driver
 * implements: one folder in store/ and one line in the table of store.c.
 *
 *   struct app_store         a store as the configuration describes it; shared by all connections, has none itself
 *   struct store_connection  one connection, used by one thread at a time
 *
 * A driver puts these two first into structures of its own (struct sqlite_store, struct sqlite_connection); everybody
 * else passes them to the functions below, which call the driver.
 *
 * Every function with a connection may block, until the connection's deadline: store_begin sets it, once for each
 * operation. These functions run on a thread made for them (see app_manager/store_pool.h, or the command line's main
 * thread), never on a worker. After STORE_UNAVAILABLE the connection is in an unknown state and its owner disconnects
 * it; after any other answer it is fit for use.
 *
 * Records travel parsed, with the reason beside them when one of them is broken. Several threads may call a driver at
 * once, each with its own connection: what they share in struct app_store is the driver's to guard.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "app/app.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/slice.h"
#include "config/config.h"

struct app_store_driver;

struct app_store {
    const struct app_store_driver *driver;
};

struct store_connection {
    const struct app_store_driver *driver;
    struct deadline deadline; /* of the operation in progress */
};

enum store_answer {
    STORE_OK,
    STORE_NOT_FOUND, /* find, update, remove: no such app; `error` is not set by find */
    STORE_INVALID,   /* find: there is a record, and `error` says which of its fields is broken */
    STORE_ID_TAKEN,  /* create: another app has the id */
    STORE_KEY_TAKEN, /* create, update: another app has the key */
    STORE_REFUSED, /* the store answers, and does not do this: full, read-only, no right; `error` says what came back */
    STORE_UNAVAILABLE, /* the store cannot be asked, or not in time; `error` says what came back */
};

/*
 * Receives one app of a list: `app` (the receiver's reference to keep), or NULL for a broken record, with what can be
 * read of its id and key (either may be empty) and the error, which is set for broken records only.
 */
typedef void store_list_function(void *context, struct slice id, struct slice key, struct app *app,
                                 const struct error *error);

/* Whom a driver tells of changes that others made to the store. On the watching thread. */
struct store_watcher {
    /* An app was created, changed or deleted. Each may be empty if it is not known or there is none. */
    void (*changed)(void *context, struct slice id, struct slice old_key, struct slice new_key);
    /* Changes may have been missed: at the first connection, after each new one, or where a store does not say what
     * changed. */
    void (*anything_changed)(void *context);
    void *context;
};

/* What a driver implements; the functions below say what each does. `create`, `update` and `remove` are NULL if the
 * store cannot be written, `watch` if it cannot report changes. */
struct app_store_driver {
    const char *name;
    struct app_store *(*open)(const struct config *config, const struct app_defaults *defaults, struct error *error);
    void (*close)(struct app_store *store);
    struct store_connection *(*connect)(struct app_store *store, const struct deadline *deadline, struct error *error);
    void (*disconnect)(struct store_connection *connection);
    enum store_answer (*prepare)(struct store_connection *connection, struct error *error);
    enum store_answer (*inspect)(struct store_connection *connection, struct error *error);
    enum store_answer (*find_by_id)(struct store_connection *connection, struct slice id, struct app **app,
                                    struct error *error);
    enum store_answer (*find_by_key)(struct store_connection *connection, struct slice key, struct app **app,
                                     struct error *error);
    enum store_answer (*list)(struct store_connection *connection, struct slice after, size_t limit,
                              store_list_function *each, void *context, struct error *error);
    enum store_answer (*create)(struct store_connection *connection, const struct app *app, struct error *error);
    enum store_answer (*update)(struct store_connection *connection, const struct app *app, struct error *error);
    enum store_answer (*remove)(struct store_connection *connection, struct slice id, struct error *error);
    enum store_answer (*check_health)(struct store_connection *connection, struct error *error);
    void (*watch)(struct app_store *store, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);
};

/* --- a store --- */

/* Reads the settings, without talking to a server. NULL with an error that names the setting if it can never work.
 * `config` and `defaults` outlive the store. Any thread. */
struct app_store *store_open(const struct app_store_driver *driver, const struct config *config,
                             const struct app_defaults *defaults, struct error *error);
void store_close(struct app_store *store);

/* Whether the driver can report changes that others make. */
bool store_can_watch(const struct app_store *store);

/*
 * Reports changes that others make, over a connection of its own that it opens, and opens again with back-off (100 ms
 * doubling to 10 s), until `cancel_fd` is readable; `timeout_ms` is for each operation in it. Runs on a thread of its
 * own, after store_prepare.
 */
void store_watch(struct app_store *store, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);

/* --- a connection --- */

/* Connects and signs in; the connection has this deadline until the next store_begin. NULL with an error that names the
 * setting and what the server answered. */
struct store_connection *store_connect(struct app_store *store, const struct deadline *deadline, struct error *error);
/* Does not wait for the server. */
void store_disconnect(struct store_connection *connection);

/* Sets the deadline of what follows on this connection. */
void store_begin(struct store_connection *connection, const struct deadline *deadline);

/*
 * Brings the store to the current shape: looks first, changes only what is missing, logs a line for each change.
 * Called on the first connection before anything else, again after a failure, and by several servers at once.
 * STORE_REFUSED if the store cannot be used as it stands; STORE_UNAVAILABLE to try again later.
 */
enum store_answer store_prepare(struct store_connection *connection, struct error *error);

/*
 * In place of store_prepare where nothing may be changed. STORE_OK: the store can be read as it stands.
 * STORE_NOT_FOUND, with an error: store_prepare has yet to make the table, or what it stands in. Else as
 * store_prepare.
 */
enum store_answer store_inspect(struct store_connection *connection, struct error *error);

/* The app is the caller's reference. */
enum store_answer store_find_by_id(struct store_connection *connection, struct slice id, struct app **app,
                                   struct error *error);
enum store_answer store_find_by_key(struct store_connection *connection, struct slice key, struct app **app,
                                    struct error *error);

/* Up to `limit` apps in the store's own order, which stays the same while nothing is written, beginning after the app
 * with the id `after` (empty: with the first; it need not exist any more). `each` was called fewer than `limit` times:
 * that was the end. STORE_REFUSED if `after` is not UTF-8 or holds a zero byte. */
enum store_answer store_list(struct store_connection *connection, struct slice after, size_t limit,
                             store_list_function *each, void *context, struct error *error);

/* Fields that are not set (app_field_is_set) stay unset where the store can say so. */
enum store_answer store_create(struct store_connection *connection, const struct app *app, struct error *error);
enum store_answer store_update(struct store_connection *connection, const struct app *app, struct error *error);
enum store_answer store_remove(struct store_connection *connection, struct slice id, struct error *error);

/* Makes the cheapest request that shows that the store answers. */
enum store_answer store_check_health(struct store_connection *connection, struct error *error);

/* --- drivers --- */

/* Apps of the configuration, kept in memory; store/memory/memory.c. */
extern const struct app_store_driver memory_store_driver;
/* A file on this machine; store/sqlite/sqlite.c. */
extern const struct app_store_driver sqlite_store_driver;
/* store/mysql/mysql.c */
extern const struct app_store_driver mysql_store_driver;
/* store/scylladb/scylladb.c; Cassandra too */
extern const struct app_store_driver scylladb_store_driver;
/* store/postgres/postgres.c */
extern const struct app_store_driver postgres_store_driver;
/* A table of Amazon DynamoDB; store/dynamodb/dynamodb.c. */
extern const struct app_store_driver dynamodb_store_driver;

/* The driver that keeps apps there. */
const struct app_store_driver *app_store_driver_of(enum config_driver driver);

/* For drivers: fills in a new connection to the store. */
void store_connection_init(struct store_connection *connection, const struct app_store *store,
                           const struct deadline *deadline);
