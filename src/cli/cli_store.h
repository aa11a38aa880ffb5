/*
 * One configured store, as the command line uses it: on the main thread, one operation at a time, each with the
 * deadline of app_manager.lookup_timeout_ms. A connection that was lost is opened again for the next operation, and a
 * read that met the loss is asked once more; a write is not, since nobody knows whether it arrived.
 */
#pragma once

#include "config/config.h"
#include "store/store.h"

/* What every command ends with. */
enum tool_exit {
    TOOL_DONE = 0,
    TOOL_NOT_DONE = 1, /* something of what was asked was not done */
    TOOL_MISUSED = 2,  /* the command line or the configuration cannot be understood */
};

/* What a command is going to do with a store. */
enum tool_use {
    TOOL_READS,    /* what is not there is an error */
    TOOL_FORESEES, /* reads what TOOL_WRITES would write over: what is not there is empty */
    TOOL_WRITES,   /* the store is brought to the current shape */
};

struct tool_store {
    struct config config;
    struct app_defaults defaults;
    const struct app_store_driver *driver;
    struct app_store *store;
    struct store_connection *connection; /* NULL after a loss */
    bool absent;                         /* there is nothing to read from yet */
};

/*
 * Reads `config_file` (as for config_load) and opens the store that it names; only TOOL_WRITES changes anything in it.
 * The memory driver can only be read, since what it is given ends with the process. Close it after success only.
 */
enum tool_exit tool_store_open(struct tool_store *store, const char *config_file, enum tool_use use,
                               struct error *error);
void tool_store_close(struct tool_store *store);

/* The driver's operations. The app of a find is the caller's reference. */
enum store_answer tool_store_find_by_id(struct tool_store *store, struct slice id, struct app **app,
                                        struct error *error);
enum store_answer tool_store_find_by_key(struct tool_store *store, struct slice key, struct app **app,
                                         struct error *error);
enum store_answer tool_store_create(struct tool_store *store, const struct app *app, struct error *error);
enum store_answer tool_store_update(struct tool_store *store, const struct app *app, struct error *error);
enum store_answer tool_store_remove(struct tool_store *store, struct slice id, struct error *error);

/*
 * Calls `each` for every app of the store, in its order, while no query is under way, so that `each` may use any store.
 * `app` is NULL for a broken record; it is not the receiver's to keep. `each` returns false to stop. False with an
 * error if the store could not be read to the end.
 */
typedef bool tool_store_visit(void *context, struct slice id, struct app *app, const struct error *broken);
bool tool_store_walk(struct tool_store *store, tool_store_visit *each, void *context, struct error *error);
