/*
 * One configured store for the command line: on the main thread, one operation at a time, each with the deadline
 * app_manager.lookup_timeout_ms. A lost connection is replaced, and a read that met the loss is repeated once. A write
 * is not repeated: it may have arrived.
 */
#pragma once

#include "config/config.h"
#include "store/store.h"

/* The exit codes of all commands. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_NOT_DONE = 1, /* a part of the command was not done */
    CLI_MISUSED = 2,  /* an error in the command line or the configuration */
    /* of `listen` and `publish` only: */
    CLI_NOT_CONNECTED = 3, /* the server cannot be reached, or does not speak the protocol */
    CLI_UNKNOWN_APP = 4,   /* the server has no app with this key or id */
    CLI_WRONG_SECRET = 5,  /* the server refuses the signature */
};

/* How a command uses a store. */
enum cli_use {
    CLI_READS,   /* a missing table is an error */
    CLI_DRY_RUN, /* reads the target of a write; a missing table counts as empty */
    CLI_WRITES,  /* creates or updates the table first */
};

struct cli_store {
    struct config config;
    struct app_defaults defaults;
    const struct app_store_driver *driver;
    struct app_store *store;
    struct store_connection *connection; /* NULL after a loss */
    bool absent;                         /* the table is missing: it counts as empty */
};

/*
 * Reads `config_file` (as for config_load) and opens the store that it names; only CLI_WRITES changes the store. The
 * memory driver can only be read: its apps end with the process. Close the store after success only.
 */
enum cli_exit cli_store_open(struct cli_store *store, const char *config_file, enum cli_use use, struct error *error);
void cli_store_close(struct cli_store *store);

/* The operations of a driver. The app of a find is the caller's reference. */
enum store_answer cli_store_find_by_id(struct cli_store *store, struct slice id, struct app **app, struct error *error);
enum store_answer cli_store_find_by_key(struct cli_store *store, struct slice key, struct app **app,
                                        struct error *error);
enum store_answer cli_store_create(struct cli_store *store, const struct app *app, struct error *error);
enum store_answer cli_store_update(struct cli_store *store, const struct app *app, struct error *error);
enum store_answer cli_store_remove(struct cli_store *store, struct slice id, struct error *error);

/*
 * Calls `each` for every app of the store, in its order, between queries: `each` may use any store. `app` is NULL for a
 * broken record, and valid during the call only. `each` returns false to stop. False with an error if the store could
 * not be read to the end.
 */
typedef bool cli_store_visit(void *context, struct slice id, struct app *app, const struct error *broken);
bool cli_store_walk(struct cli_store *store, cli_store_visit *each, void *context, struct error *error);
