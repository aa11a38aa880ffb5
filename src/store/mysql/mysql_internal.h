/*
 * Declarations shared by the files of the MySQL and MariaDB driver.
 *
 *   mysql.c           finding and writing apps
 *   mysql_migrate.c   the table and its columns
 *   mysql_query.c     prepared statements, and what their failures mean
 *   mysql_connect.c   signing in, with or without TLS
 *   mysql_wait.c      every wait for the server
 *
 * The library is libmariadb. Its calls block, but it waits for the server through a callback of ours
 * (MARIADB_OPT_IO_WAIT), which ends at the deadline of the connection. The library's own calls that do not block are no
 * use with TLS: they then wait by themselves. Functions are called mysql_driver_*, since mysql_* is the library's.
 */
#pragma once

#include <mysql.h>

#include "base/buffer.h"
#include "base/list.h"
#include "store/row.h"
#include "store/store.h"

enum mysql_statement {
    MYSQL_READ_COLUMNS,
    MYSQL_FIND_BY_ID,
    MYSQL_FIND_BY_KEY,
    MYSQL_LIST,
    MYSQL_CREATE,
    MYSQL_UPDATE,
    MYSQL_REMOVE,
    MYSQL_ID_OWNER,
    MYSQL_KEY_OWNER,
    MYSQL_STATEMENT_COUNT,
};

struct mysql_columns {
    uint32_t present;   /* bits: fields that have a column */
    uint32_t mandatory; /* bits: those whose column is NOT NULL */
    bool created_at, updated_at;
    /* Those without a default, which their type can have; not what statements depend on. */
    uint32_t bare;
    bool bare_created_at, bare_updated_at;
    /* Of the columns of secrets: room in characters (0: no bound, or not known), and the collation. */
    struct mysql_secret_column {
        size_t room;
        bool has_default;
        char collation[64];
    } secrets[APP_PREVIOUS_SECRET - APP_SECRET + 1];
};

struct mysql_store {
    struct app_store base;
    const struct config_sql *config;
    const struct app_defaults *defaults;
};

struct mysql_connection {
    struct store_connection base;
    struct mysql_store *store;
    MYSQL *link;
    /* The operation in progress ended at the deadline, or at the response limit. */
    bool gave_up;
    bool too_large;    /* it ended at the response limit */
    uint64_t received; /* bytes that the socket had received before the operation */
    bool wants_tls;
    bool expects_greeting;      /* the greeting of the server has not been checked yet */
    bool offers_no_tls;         /* the greeting offers no TLS, which is wanted */
    unsigned code;              /* the server's number of the last failure */
    uint64_t reread_columns_ms; /* when to read the columns again; 0: not read yet */
    struct mysql_columns columns;
    MYSQL_STMT *statements[MYSQL_STATEMENT_COUNT]; /* NULL: not prepared yet */
    struct buffer value;                           /* the column that was read last */
};

static inline struct mysql_store *mysql_store_of(struct app_store *base) {
    return container_of(base, struct mysql_store, base);
}

static inline struct mysql_connection *mysql_connection_of(struct store_connection *base) {
    return container_of(base, struct mysql_connection, base);
}

/* --- mysql_connect.c --- */

struct store_connection *mysql_driver_connect(struct app_store *base, const struct deadline *deadline,
                                              struct error *error);
/* Does not wait for the server. */
void mysql_driver_disconnect(struct store_connection *base);

/* --- mysql_wait.c --- */

/* Begins an operation: from now on the waits of this thread are for this connection. NULL: for none. */
void mysql_driver_use(struct mysql_connection *connection);

/* Why the operation in progress was given up. */
const char *mysql_driver_why(const struct mysql_connection *connection);

/* The library's callback: 1 when the socket is ready, 0 to make the library give up. */
int mysql_driver_wait(my_socket socket, my_bool for_reading, int timeout);

/* --- mysql_query.c --- */

/*
 * Runs a prepared statement with these parameters; it is prepared at its first use. All of its rows have arrived when
 * this returns. A deadlock is tried again. On failure `connection->code` is the server's number.
 */
enum store_answer mysql_driver_run(struct mysql_connection *connection, enum mysql_statement which,
                                   const struct row_value *values, unsigned count, struct error *error);
/* The next row of a statement that was run; false: there is none any more. */
bool mysql_driver_next(struct mysql_connection *connection, enum mysql_statement which);
/* A column of the current row as text, valid until the next call; false: it is NULL. */
bool mysql_driver_column(struct mysql_connection *connection, enum mysql_statement which, unsigned column,
                         struct slice *text);
/* Ends the reading of a statement before its last row. */
void mysql_driver_finish(struct mysql_connection *connection, enum mysql_statement which);

/* Runs a statement without parameters and rows. */
enum store_answer mysql_driver_command(struct mysql_connection *connection, struct slice sql, struct error *error);

/* Drops the prepared statements that name columns, since the columns have changed. */
void mysql_driver_forget_statements(struct mysql_connection *connection);

/* --- mysql_migrate.c --- */

/* Begins an operation on apps: mysql_driver_use, and reads the columns when it is time to. STORE_REFUSED if the table
 * cannot be used. */
enum store_answer mysql_driver_begin(struct mysql_connection *connection, struct error *error);
/* Adds the column `policy` if it is missing. STORE_REFUSED if this user may not. */
enum store_answer mysql_driver_add_policy(struct mysql_connection *connection, struct error *error);
/* STORE_OK if the columns can keep the app, otherwise STORE_REFUSED with the statement that adds what is missing. */
enum store_answer mysql_driver_check_room(struct mysql_connection *connection, const struct app *app,
                                          struct error *error);
enum store_answer mysql_driver_prepare(struct store_connection *base, struct error *error);
enum store_answer mysql_driver_inspect(struct store_connection *base, struct error *error);
