/*
 * The drivers that this build has. A new one is a declaration here and a line in drivers.c.
 */
#pragma once

#include "config/config.h"
#include "store/store.h"

/* store/memory/memory.c: the apps of the configuration */
extern const struct app_store_driver memory_store_driver;
/* store/sqlite/sqlite.c: a file on this machine */
extern const struct app_store_driver sqlite_store_driver;
/* store/mysql/mysql.c; MariaDB too */
extern const struct app_store_driver mysql_store_driver;
/* store/scylladb/scylladb.c; Cassandra too */
extern const struct app_store_driver scylladb_store_driver;
/* store/postgres/postgres.c */
extern const struct app_store_driver postgres_store_driver;
/* store/dynamodb/dynamodb.c: a table of Amazon DynamoDB */
extern const struct app_store_driver dynamodb_store_driver;

/* The driver for a setting of app_manager.driver. */
const struct app_store_driver *app_store_driver_of(enum config_driver driver);
