/*
 * What the files of the MySQL driver share.
 *
 *   mysql.c          finding and writing apps
 *   mysql_query.c    connecting, and statements that end when patience does
 *   mysql_migrate.c  the table and its columns
 */
#pragma once

#include <mysql.h>

#include "app/app_store.h"
#include "app/store/row.h"
#include "base/buffer.h"

struct app_store {
    const struct config_sql *config;
    const struct app_defaults *defaults;
};

struct store_connection {
    struct app_store *store;
    MYSQL *link;
    const struct patience *patience; /* of the operation under way */
    bool timed_out;                  /* an operation was given up: only closing is left */
    uint32_t columns;                /* bits: fields that have a column; 0: not looked yet */
    bool has_created_at, has_updated_at;
    unsigned code; /* of the last failure */
};

/* A parameter of a statement; NULL data: NULL. */
struct mysql_parameter {
    const char *data;
    size_t length;
};

/* The rows that a statement answered with, all of them here. */
struct mysql_rows {
    MYSQL_STMT *statement;
    unsigned columns;
    uint64_t affected;
    struct buffer *values; /* of the row that was fetched, by column */
    bool *nulls;
};

/* --- mysql_query.c --- */

struct store_connection *mysql_store_connect(struct app_store *store, const struct patience *patience,
                                             struct error *error);
void mysql_store_disconnect(struct store_connection *connection);

/* Runs one statement with text parameters. False with an error; mysql_store_failure says what it means. Dispose of the
 * rows after success. */
bool mysql_store_run(struct store_connection *connection, struct slice sql, const struct mysql_parameter *parameters,
                     unsigned count, const struct patience *patience, struct mysql_rows *rows, struct error *error);
/* The next row into values and nulls; false after the last. */
bool mysql_rows_next(struct mysql_rows *rows);
void mysql_rows_dispose(struct mysql_rows *rows);

enum store_answer mysql_store_failure(const struct store_connection *connection);

/* --- mysql_migrate.c --- */

/* The columns as they are now. */
enum store_answer mysql_store_look(struct store_connection *connection, const struct patience *patience,
                                   struct error *error);
enum store_answer mysql_store_prepare(struct store_connection *connection, const struct patience *patience,
                                      struct error *error);
