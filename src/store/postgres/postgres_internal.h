/*
 * Declarations shared by the files of the PostgreSQL driver. Parameters are sent apart from the statement, and every
 * wait for the server ends at the deadline of the connection.
 *
 *   postgres.c          finding and writing apps
 *   postgres_migrate.c  the table, its columns, and the trigger that notifies of changes
 *   postgres_watch.c    receiving the notifications (LISTEN)
 *   postgres_query.c    running statements, and what their failures mean
 *   postgres_connect.c  connecting
 *   postgres_guard.c    keeping the password from leaving in clear text
 */
#pragma once

#include <libpq-fe.h>

#include "base/buffer.h"
#include "base/list.h"
#include "store/store.h"

/* How the column of a field is written. */
enum postgres_column {
    POSTGRES_NO_COLUMN,
    /* A signed integer of at most 32 bits: numbers above its range are written as negative ones. */
    POSTGRES_NARROW,
    POSTGRES_WIDE, /* any other number */
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
    char type[64]; /* the type that a parameter is cast to */
    size_t room;   /* characters; 0: no bound, or not known */
    bool has_default;
};

struct postgres_connection {
    struct store_connection base;
    struct postgres_store *store;
    PGconn *link;
    struct postgres_field fields[APP_FIELD_COUNT];
    uint64_t reread_columns_ms; /* when to read the columns again; 0: not read yet */
    bool has_created_at, has_updated_at;
    bool bare_created_at, bare_updated_at; /* without a default, which they can have */
    bool limited;                          /* the server ends statements soon after our deadline */
    char sqlstate[6];                      /* of the last failure; empty: the connection failed */
};

static inline struct postgres_store *postgres_store_of(struct app_store *base) {
    return container_of(base, struct postgres_store, base);
}

static inline struct postgres_connection *postgres_connection_of(struct store_connection *base) {
    return container_of(base, struct postgres_connection, base);
}

/* --- postgres_connect.c --- */

/* NULL with an error that names the setting. */
struct postgres_connection *postgres_open_connection(struct postgres_store *store, const struct deadline *deadline,
                                                     struct error *error);
void postgres_close_connection(struct postgres_connection *connection);

/* --- postgres_query.c --- */

/*
 * Runs one statement with text parameters (NULL: NULL) and returns its result, to be cleared with PQclear. NULL with an
 * error when it failed or the deadline passed; postgres_failure then gives the answer.
 */
PGresult *postgres_run(struct postgres_connection *connection, const char *sql, int count, const char *const *values,
                       struct error *error);
enum store_answer postgres_failure(const struct postgres_connection *connection);

/* The error text for a result of another form than the statement has. */
extern const char postgres_other_answer[];

/* A message of the server or the library on one line, without the line's end. */
struct error postgres_single_line(const char *text);

/* A value of a result, which is not NULL. Valid as long as the result. */
struct slice postgres_value(const PGresult *result, int row, int column);

/* --- postgres_migrate.c --- */

/* Reads the columns when it is time to. STORE_UNAVAILABLE if the table cannot be used. */
enum store_answer postgres_know_columns(struct postgres_connection *connection, struct error *error);
/* The same for a write: STORE_REFUSED also if the columns cannot keep all fields of the app. */
enum store_answer postgres_know_columns_for(struct postgres_connection *connection, const struct app *app,
                                            struct error *error);
/* The fields that have a column: bits, 1 << field. */
uint32_t postgres_columns(const struct postgres_connection *connection);

enum store_answer postgres_prepare(struct store_connection *base, struct error *error);
enum store_answer postgres_inspect(struct store_connection *base, struct error *error);

/* Writes the name of the channel that the table's trigger notifies. */
bool postgres_channel(struct postgres_connection *connection, struct buffer *channel, struct error *error);

/* --- postgres_watch.c --- */

/* For struct app_store_driver. */
void postgres_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);
