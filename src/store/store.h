/*
 * A store keeps apps; a driver is the code for one kind of store. Every driver implements struct app_store_driver: it
 * has a folder in store/ and a line in drivers.c.
 *
 *   struct app_store         a store as the configuration describes it, shared by all of its connections
 *   struct store_connection  one connection, used by one thread at a time
 *
 * A driver embeds these two as the first members of its own structures (struct sqlite_store, struct sqlite_connection).
 * All other code passes them to the functions below, which call the driver.
 *
 * Functions with a connection may block until its deadline, which store_begin sets once for each operation. They run on
 * threads of their own (see app_manager/store_pool.h) or on the main thread of the command line, never on a worker.
 * After STORE_UNAVAILABLE the connection is in an unknown state and its owner disconnects it; after any other answer it
 * can be used again. Several threads may use one store at once, each with its own connection: the driver guards what
 * they share.
 *
 * Apps are passed as parsed records, a broken record as an error with the reason.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "app/app.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/slice.h"
#include "config/config.h"

struct app_store_driver;

/* Whether new records get a policy: known after the first write. */
enum store_policy_use { STORE_POLICY_UNKNOWN, STORE_POLICY_NO, STORE_POLICY_YES };

struct app_store {
    const struct app_store_driver *driver;
    struct app_defaults *defaults;              /* owned: the server's, with the keyring */
    struct secret_keyring *keyring;             /* owned; NULL: secrets are written as they are */
    bool opens_only;                            /* secrets are read with the keyring, and written as they are */
    _Atomic(enum store_policy_use) new_records; /* get a policy */
    /* How often this process has changed the table since it was prepared. A connection that saw fewer changes reads the
     * columns again. */
    atomic_uint table_changes;
};

struct store_connection {
    const struct app_store_driver *driver;
    struct app_store *store;
    struct deadline deadline;    /* of the operation in progress */
    unsigned seen_table_changes; /* of the store */
};

enum store_answer {
    STORE_OK,
    STORE_NOT_FOUND,   /* find, update, remove: no such app; find sets no error */
    STORE_INVALID,     /* find: the record is broken, `error` says which field */
    STORE_ID_TAKEN,    /* create: another app has the id */
    STORE_KEY_TAKEN,   /* create, update: another app has the key */
    STORE_REFUSED,     /* the store refused: full, read-only, no permission */
    STORE_UNAVAILABLE, /* no answer, or not in time; `error` says why */
};

/*
 * Receives one app of a list. `app` is the receiver's reference; NULL for a broken record, with the parts of its id and
 * key that can be read (either may be empty) and the error, which is set for broken records only.
 */
typedef void store_list_function(void *context, struct slice id, struct slice key, struct app *app,
                                 const struct error *error);

/* Receives the changes that others make to a store. On the thread of store_watch. */
struct store_watcher {
    /* An app was created, changed or deleted. A name is empty if it is not known or does not exist. */
    void (*changed)(void *context, struct slice id, struct slice old_key, struct slice new_key);
    /* Any app may have changed: after the first connection and each new one, since changes may have been missed, and
     * whenever the store does not say what changed. */
    void (*anything_changed)(void *context);
    void *context;
};

typedef enum store_answer store_write_function(struct store_connection *connection, const struct app *app,
                                               struct error *error);

/* The functions of a driver; their wrappers below have the descriptions. `create`, `update` and `remove` are NULL if
 * the store cannot be written, `watch` if it cannot report changes. */
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
    store_write_function *create;
    store_write_function *update;
    enum store_answer (*remove)(struct store_connection *connection, struct slice id, struct error *error);
    enum store_answer (*check_health)(struct store_connection *connection, struct error *error);
    void (*watch)(struct app_store *store, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);
};

/* --- a store --- */

/* Reads the settings and the keys of secrets, without connecting. NULL with an error that names the setting if it can
 * never work.
 * `config` and `defaults` outlive the store. Any thread. */
struct app_store *store_open(const struct app_store_driver *driver, const struct config *config,
                             const struct app_defaults *defaults, struct error *error);
void store_close(struct app_store *store);

/* True if there are keys to encrypt secrets with. */
bool store_has_keys(const struct app_store *store);
/* Writes secrets as they are from now on, although there are keys. Before the first connection. */
void store_write_plain_secrets(struct app_store *store);

/* Whether the driver can report changes that others make. */
bool store_can_watch(const struct app_store *store);

/*
 * Reports changes that others make, over a connection of its own that it opens, and opens again with back-off (100 ms
 * doubling to 10 s), until `cancel_fd` is readable; `timeout_ms` is for each operation in it. Runs on a thread of its
 * own, after store_prepare.
 */
void store_watch(struct app_store *store, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);

/* --- a connection --- */

/* Connects and signs in. The connection has this deadline until the next store_begin. NULL with an error that names the
 * setting and the answer of the server. */
struct store_connection *store_connect(struct app_store *store, const struct deadline *deadline, struct error *error);
/* Does not wait for the server. */
void store_disconnect(struct store_connection *connection);

/* Begins an operation: sets the deadline of the calls that follow on this connection. */
void store_begin(struct store_connection *connection, const struct deadline *deadline);

/*
 * Brings the store to the current shape: checks first, changes only what is missing, logs a line for each change. Call
 * it on the first connection before any other operation, and again after a failure. Several servers may call it at
 * once. STORE_REFUSED if the store cannot be used as it is; STORE_UNAVAILABLE to try again later.
 */
enum store_answer store_prepare(struct store_connection *connection, struct error *error);

/*
 * Checks the store without changing it, in place of store_prepare. STORE_OK: it can be read as it is. STORE_NOT_FOUND
 * with an error: store_prepare would create the table. Otherwise as store_prepare.
 */
enum store_answer store_inspect(struct store_connection *connection, struct error *error);

/* The app is the caller's reference. */
enum store_answer store_find_by_id(struct store_connection *connection, struct slice id, struct app **app,
                                   struct error *error);
enum store_answer store_find_by_key(struct store_connection *connection, struct slice key, struct app **app,
                                    struct error *error);

/*
 * Lists up to `limit` apps in an order of the store's own, which stays the same while nothing is written. It begins
 * after the app with the id `after`, which need not exist any more, or with the first app if `after` is empty. If
 * `each` was called fewer than `limit` times the list is complete. STORE_REFUSED if `after` is not UTF-8 or has a zero
 * byte.
 */
enum store_answer store_list(struct store_connection *connection, struct slice after, size_t limit,
                             store_list_function *each, void *context, struct error *error);

/*
 * With a keyring the secrets are encrypted first. A field that is not set (app_field_is_set) stays not set, if the
 * column can be NULL. store_create gives the app a `policy` if the first record of the list has one, since the servers
 * that write policies read nothing else; the list is read once. A column for `policy` is added when the first app that
 * has one is written.
 */
enum store_answer store_create(struct store_connection *connection, const struct app *app, struct error *error);
enum store_answer store_update(struct store_connection *connection, const struct app *app, struct error *error);
enum store_answer store_remove(struct store_connection *connection, struct slice id, struct error *error);

/* Makes the cheapest request that shows that the store answers. */
enum store_answer store_check_health(struct store_connection *connection, struct error *error);

/* --- for drivers --- */

/* Fills in a new connection to the store. */
void store_connection_init(struct store_connection *connection, struct app_store *store,
                           const struct deadline *deadline);

/* True, once, if the table was changed by this process since the connection read its columns. */
bool store_table_changed(struct store_connection *connection);
/* Makes the other connections read the columns again: this one has changed the table. */
void store_change_table(struct store_connection *connection);
