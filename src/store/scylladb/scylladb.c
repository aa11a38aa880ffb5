#include <ctype.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "store/drivers.h"
#include "store/row.h"
#include "store/scylladb/scylladb_internal.h"

/* Unquoted names are in lower case. */
static void fold_name(const char *name, char out[SCYLLADB_NAME_MAX]) {
    size_t i = 0;

    for (; name[i] != '\0'; i++)
        out[i] = (char)tolower((unsigned char)name[i]);
    out[i] = '\0';
}

static struct app_store *scylladb_open(const struct config *config, const struct app_defaults *defaults,
                                       struct error *error) {
    struct scylladb_store *store;

    if (!row_name_valid(config->database.scylladb.keyspace, "", 255, "app_manager.scylladb.keyspace", error) ||
        !row_name_valid(config->database.scylladb.table_name, "", 255, "app_manager.scylladb.table_name", error) ||
        !row_name_valid(config->database.scylladb.replication_class, ".", 255, "app_manager.scylladb.replication_class",
                        error))
        return NULL;
    store = alloc_zero(sizeof *store);
    store->config = config;
    store->defaults = defaults;
    fold_name(config->database.scylladb.keyspace, store->keyspace);
    fold_name(config->database.scylladb.table_name, store->table);
    if (!scylladb_nodes_init(store, error)) {
        free(store);
        return NULL;
    }
    pthread_mutex_init(&store->mutex, NULL);
    return &store->base;
}

static void scylladb_close(struct app_store *base) {
    struct scylladb_store *store = scylladb_store_of(base);

    pthread_mutex_destroy(&store->mutex);
    free(store);
}

static struct store_connection *scylladb_connect(struct app_store *base, const struct deadline *deadline,
                                                 struct error *error) {
    struct scylladb_connection *connection = scylladb_open_connection(scylladb_store_of(base), deadline, error);

    return connection != NULL ? &connection->base : NULL;
}

static void scylladb_disconnect(struct store_connection *base) {
    scylladb_close_connection(scylladb_connection_of(base));
}

const struct app_store_driver scylladb_store_driver = {
    .name = "scylladb",
    .open = scylladb_open,
    .close = scylladb_close,
    .connect = scylladb_connect,
    .disconnect = scylladb_disconnect,
    .prepare = scylladb_prepare,
    .inspect = scylladb_inspect,
    .find_by_id = scylladb_find_by_id,
    .find_by_key = scylladb_find_by_key,
    .list = scylladb_list,
    .create = scylladb_create,
    .update = scylladb_update,
    .remove = scylladb_remove,
    .check_health = scylladb_check_health,
};
