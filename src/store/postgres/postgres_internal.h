/*
 * What the files of the PostgreSQL driver share.
 *
 *   postgres.c          finding and writing apps
 *   postgres_query.c    connecting, and statements that end when deadline does
 *   postgres_migrate.c  the table, its columns and the trigger that tells of changes
 *   postgres_watch.c    LISTEN
 */
#pragma once

#include <libpq-fe.h>

#include "base/buffer.h"
#include "base/list.h"
#include "store/store.h"

/* How a field's column is written. */
enum postgres_column {
    POSTGRES_ABSENT,
    POSTGRES_NARROW, /* an integer of 32 bits, or of fewer: a number above has its negative counterpart there */
    POSTGRES_WIDE,   /* any other number */
    POSTGRES_OTHER,
};

struct postgres_store {
    struct app_store base;
    const struct config_sql *config;
    const struct app_defaults *defaults;
    uint32_t timeout_ms; /* of a lookup */
};

struct postgres_field {
    enum postgres_column kind;
    char type[64]; /* what a parameter is cast to */
};

struct postgres_connection {
    struct store_connection base;
    struct postgres_store *store;
    PGconn *link;
    struct postgres_field fields[APP_FIELD_COUNT];
    uint64_t reread_columns_ms; /* at the columns; 0: not looked yet */
    bool has_created_at, has_updated_at;
    bool limited;     /* the server ends statements that nobody waits for any more */
    char sqlstate[6]; /* of the last failure, empty: the connection failed */
};

static inline struct postgres_store *postgres_store_of(struct app_store *base) {
    return container_of(base, struct postgres_store, base);
}

static inline struct postgres_connection *postgres_connection_of(struct store_connection *base) {
    return container_of(base, struct postgres_connection, base);
}

/* --- postgres_query.c --- */

/* NULL with an error that names the setting. */
struct postgres_connection *postgres_open_connection(struct postgres_store *store, const struct deadline *deadline,
                                                     struct error *error);
void postgres_close_connection(struct postgres_connection *connection);

/*
 * Runs one statement with text parameters (NULL: NULL) and returns its result, to be cleared with PQclear. NULL with an
 * error when it failed or time was up; postgres_failure then says what that means.
 */
PGresult *postgres_run(struct postgres_connection *connection, const char *sql, int count, const char *const *values,
                       struct error *error);
extern const char postgres_other_answer[]; /* what is said of a server that gives one */
enum store_answer postgres_failure(const struct postgres_connection *connection);

/* The value at a place of a result; not for NULL. */
struct slice postgres_value(const PGresult *result, int row, int column);

/* --- postgres_migrate.c --- */

/* The columns as they are now. STORE_REFUSED if the table cannot be used. */
enum store_answer postgres_look(struct postgres_connection *connection, struct error *error);
/* Which fields have one: bits, 1 << field. */
uint32_t postgres_columns(const struct postgres_connection *connection);
/* postgres_look for a write: STORE_REFUSED also if the columns do not keep all that the app says. */
enum store_answer postgres_look_for(struct postgres_connection *connection, const struct app *app, struct error *error);
enum store_answer postgres_prepare(struct store_connection *base, struct error *error);
enum store_answer postgres_inspect(struct store_connection *base, struct error *error);
/* Where the trigger notifies: one channel for each table. */
bool postgres_channel(struct postgres_connection *connection, struct buffer *channel, struct error *error);

/* --- postgres_watch.c --- */

void postgres_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);
