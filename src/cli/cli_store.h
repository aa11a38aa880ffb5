/*
 * One configured store, as the command line uses it: on the main thread, one operation at a time, each with the
 * deadline of app_manager.lookup_timeout_ms. A connection that was lost is opened again for the next operation, and a
 * read that met the loss is asked once more; a write is not, since nobody knows whether it arrived.
 */
#pragma once

#include "config/config.h"
#include "store/store.h"

/* What every command ends with. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_NOT_DONE = 1, /* something of what was asked was not done */
    CLI_MISUSED = 2,  /* the command line or the configuration cannot be understood */
};

/* What a command is going to do with a store. */
enum cli_use {
    CLI_READS,   /* what is not there is an error */
    CLI_DRY_RUN, /* reads what CLI_WRITES would write over: what is not there is empty */
    CLI_WRITES,  /* the store is brought to the current shape */
};

struct cli_store {
    struct config config;
    struct app_defaults defaults;
    const struct app_store_driver *driver;
    struct app_store *store;
    struct store_connection *connection; /* NULL after a loss */
    bool absent;                         /* there is nothing to read from yet */
};

/*
 * Reads `config_file` (as for config_load) and opens the store that it names; only CLI_WRITES changes anything in it.
 * The memory driver can only be read, since what it is given ends with the process. Close it after success only.
 */
enum cli_exit cli_store_open(struct cli_store *store, const char *config_file, enum cli_use use, struct error *error);
void cli_store_close(struct cli_store *store);

/* The driver's operations. The app of a find is the caller's reference. */
enum store_answer cli_store_find_by_id(struct cli_store *store, struct slice id, struct app **app, struct error *error);
enum store_answer cli_store_find_by_key(struct cli_store *store, struct slice key, struct app **app,
                                        struct error *error);
enum store_answer cli_store_create(struct cli_store *store, const struct app *app, struct error *error);
enum store_answer cli_store_update(struct cli_store *store, const struct app *app, struct error *error);
enum store_answer cli_store_remove(struct cli_store *store, struct slice id, struct error *error);

/*
 * Calls `each` for every app of the store, in its order, while no query is under way, so that `each` may use any store.
 * `app` is NULL for a broken record; it is not the receiver's to keep. `each` returns false to stop. False with an
 * error if the store could not be read to the end.
 */
typedef bool cli_store_visit(void *context, struct slice id, struct app *app, const struct error *broken);
bool cli_store_walk(struct cli_store *store, cli_store_visit *each, void *context, struct error *error);
